// What a server's and a machine's state means to a person: its word, its colour, what is being waited
// for, and what may be asked of it now. Values in, values out.

/** Tones: `good`, `busy`, `warn`, `bad`, `off`. */
const PHASES = {
  Pending: ['Waiting', 'busy'],
  Installing: ['Installing', 'busy'],
  Stopped: ['Stopped', 'off'],
  Starting: ['Starting', 'busy'],
  Running: ['Almost ready', 'busy'],
  Ready: ['Ready', 'good'],
  Unready: ['Not answering', 'warn'],
  Stopping: ['Stopping', 'busy'],
  Crashed: ['Crashed', 'bad'],
  Backoff: ['Starts again soon', 'warn'],
  Failed: ['Failed', 'bad'],
  StopStuck: ['Can’t be stopped', 'bad'],
  Orphaned: ['Runs unasked', 'warn'],
  Unknown: ['Out of sight', 'warn'],
  Deleted: ['Deleted', 'off'],
};

const LIVE = new Set(['Starting', 'Running', 'Ready', 'Unready', 'Stopping', 'StopStuck', 'Orphaned']);

export const phaseLabel = (phase) => PHASES[phase]?.[0] ?? phase;
const phaseTone = (phase) => PHASES[phase]?.[1] ?? 'off';
/** Whether a process of the game lives in this phase. */
export const isLive = (phase) => LIVE.has(phase);
export const isDeleting = (server) => server.desired === 'deleted' || server.phase === 'Deleted';

const WORKERS = {
  pending: ['Asks to join', 'warn'],
  alive: ['Online', 'good'],
  frozen: ['Frozen', 'busy'],
  shutdown: ['Shut down', 'off'],
  unknown: ['Out of sight', 'bad'],
};

export const workerLabel = (worker) => (worker.status === 'alive' && worker.frozen ? 'Frozen' : (WORKERS[worker.status]?.[0] ?? worker.status));
export const workerTone = (worker) => (worker.status === 'alive' && worker.frozen ? 'busy' : (WORKERS[worker.status]?.[1] ?? 'off'));

/** A rung of the stop ladder, as one waits for it. */
function rungWords(rung) {
  if (!rung) return null;
  if (rung.action) return /save/i.test(rung.action) ? 'waiting for the save' : `waiting for “${rung.action}”`;
  if (rung.console !== undefined) return `told “${rung.console}”`;
  return rung.signal ? `sent SIG${rung.signal}` : null;
}

/**
 * What is happening to the server now: `{label, tone, detail, since, of, percent}`. `since` is the
 * moment (as the fleet's events have it) from which one counts, `of` the seconds it may take.
 * `events` are newest first, of any server.
 */
export function activityOf(server, events = []) {
  const phase = server.phase;
  const says = { label: phaseLabel(phase), tone: phaseTone(phase), detail: null, since: null, of: null, percent: null, until: null };
  if (isDeleting(server)) return { ...says, label: 'Being deleted', tone: 'busy' };
  if (phase === 'Unknown') {
    return { ...says, detail: server.last_phase ? `last seen: ${phaseLabel(server.last_phase).toLowerCase()}` : null };
  }
  if (phase === 'Stopping') return { ...says, ...stopping(server, events) };
  if (phase === 'Installing' || phase === 'Pending') {
    const { percent = null, step = null } = server.progress ?? {};
    return { ...says, percent, detail: step || null };
  }
  if (phase === 'Starting' || phase === 'Running') {
    return { ...says, since: latest(server, events, ['server.starting', 'server.started', 'server.retried']), detail: server.progress?.step || null };
  }
  if (phase === 'Backoff') return { ...says, until: server.backoff_until ?? null, detail: exitWords(server.exit) };
  if (phase === 'Failed' || phase === 'Crashed') return { ...says, detail: exitWords(server.exit) };
  // The wish is newer than what the worker has heard of.
  if (server.desired === 'running' && phase === 'Stopped') return { ...says, label: 'Is to start', tone: 'busy' };
  if (server.desired === 'stopped' && (phase === 'Ready' || phase === 'Unready')) return { ...says, label: 'Is to stop', tone: 'busy' };
  return says;
}

