//! The worker that runs with the host, started again when it ends by a fault.

use std::path::Path;
use std::time::Duration;

use manman_common::client::Client;
use manman_common::wire::{CreateToken, Scope};
use manman_common::{WorkerId, WorkerStatus};
use manman_worker::config::{Config, DockerMode};
use manman_worker::{ExitReason, Ready, RunError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::failure::Failure;
use crate::output::warn;

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// A worker that lived so long was well: the next fault is a new one.
const LIVED: Duration = Duration::from_secs(600);

/// Enough for one registration; the worker has a token of its own from then on.
const JOIN_SECONDS: u64 = 600;

/// The first registration; the link follows within milliseconds.
const LINK_PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn config(data: &Path, name: Option<manman_common::Name>, docker: DockerMode, client: &Client) -> Config {
    let mut config = Config::new(data.join("worker"));
    config.host = Some(client.endpoint().clone());
    // The host's own orchestrator: it shows the worker at the front door.
    config.orchestrator = Some(client.endpoint().clone());
    config.docker = docker;
    if let Some(name) = name {
        config.name = name;
    }
    config
}

/// What becomes of the worker.
pub(super) enum Happened {
    Up(Ready),
    /// It can not even begin; sent for the first start only.
    Refused(RunError),
    /// Its servers are stopped, and so is it, because somebody asked for that.
    Drained,
}

/// Runs the worker until `stop`, over and over.
pub(super) async fn supervise(mut config: Config, client: Client, happened: mpsc::Sender<Happened>, stop: CancellationToken) {
    let mut retry = RETRY_FIRST;
    let mut first = true;
    loop {
        config.join_token = join_token(&client, &config).await;
        let began = clock::instant();
        let (ready, is_ready) = oneshot::channel();
        // A task of its own: a panic in the worker is one more fault to be started again after.
        let run = tokio::spawn(manman_worker::run_with_ready(config.clone(), ready, stop.clone().cancelled_owned()));
        if let Ok(ready) = is_ready.await {
            first = false;
            let _ = happened.send(Happened::Up(ready)).await;
        }
        let fault = match run.await {
            Ok(Ok(ExitReason::Stopped)) if stop.is_cancelled() => return,
            Ok(Ok(ExitReason::Drained | ExitReason::HandedOver)) => {
                let _ = happened.send(Happened::Drained).await;
                return;
            }
            Ok(Ok(ExitReason::Stopped)) => "it ended by itself".to_owned(),
            Ok(Ok(ExitReason::Stale)) => "its host had given it up".to_owned(),
            Ok(Err(error)) if first => {
                let _ = happened.send(Happened::Refused(error)).await;
                return;
            }
            Ok(Err(error)) => Failure::new("it failed").because(&error).causes.join(": "),
            Err(_) => "it panicked".to_owned(),
        };
        if stop.is_cancelled() {
            return;
        }
        if began.elapsed() >= LIVED {
            retry = RETRY_FIRST;
        }
        warn(&format!("the worker ended ({fault}); it starts again in {} s, games run on", retry.as_secs()));
        tokio::select! {
            () = tokio::time::sleep(retry) => {}
            () = stop.cancelled() => return,
        }
        retry = (retry * 2).min(RETRY_LONGEST);
    }
}

/// Lets a worker in that has never joined; one that has shows its own token.
async fn join_token(client: &Client, config: &Config) -> Option<String> {
    if config.data_dir.join("worker.sqlite").exists() {
        return None;
    }
    let create = CreateToken { scope: Scope::Join, label: "manman up".to_owned(), expires_in: Some(JOIN_SECONDS), server_id: None };
    match client.token_create(&create).await {
        Ok(made) => Some(made.token),
        Err(error) => {
            tracing::warn!(%error, "could not make a join token for the worker");
            None
        }
    }
}

/// Waits until the host has the worker, and says its id; none where it takes too long. One that the
/// host has forgotten asks to join like any other, and is accepted: it is this machine's own.
pub(super) async fn linked(ready: &Ready, client: &Client) -> Option<WorkerId> {
    let mut link = ready.link.clone();
    let joining = async {
        loop {
            let state = link.borrow_and_update().clone();
            let id = state.registration.as_ref().map(|registration| registration.worker_id);
            match (state.status, id) {
                (Some(WorkerStatus::Pending), Some(id)) => {
                    if let Err(error) = client.worker_accept(&id.to_string()).await {
                        tracing::warn!(worker.id = %id, %error, "could not accept this machine's own worker");
                    }
                }
                (Some(_), Some(id)) if state.linked => return Some(id),
                _ => {}
            }
            link.changed().await.ok()?;
        }
    };
    tokio::time::timeout(LINK_PATIENCE, joining).await.ok()?
}
