// What the feed has told so far, as a value: each message makes the next one. No socket in here.

/** Events that are kept in the page; older ones are asked for. */
export const EVENTS_MAX = 500;

export const EMPTY = Object.freeze({
  /** Whether a snapshot has come at all. */
  ready: false,
  /** `connecting`, `live` or `lost`. */
  link: 'connecting',
  /** When the present word on the link began, and when the next try is due. */
  since: 0,
  retryAt: null,
  epoch: null,
  seq: null,
  servers: new Map(),
  workers: new Map(),
  services: new Map(),
  /** Newest first. */
  events: [],
});

const KINDS = { server: 'servers', worker: 'workers', service: 'services' };

/** Applies one message of the host. What it does not know it leaves alone: a newer host may say more. */
export function apply(state, message) {
  switch (message.type) {
    case 'hello':
      // Of another epoch a snapshot follows; until then what there is stays to be seen.
      return { ...state, epoch: message.epoch };
    case 'snapshot':
      return {
        ...state,
        ready: true,
        seq: message.seq,
        servers: keyed(message.servers, 'id'),
        workers: keyed(message.workers, 'id'),
        services: keyed(message.services, 'name'),
        events: merged([], message.events ?? []),
      };
    case 'delta':
      return delta(state, message);
    default:
      return state;
  }
}

function keyed(items, key) {
  return new Map((items ?? []).map((item) => [item[key], item]));
}

function delta(state, { seq, changes }) {
  const next = { ...state, seq };
  const events = [];
  for (const { kind, id, value } of changes ?? []) {
    if (kind === 'event') {
      if (value) events.push(value);
      continue;
    }
    const part = KINDS[kind];
    if (!part) continue;
    // Each part is copied once, and the untouched values stay the same objects: rows see by that.
    if (next[part] === state[part]) next[part] = new Map(state[part]);
    if (value === null || value === undefined) next[part].delete(id);
    else next[part].set(id, value);
  }
  if (events.length) next.events = merged(state.events, events);
  return next;
}

/** Both lists as one, newest first, none twice. */
export function merged(old, fresh) {
  const byId = new Map();
  for (const event of [...fresh, ...old]) if (!byId.has(event.id)) byId.set(event.id, event);
  return [...byId.values()].sort((a, b) => b.id - a.id).slice(0, EVENTS_MAX);
}

/** Where to go on after the connection was lost. */
export function resumeQuery(state) {
  return state.epoch && state.seq !== null && state.ready ? `?epoch=${encodeURIComponent(state.epoch)}&since=${state.seq}` : '';
}

const BACKOFF_MIN = 500;
const BACKOFF_MAX = 10_000;

/** Milliseconds until the next try: doubled each time, and somewhere in the upper half, so that a
 * hundred consoles do not come back in the same instant. `random` is 0 to 1. */
export function backoff(tries, random) {
  const most = Math.min(BACKOFF_MAX, BACKOFF_MIN * 2 ** Math.min(tries, 10));
  return Math.round(most / 2 + (most / 2) * random);
}
