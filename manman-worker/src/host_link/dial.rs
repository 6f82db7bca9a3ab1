//! Keeps the link open: a WebSocket, or a long poll where something between refuses WebSockets.

use std::time::Duration;

use manman_common::client::ClientError;
use tokio::sync::watch;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::conversation::{Over, converse};
use super::transport::{Connection, LinkBroken, open_poll, open_socket};
use super::{Ended, Seat, ends_session};
use crate::api::error_chain;

/// Refusals of the WebSocket after which a long poll is tried.
const REFUSALS_MAX: u32 = 2;
/// How long a long poll goes on before the WebSocket is tried again.
const POLL_FOR: Duration = Duration::from_secs(600);
/// A link that held so long was a sound one: the next is dialled without delay.
const SOUND_AFTER: Duration = Duration::from_secs(10);

pub(super) async fn keep_linked(seat: &Seat, mut accepted: watch::Receiver<bool>) -> Ended {
    let mut backoff = Backoff::new(seat.client.endpoint().is_loopback());
    let mut refusals = 0;
    loop {
        if accepted.wait_for(|accepted| *accepted).await.is_err() {
            // The beats have ended; their reason is the session's.
            std::future::pending::<()>().await;
        }
        let began = Instant::now();
        let mut retry_after = None;
        match open(seat, &mut refusals).await {
            Ok((connection, limit)) => {
                seat.worker.link_state.send_modify(|state| state.linked = true);
                // Cancel-safe: a conversation that is dropped is a link that broke.
                let over = tokio::select! {
                    over = converse(seat, connection) => over,
                    () = after(limit) => Over::Again,
                };
                seat.worker.link_state.send_modify(|state| state.linked = false);
                match over {
                    Over::Goodbye { reason, detail } => return Ended::Gone { reason, detail },
                    Over::Broken(LinkBroken::Refused(problem)) => {
                        let error = ClientError::Refused(problem);
                        if let Some(ended) = ends_session(&error) {
                            return ended;
                        }
                        retry_after = error.problem().and_then(|problem| problem.retry_after);
                        tracing::warn!(error = error_chain(&error), "the host refused the link; dialling again");
                    }
                    Over::Broken(error) => tracing::warn!(error = error_chain(&error), "the link to the host broke; dialling again"),
                    Over::Again => {
                        refusals = 0;
                        continue;
                    }
                }
                if began.elapsed() >= SOUND_AFTER {
                    backoff.reset();
                }
            }
            Err(error) => {
                if let Some(ended) = ends_session(&error) {
                    return ended;
                }
                retry_after = error.problem().and_then(|problem| problem.retry_after);
                tracing::debug!(error = error_chain(&error), "the host's link can not be opened");
            }
        }
        // Cancel-safe: both only wait.
        tokio::select! {
            () = tokio::time::sleep(backoff.next(retry_after)) => {}
            () = seat.worker.link.reachable.notified() => backoff.reset(),
        }
    }
}

/// Opens a link, and says how long to keep it before trying for a better one.
async fn open(seat: &Seat, refusals: &mut u32) -> Result<(Connection, Option<Duration>), ClientError> {
    if *refusals < REFUSALS_MAX {
        match open_socket(&seat.client, seat.id).await {
            Ok(connection) => {
                *refusals = 0;
                return Ok((connection, None));
            }
            Err(error) if is_refused_upgrade(&error) => {
                *refusals += 1;
                if *refusals < REFUSALS_MAX {
                    return Err(error);
                }
                tracing::warn!(error = error_chain(&error), "no WebSocket to the host; going on with long polls");
            }
            Err(error) => return Err(error),
        }
    }
    Ok((open_poll(&seat.client, seat.id, seat.epoch), Some(POLL_FOR)))
}

/// Whether something answered that does not speak WebSocket, rather than nobody or a judge.
fn is_refused_upgrade(error: &ClientError) -> bool {
    match error {
        ClientError::Refused(problem) => ends_session(error).is_none() && !matches!(problem.status, 403 | 409 | 429 | 503),
        ClientError::Status { .. } | ClientError::Socket { .. } | ClientError::Answer { .. } => true,
        ClientError::Unreachable { .. } | ClientError::Token | ClientError::Setup { .. } | ClientError::Endpoint(_) => false,
    }
}

async fn after(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}
