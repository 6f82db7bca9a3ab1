//! Who calls, and what they may do: decided here and nowhere else.
//!
//! Every route wants a token unless it is in [`OPEN`]. What the holder of a token may do is one
//! match, [`Caller::allows`]; that is also where a worker is confined to itself and its servers.

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use manman_common::wire::Scope;
use manman_common::{Kind, Problem, ServerId, Timestamp, TokenId, WorkerId};
use sha2::{Digest as _, Sha256};

use super::error::ApiError;
use crate::app::{App, AppRef};
use crate::{clock, db};

/// The routes that answer without a token.
const OPEN: &[(Method, &str)] = &[
    (Method::GET, "/"),
    (Method::GET, "/assets/{*path}"),
    (Method::GET, "/login"),
    (Method::GET, "/openapi.json"),
    (Method::GET, "/docs"),
    (Method::GET, "/docs/"),
    (Method::GET, "/docs/{*rest}"),
    (Method::POST, "/worker"),
    (Method::POST, "/worker/{id}"),
    // On the internal listener alone.
    (Method::GET, "/__internal/health"),
    (Method::POST, "/__internal/hello"),
    (Method::POST, "/__internal/database"),
    (Method::PUT, "/self-register"),
    (Method::POST, "/self-register"),
    (Method::DELETE, "/self-register/{name}"),
    (Method::PUT, "/register"),
    (Method::POST, "/register"),
    (Method::DELETE, "/register/{name}"),
    (Method::GET, "/discover"),
    (Method::GET, "/discover/"),
    (Method::GET, "/discover/{name}"),
    (Method::GET, "/health"),
];

pub const COOKIE: &str = "manman_session";

/// Whose request it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub token_id: TokenId,
    pub scope: Scope,
    pub label: String,
    /// With the scope `worker`: whose token it is.
    pub worker_id: Option<WorkerId>,
    /// An operator or viewer of this one server alone.
    pub server_id: Option<ServerId>,
    pub expires_at: Option<Timestamp>,
}

/// Something that one may or may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// See what concerns no one server: workers, games, the host.
    SeeFleet,
    SeeServer {
        server: ServerId,
        worker: WorkerId,
    },
    CreateServer,
    /// Start, stop, change, delete, type into.
    RunServer {
        server: ServerId,
    },
    /// Workers: accept, freeze, remove.
    ManageWorkers,
    ManageTokens,
    /// Be this worker: beat, link, register again.
    BeWorker(WorkerId),
    /// Report on a server of this worker.
    ReportServer {
        worker: WorkerId,
    },
}

impl Caller {
    #[must_use]
    pub fn allows(&self, permission: Permission) -> bool {
        let in_sight = |server| self.server_id.is_none_or(|only| only == server);
        let own = |worker| self.worker_id == Some(worker);
        match (self.scope, permission) {
            (Scope::Admin, _) => true,
            (Scope::Operator, Permission::RunServer { server }) => in_sight(server),
            (Scope::Operator | Scope::Viewer, Permission::SeeServer { server, .. }) => in_sight(server),
            (Scope::Operator | Scope::Viewer, Permission::SeeFleet) => self.server_id.is_none(),
            (Scope::Operator, Permission::CreateServer) => self.server_id.is_none(),
            (Scope::Worker, Permission::BeWorker(worker) | Permission::ReportServer { worker } | Permission::SeeServer { worker, .. }) => {
                own(worker)
            }
            (
                Scope::Operator,
                Permission::ManageWorkers | Permission::ManageTokens | Permission::BeWorker(_) | Permission::ReportServer { .. },
            )
            | (
                Scope::Viewer,
                Permission::CreateServer
                | Permission::RunServer { .. }
                | Permission::ManageWorkers
                | Permission::ManageTokens
                | Permission::BeWorker(_)
                | Permission::ReportServer { .. },
            )
            | (
                Scope::Worker,
                Permission::SeeFleet
                | Permission::CreateServer
                | Permission::RunServer { .. }
                | Permission::ManageWorkers
                | Permission::ManageTokens,
            )
            | (Scope::Join, _) => false,
        }
    }

    pub fn require(&self, permission: Permission) -> Result<(), ApiError> {
        if self.allows(permission) {
            return Ok(());
        }
        let what = match permission {
            Permission::SeeFleet => "look at the fleet",
            Permission::SeeServer { .. } => "look at this server",
            Permission::CreateServer => "create servers",
            Permission::RunServer { .. } => "run this server",
            Permission::ManageWorkers => "manage workers",
            Permission::ManageTokens => "manage tokens",
            Permission::BeWorker(_) => "speak for this worker",
            Permission::ReportServer { .. } => "speak for this server",
        };
        Err(Problem::new(Kind::Forbidden, format!("this token may not {what}")).into())
    }

