// Text of others, times, and things to copy.

import { html, memo, useEffect, useRef, useState } from './html.js';
import { Icon } from './icon.js';
import { useSecond } from './use.js';
import { announce } from './toast.js';
import { hostNow } from '../api.js';
import { quoted, relative, visible } from '../format.js';

/** Text that somebody else has written: its direction stays inside, and what hides is shown. */
export const Foreign = memo(function Foreign({ text, class: name }) {
  return html`<bdi class=${name}>${visible(text)}</bdi>`;
});

/** A sentence of the host's, in which names stand out. */
export const Said = memo(function Said({ text }) {
  return html`<bdi>${quoted(text).map(([part, named], i) => (named ? html`<strong key=${i} class="named"><bdi>${part}</bdi></strong>` : part))}</bdi>`;
});

const CLOCK = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });

/** The moment in full, in this device's own time zone. */
export function moment(at) {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? '–' : CLOCK.format(date);
}

/** `3 min ago`, which goes on by itself; the whole moment as its title. */
export function Ago({ at, none = 'never' }) {
  useSecond(Boolean(at));
  if (!at) return html`<span class="muted">${none}</span>`;
  const time = Date.parse(at);
  return html`<time datetime=${at} title=${moment(at)}>${relative(time, hostNow())}</time>`;
}

/** Puts text into the clipboard; also where there is no secure context, as over plain http at home. */
async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement('textarea');
  area.value = text;
  area.setAttribute('readonly', '');
  area.className = 'offscreen';
  // Inside of an open dialog, whatever is outside can not be focused.
  (document.activeElement?.closest('dialog') ?? document.body).append(area);
  const before = document.activeElement;
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  before?.focus?.();
  if (!done) throw new Error('this browser does not let the page copy');
}

/** A button that copies, and says that it has. */
export function Copy({ text, label = 'Copy', compact = false }) {
  const [done, set] = useState(null);
  const timer = useRef(null);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    let said = 'Copied';
    try {
      await copyText(text);
    } catch {
      said = 'Select and copy it by hand';
    }
    set(said);
    announce(said);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => set(null), 2000);
  };
  const good = done === 'Copied';
  return html`<button type="button" class="button quiet small copy" onClick=${copy} aria-label=${compact ? label : undefined} title=${compact ? label : undefined}>
    <${Icon} name=${good ? 'check' : 'copy'} size=${16} />${!compact || done ? html`<span>${done ?? label}</span>` : null}
  </button>`;
}

/** A line that is meant to be copied: an address, a command. */
export function CopyLine({ text, label }) {
  return html`<div class="copyline"><code tabindex="0" aria-label=${label}><bdi>${visible(text)}</bdi></code><${Copy} text=${text} label="Copy" /></div>`;
}

/** A key on the keyboard. */
export const Key = ({ children }) => html`<kbd>${children}</kbd>`;
