//! Accepted connections: counted, limited, and served by the protocol that the client speaks.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::apps::ServerApp;
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;

use super::app::App;
use super::connections::Connections;
use super::handler::Handler;
use super::http1::{self, Next};
use super::http2;

/// A listener's application.
pub(super) struct Listener<H> {
    app: Arc<App<H>>,
    connections: Arc<Connections>,
}

impl<H: Handler> Listener<H> {
    /// Creates a listener that counts its connections in `connections`.
    pub(super) fn new(app: App<H>, connections: Arc<Connections>) -> Self {
        Self { app: Arc::new(app), connections }
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
        let options = &self.app.options;
        let _guard = self.connections.admit(options.connections_max)?;
        // Over TLS, ALPN decides; on plain TCP, HTTP/2 is recognized by its preface.
        let mut is_http2 = stream.get_ssl_digest().is_some() && matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        let mut buffer = BytesMut::new();
        let (mut request_timeout, mut is_new) = (options.header_timeout, true);
        while !is_http2 {
            match http1::serve(&self.app, &mut stream, &mut buffer, shutdown, request_timeout, is_new).await {
                Next::Close => return None,
                // Boxed, like HTTP/2 below, so that an idle connection holds no memory that only few connections need.
                Next::Session => (stream, buffer) = Box::pin(self.app.serve_http1(stream, buffer, shutdown)).await?,
                Next::Http2 => {
                    is_http2 = true;
                    stream = rewind(stream, &buffer)?;
                }
            }
            (request_timeout, is_new) = (options.idle_timeout, false);
        }
        Box::pin(http2::serve(&self.app, stream, shutdown)).await;
        None
    }
}

/// Puts bytes that were read back in front of a plain TCP connection.
fn rewind(stream: Stream, bytes: &[u8]) -> Option<Stream> {
    let mut stream = stream.into_any().downcast::<pingora::protocols::l4::stream::Stream>().ok()?;
    stream.rewind(bytes);
    Some(stream)
}
