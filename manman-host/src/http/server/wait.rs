//! `?wait=30s`: blocks until a wish has come true, or says that it has not.

use std::time::Duration;

use manman_common::{InstanceId, Phase, Problem, ServerId};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use super::fresh;
use crate::app::App;
use crate::db::server::{Server, server_get};
use crate::games::parse_duration;
use crate::http::error::ApiResult;

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitQuery {
    /// How long to wait for it, such as `30s`; at most 10 minutes.
    wait: Option<String>,
}

const WAIT_MAX: Duration = Duration::from_secs(600);

impl WaitQuery {
    pub(super) fn duration(&self) -> ApiResult<Option<Duration>> {
        let Some(text) = &self.wait else { return Ok(None) };
        let wait = parse_duration(text).map_err(|why| Problem::invalid("wait", why))?;
        if wait > WAIT_MAX {
            return Err(Problem::invalid("wait", "the longest wait is 10 minutes").into());
        }
        Ok(Some(wait))
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Ready, in another instance than this one.
    Ready {
        but_not: Option<InstanceId>,
    },
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Reached,
    /// It will not come by itself.
    GivenUp,
    NotYet,
}

/// Whether the worker's last word is that the goal is reached.
pub(super) fn progress(server: &Server, goal: Goal) -> Progress {
    let Some(status) = &server.status else { return Progress::NotYet };
    if status.generation < server.generation {
        return Progress::NotYet;
    }
    match goal {
        Goal::Ready { but_not } => match status.phase {
            Phase::Ready if but_not.is_some() && status.instance == but_not => Progress::NotYet,
            Phase::Ready => Progress::Reached,
            Phase::Failed => Progress::GivenUp,
            Phase::Pending
            | Phase::Installing
            | Phase::Stopped
            | Phase::Starting
            | Phase::Running
            | Phase::Unready
            | Phase::Stopping
            | Phase::Crashed
            | Phase::Backoff
            | Phase::StopStuck
            | Phase::Orphaned
            | Phase::Unknown => Progress::NotYet,
            Phase::Deleted => Progress::GivenUp,
        },
        Goal::Stopped => match status.phase {
            Phase::Stopped | Phase::Deleted => Progress::Reached,
            Phase::StopStuck => Progress::GivenUp,
            Phase::Pending
            | Phase::Installing
            | Phase::Starting
            | Phase::Running
            | Phase::Ready
            | Phase::Unready
            | Phase::Stopping
            | Phase::Crashed
            | Phase::Backoff
            | Phase::Failed
            | Phase::Orphaned
            | Phase::Unknown => Progress::NotYet,
        },
    }
}

/// Waits, woken by news of the server; answers with it as it is in the end.
pub(super) async fn wait_for(app: &App, id: ServerId, goal: Goal, wait: Duration) -> ApiResult<Option<(Server, bool)>> {
    let deadline = Instant::now() + wait;
    // Subscribed before the first look, so that nothing falls between.
    let mut changes = app.fleet.server_changes();
    loop {
        let Some(server) = server_get(&mut *app.db.acquire().await?, id).await? else { return Ok(None) };
        let server = fresh(app, server);
        match progress(&server, goal) {
            Progress::Reached => return Ok(Some((server, true))),
            Progress::GivenUp => return Ok(Some((server, false))),
            Progress::NotYet => {}
        }
        loop {
            match timeout_at(deadline, changes.recv()).await {
                Err(_) | Ok(Err(RecvError::Closed)) => return Ok(Some((server, false))),
                Ok(Ok(changed)) if changed != id => {}
                Ok(Ok(_) | Err(RecvError::Lagged(_))) => break,
            }
        }
    }
}
