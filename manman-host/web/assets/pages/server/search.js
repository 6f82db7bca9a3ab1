// Finding in the log: what is loaded at once, and all that the machine keeps when asked.

import { Button, Empty, Icon, html, useEffect, useMemo, useRef, useSettled, useState } from '../../ui/index.js';
import { findRows, found, pattern } from '../../log/find.js';
import { search } from '../../log/history.js';
import { plain } from '../../log/sgr.js';

const LONGEST = 200;

/** The line to search with; what can be done with what was found comes below it once something is written. */
export function LogSearch({ server, log, view, onShow, field, children }) {
  const [text, setText] = useState('');
  const [regex, setRegex] = useState(false);
  const [matchCase, setCase] = useState(false);
  const [rows, setRows] = useState([]);
  const [at, setAt] = useState(-1);
  const [history, setHistory] = useState(null);
  const settled = useSettled(text, 120);
  const { expression, wrong } = useMemo(() => {
    try {
      return { expression: pattern(settled, { regex, matchCase }), wrong: null };
    } catch {
      return { expression: null, wrong: 'Not a regular expression' };
    }
  }, [settled, regex, matchCase]);

  useEffect(() => {
    log.current.set({ expression });
    return () => log.current?.set({ expression: null });
  }, [expression]);

  // What is loaded is looked through once, then what comes after it.
  const shownFor = useRef(null);
  const later = useRef(null);
  const reach = useRef({ end: 0, expression: null });
  useEffect(() => {
    const end = new AbortController();
    const { model } = log.current;
    clearTimeout(later.current);
    if (!expression) {
      shownFor.current = null;
      setRows([]);
      setAt(-1);
      return undefined;
    }
    const again = reach.current.expression !== expression || reach.current.epoch !== model.epoch || reach.current.first !== model.firstRow;
    const from = again ? model.firstRow : reach.current.end;
    const to = model.endRow;
    const first = model.firstRow;
    const { epoch } = model;
    findRows(model, expression, { from, to, signal: end.signal }).then((list) => {
      if (!list) return;
      reach.current = { end: to, expression, epoch, first };
      setRows((old) => (again ? list : [...old, ...list].slice(-10_000)));
      if (!again) return;
      const fresh = shownFor.current !== expression;
      shownFor.current = expression;
      setAt(fresh ? list.length - 1 : -1);
      if (!fresh) return;
      // The newest is shown at once; where there is none here, the machine has more.
      if (list.length) log.current.reveal(list.at(-1));
      else later.current = setTimeout(() => look(null, true), 500);
    });
    return () => end.abort();
  }, [expression, view.count, view.latest, view.epoch]);

  const step = (by) => {
    if (!rows.length) return;
    const begin = at < 0 ? (by < 0 ? rows.length : -1) : at;
    const next = (begin + by + rows.length) % rows.length;
    setAt(next);
    log.current.reveal(rows[next]);
  };
  // The machine looks for two seconds at a time; it is asked on until there is something to show.
  const asked = useRef(null);
  const stop = () => asked.current?.abort();
  useEffect(() => () => (stop(), clearTimeout(later.current)), []);
  const look = async (below = null, jump = false) => {
    stop();
    const end = new AbortController();
    asked.current = end;
    let hits = below === null ? [] : history.hits;
    const enough = hits.length + 1;
    const show = (more, busy, error = null) => setHistory({ hits, more, busy, error });
    let more = below;
    show(more, true);
    try {
      do {
        const page = await search(server.id, { text, literal: !regex, ignoreCase: !matchCase, below: more }, end.signal);
        hits = [...hits, ...page.hits];
        more = page.more;
        show(more, hits.length < enough && more !== null);
        if (jump && page.hits.length) {
          jump = false;
          onShow(page.hits[0].seq).catch(() => {});
        }
      } while (hits.length < enough && more !== null);
    } catch (error) {
      if (error.name === 'AbortError') {
        if (asked.current === end) show(more, false);
      } else show(more, false, error);
    }
  };
  const keys = (event) => {
    if (event.key === 'Escape' && text) {
      event.stopPropagation();
      setText('');
    } else if (event.key === 'Enter' && event.target === field.current) {
      event.preventDefault();
      step(event.shiftKey ? 1 : -1);
    }
  };
  useEffect(() => {
    asked.current?.abort();
    asked.current = null;
    setHistory(null);
  }, [settled, regex, matchCase]);

  const count = wrong ?? (!expression ? '' : rows.length ? `${at < 0 ? '' : `${at + 1} of `}${rows.length.toLocaleString()} here` : 'none here');
  return html`<div class="log-search" role="search" aria-label="The log" onKeyDown=${keys}>
    <div class="console-bar">
      <div class="search"><${Icon} name="search" /><input ref=${field} type="search" aria-label="Search the log" placeholder="Search the log" value=${text} autocomplete="off" spellcheck=${false}
        aria-invalid=${wrong ? 'true' : undefined} onInput=${(event) => setText(event.target.value)} /></div>
      ${children}
    </div>
    ${text && html`<div class="log-search-row">
      <span class="log-search-count muted" role="status">${count}</span>
      <${Button} small kind="quiet" icon="back" class="turn-up" label="Older match" disabled=${!rows.length} onClick=${() => step(-1)} />
      <${Button} small kind="quiet" icon="back" class="turn-down" label="Newer match" disabled=${!rows.length} onClick=${() => step(1)} />
      <button type="button" class="button quiet small toggle" aria-pressed=${matchCase ? 'true' : 'false'} aria-label="Match case" title="Small and capital letters differ" onClick=${() => setCase(!matchCase)}>Aa</button>
      <button type="button" class="button quiet small toggle mono" aria-pressed=${regex ? 'true' : 'false'} aria-label="Regular expression" title="A regular expression" onClick=${() => setRegex(!regex)}>.*</button>
      <span class="spacer"></span>
      <${Button} small disabled=${!expression} busy=${history?.busy} onClick=${() => look()}>Search all history<//>
      <${Button} small kind="quiet" icon="cross" label="Clear the search" onClick=${() => (setText(''), field.current.focus())} />
    </div>`}
    ${history && html`<${Hits} history=${history} expression=${expression} onShow=${onShow} onMore=${() => look(history.more)} onStop=${stop} onClose=${() => (stop(), setHistory(null))} />`}
  </div>`;
}

