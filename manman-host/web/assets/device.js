// A browser by what it calls itself: enough to tell one's phone from one's desk, and no more.

const BROWSERS = [
  [/\bEdg(?:A|iOS)?\//, 'Edge'],
  [/\bOPR\//, 'Opera'],
  [/\b(?:Firefox|FxiOS)\//, 'Firefox'],
  [/\bSamsungBrowser\//, 'Samsung Internet'],
  [/\b(?:Chrome|CriOS|HeadlessChrome)\//, 'Chrome'],
  [/\bSafari\//, 'Safari'],
  [/^curl\//, 'curl'],
];

const SYSTEMS = [
  [/\bAndroid\b/, 'Android'],
  [/\b(?:iPhone|iPad)\b/, 'iOS'],
  [/\bWindows\b/, 'Windows'],
  [/\bMac OS X\b/, 'macOS'],
  [/\bCrOS\b/, 'ChromeOS'],
  [/\bLinux\b/, 'Linux'],
];

const named = (list, text) => list.find(([pattern]) => pattern.test(text))?.[1] ?? null;

/** `Firefox on Linux`. */
export function device(agent) {
  if (!agent) return 'A browser';
  const browser = named(BROWSERS, agent) ?? 'A browser';
  const system = named(SYSTEMS, agent);
  return system ? `${browser} on ${system}` : browser;
}
