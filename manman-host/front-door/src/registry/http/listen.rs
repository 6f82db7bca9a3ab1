//! What changes, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use manman_common::wire::registry::ServiceEvent;
use manman_common::{Kind, Problem};
use tokio::sync::broadcast::{self, error::RecvError};

use super::super::Registry;
use super::Refusal;

struct Listener {
    registry: Registry,
    news: broadcast::Receiver<Arc<ServiceEvent>>,
    /// What is older than this is in the map that was sent.
    after: u64,
    /// The map is to be sent: first of all, and when the listener has missed something.
    whole: bool,
}

/// At most so many at a time; each is a connection and a place in the queue of news.
const LISTENERS_MAX: usize = 256;

pub(super) fn listen(registry: &Registry) -> Result<Response, Refusal> {
    if registry.0.news.receiver_count() >= LISTENERS_MAX {
        return Err(Problem::new(Kind::Unavailable, "too many listen already").retry_after(10).into());
    }
    // Subscribed before the map is looked at, so that nothing falls between.
    let listener = Listener { news: registry.changes(), registry: registry.clone(), after: 0, whole: true };
    let events = stream::unfold(listener, async |mut listener| {
        let event = listener.next().await?;
        Some((Ok::<_, Infallible>(event), listener))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

impl Listener {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if std::mem::take(&mut self.whole) {
                let (index, list) = self.registry.with(|state, now| (state.index(), state.list(now, false)));
                self.after = index;
                return Some(Event::default().event("services").id(index.to_string()).data(String::from_utf8_lossy(&list)));
            }
            match self.news.recv().await {
                Ok(event) if event.index <= self.after => {}
                Ok(event) => {
                    // Text and numbers: it can always be written.
                    let data = serde_json::to_string(&*event).unwrap_or_default();
                    return Some(Event::default().event(event.change.as_str()).id(event.index.to_string()).data(data));
                }
                Err(RecvError::Lagged(_)) => self.whole = true,
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
