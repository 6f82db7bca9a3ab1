// Tells screen readers when a server comes to another state, and the line to the host is lost or back.

import { useEffect } from './html.js';
import { store } from '../feed.js';
import { announce } from './toast.js';
import { phaseLabel } from '../phase.js';

/** States worth a word; what passes within seconds is not. */
const TOLD = new Set(['Ready', 'Stopped', 'Failed', 'Crashed', 'Unready', 'StopStuck', 'Unknown', 'Stopping', 'Installing']);
/** More at once than one would listen to is only counted. */
const MOST = 3;

export function Announcer() {
  useEffect(() => {
    let before = store.get();
    return store.subscribe((now) => {
      const old = before;
      before = now;
      if (now.link !== old.link && old.ready) announce(now.link === 'live' ? 'Connected to the host again' : 'The host is out of reach');
      if (now.servers === old.servers || !old.ready) return;
      const said = [];
      for (const [id, server] of now.servers) {
        const past = old.servers.get(id);
        if (past && past !== server && past.phase !== server.phase && TOLD.has(server.phase)) said.push(`${server.name}: ${phaseLabel(server.phase)}`);
      }
      if (said.length > MOST) announce(`${said.length} servers changed their state`);
      else if (said.length) announce(said.join(', '));
    });
  }, []);
  return null;
}
