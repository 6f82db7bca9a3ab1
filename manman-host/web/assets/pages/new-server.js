// A new server: choose a game, fill in what it asks for, and be led to where it installs.

import { html, memo, useMemo, useRef, useState } from '../ui/html.js';
import {
  ApiError, Button, Choice, Empty, ErrorNote, GameMark, Icon, LinkButton, Loading, Note, Page, Search, Section, SelectField, Switch, TextField,
  VariablesForm, api, changedValues, checkVariables, focusWrong, href, toast, useLive, useLoad, useMay, useSettled, useStore,
} from '../ui/index.js';
import { byName, bytes, parseSize, visible } from '../format.js';
import { checkGameId, checkName, checkPort } from '../validate.js';
import { loadGames } from '../games.js';
import { idempotencyKey } from '../api.js';

export default function NewServerPage({ params }) {
  const games = useLoad(() => loadGames({ again: false }), []);
  const may = useMay('create');
  const back = params.game ? { href: href('new-server'), label: 'All games' } : { href: href('fleet'), label: 'Fleet' };
  if (!may) return html`<${Page} title="New server" back=${back}><${Note} tone="warn" title="Your role may not create servers">Ask an admin for the role operator.<//><//>`;
  if (games.data === undefined) {
    return html`<${Page} title="New server" back=${back}>${games.error ? html`<${ErrorNote} error=${games.error} retry=${games.reload} />` : html`<${Loading} lines=${6} />`}<//>`;
  }
  if (!params.game) return html`<${Catalogue} games=${games.data} />`;
  const game = games.data.get(params.game) ?? [...games.data.values()].find((one) => one.short === params.game) ?? bareGame(params.game);
  if (!game) {
    return html`<${Page} title="New server" back=${back}><${Empty} icon="search" title="No such game" action=${html`<${LinkButton} href=${href('new-server')}>All games<//>`}><bdi>${visible(params.game)}</bdi> is not in the catalogue.<//><//>`;
  }
  return html`<${Form} key=${game.game_id} game=${game} back=${back} />`;
}

/** A game without a definition: the host runs it, and knows nothing of it. */
function bareGame(id) {
  if (checkGameId(id)) return null;
  const name = id.replace(/^\w+:/, '').split('/').at(-1);
  return { game_id: id, name, description: null, tags: [], variables: {}, ports: [], bare: true, short: '', proven: null, memory_bytes: null, disk_bytes: null };
}

/* The catalogue */

const KINDS = [
  { value: '', label: 'All' },
  { value: 'docker', label: 'Docker' },
  { value: 'steamcmd', label: 'Steam' },
];

