// The line for the game, with what was typed before and what it may go on with.

import { Button, Foreign, api, html, path, useEffect, useId, useMemo, useRef, useState, useLive, useMay, useStore } from '../../ui/index.js';
import { isLive, phaseLabel } from '../../phase.js';
import { plain } from '../../log/sgr.js';
import { Typed } from './typed.js';
import { commandsOf, complete } from './complete.js';

const LINE_MAX = 4096;
const ANSWER_SHOWN = 6;

function storage() {
  try {
    return globalThis.sessionStorage;
  } catch {
    return null; // Forbidden by the browser's settings.
  }
}

/** Why no line can be given to the game now; null where one can. */
export function whyNot(server, { may, live, console: kind, machine, linked = true }) {
  if (!may) return 'Your role may look, not type.';
  if (!live) return 'The host is out of reach.';
  if (kind === 'none') return 'This game reads no console.';
  if (linked === false) return `The machine ${server.worker_name} is not connected now.`;
  if (machine === 'unknown' || server.phase === 'Unknown') return `The machine ${server.worker_name} is out of reach.`;
  if (isLive(server.phase)) return null;
  return `${server.name} is not running (${phaseLabel(server.phase).toLowerCase()}): lines can be typed once it is started.`;
}

export function CommandLine({ server, game, onSent }) {
  const live = useLive();
  const may = useMay('run');
  const machine = useStore((state) => state.workers.get(server.worker_id)?.status ?? null);
  const linked = useStore((state) => state.workers.get(server.worker_id)?.linked ?? true);
  const why = whyNot(server, { may, live, console: game?.console, machine, linked });
  const typed = useMemo(() => new Typed(storage(), server.id), [server.id]);
  const commands = useMemo(() => commandsOf(game?.actions), [game]);
  const [text, setText] = useState('');
  const [list, setList] = useState([]);
  const [chosen, choose] = useState(-1);
  const [busy, wait] = useState(false);
  const [said, say] = useState(null);
  const field = useRef(null);
  const box = useId();
  const players = server.players?.names;

  const offer = (value) => {
    setText(value);
    // What came of the last line has been seen by whoever writes the next.
    say(null);
    typed.reset();
    choose(-1);
    setList(complete(value, { commands, players, typed: typed.lines }));
  };
  const take = (line) => {
    setText(line);
    setList([]);
    choose(-1);
    field.current.focus();
  };
  useEffect(() => {
    // The end of a line that was put in is where one goes on.
    const input = field.current;
    if (document.activeElement === input) input.setSelectionRange(input.value.length, input.value.length);
  }, [chosen, list.length]);

  const send = async (event) => {
    event.preventDefault();
    if (chosen >= 0 && list[chosen]) return take(list[chosen].line);
    const line = text.trim();
    if (!line || busy) return undefined;
    // It stays written, and can be sent once the game hears.
    if (why) return say({ line, error: { detail: why } });
    wait(true);
    setList([]);
    try {
      const answer = await api.post(path('server', server.id, 'command'), { command: line });
      typed.add(line);
      setText('');
      say({ line, answer: answer.answer ?? [] });
      onSent?.(answer);
    } catch (error) {
      say({ line, error });
    } finally {
      wait(false);
      field.current?.focus();
    }
    return undefined;
  };

  const keys = (event) => {
    const open = list.length > 0;
    if (event.isComposing) return;
    if (event.key === 'Tab' && !event.shiftKey && open) {
      event.preventDefault();
      take(list[Math.max(0, chosen)].line);
      return;
    }
    if (event.key === 'Escape' && (open || said)) {
      event.preventDefault();
      event.stopPropagation();
      if (open) setList([]);
      else say(null);
      choose(-1);
      return;
    }
    if (event.key !== 'ArrowUp' && event.key !== 'ArrowDown') return;
    event.preventDefault();
    const down = event.key === 'ArrowDown';
    if (open && (chosen >= 0 || down)) {
      choose(Math.min(list.length - 1, Math.max(-1, chosen + (down ? 1 : -1))));
      return;
    }
    const line = down ? typed.after() : typed.before(text);
    if (line === null) return;
    setList([]);
    setText(line);
  };

  const open = list.length > 0;
  return html`<div class="console-input">
    ${said && html`<${Said} said=${said} onClose=${() => say(null)} />`}
    <form class="command" onSubmit=${send}>
      <span class="command-mark" aria-hidden="true">❯</span>
      <input ref=${field} class="mono" type="text" role="combobox" aria-label="Console line" aria-expanded=${open ? 'true' : 'false'} aria-controls=${`${box}list`}
        aria-autocomplete="list" aria-activedescendant=${chosen >= 0 ? `${box}${chosen}` : undefined} aria-describedby=${why ? `${box}why` : undefined}
        autocomplete="off" autocapitalize="off" autocorrect="off" spellcheck=${false} enterkeyhint="send" maxlength=${LINE_MAX}
        placeholder=${why ?? 'Type a command'} value=${text} onInput=${(event) => offer(event.target.value)} onKeyDown=${keys} onBlur=${() => setList([])} data-command />
      ${why && html`<span class="offscreen command-why" id=${`${box}why`}>${why}</span>`}
      <${Button} type="submit" small kind="primary" disabled=${Boolean(why) || !text.trim()} busy=${busy} why=${why}>Send<//>
      <ul class="completions" id=${`${box}list`} role="listbox" aria-label="How it may go on" hidden=${!open}>
        ${list.map((one, i) => html`<li key=${one.line} id=${`${box}${i}`} role="option" aria-selected=${i === chosen ? 'true' : 'false'}
          onPointerDown=${(event) => (event.preventDefault(), take(one.line))}><code>${one.line}</code>${one.label && html`<span class="muted"><${Foreign} text=${one.label} /></span>`}</li>`)}
      </ul>
    </form>
  </div>`;
}

/** What came of the last line. Its answer stands in the log, too. */
function Said({ said, onClose }) {
  const { line, answer, error } = said;
  const lines = answer?.slice(0, ANSWER_SHOWN) ?? [];
  return html`<div class="said" data-tone=${error ? 'bad' : 'good'} role="status">
    <div class="said-text"><code>${plain(line)}</code>
      ${error && html`<span> – ${error.status === 504 ? 'nobody knows whether it was carried out: ' : ''}<${Foreign} text=${error.detail} />${error.hint && html`<span class="muted"> <${Foreign} text=${error.hint} /></span>`}</span>`}
      ${!error && answer.length === 0 && html`<span class="muted"> – sent; the game said nothing to it</span>`}
      ${lines.length > 0 && html`<div class="said-lines">${lines.map((one) => html`<div key=${one.seq}>${plain(one.text)}</div>`)}
        ${answer.length > lines.length && html`<div class="muted">and ${answer.length - lines.length} more lines in the log</div>`}</div>`}
    </div>
    <${Button} icon="cross" kind="quiet" small label="Dismiss" onClick=${onClose} />
  </div>`;
}
