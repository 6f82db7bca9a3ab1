import assert from "node:assert/strict";
import { test } from "node:test";

import { pieces, plain } from "../assets/log/sgr.js";

const shown = (line) => pieces(line).map(({ text, className, fg, bg }) => [text, className, fg, bg].filter((part) => part !== null && part !== ""));

test("plain text is one piece", () => {
  assert.deepEqual(shown("hello <b>&amp;</b>\tworld"), [["hello <b>&amp;</b>\tworld"]]);
  assert.deepEqual(shown(""), [[]]);
  assert.deepEqual(shown("שלום 👩‍🚀 grün"), [["שלום 👩‍🚀 grün"]], "letters of right-to-left scripts and joined emoji are text");
});

test("colours and weights are followed, and end where they are ended", () => {
  assert.deepEqual(shown("a\x1b[31mred\x1b[1;4mboth\x1b[22munder\x1b[mnone"), [
    ["a"],
    ["red", "sgr-f1"],
    ["both", "sgr-f1 sgr-bold sgr-underline"],
    ["under", "sgr-f1 sgr-underline"],
    ["none"],
  ]);
  assert.deepEqual(shown("\x1b[97;104mx\x1b[39my\x1b[49mz"), [["x", "sgr-f15 sgr-b12"], ["y", "sgr-b12"], ["z"]]);
});

test("256 and true colours, in both ways of writing", () => {
  assert.deepEqual(shown("\x1b[38;5;9mx"), [["x", "sgr-f9"]]);
  assert.deepEqual(shown("\x1b[38;5;196mx"), [["x", "sgr-f", "rgb(255 0 0)"]]);
  assert.deepEqual(shown("\x1b[48;5;232;1mx"), [["x", "sgr-b sgr-bold", "rgb(8 8 8)"]]);
  assert.deepEqual(shown("\x1b[38;2;1;2;3mx"), [["x", "sgr-f", "rgb(1 2 3)"]]);
  assert.deepEqual(shown("\x1b[38:2::1:2:3mx"), [["x", "sgr-f", "rgb(1 2 3)"]]);
  assert.deepEqual(shown("\x1b[38:5:196mx"), [["x", "sgr-f", "rgb(255 0 0)"]]);
});

test("colours that are none do nothing, and get into no style", () => {
  for (const bad of ["38;5;256", "38;5", "38;2;1;2", "38;2;300;0;0", "38;9;1", "48", "999", "38:2:1", "38;5;1e1"]) {
    for (const piece of pieces(`\x1b[${bad}mx`)) {
      assert.equal(piece.fg, null, bad);
      assert.equal(piece.bg, null, bad);
    }
  }
});

test("what would move, clear, ring or name a window is written out", () => {
  assert.deepEqual(shown("a\x1b[2J\x1b[Hb"), [["a"], ["⟨ESC⟩[2J⟨ESC⟩[H", "log-escape"], ["b"]]);
  assert.equal(plain("\x1b]0;owned\x07x"), "⟨ESC⟩]0;owned⟨BEL⟩x");
  assert.equal(plain("\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\"), "⟨ESC⟩]8;;https://evil.example⟨ESC⟩\\click⟨ESC⟩]8;;⟨ESC⟩\\");
  assert.equal(plain("\x1b]52;c;cm0gLXJm\x07"), "⟨ESC⟩]52;c;cm0gLXJm⟨BEL⟩");
  assert.equal(plain("\x1b[?1049h\x1b[6n"), "⟨ESC⟩[?1049h⟨ESC⟩[6n");
  assert.equal(plain("50%\r100%\x08\x07\x00\x7f"), "50%⟨CR⟩100%⟨BS⟩⟨BEL⟩⟨NUL⟩⟨DEL⟩");
  assert.equal(plain("\x9b31mx"), "\\x9b31mx", "the one-byte form is no colour");
  assert.equal(plain("\x1b"), "⟨ESC⟩");
  assert.equal(plain("\x1b["), "⟨ESC⟩[");
  assert.equal(plain("\x1bc"), "⟨ESC⟩c");
  assert.equal(plain("\x1b[>4;2m"), "⟨ESC⟩[>4;2m", "a private sequence that ends as a colour does");
});

test("marks that turn the writing around and what can not be seen are written out", () => {
  assert.equal(plain("user\u202egpj.exe"), "user⟨RLO⟩gpj.exe");
  assert.equal(plain("\u2066a\u2069\u200f\u061c"), "⟨LRI⟩a⟨PDI⟩⟨RLM⟩⟨ALM⟩");
  assert.equal(plain("a\u200bb\ufeffc\u2028d"), "a⟨ZWSP⟩b⟨BOM⟩c⟨LSEP⟩d");
  assert.equal(plain("\u{e0041}"), "⟨U+E0041⟩");
});

test("a colour that is not ended does not colour what is written out", () => {
  assert.deepEqual(shown("\x1b[31ma\x07b"), [["a", "sgr-f1"], ["⟨BEL⟩", "log-escape"], ["b", "sgr-f1"]]);
});

test("hostile lengths take no time", () => {
  const begun = performance.now();
  const hostile = [
    `\x1b[${"1;".repeat(8000)}m`,
    "\x1b[".repeat(8000),
    "\x1b]".repeat(8000),
    `\x1b]${"x".repeat(16000)}`,
    "\x1b".repeat(16000),
    "\x1b[31m".repeat(3200),
    "\u202e".repeat(5000),
  ];
  for (const line of hostile) {
    const text = plain(line);
    assert.ok(!/[\u0000-\u0008\u000b-\u001f\u202e]/.test(text));
  }
  assert.ok(performance.now() - begun < 1000, `${performance.now() - begun} ms`);
});
