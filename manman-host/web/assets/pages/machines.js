// All machines: those that ask to join, those that have, and how another one gets in.

import { html, useState } from '../ui/html.js';
import {
  Ago, Button, Choice, CopyLine, Empty, Foreign, Icon, Loading, Meter, Note, Page, Section, WorkerBadge, href, useAct, useMay, useMe, useStore, api,
} from '../ui/index.js';
import { JoinRequest } from '../ui/join.js';
import { byName, bytes, percent, visible } from '../format.js';

export default function MachinesPage() {
  const ready = useStore((state) => state.ready);
  const workers = useStore((state) => state.workers);
  const list = [...workers.values()].sort(byName);
  const asking = list.filter((worker) => worker.status === 'pending');
  const joined = list.filter((worker) => worker.status !== 'pending');
  if (!ready) return html`<${Page} title="Machines"><${Loading} lines=${5} /><//>`;
  return html`<${Page} title="Machines" sub="What your servers run on">
    ${asking.length > 0 && html`<${Section} title="Ask to join" count=${asking.length}><ul class="attention">${asking.map((worker) => html`<${JoinRequest} key=${worker.id} worker=${worker} />`)}</ul><//>`}
    ${joined.length > 0
      ? html`<div class="table-place machine-table"><table class="table" aria-label="Machines">
          <thead><tr><th scope="col">Machine</th><th scope="col">State</th><th scope="col">Processor</th><th scope="col">Memory</th><th scope="col">Disk free</th><th scope="col">Servers</th><th scope="col">Last heard</th></tr></thead>
          <tbody>${joined.map((worker) => html`<${Row} key=${worker.id} worker=${worker} />`)}</tbody></table></div>`
      : html`<${Empty} icon="machine" title="No machine yet">Add one below: it runs the games, this host looks after it.<//>`}
    <${Add} />
  <//>`;
}

function Row({ worker }) {
  const { capabilities: can, usage } = worker;
  const missing = can.drivers.filter((driver) => !driver.ready);
  return html`<tr>
    <td class="main"><a class="server-name" href=${href('machine', { id: worker.id })}><span class="server-words"><strong><${Foreign} text=${worker.name} /></strong><span class="muted mono"><bdi>${visible(worker.address)}</bdi></span></span></a></td>
    <td data-label="State"><${WorkerBadge} worker=${worker} />${missing.length > 0 && html` <span class="tag" title=${missing.map((one) => one.problem ?? one.method).join('; ')}>no ${missing.map((one) => one.method).join(', ')}</span>`}</td>
    <td data-label="Processor"><${Meter} label="Processor" part=${percent(usage?.cpu_millis, can.cpus * 1000)} text=${usage ? `${(usage.cpu_millis / 1000).toFixed(1)} of ${can.cpus}` : '–'} /></td>
    <td data-label="Memory"><${Meter} label="Memory" part=${percent(usage?.memory_used_bytes, can.memory_bytes)} text=${usage ? `${bytes(usage.memory_used_bytes)} of ${bytes(can.memory_bytes)}` : '–'} /></td>
    <td class="num" data-label="Disk free">${bytes(usage?.disk_free_bytes ?? can.disk_free_bytes)}</td>
    <td class="num" data-label="Servers">${worker.servers}</td>
    <td class="nowrap" data-label="Last heard"><${Ago} at=${worker.last_seen} none="not yet" /></td>
  </tr>`;
}

const WAYS = [
  { value: 'ask', label: 'It asks, you accept' },
  { value: 'token', label: 'With a token' },
];

/** The line to paste on another machine. */
function Add() {
  const me = useMe();
  const may = useMay('manage');
  const [way, setWay] = useState('ask');
  const [token, setToken] = useState(null);
  const [run, busy] = useAct();
  const url = me.host.join_url;
  const make = async () => {
    const made = await run(() => api.post('/token', { scope: 'join', label: 'a new machine', expires_in: 3600 }));
    if (made) setToken(made.token);
  };
  return html`<${Section} title="Add a machine" id="add">
    <div class="card stack">
      ${url
        ? html`<div class="prose"><p>On the other machine, with <code>manman-worker</code> installed, paste this line${way === 'ask' ? '. It then appears here as a machine that asks to join' : ''}:</p></div>
            ${may && html`<${Choice} label="How it gets in" value=${way} options=${WAYS} onInput=${setWay} />`}
            ${way === 'token' && !token
              ? html`<div><${Button} kind="primary" icon="key" busy=${busy} onClick=${make}>Make a token for one hour<//><p class="help">Whoever has it can add machines until then. It is shown once.</p></div>`
              : html`<${CopyLine} label="Line to paste on the other machine" text=${`manman-worker run --host ${url}${way === 'token' ? ` --join-token ${token}` : ''}`} />`}
            ${url.includes('#sha256=') && html`<p class="help"><${Icon} name="key" size=${14} /> The part behind # is the fingerprint of this host’s certificate: the machine talks to no other host.</p>`}
            ${me.host.mdns && html`<p class="help">In the same home network <code>manman-worker run --find</code> finds this host by itself.</p>`}`
        : html`<${Note} title="This host listens on this machine alone">
            <p>To let other machines in, stop it and start it again with the doors to your home network open:</p>
            <${CopyLine} text="manman up --lan" label="Command" />
            <p class="muted">The line to paste on the other machine appears here then. Games that run go on meanwhile.</p>
          <//>`}
    </div>
  <//>`;
}
