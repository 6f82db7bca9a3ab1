// Dialogs: the browser's own <dialog>, which keeps the focus inside and gives it back.

import { html, useEffect, useId, useRef, useState } from './html.js';
import { useSignal } from './use.js';
import { Button } from './button.js';
import { ErrorNote } from './state.js';
import { signal } from '../signal.js';

export function Dialog({ title, onClose, children, wide = false }) {
  const self = useRef(null);
  const name = useId();
  useEffect(() => {
    const dialog = self.current;
    const before = document.activeElement;
    dialog.showModal();
    const first = dialog.querySelector('[data-first]') ?? dialog.querySelector('input:not([type=hidden]), select, textarea');
    first?.focus();
    return () => {
      if (dialog.open) dialog.close();
      if (before?.isConnected) before.focus();
    };
  }, []);
  const cancel = (event) => {
    event.preventDefault();
    onClose();
  };
  // A press that begins and ends beside the dialog closes it; one that selects text does not.
  const pressed = useRef(false);
  return html`<dialog ref=${self} class=${`dialog ${wide ? 'wide' : ''}`} aria-labelledby=${name} onCancel=${cancel}
    onPointerDown=${(event) => (pressed.current = event.target === self.current)}
    onClick=${(event) => pressed.current && event.target === self.current && onClose()}>
    <div class="dialog-body">
      <header class="dialog-head"><h2 id=${name}>${title}</h2><${Button} icon="cross" kind="quiet" label="Close" onClick=${onClose} /></header>
      ${children}
    </div>
  </dialog>`;
}

const question = signal(null);

/**
 * Asks, and resolves to true or false: `{title, text, confirm, danger, type}`; with `type` the word
 * has to be written first. `work` is done while the dialog is still there, and its error shown in it.
 */
export function ask(what) {
  return new Promise((resolve) => {
    question.get()?.resolve(false);
    question.set({ ...what, resolve, key: Math.random() });
  });
}

function Question({ title, text, confirm = 'Yes', danger = false, type = null, work = null, resolve, children }) {
  const [typed, set] = useState('');
  const [error, fail] = useState(null);
  const [busy, wait] = useState(false);
  const field = useId();
  const end = (answer) => {
    resolve(answer);
    question.set(null);
  };
  const ready = type === null || typed.trim() === type;
  const submit = async (event) => {
    event.preventDefault();
    if (!ready || busy) return;
    if (!work) {
      end(true);
      return;
    }
    wait(true);
    fail(null);
    try {
      await work();
      end(true);
    } catch (caught) {
      fail(caught);
      wait(false);
    }
  };
  return html`<${Dialog} title=${title} onClose=${() => end(false)}>
    <form onSubmit=${submit} class="stack">
      <div class="prose">${typeof text === 'string' ? html`<p>${text}</p>` : text}</div>
      ${children}
      ${type !== null &&
      html`<div class="field"><label for=${field}>Write <strong class="mono">${type}</strong> to go on</label>
        <input id=${field} data-first value=${typed} onInput=${(event) => set(event.target.value)} autocomplete="off" autocapitalize="off" spellcheck=${false} /></div>`}
      ${error && html`<${ErrorNote} error=${error} />`}
      <footer class="dialog-foot">
        <${Button} onClick=${() => end(false)} data-first=${type === null ? '' : undefined}>Cancel<//>
        <${Button} type="submit" kind=${danger ? 'danger' : 'primary'} disabled=${!ready} busy=${busy}>${confirm}<//>
      </footer>
    </form>
  <//>`;
}

/** Where questions are asked; in the page once. */
export function Questions() {
  const now = useSignal(question);
  return now && html`<${Question} key=${now.key} ...${now} />`;
}
