//! HTTP over Pingora's client sessions: one request and its whole, bounded response on a connection.
//!
//! The caller keeps the connections and decides whether a request may be repeated. The caller also limits the time of
//! an exchange, except for the name look-up.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Stream;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v1::client::HttpSession as Http1Session;
use pingora::upstreams::peer::HttpPeer;
use url::{Host, Url};

/// Cause of a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No address of the host is known.
    Unresolved,
    /// No address accepted a connection.
    Connect,
    /// All addresses are ejected, and each already has its probe.
    CircuitOpen,
    /// The request is not valid HTTP.
    Encode,
    /// The request could not be written.
    Write,
    /// The connection ended before the final response header.
    NoAnswer,
    /// The connection ended within the response body.
    CutOff,
    /// The response body exceeds the limit.
    TooBig,
    /// The response body could not be decompressed.
    Encoding,
    /// No whole response within the time limit.
    Timeout,
}

impl ErrorKind {
    /// Returns the label for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Connect => "connect",
            Self::CircuitOpen => "circuit_open",
            Self::Encode => "encode",
            Self::Write => "write",
            Self::NoAnswer => "no_answer",
            Self::CutOff => "cut_off",
            Self::TooBig => "too_big",
            Self::Encoding => "encoding",
            Self::Timeout => "timeout",
        }
    }
}

/// Why an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeError {
    /// Cause.
    pub kind: ErrorKind,
    /// The request was sent at least in part, and no response header was received. On a reused connection this usually
    /// means that the server closed the connection while it was idle.
    pub nothing_received: bool,
}

impl From<ErrorKind> for ExchangeError {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, nothing_received: false }
    }
}

/// Base address of a server.
#[derive(Clone, Debug)]
pub struct BaseUrl {
    /// Host without the brackets of an IPv6 address: for look-up and TLS.
    host: String,
    port: u16,
    tls: bool,
    host_header: String,
    /// Without a trailing slash.
    path_prefix: String,
}

impl BaseUrl {
    /// Creates a base address from an http(s) URL with a host, which the caller has checked.
    pub fn new(url: &Url) -> Self {
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        let tls = url.scheme() == "https";
        let bracketed = url.host_str().unwrap_or_default();
        Self {
            host,
            port: url.port_or_known_default().unwrap_or(if tls { 443 } else { 80 }),
            tls,
            host_header: url.port().map_or_else(|| bracketed.to_owned(), |port| format!("{bracketed}:{port}")),
            path_prefix: url.path().trim_end_matches('/').to_owned(),
        }
    }

    /// Looks up the host's addresses without blocking the thread. May return none.
    ///
    /// # Errors
    /// If the look-up fails or takes longer than five seconds.
    pub async fn look_up(&self) -> io::Result<Vec<SocketAddr>> {
        const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port));
        match tokio::time::timeout(LOOK_UP_TIMEOUT, addresses).await {
            Ok(addresses) => Ok(addresses?.collect()),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "look-up timed out")),
        }
    }

    /// Builds a peer for one of the host's addresses. A socket address, not a name, because Pingora's own look-up
    /// blocks its thread and panics if it fails.
    pub fn to_peer(&self, address: SocketAddr) -> HttpPeer {
        HttpPeer::new(address, self.tls, self.host.clone())
    }

    /// Builds a request header with `Host` and then `headers`. `path` may contain a query.
    ///
    /// # Errors
    /// [`ErrorKind::Encode`].
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<RequestHeader, ErrorKind> {
        let path = format!("{}{path}", self.path_prefix);
        let build = || -> pingora::Result<RequestHeader> {
            let mut header = RequestHeader::build(method, path.as_bytes(), Some(headers.len() + 1))?;
            header.insert_header("Host", &self.host_header)?;
            for (name, value) in headers {
                header.insert_header(*name, *value)?;
            }
            Ok(header)
        };
        build().map_err(|_| ErrorKind::Encode)
    }
}

/// A session on an open connection.
pub struct Connection {
    /// Carries one request.
    pub session: HttpSession,
    /// The peer that accepted the connection.
    pub peer: Arc<HttpPeer>,
    /// Whether the connection is from the connector's pool.
    pub is_reused: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("is_reused", &self.is_reused).finish_non_exhaustive()
    }
}

