// What is selected in the log, also where its rows are no longer in the page.

/** Where a place of the selection is: `{row, offset}` in the row's shown text; null outside. */
export function placeOf(node, offset, space) {
  if (!space.contains(node)) return null;
  if (node === space) {
    const child = space.children[Math.min(offset, space.children.length - 1)];
    if (!child) return null;
    return { row: Number(child.dataset.row), offset: offset >= space.children.length ? Infinity : 0 };
  }
  const element = (node.nodeType === 1 ? node : node.parentElement).closest('[data-row]');
  if (!element) return null;
  const text = element.querySelector('.log-text');
  const row = Number(element.dataset.row);
  if (!text) return { row, offset: 0 };
  if (!text.contains(node)) return { row, offset: text.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_PRECEDING ? 0 : Infinity };
  const range = document.createRange();
  range.setStart(text, 0);
  range.setEnd(node, offset);
  return { row, offset: range.toString().length };
}

/** The two ends in the order of the log. */
export function ordered(a, b) {
  return a.row < b.row || (a.row === b.row && a.offset <= b.offset) ? [a, b] : [b, a];
}

/** The text between two places, line by line; `textOf(row)` is what a row shows, null for none. */
export function textBetween(from, to, textOf) {
  const lines = [];
  for (let row = from.row; row <= to.row; row += 1) {
    const text = textOf(row);
    if (text === null) continue;
    const begin = row === from.row ? from.offset : 0;
    const end = row === to.row ? to.offset : Infinity;
    lines.push(text.slice(begin, end));
  }
  return lines.join('\n');
}

/** The selection in the log: its ends stay in the page, and copying gives the lines between them. */
export class LogSelection {
  #space;
  #log;

  /** `log`: `rows()` its first row and the one after its last, `textOf(row)`, `begun()`, `changed()`, `signal`. */
  constructor(scroller, space, log) {
    this.#space = space;
    this.#log = log;
    /** Rows that hold an end of it. */
    this.pins = [];
    /** Whether all is selected, also what is not in the page. */
    this.all = false;
    const { signal } = log;
    scroller.addEventListener('copy', (event) => this.#copy(event), { signal });
    scroller.addEventListener('pointerdown', () => (this.all = false), { signal });
    scroller.addEventListener('keydown', ({ ctrlKey, metaKey }) => !ctrlKey && !metaKey && (this.all = false), { signal });
    document.addEventListener('selectionchange', () => this.#changed(), { signal });
  }

  selectAll() {
    document.getSelection().selectAllChildren(this.#space);
    this.#log.begun();
    this.all = true;
  }

  #ends() {
    const selection = document.getSelection();
    if (!selection || selection.isCollapsed) return null;
    const a = placeOf(selection.anchorNode, selection.anchorOffset, this.#space);
    const b = placeOf(selection.focusNode, selection.focusOffset, this.#space);
    return a && b ? ordered(a, b) : null;
  }

  #changed() {
    const ends = this.#ends();
    if (!ends && !this.pins.length) return;
    this.pins = ends ? ends.map(({ row }) => row) : [];
    if (ends) this.#log.begun();
    this.#log.changed();
  }

  #copy(event) {
    const [first, end] = this.#log.rows();
    const ends = this.all ? [{ row: first, offset: 0 }, { row: end - 1, offset: Infinity }] : this.#ends();
    if (!ends) return;
    event.clipboardData.setData('text/plain', textBetween(...ends, this.#log.textOf));
    event.preventDefault();
  }
}
