// What needs a person, out of what the feed has told.

import { byName } from './format.js';
import { troubleOf } from './phase.js';

let last = { servers: null, workers: null, list: [] };

/**
 * Everything that needs a person, the worst first: `{key, kind: 'server' | 'worker' | 'join', value,
 * text, rank}`. The same list for the same state.
 */
export function troubles(state) {
  if (last.servers === state.servers && last.workers === state.workers) return last.list;
  const list = [];
  for (const worker of state.workers.values()) {
    if (worker.status === 'pending') list.push({ key: worker.id, kind: 'join', value: worker, text: 'asks to join', rank: 0.5 });
    if (worker.status === 'unknown') list.push({ key: worker.id, kind: 'worker', value: worker, text: 'has not been heard of', rank: 0.7 });
  }
  for (const server of state.servers.values()) {
    const trouble = troubleOf(server);
    if (trouble) list.push({ key: server.id, kind: 'server', value: server, ...trouble });
  }
  list.sort((a, b) => a.rank - b.rank || byName(a.value, b.value));
  last = { servers: state.servers, workers: state.workers, list };
  return list;
}
