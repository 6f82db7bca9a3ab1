// The parts that every page of the console is made of: `import { html, Button } from '../ui/index.js'`.
//
// For whoever writes a page (pages/NAME.js):
// - `export default function NamePage({ params, query })` is what app.js shows for the address
//   (router.js): for the server's page `params` is `{ id, tab? }`. It is loaded when it is first shown.
// - Begin with `<${Page} title=… back=… actions=…>`: it names the document and takes the focus after
//   navigation. `Tabs` switch by address: `tabs=${[{ id, label, href }]}`.
// - What lives: `useStore((state) => state.servers.get(id))` (store.js has the shape; `state.link` is
//   `connecting | live | lost`, `state.ready` is false until the first snapshot). Nothing is assumed
//   ahead of the host's own word: show state, never what was clicked.
// - What is asked for: `useLoad((signal) => api.get(path, { signal }), [deps])` → `{ data, error,
//   loading, reload }`; `<${Loaded} of=${load}>${(data) => …}</>` shows its loading and error states.
// - What is done: `const [run, busy] = useAct(); run(() => api.post(…), 'Saved')`: errors become a
//   toast with the host's words and hint (return false from a third argument to show one yourself).
// - `PowerButtons server=` and `Activity server=` (live state with “Stopping, 12 s of 60”) are shared
//   by all pages; `VariablesForm` is the typed form of a game's variables.
// - Foreign text goes through `<${Foreign} text=… />` (isolated, control characters visible), times
//   through `<${Ago} at=… />`, `<${Copy} text=… label=… />` copies.
// - `useMay('run')` says whether the person may; `ask({...})` (dialog.js) resolves to true or false;
//   `toast.ok(text)`, `toast.error(error)`; `announce(text)` speaks to screen readers only.
// - `useShortcut('s', 'Start', fn)` adds a key for as long as the component is there, and to `?`.
// - CSS: tokens are in style/tokens.css; a page's own sheet is style/NAME.css, named in index.html.
//   No style attributes in strings; `style=${{ '--x': 1 }}` is fine (it goes through the CSSOM).

export * from './html.js';
export * from './use.js';
export * from './icon.js';
export * from './text.js';
export * from './button.js';
export * from './state.js';
export * from './status.js';
export * from './power.js';
export * from './dialog.js';
export * from './toast.js';
export * from './form.js';
export * from './variables.js';
export * from './table.js';
export * from './page.js';
export * from './keys.js';
export * from './theme.js';
export { api, all, path, hostNow, ApiError } from '../api.js';
export { href } from '../router.js';
