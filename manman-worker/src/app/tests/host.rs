//! A small host that behaves: it admits workers, gives them sessions and tokens, answers beats,
//! and speaks its side of the link over real sockets.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use manman_common::error::GoneReason;
use manman_common::link::{Call, Hello, IndexEntry, PollAnswer, PollRequest, Reply, ToHost, ToWorker, decode_log_chunk, spec_hash};
use manman_common::session::SessionTerms;
use manman_common::wire::{Beat, BeatAnswer, RegisterWorker, Registered, Reservation, ReserveWorker, WorkerEvent};
use manman_common::{CommandId, Kind, Problem, Revision, ServerId, ServerSpec, ServerStatus, SessionEpoch, WorkerId, WorkerStatus};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

pub(crate) const JOIN_TOKEN: &str = "mm_join_sesame";

/// Cheap to clone; all clones are one host.
#[derive(Clone)]
pub(crate) struct TestHost {
    state: Arc<Mutex<HostState>>,
    changed: watch::Sender<u64>,
    pub(crate) address: SocketAddr,
    serving: Arc<Mutex<Option<tokio::task::JoinHandle<std::io::Result<()>>>>>,
}

#[derive(Default)]
pub(crate) struct HostState {
    pub(crate) host_id: Uuid,
    pub(crate) workers: HashMap<WorkerId, HostWorker>,
    pub(crate) revision: Revision,
    pub(crate) specs: BTreeMap<ServerId, ServerSpec>,
    pub(crate) statuses: BTreeMap<ServerId, ServerStatus>,
    pub(crate) events: BTreeMap<u64, WorkerEvent>,
    /// Events that came a second time.
    pub(crate) doubled_events: u32,
    pub(crate) acked: Revision,
    pub(crate) acks: u32,
    pub(crate) hellos: Vec<Hello>,
    pub(crate) pulls: u32,
    pub(crate) replies: Vec<(CommandId, Reply)>,
    pub(crate) log: BTreeMap<u64, Vec<u8>>,
    pub(crate) log_frames: Vec<ToHost>,
    pub(crate) beats: Vec<Beat>,
    pub(crate) registrations: Vec<RegisterWorker>,
    pub(crate) link: Option<mpsc::UnboundedSender<Message>>,
    /// Answers every WebSocket with this status.
    pub(crate) refuse_upgrade: Option<u16>,
    poll: Option<Arc<tokio::sync::Mutex<PollState>>>,
    pub(crate) polls: u32,
    /// Said with each registration and each beat.
    pub(crate) terms: SessionTerms,
    /// Resume tokens handed over, in their order.
    pub(crate) resume_tokens: Vec<String>,
    /// Answers the next beats with this reason.
    pub(crate) gone: Option<GoneReason>,
    pub(crate) refuse_register: Option<Problem>,
    next_worker: u128,
}

pub(crate) struct HostWorker {
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) status: WorkerStatus,
    pub(crate) epoch: SessionEpoch,
}

impl TestHost {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
        let address = listener.local_addr().expect("it is bound");
        let state = HostState { host_id: Uuid::from_u128(7), ..HostState::default() };
        let host = Self { state: Arc::new(Mutex::new(state)), changed: watch::channel(0).0, address, serving: Arc::default() };
        let router = Router::new()
            .route("/worker", post(reserve))
            .route("/worker/{id}", post(register))
            .route("/worker/{id}/health", post(beat))
            .route("/worker/{id}/link", get(link).post(poll))
            .with_state(host.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        *host.serving.lock().expect("nobody panics here") = Some(serving);
        host
    }

    /// Nobody listens any more, and the open link breaks.
    pub(crate) fn stop(&self) {
        if let Some(serving) = self.serving.lock().expect("nobody panics here").take() {
            serving.abort();
        }
        self.lock().link = None;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, HostState> {
        self.state.lock().expect("no test panics while it holds the state")
    }

    fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Waits until the state is as wanted, and says what was waited for if it never is.
    pub(crate) async fn until<T>(&self, what: &str, mut look: impl FnMut(&HostState) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        let looking = async {
            loop {
                if let Some(found) = look(&self.lock()) {
                    return found;
                }
                changes.changed().await.expect("the host lives");
            }
        };
        tokio::time::timeout(Duration::from_secs(20), looking).await.unwrap_or_else(|_| {
            let state = self.lock();
            panic!("waited in vain for {what}; hellos {}, acked {}, statuses {:#?}", state.hellos.len(), state.acked, state.statuses)
        })
    }

    /// Stores a spec and sends it down the link, if there is one.
    pub(crate) fn wish(&self, spec: ServerSpec) {
        let mut state = self.lock();
        let from = state.revision;
        state.revision = from.next();
        state.specs.insert(spec.id, spec.clone());
        let frame = ToWorker::Specs { from_revision: from, revision: state.revision, specs: vec![spec] };
        state.send(&frame);
    }

    pub(crate) fn send(&self, frame: &ToWorker) {
        self.lock().send(frame);
    }

    pub(crate) fn send_text(&self, text: &str) {
        let state = self.lock();
        let link = state.link.as_ref().expect("there is a link");
        link.send(Message::Text(text.into())).expect("the link lives");
    }

    pub(crate) async fn linked(&self) {
        self.until("a link", |state| state.link.is_some().then_some(())).await;
    }

    /// Sends a call and waits for its reply.
    pub(crate) async fn call(&self, call: Call) -> Reply {
        let id = call.id;
        let before = self.lock().replies.iter().filter(|(of, _)| *of == id).count();
        self.send(&ToWorker::Call(call));
        self.until("a reply", |state| {
            let mut replies = state.replies.iter().filter(|(of, _)| *of == id);
            replies.nth(before).map(|(_, reply)| reply.clone())
        })
        .await
    }

    pub(crate) fn accept_all(&self) {
        for worker in self.lock().workers.values_mut() {
            worker.status = WorkerStatus::Alive;
        }
    }
}

impl HostState {
    fn send(&self, frame: &ToWorker) {
        if let Some(link) = &self.link {
            let text = serde_json::to_string(frame).expect("frames are JSON");
            // A link that has just gone is found out by its reader.
            let _ = link.send(Message::Text(text.into()));
        }
    }

