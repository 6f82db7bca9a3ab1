//! Streams of logs and events: how many are open for whom (each costs a window of memory, so nobody
//! may open them without end), and when they have to end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manman_common::logs::LogEnd;
use manman_common::{Kind, Problem, ServerId, TokenId};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::clock;
use crate::http::auth::Caller;

/// Streams of one token: a console with a page for each server, and room to spare.
const PER_TOKEN: usize = 64;
/// Streams of one server's log.
const PER_SERVER: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Readers {
    open: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    tokens: HashMap<TokenId, usize>,
    servers: HashMap<ServerId, usize>,
}

/// A place among the readers, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    readers: Arc<Readers>,
    token: TokenId,
    server: Option<ServerId>,
}

impl Readers {
    /// A place for a stream, of a server's log or of events; `None` where there are too many.
    pub(crate) fn enter(self: &Arc<Self>, token: TokenId, server: Option<ServerId>) -> Option<Place> {
        let mut counts = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let full = counts.tokens.get(&token).is_some_and(|count| *count >= PER_TOKEN)
            || server.and_then(|server| counts.servers.get(&server)).is_some_and(|count| *count >= PER_SERVER);
        if full {
            return None;
        }
        *counts.tokens.entry(token).or_default() += 1;
        if let Some(server) = server {
            *counts.servers.entry(server).or_default() += 1;
        }
        Some(Place { readers: Arc::clone(self), token, server })
    }

    pub(crate) fn count(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).tokens.values().sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.readers.open.lock().unwrap_or_else(PoisonError::into_inner);
        leave(&mut counts.tokens, &self.token);
        if let Some(server) = &self.server {
            leave(&mut counts.servers, server);
        }
    }
}

fn leave<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// A stream's right to go on: its place, and a token that is still good.
#[derive(Debug)]
pub(crate) struct Tenure {
    _place: Place,
    token: TokenId,
    revoked: broadcast::Receiver<TokenId>,
    expires: Option<Instant>,
    closing: CancellationToken,
}

impl Tenure {
    pub(crate) fn begin(app: &App, caller: &Caller, server: Option<ServerId>) -> Result<Self, Problem> {
        let place = app.fleet.readers.enter(caller.token_id, server).ok_or_else(|| {
            Problem::new(Kind::TooManyRequests, "too many streams are open for this token or this server")
                .hint("close some; one stream serves any number of lines")
                .retry_after(10)
        })?;
        let revoked = app.revoked.subscribe();
        // Revoked since the caller was looked up: the news has come and gone before we listened.
        if app.callers.is_revoked(caller.token_id) {
            return Err(Problem::new(Kind::Unauthenticated, "this token is not known here, or no longer valid"));
        }
        let left = |at: manman_common::Timestamp| at.since(clock::now()).min(Duration::from_secs(86_400 * 365));
        Ok(Self {
            _place: place,
            token: caller.token_id,
            revoked,
            expires: caller.expires_at.map(|at| Instant::now() + left(at)),
            closing: app.fleet.closing.clone(),
        })
    }

    /// Resolves when the stream has to end, with the reason. Cancel-safe.
    pub(crate) async fn over(&mut self) -> LogEnd {
        let Self { token, revoked, expires, closing, .. } = self;
        tokio::select! {
            () = revocation(revoked, *token) => LogEnd::Revoked,
            () = moment(*expires) => LogEnd::Revoked,
            () = closing.cancelled() => LogEnd::Shutdown,
        }
    }
}

async fn moment(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Resolves once this token is revoked. Cancel-safe.
pub(crate) async fn revocation(revoked: &mut broadcast::Receiver<TokenId>, token: TokenId) {
    loop {
        match revoked.recv().await {
            Ok(revoked) if revoked == token => return,
            Ok(_) => {}
            // It may have been among those that were missed: better one reconnect too many.
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn places_are_limited_and_come_back() {
        let readers = Arc::new(Readers::default());
        let token = TokenId::from_uuid(Uuid::from_u128(1));
        let server = Some(ServerId::from_uuid(Uuid::from_u128(2)));
        let mut places: Vec<_> = (0..PER_TOKEN).map(|_| readers.enter(token, server).expect("there is room")).collect();
        assert!(readers.enter(token, server).is_none());
        assert!(readers.enter(TokenId::from_uuid(Uuid::from_u128(3)), server).is_some(), "another token has its own places");
        places.pop();
        assert!(readers.enter(token, server).is_some());
        drop(places);
        assert_eq!(readers.count(), 0);
    }
}
