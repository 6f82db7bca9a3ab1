//! Leases what the host knows to be alive into the registry: itself, its workers, running games.
//! A lease lives on beats: it is renewed only when its worker has been heard of since.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use manman_common::WorkerStatus;
use manman_common::wire::registry::ServiceName;
use manman_front_door::registry::{HostLease, Registry};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::app::AppRef;
use crate::clock;
use crate::config::HEARTBEAT_SECONDS;
use crate::db::registry::{registry_servers, registry_workers};
use crate::fleet::machine::Machine;
use crate::registry::OWN_NAME;

/// A game whose machine is gone has vanished well within half a minute; three beats may be lost.
const EXPIRE: u32 = 4 * HEARTBEAT_SECONDS;
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What changes together is looked at together.
const GATHER: Duration = Duration::from_millis(50);
/// Addresses and names are asked for again after this time, even if nobody says that they changed.
const REMEMBER: Duration = Duration::from_secs(60);
/// For the name of a machine.
const RESOLVE_WITHIN: Duration = Duration::from_secs(2);

pub(super) async fn run(app: AppRef) {
    let mut changes = app.fleet.server_changes();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut desk = Desk { registry: app.registry.clone(), app, held: HashMap::new(), places: HashMap::new(), told: false };
    loop {
        // Cancel-safe: a change that is lost to the tick is seen by the tick.
        tokio::select! {
            _ = ticks.tick() => {}
            change = changes.recv() => match change {
                Ok(id) => {
                    desk.forget(id.as_uuid());
                    tokio::time::sleep(GATHER).await;
                    while let Ok(id) = changes.try_recv() {
                        desk.forget(id.as_uuid());
                    }
                }
                Err(RecvError::Lagged(_)) => desk.places.clear(),
                Err(RecvError::Closed) => return,
            }
        }
        desk.look().await;
    }
}

struct Desk {
    app: AppRef,
    registry: Registry,
    /// What is leased: under which name, and as of which beat.
    held: HashMap<Uuid, (ServiceName, Instant)>,
    places: HashMap<Uuid, Place>,
    /// That the tables do not answer has been told.
    told: bool,
}

#[derive(Clone, Debug)]
struct Place {
    name: ServiceName,
    /// None, where it can not be found by an address and a port.
    address: Option<SocketAddr>,
    asked: Instant,
}

/// Something that is alive, as of a beat.
struct Alive {
    id: Uuid,
    beat: Instant,
    what: What,
}

enum What {
    Game,
    Worker { name: ServiceName, port: u16 },
}

impl Desk {
    fn forget(&mut self, id: Uuid) {
        self.places.remove(&id);
    }

    async fn look(&mut self) {
        self.lease_host();
        let alive = self.alive();
        if let Err(error) = self.find(&alive).await {
            if !std::mem::replace(&mut self.told, true) {
                tracing::warn!(%error, "where games run could not be read; what is leased lives on as it is");
            }
        } else {
            self.told = false;
        }
        let mut seen = HashSet::with_capacity(alive.len());
        for Alive { id, beat, .. } in alive {
            seen.insert(id);
            let Some(Place { name, address: Some(address), .. }) = self.places.get(&id).cloned() else { continue };
            if let Some((old, _)) = self.held.get(&id).filter(|(old, _)| *old != name) {
                self.registry.release(old.as_str(), id);
            }
            // Known under this name and since this beat: there is nothing new to tell.
            let current =
                self.registry.locate(name.as_str()).is_some_and(|at| at.port == address.port() && at.ip == address.ip().to_string());
            if current && self.held.get(&id).is_some_and(|(_, as_of)| *as_of == beat) {
                continue;
            }
            let lease = HostLease { name: name.clone(), address, id, expire: EXPIRE, tags: Vec::new() };
            if self.registry.lease(lease) {
                self.held.insert(id, (name, beat));
            }
        }
        let registry = &self.registry;
        self.held.retain(|id, (name, _)| {
            let stays = seen.contains(id);
            if !stays {
                registry.release(name.as_str(), *id);
            }
            stays
        });
        self.places.retain(|id, _| seen.contains(id));
    }

