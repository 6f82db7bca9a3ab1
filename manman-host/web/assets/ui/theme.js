// Light, dark, or as the system has it; kept on this device.

import { signal } from '../signal.js';

const KEY = 'manman.theme';
const ORDER = ['auto', 'light', 'dark'];

export const theme = signal(document.documentElement.dataset.theme ?? 'auto');

export function setTheme(name) {
  if (name === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try {
    if (name === 'auto') localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, name);
  } catch {
    // Without storage it holds until the page is closed.
  }
  theme.set(name);
}

export function nextTheme() {
  const name = ORDER[(ORDER.indexOf(theme.get()) + 1) % ORDER.length];
  setTheme(name);
  return name;
}
