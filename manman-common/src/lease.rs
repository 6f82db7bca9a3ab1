//! Leases: who holds a name, for how long, and what a rival's claim does to that.
//!
//! One engine for all that has to show up now and then to stay known. It is pure: time is an
//! argument, so nobody's clock but the caller's decides. Deadlines are exact and kept in order: a
//! lease that has lapsed is not seen by anything that is asked with a later time, swept or not.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A point on a clock that never jumps, in microseconds since a start that its owner chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// The time that has passed since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// What is held. Who claims it again as the same holder keeps it; another one waits for its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease<H, V> {
    pub holder: H,
    /// How long it lasts from each renewal; without one it never lapses, and anybody may take it.
    pub term: Option<Duration>,
    pub value: V,
    deadline: Option<Tick>,
}

impl<H, V> Lease<H, V> {
    /// When it lapses, unless it is renewed: from that very moment on it is gone.
    #[must_use]
    pub const fn deadline(&self) -> Option<Tick> {
        self.deadline
    }

    #[must_use]
    pub fn remaining(&self, now: Tick) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.since(now))
    }

    fn is_live(&self, now: Tick) -> bool {
        self.deadline.is_none_or(|deadline| now < deadline)
    }
}

/// With what right a claim is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Whoever it is: the holder alone tells whether it is the same one.
    Anyone,
    /// Has shown that the present lease is theirs, wherever they are now.
    Owner,
    /// May take anything from anybody.
    Admin,
}

#[derive(Clone, Debug)]
pub struct Claim<H, V> {
    pub holder: H,
    pub term: Option<Duration>,
    pub value: V,
    pub by: By,
    /// Whether a lease without a term stands against anybody who is not its owner.
    pub protect: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody held it.
    Added,
    /// The same holder: its time starts again, with the term and value it was added with.
    Refreshed,
    /// The owner is elsewhere now: as refreshed, with the new holder.
    Moved,
    /// All of it is the claim's.
    Replaced,
    /// Another one holds it: nothing has changed. It lapses after so long, if ever.
    Ignored { retry_after: Option<Duration> },
    /// There is no room for another lease: nothing has changed.
    Full,
}

/// Who must lapse together before the fault is taken to be the clock's owner's own.
const HELD_AT_LEAST: usize = 4;

#[derive(Clone, Debug)]
pub struct Leases<K, H, V> {
    leases: BTreeMap<K, Lease<H, V>>,
    /// One for each lease with a term.
    deadlines: BTreeSet<(Tick, K)>,
    capacity: usize,
}

