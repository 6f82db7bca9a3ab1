// The form that a game's variables make: typed, explained, and checked while one writes.

import { html, memo } from './html.js';
import { SecretField, SelectField, Switch, TextField, makeSecret } from './form.js';
import { checkValue, expandDefault, isTemplate, range } from '../validate.js';
import { visible } from '../format.js';

/**
 * `variables` is the game's map of rules, `values` what is written so far (absent: the default),
 * `errors` what the host or checkVariables said by name. `kept` are names of secrets that have a
 * value already: left empty, they keep it.
 */
export function VariablesForm({ variables, values, errors = {}, words = {}, kept = null, onInput }) {
  return html`<div class="form-grid">${Object.entries(variables).map(
    ([name, spec]) => html`<${Variable} key=${name} name=${name} spec=${spec} value=${values[name]} error=${errors[name]} onInput=${onInput}
      placeholder=${isTemplate(spec.default) ? expandDefault(spec.default, words) : null} kept=${kept?.has(name) ?? false} />`,
  )}</div>`;
}

const Variable = memo(function Variable({ name, spec, value, error, placeholder, kept, onInput }) {
  const set = (text) => onInput(name, text);
  const shown = value ?? (placeholder === null ? (spec.default ?? '') : '');
  const allowed = range(spec);
  const rule = spec.type === 'integer' ? allowed : spec.type === 'text' && spec.max && spec.max < 1000 ? `${[...shown].length}/${spec.max}` : null;
  const common = { name, label: visible(spec.label || name), help: help(spec), error, required: spec.required };
  if (spec.type === 'boolean') {
    return html`<${Switch} ...${common} checked=${/^(true|1|yes|on)$/.test(shown)} onInput=${(on) => set(on ? 'true' : 'false')} />`;
  }
  if (spec.options?.length === 1 && spec.required) {
    // Only one answer will do: a licence to accept.
    return html`<${Switch} ...${common} checked=${shown === spec.options[0]} onInput=${(on) => set(on ? spec.options[0] : '')} />`;
  }
  if (spec.options?.length) {
    const options = spec.options.map((option) => ({ value: option, label: option }));
    if (!spec.options.includes(shown)) options.unshift({ value: shown, label: shown === '' ? '–' : shown });
    return html`<${SelectField} ...${common} value=${shown} options=${options} onInput=${set} />`;
  }
  if (spec.secret) {
    return html`<${SecretField} ...${common} value=${shown} onInput=${set} placeholder=${kept ? 'unchanged' : ''} generate=${() => makeSecret(Math.min(16, spec.max ?? 16))} maxlength=${spec.max ?? undefined} />`;
  }
  const number = spec.type === 'integer';
  return html`<${TextField} ...${common} note=${rule} value=${shown} onInput=${set} placeholder=${placeholder ?? ''} inputmode=${number ? 'numeric' : undefined}
    class=${number ? 'number' : ''} spellcheck=${false} />`;
});

function help(spec) {
  const parts = [spec.description && visible(spec.description)];
  if (spec.exposed === 'argv') parts.push('Others who are signed in on that machine can read it.');
  return parts.filter(Boolean).map((part, i, all) => (i < all.length - 1 && !/[.!?]$/.test(part) ? `${part}.` : part)).join(' ') || null;
}

/** What is wrong with each value, by name. */
export function checkVariables(variables, values, kept = null) {
  const errors = {};
  for (const [name, spec] of Object.entries(variables)) {
    const value = values[name];
    if (value === undefined && (isTemplate(spec.default) || kept?.has(name))) continue;
    const wrong = checkValue(spec, value ?? spec.default ?? '');
    if (wrong) errors[name] = wrong;
  }
  return errors;
}

/** The values that differ from the game's own defaults: what is sent. */
export function changedValues(variables, values) {
  const out = {};
  for (const [name, value] of Object.entries(values)) {
    const spec = variables[name];
    if (value === undefined || !spec) continue;
    // An empty field whose default names other words means that default.
    if (value === '' && isTemplate(spec.default)) continue;
    if (value !== (spec.default ?? '')) out[name] = value;
  }
  return out;
}
