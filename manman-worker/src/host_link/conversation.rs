//! What is said over an open link: specs down, statuses and events up, calls and their replies, and
//! logs on demand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use manman_common::error::GoneReason;
use manman_common::link::{Hello, InventoryItem, ToHost, ToWorker};
use manman_common::{ServerId, ServerStatus};
use tokio::time::Instant;

use super::Seat;
use super::streams::Streams;
use super::transport::{Closed, Connection, LinkBroken, Outgoing};
use crate::api::error_chain;
use crate::clock;
use manman_link::sync::{Next, Sync};

/// Changes of status that come together are sent together; nobody sees the difference.
const STATUS_DELAY: Duration = Duration::from_millis(20);
/// Statuses of one frame: well below the longest frame, however much a game's query tells.
const STATUSES_MAX: usize = 200;
const EVENTS_MAX: u32 = 100;

/// How a conversation came to its end.
pub(super) enum Over {
    Goodbye {
        reason: GoneReason,
        detail: String,
    },
    Broken(LinkBroken),
    /// It was ended here, to begin anew.
    Again,
}

impl From<Closed> for Over {
    fn from(_: Closed) -> Self {
        Self::Broken(LinkBroken::Closed)
    }
}

pub(super) async fn converse(seat: &Seat, connection: Connection) -> Over {
    match Conversation::new(seat, connection.outgoing.clone()).run(connection).await {
        Ok(never) => match never {},
        Err(over) => over,
    }
}

struct Conversation<'a> {
    seat: &'a Seat,
    outgoing: Outgoing,
    sync: Sync,
    /// What the host has been told on this link.
    told: BTreeMap<ServerId, ServerStatus>,
    streams: Streams,
    /// The host's high-water mark of events, once it has said it; `None` while a batch is on its way.
    events_from: Option<u64>,
    /// The last event of the newest batch.
    events_sent: u64,
}

impl<'a> Conversation<'a> {
    fn new(seat: &'a Seat, outgoing: Outgoing) -> Self {
        let streams = Streams::new(Arc::clone(&seat.worker), outgoing.clone());
        Self { seat, sync: Sync::new(seat.worker.revision()), outgoing, told: BTreeMap::new(), streams, events_from: None, events_sent: 0 }
    }

    async fn run(mut self, mut connection: Connection) -> Result<std::convert::Infallible, Over> {
        let worker = Arc::clone(&self.seat.worker);
        let mut statuses = worker.watch_statuses();
        let mut events = worker.watch_events();
        let resync = &worker.link.resync;
        let mut statuses_due = None;
        self.hello().await?;
        loop {
            // Cancel-safe: each of these takes nothing unless it wins.
            tokio::select! {
                frame = connection.incoming.recv() => match frame {
                    Some(Ok(ToWorker::Welcome { event_seq, heartbeat_seconds: _ })) => {
                        self.events_stored(event_seq).await?;
                        statuses_due = Some(Instant::now());
                    }
                    Some(Ok(frame)) => self.receive(frame).await?,
                    Some(Err(error)) => return Err(Over::Broken(error)),
                    None => return Err(Over::Broken(LinkBroken::Closed)),
                },
                changed = statuses.changed() => match changed {
                    Ok(()) => { statuses_due.get_or_insert_with(|| Instant::now() + STATUS_DELAY); }
                    // The reconcile loop has ended, and so the worker is about to.
                    Err(_) => std::future::pending().await,
                },
                () = due(statuses_due) => {
                    statuses_due = None;
                    self.tell_statuses(&worker.statuses()).await?;
                }
                changed = events.changed() => match changed {
                    Ok(()) => self.send_events().await?,
                    Err(_) => std::future::pending().await,
                },
                () = resync.notified() => self.hello().await?,
            }
        }
    }

    async fn hello(&mut self) -> Result<(), Over> {
        let worker = &self.seat.worker;
        self.sync = Sync::new(worker.revision());
        // Of what no record mentions, no assignment is known.
        let epochs: BTreeMap<ServerId, u64> = match worker.records().await {
            Ok(records) => records.into_iter().map(|record| (record.spec.id, record.spec.epoch)).collect(),
            Err(error) => {
                tracing::error!(error = error_chain(&error), "what is stored can not be told to the host");
                return Err(Over::Broken(LinkBroken::Store));
            }
        };
        let inventory = worker
            .statuses()
            .values()
            .map(|status| InventoryItem {
                server: status.id,
                generation: status.generation,
                phase: status.phase,
                instance: status.instance,
                epoch: epochs.get(&status.id).copied().unwrap_or_default(),
            })
            .collect();
        let hello = Hello {
            session_epoch: self.seat.epoch,
            run_id: worker.process.run_id,
            boot_id: worker.process.boot_id.clone(),
            have_revision: self.sync.have(),
            inventory,
        };
        Ok(self.outgoing.send(ToHost::Hello(hello)).await?)
    }

