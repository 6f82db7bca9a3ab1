//! Who waits for which answer.
//!
//! An entry lives from before its process until after it. Ids that are over are remembered for a
//! minute, so that a late answer hears that it is late (410) and a second one that it is second (409).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::history::Record;
use super::output::Logs;
use super::{Event, Reply};
use crate::clock;

const REMEMBERED: Duration = Duration::from_secs(60);
/// About 2 MiB; the oldest give way.
const REMEMBERED_MAX: usize = 20_000;

#[derive(Default)]
pub(crate) struct Arbiter {
    live: Mutex<HashMap<Uuid, Entry>>,
    past: Mutex<Past>,
}

struct Entry {
    slot: Slot,
    /// The process whose group may answer.
    root: Option<i32>,
    /// As whom it runs, where that is another user.
    user: Option<u32>,
    label: String,
    started: u64,
    logs: Option<Arc<Mutex<Logs>>>,
    events: Option<mpsc::Sender<Event>>,
}

enum Slot {
    Waiting(oneshot::Sender<Reply>),
    Answered,
    Expired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Expired,
}

#[derive(Default)]
struct Past {
    fates: HashMap<Uuid, Fate>,
    order: VecDeque<(Instant, Uuid)>,
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Delivered,
    Unknown,
    Late,
    Second,
    /// It came from a process that is none of the request's.
    Stranger,
}

impl Arbiter {
    pub(crate) fn open(&self, id: Uuid, label: &str, events: Option<mpsc::Sender<Event>>) -> oneshot::Receiver<Reply> {
        let (sender, receiver) = oneshot::channel();
        let entry = Entry {
            slot: Slot::Waiting(sender),
            root: None,
            user: None,
            label: label.to_owned(),
            started: clock::unix_millis(),
            logs: None,
            events,
        };
        self.live().insert(id, entry);
        receiver
    }

    pub(crate) fn set_process(&self, id: Uuid, root: i32, logs: Option<Arc<Mutex<Logs>>>) {
        if let Some(entry) = self.live().get_mut(&id) {
            entry.root = Some(root);
            entry.logs = logs;
        }
    }

    pub(crate) fn set_user(&self, id: Uuid, user: Option<u32>) {
        if let Some(entry) = self.live().get_mut(&id) {
            entry.user = user;
        }
    }

    pub(crate) fn user_of(&self, id: Uuid) -> Option<u32> {
        self.live().get(&id).and_then(|entry| entry.user)
    }

    /// `is_own` says of the request's process whether the sender belongs to it.
    pub(crate) fn deliver(&self, id: Uuid, reply: Reply, is_own: impl FnOnce(i32) -> bool) -> Delivery {
        let mut live = self.live();
        let Some(entry) = live.get_mut(&id) else {
            drop(live);
            return match self.past().fates.get(&id) {
                None => Delivery::Unknown,
                Some(Fate::Answered) => Delivery::Second,
                Some(Fate::Expired) => Delivery::Late,
            };
        };
        if !entry.root.is_none_or(is_own) {
            return Delivery::Stranger;
        }
        match std::mem::replace(&mut entry.slot, Slot::Answered) {
            Slot::Waiting(sender) => match sender.send(reply) {
                Ok(()) => Delivery::Delivered,
                Err(_) => {
                    entry.slot = Slot::Expired;
                    Delivery::Late
                }
            },
            Slot::Answered => Delivery::Second,
            Slot::Expired => {
                entry.slot = Slot::Expired;
                Delivery::Late
            }
        }
    }

    /// `false` if nobody waits for that request.
    pub(crate) fn progress(&self, id: Uuid, text: String) -> bool {
        let live = self.live();
        let Some(entry) = live.get(&id) else { return false };
        if let Some(events) = &entry.events {
            // A reader that is behind misses some; the script is not kept waiting for it.
            let _ = events.try_send(Event::Progress(text));
        }
        true
    }

    /// From now on an answer is late.
    pub(crate) fn expire(&self, id: Uuid) {
        if let Some(entry) = self.live().get_mut(&id)
            && matches!(entry.slot, Slot::Waiting(_))
        {
            entry.slot = Slot::Expired;
        }
    }

    /// The process has gone.
    pub(crate) fn close(&self, id: Uuid) {
        let Some(entry) = self.live().remove(&id) else { return };
        let fate = if matches!(entry.slot, Slot::Answered) { Fate::Answered } else { Fate::Expired };
        let now = clock::instant();
        let mut past = self.past();
        past.fates.insert(id, fate);
        past.order.push_back((now, id));
        while past.order.len() > REMEMBERED_MAX || past.order.front().is_some_and(|(at, _)| now.duration_since(*at) > REMEMBERED) {
            if let Some((_, old)) = past.order.pop_front() {
                past.fates.remove(&old);
            }
        }
    }

    /// The one request whose process `is_own` knows.
    pub(crate) fn of_process(&self, is_own: impl Fn(i32) -> bool) -> Option<Uuid> {
        let roots: Vec<(Uuid, i32)> = self.live().iter().filter_map(|(id, entry)| Some((*id, entry.root?))).collect();
        let mut own = roots.into_iter().filter(|(_, root)| is_own(*root));
        own.next().filter(|_| own.next().is_none()).map(|(id, _)| id)
    }

    pub(crate) fn is_live(&self, id: Uuid) -> bool {
        self.live().contains_key(&id)
    }

    pub(crate) fn record(&self, id: Uuid) -> Option<Record> {
        let (mut record, root, logs) = {
            let live = self.live();
            let entry = live.get(&id)?;
            (Record::running(id, &entry.label, entry.started), entry.root, entry.logs.clone())
        };
        if let Some(logs) = logs {
            logs.lock().unwrap_or_else(PoisonError::into_inner).tell(&mut record);
        }
        record.now = root.and_then(super::procfs::sample);
        Some(record)
    }

    pub(crate) fn roots(&self) -> Vec<i32> {
        self.live().values().filter_map(|entry| entry.root).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.live().len()
    }

    fn live(&self) -> MutexGuard<'_, HashMap<Uuid, Entry>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply() -> Reply {
        Reply { status: 200, content_type: None, headers: Vec::new(), body: bytes::Bytes::new(), is_error: false }
    }

    #[test]
    fn one_answer_is_taken() {
        let arbiter = Arbiter::default();
        let id = clock::request_id();
        assert_eq!(arbiter.deliver(id, reply(), |_| true), Delivery::Unknown);
        let mut waiting = arbiter.open(id, "a", None);
        arbiter.set_process(id, 7, None);
        assert_eq!(arbiter.deliver(id, reply(), |root| root == 8), Delivery::Stranger);
        assert_eq!(arbiter.deliver(id, reply(), |root| root == 7), Delivery::Delivered);
        assert!(waiting.try_recv().is_ok());
        assert_eq!(arbiter.deliver(id, reply(), |_| true), Delivery::Second);
        arbiter.close(id);
        assert_eq!(arbiter.deliver(id, reply(), |_| true), Delivery::Second);
        assert_eq!(arbiter.len(), 0);
    }

    #[test]
    fn a_late_answer_is_late_while_the_process_lives_and_after() {
        let arbiter = Arbiter::default();
        let id = clock::request_id();
        let waiting = arbiter.open(id, "a", None);
        arbiter.expire(id);
        assert_eq!(arbiter.deliver(id, reply(), |_| true), Delivery::Late);
        arbiter.close(id);
        assert_eq!(arbiter.deliver(id, reply(), |_| true), Delivery::Late);
        drop(waiting);
    }
}
