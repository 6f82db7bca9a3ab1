import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytes, cores, duration, initials, list, parseSize, percent, relative, visible } from '../assets/format.js';

test('sizes are read and written in the same words', () => {
  assert.deepEqual([0, 1023, 1024, 1536, 2 ** 30 * 32, null, NaN].map(bytes), ['0 B', '1023 B', '1 KiB', '1.5 KiB', '32 GiB', '–', '–']);
  for (const text of ['512 MiB', '4 GiB', '1.5 GiB']) assert.equal(bytes(parseSize(text)), text);
  assert.equal(parseSize('4g'), 4 * 2 ** 30);
  assert.equal(parseSize('1,5 GiB'), 1.5 * 2 ** 30);
  for (const none of ['', 'much', '4 apples', '-1', '4 GiB more', '1e9']) assert.equal(parseSize(none), null);
});

test('times are in words that one would say', () => {
  assert.deepEqual([0, 59.9, 60, 3600, 3900, 86_400, 200_000].map(duration), ['0 s', '59 s', '1 min', '1 h', '1 h 5 min', '1 day', '2 days']);
  assert.equal(relative(0, 2000), 'just now');
  assert.equal(relative(0, 65_000), '1 min ago');
  assert.equal(relative(65_000, 0), 'in 1 min');
  assert.deepEqual([cores(350), cores(1000), cores(2500), cores(null)], ['0.35 cores', '1 core', '2.5 cores', '–']);
  assert.deepEqual([percent(1, 4), percent(9, 4), percent(1, 0), percent(null, 4)], [25, 100, null, null]);
  assert.equal(list(['a', 'b', 'c']), 'a, b and c');
});

test('what hides in a name is shown', () => {
  assert.equal(visible('plain ü 漢 🎮'), 'plain ü 漢 🎮');
  assert.equal(visible('a\u202egpj.exe'), 'a⟨202E⟩gpj.exe');
  assert.equal(visible('a\u200bb\u2066c'), 'a⟨200B⟩b⟨2066⟩c');
  assert.equal(visible('\x1b[31m\r\n\0\x7f\x9b'), '␛[31m␍␊␀␡⟨009B⟩');
  assert.equal(visible('<img onerror=x>'), '<img onerror=x>');
  assert.equal(visible(null), '');
  assert.equal(initials('\u202e'), '⟨');
  assert.equal(initials('friday night'), 'FN');
  assert.equal(initials(''), '?');
});
