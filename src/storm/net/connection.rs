//! A client's connection: kept between its requests, and never shared with another client, because the number of
//! connections is part of the load.

use bytes::Bytes;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use tokio::time::{Instant, timeout};

use super::target::Target;
use crate::storm::reply::RequestError;
use crate::upstream::http::{self, ErrorKind, ExchangeError};

/// The response to a request, and when the request was sent.
pub(super) struct HttpResponse {
    /// When the request was first written, after the connection was open.
    pub(super) sent_at: Instant,
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// A connection that is opened on demand.
#[derive(Default)]
pub(super) struct ClientConnection {
    idle: Option<Stream>,
}

impl ClientConnection {
    /// Sends a request and reads the response within the target's time limit. A GET is sent once more on a new
    /// connection if the kept one died before any response, as HTTP clients do. A form is sent at most once.
    ///
    /// # Errors
    /// If there is no whole response, or its status is not 200.
    pub(super) async fn send(
        &mut self,
        target: &Target,
        request: &RequestHeader,
        form: Option<&Bytes>,
    ) -> Result<HttpResponse, RequestError> {
        let attempts = async {
            let idle = self.idle.take();
            let was_kept = idle.is_some();
            match self.exchange(target, idle, request, form).await {
                Err(error) if error.nothing_received && was_kept && form.is_none() => {
                    target.count_reconnect();
                    self.exchange(target, None, request, form).await
                }
                result => result,
            }
        };
        // On timeout the connection is dropped, so that the late response cannot be read as the next one.
        let result = timeout(target.timeout, attempts).await;
        let response = result.unwrap_or(Err(ErrorKind::Timeout.into())).map_err(|error| error.kind)?;
        if response.status == 200 { Ok(response) } else { Err(RequestError::HttpStatus) }
    }

    async fn exchange(
        &mut self,
        target: &Target,
        idle: Option<Stream>,
        request: &RequestHeader,
        form: Option<&Bytes>,
    ) -> Result<HttpResponse, ExchangeError> {
        const BODY_BYTES_MAX: usize = 1 << 20;
        let mut session = match idle {
            Some(stream) => http::resume(stream),
            None => target.connect().await?,
        };
        #[expect(clippy::disallowed_methods, reason = "measures a delay, decides nothing")]
        let sent_at = Instant::now();
        let response = http::exchange(&mut session, request.clone(), form.cloned(), BODY_BYTES_MAX).await?;
        let response = HttpResponse { sent_at, status: response.header.status.as_u16(), body: response.body };
        if target.keeps_connections {
            self.idle = http::into_stream(session).await;
        }
        Ok(response)
    }
}

impl From<ErrorKind> for RequestError {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Unresolved | ErrorKind::Connect | ErrorKind::CircuitOpen => Self::Connect,
            ErrorKind::Encode | ErrorKind::Write => Self::Write,
            ErrorKind::NoAnswer => Self::NoAnswer,
            ErrorKind::CutOff => Self::CutOff,
            ErrorKind::TooBig => Self::TooBig,
            ErrorKind::Encoding => Self::Unreadable,
            ErrorKind::Timeout => Self::Timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use url::Url;

    use crate::storm::net::target::TargetPolicy;

    const REPLY: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";

    /// Starts a server that writes `responses` to each connection, one for each request, and then closes it. Returns
    /// the server's target, and the number of requests that it received.
    async fn serve(responses: &'static [&'static [u8]]) -> (Target, Arc<AtomicU64>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = Url::parse(&format!("http://{}", listener.local_addr().expect("an address"))).expect("a URL");
        let requests = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&requests);
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                for response in responses {
                    if stream.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                    let _ = stream.write_all(response).await;
                }
            }
        });
        let timeout = Duration::from_secs(5);
        let policy = TargetPolicy { remote: false, confirmed: &[], timeout, keeps_connections: true };
        let Ok(target) = Target::resolve(&url, &policy).await else { panic!("loopback is allowed") };
        (target, requests)
    }

    async fn send(
        connection: &mut ClientConnection,
        target: &Target,
        form: Option<&Bytes>,
    ) -> Result<Bytes, RequestError> {
        let request = target.request("/", form)?;
        connection.send(target, &request, form).await.map(|reply| reply.body)
    }

    #[tokio::test]
    async fn a_get_is_repeated_once_if_the_kept_connection_is_dead() {
        let (target, requests) = serve(&[REPLY]).await;
        let mut connection = ClientConnection::default();
        for reconnects in 0..3 {
            assert_eq!(send(&mut connection, &target, None).await.as_deref(), Ok(&b"OK"[..]));
            assert_eq!(target.reconnects(), reconnects);
        }
        assert_eq!(requests.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_form_is_not_repeated() {
        let (target, requests) = serve(&[REPLY]).await;
        let mut connection = ClientConnection::default();
        let form = Bytes::from_static(b"key=K");
        assert_eq!(send(&mut connection, &target, Some(&form)).await.as_deref(), Ok(&b"OK"[..]));
        let error = send(&mut connection, &target, Some(&form)).await.expect_err("a dead connection");
        assert!(matches!(error, RequestError::NoAnswer | RequestError::Write), "{error:?}");
        assert_eq!((target.reconnects(), requests.load(Ordering::Relaxed)), (0, 1));
    }

    #[tokio::test]
    async fn a_new_connection_that_dies_is_not_replaced() {
        let (target, requests) = serve(&[b""]).await;
        assert_eq!(send(&mut ClientConnection::default(), &target, None).await, Err(RequestError::NoAnswer));
        assert_eq!((target.reconnects(), requests.load(Ordering::Relaxed)), (0, 1));
    }

    #[tokio::test]
    async fn a_kept_connection_that_dies_within_a_response_is_not_replaced() {
        let (target, requests) = serve(&[REPLY, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nOK"]).await;
        let mut connection = ClientConnection::default();
        assert_eq!(send(&mut connection, &target, None).await.as_deref(), Ok(&b"OK"[..]));
        assert_eq!(send(&mut connection, &target, None).await, Err(RequestError::CutOff));
        assert_eq!((target.reconnects(), requests.load(Ordering::Relaxed)), (0, 2));
    }

    #[tokio::test]
    async fn other_statuses_are_errors_and_keep_the_connection() {
        let (target, _) = serve(&[b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", REPLY]).await;
        let mut connection = ClientConnection::default();
        assert_eq!(send(&mut connection, &target, None).await, Err(RequestError::HttpStatus));
        assert_eq!(send(&mut connection, &target, None).await.as_deref(), Ok(&b"OK"[..]));
        assert_eq!(target.reconnects(), 0);
    }
}
