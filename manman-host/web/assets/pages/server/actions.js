// What the game and the server can be made to do, and the backups of what the game has saved.

import {
  Ago, Badge, Button, Card, Dialog, Empty, ErrorNote, Facts, Foreign, Loaded, Note, Section, Table, VariablesForm, api, ask, checkVariables, focusWrong, html, path, toast,
  useEffect, useLive, useLoad, useMay, useRef, useState,
} from '../../ui/index.js';
import { Progress } from '../../ui/index.js';
import { bytes, visible } from '../../format.js';
import { isLive } from '../../phase.js';
import { plain } from '../../log/sgr.js';
import { failureOf, pairsOf, runAction, textOf } from './run.js';

const BACKUPS = ['backup', 'backups', 'restore'];

// To list them is an action, too, which leaves its traces: it is not done again for each look.
const listed = new Map();

/** Why an action can not be begun now; null where it can. */
function whyNot(action, server, { may, live }) {
  if (!live) return 'The host is not connected';
  if (!may) return 'Your role may only look';
  if (action.disabled) return 'It is switched off for this server';
  if (action.kind === 'console' && !isLive(server.phase)) return 'The game has to run for it';
  return server.phase === 'Unknown' ? 'Its machine is out of reach' : null;
}

export function Actions({ server }) {
  const load = useLoad((signal) => api.get(path('server', server.id, 'action'), { signal }), [server.id]);
  return html`<${Loaded} of=${load} what="Loading the actions">${({ items }) => html`
    ${items.some((action) => action.name === 'backups') && html`<${Backups} server=${server} actions=${items} />`}
    <${Own} server=${server} actions=${items.filter((action) => !BACKUPS.includes(action.name))} />`}<//>`;
}

function Own({ server, actions }) {
  const state = { may: useMay('run'), live: useLive() };
  const [open, setOpen] = useState(null);
  return html`<${Section} title="Actions" count=${actions.length}>
    ${actions.length === 0
      ? html`<${Empty} icon="activity" title="No actions">The definition of this game has none; lines can be typed in the console.<//>`
      : html`<ul class="actions">${actions.map((action) => {
          const why = whyNot(action, server, state);
          return html`<li key=${action.name} class="card action"><div class="action-text"><strong><${Foreign} text=${action.label || action.name} /></strong><span class="muted small"><code>${visible(action.name)}</code></span></div>
            <${Button} small disabled=${Boolean(why)} why=${why} label=${`Run ${action.label || action.name}`} onClick=${() => setOpen(action)}>Run${Object.keys(action.inputs).length || action.confirm ? '…' : ''}<//></li>`;
        })}</ul>`}
    ${open && html`<${RunDialog} server=${server} action=${open} onClose=${() => setOpen(null)} />`}
  <//>`;
}