    async fn receive(&mut self, frame: ToWorker) -> Result<(), Over> {
        match frame {
            // Taken care of by the loop, which knows when statuses are due.
            ToWorker::Welcome { .. } => Ok(()),
            ToWorker::RepliesStored { ids } => {
                if let Err(error) = self.seat.worker.store.replies_stored(ids, self.seat.epoch).await {
                    tracing::error!(error = error_chain(&error), "that the host has its answers can not be stored; they are kept longer");
                }
                Ok(())
            }
            ToWorker::Index { revision, servers } => {
                let differing = match self.seat.worker.differing(servers).await {
                    Ok(differing) => differing,
                    Err(error) => {
                        tracing::error!(error = error_chain(&error), "the host's index can not be held against what is stored");
                        return Err(Over::Broken(LinkBroken::Store));
                    }
                };
                let next = self.sync.index(revision, differing);
                self.follow(next).await
            }
            ToWorker::Specs { from_revision, revision, specs } => {
                let next = self.sync.specs(from_revision, revision, specs);
                self.follow(next).await
            }
            ToWorker::EventsStored { up_to } => self.events_stored(up_to).await,
            ToWorker::Call(call) => {
                self.seat.worker.calls.receive(&self.seat.worker, call, self.outgoing.clone());
                Ok(())
            }
            ToWorker::LogOpen { stream, server, query } => {
                self.streams.open(stream, server, query);
                Ok(())
            }
            ToWorker::LogCredit { stream, bytes } => {
                self.streams.credit(stream, bytes);
                Ok(())
            }
            ToWorker::LogClose { stream } => {
                self.streams.close(stream);
                Ok(())
            }
            ToWorker::Goodbye { reason, detail } => Err(Over::Goodbye { reason, detail }),
        }
    }

    async fn follow(&mut self, next: Next) -> Result<(), Over> {
        match next {
            Next::Pull(servers) => Ok(self.outgoing.send(ToHost::Pull { servers }).await?),
            Next::Resync => self.hello().await,
            Next::Store { specs, revision } => {
                // Nothing is acknowledged that a crash could lose.
                if let Err(error) = self.seat.worker.take_specs(specs, revision).await {
                    tracing::error!(error = error_chain(&error), revision = %revision, "what the host wants can not be stored");
                    return Err(Over::Broken(LinkBroken::Store));
                }
                self.sync.stored(revision);
                Ok(self.outgoing.send(ToHost::Ack { revision }).await?)
            }
        }
    }

    async fn tell_statuses(&mut self, statuses: &BTreeMap<ServerId, ServerStatus>) -> Result<(), Over> {
        let news: Vec<ServerStatus> = statuses.values().filter(|status| self.told.get(&status.id) != Some(status)).cloned().collect();
        for part in news.chunks(STATUSES_MAX) {
            self.outgoing.send(ToHost::Status { servers: part.to_vec() }).await?;
        }
        self.told.retain(|server, _| statuses.contains_key(server));
        self.told.extend(news.into_iter().map(|status| (status.id, status)));
        Ok(())
    }

    async fn events_stored(&mut self, up_to: u64) -> Result<(), Over> {
        if let Err(error) = self.seat.worker.store.events_stored_by_host(up_to, clock::now()).await {
            tracing::error!(error = error_chain(&error), "events that the host has can not be cleared");
        }
        // Said of an earlier batch, and heard twice: it sets no further one free, or each would call
        // for the next for ever.
        if self.events_from.is_none() && up_to < self.events_sent {
            return Ok(());
        }
        self.events_from = Some(up_to);
        self.send_events().await
    }

    /// One batch at a time: the next goes out when the host has stored this one.
    async fn send_events(&mut self) -> Result<(), Over> {
        let Some(from) = self.events_from else { return Ok(()) };
        match self.seat.worker.store.events_after(from, EVENTS_MAX).await {
            Ok(events) if events.is_empty() => Ok(()),
            Ok(events) => {
                self.events_from = None;
                self.events_sent = events.last().map_or(from, |event| event.seq);
                Ok(self.outgoing.send(ToHost::Events { events }).await?)
            }
            Err(error) => {
                tracing::error!(error = error_chain(&error), "events can not be read");
                Ok(())
            }
        }
    }
}

async fn due(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
