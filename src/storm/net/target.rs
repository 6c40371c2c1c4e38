//! The target of requests: a server whose addresses were checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use url::Url;

use crate::storm::guard;
use crate::upstream::http::{self, BaseUrl, ErrorKind};

/// Which servers may be targeted, and how they are connected to.
pub(super) struct TargetPolicy<'a> {
    /// Whether hosts other than this machine are allowed if confirmed.
    pub(super) remote: bool,
    /// Host names that are allowed.
    pub(super) confirmed: &'a [String],
    /// Limit for a whole request.
    pub(super) timeout: Duration,
    /// Whether a client keeps its connection between requests.
    pub(super) keeps_connections: bool,
}

/// Why a server cannot be targeted.
pub(super) enum TargetError {
    /// The URL is invalid, or the host is not allowed.
    Refused(String),
    /// The host has no address.
    Unresolved(String),
}

/// A server with the addresses that were checked.
pub(super) struct Target {
    base: BaseUrl,
    /// Its pool stays empty.
    connector: Connector,
    peers: Vec<Arc<HttpPeer>>,
    pub(super) timeout: Duration,
    pub(super) keeps_connections: bool,
    reconnects: AtomicU64,
}

impl Target {
    /// Checks a URL and looks up its host. Looks it up only once, so that no later request goes to an unchecked
    /// address. Sends nothing to the server.
    pub(super) async fn resolve(url: &Url, policy: &TargetPolicy<'_>) -> Result<Self, TargetError> {
        let refused = |reason: &str| TargetError::Refused(format!("{}: {reason}", url.host_str().unwrap_or("URL")));
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused("the URL must begin with http:// or https://"));
        }
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || url.query().is_some() || url.fragment().is_some() {
            return Err(refused("the URL must not contain a user, a query or a fragment"));
        }
        let Some(host) = url.host_str() else { return Err(refused("the URL must contain a host")) };
        let base = BaseUrl::new(url);
        let addresses =
            base.look_up().await.map_err(|error| TargetError::Unresolved(format!("cannot resolve {host}: {error}")))?;
        let is_loopback = addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
        guard::check(host, is_loopback, policy.remote, policy.confirmed).map_err(TargetError::Refused)?;
        if addresses.is_empty() {
            return Err(TargetError::Unresolved(format!("{host} has no address")));
        }
        Ok(Self {
            connector: Connector::new(Some(ConnectorOptions::new(1))),
            peers: addresses.into_iter().map(|address| Arc::new(base.to_peer(address))).collect(),
            base,
            timeout: policy.timeout,
            keeps_connections: policy.keeps_connections,
            reconnects: AtomicU64::new(0),
        })
    }

    /// Builds the header of a GET, or of a POST of a form. `path` may contain a query.
    pub(super) fn request(&self, path: &str, form: Option<&Bytes>) -> Result<RequestHeader, ErrorKind> {
        let method = if form.is_some() { "POST" } else { "GET" };
        let length = form.map(|form| form.len().to_string());
        let mut headers = vec![("User-Agent", concat!("capgate-storm/", env!("CARGO_PKG_VERSION"))), ("Accept", "*/*")];
        if let Some(length) = &length {
            headers.push(("Content-Type", "application/x-www-form-urlencoded"));
            headers.push(("Content-Length", length));
        }
        if !self.keeps_connections {
            headers.push(("Connection", "close"));
        }
        self.base.request(method, path, &headers)
    }

    /// Opens a new connection to the first address that accepts one.
    pub(super) async fn connect(&self) -> Result<HttpSession, ErrorKind> {
        Ok(http::connect(&self.connector, &self.peers).await?.session)
    }

    pub(super) fn count_reconnect(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of kept connections that the server had closed, and that were replaced.
    pub(super) fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }
}
