//! The brakes on guessing: so many tries at an account from one address, and so many from one
//! address at all. Nobody elsewhere feels them, the account's owner least of all.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::limit::{Network, network_of};

/// A rate with a burst, kept as the one moment at which all is forgiven (GCRA).
#[derive(Clone, Copy, Debug)]
struct Rule {
    burst: u32,
    every: Duration,
}

/// One account from one address.
const PAIR: Rule = Rule { burst: 5, every: Duration::from_secs(30) };
/// All accounts from one address: a family behind one router, on a bad day.
const ADDRESS: Rule = Rule { burst: 20, every: Duration::from_secs(10) };
/// Entries of each sort that are kept, some 1 MiB; beyond it those that are forgiven soonest go.
const ENTRIES_MAX: usize = 10_000;

type Address = Network;
/// Names are as long as somebody likes, so their hash is kept.
type NameHash = [u8; 16];

#[derive(Debug, Default)]
pub struct Attempts(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    pairs: Table<(Address, NameHash)>,
    addresses: Table<Address>,
}

#[derive(Debug)]
struct Table<K>(HashMap<K, Instant>);

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

/// A try that counts as wrong until it is told to have been right.
#[must_use]
#[derive(Debug)]
pub struct Attempt {
    address: Address,
    name: NameHash,
}

impl Attempts {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for one try, or says how long to wait for one. A try that is refused costs
    /// nothing.
    pub fn begin(&self, peer: IpAddr, name: &str, now: Instant) -> Result<Attempt, Duration> {
        let attempt = Attempt { address: network_of(peer), name: name_of(name) };
        let mut tables = self.lock();
        let pair = (attempt.address, attempt.name);
        let wait = tables.addresses.wait(&attempt.address, ADDRESS, now).max(tables.pairs.wait(&pair, PAIR, now));
        if !wait.is_zero() {
            return Err(wait);
        }
        tables.addresses.count(attempt.address, ADDRESS, now);
        tables.pairs.count(pair, PAIR, now);
        Ok(attempt)
    }

    /// It was right. The account's wrong tries from there are forgiven; the address's others not,
    /// lest somebody with an account of their own may guess for ever at another.
    pub fn right(&self, attempt: Attempt) {
        let mut tables = self.lock();
        tables.pairs.0.remove(&(attempt.address, attempt.name));
        tables.addresses.give_back(&attempt.address, ADDRESS);
    }

    /// It was neither: the host could not look.
    pub fn undecided(&self, attempt: Attempt) {
        let mut tables = self.lock();
        tables.pairs.give_back(&(attempt.address, attempt.name), PAIR);
        tables.addresses.give_back(&attempt.address, ADDRESS);
    }
}

impl<K: Hash + Eq + Copy> Table<K> {
    fn wait(&self, key: &K, rule: Rule, now: Instant) -> Duration {
        let Some(forgiven) = self.0.get(key) else { return Duration::ZERO };
        forgiven.saturating_duration_since(now).saturating_sub(rule.every * (rule.burst - 1))
    }

    fn count(&mut self, key: K, rule: Rule, now: Instant) {
        if self.0.len() >= ENTRIES_MAX && !self.0.contains_key(&key) {
            self.make_room(now);
        }
        let forgiven = self.0.entry(key).or_insert(now);
        *forgiven = (*forgiven).max(now) + rule.every;
    }

    fn give_back(&mut self, key: &K, rule: Rule) {
        if let Some(forgiven) = self.0.get_mut(key) {
            *forgiven = forgiven.checked_sub(rule.every).unwrap_or(*forgiven);
        }
    }

    /// Forgets what is forgiven, and where that is not enough an eighth of the rest: so that the
    /// next entries cost nothing.
    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, forgiven| *forgiven > now);
        if self.0.len() < ENTRIES_MAX {
            return;
        }
        let mut moments: Vec<Instant> = self.0.values().copied().collect();
        let (_, bound, _) = moments.select_nth_unstable(ENTRIES_MAX / 8);
        let bound = *bound;
        self.0.retain(|_, forgiven| *forgiven > bound);
    }
}

fn name_of(name: &str) -> NameHash {
    let mut hash = [0; 16];
    hash.copy_from_slice(&Sha256::digest(name.to_lowercase().as_bytes())[..16]);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_account_is_slow_from_one_address_and_not_from_another() {
        let attempts = Attempts::default();
        let now = clock::instant();
        for _ in 0..5 {
            let _wrong = attempts.begin(ip("192.0.2.1"), "anna", now).expect("the burst");
        }
        assert_eq!(attempts.begin(ip("192.0.2.1"), "ANNA", now).expect_err("too many"), Duration::from_secs(30));
        assert!(attempts.begin(ip("192.0.2.2"), "anna", now).is_ok(), "its owner elsewhere");
        assert!(attempts.begin(ip("192.0.2.1"), "bert", now).is_ok(), "somebody else at the same address");
        let later = now + Duration::from_secs(30);
        let right = attempts.begin(ip("192.0.2.1"), "anna", later).expect("one more each 30 s");
        attempts.right(right);
        assert!(attempts.begin(ip("192.0.2.1"), "anna", later).is_ok(), "whoever was right begins anew");
    }

    #[test]
    fn an_address_is_slow_whatever_the_name_and_is_not_forgiven_by_an_own_account() {
        let attempts = Attempts::default();
        let now = clock::instant();
        for number in 0..20 {
            attempts.right(attempts.begin(ip("2001:db8::1"), "own", now).expect("the own account"));
            let address = format!("2001:db8::{number:x}");
            let _wrong = attempts.begin(ip(&address), &format!("name{number}"), now).expect("the burst");
        }
        assert_eq!(attempts.begin(ip("2001:db8::ffff:1"), "own", now).expect_err("one /64 is one"), Duration::from_secs(10));
        assert!(attempts.begin(ip("2001:db8:0:1::1"), "own", now).is_ok());
        assert!(attempts.begin(ip("2001:db8::1"), "own", now + Duration::from_secs(10)).is_ok());
    }

    #[test]
    fn whoever_has_many_addresses_fills_no_memory_and_frees_no_other() {
        let attempts = Attempts::default();
        let mut now = clock::instant();
        for _ in 0..5 {
            let _wrong = attempts.begin(ip("192.0.2.1"), "anna", now).expect("the burst");
        }
        for number in 0..u32::try_from(ENTRIES_MAX).expect("small") * 2 {
            now += Duration::from_micros(10);
            let _wrong = attempts.begin(IpAddr::V4((0x0a00_0000 + number).into()), "anna", now).expect("each has its own");
        }
        let tables = attempts.lock();
        assert!(tables.pairs.0.len() <= ENTRIES_MAX && tables.addresses.0.len() <= ENTRIES_MAX);
        drop(tables);
        assert!(attempts.begin(ip("192.0.2.1"), "anna", now).is_err(), "whoever tried most is forgotten last");
    }
}
