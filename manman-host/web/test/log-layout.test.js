import assert from 'node:assert/strict';
import { test } from 'node:test';

import { findRows, found, pattern, places } from '../assets/log/find.js';
import { parseHits } from '../assets/log/history.js';
import { CLAMP, Layout } from '../assets/log/layout.js';
import { LogModel } from '../assets/log/model.js';
import { ordered, textBetween } from '../assets/log/select.js';

const encoder = new TextEncoder();
const filled = (texts, first = 1) => {
  const model = new LogModel();
  model.append(encoder.encode(texts.map((text, i) => `${first + i} 2026-11-20T12:00:00Z o ${text}\n`).join('')));
  return model;
};

test('without wrapping each row is one line', () => {
  const layout = new Layout(filled(['a', 'b'.repeat(500), 'c']));
  assert.equal(layout.total, 3);
  assert.deepEqual(layout.at(1.5), { row: 1, above: 0.5 });
  assert.deepEqual(layout.at(99), { row: 2, above: 0 });
});

test('with wrapping heights are guessed, corrected, and places follow', () => {
  const model = filled(['a', 'b'.repeat(95), '', 'x'.repeat(16000)]);
  const layout = new Layout(model);
  assert.equal(layout.wrap(10), true);
  assert.equal(layout.wrap(10), false);
  assert.equal(layout.height(1), 10);
  assert.equal(layout.height(2), 1);
  assert.equal(layout.height(3), CLAMP / 10, 'a long line is clamped until somebody wants it');
  assert.equal(layout.top(2), 11);
  assert.deepEqual(layout.at(11), { row: 2, above: 0 });
  assert.equal(layout.correct(1, 12), true);
  assert.equal(layout.correct(1, 12), false);
  assert.equal(layout.top(2), 13);
  assert.equal(layout.correct(999, 3), false, 'a row that is gone');
  layout.wrap(0);
  assert.equal(layout.total, 4);
});

test('rows in front do not change where a row is from its own block', () => {
  const model = filled(['x', 'y'], 1001);
  const layout = new Layout(model);
  const row = model.rowOfSeq(1001);
  assert.equal(layout.top(row), 0);
  model.prepend(encoder.encode(Array.from({ length: 100 }, (_, i) => `${901 + i} 2026-11-20T12:00:00Z o old\n`).join('')), row);
  assert.equal(layout.top(row), 100);
  assert.equal(layout.at(100).row, row);
});

test('an empty log has no place, and asks for none', () => {
  const layout = new Layout(new LogModel());
  assert.equal(layout.total, 0);
  assert.equal(layout.at(5).row, 0);
});

test('what is looked for is the text itself, or an expression', () => {
  assert.equal(pattern(''), null);
  assert.ok(found(pattern('a.b*(['), 'xx A.B*([ yy'));
  assert.ok(!found(pattern('a.b'), 'aXb'));
  assert.ok(!found(pattern('A', { matchCase: true }), 'a'));
  assert.ok(found(pattern('^\\d+ players?$', { regex: true }), '3 players'));
  assert.throws(() => pattern('(', { regex: true }));
  assert.deepEqual(places(pattern('aa'), 'aaaa b aa'), [[0, 2], [2, 4], [7, 9]]);
  assert.deepEqual(places(pattern('x*', { regex: true }), 'yyxx'), [[2, 4]], 'an empty match is none, and ends');
});

test('rows are found through colours, oldest first, and an end ends it', async () => {
  const model = filled(Array.from({ length: 2000 }, (_, i) => (i % 500 === 0 ? '\x1b[31mfou\x1b[0mnd' : 'nothing')));
  assert.deepEqual(await findRows(model, pattern('found')), [0, 500, 1000, 1500]);
  const end = new AbortController();
  const search = findRows(model, pattern('found'), { signal: end.signal, rest: async () => end.abort() });
  const rows = await search;
  assert.ok(rows === null || rows.length === 4);
});

test('hits and the lines that were not looked at', () => {
  const { hits, gap } = parseHits('{"seq":9,"time":"t","stream":"stdout","text":"a"}\n{"type":"gap","from_seq":1,"to_seq":5,"count":5}\n\n');
  assert.deepEqual(hits.map((hit) => hit.seq), [9]);
  assert.equal(gap.to_seq, 5);
});

test('a selection is the lines between its ends', () => {
  const texts = ['alpha', 'beta', null, 'gamma'];
  const [from, to] = ordered({ row: 3, offset: 3 }, { row: 0, offset: 2 });
  assert.equal(textBetween(from, to, (row) => texts[row]), 'pha\nbeta\ngam');
  assert.equal(textBetween({ row: 1, offset: 1 }, { row: 1, offset: 3 }, (row) => texts[row]), 'et');
});
