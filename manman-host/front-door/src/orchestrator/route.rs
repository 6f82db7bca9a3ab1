//! The routes as the proxy reads them: a table that is replaced as a whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use hyper::http::uri::Authority;
use manman_common::lease::Tick;
use tokio::sync::Semaphore;

use super::bind::Bind;
use super::name::WaifuName;
use super::target::Target;
use crate::proxy::Pool;

/// Requests and sockets of one waifu at once; one more is told to come again.
pub(crate) const IN_FLIGHT_MAX: usize = 1024;

/// Whether requests are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    Up = 0,
    /// Known from before a restart, and not heard of since.
    Probation = 1,
    /// Three checks in a row have failed.
    Down = 2,
}

impl Health {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Probation => "probation",
            Self::Down => "down",
        }
    }
}

/// One waifu as the proxy sees it.
#[derive(Debug)]
pub struct Route {
    pub name: WaifuName,
    pub target: Target,
    pub(crate) authority: Authority,
    pub(crate) pool: Pool,
    pub(crate) in_flight: Arc<Semaphore>,
    /// When its lease ends, in microseconds; the last number there is stands for never.
    deadline: AtomicU64,
    health: AtomicU8,
    pub(crate) failed_checks: AtomicU32,
    pub(crate) requests: AtomicU64,
    /// Answers 502, 503 and 504 that are ours.
    pub(crate) refused: AtomicU64,
}

impl Route {
    /// None where the target is no URI's authority.
    pub(crate) fn new(name: WaifuName, target: Target, health: Health, deadline: Option<Tick>) -> Option<Self> {
        Some(Self {
            authority: target.authority().parse().ok()?,
            pool: Pool::default(),
            name,
            target,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            deadline: AtomicU64::new(micros(deadline)),
            health: AtomicU8::new(health as u8),
            failed_checks: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Up,
            1 => Health::Probation,
            _ => Health::Down,
        }
    }

    pub(crate) fn set_health(&self, health: Health) -> Health {
        match self.health.swap(health as u8, Ordering::Relaxed) {
            0 => Health::Up,
            1 => Health::Probation,
            _ => Health::Down,
        }
    }

    pub(crate) fn set_deadline(&self, deadline: Option<Tick>) {
        self.deadline.store(micros(deadline), Ordering::Relaxed);
    }

    pub(crate) fn lives(&self, now: Tick) -> bool {
        let deadline = self.deadline.load(Ordering::Relaxed);
        deadline == u64::MAX || now < Tick::from_micros(deadline)
    }
}

fn micros(deadline: Option<Tick>) -> u64 {
    deadline.map_or(u64::MAX, |deadline| u64::try_from(deadline.since(Tick::default()).as_micros()).unwrap_or(u64::MAX))
}

/// All routes at one moment.
#[derive(Debug, Default)]
pub(crate) struct Table {
    names: HashMap<String, Arc<Route>>,
    /// By host; the longest prefix first.
    binds: HashMap<String, Vec<(Bind, Arc<Route>)>>,
}

impl Table {
    pub(crate) fn new(routes: impl IntoIterator<Item = (Arc<Route>, Vec<Bind>)>) -> Self {
        let mut table = Self::default();
        for (route, binds) in routes {
            for bind in binds {
                table.binds.entry(bind.host.clone()).or_default().push((bind, Arc::clone(&route)));
            }
            table.names.insert(route.name.as_str().to_owned(), route);
        }
        for binds in table.binds.values_mut() {
            binds.sort_by_key(|(bind, _)| std::cmp::Reverse(bind.prefix.len()));
        }
        table
    }

    pub(crate) fn by_name(&self, name: &str, now: Tick) -> Option<&Arc<Route>> {
        self.names.get(name).filter(|route| route.lives(now))
    }

    /// Whether some waifu that lives has this host.
    pub(crate) fn is_bound(&self, host: &str, port: Option<u16>, now: Tick) -> bool {
        self.binds.get(host).is_some_and(|binds| binds.iter().any(|(bind, route)| fits(bind, port) && route.lives(now)))
    }

    pub(crate) fn by_host(&self, host: &str, port: Option<u16>, path: &str, now: Tick) -> Option<&(Bind, Arc<Route>)> {
        let binds = self.binds.get(host)?;
        binds.iter().find(|(bind, route)| fits(bind, port) && bind.rest(path).is_some() && route.lives(now))
    }

    pub(crate) fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.names.values()
    }

    pub(crate) fn binds(&self) -> impl Iterator<Item = &(Bind, Arc<Route>)> {
        self.binds.values().flatten()
    }
}

/// An origin without a port stands for any: who terminates TLS before us has another one.
fn fits(bind: &Bind, port: Option<u16>) -> bool {
    bind.port.is_none() || bind.port == port || port.is_none()
}
