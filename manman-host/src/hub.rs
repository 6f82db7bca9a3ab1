//! Bounded fan-out: one writer, any number of readers, and a reader that is too slow is told how
//! many items it has missed. It never slows the writer or another reader.

use tokio::sync::broadcast;

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item<T> {
    Value(T),
    /// So many values are lost to this reader, who may fetch them from where they are kept.
    Gap(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct Hub<T> {
    sender: broadcast::Sender<T>,
}

#[derive(Debug)]
pub(crate) struct Reader<T> {
    receiver: broadcast::Receiver<T>,
}

impl<T: Clone> Hub<T> {
    /// `capacity` values are kept for the slowest reader.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { sender: broadcast::Sender::new(capacity) }
    }

    pub(crate) fn send(&self, value: T) {
        // Without readers there is nobody to tell, which is no failure.
        let _ = self.sender.send(value);
    }

    /// Reads what is sent from now on. Subscribe before looking at the state that the values are
    /// about, so that nothing falls between the two.
    pub(crate) fn subscribe(&self) -> Reader<T> {
        Reader { receiver: self.sender.subscribe() }
    }
}

impl<T: Clone> Reader<T> {
    /// The next value or gap; `None` once the hub is gone. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Item<T>> {
        match self.receiver.recv().await {
            Ok(value) => Some(Item::Value(value)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Item::Gap(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// What lies ready, without waiting.
    pub(crate) fn ready(&mut self) -> Option<Item<T>> {
        match self.receiver.try_recv() {
            Ok(value) => Some(Item::Value(value)),
            Err(broadcast::error::TryRecvError::Lagged(missed)) => Some(Item::Gap(missed)),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_missed_and_slows_nobody() {
        let hub = Hub::new(4);
        let mut slow = hub.subscribe();
        let mut quick = hub.subscribe();
        for n in 0..10 {
            hub.send(n);
            assert_eq!(quick.next().await, Some(Item::Value(n)));
        }
        assert_eq!(slow.next().await, Some(Item::Gap(6)));
        assert_eq!(slow.next().await, Some(Item::Value(6)));
        drop(hub);
        for n in 7..10 {
            assert_eq!(slow.next().await, Some(Item::Value(n)));
        }
        assert_eq!(slow.next().await, None);
    }
}
