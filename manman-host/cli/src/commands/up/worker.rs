//! The worker that runs with the host, started again when it ends by a fault.

use std::path::Path;
use std::time::Duration;

use manman_common::WorkerStatus;
use manman_common::client::Client;
use manman_common::wire::{CreateToken, Scope};
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
        config.join_token = join_token(&client).await;
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

/// Lets it in without a person. A worker that has joined before needs none, so a refusal is no fault.
async fn join_token(client: &Client) -> Option<String> {
    let create = CreateToken { scope: Scope::Join, label: "manman up".to_owned(), expires_in: Some(JOIN_SECONDS), server_id: None };
    match client.token_create(&create).await {
        Ok(made) => Some(made.token),
        Err(error) => {
            tracing::warn!(%error, "could not make a join token for the worker");
            None
        }
    }
}

/// Waits until the host has the worker, and says its id; none where it takes too long.
pub(super) async fn linked(ready: &Ready) -> Option<manman_common::WorkerId> {
    let mut link = ready.link.clone();
    let linked = link.wait_for(|link| link.linked && link.status.is_some_and(|status| status != WorkerStatus::Pending));
    let state = tokio::time::timeout(LINK_PATIENCE, linked).await.ok()?.ok()?;
    state.registration.as_ref().map(|registration| registration.worker_id)
}
