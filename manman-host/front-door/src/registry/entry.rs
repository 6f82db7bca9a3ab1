//! One record, in memory and as it is kept.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use manman_common::Timestamp;
use manman_common::lease::{Lease, Tick};
use manman_common::wire::registry::{Located, Service, ServiceHealth, ServiceName};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::address::{self, ip_text};

pub(crate) type Held = Lease<SocketAddr, Entry>;

/// Who may move or end a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Whoever has the token of this hash.
    Token([u8; 32]),
    /// The host itself, for what has this id.
    Host(Uuid),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    pub(crate) tags: Vec<String>,
    pub(crate) meta: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) owner: Owner,
    pub(crate) notes: Option<Box<Notes>>,
    /// The registry's index when it was last changed in a way that others see.
    pub(crate) modified: u64,
    pub(crate) health: Health,
    /// That others want its name has been told.
    pub(crate) disputed: bool,
}

/// What the probes of a record without expiry have found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) status: ServiceHealth,
    pub(crate) fails: u8,
    pub(crate) critical_since: Tick,
    pub(crate) next_probe: Option<Tick>,
    pub(crate) under_way: bool,
}

impl Notes {
    pub(crate) fn boxed(tags: Vec<String>, meta: BTreeMap<String, String>) -> Option<Box<Self>> {
        (!tags.is_empty() || !meta.is_empty()).then(|| Box::new(Self { tags, meta }))
    }
}

pub(crate) fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

pub(crate) fn seconds(term: Option<Duration>) -> u32 {
    term.map_or(0, |term| u32::try_from(term.as_secs()).unwrap_or(u32::MAX))
}

/// Rounded up, so that 0 is never said of what is still there.
pub(crate) fn seconds_left(left: Duration) -> u32 {
    u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

pub(crate) fn located(lease: &Held) -> Located {
    Located { ip: ip_text(lease.holder), port: lease.holder.port() }
}

pub(crate) fn service(now: Tick, lease: &Held) -> Service {
    let notes = lease.value.notes.as_deref().cloned().unwrap_or_default();
    Service {
        ip: ip_text(lease.holder),
        port: lease.holder.port(),
        expire: seconds(lease.term),
        expires_in: lease.remaining(now).map(seconds_left),
        status: lease.value.health.status,
        tags: notes.tags,
        meta: notes.meta,
    }
}

/// A record as it is kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub name: ServiceName,
    pub ip: String,
    pub port: u16,
    /// Seconds; 0 never lapses.
    pub expire: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// SHA-256 of the owner's token, in hex.
    pub token: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
}

impl Record {
    /// `None` for what the host leases for its own: it does so again by itself.
    pub(crate) fn of(now: Tick, wall: Timestamp, name: &ServiceName, lease: &Held) -> Option<Self> {
        let Owner::Token(token) = lease.value.owner else { return None };
        let notes = lease.value.notes.as_deref().cloned().unwrap_or_default();
        Some(Self {
            name: name.clone(),
            ip: ip_text(lease.holder),
            port: lease.holder.port(),
            expire: seconds(lease.term),
            expires_at: lease.remaining(now).map(|left| wall.plus(left)),
            token: token.iter().map(|byte| format!("{byte:02x}")).collect(),
            tags: notes.tags,
            meta: notes.meta,
        })
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        address::parse(&self.ip, self.port)
    }

    /// A hash that can not be read is nobody's token.
    pub(crate) fn owner(&self) -> Owner {
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(self.token.as_bytes().chunks(2)) {
            *byte = std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok()).unwrap_or_default();
        }
        Owner::Token(hash)
    }
}
