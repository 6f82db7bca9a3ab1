//! `manman-host orchestrator`: who may be reached from outside, and nothing of the fleet.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum_server::Handle;
use clap::Args;
use manman_common::{Kind, Problem};
use manman_front_door::orchestrator::{
    FileStore, MainDomain, NoStore, Orchestrator, OrchestratorConfig, Store, Target, Webhook, admin_routes, open_routes,
};
use manman_front_door::proxy::{Certificates, FrontDoor, Listener, Network, ProxyConfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::say;
use crate::config::{Config, Database};
use crate::http::auth::{new_secret, secret_hash};
use crate::http::error::ApiError;
use crate::postgres::EmbeddedPostgres;
use crate::run::{GRACE, HostError, listen, reachable_url, serve};
use crate::{context, database, front_door};

#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(super) struct OrchestratorArgs {
    /// A second public listener, with TLS from --tls-dir or --tls-cert
    #[arg(long, env = "MANMAN_HTTPS", value_name = "ADDRESS")]
    https: Option<SocketAddr>,
    /// Make no databases, and start no PostgreSQL
    #[arg(long, env = "MANMAN_NO_DATABASE", value_parser = clap::builder::FalseyValueParser::new())]
    no_database: bool,
    #[command(flatten)]
    door: FrontDoorArgs,
}

/// What the front door is told, alone or within the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(super) struct FrontDoorArgs {
    /// The host under which waifus are shown below their names [default: *, any that is nobody's]
    #[arg(long, env = "MANMAN_MAIN_DOMAIN", value_name = "HOST")]
    main_domain: Option<String>,
    /// A proxy in front of us whose X-Forwarded headers are believed; may be given again
    #[arg(long, env = "MANMAN_TRUSTED_PROXY", value_name = "NETWORK", value_delimiter = ',')]
    trusted_proxy: Vec<Network>,
    /// Certificates as HOST.crt and HOST.key in PEM form
    #[arg(long, env = "MANMAN_TLS_DIR", value_name = "DIR")]
    tls_dir: Option<PathBuf>,
    /// How waifus reach PostgreSQL, where that is not what its URL says
    #[arg(long, env = "MANMAN_DATABASE_ADDRESS", value_name = "HOST:PORT", value_parser = address)]
    database_address: Option<(String, u16)>,
    /// How large a waifu's database may be, such as 2GiB; beyond it new transactions only read
    #[arg(long, env = "MANMAN_DATABASE_QUOTA", value_name = "SIZE", value_parser = size)]
    database_quota: Option<u64>,
    /// Where each incident, such as a wrong secret, is told by POST
    #[arg(long, env = "MANMAN_INCIDENT_WEBHOOK", value_name = "URL", hide_env_values = true)]
    incident_webhook: Option<Webhook>,
    /// The admin API of a Caddy in front of us, which is told of all hosts; trust it by --trusted-proxy
    #[arg(long, env = "MANMAN_CADDY", value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = "http://127.0.0.1:2019", value_parser = Target::parse)]
    caddy: Option<Target>,
}

fn address(text: &str) -> Result<(String, u16), String> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    parts.filter(|(host, port)| !host.is_empty() && *port != 0).ok_or_else(|| format!("`{text}` is not HOST:PORT"))
}

/// `500MiB`, `2GiB`, `1073741824`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(format!("`{text}` is no size; write `500MiB` or `2GiB`")),
    };
    let number = text[..digits].parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    number.filter(|size| *size > 0).ok_or_else(|| format!("`{text}` is no size; write `500MiB` or `2GiB`"))
}

impl FrontDoorArgs {
    pub(super) fn apply(self, config: &mut Config) {
        let Self { main_domain, trusted_proxy, tls_dir, database_address, database_quota, incident_webhook, caddy } = self;
        let door = &mut config.front_door;
        door.main_domain = main_domain.or(door.main_domain.take());
        door.tls_dir = tls_dir.or(door.tls_dir.take());
        door.database_address = database_address.or(door.database_address.take());
        door.database_quota = database_quota.or(door.database_quota.take());
        door.incident_webhook = incident_webhook.or(door.incident_webhook.take());
        door.caddy = caddy.or(door.caddy.take());
        if !trusted_proxy.is_empty() {
            door.trusted_proxies = trusted_proxy;
        }
    }
}

