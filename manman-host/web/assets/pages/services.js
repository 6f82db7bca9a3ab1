// What has registered itself with this host, and what its front door leads to.

import { html, useState } from '../ui/html.js';
import { Badge, Copy, Empty, Foreign, Icon, Loading, Page, Search, Section, hostNow, useLive, useMe, useSecond, useStore } from '../ui/index.js';
import { byName, duration, visible } from '../format.js';

const HEALTH = {
  passing: ['Answers', 'good'],
  critical: ['Does not answer', 'bad'],
  unknown: ['Not asked', 'off'],
  // Of those behind the front door.
  up: ['Answers', 'good'],
  probation: ['Not heard of since the host’s start', 'warn'],
  down: ['Does not answer', 'bad'],
};

export default function ServicesPage() {
  const ready = useStore((state) => state.ready);
  const services = useStore((state) => state.services);
  const [word, setWord] = useState('');
  if (!ready) return html`<${Page} title="Services"><${Loading} lines=${4} /><//>`;
  const wanted = word.trim().toLowerCase();
  const list = [...services.values()].filter((one) => !wanted || one.name.toLowerCase().includes(wanted) || `${one.ip}:${one.port}`.includes(wanted)).sort(byName);
  const doors = list.filter((one) => one.kind === 'waifu');
  const plain = list.filter((one) => one.kind !== 'waifu');
  return html`<${Page} title="Services" sub="Programs that register with this host, and what its front door leads to">
    ${services.size > 6 && html`<div class="toolbar"><${Search} label="Search services" value=${word} onInput=${setWord} /></div>`}
    <${Section} title="Front door" count=${doors.length}>
      ${doors.length
        ? html`<div class="table-place"><table class="table" aria-label="Front door"><thead><tr><th scope="col">Name</th><th scope="col">State</th><th scope="col">Address for people</th><th scope="col">Runs at</th><th scope="col">Lease</th></tr></thead>
          <tbody>${doors.map((one) => html`<${Door} key=${one.name} service=${one} />`)}</tbody></table></div>`
        : html`<${Empty} icon="globe" title=${wanted ? 'None of them' : 'Nothing stands behind the front door'}>A program that says hello on the internal listener is reached under <code>/NAME</code> of the public address, with this host’s certificate.<//>`}
    <//>
    <${Section} title="Registry" count=${plain.length}>
      ${plain.length
        ? html`<div class="table-place"><table class="table" aria-label="Registry"><thead><tr><th scope="col">Name</th><th scope="col">Health</th><th scope="col">Runs at</th><th scope="col">Lease</th></tr></thead>
          <tbody>${plain.map((one) => html`<${Service} key=${one.name} service=${one} />`)}</tbody></table></div>`
        : html`<${Empty} icon="services" title=${wanted ? 'None of them' : 'Nobody has registered'}>Programs say where they are with <code>PUT /self-register</code> on the internal listener and are found with <code>GET /discover</code>.<//>`}
    <//>
  <//>`;
}

function Where({ service }) {
  const text = service.ip.includes(':') ? `[${service.ip}]:${service.port}` : `${service.ip}:${service.port}`;
  return html`<span class="address-line"><bdi class="mono">${visible(text)}</bdi><${Copy} text=${text} label=${`Copy where ${service.name} is`} compact /></span>`;
}

/** The lease runs while one looks: it is counted from when this value was heard. */
const heard = new WeakMap();
function Lease({ service }) {
  const live = useLive();
  useSecond(service.expires_in !== null && service.expires_in !== undefined && live);
  if (service.expires_in === null || service.expires_in === undefined) return html`<span class="muted">for ever</span>`;
  if (!heard.has(service)) heard.set(service, hostNow());
  const left = service.expires_in - (hostNow() - heard.get(service)) / 1000;
  return left > 0 ? html`<span class="num">${duration(left)} left</span>` : html`<span class="muted">about to lapse</span>`;
}

function Health({ service }) {
  const [label, tone] = HEALTH[service.status] ?? [visible(service.status ?? '–'), 'off'];
  return html`<${Badge} tone=${tone}>${label}<//>`;
}

function Name({ service }) {
  const more = [...(service.binds ?? []), ...(service.tags ?? [])];
  return html`<strong><${Foreign} text=${service.name} /></strong>${more.map((one) => html`<span key=${one} class="tag plain"><${Foreign} text=${one} /></span>`)}`;
}

function Service({ service }) {
  return html`<tr><td class="main"><${Name} service=${service} /></td><td data-label="Health"><${Health} service=${service} /></td>
    <td class="full" data-label="Runs at"><${Where} service=${service} /></td><td data-label="Lease"><${Lease} service=${service} /></td></tr>`;
}

/** Only an address of the web is made a link: a program could have written anything. */
const isWeb = (url) => /^https?:\/\//i.test(url ?? '');

function Door({ service }) {
  const me = useMe();
  const url = service.url ?? new URL(`/${encodeURIComponent(service.name)}/`, me.host.public_url).href;
  return html`<tr><td class="main"><${Name} service=${service} /></td><td data-label="State"><${Health} service=${service} /></td>
    <td class="full" data-label="Address for people">${isWeb(url) ? html`<span class="address-line"><a href=${url} target="_blank" rel="noopener noreferrer"><bdi>${visible(url)}</bdi> <${Icon} name="out" size=${14} /><span class="offscreen"> (opens in a new tab)</span></a><${Copy} text=${url} label=${`Copy the address of ${service.name}`} compact /></span>` : html`<bdi class="mono">${visible(url)}</bdi>`}</td>
    <td class="full" data-label="Runs at"><${Where} service=${service} /></td><td data-label="Lease"><${Lease} service=${service} /></td></tr>`;
}
