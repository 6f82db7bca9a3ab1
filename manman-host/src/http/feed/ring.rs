//! What consoles see, and the last numbered changes of it. Pure: no clock, no socket, no table.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use manman_common::wire::{Event, ServerView, ServiceView, WorkerView};
use manman_common::{ServerId, WorkerId};
use serde::Serialize;

use super::sight::{Sight, brief};

/// Deltas that are kept for who comes back.
pub(super) const DELTAS_MAX: usize = 4096;
/// And their bytes: a fleet of hundreds of busy servers must not fill the host's memory.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Events of a snapshot.
pub(super) const EVENTS_SHOWN: usize = 50;
/// Events that are remembered, so that a snapshot of one server has some of its own.
pub(super) const EVENTS_MAX: usize = 500;

/// The new value of one thing; `None` where it is gone.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Server(ServerId, Option<ServerView>),
    Worker(WorkerId, Option<WorkerView>),
    Service(String, Option<ServiceView>),
    Event(Arc<Event>),
}

/// All that can be seen now.
#[derive(Debug)]
pub(super) struct Board {
    /// The newest delta's number.
    seq: u64,
    pub(super) servers: BTreeMap<ServerId, Shown<ServerView>>,
    pub(super) workers: BTreeMap<WorkerId, Shown<WorkerView>>,
    pub(super) services: BTreeMap<String, Shown<ServiceView>>,
    events: BTreeMap<i64, (Option<ServerId>, Arc<str>)>,
    ring: VecDeque<Arc<Delta>>,
    ring_bytes: usize,
    /// The snapshot of the whole fleet, once somebody wanted it: many consoles come back together.
    whole: Option<(u64, Bytes)>,
}

#[derive(Debug)]
pub(super) struct Shown<T> {
    pub(super) view: T,
    text: Arc<str>,
}

/// One number's changes.
#[derive(Debug)]
pub(super) struct Delta {
    seq: u64,
    parts: Vec<Part>,
    /// The message for who sees all.
    whole: Bytes,
}

/// A change in its text, `{"kind":…}`.
#[derive(Debug)]
struct Part {
    about: About,
    text: Arc<str>,
}

#[derive(Debug)]
enum About {
    /// `turned` where it has come or gone, and so its worker in the eyes of who sees it alone.
    Server {
        id: ServerId,
        turned: bool,
    },
    /// With its text for who sees one server alone.
    Worker {
        id: WorkerId,
        brief: Arc<str>,
    },
    Service {
        name: String,
    },
    Event {
        id: i64,
        server: Option<ServerId>,
    },
}

/// By what a later change takes an earlier one's place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key<'a> {
    Server(ServerId),
    Worker(WorkerId),
    Service(&'a str),
    Event(i64),
}

/// What somebody has not heard yet.
#[derive(Clone, Debug)]
pub(super) enum Missing {
    /// These, in their order; maybe none.
    Deltas(Vec<Arc<Delta>>),
    /// More than is kept.
    TooMuch,
}

/// What is to be sent for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Nothing of it is in sight.
    Nothing,
    Text(Bytes),
    /// A snapshot.
    Anew,
}

impl Board {
    /// An empty one, whose numbers begin after `seq`.
    pub(super) fn new(seq: u64) -> Self {
        Self {
            seq,
            servers: BTreeMap::new(),
            workers: BTreeMap::new(),
            services: BTreeMap::new(),
            events: BTreeMap::new(),
            ring: VecDeque::new(),
            ring_bytes: 0,
            whole: None,
        }
    }

    pub(super) const fn seq(&self) -> u64 {
        self.seq
    }

    pub(super) fn knows_event(&self, id: i64) -> bool {
        self.events.contains_key(&id)
    }

    /// The worker that the server of this sight runs on.
    pub(super) fn worker_of(&self, sight: Sight) -> Option<WorkerId> {
        match sight {
            Sight::Fleet => None,
            Sight::Server(server) => self.servers.get(&server).map(|shown| shown.view.worker_id),
        }
    }

