import assert from "node:assert/strict";
import { test } from "node:test";

import { GAP, LogModel } from "../assets/log/model.js";

const encoder = new TextEncoder();
const chunk = (from, to, text = (seq) => `line ${seq}`) => {
  let out = "";
  for (let seq = from; seq <= to; seq += 1) out += `${seq} 2026-11-20T12:00:00.000000000Z o ${text(seq)}\n`;
  return encoder.encode(out);
};
const rows = (model) => {
  const found = [];
  for (let row = model.firstRow; row < model.endRow; row += 1) {
    const { letter, seq, missing } = model.row(row);
    found.push(letter === GAP ? `${seq}+${missing}` : model.text(row));
  }
  return found;
};

test("lines are kept with their numbers, and repeated ones are dropped", () => {
  const model = new LogModel();
  assert.equal(model.append(chunk(5, 7)), 3);
  assert.equal(model.append(chunk(6, 9)), 2, "a stream taken up again repeats");
  assert.deepEqual(rows(model), ["line 5", "line 6", "line 7", "line 8", "line 9"]);
  assert.equal(model.firstSeq, 5);
  assert.equal(model.lastSeq, 9);
  assert.equal(model.rowOfSeq(7), 2);
  assert.equal(model.rowOfSeq(100), model.endRow);
  assert.equal(model.rowOfSeq(1), model.firstRow);
});

test("a gap is a row that counts, whether it is told or seen", () => {
  const model = new LogModel();
  model.gap(1, 4);
  assert.equal(model.count, 0, "before the first line nothing is missing");
  model.append(chunk(5, 6));
  model.gap(7, 9);
  model.gap(10, 10);
  model.append(chunk(11, 11));
  model.append(chunk(14, 14));
  assert.deepEqual(rows(model), ["line 5", "line 6", "7+4", "line 11", "12+2", "line 14"]);
  assert.equal(model.rowOfSeq(9), 2, "a missing number is at its gap");
  model.gap(15, 20);
  assert.equal(model.lastSeq, 20, "a reader that comes back does not ask for missing lines");
  model.append(chunk(18, 21));
  assert.deepEqual(rows(model).slice(-2), ["15+6", "line 21"]);
});

test("an odd line end, starts of instances, and broken text", () => {
  const model = new LogModel();
  model.append(encoder.encode("1 2026-11-20T12:00:00Z m instance 01a started\n2 2026-11-20T12:00:00Z o instance x started\r\n3 2026-11-20T12:00:00Z e \n"));
  assert.deepEqual(rows(model), ["instance 01a started", "instance x started", ""]);
  assert.deepEqual(model.marks, [0], "a game can not claim to be the manager");
});

test("the oldest go when it is full, and rows keep their numbers", () => {
  const model = new LogModel({ maxRows: 2000 });
  for (let seq = 1; seq <= 5000; seq += 10) model.append(chunk(seq, seq + 9));
  assert.ok(model.count <= 2000 && model.count > 1000, String(model.count));
  assert.equal(model.lastSeq, 5000);
  assert.equal(model.row(4999).seq, 5000);
  assert.equal(model.row(0), null);
  assert.equal(model.text(0), "");
  assert.equal(model.firstSeq, model.firstRow + 1);
});

test("bytes are bounded, too", () => {
  const model = new LogModel({ maxBytes: 1024 * 1024 });
  for (let seq = 1; seq <= 200; seq += 1) model.append(chunk(seq, seq, () => "x".repeat(16384)));
  assert.ok(model.bytes <= 1024 * 1024, String(model.bytes));
  assert.equal(model.lastSeq, 200);
});

test("what somebody looks at stays: the end is let go, counted, and read again", () => {
  const model = new LogModel({ maxRows: 2000 });
  model.append(chunk(1, 1500));
  const keep = model.rowOfSeq(100);
  model.append(chunk(1501, 2600), keep);
  assert.equal(model.live, false);
  assert.equal(model.text(keep), "line 100");
  model.append(chunk(2601, 4000), keep);
  assert.equal(model.latest, 4000);
  assert.equal(model.unseen, 4000 - model.lastSeq);
  model.gap(4001, 4005);
  assert.equal(model.latest, 4005);
  for (let next = model.lastSeq + 1; next <= 4000; next += 200) {
    model.appendPage(chunk(next, Math.min(4000, next + 199)), model.endRow - 50);
  }
  assert.equal(model.live, false, "five are still missing");
  model.appendPage(chunk(4006, 4006), model.endRow);
  assert.equal(model.live, true);
  assert.equal(model.lastSeq, 4006);
  assert.deepEqual(rows(model).slice(-3), ["line 4000", "4001+5", "line 4006"]);
  const seqs = rows(model).filter((text) => text.startsWith("line")).map((text) => Number(text.slice(5)));
  assert.deepEqual(seqs, [...seqs].sort((a, b) => a - b));
});

test("older pages go in front, and push the newest out when it is full", () => {
  const model = new LogModel({ maxRows: 2000 });
  model.append(chunk(5001, 6000));
  const row = model.rowOfSeq(5001);
  assert.equal(model.prepend(chunk(4001, 5000), row), 1000);
  assert.equal(model.text(row), "line 5001", "what is looked at keeps its number");
  assert.equal(model.firstSeq, 4001);
  model.prepend(chunk(3990, 4100), model.rowOfSeq(4001));
  assert.equal(model.firstSeq, 3990, "a page that overlaps adds what is new");
  for (let first = 3990; first > 1000; first -= 500) model.prepend(chunk(first - 500, first - 1), model.firstRow + 100);
  assert.ok(model.count <= 2000 + 512);
  assert.equal(model.live, false);
  const seqs = rows(model).map((text) => Number(text.slice(5)));
  for (let i = 1; i < seqs.length; i += 1) assert.equal(seqs[i], seqs[i - 1] + 1);
});

test("100,000 lines are a few megabytes", () => {
  const model = new LogModel();
  const page = (from) => chunk(from, from + 999, (seq) => `[Server thread/INFO]: something happened to number ${seq}`);
  const begun = performance.now();
  for (let from = 1; from < 300_000; from += 1000) model.append(page(from));
  const took = performance.now() - begun;
  assert.ok(model.count <= 100_000);
  assert.ok(model.bytes < 8 * 1024 * 1024);
  assert.ok(took < 5000, `${took} ms`);
});
