//! Sends native calls over pooled connections.
//!
//! The request is built from the call alone; nothing of the client's request is forwarded. A submit or a report is sent
//! at most once. A poll or a balance is repeated once, only if a pooled connection died before any response.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;

use super::decompress::decompress;
use super::http::{self, BaseUrl, ErrorKind, ExchangeError};
use super::options::Options;
use super::resolver::Resolver;
use crate::gateway::upstream::{SendError, Upstream};
use crate::native::{Answer, Call, Endpoint, Rate};

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
}

impl NativeUpstream {
    /// Creates a client with an empty pool. Opens no connection yet.
    ///
    /// # Errors
    /// If the CA file cannot be read or contains no certificate.
    pub fn new(options: Options) -> Result<Self, String> {
        if let Some(file) = &options.ca_file {
            check_ca_file(Path::new(file)).map_err(|error| format!("upstream.ca_file {file}: {error}"))?;
        }
        let mut connector_options = ConnectorOptions::new(options.connections_idle_max);
        connector_options.ca_file.clone_from(&options.ca_file);
        let base = BaseUrl::new(&options.url);
        Ok(Self(Arc::new(Client {
            connector: Connector::new(Some(connector_options)),
            resolver: Arc::new(Resolver::new(base.clone(), options.clone())),
            base,
            options,
        })))
    }

    /// Keeps the upstream's addresses up to date. Never returns.
    pub fn run_resolver(&self, period: Duration) -> impl Future<Output = ()> + Send + 'static {
        Arc::clone(&self.0.resolver).run_refresh(period)
    }
}

impl Upstream for NativeUpstream {
    fn send(&self, call: Call) -> Pin<Box<dyn Future<Output = Result<Answer, SendError>> + Send>> {
        let client = Arc::clone(&self.0);
        Box::pin(async move {
            let deadline = match call.endpoint {
                Endpoint::CreateTask => client.options.submit_timeout,
                Endpoint::GetTaskResult | Endpoint::GetBalance | Endpoint::FeedbackTask => client.options.poll_timeout,
            };
            let sent = AtomicBool::new(false);
            let result = tokio::time::timeout(deadline, client.send(&call, &sent)).await;
            result.unwrap_or(Err(ErrorKind::Timeout)).map_err(|kind| {
                let (cause, sent) = (kind.label(), sent.into_inner());
                tracing::warn!(endpoint = call.endpoint.label(), what = cause, sent, "upstream call failed");
                SendError { sent, cause }
            })
        })
    }
}

impl Client {
    /// Sends a call and repeats it if that is allowed. Sets `sent` before the first byte is written.
    async fn send(&self, call: &Call, sent: &AtomicBool) -> Result<Answer, ErrorKind> {
        const PEERS_MAX: usize = 3;
        let request = self.request(call)?;
        let mut may_repeat = call.endpoint.is_idempotent();
        loop {
            let peers = self.resolver.select(PEERS_MAX).await;
            let mut connection = http::connect(&self.connector, &peers).await?;
            // Even a failed write may have reached the upstream.
            sent.store(true, Ordering::Relaxed);
            match self.exchange(&mut connection.session, request.clone(), call.body.clone()).await {
                Ok(answer) => {
                    let idle_timeout = Some(self.options.idle_timeout);
                    self.connector.release_http_session(connection.session, &*connection.peer, idle_timeout).await;
                    return Ok(answer);
                }
                Err(error) if error.nothing_received && connection.is_reused && may_repeat => may_repeat = false,
                Err(error) => return Err(error.kind),
            }
        }
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
            ("User-Agent", concat!("capgate/", env!("CARGO_PKG_VERSION"))),
        ];
        self.base.request("POST", call.endpoint.path(), &headers)
    }
}

fn rate(response: &ResponseHeader) -> Rate {
    let header = |name: &'static str| response.headers.get(name)?.to_str().ok();
    #[expect(clippy::disallowed_methods, reason = "the headers contain Unix times")]
    Rate::from_headers(header, Utc::now().timestamp())
}

/// Checks a CA file, because Pingora panics on an unusable one.
fn check_ca_file(file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    if text.contains("-----BEGIN CERTIFICATE-----") { Ok(()) } else { Err("no certificate in PEM".to_owned()) }
}
