//! The records and what changes them; time is an argument, and nothing here waits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use manman_common::Timestamp;
use manman_common::lease::{By, Claim, Leases, Outcome, Tick};
use manman_common::wire::registry::{Located, Registration, Service, ServiceChange, ServiceEvent, ServiceHealth, ServiceName};
use uuid::Uuid;

use super::RegistryConfig;
use super::address::ip_text;
use super::entry::{Entry, Health, Held, Notes, Owner, Record, located, seconds, seconds_left, service};
use super::rate::{Pass, Rate};

/// After a restart a record has at least so much time (or its whole one, where that is shorter):
/// its service's next sign of life may have fallen into the gap.
const GRACE: Duration = Duration::from_secs(10);

pub(crate) struct State {
    config: RegistryConfig,
    leases: Leases<ServiceName, SocketAddr, Entry>,
    per_ip: HashMap<IpAddr, usize>,
    probes: BTreeSet<(Tick, ServiceName)>,
    rate: Rate,
    index: u64,
    looked: Tick,
    /// The answer to `GET /discover` at this index, without and with those that are critical.
    lists: [Option<(u64, Bytes)>; 2],
    full_told: bool,
    /// What others are yet to hear.
    pub(crate) news: Vec<ServiceEvent>,
    /// Names whose record is not kept as it is now.
    pub(crate) unsaved: BTreeSet<ServiceName>,
    /// Whether more than times are unsaved.
    pub(crate) changed: bool,
}

/// A wish to hold a name.
pub(crate) struct Ask {
    pub(crate) name: ServiceName,
    pub(crate) address: SocketAddr,
    pub(crate) expire: u32,
    /// Whose it will be, if it is new.
    pub(crate) owner: Owner,
    /// The hash of the token that came along.
    pub(crate) shown: Option<[u8; 32]>,
    pub(crate) force: bool,
    pub(crate) notes: Option<Box<Notes>>,
}

/// What a wish has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Held { result: Registration, address: SocketAddr, expire: u32, expires_in: Option<u32>, owner_is_new: bool },
    Ignored { retry_after: Option<u32>, tell: bool },
    Full { tell: bool },
    TooManyOfOne,
}

/// What a probe has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Name(String),
    Nothing,
}

/// A service that is to be asked for its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) name: ServiceName,
    pub(crate) address: SocketAddr,
}

impl State {
    pub(crate) fn new(config: RegistryConfig, index: u64, now: Tick) -> Self {
        Self {
            leases: Leases::new(config.names_max),
            rate: Rate::new(config.requests_per_second),
            config,
            per_ip: HashMap::new(),
            probes: BTreeSet::new(),
            index,
            looked: now,
            lists: [None, None],
            full_told: false,
            news: Vec::new(),
            unsaved: BTreeSet::new(),
            changed: false,
        }
    }

    /// To be called before anything else that takes the time.
    pub(crate) fn advance(&mut self, now: Tick) {
        let since = std::mem::replace(&mut self.looked, now);
        if self.config.deaf_after.is_some_and(|deaf| now.since(since) > deaf) {
            let held = self.leases.hold(since, now);
            if held > 0 {
                tracing::warn!(services = held, "the registry stood still and most services' time ran out unheard; each has one more");
            }
        }
        for (name, lease) in self.leases.expire(now) {
            self.unlist(lease.holder.ip(), lease.value.owner, None, &name);
            self.publish(ServiceChange::Expired, name, lease.holder);
        }
    }

