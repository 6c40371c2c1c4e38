//! HTTP/2 connections: the handshake with a deadline, streams handed to [`super::handler`], idle ones closed.
//!
//! Pingora's own loop waits for a client's preface without a deadline, and for its farewell at shutdown likewise; so the
//! loop is ours, over Pingora's sessions.

use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, HttpSession, handshake};
use pingora::protocols::{Digest, Stream};
use pingora::server::ShutdownWatch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::handler::{App, Handler};
use super::listener::{LINGER, told_to_stop};
use super::session::h2_options;

/// What a client of HTTP/2 begins with (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Malformed streams of one connection before it is closed: an honest client has none.
const MALFORMED_MAX: usize = 32;

/// Serves one connection until its client leaves, is idle for too long, or the process shuts down.
pub(super) async fn serve<H: Handler>(
    app: &Arc<App<H>>,
    stream: Stream,
    shutdown: &ShutdownWatch,
    header_timeout: Duration,
    idle_timeout: Duration,
) {
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let Ok(Ok(mut connection)) = timeout(header_timeout, handshake(stream, Some(h2_options()))).await else {
        return;
    };
    let mut streams = JoinSet::new();
    let mut malformed = 0;
    let mut stopping = false;
    loop {
        let idle = if stopping { LINGER } else { idle_timeout };
        tokio::select! {
            biased;
            () = told_to_stop(shutdown), if !stopping => {
                connection.graceful_shutdown();
                stopping = true;
            }
            accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => match accepted {
                Ok(Some(H2Accept::Session(session))) => {
                    let (app, shutdown) = (Arc::clone(app), shutdown.clone());
                    streams.spawn(async move {
                        app.serve_http2(ServerSession::new_http2(session), &shutdown).await;
                    });
                }
                Ok(Some(H2Accept::Rejected)) if malformed < MALFORMED_MAX => malformed += 1,
                Ok(Some(H2Accept::Rejected) | None) | Err(_) => break,
            },
            Some(_) = streams.join_next() => {}
            () = sleep(idle), if streams.is_empty() => break,
        }
    }
    // Whoever is gone is not told, but what was begun is finished.
    streams.detach_all();
}
