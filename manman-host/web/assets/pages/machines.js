import { html, Page } from '../ui/index.js';

export default function Stub() {
  return html`<${Page} title="machines" />`;
}
