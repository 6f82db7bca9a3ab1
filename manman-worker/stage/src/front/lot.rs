//! Requests that wait for their turn without an HTTP connection's buffers.
//!
//! A connection that is being served holds some 16 KiB, and ten thousand may wait. So a request
//! without a body is taken back into the bytes that it came as, its connection's machinery is dropped,
//! and when its turn has come it is read again and served as if it had come just now.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::{Body as _, Incoming};
use hyper::{Request, Version};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Permits, Serving};

/// Between a connection and the requests that are read from it.
#[derive(Default)]
pub(crate) struct Lot {
    parked: Mutex<Option<Parked>>,
    pub(super) ticket: Mutex<Option<Ticket>>,
    arrived: Notify,
}

/// A request that waits.
pub(crate) struct Parked {
    /// What it came as.
    pub(crate) head: Vec<u8>,
    pub(super) serving: Arc<Serving>,
    pub(super) label: String,
    pub(super) within: Duration,
    id: Uuid,
    started: Instant,
}

/// What a request has that has waited.
pub(super) struct Ticket {
    pub(super) id: Uuid,
    pub(super) started: Instant,
    /// `None`: its turn did not come.
    pub(super) permit: Option<Permits>,
}

impl Lot {
    pub(super) fn with(ticket: Ticket) -> Self {
        Self { ticket: Mutex::new(Some(ticket)), ..Self::default() }
    }

    pub(super) fn take_ticket(&self) -> Option<Ticket> {
        self.ticket.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn park(&self, parked: Parked) {
        *self.parked.lock().unwrap_or_else(PoisonError::into_inner) = Some(parked);
        self.arrived.notify_one();
    }

    /// The request of this connection that is to wait.
    pub(crate) async fn parked(&self) -> Parked {
        loop {
            if let Some(parked) = self.parked.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return parked;
            }
            self.arrived.notified().await;
        }
    }
}

impl Parked {
    /// `None` if it can not be read a second time: what is left of its body is on the connection.
    pub(super) fn of(
        request: &Request<Incoming>,
        serving: &Arc<Serving>,
        label: String,
        within: Duration,
        ticket: (Uuid, Instant),
    ) -> Option<Self> {
        if !request.body().is_end_stream() {
            return None;
        }
        let (id, started) = ticket;
        Some(Self { head: head(request), serving: serving.clone(), label, within, id, started })
    }

    /// Waits for its turn, and tells whoever reads it again.
    pub(crate) async fn turn(&self) -> Lot {
        let permit = self.serving.enter(&self.label, self.within).await;
        Lot::with(Ticket { id: self.id, started: self.started, permit })
    }
}

fn head(request: &Request<Incoming>) -> Vec<u8> {
    let version = if request.version() == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut head = format!("{} {} {version}\r\n", request.method(), request.uri()).into_bytes();
    for (name, value) in request.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head.shrink_to_fit();
    head
}
