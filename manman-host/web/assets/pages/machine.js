// One machine: what it has, what it can run, which ports are taken, and how it is taken out of use.

import { html, useState } from '../ui/html.js';
import {
  Activity, Ago, Badge, Button, Card, Empty, Facts, Foreign, Icon, LinkButton, Loading, Menu, Meter, Note, Page, Players, Said, Section, Switch,
  WorkerBadge, ask, api, href, path, toast, useAct, useLive, useMay, useStore,
} from '../ui/index.js';
import { JoinRequest } from '../ui/join.js';
import { byName, bytes, count, percent, visible } from '../format.js';
import { checkName } from '../validate.js';
import { gameName, useGames } from '../games.js';
import { Dialog } from '../ui/dialog.js';
import { TextField } from '../ui/form.js';
import { ErrorNote } from '../ui/state.js';
import { Graphs } from './server/graphs.js';

const BACK = { href: href('machines'), label: 'Machines' };

export default function MachinePage({ params }) {
  const ready = useStore((state) => state.ready);
  const worker = useStore((state) => state.workers.get(params.id) ?? [...state.workers.values()].find((one) => one.name === params.id));
  if (!ready) return html`<${Page} title="Machine" back=${BACK}><${Loading} lines=${5} /><//>`;
  if (!worker) {
    return html`<${Page} title="Machine" back=${BACK}><${Empty} icon="machine" title="This machine is not here any more" action=${html`<${LinkButton} href=${href('machines')}>All machines<//>`} /><//>`;
  }
  if (worker.status === 'pending') {
    return html`<${Page} title=${worker.name} back=${BACK}><ul class="attention"><${JoinRequest} worker=${worker} /></ul><${Drivers} worker=${worker} /><//>`;
  }
  return html`<${Page} title=${worker.name} back=${BACK}
    sub=${html`<${WorkerBadge} worker=${worker} /> <bdi class="mono">${visible(worker.address)}</bdi> · heard of <${Ago} at=${worker.last_seen} none="not since this host began" />`}
    actions=${html`<${Actions} worker=${worker} />`}>
    <${State} worker=${worker} />
    <${Capacity} worker=${worker} />
    <${Drivers} worker=${worker} />
    <${ServersOf} worker=${worker} />
    ${worker.linked && html`<${Graphs} server=${worker} of="worker" />`}
  <//>`;
}

function State({ worker }) {
  const away = worker.status === 'unknown';
  return html`${away &&
    html`<${Note} tone="bad" title="This machine has not been heard of">
      <p>Its games may well be running. Look whether it is on, in the network, and whether its worker runs. When it is back, all of this is right again by itself.</p><//>`}
    ${worker.quarantine &&
    html`<${Note} tone="bad" title="Its memory is not trusted">
      <p>${QUARANTINE[worker.quarantine] ?? visible(worker.quarantine)} What runs goes on; nothing is started or stopped before a person has looked: <code>manman worker rebase ${visible(worker.name)}</code></p><//>`}
    ${worker.rebase_needed &&
    html`<${Note} tone="warn" title="The host’s database went back in time">
      <p>This machine stops and deletes nothing on its word before a person has looked: <code>manman worker rebase ${visible(worker.name)}</code></p><//>`}
    ${worker.status === 'shutdown' && html`<${Note} title="Its worker was shut down in good order">Nothing runs there until it is started again.<//>`}
    ${worker.frozen && html`<${Note} icon="snow" title="Frozen">What runs goes on; nothing new starts here until it is thawed.<//>`}
    ${!away && worker.status === 'alive' && worker.observed_revision < worker.desired_revision && html`<${Note}>It has not yet heard of the newest wishes.<//>`}`;
}

const QUARANTINE = {
  old_token: 'Its database is a copy, or was restored from a backup.',
  state_behind: 'Its database went back in time.',
  rival: 'Two machines work under its identity.',
  other_machine: 'It woke up on another machine than it was set up on.',
};

function Capacity({ worker }) {
  const { capabilities: can, usage } = worker;
  const bar = (icon, label, part, text) => html`<${Meter} icon=${icon} label=${label} part=${part} text=${text} />`;
  return html`<${Section} title="Capacity"><${Card} class="capacity">
    <div class="machine-bars">
      ${bar('cpu', 'Processor', percent(usage?.cpu_millis, can.cpus * 1000), usage ? `${(usage.cpu_millis / 1000).toFixed(1)} of ${count(can.cpus, 'core')}` : count(can.cpus, 'core'))}
      ${bar('memory', 'Memory', percent(usage?.memory_used_bytes, can.memory_bytes), usage ? `${bytes(usage.memory_used_bytes)} of ${bytes(can.memory_bytes)}` : bytes(can.memory_bytes))}
      <span class="meter"><${Icon} name="disk" size=${15} /><span class="meter-text"><span class="offscreen">Disk: </span>${bytes(usage?.disk_free_bytes ?? can.disk_free_bytes)} free</span></span>
    </div>
    <${Facts} items=${[
      ['System', html`<${Foreign} text=${can.os || '–'} />`],
      ['Worker', html`<${Foreign} text=${can.version || '–'} />`],
      ['Control groups', can.cgroup || '–'],
      ['Ports for games', can.port_range ? `${can.port_range[0]} to ${can.port_range[1]}` : 'all'],
      can.public_address && ['Address for friends outside', html`<${Foreign} text=${can.public_address} />`],
      ['Link', worker.linked ? 'open' : 'closed'],
      ['Joined', html`<${Ago} at=${worker.created_at} />`],
      ...Object.entries(worker.labels).map(([label, value]) => [visible(label), html`<${Foreign} text=${value} />`]),
    ]} />
  <//><//>`;
}

