//! A host from its start to its end.
//!
//! ```text
//! let host = Host::start(config).await?;     // database, catalogue, listeners: answers from here on
//! host.bound();                              // the real addresses, port 0 resolved
//! host.run(shutdown).await?;                 // until it is told to end, or can not go on
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
pub use manman_common::error::chain;
use manman_common::wire::{LoginLink, Role, Scope};
use manman_front_door::orchestrator;
use manman_front_door::proxy::CertificateError;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, AppRef, Bound};
use crate::config::Config;
use crate::context::{self, Context, ContextError};
use crate::database::{self, DatabaseError};
use crate::db::session::Grant;
use crate::db::token::{NewToken, token_admin_exists, token_insert};
use crate::games::Catalogue;
use crate::http::auth::{identify, new_secret, secret_hash};
use crate::http::login::login_link;
use crate::http::router::{Door, router};
use crate::limit::Limited;
use crate::postgres::{EmbeddedPostgres, PostgresError};
use crate::tls::{self, Identity, TlsError};
use crate::{background, clock, db, front_door};

/// A running host.
pub struct Host {
    app: AppRef,
    embedded: Option<EmbeddedPostgres>,
    servers: JoinSet<std::io::Result<()>>,
    handles: [Handle<SocketAddr>; 2],
    tasks: TaskTracker,
    stop_tasks: CancellationToken,
    token: String,
    first_start: bool,
}

