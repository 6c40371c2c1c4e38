//! HTTP/2 connections: a handshake with a deadline, a task for each stream, a limit on idle time. Pingora's own accept
//! loop waits without a deadline for a client's preface, and at shutdown for its GOAWAY. This loop replaces it, on
//! Pingora's sessions.

use std::sync::Arc;

use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake};
use pingora::protocols::{Digest, Stream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::app::App;
use super::connections::ConnectionGuard;
use super::frame_meter::MeteredStream;
use super::handler::{Handler, RefusalReason, RefusedRequest};
use super::request::forwarded;
use super::shutdown::{SHUTDOWN_GRACE, Shutdown, shutdown_requested};
use crate::http::Version;

/// The first bytes of an HTTP/2 client (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Most bytes of a decoded header list, 32 bytes per field included (RFC 9113, section 6.5.2). Real clients send below 2 kB.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;

/// Most streams of one connection at once.
const STREAMS_MAX: u32 = 32;

/// Memory of a connection without its streams: buffers of the h2 crate, and the table of header compression.
const CONNECTION_BYTES: usize = 40 * 1024;

/// Memory of a stream without its header and bodies: the task that serves it, the response's header, and the stream's
/// share of the connection's tables.
const STREAM_BYTES: usize = 12 * 1024;

/// Most resets that a client provokes before its connection is closed. A well-behaved client provokes none.
const PROVOKED_RESETS_MAX: usize = 32;

/// Most malformed streams before a connection is closed. A well-behaved client sends none.
const MALFORMED_MAX: usize = 32;

/// Returns the limits of an HTTP/2 connection.
fn options() -> H2Options {
    let mut options = default_h2_options();
    options.max_header_list_size(HEADER_LIST_BYTES_MAX);
    options.max_concurrent_streams(STREAMS_MAX);
    // Resets that a client provokes by invalid frames (CVE-2025-8671).
    options.max_local_error_reset_streams(Some(PROVOKED_RESETS_MAX));
    // The default of the h2 crate, stated because it limits what one connection can make the process hold.
    options.max_send_buffer_size(400 * 1024);
    options
}

/// Serves one connection until its client leaves, it is idle for too long, or the process shuts down.
pub(super) async fn serve<H: Handler>(app: &Arc<App<H>>, stream: Stream, guard: &ConnectionGuard, shutdown: &Shutdown) {
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let mut charge = guard.client().memory_account(&app.memory);
    if !charge.try_grow(CONNECTION_BYTES) {
        let peer = Some(guard.client().address);
        let why = RefusalReason::Overloaded;
        return app.handler.on_refused(RefusedRequest { peer, version: Version::Http2, why });
    }
    let stream: Stream = Box::new(MeteredStream::new(stream, PREFACE.len()));
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
            _ = shutdown_requested(shutdown), if !is_shutting_down => {
                connection.graceful_shutdown();
                is_shutting_down = true;
            }
            accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => match accepted {
                Ok(Some(H2Accept::Session(session))) => {
                    let mut session = ServerSession::new_http2(session);
                    let client = guard.client_or(guard.proxies().and_then(|proxies| forwarded(&session, proxies)));
                    let mut charge = client.memory_account(&app.memory);
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
                // Pingora has answered it with a bare 400, or reset the stream.
                Ok(Some(H2Accept::Rejected)) => {
                    let (peer, why) = (Some(guard.client().address), RefusalReason::Malformed);
                    app.handler.on_refused(RefusedRequest { peer, version: Version::Http2, why });
                    malformed += 1;
                    if malformed > MALFORMED_MAX {
                        break;
                    }
                }
                Ok(None) | Err(_) => break,
            },
            Some(_) = streams.join_next() => {}
            () = sleep(idle_timeout), if streams.is_empty() => break,
        }
    }
    // Streams in progress finish while the connection still counts, so that a drain waits for them.
    drop(connection);
    while streams.join_next().await.is_some() {}
}

/// Returns the memory that a stream with this header takes.
fn header_bytes(session: &ServerSession) -> usize {
    /// An entry of the header map with its share of the index, rounded up.
    const ENTRY_BYTES: usize = 160;
    let header = session.req_header();
    let fields: usize = header.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    // Twice, because the values are slices of the buffer into which the frames were read, and keep all of it.
    STREAM_BYTES + 2 * (fields + header.raw_path().len()) + ENTRY_BYTES * (header.headers.len() + 4)
}
