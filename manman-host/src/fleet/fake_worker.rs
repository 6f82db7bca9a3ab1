//! A worker for tests that behaves: over real sockets it registers, beats, keeps a link, stores the
//! specs it is sent, answers calls, and serves logs by credit. It runs no game.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use manman_common::client::{Client, ClientError, Endpoint, Socket};
use manman_common::link::{Call, Hello, InventoryItem, LOG_WINDOW, Reply, ToHost, ToWorker, encode_log_chunk, spec_hash};
use manman_common::logs::{LogEnd, LogQuery, LogRecord, LogStream};
use manman_common::session::Memory;
use manman_common::wire::{Beat, BeatAnswer, ProcessIdentity, RegisterWorker, Registered};
use manman_common::{Generation, InstanceId, LogSeq, Phase, Revision, RunId, ServerId, ServerSpec, ServerStatus, SessionEpoch, WorkerId};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::clock;
use crate::http::router::{Door, router};
use crate::testing::TestHost;

/// Serves the host's router on a real socket until the test ends.
pub(crate) async fn listen(host: &TestHost) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let service = router(&host.app, Door::Public).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    address
}

pub(crate) fn client(address: SocketAddr, token: &str) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let endpoint: Endpoint = format!("http://{address}").parse().expect("an endpoint");
    Client::new(endpoint, Some(token.to_owned())).expect("a client")
}