const METHODS = { docker: 'Docker', steamcmd: 'SteamCMD' };

function Drivers({ worker }) {
  const { capabilities: can } = worker;
  return html`<${Section} title="What it can run"><ul class="drivers">
    ${can.drivers.map((driver) => html`<li key=${driver.method} class="card driver">
      <div class="driver-head"><strong>${METHODS[driver.method] ?? driver.method}</strong><${Badge} tone=${driver.ready ? 'good' : 'warn'}>${driver.ready ? 'Ready' : 'Missing'}<//></div>
      ${driver.version && html`<p class="muted"><${Foreign} text=${driver.version} /></p>`}
      ${driver.problem && html`<p><${Said} text=${driver.problem} /></p>`}
    </li>`)}
    ${can.drivers.length === 0 && html`<li class="muted">It has not said.</li>`}
    ${can.proton && html`<li class="card driver"><div class="driver-head"><strong>Windows builds</strong><${Badge} tone="good">Ready<//></div><p class="muted"><${Foreign} text=${can.proton} /></p></li>`}
  </ul><//>`;
}

function ServersOf({ worker }) {
  const all = useStore((state) => state.servers);
  const games = useGames();
  const list = [...all.values()].filter((server) => server.worker_id === worker.id).sort(byName);
  return html`<${Section} title="Servers and their ports" count=${list.length}>
    ${list.length === 0
      ? html`<${Empty} icon="fleet" title="No server here">New ones come here when you choose this machine, or the host does.<//>`
      : html`<div class="table-place"><table class="table" aria-label="Servers of this machine"><thead><tr><th scope="col">Server</th><th scope="col">State</th><th scope="col">Players</th><th scope="col">Ports</th></tr></thead>
        <tbody>${list.map((server) => html`<tr key=${server.id}>
          <td class="main"><a class="server-name" href=${href('server', { id: server.id })}><span class="server-words"><strong><${Foreign} text=${server.name} /></strong><span class="muted"><bdi>${visible(gameName(games, server.game_id))}</bdi></span></span></a></td>
          <td class="full"><${Activity} server=${server} compact /></td><td data-label="Players"><${Players} players=${server.players} /></td>
          <td data-label="Ports" class="mono">${server.ports.map((port) => `${port.port}/${port.protocol}`).join(', ') || '–'}</td></tr>`)}</tbody></table></div>`}
  <//>`;
}

