//! Who calls, and what they may do: decided here and nowhere else.
//!
//! Every route wants a token unless it is in [`OPEN`]. What the holder of a token may do is one
//! match, [`Caller::allows`]; that is also where a worker is confined to itself and its servers.

mod callers;
mod client;

use std::net::IpAddr;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use manman_common::wire::{Role, Scope};
use manman_common::{AccountId, Kind, Problem, ServerId, Timestamp, TokenId, WorkerId};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub use callers::Callers;
pub use client::Client;
pub(crate) use client::user_agent;

use super::error::ApiError;
use crate::app::{App, AppRef};
use crate::{clock, db};

/// The routes that answer without a token.
const OPEN: &[(Method, &str)] = &[
    (Method::GET, "/"),
    (Method::GET, "/assets/{*path}"),
    (Method::GET, "/login"),
    (Method::POST, "/login"),
    // Says to a stranger that nobody is signed in, and nothing else.
    (Method::GET, "/me"),
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
    /// A browser that is signed in, rather than a token handed to somebody.
    pub session: bool,
    /// Whose session or token it is, where it is an account's.
    pub account_id: Option<AccountId>,
    /// The token that a session was made from.
    pub parent_id: Option<TokenId>,
    /// Where this request came from.
    pub peer: Option<IpAddr>,
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
    /// Accounts, and the sessions of others.
    ManagePeople,
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
                Permission::ManageWorkers
                | Permission::ManageTokens
                | Permission::ManagePeople
                | Permission::BeWorker(_)
                | Permission::ReportServer { .. },
            )
            | (
                Scope::Viewer,
                Permission::CreateServer
                | Permission::RunServer { .. }
                | Permission::ManageWorkers
                | Permission::ManageTokens
                | Permission::ManagePeople
                | Permission::BeWorker(_)
                | Permission::ReportServer { .. },
            )
            | (
                Scope::Worker,
                Permission::SeeFleet
                | Permission::CreateServer
                | Permission::RunServer { .. }
                | Permission::ManageWorkers
                | Permission::ManageTokens
                | Permission::ManagePeople,
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
            Permission::ManagePeople => "manage accounts and sessions of others",
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

    /// The account that is signed in. A token of an account is not: whoever holds it may be
    /// somebody else.
    #[must_use]
    pub fn person(&self) -> Option<AccountId> {
        self.account_id.filter(|_| self.session)
    }

    /// The role, where it is not a machine that calls.
    pub fn role(&self) -> Result<Role, ApiError> {
        Role::of(self.scope).ok_or_else(|| Problem::new(Kind::Forbidden, "this is for people; a machine has no account").into())
    }

    /// An event's data: from where, and what it was and has become. Secrets are never among it.
    #[must_use]
    pub fn audit(&self, before: Value, after: Value) -> Value {
        json!({ "peer": self.peer, "token_id": self.token_id, "account_id": self.person(), "before": before, "after": after })
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
    // HEAD asks for what GET does.
    let asked = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let open = OPEN.iter().any(|(method, open)| method == asked && *open == path.as_str());
    let client = Client::of(&app, request.extensions(), request.headers());
    let presented = match present_from(&app, request.method(), request.headers(), client).await {
        Ok(presented) => presented,
        // What is open is open to a cookie that proves nothing, too, and then it counts for nothing.
        Err(error) if open && error.kind() == Kind::Forbidden => Presented::Nothing,
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
    request.extensions_mut().insert(client);
    request.extensions_mut().insert(presented);
    next.run(request).await
}

async fn present_from(app: &App, method: &Method, headers: &HeaderMap, client: Client) -> Result<Presented, ApiError> {
    if !method.is_safe() && !headers.contains_key(header::AUTHORIZATION) && secret_of(headers).is_some() {
        check_own_page(headers)?;
    }
    let presented = present(app, headers).await?;
    Ok(match presented {
        Presented::Known(caller) => Presented::Known(Caller { peer: Some(client.peer), ..caller }),
        other @ (Presented::Nothing | Presented::Unknown) => other,
    })
}

pub(crate) async fn present(app: &App, headers: &HeaderMap) -> Result<Presented, ApiError> {
    let Some(secret) = secret_of(headers) else { return Ok(Presented::Nothing) };
    let in_cookie = !headers.contains_key(header::AUTHORIZATION);
    // A cookie is a session's: any other secret in one was put there by mistake, or by somebody.
    let caller = identify(app, secret).await?.filter(|caller| caller.session || !in_cookie);
    Ok(caller.map_or(Presented::Unknown, Presented::Known))
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

/// The holder of a secret, unless it is unknown, revoked or expired.
pub async fn identify(app: &App, secret: &str) -> Result<Option<Caller>, ApiError> {
    let hash = secret_hash(secret);
    let now = clock::now();
    if let Some(found) = app.callers.find(&hash, now) {
        if found.note {
            note_use(app, found.caller.token_id, now);
        }
        return Ok(Some(found.caller));
    }
    let mut conn = app.db.acquire().await?;
    let Some(token) = db::token::token_find(&mut conn, &hash, now).await? else { return Ok(None) };
    let caller = Caller {
        token_id: token.id,
        scope: token.scope,
        label: token.account_name.unwrap_or(token.label),
        worker_id: token.worker_id,
        server_id: token.server_id,
        expires_at: token.expires_at,
        session: token.session,
        account_id: token.account_id,
        parent_id: token.parent_id,
        peer: None,
    };
    Ok(app.callers.remember(hash, caller.clone(), now).then_some(caller))
}

/// Beside the request, which does not wait for it; where the database is away nothing is lost.
fn note_use(app: &App, token: TokenId, now: Timestamp) {
    let db = app.db.clone();
    tokio::spawn(async move {
        let noted = async { db::token::token_touch(&mut *db.acquire().await?, token, now).await };
        if let Err(error) = noted.await {
            tracing::debug!(%error, "when a token was last used could not be written down");
        }
    });
}

/// To be called after the commit that revoked these tokens: they are forgotten, and whoever holds
/// a socket open for one hears of it.
pub fn tokens_revoked(app: &App, tokens: &[TokenId]) {
    app.callers.revoke(tokens);
    for token in tokens {
        let _ = app.revoked.send(*token);
    }
}

/// To be called after the commit that changed how an account is called.
pub(crate) fn account_renamed(app: &App, account: AccountId) {
    app.callers.forget(account);
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

/// Whether this has the form of a secret of that scope.
#[must_use]
pub fn is_secret(text: &str, scope: &str) -> bool {
    let random = text.strip_prefix("mm_").and_then(|text| text.strip_prefix(scope)).and_then(|text| text.strip_prefix('_'));
    random
        .is_some_and(|random| random.len() == 43 && random.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')))
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

/// Whether a browser says that a page of this host sends it. A cookie alone proves nothing: a
/// browser sends it along with what other pages do.
fn check_own_page(headers: &HeaderMap) -> Result<(), ApiError> {
    // `check_origin` has looked at what it says.
    let own = headers.contains_key(header::ORIGIN) || headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin");
    if own {
        return Ok(());
    }
    let problem = Problem::new(Kind::Forbidden, "a cookie changes nothing unless a page of this host sends it");
    Err(problem.hint("programs send the header `Authorization: Bearer TOKEN`").into())
}
