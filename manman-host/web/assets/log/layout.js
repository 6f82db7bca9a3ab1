// Where each row stands, in lines from the top of the window. Heights of rows that were never drawn
// are guessed by their bytes; the view corrects them when it draws them.

/** Characters of a row that are shown until somebody wants the rest. */
export const CLAMP = 2000;

export class Layout {
  #model;
  #columns = 0;
  #version = 0;

  constructor(model) {
    this.#model = model;
  }

  /** With `columns` rows are broken at that many; with 0 each is one line. */
  wrap(columns) {
    if (columns === this.#columns) return false;
    this.#columns = columns;
    this.#version += 1;
    return true;
  }

  get wraps() {
    return this.#columns > 0;
  }

  get columns() {
    return this.#columns;
  }

  #guess(block, at) {
    if (this.#columns === 0) return 1;
    const length = Math.min(block.ends[at] - block.start(at), CLAMP);
    return Math.max(1, Math.ceil(length / this.#columns));
  }

  #ready(block) {
    if (block.stamp !== this.#version) {
      block.stamp = this.#version;
      block.heights ??= new Uint16Array(block.seqs.length);
      block.measured = 0;
      block.sum = 0;
    }
    for (; block.measured < block.count; block.measured += 1) {
      const lines = this.#guess(block, block.measured);
      block.heights[block.measured] = lines;
      block.sum += lines;
    }
    return block;
  }

  get total() {
    let sum = 0;
    for (const block of this.#model.blocks) sum += this.#ready(block).sum;
    return sum;
  }

  /** Lines above a row. */
  top(row) {
    let sum = 0;
    for (const block of this.#model.blocks) {
      this.#ready(block);
      if (row >= block.row0 + block.count) {
        sum += block.sum;
        continue;
      }
      for (let at = 0; at < row - block.row0; at += 1) sum += block.heights[at];
      break;
    }
    return sum;
  }

  height(row) {
    const index = this.#model.blockIndex(row);
    if (index < 0) return 0;
    const block = this.#ready(this.#model.blocks[index]);
    return block.heights[row - block.row0];
  }

  /** What a drawn row really takes; answers whether that is news. */
  correct(row, lines) {
    const index = this.#model.blockIndex(row);
    if (index < 0) return false;
    const block = this.#ready(this.#model.blocks[index]);
    const at = row - block.row0;
    const real = Math.min(Math.max(1, lines), 0xffff);
    if (block.heights[at] === real) return false;
    block.sum += real - block.heights[at];
    block.heights[at] = real;
    return true;
  }

  /** The row that covers a place, and how many lines of it are above: `{row, above}`. */
  at(lines) {
    let rest = Math.max(0, lines);
    const { blocks } = this.#model;
    for (const block of blocks) {
      this.#ready(block);
      if (rest >= block.sum) {
        rest -= block.sum;
        continue;
      }
      for (let at = 0; at < block.count; at += 1) {
        if (rest < block.heights[at]) return { row: block.row0 + at, above: rest };
        rest -= block.heights[at];
      }
    }
    const last = this.#model.endRow - 1;
    return { row: Math.max(last, this.#model.firstRow), above: Math.max(0, this.height(last) - 1) };
  }
}
