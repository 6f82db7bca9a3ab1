// The stream of a server's log, which comes back by itself and goes on after the last line it had.

import { backoff } from '../store.js';
import { lastSeq } from './record.js';

/** Lines at the end that one begins with. */
export const TAIL = 2000;
/** A stream that brought something for this long was no failed try. */
const STEADY_MS = 5000;

/**
 * `onChunk(bytes)`, `onGap(from, to)` and `onState(state)` are told; states are `connecting`, `live`,
 * `lost` (it tries again), `away` (the worker is), and, for good, `gone` and `revoked`.
 */
export class LogStream {
  #server;
  #tell;
  #socket = null;
  #timer = null;
  #tries = 0;
  #since = null;
  #held = false;
  #closed = false;
  #opened = 0;
  #over = false;

  constructor(server, tell) {
    this.#server = server;
    this.#tell = tell;
  }

  /** From the last lines on, or from after `since`. */
  open(since = null) {
    this.#since = since;
    this.#held = false;
    this.#tries = 0;
    this.#tell.onState('connecting');
    this.#connect();
  }

  close() {
    this.#closed = true;
    this.#drop();
  }

  /** Reads nothing for now: the lines wait on the worker's disk. */
  hold() {
    if (this.#held || this.#closed) return;
    this.#held = true;
    this.#drop();
  }

  release() {
    if (!this.#held || this.#closed) return;
    this.#held = false;
    this.#connect();
  }

  get held() {
    return this.#held;
  }

  retryNow() {
    if (this.#socket || this.#held || this.#closed || this.#over) return;
    this.#tries = 0;
    this.#connect();
  }

  #drop() {
    clearTimeout(this.#timer);
    const old = this.#socket;
    this.#socket = null;
    if (!old) return;
    old.onmessage = null;
    old.onclose = null;
    old.onopen = null;
    old.close();
  }

  #connect() {
    this.#drop();
    if (this.#closed) return;
    const url = new URL(`/server/${encodeURIComponent(this.#server)}/log/stream`, location.href);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    url.searchParams.set('format', 'chunk');
    if (this.#since === null) url.searchParams.set('tail', String(TAIL));
    else url.searchParams.set('since_seq', String(this.#since));
    const own = new WebSocket(url);
    own.binaryType = 'arraybuffer';
    this.#socket = own;
    this.#opened = 0;
    let end = null;
    own.onopen = () => {
      this.#opened = performance.now();
      this.#tell.onState('live');
    };
    own.onmessage = ({ data }) => {
      if (typeof data !== 'string') {
        const bytes = new Uint8Array(data);
        const last = lastSeq(bytes);
        if (last > (this.#since ?? 0)) this.#since = last;
        this.#tell.onChunk(bytes);
        return;
      }
      const message = parse(data);
      if (message?.type === 'gap') {
        if (message.to_seq > (this.#since ?? 0)) this.#since = message.to_seq;
        this.#tell.onGap(message.from_seq, message.to_seq);
      } else if (message?.type === 'end') end = message.reason;
    };
    own.onclose = () => {
      if (own !== this.#socket) return;
      this.#socket = null;
      if (this.#opened && performance.now() - this.#opened > STEADY_MS) this.#tries = 0;
      if (end === 'server-gone' || end === 'revoked') {
        this.#over = true;
        this.#tell.onState(end === 'revoked' ? 'revoked' : 'gone');
        return;
      }
      this.#tell.onState(end === 'worker-gone' ? 'away' : 'lost');
      this.#timer = setTimeout(() => this.#connect(), backoff(this.#tries, Math.random()));
      this.#tries += 1;
    };
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // No message of ours.
  }
}
