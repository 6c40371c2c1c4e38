//! Sends native calls over pooled connections.
//!
//! The request is built from the call alone; nothing of the client's request is forwarded. A submit or a report is sent
//! at most once. A poll or a balance is repeated once, only if a pooled connection died before any response, and within
//! the retry budget. A call that no connection could be opened for is not sent: it tries the next address, which it also
//! does while a connection attempt is slow (RFC 8305).
//!
//! No two accounts share a connection, so that a stray response, which nobody can tell from the answer to the next call,
//! stays within the account that caused it (`docs/decisions/0016-connections-per-account.md`).

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use parking_lot::Mutex;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::task::JoinSet;

use super::ca_file;
use super::decompress::decompress;
use super::health::{Thresholds, Verdict};
use super::http::{self, BaseUrl, Connection, ErrorKind, ExchangeError};
use super::metrics::UpstreamMetrics;
use super::options::Options;
use super::resolver::{Lease, LookUp, Resolver};
use super::retry_budget::RetryBudget;
use crate::clock::Clock;
use crate::gateway::upstream::{SendError, Upstream};
use crate::native::{Answer, Call, Endpoint, Rate};
use crate::telemetry::metrics::MetricsRegistry;

const USER_AGENT: &str = concat!("capgate/", env!("CARGO_PKG_VERSION"));

/// Client of the native API with a connection pool. Cheap to clone.
#[derive(Clone)]
pub struct NativeUpstream(Arc<Client>);

impl std::fmt::Debug for NativeUpstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NativeUpstream").field("options", &self.0.options).finish_non_exhaustive()
    }
}

struct Client {
    options: Options,
    base: BaseUrl,
    connector: Connector,
    resolver: Arc<Resolver>,
    clock: Clock,
    retries: Mutex<RetryBudget>,
    /// Hashes accounts into groups of connections, which Pingora tells apart by 64 bits only. Random, so that nobody can
    /// choose a key that falls into the group of another.
    groups: RandomState,
}

/// The group of the connections that serve no account.
const NO_ACCOUNT: u64 = 0;

impl NativeUpstream {
    /// Creates a client with an empty pool. Opens no connection yet.
    ///
    /// # Errors
    /// If the CA file cannot be read or contains no certificate.
    pub fn new(options: Options, registry: &MetricsRegistry) -> Result<Self, String> {
        let base = Arc::new(BaseUrl::new(&options.url));
        let look_up = move || -> Pin<Box<dyn Future<Output = _> + Send>> {
            let base = Arc::clone(&base);
            Box::pin(async move { base.look_up().await })
        };
        Self::with_look_up(options, registry, Box::new(look_up))
    }

    /// Creates a client as [`Self::new`], with another look-up of the addresses.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_look_up(options: Options, registry: &MetricsRegistry, look_up: Box<LookUp>) -> Result<Self, String> {
        if let Some(file) = &options.ca_file {
            ca_file::check(file)?;
        }
        let mut connector_options = ConnectorOptions::new(options.connections_idle_max);
        connector_options.ca_file.clone_from(&options.ca_file);
        let clock = Clock::start();
        let thresholds = Thresholds {
            failures_max: options.eject_failures,
            backoff_max_ms: u64::try_from(options.eject_max.as_millis()).unwrap_or(u64::MAX),
        };
        let resolver = Resolver::new(look_up, thresholds, clock, UpstreamMetrics::register(registry));
        resolver.register_gauges(registry);
        Ok(Self(Arc::new(Client {
            connector: new_connector(connector_options)?,
            base: BaseUrl::new(&options.url),
            resolver,
            clock,
            retries: Mutex::new(RetryBudget::new(clock.now())),
            groups: RandomState::new(),
            options,
        })))
    }

    /// Keeps the upstream's addresses up to date. Never returns.
    pub fn run_resolver(&self, period: Duration) -> impl Future<Output = ()> + Send + use<> {
        Arc::clone(&self.0.resolver).run_refresh(period)
    }

    /// Checks the health of the upstream's addresses periodically. Returns at once if health checks are disabled, and
    /// never otherwise.
    pub fn run_health_checks(&self) -> impl Future<Output = ()> + Send + use<> {
        Arc::clone(&self.0).run_health_checks()
    }
}

/// Creates a connection pool. Pingora panics if it cannot load the system's certificates.
fn new_connector(options: ConnectorOptions) -> Result<Connector, String> {
    std::panic::catch_unwind(AssertUnwindSafe(|| Connector::new(Some(options)))).map_err(|_| {
        "cannot load the system's CA certificates: set upstream.ca_file, or correct SSL_CERT_FILE or SSL_CERT_DIR"
            .to_owned()
    })
}

