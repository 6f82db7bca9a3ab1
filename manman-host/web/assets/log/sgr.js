// What a game printed, as pieces of text with a look.
//
// Colours and weights (SGR) are followed. Nothing else is: cursor moves, titles, bells, marks that
// turn the direction of writing around and characters that can not be seen are written out as
// symbols, and have no effect. Colours do not run on into the next line, so that each line can be
// drawn alone.

/** Longest sequence that is looked at; a longer one is text. */
const SEQUENCE_MAX = 256;

// Everything that needs more than to be shown. Lines without any are by far the most.
const SPECIAL =
  /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\u{e0000}-\u{e0fff}]/u;

const CSI = /\x1b\[([\x30-\x3f]*)([\x20-\x2f]*)([\x40-\x7e])/y;
// Operating system commands (titles, links, clipboard), device control and their like.
const STRING = /\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?/y;
const OTHER = /\x1b[\x20-\x2f]*[\x30-\x7e]?/y;

// Words, since not every device has a font with pictures of them.
const CONTROLS =
  'NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US'.split(' ');

const NAMES = new Map([
  ...CONTROLS.map((name, code) => [code, name]), [0x7f, 'DEL'],
  [0xad, 'SHY'], [0x34f, 'CGJ'], [0x61c, 'ALM'], [0x180e, 'MVS'],
  [0x200b, 'ZWSP'], [0x200c, 'ZWNJ'], [0x200e, 'LRM'], [0x200f, 'RLM'], [0x2028, 'LSEP'], [0x2029, 'PSEP'],
  [0x202a, 'LRE'], [0x202b, 'RLE'], [0x202c, 'PDF'], [0x202d, 'LRO'], [0x202e, 'RLO'],
  [0x2060, 'WJ'], [0x2066, 'LRI'], [0x2067, 'RLI'], [0x2068, 'FSI'], [0x2069, 'PDI'], [0xfeff, 'BOM'],
]);

/** A character that is not seen, as one that is. */
export function symbol(code) {
  if (code >= 0x80 && code < 0xa0) return `\\x${code.toString(16)}`;
  return `⟨${NAMES.get(code) ?? `U+${code.toString(16).toUpperCase().padStart(4, '0')}`}⟩`;
}

const plainPiece = (text) => [{ text, className: '', fg: null, bg: null }];

/**
 * Pieces of a line: `{text, className, fg, bg}`. `className` is built of `sgr-…` words, or is
 * `log-escape` for what is written out. `fg` and `bg` are CSS colours where a line names one that
 * is none of the sixteen.
 */
export function pieces(line) {
  if (!SPECIAL.test(line)) return plainPiece(line);
  const out = [];
  let look = new Look();
  let text = '';
  const flush = () => {
    if (text) out.push({ text, className: look.className(), fg: look.foreground(), bg: look.background() });
    text = '';
  };
  const escape = (written) => {
    flush();
    const last = out.at(-1);
    if (last?.className === 'log-escape') last.text += written;
    else out.push({ text: written, className: 'log-escape', fg: null, bg: null });
  };
  let at = 0;
  while (at < line.length) {
    const code = line.codePointAt(at);
    if (code === 0x1b) {
      const { length, sgr } = sequence(line, at);
      if (sgr === null) escape(written(line.slice(at, at + length)));
      else {
        flush();
        look = look.with(sgr);
      }
      at += length;
      continue;
    }
    const character = String.fromCodePoint(code);
    if (SPECIAL.test(character)) escape(symbol(code));
    else text += character;
    at += character.length;
  }
  flush();
  return out;
}

/** The line as it is shown, without its looks. */
export function plain(line) {
  if (!SPECIAL.test(line)) return line;
  let text = '';
  for (const piece of pieces(line)) text += piece.text;
  return text;
}

function sequence(line, at) {
  for (const shape of [CSI, STRING, OTHER]) {
    shape.lastIndex = at;
    const found = shape.exec(line);
    if (!found) continue;
    if (shape === CSI && found[0].length <= SEQUENCE_MAX && found[3] === 'm' && found[2] === '' && /^[\d;:]*$/.test(found[1])) {
      return { length: found[0].length, sgr: found[1] };
    }
    if (found[0].length <= SEQUENCE_MAX * 16) return { length: found[0].length, sgr: null };
  }
  return { length: 1, sgr: null };
}

function written(text) {
  let out = '';
  for (const character of text) out += SPECIAL.test(character) ? symbol(character.codePointAt(0)) : character;
  return out;
}

const FLAGS = { 1: ['bold'], 2: ['dim'], 3: ['italic'], 4: ['underline'], 7: ['inverse'], 8: ['dim'], 9: ['strike'], 21: ['underline'], 53: ['overline'] };
const UNSET = { 22: ['bold', 'dim'], 23: ['italic'], 24: ['underline'], 27: ['inverse'], 28: ['dim'], 29: ['strike'], 55: ['overline'] };

/** How text looks; never changed, so that pieces may share it. */
class Look {
  constructor(flags = new Set(), fg = null, bg = null) {
    this.flags = flags;
    // A number below 16, or a CSS colour.
    this.fg = fg;
    this.bg = bg;
  }

  with(parameters) {
    const flags = new Set(this.flags);
    let { fg, bg } = this;
    const parts = parameters === '' ? ['0'] : parameters.split(';');
    for (let i = 0; i < parts.length; i += 1) {
      const [first, ...sub] = parts[i].split(':');
      const code = first === '' ? 0 : Number(first);
      if (code === 0) {
        flags.clear();
        fg = null;
        bg = null;
      } else if (code === 4 && sub[0] === '0') flags.delete('underline');
      else if (FLAGS[code]) for (const flag of FLAGS[code]) flags.add(flag);
      else if (UNSET[code]) for (const flag of UNSET[code]) flags.delete(flag);
      else if (code >= 30 && code <= 37) fg = code - 30;
      else if (code >= 90 && code <= 97) fg = code - 82;
      else if (code === 39) fg = null;
      else if (code >= 40 && code <= 47) bg = code - 40;
      else if (code >= 100 && code <= 107) bg = code - 92;
      else if (code === 49) bg = null;
      else if (code === 38 || code === 48) {
        const { colour, taken } = sub.length ? { colour: fromColons(sub), taken: 0 } : fromParts(parts, i + 1);
        i += taken;
        if (colour !== null && code === 38) fg = colour;
        if (colour !== null && code === 48) bg = colour;
      }
    }
    return new Look(flags, fg, bg);
  }

  className() {
    let name = '';
    const add = (word) => {
      name += name ? ` sgr-${word}` : `sgr-${word}`;
    };
    if (typeof this.fg === 'number') add(`f${this.fg}`);
    else if (this.fg !== null) add('f');
    if (typeof this.bg === 'number') add(`b${this.bg}`);
    else if (this.bg !== null) add('b');
    for (const flag of this.flags) add(flag);
    return name;
  }

  foreground() {
    return typeof this.fg === 'string' ? this.fg : null;
  }

  background() {
    return typeof this.bg === 'string' ? this.bg : null;
  }
}

const byte = (text) => {
  const value = Number(text);
  return /^\d{1,3}$/.test(text ?? '') && value <= 255 ? value : null;
};

function fromParts(parts, at) {
  if (parts[at] === '5') return { colour: indexed(byte(parts[at + 1])), taken: 2 };
  if (parts[at] === '2') return { colour: rgb(parts.slice(at + 1, at + 4).map(byte)), taken: 4 };
  return { colour: null, taken: 0 };
}

/** `38:5:N`, `38:2:R:G:B` and `38:2:space:R:G:B`. */
function fromColons(sub) {
  if (sub[0] === '5') return indexed(byte(sub[1]));
  if (sub[0] === '2') return rgb((sub.length >= 5 ? sub.slice(2, 5) : sub.slice(1, 4)).map(byte));
  return null;
}

function rgb(parts) {
  return parts.length === 3 && parts.every((part) => part !== null) ? `rgb(${parts.join(' ')})` : null;
}

const CUBE = [0, 95, 135, 175, 215, 255];

function indexed(index) {
  if (index === null) return null;
  if (index < 16) return index;
  if (index >= 232) return rgb(Array(3).fill(8 + (index - 232) * 10));
  const cell = index - 16;
  return rgb([CUBE[Math.floor(cell / 36)], CUBE[Math.floor(cell / 6) % 6], CUBE[cell % 6]]);
}