/** Asks for an action's inputs, runs it, and shows how far it is and what came of it. */
function RunDialog({ server, action, onClose }) {
  const form = useRef(null);
  const [values, setValues] = useState({});
  const [tried, setTried] = useState(false);
  const [run, setRun] = useState(null);
  const [error, fail] = useState(null);
  const end = useRef(new AbortController());
  const inputs = Object.keys(action.inputs).length > 0;
  const errors = checkVariables(action.inputs, values);

  const begin = async () => {
    fail(null);
    setRun({ state: 'running' });
    try {
      const sent = Object.fromEntries(Object.entries(values).filter(([name, value]) => value !== '' || action.inputs[name]?.required));
      setRun(await runAction(server, action.name, sent, setRun, end.current.signal));
    } catch (caught) {
      if (caught.name === 'AbortError') return;
      setRun(null);
      fail(caught);
    }
  };
  useEffect(() => {
    // Nothing to ask: it was asked for by the button.
    if (!inputs && !action.confirm) begin();
    return () => end.current.abort();
  }, []);
  const submit = (event) => {
    event.preventDefault();
    setTried(true);
    if (Object.keys(errors).length) requestAnimationFrame(() => focusWrong(form.current));
    else begin();
  };
  const shown = Object.fromEntries(Object.entries(errors).filter(([name]) => tried || name in values));
  const over = run && run.state !== 'running' && run.state !== 'unknown';
  return html`<${Dialog} title=${visible(action.label || action.name)} onClose=${onClose}>
    <form class="stack" ref=${form} onSubmit=${submit} novalidate>
      ${!run && html`${action.confirm && html`<${Note} tone="warn">This can not be undone.<//>`}${inputs && html`<${VariablesForm} variables=${action.inputs} values=${values} errors=${shown} onInput=${(name, value) => setValues((old) => ({ ...old, [name]: value }))} />`}`}
      ${run && html`<${Outcome} run=${run} />`}
      ${error && html`<${ErrorNote} error=${error} />`}
      <footer class="dialog-foot">${run
        ? html`<${Button} onClick=${onClose}>${over ? 'Close' : 'Leave it running'}<//>${over && inputs && html`<${Button} onClick=${() => setRun(null)}>Again<//>`}`
        : html`<${Button} onClick=${onClose}>Cancel<//><${Button} type="submit" kind=${action.confirm ? 'danger' : 'primary'}>Run<//>`}</footer>
    </form>
  <//>`;
}

/** How far a run is, or what it answered. */
export function Outcome({ run }) {
  if (run.state === 'running' || run.state === 'unknown') {
    const { percent = null, step = null } = run.progress ?? {};
    return html`<div class="outcome" role="status"><p>${run.state === 'unknown' ? 'The line to its machine broke; it is asked for.' : step ? html`<${Foreign} text=${step} />` : 'Under way…'}${percent !== null && ` ${percent} %`}</p><${Progress} value=${percent} label="How far it is" /></div>`;
  }
  if (run.state === 'failed') {
    return html`<${ErrorNote} error=${{ detail: failureOf(run), hint: run.problem?.hint }} />${run.answer !== undefined && run.answer !== null && html`<${Answer} answer=${run.answer} />`}`;
  }
  return html`<div class="outcome" role="status"><p><${Badge} tone=${run.state === 'sent' ? 'busy' : 'good'}>${run.state === 'sent' ? 'Sent' : 'Done'}<//>${run.state === 'sent' && html` <span class="muted">its end was not seen yet: it may still come in the log</span>`}</p>
    ${run.lines?.length > 0 && html`<pre class="answer" tabindex="0" aria-label="Answer">${run.lines.map((line) => plain(line.text)).join('\n')}</pre>`}
    ${run.answer !== undefined && run.answer !== null && html`<${Answer} answer=${run.answer} />`}</div>`;
}

function Answer({ answer }) {
  const pairs = pairsOf(answer);
  if (pairs) return html`<${Facts} items=${pairs.map(([name, value]) => [visible(name), html`<${Foreign} text=${value} />`])} />`;
  return html`<pre class="answer" tabindex="0" aria-label="Answer">${plain(typeof answer === 'string' ? answer : textOf(answer)).slice(0, 20_000)}</pre>`;
}