impl Upstream for NativeUpstream {
    fn send(&self, call: Call) -> Pin<Box<dyn Future<Output = Result<Answer, SendError>> + Send>> {
        let client = Arc::clone(&self.0);
        Box::pin(async move {
            let deadline = match call.endpoint {
                Endpoint::CreateTask => client.options.submit_timeout,
                Endpoint::GetTaskResult | Endpoint::GetBalance | Endpoint::FeedbackTask => client.options.poll_timeout,
            };
            let (endpoint, sent) = (call.endpoint, AtomicBool::new(false));
            let result = tokio::time::timeout(deadline, client.send(call, &sent)).await;
            result.unwrap_or(Err(ErrorKind::Timeout)).map_err(|kind| {
                let (cause, sent) = (kind.label(), sent.into_inner());
                tracing::warn!(endpoint = endpoint.label(), what = cause, sent, "upstream call failed");
                SendError { sent, cause }
            })
        })
    }
}

impl Client {
    /// Sends a call and repeats it if that is allowed. Sets `sent` before the first byte is written.
    async fn send(self: &Arc<Self>, call: Call, sent: &AtomicBool) -> Result<Answer, ErrorKind> {
        let request = self.request(&call)?;
        let is_idempotent = call.endpoint.is_idempotent();
        let group = self.groups.hash_one(&call.account);
        let mut body = call.body;
        self.retries.lock().count_call(self.clock.now());
        let mut may_repeat = is_idempotent;
        loop {
            let (mut connection, lease) =
                self.connect(group, is_idempotent && self.options.health_check.is_none()).await?;
            // Even a failed write may have reached the upstream.
            sent.store(true, Ordering::Relaxed);
            // A call that cannot be repeated is not needed once it is written: its image may be large, and the answer late.
            let body = if may_repeat { body.clone() } else { std::mem::take(&mut body) };
            match self.exchange(&mut connection.session, request.clone(), body).await {
                Ok(answer) => {
                    lease.end(Verdict::Answered);
                    self.release(connection).await;
                    return Ok(answer);
                }
                Err(error) => {
                    // A server closes idle connections and all connections when it restarts: this says nothing about
                    // the address.
                    let was_idle = connection.is_reused && error.nothing_received;
                    lease.end(if was_idle { Verdict::Unknown } else { verdict(error.kind) });
                    if !(was_idle && std::mem::take(&mut may_repeat) && self.may_retry()) {
                        return Err(error.kind);
                    }
                }
            }
        }
    }

    /// Connects to the first address that accepts a connection, or takes an idle connection of the group. Sends nothing
    /// to the others. A probe of an ejected address may wait for a long time, so only calls that `may_probe` begin with
    /// one, and with no second one.
    async fn connect(self: &Arc<Self>, group: u64, may_probe: bool) -> Result<(Connection, Lease), ErrorKind> {
        let mut result = Err(ErrorKind::CircuitOpen);
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut slow: JoinSet<Result<(Connection, Lease), ErrorKind>> = JoinSet::new();
        let (connection, mut lease) = loop {
            // A new order for each attempt, because other calls may have ejected addresses meanwhile.
            let order = self.resolver.order(may_probe && tried.is_empty()).await;
            let order = order.ok_or(ErrorKind::Unresolved)?;
            let is_untried = |address: &SocketAddr| !tried.contains(address);
            let ejected = order.ejected.into_iter().filter(|_| slow.is_empty());
            let next = order.usable.into_iter().chain(ejected).find(is_untried);
            let ended = if let Some(address) = next {
                tried.push(address);
                let Some(lease) = self.resolver.begin(address) else { continue };
                self.attempt_until_slow(self.new_peer(address, group), lease, &mut slow).await
            } else if let Some(ended) = slow.join_next().await {
                Some(ended.unwrap_or(Err(ErrorKind::Connect)))
            } else {
                return result;
            };
            match ended {
                Some(Ok(connected)) => break connected,
                Some(Err(kind)) => result = Err(kind),
                None => {}
            }
        };
        // The other attempts go on, because their addresses are ejected only once they have failed.
        slow.detach_all();
        lease.connected(!connection.is_reused);
        Ok((connection, lease))
    }

    /// Attempts to connect to a peer. Moves the attempt to the slow ones, and returns `None`, if it takes long.
    async fn attempt_until_slow(
        self: &Arc<Self>,
        peer: HttpPeer,
        lease: Lease,
        slow: &mut JoinSet<Result<(Connection, Lease), ErrorKind>>,
    ) -> Option<Result<(Connection, Lease), ErrorKind>> {
        let mut attempt = Box::pin(Arc::clone(self).attempt(peer, lease));
        let ended = tokio::select! {
            biased;
            ended = &mut attempt => return Some(ended),
            Some(ended) = slow.join_next() => Some(ended.unwrap_or(Err(ErrorKind::Connect))),
            () = tokio::time::sleep(self.resolver.attempt_delay()) => None,
        };
        slow.spawn(attempt);
        ended
    }

    async fn attempt(self: Arc<Self>, peer: HttpPeer, lease: Lease) -> Result<(Connection, Lease), ErrorKind> {
        match http::connect(&self.connector, &[Arc::new(peer)]).await {
            Ok(connection) => Ok((connection, lease)),
            Err(kind) => {
                lease.end(Verdict::ConnectFailed);
                Err(kind)
            }
        }
    }

