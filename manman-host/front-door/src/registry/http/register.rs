//! `/self-register` and `/register`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use manman_common::wire::registry::{EXPIRE_MAX, LeaveRegistry, RegisterService, Registration, SelfRegister, ServiceName, ServiceRecord};
use manman_common::{Kind, Problem};

use super::super::Registry;
use super::super::address::{canonical, ip_text};
use super::super::entry::{Notes, Owner, token_hash};
use super::super::state::{Ask, Told};
use super::Refusal;
use super::extract::{Json, Peer};

/// Registers the caller under a name, or renews its time.
///
/// The address is the socket's own. A name whose time runs is its holder's: another address is
/// ignored (409) until that time is over; one without expiry is replaced.
#[utoipa::path(
    method(put, post),
    path = "/self-register",
    tag = "registry",
    security(()),
    request_body = SelfRegister,
    responses(
        (status = 201, body = ServiceRecord, description = "the name is the caller's now"),
        (status = 200, body = ServiceRecord, description = "refreshed, moved or replaced"),
        (status = 400, body = Problem),
        (status = 409, body = Problem, description = "ignored: another one holds it"),
        (status = 429, body = Problem),
        (status = 503, body = Problem)
    )
)]
pub(super) async fn self_register(
    State(registry): State<Registry>,
    peer: Peer,
    body: Json<SelfRegister>,
) -> Result<(StatusCode, axum::Json<ServiceRecord>), Refusal> {
    let SelfRegister { name, expire, port, token, tags, meta } = body.read()?;
    if port.is_none() && peer.proxied {
        return Err(Problem::invalid("port", "behind a proxy the service's port is not to be seen").hint("add `\"port\": N`").into());
    }
    let port = checked_port(port.unwrap_or(peer.address.port()))?;
    let mut address = peer.address;
    address.set_port(port);
    hold(&registry, Wish { name, address, expire, field: "expire", token, force: false, tags, meta })
}

/// Registers any address; asked from this machine alone.
#[utoipa::path(
    method(put, post),
    path = "/register",
    tag = "registry",
    security(()),
    request_body = RegisterService,
    responses(
        (status = 201, body = ServiceRecord),
        (status = 200, body = ServiceRecord),
        (status = 400, body = Problem),
        (status = 403, body = Problem, description = "ignored: not from this machine itself"),
        (status = 409, body = Problem)
    )
)]
pub(super) async fn register(
    State(registry): State<Registry>,
    peer: Peer,
    body: Json<RegisterService>,
) -> Result<(StatusCode, axum::Json<ServiceRecord>), Refusal> {
    local(peer)?;
    let RegisterService { name, expiry, ip, port, force, token, tags, meta } = body.read()?;
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(Problem::invalid("ip", format!("`{ip}` is not the address of a machine")).into());
    }
    let address = canonical(SocketAddr::new(ip, checked_port(port)?));
    hold(&registry, Wish { name, address, expire: expiry, field: "expiry", token, force, tags, meta })
}

/// Ends a registration before its time; only who has its token may.
#[utoipa::path(
    delete,
    path = "/self-register/{name}",
    tag = "registry",
    security(()),
    params(("name" = String, Path)),
    request_body = LeaveRegistry,
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem))
)]
pub(super) async fn leave(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    body: Json<LeaveRegistry>,
) -> Result<StatusCode, Refusal> {
    let hash = token_hash(&body.read()?.token);
    match registry.with(|state, now| state.remove(now, &name, |owner| *owner == Owner::Token(hash))) {
        Some(true) => Ok(StatusCode::NO_CONTENT),
        Some(false) => Err(Problem::new(Kind::Forbidden, "this is not the token of that registration").into()),
        None => Err(no_service(&name)),
    }
}

/// Ends any registration; asked from this machine alone.
#[utoipa::path(
    delete,
    path = "/register/{name}",
    tag = "registry",
    security(()),
    params(("name" = String, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem))
)]
pub(super) async fn unregister(State(registry): State<Registry>, peer: Peer, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    local(peer)?;
    match registry.with(|state, now| state.remove(now, &name, |_| true)) {
        Some(_) => Ok(StatusCode::NO_CONTENT),
        None => Err(no_service(&name)),
    }
}