    /// How the caller is named in events.
    #[must_use]
    pub fn actor(&self) -> String {
        if self.label.is_empty() { db::token::scope_text(self.scope).to_owned() } else { self.label.clone() }
    }
}

/// On an open route: whether a token came along, and whether it is known.
#[derive(Clone, Debug)]
pub enum Presented {
    Nothing,
    Unknown,
    Known(Caller),
}

impl Presented {
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        match self {
            Self::Known(caller) => Some(caller),
            Self::Nothing | Self::Unknown => None,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Presented {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or(Self::Nothing))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        match parts.extensions.get::<Presented>() {
            Some(Presented::Known(caller)) => Ok(caller.clone()),
            _ => Err(unauthenticated("this wants a token")),
        }
    }
}

fn unauthenticated(detail: &str) -> ApiError {
    Problem::new(Kind::Unauthenticated, detail).hint("send the header `Authorization: Bearer TOKEN`").into()
}

/// The layer before all routes.
pub(crate) async fn authenticate(State(app): State<AppRef>, mut request: Request, next: Next) -> Response {
    // Without a matched path the answer is 404, which tells nobody anything.
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else { return next.run(request).await };
    // A page of another port of this machine counts as the same site, so its browser sends our
    // cookie along; and any page may post to what is open. Programs send no origin.
    if !request.method().is_safe()
        && let Err(error) = check_origin(request.headers())
    {
        return error.into_response();
    }
    let open = OPEN.iter().any(|(method, open)| (method == request.method() || request.method() == Method::HEAD) && *open == path.as_str());
    let presented = match present(&app, request.headers()).await {
        Ok(presented) => presented,
        Err(error) => return error.into_response(),
    };
    if !open {
        match &presented {
            Presented::Nothing => return unauthenticated("this wants a token").into_response(),
            Presented::Unknown => {
                return unauthenticated("this token is not known here, or no longer valid").into_response();
            }
            Presented::Known(_) => {}
        }
    }
    request.extensions_mut().insert(presented);
    next.run(request).await
}

pub(crate) async fn present(app: &App, headers: &HeaderMap) -> Result<Presented, ApiError> {
    match secret_of(headers) {
        None => Ok(Presented::Nothing),
        Some(secret) => Ok(identify(app, secret).await?.map_or(Presented::Unknown, Presented::Known)),
    }
}

fn secret_of(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let value = value.to_str().ok()?;
        let (scheme, secret) = value.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim());
    }
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|line| line.split(';')).find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// How many callers are remembered; beyond it all are forgotten, and asked for again.
const CALLERS_MAX: usize = 20_000;

/// The holder of a secret, unless it is unknown, revoked or expired.
pub async fn identify(app: &App, secret: &str) -> Result<Option<Caller>, ApiError> {
    let hash = secret_hash(secret);
    let now = clock::now();
    let remembered = app.callers.lock().ok().and_then(|callers| callers.get(&hash).cloned());
    if let Some(caller) = remembered.filter(|caller| caller.expires_at.is_none_or(|at| at > now)) {
        return Ok(Some(caller));
    }
    let mut conn = app.db.acquire().await?;
    let Some(token) = db::token::token_find(&mut conn, &hash, now).await? else { return Ok(None) };
    let caller = Caller {
        token_id: token.id,
        scope: token.scope,
        label: token.label,
        worker_id: token.worker_id,
        server_id: token.server_id,
        expires_at: token.expires_at,
    };
    if let Ok(mut callers) = app.callers.lock() {
        if callers.len() >= CALLERS_MAX {
            callers.clear();
        }
        callers.insert(hash, caller.clone());
    }
    Ok(Some(caller))
}

/// To be called after the commit that revoked these tokens: they are forgotten, and whoever holds
/// a socket open for one hears of it.
pub fn tokens_revoked(app: &App, tokens: &[TokenId]) {
    if let Ok(mut callers) = app.callers.lock() {
        callers.retain(|_, caller| !tokens.contains(&caller.token_id));
    }
    for token in tokens {
        let _ = app.revoked.send(*token);
    }
}

#[must_use]
pub fn secret_hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// A fresh secret in its text form, `mm_<scope>_<43 characters>`.
#[must_use]
pub fn new_secret(scope: &str) -> String {
    format!("mm_{scope}_{}", base64url(&clock::random_secret()))
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..=group.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}

/// Whether the request comes from a page of this host itself, or from no page at all: a browser
/// opens WebSockets from any page, and sends its cookie along.
pub fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().unwrap_or_default();
    let same = origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host);
    if same { Ok(()) } else { Err(Problem::new(Kind::Forbidden, "a page of another origin may not open this").into()) }
}
