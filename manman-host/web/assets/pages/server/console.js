// The live log with its search, and the line for the game below it.

import { Button, Icon, Menu, announce, html, toast, useEffect, useLayoutEffect, useRef, useSettled, useShortcut, useState, useStore } from '../../ui/index.js';
import { LogView } from '../../log/view.js';
import { LogStream } from '../../log/socket.js';
import { after, before, downloadUrl, firstAt } from '../../log/history.js';
import { CommandLine } from './input.js';
import { LogSearch } from './search.js';
import { JumpToTime } from './jump.js';

const STATES = {
  lost: 'The log stopped coming; it is asked for again.',
  away: 'The machine is out of reach. What you see is the last that came from it.',
  gone: 'The log is gone with its server.',
  revoked: 'Your access to this log has ended.',
};

const remembered = (name, otherwise) => {
  try {
    return JSON.parse(localStorage.getItem(`manman.log.${name}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
};
const remember = (name, value) => {
  try {
    localStorage.setItem(`manman.log.${name}`, JSON.stringify(value));
  } catch {
    // Forbidden: it holds for this page.
  }
};

export function Console({ server, game, query }) {
  const place = useRef(null);
  const log = useRef(null);
  const stream = useRef(null);
  const [state, setState] = useState('connecting');
  const [view, setView] = useState({ follow: true, count: 0, news: 0, latest: 0, live: true, loading: false, marks: 0 });
  const [wrap, setWrap] = useState(() => remembered('wrap', true));
  const [times, setTimes] = useState(() => remembered('times', matchMedia('(min-width: 761px)').matches));
  const field = useRef(null);
  const [jumping, jump] = useState(false);
  // A moment without a line is nothing to speak of.
  const settled = useSettled(state, 800);

  useLayoutEffect(() => {
    const own = new LogView(place.current, {
      changed: setView,
      older: (seq) => before(server.id, seq, own.end.signal),
      newer: (seq) => after(server.id, seq, own.end.signal),
      hold: () => lines.hold(),
      release: () => lines.release(),
      first: () => after(server.id, 0, own.end.signal),
      restart: () => lines.open(),
    });
    const lines = new LogStream(server.id, { onChunk: (bytes) => own.push(bytes), onGap: (from, to) => own.gap(from, to), onState: setState });
    log.current = own;
    stream.current = lines;
    // For whoever looks at it from the outside: tests, and a person at the browser's own console.
    place.current.logView = own;
    return () => {
      lines.close();
      own.destroy();
    };
  }, [server.id]);

  // A machine that has not heard of the server has no log of it.
  const begun = server.phase !== 'Pending' && server.phase !== 'Unknown';
  const [known, know] = useState(false);
  if (begun && !known) know(true);
  useLayoutEffect(() => {
    if (known) stream.current.open();
  }, [known, server.id]);
  useLayoutEffect(() => log.current.set({ wrap, times }), [wrap, times, server.id]);

  // A machine or host that is back has its log back: no need to wait for the next try.
  const back = useStore((store) => store.link === 'live' && (store.workers.get(server.worker_id)?.linked ?? server.phase !== 'Unknown'));
  useEffect(() => {
    if (back) stream.current?.retryNow();
  }, [back]);

  useNews(view);

  const show = async (seq) => {
    const own = log.current;
    const { model } = own;
    if (!(seq >= model.firstSeq && seq <= model.lastSeq)) {
      const [older, newer] = await Promise.all([before(server.id, seq), after(server.id, seq - 1)]);
      own.place(older, newer);
    }
    own.reveal(own.model.rowOfSeq(seq));
  };
  const showTime = async (date) => {
    const seq = await firstAt(server.id, date);
    if (seq === null) {
      toast.info('Nothing was printed since then: here is the end');
      log.current.toEnd();
    } else await show(seq);
    jump(false);
  };
  useEffect(() => {
    if (query?.seq && /^\d+$/.test(query.seq)) show(Number(query.seq)).catch(toast.error);
  }, [query?.seq]);

  const start = () => {
    const own = log.current;
    const mark = own.model.marks.findLast((row) => row < (own.follow ? own.model.endRow : own.topRow));
    if (mark === undefined) toast.info('No earlier start is among the lines that are loaded: scroll up, or search for “started”');
    else own.reveal(mark);
  };
  const toggleWrap = () => (remember('wrap', !wrap), setWrap(!wrap));
  const toggleTimes = () => (remember('times', !times), setTimes(!times));

  useShortcut('/', 'Find in the log', () => field.current?.focus());
  useShortcut('e', 'To the end of the log', () => log.current?.toEnd());
  useShortcut('i', 'Type a line', () => document.querySelector('[data-command]')?.focus());
  useShortcut('w', 'Wrap long lines', toggleWrap);
  const keys = (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'f') {
      event.preventDefault();
      field.current?.focus();
    }
  };

  return html`<section class="console" aria-label="Console" onKeyDown=${keys}>
    <${LogSearch} server=${server} log=${log} view=${view} onShow=${show} field=${field}>
      <${Button} small kind="quiet" icon="clock" class="narrow-icon" label="Jump to a time" onClick=${() => jump(true)}>Jump to a time<//>
      <span class="console-count muted">${view.count.toLocaleString()} lines${view.loading ? ' · loading' : ''}</span>
      <${Toggle} on=${wrap} onClick=${toggleWrap}>Wrap<//>
      <${Toggle} on=${times} onClick=${toggleTimes}>Times<//>
      <${Menu} small label="More for the log" items=${[
        { label: 'To the last start', icon: 'restart', onClick: start },
        { label: 'To the beginning', icon: 'back', onClick: () => log.current.toStart() },
        { label: 'To the end', icon: 'down', onClick: () => log.current.toEnd() },
        { label: 'Download all of it', icon: 'download', href: downloadUrl(server.id) },
      ]} />
    <//>
    ${STATES[settled] && settled === state && html`<div class="console-state" role="status"><${Icon} name="offline" size=${16} />${STATES[settled]}</div>`}
    <div class="log-place" ref=${place}>
      ${view.count === 0 && html`<p class="log-empty muted">${state === 'connecting' || state !== settled ? 'Looking at the log…' : STATES[state] ?? 'Nothing has been printed yet.'}</p>`}
      ${!view.follow && html`<button type="button" class="log-pill" onClick=${() => log.current.toEnd()}>
        ${view.news > 0 ? `${view.news.toLocaleString()} new ${view.news === 1 ? 'line' : 'lines'}` : 'To the end'} <span aria-hidden="true">↓</span></button>`}
    </div>
    <${CommandLine} server=${server} game=${game} onSent=${() => log.current.toEnd()} />
    ${jumping && html`<${JumpToTime} onGo=${showTime} onClose=${() => jump(false)} />`}
  </section>`;
}

function Toggle({ on, onClick, children }) {
  return html`<button type="button" class="button quiet small toggle" aria-pressed=${on ? 'true' : 'false'} onClick=${onClick}>${children}</button>`;
}

const NEWS_EVERY_MS = 10_000;

/** Tells a screen reader how many lines have come, and not each of them. */
function useNews({ latest }) {
  const now = useRef(latest);
  now.current = latest;
  useEffect(() => {
    let told = now.current;
    const timer = setInterval(() => {
      const news = now.current - told;
      if (news > 0 && told > 0 && document.activeElement?.closest('.console')) announce(`${news} new ${news === 1 ? 'line' : 'lines'} in the log`);
      told = now.current;
    }, NEWS_EVERY_MS);
    return () => clearInterval(timer);
  }, []);
}

