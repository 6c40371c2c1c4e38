//! Where the upstream is: its addresses, looked up without blocking a thread, kept when a look-up fails.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use pingora::upstreams::peer::HttpPeer;
use url::{Host, Url};

/// Time for one look-up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of every connection to the upstream.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// For TCP, and again for TCP and TLS together.
    pub connect_timeout: Duration,
    /// For each read and write; the call has a deadline of its own above it.
    pub step_timeout: Duration,
    /// For which a connection may stay unused in the pool.
    pub idle_timeout: Duration,
}

/// The upstream's peers, one for each of its addresses. Peers are built from socket addresses only, since Pingora's
/// own look-up blocks its thread and panics when it fails.
#[derive(Debug)]
pub struct Peers {
    host: String,
    port: u16,
    tls: bool,
    settings: PeerSettings,
    known: RwLock<Vec<Arc<HttpPeer>>>,
    turn: AtomicUsize,
}

impl Peers {
    /// The peers of an http(s) URL with a host.
    pub fn new(url: &Url, settings: PeerSettings) -> Self {
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        let tls = url.scheme() == "https";
        let port = url.port_or_known_default().unwrap_or(if tls { 443 } else { 80 });
        Self { host, port, tls, settings, known: RwLock::default(), turn: AtomicUsize::new(0) }
    }

    /// Up to `count` peers to try, a different one first each time. Looks the name up when nothing is known yet.
    pub async fn pick(&self, count: usize) -> Vec<Arc<HttpPeer>> {
        let mut known = self.known();
        if known.is_empty() {
            self.refresh().await;
            known = self.known();
        }
        let length = known.len().max(1);
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % length;
        known.rotate_left(first);
        known.truncate(count);
        known
    }

    /// Looks the name up again, for ever.
    pub async fn keep_fresh(self: Arc<Self>, every: Duration) {
        loop {
            self.refresh().await;
            tokio::time::sleep(every).await;
        }
    }

    /// Looks the name up once. What was known stays when that fails: an upstream that can be reached is not lost to a
    /// name server that cannot.
    async fn refresh(&self) {
        let looked_up =
            tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((self.host.as_str(), self.port))).await;
        let mut addresses: Vec<SocketAddr> = match looked_up {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => {
                tracing::warn!(kind = error.kind().to_string(), "upstream name not resolved");
                return;
            }
            Err(_) => {
                tracing::warn!("upstream name not resolved in time");
                return;
            }
        };
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return;
        }
        let known = self.known();
        // A peer that stays keeps its place in the connection pool, whatever its place in the answer.
        let peers = addresses.iter().map(|address| {
            let same = known.iter().find(|peer| peer._address.as_inet() == Some(address));
            same.map_or_else(|| Arc::new(self.peer(*address)), Arc::clone)
        });
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = peers.collect();
    }

    fn known(&self) -> Vec<Arc<HttpPeer>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn peer(&self, address: SocketAddr) -> HttpPeer {
        let mut peer = HttpPeer::new(address, self.tls, self.host.clone());
        peer.options.connection_timeout = Some(self.settings.connect_timeout);
        peer.options.total_connection_timeout = Some(self.settings.connect_timeout);
        peer.options.read_timeout = Some(self.settings.step_timeout);
        peer.options.write_timeout = Some(self.settings.step_timeout);
        peer.options.idle_timeout = Some(self.settings.idle_timeout);
        peer
    }
}
