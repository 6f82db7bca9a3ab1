//! The front door within the host: waifus beside the console and the API on one public listener, and
//! the orchestrator's routes on the inner one.

mod link;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use manman_common::client::{Client, HELLO_LEASE, Hello};
use manman_common::{Kind, Problem};
use manman_front_door::orchestrator::{MainDomain, Orchestrator, OrchestratorConfig, Store, StoreError, admin_routes, open_routes};
use manman_front_door::proxy::{CertificateError, Certificates, FrontDoor, Outcome, ProxyConfig};
use sqlx::PgPool;
use utoipa_axum::router::OpenApiRouter;

use crate::app::{App, AppRef, Bound};
use crate::config::{Config, FrontDoorConfig, Tls};
use crate::database::Opened;
use crate::db::orchestrator::{orchestrator_state, orchestrator_state_save};
use crate::http::auth::{COOKIE, Caller, Permission};
use crate::http::error::ApiError;
use crate::provision::HOST_NAME;
use crate::tls::{self, Identity};

/// Begins every token of ours.
const OWN_TOKENS: &str = "mm_";
/// First segments of pages that the console has, or may come to have, besides the API's.
const PAGES: [&str; 10] = ["assets", "docs", "console", "fleet", "machine", "activity", "settings", "people", "static", "self-register"];
/// New certificates are noticed so often.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(60);

/// The orchestrator's document in the host's database.
struct Table(PgPool);

#[async_trait]
impl Store for Table {
    async fn load(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let loaded = async { orchestrator_state(&mut *self.0.acquire().await?).await };
        loaded.await.map_err(|error| failed("read", error))
    }

    async fn save(&self, document: Vec<u8>) -> Result<(), StoreError> {
        let saved = async { orchestrator_state_save(&mut *self.0.acquire().await?, &document).await };
        saved.await.map_err(|error| failed("write", error))
    }
}

fn failed(doing: &'static str, source: sqlx::Error) -> StoreError {
    StoreError { doing, place: "the database".to_owned(), source: Box::new(source) }
}

/// The orchestrator with what it knew before.
pub(crate) async fn start(config: &Config, opened: &Opened, bound: &Bound) -> Result<FrontDoor, StoreError> {
    let FrontDoorConfig { main_domain, trusted_proxies, .. } = &config.front_door;
    let settings = OrchestratorConfig {
        main_domain: MainDomain::new(main_domain.as_deref().unwrap_or("*")),
        reserved: reserved(),
        ..OrchestratorConfig::default()
    };
    let orchestrator = Orchestrator::start(settings, Box::new(Table(opened.pool.clone()))).await?;
    orchestrator.own_listeners().add(bound.public);
    // What trusts this machine there would trust whoever comes through the front door.
    orchestrator.own_listeners().add(bound.internal);
    orchestrator.set_public_url(&bound.public_url);
    if let Some(provisioner) = &opened.provisioner {
        orchestrator.set_databases(Arc::<crate::provision::Provisioner>::clone(provisioner));
    }
    let proxy = ProxyConfig {
        trusted: trusted_proxies.clone(),
        own_cookies: vec![COOKIE.to_owned()],
        own_tokens: vec![OWN_TOKENS.to_owned()],
        ..ProxyConfig::default()
    };
    Ok(FrontDoor::new(orchestrator, proxy))
}

/// Names under which the host itself answers, and so no waifu.
fn reserved() -> HashSet<String> {
    let api = crate::http::router::api().into_openapi();
    let segments = api.paths.paths.keys().filter_map(|path| path.split('/').nth(1)).filter(|segment| !segment.starts_with('{'));
    segments.chain(PAGES).filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}

/// Puts the waifus beside what the public router has. Their requests never see its layers: what they
/// answer is theirs.
pub(crate) fn public(app: &AppRef, router: Router) -> Router {
    match app.front_door.get() {
        Some(_) => router.layer(middleware::from_fn_with_state(Arc::clone(app), forward)),
        None => router,
    }
}

