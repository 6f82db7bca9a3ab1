//! `POST /__internal/hello`: a waifu says who and where it is, and gets its route.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use manman_common::lease::{By, Claim, Outcome};
use manman_common::{Kind, Problem};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bind::{Bind, Reason, Rejected};
use super::name::WaifuName;
use super::route::{Health, Route};
use super::secret::{self, Secret};
use super::target::Target;
use super::{Known, Orchestrator, Waifu};
use crate::path::normalise;

/// Longest lease: a day.
const EXPIRE_MAX: u32 = 86_400;
const BINDS_MAX: usize = 32;
/// To find out whether its host leads back to us; a name that nobody knows yet may come later.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(1);

/// The body of a hello.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
pub struct HelloRequest {
    pub name: String,
    pub host: String,
    /// Public origin, with or without a path, to a path of the waifu.
    #[serde(default, rename = "additionalBinds", alias = "additional_binds")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub additional_binds: BTreeMap<String, Value>,
    /// Seconds for which this holds unless it is said again; 0 or none: for good, and health is checked.
    #[serde(default, alias = "expiry")]
    pub expire: u32,
    #[serde(default)]
    pub secret: Option<String>,
    /// Where its health is asked, instead of `/__internal/health`.
    #[serde(default, rename = "healthPath", alias = "health_path")]
    pub health_path: Option<String>,
    /// SHA-256 of its certificate in hex, where no authority vouches for it.
    #[serde(default, rename = "certSha256", alias = "cert_sha256")]
    pub cert_sha256: Option<String>,
}

/// The answer to a hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HelloReply {
    pub name: WaifuName,
    pub url: String,
    /// 0 where it holds for good.
    pub lease_seconds: u32,
    pub binds: Binds,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Binds {
    pub accepted: Vec<String>,
    pub rejected: Vec<Rejected>,
}

/// A hello as it is understood.
struct Said {
    name: WaifuName,
    target: Target,
    term: Option<Duration>,
    secret: Option<Secret>,
    health_path: Option<String>,
    pin: Option<[u8; 32]>,
    binds: BTreeMap<String, Value>,
}

impl Orchestrator {
    /// Takes a hello; also tells whether the name is new.
    pub async fn hello(&self, peer: IpAddr, request: HelloRequest) -> Result<(HelloReply, bool), Problem> {
        let said = self.understand(request)?;
        self.refuse_loop(&said.target).await?;
        let (by, mut hash) = self.right(peer, &said).await?;
        // Whoever is known to be there keeps the name; who does not answer may be replaced.
        let protect = match self.known(&said.name).await {
            Some(known) if known.target != said.target && by == By::Anyone && known.secret_hash.is_none() => self.answers(&known).await,
            _ => true,
        };
        if hash.is_none()
            && let Some(secret) = &said.secret
        {
            hash = Some(secret::hash(secret).await.map_err(|error| internal(&said.name, &error))?);
        }
        self.settle(said, by, protect, hash).await
    }

    fn understand(&self, request: HelloRequest) -> Result<Said, Problem> {
        let HelloRequest { name, host, additional_binds, expire, secret, health_path, cert_sha256 } = request;
        let name: WaifuName = name.parse().map_err(|error: super::name::NameError| Problem::invalid("name", error.to_string()))?;
        if self.config.reserved.contains(name.as_str()) {
            return Err(Problem::invalid("name", format!("`{name}` is the front door's own")));
        }
        let target = Target::parse(&host).map_err(|error| Problem::invalid("host", error.to_string()))?;
        if expire > EXPIRE_MAX {
            return Err(Problem::invalid("expire", format!("a lease lasts {EXPIRE_MAX} s at most")));
        }
        if additional_binds.len() > BINDS_MAX {
            return Err(Problem::invalid("additionalBinds", format!("a waifu has {BINDS_MAX} binds at most")));
        }
        let secret = secret.map(Secret::try_from).transpose().map_err(|error| Problem::invalid("secret", error.to_string()))?;
        if let Some(path) = &health_path
            && !normalise(path).is_ok_and(|normal| normal.path == *path)
        {
            return Err(Problem::invalid("healthPath", "it is not a plain path"));
        }
        let pin =
            cert_sha256.as_deref().map(fingerprint).map(|pin| pin.ok_or_else(|| Problem::invalid("certSha256", "it is not 64 hex digits")));
        let term = (expire > 0).then(|| Duration::from_secs(expire.into()));
        Ok(Said { name, target, term, secret, health_path, pin: pin.transpose()?, binds: additional_binds })
    }

    async fn refuse_loop(&self, target: &Target) -> Result<(), Problem> {
        use crate::proxy::ConnectError;
        match tokio::time::timeout(LOOK_UP_WITHIN, self.connector.resolve(&target.host, target.port)).await {
            Ok(Err(error @ (ConnectError::Loop(_) | ConnectError::Forbidden(..)))) => Err(Problem::invalid("host", error.to_string())),
            // A name may come to be known later; each connect looks again.
            Ok(Ok(_) | Err(_)) | Err(_) => Ok(()),
        }
    }

