import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const web = dirname(dirname(fileURLToPath(import.meta.url)));
const read = (path) => readFileSync(join(web, path), 'utf8');
const IMPORT = /(?:^|\n)(?:import|export)\s[^;]*?from\s*'([^']+)'|from"(\.\/[^"]+)"/g;

function closure(path, seen) {
  if (seen.has(path)) return seen;
  seen.add(path);
  for (const [, own, pressed] of read(path).matchAll(IMPORT)) closure(normalize(join(dirname(path), own ?? pressed)), seen);
  return seen;
}

test('what the first page needs is asked for at once, and nothing else', () => {
  const index = read('index.html');
  const preloaded = [...index.matchAll(/rel="modulepreload" href="\/([^"]+)"/g)].map(([, path]) => path).sort();
  const needed = new Set();
  closure('assets/app.js', needed);
  closure('assets/pages/fleet.js', needed);
  needed.delete('assets/app.js');
  assert.deepEqual(preloaded, [...needed].sort());
});

test('every file that the page names is there', () => {
  for (const [, path] of read('index.html').matchAll(/(?:href|src)="\/(assets\/[^"]+)"/g)) assert.ok(read(path) !== undefined, path);
});

function* files(folder) {
  for (const entry of readdirSync(join(web, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) yield* files(path);
    else if (/\.(js|css|html|svg)$/.test(path)) yield path;
  }
}

test('nothing makes HTML or code out of text, and nothing comes from elsewhere', () => {
  const own = [...files('assets')].filter((path) => !path.includes('/vendor/'));
  assert.ok(own.length > 20);
  for (const path of [...own, 'index.html']) {
    const text = read(path);
    for (const bad of [/innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySetInnerHTML|srcdoc/, /\beval\(|new Function\(/, /javascript:/i]) {
      assert.ok(!bad.test(text), `${path} has ${bad}`);
    }
    const foreign = [...text.matchAll(/https?:\/\/[^\s'"`)]+/g)].map(([url]) => url).filter((url) => !url.startsWith('http://www.w3.org/') && !url.includes('${'));
    assert.deepEqual(foreign, [], path);
    // Styles in attributes and handlers in attributes are what the policy forbids.
    if (path.endsWith('.html')) assert.ok(!/\sstyle=|\son\w+=|<style|<script>(?!<)/.test(text), path);
  }
});
