//! Sends native calls over pooled connections.
//!
//! The request is synthesised from the call alone: nothing of the client's request is passed on. What may be sent again
//! is decided by the endpoint: a submit or a report leaves at most once, whatever happens; a poll or a balance may be
//! repeated once, and only when a connection from the pool died before it brought anything.

use std::future::Future;
use std::io::Read;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chrono::Utc;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use url::Url;

use super::resolver::{PeerSettings, Peers};
use crate::gateway::upstream::{SendError, Upstream};
use crate::native::{Answer, Call, Endpoint, Rate};

/// Settings.
#[derive(Clone, Debug)]
pub struct Options {
    /// Base address.
    pub url: Url,
    /// CA certificates in PEM, instead of the system's.
    pub ca_file: Option<String>,
    /// For a new connection.
    pub connect_timeout: Duration,
    /// For a whole call other than a submit.
    pub poll_timeout: Duration,
    /// For a whole submit.
    pub submit_timeout: Duration,
    /// For which a connection may stay unused. Below the upstream's own, so that few die under a submit, which cannot be
    /// repeated.
    pub idle_timeout: Duration,
    /// Most unused connections.
    pub connections_idle_max: usize,
    /// Most bytes of an answer, after decompression.
    pub answer_bytes_max: usize,
}

/// The upstream behind its connection pool. Cheap to clone.
#[derive(Clone)]
pub struct NativeUpstream(Arc<Sender>);

impl std::fmt::Debug for NativeUpstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NativeUpstream").field("options", &self.0.options).finish_non_exhaustive()
    }
}

struct Sender {
    options: Options,
    connector: Connector,
    peers: Arc<Peers>,
    /// `Host` header.
    host: String,
    /// Path of the base address, without a slash at its end.
    prefix: String,
}

impl NativeUpstream {
    /// Prepares the pool.
    ///
    /// # Errors
    /// When the CA file cannot be read or holds no certificate.
    pub fn new(options: Options) -> Result<Self, String> {
        if let Some(file) = &options.ca_file {
            check_ca_file(Path::new(file)).map_err(|why| format!("upstream.ca_file {file}: {why}"))?;
        }
        let mut connector_options = ConnectorOptions::new(options.connections_idle_max);
        connector_options.ca_file.clone_from(&options.ca_file);
        let settings = PeerSettings {
            connect_timeout: options.connect_timeout,
            step_timeout: options.submit_timeout,
            idle_timeout: options.idle_timeout,
        };
        let host = options.url.host_str().unwrap_or_default();
        Ok(Self(Arc::new(Sender {
            connector: Connector::new(Some(connector_options)),
            peers: Arc::new(Peers::new(&options.url, settings)),
            host: options.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
            prefix: options.url.path().trim_end_matches('/').to_owned(),
            options,
        })))
    }

    /// Keeps the upstream's addresses fresh, for ever.
    pub fn keep_resolved(&self, every: Duration) -> impl Future<Output = ()> + Send + 'static {
        Arc::clone(&self.0.peers).keep_fresh(every)
    }
}

impl Upstream for NativeUpstream {
    fn send(&self, call: Call) -> Pin<Box<dyn Future<Output = Result<Answer, SendError>> + Send>> {
        let sender = Arc::clone(&self.0);
        Box::pin(async move {
            let deadline = match call.endpoint {
                Endpoint::CreateTask => sender.options.submit_timeout,
                Endpoint::GetTaskResult | Endpoint::GetBalance | Endpoint::FeedbackTask => sender.options.poll_timeout,
            };
            let sent = AtomicBool::new(false);
            let answer = tokio::time::timeout(deadline, sender.send(&call, &sent)).await;
            let what = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(what)) => what,
                Err(_) => "timeout",
            };
            let sent = sent.load(Ordering::Relaxed);
            tracing::warn!(endpoint = call.endpoint.label(), what, sent, "upstream call failed");
            Err(SendError { sent, what })
        })
    }
}

/// Why one exchange failed, and whether the upstream had said anything.
struct Broken {
    what: &'static str,
    silent: bool,
}

