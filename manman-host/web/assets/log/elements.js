// The elements that a log stands in: what scrolls, what is as tall as all rows, and a row to measure.

/** Makes them within `element`: `{ scroller, space, probe }`. */
export function elementsIn(element) {
  const scroller = document.createElement('div');
  scroller.className = 'log-scroll';
  scroller.tabIndex = 0;
  scroller.setAttribute('role', 'log');
  // A screen reader would drown: it is told in counts elsewhere, and reads here when asked to.
  scroller.setAttribute('aria-live', 'off');
  scroller.setAttribute('aria-label', 'Log');
  const space = document.createElement('div');
  space.className = 'log-space';
  const probe = document.createElement('span');
  probe.className = 'log-probe';
  probe.textContent = '0'.repeat(100);
  probe.setAttribute('aria-hidden', 'true');
  scroller.append(space, probe);
  element.append(scroller);
  return { scroller, space, probe };
}
