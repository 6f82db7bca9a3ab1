//! What happens to services, and who is not who it says it is, as events among all others.

use manman_common::wire::registry::{ServiceChange, ServiceEvent};
use manman_front_door::orchestrator::Incident;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::app::AppRef;
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::registry::OWN_NAME;

/// What happens together is written together.
const GATHER: std::time::Duration = std::time::Duration::from_millis(200);
/// Events of one gathering: whoever registers and leaves over and over fills no table.
const AT_ONCE: usize = 50;

pub(super) async fn run(app: AppRef, mut services: Receiver<std::sync::Arc<ServiceEvent>>) {
    let mut incidents = app.front_door.get().map(|door| door.orchestrator().incident_news());
    loop {
        let mut gathered = Gathered::default();
        // Cancel-safe: what one of them has received is gathered, and the other has received nothing.
        tokio::select! {
            change = services.recv() => match change {
                Ok(change) => gathered.change(&change),
                Err(RecvError::Lagged(missed)) => gathered.missed(missed),
                Err(RecvError::Closed) => return,
            },
            incident = next(&mut incidents) => gathered.incident(&incident),
        }
        tokio::time::sleep(GATHER).await;
        while let Ok(change) = services.try_recv() {
            gathered.change(&change);
        }
        while let Some(Ok(incident)) = incidents.as_mut().map(Receiver::try_recv) {
            gathered.incident(&incident);
        }
        let written = async {
            let mut tx = app.db.begin().await?;
            for event in gathered.events() {
                event_insert(&mut tx, clock::now(), &event).await?;
            }
            tx.commit().await
        };
        match written.await {
            Ok(()) => app.fleet.event_recorded(),
            Err(error) => tracing::warn!(%error, "what happened to services could not be recorded"),
        }
    }
}

async fn next(incidents: &mut Option<Receiver<Incident>>) -> Incident {
    let Some(news) = incidents else { return std::future::pending().await };
    loop {
        match news.recv().await {
            Ok(incident) => return incident,
            // They are all in the orchestrator's own list.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

#[derive(Default)]
struct Gathered {
    events: Vec<NewEvent>,
    more: u64,
}

impl Gathered {
    fn change(&mut self, event: &ServiceEvent) {
        let ServiceEvent { index, change, name, ip, port } = event;
        if name.as_str() == OWN_NAME {
            return;
        }
        let (kind, what) = match change {
            ServiceChange::Added => ("service.added", "is registered"),
            ServiceChange::Moved => ("service.moved", "is elsewhere now"),
            ServiceChange::Replaced => ("service.replaced", "is another one now"),
            ServiceChange::Removed => ("service.removed", "has left"),
            ServiceChange::Expired => ("service.expired", "has not shown up in its time"),
            ServiceChange::Discarded => ("service.discarded", "answers with another name and is discarded"),
            ServiceChange::Critical => ("service.critical", "does not answer"),
            ServiceChange::Passing => ("service.passing", "answers again"),
            ServiceChange::Dropped => ("service.dropped", "has not answered for too long and is dropped"),
        };
        self.add(NewEvent {
            actor: "registry".to_owned(),
            kind,
            message: format!("the service `{name}` at {ip}, port {port}, {what}"),
            data: serde_json::json!({ "index": index, "name": name, "ip": ip, "port": port }),
            ..NewEvent::default()
        });
    }

    fn incident(&mut self, incident: &Incident) {
        let Incident { name, peer, what, count, .. } = incident;
        self.add(NewEvent {
            actor: "orchestrator".to_owned(),
            kind: "orchestrator.incident",
            message: format!("{what}: `{name}` by {peer}"),
            data: serde_json::json!({ "name": name, "peer": peer, "what": what, "count": count }),
            ..NewEvent::default()
        });
    }

    fn add(&mut self, event: NewEvent) {
        if self.events.len() < AT_ONCE {
            self.events.push(event);
        } else {
            self.more += 1;
        }
    }

    fn missed(&mut self, count: u64) {
        self.more += count;
    }

    fn events(mut self) -> Vec<NewEvent> {
        if self.more > 0 {
            self.events.push(NewEvent {
                actor: "registry".to_owned(),
                kind: "service.more",
                message: format!("{} more changes of services came at the same moment", self.more),
                data: serde_json::json!({ "count": self.more }),
                ..NewEvent::default()
            });
        }
        self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_changes_is_told_in_few_words() {
        let mut gathered = Gathered::default();
        let change = |name: &str| ServiceEvent {
            index: 7,
            change: ServiceChange::Added,
            name: name.parse().expect("a name"),
            ip: "10.0.0.5".to_owned(),
            port: 80,
        };
        gathered.change(&change(OWN_NAME));
        for number in 0..AT_ONCE + 5 {
            gathered.change(&change(&format!("n{number}")));
        }
        let events = gathered.events();
        assert_eq!((events.len(), events[0].kind), (AT_ONCE + 1, "service.added"));
        assert_eq!(events[0].message, "the service `n0` at 10.0.0.5, port 80, is registered");
        assert!(events[AT_ONCE].message.starts_with("5 more"), "{}", events[AT_ONCE].message);
    }
}
