// What a form would change. Values in, values out.

import { isTemplate } from '../../validate.js';

/** What the form begins with: the server's own values; secrets are empty and mean "as it is". */
export function baseOf(server) {
  const limits = server.limits ?? {};
  return {
    generation: server.generation,
    name: server.name,
    variables: Object.fromEntries(Object.entries(server.variables ?? {}).map(([name, value]) => [name, value ?? ''])),
    secrets: new Set(Object.entries(server.variables ?? {}).filter(([, value]) => value === null).map(([name]) => name)),
    limits: { memory_bytes: limits.memory_bytes ?? null, cpu_millis: limits.cpu_millis ?? null },
  };
}

/**
 * The changes from `base` to what is written: `{kind, name, label, before, after}`. `after` is null
 * where the game's default comes back. `written` has only what somebody has touched.
 */
export function changesOf(base, written, variables = {}) {
  const list = [];
  if (written.name !== undefined && written.name !== base.name) list.push({ kind: 'name', name: 'name', label: 'Name', before: base.name, after: written.name });
  for (const [name, value] of Object.entries(written.variables ?? {})) {
    if (value === undefined) continue;
    const spec = variables[name] ?? {};
    const secret = base.secrets.has(name) || spec.secret;
    const label = spec.label || name;
    if (value === null) list.push({ kind: 'variable', name, label, before: secret ? '•••' : base.variables[name], after: null, secret });
    // An empty secret is one that nobody has written.
    else if (secret ? value !== '' : value !== base.variables[name]) {
      const back = value === '' && isTemplate(spec.default);
      list.push({ kind: 'variable', name, label, before: secret ? '•••' : base.variables[name], after: back ? null : value, secret });
    }
  }
  for (const name of ['memory_bytes', 'cpu_millis']) {
    const value = written.limits?.[name];
    if (value !== undefined && value !== base.limits[name]) list.push({ kind: 'limit', name, label: name === 'memory_bytes' ? 'Memory limit' : 'CPU limit', before: base.limits[name], after: value });
  }
  return list;
}

/** The merge patch that makes these changes. */
export function patchOf(changes) {
  const patch = {};
  for (const { kind, name, after } of changes) {
    if (kind === 'name') patch.name = after;
    else if (kind === 'variable') (patch.variables ??= {})[name] = after;
    else (patch.limits ??= {})[name] = after;
  }
  return patch;
}

/**
 * What somebody else has changed since the form was begun, and which of it is written here as well:
 * `{theirs, both}` by name.
 */
export function conflictOf(base, now, changes) {
  const theirs = [];
  if (base.name !== now.name) theirs.push({ name: 'name', label: 'Name', after: now.name });
  for (const name of new Set([...Object.keys(base.variables), ...Object.keys(now.variables)])) {
    if (base.variables[name] !== now.variables[name]) theirs.push({ name, label: name, after: now.variables[name] ?? null });
  }
  for (const name of ['memory_bytes', 'cpu_millis']) {
    if (base.limits[name] !== now.limits[name]) theirs.push({ name, label: name, after: now.limits[name] });
  }
  const own = new Set(changes.map((change) => change.name));
  return { theirs, both: theirs.filter(({ name }) => own.has(name)) };
}
