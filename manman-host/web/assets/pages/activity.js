// Who did what, newest first, and what happens now.

import { html, memo, useEffect, useMemo, useRef, useState } from '../ui/html.js';
import { Ago, Button, Choice, Empty, ErrorNote, Foreign, Icon, Loading, Page, Said, Search, SelectField, api, href, moment, useSettled, useStore } from '../ui/index.js';
import { byName, visible } from '../format.js';
import { GROUPS, byPerson, changes, look, matches } from '../events.js';

const PAGE = 100;

export default function ActivityPage({ query }) {
  const [filter, setFilter] = useState({ kind: query.kind ?? '', server: query.server ?? '', worker: query.worker ?? '' });
  const [word, setWord] = useState('');
  const [who, setWho] = useState('all');
  const servers = useStore((state) => state.servers);
  const workers = useStore((state) => state.workers);
  const live = useStore((state) => state.events);
  const past = usePast(filter);
  const settled = useSettled(word, 120).trim().toLowerCase();
  useEffect(() => {
    // The address says what is looked at, so that it can be handed on; it makes no step of history.
    history.replaceState(null, '', href('activity', {}, filter));
  }, [filter]);
  const list = useMemo(() => {
    const byId = new Map(past.items.map((event) => [event.id, event]));
    for (const event of live) if (matches(event, filter)) byId.set(event.id, event);
    const oldest = past.items.length ? past.items.at(-1).id : 0;
    return [...byId.values()].filter((event) => past.done || event.id >= oldest).sort((a, b) => b.id - a.id);
  }, [past.items, past.done, live, filter]);
  const shown = list.filter((event) => matches(event, { word: settled }) && (who === 'all' || byPerson(event)));
  const set = (part) => setFilter({ ...filter, ...part });
  const options = (map, all) => [{ value: '', label: all }, ...[...map.values()].sort(byName).map((one) => ({ value: one.id, label: visible(one.name) }))];
  const withGone = (list, id) => (id && !list.some((one) => one.value === id) ? [...list, { value: id, label: 'one that is gone' }] : list);
  const kinds = GROUPS.some((one) => one.value === filter.kind) ? GROUPS : [...GROUPS, { value: filter.kind, label: filter.kind }];
  return html`<${Page} title="Activity" sub="Who did what, as it happens">
    <div class="activity-tools">
      <${Search} label="Search in what is shown" value=${word} onInput=${setWord} />
      <${Choice} label="By whom" hideLabel value=${who} options=${[{ value: 'all', label: 'All' }, { value: 'people', label: 'By people' }]} onInput=${setWho} />
      <${SelectField} label="What" value=${filter.kind} options=${kinds} onInput=${(kind) => set({ kind })} />
      <${SelectField} label="Server" value=${filter.server} options=${withGone(options(servers, 'All servers'), filter.server)} onInput=${(server) => set({ server })} />
      <${SelectField} label="Machine" value=${filter.worker} options=${withGone(options(workers, 'All machines'), filter.worker)} onInput=${(worker) => set({ worker })} />
    </div>
    ${past.error && html`<${ErrorNote} error=${past.error} retry=${past.again} />`}
    ${shown.length === 0 && !past.error
      ? past.loading
        ? html`<${Loading} lines=${6} />`
        : html`<${Empty} icon="activity" title="Nothing of that kind" action=${html`<${Button} onClick=${() => (setFilter({ kind: '', server: '', worker: '' }), setWord(''), setWho('all'))}>Show everything<//>`}>Nothing has happened that fits what you look for.<//>`
      : html`<ol class="events">${days(shown).map(([day, events]) => html`<li key=${day}><h2 class="day">${day}</h2><ol>${events.map((event) => html`<${Row} key=${event.id} event=${event} servers=${servers} workers=${workers} />`)}</ol></li>`)}</ol>`}
    <div class="more">${past.done ? shown.length > 0 && html`<p class="muted">That is all.</p>` : html`<${Button} busy=${past.loading} onClick=${past.more}>Older<//>`}</div>
  <//>`;
}

/** Pages of what has been, and more of them on demand. */
function usePast(filter) {
  const [state, set] = useState({ items: [], next: null, done: false, loading: true, error: null });
  const round = useRef(0);
  const load = async (cursor, items) => {
    const own = ++round.current;
    set((old) => ({ ...old, items, loading: true, error: null }));
    const asked = new URLSearchParams({ limit: PAGE });
    if (filter.kind) asked.set('kind', filter.kind);
    if (filter.server) asked.set('server_id', filter.server);
    if (filter.worker) asked.set('worker_id', filter.worker);
    if (cursor) asked.set('cursor', cursor);
    try {
      const page = await api.get(`/event?${asked}`);
      if (own === round.current) set({ items: [...items, ...page.items], next: page.next ?? null, done: !page.next, loading: false, error: null });
    } catch (error) {
      if (own === round.current) set((old) => ({ ...old, loading: false, error }));
    }
  };
  useEffect(() => {
    load(null, []);
    return () => void (round.current += 1);
  }, [filter]);
  return { ...state, more: () => load(state.next, state.items), again: () => load(state.next, state.items) };
}

const DAY = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });

function days(events) {
  const out = [];
  for (const event of events) {
    const day = DAY.format(new Date(event.at));
    if (out.at(-1)?.[0] === day) out.at(-1)[1].push(event);
    else out.push([day, [event]]);
  }
  return out;
}

const Row = memo(function Row({ event, servers, workers }) {
  const { tone, icon } = look(event);
  const server = event.server_id && servers.get(event.server_id);
  const worker = event.worker_id && workers.get(event.worker_id);
  const changed = changes(event.data);
  // A worker says of its server what happens to it: the server is who the sentence is about.
  const subject = server && event.actor.startsWith('worker ');
  const named = (one) => one && event.message.includes(`\`${one.name}\``);
  return html`<li class="event" data-tone=${tone}>
    <span class="event-mark"><${Icon} name=${icon} size=${16} /></span>
    <div class="event-body">
      <p>${subject
        ? html`<a class="event-actor" href=${href('server', { id: server.id })}><${Foreign} text=${server.name} /></a>`
        : html`<strong class="event-actor"><${Foreign} text=${event.actor} />:</strong>`} <${Said} text=${event.message} /></p>
      <p class="event-links muted small"><time datetime=${event.at} title=${moment(event.at)}>${CLOCK.format(new Date(event.at))}</time>
        ${subject && html`<span><${Foreign} text=${event.actor} /></span>`}${server && !subject && html`<a href=${href('server', { id: server.id })}><${Foreign} text=${server.name} /></a>`}${worker && !subject && !named(worker) && html`<a href=${href('machine', { id: worker.id })}><${Foreign} text=${worker.name} /></a>`}
        <code>${visible(event.kind)}</code>${event.data?.peer && html`<span>from <bdi>${visible(event.data.peer)}</bdi></span>`}</p>
      ${changed.length > 0 && html`<ul class="changes">${changed.map((one) => html`<li key=${one.name}><code>${visible(one.name)}</code> ${one.before !== null && html`<del><bdi>${visible(one.before)}</bdi></del> <span aria-hidden="true">→</span><span class="offscreen">is now</span> `}<ins><bdi>${visible(one.after)}</bdi></ins></li>`)}</ul>`}
    </div>
    <span class="event-ago muted small"><${Ago} at=${event.at} /></span>
  </li>`;
});