    pub(crate) fn claim(&mut self, now: Tick, ask: Ask) -> Told {
        let Ask { name, address, expire, owner, shown, force, notes } = ask;
        let before = self.leases.get(now, name.as_str()).map(|lease| (lease.holder, lease.value.owner, lease.value.health));
        let own = before.is_some_and(|(_, held, _)| match held {
            Owner::Token(hash) => shown == Some(hash),
            Owner::Host(_) => held == owner,
        });
        let from_host = matches!(owner, Owner::Host(_));
        let new_there = before.is_none_or(|(holder, ..)| holder.ip() != address.ip());
        if new_there && !force && !from_host && self.per_ip.get(&address.ip()).is_some_and(|count| *count >= self.config.names_per_ip) {
            return Told::TooManyOfOne;
        }
        // What is known of a service's health outlives its registering again.
        let health = before.filter(|(holder, ..)| *holder == address && expire == 0 && !from_host).map(|(.., health)| health);
        let critical = before.is_some_and(|(.., health)| health.status == ServiceHealth::Critical);
        let claim = Claim {
            holder: address,
            term: (expire > 0).then(|| Duration::from_secs(expire.into())),
            value: Entry { owner, notes, modified: self.index, health: health.unwrap_or_default(), disputed: false },
            by: match (force, own) {
                (true, _) => By::Admin,
                (false, true) => By::Owner,
                (false, false) => By::Anyone,
            },
            protect: self.config.protect && !critical,
        };
        let result = match self.leases.claim(now, name.clone(), claim) {
            Outcome::Added => Registration::Added,
            Outcome::Refreshed => Registration::Refreshed,
            Outcome::Moved => Registration::Moved,
            Outcome::Replaced => Registration::Replaced,
            Outcome::Ignored { retry_after } => {
                let tell = self.leases.value_mut(now, name.as_str()).is_some_and(|entry| !std::mem::replace(&mut entry.disputed, true));
                return Told::Ignored { retry_after: retry_after.map(seconds_left), tell };
            }
            Outcome::Full => return Told::Full { tell: !std::mem::replace(&mut self.full_told, true) },
        };
        self.full_told = false;
        let owner_is_new = matches!(result, Registration::Added | Registration::Replaced);
        if result != Registration::Refreshed {
            if let Some((holder, held, health)) = before {
                self.unlist(holder.ip(), held, health.next_probe, &name);
            }
            // The owner of what was only moved has shown to be the same.
            self.count(address.ip(), if owner_is_new { owner } else { before.map_or(owner, |(_, held, _)| held) });
            self.changed = true;
        }
        if owner_is_new && expire == 0 && !from_host {
            let next = health.and_then(|health| health.next_probe).unwrap_or_else(|| now.plus(self.next_probe()));
            self.schedule(now, &name, next);
        }
        let visible = match result {
            Registration::Added => Some(ServiceChange::Added),
            Registration::Moved => Some(ServiceChange::Moved),
            Registration::Replaced if before.is_some_and(|(holder, ..)| holder != address) => Some(ServiceChange::Replaced),
            Registration::Replaced | Registration::Refreshed | Registration::Removed | Registration::Ignored => None,
        };
        if !from_host {
            self.unsaved.insert(name.clone());
        }
        let lease = self.leases.get(now, name.as_str());
        let told = Told::Held {
            result,
            address,
            expire: lease.map_or(expire, |lease| seconds(lease.term)),
            expires_in: lease.and_then(|lease| lease.remaining(now)).map(seconds_left),
            owner_is_new,
        };
        if let Some(change) = visible {
            self.publish(change, name, address);
        }
        told
    }

    /// Ends a record, where `may` allows it; `None` where there is none.
    pub(crate) fn remove(&mut self, now: Tick, name: &str, may: impl FnOnce(&Owner) -> bool) -> Option<bool> {
        let lease = self.leases.get(now, name)?;
        if !may(&lease.value.owner) {
            return Some(false);
        }
        self.end(now, name, ServiceChange::Removed);
        Some(true)
    }

    pub(crate) fn host_holds(&self, now: Tick, name: &str, id: Uuid) -> bool {
        self.get(now, name).is_some_and(|lease| lease.value.owner == Owner::Host(id))
    }

    fn end(&mut self, now: Tick, name: &str, change: ServiceChange) {
        let Some(lease) = self.leases.remove(now, name) else { return };
        let Ok(name) = name.parse::<ServiceName>() else { return };
        self.unlist(lease.holder.ip(), lease.value.owner, lease.value.health.next_probe, &name);
        self.publish(change, name, lease.holder);
    }

