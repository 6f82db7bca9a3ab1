import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';

import { LogStream, TAIL } from '../assets/log/socket.js';

/** A WebSocket that a test speaks for. */
class FakeSocket {
  static all = [];

  constructor(url) {
    this.url = new URL(url);
    FakeSocket.all.push(this);
  }

  close() {
    this.closed = true;
  }

  open() {
    this.onopen?.();
  }

  chunk(text) {
    this.onmessage?.({ data: new TextEncoder().encode(text).buffer });
  }

  say(message) {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  end(reason) {
    if (reason) this.say({ type: 'end', reason });
    this.onclose?.({ code: 1000 });
  }
}

const seen = () => ({ chunks: 0, gaps: [], states: [] });
let told;
let stream;

beforeEach(() => {
  FakeSocket.all = [];
  globalThis.WebSocket = FakeSocket;
  globalThis.location = new URL('https://host.example/');
  told = seen();
  stream = new LogStream('a b', {
    onChunk: () => (told.chunks += 1),
    onGap: (from, to) => told.gaps.push([from, to]),
    onState: (state) => told.states.push(state),
  });
});
afterEach(() => stream.close());

const last = () => FakeSocket.all.at(-1);

/** Waits until it is so, at most for as long as the longest first try may take. */
async function until(what) {
  for (let tries = 0; tries < 200; tries += 1) {
    if (what()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail('it did not come about');
}

test('it begins with the last lines, and goes on after the last one it had', async () => {
  stream.open();
  const first = last();
  assert.equal(first.url.href, `wss://host.example/server/a%20b/log/stream?format=chunk&tail=${TAIL}`);
  first.open();
  first.chunk('7 2026-11-20T12:00:00Z o a\n8 2026-11-20T12:00:00Z o b\n');
  first.say({ type: 'gap', from_seq: 9, to_seq: 11, count: 3 });
  first.end();
  await until(() => FakeSocket.all.length === 2);
  assert.equal(last().url.searchParams.get('since_seq'), '11');
  assert.equal(last().url.searchParams.get('tail'), null);
  last().open();
  assert.deepEqual(told, { chunks: 1, gaps: [[9, 11]], states: ['connecting', 'live', 'lost', 'live'] });
});

test('it says when the machine is away, and tries again', async () => {
  stream.open();
  last().open();
  last().end('worker-gone');
  assert.equal(told.states.at(-1), 'away');
  stream.retryNow();
  assert.equal(FakeSocket.all.length, 2);
});

test('a log that is gone, or no longer to be seen, is not asked for again', async () => {
  stream.open();
  last().open();
  last().end('revoked');
  stream.retryNow();
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.equal(FakeSocket.all.length, 1);
  assert.equal(told.states.at(-1), 'revoked');
});

test('what is held reads nothing and then goes on where it was', () => {
  stream.open();
  last().open();
  last().chunk('7 2026-11-20T12:00:00Z o a\n');
  stream.hold();
  assert.ok(last().closed);
  stream.retryNow();
  assert.equal(FakeSocket.all.length, 1);
  stream.release();
  assert.equal(last().url.searchParams.get('since_seq'), '7');
});

test('words that are none do no harm', () => {
  stream.open();
  last().open();
  last().onmessage({ data: '{"type":' });
  last().onmessage({ data: 'null' });
  last().say({ type: 'something newer' });
  assert.equal(told.chunks, 0);
});
