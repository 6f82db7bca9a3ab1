import { Button, Dialog, ErrorNote, Field, html, useState } from '../../ui/index.js';

const pad = (number) => String(number).padStart(2, '0');

/** A moment as `<input type=datetime-local>` writes it, in this device's time. */
function written(date) {
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}T${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

const AGO = [
  ['10 minutes ago', 10],
  ['An hour ago', 60],
  ['6 hours ago', 360],
  ['Yesterday', 1440],
];

/** Asks for a moment; `onGo(date)` shows the log there. */
export function JumpToTime({ onGo, onClose }) {
  const [text, set] = useState(() => written(new Date(Date.now() - 3_600_000)));
  const [error, fail] = useState(null);
  const [busy, wait] = useState(false);
  const go = async (date) => {
    if (Number.isNaN(date.getTime())) return fail({ detail: 'this is no moment' });
    wait(true);
    fail(null);
    try {
      await onGo(date);
    } catch (caught) {
      fail(caught);
      wait(false);
    }
    return undefined;
  };
  return html`<${Dialog} title="Jump to a time" onClose=${onClose}>
    <form class="stack" onSubmit=${(event) => (event.preventDefault(), go(new Date(text)))}>
      <div class="row">${AGO.map(([label, minutes]) => html`<${Button} key=${label} small onClick=${() => go(new Date(Date.now() - minutes * 60_000))}>${label}<//>`)}</div>
      <${Field} label="Moment" help="In this device’s time zone. The first line from then on is shown.">${(tie) => html`<input type="datetime-local" step="1" data-first ...${tie} value=${text} onInput=${(event) => set(event.target.value)} />`}<//>
      ${error && html`<${ErrorNote} error=${error} />`}
      <footer class="dialog-foot"><${Button} onClick=${onClose}>Cancel<//><${Button} type="submit" kind="primary" busy=${busy}>Jump<//></footer>
    </form>
  <//>`;
}
