// Buttons, links that look like buttons, and a menu of them.

import { html, useEffect, useId, useRef, useState } from './html.js';
import { Icon } from './icon.js';

/**
 * `kind`: `primary`, `danger`, `quiet` or none. One that can not be pressed now says why: it keeps its
 * place in the order of the Tab key, so that the reason can be read by everybody.
 */
export function Button({ kind = '', icon, busy = false, disabled = false, why = null, small = false, onClick, type = 'button', label, children, class: more = '', ...rest }) {
  const off = disabled || busy;
  const reason = useId();
  const press = (event) => {
    if (off) event.preventDefault();
    else onClick?.(event);
  };
  const name = `button ${kind} ${small ? 'small' : ''} ${children || !icon ? '' : 'icon-only'} ${more}`;
  return html`<button type=${type} class=${name} aria-disabled=${off ? 'true' : undefined} aria-busy=${busy ? 'true' : undefined}
    aria-label=${label} aria-describedby=${off && why ? reason : undefined} title=${(off && why) || label || undefined} onClick=${press} ...${rest}>
    ${busy ? html`<span class="spinner" aria-hidden="true"></span>` : icon && html`<${Icon} name=${icon} size=${small ? 16 : 18} />`}
    ${children && html`<span>${children}</span>`}${off && why ? html`<span id=${reason} class="offscreen">${why}</span>` : null}
  </button>`;
}

export function LinkButton({ href, kind = '', icon, small = false, children, label, ...rest }) {
  return html`<a href=${href} class=${`button ${kind} ${small ? 'small' : ''} ${children ? '' : 'icon-only'}`} aria-label=${label} ...${rest}>
    ${icon && html`<${Icon} name=${icon} size=${small ? 16 : 18} />`}${children && html`<span>${children}</span>`}
  </a>`;
}

/** A menu behind a button: `items` are `{label, icon, onClick | href, danger, disabled, why}` or null. */
export function Menu({ label = 'More', items, small = false }) {
  const [open, set] = useState(false);
  const place = useRef(null);
  const list = items.filter(Boolean);
  useEffect(() => {
    if (!open) return undefined;
    place.current.querySelector('[role=menuitem]')?.focus();
    const away = (event) => {
      if (!place.current.contains(event.target)) set(false);
    };
    document.addEventListener('pointerdown', away);
    return () => document.removeEventListener('pointerdown', away);
  }, [open]);
  if (list.length === 0) return null;
  const shut = () => {
    set(false);
    place.current.querySelector('button')?.focus();
  };
  const keys = (event) => {
    if (!open) return;
    const all = [...place.current.querySelectorAll('[role=menuitem]')];
    const at = all.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (event.key === 'Escape') shut();
    else if (event.key === 'Tab') return set(false);
    else if (to === undefined) return;
    else all[(to + all.length) % all.length].focus();
    event.preventDefault();
    event.stopPropagation();
  };
  return html`<div class="menu-place" ref=${place} onKeyDown=${keys}>
    <button type="button" class=${`button quiet icon-only ${small ? 'small' : ''}`} aria-haspopup="menu" aria-expanded=${open ? 'true' : 'false'}
      aria-label=${label} title=${label} onClick=${() => set(!open)}><${Icon} name="more" /></button>
    ${open &&
    html`<div class="menu" role="menu" aria-label=${label}>
      ${list.map((item) => {
        const press = (event) => {
          if (item.disabled) return event.preventDefault();
          shut();
          return item.onClick?.(event);
        };
        const inner = html`${item.icon && html`<${Icon} name=${item.icon} size=${16} />`}<span>${item.label}</span>`;
        const attributes = { role: 'menuitem', tabindex: -1, class: item.danger ? 'danger' : '', 'aria-disabled': item.disabled ? 'true' : undefined, title: item.disabled ? item.why : undefined };
        return item.href
          ? html`<a key=${item.label} href=${item.href} onClick=${press} ...${attributes}>${inner}</a>`
          : html`<button key=${item.label} type="button" onClick=${press} ...${attributes}>${inner}</button>`;
      })}
    </div>`}
  </div>`;
}
