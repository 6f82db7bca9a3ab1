// One's own account, sessions and tokens; for admins also the people; and how the console looks.

import { html, useEffect, useState } from '../ui/html.js';
import {
  Ago, Badge, Button, Card, Choice, CopyLine, Empty, ErrorNote, Facts, Foreign, Icon, Loaded, Menu, Note, Page, SecretField, Section, SelectField, Switch,
  Tabs, TextField, all, api, ask, focusWrong, href, makeSecret, moment, path, setTheme, theme, toast, useAct, useLive, useLoad, useMay, useMe, useSignal, useStore,
} from '../ui/index.js';
import { Dialog } from '../ui/dialog.js';
import { byName, bytes, visible } from '../format.js';
import { PASSWORD_MIN, checkName, checkPassword } from '../validate.js';
import { look, signOut } from '../session.js';
import { device } from '../device.js';

export default function SettingsPage({ params }) {
  const admin = useMay('manage');
  const section = params.section ?? 'account';
  const tabs = [
    { id: 'account', label: 'Account' },
    { id: 'sessions', label: 'Sessions' },
    admin && { id: 'people', label: 'People' },
    admin && { id: 'tokens', label: 'Tokens' },
    { id: 'look', label: 'Look' },
    { id: 'about', label: 'About' },
  ].filter(Boolean);
  const View = { account: Account, sessions: Sessions, people: People, tokens: Tokens, look: Look, about: About }[tabs.some((tab) => tab.id === section) ? section : 'account'];
  return html`<${Page} title="Settings">
    <${Tabs} label="Settings" current=${section} tabs=${tabs.map((tab) => ({ ...tab, href: tab.id === 'account' ? href('settings') : href('settings', { section: tab.id }) }))} />
    <${View} />
  <//>`;
}

const ROLES = {
  admin: ['Admin', 'everything, people and machines too'],
  operator: ['Operator', 'runs servers'],
  viewer: ['Viewer', 'looks'],
};
const roleOptions = Object.entries(ROLES).map(([value, [label, what]]) => ({ value, label: `${label}: ${what}` }));
const roleName = (role) => ROLES[role]?.[0] ?? visible(role);

function ServerName({ id }) {
  const name = useStore((state) => state.servers.get(id)?.name);
  if (!id) return null;
  return name ? html`<a href=${href('server', { id })}><${Foreign} text=${name} /></a>` : html`<span>a server that is gone</span>`;
}

/* Account */

function Account() {
  const me = useMe();
  const leave = () => signOut().catch(toast.error);
  return html`<${Section} title="You" actions=${html`<${Button} icon="out" onClick=${leave}>Sign out<//>`}><${Card}>
    <${Facts} items=${[
      ['Name', html`<${Foreign} text=${me.name} />`],
      ['Role', html`${roleName(me.role)} <span class="muted">(${ROLES[me.role]?.[1]})</span>`],
      me.server_id && ['Confined to', html`<${ServerName} id=${me.server_id} />`],
      ['Signed in until', me.expires_at ? moment(me.expires_at) : 'you sign out'],
    ]} />
  <//><//>
  ${me.account_id
    ? html`<${PasswordForm} key=${String(me.has_password)} me=${me} />`
    : html`<${Section} title="Password"><${Note} title="You are signed in without an account">You came in by a token or by the first link. ${me.role === 'admin' ? html`Make yourself an account under <a href=${href('settings', { section: 'people' })}>People</a> to sign in with a name and password.` : 'Ask an admin for an account to sign in with a name and password.'}<//><//>`}`;
}

function PasswordForm({ me }) {
  const [old, setOld] = useState('');
  const [fresh, setFresh] = useState('');
  const [again, setAgain] = useState('');
  const [tried, setTried] = useState(false);
  const [error, setError] = useState(null);
  const [run, busy] = useAct();
  const wrong = {
    old: me.has_password && old === '' ? 'A value is needed' : null,
    fresh: checkPassword(fresh),
    again: again !== fresh ? 'The two are not the same' : null,
  };
  const shown = (field, typed) => (tried || typed ? wrong[field] : null);
  const submit = async (event) => {
    event.preventDefault();
    setTried(true);
    setError(null);
    const form = event.currentTarget;
    if (Object.values(wrong).some(Boolean)) {
      requestAnimationFrame(() => focusWrong(form));
      return;
    }
    const body = me.has_password ? { old, new: fresh } : { new: fresh };
    await run(
      async () => {
        await api.put('/me/password', body);
        await look();
        setOld('');
        setFresh('');
        setAgain('');
        setTried(false);
      },
      'The password is changed; your other sessions have ended',
      (caught) => (setError(caught), false),
    );
  };
  const said = (field) => (error?.field === field ? visible(error.detail) : null);
  return html`<${Section} title=${me.has_password ? 'Change your password' : 'Choose a password'}><form class="card stack narrow" onSubmit=${submit} novalidate>
    <input type="text" name="username" autocomplete="username" value=${me.name} class="offscreen" tabindex="-1" aria-hidden="true" readonly />
    ${!me.has_password && html`<p class="muted">With a password you sign in by your name, also without a link.</p>`}
    ${me.has_password && html`<${SecretField} label="The one until now" value=${old} onInput=${(text) => (setOld(text), setError(null))} error=${said('old') ?? shown('old', false)} autocomplete="current-password" />`}
    <${SecretField} label="New password" value=${fresh} onInput=${setFresh} error=${said('new') ?? shown('fresh', fresh !== '' && fresh.length >= PASSWORD_MIN)} help=${`At least ${PASSWORD_MIN} characters; a sentence is fine`} autocomplete="new-password" />
    <${SecretField} label="The same again" value=${again} onInput=${setAgain} error=${shown('again', again.length >= fresh.length && again !== '')} autocomplete="new-password" />
    ${error && !said('old') && !said('new') && html`<${ErrorNote} error=${error} />`}
    <div><${Button} type="submit" kind="primary" busy=${busy}>${me.has_password ? 'Change it' : 'Choose it'}<//></div>
  </form><//>`;
}

