// Fields of forms. Each has its label, what it is for, and what is wrong with it, tied together for
// screen readers.

import { h, html, useId, useState } from './html.js';
import { Icon } from './icon.js';
import { Button } from './button.js';
import { Said } from './text.js';

/**
 * A field around an input: `children` is called with the attributes that tie them together.
 * `error` stands below, `note` beside the label.
 */
export function Field({ label, help, error, note, required = false, children, name }) {
  const id = useId();
  const described = [help && `${id}h`, error && `${id}e`].filter(Boolean).join(' ') || undefined;
  return html`<div class=${`field ${error ? 'wrong' : ''}`} data-field=${name}>
    <div class="field-head"><label for=${id}>${label}${required && html`<span class="required" title="needed" aria-hidden="true"> *</span>`}</label>${note && html`<span class="field-note">${note}</span>`}</div>
    ${children({ id, 'aria-describedby': described, 'aria-invalid': error ? 'true' : undefined, 'aria-required': required ? 'true' : undefined })}
    ${help && html`<p class="help" id=${`${id}h`}>${help}</p>`}
    <p class="wrong-text" id=${`${id}e`} aria-live="polite">${error && html`<${Icon} name="warn" size=${14} /> <${Said} text=${error} />`}</p>
  </div>`;
}

/** A line of text. */
export function TextField({ label, help, error, note, required, name, value, onInput, ...rest }) {
  return html`<${Field} label=${label} help=${help} error=${error} note=${note} required=${required} name=${name}>${(tie) =>
    h('input', { type: 'text', autocomplete: 'off', ...rest, ...tie, value, onInput: (event) => onInput(event.target.value) })}<//>`;
}

export function SelectField({ label, help, error, note, required, name, value, onInput, options, ...rest }) {
  return html`<${Field} label=${label} help=${help} error=${error} note=${note} required=${required} name=${name}>${(tie) => html`<select
    ...${rest} ...${tie} onChange=${(event) => onInput(event.target.value)}>
    ${options.map(({ value: option, label: text, disabled }) => html`<option key=${option} value=${option} selected=${option === value} disabled=${disabled}>${text}</option>`)}
  </select>`}<//>`;
}

/** A secret that can be looked at while it is written. */
export function SecretField({ label, help, error, note, required, name, value, onInput, generate = null, ...rest }) {
  const [shown, show] = useState(false);
  return html`<${Field} label=${label} help=${help} error=${error} note=${note} required=${required} name=${name}>${(tie) => html`<div class="with-buttons">
    ${h('input', { type: shown ? 'text' : 'password', autocomplete: 'off', spellcheck: false, ...rest, ...tie, value, onInput: (event) => onInput(event.target.value) })}
    <${Button} icon="eye" kind="quiet" label=${shown ? 'Hide' : 'Show'} aria-pressed=${shown ? 'true' : 'false'} onClick=${() => show(!shown)} />
    ${generate && html`<${Button} icon="dice" kind="quiet" label="Make one up" onClick=${() => (show(true), onInput(generate()))} />`}
  </div>`}<//>`;
}

/** On or off. */
export function Switch({ label, help, error, checked, onInput, disabled = false, name }) {
  const id = useId();
  return html`<div class=${`field switch-field ${error ? 'wrong' : ''}`} data-field=${name}>
    <label class="switch"><input type="checkbox" role="switch" id=${id} checked=${checked} disabled=${disabled} aria-describedby=${help ? `${id}h` : undefined}
      onChange=${(event) => onInput(event.target.checked)} /><span class="switch-track" aria-hidden="true"></span><span>${label}</span></label>
    ${help && html`<p class="help" id=${`${id}h`}>${help}</p>`}
    <p class="wrong-text" aria-live="polite">${error && html`<${Icon} name="warn" size=${14} /> <${Said} text=${error} />`}</p>
  </div>`;
}

/** One of a few, side by side: the arrow keys go from one to the next. */
export function Choice({ label, value, onInput, options, hideLabel = false }) {
  const name = useId();
  const keys = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = options.findIndex((option) => option.value === value);
    const to = (at + step + options.length) % options.length;
    onInput(options[to].value);
    event.currentTarget.querySelectorAll('button')[to]?.focus();
  };
  return html`<div class="choice"><span class=${hideLabel ? 'offscreen' : 'choice-label'} id=${name}>${label}</span>
    <div class="choice-row" role="radiogroup" aria-labelledby=${name} onKeyDown=${keys}>${options.map(
      ({ value: option, label: text, icon }) => html`<button key=${option} type="button" role="radio" aria-checked=${option === value ? 'true' : 'false'} tabindex=${option === value ? 0 : -1}
        onClick=${() => onInput(option)}>${icon && html`<${Icon} name=${icon} size=${16} />`}<span>${text}</span></button>`,
    )}</div></div>`;
}

/** A field to search with; `/` leads to it. */
export function Search({ value, onInput, label = 'Search', placeholder = label }) {
  const clear = (event) => {
    if (event.key === 'Escape' && value) {
      event.stopPropagation();
      onInput('');
    }
  };
  return html`<div class="search"><${Icon} name="search" /><input type="search" aria-label=${label} placeholder=${placeholder} value=${value} data-search
    autocomplete="off" spellcheck=${false} onInput=${(event) => onInput(event.target.value)} onKeyDown=${clear} /><kbd class="search-key" aria-hidden="true">/</kbd></div>`;
}

/** A password that nobody has had before. */
export function makeSecret(length = 16) {
  const letters = 'abcdefghjkmnpqrstuvwxyzABCDEFGHJKMNPQRSTUVWXYZ23456789';
  const out = [];
  while (out.length < length) {
    for (const byte of crypto.getRandomValues(new Uint8Array(32))) {
      // Those beyond a multiple of the alphabet would favour its first letters.
      if (byte < 256 - (256 % letters.length) && out.length < length) out.push(letters[byte % letters.length]);
    }
  }
  return out.join('');
}

/** Leads to the first field that is wrong. */
export function focusWrong(form) {
  const field = form.querySelector('.field.wrong');
  const input = field?.querySelector('input, select, textarea');
  field?.closest('details')?.setAttribute('open', '');
  input?.focus({ preventScroll: true });
  // In the middle: a foot that stays in sight covers nothing of it.
  field?.scrollIntoView({ block: 'center' });
  return Boolean(input);
}
