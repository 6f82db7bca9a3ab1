// The log on the page: of a hundred thousand rows only those in sight are elements. Made by hand
// instead of with Preact, since all of them may change sixty times a second.

import { elementsIn } from './elements.js';
import { CLAMP, Layout } from './layout.js';
import { GAP, LogModel } from './model.js';
import { plain } from './sgr.js';
import { highlight, rowElement } from './row.js';
import { LogSelection } from './select.js';

/** Lines drawn above and below of what is seen. */
const OVERSCAN = 12;
/** So near to the loaded end more is fetched. */
const NEAR_ROWS = 300;
/** Time of a frame for taking in new lines. */
const TAKE_MS = 8;
/** What waits to be taken in; beyond, the stream is held and the lines wait on the worker's disk. */
const QUEUE_MAX = 4 * 1024 * 1024;
/** While lines pour in, nobody reads single frames. */
const FLOOD_FRAME_MS = 80;
const FLOOD_LINES = 400;
/** Of the time in a flood, at most one part in so many is spent on drawing. */
const FLOOD_REST = 6;
/** Smallest distance from the end that counts as being there, in lines. */
const AT_END = 1.5;
const TOLD_EVERY_MS = 200;
/** Characters that are each one column wide. */
const PLAIN = /^[\x20-\x7e]*$/;


export class LogView {
  /**
   * `element` becomes the place of the log. `hooks`: `changed(state)`, `older(seq)` and `newer(seq)`,
   * which resolve to a chunk, `hold()` and `release()` of the stream, `restart()`: from the last
   * lines on.
   */
  constructor(element, hooks) {
    this.model = new LogModel();
    this.layout = new Layout(this.model);
    this.hooks = hooks;
    this.follow = true;
    this.wrap = true;
    this.times = false;
    this.expression = null;
    this.current = null;
    this.expanded = new Set();
    this.drawn = new Map();
    this.queue = [];
    this.queued = 0;
    this.anchor = null;
    this.lineHeight = 18;
    this.charWidth = 8;
    this.dirty = true;
    this.loading = { older: false, newer: false };
    this.newLines = 0;
    this.lastDraw = 0;
    this.cost = 0;
    this.lastTold = 0;
    this.end = new AbortController();
    Object.assign(this, elementsIn(element));
    this.selection = new LogSelection(this.scroller, this.space, {
      rows: () => [this.model.firstRow, this.model.endRow],
      textOf: (row) => this.#shown(row),
      // Whoever selects, reads.
      begun: () => this.#leaveEnd(),
      changed: () => this.#wake(),
      signal: this.end.signal,
    });
    this.#listen();
  }

  #listen() {
    const options = { signal: this.end.signal, passive: true };
    const { scroller } = this;
    scroller.addEventListener('scroll', () => this.#scrolled(), options);
    // What a person does counts at once, before the next frame could scroll back to the end.
    scroller.addEventListener('wheel', ({ deltaY }) => deltaY < 0 && this.#leaveEnd(), options);
    scroller.addEventListener('touchmove', () => this.#leaveEnd(), options);
    // The scroll bar is part of no row.
    scroller.addEventListener('pointerdown', (event) => event.target === scroller && this.#leaveEnd(), options);
    scroller.addEventListener('keydown', (event) => this.#key(event), { signal: this.end.signal });
    scroller.addEventListener('click', (event) => this.#click(event), options);
    document.addEventListener('visibilitychange', () => this.#wake(), options);
    this.resize = new ResizeObserver(() => {
      this.#measure();
      this.#wake();
    });
    this.resize.observe(scroller);
    this.#measure();
  }

  destroy() {
    this.end.abort();
    this.resize.disconnect();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.later);
    this.scroller.remove();
    highlight([], null);
  }

  #measure() {
    const box = this.probe.getBoundingClientRect();
    if (box.width === 0) return;
    this.charWidth = box.width / 100;
    this.lineHeight = box.height;
    this.#setWrap();
  }

  #setWrap() {
    const gutter = 16 + (this.times ? 10 * this.charWidth : 0);
    const columns = this.wrap ? Math.max(8, Math.floor((this.scroller.clientWidth - gutter) / this.charWidth)) : 0;
    if (!this.layout.wrap(columns)) return;
    this.#redraw();
  }

  /** Options: `wrap`, `times`, `expression`. */
  set(options) {
    const { wrap = this.wrap, times = this.times } = options;
    if ('expression' in options) this.expression = options.expression;
    this.wrap = wrap;
    this.times = times;
    this.scroller.classList.toggle('log-wrap', wrap);
    this.scroller.classList.toggle('log-times', times);
    this.#setWrap();
    this.#redraw();
  }

  #redraw() {
    for (const element of this.drawn.values()) element.remove();
    this.drawn.clear();
    this.#wake();
  }

  /** Lines from the stream. */
  push(bytes) {
    this.queue.push(bytes);
    this.queued += bytes.length;
    if (this.queued > QUEUE_MAX) this.hooks.hold();
    // A hidden page has no frames, and a full queue would wait for one.
    if (document.hidden && this.queued > QUEUE_MAX / 4) this.#take(Infinity);
    this.#wake();
  }

  gap(from, to) {
    this.queue.push({ from, to });
    this.#wake();
  }

  #wake() {
    this.dirty = true;
    if (this.frame || this.later) return;
    const run = () => {
      this.frame = 0;
      this.later = 0;
      this.#step();
    };
    if (document.hidden) this.later = setTimeout(run, 1000);
    else this.frame = requestAnimationFrame(run);
  }

  #step() {
    if (this.end.signal.aborted) return;
    const before = performance.now();
    const added = this.#take(TAKE_MS);
    this.flood = (this.flood ?? 0) * 0.8 + added;
    const due = this.flood < FLOOD_LINES || before - this.lastDraw > Math.max(FLOOD_FRAME_MS, this.cost * FLOOD_REST);
    if (this.dirty && due && !document.hidden) {
      this.dirty = false;
      this.lastDraw = before;
      this.#draw();
      this.cost = performance.now() - before;
    }
    if (this.queue.length || this.dirty) this.#wake();
    this.#tell();
  }

