// The frame of a page: its name, what can be done there, and its tabs.

import { html, useEffect, useLayoutEffect, useRef } from './html.js';
import { Icon } from './icon.js';
import { visible } from '../format.js';

/** `title` names the document, too; `back` is `{href, label}`. */
export function Page({ title, mark, sub, back, actions, children, wide = false }) {
  const heading = typeof title === 'string' ? visible(title) : title;
  useEffect(() => {
    document.title = typeof heading === 'string' ? `${heading} · manman` : 'manman';
  }, [heading]);
  return html`<div class=${`page ${wide ? 'wide' : ''}`}>
    <header class="page-head">
      ${back && html`<a class="page-back" href=${back.href}><${Icon} name="back" size=${16} />${back.label}</a>`}
      <div class="page-title">${mark}<div class="page-words"><h1><bdi>${heading}</bdi></h1>${sub && html`<div class="page-sub">${sub}</div>`}</div>${actions && html`<div class="page-actions">${actions}</div>`}</div>
    </header>
    ${children}
  </div>`;
}

/** A part of a page with a name. */
export function Section({ title, id, count, actions, children, quiet = false }) {
  return html`<section class=${`section ${quiet ? 'quiet' : ''}`} id=${id} aria-label=${title}>
    <header class="section-head"><h2>${title}${count !== undefined && html`<span class="count">${count}</span>`}</h2>${actions && html`<div class="section-actions">${actions}</div>`}</header>
    ${children}
  </section>`;
}

export const Card = ({ children, class: name = '', ...rest }) => html`<div class=${`card ${name}`} ...${rest}>${children}</div>`;

/** Pairs of a word and its value. */
export function Facts({ items }) {
  return html`<dl class="facts">${items.filter(Boolean).map(([word, value]) => html`<div key=${word}><dt>${word}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** Tabs that are links: `tabs` are `{id, label, href, badge}`. */
export function Tabs({ label, tabs, current }) {
  const self = useRef(null);
  useLayoutEffect(() => {
    // On a phone the row scrolls: the chosen one is brought into sight, the page is left where it is.
    const row = self.current;
    const chosen = row?.querySelector('[aria-current]');
    if (chosen) row.scrollLeft = chosen.offsetLeft - (row.clientWidth - chosen.clientWidth) / 2;
  }, [current]);
  return html`<nav class="tabs" aria-label=${label} ref=${self}>${tabs.map(
    (tab) => html`<a key=${tab.id} href=${tab.href} aria-current=${tab.id === current ? 'page' : undefined}>${tab.label}${tab.badge !== undefined && tab.badge !== null && html`<span class="count">${tab.badge}</span>`}</a>`,
  )}</nav>`;
}
