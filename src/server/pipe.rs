//! Serves connections in memory, so that tests and `fuzz/` reach each protocol without a socket.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pingora::protocols::{IO, Stream};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::timeout;

use super::app::App;
use super::connections::Connections;
use super::handler::Handler;
use super::http2;
use super::listener::Listener;
use super::options::{ConnectionLimits, Options};
use super::request::{has_header_end, without_empty_lines};
use super::shutdown::SHUTDOWN_GRACE;
use crate::memory::MemoryBudget;

/// A server without listeners.
pub struct PipeServer<H> {
    listener: Listener<H>,
    connections: Arc<Connections>,
    shutdown: watch::Sender<Option<Duration>>,
}

/// The code that serves a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1, as a listener serves it: the fast path, and Pingora's session for what that does not support.
    Http1,
    /// HTTP/1 by Pingora's session alone.
    Http1Session,
    /// HTTP/2.
    Http2,
}

impl<H> fmt::Debug for PipeServer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeServer").field("connections", &self.connections).finish_non_exhaustive()
    }
}

impl<H: Handler> PipeServer<H> {
    /// Creates a server.
    pub fn new(handler: H, options: Options) -> Self {
        let memory = MemoryBudget::new(options.memory_limits());
        Self {
            listener: Listener::new(App::new(Arc::new(handler), options, memory)),
            connections: Connections::new(ConnectionLimits::private(usize::MAX)),
            shutdown: watch::Sender::new(None),
        }
    }

    /// Serves a connection from loopback until it is closed.
    pub async fn serve(&self, stream: impl IO + 'static, protocol: Protocol) {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let Ok(guard) = self.connections.admit(peer) else { return };
        let (stream, shutdown, app) = (Box::new(stream), self.shutdown.subscribe(), &self.listener.0);
        match protocol {
            Protocol::Http1 => self.listener.serve(stream, &guard, &shutdown).await,
            Protocol::Http1Session => {
                let mut charge = guard.client().memory_account(&app.memory);
                let mut connection: Option<(Stream, _)> = Some((stream, BytesMut::new()));
                while let Some((mut stream, mut buffer)) = connection {
                    // The fast path hands over complete headers.
                    while !has_header_end(without_empty_lines(&buffer)) {
                        buffer.reserve(4_096);
                        let read = timeout(app.options.header_timeout, stream.read_buf(&mut buffer)).await;
                        if !matches!(read, Ok(Ok(1..))) {
                            return;
                        }
                    }
                    connection = app.serve_http1(stream, buffer, &mut charge, &guard, &shutdown).await;
                    charge.release();
                    guard.client().charge(&mut charge);
                }
            }
            Protocol::Http2 => http2::serve(app, stream, &guard, &shutdown).await,
        }
    }

    /// Asks all connections to close, as a process does that shuts down.
    pub fn shut_down(&self) {
        self.shutdown.send_replace(Some(SHUTDOWN_GRACE));
    }

    /// Returns the bytes charged for the requests in progress.
    pub fn memory_used(&self) -> usize {
        self.listener.0.memory.used()
    }
}
