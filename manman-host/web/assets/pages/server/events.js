// What happened to this server, newest first, and what happens now.

import { Ago, Button, Empty, ErrorNote, Foreign, Icon, Loading, Section, api, href, html, memo, moment, useEffect, useMemo, useRef, useState, useStore } from '../../ui/index.js';
import { visible } from '../../format.js';
import { changes, look } from '../../events.js';

const PAGE = 50;

export function Events({ server }) {
  const live = useStore((state) => state.events);
  const [past, set] = useState({ items: [], next: null, loading: true, error: null });
  const here = useRef(true);
  const load = async (cursor) => {
    set((old) => ({ ...old, loading: true, error: null }));
    const asked = new URLSearchParams({ server_id: server.id, limit: String(PAGE) });
    if (cursor) asked.set('cursor', cursor);
    try {
      const page = await api.get(`/event?${asked}`);
      if (here.current) set((old) => ({ items: cursor ? [...old.items, ...page.items] : page.items, next: page.next ?? null, loading: false, error: null }));
    } catch (error) {
      if (here.current) set((old) => ({ ...old, loading: false, error }));
    }
  };
  useEffect(() => {
    here.current = true;
    load(null);
    return () => void (here.current = false);
  }, [server.id]);
  const list = useMemo(() => {
    const byId = new Map(past.items.map((event) => [event.id, event]));
    const oldest = past.items.at(-1)?.id ?? Infinity;
    for (const event of live) if (event.server_id === server.id && (event.id > oldest || !past.next)) byId.set(event.id, event);
    return [...byId.values()].sort((a, b) => b.id - a.id);
  }, [past.items, past.next, live]);
  return html`<${Section} title="Events" actions=${html`<a class="button quiet small" href=${href('activity', {}, { server: server.id })}>In the activity</a>`}>
    ${past.error && html`<${ErrorNote} error=${past.error} retry=${() => load(past.next)} />`}
    ${list.length
      ? html`<ol class="events">${list.map((event) => html`<${Row} key=${event.id} event=${event} />`)}</ol>`
      : past.loading
        ? html`<${Loading} lines=${5} />`
        : !past.error && html`<${Empty} icon="activity" title="Nothing has happened yet" />`}
    ${past.next && html`<div class="more"><${Button} busy=${past.loading} onClick=${() => load(past.next)}>Older<//></div>`}
  <//>`;
}

const Row = memo(function Row({ event }) {
  const { tone, icon } = look(event);
  const changed = changes(event.data);
  return html`<li class="event" data-tone=${tone}>
    <span class="event-mark"><${Icon} name=${icon} size=${16} /></span>
    <div class="event-body">
      <p><strong class="event-actor"><${Foreign} text=${event.actor} /></strong> <bdi>${visible(event.message)}</bdi></p>
      <p class="event-links muted small"><time datetime=${event.at}>${moment(event.at)}</time><code>${visible(event.kind)}</code></p>
      ${changed.length > 0 && html`<ul class="changes">${changed.map((one) => html`<li key=${one.name}><code>${visible(one.name)}</code> <del><bdi>${visible(one.before)}</bdi></del> <span aria-hidden="true">→</span><span class="offscreen">is now</span> <ins><bdi>${visible(one.after)}</bdi></ins></li>`)}</ul>`}
    </div>
    <span class="event-ago muted small"><${Ago} at=${event.at} /></span>
  </li>`;
});