function Catalogue({ games }) {
  const [word, setWord] = useState('');
  const [tag, setTag] = useState(null);
  const [kind, setKind] = useState('');
  const workers = useStore((state) => state.workers);
  const list = useMemo(() => [...games.values()].sort(byName), [games]);
  const tags = useMemo(() => {
    const counts = new Map();
    for (const game of list) for (const one of game.tags) counts.set(one, (counts.get(one) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).slice(0, 16).map(([one]) => one);
  }, [list]);
  const words = useSettled(word, 80).trim().toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (game) => {
    const text = [game.name, game.game_id, game.short, game.description ?? '', ...game.tags].join(' ').toLowerCase();
    return words.every((one) => text.includes(one)) && (!tag || game.tags.includes(tag)) && (!kind || game.game_id.startsWith(`${kind}:`));
  };
  const shown = list.filter(fits);
  const methods = new Set([...workers.values()].flatMap((worker) => worker.capabilities.drivers.filter((driver) => driver.ready).map((driver) => driver.method)));
  const typed = word.trim();
  return html`<${Page} title="New server" sub="Choose a game" back=${{ href: href('fleet'), label: 'Fleet' }}>
    <div class="toolbar"><${Search} label="Search games" placeholder=${`Search ${list.length} games`} value=${word} onInput=${setWord} /><${Choice} label="How it is installed" hideLabel value=${kind} options=${KINDS} onInput=${setKind} /></div>
    <div class="chips" role="group" aria-label="Tags">${tags.map(
      (one) => html`<button key=${one} type="button" class="chip" aria-pressed=${tag === one ? 'true' : 'false'} onClick=${() => setTag(tag === one ? null : one)}>${one}</button>`,
    )}</div>
    <p class="offscreen" role="status">${shown.length} games</p>
    ${shown.length > 0
      ? html`<ul class="catalogue">${shown.map((game) => html`<${GameCard} key=${game.game_id} game=${game} runs=${workers.size === 0 || methods.has(game.game_id.split(':')[0])} />`)}</ul>`
      : html`<${Empty} icon="search" title="No game fits" action=${checkGameId(typed) === null ? html`<${LinkButton} kind="primary" href=${href('new-server', { game: typed })}>Use ${typed}<//>` : html`<${Button} onClick=${() => (setWord(''), setTag(null), setKind(''))}>Show all<//>`}>
          Any image can be run as well: write <code>docker:IMAGE</code>.<//>`}
  <//>`;
}

const GameCard = memo(function GameCard({ game, runs }) {
  const steam = game.game_id.startsWith('steamcmd:');
  return html`<li><a class="card game" href=${href('new-server', { game: game.short || game.game_id })}>
    <span class="game-head"><${GameMark} name=${game.name} /><strong><bdi>${visible(game.name)}</bdi></strong></span>
    ${game.description && html`<span class="game-text muted"><bdi>${visible(game.description)}</bdi></span>`}
    <span class="game-foot muted"><span>${steam ? 'Steam' : 'Docker'}</span>${game.memory_bytes && html`<span>${bytes(game.memory_bytes)} memory</span>`}
      ${game.proven && html`<span class="proven"><${Icon} name="check" size=${14} />proven</span>`}${game.steam_login === 'account' && html`<span>needs a Steam account</span>`}${!runs && html`<span class="warn-text">no machine for it</span>`}</span>
  </a></li>`;
});

/* The form */

/** The name a person would give: the game's short one, and a number where it is taken. */
function proposed(game, taken) {
  const stem = (game.short || game.name).toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 40) || 'server';
  for (let number = 1; ; number++) {
    const name = number === 1 ? stem : `${stem}-${number}`;
    if (!taken.has(name)) return name;
  }
}

/** The variables that one must look at stand first and open; the rest is behind a fold. */
function split(variables) {
  const first = {};
  const rest = {};
  for (const [name, spec] of Object.entries(variables)) {
    const weighty = spec.required || (!/rcon|console|admin|query/i.test(name) && /name|players|password|map|world|seed|version/i.test(name));
    (weighty && Object.keys(first).length < 8 ? first : rest)[name] = spec;
  }
  if (Object.keys(rest).length <= 2) return [variables, {}];
  return [first, rest];
}

