// Requests to the host. What it refuses becomes an ApiError with its own words: `detail`, `hint`,
// and the `field` at fault.

export class ApiError extends Error {
  constructor(problem, status) {
    super(problem.detail ?? problem.title ?? `the host answered ${status}`);
    this.name = 'ApiError';
    this.status = status;
    this.kind = problem.type ?? 'internal';
    this.detail = this.message;
    this.hint = problem.hint ?? null;
    this.field = problem.field ?? null;
    this.retryAfter = problem.retry_after ?? null;
    this.instance = problem.instance ?? null;
  }
}

const UNREACHABLE = { type: 'unreachable', detail: 'the host does not answer', hint: 'look whether it runs and this device is still in its network' };

let onUnauthenticated = () => {};
/** Who is told when the host no longer knows this session. */
export function whenSignedOut(callback) {
  onUnauthenticated = callback;
}

// How far the host's clock is ahead of this device's, in milliseconds. Times of the fleet are shown
// against it; they decide nothing.
let skew = 0;
export const hostNow = () => Date.now() + skew;

/** One request; resolves to the parsed body (null without one). */
export async function request(method, path, body, { signal, headers = {}, quiet = false } = {}) {
  const init = { method, signal, headers: { accept: 'application/json', ...headers }, credentials: 'same-origin', cache: 'no-store' };
  if (body !== undefined) {
    init.headers['content-type'] = 'application/json';
    init.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(UNREACHABLE, 0);
  }
  const date = Date.parse(response.headers.get('date') ?? '');
  // The header counts whole seconds: in between are half of one.
  if (!Number.isNaN(date) && Math.abs(date + 500 - hostNow()) > 1500) skew = date + 500 - Date.now();
  const text = await response.text();
  const kind = response.headers.get('content-type') ?? '';
  let value = null;
  if (text && kind.includes('json')) {
    try {
      value = JSON.parse(text);
    } catch {
      throw new ApiError({ type: 'bad-answer', detail: 'the host’s answer can not be read' }, response.status);
    }
  }
  if (!response.ok) {
    const error = new ApiError(value ?? { detail: `the host answered ${response.status}` }, response.status);
    const retry = Number(response.headers.get('retry-after'));
    if (error.retryAfter === null && retry > 0) error.retryAfter = retry;
    if (error.status === 401 && !quiet) onUnauthenticated(error);
    throw error;
  }
  return value;
}

export const api = {
  get: (path, options) => request('GET', path, undefined, options),
  post: (path, body, options) => request('POST', path, body, options),
  put: (path, body, options) => request('PUT', path, body, options),
  patch: (path, body, options) => request('PATCH', path, body, options),
  delete: (path, options) => request('DELETE', path, undefined, options),
};

/** All pages of a list, up to a number that no home has. */
export async function all(path, options) {
  const items = [];
  let cursor = null;
  for (let page = 0; page < 20; page++) {
    const join = path.includes('?') ? '&' : '?';
    const answer = await api.get(cursor ? `${path}${join}cursor=${encodeURIComponent(cursor)}` : path, options);
    items.push(...answer.items);
    cursor = answer.next ?? null;
    if (!cursor) break;
  }
  return items;
}

/** A path from its parts: `path('server', id, 'log')`. */
export const path = (...parts) => `/${parts.map((part) => encodeURIComponent(part)).join('/')}`;

/** A fresh text for the header Idempotency-Key. */
export function idempotencyKey() {
  // Outside of a secure context (http over the LAN) there is no randomUUID.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
