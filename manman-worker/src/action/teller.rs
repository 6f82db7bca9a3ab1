//! What a run tells of itself while it goes on: at once to whoever waits, and now and then as events.

use std::sync::Arc;
use std::time::Duration;

use manman_common::status::Progress;
use manman_common::wire::ActionRun;
use serde_json::json;
use tokio::sync::watch;

use crate::clock;
use crate::store::{NewEvent, Store};

/// Between two events of one run, which cross the house and stay in a table.
const EVERY: Duration = Duration::from_secs(1);
/// Of one run; whoever waits for it sees all that follows.
const EVENTS_MAX: u32 = 300;
/// Longest word of progress, in characters.
const STEP_MAX: usize = 300;
/// What stands in a secret's place.
const HIDDEN: &str = "***";

/// Cheap to clone, and to be used from anywhere.
#[derive(Clone)]
pub(super) struct Teller {
    run: Arc<watch::Sender<ActionRun>>,
    secrets: Arc<Vec<String>>,
}

impl Teller {
    pub(super) fn new(run: ActionRun, mut secrets: Vec<String>) -> (Self, watch::Receiver<ActionRun>) {
        // The longest first: one may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let (sender, told) = watch::channel(run);
        (Self { run: Arc::new(sender), secrets: Arc::new(secrets) }, told)
    }

    pub(super) fn now(&self) -> ActionRun {
        self.run.borrow().clone()
    }

    pub(super) fn set(&self, run: ActionRun) {
        self.run.send_replace(run);
    }

    pub(super) fn say(&self, percent: Option<u8>, step: &str) {
        let line = step.trim();
        let step: String = self.hide(line).chars().map(|c| if c.is_control() { ' ' } else { c }).take(STEP_MAX).collect();
        let progress = Progress { percent: percent.map(|percent| percent.min(100)), step };
        self.run.send_if_modified(|run| {
            let changed = run.progress.as_ref() != Some(&progress);
            run.progress = Some(progress);
            changed
        });
    }

    /// Without what the person gave as a secret.
    pub(super) fn hide(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), HIDDEN))
    }

    /// Makes events of the progress, as often as is good. Never ends by itself.
    pub(super) async fn herald(&self, store: &Store) {
        let mut told = self.run.subscribe();
        for _ in 0..EVENTS_MAX {
            if told.changed().await.is_err() {
                break;
            }
            let run = told.borrow_and_update().clone();
            let Some(progress) = &run.progress else { continue };
            let mut event = event("server.action_progress", &run, &progress.step);
            event.metric = true;
            event.data["percent"] = json!(progress.percent);
            event.data["step"] = json!(progress.step);
            if let Err(error) = store.append_events(vec![event]).await {
                tracing::debug!(%error, "a word of progress is not kept");
            }
            tokio::time::sleep(EVERY).await;
        }
        std::future::pending().await
    }
}

/// An event of a run: who asked for what, and what became of it.
pub(super) fn event(kind: &str, run: &ActionRun, word: &str) -> NewEvent {
    let mut data = json!({"action": run.action, "action_id": run.id, "actor": run.actor, "inputs": run.inputs, "state": run.state});
    if let Some(reason) = run.reason {
        data["reason"] = json!(reason);
    }
    if kind == "server.action" {
        // What is asked for later, when its worker may be away.
        data["run"] = json!(ActionRun { answer: short(&run.answer), ..run.clone() });
    }
    NewEvent {
        at: clock::now(),
        kind: kind.to_owned(),
        server_id: Some(run.server_id),
        message: format!("the action `{}` {word}", run.action),
        data,
        metric: false,
    }
}

/// Longest answer that an event carries, in bytes of its JSON.
const ANSWER_MAX: usize = 16 << 10;

fn short(answer: &serde_json::Value) -> serde_json::Value {
    if answer.to_string().len() <= ANSWER_MAX { answer.clone() } else { json!("(too long for an event; its worker has it)") }
}
