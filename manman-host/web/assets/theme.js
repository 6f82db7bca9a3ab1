// Before anything is painted: the theme that was chosen on this device, else the system's own.

(() => {
  let theme = null;
  try {
    theme = localStorage.getItem('manman.theme');
  } catch {
    // Without storage the system decides.
  }
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
})();
