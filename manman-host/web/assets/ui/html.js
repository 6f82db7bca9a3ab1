// Preact with htm instead of JSX. Everything reaches the page as text nodes and attributes: nothing
// here or elsewhere in the console makes HTML out of text.

import { h, Component } from '../vendor/preact.js';
import htm from '../vendor/htm.js';

export const html = htm.bind(h);

export { h, render, Fragment, Component, createContext } from '../vendor/preact.js';
export { useState, useEffect, useLayoutEffect, useMemo, useCallback, useRef, useReducer, useId, useContext } from '../vendor/preact-hooks.js';

/** A component that is made again only when one of its properties is another value. */
export function memo(render) {
  class Memo extends Component {
    shouldComponentUpdate(next) {
      for (const key in next) if (next[key] !== this.props[key]) return true;
      for (const key in this.props) if (!(key in next)) return true;
      return false;
    }

    render(props) {
      return h(render, props);
    }
  }
  return Memo;
}
