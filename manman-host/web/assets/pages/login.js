// The way in: a one-time link, a password, or a token.

import { html, useEffect, useState } from '../ui/html.js';
import { Button } from '../ui/button.js';
import { Choice, SecretField, TextField } from '../ui/form.js';
import { ErrorNote, Note } from '../ui/state.js';
import { CopyLine } from '../ui/text.js';
import { useSecond, useSignal } from '../ui/use.js';
import { session, signIn } from '../session.js';

const ICON = new URL('../icon.svg', import.meta.url).pathname;

const WAYS = [
  { value: 'password', label: 'Password', icon: 'key' },
  { value: 'token', label: 'Token', icon: 'link' },
];

export default function LoginPage() {
  const { notice } = useSignal(session);
  const [way, setWay] = useState('password');
  const [name, setName] = useState('');
  const [secret, setSecret] = useState('');
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const [until, setUntil] = useState(0);
  useSecond(until > Date.now());
  useEffect(() => {
    document.title = 'Sign in · manman';
  }, []);
  const wait = Math.ceil((until - Date.now()) / 1000);
  const ready = secret !== '' && (way === 'token' || name.trim() !== '') && wait <= 0;
  const submit = async (event) => {
    event.preventDefault();
    if (!ready || busy) return;
    setBusy(true);
    setError(null);
    try {
      await signIn(way === 'token' ? { token: secret.trim() } : { name: name.trim(), password: secret });
    } catch (caught) {
      setError(caught);
      setBusy(false);
      if (caught.retryAfter) setUntil(Date.now() + caught.retryAfter * 1000);
    }
  };
  const turn = (to) => {
    setWay(to);
    setSecret('');
    setError(null);
  };
  return html`<main class="outside" id="main">
    <div class="login">
      <header class="login-head"><img src=${ICON} alt="" width="44" height="44" /><h1>manman</h1><p class="muted">Game servers at home, in one place.</p></header>
      ${notice && html`<${Note}>${notice}<//>`}
      <form class="card stack" onSubmit=${submit} aria-label="Sign in">
        <${Choice} label="Sign in with" hideLabel value=${way} options=${WAYS} onInput=${turn} />
        ${way === 'password' && html`<${TextField} label="Name" name="username" value=${name} onInput=${setName} autocomplete="username" autocapitalize="off" spellcheck=${false} autofocus />`}
        <${SecretField} key=${way} label=${way === 'password' ? 'Password' : 'Token'} value=${secret} onInput=${setSecret}
          autocomplete=${way === 'password' ? 'current-password' : 'off'} help=${way === 'token' ? 'It begins with mm_ and is of the scope admin, operator or viewer.' : null} />
        ${error && html`<${ErrorNote} error=${error} />`}
        <${Button} type="submit" kind="primary" busy=${busy} disabled=${!ready} why=${wait > 0 ? `Wait ${wait} s` : null}>${wait > 0 ? `Wait ${wait} s` : 'Sign in'}<//>
      </form>
      <section class="card login-link" aria-label="Sign in by a link">
        <h2>No password yet?</h2>
        <p>On the machine that runs the host, this prints a link that signs you in once:</p>
        <${CopyLine} text="manman login" label="Command" />
        <p class="muted small">Open the link within ten minutes. Afterwards you can choose a password under Settings.</p>
      </section>
    </div>
  </main>`;
}
