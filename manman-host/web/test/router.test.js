import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROUTES, href, parse } from '../assets/router.js';

test('an address is read as the page that wrote it', () => {
  for (const [page, params, query] of [
    ['fleet', {}, {}],
    ['new-server', {}, {}],
    ['new-server', { game: 'docker:manman/openarena:1.2@x' }, {}],
    ['server', { id: '01a1' }, {}],
    ['server', { id: 'a/b?c#d%', tab: 'settings' }, {}],
    ['machine', { id: 'attic' }, {}],
    ['activity', {}, { server: 'x&y=1', kind: 'server.' }],
    ['settings', { section: 'people' }, {}],
  ]) {
    const read = parse(href(page, params, query));
    assert.deepEqual({ page: read.page, params: read.params, query: read.query }, { page, params, query });
  }
});

test('what is no page is said to be none, and nothing throws', () => {
  for (const hash of ['#/nothing', '#/server', '#/server/%E0%A4%A', '#/server/a/b/c', '#//', '#/server//', '#%', '#?']) {
    assert.equal(typeof parse(hash).page, 'string');
  }
  assert.equal(parse('#/nothing').page, 'not-found');
  assert.equal(parse('#/server/%E0%A4%A').page, 'not-found');
  assert.equal(parse('').page, 'fleet');
  assert.equal(parse('#/machines/').page, 'machines');
  assert.throws(() => href('server', {}));
});

test('an empty value leaves no trace in an address', () => {
  assert.equal(href('activity', {}, { server: '', kind: null, worker: undefined }), '#/activity');
  assert.ok(ROUTES.every(([page]) => typeof page === 'string'));
});
