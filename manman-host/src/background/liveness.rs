//! Looks every second at who has gone silent, and does what the rules say.

use std::time::Duration;

use manman_common::WorkerStatus;
use tokio::time::MissedTickBehavior;

use crate::app::AppRef;
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::worker::{Admission, worker_delete};
use crate::domain::liveness::{Verdict, Watched};
use crate::fleet::machine::Machine;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A gap between two looks that says that the host itself stood still: stopped by somebody, or out
/// of memory. Beats then lie unread in its sockets.
const PAUSE: Duration = Duration::from_secs(5);

/// A machine that asked to join and went away is forgotten after this time.
const PENDING_KEPT: Duration = Duration::from_secs(3600);

pub(super) async fn run(app: AppRef) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked = clock::instant();
    loop {
        ticks.tick().await;
        let now = clock::instant();
        if now.saturating_duration_since(looked) > PAUSE {
            tracing::warn!("the host stood still; it judges nobody until it has settled");
            app.fleet.watch().paused();
        }
        looked = now;
        look(&app).await;
        app.fleet.tell_silences();
        app.fleet.lift_quarantines(&app).await;
        app.fleet.polls.tidy();
    }
}

async fn look(app: &AppRef) {
    let machines = app.fleet.machines();
    let judged = {
        let mut watch = app.fleet.watch();
        let watched: Vec<Watched> = machines
            .iter()
            .filter_map(|machine| {
                let state = machine.lock();
                let expected = state.admission == Admission::Accepted
                    && matches!(state.status, WorkerStatus::Alive | WorkerStatus::Frozen | WorkerStatus::Unknown);
                expected.then(|| Watched {
                    id: machine.id,
                    last_seen: watch.moment(state.last_seen),
                    unknown_since: state.unknown_since.map(|since| watch.moment(since)),
                    kill_begun: state.kill_begun,
                })
            })
            .collect();
        watch.judge(&watched)
    };
    if let Some(alert) = judged.alert {
        let message = format!(
            "{} of {} workers fell silent together: the host doubts its own network and judges nobody for a while",
            alert.silent, alert.fleet
        );
        tracing::warn!(silent = alert.silent, fleet = alert.fleet, "the host doubts its own sight");
        record(app, "host.settling", message, serde_json::json!({"silent": alert.silent, "fleet": alert.fleet})).await;
    }
    for verdict in judged.verdicts {
        match verdict {
            Verdict::Unknown(id) => {
                if let Some(machine) = app.fleet.machine(id) {
                    machine.lock().give_up(app.fleet.unknown_after());
                }
            }
            Verdict::Kill(id) => {
                if let Some(machine) = app.fleet.machine(id) {
                    app.fleet.begin_kill(app, &machine);
                }
            }
        }
    }
    for machine in &machines {
        tidy(app, machine).await;
    }
}

/// Brings the table up to date where that has not been possible before, closes a link that has
/// gone silent with its worker, and forgets machines that no longer ask to join.
async fn tidy(app: &AppRef, machine: &Machine) {
    let (unstored, abandoned) = {
        let state = machine.lock();
        let silence = clock::instant().saturating_duration_since(state.last_seen);
        (state.stored != (state.status, state.frozen), state.admission == Admission::Pending && silence > PENDING_KEPT)
    };
    if unstored && let Err(error) = app.fleet.store_status(app, machine).await {
        tracing::warn!(worker.id = %machine.id, %error, "the worker's status could not be stored");
    }
    if abandoned {
        let deleted = async { worker_delete(&mut *app.db.acquire().await?, machine.id, clock::now()).await };
        match deleted.await {
            Ok(_) => drop(app.fleet.remove(machine.id)),
            Err(error) => tracing::warn!(worker.id = %machine.id, %error, "a machine that no longer asks could not be forgotten"),
        }
    }
}

async fn record(app: &AppRef, kind: &'static str, message: String, data: serde_json::Value) {
    let event = NewEvent { actor: "host".to_owned(), kind, worker_id: None, server_id: None, message, data };
    let recorded = async { event_insert(&mut *app.db.acquire().await?, clock::now(), &event).await };
    match recorded.await {
        Ok(_) => app.fleet.event_recorded(),
        Err(error) => tracing::error!(%error, "an event could not be recorded"),
    }
}