    /// With what right the hello is made, and the hash of the name's secret where it is known.
    async fn right(&self, peer: IpAddr, said: &Said) -> Result<(By, Option<String>), Problem> {
        let Some(known) = self.known(&said.name).await else { return Ok((By::Anyone, None)) };
        let hash = match (&known.secret_hash, self.databases.get()) {
            (Some(hash), _) => Some(hash.clone()),
            (None, Some(databases)) => databases.secret_hash(&said.name).await.map_err(|error| internal(&said.name, &error))?,
            (None, None) => None,
        };
        match (&hash, &said.secret) {
            (Some(hash), Some(secret)) => {
                self.check_secret(peer, &said.name, secret, hash, "hello with a wrong secret").await?;
                Ok((By::Owner, Some(hash.clone())))
            }
            (Some(_), None) if known.target != said.target => {
                self.incident(peer, &said.name, "hello from another host without the secret").await;
                Err(Problem::new(Kind::Forbidden, format!("`{}` is elsewhere, and whoever moves it shows its secret", said.name)))
            }
            _ => Ok((By::Anyone, hash)),
        }
    }

    /// Whether the waifu that has the name is there at this moment.
    async fn answers(&self, known: &Known) -> bool {
        if known.leased {
            return true;
        }
        self.check(&known.target, known.health_path.as_deref()).await.is_ok()
    }

    async fn settle(&self, said: Said, by: By, protect: bool, hash: Option<String>) -> Result<(HelloReply, bool), Problem> {
        let Said { name, target, term, secret: _, health_path, pin, binds: wished } = said;
        let mut state = self.state.lock().await;
        let now = self.tick();
        let mut binds = Binds::default();
        let mut made: Vec<Bind> = Vec::new();
        for (origin, path) in wished {
            let bind = match path.as_str() {
                Some(path) => Bind::parse(&origin, path, &self.config.main_domain),
                None => Err(Reason::Invalid),
            };
            let taken = |bind: &Bind| {
                let others = state.waifus.iter(now).filter(|(other, _)| **other != name);
                others.flat_map(|(_, lease)| &lease.value.binds).chain(&made).any(|other| other.collides(bind))
            };
            match bind.and_then(|bind| if taken(&bind) { Err(Reason::Taken) } else { Ok(bind) }) {
                Ok(bind) => made.push(bind),
                Err(reason) => binds.rejected.push(Rejected { bind: origin, reason }),
            }
        }
        binds.accepted = made.iter().map(|bind| bind.origin.clone()).collect();
        let route = Route::new(name.clone(), target.clone(), Health::Up, None);
        let route = Arc::new(route.ok_or_else(|| Problem::invalid("host", "it is no host that can be forwarded to"))?);
        let before = state.waifus.get(now, &name).map(|lease| (lease.holder.clone(), Arc::clone(&lease.value.route)));
        let value =
            Waifu { route: Arc::clone(&route), binds: made.clone(), secret_hash: hash.clone(), health_path: health_path.clone(), pin };
        let claim = Claim { holder: target.clone(), term, value, by, protect };
        let new = match state.waifus.claim(now, name.clone(), claim) {
            Outcome::Added => true,
            Outcome::Refreshed | Outcome::Moved | Outcome::Replaced => false,
            Outcome::Ignored { retry_after } => {
                let problem = Problem::new(Kind::Conflict, format!("`{name}` is somebody else's, who is alive"));
                return Err(match retry_after {
                    Some(left) => problem.retry_after(u32::try_from(left.as_secs() + 1).unwrap_or(u32::MAX)),
                    None => problem.hint("it may be taken over with its secret, or when it no longer answers"),
                });
            }
            Outcome::Full => return Err(Problem::new(Kind::Unavailable, "there is no room for another waifu").retry_after(60)),
        };
        // Who is where it was keeps its route, and so what is counted of it.
        let kept = before.filter(|(holder, _)| *holder == target).map(|(_, route)| route);
        let lease = state.waifus.get(now, &name).map(|lease| (lease.deadline(), lease.term));
        let (deadline, term) = lease.unwrap_or_default();
        let route = kept.unwrap_or(route);
        if let Some(waifu) = state.waifus.value_mut(now, &name) {
            *waifu = Waifu { route: Arc::clone(&route), binds: made, secret_hash: hash, health_path, pin };
        }
        route.set_deadline(deadline);
        route.set_health(Health::Up);
        route.failed_checks.store(0, Ordering::Relaxed);
        self.connector.pin(&target.authority(), pin);
        self.publish(&state);
        // A renewal changes nothing that a restart would miss.
        if new || term.is_none() || by == By::Owner || !binds.rejected.is_empty() || self.dirty(&state) {
            self.save(&mut state).await;
        }
        if new {
            tracing::info!(waifu.name = %name, target = %target, binds = binds.accepted.len(), "a waifu has said hello");
        }
        let lease_seconds = term.map_or(0, |term| u32::try_from(term.as_secs()).unwrap_or(u32::MAX));
        let url = format!("{}/{name}/", self.public_url());
        Ok((HelloReply { name, url, lease_seconds, binds }, new))
    }
}

fn fingerprint(hex: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = hex
        .bytes()
        .filter(|byte| *byte != b':')
        .map(|byte| char::from(byte).to_digit(16))
        .map(|digit| digit.and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    (digits.len() == 64).then(|| bytes.try_into().ok())?
}

pub(super) fn internal(name: &WaifuName, error: &dyn std::error::Error) -> Problem {
    let reason = crate::orchestrator::chain(error);
    tracing::error!(waifu.name = %name, error = reason, "a waifu could not be served");
    Problem::new(Kind::Internal, "the orchestrator could not do this").hint("its log has the reason")
}