function latest(server, events, kinds) {
  return events.find((event) => event.server_id === server.id && kinds.includes(event.kind))?.at ?? null;
}

const STOPS = ['server.stopping', 'server.stop', 'server.restart', 'server.kill'];

function stopping(server, events) {
  const own = events.filter((event) => event.server_id === server.id);
  const begin = own.findIndex((event) => event.kind === 'server.stopping');
  const rungs = (begin < 0 ? [] : own.slice(0, begin)).filter((event) => event.kind === 'server.rung');
  const since = begin >= 0 ? own[begin].at : latest(server, own, STOPS);
  const rung = rungs[0];
  if (rung) return { since: rung.at, of: rung.data?.rung?.wait_seconds ?? null, detail: rungWords(rung.data?.rung) };
  return { since };
}

/** How the last instance ended, in words; null where nothing is known. */
export function exitWords(exit) {
  if (!exit) return null;
  if (exit.oom) return 'out of memory';
  if (exit.reason) return exit.reason;
  if (exit.signal !== null && exit.signal !== undefined) return `ended by signal ${exit.signal}`;
  return exit.code === null || exit.code === undefined ? null : `exit code ${exit.code}`;
}

/**
 * Which power buttons make sense now: for each of start, stop, restart and kill either null (not to be
 * seen) or `{enabled, why, busy}`. `busy` says that just this is under way.
 */
export function powerOf(server, { may = true, live = true, frozen = false } = {}) {
  const { phase, desired } = server;
  const reason = !live ? 'The host is not connected' : !may ? 'Your role may only look' : isDeleting(server) ? 'It is being deleted' : null;
  const button = (enabled, why = null, busy = false) => ({ enabled: enabled && !reason, why: reason ?? (enabled ? null : why), busy });
  const shown = phase === 'Unknown' ? (server.last_phase ?? 'Unknown') : phase;
  const alive = isLive(shown) || shown === 'Unknown';
  const wantsRun = desired === 'running';
  const tryAgain = ['Failed', 'Backoff', 'Crashed'].includes(shown);
  const start = button(!frozen, 'The machine is frozen: nothing new starts there', wantsRun && !alive && !tryAgain);
  const stop = button(true, null, desired === 'stopped' && alive);
  return {
    start: !wantsRun || tryAgain || (!alive && !start.busy) ? { ...start, label: tryAgain ? 'Try again' : 'Start' } : null,
    stop: wantsRun || alive ? { ...stop, enabled: stop.enabled && desired !== 'stopped', why: stop.why ?? (desired === 'stopped' ? 'It is stopping already' : null) } : null,
    restart: wantsRun && alive ? button(!frozen && shown !== 'Stopping', frozen ? 'The machine is frozen: nothing new starts there' : 'It is stopping') : null,
    kill: alive ? button(true) : null,
  };
}

/** Whether a server wants a person, and why: `{rank, text}` or null. Lower ranks first. */
export function troubleOf(server) {
  if (isDeleting(server)) return null;
  const { phase } = server;
  const shown = phase === 'Unknown' ? server.last_phase : phase;
  if (shown === 'StopStuck') return { rank: 0, text: 'can’t be stopped' };
  if (shown === 'Failed') return { rank: 1, text: `has failed and is not tried again${because(server)}` };
  if (phase === 'Crashed') return { rank: 2, text: `has crashed${because(server)}` };
  if (phase === 'Unready') return { rank: 3, text: 'runs, but does not answer' };
  if (phase === 'Orphaned') return { rank: 3, text: 'runs, though nobody asked for it' };
  if (phase === 'Backoff' && server.restarts >= 3) return { rank: 4, text: `keeps crashing${because(server)}` };
  return null;
}

function because(server) {
  const why = exitWords(server.exit) ?? server.conditions?.[0]?.message ?? null;
  return why ? `: ${why}` : '';
}
