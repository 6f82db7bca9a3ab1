// What a line for the game may go on with: its prepared commands, names of players, lines typed before.

const MOST = 8;

/** The fixed beginning of a console template: `say {{inputs.text}}` begins with `say `. */
export function headOf(template) {
  return template.split('{{', 1)[0];
}

/** The commands of a game's actions: `{head, label}`. */
export function commandsOf(actions) {
  const seen = new Map();
  for (const action of Object.values(actions ?? {})) {
    if (action.disabled || !action.console) continue;
    const head = headOf(action.console);
    if (head.trim() && !seen.has(head)) seen.set(head, action.label);
  }
  return [...seen].map(([head, label]) => ({ head, label }));
}

const begins = (text, start) => text.length > start.length && text.toLowerCase().startsWith(start.toLowerCase());

/** The last word that is being written, an open quote included. */
function wordOf(text) {
  const quotes = (text.match(/"/g) ?? []).length;
  if (quotes % 2 === 1) return text.slice(text.lastIndexOf('"'));
  return /\S*$/.exec(text)[0];
}

/** `{line, label, kind}` for what is written; kinds are `command`, `player` and `typed`. */
export function complete(text, { commands = [], players = [], typed = [] }) {
  if (text.trim() === '') return [];
  const list = [];
  const add = (line, label, kind) => {
    if (line !== text && !list.some((one) => one.line === line)) list.push({ line, label, kind });
  };
  for (const { head, label } of commands) if (begins(head, text)) add(head, label, 'command');
  const word = wordOf(text);
  const start = word.replace(/^"/, '');
  // The first word is a command, never a name.
  if (start && word.length < text.length) {
    for (const name of players) {
      // A name that could end the line or the quote is nothing to write into a console unseen.
      if (/["\u0000-\u001f\u007f-\u009f]/.test(name) || !begins(`${name} `, start)) continue;
      const written = word.startsWith('"') || /\s/.test(name) ? `"${name}"` : name;
      add(`${text.slice(0, text.length - word.length)}${written} `, name, 'player');
    }
  }
  for (const line of [...typed].reverse()) if (begins(line, text)) add(line, null, 'typed');
  return list.slice(0, MOST);
}
