// The fleet at a glance: what needs a person on top, then machines, then all servers.

import { html, memo, useEffect, useMemo, useState } from '../ui/html.js';
import {
  Activity, Ago, Button, Choice, Copy, Empty, Foreign, GameMark, Icon, LinkButton, Loading, Meter, Page, Players, PowerButtons, Said, Search, Section,
  WorkerBadge, href, useMay, useStore,
} from '../ui/index.js';
import { byName, bytes, cores, percent, visible } from '../format.js';
import { isDeleting, isLive } from '../phase.js';
import { troubles } from '../trouble.js';
import { useGames, gameName } from '../games.js';
import { JoinRequest } from '../ui/join.js';

export default function FleetPage() {
  const ready = useStore((state) => state.ready);
  const servers = useStore((state) => state.servers);
  const workers = useStore((state) => state.workers);
  const create = useMay('create');
  if (!ready) return html`<${Page} title="Fleet" wide><${Loading} lines=${6} /><//>`;
  const total = servers.size;
  const up = [...servers.values()].filter((server) => server.phase === 'Ready').length;
  const players = [...servers.values()].reduce((sum, server) => sum + (server.players?.online ?? 0), 0);
  const sub = total ? `${up} of ${total} ${total === 1 ? 'server' : 'servers'} ready · ${players} ${players === 1 ? 'player' : 'players'}` : null;
  return html`<${Page} title="Fleet" sub=${sub} wide actions=${create && html`<${LinkButton} kind="primary" class="button primary phone-only" icon="plus" href=${href('new-server')}>New server<//>`}>
    <${Attention} />
    <${Machines} workers=${workers} />
    <${Servers} servers=${servers} workers=${workers} create=${create} />
  <//>`;
}

function Attention() {
  const list = useStore(troubles);
  if (list.length === 0) return null;
  return html`<${Section} title="Needs you" count=${list.length} id="attention">
    <ul class="attention">${list.map((one) => html`<${Trouble} key=${one.key} one=${one} />`)}</ul>
  <//>`;
}

