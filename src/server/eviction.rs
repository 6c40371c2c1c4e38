//! Keeps a private listener open to new connections: one too many takes the place of the connection that has been open
//! for longest.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::yield_now;

/// The connections of one listener, in the order in which they were opened.
#[derive(Debug)]
pub(super) struct EvictionQueue {
    connections_max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Number of the next connection.
    next: u64,
    /// What to notify in order to evict each connection.
    by_age: BTreeMap<u64, Arc<Notify>>,
}

impl EvictionQueue {
    /// Creates a queue of at most so many connections.
    pub(super) fn new(connections_max: usize) -> Arc<Self> {
        Arc::new(Self { connections_max, open: Mutex::default() })
    }

    /// Admits a connection, and evicts the oldest one if there are too many.
    pub(super) fn admit(self: &Arc<Self>) -> QueueEntry {
        let evict = Arc::new(Notify::new());
        let mut open = self.open.lock();
        if open.by_age.len() >= self.connections_max
            && let Some((_, oldest)) = open.by_age.pop_first()
        {
            oldest.notify_one();
        }
        let number = open.next;
        open.next += 1;
        open.by_age.insert(number, Arc::clone(&evict));
        QueueEntry { queue: Arc::clone(self), number, evict }
    }
}

/// One open connection of a queue.
#[derive(Debug)]
pub(super) struct QueueEntry {
    queue: Arc<EvictionQueue>,
    number: u64,
    evict: Arc<Notify>,
}

impl QueueEntry {
    /// Returns once the connection has to close.
    pub(super) async fn evicted(&self) {
        /// Enough for the runtime to look at its sockets. A connection that waits to be accepted among many others may
        /// be evicted before anybody has looked for its request, which is then still answered.
        const TURNS: usize = 2;
        self.evict.notified().await;
        for _ in 0..TURNS {
            yield_now().await;
        }
    }
}

impl Drop for QueueEntry {
    fn drop(&mut self) {
        self.queue.open.lock().by_age.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_evicted(entry: &QueueEntry) -> bool {
        let mut evicted = pin!(entry.evicted());
        (0..9).any(|_| evicted.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(()))
    }

    #[test]
    fn the_oldest_connection_makes_room_for_a_new_one() {
        let queue = EvictionQueue::new(2);
        let (first, second) = (queue.admit(), queue.admit());
        assert!(!is_evicted(&first) && !is_evicted(&second));
        let third = queue.admit();
        assert!(is_evicted(&first) && !is_evicted(&second) && !is_evicted(&third));
        drop((first, third));
        let fourth = queue.admit();
        assert!(!is_evicted(&second), "a place was free");
        let _fifth = queue.admit();
        assert!(is_evicted(&second) && !is_evicted(&fourth));
        drop((second, fourth));
        assert_eq!(queue.open.lock().by_age.len(), 1);
    }
}