/// Waits for a condition, and says what it last saw.
#[track_caller]
pub(crate) fn eventually<T, F>(within: Duration, mut look: impl FnMut() -> F) -> impl Future<Output = T>
where
    F: Future<Output = Result<T, String>>,
{
    let place = std::panic::Location::caller();
    async move {
        let began = clock::instant();
        loop {
            match look().await {
                Ok(value) => return value,
                Err(seen) if began.elapsed() >= within => panic!("{place}: not within {within:?}; last seen: {seen}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

pub(crate) struct FakeWorker {
    pub(crate) id: WorkerId,
    pub(crate) epoch: SessionEpoch,
    pub(crate) process: ProcessIdentity,
    pub(crate) client: Client,
    pub(crate) state: Arc<State>,
    /// What it shows when it registers, and keeps of the answer.
    pub(crate) memory: Option<Memory>,
    link: Option<JoinHandle<()>>,
}

#[derive(Default)]
pub(crate) struct State {
    inner: Mutex<Inner>,
    /// A log has grown, or credit has come.
    moved: Notify,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) revision: Revision,
    pub(crate) specs: BTreeMap<ServerId, ServerSpec>,
    pub(crate) calls: Vec<Call>,
    /// Calls are taken and never answered.
    pub(crate) mute: bool,
    pub(crate) frozen: bool,
    /// What it says that it has, whatever it was sent.
    pub(crate) inventory: Vec<InventoryItem>,
    /// Frames as they came.
    pub(crate) seen: Vec<ToWorker>,
    logs: HashMap<ServerId, Vec<u8>>,
    credit: HashMap<u64, u64>,
    out: Option<mpsc::UnboundedSender<Message>>,
}

impl Inner {
    /// The commands for games among the calls.
    pub(crate) fn commands(&self) -> Vec<&Call> {
        self.calls.iter().filter(|call| call.path.ends_with("/command")).collect()
    }
}

impl State {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn process(home: &str) -> ProcessIdentity {
    ProcessIdentity {
        run_id: RunId::from_uuid(clock::new_uuid()),
        boot_id: "a boot".to_owned(),
        pid: 1,
        start_ticks: 1,
        home: home.to_owned(),
    }
}

pub(crate) fn registration(name: &str, process: Option<ProcessIdentity>) -> RegisterWorker {
    RegisterWorker {
        worker_name: name.parse().expect("a name"),
        ip_address: Some("192.168.1.10".to_owned()),
        api_url: None,
        api_port: None,
        api_token: None,
        capabilities: serde_json::from_value(json!({"drivers": [{"method": "docker", "ready": true}], "memory_bytes": 8_000_000_000_u64}))
            .expect("capabilities"),
        labels: BTreeMap::new(),
        process,
        own_token: None,
        memory: None,
    }
}

impl FakeWorker {
    /// A machine that joins with a join token.
    pub(crate) async fn join(host: &TestHost, address: SocketAddr, name: &str) -> Self {
        let join = host.token(manman_common::wire::Scope::Join, |_| ()).await;
        let process = process("home");
        let client = client(address, &join);
        let reservation = client.worker_reserve(&Default::default()).await.expect("a reservation");
        let registered = client.worker_register(reservation.id, &registration(name, Some(process.clone()))).await.expect("registered");
        let token = registered.token.expect("a token of its own");
        Self {
            id: registered.id,
            client: self::client(address, &token),
            epoch: registered.session_epoch,
            process,
            state: Arc::default(),
            memory: None,
            link: None,
        }
    }

    /// Registers with a memory from now on, as workers do.
    pub(crate) async fn remember(&mut self) -> Registered {
        self.memory = Some(Memory { session_epoch: self.epoch, ..Memory::default() });
        self.register(self.process.clone()).await.expect("a session")
    }

    /// A further session, by another process if it is given.
    pub(crate) async fn register(&mut self, process: ProcessIdentity) -> Result<Registered, ClientError> {
        let body = RegisterWorker { memory: self.memory.clone(), ..registration("any", Some(process.clone())) };
        let registered = self.client.worker_register(self.id, &body).await?;
        self.epoch = registered.session_epoch;
        if let Some(memory) = &mut self.memory {
            memory.session_epoch = registered.session_epoch;
            memory.resume_token.clone_from(&registered.resume_token);
            memory.timeline = memory.timeline.filter(|_| !registered.terms.rebased).or(registered.terms.timeline);
            memory.blank = false;
        }
        self.process = process;
        Ok(registered)
    }

    pub(crate) async fn beat(&self, servers: Vec<ServerStatus>) -> Result<BeatAnswer, ClientError> {
        let observed_revision = self.state.lock().revision;
        let state_seq = self.memory.as_ref().map_or(0, |memory| memory.state_seq);
        let beat = Beat { session_epoch: Some(self.epoch), observed_revision, servers, state_seq, ..Beat::default() };
        self.client.worker_beat(self.id, &beat).await
    }

    pub(crate) async fn dial(&self) -> Socket {
        self.client.websocket(&format!("/worker/{}/link", self.id)).await.expect("a socket")
    }

    pub(crate) fn hello(&self) -> ToHost {
        let inner = self.state.lock();
        ToHost::Hello(Hello {
            session_epoch: self.epoch,
            run_id: self.process.run_id,
            boot_id: self.process.boot_id.clone(),
            have_revision: inner.revision,
            inventory: inner.inventory.clone(),
        })
    }

    /// Opens the link and waits until the host's index has been worked through.
    pub(crate) async fn link(&mut self) {
        let socket = self.dial().await;
        let (out, frames) = mpsc::unbounded_channel();
        out.send(text(&self.hello())).expect("it is open");
        self.state.lock().out = Some(out.clone());
        self.state.lock().seen.clear();
        let (sink, stream) = socket.split();
        self.link = Some(tokio::spawn(converse(sink, stream, frames, out, Arc::clone(&self.state))));
        let state = Arc::clone(&self.state);
        eventually(Duration::from_secs(10), || async {
            let welcomed = state.lock().seen.iter().any(|frame| matches!(frame, ToWorker::Index { .. }));
            if welcomed { Ok(()) } else { Err("no index".to_owned()) }
        })
        .await;
    }

    /// The link is gone as after a SIGKILL: the socket closes, and nothing is said.
    pub(crate) async fn hang_up(&mut self) {
        if let Some(link) = self.link.take() {
            link.abort();
            let _ = link.await;
        }
        self.state.lock().out = None;
    }

    pub(crate) fn send(&self, frame: &ToHost) {
        let out = self.state.lock().out.clone().expect("a link");
        out.send(text(frame)).expect("it is open");
    }

    pub(crate) fn send_raw(&self, message: Message) {
        let out = self.state.lock().out.clone().expect("a link");
        out.send(message).expect("it is open");
    }

    /// Resolves when the host has closed the link.
    pub(crate) async fn link_closed(&mut self) {
        let link = self.link.take().expect("a link");
        tokio::time::timeout(Duration::from_secs(10), link).await.expect("the host closes it").expect("no panic");
    }

    pub(crate) fn has_spec(&self, server: ServerId) -> Option<ServerSpec> {
        self.state.lock().specs.get(&server).cloned()
    }

    /// Appends lines to a server's log.
    pub(crate) fn log(&self, server: ServerId, lines: impl IntoIterator<Item = String>) {
        {
            let mut inner = self.state.lock();
            let log = inner.logs.entry(server).or_default();
            let mut seq = manman_common::logs::records(log).last().map_or(LogSeq::new(0), |record| record.seq);
            for line in lines {
                seq = seq.next();
                let record = LogRecord { seq, time: "2026-11-20T12:00:00.000000001Z", stream: LogStream::Stdout, text: line.as_bytes() };
                record.write_to(log);
            }
        }
        self.state.moved.notify_waiters();
    }
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.abort();
        }
    }
}

pub(crate) fn text(frame: &ToHost) -> Message {
    Message::Text(serde_json::to_string(frame).expect("a frame").into())
}

/// A status as a worker reports it.
pub(crate) fn status(id: ServerId, generation: u64, phase: Phase) -> ServerStatus {
    let generation = Generation::new(generation);
    ServerStatus {
        id,
        generation,
        applied_generation: generation,
        phase,
        pending_restart: false,
        instance: phase.is_live().then(|| InstanceId::from_uuid(Uuid::from_u128(7))),
        restarts: 0,
        exit: None,
        players: None,
        progress: None,
        backoff_until: None,
        usage: None,
        conditions: Vec::new(),
        extra: BTreeMap::new(),
    }
}

async fn converse(
    mut sink: SplitSink<Socket, Message>,
    mut stream: SplitStream<Socket>,
    mut frames: mpsc::UnboundedReceiver<Message>,
    out: mpsc::UnboundedSender<Message>,
    state: Arc<State>,
) {
    let mut logs = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Some(message) = frames.recv() => {
                if sink.send(message).await.is_err() {
                    return;
                }
            }
            message = stream.next() => {
                let Some(Ok(message)) = message else { return };
                let Message::Text(text) = message else { continue };
                let frame: ToWorker = serde_json::from_str(&text).expect("the host sends frames");
                handle(frame, &out, &state, &mut logs);
            }
        }
    }
}

fn handle(frame: ToWorker, out: &mpsc::UnboundedSender<Message>, state: &Arc<State>, logs: &mut tokio::task::JoinSet<()>) {
    let say = |frame: &ToHost| drop(out.send(text(frame)));
    let mut inner = state.lock();
    inner.seen.push(frame.clone());
    match frame {
        ToWorker::Index { revision, servers } => {
            let differs = |(id, entry): (&ServerId, &manman_common::link::IndexEntry)| {
                let same = inner.specs.get(id).is_some_and(|spec| spec.generation == entry.generation && spec_hash(spec) == entry.hash);
                (!same).then_some(*id)
            };
            let servers: Vec<ServerId> = servers.iter().filter_map(differs).collect();
            if servers.is_empty() {
                inner.revision = revision;
                say(&ToHost::Ack { revision });
            } else {
                inner.revision = revision;
                say(&ToHost::Pull { servers });
            }
        }
        ToWorker::Specs { from_revision, revision, specs } => {
            assert!(from_revision <= inner.revision, "a gap: {from_revision} after {}", inner.revision);
            for spec in specs {
                let newer = inner.specs.get(&spec.id).is_none_or(|known| known.generation <= spec.generation);
                if newer {
                    inner.specs.insert(spec.id, spec);
                }
            }
            inner.revision = inner.revision.max(revision);
            say(&ToHost::Ack { revision: inner.revision });
        }
        ToWorker::Call(call) => {
            let reply = answer(&mut inner, &call);
            let id = call.id;
            inner.calls.push(call);
            if !inner.mute {
                say(&ToHost::Reply { id, reply });
            }
        }
        ToWorker::LogOpen { stream, server, query } => {
            inner.credit.insert(stream, LOG_WINDOW);
            logs.spawn(serve_log(stream, server, query, out.clone(), Arc::clone(state)));
        }
        ToWorker::LogCredit { stream, bytes } => {
            if let Some(credit) = inner.credit.get_mut(&stream) {
                *credit += bytes;
            }
            state.moved.notify_waiters();
        }
        ToWorker::LogClose { stream } => {
            inner.credit.remove(&stream);
            state.moved.notify_waiters();
        }
        ToWorker::Welcome { .. } | ToWorker::EventsStored { .. } | ToWorker::RepliesStored { .. } | ToWorker::Goodbye { .. } => {}
    }
}

fn answer(inner: &mut Inner, call: &Call) -> Reply {
    let (path, _) = call.path.split_once('?').unwrap_or((&call.path, ""));
    let body = match (call.method.as_str(), path) {
        ("POST", "/freeze") => {
            inner.frozen = true;
            json!({"status": "frozen"})
        }
        ("POST", "/unfreeze") => {
            inner.frozen = false;
            json!({"status": "alive"})
        }
        ("POST", "/shutdown") => json!({"status": "shutdown"}),
        ("POST", path) if path.ends_with("/command") => json!({"sent": [call.body["command"]], "answer": []}),
        _ => {
            let problem = manman_common::Problem::not_found("route", path);
            return Reply::problem(&problem);
        }
    };
    Reply { status: 200, body: if body.is_null() { Value::Null } else { body } }
}

/// Sends what the query asks for, never more than was granted.
async fn serve_log(stream: u64, server: ServerId, query: LogQuery, out: mpsc::UnboundedSender<Message>, state: Arc<State>) {
    let say = |frame: &ToHost| drop(out.send(text(frame)));
    let mut at = {
        let inner = state.lock();
        let log = inner.logs.get(&server).map_or(&[][..], Vec::as_slice);
        let seqs: Vec<u64> = manman_common::logs::records(log).map(|record| record.seq.get()).collect();
        let (first, last) = (seqs.first().copied().unwrap_or(0), seqs.last().copied().unwrap_or(0));
        say(&ToHost::LogOpened { stream, first_seq: LogSeq::new(first), last_seq: LogSeq::new(last) });
        let skip = match (query.since_seq, query.tail) {
            (Some(since), _) => since.get(),
            (None, Some(tail)) => last.saturating_sub(tail),
            (None, None) => 0,
        };
        let lines = log.split_inclusive(|byte| *byte == b'\n').take(usize::try_from(skip).expect("small"));
        lines.map(<[u8]>::len).sum::<usize>()
    };
    loop {
        let moved = state.moved.notified();
        let piece = {
            let mut inner = state.lock();
            let Some(credit) = inner.credit.get(&stream).copied() else { return };
            let log = inner.logs.get(&server).map_or(&[][..], Vec::as_slice);
            let room = usize::try_from(credit).expect("it fits").min(64 * 1024);
            let rest = &log[at..];
            let end =
                if rest.len() <= room { rest.len() } else { rest[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1) };
            let piece = rest[..end].to_vec();
            if !piece.is_empty() {
                inner.credit.insert(stream, credit - piece.len() as u64);
            } else if rest.is_empty() && query.follow == Some(false) {
                inner.credit.remove(&stream);
                say(&ToHost::LogEnded { stream, end: LogEnd::Complete });
                return;
            }
            piece
        };
        if piece.is_empty() {
            moved.await;
            continue;
        }
        at += piece.len();
        if out.send(Message::Binary(encode_log_chunk(stream, &piece).into())).is_err() {
            return;
        }
    }
}