/// Why a host could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("could not listen on {address} ({flag})")]
    Listen { address: SocketAddr, flag: &'static str, source: std::io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error(transparent)]
    Registry(#[from] manman_front_door::registry::StoreError),
    #[error(transparent)]
    Orchestrator(orchestrator::StoreError),
    #[error("could not use the certificates of hosts")]
    Certificates(#[source] CertificateError),
    #[error("could not prepare the database")]
    Prepare(#[source] sqlx::Error),
    #[error("the private database has ended")]
    DatabaseDied(#[source] PostgresError),
    #[error("a listener has ended")]
    ListenerDied(#[source] std::io::Error),
    #[error("the private database could not be stopped")]
    DatabaseStop(#[source] PostgresError),
}

impl HostError {
    /// What has become of the task that served.
    pub(crate) fn listener_died(ended: Option<Result<std::io::Result<()>, tokio::task::JoinError>>) -> Self {
        Self::ListenerDied(match ended {
            Some(Ok(Err(error))) => error,
            Some(Ok(Ok(()))) | None => std::io::Error::other("it stopped without a reason"),
            Some(Err(error)) => std::io::Error::other(error),
        })
    }

    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Database(error) => error.hint(),
            Self::Listen { flag, source, .. } => match source.kind() {
                std::io::ErrorKind::AddrInUse => Some(format!("another program listens there; choose another port with {flag}, 0 for any")),
                std::io::ErrorKind::PermissionDenied => Some(format!("ports below 1024 are for root; choose another with {flag}")),
                std::io::ErrorKind::AddrNotAvailable => Some(format!("this machine has no such address; choose another with {flag}")),
                _ => None,
            },
            Self::DatabaseDied(error) | Self::DatabaseStop(error) => error.hint(),
            Self::Orchestrator(_)
            | Self::Certificates(_)
            | Self::Tls(_)
            | Self::Context(_)
            | Self::Registry(_)
            | Self::Prepare(_)
            | Self::ListenerDied(_) => None,
        }
    }
}

/// A connection that has sent no whole head by then is closed.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 64 * 1024;
/// The first start's link is meant to be opened at once.
const FIRST_LINK_LIFE: Duration = Duration::from_secs(10 * 60);
/// What is under way when the host ends has so long to end by itself.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

impl Host {
    /// Brings everything up; what fails half-way is taken down again by being dropped.
    pub async fn start(config: Config) -> Result<Self, HostError> {
        raise_file_limit();
        // The listeners first: that an address is taken is known at once, and nothing is begun.
        let public = listen(config.public, "--public")?;
        let internal = listen(config.internal, "--internal")?;
        if let Some(data) = &config.data {
            context::make_data_dir(data)?;
        }
        let lan = primary_address();
        let identity = tls::identity(&config.tls, config.data.as_deref(), lan)?;
        let games = Catalogue::load(&config.game_folders());
        for error in games.left_out() {
            tracing::warn!(error = chain(error), "a game's definition is left out");
        }
        let (identity, certificates) = front_door::with_certificates(&config, identity).map_err(HostError::Certificates)?;
        let opened = database::open(&config).await?;
        let mut conn = opened.pool.acquire().await.map_err(HostError::Prepare)?;
        let host_id = db::host::host_ensure(&mut conn, clock::new_uuid(), clock::now()).await.map_err(HostError::Prepare)?;
        let first_start = !token_admin_exists(&mut conn).await.map_err(HostError::Prepare)?;
        drop(conn);

        let bound = bound(&config, &public, &internal, identity.as_ref(), lan)?;
        let front_door = front_door::start(&config, &opened, &bound).await.map_err(HostError::Orchestrator)?;
        let app = App::new(opened.pool, config, host_id, opened.words, games);
        let local_url = local_url(&app.config, &bound);
        let internal_url = bound.internal_url.clone();
        // Nobody else sets it: the app was made just above.
        let _ = app.bound.set(bound);
        let watched = Arc::clone(front_door.orchestrator());
        let told_of = Arc::clone(&watched);
        let _ = app.front_door.set(front_door);
        let token = own_token(&app).await?;
        if let Some(data) = &app.config.data {
            context::write(data, &Context { url: local_url, internal_url: Some(internal_url), token: Some(token.clone()) })?;
        }
        let stop_tasks = CancellationToken::new();
        let tasks = background::start(&app, &stop_tasks).await.map_err(HostError::Prepare)?;
        // The tracker is closed to nobody but those who wait for its end.
        tasks.spawn(watched.watch(stop_tasks.clone()));
        let telling = stop_tasks.clone();
        let told = app.clone();
        tasks.spawn(async move { telling.run_until_cancelled(front_door::say_hello(told)).await });
        let (telling, orchestrator, config) = (stop_tasks.clone(), Arc::clone(&told_of), app.config.front_door.clone());
        tasks.spawn(async move { telling.run_until_cancelled(front_door::tell(orchestrator, config)).await });
        if app.config.mdns {
            tasks.spawn(crate::mdns::announce(app.clone(), stop_tasks.clone()));
        }
        if let (Some(certificates), Some(directory)) = (certificates, app.config.front_door.tls_dir.clone()) {
            let reading = stop_tasks.clone();
            tasks.spawn(async move { reading.run_until_cancelled(front_door::keep_certificates(certificates, &directory)).await });
        }
        let handles = [Handle::new(), Handle::new()];
        let mut servers = JoinSet::new();
        serve(&mut servers, router(&app, Door::Public), public, identity, handles[0].clone())?;
        serve(&mut servers, router(&app, Door::Internal), internal, None, handles[1].clone())?;
        tracing::info!(host.id = %app.host_id, database = app.database, "the host answers");
        Ok(Self { app, embedded: opened.embedded, servers, handles, tasks, stop_tasks, token, first_start })
    }

    /// Where it listens. The app has it from its start on.
    #[must_use]
    pub fn bound(&self) -> Option<&Bound> {
        self.app.bound.get()
    }

    #[must_use]
    pub fn app(&self) -> &AppRef {
        &self.app
    }

    /// A token of the scope admin, for this machine's own programs; it is in `context.toml`, too.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Whether this database has never had a host before.
    #[must_use]
    pub fn is_first_start(&self) -> bool {
        self.first_start
    }

    /// A link that signs a browser in as admin, once, within ten minutes.
    pub async fn login_link(&self) -> Result<LoginLink, HostError> {
        let mut conn = self.app.db.acquire().await.map_err(HostError::Prepare)?;
        let grant = Grant { role: Role::Admin, label: String::new(), server_id: None, account_id: None, parent_id: None, until: None };
        login_link(&self.app, &mut conn, &grant, FIRST_LINK_LIFE)
            .await
            .map_err(|error| HostError::Prepare(sqlx::Error::Protocol(error.problem.detail)))
    }

    /// A token that admits workers for an hour, for the worker that runs beside this host.
    pub async fn join_token(&self, label: &str) -> Result<String, HostError> {
        let life = Duration::from_secs(60 * 60);
        make_token(&self.app, Scope::Join, label, Some(life)).await
    }

    /// What to paste on another machine, where another machine can reach this one.
    #[must_use]
    pub fn join_line(&self) -> Option<String> {
        let bound = self.bound()?;
        let open = !bound.public.ip().is_loopback();
        open.then(|| format!("manman-worker run --host {}", bound.join_url()))
    }

    /// Runs until `shutdown`, or until it can not go on; ends in good order either way.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), HostError> {
        let died = async {
            match &self.embedded {
                Some(embedded) => embedded.died().await,
                None => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            error = died => Err(HostError::DatabaseDied(error)),
            ended = self.servers.join_next() => Err(HostError::listener_died(ended)),
        };
        let ended = self.end().await;
        outcome.and(ended)
    }

    async fn end(mut self) -> Result<(), HostError> {
        for handle in &self.handles {
            handle.graceful_shutdown(Some(GRACE));
        }
        // Sockets that are held open end with the tasks, the rest within the grace.
        self.stop_tasks.cancel();
        while self.servers.join_next().await.is_some() {}
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            tracing::warn!("a background task did not end in time");
        }
        if tokio::time::timeout(GRACE, self.app.db.close()).await.is_err() {
            tracing::warn!("a connection to the database did not end in time");
        }
        match self.embedded.take() {
            Some(embedded) => embedded.stop().await.map_err(HostError::DatabaseStop),
            None => Ok(()),
        }
    }
}

/// Starts a host and runs it until `shutdown`; `started` hears of it once it answers.
pub async fn run(config: Config, shutdown: CancellationToken, started: impl AsyncFnOnce(&Host)) -> Result<(), HostError> {
    let host = Host::start(config).await?;
    started(&host).await;
    host.run(shutdown).await
}

/// Every connection is a file. What a shell allows by default is for programs that open few.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

pub(crate) fn listen(address: SocketAddr, flag: &'static str) -> Result<TcpListener, HostError> {
    let error = |source| HostError::Listen { address, flag, source };
    let listener = TcpListener::bind(address).map_err(error)?;
    listener.set_nonblocking(true).map_err(error)?;
    Ok(listener)
}

/// Answers on a listener, with the limits that every listener of ours has.
pub(crate) fn serve(
    servers: &mut JoinSet<std::io::Result<()>>,
    router: Router,
    listener: TcpListener,
    identity: Option<Identity>,
    handle: Handle<SocketAddr>,
) -> Result<(), HostError> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let mut server = axum_server::from_tcp(listener).map_err(HostError::ListenerDied)?.handle(handle);
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_MAX);
    server
        .http_builder()
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .max_header_list_size(64 * 1024)
        .max_concurrent_streams(256)
        .enable_connect_protocol();
    match identity {
        Some(identity) => {
            let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(identity.config)).acceptor(NoDelayAcceptor::new());
            servers.spawn(server.acceptor(Limited::new(acceptor)).serve(service));
        }
        None => {
            servers.spawn(server.acceptor(Limited::new(NoDelayAcceptor::new())).serve(service));
        }
    }
    Ok(())
}

