// Start, stop, restart, kill: the same buttons wherever a server is shown.

import { html, memo, useState } from './html.js';
import { useAct, useLive, useMay, useStore } from './use.js';
import { Button, Menu } from './button.js';
import { ask } from './dialog.js';
import { api, path } from '../api.js';
import { powerOf } from '../phase.js';

/** Sends the wish. What comes of it is seen in the server's own state, not assumed here. */
const send = (server, verb) => api.post(path('server', server.id, verb));

async function killAsked(server) {
  return ask({
    title: `Kill ${server.name}?`,
    text: 'The game ends at once, without saving. What it has not written yet is lost.',
    confirm: 'Kill it',
    danger: true,
  });
}

/** The state of a server's power, and what may be done: for buttons, menus and keys alike. */
export function usePower(server) {
  const live = useLive();
  const may = useMay('run');
  const frozen = useStore((state) => state.workers.get(server.worker_id)?.frozen ?? false);
  const [run, busy] = useAct();
  const [verb, set] = useState(null);
  const can = powerOf(server, { may, live, frozen });
  const go = async (which) => {
    if (which === 'kill' && !(await killAsked(server))) return;
    set(which);
    await run(() => send(server, which));
    set(null);
  };
  return { can, go, sending: busy ? verb : null };
}

/** `compact` shows icons alone and puts the rare ones into a menu: `more` are further items of it. */
export const PowerButtons = memo(function PowerButtons({ server, compact = false, more = null }) {
  const { can, go, sending } = usePower(server);
  const button = (which, icon, label, kind = '') => {
    const state = can[which];
    if (!state) return null;
    const text = state.label ?? label;
    return html`<${Button} key=${which} kind=${kind} icon=${icon} small=${compact} disabled=${!state.enabled} why=${state.why} busy=${sending === which || state.busy}
      label=${compact ? `${text} ${server.name}` : undefined} onClick=${() => go(which)} data-verb=${which}>${compact ? null : text}<//>`;
  };
  const rare = [
    compact && can.restart && { label: 'Restart', icon: 'restart', onClick: () => go('restart'), disabled: !can.restart.enabled, why: can.restart.why },
    can.kill && { label: 'Kill at once…', icon: 'kill', danger: true, onClick: () => go('kill'), disabled: !can.kill.enabled, why: can.kill.why },
    ...(more ?? []),
  ];
  return html`<div class="power" role="group" aria-label=${`Power of ${server.name}`}>
    ${button('start', 'play', 'Start', compact ? '' : 'primary')}${button('stop', 'stop', 'Stop')}${compact ? null : button('restart', 'restart', 'Restart')}
    <${Menu} label=${`More for ${server.name}`} items=${rare} small=${compact} />
  </div>`;
});
