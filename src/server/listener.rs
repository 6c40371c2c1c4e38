//! One connection, served by the protocol that its client speaks.

use std::sync::Arc;

use bytes::BytesMut;
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;

use super::app::App;
use super::connections::ConnectionGuard;
use super::handler::Handler;
use super::http1::{self, Next};
use super::http2;

/// Serves the connections of one listener.
pub(super) struct Listener<H>(pub(super) Arc<App<H>>);

impl<H: Handler> Listener<H> {
    pub(super) fn new(app: App<H>) -> Self {
        Self(Arc::new(app))
    }

    /// Serves a connection until it is closed.
    pub(super) async fn serve(&self, stream: Stream, guard: &ConnectionGuard, shutdown: &ShutdownWatch) {
        // Over TLS, ALPN decides; on plain TCP, HTTP/2 is recognized by its preface.
        let is_http2 = stream.get_ssl_digest().is_some() && matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        let http2_stream = if is_http2 { Some(stream) } else { self.serve_http1(stream, guard, shutdown).await };
        if let Some(stream) = http2_stream {
            Box::pin(http2::serve(&self.0, stream, guard, shutdown)).await;
        }
    }

    /// Serves HTTP/1 requests. Returns the connection if it turns out to speak HTTP/2.
    async fn serve_http1(
        &self,
        mut stream: Stream,
        guard: &ConnectionGuard,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let options = &self.0.options;
        let mut buffer = BytesMut::new();
        let mut charge = self.0.memory.account(guard);
        let (mut request_timeout, mut is_new) = (options.header_timeout, true);
        loop {
            let next =
                http1::serve(&self.0, &mut stream, &mut buffer, &mut charge, shutdown, request_timeout, is_new).await;
            match next {
                Next::Close => return None,
                Next::Http2 => return rewind(stream, &buffer),
                // Boxed, like HTTP/2, so that an idle connection holds no memory that only few connections need.
                Next::Session => {
                    let session = self.0.serve_http1(stream, buffer, &mut charge, shutdown);
                    (stream, buffer) = Box::pin(session).await?;
                    charge.release();
                }
            }
            (request_timeout, is_new) = (options.idle_timeout, false);
        }
    }
}

/// Puts bytes that were read back in front of a plain TCP connection.
fn rewind(stream: Stream, bytes: &[u8]) -> Option<Stream> {
    let mut stream = stream.into_any().downcast::<pingora::protocols::l4::stream::Stream>().ok()?;
    stream.rewind(bytes);
    Some(stream)
}
