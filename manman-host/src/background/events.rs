//! Hands events to their streams in the order of their numbers.
//!
//! Numbers are drawn before a transaction commits, so a higher one may show before a lower one. A
//! stream that resumes by number must never have passed one over: a missing number is waited for,
//! shortly, since it may belong to a transaction that was rolled back.

use std::sync::Arc;
use std::time::Duration;

use manman_common::wire::Event;

use crate::app::AppRef;
use crate::clock;
use crate::db::event::{EventFilter, event_after, event_newest};

/// How long a missing number is waited for: longer than any transaction of ours takes.
const HOLE_MAX: Duration = Duration::from_millis(500);
/// The table is looked at this often even if nobody says that it has grown.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const BATCH: i64 = 500;

pub(super) async fn newest(app: &AppRef) -> sqlx::Result<i64> {
    event_newest(&mut *app.db.acquire().await?).await
}

pub(super) async fn run(app: AppRef, mut last: i64) {
    let mut hole_since = None;
    let mut timeline = app.fleet.timeline();
    loop {
        if timeline != app.fleet.timeline()
            && let Ok(newest) = newest(&app).await
        {
            // A database that went back in time counts from where it is.
            timeline = app.fleet.timeline();
            last = last.min(newest);
        }
        let fetched = async { event_after(&mut *app.db.acquire().await?, &EventFilter::default(), last, BATCH).await };
        let events = match fetched.await {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(%error, "events could not be read");
                Vec::new()
            }
        };
        let many = events.len() as i64 == BATCH;
        let (ready, hole) = in_order(last, events, hole_since.is_some_and(|since| clock::instant() - since >= HOLE_MAX));
        if let Some(event) = ready.last() {
            last = event.id;
            hole_since = None;
        }
        for event in ready {
            app.fleet.events.send(Arc::new(event));
        }
        let wait = if hole {
            hole_since.get_or_insert_with(clock::instant);
            HOLE_MAX / 5
        } else {
            hole_since = None;
            LOOK_EVERY
        };
        if !many || hole {
            // Either way the next pass looks at the table.
            let _ = tokio::time::timeout(wait, app.fleet.event_written.notified()).await;
        }
    }
}

/// The events up to the first missing number, and whether one is missing; with `patience_over`
/// the numbers that are missing now are not waited for.
fn in_order(last: i64, mut events: Vec<Event>, patience_over: bool) -> (Vec<Event>, bool) {
    if patience_over {
        return (events, false);
    }
    let whole = events.iter().zip(last + 1..).take_while(|(event, expected)| event.id == *expected).count();
    let hole = whole < events.len();
    events.truncate(whole);
    (events, hole)
}

#[cfg(test)]
mod tests {
    use manman_common::Timestamp;

    use super::*;

    fn events(ids: &[i64]) -> Vec<Event> {
        ids.iter()
            .map(|id| Event {
                id: *id,
                at: Timestamp::EPOCH,
                actor: String::new(),
                kind: String::new(),
                worker_id: None,
                server_id: None,
                message: String::new(),
                data: serde_json::Value::Null,
            })
            .collect()
    }

    #[test]
    fn a_missing_number_is_waited_for_and_then_given_up() {
        let ids = |(events, hole): (Vec<Event>, bool)| (events.iter().map(|event| event.id).collect::<Vec<_>>(), hole);
        assert_eq!(ids(in_order(4, events(&[5, 6]), false)), (vec![5, 6], false));
        assert_eq!(ids(in_order(4, events(&[5, 7, 8]), false)), (vec![5], true));
        assert_eq!(ids(in_order(5, events(&[7, 8]), false)), (vec![], true));
        assert_eq!(ids(in_order(5, events(&[7, 8]), true)), (vec![7, 8], false));
        assert_eq!(ids(in_order(5, events(&[]), false)), (vec![], false));
    }
}
