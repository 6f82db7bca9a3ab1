//! `mode: pool`: processes that stay, and fetch their requests as Lambda's runtimes do.
//!
//! A process asks `GET $UROCKET_NEXT` on the socket, which waits until there is a request, and
//! answers it as any other: `POST /uri/{id}`. It may hold several at once. One that lets a request's
//! time go by is killed and started anew, and so is one that ends by itself.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, header};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::back::Line;
use crate::clock;
use crate::config::Route;
use crate::engine::{Answer, Delivery, Engine, Failure, Inner, kept, procfs};
use crate::problem::Body;

/// A process that ends as soon as it starts is not started at full speed.
const BACK_OFF: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
];
/// One that has lived so long is well.
const WELL_AFTER: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct Pools {
    workers: Mutex<HashMap<Uuid, Arc<Worker>>>,
    /// Requests that a process has fetched and not answered.
    held: Mutex<HashMap<Uuid, Held>>,
    alive: AtomicUsize,
}

struct Held {
    worker: Arc<Worker>,
    failed: oneshot::Sender<Failure>,
}

struct Worker {
    id: Uuid,
    pid: AtomicI32,
    pool: Arc<Pool>,
    kill: Notify,
}

/// The processes of one route. Dropped by the last who serves it, they are ended.
pub(crate) struct Pool {
    state: Mutex<State>,
    pub(crate) stop: CancellationToken,
}

#[derive(Default)]
struct State {
    idle: VecDeque<Idle>,
    waiting: VecDeque<Work>,
}

/// A process that waits for a request.
struct Idle {
    worker: Arc<Worker>,
    give: oneshot::Sender<Work>,
    line: Line,
}

/// A request for a process of a pool.
pub(crate) struct Work {
    pub(crate) id: Uuid,
    pub(crate) payload: Bytes,
    pub(crate) head: HeaderMap,
    failed: oneshot::Sender<Failure>,
}

impl Work {
    /// Nobody waits for it any more.
    fn is_over(&self) -> bool {
        self.failed.is_closed()
    }

    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Full::new(self.payload));
        *response.headers_mut() = self.head;
        response
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pools {
    /// Starts the processes of a route.
    pub(crate) fn start(engine: &Engine, route: &Arc<Route>) -> Arc<Pool> {
        let pool = Arc::new(Pool { state: Mutex::default(), stop: engine.inner.stop.child_token() });
        for _ in 0..route.workers {
            tokio::spawn(keep(engine.inner.clone(), pool.clone(), route.clone()));
        }
        pool
    }

    /// The next request for the process that asks; `None` if it is none of a pool's.
    pub(crate) async fn next(&self, inner: &Inner, named: Option<Uuid>, peer: Option<i32>, line: Line) -> Option<Response<Body>> {
        let worker = self.worker(named, peer)?;
        let received = {
            let mut state = lock(&worker.pool.state);
            loop {
                match state.waiting.pop_front() {
                    Some(work) if work.is_over() => {}
                    Some(work) => break Ok(work),
                    None => {
                        let (give, receiver) = oneshot::channel();
                        state.idle.retain(|idle| idle.worker.id != worker.id || !idle.line.is_cut());
                        state.idle.push_back(Idle { worker: worker.clone(), give, line });
                        break Err(receiver);
                    }
                }
            }
        };
        let work = match received {
            Ok(work) => self.hold(inner, &worker, work),
            Err(receiver) => receiver.await.ok()?,
        };
        Some(work.into_response())
    }

    fn worker(&self, named: Option<Uuid>, peer: Option<i32>) -> Option<Arc<Worker>> {
        let workers = lock(&self.workers);
        if let Some(id) = named {
            return workers.get(&id).cloned();
        }
        let peer = peer?;
        workers.values().find(|worker| procfs::belongs(peer, worker.pid.load(Ordering::Relaxed))).cloned()
    }

    fn hold(&self, inner: &Inner, worker: &Arc<Worker>, mut work: Work) -> Work {
        inner.arbiter.set_process(work.id, worker.pid.load(Ordering::Relaxed), None);
        // The receiver of what takes its place is dropped at once: it is only a closed one.
        let failed = std::mem::replace(&mut work.failed, oneshot::channel().0);
        lock(&self.held).insert(work.id, Held { worker: worker.clone(), failed });
        work
    }

    /// An answer has come for it, in time or late: its process is free.
    pub(crate) fn answered(&self, id: Uuid, delivery: Delivery) {
        if matches!(delivery, Delivery::Delivered | Delivery::Late) {
            lock(&self.held).remove(&id);
        }
    }

    pub(crate) fn alive(&self) -> usize {
        self.alive.load(Ordering::Acquire)
    }

    /// Whether a process was started by one of a pool, which may have children of its own.
    pub(crate) fn owns(&self, pid: i32) -> bool {
        let Some(next) = procfs::variable(pid, "UROCKET_NEXT") else { return false };
        let id = next.strip_prefix(b"/next/").and_then(|id| Uuid::try_parse_ascii(id).ok());
        id.is_some_and(|id| lock(&self.workers).contains_key(&id))
    }

    fn overdue(&self, id: Uuid) {
        if let Some(held) = lock(&self.held).remove(&id) {
            held.worker.kill.notify_one();
        }
    }
}

