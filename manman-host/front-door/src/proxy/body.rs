//! Bodies on their way through. They hold their place among the waifu's requests, and end when nothing
//! comes for too long.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use axum::BoxError;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::deadline::Deadline;
use super::link::Link;
use crate::clock;
use crate::orchestrator::Route;

/// Silence that has lasted too long.
struct Patience {
    limit: Option<Duration>,
    /// Since when nothing comes; none while something does.
    since: Option<Instant>,
    deadline: Deadline,
}

impl Patience {
    fn new(limit: Option<Duration>) -> Self {
        Self { limit, since: None, deadline: Deadline::default() }
    }

    fn heard(&mut self) {
        self.since = None;
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let end = *self.since.get_or_insert_with(clock::instant) + limit;
        self.deadline.poll(end, cx).map(|()| "nothing came for too long".into())
    }
}

/// The body of a request.
pub(super) struct Guarded<B> {
    inner: B,
    patience: Patience,
}

impl<B> Guarded<B> {
    pub(super) fn new(inner: B, idle: Duration) -> Self {
        Self { inner, patience: Patience::new(Some(idle)) }
    }
}

impl<B> Body for Guarded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.patience.heard();
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        this.patience.poll_over(cx).map(|over| Some(Err(over)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of an answer, with the connection that it comes by.
pub(super) struct Answer {
    body: Incoming,
    /// None once it has gone back to its pool, or has ended.
    link: Option<Link>,
    route: Arc<Route>,
    permit: Option<OwnedSemaphorePermit>,
    patience: Patience,
    /// Why it ends short, told once what came before has gone out.
    broken: Option<hyper::Error>,
}

impl Answer {
    pub(super) fn new(body: Incoming, link: Link, route: Arc<Route>, permit: OwnedSemaphorePermit, idle: Option<Duration>) -> Self {
        let mut answer = Self { body, link: Some(link), route, permit: Some(permit), patience: Patience::new(idle), broken: None };
        answer.give_back();
        answer
    }

    /// At the end of the body the next request may have the connection.
    fn give_back(&mut self) {
        if !self.body.is_end_stream() {
            return;
        }
        self.permit = None;
        if let Some(link) = self.link.take() {
            self.route.pool.put(link, clock::instant());
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error.into())));
        }
        // That we want more is told to the connection, which is then asked for it; it alone wakes us.
        let aside = &mut Context::from_waker(Waker::noop());
        let mut polled = Pin::new(&mut this.body).poll_frame(aside);
        if polled.is_pending()
            && let Some(link) = &mut this.link
        {
            link.drive(cx);
            polled = Pin::new(&mut this.body).poll_frame(aside);
        }
        match polled {
            Poll::Ready(Some(Err(error))) => {
                this.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(frame) => {
                this.patience.heard();
                this.give_back();
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => this.patience.poll_over(cx).map(|over| Some(Err(over))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
