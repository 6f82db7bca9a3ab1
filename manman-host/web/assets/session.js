// Who is signed in, and what they may do.

import { api, whenSignedOut } from './api.js';
import { signal } from './signal.js';

/** `{state: 'unknown' | 'out' | 'in' | 'unreachable', me, error, notice}` */
export const session = signal({ state: 'unknown', me: null, error: null, notice: null });

/** Asks the host who we are. */
export async function look() {
  try {
    const me = await api.get('/me', { quiet: true });
    // Nothing is the answer to a stranger: no error, so that nothing is complained of.
    if (me) session.set({ state: 'in', me, error: null, notice: null });
    else leave();
  } catch (error) {
    const before = session.get();
    if (error.status === 401) leave();
    else if (before.state !== 'in') session.set({ ...before, state: 'unreachable', error });
    throw error;
  }
}

const OVER = 'Your session is over. Sign in again.';

function leave() {
  const before = session.get();
  session.set({ state: 'out', me: null, error: null, notice: before.state === 'in' ? OVER : before.notice });
}

/** Signs in by name and password, or by a token; what the host refuses is thrown. */
export async function signIn(body) {
  await api.post('/login', body, { quiet: true });
  await look();
}

export async function signOut() {
  try {
    await api.post('/logout', undefined, { quiet: true });
  } catch (error) {
    // A session that is over already is what was asked for.
    if (error.status !== 401) throw error;
  }
  session.set({ state: 'out', me: null, error: null, notice: 'You are signed out.' });
}

export function expire(notice = OVER) {
  if (session.get().state === 'in') session.set({ state: 'out', me: null, error: null, notice });
}

whenSignedOut(() => expire());

const ROLES = { admin: 3, operator: 2, viewer: 1 };

/** Whether the signed-in person may: `see`, `run` servers, `create` them, `manage` machines and people. */
export function may(what, me = session.get().me) {
  const rank = ROLES[me?.role] ?? 0;
  switch (what) {
    case 'see':
      return rank >= 1;
    case 'run':
      return rank >= 2;
    case 'create':
      return rank >= 2 && !me.server_id;
    case 'fleet':
      return rank >= 1 && !me.server_id;
    case 'manage':
      return rank >= 3;
    default:
      return false;
  }
}