    /// Takes changes in; whether anything is other than it was, which then has a new number.
    pub(super) fn take(&mut self, changes: Vec<Change>) -> bool {
        let parts: Vec<Part> = changes.into_iter().filter_map(|change| self.apply(change)).collect();
        if parts.is_empty() {
            return false;
        }
        self.seq += 1;
        let whole = delta_text(self.seq, parts.iter().map(|part| &*part.text));
        let delta = Delta { seq: self.seq, parts, whole };
        self.ring_bytes += delta.weight();
        self.ring.push_back(Arc::new(delta));
        while self.ring.len() > DELTAS_MAX || self.ring_bytes > BYTES_MAX {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes -= oldest.weight();
        }
        true
    }

    fn apply(&mut self, change: Change) -> Option<Part> {
        match change {
            Change::Server(id, view) => {
                let known = self.servers.contains_key(&id);
                let turned = known != view.is_some();
                let value = replace(&mut self.servers, id, view)?;
                Some(Part { about: About::Server { id, turned }, text: part_text("server", &id, &value) })
            }
            Change::Worker(id, view) => {
                let short = view.as_ref().map(|view| json(&brief(view)));
                let value = replace(&mut self.workers, id, view)?;
                let brief = part_text("worker", &id, short.as_deref().unwrap_or("null"));
                Some(Part { about: About::Worker { id, brief }, text: part_text("worker", &id, &value) })
            }
            Change::Service(name, view) => {
                let value = replace(&mut self.services, name.clone(), view)?;
                Some(Part { text: part_text("service", &name, &value), about: About::Service { name } })
            }
            Change::Event(event) => {
                // What is older than all that is remembered has been seen, and forgotten.
                let oldest = self.events.first_key_value().map_or(i64::MIN, |(id, _)| *id);
                if self.knows_event(event.id) || (self.events.len() >= EVENTS_MAX && event.id < oldest) {
                    return None;
                }
                let value = json(&*event);
                let text = format!(r#"{{"kind":"event","value":{value}}}"#).into();
                self.events.insert(event.id, (event.server_id, value));
                if self.events.len() > EVENTS_MAX {
                    self.events.pop_first();
                }
                Some(Part { about: About::Event { id: event.id, server: event.server_id }, text })
            }
        }
    }

    /// What comes after the number `seen`.
    pub(super) fn since(&self, seen: u64) -> Missing {
        if seen == self.seq {
            return Missing::Deltas(Vec::new());
        }
        let Some(first) = self.ring.front().map(|delta| delta.seq).filter(|first| seen < self.seq && seen + 1 >= *first) else {
            return Missing::TooMuch;
        };
        // Numbers have no holes in here.
        let skip = usize::try_from(seen + 1 - first).unwrap_or(usize::MAX);
        Missing::Deltas(self.ring.iter().skip(skip).cloned().collect())
    }

    pub(super) fn snapshot(&mut self, sight: Sight) -> Bytes {
        match sight {
            Sight::Fleet => {
                if let Some((_, text)) = self.whole.as_ref().filter(|(seq, _)| *seq == self.seq) {
                    return text.clone();
                }
                let text = snapshot_text(
                    self.seq,
                    self.servers.values().map(|shown| &*shown.text),
                    self.workers.values().map(|shown| &*shown.text),
                    self.services.values().map(|shown| &*shown.text),
                    self.last_events(|_| true),
                );
                self.whole = Some((self.seq, text.clone()));
                text
            }
            Sight::Server(server) => {
                let worker = self.worker_of(sight).and_then(|id| self.workers.get(&id)).map(|shown| json(&brief(&shown.view)));
                snapshot_text(
                    self.seq,
                    self.servers.get(&server).into_iter().map(|shown| &*shown.text),
                    worker.iter().map(|text| &**text),
                    std::iter::empty(),
                    self.last_events(|of| of == Some(server)),
                )
            }
        }
    }

    /// The last ones in sight, oldest first.
    fn last_events(&self, in_sight: impl Fn(Option<ServerId>) -> bool) -> impl Iterator<Item = &str> {
        let mut last: Vec<&str> =
            self.events.values().rev().filter(|(of, _)| in_sight(*of)).take(EVENTS_SHOWN).map(|(_, text)| &**text).collect();
        last.reverse();
        last.into_iter()
    }
}

impl Delta {
    fn weight(&self) -> usize {
        let of_part = |part: &Part| {
            size_of::<Part>()
                + part.text.len()
                + match &part.about {
                    About::Worker { brief, .. } => brief.len(),
                    About::Server { .. } | About::Service { .. } | About::Event { .. } => 0,
                }
        };
        self.whole.len() + self.parts.iter().map(of_part).sum::<usize>()
    }
}

/// These deltas as one message: of each thing the last value, of events all.
pub(super) fn frame(sight: Sight, worker: Option<WorkerId>, deltas: &[Arc<Delta>]) -> Frame {
    let Some(last) = deltas.last() else { return Frame::Nothing };
    if let ([one], Sight::Fleet) = (deltas, sight) {
        return Frame::Text(one.whole.clone());
    }
    let mut texts: Vec<Option<&str>> = Vec::new();
    let mut places: HashMap<Key<'_>, usize> = HashMap::new();
    for part in deltas.iter().flat_map(|delta| &delta.parts) {
        let (key, text) = match (&part.about, sight) {
            (About::Server { id, turned: true }, Sight::Server(server)) if *id == server => return Frame::Anew,
            (About::Server { id, .. }, Sight::Server(server)) if *id != server => continue,
            (About::Server { id, .. }, _) => (Key::Server(*id), &*part.text),
            (About::Worker { id, .. }, Sight::Server(_)) if Some(*id) != worker => continue,
            (About::Worker { id, brief }, Sight::Server(_)) => (Key::Worker(*id), &**brief),
            (About::Worker { id, .. }, Sight::Fleet) => (Key::Worker(*id), &*part.text),
            (About::Service { .. }, Sight::Server(_)) => continue,
            (About::Service { name }, Sight::Fleet) => (Key::Service(name), &*part.text),
            (About::Event { server, .. }, Sight::Server(only)) if *server != Some(only) => continue,
            (About::Event { id, .. }, _) => (Key::Event(*id), &*part.text),
        };
        if let Some(earlier) = places.insert(key, texts.len()) {
            texts[earlier] = None;
        }
        texts.push(Some(text));
    }
    if texts.is_empty() { Frame::Nothing } else { Frame::Text(delta_text(last.seq, texts.into_iter().flatten())) }
}

/// Puts a value in its place; its text where it is other than it was.
fn replace<K: Ord, T: Serialize>(map: &mut BTreeMap<K, Shown<T>>, key: K, view: Option<T>) -> Option<Arc<str>> {
    let Some(view) = view else { return map.remove(&key).map(|_| "null".into()) };
    let text = json(&view);
    if map.get(&key).is_some_and(|shown| shown.text == text) {
        return None;
    }
    map.insert(key, Shown { view, text: text.clone() });
    Some(text)
}

fn json<T: Serialize>(value: &T) -> Arc<str> {
    // All keys are text and all numbers finite: our views can always be written.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()).into()
}

fn part_text<I: Serialize>(kind: &str, id: &I, value: &str) -> Arc<str> {
    format!(r#"{{"kind":"{kind}","id":{},"value":{value}}}"#, json(id)).into()
}

fn delta_text<'a>(seq: u64, parts: impl Iterator<Item = &'a str>) -> Bytes {
    let mut text = format!(r#"{{"type":"delta","seq":{seq},"changes":["#);
    join(&mut text, parts);
    text.push_str("]}");
    text.shrink_to_fit();
    text.into()
}

fn snapshot_text<'a>(
    seq: u64,
    servers: impl Iterator<Item = &'a str>,
    workers: impl Iterator<Item = &'a str>,
    services: impl Iterator<Item = &'a str>,
    events: impl Iterator<Item = &'a str>,
) -> Bytes {
    let mut text = format!(r#"{{"type":"snapshot","seq":{seq},"servers":["#);
    join(&mut text, servers);
    text.push_str(r#"],"workers":["#);
    join(&mut text, workers);
    text.push_str(r#"],"services":["#);
    join(&mut text, services);
    text.push_str(r#"],"events":["#);
    join(&mut text, events);
    text.push_str("]}");
    text.shrink_to_fit();
    text.into()
}

fn join<'a>(into: &mut String, parts: impl Iterator<Item = &'a str>) {
    for (place, part) in parts.enumerate() {
        if place > 0 {
            into.push(',');
        }
        into.push_str(part);
    }
}

#[cfg(test)]
mod tests;
