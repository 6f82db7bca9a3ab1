// The server's settings: the game's variables, its name and limits, and how it is deleted.

import {
  Badge, Button, Card, Choice, ErrorNote, Foreign, Note, Section, TextField, VariablesForm, api, ask, checkVariables, focusWrong, href, html, path, toast,
  useEffect, useLive, useMay, useMemo, useRef, useState,
} from '../../ui/index.js';
import { bytes, cores, parseSize, visible } from '../../format.js';
import { checkName } from '../../validate.js';
import { isLive } from '../../phase.js';
import { baseOf, changesOf, conflictOf, patchOf } from './diff.js';

const NOTHING = { variables: {}, limits: {} };

export function Settings({ server, game }) {
  const form = useRef(null);
  const may = useMay('run');
  const live = useLive();
  const [base, setBase] = useState(() => baseOf(server));
  const [written, write] = useState(NOTHING);
  const [memory, setMemory] = useState(() => sizeText(server.limits.memory_bytes));
  const [cpu, setCpu] = useState(() => cpuText(server.limits.cpu_millis));
  const [tried, setTried] = useState(false);
  const [said, say] = useState({});
  const [error, fail] = useState(null);
  const [busy, wait] = useState(false);
  const now = useMemo(() => baseOf(server), [server]);
  const variables = game?.variables ?? {};

  const memoryBytes = memory.trim() === '' ? null : parseSize(memory);
  const cpuMillis = cpu.trim() === '' ? null : Math.round(Number(cpu.replace(',', '.')) * 1000);
  const memoryError = memory.trim() !== '' && (memoryBytes === null || memoryBytes < 16 * 2 ** 20) ? 'A size such as 4 GiB or 512 MiB' : null;
  const cpuError = cpu.trim() !== '' && !(cpuMillis > 0 && cpuMillis <= 1_024_000) ? 'A number of cores, such as 2 or 0.5' : null;
  const limits = {
    memory_bytes: memory === sizeText(base.limits.memory_bytes) ? undefined : memoryBytes,
    cpu_millis: cpu === cpuText(base.limits.cpu_millis) ? undefined : cpuMillis,
  };
  const values = { ...base.variables, ...mapped(written.variables, (value, name) => value ?? variables[name]?.default ?? '') };
  const errors = useMemo(() => checkVariables(variables, withoutEmptySecrets(values, base.secrets), base.secrets), [written, base, game]);
  const nameError = written.name === undefined ? null : checkName(written.name);
  const changes = changesOf(base, { ...written, limits }, variables);
  const wrong = nameError || memoryError || cpuError || changes.some((change) => errors[change.name]);
  const moved = now.generation !== base.generation ? conflictOf(base, now, changes) : null;

  const forget = () => {
    setBase(now);
    write(NOTHING);
    setMemory(sizeText(now.limits.memory_bytes));
    setCpu(cpuText(now.limits.cpu_millis));
    setTried(false);
    say({});
    fail(null);
  };
  // What is written stays; what it is compared with is the newest.
  const rebase = () => {
    if (limits.memory_bytes === undefined) setMemory(sizeText(now.limits.memory_bytes));
    if (limits.cpu_millis === undefined) setCpu(cpuText(now.limits.cpu_millis));
    setBase(now);
    fail(null);
  };
  // Nobody has written anything, or others changed nothing of what is shown here: the form keeps up.
  const keepsUp = moved && (changes.length === 0 || moved.theirs.length === 0);
  useEffect(() => {
    if (keepsUp) rebase();
  }, [keepsUp, now]);

  const save = async (event) => {
    event.preventDefault();
    setTried(true);
    if (wrong) {
      requestAnimationFrame(() => focusWrong(form.current));
      return;
    }
    if (busy || !changes.length) return;
    wait(true);
    fail(null);
    say({});
    try {
      const after = await api.patch(path('server', server.id), patchOf(changes), { headers: { 'if-match': `"${base.generation}"` } });
      toast.ok(after.pending_restart ? 'Saved. It holds from the next start on.' : 'Saved');
      setBase(baseOf(after));
      write(NOTHING);
      setMemory(sizeText(after.limits.memory_bytes));
      setCpu(cpuText(after.limits.cpu_millis));
      setTried(false);
    } catch (caught) {
      const field = caught.field?.replace(/^(variables|limits)\./, '');
      if (field && (field in variables || field === 'name')) say({ [field]: caught.detail });
      fail(caught);
    } finally {
      wait(false);
    }
  };
  const input = (name, value) => write((old) => ({ ...old, variables: { ...old.variables, [name]: value } }));
  const shownErrors = { ...Object.fromEntries(Object.entries(errors).filter(([name]) => tried || name in written.variables)), ...said };
  const words = { 'server.name': server.name, 'server.id': server.id };

  return html`<form class="settings" ref=${form} onSubmit=${save} novalidate>
    ${server.pending_restart && html`<${Note} tone="warn" title="A restart is pending">The game still runs with the settings it was started with.<//>`}
    ${!may && html`<${Note}>Your role may look, not change.<//>`}
    <fieldset disabled=${!may}>
      ${Object.keys(variables).length
        ? html`<${Section} title="The game"><${Card}><${VariablesForm} variables=${variables} values=${values} errors=${shownErrors} words=${words} kept=${base.secrets} onInput=${input} /><//><//>`
        : html`<${Section} title="The game"><${Note}>${game ? 'This game has no settings that manman knows of.' : 'There is no definition of this game: what it is told stands in its start command.'}<//><//>`}
      <${Section} title="Name and limits"><${Card}><div class="form-grid">
        <${TextField} name="name" label="Name" required value=${written.name ?? base.name} error=${said.name ?? ((tried || written.name !== undefined) && nameError)} onInput=${(name) => write((old) => ({ ...old, name }))} spellcheck=${false} />
        <${TextField} name="memory" label="Memory limit" placeholder="none" help="Such as 4 GiB. Empty: as much as the machine has." value=${memory} error=${memoryError} onInput=${setMemory} />
        <${TextField} name="cpu" label="CPU limit" placeholder="none" help="Cores, such as 2 or 0.5. Empty: all of them." inputmode="decimal" value=${cpu} error=${cpuError} onInput=${setCpu} />
      </div><//><//>
    </fieldset>
    ${changes.length > 0 && html`<div class="changes-bar" role="region" aria-label="What will change">
    ${moved && changes.length > 0 && moved.theirs.length > 0 && html`<${Note} tone="warn" title="Somebody else has changed it meanwhile" action=${html`<span class="row"><${Button} small onClick=${forget}>Take theirs<//><${Button} small onClick=${rebase}>Keep mine<//></span>`}>
      <ul>${moved.theirs.map((one) => html`<li key=${one.name}><code>${visible(one.name)}</code> is now <bdi>${one.after === '' && base.secrets.has(one.name) ? 'another secret' : visible(String(one.after ?? 'as by default'))}</bdi></li>`)}</ul>
      ${moved.both.length > 0 && html`<p>You have written ${moved.both.map((one) => one.name).join(', ')}, too.</p>`}<//>`}
    ${error && html`<${ErrorNote} error=${error.status === 412 ? { detail: 'somebody else has changed it at the same moment', hint: 'look at what they did, then save again' } : error} />`}
      <div class="changes-text"><strong>${changes.length === 1 ? 'One change' : `${changes.length} changes`}</strong>${isLive(server.phase) && changes.some((change) => change.kind !== 'name') && html` <${Badge} tone="warn">from the next start on<//>`}
        <ul class="changes">${changes.map((change) => html`<li key=${change.name}><span><${Foreign} text=${change.label} /></span> <del><bdi>${shown(change, change.before)}</bdi></del> <span aria-hidden="true">→</span><span class="offscreen">becomes</span> <ins><bdi>${shown(change, change.after)}</bdi></ins></li>`)}</ul></div>
      <div class="row"><${Button} onClick=${forget}>Discard<//><${Button} type="submit" kind="primary" busy=${busy} disabled=${!live || !may || Boolean(moved?.both.length)}
        why=${!live ? 'The host is not connected' : moved?.both.length ? 'Decide first whose values to take' : null}>Save<//></div>
    </div>`}
  </form>
  ${may && html`<${Danger} server=${server} />`}`;
}

function shown({ name, secret }, value) {
  if (value === null) return name === 'memory_bytes' || name === 'cpu_millis' ? 'none' : 'the default';
  if (secret) return '•••';
  if (name === 'memory_bytes') return bytes(value);
  if (name === 'cpu_millis') return cores(value);
  return value === '' ? 'empty' : visible(value);
}

const mapped = (map, change) => Object.fromEntries(Object.entries(map).map(([name, value]) => [name, change(value, name)]));

/** An empty secret is kept as it is, so nothing about it is wrong. */
function withoutEmptySecrets(values, secrets) {
  return Object.fromEntries(Object.entries(values).filter(([name, value]) => value !== '' || !secrets.has(name)));
}

function sizeText(value) {
  if (value === null || value === undefined) return '';
  for (const [unit, size] of [['GiB', 2 ** 30], ['MiB', 2 ** 20], ['KiB', 2 ** 10]]) if (value % size === 0) return `${value / size} ${unit}`;
  return String(value);
}

const cpuText = (millis) => (millis === null || millis === undefined ? '' : String(millis / 1000));

function Danger({ server }) {
  const running = server.desired === 'running' || isLive(server.phase);
  const remove = async () => {
    let purge = false;
    const done = await ask({
      title: `Delete ${server.name}?`,
      text: html`<p>${running ? 'It is stopped by its stop plan, and then deleted.' : 'It is deleted from its machine.'} Its ports become free.</p><${Keep} onInput=${(value) => (purge = value)} />`,
      confirm: 'Delete it',
      danger: true,
      type: server.name,
      work: () => api.delete(`${path('server', server.id)}?force=true&purge=${purge}`),
    });
    if (done) {
      toast.ok(`${server.name} is being deleted`);
      location.hash = href('fleet');
    }
  };
  return html`<${Section} title="Delete"><${Card} class="danger-card"><div><strong>Delete this server</strong><p class="muted">Its saved worlds may stay on the machine, or go with it.</p></div><${Button} kind="danger" icon="trash" onClick=${remove}>Delete…<//><//><//>`;
}

function Keep({ onInput }) {
  const [value, set] = useState('keep');
  const choose = (next) => {
    set(next);
    onInput(next === 'purge');
  };
  return html`<${Choice} label="Its data" value=${value} onInput=${choose} options=${[{ value: 'keep', label: 'Keep it on the machine' }, { value: 'purge', label: 'Delete it for ever' }]} />`;
}