    fn lease_host(&self) {
        let (Some(bound), Ok(name)) = (self.app.bound.get(), OWN_NAME.parse()) else { return };
        let Some(address) = reqwest::Url::parse(&bound.public_url).ok().and_then(|url| url.socket_addrs(|| None).ok()?.pop()) else {
            return;
        };
        self.registry.lease(HostLease { name, address, id: self.app.host_id, expire: EXPIRE, tags: vec!["manman".to_owned()] });
    }

    /// Games that are Ready and workers that live, each with its last beat; one whose beat is
    /// older than a lease is left to lapse by itself.
    fn alive(&self) -> Vec<Alive> {
        let now = clock::instant();
        let fresh = |beat: Instant| now.saturating_duration_since(beat) < Duration::from_secs(EXPIRE.into());
        let mut alive = Vec::new();
        let mut heard = HashSet::new();
        for machine in self.app.fleet.machines() {
            let Some((beat, what)) = worker(&machine) else { continue };
            heard.insert(machine.id);
            if let Some(what) = what
                && fresh(beat)
            {
                alive.push(Alive { id: machine.id.as_uuid(), beat, what });
            }
        }
        let games = self.app.fleet.ready_servers().into_iter().filter(|(_, worker, beat)| heard.contains(worker) && fresh(*beat));
        alive.extend(games.map(|(id, _, beat)| Alive { id: id.as_uuid(), beat, what: What::Game }));
        alive
    }

    /// Looks up those whose place is not known.
    async fn find(&mut self, alive: &[Alive]) -> sqlx::Result<()> {
        let now = clock::instant();
        self.places.retain(|_, place| now.saturating_duration_since(place.asked) < REMEMBER);
        let unknown: Vec<&Alive> = alive.iter().filter(|alive| !self.places.contains_key(&alive.id)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let games: Vec<Uuid> = unknown.iter().filter(|alive| matches!(alive.what, What::Game)).map(|alive| alive.id).collect();
        let workers: Vec<Uuid> = unknown.iter().filter(|alive| matches!(alive.what, What::Worker { .. })).map(|alive| alive.id).collect();
        let mut conn = self.app.db.acquire().await?;
        let games = registry_servers(&mut conn, &games).await?;
        let workers: HashMap<Uuid, String> =
            registry_workers(&mut conn, &workers).await?.into_iter().map(|(id, address)| (id.as_uuid(), address)).collect();
        drop(conn);
        let mut resolved = HashMap::new();
        for game in games {
            let port = game.ports.iter().find(|port| port.name == "game").or(game.ports.first()).map(|port| port.port);
            let ip = resolve(&mut resolved, &game.address).await;
            let address = ip.zip(port).map(|(ip, port)| SocketAddr::new(ip, port));
            self.places.insert(game.id.as_uuid(), Place { name: game.name.into(), address, asked: now });
        }
        for alive in unknown {
            let What::Worker { name, port } = &alive.what else { continue };
            let Some(address) = workers.get(&alive.id) else { continue };
            let address = resolve(&mut resolved, address).await.map(|ip| SocketAddr::new(ip, *port));
            self.places.insert(alive.id, Place { name: name.clone(), address, asked: now });
        }
        Ok(())
    }
}

/// A worker that was heard of in this life of the host: its last beat, and what it is found by.
fn worker(machine: &Machine) -> Option<(Instant, Option<What>)> {
    let state = machine.lock();
    state.heard_at?;
    match state.status {
        WorkerStatus::Alive | WorkerStatus::Frozen => {}
        WorkerStatus::Pending | WorkerStatus::Shutdown | WorkerStatus::Unknown => return None,
    }
    let port = state.api_url.as_deref().and_then(|url| reqwest::Url::parse(url).ok()?.port_or_known_default());
    let what = port.map(|port| What::Worker { name: state.name.clone().into(), port });
    Some((state.last_seen, what))
}

/// An address as it is, or the first that a machine's name leads to.
async fn resolve(known: &mut HashMap<String, Option<IpAddr>>, address: &str) -> Option<IpAddr> {
    if let Ok(ip) = address.parse() {
        return Some(ip);
    }
    if let Some(ip) = known.get(address) {
        return *ip;
    }
    let looked_up = tokio::time::timeout(RESOLVE_WITHIN, tokio::net::lookup_host((address, 0))).await;
    let ip = looked_up.ok().and_then(Result::ok).and_then(|mut found| found.next()).map(|found| found.ip());
    known.insert(address.to_owned(), ip);
    ip
}