function Hits({ history, expression, onShow, onMore, onStop, onClose }) {
  const { hits, more, busy, error } = history;
  return html`<div class="log-hits">
    <div class="log-hits-head"><strong>${hits.length ? `${hits.length}${more ? '+' : ''} in all that is kept, newest first` : busy ? 'Searching on the machine…' : ''}</strong>
      ${busy && more ? html`<span class="muted">back to line ${more.toLocaleString()}</span>` : null}<span class="spacer"></span>${busy && html`<${Button} small onClick=${onStop}>Stop<//>`}
      <${Button} small kind="quiet" icon="cross" label="Close the list" onClick=${onClose} /></div>
    ${error && html`<p class="wrong-text" role="alert">${error.detail}</p>`}
    ${!busy && !error && hits.length === 0 && !more && html`<${Empty} icon="search" title="Nothing found" />`}
    <ol>${hits.map((hit) => html`<li key=${hit.seq}><button type="button" onClick=${() => onShow(hit.seq)}>
      <time datetime=${hit.time}>${new Date(hit.time).toLocaleString()}</time><span class="log-hit-text">${marked(plain(hit.text), expression)}</span></button></li>`)}</ol>
    ${more && !busy && html`<${Button} small onClick=${onMore}>Search further back<//>`}
  </div>`;
}

/** The part of a line around what was found, which is marked. */
function marked(text, expression) {
  if (!expression || !found(expression, text)) return text.slice(0, LONGEST);
  expression.lastIndex = 0;
  const hit = expression.exec(text);
  const begin = Math.max(0, hit.index - 60);
  const end = hit.index + hit[0].length;
  return html`${begin > 0 ? '…' : ''}${text.slice(begin, hit.index)}<mark>${hit[0]}</mark>${text.slice(end, begin + LONGEST)}`;
}
