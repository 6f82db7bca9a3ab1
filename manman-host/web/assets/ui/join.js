// A machine that asks to join: accept it or send it away.

import { html, memo } from './html.js';
import { useAct, useMay } from './use.js';
import { Button } from './button.js';
import { Icon } from './icon.js';
import { Ago, Foreign } from './text.js';
import { ask } from './dialog.js';
import { api, path } from '../api.js';
import { bytes, visible } from '../format.js';

export const JoinRequest = memo(function JoinRequest({ worker }) {
  const [run, busy] = useAct();
  const may = useMay('manage');
  const { capabilities: can } = worker;
  const accept = () => run(() => api.post(path('worker', worker.id, 'accept')), `${visible(worker.name)} has joined`);
  const refuse = async () => {
    const sure = await ask({ title: `Refuse ${visible(worker.name)}?`, text: 'It is told to forget this host. It may ask again when somebody starts it anew.', confirm: 'Refuse', danger: true });
    if (sure) await run(() => api.delete(path('worker', worker.id)), `${visible(worker.name)} was refused`);
  };
  const facts = [can.os, can.cpus ? `${can.cpus} cores` : null, can.memory_bytes ? bytes(can.memory_bytes) : null].filter(Boolean).map(visible).join(', ');
  const why = may ? null : 'Only an admin lets machines in';
  return html`<li class="trouble" data-tone="info" data-join=${worker.id}>
    <${Icon} name="machine" />
    <p class="trouble-text"><strong><${Foreign} text=${worker.name} /></strong> at <bdi class="mono">${visible(worker.address)}</bdi> asks to join <span class="muted"><${Ago} at=${worker.created_at} />${facts && ` · ${facts}`}</span></p>
    <${Button} kind="primary" small icon="check" busy=${busy} disabled=${!may} why=${why} onClick=${accept}>Accept<//>
    <${Button} small disabled=${!may || busy} why=${why} onClick=${refuse}>Refuse<//>
  </li>`;
});
