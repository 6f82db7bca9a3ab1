// The console: who is signed in, which page is shown, and what is around it.

import { html, render, useEffect, useLayoutEffect, useRef, useState } from './ui/html.js';
import { Icon } from './ui/icon.js';
import { Button } from './ui/button.js';
import { Empty, ErrorNote, Loading } from './ui/state.js';
import { Foreign, moment } from './ui/text.js';
import { KeysHelp, useShortcut } from './ui/keys.js';
import { Questions } from './ui/dialog.js';
import { Toasts, announce } from './ui/toast.js';
import { useMay, useMe, useSecond, useSignal, useStore } from './ui/use.js';
import { Page } from './ui/page.js';
import { look, session, signOut } from './session.js';
import { open, close, retryNow } from './feed.js';
import { href, parse } from './router.js';
import { initials, duration } from './format.js';
import { nextTheme, theme } from './ui/theme.js';
import { Announcer } from './ui/announcer.js';
import { troubles } from './trouble.js';

const PAGES = {
  fleet: () => import('./pages/fleet.js'),
  'new-server': () => import('./pages/new-server.js'),
  server: () => import('./pages/server.js'),
  machines: () => import('./pages/machines.js'),
  machine: () => import('./pages/machine.js'),
  services: () => import('./pages/services.js'),
  activity: () => import('./pages/activity.js'),
  settings: () => import('./pages/settings.js'),
  login: () => import('./pages/login.js'),
};

const NAV = [
  { page: 'fleet', label: 'Fleet', icon: 'fleet', keys: 'g f', of: ['fleet', 'server', 'new-server'] },
  { page: 'machines', label: 'Machines', icon: 'machine', keys: 'g m', of: ['machines', 'machine'], fleet: true },
  { page: 'services', label: 'Services', icon: 'services', keys: 'g s', of: ['services'], fleet: true },
  { page: 'activity', label: 'Activity', icon: 'activity', keys: 'g a', of: ['activity'] },
  { page: 'settings', label: 'Settings', icon: 'settings', keys: 'g ,', of: ['settings'] },
];

function useRoute() {
  const [route, set] = useState(() => parse(location.hash));
  useEffect(() => {
    const turn = () => set(parse(location.hash));
    addEventListener('hashchange', turn);
    return () => removeEventListener('hashchange', turn);
  }, []);
  return route;
}

const loaded = new Map();

/** The page's module, once it is there. */
function usePage(name) {
  const [, draw] = useState(0);
  const [error, fail] = useState(null);
  const [round, again] = useState(0);
  useEffect(() => {
    if (loaded.has(name) || !PAGES[name]) return undefined;
    let here = true;
    fail(null);
    // Once more where the network changed just then.
    PAGES[name]().catch(() => new Promise((wait) => setTimeout(wait, 600)).then(PAGES[name])).then(
      (module) => {
        loaded.set(name, module.default);
        if (here) draw((count) => count + 1);
      },
      (caught) => {
        console.error(caught);
        if (here) fail({ detail: 'this page could not be loaded', hint: 'the host may be away, or was updated: load the console anew' });
      },
    );
    return () => {
      here = false;
    };
  }, [name, round]);
  return { component: loaded.get(name), error, retry: () => again((count) => count + 1) };
}

function Routed({ route }) {
  const { component: View, error, retry } = usePage(route.page);
  if (route.page === 'not-found') {
    return html`<${Page} title="Not here"><${Empty} icon="search" title="There is no such page" action=${html`<a class="button" href=${href('fleet')}>To the fleet</a>`} /><//>`;
  }
  if (error) return html`<div class="page"><${ErrorNote} error=${error} retry=${retry} /></div>`;
  if (!View) return html`<div class="page"><${Loading} lines=${5} /></div>`;
  // Another server or machine is another page: nothing of the last one stays in its fields.
  return html`<${View} key=${`${route.page}:${route.params.id ?? ''}`} params=${route.params} query=${route.query} />`;
}

/** Says when what is seen is not what is. */
function Offline() {
  const { link, since, retryAt, ready } = useStore((state) => state.link === 'live' ? LIVE : state);
  const lost = link === 'lost';
  useSecond(lost);
  if (!lost) return null;
  const wait = Math.max(0, Math.ceil(((retryAt ?? 0) - Date.now()) / 1000));
  return html`<div class="offline" role="alert"><${Icon} name="offline" />
    <p><strong>The host is out of reach.</strong> ${ready ? html`What you see is from <time title=${moment(since)}>${duration((Date.now() - since) / 1000)} ago</time>.` : null} <span aria-live="off">${wait > 0 ? `Trying again in ${wait} s.` : 'Trying…'}</span></p>
    <${Button} small onClick=${retryNow}>Try now<//></div>`;
}

const LIVE = { link: 'live' };

function Link({ item, current, badge }) {
  return html`<a href=${href(item.page)} aria-current=${current ? 'page' : undefined}><span class="nav-icon"><${Icon} name=${item.icon} size=${20} />${badge ? html`<span class="nav-badge" data-tone="bad">${badge}<span class="offscreen"> need attention</span></span>` : null}</span><span>${item.label}</span></a>`;
}

