// The lines that somebody has typed into a console, for as long as the tab is open.

export const KEPT = 200;

export class Typed {
  #storage;
  #key;
  #at = null;
  #draft = '';

  /** `storage` is a sessionStorage; what it refuses is remembered by the page alone. */
  constructor(storage, server) {
    this.#storage = storage;
    this.#key = `manman.typed.${server}`;
    this.lines = [];
    try {
      const kept = JSON.parse(storage?.getItem(this.#key) ?? '[]');
      if (Array.isArray(kept)) this.lines = kept.filter((line) => typeof line === 'string').slice(-KEPT);
    } catch {
      // Somebody else's words under this name.
    }
  }

  /** Remembers a line; one that is typed again moves to the end. */
  add(line) {
    this.#at = null;
    this.lines = [...this.lines.filter((one) => one !== line), line].slice(-KEPT);
    try {
      this.#storage?.setItem(this.#key, JSON.stringify(this.lines));
    } catch {
      // Full, or forbidden.
    }
  }

  /** The line before, or after, the one shown; null where there is none. `now` is what stands there. */
  before(now) {
    if (this.#at === null) {
      this.#draft = now;
      this.#at = this.lines.length;
    }
    if (this.#at === 0) return null;
    this.#at -= 1;
    return this.lines[this.#at];
  }

  after() {
    if (this.#at === null) return null;
    this.#at += 1;
    if (this.#at < this.lines.length) return this.lines[this.#at];
    this.#at = null;
    return this.#draft;
  }

  /** Somebody writes: the next step back begins at the newest line again. */
  reset() {
    this.#at = null;
  }
}
