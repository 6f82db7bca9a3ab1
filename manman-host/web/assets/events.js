// What has happened, as it is shown: kinds in words, and what changed from what to what.

/** Kinds in groups, for the filter: a kind that ends in a dot stands for all that begin so. */
export const GROUPS = [
  { value: '', label: 'Everything' },
  { value: 'server.', label: 'Servers' },
  { value: 'worker.', label: 'Machines' },
  { value: 'login', label: 'Sign-ins' },
  { value: 'account.', label: 'People' },
  { value: 'token.', label: 'Tokens' },
];

export const matches = (event, { kind, server, worker, word }) =>
  (!kind || event.kind === kind || (kind.endsWith('.') ? event.kind.startsWith(kind) : event.kind.startsWith(`${kind}.`))) &&
  (!server || event.server_id === server) &&
  (!worker || event.worker_id === worker) &&
  (!word || `${event.actor} ${event.kind} ${event.message}`.toLowerCase().includes(word));

const TONES = [
  [/\.(crashed|failed|hung|kill_attempt|unknown|registration_refused)$|login\.(failed|refused|throttled)/, 'bad', 'warn'],
  [/\.(backoff|kill|orphaned|pending|deleted|purged)$/, 'warn', 'warn'],
  [/\.(ready|started|alive|joined|accepted|adopted)$/, 'good', 'check'],
];

/** The colour and picture of an event. */
export function look(event) {
  const found = TONES.find(([pattern]) => pattern.test(event.kind));
  if (found) return { tone: found[1], icon: found[2] };
  if (event.kind.startsWith('login') || event.kind.startsWith('token') || event.kind.startsWith('account')) return { tone: 'off', icon: 'key' };
  if (event.kind.startsWith('worker')) return { tone: 'off', icon: 'machine' };
  return { tone: 'off', icon: 'activity' };
}

/** Whether a person did it, and not a machine. */
export const byPerson = (event) => event.actor !== 'host' && !event.actor.startsWith('worker ');

// Of something new these say nothing that the sentence and its time do not.
const DULL = new Set(['id', 'created_at', 'updated_at', 'token_id', 'account_id', 'asked']);

/** What changed: `{name, before, after}` as text; `before` is null where it is new as a whole. */
export function changes(data) {
  if (!isMap(data?.after)) return [];
  const fresh = !isMap(data.before);
  const before = flat(data.before);
  const after = flat(data.after);
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .filter((name) => !DULL.has(name))
    .map((name) => ({ name, before: fresh ? null : text(before[name]), after: text(after[name]) }))
    .filter((one) => one.before !== one.after && !(fresh && one.after === '–'))
    .slice(0, 50);
}

const isMap = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);

/** One level of maps within is told by each of its names: `variables.MAP`. */
function flat(map) {
  const out = {};
  for (const [name, value] of Object.entries(isMap(map) ? map : {})) {
    if (isMap(value)) for (const [inner, one] of Object.entries(value)) out[`${name}.${inner}`] = one;
    else out[name] = value;
  }
  return out;
}

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z$/;

function text(value) {
  if (value === undefined || value === null || value === '') return '–';
  if (typeof value === 'string' && TIME.test(value)) return new Date(value).toLocaleString();
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