function Person() {
  const me = useMe();
  const leave = () => signOut().catch(() => {});
  return html`<div class="person"><span class="avatar" aria-hidden="true">${initials(me.name)}</span>
    <div class="person-words"><a href=${href('settings')}><${Foreign} text=${me.name} /></a><span class="muted">${me.role}</span></div>
    <${Button} icon="out" kind="quiet" small label="Sign out" onClick=${leave} /></div>`;
}

function ThemeButton() {
  const now = useSignal(theme);
  const name = { auto: 'as the system', light: 'light', dark: 'dark' }[now];
  return html`<${Button} kind="quiet" small icon=${{ auto: 'auto', light: 'sun', dark: 'moon' }[now]} label=${`Theme: ${name}`} onClick=${nextTheme} />`;
}

function Shell({ route }) {
  const [keys, showKeys] = useState(false);
  const main = useRef(null);
  const first = useRef(true);
  const wide = useMay('fleet');
  const create = useMay('create');
  const bad = useStore((state) => troubles(state).length);
  const link = useStore((state) => state.link);
  const where = `${route.page}/${route.params.id ?? ''}/${route.params.game ?? ''}`;
  useLayoutEffect(() => {
    // A new page begins at its top, and a keyboard or screen reader begins at its content.
    if (!first.current) {
      main.current.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    first.current = false;
  }, [where]);
  useShortcut('?', 'All keys', () => showKeys(true), { group: 'Everywhere' });
  useShortcut('/', 'Search', () => document.querySelector('[data-search]')?.focus(), { group: 'Everywhere' });
  for (const item of NAV) useShortcut(item.keys, item.label, () => (location.hash = href(item.page)), { group: 'Go to' });
  useShortcut('g n', 'New server', () => create && (location.hash = href('new-server')), { group: 'Go to' });
  useShortcut('t', 'Light, dark or as the system', () => announce(`Theme: ${nextTheme()}`), { group: 'Everywhere' });
  const items = NAV.filter((item) => !item.fleet || wide);
  const nav = (label) =>
    items.map((item) => html`<${Link} key=${item.page} item=${item} current=${item.of.includes(route.page)} badge=${item.page === 'fleet' && label ? bad : 0} />`);
  return html`<div class="shell">
    <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), main.current.focus())}>To the content</a>
    <header class="rail">
      <a class="brand" href=${href('fleet')}><img src=${ICON} alt="" width="28" height="28" /><span>manman</span></a>
      ${create && html`<a class="button primary rail-new" href=${href('new-server')}><${Icon} name="plus" /><span>New server</span></a>`}
      <nav class="nav" aria-label="Pages">${nav(true)}</nav>
      <div class="rail-foot">
        <div class="rail-tools"><span class="link-state" data-link=${link}><span class="dot" aria-hidden="true"></span>${{ live: 'Live', lost: 'Out of reach', connecting: 'Connecting' }[link]}</span>
          <span class="spacer"></span><${ThemeButton} /><${Button} kind="quiet" small icon="keyboard" label="Keys" onClick=${() => showKeys(true)} /></div>
        <${Person} />
      </div>
    </header>
    <main id="main" tabindex="-1" ref=${main}><${Offline} /><${Routed} route=${route} /></main>
    <nav class="bottom" aria-label="Main">${nav(true)}</nav>
    ${keys && html`<${KeysHelp} onClose=${() => showKeys(false)} />`}
    <${Announcer} />
  </div>`;
}

const ICON = new URL('icon.svg', import.meta.url).pathname;

function App() {
  const route = useRoute();
  const { state, error } = useSignal(session);
  useEffect(() => {
    if (state === 'in') open();
    else if (state === 'out') close();
  }, [state]);
  useEffect(() => {
    if (state !== 'unreachable') return undefined;
    const timer = setInterval(() => look().catch(() => {}), 3000);
    return () => clearInterval(timer);
  }, [state]);
  let view = null;
  if (state === 'in') view = html`<${Shell} route=${route} />`;
  else if (state === 'out') view = html`<${Outside} />`;
  else if (state === 'unreachable') {
    view = html`<main class="outside"><${ErrorNote} error=${error} retry=${() => look().catch(() => {})} /></main>`;
  } else view = html`<main class="outside"><${Loading} lines=${4} /></main>`;
  return html`${view}<${Questions} /><${Toasts} />`;
}

/** What a person sees who is not signed in. */
function Outside() {
  const { component: View, error, retry } = usePage('login');
  if (error) return html`<main class="outside"><${ErrorNote} error=${error} retry=${retry} /></main>`;
  return View ? html`<${View} />` : html`<main class="outside"><${Loading} lines=${4} /></main>`;
}

look().catch(() => {});
const root = document.getElementById('app');
root.textContent = '';
render(html`<${App} />`, root);
dispatchEvent(new Event('manman-ready'));