async fn forward(State(app): State<AppRef>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
    let (Some(door), Some(peer)) = (app.front_door.get(), peer) else { return next.run(request).await };
    if !door.is_bound(&request)
        && let Some((worker, path)) = link::of_worker(&app, request.uri())
    {
        return link::answer(&app, worker, path, request).await.unwrap_or_else(ApiError::into_response);
    }
    match door.handle(request, peer, app.config.tls != Tls::Off).await {
        Outcome::Answer(response) => response,
        // A host that is a waifu's shows nothing of ours.
        Outcome::NotMine(request) if door.is_bound(&request) => {
            ApiError::from(Problem::new(Kind::NotFound, "there is no such path")).into_response()
        }
        Outcome::NotMine(request) => next.run(request).await,
    }
}

/// The orchestrator's routes, for the inner door.
pub(crate) fn internal(app: &AppRef) -> OpenApiRouter<AppRef> {
    let Some(door) = app.front_door.get() else { return OpenApiRouter::new() };
    let admin = admin_routes(Arc::clone(door.orchestrator())).route_layer(middleware::from_fn(require_admin));
    open_routes(Arc::clone(door.orchestrator())).merge(admin)
}

async fn require_admin(caller: Caller, request: Request, next: Next) -> Result<Response, ApiError> {
    caller.require(Permission::ManageTokens)?;
    Ok(next.run(request).await)
}

/// Tells a webhook of incidents, and a Caddy of hosts, where there are such, for as long as it runs.
pub(crate) async fn tell(orchestrator: Arc<Orchestrator>, config: FrontDoorConfig) {
    let FrontDoorConfig { incident_webhook, caddy, .. } = config;
    let webhook = async {
        if let Some(webhook) = incident_webhook {
            Arc::clone(&orchestrator).tell_incidents(webhook).await;
        }
    };
    let caddy = async {
        if let Some(caddy) = caddy {
            Arc::clone(&orchestrator).keep_caddy(caddy).await;
        }
    };
    tokio::join!(webhook, caddy);
}

/// What this host says of itself to another orchestrator, for as long as it runs.
pub(crate) async fn say_hello(app: AppRef) {
    let App { config, bound, .. } = &*app;
    let (Some(url), Some(bound)) = (&config.front_door.orchestrator, bound.get()) else { return };
    let client = url
        .parse()
        .map_err(|error| format!("{error}"))
        .and_then(|endpoint| Client::new(endpoint, None).map_err(|error| crate::chain(&error)));
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(orchestrator = url, error, "hello can not be said");
            return;
        }
    };
    let hello = Hello { name: HOST_NAME.to_owned(), host: bound.public_url.clone(), expire: HELLO_LEASE, secret: None };
    client
        .keep_hello(&hello, |news| match news {
            Ok(welcome) => tracing::info!(url = welcome.url, "the orchestrator shows this host"),
            Err(error) => tracing::warn!(
                orchestrator = url,
                error = crate::chain(error),
                "the orchestrator does not hear our hello; it is said again"
            ),
        })
        .await;
}

/// With a directory of certificates, each host is answered with its own.
pub(crate) fn with_certificates(
    config: &Config,
    identity: Option<Identity>,
) -> Result<(Option<Identity>, Option<Arc<Certificates>>), CertificateError> {
    let (Some(identity), Some(directory)) = (&identity, &config.front_door.tls_dir) else { return Ok((identity, None)) };
    let own = config.data.as_deref().map(tls::own_files);
    let default = match (&config.tls, &own) {
        (Tls::Files { certificate, key }, _) => Some((certificate.as_path(), key.as_path())),
        (Tls::Own, Some((certificate, key))) => Some((certificate.as_path(), key.as_path())),
        (Tls::Own, None) | (Tls::Off, _) => None,
    };
    let certificates = Arc::new(Certificates::new(default)?);
    let count = certificates.read(directory)?;
    tracing::info!(count, directory = %directory.display(), "certificates of hosts");
    let identity = Identity { config: certificates.server_config(), fingerprint: identity.fingerprint.clone() };
    Ok((Some(identity), Some(certificates)))
}

/// Reads certificates anew now and then, for as long as it runs.
pub(crate) async fn keep_certificates(certificates: Arc<Certificates>, directory: &Path) {
    loop {
        tokio::time::sleep(CERTIFICATES_EVERY).await;
        if let Err(error) = certificates.read(directory) {
            tracing::warn!(error = crate::chain(&error), "certificates can not be read; the ones of the last time hold");
        }
    }
}
