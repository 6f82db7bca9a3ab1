import assert from "node:assert/strict";
import { test } from "node:test";

import { eachRecord, lastSeq } from "../assets/log/record.js";
import { decode } from "../assets/log/utf8.js";

const bytes = (text) => new TextEncoder().encode(text);

function all(chunk) {
  const found = [];
  eachRecord(chunk, (seq, time, letter, start, end) => found.push([seq, time, String.fromCharCode(letter), decode(chunk, start, end)]));
  return found;
}

test("records are read, and what is none is passed over", () => {
  const chunk = bytes(
    "7 2026-11-20T12:00:00.123456789Z o two  spaces \n" +
      "no record\n\n" +
      "8 2026-11-20T12:00:01Z e \n" +
      "9 2026-11-20T12:00:01Z x unknown stream\n" +
      "9 2026-11-20T12:00:01Z\n" +
      "9 2026-11-20T12:00:01Z o\n" +
      "10 2026-11-20T12:00:01.5Z m instance a started",
  );
  const at = Date.UTC(2026, 10, 20, 12);
  const found = all(chunk);
  assert.deepEqual(found.map(([seq, , letter, text]) => [seq, letter, text]), [
    [7, "o", "two  spaces "],
    [8, "e", ""],
    [10, "m", "instance a started"],
  ]);
  assert.equal(Math.floor(found[0][1]), at + 123);
  assert.equal(found[2][1], at + 1500);
});

test("the last number of a chunk is found without reading it all", () => {
  assert.equal(lastSeq(bytes("7 2026-11-20T12:00:00Z o a\n8 2026-11-20T12:00:00Z o b\n")), 8);
  assert.equal(lastSeq(bytes("7 2026-11-20T12:00:00Z o a\njunk\n")), 7);
  assert.ok(Number.isNaN(lastSeq(bytes(""))));
  assert.ok(Number.isNaN(lastSeq(bytes("\n\n"))));
});

test("bytes that are not UTF-8 are written out, and only they", () => {
  assert.equal(decode(bytes("grün 🎮")), "grün 🎮");
  assert.equal(decode(Uint8Array.of(0x61, 0xff, 0x62)), "a\\xffb");
  assert.equal(decode(Uint8Array.of(0xc0, 0x80)), "\\xc0\\x80", "an overlong form is no character");
  assert.equal(decode(Uint8Array.of(0xed, 0xa0, 0x80)), "\\xed\\xa0\\x80", "half a surrogate pair is no character");
  assert.equal(decode(Uint8Array.of(0xf0, 0x9f, 0x8e)), "\\xf0\\x9f\\x8e", "a character that is cut off");
  assert.equal(decode(Uint8Array.of(0xff, 0xc3, 0xbc)), "\\xffü");
  assert.equal(decode(Uint8Array.of(0xf5, 0x80, 0x80, 0x80)), "\\xf5\\x80\\x80\\x80", "beyond the last code point");
  assert.equal(decode(Uint8Array.of(0xef, 0xbb, 0xbf, 0x61)), "\ufeffa");
});
