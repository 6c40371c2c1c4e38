//! Binds, starts and drains all listeners.
//!
//! Sockets are bound here, before anything else starts, and passed to Pingora by their file descriptors: the bound
//! address is known (port 0 included), a taken address is an error at once, and a later upgrade can pass the sockets
//! on.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pingora::listeners::ListenerConfig;
use pingora::listeners::tls::TlsSettings;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::server::{Fds, ListenFds};
use pingora::services::Service as _;
use pingora::services::listening::Service;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::app::App;
use super::connections::Connections;
use super::handler::Handler;
use super::listener::Listener;
use super::options::Options;
use crate::process::ShutdownSignals;

/// Why the process cannot serve.
#[derive(Debug)]
pub struct ServeError(pub String);

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServeError {}

/// How long a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until shutdown is requested; then its connections are drained.
    Drained,
    /// Until the process exits: health is reported, and the embedded sandbox answers, while other listeners drain.
    Process,
}

/// All listeners of the process.
pub struct Server {
    options: Options,
    /// Shared by all listeners.
    body_bytes: Arc<Semaphore>,
    fds: ListenFds,
    /// Stops the listeners that are drained.
    shutdown: watch::Sender<bool>,
    /// Never sent: stops nothing.
    no_shutdown: watch::Sender<bool>,
    ready: Arc<AtomicBool>,
    /// Connections of the listeners that are drained.
    connections: Arc<Connections>,
    /// The accept loops of the listeners that are drained.
    accepting: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("options", &self.options)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Creates a server without listeners. `connections` counts those of the listeners that are drained.
    pub fn new(options: Options, connections: Arc<Connections>) -> Self {
        Self {
            // A semaphore cannot hold more permits than `MAX_PERMITS`.
            body_bytes: Arc::new(Semaphore::new(options.bodies_bytes_max.min(Semaphore::MAX_PERMITS))),
            options,
            fds: Arc::new(Mutex::new(Fds::new())),
            shutdown: watch::Sender::new(false),
            no_shutdown: watch::Sender::new(false),
            ready: Arc::new(AtomicBool::new(true)),
            connections,
            accepting: Vec::new(),
        }
    }

    /// Returns a flag that is true until the process drains.
    pub fn readiness(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ready)
    }

    /// Binds an address and serves it in its own task. Returns the bound address. Must be called in a tokio
    /// runtime.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn listen<H: Handler>(
        &mut self,
        name: &'static str,
        address: SocketAddr,
        tls: Option<TlsSettings>,
        handler: Arc<H>,
        lifetime: Lifetime,
    ) -> Result<SocketAddr, ServeError> {
        let bound = self
            .bind(address)
            .map_err(|error| ServeError(format!("cannot listen on {address} for {name}: {error}")))?;
        // Requests are read and responses written in one piece, so a buffer per connection would only cost memory.
        let mut endpoint = ListenerConfig::tcp(bound.to_string()).l4_buffer(L4BufferSettings::unbuffered());
        if let Some(tls) = tls {
            endpoint = endpoint.tls(tls);
        }
        let (connections, shutdown) = match lifetime {
            Lifetime::Drained => (Arc::clone(&self.connections), self.shutdown.subscribe()),
            // Not counted, or the drain would wait for them.
            Lifetime::Process => (Arc::default(), self.no_shutdown.subscribe()),
        };
        let app = App::new(handler, self.options.clone(), Arc::clone(&self.body_bytes));
        let mut service = Service::new(name.to_owned(), Listener::new(app, connections));
        service.add_listener(endpoint);
        let fds = Arc::clone(&self.fds);
        #[expect(clippy::disallowed_methods, reason = "a listener lives until shutdown, which awaits it")]
        let accepting = tokio::spawn(async move { service.start_service(Some(fds), shutdown, 1).await });
        if lifetime == Lifetime::Drained {
            self.accepting.push(accepting);
        }
        tracing::info!(listener = name, address = bound.to_string(), "listening");
        Ok(bound)
    }

    fn bind(&self, address: SocketAddr) -> std::io::Result<SocketAddr> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let bound = socket.local_addr()?;
        self.fds.lock().add(bound.to_string(), socket.into_raw_fd());
        Ok(bound)
    }

    /// Waits for SIGTERM or SIGINT, then closes the listeners and drains their connections for at most the drain time.
    ///
    /// # Errors
    /// If a signal handler cannot be installed.
    pub async fn run_until_shutdown(&mut self) -> Result<(), ServeError> {
        let mut signals = ShutdownSignals::install().map_err(ServeError)?;
        signals.recv().await;
        tracing::info!(connections = self.connections.open() as u64, "draining");
        self.ready.store(false, Ordering::Relaxed);
        self.shutdown.send_replace(true);
        let connections = Arc::clone(&self.connections);
        let drain_timeout = self.options.drain_timeout;
        tokio::select! {
            () = self.drain() => tracing::info!("drained"),
            () = tokio::time::sleep(drain_timeout) => {
                let connections = connections.open() as u64;
                tracing::warn!(connections, "connections cut off at the end of server.drain_ms");
            }
            // A second signal asks to exit at once.
            () = signals.recv() => tracing::warn!("second signal: not drained"),
        }
        Ok(())
    }

    /// Returns once the listeners are closed and no connection is open.
    async fn drain(&mut self) {
        /// Longer than it takes to start serving a connection that was accepted just before its listener closed.
        const LATE_CONNECTION_DELAY: Duration = Duration::from_millis(20);
        for accepting in self.accepting.drain(..) {
            // A listener that panicked accepts nothing either.
            let _ = accepting.await;
        }
        self.connections.wait_until_closed().await;
        tokio::time::sleep(LATE_CONNECTION_DELAY).await;
        self.connections.wait_until_closed().await;
    }
}
