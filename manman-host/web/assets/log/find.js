// Looking for text in the rows of the window, in pieces of time that nobody feels.

import { GAP } from './model.js';
import { plain } from './sgr.js';

const SLICE_MS = 12;
/** Rows that are remembered; more of them would find nothing for a person. */
export const HITS_MAX = 10_000;

/** The expression for what is written; null for nothing, an error with a message for a wrong one. */
export function pattern(text, { regex = false, matchCase = false } = {}) {
  if (text === '') return null;
  const source = regex ? text : text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
  return new RegExp(source, `g${matchCase ? '' : 'i'}${regex ? 'u' : ''}`);
}

/** Whether a row's shown text has it. */
export function found(expression, text) {
  expression.lastIndex = 0;
  return expression.test(text);
}

/** All places of it in a text, as `[start, end]`, at most `most`; empty matches are none. */
export function places(expression, text, most = 100) {
  const list = [];
  expression.lastIndex = 0;
  for (let hit = expression.exec(text); hit && list.length < most; hit = expression.exec(text)) {
    if (hit[0] === '') expression.lastIndex += 1;
    else list.push([hit.index, hit.index + hit[0].length]);
  }
  return list;
}

/**
 * Looks through rows `from` to `to` (not itself), newest first, and answers rows oldest first.
 * `rest()` resolves when there is time again; `signal` ends it.
 */
export async function findRows(model, expression, { from = model.firstRow, to = model.endRow, rest = pause, signal } = {}) {
  const rows = [];
  let begun = performance.now();
  for (let row = to - 1; row >= Math.max(from, model.firstRow) && rows.length < HITS_MAX; row -= 1) {
    if (row % 64 === 0 && performance.now() - begun > SLICE_MS) {
      await rest();
      if (signal?.aborted) return null;
      begun = performance.now();
    }
    const known = model.row(row);
    if (known && known.letter !== GAP && found(expression, plain(model.text(row)))) rows.push(row);
  }
  return rows.reverse();
}

const pause = () => new Promise((resolve) => setTimeout(resolve));
