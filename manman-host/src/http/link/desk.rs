//! What is done with the frames of a link that concern tables: one after the other, away from the
//! log bytes and the answers to calls, which never wait for a database.

use std::collections::BTreeMap;
use std::sync::Arc;

use manman_common::link::{FRAME_MAX, Hello, IndexEntry, InventoryItem, ToHost, ToWorker, spec_hash};
use manman_common::wire::WorkerEvent;
use manman_common::{Phase, Revision, ServerId, ServerSpec};
use tokio::sync::mpsc;

use crate::app::AppRef;
use crate::config::HEARTBEAT_SECONDS;
use crate::db::server::revision_bump;
use crate::db::worker::report::report_events;
use crate::db::worker::spec::{spec_all, spec_changed_between, spec_pick};
use crate::db::worker::trust::worker_lift;
use crate::db::worker::{worker_desired_revision, worker_find};
use crate::fleet::link::{Farewell, Link};
use crate::fleet::log_queue::{Overrun, Piece};
use crate::fleet::machine::Machine;
use crate::fleet::trust::forgotten;
use crate::http::worker::freeze_call;

/// Frames that may wait for a database that is slow.
const DESK_MAX: usize = 64;
/// Events of one frame.
const EVENTS_MAX: usize = 1000;
/// Longest text of an event; a worker's own are a line or two.
const MESSAGE_MAX: usize = 4096;
const KIND_MAX: usize = 64;
/// Servers that one frame may ask for.
const PULL_MAX: usize = 10_000;
/// Specs of one frame, in bytes: well below the longest frame.
const SPECS_MAX: usize = FRAME_MAX / 2;