    fn token_of(&self, headers: &HeaderMap) -> Option<String> {
        headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned)
    }
}

fn refuse(problem: &Problem) -> Response {
    (StatusCode::from_u16(problem.status).expect("a status"), Json(problem)).into_response()
}

async fn reserve(State(host): State<TestHost>, headers: HeaderMap, Json(body): Json<ReserveWorker>) -> Response {
    let mut state = host.lock();
    let token = state.token_of(&headers);
    let own = token.as_ref().and_then(|token| state.workers.iter().find(|(_, worker)| worker.token == *token)).map(|(id, _)| *id);
    if token.is_some() && own.is_none() && token.as_deref() != Some(JOIN_TOKEN) {
        return refuse(&Problem::new(Kind::Unauthenticated, "this token is not known"));
    }
    let name = body.name.map(|name| name.to_string()).unwrap_or_default();
    let reserved = state.workers.iter().find(|(_, worker)| worker.name == name && worker.epoch == SessionEpoch::default());
    let id = own.or(reserved.map(|(id, _)| *id)).unwrap_or_else(|| {
        state.next_worker += 1;
        WorkerId::from_uuid(Uuid::from_u128(state.next_worker))
    });
    let status = if token.as_deref() == Some(JOIN_TOKEN) { WorkerStatus::Alive } else { WorkerStatus::Pending };
    let secret = format!("mm_worker_{}", state.next_worker);
    state.workers.entry(id).or_insert(HostWorker { name, token: secret, status, epoch: SessionEpoch::default() });
    Json(Reservation {
        id,
        required: vec!["worker-name".into()],
        heartbeat_seconds: 1,
        unknown_after: 15,
        kill_after: 60,
        api_version: "1".into(),
        host_id: state.host_id,
    })
    .into_response()
}

async fn register(
    State(host): State<TestHost>,
    Path(id): Path<WorkerId>,
    headers: HeaderMap,
    Json(body): Json<RegisterWorker>,
) -> Response {
    let mut state = host.lock();
    if let Some(problem) = &state.refuse_register {
        let answer = refuse(problem);
        state.refuse_register = None;
        return answer;
    }
    let token = state.token_of(&headers);
    let host_id = state.host_id;
    state.registrations.push(body);
    let terms = state.terms.clone();
    let resume_token = format!("mm_resume_{}", state.resume_tokens.len());
    let Some(worker) = state.workers.get_mut(&id) else { return refuse(&Problem::not_found("worker", id)) };
    let first = worker.epoch == SessionEpoch::default();
    if !first && token.as_deref() != Some(&worker.token) {
        return refuse(&Problem::new(Kind::Forbidden, "this name belongs to another"));
    }
    worker.epoch = worker.epoch.next();
    let registered = Registered {
        id,
        status: worker.status,
        session_epoch: worker.epoch,
        token: first.then(|| worker.token.clone()),
        host_id,
        heartbeat_seconds: 1,
        resume_token: Some(resume_token.clone()),
        terms,
    };
    state.resume_tokens.push(resume_token);
    state.gone = None;
    drop(state);
    host.touch();
    Json(registered).into_response()
}

async fn beat(State(host): State<TestHost>, Path(id): Path<WorkerId>, headers: HeaderMap, body: Bytes) -> Response {
    let beat: Beat = if body.is_empty() { Beat::default() } else { serde_json::from_slice(&body).expect("a beat") };
    let answer = {
        let mut state = host.lock();
        let token = state.token_of(&headers);
        state.beats.push(beat);
        let desired_revision = state.revision;
        let terms = state.terms.clone();
        match (state.gone, state.workers.get(&id)) {
            (Some(reason), _) => refuse(&Problem::gone(reason, "the session is over")),
            (None, Some(worker)) if token.as_deref() == Some(&worker.token) => {
                Json(BeatAnswer { desired_revision, next_seconds: 1, status: worker.status, terms }).into_response()
            }
            (None, _) => refuse(&Problem::new(Kind::Unauthenticated, "this token is not known")),
        }
    };
    host.touch();
    answer
}

