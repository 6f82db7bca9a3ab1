// Keys of the keyboard: one letter, or two after each other (`g f`). Never while one writes.

import { html, useEffect, useRef } from './html.js';
import { Dialog } from './dialog.js';
import { Key } from './text.js';

const shortcuts = new Map();
let first = null;
let timer = null;

const writes = (target) => target.closest?.('input, textarea, select, [contenteditable], [role=menu]');

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
  if (writes(event.target) || document.querySelector('dialog[open]')) return;
  const pair = first ? `${first} ${event.key}` : event.key;
  clearTimeout(timer);
  first = null;
  const found = shortcuts.get(pair)?.at(-1) ?? shortcuts.get(event.key)?.at(-1);
  if (found) {
    event.preventDefault();
    found.run.current();
    return;
  }
  if ([...shortcuts.keys()].some((keys) => keys.startsWith(`${event.key} `))) {
    first = event.key;
    timer = setTimeout(() => (first = null), 1200);
  }
});

/** A key for as long as the component is there; `label` stands in the list behind `?`. */
export function useShortcut(keys, label, run, { group = 'This page' } = {}) {
  const latest = useRef(run);
  latest.current = run;
  useEffect(() => {
    const own = { label, group, run: latest };
    shortcuts.set(keys, [...(shortcuts.get(keys) ?? []), own]);
    return () => {
      const rest = shortcuts.get(keys).filter((one) => one !== own);
      if (rest.length) shortcuts.set(keys, rest);
      else shortcuts.delete(keys);
    };
  }, [keys, label, group]);
}

/** The list of keys that work now. */
export function KeysHelp({ onClose }) {
  const groups = {};
  for (const [keys, own] of shortcuts) {
    const { label, group } = own.at(-1);
    (groups[group] ??= []).push([keys, label]);
  }
  return html`<${Dialog} title="Keys" onClose=${onClose}>
    <div class="keys">${Object.entries(groups).map(
      ([group, list]) => html`<section key=${group}><h3>${group}</h3><dl>${list.map(
        ([keys, label]) => html`<div key=${keys}><dt>${keys.split(' ').map((key) => html`<${Key} key=${key}>${key}<//>`)}</dt><dd>${label}</dd></div>`,
      )}</dl></section>`,
    )}</div>
  <//>`;
}
