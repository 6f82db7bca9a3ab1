// A window on a server's log: rows that follow one another, in blocks of bytes.
//
// A row is a line, or the place of lines that are missing. Rows have numbers of their own (`row`),
// which stay while rows are added or dropped at either end; lines have the worker's (`seq`). The
// window holds at most `maxRows` rows and `maxBytes` of text, and is always one piece: what is
// dropped is dropped at an end.
//
// `live` says whether the window's end is the log's end. Where somebody looks at old lines and the
// window is full, it is let go of the end instead of dropping what is looked at: new lines are then
// only counted (`latest`), and read again from the worker when they are wanted.

import { decode } from './utf8.js';
import { MANAGER, eachRecord, lastSeq } from './record.js';

export const MAX_ROWS = 100_000;
export const MAX_BYTES = 32 * 1024 * 1024;
const BLOCK_ROWS = 512;
const BLOCK_BYTES = 128 * 1024;

const CR = 13;
/** Letter of a row that stands for missing lines. */
export const GAP = 0;

const STARTED = /^instance \S+ started/;

class Block {
  constructor(row0, capacity = 4096) {
    this.row0 = row0;
    this.count = 0;
    this.bytes = new Uint8Array(capacity);
    this.used = 0;
    this.seqs = new Float64Array(BLOCK_ROWS);
    this.times = new Float64Array(BLOCK_ROWS);
    this.ends = new Uint32Array(BLOCK_ROWS);
    this.letters = new Uint8Array(BLOCK_ROWS);
    // The layout's: heights of the first `measured` rows in lines, their sum, and what they hold for.
    this.heights = null;
    this.measured = 0;
    this.sum = 0;
    this.stamp = -1;
  }

  fits(length) {
    return this.count < BLOCK_ROWS && (this.count === 0 || this.used + length <= BLOCK_BYTES);
  }

  push(seq, time, letter, source, start, end) {
    const length = end - start;
    if (this.used + length > this.bytes.length) {
      const grown = new Uint8Array(Math.max(this.used + length, Math.min(this.bytes.length * 2, BLOCK_BYTES)));
      grown.set(this.bytes.subarray(0, this.used));
      this.bytes = grown;
    }
    // A short copy by hand is faster than a view on the source for each line.
    if (length < 64) for (let i = 0; i < length; i += 1) this.bytes[this.used + i] = source[start + i];
    else this.bytes.set(source.subarray(start, end), this.used);
    this.used += length;
    const at = this.count;
    this.seqs[at] = seq;
    this.times[at] = time;
    this.letters[at] = letter;
    this.ends[at] = this.used;
    this.count += 1;
  }

  start(at) {
    return at === 0 ? 0 : this.ends[at - 1];
  }
}

const NOTHING = new Uint8Array(0);

export class LogModel {
  constructor({ maxRows = MAX_ROWS, maxBytes = MAX_BYTES } = {}) {
    this.maxRows = maxRows;
    this.maxBytes = maxBytes;
    this.clear();
  }

  /** Forgets all rows. What comes next may begin anywhere. */
  clear() {
    this.blocks = [];
    this.count = 0;
    this.bytes = 0;
    this.nextRow = 0;
    /** Rows of gaps hold how many lines are missing, by row. */
    this.gaps = new Map();
    /** Rows at which an instance of the game began. */
    this.marks = [];
    /** The highest number heard of, whether its line is in the window or not. */
    this.latest = 0;
    this.live = true;
    /** Whether the oldest line that the worker has is in the window. */
    this.atStart = false;
    /** Grows whenever rows were dropped or the whole was cleared. */
    this.epoch = (this.epoch ?? 0) + 1;
  }

  get firstRow() {
    return this.blocks.length ? this.blocks[0].row0 : this.nextRow;
  }

  /** One past the last. */
  get endRow() {
    return this.nextRow;
  }

  /** Number of the oldest line in the window; NaN where there is none. */
  get firstSeq() {
    for (const block of this.blocks) {
      for (let i = 0; i < block.count; i += 1) if (block.letters[i] !== GAP) return block.seqs[i];
    }
    return NaN;
  }

