//! The accept loop of a listener: admits connections, completes their TLS handshakes, and survives a lack of resources.
//!
//! The loop is ours because Pingora's admits a connection only after its TLS handshake, gives a handshake 60 seconds, and
//! spins if the process runs out of anything but its own file descriptors (`docs/decisions/0008-accept-loop.md`).

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{GetSocketDigest, SocketDigest, Stream};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout, timeout_at};

use super::clock::now;
use super::connections::{ConnectionGuard, Connections, Refusal};
use super::eviction::EvictionQueue;
use super::handler::Handler;
use super::listener::Listener;
use super::proxy_protocol::{self, ProxyHeaderError};
use super::shutdown::{Shutdown, shutdown_requested};
use super::tls_memory;

/// Pause after a first failure of `accept` for lack of resources. Doubles up to [`BACK_OFF_MAX`] while they are missing, so
/// that the loop neither spins nor recovers late.
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// Longest time for which a handshake holds its permits.
const PERMIT_MAX: Duration = Duration::from_millis(500);
/// Bytes of the header of a TLS record.
const HEADER_BYTES: usize = 5;
/// Bytes after which a first record is left to the TLS library, complete or not. Clients send less than 2 kB.
const RECORD_BYTES_MAX: usize = 4 * 1_024;

/// What serves the connections of a socket.
pub(super) struct AcceptLoop<H> {
    pub(super) tls: Option<Arc<Acceptor>>,
    pub(super) handshake_timeout: Duration,
    /// Time for the header of the PROXY protocol.
    pub(super) proxy_header_timeout: Duration,
    pub(super) connections: Arc<Connections>,
    /// Set if a new connection takes the place of an old one.
    pub(super) evictions: Option<Arc<EvictionQueue>>,
    pub(super) listener: Arc<Listener<H>>,
}

impl<H: Handler> AcceptLoop<H> {
    /// Accepts connections until `stop`, and serves each in a task of its own. Connections go on after that, until
    /// `shutdown`.
    pub(super) async fn run(self: &Arc<Self>, socket: &TcpListener, stop: &Shutdown, shutdown: &Shutdown) {
        let mut back_off = BACK_OFF_MIN;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = shutdown_requested(stop) => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    back_off = BACK_OFF_MIN;
                    self.admit(socket, peer, shutdown);
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    if back_off == BACK_OFF_MIN {
                        tracing::warn!(kind = error.to_string(), "cannot accept connections");
                    }
                    sleep(back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
    }

    /// Serves a connection, or closes it at once if a limit is reached.
    fn admit(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr, shutdown: &Shutdown) {
        let mut guard = match self.connections.admit(peer) {
            Ok(guard) => guard,
            Err(refusal) => return self.connections.count_refusal(refusal),
        };
        let (this, shutdown) = (Arc::clone(self), shutdown.clone());
        let serving = async move {
            match this.prepare(socket, &mut guard).await {
                Ok(stream) => this.listener.serve(stream, &guard, &shutdown).await,
                Err(Some(refusal)) => this.connections.count_refusal(refusal),
                Err(None) => {}
            }
        };
        match self.evictions.as_ref().map(EvictionQueue::admit) {
            None => spawn(serving),
            Some(entry) => spawn(async move {
                tokio::select! {
                    biased;
                    () = serving => {}
                    () = entry.evicted() => tracing::debug!("connection evicted"),
                }
            }),
        }
    }

    /// Reads what precedes the first request: the header of the PROXY protocol, and the TLS handshake. An error without a
    /// refusal is a connection that a trusted proxy has opened and closed, to see whether it can.
    async fn prepare(&self, mut socket: TcpStream, guard: &mut ConnectionGuard) -> Result<Stream, Option<Refusal>> {
        let mut rest = Vec::new();
        if guard.expects_proxy_header() {
            let header = match timeout(self.proxy_header_timeout, proxy_protocol::read(&mut socket)).await {
                Ok(Ok(header)) => header,
                Ok(Err(ProxyHeaderError::Silent)) => return Err(None),
                Ok(Err(ProxyHeaderError::Malformed)) | Err(_) => return Err(Some(Refusal::ProxyHeader)),
            };
            guard.set_client(header.client)?;
            rest = header.rest;
        }
        let Some(tls) = &self.tls else {
            let mut stream = to_stream(socket, guard.client().address);
            stream.rewind(&rest);
            return Ok(Box::new(stream));
        };
        Ok(self.handshake(tls, socket, rest, guard).await?)
    }

    /// Completes a TLS handshake. Silent connections wait for their first record without a permit, and slow ones return it
    /// after [`PERMIT_MAX`]: what a permit bounds is the computation for the client's first message.
    async fn handshake(
        &self,
        tls: &Acceptor,
        mut socket: TcpStream,
        mut received: Vec<u8>,
        guard: &ConnectionGuard,
    ) -> Result<Stream, Refusal> {
        let deadline = now() + self.handshake_timeout;
        match timeout_at(deadline, read_record(&mut socket, &mut received)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Refusal::HandshakeFailed),
            Err(_) => return Err(Refusal::HandshakeTimeout),
        }
        let mut stream = to_stream(socket, guard.client().address);
        stream.rewind(&received);
        let permits = timeout_at(deadline, guard.begin_handshake()).await.map_err(|_| Refusal::Handshakes)?;
        let charge = guard.client().memory_account(&self.listener.0.memory);
        let (received, decrypted) = tls_memory::meter(Box::new(stream), charge);
        let mut handshake = Box::pin(tls.tls_handshake(received));
        let handshaken = if let Ok(handshaken) = timeout_at(deadline.min(now() + PERMIT_MAX), &mut handshake).await {
            handshaken
        } else {
            drop(permits);
            timeout_at(deadline, handshake).await.map_err(|_| Refusal::HandshakeTimeout)?
        };
        handshaken.map(|stream| decrypted.wrap(Box::new(stream))).map_err(|_| Refusal::HandshakeFailed)
    }
}

/// Spawns the task of a connection.
#[expect(clippy::disallowed_methods, reason = "a connection lives until its client leaves; the drain awaits it")]
fn spawn(serving: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(serving);
}

/// Reads at least the first record of a TLS client (RFC 8446, section 5.1), or its first [`RECORD_BYTES_MAX`] bytes.
async fn read_record(socket: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<()> {
    /// Room for most first records.
    const READ_BYTES: usize = 1_024;
    loop {
        let complete_bytes = match received.as_slice() {
            [_, _, _, high, low, ..] => HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low])),
            _ => HEADER_BYTES,
        };
        if received.len() > HEADER_BYTES && received.len() >= complete_bytes.min(RECORD_BYTES_MAX) {
            return Ok(());
        }
        received.reserve(READ_BYTES);
        if socket.read_buf(&mut received.limit(RECORD_BYTES_MAX)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Wraps the socket of a client as Pingora's listeners do. Requests are read and responses written in one piece, so the stream has no
/// buffers, which would only cost memory.
fn to_stream(socket: TcpStream, client: SocketAddr) -> L4Stream {
    // Responses are written in one piece, so there is nothing to wait for. Fails only on a socket that is closed.
    let _ = socket.set_nodelay(true);
    let digest = SocketDigest::from_raw_fd(socket.as_raw_fd());
    let _ = digest.peer_addr.set(Some(client.into()));
    let mut stream = L4Stream::from(socket);
    stream.set_socket_digest(digest);
    stream
}

/// Whether `accept` failed because of a connection that is gone already, so that the next one may succeed at once
/// (accept(2)).
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