    /// What a probe of this address has found; one that was overtaken by a change says nothing.
    pub(crate) fn probed(&mut self, now: Tick, due: &Due, found: &Found) {
        let next = now.plus(self.next_probe());
        let drop_after = self.config.drop_after;
        let Some(lease) = self.leases.get(now, due.name.as_str()) else { return };
        if lease.holder != due.address || lease.term.is_some() {
            return;
        }
        let Some(entry) = self.leases.value_mut(now, due.name.as_str()) else { return };
        let health = &mut entry.health;
        health.under_way = false;
        let change = match found {
            Found::Name(name) if name == due.name.as_str() => {
                health.fails = 0;
                let was = std::mem::replace(&mut health.status, ServiceHealth::Passing);
                (was == ServiceHealth::Critical).then_some(ServiceChange::Passing)
            }
            Found::Name(other) => {
                let other: String = other.chars().take(ServiceName::MAX).collect();
                tracing::info!(service = %due.name, address = %due.address, says = ?other, "a service answers with another name and is discarded");
                return self.end(now, due.name.as_str(), ServiceChange::Discarded);
            }
            Found::Nothing => {
                health.fails = health.fails.saturating_add(1);
                if health.status == ServiceHealth::Critical {
                    if now.since(health.critical_since) >= drop_after {
                        tracing::info!(service = %due.name, address = %due.address, "a service has not answered for too long and is dropped");
                        return self.end(now, due.name.as_str(), ServiceChange::Dropped);
                    }
                    None
                } else if health.fails >= FAILS_MAX {
                    health.status = ServiceHealth::Critical;
                    health.critical_since = now;
                    Some(ServiceChange::Critical)
                } else {
                    None
                }
            }
        };
        if let Some(old) = health.next_probe {
            self.probes.remove(&(old, due.name.clone()));
        }
        self.schedule(now, &due.name, next);
        if let Some(change) = change {
            tracing::info!(service = %due.name, address = %due.address, change = change.as_str(), "a service's health has changed");
            self.publish(change, due.name.clone(), due.address);
        }
    }

