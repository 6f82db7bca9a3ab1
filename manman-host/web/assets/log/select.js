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