const Trouble = memo(function Trouble({ one }) {
  const { kind, value, text } = one;
  if (kind === 'join') return html`<${JoinRequest} worker=${value} />`;
  const page = kind === 'worker' ? href('machine', { id: value.id }) : href('server', { id: value.id });
  return html`<li class="trouble" data-tone=${one.rank < 3 ? 'bad' : 'warn'}>
    <${Icon} name="warn" />
    <p class="trouble-text"><a href=${page}><${Foreign} text=${value.name} /></a> <${Said} text=${text} />${kind === 'worker' && html` <span class="muted">since <${Ago} at=${value.last_seen ?? value.status_since} /></span>`}</p>
    ${kind === 'server' ? html`<${PowerButtons} server=${value} compact />` : html`<${LinkButton} href=${page} small>Look<//>`}
  </li>`;
});

function Machines({ workers }) {
  const list = [...workers.values()].filter((worker) => worker.status !== 'pending').sort(byName);
  const wide = useMay('fleet');
  if (!wide || list.length === 0) return null;
  return html`<${Section} title="Machines" count=${list.length} actions=${html`<${LinkButton} href=${href('machines')} kind="quiet" small icon="plus">Add a machine<//>`}>
    <div class="machines">${list.map((worker) => html`<${Machine} key=${worker.id} worker=${worker} />`)}</div>
  <//>`;
}

const Machine = memo(function Machine({ worker }) {
  const { capabilities: can, usage } = worker;
  const away = worker.status === 'unknown' || worker.status === 'shutdown';
  const missing = can.drivers.filter((driver) => !driver.ready);
  return html`<a class=${`card machine ${away ? 'away' : ''}`} href=${href('machine', { id: worker.id })}>
    <div class="machine-head"><strong><${Foreign} text=${worker.name} /></strong><${WorkerBadge} worker=${worker} /></div>
    <div class="machine-bars">
      <${Meter} icon="cpu" label="Processor" part=${percent(usage?.cpu_millis, can.cpus * 1000)} text=${usage ? `${(usage.cpu_millis / 1000).toFixed(1)} of ${can.cpus}` : '–'} />
      <${Meter} icon="memory" label="Memory" part=${percent(usage?.memory_used_bytes, can.memory_bytes)} text=${usage ? `${bytes(usage.memory_used_bytes)} of ${bytes(can.memory_bytes)}` : '–'} />
      <span class="meter" title="Free on disk"><${Icon} name="disk" size=${15} /><span class="meter-text">${bytes(usage?.disk_free_bytes ?? can.disk_free_bytes)} free</span></span>
    </div>
    <div class="machine-foot muted">${worker.servers} ${worker.servers === 1 ? 'server' : 'servers'}${missing.length > 0 && html` · <span class="warn-text">no ${missing.map((driver) => driver.method).join(', ')}</span>`}</div>
  </a>`;
});

const FILTERS = [
  { value: 'all', label: 'All' },
  { value: 'up', label: 'Running' },
  { value: 'down', label: 'Stopped' },
];

function Servers({ servers, workers, create }) {
  const [word, setWord] = useState('');
  const [filter, setFilter] = useState('all');
  const games = useGames();
  const list = useMemo(() => [...servers.values()].sort(byName), [servers]);
  const wanted = word.trim().toLowerCase();
  const most = useFirst(list.length);
  const fitting = list.filter((server) => {
    const alive = isLive(server.phase === 'Unknown' ? server.last_phase : server.phase) || server.desired === 'running';
    if (filter === 'up' && !alive) return false;
    if (filter === 'down' && alive) return false;
    return !wanted || [server.name, server.worker_name, server.game_id, gameName(games, server.game_id)].some((text) => text.toLowerCase().includes(wanted));
  });
  // The first screen is there at once, the rest a moment later.
  const shown = fitting.slice(0, most);
  if (list.length === 0) {
    const none = [...workers.values()].every((worker) => worker.status === 'pending');
    return html`<${Section} title="Servers"><${Empty} icon="fleet" title="No server yet"
      action=${create && (none ? html`<${LinkButton} kind="primary" href=${href('machines')} icon="plus">Add a machine<//>` : html`<${LinkButton} kind="primary" href=${href('new-server')} icon="plus">New server<//>`)}>
      ${none ? 'First a machine has to join that runs them.' : 'Choose a game, name it, and it installs and starts by itself.'}<//><//>`;
  }
  return html`<${Section} title="Servers" count=${list.length} actions=${html`<${Choice} label="Which" hideLabel value=${filter} options=${FILTERS} onInput=${setFilter} />`}>
    ${list.length > 6 && html`<div class="toolbar"><${Search} label="Search servers" placeholder="Search by name, game or machine" value=${word} onInput=${setWord} /></div>`}
    <div class="table-place">
      <table class="table servers" aria-label="Servers">
        <thead><tr><th scope="col">Server</th><th scope="col">State</th><th scope="col">Players</th><th scope="col">Usage</th><th scope="col">Address</th><th scope="col" class="end"><span class="offscreen">Power</span></th></tr></thead>
        <tbody>${shown.map((server) => html`<${ServerRow} key=${server.id} server=${server} game=${gameName(games, server.game_id)} cpus=${workers.get(server.worker_id)?.capabilities.cpus ?? 0}
          total=${workers.get(server.worker_id)?.capabilities.memory_bytes ?? 0} />`)}</tbody>
      </table>
    </div>
    ${shown.length === 0 && html`<${Empty} icon="search" title="None of them" action=${html`<${Button} onClick=${() => (setWord(''), setFilter('all'))}>Show all<//>`}>No server fits what you search for.<//>`}
  <//>`;
}

const FIRST = 30;

/** How many rows are drawn: a screenful first, then all. */
function useFirst(total) {
  const [most, set] = useState(FIRST);
  useEffect(() => {
    if (total <= most) return undefined;
    const timer = setTimeout(() => set(most + 60), 30);
    return () => clearTimeout(timer);
  }, [most, total]);
  return most;
}

/** Drawn again only when its own server is another value. */
const ServerRow = memo(function ServerRow({ server, game, cpus, total }) {
  const { usage, limits } = server;
  const memory = limits.memory_bytes || total;
  const most = limits.cpu_millis || cpus * 1000;
  return html`<tr data-server=${server.id} class=${isDeleting(server) ? 'leaving' : ''}>
    <td class="main"><a class="server-name" href=${href('server', { id: server.id })}><${GameMark} name=${game} /><span class="server-words"><strong><${Foreign} text=${server.name} /></strong>
      <span class="muted"><bdi>${visible(game)}</bdi> on <${Foreign} text=${server.worker_name} /></span></span></a></td>
    <td class="full state-cell"><${Activity} server=${server} />${server.pending_restart && html`<span class="tag" title="Changed settings take effect with the next start">pending restart</span>`}</td>
    <td class=${`num ${server.players ? '' : 'none'}`} data-label="Players"><${Players} players=${server.players} /></td>
    <td class=${`usage-cell ${usage ? '' : 'none'}`} data-label="Usage">${usage
      ? html`<span class="usage"><${Meter} icon="cpu" label="Processor" part=${percent(usage.cpu_millis, most)} text=${cores(usage.cpu_millis)} /><${Meter} icon="memory" label="Memory" part=${percent(usage.memory_bytes, memory)} text=${bytes(usage.memory_bytes)} /></span>`
      : html`<span class="muted">–</span>`}</td>
    <td class="address full" data-label="Address">${server.url ? html`<span class="address-line"><bdi class="mono">${visible(short(server.url))}</bdi><${Copy} text=${server.url} label=${`Copy the address of ${server.name}`} compact /></span>` : html`<span class="muted">–</span>`}</td>
    <td class="end"><${PowerButtons} server=${server} compact more=${moreOf(server.id)} /></td>
  </tr>`;
});

const short = (url) => url.replace(/^(steam:\/\/connect|minecraft:\/)\//, '');

// The same items for the same server: the row's buttons are not drawn again for nothing.
const items = new Map();
function moreOf(id) {
  if (!items.has(id)) items.set(id, [{ label: 'Settings', icon: 'settings', href: href('server', { id, tab: 'settings' }) }]);
  return items.get(id);
}
