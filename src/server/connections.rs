//! The connections of one or several listeners: counted, limited, and awaited when the process drains.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntCounter;
use tokio::sync::Notify;

use crate::telemetry::metrics::MetricsRegistry;

/// A counter of open connections.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicUsize,
    /// Notified each time that the last connection closes.
    closed: Notify,
    rejected: Option<IntCounter>,
}

impl Connections {
    /// Creates a counter that is visible in metrics. Without metrics, use [`Connections::default`].
    pub fn register(registry: &MetricsRegistry) -> Arc<Self> {
        let rejected = registry.counter(
            "capgate_connections_shed_total",
            "Connections closed unserved because connections_max were open.",
        );
        let connections = Arc::new(Self { rejected: Some(rejected), ..Self::default() });
        let counted = Arc::clone(&connections);
        registry.gauge("capgate_connections", "Connections open on the legacy listeners.", move || counted.open());
        connections
    }

    /// Returns how many connections are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Admits a connection, unless `limit` are open already.
    pub(super) fn admit(self: &Arc<Self>, limit: usize) -> Option<ConnectionGuard> {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        // Created first, so that a rejected connection is counted out again.
        let guard = ConnectionGuard(Arc::clone(self));
        if open < limit {
            return Some(guard);
        }
        if let Some(rejected) = &self.rejected {
            rejected.inc();
        }
        None
    }

    /// Returns once no connection is open.
    pub async fn wait_until_closed(&self) {
        loop {
            let closed = self.closed.notified();
            if self.open() == 0 {
                return;
            }
            closed.await;
        }
    }
}

/// One open connection.
#[derive(Debug)]
pub(super) struct ConnectionGuard(Arc<Connections>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.closed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_are_limited_and_awaited() {
        let registry = MetricsRegistry::new();
        let connections = Connections::register(&registry);
        connections.wait_until_closed().await;
        let (first, second) = (connections.admit(2), connections.admit(2));
        assert!(first.is_some() && second.is_some() && connections.admit(2).is_none());
        let text = String::from_utf8(registry.render()).expect("text");
        assert!(
            text.contains("capgate_connections 2\n") && text.contains("capgate_connections_shed_total 1\n"),
            "{text}"
        );

        let mut waiting = Box::pin(connections.wait_until_closed());
        drop(first);
        assert!(poll_once(&mut waiting).await.is_none(), "one is still open");
        drop(second);
        waiting.await;
    }

    /// Polls a future once.
    async fn poll_once<T>(future: &mut std::pin::Pin<Box<impl Future<Output = T>>>) -> Option<T> {
        std::future::poll_fn(|context| {
            let polled = future.as_mut().poll(context);
            std::task::Poll::Ready(match polled {
                std::task::Poll::Ready(done) => Some(done),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
