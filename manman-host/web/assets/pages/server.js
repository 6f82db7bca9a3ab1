// One server: its state and address, its console, what it uses, its settings, what it can do.

import {
  Activity, Badge, Card, ConditionList, CopyLine, Empty, Facts, Foreign, GameMark, Loading, Note, Page, Players, PowerButtons, Progress, Tabs, href, html,
  useShortcut, useStore, usePower,
} from '../ui/index.js';
import { exitWords, isDeleting, isLive } from '../phase.js';
import { bytes, cores, visible } from '../format.js';
import { gameName, useGames } from '../games.js';
import { Console } from './server/console.js';
import { Graphs } from './server/graphs.js';
import { Settings } from './server/settings.js';
import { Actions } from './server/actions.js';
import { Events } from './server/events.js';

const FLEET = { href: href('fleet'), label: 'Fleet' };

export default function ServerPage({ params, query }) {
  const ready = useStore((state) => state.ready);
  // Names work in an address wherever ids do.
  const server = useStore((state) => state.servers.get(params.id) ?? [...state.servers.values()].find((one) => one.name === params.id));
  if (server) return html`<${Server} server=${server} tab=${params.tab} query=${query} />`;
  if (!ready) return html`<${Page} title="Server" back=${FLEET}><${Loading} lines=${6} /><//>`;
  return html`<${Page} title="Not here" back=${FLEET}><${Empty} icon="search" title="There is no such server" action=${html`<a class="button" href=${href('fleet')}>To the fleet</a>`}>It was deleted, or it is not yours to see.<//><//>`;
}

const TABS = [
  ['console', 'Console'],
  ['overview', 'Overview'],
  ['settings', 'Settings'],
  ['actions', 'Actions & backups'],
  ['events', 'Events'],
];

function Server({ server, tab = 'console', query }) {
  const games = useGames();
  const game = games.get(server.game_id) ?? null;
  const { can, go } = usePower(server);
  // Only what throws nobody out is done by a single key.
  useShortcut('s', 'Start', () => can.start?.enabled && go('start'));
  const current = TABS.some(([id]) => id === tab) ? tab : 'console';
  const View = { console: ConsoleTab, overview: Overview, settings: Settings, actions: Actions, events: Events }[current];
  const worker = html`<a href=${href('machine', { id: server.worker_id })}><${Foreign} text=${server.worker_name} /></a>`;
  return html`<${Page} wide title=${server.name} back=${FLEET} mark=${html`<${GameMark} name=${gameName(games, server.game_id)} />`}
    sub=${html`<span><${Foreign} text=${gameName(games, server.game_id)} /> on ${worker}</span>`} actions=${html`<${PowerButtons} server=${server} />`}>
    <div class="server-state">
      <${Activity} server=${server} />
      ${server.pending_restart && html`<a class="plain" href=${href('server', { id: server.id, tab: 'settings' })} title="Changed settings hold from the next start on"><${Badge} tone="warn">Restart pending<//></a>`}
      ${isLive(server.phase) && server.players && html`<${Players} players=${server.players} />`}
      ${isLive(server.phase) && server.usage && html`<span class="server-use muted"><span>${cores(server.usage.cpu_millis)}</span><span>${bytes(server.usage.memory_bytes)}</span></span>`}
      ${server.url && html`<${CopyLine} text=${server.url} label="Address for players" />`}
    </div>
    ${server.conditions.length > 0 && html`<${Card} class="server-conditions"><${ConditionList} conditions=${server.conditions} /><//>`}
    <${Tabs} label=${`Parts of ${server.name}`} current=${current} tabs=${TABS.map(([id, label]) => ({ id, label, href: id === 'console' ? href('server', { id: server.id }) : href('server', { id: server.id, tab: id }) }))} />
    ${isDeleting(server) && html`<${Note} tone="warn" title="It is being deleted">Its machine has been told; once that is done it is gone from here.<//>`}
    <div class="server-tab" data-tab=${current}><${View} key=${`${server.id} ${current}`} server=${server} game=${game} query=${query} /></div>
  <//>`;
}

/** While a game installs there is no log worth reading: its bar stands there as well. */
function ConsoleTab({ server, game, query }) {
  const installing = server.phase === 'Installing';
  return html`${installing && html`<${Card} class="installing"><strong>Installing</strong> <span class="muted"><${Foreign} text=${server.progress?.step ?? 'on its way'} /></span><${Progress} value=${server.progress?.percent ?? null} label="How far the install is" /><//>`}
    <${Console} server=${server} game=${game} query=${query} />`;
}

function Overview({ server }) {
  const worker = useStore((state) => state.workers.get(server.worker_id));
  const limits = [server.limits.memory_bytes && bytes(server.limits.memory_bytes), server.limits.cpu_millis && cores(server.limits.cpu_millis)].filter(Boolean).join(', ');
  const names = server.players?.names ?? [];
  return html`<${Graphs} server=${server} />
    <section class="section" aria-label="About it"><header class="section-head"><h2>About it</h2></header><${Card}><${Facts} items=${[
      ['Game', html`<code>${visible(server.game_id)}</code>`],
      ['Machine', html`<${Foreign} text=${server.worker_name} />${worker && html` <span class="muted">${visible(worker.address)}</span>`}`],
      ['Ports', server.ports.length ? html`<ul>${server.ports.map((port) => html`<li key=${port.name + port.protocol}>${visible(port.name)} <code>${port.port}/${port.protocol}</code></li>`)}</ul>` : 'none'],
      ['Limits', limits || 'none'],
      server.players && ['Players', names.length ? names.map(visible).join(', ') : `${server.players.online}`],
      ['Starts after crashes', String(server.restarts)],
      server.exit && ['Last end', exitWords(server.exit) ?? 'unknown'],
      ...Object.entries(server.extra ?? {}).slice(0, 20).map(([name, value]) => [visible(name), html`<${Foreign} text=${typeof value === 'object' ? JSON.stringify(value) : String(value)} />`]),
      ['Id', html`<code>${server.id}</code>`],
    ]} /><//></section>`;
}

