// The one WebSocket by which the console hears what happens, and what it has heard so far.

import { signal } from './signal.js';
import { EMPTY, apply, backoff, resumeQuery } from './store.js';
import { expire, look } from './session.js';

/** What the fleet is, see store.js. */
export const store = signal(EMPTY);

// The host says something each 15 s once it has said `ping`; twice that without a word is a dead line.
const SILENCE = 30_000;
const REVOKED = 4401;

let socket = null;
let timer = null;
let silence = null;
let tries = 0;
let running = false;

/** Begins to listen, once somebody is signed in. */
export function open() {
  if (running) return;
  running = true;
  tries = 0;
  connect();
}

/** Ends it and forgets what was seen: the next person may see less. */
export function close() {
  running = false;
  clearTimeout(timer);
  clearTimeout(silence);
  socket?.close();
  socket = null;
  store.set(EMPTY);
}

/** Tries now instead of when the next try is due. */
export function retryNow() {
  if (!running || store.get().link === 'live') return;
  clearTimeout(timer);
  connect();
}

function connect() {
  clearTimeout(timer);
  drop();
  const url = new URL(`/feed${resumeQuery(store.get())}`, location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  const own = new WebSocket(url);
  let beats = false;
  socket = own;
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(() => lost(own), SILENCE);
  };
  // A socket that never opens is given up, too.
  listen();
  own.onmessage = ({ data }) => {
    if (own !== socket || typeof data !== 'string') return;
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return; // A frame that is no JSON is no frame of ours.
    }
    if (message.type === 'ping') beats = true;
    let next = apply(store.get(), message);
    if (message.type === 'hello' || message.type === 'snapshot' || next.link !== 'live') {
      next = { ...next, link: 'live', since: Date.now(), retryAt: null };
      tries = 0;
    }
    store.set(next);
    if (beats) listen();
    else clearTimeout(silence);
  };
  own.onclose = ({ code }) => {
    if (own !== socket) return;
    if (code === REVOKED) {
      running = false;
      socket = null;
      clearTimeout(silence);
      expire();
      return;
    }
    lost(own);
  };
}

function drop() {
  const old = socket;
  socket = null;
  if (old) {
    old.onmessage = null;
    old.onclose = null;
    old.close();
  }
  clearTimeout(silence);
}

function lost(own) {
  if (own !== socket || !running) return;
  drop();
  const wait = backoff(tries, Math.random());
  tries += 1;
  const before = store.get();
  const now = Date.now();
  store.set({ ...before, link: 'lost', since: before.link === 'live' ? now : before.since || now, retryAt: now + wait });
  timer = setTimeout(connect, wait);
  // A browser does not tell why a WebSocket was refused; a session that is over is told by this.
  if (tries > 1) look().catch(() => {});
}

addEventListener('online', retryNow);
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && store.get().link === 'lost') retryNow();
});