pub(super) fn no_service(name: &str) -> Refusal {
    // Whatever was asked for is said back bounded and in plain letters.
    let name: String = name.chars().take(ServiceName::MAX).flat_map(char::escape_default).collect();
    Problem::not_found("service", name).into()
}

fn local(peer: Peer) -> Result<(), Refusal> {
    if peer.is_local {
        return Ok(());
    }
    Err(Refusal::ignored(
        Problem::new(Kind::Forbidden, "only programs on the registry's own machine may speak for others")
            .hint("a service registers itself with PUT /self-register"),
    ))
}

fn checked_port(port: u16) -> Result<u16, Refusal> {
    if port == 0 { Err(Problem::invalid("port", "a port is 1 to 65535").into()) } else { Ok(port) }
}

struct Wish {
    name: ServiceName,
    address: SocketAddr,
    expire: u32,
    /// How the caller has called it.
    field: &'static str,
    token: Option<String>,
    force: bool,
    tags: Vec<String>,
    meta: BTreeMap<String, String>,
}

fn hold(registry: &Registry, wish: Wish) -> Result<(StatusCode, axum::Json<ServiceRecord>), Refusal> {
    let Wish { name, address, expire, field, token, force, tags, meta } = wish;
    if expire > EXPIRE_MAX {
        return Err(Problem::invalid(field, format!("{expire} s are longer than a day ({EXPIRE_MAX}); 0 never lapses")).into());
    }
    check_notes(&tags, &meta)?;
    let fresh = new_token();
    let told = registry.claim(Ask {
        name: name.clone(),
        address,
        expire,
        owner: Owner::Token(token_hash(&fresh)),
        shown: token.as_deref().map(token_hash),
        force,
        notes: Notes::boxed(tags, meta),
    });
    match told {
        Told::Held { result, address, expire, expires_in, owner_is_new } => {
            let status = if result == Registration::Added { StatusCode::CREATED } else { StatusCode::OK };
            let record = ServiceRecord {
                result,
                ip: ip_text(address),
                port: address.port(),
                expire,
                expires_in,
                token: owner_is_new.then_some(fresh),
            };
            Ok((status, axum::Json(record)))
        }
        Told::Ignored { retry_after: Some(seconds), .. } => {
            let problem = Problem::new(Kind::Conflict, format!("`{name}` is held by another service")).retry_after(seconds);
            Err(Refusal::ignored(problem))
        }
        Told::Ignored { retry_after: None, .. } => {
            let problem =
                Problem::new(Kind::Conflict, format!("`{name}` is held by another service, and protected while that one answers"));
            Err(Refusal::ignored(problem.hint("its owner may move it by `token`")))
        }
        Told::Full { .. } => {
            let most = registry.0.config.names_max;
            Err(Refusal::ignored(Problem::new(Kind::Unavailable, format!("the registry is full: it keeps {most} names")).retry_after(60)))
        }
        Told::TooManyOfOne => {
            let most = registry.0.config.names_per_ip;
            Err(Refusal::ignored(Problem::new(Kind::TooManyRequests, format!("one address may hold {most} names")).retry_after(60)))
        }
    }
}

/// Bytes of tags and meta together: 10,000 records are to stay small.
const NOTES_MAX: usize = 1024;

fn check_notes(tags: &[String], meta: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let bytes: usize = tags.iter().map(String::len).sum::<usize>() + meta.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
    if bytes > NOTES_MAX || tags.len() > 32 || meta.len() > 32 {
        return Err(Problem::invalid("meta", format!("tags and meta are 32 each at most, and {NOTES_MAX} bytes together")).into());
    }
    Ok(())
}

/// `mm_service_<43 characters>`.
fn new_token() -> String {
    use base64::Engine as _;
    format!("mm_service_{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(crate::clock::random_secret()))
}
