// Numbers, times and foreign text in words for people. Nothing here touches the page.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** `1.5 GiB`; a dash where there is nothing to say. */
export function bytes(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  let unit = 0;
  let rest = Math.abs(value);
  while (rest >= 1024 && unit < UNITS.length - 1) {
    rest /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || rest >= 100 ? 0 : 1;
  return `${value < 0 ? '−' : ''}${trim(rest.toFixed(digits))} ${UNITS[unit]}`;
}

function trim(text) {
  return text.endsWith('.0') ? text.slice(0, -2) : text;
}

/** Bytes a second. */
export function rate(value) {
  return value === null || value === undefined ? '–' : `${bytes(value)}/s`;
}

/** Thousandths of a core as `0.35 cores`. */
export function cores(millis) {
  if (millis === null || millis === undefined) return '–';
  const value = millis / 1000;
  return `${trim(value.toFixed(value < 1 ? 2 : 1))} ${value === 1 ? 'core' : 'cores'}`;
}

export function percent(part, whole) {
  if (!whole || part === null || part === undefined) return null;
  return Math.max(0, Math.min(100, (100 * part) / whole));
}

/** `12 s`, `3 min`, `2 h 5 min`, `4 days`. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return days === 1 ? '1 day' : `${days} days`;
}

/** How long ago, or in how long; both in milliseconds since the epoch. */
export function relative(at, now) {
  const seconds = (now - at) / 1000;
  if (Math.abs(seconds) < 5) return 'just now';
  return seconds > 0 ? `${duration(seconds)} ago` : `in ${duration(-seconds)}`;
}

export function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

/** `a`, `a and b`, `a, b and c`. */
export function list(words) {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;
}

// Marks that turn the direction of what follows, or are not to be seen at all: in a name they can
// make one thing look like another.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
const CONTROL_PICTURES = 0x2400;

/** Foreign text as it may be shown: what could not be seen is a visible mark instead. */
export function visible(text) {
  return String(text ?? '').replace(HIDDEN, (mark) => {
    const code = mark.codePointAt(0);
    if (code < 0x20) return String.fromCodePoint(CONTROL_PICTURES + code);
    if (code === 0x7f) return '\u2421';
    return `⟨${code.toString(16).toUpperCase().padStart(4, '0')}⟩`;
  });
}

/** The first letters of a name, for a round picture. */
export function initials(name) {
  const words = visible(name).split(/[\s._:-]+/).filter(Boolean);
  return [...words.slice(0, 2)].map((word) => [...word][0].toUpperCase()).join('') || '?';
}

/** Bytes from what a person writes: `4 GiB`, `512m`, `1.5g`; null where it is none, '' stays null. */
export function parseSize(text) {
  const found = /^\s*(\d+(?:[.,]\d+)?)\s*([kmgt]?)(?:i?b)?\s*$/i.exec(text);
  if (!found) return null;
  const factor = { '': 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 }[found[2].toLowerCase()];
  return Math.round(Number(found[1].replace(',', '.')) * factor);
}

/** The host's sentences name things between backticks: `[text, named]` in turn. */
export function quoted(text) {
  const parts = visible(text).split('`');
  // An odd backtick is one that stands for itself.
  if (parts.length % 2 === 0) return [[parts.join('`'), false]];
  return parts.map((part, i) => [part, i % 2 === 1]).filter(([part]) => part !== '');
}

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });
/** Orders things by their names as a person would: `oa-2` before `oa-10`. */
export const byName = (a, b) => collator.compare(a.name, b.name);