/* Sessions */

function Sessions() {
  const admin = useMay('manage');
  const [everybody, setEverybody] = useState(false);
  const load = useLoad((signal) => all(everybody ? '/session?all=true' : '/session', { signal }), [everybody]);
  const [run, busy] = useAct();
  const end = (one) => run(async () => {
    if (one.current) return signOut();
    await api.delete(path('session', one.id));
    load.reload();
  }, one.current ? null : 'That browser is signed out');
  const endOthers = async (list) => {
    const others = list.filter((one) => !one.current);
    const sure = await ask({ title: 'Sign out everywhere else?', text: `${others.length} other ${others.length === 1 ? 'browser' : 'browsers'} will have to sign in again.`, confirm: 'Sign them out', danger: true });
    if (!sure) return;
    await run(async () => {
      for (const one of others) await api.delete(path('session', one.id));
    }, 'All others are signed out');
    load.reload();
  };
  return html`<${Section} title="Browsers that are signed in" actions=${html`${admin && html`<${Switch} label="Everybody’s" checked=${everybody} onInput=${setEverybody} />`}
      ${!everybody && (load.data?.length ?? 0) > 1 && html`<${Button} small busy=${busy} onClick=${() => endOthers(load.data)}>Sign out all others<//>`}`}>
    <${Loaded} of=${load}>${(list) => html`<ul class="list card">${[...list].sort((a, b) => Number(b.current) - Number(a.current) || (b.last_used_at ?? '').localeCompare(a.last_used_at ?? '')).map(
      (one) => html`<li key=${one.id}>
        <span class="list-mark"><${Icon} name="machine" /></span>
        <div class="list-text"><p><strong>${device(one.user_agent)}</strong> ${one.current && html`<${Badge} tone="good">this one<//>`}</p>
          <p class="muted small">${everybody && html`<${Foreign} text=${one.name} /> · `}${one.peer && html`from <bdi>${visible(one.peer)}</bdi> · `}used <${Ago} at=${one.last_used_at ?? one.created_at} /> · until ${one.expires_at ? moment(one.expires_at) : 'signed out'}</p></div>
        <${Button} small disabled=${busy} onClick=${() => end(one)} label=${`Sign out ${device(one.user_agent)}`} icon="out" /></li>`,
    )}</ul>`}<//>
  <//>`;
}

/* People */

function People() {
  const load = useLoad((signal) => all('/account', { signal }), []);
  const [dialog, open] = useState(null);
  const me = useMe();
  const [run] = useAct();
  const change = (one, part, said) => run(() => api.put(path('account', one.id), part).then(load.reload), said);
  const link = async (one) => {
    const made = await run(() => api.post(`${path('account', one.id)}/login-link`));
    if (made) open({ kind: 'link', account: one, made });
  };
  const remove = async (one) => {
    const sure = await ask({
      title: `Delete the account ${visible(one.name)}?`, text: 'Its sessions and tokens end at once. What it has done stays in the activity.', confirm: 'Delete it', danger: true, type: one.name,
      work: () => api.delete(path('account', one.id)),
    });
    if (sure) load.reload();
  };
  return html`<${Section} title="People" actions=${html`<${Button} kind="primary" small icon="plus" onClick=${() => open({ kind: 'new' })}>Add a person<//>`}>
    <${Loaded} of=${load}>${(list) =>
      list.length === 0
        ? html`<${Empty} icon="players" title="Nobody has an account yet" action=${html`<${Button} kind="primary" icon="plus" onClick=${() => open({ kind: 'new' })}>Add a person<//>`}>With one, a person signs in by name, and the activity says who did what.<//>`
        : html`<ul class="list card">${list.map((one) => html`<li key=${one.id} class=${one.disabled ? 'faint' : ''}>
            <span class="avatar" aria-hidden="true">${visible(one.name).slice(0, 1).toUpperCase()}</span>
            <div class="list-text"><p><strong><${Foreign} text=${one.name} /></strong> ${one.id === me.account_id && html`<${Badge} tone="good">you<//>`} ${one.disabled && html`<${Badge} tone="warn">disabled<//>`}</p>
              <p class="muted small">${roleName(one.role)}${one.server_id && html` of <${ServerName} id=${one.server_id} />`} · ${one.has_password ? 'with a password' : 'by link'} · ${one.last_seen_at ? html`seen <${Ago} at=${one.last_seen_at} />` : 'never seen'}</p></div>
            <${Menu} label=${`More for ${visible(one.name)}`} items=${[
              { label: 'Link to sign in…', icon: 'link', disabled: one.disabled, why: 'It is disabled', onClick: () => link(one) },
              { label: 'Change…', icon: 'edit', onClick: () => open({ kind: 'edit', account: one }) },
              { label: one.disabled ? 'Enable' : 'Disable', icon: 'key', disabled: one.id === me.account_id, why: 'Not yourself', onClick: () => change(one, { disabled: !one.disabled }, `${visible(one.name)} is ${one.disabled ? 'enabled' : 'disabled'}`) },
              { label: 'Delete…', icon: 'trash', danger: true, disabled: one.id === me.account_id, why: 'Not yourself', onClick: () => remove(one) },
            ]} /></li>`)}</ul>`}<//>
    ${dialog?.kind === 'link' && html`<${LinkDialog} name=${dialog.account.name} url=${dialog.made.url} until=${dialog.made.expires_at} onClose=${() => open(null)} />`}
    ${dialog && dialog.kind !== 'link' && html`<${AccountDialog} account=${dialog.account} onClose=${() => open(null)} onDone=${load.reload} />`}
  <//>`;
}

function LinkDialog({ name, url, until, onClose }) {
  return html`<${Dialog} title=${`A link for ${visible(name)}`} onClose=${onClose}><div class="stack">
    <p>Give it to ${visible(name)}: it signs in once, until ${moment(until)}. A password can be chosen afterwards.</p>
    <${CopyLine} text=${url} label="Link to sign in" />
    <footer class="dialog-foot"><${Button} kind="primary" onClick=${onClose}>Done<//></footer></div><//>`;
}

function useServerOptions() {
  const servers = useStore((state) => state.servers);
  return [{ value: '', label: 'All servers' }, ...[...servers.values()].sort(byName).map((one) => ({ value: one.id, label: visible(one.name) }))];
}

function AccountDialog({ account = null, onClose, onDone }) {
  const [name, setName] = useState(account?.name ?? '');
  const [role, setRole] = useState(account?.role ?? 'operator');
  const [server, setServer] = useState(account?.server_id ?? '');
  const [password, setPassword] = useState('');
  const [tried, setTried] = useState(false);
  const [error, setError] = useState(null);
  const [made, setMade] = useState(null);
  const [run, busy] = useAct();
  const options = useServerOptions();
  const wrong = { name: checkName(name), password: password === '' ? null : checkPassword(password) };
  const said = (field) => (error?.field === field ? visible(error.detail) : null);
  const confined = role !== 'admin';
  const submit = async (event) => {
    event.preventDefault();
    setTried(true);
    setError(null);
    if (wrong.name || wrong.password) return;
    const body = { name, role };
    if (password) body.password = password;
    if (confined && server) body.server_id = server;
    else if (account?.server_id) body.server_id = null;
    const done = await run(
      () => (account ? api.put(path('account', account.id), body) : api.post('/account', body)).then((answer) => answer ?? {}),
      account ? 'Changed' : null,
      (caught) => (setError(caught), false),
    );
    if (!done) return;
    onDone();
    if (done.login_url) setMade(done);
    else onClose();
  };
  if (made) {
    return html`<${LinkDialog} name=${name} url=${made.login_url} until=${made.login_expires_at} onClose=${onClose} />`;
  }
  return html`<${Dialog} title=${account ? `Change ${visible(account.name)}` : 'Add a person'} onClose=${onClose}><form class="stack" onSubmit=${submit} novalidate>
    <${TextField} label="Name" required value=${name} onInput=${(text) => (setName(text), setError(null))} error=${said('name') ?? (tried || name !== '' ? wrong.name : null)} autocapitalize="off" spellcheck=${false} />
    <${SelectField} label="Role" value=${role} onInput=${setRole} options=${roleOptions} error=${said('role')} />
    ${confined && html`<${SelectField} label="For" value=${server} onInput=${setServer} options=${options} error=${said('server_id')} />`}
    <${SecretField} label=${account?.has_password ? 'New password' : 'Password'} value=${password} onInput=${setPassword} error=${said('password') ?? (tried ? wrong.password : null)} generate=${() => makeSecret(14)}
      help=${account ? 'Empty leaves it as it is' : 'Empty makes a link that signs in once instead'} autocomplete="new-password" />
    ${error && !['name', 'role', 'server_id', 'password'].includes(error.field) && html`<${ErrorNote} error=${error} />`}
    ${account && (role !== account.role || (server || null) !== (account.server_id ?? null)) && html`<${Note} tone="warn">Another role or server ends its sessions and tokens.<//>`}
    <footer class="dialog-foot"><${Button} onClick=${onClose}>Cancel<//><${Button} type="submit" kind="primary" busy=${busy}>${account ? 'Save' : 'Add'}<//></footer>
  </form><//>`;
}

/* Tokens */

const SCOPES = {
  admin: 'Admin: everything',
  operator: 'Operator: runs servers',
  viewer: 'Viewer: looks',
  join: 'Join: lets new machines in',
};

const LIVES = [
  { value: '3600', label: 'An hour' },
  { value: '86400', label: 'A day' },
  { value: '2592000', label: '30 days' },
  { value: '31536000', label: 'A year' },
  { value: '', label: 'Until it is revoked' },
];

function Tokens() {
  const load = useLoad((signal) => all('/token', { signal }), []);
  const [adding, add] = useState(false);
  const [run] = useAct();
  const revoke = async (one) => {
    const sure = await ask({ title: `Revoke ${visible(one.label || one.scope)}?`, text: 'Whatever uses it is refused from this moment on, open connections too.', confirm: 'Revoke', danger: true });
    if (sure) await run(() => api.delete(path('token', one.id)).then(load.reload), 'The token is revoked');
  };
  return html`<${Section} title="Tokens" actions=${html`<${Button} kind="primary" small icon="plus" onClick=${() => add(true)}>New token<//>`}>
    <p class="muted lead">For programs: bots, scripts, the command line on other machines. Sessions of browsers are not among them.</p>
    <${Loaded} of=${load}>${(items) => {
      const list = items.filter((one) => one.scope !== 'worker' && !one.session);
      return list.length === 0
        ? html`<${Empty} icon="key" title="No token" />`
        : html`<ul class="list card">${list.map((one) => html`<li key=${one.id}>
            <span class="list-mark"><${Icon} name="key" /></span>
            <div class="list-text"><p><strong><${Foreign} text=${one.label || 'without a label'} /></strong> <${Badge}>${visible(one.scope)}<//></p>
              <p class="muted small">${one.server_id && html`of <${ServerName} id=${one.server_id} /> · `}made <${Ago} at=${one.created_at} /> · ${one.last_used_at ? html`used <${Ago} at=${one.last_used_at} />` : 'never used'} · ${one.expires_at ? html`until ${moment(one.expires_at)}` : 'does not expire'}</p></div>
            <${Button} small onClick=${() => revoke(one)} label=${`Revoke ${visible(one.label || one.scope)}`} icon="trash" /></li>`)}</ul>`;
    }}<//>
    ${adding && html`<${TokenDialog} onClose=${() => add(false)} onDone=${load.reload} />`}
  <//>`;
}

function TokenDialog({ onClose, onDone }) {
  const [label, setLabel] = useState('');
  const [scope, setScope] = useState('operator');
  const [server, setServer] = useState('');
  const [life, setLife] = useState('2592000');
  const [error, setError] = useState(null);
  const [token, setToken] = useState(null);
  const [run, busy] = useAct();
  const options = useServerOptions();
  const confined = scope === 'operator' || scope === 'viewer';
  const submit = async (event) => {
    event.preventDefault();
    setError(null);
    const body = { scope, label: label.trim() };
    if (life) body.expires_in = Number(life);
    if (confined && server) body.server_id = server;
    const made = await run(() => api.post('/token', body), null, (caught) => (setError(caught), false));
    if (!made) return;
    onDone();
    setToken(made.token);
  };
  if (token) {
    return html`<${Dialog} title="The new token" onClose=${onClose}><div class="stack">
      <${Note} tone="warn" title="It is shown this once">Only a hash of it is kept. Copy it to where it is needed now.<//>
      <${CopyLine} text=${token} label="Token" />
      <footer class="dialog-foot"><${Button} kind="primary" onClick=${onClose}>Done<//></footer></div><//>`;
  }
  return html`<${Dialog} title="New token" onClose=${onClose}><form class="stack" onSubmit=${submit} novalidate>
    <${TextField} label="What for" value=${label} onInput=${setLabel} placeholder="discord bot" error=${error?.field === 'label' ? visible(error.detail) : null} maxlength="64" />
    <${SelectField} label="Scope" value=${scope} onInput=${setScope} options=${Object.entries(SCOPES).map(([value, text]) => ({ value, label: text }))} />
    ${confined && html`<${SelectField} label="For" value=${server} onInput=${setServer} options=${options} />`}
    <${SelectField} label="Valid for" value=${life} onInput=${setLife} options=${LIVES} />
    ${error && error.field !== 'label' && html`<${ErrorNote} error=${error} />`}
    <footer class="dialog-foot"><${Button} onClick=${onClose}>Cancel<//><${Button} type="submit" kind="primary" busy=${busy}>Make it<//></footer>
  </form><//>`;
}

/* Look */

function Look() {
  const now = useSignal(theme);
  return html`<${Section} title="Look"><${Card} class="stack">
    <${Choice} label="Theme, on this device" value=${now} onInput=${setTheme} options=${[{ value: 'auto', label: 'As the system', icon: 'auto' }, { value: 'light', label: 'Light', icon: 'sun' }, { value: 'dark', label: 'Dark', icon: 'moon' }]} />
    <p class="muted">Movement is left out where the system asks for that. Press <kbd>?</kbd> for all keys.</p>
  <//><//>`;
}

/* About */

function About() {
  const me = useMe();
  const wide = useMay('fleet');
  const status = useLoad((signal) => (wide ? api.get('/status', { signal }) : Promise.resolve(null)), [wide]);
  const live = useLive();
  const size = useWireSize();
  return html`<${Section} title="This host"><${Card}><${Facts} items=${[
    ['Version', html`<${Foreign} text=${me.host.version} />`],
    ['API', html`<${Foreign} text=${me.host.api_version} /> · <a href="/docs/" target="_blank" rel="noopener">its description</a>`],
    ['Address', html`<span class="mono"><${Foreign} text=${me.host.public_url} /></span>`],
    ['Found by others in the network', me.host.mdns ? 'yes, by mDNS' : 'no'],
    status.data && ['Runs since', html`<${Ago} at=${status.data.started_at} />`],
    status.data && ['Database', html`<${Foreign} text=${status.data.database} />`],
    ['Connection', live ? 'live' : 'lost'],
    size && ['This page’s files', `${bytes(size)} over the wire`],
  ]} />
  ${status.data?.attention?.length > 0 && html`<ul class="conditions about-attention">${status.data.attention.map((text) => html`<li key=${text}><${Icon} name="warn" size=${16} /><${Foreign} text=${text} /></li>`)}</ul>`}
  <//><//>
  <${Section} title="Made with"><p class="muted">Preact (MIT), htm (Apache-2.0) and uPlot (MIT), served by this host itself; nothing is loaded from elsewhere. <a href=${LICENCES.preact}>Preact’s licence</a>, <a href=${LICENCES.htm}>htm’s</a>, <a href=${LICENCES.uplot}>uPlot’s</a>.</p><//>`;
}

const LICENCES = Object.fromEntries(['preact', 'htm', 'uplot'].map((name) => [name, new URL(`../vendor/${name}.LICENSE`, import.meta.url).pathname]));

function useWireSize() {
  const [size, set] = useState(null);
  useEffect(() => {
    const files = performance.getEntriesByType('resource').filter((one) => one.name.includes('/assets/'));
    const sum = files.reduce((total, one) => total + one.encodedBodySize, 0);
    set(sum || null);
  }, []);
  return size;
}
