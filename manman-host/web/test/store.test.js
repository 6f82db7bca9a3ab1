import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EMPTY, EVENTS_MAX, apply, backoff, merged, resumeQuery } from '../assets/store.js';

const server = (id, phase = 'Ready') => ({ id, name: id, phase });
const begun = () =>
  [
    { type: 'hello', epoch: 'e 1', seq: 4 },
    { type: 'snapshot', seq: 4, servers: [server('a'), server('b')], workers: [{ id: 'w' }], services: [{ name: 's' }], events: [{ id: 1 }, { id: 2 }] },
  ].reduce(apply, EMPTY);

test('a snapshot is all there is', () => {
  const state = begun();
  assert.ok(state.ready);
  assert.deepEqual([...state.servers.keys()], ['a', 'b']);
  assert.deepEqual([...state.services.keys()], ['s']);
  assert.deepEqual(state.events.map((event) => event.id), [2, 1]);
  const again = apply(state, { type: 'snapshot', seq: 9, servers: [server('c')], workers: [], services: [] });
  assert.deepEqual([...again.servers.keys()], ['c']);
  assert.equal(again.seq, 9);
  assert.equal(again.events.length, 0);
});

test('a delta changes what it names, and leaves all else the very same', () => {
  const before = begun();
  const after = apply(before, {
    type: 'delta',
    seq: 5,
    changes: [
      { kind: 'server', id: 'a', value: server('a', 'Stopping') },
      { kind: 'server', id: 'b', value: null },
      { kind: 'server', id: 'c', value: server('c') },
      { kind: 'event', value: { id: 3 } },
      { kind: 'weather', id: 'x', value: 1 },
    ],
  });
  assert.equal(after.servers.get('a').phase, 'Stopping');
  assert.equal(before.servers.get('a').phase, 'Ready', 'the old state is as it was');
  assert.deepEqual([...after.servers.keys()], ['a', 'c']);
  assert.equal(after.workers, before.workers, 'untouched parts are the same objects');
  assert.deepEqual(after.events.map((event) => event.id), [3, 2, 1]);
  assert.equal(apply(after, { type: 'delta', seq: 6, changes: [{ kind: 'event', value: { id: 3 } }] }).events.length, 3, 'no event twice');
});

test('words that are not known change nothing', () => {
  const state = begun();
  assert.equal(apply(state, { type: 'ping' }), state);
  assert.equal(apply(state, { type: 'from-the-future', servers: [] }), state);
});

test('it goes on where it was, and begins anew where nothing was', () => {
  assert.equal(resumeQuery(EMPTY), '');
  assert.equal(resumeQuery(apply(EMPTY, { type: 'hello', epoch: 'e', seq: 3 })), '', 'a hello alone is nothing to go on from');
  assert.equal(resumeQuery(begun()), '?epoch=e%201&since=4');
});

test('events are bounded', () => {
  const many = Array.from({ length: EVENTS_MAX + 50 }, (_, i) => ({ id: i }));
  const list = merged([], many);
  assert.equal(list.length, EVENTS_MAX);
  assert.equal(list[0].id, EVENTS_MAX + 49);
});

test('tries are further and further apart, up to ten seconds, and never all at once', () => {
  assert.deepEqual([0, 1, 2, 3, 4, 5, 50].map((tries) => backoff(tries, 1)), [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
  assert.deepEqual([0, 5].map((tries) => backoff(tries, 0)), [250, 5000]);
});
