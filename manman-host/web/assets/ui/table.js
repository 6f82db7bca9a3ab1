// A table that becomes a list of cards where the screen is narrow.

import { h, html } from './html.js';

/**
 * `columns`: `{id, label, cell: (item) => …, class, main, end}`; `main` is the card's title, `end` its
 * foot. `keyOf` names each row for ever.
 */
export function Table({ label, columns, items, keyOf, row: Row = PlainRow, ...rest }) {
  return html`<div class="table-place"><table class="table" aria-label=${label}>
    <thead><tr>${columns.map((column) => html`<th key=${column.id} scope="col" class=${column.class ?? ''}>${column.hideLabel ? html`<span class="offscreen">${column.label}</span>` : column.label}</th>`)}</tr></thead>
    <tbody>${items.map((item) => h(Row, { key: keyOf(item), item, columns, ...rest }))}</tbody>
  </table></div>`;
}

function PlainRow({ item, columns }) {
  return html`<tr>${columns.map((column) => html`<${Cell} key=${column.id} column=${column}>${column.cell(item)}<//>`)}</tr>`;
}

/** A cell which knows its column's name for the card. */
function Cell({ column, children }) {
  const role = column.main ? 'main' : column.end ? 'end' : '';
  return html`<td class=${`${column.class ?? ''} ${role}`} data-label=${column.main || column.end ? undefined : column.label}>${children}</td>`;
}