async fn link(State(host): State<TestHost>, Path(id): Path<WorkerId>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    {
        let state = host.lock();
        if let Some(status) = state.refuse_upgrade {
            return StatusCode::from_u16(status).expect("a status").into_response();
        }
        let token = state.token_of(&headers);
        if state.workers.get(&id).is_none_or(|worker| token.as_deref() != Some(&worker.token)) {
            return refuse(&Problem::new(Kind::Unauthenticated, "this token is not known"));
        }
    }
    upgrade.on_upgrade(move |socket| serve_link(host, socket))
}

pub(crate) struct PollState {
    outgoing: mpsc::UnboundedReceiver<Message>,
    sender: mpsc::UnboundedSender<Message>,
    round: u64,
}

/// One round: takes frames, and answers when there is something to say or the next round comes.
async fn poll(State(host): State<TestHost>, Path(id): Path<WorkerId>, headers: HeaderMap, Json(request): Json<PollRequest>) -> Response {
    let poll = {
        let mut state = host.lock();
        let token = state.token_of(&headers);
        if state.workers.get(&id).is_none_or(|worker| token.as_deref() != Some(&worker.token)) {
            return refuse(&Problem::new(Kind::Unauthenticated, "this token is not known"));
        }
        if request.round == 1 {
            let (sender, outgoing) = mpsc::unbounded_channel();
            state.poll = Some(Arc::new(tokio::sync::Mutex::new(PollState { outgoing, sender, round: 0 })));
        }
        state.polls += 1;
        state.poll.clone().expect("a first round")
    };
    host.touch();
    let mut polls = host.changed.subscribe();
    let before = host.lock().polls;
    let mut poll = poll.lock().await;
    poll.round += 1;
    assert_eq!(poll.round, request.round, "rounds come in their order");
    for frame in request.frames {
        receive(&host, &poll.sender.clone(), frame);
    }
    host.touch();
    let mut messages = Vec::new();
    // Cancel-safe: `recv_many` takes nothing unless it wins.
    tokio::select! {
        _ = poll.outgoing.recv_many(&mut messages, 100) => {}
        _ = polls.wait_for(|_| host.lock().polls > before) => {}
        () = tokio::time::sleep(Duration::from_secs(5)) => {}
    }
    let text = |message: Message| message.into_text().expect("frames are text");
    let frames = messages.into_iter().map(|message| serde_json::from_str(&text(message)).expect("a frame")).collect();
    Json(PollAnswer { frames }).into_response()
}

async fn serve_link(host: TestHost, mut socket: WebSocket) {
    let (sender, mut outgoing) = mpsc::unbounded_channel();
    loop {
        // Cancel-safe: a receive that loses takes nothing.
        tokio::select! {
            message = outgoing.recv() => match message {
                Some(message) => if socket.send(message).await.is_err() { break },
                None => break,
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    let frame = serde_json::from_str(&text).expect("the worker sends frames");
                    receive(&host, &sender, frame);
                    host.touch();
                }
                Some(Ok(Message::Binary(message))) => {
                    let (stream, chunk) = decode_log_chunk(&message).expect("a chunk of log");
                    host.lock().log.entry(stream).or_default().extend_from_slice(chunk);
                    host.touch();
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
            },
        }
    }
    host.lock().link = None;
    host.touch();
}

fn receive(host: &TestHost, sender: &mpsc::UnboundedSender<Message>, frame: ToHost) {
    let mut state = host.lock();
    match frame {
        ToHost::Hello(hello) => {
            state.link = Some(sender.clone());
            state.hellos.push(hello);
            let event_seq = state.events.keys().next_back().copied().unwrap_or(0);
            state.send(&ToWorker::Welcome { event_seq, heartbeat_seconds: 1 });
            let servers =
                state.specs.values().map(|spec| (spec.id, IndexEntry { generation: spec.generation, hash: spec_hash(spec) })).collect();
            state.send(&ToWorker::Index { revision: state.revision, servers });
        }
        ToHost::Pull { servers } => {
            state.pulls += 1;
            let specs = servers.iter().filter_map(|id| state.specs.get(id)).cloned().collect();
            let revision = state.revision;
            state.send(&ToWorker::Specs { from_revision: revision, revision, specs });
        }
        ToHost::Ack { revision } => {
            state.acked = revision;
            state.acks += 1;
        }
        ToHost::Status { servers } => state.statuses.extend(servers.into_iter().map(|status| (status.id, status))),
        ToHost::Events { events } => {
            for event in events {
                if state.events.insert(event.seq, event).is_some() {
                    state.doubled_events += 1;
                }
            }
            let up_to = state.events.keys().next_back().copied().unwrap_or(0);
            state.send(&ToWorker::EventsStored { up_to });
        }
        ToHost::Reply { id, reply } => state.replies.push((id, reply)),
        frame @ (ToHost::LogOpened { .. } | ToHost::LogGap { .. } | ToHost::LogEnded { .. } | ToHost::LogChunk { .. }) => {
            state.log_frames.push(frame);
        }
    }
}
