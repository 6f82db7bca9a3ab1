// What stands where there is nothing to show yet, nothing at all, or something went wrong.

import { html } from './html.js';
import { Icon } from './icon.js';
import { Button } from './button.js';
import { Said } from './text.js';
import { visible } from '../format.js';

export function Empty({ icon = 'info', title, children, action }) {
  return html`<div class="empty"><span class="empty-mark"><${Icon} name=${icon} size=${28} /></span><p class="empty-title">${title}</p>${children && html`<div class="muted">${children}</div>`}${action && html`<div class="empty-action">${action}</div>`}</div>`;
}

/** Grey bars in the place of what comes. */
export function Loading({ lines = 3, what = 'Loading' }) {
  return html`<div class="loading" role="status"><span class="offscreen">${what}</span>${Array.from({ length: lines }, (_, i) => html`<div key=${i} class="bone" aria-hidden="true"></div>`)}</div>`;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** An error in the host's own words, with what to do. */
export function ErrorNote({ error, retry, title }) {
  return html`<div class="note" data-tone="bad" role="alert">
    <${Icon} name="warn" />
    <div class="note-text">
      <p>${title && html`<strong>${title}: </strong>`}<${Said} text=${capital(error.detail ?? error.message)} /></p>
      ${error.hint && html`<p class="muted"><${Said} text=${capital(error.hint)} /></p>`}
      ${error.instance && error.status >= 500 && html`<p class="muted small">Request <code>${visible(error.instance)}</code></p>`}
    </div>
    ${retry && html`<${Button} small onClick=${retry}>Try again<//>`}
  </div>`;
}

/** A remark in a coloured box. */
export function Note({ tone = 'info', icon, title, children, action }) {
  return html`<div class="note" data-tone=${tone}>
    <${Icon} name=${icon ?? (tone === 'bad' || tone === 'warn' ? 'warn' : 'info')} />
    <div class="note-text">${title && html`<p><strong>${title}</strong></p>`}${children}</div>
    ${action}
  </div>`;
}

/** The states of a `useLoad` around what is made of its data. */
export function Loaded({ of, lines, what, children }) {
  const { data, error, loading, reload } = of;
  if (error && data === undefined) return html`<${ErrorNote} error=${error} retry=${reload} />`;
  if (loading && data === undefined) return html`<${Loading} lines=${lines} what=${what} />`;
  return html`${error && html`<${ErrorNote} error=${error} retry=${reload} title="Not up to date" />`}${children(data)}`;
}
