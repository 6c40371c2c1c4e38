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
use super::connections::ConnectionGuard;
use super::handler::{Handler, RefusalReason};
use super::request::forwarded;
use super::shutdown::{SHUTDOWN_GRACE, shutdown_requested};

/// The first bytes of an HTTP/2 client (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Most bytes of a decoded header list, 32 bytes per field included (RFC 9113, section 6.5.2). Real clients send below 2 kB.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;

/// Most streams of one connection at once.
const STREAMS_MAX: u32 = 32;

/// Most malformed streams before a connection is closed. A well-behaved client sends none.
const MALFORMED_MAX: usize = 32;

/// Returns the limits of an HTTP/2 connection.
fn options() -> H2Options {
    let mut options = default_h2_options();
    options.max_header_list_size(HEADER_LIST_BYTES_MAX);
    options.max_concurrent_streams(STREAMS_MAX);
    // The default of the h2 crate, stated because it limits what one connection can make the process hold.
    options.max_send_buffer_size(400 * 1024);
    options
}

/// Serves one connection until its client leaves, it is idle for too long, or the process shuts down.
pub(super) async fn serve<H: Handler>(
    app: &Arc<App<H>>,
    stream: Stream,
    guard: &ConnectionGuard,
    shutdown: &ShutdownWatch,
) {
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
                    let mut session = ServerSession::new_http2(session);
                    let client = guard.client_or(guard.proxies().and_then(|proxies| forwarded(&session, proxies)));
                    let mut charge = app.memory.account(&client);
                    let header_bytes = header_bytes(&session);
                    // Refused here and not in the stream's task, so that the header is freed before the next is decoded.
                    if !app.is_acceptable(&session) {
                        app.refuse(&mut session, &client, RefusalReason::Malformed).await;
                    } else if !charge.try_grow(header_bytes) {
                        app.refuse(&mut session, &client, RefusalReason::Overloaded).await;
                    } else {
                        let (app, shutdown) = (Arc::clone(app), shutdown.clone());
                        streams.spawn(async move { app.serve_http2(session, charge, client, &shutdown).await });
                    }
                }
                Ok(Some(H2Accept::Rejected)) if malformed < MALFORMED_MAX => malformed += 1,
                Ok(Some(H2Accept::Rejected) | None) | Err(_) => break,
            },
            Some(_) = streams.join_next() => {}
            () = sleep(idle_timeout), if streams.is_empty() => break,
        }
    }
    // Streams in progress finish while the connection still counts, so that a drain waits for them.
    drop(connection);
    while streams.join_next().await.is_some() {}
}

/// Returns the memory that a decoded header takes.
fn header_bytes(session: &ServerSession) -> usize {
    /// An entry of the header map with its share of the index, rounded up.
    const ENTRY_BYTES: usize = 160;
    let header = session.req_header();
    let fields: usize = header.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    fields + header.raw_path().len() + ENTRY_BYTES * (header.headers.len() + 4)
}
