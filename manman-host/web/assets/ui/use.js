// Hooks: the store, requests, time.

import { useCallback, useEffect, useLayoutEffect, useRef, useState } from './html.js';
import { store } from '../feed.js';
import { may, session } from '../session.js';
import { toast } from './toast.js';

/** The value of a signal, or what `select` makes of it; drawn again when that is another value. */
export function useSignal(source, select = (value) => value) {
  const chosen = useRef(select);
  chosen.current = select;
  const [, draw] = useState(0);
  const value = select(source.get());
  const seen = useRef(value);
  seen.current = value;
  useLayoutEffect(() => {
    const look = () => {
      if (!Object.is(chosen.current(source.get()), seen.current)) draw((count) => count + 1);
    };
    look();
    return source.subscribe(look);
  }, [source]);
  return value;
}

/** Part of what the feed has told; `select` must give the same object for the same state. */
export const useStore = (select) => useSignal(store, select);
export const useMe = () => useSignal(session, (value) => value.me);
export const useMay = (what) => useSignal(session, (value) => may(what, value.me));
export const useLive = () => useStore((state) => state.link === 'live');

/** Loads something for as long as the component is there; the last answer stays while it reloads. */
export function useLoad(fetcher, deps = []) {
  const [state, set] = useState({ data: undefined, error: null, loading: true });
  const [round, again] = useState(0);
  const latest = useRef(fetcher);
  latest.current = fetcher;
  useEffect(() => {
    const end = new AbortController();
    set((before) => ({ ...before, loading: true }));
    latest.current(end.signal).then(
      (data) => !end.signal.aborted && set({ data, error: null, loading: false }),
      (error) => !end.signal.aborted && set((before) => ({ data: before.data, error, loading: false })),
    );
    return () => end.abort();
  }, [...deps, round]);
  const reload = useCallback(() => again((count) => count + 1), []);
  return { ...state, reload };
}

/** Runs what a person asked for, once at a time: `[run, busy]`. */
export function useAct() {
  const [busy, set] = useState(false);
  const at = useRef(false);
  const here = useRef(true);
  useEffect(() => () => void (here.current = false), []);
  const run = useCallback(async (work, said, onError) => {
    if (at.current) return undefined;
    at.current = true;
    set(true);
    try {
      const value = await work();
      if (said) toast.ok(typeof said === 'function' ? said(value) : said);
      return value;
    } catch (error) {
      if (error.name !== 'AbortError' && onError?.(error) !== false) toast.error(error);
      return undefined;
    } finally {
      at.current = false;
      if (here.current) set(false);
    }
  }, []);
  return [run, busy];
}

// One clock for all that counts seconds, and only while somebody looks.
const ticking = new Set();
let clock = null;

function beat() {
  if (!document.hidden) for (const draw of [...ticking]) draw();
}

/** Draws the component again each second. */
export function useSecond(active = true) {
  const [, draw] = useState(0);
  useEffect(() => {
    if (!active) return undefined;
    const own = () => draw((count) => count + 1);
    ticking.add(own);
    clock ??= setInterval(beat, 1000);
    return () => {
      ticking.delete(own);
      if (ticking.size === 0) {
        clearInterval(clock);
        clock = null;
      }
    };
  }, [active]);
}

/** A value that waits until it has been still for a moment. */
export function useSettled(value, ms = 200) {
  const [settled, set] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => set(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}
