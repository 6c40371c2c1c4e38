//! HTTP/2 connections: a handshake with a deadline, a task for each stream, a limit on idle time. Pingora's own accept
//! loop waits without a deadline for a client's preface, and at shutdown for its GOAWAY. This loop replaces it, on
//! Pingora's sessions.

use std::sync::Arc;

use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake};
use pingora::protocols::{Digest, Stream};
use pingora::server::ShutdownWatch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::app::App;
use super::handler::Handler;
use super::request::HEADER_BYTES_MAX;
use super::shutdown::{SHUTDOWN_GRACE, shutdown_requested};

/// The first bytes of an HTTP/2 client (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Most malformed streams before a connection is closed. A well-behaved client sends none.
const MALFORMED_MAX: usize = 32;

/// Returns the limits of an HTTP/2 connection.
fn options() -> H2Options {
    let mut options = default_h2_options();
    options.max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX));
    // The default of the h2 crate, repeated because it bounds the memory of a connection.
    options.max_send_buffer_size(400 * 1024);
    options
}

/// Serves one connection until its client leaves, it is idle for too long, or the process shuts down.
pub(super) async fn serve<H: Handler>(app: &Arc<App<H>>, stream: Stream, shutdown: &ShutdownWatch) {
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let handshake = handshake(stream, Some(options()));
    let Ok(Ok(mut connection)) = timeout(app.options.header_timeout, handshake).await else {
        return;
    };
    let mut streams = JoinSet::new();
    let mut malformed = 0;
    let mut is_shutting_down = false;
    loop {
        let idle_timeout = if is_shutting_down { SHUTDOWN_GRACE } else { app.options.idle_timeout };
        tokio::select! {
            biased;
            () = shutdown_requested(shutdown), if !is_shutting_down => {
                connection.graceful_shutdown();
                is_shutting_down = true;
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
            () = sleep(idle_timeout), if streams.is_empty() => break,
        }
    }
    // Detaches the tasks: streams in progress finish after the connection has ended.
    streams.detach_all();
}