function Actions({ worker }) {
  const may = useMay('manage');
  const live = useLive();
  const [run, busy] = useAct();
  const [dialog, open] = useState(null);
  const why = !may ? 'Only an admin manages machines' : !live ? 'The host is not connected' : null;
  const name = visible(worker.name);
  const freeze = () => run(() => api.patch(path('worker', worker.id), { frozen: !worker.frozen }));
  const drain = () =>
    ask({
      title: `Drain ${name}?`,
      text: html`<p>Every server on it is stopped by its own stop plan, then its worker ends. Players are thrown out.</p><p>Nothing is deleted: start the worker on that machine again, and its servers can be started again.</p>`,
      confirm: 'Stop its servers',
      danger: true,
      type: worker.name,
      work: () => api.post(path('worker', worker.id, 'drain')),
    });
  return html`<${Button} icon="snow" busy=${busy} disabled=${Boolean(why)} why=${why} onClick=${freeze}>${worker.frozen ? 'Thaw' : 'Freeze'}<//>
    <${Menu} label="More for this machine" items=${[
      { label: 'Rename…', icon: 'edit', onClick: () => open('rename'), disabled: Boolean(why), why },
      { label: 'Drain…', icon: 'stop', danger: true, onClick: drain, disabled: Boolean(why), why },
      { label: 'Remove…', icon: 'trash', danger: true, onClick: () => open('remove'), disabled: Boolean(why), why },
    ]} />
    ${dialog === 'rename' && html`<${Rename} worker=${worker} onClose=${() => open(null)} />`}
    ${dialog === 'remove' && html`<${Remove} worker=${worker} onClose=${() => open(null)} />`}`;
}

function Rename({ worker, onClose }) {
  const [name, setName] = useState(worker.name);
  const [error, setError] = useState(null);
  const [run, busy] = useAct();
  const wrong = checkName(name);
  const submit = async (event) => {
    event.preventDefault();
    if (wrong) return;
    const done = await run(() => api.patch(path('worker', worker.id), { name }), null, (caught) => (setError(caught), false));
    if (done) onClose();
  };
  return html`<${Dialog} title="Rename the machine" onClose=${onClose}><form class="stack" onSubmit=${submit}>
    <${TextField} label="Name" value=${name} onInput=${(text) => (setName(text), setError(null))} error=${wrong ?? (error?.field === 'name' ? visible(error.detail) : null)} />
    ${error && error.field !== 'name' && html`<${ErrorNote} error=${error} />`}
    <footer class="dialog-foot"><${Button} onClick=${onClose}>Cancel<//><${Button} type="submit" kind="primary" busy=${busy} disabled=${Boolean(wrong)}>Rename<//></footer>
  </form><//>`;
}

function Remove({ worker, onClose }) {
  const [typed, setTyped] = useState('');
  const [force, setForce] = useState(false);
  const [error, setError] = useState(null);
  const [run, busy] = useAct();
  const servers = worker.servers;
  const ready = typed.trim() === worker.name && (servers === 0 || force);
  const submit = async (event) => {
    event.preventDefault();
    if (!ready) return;
    const done = await run(() => api.delete(`${path('worker', worker.id)}${servers > 0 ? '?force=true' : ''}`), null, (caught) => (setError(caught), false));
    if (!done) return;
    onClose();
    if (done.asked === false) toast.info(`${visible(worker.name)} was removed, but could not be told: it hears of it when it comes back`);
    else toast.ok(`${visible(worker.name)} was removed`);
    location.hash = href('machines');
  };
  return html`<${Dialog} title=${`Remove ${visible(worker.name)}?`} onClose=${onClose}><form class="stack" onSubmit=${submit}>
    <div class="prose"><p>It is told to shut down and to forget this host. The data of its servers stays on the machine.</p></div>
    ${servers > 0 && html`<${Note} tone="warn" title=${`${count(servers, 'server')} on it`}><p>They are stopped if the machine can be reached, and forgotten here.</p><//>
      <${Switch} label=${`Forget its ${count(servers, 'server')}, too`} checked=${force} onInput=${setForce} />`}
    <${TextField} label=${html`Write <strong class="mono">${visible(worker.name)}</strong> to go on`} value=${typed} onInput=${setTyped} data-first spellcheck=${false} autocapitalize="off" />
    ${error && html`<${ErrorNote} error=${error} />`}
    <footer class="dialog-foot"><${Button} onClick=${onClose}>Cancel<//><${Button} type="submit" kind="danger" busy=${busy} disabled=${!ready}>Remove<//></footer>
  </form><//>`;
}
