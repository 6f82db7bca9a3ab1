// Before the console itself: the theme that was chosen on this device, so that nothing flashes, and a
// further try for files that did not come because the network changed just then.

(() => {
  try {
    const theme = localStorage.getItem('manman.theme');
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  } catch {
    // Without storage the system decides.
  }

  const TRIES = 4;
  const KEY = 'manman.tries';
  let failed = false;
  let ready = false;

  const giveUp = () => {
    // A sheet, or a file fetched ahead, may be missing from a console that runs.
    if (ready) return;
    document.getElementById('app').textContent = 'The console could not be loaded. Look whether the host is there, and load this page anew.';
  };

  // A module that could not be fetched is an error of its script element, which does not bubble.
  addEventListener(
    'error',
    ({ target }) => {
      const address = { SCRIPT: target?.src, LINK: target?.href }[target?.tagName];
      // What somebody injects, and the policy refuses, is no file of ours.
      if (!address?.startsWith(`${location.origin}/`)) return;
      // A network that changes drops many files at once: that is one failure.
      if (failed) return;
      failed = true;
      let tries = TRIES;
      try {
        tries = Number(sessionStorage.getItem(KEY) ?? 0);
        sessionStorage.setItem(KEY, String(tries + 1));
      } catch {
        // Where nothing can be counted, nothing is tried for ever.
      }
      if (tries < TRIES) setTimeout(() => location.reload(), 400 * 2 ** tries);
      else addEventListener('load', giveUp);
    },
    true,
  );
  // Counted anew once all is well for a while; at once, a sheet that never comes would be tried for ever.
  addEventListener('manman-ready', () => {
    ready = true;
    setTimeout(() => {
      try {
        sessionStorage.removeItem(KEY);
      } catch {
        // Nothing was counted.
      }
    }, 10_000);
  });
})();
