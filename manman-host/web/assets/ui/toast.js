// Short words about what has come of something, and words for screen readers alone.

import { html, useEffect } from './html.js';
import { useSignal } from './use.js';
import { Icon } from './icon.js';
import { Said } from './text.js';
import { signal } from '../signal.js';

const toasts = signal([]);
const MOST = 4;
let number = 0;

function add(tone, text, hint, stay) {
  number += 1;
  const toast = { id: number, tone, text, hint, stay };
  toasts.set([...toasts.get(), toast].slice(-MOST));
}

const dismiss = (id) => toasts.set(toasts.get().filter((toast) => toast.id !== id));

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export const toast = {
  ok: (text) => add('good', text, null, 4000),
  info: (text) => add('info', text, null, 6000),
  /** An error with its hint stays until it is read. */
  error: (error) => add('bad', capital(error.detail ?? error.message ?? String(error)), error.hint ?? null, error.hint ? 15_000 : 9000),
};

const spoken = signal('');
/** Says something to screen readers. */
export function announce(text) {
  // The same words twice are said twice.
  spoken.set(spoken.get() === text ? `${text}\u00a0` : text);
}

function Toast({ id, tone, text, hint, stay }) {
  useEffect(() => {
    const timer = setTimeout(() => dismiss(id), stay);
    return () => clearTimeout(timer);
  }, [id]);
  return html`<li class="toast" data-tone=${tone}>
    <${Icon} name=${tone === 'good' ? 'check' : tone === 'bad' ? 'warn' : 'info'} />
    <div class="toast-text"><p><${Said} text=${text} /></p>${hint && html`<p class="muted"><${Said} text=${hint} /></p>`}</div>
    <button type="button" class="button icon-only quiet small" aria-label="Dismiss" onClick=${() => dismiss(id)}><${Icon} name="cross" size=${16} /></button>
  </li>`;
}

/** Where toasts appear; in the page once. */
export function Toasts() {
  const list = useSignal(toasts);
  const said = useSignal(spoken);
  return html`<div class="toasts-place">
    <div role="status" aria-live="polite" aria-label="Messages"><ol class="toasts">${list.map((one) => html`<${Toast} key=${one.id} ...${one} />`)}</ol></div>
    <div class="offscreen" aria-live="polite">${said}</div>
  </div>`;
}
