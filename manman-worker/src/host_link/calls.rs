//! Calls of the host: requests to this worker's own routes, each carried out once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, header};
use manman_common::link::{Call, Reply, ToHost};
use manman_common::{CommandId, Kind, Problem};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::transport::Outgoing;
use crate::api::{ExpectInstance, FromHost, error_chain};
use crate::app::Worker;
use crate::clock;
use crate::store::CallState;

/// Calls carried out at one time; a console's answer may take ten seconds.
const AT_ONCE: usize = 64;
/// Calls that may wait for one of those; further ones are refused at once.
const WAITING_MAX: usize = 256;
/// Results of console lines kept for a duplicate; each is at most an answer of a thousand lines.
const TYPED_MAX: usize = 64;
/// The longest reply that goes over the link; logs have their own way.
const REPLY_MAX: usize = 2 * 1024 * 1024;

/// Where calls are received. It outlives any one link, so that a call whose link breaks is carried
/// through, and its duplicate on the next link gets the result.
pub(crate) struct CallDesk {
    router: OnceLock<Router>,
    at_once: Semaphore,
    waiting: Semaphore,
    /// Calls that are being carried out, and those whose results are not in the store.
    under_way: Mutex<HashMap<CommandId, watch::Receiver<Option<Reply>>>>,
    /// Console lines that have been typed, oldest first.
    typed: Mutex<VecDeque<CommandId>>,
}

impl CallDesk {
    pub(crate) fn new() -> Self {
        Self {
            router: OnceLock::new(),
            at_once: Semaphore::new(AT_ONCE),
            waiting: Semaphore::new(WAITING_MAX),
            under_way: Mutex::default(),
            typed: Mutex::default(),
        }
    }

    /// The routes exist only after the worker that they act on.
    pub(crate) fn serve_with(&self, router: Router) {
        // Set once, at start; a second set would be a bug, and the first stays.
        let _ = self.router.set(router);
    }

    /// Sees to a call and its reply without holding up the frames behind it.
    pub(super) fn receive(&self, worker: &Arc<Worker>, call: Call, outgoing: Outgoing) {
        let received = Instant::now();
        let id = call.id;
        let worker = Arc::clone(worker);
        tokio::spawn(async move {
            let reply = worker.calls.answer(&worker, call, received).await;
            // Where the link has gone meanwhile, the host asks again by the call's id.
            let _ = outgoing.send(ToHost::Reply { id, reply }).await;
        });
    }

