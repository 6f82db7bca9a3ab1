//! How many may run, and how many may wait for that. Everybody else hears 429 at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) type Permit = OwnedSemaphorePermit;

pub(super) struct Gate {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
}

impl Gate {
    pub(super) fn new(most: usize, queue: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))), waiting: AtomicUsize::new(0), queue }
    }

    /// Without waiting.
    pub(super) fn try_enter(&self) -> Option<Permit> {
        self.permits.clone().try_acquire_owned().ok()
    }

    /// Who waits is served in the order of coming.
    pub(super) async fn enter(&self, within: Duration) -> Option<Permit> {
        if let Some(permit) = self.try_enter() {
            return Some(permit);
        }
        let waiting = Waiting::count(&self.waiting);
        if waiting.1 > self.queue {
            return None;
        }
        tokio::time::timeout(within, self.permits.clone().acquire_owned()).await.ok()?.ok()
    }

    pub(super) fn is_open(&self) -> bool {
        self.permits.available_permits() > 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.permits.available_permits() == 0 && self.waiting() >= self.queue
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

struct Waiting<'a>(&'a AtomicUsize, usize);

impl<'a> Waiting<'a> {
    fn count(waiting: &'a AtomicUsize) -> Self {
        Self(waiting, waiting.fetch_add(1, Ordering::AcqRel) + 1)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