  #take(budget) {
    const begun = performance.now();
    let added = 0;
    while (this.queue.length && performance.now() - begun < budget) {
      const item = this.queue.shift();
      if (item instanceof Uint8Array) {
        this.queued -= item.length;
        const keep = this.follow ? Infinity : (this.anchor?.row ?? this.model.firstRow) - 200;
        const latest = this.model.latest;
        added += this.model.append(item, keep);
        if (!this.follow && latest > 0) this.newLines += Math.max(0, this.model.latest - latest);
      } else this.model.gap(item.from, item.to);
    }
    if (this.queued < QUEUE_MAX / 4) this.hooks.release();
    return added;
  }

  /** Tells what has changed, not more often than anybody could see. */
  #tell(now = false) {
    const time = performance.now();
    clearTimeout(this.telling);
    // The first line at once: until it is told of, the place says that it is empty.
    const first = this.model.count > 0 && !this.toldSome;
    if (!now && !first && time - this.lastTold < TOLD_EVERY_MS) {
      this.telling = setTimeout(() => this.#tell(true), TOLD_EVERY_MS);
      return;
    }
    this.lastTold = time;
    this.toldSome = this.model.count > 0;
    if (this.end.signal.aborted) return;
    const { model } = this;
    this.hooks.changed({
      follow: this.follow,
      count: model.count,
      news: this.follow ? 0 : this.newLines,
      latest: model.latest,
      live: model.live,
      epoch: model.epoch,
      loading: this.loading.older || this.loading.newer,
      marks: model.marks.length,
    });
  }

  #scrolled() {
    const { scroller, layout, lineHeight } = this;
    const top = scroller.scrollTop;
    if (Math.abs(top - this.expectedTop) >= 1) {
      const { row, above } = layout.at(top / lineHeight);
      this.anchor = { row, offset: above * lineHeight };
      const left = scroller.scrollHeight - scroller.clientHeight - top;
      const atEnd = left < AT_END * lineHeight;
      if (atEnd && this.model.live && !this.follow) this.#setFollow(true);
      else if (!atEnd && this.follow) this.#setFollow(false);
    }
    this.expectedTop = top;
    this.#wake();
  }

  #leaveEnd() {
    if (!this.follow) return;
    const { scroller, layout, lineHeight } = this;
    if (scroller.scrollHeight <= scroller.clientHeight) return;
    const { row, above } = layout.at(scroller.scrollTop / lineHeight);
    this.anchor = { row, offset: above * lineHeight };
    this.#setFollow(false);
  }

  #setFollow(follow) {
    if (this.follow === follow) return;
    this.follow = follow;
    this.newLines = 0;
    this.#wake();
    this.#tell(true);
  }

  /** To the newest line, and on with those that follow. */
  toEnd() {
    this.newLines = 0;
    if (!this.model.live) {
      this.clear();
      this.hooks.restart();
    }
    this.anchor = null;
    this.follow = true;
    this.#wake();
    this.#tell(true);
  }

  /** To the oldest line that is kept. */
  async toStart() {
    if (!this.model.atStart) {
      try {
        this.place(null, await this.hooks.first());
      } catch {
        return; // The stream's state says what is wrong.
      }
      this.model.atStart = true;
    }
    this.reveal(this.model.firstRow, false);
  }

  clear() {
    this.model.clear();
    this.expanded.clear();
    this.queue = [];
    this.queued = 0;
    this.anchor = null;
    this.current = null;
    this.#redraw();
  }

  /** Shows the window around a line that is not in it: `older` and `newer` are pages beside it. */
  place(older, newer) {
    const { latest } = this.model;
    this.clear();
    this.model.latest = latest;
    this.model.live = false;
    this.follow = false;
    if (older) this.model.appendPage(older, this.model.firstRow);
    this.model.appendPage(newer, this.model.firstRow);
  }

  /** Brings a row to the middle; `mark` lets it stand out. */
  reveal(row, mark = true) {
    const { scroller, layout, lineHeight } = this;
    this.follow = false;
    this.newLines = 0;
    const middle = layout.top(row) * lineHeight - Math.max(0, (scroller.clientHeight - lineHeight) / 2);
    const { row: first, above } = layout.at(Math.max(0, middle) / lineHeight);
    this.anchor = { row: first, offset: middle > 0 ? above * lineHeight : 0 };
    if (mark) this.current = row;
    for (const [number, element] of this.drawn) element.classList.toggle('log-current', number === this.current);
    this.#wake();
    this.#tell(true);
  }

  /** The first row that is in sight. */
  get topRow() {
    return this.layout.at(this.scroller.scrollTop / this.lineHeight).row;
  }

  #draw() {
    const { model, layout, scroller, lineHeight } = this;
    if (scroller.clientHeight === 0) return;
    const height = scroller.clientHeight;
    let total = layout.total;
    let top;
    if (this.follow) top = Math.max(0, total * lineHeight - height);
    else {
      this.anchor ??= { row: model.firstRow, offset: 0 };
      if (this.anchor.row < model.firstRow) this.anchor = { row: model.firstRow, offset: 0 };
      if (this.anchor.row >= model.endRow && model.count) this.anchor = { row: model.endRow - 1, offset: 0 };
      top = Math.min(layout.top(this.anchor.row) * lineHeight + this.anchor.offset, Math.max(0, total * lineHeight - height));
    }
    // Twice where the first drawing has shown that rows are of other heights than was guessed.
    for (let round = 0; round < 3; round += 1) {
      const changed = this.#rows(top, height);
      if (!changed) break;
      total = layout.total;
      if (this.follow) top = Math.max(0, total * lineHeight - height);
      else top = Math.min(layout.top(this.anchor.row) * lineHeight + this.anchor.offset, Math.max(0, total * lineHeight - height));
    }
    const tall = `${Math.max(total * lineHeight, 1)}px`;
    if (this.tall !== tall) {
      this.tall = tall;
      this.space.style.height = tall;
    }
    const rows = [...this.drawn.keys()].sort((a, b) => a - b);
    let at = NaN;
    let expected = NaN;
    for (const row of rows) {
      const y = row === expected ? at : layout.top(row);
      const element = this.drawn.get(row);
      const px = `${y * lineHeight}px`;
      if (element.style.top !== px) element.style.top = px;
      at = y + layout.height(row);
      expected = row + 1;
    }
    if (Math.abs(scroller.scrollTop - top) >= 0.5) scroller.scrollTop = top;
    this.expectedTop = scroller.scrollTop;
    highlight(this.drawn.values(), this.expression);
    this.#fetch();
  }

  /** Makes the rows around a place; answers whether heights turned out to be others. */
  #rows(top, height) {
    const { model, layout, space, lineHeight, drawn } = this;
    const wanted = new Set();
    if (model.count) {
      const over = this.flood > FLOOD_LINES ? 1 : OVERSCAN;
      const first = layout.at(Math.max(0, top / lineHeight - over)).row;
      let covered = layout.top(first) * lineHeight;
      const until = top + height + over * lineHeight;
      for (let row = first; row < model.endRow && covered < until; row += 1) {
        wanted.add(row);
        covered += layout.height(row) * lineHeight;
      }
      // The ends of a selection stay, so that the browser does not lose it.
      for (const row of this.selection.pins) if (row >= model.firstRow && row < model.endRow) wanted.add(row);
    }
    for (const [row, element] of drawn) {
      if (wanted.has(row)) continue;
      element.remove();
      drawn.delete(row);
    }
    const fresh = [];
    let cursor = space.firstChild;
    for (const row of [...wanted].sort((a, b) => a - b)) {
      let element = drawn.get(row);
      if (!element) {
        element = this.#element(row);
        element.style.top = `${layout.top(row) * lineHeight}px`;
        drawn.set(row, element);
        fresh.push([row, element]);
      }
      if (element === cursor) cursor = cursor.nextSibling;
      else space.insertBefore(element, cursor);
    }
    if (!layout.wraps) return false;
    let changed = false;
    for (const [row, element] of fresh) {
      // Asking for a height makes the browser lay out: of a short plain line it is known.
      const text = element.textContent;
      const lines = text.length < layout.columns && PLAIN.test(text) ? 1 : Math.round(element.offsetHeight / lineHeight);
      if (layout.correct(row, lines)) changed = true;
    }
    return changed;
  }

  #element(row) {
    return rowElement(this.model.row(row), () => this.model.text(row), {
      times: this.times,
      current: row === this.current,
      most: this.expanded.has(row) ? Infinity : CLAMP,
    });
  }

  #click({ target }) {
    if (!target.classList.contains('log-more')) return;
    const row = Number(target.closest('[data-row]').dataset.row);
    this.#leaveEnd();
    this.expanded.add(row);
    this.drawn.get(row)?.remove();
    this.drawn.delete(row);
    this.#wake();
  }

  /** Asks for lines beside the window where somebody comes near its ends. */
  #fetch() {
    const { model, loading, drawn } = this;
    if (!drawn.size || !model.count) return;
    const sight = [...drawn.keys()].filter((row) => !this.selection.pins.includes(row));
    const first = Math.min(...sight);
    const last = Math.max(...sight);
    if (!model.atStart && !loading.older && !(this.follow && this.flood > FLOOD_LINES) && first - model.firstRow < NEAR_ROWS) this.#older();
    if (!model.live && !loading.newer && model.endRow - last < NEAR_ROWS) this.#newer();
  }

  async #older() {
    const seq = this.model.firstSeq;
    const { epoch } = this.model;
    if (Number.isNaN(seq) || seq <= 1) {
      this.model.atStart = true;
      return;
    }
    // Nobody looks up there: one page is enough.
    if (this.follow && this.model.count >= 500) return;
    this.loading.older = true;
    try {
      const page = await this.hooks.older(seq);
      if (this.end.signal.aborted || (epoch !== this.model.epoch && this.model.firstSeq !== seq)) return;
      if (this.model.prepend(page, this.follow ? Infinity : this.topRow + 400) === 0) this.model.atStart = true;
    } catch {
      // Whoever scrolls on tries again; meanwhile the state of the stream says what is wrong.
      await new Promise((resolve) => setTimeout(resolve, 2000));
    } finally {
      this.loading.older = false;
      this.#wake();
    }
  }

  async #newer() {
    const seq = this.model.lastSeq;
    this.loading.newer = true;
    try {
      const page = await this.hooks.newer(seq);
      if (this.end.signal.aborted || this.model.lastSeq !== seq || this.model.live) return;
      const added = this.model.appendPage(page, this.topRow - 400);
      // The worker has nothing more: what the stream told of in between is no longer kept.
      if (added === 0 && !this.model.live) {
        this.model.live = true;
        this.model.gap(seq + 1, this.model.latest);
      }
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 2000));
    } finally {
      this.loading.newer = false;
      this.#wake();
    }
  }

  #shown(row) {
    const known = this.model.row(row);
    if (!known) return null;
    return known.letter === GAP ? `[${known.missing} lines are missing]` : plain(this.model.text(row));
  }

  #key(event) {
    if (event.target !== this.scroller) return;
    const command = event.ctrlKey || event.metaKey;
    if (command && event.key.toLowerCase() === 'a') {
      event.preventDefault();
      this.selection.selectAll();
      return;
    }
    if (event.key === 'Home') {
      event.preventDefault();
      this.toStart();
    } else if (event.key === 'End') {
      event.preventDefault();
      this.toEnd();
    } else if (['ArrowUp', 'PageUp'].includes(event.key) || (event.key === ' ' && event.shiftKey)) this.#leaveEnd();
  }
}
