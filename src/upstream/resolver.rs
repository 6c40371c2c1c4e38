//! The upstream's addresses: looked up without blocking a thread, kept if a later look-up fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use pingora::upstreams::peer::HttpPeer;

use super::http::BaseUrl;
use super::options::Options;

/// One peer for each address of the upstream.
#[derive(Debug)]
pub(super) struct Resolver {
    base: BaseUrl,
    options: Options,
    peers: RwLock<Vec<Arc<HttpPeer>>>,
    /// Counts selections, to rotate the peers.
    selections: AtomicUsize,
}

impl Resolver {
    /// Creates a resolver that knows no address yet.
    pub(super) fn new(base: BaseUrl, options: Options) -> Self {
        Self { base, options, peers: RwLock::default(), selections: AtomicUsize::new(0) }
    }

    /// Returns up to `count` peers in the order in which to try them, and starts with the next peer each time. Looks up
    /// the name if no address is known.
    pub(super) async fn select(&self, count: usize) -> Vec<Arc<HttpPeer>> {
        let mut peers = self.peers.read().clone();
        if peers.is_empty() {
            self.refresh().await;
            peers.clone_from(&self.peers.read());
        }
        let first = self.selections.fetch_add(1, Ordering::Relaxed) % peers.len().max(1);
        peers.rotate_left(first);
        peers.truncate(count);
        peers
    }

    /// Looks up the name periodically. Never returns.
    pub(super) async fn run_refresh(self: Arc<Self>, period: Duration) {
        loop {
            self.refresh().await;
            tokio::time::sleep(period).await;
        }
    }

    /// Looks up the name once. Keeps the known peers if that fails: they may be reachable although the name server is
    /// not.
    async fn refresh(&self) {
        let mut addresses = match self.base.look_up().await {
            Ok(addresses) => addresses,
            Err(error) => {
                tracing::warn!(kind = error.kind().to_string(), "upstream name not resolved");
                return;
            }
        };
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return;
        }
        // Pingora's pool compares peers by value, so new peers find the idle connections of the old ones.
        let peers = addresses.into_iter().map(|address| Arc::new(self.new_peer(address))).collect();
        *self.peers.write() = peers;
    }

    fn new_peer(&self, address: SocketAddr) -> HttpPeer {
        let mut peer = self.base.to_peer(address);
        peer.options.connection_timeout = Some(self.options.connect_timeout);
        peer.options.total_connection_timeout = Some(self.options.connect_timeout);
        // Limits for each read and write. The whole call has its own deadline.
        peer.options.read_timeout = Some(self.options.submit_timeout);
        peer.options.write_timeout = Some(self.options.submit_timeout);
        peer.options.idle_timeout = Some(self.options.idle_timeout);
        peer
    }
}
