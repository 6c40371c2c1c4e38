//! Connections of one listener: counted, capped, and closed in good time; what is said on them is for [`super::handler`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::apps::ServerApp;
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;
use prometheus::IntCounter;
use tokio::time::timeout;

use super::h2;
use super::handler::{App, Handler, Options};
use super::http1::{self, Next};

/// How long an idle connection is still listened to once the process shuts down: long enough for a request that was on
/// its way when it began.
pub(super) const LINGER: Duration = Duration::from_millis(500);

/// Counts connections, on one listener or several.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicUsize,
}

impl Connections {
    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// One counted connection.
struct Counted(Arc<Connections>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A listener's application: counts and caps connections, and hands them to [`App`].
pub struct Listener<H> {
    app: Arc<App<H>>,
    connections: Arc<Connections>,
    connections_max: usize,
    header_timeout: Duration,
    idle_timeout: Duration,
    shed: IntCounter,
}

impl<H: Handler> Listener<H> {
    /// Puts a handler behind HTTP. `shed` counts connections that are closed because too many are open.
    pub fn new(handler: Arc<H>, options: Options, connections: Arc<Connections>, shed: IntCounter) -> Self {
        let (header_timeout, idle_timeout) = (options.header_timeout, options.idle_timeout);
        let connections_max = options.connections_max;
        let app = Arc::new(App::new(handler, options));
        Self { app, connections, connections_max, header_timeout, idle_timeout, shed }
    }
}

impl<H> std::fmt::Debug for Listener<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("connections", &self.connections).finish_non_exhaustive()
    }
}

#[async_trait]
impl<H: Handler> ServerApp for Listener<H> {
    async fn process_new(self: &Arc<Self>, mut stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let open = self.connections.open.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(Arc::clone(&self.connections));
        if open >= self.connections_max {
            self.shed.inc();
            return None;
        }
        // In the clear, the first bytes tell.
        let mut is_h2 = stream.get_ssl_digest().is_some() && matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        let mut read = BytesMut::new();
        let (mut patience, mut is_new) = (self.header_timeout, true);
        while !is_h2 {
            match http1::serve(&self.app, &mut stream, &mut read, shutdown, patience, is_new).await {
                Next::Close => return None,
                // Boxed, like what follows: an idle connection should not hold room for what few connections do.
                Next::Session => (stream, read) = Box::pin(self.app.serve_http1(stream, read, shutdown)).await?,
                Next::Http2 => {
                    is_h2 = true;
                    stream = unread(stream, &read)?;
                }
            }
            (patience, is_new) = (self.idle_timeout, false);
        }
        Box::pin(h2::serve(&self.app, stream, shutdown, self.header_timeout, self.idle_timeout)).await;
        None
    }
}

/// Puts bytes back in front of a connection in the clear.
fn unread(stream: Stream, read: &[u8]) -> Option<Stream> {
    let mut stream = stream.into_any().downcast::<pingora::protocols::l4::stream::Stream>().ok()?;
    stream.rewind(read);
    Some(stream)
}

/// Waits for something that a client may or may not do; once the process shuts down, for [`LINGER`] and no longer.
pub(super) async fn unless_told_to_stop<T>(waiting: impl Future<Output = T>, shutdown: &ShutdownWatch) -> Option<T> {
    let mut waiting = std::pin::pin!(waiting);
    tokio::select! {
        biased;
        done = &mut waiting => Some(done),
        () = told_to_stop(shutdown) => timeout(LINGER, waiting).await.ok(),
    }
}

/// Returns once the process shuts down.
pub(super) async fn told_to_stop(shutdown: &ShutdownWatch) {
    // An error means that nobody is left who could say so, which is the end as well.
    drop(shutdown.clone().wait_for(|down| *down).await);
}