impl<K: Ord + Clone, H: PartialEq, V> Leases<K, H, V> {
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self { leases: BTreeMap::new(), deadlines: BTreeSet::new(), capacity }
    }

    /// Claims `key`, by the rules that [`Outcome`] tells.
    pub fn claim(&mut self, now: Tick, key: K, claim: Claim<H, V>) -> Outcome {
        let Claim { holder, term, value, by, protect } = claim;
        let Some(lease) = self.leases.get_mut(&key).filter(|lease| lease.is_live(now)) else {
            if !self.leases.contains_key(&key) && self.leases.len() >= self.capacity {
                self.expire(now);
                if self.leases.len() >= self.capacity {
                    return Outcome::Full;
                }
            }
            self.put(key, Lease { holder, term, value, deadline: term.map(|term| now.plus(term)) });
            return Outcome::Added;
        };
        let same = lease.holder == holder;
        match (by, lease.deadline) {
            (By::Anyone | By::Owner, Some(_)) if same => {
                self.renew(now, &key);
                Outcome::Refreshed
            }
            (By::Owner, Some(_)) => {
                lease.holder = holder;
                self.renew(now, &key);
                Outcome::Moved
            }
            (By::Anyone, Some(_)) => Outcome::Ignored { retry_after: lease.remaining(now) },
            (By::Anyone, None) if protect && !same => Outcome::Ignored { retry_after: None },
            (By::Anyone | By::Owner, None) | (By::Admin, _) => {
                self.put(key, Lease { holder, term, value, deadline: term.map(|term| now.plus(term)) });
                Outcome::Replaced
            }
        }
    }

    /// Starts a live lease's time again; whether there was one.
    pub fn renew<Q: Ord + ?Sized>(&mut self, now: Tick, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let Some(lease) = self.leases.get_mut(key).filter(|lease| lease.is_live(now)) else { return false };
        if let (Some(term), Some(old)) = (lease.term, lease.deadline) {
            let deadline = now.plus(term);
            lease.deadline = Some(deadline);
            self.reschedule(key, old, deadline);
        }
        true
    }

    /// Puts back a lease that was known before a restart, with what is left of its time.
    pub fn restore(&mut self, now: Tick, key: K, lease: (H, Option<Duration>, V), remaining: Duration) {
        let (holder, term, value) = lease;
        if self.leases.len() < self.capacity || self.leases.contains_key(&key) {
            self.put(key, Lease { holder, term, value, deadline: term.map(|_| now.plus(remaining)) });
        }
    }

    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, now: Tick, key: &Q) -> Option<&Lease<H, V>>
    where
        K: Borrow<Q>,
    {
        self.leases.get(key).filter(|lease| lease.is_live(now))
    }

    /// The value of a live lease, to be changed in place; holder and time are the rules' alone.
    pub fn value_mut<Q: Ord + ?Sized>(&mut self, now: Tick, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.leases.get_mut(key).filter(|lease| lease.is_live(now)).map(|lease| &mut lease.value)
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, now: Tick, key: &Q) -> Option<Lease<H, V>>
    where
        K: Borrow<Q>,
    {
        let (key, lease) = self.leases.remove_entry(key)?;
        let live = lease.is_live(now);
        if let Some(deadline) = lease.deadline {
            self.deadlines.remove(&(deadline, key));
        }
        live.then_some(lease)
    }

    /// All that is live, in the order of the keys.
    pub fn iter(&self, now: Tick) -> impl Iterator<Item = (&K, &Lease<H, V>)> {
        self.leases.iter().filter(move |(_, lease)| lease.is_live(now))
    }

    /// Takes out what has lapsed, the earliest first.
    pub fn expire(&mut self, now: Tick) -> Vec<(K, Lease<H, V>)> {
        let mut lapsed = Vec::new();
        while self.deadlines.first().is_some_and(|(deadline, _)| *deadline <= now) {
            let Some((_, key)) = self.deadlines.pop_first() else { break };
            if let Some(lease) = self.leases.remove(&key) {
                lapsed.push((key, lease));
            }
        }
        lapsed
    }

    /// To be called by an owner that could not hear anybody since `since`, before anything else:
    /// where more than half of all leases (four at least) lapsed in that time, nobody is dead but
    /// the owner was deaf, and each of these has one more term. How many that are.
    pub fn hold(&mut self, since: Tick, now: Tick) -> usize {
        let lapsed: Vec<(Tick, K)> =
            self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).filter(|(deadline, _)| *deadline > since).cloned().collect();
        if self.deadlines.len() < HELD_AT_LEAST || lapsed.len() * 2 <= self.deadlines.len() {
            return 0;
        }
        for (old, key) in &lapsed {
            let Some(lease) = self.leases.get_mut(key) else { continue };
            let Some(term) = lease.term else { continue };
            let deadline = now.plus(term);
            lease.deadline = Some(deadline);
            self.deadlines.remove(&(*old, key.clone()));
            self.deadlines.insert((deadline, key.clone()));
        }
        lapsed.len()
    }

    /// When the next one lapses.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// How many there are, lapsed ones that were not taken out included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    fn put(&mut self, key: K, lease: Lease<H, V>) {
        if let Some(deadline) = lease.deadline {
            self.deadlines.insert((deadline, key.clone()));
        }
        let new_deadline = lease.deadline;
        let old = self.leases.insert(key.clone(), lease);
        if let Some(deadline) = old.and_then(|old| old.deadline).filter(|old| Some(*old) != new_deadline) {
            self.deadlines.remove(&(deadline, key));
        }
    }

    fn reschedule<Q: Ord + ?Sized>(&mut self, key: &Q, old: Tick, new: Tick)
    where
        K: Borrow<Q>,
    {
        let Some((key, _)) = self.leases.get_key_value(key) else { return };
        let mut entry = (old, key.clone());
        self.deadlines.remove(&entry);
        entry.0 = new;
        self.deadlines.insert(entry);
    }
}

#[cfg(test)]
mod tests;