impl Pool {
    /// Waits for the answer of one of the pool's processes. Dropped before, the caller has gone.
    pub(crate) async fn ask(&self, engine: &Engine, label: &str, id: Uuid, payload: Bytes, head: HeaderMap, time: Duration) -> Answer {
        let inner = &engine.inner;
        let (failed_tx, failed) = oneshot::channel();
        let reply = inner.arbiter.open(id, label, None);
        let deadline = Instant::now() + time;
        let asked = Asked { inner, id, deadline };
        self.submit(inner, Work { id, payload, head, failed: failed_tx });
        let answer = async {
            // Cancel-safe: both are levels. An answer is heard before the end of who gave it.
            tokio::select! {
                biased;
                Ok(reply) = reply => Answer::Reply(reply),
                Ok(failure) = failed => Answer::Failed(failure),
                () = inner.stop.cancelled() => Answer::Failed(Failure::Stopping),
            }
        };
        let answer = timeout_at(deadline, answer).await.unwrap_or(Answer::Failed(Failure::Timeout));
        if answer == Answer::Failed(Failure::Timeout) {
            inner.metrics.killed("timeout");
            inner.pools.overdue(id);
        }
        drop(asked);
        answer
    }

    fn submit(&self, inner: &Inner, mut work: Work) {
        let mut state = lock(&self.state);
        while let Some(Idle { worker, give, line }) = state.idle.pop_front() {
            if give.is_closed() || line.is_cut() {
                continue;
            }
            work = inner.pools.hold(inner, &worker, work);
            match give.send(work) {
                Ok(()) => return,
                // Its connection broke just now; the request waits for another.
                Err(back) => {
                    work = back;
                    if let Some(held) = lock(&inner.pools.held).remove(&work.id) {
                        work.failed = held.failed;
                    }
                }
            }
        }
        state.waiting.push_back(work);
    }
}

/// Closes the entry; a process that still has the request keeps its deadline.
struct Asked<'a> {
    inner: &'a Arc<Inner>,
    id: Uuid,
    deadline: Instant,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.inner.arbiter.close(self.id);
        if lock(&self.inner.pools.held).contains_key(&self.id) {
            let (inner, id, deadline) = (self.inner.clone(), self.id, self.deadline);
            tokio::spawn(async move {
                tokio::time::sleep_until(deadline).await;
                inner.pools.overdue(id);
            });
        }
    }
}

/// Keeps one process of a pool.
async fn keep(inner: Arc<Inner>, pool: Arc<Pool>, route: Arc<Route>) {
    let mut failures = 0;
    while !pool.stop.is_cancelled() {
        let worker = Arc::new(Worker { id: clock::request_id(), pid: AtomicI32::new(0), pool: pool.clone(), kill: Notify::new() });
        let started = Instant::now();
        lock(&inner.pools.workers).insert(worker.id, worker.clone());
        inner.pools.alive.fetch_add(1, Ordering::AcqRel);
        let known = |pid| worker.pid.store(pid, Ordering::Relaxed);
        let failure = kept::live(&inner, &route, worker.id, known, &worker.kill, &pool.stop).await;
        lock(&inner.pools.workers).remove(&worker.id);
        lock(&pool.state).idle.retain(|idle| idle.worker.id != worker.id);
        inner.pools.alive.fetch_sub(1, Ordering::AcqRel);
        let lost: Vec<Held> = lock(&inner.pools.held).extract_if(|_, held| held.worker.id == worker.id).map(|(_, held)| held).collect();
        for held in lost {
            let _ = held.failed.send(failure.clone());
        }
        inner.sweep.notify_one();
        failures = if started.elapsed() > WELL_AFTER { 0 } else { failures + 1 };
        let pause = BACK_OFF[failures.min(BACK_OFF.len() - 1)];
        if !pool.stop.is_cancelled() {
            tracing::warn!(route = %format!("{} {}", route.verb, route.template), reason = %failure, "a process of a pool has ended and is started anew");
        }
        // Cancel-safe: both are levels.
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = pool.stop.cancelled() => {}
        }
    }
}

/// The head of what a process fetches.
pub(crate) fn head(id: Uuid, deadline_ms: u64, content_type: Option<&HeaderValue>, values: &[(String, String)]) -> HeaderMap {
    let mut head = HeaderMap::new();
    let mut put = |name: &str, value: &str| {
        // Anything that no header can carry is percent-encoded.
        const ODD: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');
        let value = percent_encoding::utf8_percent_encode(value, ODD).to_string();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) {
            head.append(name, value);
        }
    };
    put("x-request-id", &id.to_string());
    put("x-urocket-deadline-ms", &deadline_ms.to_string());
    for (name, value) in values {
        put(&format!("x-urocket-{}", name.to_ascii_lowercase().replace('_', "-")), value);
    }
    if let Some(value) = content_type {
        head.insert(header::CONTENT_TYPE, value.clone());
    }
    head
}
