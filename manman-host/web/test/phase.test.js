import assert from 'node:assert/strict';
import { test } from 'node:test';
import { activityOf, exitWords, powerOf, troubleOf } from '../assets/phase.js';
import { troubles } from '../assets/trouble.js';
import { changes, matches } from '../assets/events.js';
import { device } from '../assets/device.js';

const server = (phase, desired = 'running', more = {}) => ({ id: 's', name: 's', phase, desired, restarts: 0, ...more });
const shown = (can) => Object.keys(can).filter((verb) => can[verb]).join(' ');
const enabled = (can) => Object.keys(can).filter((verb) => can[verb]?.enabled).join(' ');

test('buttons are those that make sense', () => {
  const cases = [
    [server('Stopped', 'stopped'), 'start'],
    [server('Ready'), 'stop restart kill'],
    [server('Starting'), 'stop restart kill'],
    [server('Installing'), 'stop'],
    [server('Failed'), 'start stop'],
    [server('Backoff'), 'start stop'],
    [server('Stopping', 'stopped'), 'start kill'],
    [server('StopStuck', 'stopped'), 'start kill'],
    [server('Unknown', 'running', { last_phase: 'Ready' }), 'stop restart kill'],
    [server('Ready', 'deleted'), ''],
  ];
  for (const [one, want] of cases) assert.equal(enabled(powerOf(one)), want, `${one.phase} ${one.desired}`);
});

test('nothing can be pressed that could not be carried out, and why is said', () => {
  for (const where of [{ live: false }, { may: false }]) {
    const can = powerOf(server('Ready'), where);
    assert.equal(enabled(can), '');
    assert.equal(shown(can), 'stop restart kill');
    assert.ok(can.stop.why);
  }
  const frozen = powerOf(server('Stopped', 'stopped'), { frozen: true });
  assert.match(frozen.start.why, /frozen/);
  assert.equal(enabled(powerOf(server('Ready'), { frozen: true })), 'stop kill');
  const stopping = powerOf(server('Stopping', 'stopped'));
  assert.ok(stopping.stop.busy && !stopping.stop.enabled);
  assert.equal(powerOf(server('Failed')).start.label, 'Try again');
});

test('stopping says which step it waits for, and how long that may take', () => {
  const event = (id, kind, at, data) => ({ id, server_id: 's', kind, at, data });
  const events = [
    event(9, 'server.rung', 't3', { rung: { action: 'save', wait_seconds: 30 } }),
    event(8, 'server.stopping', 't2'),
    event(5, 'server.rung', 't1', { rung: { signal: 'TERM', wait_seconds: 10 } }),
  ];
  assert.deepEqual(
    (({ label, detail, since, of }) => ({ label, detail, since, of }))(activityOf(server('Stopping'), events)),
    { label: 'Stopping', detail: 'waiting for the save', since: 't3', of: 30 },
  );
  // A rung of an earlier stop is not this one's.
  assert.equal(activityOf(server('Stopping'), events.slice(1)).detail, null);
  assert.equal(activityOf(server('Stopping'), events.slice(1)).since, 't2');
  assert.equal(activityOf(server('Stopping'), []).since, null);
});

test('what is wished and not yet so is said', () => {
  assert.equal(activityOf(server('Stopped', 'running')).label, 'Is to start');
  assert.equal(activityOf(server('Ready', 'stopped')).label, 'Is to stop');
  assert.equal(activityOf(server('Ready', 'deleted')).label, 'Being deleted');
  assert.equal(activityOf(server('Unknown', 'running', { last_phase: 'Ready' })).detail, 'last seen: ready');
  assert.equal(activityOf(server('Installing', 'running', { progress: { percent: 42, step: 'layer' } })).percent, 42);
});

test('how a game ended is in words', () => {
  assert.equal(exitWords({ oom: true, code: 137 }), 'out of memory');
  assert.equal(exitWords({ reason: 'port taken', code: 1 }), 'port taken');
  assert.equal(exitWords({ code: null, signal: 9 }), 'ended by signal 9');
  assert.equal(exitWords({ code: 0, signal: null }), 'exit code 0');
  assert.equal(exitWords({ code: null, signal: null }), null);
  assert.equal(exitWords(null), null);
});

test('the worst stands first, and what is well is not named', () => {
  assert.equal(troubleOf(server('Ready')), null);
  assert.equal(troubleOf(server('Backoff', 'running', { restarts: 1 })), null);
  assert.ok(troubleOf(server('Backoff', 'running', { restarts: 3 })));
  assert.equal(troubleOf(server('Failed', 'deleted')), null);
  const state = {
    servers: new Map([['a', { ...server('Crashed'), id: 'a', name: 'a' }], ['b', { ...server('Failed'), id: 'b', name: 'b' }], ['c', server('Ready')]]),
    workers: new Map([['w', { id: 'w', name: 'w', status: 'pending' }], ['v', { id: 'v', name: 'v', status: 'alive' }]]),
  };
  assert.deepEqual(troubles(state).map((one) => one.key), ['w', 'b', 'a']);
  assert.equal(troubles(state), troubles({ ...state }), 'the same list for the same fleet');
});

test('events are found by kind and words, and tell what changed', () => {
  const event = { id: 1, kind: 'login.failed', actor: 'anna', message: 'no', server_id: 's', worker_id: null };
  assert.ok(matches(event, { kind: 'login' }) && matches(event, { kind: 'login.' }) && matches(event, { server: 's', word: 'ann' }));
  assert.ok(!matches(event, { kind: 'log' }) && !matches(event, { kind: 'server.' }) && !matches(event, { worker: 'w' }));
  assert.deepEqual(changes({ before: { a: 1, b: 2 }, after: { a: 1, b: 3, c: { d: 1 } } }), [
    { name: 'b', before: '2', after: '3' },
    { name: 'c.d', before: '–', after: '1' },
  ]);
  assert.deepEqual(changes({ before: { v: { A: '1', B: '2' } }, after: { v: { A: '1', B: '3' } } }), [{ name: 'v.B', before: '2', after: '3' }]);
  assert.deepEqual(changes(null), []);
  assert.deepEqual(changes({ before: 'x', after: [] }), []);
  assert.deepEqual(changes({ after: { id: 1, scope: 'join', label: null } }), [{ name: 'scope', before: null, after: 'join' }]);
});

test('a browser is called by its name', () => {
  assert.equal(device('Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36'), 'Chrome on Linux');
  assert.equal(device('Mozilla/5.0 (Linux; Android 15; Pixel 9) Chrome/141.0 Mobile Safari/537.36'), 'Chrome on Android');
  assert.equal(device('<script>'), 'A browser');
  assert.equal(device(null), 'A browser');
});
