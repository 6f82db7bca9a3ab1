// Lines that are not in the window, from the worker's disk by plain requests.

import { ApiError } from '../api.js';

export const PAGE = 1000;

const base = (server) => `/server/${encodeURIComponent(server)}/log/stream`;

async function ask(server, query, signal, accept = 'application/octet-stream') {
  const asked = new URLSearchParams({ follow: 'false', ...query });
  let response;
  try {
    response = await fetch(`${base(server)}?${asked}`, { signal, headers: { accept }, credentials: 'same-origin', cache: 'no-store' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError({ detail: 'the host does not answer' }, 0);
  }
  if (!response.ok) throw new ApiError(await response.json().catch(() => ({})), response.status);
  return response;
}

const chunk = async (server, query, signal) =>
  new Uint8Array(await (await ask(server, { format: 'chunk', limit: String(PAGE), ...query }, signal)).arrayBuffer());

/** The lines before one, and those after one: as chunks of records, oldest first. */
export const before = (server, seq, signal) => chunk(server, { before_seq: String(seq) }, signal);
export const after = (server, seq, signal) => chunk(server, { since_seq: String(seq) }, signal);

/** Number of the first line at or after a moment; null where all are older. */
export async function firstAt(server, date, signal) {
  const text = await (await ask(server, { at: date.toISOString(), limit: '1' }, signal, 'application/x-ndjson')).text();
  return parseHits(text).hits[0]?.seq ?? null;
}

/**
 * A page of lines in which something is found, newest first: `{hits, more}`. `more` is the number
 * below which to go on; null at the end.
 */
export async function search(server, { text, literal, ignoreCase, below = null, limit = 50 }, signal) {
  const query = { grep: text, limit: String(limit) };
  if (literal) query.literal = 'true';
  if (ignoreCase) query.ignore_case = 'true';
  if (below !== null) query.before_seq = String(below);
  const { hits, gap } = parseHits(await (await ask(server, query, signal, 'application/x-ndjson')).text());
  // Where it ran out of time, the lines that were not looked at are named.
  if (gap) return { hits, more: gap.to_seq + 1 };
  return { hits, more: hits.length >= limit ? hits.at(-1).seq : null };
}

/** Lines of JSON: those of the log, and at most one gap. */
export function parseHits(text) {
  const hits = [];
  let gap = null;
  for (const line of text.split('\n')) {
    if (!line) continue;
    const value = JSON.parse(line);
    if (value.type === 'gap') gap = value;
    else if (typeof value.seq === 'number') hits.push(value);
  }
  return { hits, gap };
}

/** Where the whole log is had as a file of text. */
export const downloadUrl = (server) => `/server/${encodeURIComponent(server)}/log/download?format=text`;
