//! Deadlines that are hardly ever reached. The runtime hears of one only when an earlier one of the
//! same connection is over: to tell it of each request's would cost more than the request.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::rt::Timer;
use tokio::time::Sleep;

use crate::clock;

#[derive(Default)]
pub(super) struct Deadline {
    /// Set at the first wait; fires too early, and is then set anew.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Whether `end` has come; wakes the task by then.
    pub(super) fn poll(&mut self, end: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end.into())));
        if timer.deadline() > end.into() {
            timer.as_mut().reset(end.into());
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if clock::instant() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end.into());
        }
    }
}

/// The deadlines of one connection, for the server's side of HTTP/1.
#[derive(Clone, Default)]
pub(super) struct ConnectionTimer(Arc<Mutex<Deadline>>);

struct ConnectionSleep {
    end: Instant,
    deadline: Arc<Mutex<Deadline>>,
}

impl Future for ConnectionSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.deadline.lock().unwrap_or_else(PoisonError::into_inner).poll(self.end, cx)
    }
}

impl hyper::rt::Sleep for ConnectionSleep {}

impl Timer for ConnectionTimer {
    fn sleep(&self, duration: std::time::Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(clock::instant() + duration)
    }

    fn sleep_until(&self, end: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(ConnectionSleep { end, deadline: Arc::clone(&self.0) })
    }

    fn now(&self) -> Instant {
        clock::instant()
    }
}
