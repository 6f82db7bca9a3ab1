// The host's own rules for values (domain/variables.rs, name.rs), so that a form can say what is
// wrong while one types. The host decides; whatever is not known here is left to it.

const VALUE_MAX = 4096;
// What Rust calls a control character.
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

/** What is wrong with a value of a variable, or null. */
export function checkValue(spec, value) {
  if (value === '') {
    if (spec.required) return 'A value is needed';
    if (spec.type !== 'text' || !(spec.min > 0)) return null;
  }
  if (new TextEncoder().encode(value).length > VALUE_MAX) return `At most ${VALUE_MAX} bytes`;
  if (CONTROL.test(value)) return 'No control characters, such as line breaks';
  if (spec.type === 'integer') return checkInteger(spec, value);
  if (spec.type === 'boolean') return /^(true|false|1|0|yes|no|on|off)$/.test(value) ? null : 'Either true or false';
  return checkText(spec, value);
}

function checkInteger(spec, value) {
  if (!/^\s*[+-]?\d+\s*$/.test(value)) return 'A whole number is needed';
  const number = Number(value);
  const { min, max } = spec;
  if ((isNumber(min) && number < min) || (isNumber(max) && number > max)) return `${range(spec)} is allowed`;
  return checkOptions(spec, String(number));
}

function checkText(spec, value) {
  const length = [...value].length;
  if (isNumber(spec.min) && length < spec.min) return `At least ${characters(spec.min)}`;
  if (isNumber(spec.max) && length > spec.max) return `At most ${characters(spec.max)}; this has ${length}`;
  const wrong = checkOptions(spec, value);
  if (wrong) return wrong;
  const pattern = whole(spec.pattern);
  if (!pattern || pattern.test(value)) return null;
  const stranger = strangers(spec.pattern, value);
  return stranger ? `${stranger} is not allowed here` : `Does not match ${spec.pattern}`;
}

function checkOptions(spec, value) {
  const options = spec.options ?? [];
  return options.length === 0 || options.includes(value) ? null : `One of ${options.join(', ')}`;
}

const isNumber = (value) => typeof value === 'number';
const characters = (number) => `${number} ${number === 1 ? 'character' : 'characters'}`;

/** `1 to 64`, `from 1`, `up to 64`; empty where all is allowed. */
export function range({ min, max }) {
  if (isNumber(min) && isNumber(max)) return `${min} to ${max}`;
  if (isNumber(min)) return `${min} and above`;
  return isNumber(max) ? `up to ${max}` : '';
}

const patterns = new Map();

/** The pattern for the whole text; null where a browser can not read it, and the host decides. */
function whole(pattern) {
  if (!pattern) return null;
  if (!patterns.has(pattern)) {
    let regex = null;
    try {
      regex = new RegExp(`^(?:${pattern})$`, 'u');
    } catch {
      // Rust's and the browser's patterns differ in rare corners.
    }
    patterns.set(pattern, regex);
  }
  return patterns.get(pattern);
}

/** For patterns such as `[A-Za-z0-9_-]{1,32}`: the first character that is outside of the class. */
function strangers(pattern, value) {
  const found = /^(?:\[[^\]]+\])?(\[(?:[^\]\\]|\\.)+\])(?:[*+]|\{[\d,]+\})$/.exec(pattern);
  const regex = found && whole(found[1]);
  const stranger = regex && [...value].find((letter) => !regex.test(letter));
  if (!stranger) return null;
  return stranger === ' ' ? 'A space' : `“${stranger}”`;
}

const NAME_MAX = 63;

/** What is wrong with a server's or machine's name, or null. */
export function checkName(name) {
  if (name === '') return 'A name is needed';
  if (name.length > NAME_MAX) return `At most ${NAME_MAX} characters`;
  if (!/^[A-Za-z0-9]/.test(name)) return 'It begins with a letter or a digit';
  const stranger = [...name].find((letter) => !/[A-Za-z0-9._-]/.test(letter));
  if (stranger === ' ') return 'No spaces: letters, digits, “-”, “_” and “.”';
  return stranger ? `“${stranger}” is not allowed: letters, digits, “-”, “_” and “.”` : null;
}

/** What is wrong with a port, or null; empty is chosen by the host. */
export function checkPort(text) {
  if (text === '') return null;
  const port = Number(text);
  return /^\d+$/.test(text) && port >= 1 && port <= 65535 ? null : 'A port is a number from 1 to 65535';
}

/** A new password: its length counts, and nothing else (wire/account.rs). */
export const PASSWORD_MIN = 10;
const PASSWORD_MAX = 256;

export function checkPassword(text) {
  const length = [...text].length;
  if (length < PASSWORD_MIN) return `At least ${PASSWORD_MIN} characters`;
  return new TextEncoder().encode(text).length > PASSWORD_MAX ? `At most ${PASSWORD_MAX} bytes` : null;
}

/** `docker:image` or `steamcmd:number`, for a game without a definition. */
export function checkGameId(text) {
  if (/^steamcmd:\d{1,10}$/.test(text)) return null;
  if (/^docker:[a-z0-9][a-zA-Z0-9._/:@-]*$/.test(text)) return null;
  return 'Write docker:IMAGE or steamcmd:APP_ID';
}

/** What a default such as `{{server.name}}` will be, as far as one can tell here. */
export function expandDefault(text, words) {
  return String(text ?? '').replace(/\{\{\s*([\w.]+)\s*\}\}/g, (all, word) => words[word] ?? all);
}

export const isTemplate = (text) => /\{\{.*\}\}/.test(text ?? '');
