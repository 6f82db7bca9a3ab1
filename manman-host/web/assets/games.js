// The catalogue: asked for once, and anew when somebody signs in again.

import { all } from './api.js';
import { useEffect, useState } from './ui/html.js';
import { session } from './session.js';

let pending = null;
let known = null;

session.subscribe(({ state }) => {
  if (state === 'out') {
    pending = null;
    known = null;
  }
});

/** All games with a definition. */
export function loadGames({ again = false } = {}) {
  if (again || !pending) {
    pending = all('/game').then(
      (items) => {
        known = new Map(items.map((game) => [game.game_id, game]));
        return known;
      },
      (error) => {
        pending = null;
        throw error;
      },
    );
  }
  return pending;
}

const NONE = new Map();

/** The games by id; empty until they are there. Where they can not be had, ids stand for names. */
export function useGames() {
  const [games, set] = useState(known ?? NONE);
  useEffect(() => {
    let here = true;
    loadGames().then(
      (map) => here && set(map),
      () => {},
    );
    return () => {
      here = false;
    };
  }, []);
  return games;
}

/** A game's name; of one without a definition the end of its id. */
export function gameName(games, id) {
  return games.get(id)?.name ?? id.replace(/^\w+:/, '').split('/').at(-1);
}