function Form({ game, back }) {
  const form = useRef(null);
  const servers = useStore((state) => state.servers);
  const workers = useStore((state) => state.workers);
  const live = useLive();
  const taken = useMemo(() => new Set([...servers.values()].map((server) => server.name.toLowerCase())), [servers]);
  // Proposed once the fleet is known, and never changed under somebody's fingers.
  const fleet = useStore((state) => state.ready);
  const [name, setName] = useState(null);
  const given = name ?? (fleet ? proposed(game, taken) : '');
  const [values, setValues] = useState({});
  const [worker, setWorker] = useState('');
  const [ports, setPorts] = useState({});
  const [extra, setExtra] = useState([]);
  const [memory, setMemory] = useState('');
  const [cpu, setCpu] = useState('');
  const [restart, setRestart] = useState('on-failure');
  const [start, setStart] = useState(true);
  const [tried, setTried] = useState(false);
  const [touched, setTouched] = useState(() => new Set());
  const [said, setSaid] = useState({});
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  // A request that is sent twice (a double press, a lost answer) makes one server.
  const key = useRef(idempotencyKey());

  const errors = useMemo(() => checkVariables(game.variables, values), [values]);
  const nameError = checkName(given) ?? (taken.has(given.toLowerCase()) ? 'There is a server of this name already' : null);
  const memoryBytes = memory.trim() === '' ? null : parseSize(memory);
  const memoryError = memory.trim() !== '' && (memoryBytes === null || memoryBytes < 16 * 2 ** 20) ? 'A size such as 4 GiB or 512 MiB' : null;
  const cpuError = cpu.trim() !== '' && !(Number(cpu.replace(',', '.')) > 0 && Number(cpu.replace(',', '.')) <= 1024) ? 'A number of cores, such as 2 or 0.5' : null;
  const portErrors = Object.fromEntries(Object.entries(ports).map(([port, text]) => [port, checkPort(text.trim())]));
  const extraErrors = extra.map(({ port, container }) => ({ port: checkPort(port.trim()), container: checkPort(container.trim()) ?? (container.trim() === '' && port.trim() === '' ? 'A port is needed' : null) }));
  const bad = Object.keys(errors).length + Object.values(portErrors).filter(Boolean).length + extraErrors.filter((one) => one.port || one.container).length + [nameError, memoryError, cpuError].filter(Boolean).length;

  // Wrong is said of what has been written, and of all once one tried; the host's own word stands until
  // the field is changed.
  const shown = (field, wrong) => said[field] ?? (tried || touched.has(field) ? wrong : null);
  const touch = (field) => {
    setTouched((old) => (old.has(field) ? old : new Set(old).add(field)));
    setSaid((old) => (field in old ? Object.fromEntries(Object.entries(old).filter(([other]) => other !== field)) : old));
    key.current = idempotencyKey();
  };
  const variable = useRef(null);
  variable.current ??= (field, text) => {
    setValues((old) => ({ ...old, [field]: text }));
    touch(`variables.${field}`);
  };
  const shownErrors = Object.fromEntries(Object.keys(game.variables).map((field) => [field, shown(`variables.${field}`, errors[field])]));

  const requested = () => [
    ...Object.entries(ports).filter(([, text]) => text.trim() !== '').map(([port, text]) => ({ field: `port.${port}`, value: { name: port, port: Number(text) } })),
    ...extra.map(({ protocol, port, container }, i) => ({ field: `extra.${i}`, value: { protocol, ...(port.trim() ? { port: Number(port) } : {}), ...(container.trim() ? { container_port: Number(container) } : {}) } })),
  ];

  const submit = async (event) => {
    event.preventDefault();
    if (busy) return;
    setTried(true);
    setError(null);
    if (bad > 0) {
      requestAnimationFrame(() => focusWrong(form.current));
      return;
    }
    setBusy(true);
    const wanted = requested();
    const body = { game_id: game.game_id, name: given, variables: changedValues(game.variables, values), ports: wanted.map((one) => one.value), desired: start ? 'running' : 'stopped' };
    if (worker) body.worker_id = worker;
    const limits = {};
    if (memoryBytes) limits.memory_bytes = memoryBytes;
    if (cpu.trim()) limits.cpu_millis = Math.round(Number(cpu.replace(',', '.')) * 1000);
    if (Object.keys(limits).length) body.limits = limits;
    if (restart !== 'on-failure') body.restart = restart;
    try {
      const server = await api.post('/server', body, { headers: { 'idempotency-key': key.current } });
      toast.ok(`${server.name} was made on ${server.worker_name}`);
      location.hash = href('server', { id: server.id });
    } catch (caught) {
      setBusy(false);
      const field = fieldOf(caught.field, wanted);
      if (field) {
        setSaid((old) => ({ ...old, [field]: [caught.detail, caught.hint].filter(Boolean).map(visible).map(sentence).join(' ') }));
        requestAnimationFrame(() => focusWrong(form.current));
      } else setError(caught instanceof ApiError ? caught : new ApiError({ detail: String(caught) }, 0));
    }
  };

  const [first, rest] = split(game.variables);
  const wrongInRest = tried && Object.keys(rest).some((field) => shownErrors[field]);
  const words = { 'server.name': given };
  const accepted = [...workers.values()].filter((one) => one.status !== 'pending').sort(byName);
  const placements = [{ value: '', label: 'The host chooses' }, ...accepted.map((one) => placement(one, game))];
  return html`<${Page} title=${`New ${visible(game.name)} server`} mark=${html`<${GameMark} name=${game.name} />`} sub=${game.description ? html`<bdi>${visible(game.description)}</bdi>` : null} back=${back}>
    <form class="new-form" ref=${form} onSubmit=${submit} novalidate aria-label="New server">
      ${game.bare && html`<${Note} title="Not in the catalogue">The host can install and run <code>${visible(game.game_id)}</code>, but does not know its settings, when it is ready or how it wants to be stopped.<//>`}
      ${game.steam_login === 'account' && html`<${Note} tone="warn" title="Needs a Steam account that owns the game">Sign in once on the machine: <code>manman-worker steam login</code><//>`}
      ${accepted.length === 0 && fleet && html`<${Note} tone="warn" title="No machine has joined yet" action=${html`<${LinkButton} small href=${href('machines')}>Add a machine<//>`}>A server needs a machine to run on.<//>`}
      <div class="card stack">
        <div class="form-grid">
          <${TextField} label="Name" name="name" required value=${given} error=${shown('name', nameError)} help="For you and in addresses of this console" spellcheck=${false} autocapitalize="off" maxlength="63"
            onInput=${(text) => (setName(text), touch('name'))} />
          <${SelectField} label="Machine" name="worker_id" value=${worker} options=${placements} error=${shown('worker_id', null)} help=${worker ? null : 'The one that can run it, has the memory, and the fewest servers'} onInput=${(id) => (setWorker(id), touch('worker_id'))} />
        </div>
      </div>
      ${Object.keys(first).length > 0 && html`<${Section} title="Settings"><div class="card"><${VariablesForm} variables=${first} values=${values} errors=${shownErrors} words=${words} onInput=${variable.current} /></div><//>`}
      ${Object.keys(rest).length > 0 &&
      html`<details class="card fold" open=${wrongInRest || undefined}><summary>${Object.keys(rest).length} more settings</summary><${VariablesForm} variables=${rest} values=${values} errors=${shownErrors} words=${words} onInput=${variable.current} /></details>`}
      <details class="card fold"><summary>Ports, limits and restarts</summary>
        <div class="stack">
          ${game.ports.length > 0 && html`<h3>Ports</h3><div class="form-grid">${game.ports.map(
            (port) => html`<${TextField} key=${port.name} label=${`${visible(port.name)} (${port.protocol === 'both' ? 'udp and tcp' : port.protocol})`} name=${`port.${port.name}`} inputmode="numeric" class="number" value=${ports[port.name] ?? ''}
              placeholder=${/^\d+$/.test(port.default) ? `${port.default}, or the next free` : 'beside the first'} error=${shown(`port.${port.name}`, portErrors[port.name])}
              onInput=${(text) => (setPorts({ ...ports, [port.name]: text }), touch(`port.${port.name}`))} />`,
          )}</div>`}
          ${game.bare && html`<${ExtraPorts} extra=${extra} errors=${extraErrors} tried=${tried} said=${said} onInput=${(list, field) => (setExtra(list), touch(field))} />`}
          <h3>Limits</h3>
          <div class="form-grid">
            <${TextField} label="Memory" name="limits.memory_bytes" value=${memory} placeholder=${game.memory_bytes ? `none; it wants about ${bytes(game.memory_bytes)}` : 'none'} error=${shown('limits.memory_bytes', memoryError)} help="Beyond it the game is ended: out of memory" onInput=${(text) => (setMemory(text), touch('limits.memory_bytes'))} />
            <${TextField} label="Cores" name="limits.cpu_millis" value=${cpu} inputmode="decimal" class="number" placeholder="all" error=${shown('limits.cpu_millis', cpuError)} onInput=${(text) => (setCpu(text), touch('limits.cpu_millis'))} />
            <${SelectField} label="When the game ends by itself" name="restart" value=${restart} onInput=${(value) => (setRestart(value), touch('restart'))}
              options=${[{ value: 'on-failure', label: 'Start it again unless it ended well' }, { value: 'always', label: 'Always start it again' }, { value: 'never', label: 'Leave it stopped' }]} />
          </div>
        </div>
      </details>
      ${error && html`<${ErrorNote} error=${error} />`}
      <div class="form-foot">
        <${Switch} label="Start it once it is installed" checked=${start} onInput=${setStart} />
        <span class="spacer"></span>
        <span class="muted small" role="status">${tried && bad > 0 ? `${bad} ${bad === 1 ? 'field needs' : 'fields need'} another look` : ''}</span>
        <${LinkButton} href=${href('new-server')}>Cancel<//>
        <${Button} type="submit" kind="primary" icon="plus" busy=${busy} disabled=${!live} why="The host is not connected">Create server<//>
      </div>
    </form>
  <//>`;
}

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;

/** The field of the form that a field of the request stands for. */
function fieldOf(field, wanted) {
  if (!field) return null;
  const port = /^ports\[(\d+)\]/.exec(field);
  if (port) return wanted[Number(port[1])]?.field ?? null;
  return field === 'name' || field === 'worker_id' || field === 'restart' || field.startsWith('variables.') || field.startsWith('limits.') ? field : null;
}

/** A machine as a place for the game, and why it is none. */
function placement(worker, game) {
  const method = game.game_id.split(':')[0];
  const driver = worker.capabilities.drivers.find((one) => one.method === method);
  const free = worker.usage ? worker.capabilities.memory_bytes - worker.usage.memory_used_bytes : null;
  const why =
    worker.status === 'unknown' ? 'out of sight'
      : worker.status === 'shutdown' ? 'shut down'
        : worker.frozen ? 'frozen'
          : !driver?.ready ? `no ${method === 'docker' ? 'Docker' : 'SteamCMD'}`
            : game.platform === 'windows-proton' && !worker.capabilities.proton ? 'no Proton'
              : null;
  const word = why ?? (free === null ? '' : `${bytes(free)} free`);
  return { value: worker.id, label: `${visible(worker.name)}${word ? ` · ${word}` : ''}`, disabled: Boolean(why) };
}

function ExtraPorts({ extra, errors, tried, said, onInput }) {
  const change = (i, part) => onInput(extra.map((one, at) => (at === i ? { ...one, ...part } : one)), `extra.${i}`);
  return html`<h3>Ports</h3>
    ${extra.map((one, i) => html`<div class="extra-port" key=${i}>
      <${SelectField} label="Protocol" value=${one.protocol} options=${[{ value: 'udp', label: 'udp' }, { value: 'tcp', label: 'tcp' }]} onInput=${(protocol) => change(i, { protocol })} />
      <${TextField} label="On the machine" inputmode="numeric" value=${one.port} placeholder="chosen" error=${said[`extra.${i}`] ?? errors[i].port} onInput=${(port) => change(i, { port })} />
      <${TextField} label="In the container" inputmode="numeric" value=${one.container} error=${tried ? errors[i].container : null} onInput=${(container) => change(i, { container })} />
      <${Button} icon="cross" kind="quiet" label="Remove this port" onClick=${() => onInput(extra.filter((_, at) => at !== i), `extra.${i}`)} />
    </div>`)}
    <div><${Button} small icon="plus" onClick=${() => onInput([...extra, { protocol: 'udp', port: '', container: '' }], 'extra')}>Add a port<//></div>`;
}