    /// Takes out the probes that are due.
    pub(crate) fn due(&mut self, now: Tick, at_most: usize) -> Vec<Due> {
        let mut due = Vec::new();
        while due.len() < at_most && self.probes.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, name)) = self.probes.pop_first() else { break };
            let Some(entry) = self.leases.value_mut(now, name.as_str()) else { continue };
            entry.health.next_probe = None;
            if std::mem::replace(&mut entry.health.under_way, true) {
                continue;
            }
            if let Some(lease) = self.leases.get(now, name.as_str()) {
                due.push(Due { address: lease.holder, name });
            }
        }
        due
    }

    /// When there is something to do, if not asked before.
    pub(crate) fn next(&self) -> Option<Tick> {
        self.leases.next_deadline().into_iter().chain(self.probes.first().map(|(at, _)| *at)).min()
    }

    pub(crate) fn pass(&mut self, now: Tick, ip: IpAddr) -> Pass {
        self.rate.pass(now, ip)
    }

    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    pub(crate) fn len(&self) -> usize {
        self.leases.len()
    }

    pub(crate) fn get(&self, now: Tick, name: &str) -> Option<&Held> {
        self.leases.get(now, name)
    }

    pub(crate) fn locate(&self, now: Tick, name: &str, all: bool) -> Option<Located> {
        self.get(now, name).filter(|lease| all || shown(lease)).map(located)
    }

    pub(crate) fn service(&self, now: Tick, name: &str) -> Option<Service> {
        self.get(now, name).map(|lease| service(now, lease))
    }

    pub(crate) fn services(&self, now: Tick, all: bool) -> BTreeMap<String, Service> {
        let lease = self.leases.iter(now).filter(|(_, lease)| all || shown(lease));
        lease.map(|(name, lease)| (name.to_string(), service(now, lease))).collect()
    }

    /// All services in the text of `GET /discover`, made once for each index.
    pub(crate) fn list(&mut self, now: Tick, all: bool) -> Bytes {
        let slot = usize::from(all);
        if let Some((_, list)) = self.lists[slot].as_ref().filter(|(index, _)| *index == self.index) {
            return list.clone();
        }
        let leases = self.leases.iter(now).filter(|(_, lease)| all || shown(lease));
        let map: BTreeMap<&str, Located> = leases.map(|(name, lease)| (name.as_str(), located(lease))).collect();
        // All keys are text: such a map can always be written.
        let list = Bytes::from(serde_json::to_vec(&map).unwrap_or_default());
        self.lists[slot] = Some((self.index, list.clone()));
        list
    }

    /// Puts back what was kept; what has lapsed meanwhile stays away. How many there are.
    pub(crate) fn restore(&mut self, now: Tick, wall: Timestamp, records: Vec<Record>) -> usize {
        for record in records {
            let Some(address) = record.address() else { continue };
            let term = (record.expire > 0).then(|| Duration::from_secs(record.expire.into()));
            let remaining = match (term, record.expires_at) {
                (Some(term), Some(at)) if at > wall => at.since(wall).max(GRACE.min(term)).min(term),
                (Some(_), _) => {
                    self.unsaved.insert(record.name);
                    continue;
                }
                (None, _) => Duration::ZERO,
            };
            if self.leases.get(now, record.name.as_str()).is_some() {
                continue;
            }
            let owner = record.owner();
            let entry = Entry {
                owner,
                notes: Notes::boxed(record.tags, record.meta),
                modified: self.index,
                health: Health::default(),
                disputed: false,
            };
            self.leases.restore(now, record.name.clone(), (address, term, entry), remaining);
            self.count(address.ip(), owner);
            if term.is_none() {
                let next = now.plus(self.next_probe());
                self.schedule(now, &record.name, next);
            }
        }
        self.leases.len()
    }

    /// All that is worth keeping.
    pub(crate) fn records(&self, now: Tick, wall: Timestamp) -> Vec<Record> {
        self.leases.iter(now).filter_map(|(name, lease)| Record::of(now, wall, name, lease)).collect()
    }

    pub(crate) fn record(&self, now: Tick, wall: Timestamp, name: &ServiceName) -> Option<Record> {
        self.get(now, name.as_str()).and_then(|lease| Record::of(now, wall, name, lease))
    }

    fn publish(&mut self, change: ServiceChange, name: ServiceName, address: SocketAddr) {
        self.index += 1;
        let now = self.looked;
        if let Some(entry) = self.leases.value_mut(now, name.as_str()) {
            entry.modified = self.index;
        }
        self.unsaved.insert(name.clone());
        self.changed = true;
        self.news.push(ServiceEvent { index: self.index, change, name, ip: ip_text(address), port: address.port() });
    }

    fn schedule(&mut self, now: Tick, name: &ServiceName, at: Tick) {
        if let Some(entry) = self.leases.value_mut(now, name.as_str()) {
            entry.health.next_probe = Some(at);
            self.probes.insert((at, name.clone()));
        }
    }

    fn next_probe(&self) -> Duration {
        let every = self.config.probe_every;
        let tenth = u64::try_from(every.as_micros() / 10).unwrap_or(u64::MAX);
        // Between nine and eleven tenths, so that many services are not asked all at once.
        every - Duration::from_micros(tenth) + Duration::from_micros(crate::clock::random_below(2 * tenth))
    }

    /// What the host leases for its own is bounded by the host.
    fn count(&mut self, ip: IpAddr, owner: Owner) {
        if matches!(owner, Owner::Token(_)) {
            *self.per_ip.entry(ip).or_default() += 1;
        }
    }

    fn unlist(&mut self, ip: IpAddr, owner: Owner, probe: Option<Tick>, name: &ServiceName) {
        if let (Owner::Token(_), Some(count)) = (owner, self.per_ip.get_mut(&ip)) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_ip.remove(&ip);
            }
        }
        if let Some(at) = probe {
            self.probes.remove(&(at, name.clone()));
        }
    }
}

/// So many probes in a row that find nothing hide a service.
const FAILS_MAX: u8 = 3;

fn shown(lease: &Held) -> bool {
    lease.value.health.status != ServiceHealth::Critical
}
