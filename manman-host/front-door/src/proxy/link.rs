//! A connection to a waifu, moved along by whoever waits for its answer. It has no task of its own: no
//! other thread is woken for a request, and its bytes are handled where the client's are.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use axum::body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::deadline::Deadline;
use super::upstream::{AskError, Stream};

/// A connection that has not been used for so long is closed, and the next one asks the name again.
const IDLE: Duration = Duration::from_secs(30);
const IDLE_MAX: usize = 128;
/// Longest head of an answer, in bytes.
const HEAD_MAX: usize = 256 * 1024;

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

pub(crate) struct Link {
    sender: SendRequest<Body>,
    /// None once the connection has ended.
    driver: Option<Driver>,
    deadline: Deadline,
}

/// A request that got no answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) error: AskError,
    /// The request, where nothing of it was sent.
    pub(crate) unsent: Option<Box<Request<Body>>>,
}

impl Link {
    pub(crate) async fn open(stream: Stream) -> hyper::Result<Self> {
        let (sender, connection) = http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Some(Box::pin(connection.with_upgrades())), deadline: Deadline::default() })
    }

    /// Sends a request whose address is a path, and waits until `end` for the head of the answer.
    pub(crate) async fn send(&mut self, request: Request<Body>, end: Instant) -> Result<Response<Incoming>, Unanswered> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let (driver, deadline) = (&mut self.driver, &mut self.deadline);
        let answered = poll_fn(|cx| {
            drive(driver, cx);
            // Only the connection brings the answer, and it was asked just now: nobody else need wake us.
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => deadline.poll(end, cx).map(|()| None),
            }
        });
        let Some(answer) = answered.await else { return Err(Unanswered { error: AskError::Slow, unsent: None }) };
        answer.map_err(|mut failed| {
            let unsent = failed.take_message().map(Box::new);
            Unanswered { error: AskError::Broke(failed.into_error()), unsent }
        })
    }

    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// Goes on until the connection has ended, or has been handed over to another protocol.
    pub(super) async fn finish(mut self) {
        poll_fn(|cx| {
            drive(&mut self.driver, cx);
            if self.driver.is_none() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether another request can be sent.
    fn is_free(&mut self) -> bool {
        // Takes notice of an end that has come meanwhile.
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    // What it ends with is told to whoever waits for the answer or its body.
    if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
        *driver = None;
    }
}

/// Threads that have connections of their own; all others share the first place.
pub(super) const SHARDS: usize = 16;

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

/// From now on this thread has its own connections: another one's are woken by that one.
pub(super) fn stay_on(shard: usize) {
    SHARD.set(shard % SHARDS);
}

/// Connections to one waifu that wait for the next request.
#[derive(Default)]
pub(crate) struct Pool([Mutex<Vec<(Link, Instant)>>; SHARDS]);

impl Pool {
    /// The one that was used last, if it still can be.
    pub(super) fn take(&self, now: Instant) -> Option<Link> {
        loop {
            let (mut link, since) = self.here().lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if now.saturating_duration_since(since) < IDLE && link.is_free() {
                return Some(link);
            }
        }
    }

    pub(super) fn put(&self, mut link: Link, now: Instant) {
        if !link.is_free() {
            return;
        }
        let mut links = self.here().lock().unwrap_or_else(PoisonError::into_inner);
        if links.len() < IDLE_MAX {
            links.push((link, now));
        }
    }

    /// Closes what nobody has used for long.
    pub(crate) fn tidy(&self, now: Instant) {
        for links in &self.0 {
            let mut links = links.lock().unwrap_or_else(PoisonError::into_inner);
            // The longest unused are first.
            let old = links.partition_point(|(_, since)| now.saturating_duration_since(*since) >= IDLE);
            links.drain(..old);
        }
    }

    fn here(&self) -> &Mutex<Vec<(Link, Instant)>> {
        &self.0[SHARD.get()]
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}