impl Sender {
    async fn send(&self, call: &Call, sent: &AtomicBool) -> Result<Answer, &'static str> {
        /// Addresses to try before giving up; nothing is sent to one that does not take the connection.
        const PEERS_MAX: usize = 3;
        let mut repeated = false;
        loop {
            let (peer, mut session, reused) = self.connect(PEERS_MAX).await?;
            match self.exchange(&mut session, call, sent).await {
                Ok(answer) => {
                    self.connector.release_http_session(session, &*peer, Some(self.options.idle_timeout)).await;
                    return Ok(answer);
                }
                Err(Broken { silent: true, .. }) if reused && !repeated && call.endpoint.is_idempotent() => {
                    repeated = true;
                }
                Err(Broken { what, .. }) => return Err(what),
            }
        }
    }

    async fn connect(&self, peers_max: usize) -> Result<(Arc<HttpPeer>, HttpSession, bool), &'static str> {
        let peers = self.peers.pick(peers_max).await;
        if peers.is_empty() {
            return Err("unresolved");
        }
        for peer in peers {
            match self.connector.get_http_session(&*peer).await {
                Ok((session, reused)) => return Ok((peer, session, reused)),
                Err(error) => tracing::debug!(kind = error.etype().as_str(), "no connection to the upstream"),
            }
        }
        Err("connect")
    }

    async fn exchange(&self, session: &mut HttpSession, call: &Call, sent: &AtomicBool) -> Result<Answer, Broken> {
        let broken = |what, silent| Broken { what, silent };
        let header = self.header(call).map_err(|_| broken("encode", false))?;
        // From here on the upstream may have got it, even if writing fails half-way.
        sent.store(true, Ordering::Relaxed);
        let written = async {
            session.write_request_header(Box::new(header)).await?;
            session.write_request_body(call.body.clone(), true).await?;
            session.finish_request_body().await
        };
        written.await.map_err(|_| broken("write", true))?;
        let status = self.read_status(session).await?;
        let rate = rate(session);
        let encoding = session
            .response_header()
            .and_then(|header| header.headers.get("content-encoding"))
            .map(|encoding| String::from_utf8_lossy(encoding.as_bytes()).trim().to_ascii_lowercase());
        let mut body = BytesMut::new();
        while let Some(chunk) = session.read_response_body().await.map_err(|_| broken("cut_off", false))? {
            if body.len() + chunk.len() > self.options.answer_bytes_max {
                return Err(broken("too_big", false));
            }
            body.extend_from_slice(&chunk);
        }
        let body = decompress(body.freeze(), encoding.as_deref(), self.options.answer_bytes_max);
        Ok(Answer { status, body: body.map_err(|what| broken(what, false))?, rate })
    }

    /// Reads headers until the final one.
    async fn read_status(&self, session: &mut HttpSession) -> Result<u16, Broken> {
        /// A server has no reason to send more interim answers than this; some attacks have.
        const INTERIM_MAX: usize = 8;
        let mut silent = true;
        for _ in 0..INTERIM_MAX {
            session.read_response_header().await.map_err(|_| Broken { what: "no_answer", silent })?;
            silent = false;
            let status = session.response_header().map_or(0, |header| header.status.as_u16());
            if status >= 200 {
                return Ok(status);
            }
        }
        Err(Broken { what: "no_answer", silent: false })
    }

    fn header(&self, call: &Call) -> pingora::Result<RequestHeader> {
        let path = format!("{}{}", self.prefix, call.endpoint.path());
        let mut header = RequestHeader::build("POST", path.as_bytes(), Some(6))?;
        header.insert_header("Host", &self.host)?;
        header.insert_header("Content-Type", "application/json")?;
        header.insert_header("Content-Length", call.body.len())?;
        header.insert_header("Accept", "application/json")?;
        // Answers are small, and what is not compressed cannot be a compression bomb.
        header.insert_header("Accept-Encoding", "identity")?;
        header.insert_header("User-Agent", concat!("capgate/", env!("CARGO_PKG_VERSION")))?;
        Ok(header)
    }
}

/// What the headers of an answer say about the limit.
fn rate(session: &HttpSession) -> Rate {
    let header = |name: &'static str| session.response_header()?.headers.get(name)?.to_str().ok();
    #[expect(clippy::disallowed_methods, reason = "the headers hold Unix times")]
    Rate::from_headers(header, Utc::now().timestamp())
}

/// Undoes a compression that was not asked for.
fn decompress(body: Bytes, encoding: Option<&str>, bytes_max: usize) -> Result<Bytes, &'static str> {
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut inflated = Vec::new();
    let read = match encoding {
        None | Some("" | "identity") => return Ok(body),
        Some("gzip" | "x-gzip") => flate2::read::MultiGzDecoder::new(&*body).take(limit).read_to_end(&mut inflated),
        Some("deflate") => flate2::read::ZlibDecoder::new(&*body).take(limit).read_to_end(&mut inflated),
        Some(_) => return Err("encoding"),
    };
    match read {
        Err(_) => Err("encoding"),
        Ok(length) if length > bytes_max => Err("too_big"),
        Ok(_) => Ok(Bytes::from(inflated)),
    }
}

/// Pingora would panic on a file that it cannot use.
fn check_ca_file(file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    if text.contains("-----BEGIN CERTIFICATE-----") { Ok(()) } else { Err("no certificate in PEM".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).expect("memory");
        Bytes::from(encoder.finish().expect("memory"))
    }

    #[test]
    fn compression_that_was_not_asked_for_is_undone_within_bounds() {
        assert_eq!(decompress(gzip(b"{}"), Some("gzip"), 2), Ok(Bytes::from_static(b"{}")));
        assert_eq!(decompress(gzip(&vec![0; 100_000]), Some("gzip"), 99_999), Err("too_big"));
        assert_eq!(decompress(Bytes::from_static(b"{}"), Some("gzip"), 10), Err("encoding"));
        assert_eq!(decompress(Bytes::from_static(b"{}"), Some("br"), 10), Err("encoding"));
        assert_eq!(decompress(Bytes::from_static(b"{}"), None, 10), Ok(Bytes::from_static(b"{}")));
    }
}