function Backups({ server, actions }) {
  const state = { may: useMay('run'), live: useLive() };
  const named = (name) => actions.find((action) => action.name === name);
  const [list, setList] = useState({ items: listed.get(server.id) ?? null, error: null, busy: false });
  const [run, setRun] = useState(null);
  const [error, fail] = useState(null);
  const end = useRef(null);
  const why = (name) => (named(name) ? whyNot(named(name), server, state) : 'This server can not do it');

  const look = async () => {
    setList((old) => ({ ...old, busy: true, error: null }));
    try {
      const answered = await runAction(server, 'backups', {}, () => {}, end.current?.signal);
      if (answered.state === 'failed') throw Object.assign(new Error(failureOf(answered)), { detail: failureOf(answered), hint: answered.problem?.hint });
      const items = Array.isArray(answered.answer) ? answered.answer : [];
      listed.set(server.id, items);
      setList({ items, error: null, busy: false });
    } catch (caught) {
      if (caught.name !== 'AbortError') setList((old) => ({ ...old, error: caught, busy: false }));
    }
  };
  useEffect(() => {
    end.current = new AbortController();
    // Only those who may run actions may ask for the list.
    if (!why('backups') && !listed.has(server.id)) look();
    return () => end.current.abort();
  }, [server.id, state.live]);

  const perform = async (name, inputs, said) => {
    fail(null);
    setRun({ state: 'running', action: name });
    try {
      const last = await runAction(server, name, inputs, setRun, end.current.signal);
      setRun(last);
      if (last.state === 'done') toast.ok(said);
      look();
    } catch (caught) {
      if (caught.name === 'AbortError') return;
      setRun(null);
      fail(caught);
    }
  };
  const restore = async (item) => {
    const running = isLive(server.phase);
    const sure = await ask({
      title: 'Restore this backup?',
      text: html`<p>What the game has saved now is replaced by the backup of <strong>${new Date(item.made_at).toLocaleString()}</strong>. What is there now is kept beside it on the machine.</p>${running && html`<p>The game is stopped for it and started again: players are thrown out.</p>`}`,
      confirm: 'Restore it',
      danger: true,
      type: server.name,
    });
    if (sure) perform('restore', running ? { backup: item.backup, stop: true } : { backup: item.backup }, 'The backup is restored');
  };
  const columns = [
    { id: 'made', label: 'Made', main: true, cell: (item) => (item.made_at ? html`<strong><${Ago} at=${item.made_at} /></strong>` : html`<${Foreign} text=${item.backup} />`) },
    { id: 'note', label: 'Note', cell: (item) => (item.unusable ? html`<span class="bad-text">can not be used: <${Foreign} text=${item.unusable} /></span>` : item.note ? html`<${Foreign} text=${item.note} />` : html`<span class="muted">–</span>`) },
    { id: 'size', label: 'Size', class: 'num', cell: (item) => bytes(item.size) },
    { id: 'files', label: 'Files', class: 'num', cell: (item) => item.files ?? '–' },
    {
      id: 'do', label: 'What to do', hideLabel: true, end: true, class: 'end fit',
      cell: (item) => html`<${Button} small disabled=${Boolean(why('restore') || item.unusable || busy)} why=${why('restore') ?? (busy ? 'Something is under way' : 'It is damaged')} onClick=${() => restore(item)}>Restore…<//>`,
    },
  ];
  const busy = run?.state === 'running' || run?.state === 'unknown';
  return html`<${Section} title="Backups" count=${list.items?.length} actions=${html`
      <${Button} icon="restart" kind="quiet" label="Look again" busy=${list.busy} disabled=${Boolean(why('backups'))} why=${why('backups')} onClick=${look} />
      <${Button} kind="primary" icon="plus" busy=${busy && run.action === 'backup'} disabled=${Boolean(why('backup')) || busy} why=${why('backup') ?? 'Something is under way'} onClick=${() => perform('backup', {}, 'The backup is made')}>Back up now<//>`}>
    ${run && (busy || run.state === 'failed') && html`<${Card} class="run-card"><strong>${{ backup: 'Backup', restore: 'Restore' }[run.action] ?? ''}</strong><${Outcome} run=${run} /><//>`}
    ${error && html`<${ErrorNote} error=${error} />`}
    ${list.error
      ? html`<${ErrorNote} error=${list.error} retry=${look} />`
      : list.items === null
        ? html`<p class="muted">${why('backups') ?? 'Asking its machine…'}</p>`
        : list.items.length === 0
          ? html`<${Empty} icon="disk" title="No backups yet">A backup saves the game first, and keeps its worlds in one archive on its machine.<//>`
          : html`<${Table} label="Backups" columns=${columns} items=${list.items} keyOf=${(item) => item.backup} />`}
  <//>`;
}