    async fn run_health_checks(self: Arc<Self>) {
        let Some(period) = self.options.health_check else { return };
        loop {
            tokio::time::sleep(period).await;
            let mut checks = JoinSet::new();
            for address in self.resolver.unchecked(period) {
                let client = Arc::clone(&self);
                checks.spawn(async move {
                    let check = client.check(address);
                    // A check that runs into its time limit ends the lease as a failed call.
                    tokio::time::timeout(client.options.poll_timeout, check).await.unwrap_or(Some(false))
                });
            }
            for is_ok in checks.join_all().await.into_iter().flatten() {
                self.resolver.metrics().count_check(is_ok);
            }
        }
    }

    /// Requests the base URL from an address. Any response is healthy. Returns `None` if the address must not take a
    /// call now.
    async fn check(self: &Arc<Self>, address: SocketAddr) -> Option<bool> {
        let request = self.base.request("GET", "/", &[("User-Agent", USER_AGENT)]).ok()?;
        let lease = self.resolver.begin(address)?;
        let Ok((mut connection, mut lease)) = Arc::clone(self).attempt(self.new_peer(address, NO_ACCOUNT), lease).await
        else {
            return Some(false);
        };
        lease.connected(!connection.is_reused);
        match http::exchange(&mut connection.session, request, None, self.options.answer_bytes_max).await {
            Ok(_) => {
                lease.end(Verdict::Answered);
                self.release(connection).await;
                Some(true)
            }
            Err(error) => {
                let was_idle = connection.is_reused && error.nothing_received;
                lease.end(if was_idle { Verdict::Unknown } else { verdict(error.kind) });
                (!was_idle).then_some(verdict(error.kind) == Verdict::Answered)
            }
        }
    }

    fn may_retry(&self) -> bool {
        let is_allowed = self.retries.lock().try_retry(self.clock.now());
        self.resolver.metrics().count_retry(is_allowed);
        is_allowed
    }

    /// Returns the connection to the pool. Pingora's pool does not monitor a connection that it may not keep, so such a
    /// connection is closed here.
    async fn release(&self, connection: Connection) {
        let idle_timeout = self.options.idle_timeout;
        if self.options.connections_idle_max > 0 && !idle_timeout.is_zero() {
            self.connector.release_http_session(connection.session, &*connection.peer, Some(idle_timeout)).await;
        }
    }

    /// Builds the peer for an address and a group. Pingora's pool compares peers by value, so it finds the idle
    /// connections, and drops one on which the upstream has sent anything since the last answer.
    fn new_peer(&self, address: SocketAddr, group: u64) -> HttpPeer {
        let mut peer = self.base.to_peer(address);
        peer.group_key = group;
        peer.options.connection_timeout = Some(self.options.connect_timeout);
        peer.options.total_connection_timeout = Some(self.options.connect_timeout);
        // Limits for each read and write. The whole call has its own deadline.
        peer.options.read_timeout = Some(self.options.submit_timeout);
        peer.options.write_timeout = Some(self.options.submit_timeout);
        peer.options.idle_timeout = Some(self.options.idle_timeout);
        peer
    }

    async fn exchange(
        &self,
        session: &mut HttpSession,
        request: RequestHeader,
        body: Bytes,
    ) -> Result<Answer, ExchangeError> {
        let bytes_max = self.options.answer_bytes_max;
        let response = http::exchange(session, request, Some(body), bytes_max).await?;
        let encoding = response.header.headers.get("content-encoding");
        let encoding = encoding.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_ascii_lowercase());
        Ok(Answer {
            status: response.header.status.as_u16(),
            rate: rate(response.header),
            body: decompress(response.body, encoding.as_deref(), bytes_max)?,
        })
    }

    fn request(&self, call: &Call) -> Result<RequestHeader, ErrorKind> {
        let headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", &call.body.len().to_string()),
            ("Accept", "application/json"),
            // Responses are small, and an uncompressed one cannot be a compression bomb.
            ("Accept-Encoding", "identity"),
            ("User-Agent", USER_AGENT),
        ];
        self.base.request("POST", call.endpoint.path(), &headers)
    }
}

/// Returns the verdict on the address of a call that failed.
fn verdict(kind: ErrorKind) -> Verdict {
    match kind {
        ErrorKind::Write | ErrorKind::NoAnswer | ErrorKind::CutOff | ErrorKind::Timeout => Verdict::CallFailed,
        ErrorKind::TooBig | ErrorKind::Encoding => Verdict::Answered,
        ErrorKind::Unresolved | ErrorKind::Connect | ErrorKind::CircuitOpen | ErrorKind::Encode => Verdict::Unknown,
    }
}

fn rate(response: &ResponseHeader) -> Rate {
    let header = |name: &'static str| response.headers.get(name)?.to_str().ok();
    #[expect(clippy::disallowed_methods, reason = "the headers contain Unix times")]
    Rate::from_headers(header, Utc::now().timestamp())
}
