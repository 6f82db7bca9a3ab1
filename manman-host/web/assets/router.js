// Where one is in the console, written after the `#`: the API's own paths stay free for the API.

/** The pages with the shape of their addresses; `:name` is one segment, `*name` the whole rest. */
export const ROUTES = [
  ['fleet', '/'],
  ['new-server', '/new'],
  ['new-server', '/new/*game'],
  ['server', '/server/:id'],
  ['server', '/server/:id/:tab'],
  ['machines', '/machines'],
  ['machine', '/machine/:id'],
  ['services', '/services'],
  ['activity', '/activity'],
  ['settings', '/settings'],
  ['settings', '/settings/:section'],
];

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return null; // A half-typed escape is nobody's id.
  }
}

function match(pattern, path) {
  const want = pattern.split('/').slice(1);
  const have = path.split('/').slice(1);
  const params = {};
  for (let i = 0; i < want.length; i++) {
    if (want[i].startsWith('*')) {
      const rest = decode(have.slice(i).join('/'));
      if (!rest) return null;
      params[want[i].slice(1)] = rest;
      return params;
    }
    if (have[i] === undefined) return null;
    if (want[i].startsWith(':')) {
      const value = decode(have[i]);
      if (!value) return null;
      params[want[i].slice(1)] = value;
    } else if (want[i] !== have[i]) return null;
  }
  return have.length === want.length ? params : null;
}

/** Reads `#/server/ID/log?at=…`: the page's name, its parameters and what is asked behind the `?`. */
export function parse(hash) {
  const text = hash.replace(/^#/, '') || '/';
  const cut = text.indexOf('?');
  let path = cut < 0 ? text : text.slice(0, cut);
  const query = Object.fromEntries(new URLSearchParams(cut < 0 ? '' : text.slice(cut + 1)));
  if (path.length > 1 && path.endsWith('/')) path = path.slice(0, -1);
  for (const [page, pattern] of ROUTES) {
    const params = match(pattern, path);
    if (params) return { page, params, query, path };
  }
  return { page: 'not-found', params: {}, query, path };
}

/** Writes an address: `href('server', {id, tab: 'settings'})`, `href('activity', {}, {server: id})`. */
export function href(page, params = {}, query = {}) {
  const given = Object.keys(params).filter((name) => params[name] !== undefined && params[name] !== null && params[name] !== '');
  const names = (pattern) => (pattern.match(/[:*]\w+/g) ?? []).map((name) => name.slice(1));
  const found = ROUTES.find(
    ([name, pattern]) => name === page && names(pattern).length === given.length && names(pattern).every((word) => given.includes(word)),
  );
  if (!found) throw new Error(`there is no page ${page} with ${given.join(', ') || 'no parameter'}`);
  const path = found[1].replace(/[:*](\w+)/g, (_, name) => encodeURIComponent(params[name]));
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== ''));
  return `#${path}${asked.size ? `?${asked}` : ''}`;
}