  /** Number up to which the window reaches, missing lines included; 0 where it is empty. */
  get lastSeq() {
    const block = this.blocks.at(-1);
    if (!block) return 0;
    const at = block.count - 1;
    const seq = block.seqs[at];
    return block.letters[at] === GAP ? seq + this.gaps.get(block.row0 + at) - 1 : seq;
  }

  /** How many lines have come that are not in the window. */
  get unseen() {
    return this.live ? 0 : Math.max(0, this.latest - this.lastSeq);
  }

  /**
   * Adds what the stream brought at the end. `keepRow` is the first row that must not be dropped
   * (what somebody looks at); without one, the oldest go. Answers how many rows were added.
   */
  append(chunk, keepRow = Infinity) {
    if (!this.live) {
      const last = lastSeq(chunk);
      if (last > this.latest) this.latest = last;
      return 0;
    }
    const added = this.#add(chunk);
    this.#dropOldest(keepRow);
    return added;
  }

  /** Adds a page that the worker was asked for at the end; what it drops is at the beginning. */
  appendPage(chunk, keepRow = Infinity) {
    const added = this.#add(chunk);
    if (this.lastSeq >= this.latest) this.live = true;
    this.#dropOldest(keepRow);
    return added;
  }

  #add(chunk) {
    let expected = this.lastSeq;
    let added = 0;
    eachRecord(chunk, (seq, time, letter, start, end) => {
      // A stream that is taken up again may repeat what is there.
      if (expected !== 0 && seq <= expected) return;
      if (expected !== 0 && seq > expected + 1) this.#pushGap(expected + 1, seq - expected - 1);
      this.#push(seq, time, letter, chunk, start, end);
      expected = seq;
      added += 1;
    });
    if (expected > this.latest) this.latest = expected;
    return added;
  }

  /** The stream will not bring `from..=to`. */
  gap(from, to) {
    if (to > this.latest) this.latest = to;
    if (!this.live) return;
    const last = this.lastSeq;
    if (last === 0) return; // Nothing before it: it is no gap in what is shown.
    const begin = Math.max(from, last + 1);
    if (to >= begin) this.#pushGap(begin, to - begin + 1);
  }

  #pushGap(from, count) {
    const last = this.blocks.at(-1);
    if (last && last.letters[last.count - 1] === GAP) {
      const row = last.row0 + last.count - 1;
      this.gaps.set(row, this.gaps.get(row) + count);
      return;
    }
    this.gaps.set(this.nextRow, count);
    this.#push(from, NaN, GAP, NOTHING, 0, 0);
  }

  #push(seq, time, letter, source, start, end) {
    // Games of Windows end their lines with a carriage return: it belongs to the line's end.
    if (end > start && source[end - 1] === CR) end -= 1;
    let block = this.blocks.at(-1);
    if (!block || !block.fits(end - start)) {
      if (block) shrink(block);
      block = new Block(this.nextRow);
      this.blocks.push(block);
    }
    block.push(seq, time, letter, source, start, end);
    if (letter === MANAGER && STARTED.test(decode(source, start, Math.min(end, start + 80)))) this.marks.push(this.nextRow);
    this.nextRow += 1;
    this.count += 1;
    this.bytes += end - start;
  }

  /**
   * Adds older lines in front, as a page of the worker's brought them. `keepRow` is the last row
   * that must not be dropped. Answers how many rows were added.
   */
  prepend(chunk, keepRow = -Infinity) {
    const first = this.firstSeq;
    const page = new LogModel({ maxRows: Infinity, maxBytes: Infinity });
    page.#add(Number.isNaN(first) ? chunk : before(chunk, first));
    if (page.count === 0) return 0;
    const missing = Number.isNaN(first) ? 0 : first - page.lastSeq - 1;
    if (missing > 0) page.#pushGap(page.lastSeq + 1, missing);
    // A gap that stood in front of the first line is described anew by the page.
    this.#dropLeadingGap();
    const shift = this.firstRow - page.count;
    for (const block of page.blocks) {
      shrink(block);
      block.row0 += shift;
    }
    for (const [row, count] of page.gaps) this.gaps.set(row + shift, count);
    this.marks.unshift(...page.marks.map((row) => row + shift));
    this.blocks.unshift(...page.blocks);
    this.count += page.count;
    this.bytes += page.bytes;
    if (this.latest < this.lastSeq) this.latest = this.lastSeq;
    this.#dropNewest(keepRow);
    return page.count;
  }

  #dropLeadingGap() {
    const block = this.blocks[0];
    if (!block || block.letters[0] !== GAP || block.count !== 1) return;
    this.gaps.delete(block.row0);
    this.blocks.shift();
    this.count -= 1;
  }

  #full() {
    return this.count > this.maxRows || this.bytes > this.maxBytes;
  }

  #dropOldest(keepRow) {
    while (this.#full() && this.blocks.length > 1) {
      const block = this.blocks[0];
      if (block.row0 + block.count > keepRow) {
        // Somebody looks at it: the end is let go instead.
        this.#dropNewest(keepRow);
        return;
      }
      this.blocks.shift();
      this.#forget(block);
      this.atStart = false;
    }
  }

  #dropNewest(keepRow) {
    while (this.#full() && this.blocks.length > 1) {
      const block = this.blocks.at(-1);
      if (block.row0 <= keepRow) return;
      this.blocks.pop();
      this.#forget(block);
      this.nextRow = block.row0;
      this.live = false;
    }
  }

  #forget(block) {
    this.count -= block.count;
    this.bytes -= block.used;
    const end = block.row0 + block.count;
    const inside = (row) => row >= block.row0 && row < end;
    if (this.marks.some(inside)) this.marks = this.marks.filter((row) => !inside(row));
    for (const row of this.gaps.keys()) if (inside(row)) this.gaps.delete(row);
    this.epoch += 1;
  }

  /** Index of the block with that row; -1 where it is not in the window. */
  blockIndex(row) {
    const { blocks } = this;
    if (row < this.firstRow || row >= this.nextRow) return -1;
    let low = 0;
    let high = blocks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (blocks[middle].row0 <= row) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** `{row, seq, time, letter, missing}` of a row; null where it is not in the window. */
  row(row) {
    const index = this.blockIndex(row);
    if (index < 0) return null;
    const block = this.blocks[index];
    const at = row - block.row0;
    const letter = block.letters[at];
    return { row, seq: block.seqs[at], time: block.times[at], letter, missing: letter === GAP ? this.gaps.get(row) : 0 };
  }

  /** The text of a row, as the game printed it. */
  text(row) {
    const index = this.blockIndex(row);
    if (index < 0) return '';
    const block = this.blocks[index];
    const at = row - block.row0;
    return decode(block.bytes, block.start(at), block.ends[at]);
  }

  /** Bytes of a row's text. */
  length(row) {
    const index = this.blockIndex(row);
    if (index < 0) return 0;
    const block = this.blocks[index];
    const at = row - block.row0;
    return block.ends[at] - block.start(at);
  }

  /** The first row whose line has this number or a higher one; `endRow` where there is none. */
  rowOfSeq(seq) {
    let low = this.firstRow;
    let high = this.nextRow;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const { seq: found, missing } = this.row(middle);
      if (found + Math.max(0, missing - 1) < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** A finished block keeps no room for more. */
function shrink(block) {
  if (block.bytes.length > block.used) block.bytes = block.bytes.slice(0, block.used);
}

/** The records of a page that are older than `seq`. */
function before(chunk, seq) {
  let end = 0;
  let any = false;
  eachRecord(chunk, (found, _time, _letter, _start, textEnd) => {
    if (found < seq) {
      end = textEnd + 1;
      any = true;
    }
  });
  return any ? chunk.subarray(0, Math.min(end, chunk.length)) : NOTHING;
}