/// Why a link can not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("a frame is not understood: {0}")]
    Garbage(String),
    #[error("the link broke: {0}")]
    Broken(String),
    #[error("nothing came from the worker for a while")]
    Silent,
    #[error(transparent)]
    Overrun(#[from] Overrun),
    #[error("the host's database does not answer")]
    Database(#[from] sqlx::Error),
    #[error("the worker is not known any more")]
    Gone,
}

impl Fault {
    /// Ends the link for this reason; the worker may dial again.
    pub(super) fn close(&self, machine: &Machine, link: &Link) {
        match self {
            Self::Database(error) => {
                tracing::warn!(worker.id = %machine.id, %error, "a link is closed because the database does not answer")
            }
            Self::Garbage(_) | Self::Overrun(_) | Self::Silent | Self::Gone => {
                tracing::warn!(worker.id = %machine.id, why = %self, "a link is closed");
            }
            // A worker that ends, or its network: told with the end of the link.
            Self::Broken(_) => {}
        }
        link.close(Farewell { reason: None, detail: self.to_string() });
    }
}

/// Where the frames of one link go.
#[derive(Clone)]
pub(super) struct Intake {
    app: AppRef,
    machine: Arc<Machine>,
    link: Arc<Link>,
    desk: mpsc::Sender<ToHost>,
}

impl Intake {
    /// Starts the desk of a link; it ends with the link.
    pub(super) fn start(app: &AppRef, machine: &Arc<Machine>, link: &Arc<Link>) -> Self {
        let (desk, frames) = mpsc::channel(DESK_MAX);
        let worker = Desk { app: Arc::clone(app), machine: Arc::clone(machine), link: Arc::clone(link), sent: None };
        tokio::spawn(worker.run(frames));
        Self { app: Arc::clone(app), machine: Arc::clone(machine), link: Arc::clone(link), desk }
    }

    /// A text message.
    pub(super) async fn text(&self, json: &str) -> Result<(), Fault> {
        let frame = serde_json::from_str(&super::storable(json)).map_err(|error| Fault::Garbage(error.to_string()))?;
        self.frame(frame).await
    }

    pub(super) async fn frame(&self, frame: ToHost) -> Result<(), Fault> {
        self.app.fleet.stats.frames_from_workers.add(1);
        self.heard();
        match frame {
            ToHost::Reply { id, reply } => self.link.answered(id, reply),
            ToHost::LogOpened { stream, first_seq, last_seq } => self.link.log(stream, Piece::Opened { first_seq, last_seq })?,
            ToHost::LogGap { stream, gap } => {
                self.app.fleet.stats.log_gaps.add(gap.count);
                self.link.log(stream, Piece::Gap(gap))?;
            }
            ToHost::LogEnded { stream, end } => self.link.log(stream, Piece::End(end))?,
            ToHost::LogChunk { stream, chunk } => {
                self.app.fleet.stats.log_bytes.add(chunk.len() as u64);
                self.link.log(stream, Piece::Chunk(chunk.into()))?;
            }
            frame @ (ToHost::Hello(_) | ToHost::Pull { .. } | ToHost::Ack { .. } | ToHost::Status { .. } | ToHost::Events { .. }) => {
                // The desk is gone only with the link.
                let _ = self.desk.send(frame).await;
            }
        }
        Ok(())
    }

    /// Whatever comes shows that the worker lives; if that is news, the table hears of it.
    pub(super) fn heard(&self) {
        if !self.app.fleet.heard_on_link(&self.machine) {
            return;
        }
        let (app, machine) = (Arc::clone(&self.app), Arc::clone(&self.machine));
        tokio::spawn(async move {
            if let Err(error) = app.fleet.store_status(&app, &machine).await {
                tracing::warn!(worker.id = %machine.id, %error, "the worker's status could not be stored");
            }
        });
    }

    /// A binary message: bytes of a log, passed on as they are.
    pub(super) fn log(&self, mut message: bytes::Bytes) -> Result<(), Fault> {
        let Some((stream, _)) = manman_common::link::decode_log_chunk(&message) else {
            return Err(Fault::Garbage("a binary message has no stream number".to_owned()));
        };
        let chunk = message.split_off(8);
        self.app.fleet.stats.log_bytes.add(chunk.len() as u64);
        self.heard();
        Ok(self.link.log(stream, Piece::Chunk(chunk))?)
    }
}

struct Desk {
    app: AppRef,
    machine: Arc<Machine>,
    link: Arc<Link>,
    /// The revision up to which the worker has been sent everything, once it has had an index.
    sent: Option<Revision>,
}

impl Desk {
    async fn run(mut self, mut frames: mpsc::Receiver<ToHost>) {
        let link = Arc::clone(&self.link);
        loop {
            // Cancel-safe: each of them takes nothing unless it wins.
            let done = tokio::select! {
                () = link.closed() => return,
                frame = frames.recv() => match frame {
                    Some(frame) => self.handle(frame).await,
                    None => return,
                },
                () = link.desired.notified() => self.news().await,
            };
            if let Err(fault) = done {
                fault.close(&self.machine, &self.link);
                return;
            }
        }
    }

    async fn handle(&mut self, frame: ToHost) -> Result<(), Fault> {
        match frame {
            ToHost::Hello(hello) => self.hello(hello).await,
            ToHost::Pull { servers } => self.pull(servers).await,
            ToHost::Ack { revision } => {
                let mut state = self.machine.lock();
                state.observed_revision = revision;
                state.unsaved = true;
                Ok(())
            }
            ToHost::Status { servers } => Ok(self.app.fleet.take_in(&self.app, &self.machine, servers).await?),
            ToHost::Events { events } => self.events(events).await,
            // Answered before they come here.
            ToHost::Reply { .. } | ToHost::LogOpened { .. } | ToHost::LogGap { .. } | ToHost::LogEnded { .. } | ToHost::LogChunk { .. } => {
                Ok(())
            }
        }
    }

    /// A beginning, or a beginning again after a frame that did not fit.
    async fn hello(&mut self, hello: Hello) -> Result<(), Fault> {
        if hello.session_epoch != self.link.epoch {
            return Err(Fault::Garbage("a Hello of another session".to_owned()));
        }
        self.app.fleet.confirm_resume(&self.app, &self.machine, hello.session_epoch).await;
        self.app.fleet.take_inventory(&self.app, &self.machine, &hello.inventory).await?;
        self.lift(&hello.inventory).await?;
        let mut conn = self.app.db.acquire().await?;
        let row = worker_find(&mut conn, self.machine.id).await?.ok_or(Fault::Gone)?;
        // The revision is read first: specs that are newer than it come once more, and change nothing.
        let specs = spec_all(&mut conn, self.machine.id).await?;
        drop(conn);
        let servers: BTreeMap<ServerId, IndexEntry> =
            specs.iter().map(|spec| (spec.id, IndexEntry { generation: spec.generation, hash: spec_hash(spec) })).collect();
        {
            let mut state = self.machine.lock();
            state.observed_revision = hello.have_revision;
            state.desired_revision = row.desired_revision;
            state.unsaved = true;
        }
        self.send(ToWorker::Welcome { event_seq: row.event_seq, heartbeat_seconds: HEARTBEAT_SECONDS });
        self.send(ToWorker::Index { revision: row.desired_revision, servers });
        self.sent = Some(row.desired_revision);
        self.push_freeze(row.frozen);
        Ok(())
    }

    /// A host that has forgotten goes on above what the worker has seen: otherwise all it says would
    /// be old news.
    async fn lift(&self, inventory: &[InventoryItem]) -> Result<(), Fault> {
        let equal_too = self.machine.lock().standing.lift_equal;
        let mut tx = self.app.db.begin().await?;
        let known: BTreeMap<ServerId, (u64, u64)> =
            spec_all(&mut tx, self.machine.id).await?.into_iter().map(|spec| (spec.id, (spec.generation.get(), spec.epoch))).collect();
        let lifted: Vec<_> = forgotten(inventory, |server| known.get(&server).copied(), equal_too)
            // The epoch of what it let go of is another's: with that it would start the world beside its owner.
            .map(|item| (item.server, item.generation, if item.phase == Phase::Deleted { 0 } else { item.epoch }))
            .collect();
        if lifted.is_empty() {
            self.machine.lock().standing.lift_equal = false;
            return Ok(());
        }
        let revision = revision_bump(&mut tx, self.machine.id).await?;
        worker_lift(&mut tx, self.machine.id, &lifted, revision).await?;
        tx.commit().await?;
        tracing::warn!(worker.id = %self.machine.id, servers = lifted.len(), "the host had forgotten generations that the worker has seen");
        {
            let mut state = self.machine.lock();
            state.standing.lift_equal = false;
            if state.standing.must_let_go().is_some() {
                state.standing.let_go_by(revision);
            }
        }
        for (server, _, _) in lifted {
            self.app.fleet.server_changed(server);
        }
        Ok(())
    }

    /// A worker that was away when somebody froze it hears of it now.
    fn push_freeze(&self, frozen: bool) {
        if !frozen {
            return;
        }
        let (link, worker) = (Arc::clone(&self.link), self.machine.id);
        tokio::spawn(async move {
            let call = freeze_call(true);
            let within = std::time::Duration::from_millis(call.ttl_ms.into());
            if let Err(error) = link.call(call, within).await {
                tracing::warn!(worker.id = %worker, %error, "the worker could not be told that it is frozen");
            }
        });
    }

    async fn pull(&mut self, servers: Vec<ServerId>) -> Result<(), Fault> {
        let Some(sent) = self.sent else { return Err(Fault::Garbage("a Pull before the Hello".to_owned())) };
        if servers.len() > PULL_MAX {
            return Err(Fault::Garbage(format!("a Pull of {} servers", servers.len())));
        }
        let specs = spec_pick(&mut *self.app.db.acquire().await?, self.machine.id, &servers).await?;
        // Deltas up to `sent` have gone out already, so these fill holes and move nothing on.
        self.send_specs(sent, sent, specs);
        Ok(())
    }

    /// Sends what has changed since the last that was sent.
    async fn news(&mut self) -> Result<(), Fault> {
        let Some(sent) = self.sent else { return Ok(()) };
        let mut conn = self.app.db.acquire().await?;
        let newest = worker_desired_revision(&mut conn, self.machine.id).await?.ok_or(Fault::Gone)?;
        if newest <= sent {
            return Ok(());
        }
        let specs = spec_changed_between(&mut conn, self.machine.id, sent, newest).await?;
        drop(conn);
        {
            let mut state = self.machine.lock();
            state.desired_revision = state.desired_revision.max(newest);
        }
        self.send_specs(sent, newest, specs);
        self.sent = Some(newest);
        Ok(())
    }

    /// In one frame, or in several of which only the last moves the revision.
    fn send_specs(&self, from_revision: Revision, revision: Revision, specs: Vec<ServerSpec>) {
        let mut part = Vec::new();
        let mut size = 0;
        for spec in specs {
            let length = serde_json::to_vec(&spec).map_or(0, |json| json.len());
            if size + length > SPECS_MAX && !part.is_empty() {
                self.send(ToWorker::Specs { from_revision, revision: from_revision, specs: std::mem::take(&mut part) });
                size = 0;
            }
            size += length;
            part.push(spec);
        }
        self.send(ToWorker::Specs { from_revision, revision, specs: part });
    }

    async fn events(&mut self, events: Vec<WorkerEvent>) -> Result<(), Fault> {
        if events.len() > EVENTS_MAX {
            return Err(Fault::Garbage(format!("{} events in one frame", events.len())));
        }
        let events: Vec<WorkerEvent> = events.into_iter().map(bounded).collect();
        let actor = format!("worker {}", self.machine.lock().name);
        let mut tx = self.app.db.begin().await?;
        let up_to = report_events(&mut tx, self.machine.id, &actor, &events).await?;
        tx.commit().await?;
        self.app.fleet.event_recorded();
        self.send(ToWorker::EventsStored { up_to });
        Ok(())
    }

    fn send(&self, frame: ToWorker) {
        self.app.fleet.stats.frames_to_workers.add(1);
        // A link that is closed ends this desk at its next turn.
        self.link.send(frame);
    }
}

/// An event cut to what one may reasonably be; a worker's words are kept, its excesses are not.
fn bounded(mut event: WorkerEvent) -> WorkerEvent {
    if event.message.chars().nth(MESSAGE_MAX).is_some() {
        event.message = event.message.chars().take(MESSAGE_MAX).collect();
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    event.kind = event.kind.chars().filter(|c| fits(*c)).take(KIND_MAX).collect();
    event
}
