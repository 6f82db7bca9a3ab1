// One row of the log as an element. All text comes in as text.

import { places } from './find.js';
import { GAP } from './model.js';
import { MANAGER, STDERR } from './record.js';
import { pieces } from './sgr.js';

/** `most` characters are shown; of a longer line a button shows the rest. */
export function rowElement({ row, seq, time, letter, missing }, textOf, { times, current, most }) {
  const element = document.createElement('div');
  element.className = 'log-row';
  element.dataset.row = String(row);
  if (current) element.classList.add('log-current');
  if (letter === GAP) {
    element.classList.add('log-gap');
    element.textContent = missing === 1 ? 'one line is missing' : `${missing.toLocaleString()} lines are missing`;
    return element;
  }
  element.dataset.seq = String(seq);
  if (letter === STDERR) element.classList.add('log-err');
  if (letter === MANAGER) element.classList.add('log-word');
  if (times) {
    const stamp = document.createElement('span');
    stamp.className = 'log-time';
    stamp.textContent = clock(time);
    stamp.title = Number.isNaN(time) ? '' : new Date(time).toLocaleString();
    element.append(stamp);
  }
  const text = document.createElement('span');
  text.className = 'log-text';
  const rest = fill(text, textOf(), most);
  element.append(text);
  if (rest) {
    const more = document.createElement('button');
    more.type = 'button';
    more.className = 'log-more';
    more.textContent = `… ${rest.toLocaleString()} more characters`;
    element.append(more);
  }
  return element;
}

const two = (number) => String(number).padStart(2, '0');

function clock(time) {
  if (Number.isNaN(time)) return '';
  const date = new Date(time);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** Writes a line into an element, in the colours of its game; answers how many characters are left out. */
function fill(element, line, most = Infinity) {
  let left = most;
  let rest = 0;
  for (const piece of pieces(line)) {
    if (left <= 0) {
      rest += piece.text.length;
      continue;
    }
    let { text } = piece;
    if (text.length > left) {
      // Not through the middle of a character.
      const cut = text.charCodeAt(left - 1) >= 0xd800 && text.charCodeAt(left - 1) <= 0xdbff ? left - 1 : left;
      rest += text.length - cut;
      text = text.slice(0, cut);
      left = 0;
    } else left -= text.length;
    if (!piece.className) element.append(text);
    else {
      const span = document.createElement('span');
      span.className = piece.className;
      if (piece.fg) span.style.setProperty('--sgr-fg', piece.fg);
      if (piece.bg) span.style.setProperty('--sgr-bg', piece.bg);
      span.textContent = text;
      element.append(span);
    }
  }
  return rest;
}

/** The range of some of an element's text. */
function rangeIn(element, start, end) {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  let at = 0;
  let begun = false;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const next = at + node.length;
    if (!begun && start < next) {
      range.setStart(node, start - at);
      begun = true;
    }
    if (begun && end <= next) {
      range.setEnd(node, end - at);
      return range;
    }
    at = next;
  }
  return null;
}

/** Colours what is looked for in the rows that are drawn, without another element. */
export function highlight(rows, expression) {
  if (!globalThis.Highlight || !CSS.highlights) return;
  if (!expression) {
    CSS.highlights.delete('log-hit');
    return;
  }
  const ranges = [];
  for (const row of rows) {
    const text = row.querySelector('.log-text');
    if (text) for (const [start, end] of places(expression, text.textContent)) ranges.push(rangeIn(text, start, end));
  }
  CSS.highlights.set('log-hit', new Highlight(...ranges.filter(Boolean)));
}