fn bound(
    config: &Config,
    public: &TcpListener,
    internal: &TcpListener,
    identity: Option<&Identity>,
    lan: Option<IpAddr>,
) -> Result<Bound, HostError> {
    let public = public.local_addr().map_err(|source| HostError::Listen { address: config.public, flag: "--public", source })?;
    let internal = internal.local_addr().map_err(|source| HostError::Listen { address: config.internal, flag: "--internal", source })?;
    let scheme = if identity.is_some() { "https" } else { "http" };
    Ok(Bound {
        public_url: format!("{scheme}://{}", reachable(public, lan.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)))),
        internal_url: format!("http://{}", reachable(internal, IpAddr::V4(Ipv4Addr::LOCALHOST))),
        fingerprint: identity.and_then(|identity| identity.fingerprint.clone()),
        public,
        internal,
    })
}

/// The address itself, or `instead` where it stands for all of the machine's.
fn reachable(address: SocketAddr, instead: IpAddr) -> SocketAddr {
    if address.ip().is_unspecified() { SocketAddr::new(instead, address.port()) } else { address }
}

/// How this machine's own programs reach an address of ours.
pub(crate) fn reachable_url(address: SocketAddr) -> SocketAddr {
    reachable(address, IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The public door as this machine's own programs reach it, wherever the machine moves.
fn local_url(config: &Config, bound: &Bound) -> String {
    let scheme = if config.tls == crate::config::Tls::Off { "http" } else { "https" };
    let address = reachable(bound.public, IpAddr::V4(Ipv4Addr::LOCALHOST));
    bound.pinned(&format!("{scheme}://{address}"))
}

/// The address by which this machine reaches others, and so others reach it.
fn primary_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // 192.0.2.1 is nobody's (RFC 5737); nothing is sent, the kernel only looks up the way.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_unspecified())
}

/// The token of an earlier start, if it is still good for everything, else a fresh one.
async fn own_token(app: &AppRef) -> Result<String, HostError> {
    if let Some(data) = &app.config.data
        && let Some(token) = context::read(data)?.and_then(|context| context.token)
    {
        let caller = identify(app, &token).await.map_err(|error| HostError::Prepare(sqlx::Error::Protocol(error.problem.detail)))?;
        if caller.is_some_and(|caller| caller.scope == Scope::Admin) {
            return Ok(token);
        }
    }
    make_token(app, Scope::Admin, "admin", None).await
}

async fn make_token(app: &AppRef, scope: Scope, label: &str, life: Option<Duration>) -> Result<String, HostError> {
    let now = clock::now();
    let secret = new_secret(db::token::scope_text(scope));
    let token = NewToken {
        label: label.to_owned(),
        expires_at: life.map(|life| now.plus(life)),
        ..NewToken::new(clock::new_token_id(), secret_hash(&secret), scope, now)
    };
    let mut conn = app.db.acquire().await.map_err(HostError::Prepare)?;
    token_insert(&mut conn, &token).await.map_err(HostError::Prepare)?;
    Ok(secret)
}

#[cfg(test)]
mod tests;
