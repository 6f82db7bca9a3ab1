// One run of an action: begun, waited for, shown. It goes on whether somebody waits or not.

import { api, path } from '../../ui/index.js';

const WAIT = '20s';

/** Begins an action and follows it: `tell(run)` is called with each news; resolves to the last. */
export async function runAction(server, action, inputs, tell = () => {}, signal) {
  const answer = await api.post(path('server', server.id, 'command'), { action, inputs }, { signal });
  if (!answer.action) return { state: answer.done === 'unseen' ? 'sent' : 'done', action, lines: answer.answer ?? [], done: answer.done ?? null };
  let run = answer.action;
  tell(run);
  while (run.state === 'running' || run.state === 'unknown') {
    const begun = performance.now();
    run = await api.get(`${path('server', server.id, 'action', run.id)}?wait=${WAIT}`, { signal });
    tell(run);
    // A host that answers at once is not asked a hundred times a second.
    if (performance.now() - begun < 500) await new Promise((resolve) => setTimeout(resolve, 500));
  }
  return run;
}

const REASONS = {
  interrupted: 'the machine’s worker was restarted while it ran',
  timeout: 'it took too long and was ended',
  spawn: 'it could not be started',
  exit: 'it ended without success',
  error: 'it failed',
  refused: 'it was refused; nothing was changed',
};

/** Why a run failed, in words. */
export const failureOf = (run) => run.problem?.detail ?? REASONS[run.reason] ?? 'it failed';

/** An answer as pairs of a word and a text; null where it is no flat map. */
export function pairsOf(answer) {
  if (answer === null || typeof answer !== 'object' || Array.isArray(answer)) return null;
  return Object.entries(answer).map(([name, value]) => [name.replaceAll('_', ' '), textOf(value)]);
}

export function textOf(value) {
  if (value === null || value === undefined) return '–';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
