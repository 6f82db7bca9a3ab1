// State as words with a colour beside them, never as a colour alone.

import { html, memo } from './html.js';
import { useSecond, useStore } from './use.js';
import { Icon } from './icon.js';
import { Said } from './text.js';
import { hostNow } from '../api.js';
import { duration, visible } from '../format.js';
import { activityOf, workerLabel, workerTone } from '../phase.js';

/** `<${Badge} tone="good">Ready</>`; `moving` lets its dot breathe. */
export function Badge({ tone = 'off', moving = false, children }) {
  return html`<span class="badge" data-tone=${tone}><span class=${`dot ${moving ? 'moving' : ''}`} aria-hidden="true"></span>${children}</span>`;
}

export const WorkerBadge = ({ worker }) => html`<${Badge} tone=${workerTone(worker)}>${workerLabel(worker)}<//>`;

/**
 * What happens to a server, as it happens: `Stopping · waiting for the save, 12 s of 30`.
 * `compact` leaves the details out.
 */
export const Activity = memo(function Activity({ server, compact = false }) {
  // Only what moves is counted, so most rows never listen to events.
  const events = useStore((state) => (server.phase === 'Stopping' || server.phase === 'Starting' || server.phase === 'Running' ? state.events : NONE));
  const now = activityOf(server, events);
  useSecond(Boolean(now.since || now.until));
  const begun = now.since ? Math.max(0, (hostNow() - Date.parse(now.since)) / 1000) : null;
  const left = now.until ? (Date.parse(now.until) - hostNow()) / 1000 : null;
  const counted = begun === null ? null : now.of ? `${Math.floor(begun)} s of ${now.of}` : begun < 60 ? `${Math.floor(begun)} s` : duration(begun);
  const rest = left === null ? null : left > 0 ? `in ${duration(left + 1)}` : 'any moment';
  const parts = [compact ? null : now.detail && visible(now.detail), counted ?? rest].filter(Boolean).join(', ');
  return html`<span class="activity">
    <${Badge} tone=${now.tone} moving=${now.tone === 'busy'}>${now.label}<//>
    ${parts && html`<span class="activity-detail" title=${parts}>${parts}</span>`}
    ${now.percent !== null && html`<${Progress} value=${now.percent} label=${`${server.name}: ${now.label}`} />`}
  </span>`;
});

const NONE = [];

/** How far something is, 0 to 100; without a number it only moves. */
export function Progress({ value = null, label }) {
  const known = value !== null && value !== undefined;
  return html`<span class="progress" role="progressbar" aria-label=${label} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${known ? value : undefined}>
    <span class=${`progress-bar ${known ? '' : 'moving'}`} style=${{ '--part': known ? value / 100 : 0.3 }}></span>
  </span>`;
}

/** A bar of how much of something is used. `part` 0 to 100, or null where nobody knows. */
export const Meter = memo(function Meter({ icon, label, part, text }) {
  const tone = part === null ? 'off' : part >= 92 ? 'bad' : part >= 80 ? 'warn' : 'good';
  return html`<span class="meter" data-tone=${tone} title=${`${label}: ${text}`}>
    ${icon && html`<${Icon} name=${icon} size=${15} />`}
    <span class="meter-track" aria-hidden="true"><span class="meter-fill" style=${{ '--part': ((part ?? 0) / 100).toFixed(3) }}></span></span>
    <span class="meter-text"><span class="offscreen">${label}: </span>${text}</span>
  </span>`;
});

export function Players({ players }) {
  if (!players) return html`<span class="muted" title="The game does not tell">–</span>`;
  const names = players.names?.length ? players.names.map(visible).join(', ') : null;
  const text = players.max ? `${players.online}/${players.max}` : `${players.online}`;
  return html`<span class="players" title=${names ?? undefined}><${Icon} name="players" size=${15} /><span class="offscreen">Players: </span>${text}</span>`;
}

/** The little picture of a game: letters on a colour of its own. */
export const GameMark = memo(function GameMark({ name }) {
  const text = visible(name);
  let hash = 0;
  for (const letter of text) hash = (hash * 31 + letter.codePointAt(0)) >>> 0;
  const letters = text.split(/[^\p{L}\p{N}]+/u).filter(Boolean).slice(0, 2).map((word) => [...word][0].toUpperCase()).join('');
  return html`<span class="gamemark" data-hue=${hash % 8} aria-hidden="true">${letters || '?'}</span>`;
});

export const ConditionList = ({ conditions }) =>
  conditions?.length
    ? html`<ul class="conditions">${conditions.map(
        (one) => html`<li key=${one.type}><${Icon} name="warn" size=${16} /><div><${Said} text=${one.message} />${one.hint && html`<div class="muted"><${Said} text=${one.hint} /></div>`}</div></li>`,
      )}</ul>`
    : null;
