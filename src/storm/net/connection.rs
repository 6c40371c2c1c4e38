//! One client's connection: kept between its requests, and never shared with another client.
//!
//! Pingora's connector and HTTP/1 session as [`crate::upstream::client`] uses them, so that `https` works as well, but
//! without their pool: which client has which connection is part of the load.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::time::{Instant, timeout};
use url::{Host, Url};

use crate::storm::answer::Trouble;
use crate::storm::guard;

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// A server has no reason to send more interim answers than this.
const INTERIM_MAX: usize = 8;
/// Time for looking a name up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// A server: its addresses as they were when it was checked, and how to speak to it.
pub(super) struct Site {
    connector: TransportConnector,
    peers: Vec<HttpPeer>,
    /// `Host` header.
    host: String,
    /// Path of its URL, without a slash at its end.
    prefix: String,
    timeout: Duration,
    keeps_connections: bool,
    /// Connections that had died unused, and were replaced.
    reconnects: AtomicU64,
}

/// Why a server is not spoken to.
pub(super) enum NoSite {
    /// It may not be: the arguments are to blame.
    Refused(String),
    /// It cannot be found.
    Unresolved(String),
}

/// Which servers may be spoken to, and how.
pub(super) struct Terms<'a> {
    pub(super) remote: bool,
    pub(super) confirmed: &'a [String],
    pub(super) timeout: Duration,
    pub(super) keeps_connections: bool,
}

impl Site {
    /// Looks a server up once, so that what is spoken to later is what was checked here. Sends nothing to it.
    pub(super) async fn find(url: &Url, terms: &Terms<'_>) -> Result<Self, NoSite> {
        let refused = |why: &str| NoSite::Refused(why.to_owned());
        let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(refused("a URL must begin with http:// or https://")),
        };
        if !is_plain || url.password().is_some() {
            return Err(refused("a URL must be without user, query and fragment"));
        }
        let name = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => return Err(refused("a URL must have a host")),
        };
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(80);
        let looked_up = timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((name.as_str(), port))).await;
        let addresses: Vec<SocketAddr> = match looked_up {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(NoSite::Unresolved(format!("{host} has no address: {error}"))),
            Err(_) => return Err(NoSite::Unresolved(format!("{host} was not looked up in time"))),
        };
        let is_loopback = addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
        guard::check(host, is_loopback, terms.remote, terms.confirmed).map_err(NoSite::Refused)?;
        if addresses.is_empty() {
            return Err(NoSite::Unresolved(format!("{host} has no address")));
        }
        Ok(Self {
            connector: TransportConnector::new(Some(ConnectorOptions::new(1))),
            peers: addresses.iter().map(|address| HttpPeer::new(*address, tls, name.clone())).collect(),
            host: url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
            prefix: url.path().trim_end_matches('/').to_owned(),
            timeout: terms.timeout,
            keeps_connections: terms.keeps_connections,
            reconnects: AtomicU64::new(0),
        })
    }

    /// Connections that had died unused, and were replaced.
    pub(super) fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// The header of a GET, or of the POST of a form. `path` may hold a query.
    pub(super) fn header(&self, path: &str, form: Option<&Bytes>) -> pingora::Result<RequestHeader> {
        let path = format!("{}{path}", self.prefix);
        let verb = if form.is_some() { "POST" } else { "GET" };
        let mut header = RequestHeader::build(verb, path.as_bytes(), Some(6))?;
        header.insert_header("Host", &self.host)?;
        header.insert_header("User-Agent", concat!("capgate-storm/", env!("CARGO_PKG_VERSION")))?;
        header.insert_header("Accept", "*/*")?;
        if let Some(form) = form {
            header.insert_header("Content-Type", "application/x-www-form-urlencoded")?;
            header.insert_header("Content-Length", form.len())?;
        }
        if !self.keeps_connections {
            header.insert_header("Connection", "close")?;
        }
        Ok(header)
    }

    /// A new connection, to the first address that takes one.
    async fn connect(&self) -> Result<Stream, Trouble> {
        for peer in &self.peers {
            if let Ok(stream) = self.connector.new_stream(peer).await {
                return Ok(stream);
            }
        }
        Err(Trouble::Connect)
    }
}

/// An answer.
pub(super) struct Told {
    /// When its request began to be written.
    pub(super) sent: Instant,
    /// Its body, the status having been 200.
    pub(super) body: Bytes,
}

/// Why one exchange failed, and whether the server had said anything.
struct Broken {
    trouble: Trouble,
    silent: bool,
}

/// A connection, once there is one.
#[derive(Default)]
pub(super) struct Line(Option<Stream>);

impl Line {
    /// Sends one request and reads its answer, all within the time-out. A GET is sent once more on a new connection when
    /// the one that was kept had died before it brought anything, as clients do; a form never.
    pub(super) async fn ask(
        &mut self,
        site: &Site,
        header: &RequestHeader,
        form: Option<&Bytes>,
    ) -> Result<Told, Trouble> {
        let asking = async {
            let kept = self.0.take();
            let was_kept = kept.is_some();
            match self.exchange(site, kept, header, form).await {
                Err(Broken { silent: true, .. }) if was_kept && form.is_none() => {
                    site.reconnects.fetch_add(1, Ordering::Relaxed);
                    self.exchange(site, None, header, form).await
                }
                told => told,
            }
        };
        // Where time is up the connection is dropped with the rest: its answer may still come, and is nobody's.
        timeout(site.timeout, asking)
            .await
            .unwrap_or(Err(Broken { trouble: Trouble::Timeout, silent: false }))
            .map_err(|Broken { trouble, .. }| trouble)
    }

    async fn exchange(
        &mut self,
        site: &Site,
        kept: Option<Stream>,
        header: &RequestHeader,
        form: Option<&Bytes>,
    ) -> Result<Told, Broken> {
        let broken = |trouble, silent| Broken { trouble, silent };
        let stream = match kept {
            Some(stream) => stream,
            None => site.connect().await.map_err(|trouble| broken(trouble, false))?,
        };
        let mut session = HttpSession::new(stream);
        #[expect(clippy::disallowed_methods, reason = "delays are what is measured")]
        let sent = Instant::now();
        let written = async {
            session.write_request_header(Box::new(header.clone())).await?;
            if let Some(form) = form {
                session.write_body(form).await?;
            }
            session.finish_body().await
        };
        written.await.map_err(|_| broken(Trouble::Write, true))?;
        let status = read_status(&mut session).await?;
        let mut body = BytesMut::new();
        while let Some(chunk) = session.read_body_ref().await.map_err(|_| broken(Trouble::CutOff, false))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(broken(Trouble::TooBig, false));
            }
            body.extend_from_slice(chunk);
        }
        session.respect_keepalive();
        if site.keeps_connections {
            self.0 = session.reuse().await;
        }
        if status == 200 { Ok(Told { sent, body: body.freeze() }) } else { Err(broken(Trouble::HttpStatus, false)) }
    }
}

/// Reads headers until the final one.
async fn read_status(session: &mut HttpSession) -> Result<u16, Broken> {
    let mut silent = true;
    for _ in 0..INTERIM_MAX {
        session.read_response().await.map_err(|_| Broken { trouble: Trouble::NoAnswer, silent })?;
        silent = false;
        let status = session.get_status().map_or(0, |status| status.as_u16());
        if status >= 200 {
            return Ok(status);
        }
    }
    Err(Broken { trouble: Trouble::NoAnswer, silent: false })
}
