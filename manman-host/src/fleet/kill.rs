//! The attempt to kill a worker that has gone silent. Its games are never touched: they outlive
//! their worker, and the next one adopts them. A single word from the worker ends the attempt.

use std::sync::Arc;
use std::time::Duration;

use manman_common::SessionEpoch;
use manman_common::wire::ProcessIdentity;
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use super::Fleet;
use super::machine::Machine;
use super::process::{self, SignalError};
use crate::app::AppRef;
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::worker::worker_revoke_session;

/// When what is tried, counted from the decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KillPlan {
    /// The worker's own listener is asked to shut down.
    pub(crate) ask_at: [Duration; 3],
    pub(crate) term_at: Duration,
    pub(crate) kill_at: Duration,
}

impl Default for KillPlan {
    /// The worker has the time to answer, and after SIGTERM to say goodbye.
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self { ask_at: [secs(0), secs(5), secs(15)], term_at: secs(30), kill_at: secs(40) }
    }
}

const ASK_WITHIN: Duration = Duration::from_secs(2);

/// What is known of the worker at the moment it is given up.
struct Target {
    epoch: SessionEpoch,
    process: Option<ProcessIdentity>,
    api_url: Option<String>,
    api_token: Option<String>,
}

impl Fleet {
    /// Begins the attempt, on a task of its own.
    pub(crate) fn begin_kill(&self, app: &AppRef, machine: &Arc<Machine>) {
        let cancel = CancellationToken::new();
        {
            let mut state = machine.lock();
            // A word may have come since the verdict.
            if state.unknown_since.is_none() || state.kill_begun {
                return;
            }
            state.kill_begun = true;
            state.kill = Some(cancel.clone());
        }
        let (app, machine) = (Arc::clone(app), Arc::clone(machine));
        tokio::spawn(async move {
            let attempt = attempt(&app, &machine);
            // Cancelled at any point it leaves nothing half done: each step is one request,
            // one signal, or one statement.
            if cancel.run_until_cancelled(attempt).await.is_none() {
                note(&app, &machine, "worker.kill_cancelled", "has been heard of again, the attempt to kill it has ended", None).await;
            }
        });
    }
}

async fn attempt(app: &AppRef, machine: &Arc<Machine>) {
    let Some(target) = revoke(app, machine).await else { return };
    let plan = app.fleet.watch().kill_plan;
    let began = tokio::time::Instant::now();
    for (number, at) in (1..).zip(plan.ask_at) {
        tokio::time::sleep_until(began + at).await;
        let (how, failure) = match ask(app, &target).await {
            Ok(status) => (format!("was asked to shut down ({number} of {}) and answered {status}", plan.ask_at.len()), None),
            Err(why) => (format!("could not be asked to shut down ({number} of {})", plan.ask_at.len()), Some(why)),
        };
        note(app, machine, "worker.kill_attempt", &how, failure).await;
        if target.api_url.is_none() {
            break;
        }
    }
    let Some(process) = target.process else { return };
    for (at, signal, name) in [(plan.term_at, Signal::TERM, "SIGTERM"), (plan.kill_at, Signal::KILL, "SIGKILL")] {
        tokio::time::sleep_until(began + at).await;
        let (how, failure, over) = match process::signal(&process, signal) {
            Ok(()) => (format!("was sent {name} (pid {})", process.pid), None, false),
            // Nothing was tried, so there is nothing to tell.
            Err(SignalError::Elsewhere | SignalError::Own) => return,
            Err(SignalError::Ended) => (format!("has ended (pid {})", process.pid), None, true),
            Err(error @ SignalError::Kernel(_)) => {
                (format!("could not be sent {name} (pid {})", process.pid), Some(error.to_string()), false)
            }
        };
        note(app, machine, "worker.kill_attempt", &how, failure).await;
        if over {
            return;
        }
    }
}

/// Ends the session, so that whatever the worker still says is answered with "register again".
async fn revoke(app: &AppRef, machine: &Arc<Machine>) -> Option<Target> {
    let _storing = machine.storing.lock().await;
    let target = {
        let state = machine.lock();
        let process = state.session.as_ref()?.process.clone();
        Target { epoch: state.epoch, process, api_url: state.api_url.clone(), api_token: state.api_token.clone() }
    };
    let mut conn = match app.db.acquire().await {
        Ok(conn) => conn,
        Err(error) => return give_up_for_now(machine, &error),
    };
    match worker_revoke_session(&mut conn, machine.id, target.epoch).await {
        Ok(true) => {
            machine.lock().revoke(target.epoch.next());
            tracing::warn!(worker.id = %machine.id, "the session of a silent worker has been revoked");
            Some(target)
        }
        // Another session has begun meanwhile: there is nobody to kill.
        Ok(false) => None,
        Err(error) => give_up_for_now(machine, &error),
    }
}

/// Without its database the host can revoke nothing; the next look decides again.
fn give_up_for_now(machine: &Machine, error: &sqlx::Error) -> Option<Target> {
    tracing::warn!(worker.id = %machine.id, %error, "a silent worker's session could not be revoked");
    machine.lock().kill_begun = false;
    None
}

async fn ask(app: &AppRef, target: &Target) -> Result<u16, String> {
    let Some(url) = &target.api_url else { return Err("it has named no address of its own".to_owned()) };
    let client = app.fleet.http().map_err(|error| error.to_string())?;
    let url = format!("{}/shutdown?keep_servers=true&reason=stale&session_epoch={}", url.trim_end_matches('/'), target.epoch);
    let mut request = client.post(url).timeout(ASK_WITHIN);
    if let Some(token) = &target.api_token {
        request = request.bearer_auth(token);
    }
    match request.send().await {
        Ok(response) => Ok(response.status().as_u16()),
        Err(error) if error.is_timeout() => Err("no answer within 2 s".to_owned()),
        Err(error) if error.is_connect() => Err("nobody listens there".to_owned()),
        Err(error) => Err(error.without_url().to_string()),
    }
}

async fn note(app: &AppRef, machine: &Machine, kind: &'static str, how: &str, failure: Option<String>) {
    app.fleet.stats.kill_attempts.add(u64::from(kind == "worker.kill_attempt"));
    let name = machine.lock().name.clone();
    let message = failure.as_ref().map_or_else(|| format!("`{name}` {how}"), |why| format!("`{name}` {how}: {why}"));
    tracing::warn!(worker.id = %machine.id, worker.name = %name, what = how, failure, "attempt to kill a silent worker");
    let event = NewEvent {
        actor: "host".to_owned(),
        kind,
        worker_id: Some(machine.id),
        server_id: None,
        message,
        data: serde_json::json!({"how": how, "failure": failure}),
    };
    let recorded = async { event_insert(&mut *app.db.acquire().await?, clock::now(), &event).await };
    match recorded.await {
        Ok(_) => app.fleet.event_recorded(),
        Err(error) => tracing::error!(worker.id = %machine.id, %error, "an event could not be recorded"),
    }
}
