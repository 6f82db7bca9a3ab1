import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkGameId, checkName, checkPassword, checkPort, checkValue, expandDefault, isTemplate, range } from '../assets/validate.js';

const text = (more = {}) => ({ type: 'text', ...more });
const integer = (more = {}) => ({ type: 'integer', ...more });

// The same cases as the host's own tests (domain/variables.rs): what is right there is right here.
test('texts', () => {
  assert.equal(checkValue(text(), ''), null);
  assert.ok(checkValue(text({ required: true }), ''));
  assert.ok(checkValue(text({ min: 1 }), ''));
  assert.equal(checkValue(text({ min: 0, pattern: 'x+' }), ''), null, 'empty is “not set”');
  assert.equal(checkValue(text({ max: 2 }), '🎮🎮'), null, 'characters are counted, not bytes');
  assert.match(checkValue(text({ max: 2 }), 'abc'), /At most 2/);
  assert.ok(checkValue(text(), 'a\nb'));
  assert.ok(checkValue(text(), 'a\u0085b'));
  assert.ok(checkValue(text(), 'ä'.repeat(2049)), 'too many bytes');
  assert.ok(checkValue(text({ options: ['a', 'b'] }), 'c'));
  assert.equal(checkValue(text({ options: ['a', 'b'] }), 'b'), null);
});

test('the whole text must match, and the stranger is named', () => {
  const map = text({ pattern: '[A-Za-z0-9_-]{1,32}' });
  assert.equal(checkValue(map, 'oa_dm1'), null);
  assert.equal(checkValue(map, 'oa;dm1'), '“;” is not allowed here');
  assert.equal(checkValue(map, 'oa dm1'), 'A space is not allowed here');
  assert.ok(checkValue(map, 'x'.repeat(33)));
  const name = text({ pattern: "[A-Za-z0-9][A-Za-z0-9 ._,:!?'#&()^-]*" });
  assert.equal(checkValue(name, "Ann's server!"), null);
  assert.equal(checkValue(name, 'a"b'), '“"” is not allowed here');
  assert.ok(checkValue(name, ' a'));
  assert.equal(checkValue(text({ pattern: 'a|bc' }), 'bc'), null);
  assert.ok(checkValue(text({ pattern: 'a|bc' }), 'abc'), 'not a part of it');
  assert.equal(checkValue(text({ pattern: '(?P<rust>a)' }), 'anything'), null, 'a pattern of Rust’s alone is left to the host');
});

test('numbers and truth', () => {
  const players = integer({ min: 1, max: 64 });
  assert.equal(checkValue(players, '64'), null);
  assert.equal(checkValue(players, ' 8 '), null);
  for (const bad of ['0', '65', '8.5', '1e1', 'many', '0x10', '--1']) assert.ok(checkValue(players, bad), bad);
  assert.equal(checkValue(players, ''), null);
  assert.ok(checkValue(integer({ required: true }), ''));
  assert.ok(checkValue(integer({ options: ['0', '1'] }), '2'));
  for (const good of ['true', 'false', '1', 'off']) assert.equal(checkValue({ type: 'boolean' }, good), null);
  assert.ok(checkValue({ type: 'boolean' }, 'maybe'));
  assert.deepEqual([range({ min: 1, max: 2 }), range({ min: 1 }), range({ max: 2 }), range({})], ['1 to 2', '1 and above', 'up to 2', '']);
});

test('names, ports, passwords and game ids', () => {
  for (const good of ['oa', 'Attic-2', 'a', 'my_server.eu', 'x'.repeat(63)]) assert.equal(checkName(good), null, good);
  for (const bad of ['', '-oa', '.', '..', 'a/b', 'a b', 'ä', 'a\n', 'x'.repeat(64)]) assert.ok(checkName(bad), bad);
  for (const good of ['', '1', '65535']) assert.equal(checkPort(good), null, good);
  for (const bad of ['0', '65536', '-1', '80a', '1.5']) assert.ok(checkPort(bad), bad);
  assert.ok(checkPassword('short'));
  assert.equal(checkPassword('a sentence is fine'), null);
  assert.ok(checkPassword('ä'.repeat(129)));
  for (const good of ['docker:itzg/minecraft-server', 'docker:localhost:5000/a/b:1.2', 'steamcmd:896660']) assert.equal(checkGameId(good), null, good);
  for (const bad of ['', 'valheim', 'steamcmd:x', 'docker:', 'npm:left-pad', 'docker:a b']) assert.ok(checkGameId(bad), bad);
});

test('a default is shown with the words that are known', () => {
  assert.equal(expandDefault('{{server.name}} on {{ports.game}}', { 'server.name': 'oa' }), 'oa on {{ports.game}}');
  assert.ok(isTemplate('{{server.name}}') && !isTemplate('plain') && !isTemplate(undefined));
});