/// Connects to the first peer that accepts a connection. Sends nothing to the others.
///
/// # Errors
/// [`ErrorKind::Unresolved`] without peers, [`ErrorKind::Connect`] if none accepts.
pub async fn connect(connector: &Connector, peers: &[Arc<HttpPeer>]) -> Result<Connection, ErrorKind> {
    if peers.is_empty() {
        return Err(ErrorKind::Unresolved);
    }
    for peer in peers {
        match connector.get_http_session(&**peer).await {
            Ok((session, is_reused)) => return Ok(Connection { session, peer: Arc::clone(peer), is_reused }),
            Err(error) => tracing::debug!(kind = error.etype().as_str(), "connection failed"),
        }
    }
    Err(ErrorKind::Connect)
}

/// Starts a new session on a connection that [`into_stream`] returned.
pub fn resume(stream: Stream) -> HttpSession {
    HttpSession::H1(Http1Session::new(stream))
}

/// Returns the connection of a completed HTTP/1 session if it may carry another request; closes it otherwise.
pub async fn into_stream(session: HttpSession) -> Option<Stream> {
    let HttpSession::H1(mut session) = session else { return None };
    session.respect_keepalive();
    session.reuse().await
}

/// The final response to a request.
#[derive(Debug)]
pub struct Response<'a> {
    /// Status and headers.
    pub header: &'a ResponseHeader,
    /// The whole body, still compressed if the server compressed it.
    pub body: Bytes,
}

/// Sends a request and reads the whole response, with a body of at most `body_bytes_max`.
///
/// # Errors
/// [`ErrorKind::Write`], [`ErrorKind::NoAnswer`], [`ErrorKind::CutOff`] or [`ErrorKind::TooBig`].
pub async fn exchange(
    session: &mut HttpSession,
    request: RequestHeader,
    body: Option<Bytes>,
    body_bytes_max: usize,
) -> Result<Response<'_>, ExchangeError> {
    write_request(session, request, body)
        .await
        .map_err(|_| ExchangeError { kind: ErrorKind::Write, nothing_received: true })?;
    read_final_header(session).await?;
    let body = read_body(session, body_bytes_max).await?;
    let header = session.response_header().ok_or(ErrorKind::NoAnswer)?;
    Ok(Response { header, body })
}

async fn write_request(session: &mut HttpSession, header: RequestHeader, body: Option<Bytes>) -> pingora::Result<()> {
    session.write_request_header(Box::new(header)).await?;
    if let Some(body) = body {
        session.write_request_body(body, true).await?;
    }
    session.finish_request_body().await
}

/// Reads headers until the final one, and skips interim responses.
async fn read_final_header(session: &mut HttpSession) -> Result<(), ExchangeError> {
    /// A server has no reason to send more interim responses; some attacks do.
    const INTERIM_MAX: usize = 8;
    let mut nothing_received = true;
    for _ in 0..INTERIM_MAX {
        let header = session.read_response_header().await;
        header.map_err(|_| ExchangeError { kind: ErrorKind::NoAnswer, nothing_received })?;
        nothing_received = false;
        if session.response_header().is_some_and(|header| header.status.as_u16() >= 200) {
            return Ok(());
        }
    }
    Err(ErrorKind::NoAnswer.into())
}

async fn read_body(session: &mut HttpSession, bytes_max: usize) -> Result<Bytes, ErrorKind> {
    let mut body = BytesMut::new();
    while let Some(chunk) = session.read_response_body().await.map_err(|_| ErrorKind::CutOff)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(ErrorKind::TooBig);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(url: &str) -> BaseUrl {
        BaseUrl::new(&Url::parse(url).expect("a URL"))
    }

    #[test]
    fn requests_have_the_host_and_the_path_of_the_base_url() {
        let request =
            base("https://[::1]:8443/api/").request("GET", "/balance?key=K", &[("Accept", "*/*")]).expect("valid");
        assert_eq!(request.uri.to_string(), "/api/balance?key=K");
        assert_eq!(request.headers["host"], "[::1]:8443");
        assert_eq!(request.headers["accept"], "*/*");
        let request = base("http://gate.test").request("GET", "/", &[]).expect("valid");
        assert_eq!(request.uri.to_string(), "/");
        assert_eq!(request.headers["host"], "gate.test");
    }

    #[test]
    fn a_header_that_is_not_valid_http_is_an_error() {
        assert_eq!(base("http://gate.test").request("GET", "/", &[("X", "a\r\nb")]).err(), Some(ErrorKind::Encode));
    }

    #[tokio::test]
    async fn ipv6_hosts_are_looked_up_without_brackets() {
        let addresses = base("http://[::1]/").look_up().await.expect("an address");
        assert_eq!(addresses, [SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 80))]);
    }
}
