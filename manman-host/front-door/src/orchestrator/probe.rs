//! Looks after waifus: asks for their health, and lets lapsed leases go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt as _;
use hyper::{Request, StatusCode, header};
use tokio_util::sync::CancellationToken;

use super::route::{Health, Route};
use super::target::Target;
use super::{Orchestrator, chain};
use crate::clock;
use crate::proxy::AskError;

const HEALTH_PATH: &str = "/__internal/health";
const WITHIN: Duration = Duration::from_secs(2);
/// So many failures in a row, and its requests are answered 503.
const FAILURES_MAX: u32 = 3;
const AT_ONCE: usize = 32;
/// Databases are held to their quota, and dropped when it is time.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// Ends of leases are written down so often.
const SAVE_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    #[error("it did not answer within {} s", WITHIN.as_secs())]
    Slow,
    #[error(transparent)]
    Ask(AskError),
    #[error("its health has no address")]
    Address(#[source] hyper::http::Error),
    #[error("it answered {0} instead of 204")]
    Status(StatusCode),
}

impl Orchestrator {
    /// Watches over the waifus until `shutdown`.
    pub async fn watch(self: Arc<Self>, shutdown: CancellationToken) {
        let checking = async {
            loop {
                let round = self.check_all();
                // So that the waifus of one house are not all asked at the same moment for ever.
                let tenth = u64::try_from(self.config.check_every.as_millis() / 10).unwrap_or(0);
                let pause = self.config.check_every - Duration::from_millis(tenth) + Duration::from_millis(clock::random_below(2 * tenth));
                // A round that takes longer than the pause does not push the next one further away.
                tokio::join!(round, tokio::time::sleep(pause));
            }
        };
        let sweeping = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.sweep().await;
            }
        };
        let saving = async {
            loop {
                tokio::time::sleep(SAVE_EVERY).await;
                self.save_now().await;
            }
        };
        let looking_after = async {
            loop {
                self.tidy_databases().await;
                tokio::time::sleep(TIDY_EVERY).await;
            }
        };
        // Cancel-safe: each of them begins anew with what is.
        tokio::select! {
            () = checking => {}
            () = sweeping => {}
            () = saving => {}
            () = looking_after => {}
            () = shutdown.cancelled() => self.save_now().await,
        }
    }

    /// Asks each waifu that has no lease to show it is there, or that named a path to ask at.
    async fn check_all(&self) {
        let due: Vec<(Arc<Route>, Target, Option<String>)> = {
            let state = self.state.lock().await;
            let waifus = state.waifus.iter(self.tick()).filter(|(_, lease)| lease.term.is_none() || lease.value.health_path.is_some());
            waifus.map(|(_, lease)| (Arc::clone(&lease.value.route), lease.holder.clone(), lease.value.health_path.clone())).collect()
        };
        let checks = due.into_iter().map(|(route, target, path)| async move {
            let result = self.check(&target, path.as_deref()).await;
            take_in(&route, result);
        });
        futures_util::stream::iter(checks).buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    /// Asks for the health of a target once. Whether it said so in the way that is asked for.
    pub(super) async fn check(&self, target: &Target, path: Option<&str>) -> Result<StatusCode, CheckError> {
        let uri = format!("{}{}", target.base, path.unwrap_or(HEALTH_PATH));
        let request = Request::get(uri).header(header::HOST, target.authority()).header(header::USER_AGENT, "manman-health");
        let request = request.body(Body::empty()).map_err(CheckError::Address)?;
        let status = match self.connector.ask(target, request, WITHIN).await {
            Ok(answer) => answer.status(),
            Err(AskError::Slow) => return Err(CheckError::Slow),
            Err(error) => return Err(CheckError::Ask(error)),
        };
        if matches!(status, StatusCode::NO_CONTENT | StatusCode::OK) { Ok(status) } else { Err(CheckError::Status(status)) }
    }

    async fn sweep(&self) {
        let now = clock::instant();
        self.table().routes().for_each(|route| route.pool.tidy(now));
        let mut state = self.state.lock().await;
        let lapsed = state.waifus.expire(self.tick());
        if lapsed.is_empty() {
            return;
        }
        for (name, _) in &lapsed {
            tracing::info!(waifu.name = %name, "the lease of a waifu has ended");
        }
        self.publish(&state);
        self.save(&mut state).await;
    }
}

fn take_in(route: &Route, result: Result<StatusCode, CheckError>) {
    match result {
        Ok(status) => {
            route.failed_checks.store(0, Ordering::Relaxed);
            let before = route.set_health(Health::Up);
            if before == Health::Down {
                tracing::info!(waifu.name = %route.name, "a waifu is back");
            }
            if before != Health::Up && status == StatusCode::OK {
                tracing::warn!(waifu.name = %route.name, "a waifu says its health with 200 instead of 204");
            }
        }
        Err(error) => {
            let failed = route.failed_checks.fetch_add(1, Ordering::Relaxed) + 1;
            if failed >= FAILURES_MAX && route.set_health(Health::Down) != Health::Down {
                tracing::warn!(waifu.name = %route.name, error = chain(&error), "a waifu is down; its requests are answered 503");
            }
        }
    }
}