    async fn answer(&self, worker: &Arc<Worker>, call: Call, received: Instant) -> Reply {
        let Ok(_place) = self.waiting.try_acquire() else {
            return refuse(Kind::TooManyRequests, "the worker has too many calls to carry out");
        };
        let Ok(method) = Method::from_bytes(call.method.as_bytes()) else {
            return Reply::problem(&Problem::invalid("method", format!("`{}` is not a method of HTTP", call.method)));
        };
        // Asking changes nothing, so it may be done as often as it comes.
        if method.is_safe() || call.path == "/ports/check" {
            return self.carry_out(call, method, received).await;
        }
        let id = call.id;
        let (result, mine) = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            match under_way.get(&id) {
                Some(other) => (None, other.clone()),
                None => {
                    let (result, mine) = watch::channel(None);
                    under_way.insert(id, mine.clone());
                    (Some(result), mine)
                }
            }
        };
        let Some(result) = result else { return wait_for(mine).await };
        // A line for a console must not wait for the disk. That it is typed once is seen to here in
        // memory; after a crash of this worker nothing is sent again.
        let for_console = is_console_line(&call);
        let began = if for_console { Ok(CallState::New) } else { worker.store.call_begin(id, clock::now()).await };
        let (reply, is_new) = match began {
            Ok(CallState::New) => (self.carry_out(call, method, received).await, true),
            Ok(CallState::Done(reply)) => (reply, false),
            Ok(CallState::Begun) => {
                let detail = "the worker was restarted while it carried this out; whether it took effect is not known";
                (refuse(Kind::BadGateway, detail), false)
            }
            Err(error) => {
                tracing::error!(error = error_chain(&error), "a call can not be stored, and is not carried out");
                (refuse(Kind::Unavailable, "the worker can not store the call"), false)
            }
        };
        result.send_replace(Some(reply.clone()));
        if for_console {
            self.remember(id);
            return reply;
        }
        let (worker, stored) = (Arc::clone(worker), reply.clone());
        // Nobody waits for the disk: until it has the result, this process has it.
        tokio::spawn(async move {
            if is_new && let Err(error) = worker.store.call_finish(id, stored).await {
                tracing::error!(error = error_chain(&error), "the result of a call can not be stored");
            }
            worker.calls.forget(id);
        });
        reply
    }

    /// Keeps the result of a console line in memory for its duplicate, and forgets the oldest.
    fn remember(&self, id: CommandId) {
        let oldest = {
            let mut typed = self.typed.lock().unwrap_or_else(PoisonError::into_inner);
            typed.push_back(id);
            if typed.len() > TYPED_MAX { typed.pop_front() } else { None }
        };
        if let Some(oldest) = oldest {
            self.forget(oldest);
        }
    }

    fn forget(&self, id: CommandId) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    async fn carry_out(&self, call: Call, method: Method, received: Instant) -> Reply {
        let Ok(_running) = self.at_once.acquire().await else {
            return refuse(Kind::Unavailable, "the worker is going down");
        };
        let ttl = Duration::from_millis(u64::from(call.ttl_ms));
        if received.elapsed() > ttl {
            return refuse(Kind::Timeout, "the call was too old when its turn came, and was not begun");
        }
        let Some(router) = self.router.get() else {
            return refuse(Kind::Unavailable, "the worker is not ready yet");
        };
        let request = match request(&call, method) {
            Ok(request) => request,
            Err(problem) => return Reply::problem(&problem),
        };
        // A router's error is `Infallible`: what goes wrong is an answer, too.
        let response = match router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status().as_u16();
        match axum::body::to_bytes(response.into_body(), REPLY_MAX).await {
            Ok(body) => Reply { status, body: body_value(&body) },
            Err(_) => refuse(Kind::BadGateway, "the worker's answer is too long for the link"),
        }
    }
}

fn is_console_line(call: &Call) -> bool {
    call.path.ends_with("/command")
}

fn request(call: &Call, method: Method) -> Result<Request<Body>, Problem> {
    let mut builder = Request::builder().method(method).uri(&call.path).header(header::ACCEPT, "application/json");
    let body = if call.body.is_null() {
        Body::empty()
    } else {
        builder = builder.header(header::CONTENT_TYPE, "application/json");
        Body::from(call.body.to_string())
    };
    let mut request = builder.body(body).map_err(|_| Problem::invalid("path", format!("`{}` is not a path", call.path)))?;
    request.extensions_mut().insert(FromHost);
    if let Some(instance) = call.expect_instance {
        request.extensions_mut().insert(ExpectInstance(instance));
    }
    Ok(request)
}

fn body_value(body: &[u8]) -> serde_json::Value {
    if body.is_empty() {
        return serde_json::Value::Null;
    }
    serde_json::from_slice(body).unwrap_or_else(|_| serde_json::Value::String(String::from_utf8_lossy(body).into_owned()))
}

async fn wait_for(mut result: watch::Receiver<Option<Reply>>) -> Reply {
    match result.wait_for(Option::is_some).await {
        Ok(reply) => reply.clone().unwrap_or_else(|| refuse(Kind::Internal, "the call left no result")),
        Err(_) => refuse(Kind::BadGateway, "the call was broken off; whether it took effect is not known"),
    }
}

fn refuse(kind: Kind, detail: &str) -> Reply {
    Reply::problem(&Problem::new(kind, detail))
}