/// Who makes databases, and the cluster that is ours to stop.
struct Databases {
    embedded: Option<EmbeddedPostgres>,
    provisioner: Option<Arc<crate::provision::Provisioner>>,
}

pub(super) async fn run(args: OrchestratorArgs, mut config: Config) -> Result<(), HostError> {
    let OrchestratorArgs { https, no_database, door } = args;
    door.apply(&mut config);
    let config = config;
    let internal = listen(config.internal, "--internal")?;
    let internal_address = internal.local_addr().map_err(HostError::ListenerDied)?;
    if let Some(data) = &config.data {
        context::make_data_dir(data)?;
    }
    let certificates = https.map(|_| certificates(&config)).transpose()?;
    let public = Listener::bind(config.public, None).await.map_err(|error| listen_error("--public", error))?;
    let secure = match (https, &certificates) {
        (Some(address), Some(certificates)) => {
            Some(Listener::bind(address, Some(certificates.server_config())).await.map_err(|error| listen_error("--https", error))?)
        }
        _ => None,
    };
    let store: Box<dyn Store> = match &config.data {
        Some(data) => Box::new(FileStore::new(data.join("orchestrator/state.json"))),
        None => Box::new(NoStore),
    };
    let settings = OrchestratorConfig {
        main_domain: MainDomain::new(config.front_door.main_domain.as_deref().unwrap_or("*")),
        ..OrchestratorConfig::default()
    };
    let orchestrator = Orchestrator::start(settings, store).await.map_err(HostError::Orchestrator)?;
    let public_url = format!("http://{}", reachable_url(public.address()));
    orchestrator.set_public_url(&public_url);
    orchestrator.own_listeners().add(public.address());
    orchestrator.own_listeners().add(internal_address);
    if let Some(secure) = &secure {
        orchestrator.own_listeners().add(secure.address());
    }
    let Databases { embedded, provisioner } =
        if no_database { Databases { embedded: None, provisioner: None } } else { databases(&config).await? };
    if let Some(provisioner) = &provisioner {
        orchestrator.set_databases(Arc::<crate::provision::Provisioner>::clone(provisioner));
    }

    let shutdown = CancellationToken::new();
    tokio::spawn(super::stop_on_signal(shutdown.clone()));
    let watching = tokio::spawn(Arc::clone(&orchestrator).watch(shutdown.clone()));
    let (telling, told, door_config) = (shutdown.clone(), Arc::clone(&orchestrator), config.front_door.clone());
    tokio::spawn(async move { telling.run_until_cancelled(front_door::tell(told, door_config)).await });
    let proxy = ProxyConfig { trusted: config.front_door.trusted_proxies.clone(), ..ProxyConfig::default() };
    let door = FrontDoor::new(Arc::clone(&orchestrator), proxy);
    let mut serving = JoinSet::new();
    serving.spawn(public.serve(door.clone(), shutdown.clone()));
    if let Some(secure) = secure {
        say(&format!("https     https://{}", reachable_url(secure.address())));
        serving.spawn(secure.serve(door, shutdown.clone()));
    }
    if let (Some(certificates), Some(directory)) = (certificates, config.front_door.tls_dir.clone()) {
        tokio::spawn(async move { front_door::keep_certificates(certificates, &directory).await });
    }
    let token = admin_token(config.data.as_deref())?;
    let handle = Handle::new();
    let mut servers = JoinSet::new();
    serve(&mut servers, router(orchestrator, &token), internal, None, handle.clone())?;
    match &provisioner {
        Some(_) if embedded.is_some() => say("database  embedded"),
        Some(_) => say("database  external"),
        None => say("database  none: waifus that ask for one are answered 503"),
    }
    say(&format!("internal  http://{}", reachable_url(internal_address)));
    say(&format!("ready     {public_url}"));

    let died = async {
        match &embedded {
            Some(embedded) => embedded.died().await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        error = died => Err(HostError::DatabaseDied(error)),
        ended = servers.join_next() => Err(HostError::listener_died(ended)),
    };
    shutdown.cancel();
    handle.graceful_shutdown(Some(GRACE));
    // Its last save.
    let _ = watching.await;
    while servers.join_next().await.is_some() {}
    while serving.join_next().await.is_some() {}
    match embedded {
        Some(embedded) => outcome.and(embedded.stop().await.map_err(HostError::DatabaseStop)),
        None => outcome,
    }
}

fn listen_error(flag: &'static str, error: manman_front_door::proxy::ListenError) -> HostError {
    HostError::Listen { address: error.address, flag, source: error.source }
}

fn certificates(config: &Config) -> Result<Arc<Certificates>, HostError> {
    let default = match &config.tls {
        crate::config::Tls::Files { certificate, key } => Some((certificate.as_path(), key.as_path())),
        crate::config::Tls::Own | crate::config::Tls::Off => None,
    };
    let certificates = Certificates::new(default).map_err(HostError::Certificates)?;
    if let Some(directory) = &config.front_door.tls_dir {
        certificates.read(directory).map_err(HostError::Certificates)?;
    }
    if certificates.is_empty() {
        tracing::warn!("there is no certificate yet: https answers nobody until --tls-dir holds one");
    }
    Ok(Arc::new(certificates))
}

async fn databases(config: &Config) -> Result<Databases, HostError> {
    let Some(data) = config.data.as_deref() else { return Ok(Databases { embedded: None, provisioner: None }) };
    match &config.database {
        Database::External { url } => {
            let provisioner =
                database::open_provisioner(url, config.front_door.database_address.clone(), config.front_door.database_quota, data).await?;
            Ok(Databases { embedded: None, provisioner: Some(Arc::new(provisioner)) })
        }
        Database::Embedded { pg_bin } => {
            let (embedded, provisioner) = database::start_embedded(data, pg_bin.as_deref(), config.front_door.database_quota).await?;
            Ok(Databases { embedded: Some(embedded), provisioner: Some(Arc::new(provisioner)) })
        }
        Database::Asked { .. } => Ok(Databases { embedded: None, provisioner: None }),
    }
}

/// Of the file `orchestrator/admin-token`, made at the first start.
fn admin_token(data: Option<&Path>) -> Result<String, HostError> {
    let Some(data) = data else { return Ok(new_secret("admin")) };
    crate::provision::secret_text(&data.join("orchestrator/admin-token"), || new_secret("admin"))
        .map_err(|error| HostError::Database(error.into()))
}

fn router(orchestrator: Arc<Orchestrator>, token: &str) -> Router {
    let admin =
        admin_routes::<()>(Arc::clone(&orchestrator)).route_layer(middleware::from_fn_with_state(secret_hash(token), require_token));
    let (router, api) = open_routes::<()>(orchestrator).merge(admin).split_for_parts();
    let api = Arc::new(crate::http::docs::finish(api));
    router
        .route("/openapi.json", axum::routing::get(async move || axum::Json(api.as_ref().clone())))
        .route("/__internal/health", axum::routing::get(async || StatusCode::NO_CONTENT))
        .fallback(async || ApiError::from(Problem::new(Kind::NotFound, "there is no such path")))
        .method_not_allowed_fallback(async || ApiError::from(Problem::new(Kind::MethodNotAllowed, "this path does not take that method")))
}

async fn require_token(State(wanted): State<[u8; 32]>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer "));
    // Hashes are compared, so how early they differ tells nothing.
    if shown.is_some_and(|token| secret_hash(token) == wanted) {
        return next.run(request).await;
    }
    let problem =
        Problem::new(Kind::Unauthenticated, "this wants the admin token").hint("it is in `orchestrator/admin-token` in the data directory");
    ApiError::from(problem).into_response()
}
