//! `manman-host registry`: who is alive and where, and nothing else. It needs no database.

use std::net::IpAddr;
use std::path::PathBuf;

use axum::Router;
use axum_server::Handle;
use clap::Args;
use manman_common::{Kind, Problem};
use manman_front_door::registry::{Keep, Registry, RegistryConfig, routes};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use super::say;
use crate::config::Config;
use crate::context;
use crate::http::error::ApiError;
use crate::run::{GRACE, HostError, listen, serve};

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct RegistryArgs {
    /// Where the records outlive a restart [default: registry.json in the data directory]
    #[arg(long, env = "MANMAN_REGISTRY_FILE", value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// Keep a name without expiry for its holder, as long as that one answers
    #[arg(long, env = "MANMAN_REGISTRY_PROTECT", value_parser = clap::builder::FalseyValueParser::new())]
    protect: bool,
    /// A proxy whose X-Forwarded-For is believed; may be given again
    #[arg(long, env = "MANMAN_TRUSTED_PROXY", value_name = "IP", value_delimiter = ',')]
    trusted_proxy: Vec<IpAddr>,
}

pub(super) async fn run(args: RegistryArgs, config: Config) -> Result<(), HostError> {
    let RegistryArgs { snapshot, protect, trusted_proxy } = args;
    let listener = listen(config.internal, "--internal")?;
    let address = listener.local_addr().map_err(HostError::ListenerDied)?;
    let keep = match (snapshot, &config.data) {
        (Some(file), _) => Keep::File(file),
        (None, Some(data)) => {
            context::make_data_dir(data)?;
            Keep::File(data.join("registry.json"))
        }
        (None, None) => Keep::Nowhere,
    };
    let trusted_proxies = trusted_proxy.iter().map(IpAddr::to_canonical).collect();
    let registry = Registry::new(RegistryConfig { protect, trusted_proxies, ..RegistryConfig::default() }, keep);
    registry.restore().await?;
    let shutdown = CancellationToken::new();
    tokio::spawn(super::stop_on_signal(shutdown.clone()));
    let running = tokio::spawn(registry.clone().run(shutdown.clone()));
    let handle = Handle::new();
    let mut servers = JoinSet::new();
    serve(&mut servers, router(registry), listener, None, handle.clone())?;
    say(&format!("ready     http://{address}"));
    let outcome = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        ended = servers.join_next() => Err(HostError::listener_died(ended)),
    };
    shutdown.cancel();
    handle.graceful_shutdown(Some(GRACE));
    // Its last save.
    let _ = running.await;
    while servers.join_next().await.is_some() {}
    outcome
}

fn router(registry: Registry) -> Router {
    let (router, _) = routes(registry).split_for_parts();
    router
        .fallback(async || ApiError::from(Problem::new(Kind::NotFound, "there is no such path")))
        .method_not_allowed_fallback(async || ApiError::from(Problem::new(Kind::MethodNotAllowed, "this path does not take that method")))
        .layer(CatchPanicLayer::custom(|_| {
            tracing::error!("a handler panicked");
            axum::response::IntoResponse::into_response(ApiError::from(Problem::new(Kind::Internal, "the registry could not do this")))
        }))
}
