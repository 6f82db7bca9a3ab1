import assert from 'node:assert/strict';
import { test } from 'node:test';

import { commandsOf, complete } from '../assets/pages/server/complete.js';
import { baseOf, changesOf, conflictOf, patchOf } from '../assets/pages/server/diff.js';
import { KEPT, Typed } from '../assets/pages/server/typed.js';
import { summary, tabled } from '../assets/series.js';

const memory = () => {
  const map = new Map();
  return { getItem: (key) => map.get(key) ?? null, setItem: (key, value) => map.set(key, value) };
};

test('typed lines come back, newest first, and what was being written with them', () => {
  const storage = memory();
  const typed = new Typed(storage, 's');
  for (const line of ['a', 'b', 'a']) typed.add(line);
  assert.deepEqual(typed.lines, ['b', 'a'], 'a line that is typed again is not there twice');
  assert.equal(typed.before('dra'), 'a');
  assert.equal(typed.before('a'), 'b');
  assert.equal(typed.before('b'), null);
  assert.equal(typed.after(), 'a');
  assert.equal(typed.after(), 'dra');
  assert.equal(typed.after(), null);
  assert.deepEqual(new Typed(storage, 's').lines, ['b', 'a']);
  assert.deepEqual(new Typed(storage, 'other').lines, []);
  for (let i = 0; i < 300; i += 1) typed.add(String(i));
  assert.equal(typed.lines.length, KEPT);
});

test('a storage that is full, forbidden or filled with nonsense does no harm', () => {
  const bad = { getItem: () => '{"no":', setItem: () => { throw new Error('full'); } };
  const typed = new Typed(bad, 's');
  typed.add('x');
  assert.equal(typed.before(''), 'x');
  assert.deepEqual(new Typed({ getItem: () => '[1,"a",null]', setItem() {} }, 's').lines, ['a']);
  new Typed(null, 's').add('y');
});

test('a line goes on with commands, then players, then what was typed', () => {
  const commands = commandsOf({
    say: { label: 'Say', console: 'say {{inputs.text}}' },
    save: { label: 'Save', console: 'save' },
    script: { label: 'No line', console: '' },
    off: { label: 'Off', console: 'secret', disabled: true },
  });
  const known = { commands, players: ['Robin', 'Robin Hood', 'x"y'], typed: ['say hello', 'status', 'kick Robin'] };
  const lines = (text) => complete(text, known).map((one) => one.line);
  assert.deepEqual(lines('sa'), ['say ', 'save', 'say hello']);
  assert.deepEqual(lines('SA'), ['say ', 'save', 'say hello']);
  assert.deepEqual(lines(''), []);
  assert.deepEqual(lines('kick r'), ['kick Robin ', 'kick "Robin Hood" ', 'kick Robin']);
  assert.deepEqual(lines('kick "Robin H'), ['kick "Robin Hood" ']);
  assert.deepEqual(lines('rob'), [], 'the first word is no name');
  assert.deepEqual(lines('kick x'), [], 'a name with a quote is not written');
});

const server = (more = {}) => ({ generation: 3, name: 'oa', variables: { map: 'dm1', slots: '8', pass: null }, limits: { memory_bytes: 2 ** 30 }, ...more });
const rules = { map: { label: 'Map' }, slots: { type: 'integer' }, pass: { secret: true }, host: { default: '{{server.name}}' } };

test('only what differs is a change, and it is sent as a merge patch', () => {
  const base = baseOf(server());
  assert.deepEqual(changesOf(base, { variables: { map: 'dm1', pass: '' }, limits: {} }, rules), []);
  const changes = changesOf(base, { name: 'oa2', variables: { map: 'dm2', pass: 'geheim', slots: null }, limits: { memory_bytes: null, cpu_millis: 1500 } }, rules);
  assert.deepEqual(patchOf(changes), { name: 'oa2', variables: { map: 'dm2', pass: 'geheim', slots: null }, limits: { memory_bytes: null, cpu_millis: 1500 } });
  assert.equal(changes.find((change) => change.name === 'pass').before, '•••');
});

test('an empty field whose default names other words brings that default back', () => {
  const base = baseOf(server({ variables: { host: 'mine' } }));
  assert.deepEqual(patchOf(changesOf(base, { variables: { host: '' } }, rules)), { variables: { host: null } });
});

test('what others changed meanwhile is told apart from what one has written', () => {
  const base = baseOf(server());
  const now = baseOf(server({ generation: 4, variables: { map: 'dm9', slots: '16', pass: null } }));
  const changes = changesOf(base, { variables: { map: 'dm2' } }, rules);
  const { theirs, both } = conflictOf(base, now, changes);
  assert.deepEqual(theirs.map((one) => one.name), ['map', 'slots']);
  assert.deepEqual(both.map((one) => one.name), ['map']);
  assert.deepEqual(conflictOf(base, baseOf(server({ generation: 5 })), changes), { theirs: [], both: [] }, 'a start is no change of the settings');
});

test('a graph is said in words and in few rows, and gaps are gaps', () => {
  const series = [{ label: 'CPU', values: [1, null, 3, null, null, null] }];
  assert.equal(summary(series, String), 'CPU 3 now, 2 in the mean, 3 at most');
  assert.equal(summary([{ label: 'CPU', values: [null] }], String), 'CPU nothing measured');
  assert.deepEqual(tabled({ from: 100, step: 10, series }, 3), [
    { at: 100, values: [1] },
    { at: 120, values: [3] },
    { at: 140, values: [null] },
  ]);
  assert.deepEqual(tabled({ from: 0, step: 10, series: [] }), []);
});
