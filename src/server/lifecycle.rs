//! Binds, starts and drains all listeners.
//!
//! Sockets are bound here, before anything else starts: the bound address is known (port 0 included), a taken address is an
//! error at once, and a later upgrade can pass the sockets on.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pingora::listeners::tls::Acceptor;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::accept::AcceptLoop;
use super::app::App;
use super::connections::Connections;
use super::eviction::EvictionQueue;
use super::handler::Handler;
use super::listener::Listener;
use super::options::{ConnectionLimits, Options};
use crate::memory::{MemoryBudget, MemoryLimits};
use crate::process::ShutdownSignals;
use crate::process::panics::keep_running;
use crate::telemetry::metrics::MetricsRegistry;

/// Why the process cannot serve.
#[derive(Debug)]
pub struct ServeError(pub String);

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServeError {}

/// Who connects to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Strangers. Their connections and memory are limited, and drained once shutdown is requested.
    Public,
    /// Operators and the process itself, with at most this many connections. Serves until the process exits: health is
    /// reported, and the embedded sandbox answers, while public listeners drain.
    Private {
        /// Connections above which a new one takes the place of the oldest.
        connections_max: usize,
        /// Longest time without a request, and for a request's header.
        idle_timeout: Duration,
    },
}

/// All listeners of the process.
pub struct Server {
    options: Options,
    /// Shared by all public listeners.
    memory: Arc<MemoryBudget>,
    /// Stops the public listeners.
    shutdown: watch::Sender<bool>,
    /// Never sent: stops nothing.
    no_shutdown: watch::Sender<bool>,
    ready: Arc<AtomicBool>,
    /// Connections of the public listeners.
    connections: Arc<Connections>,
    /// The accept loops of the public listeners.
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
    /// Creates a server without listeners. `connections` counts those of the public listeners.
    pub fn new(options: Options, connections: Arc<Connections>) -> Self {
        Self {
            memory: MemoryBudget::new(options.memory_limits()),
            options,
            shutdown: watch::Sender::new(false),
            no_shutdown: watch::Sender::new(false),
            ready: Arc::new(AtomicBool::new(true)),
            connections,
            accepting: Vec::new(),
        }
    }

    /// Makes the memory of strangers visible in metrics.
    pub fn register_memory(&self, registry: &MetricsRegistry) {
        let memory = Arc::clone(&self.memory);
        registry.gauge(
            "capgate_memory_charged_bytes",
            "Memory charged to clients: unfinished headers, bodies, HTTP/2 streams, unsent calls and responses.",
            move || memory.used(),
        );
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
        tls: Option<Acceptor>,
        handler: Arc<H>,
        audience: Audience,
    ) -> Result<SocketAddr, ServeError> {
        let socket =
            bind(address).map_err(|error| ServeError(format!("cannot listen on {address} for {name}: {error}")))?;
        let bound = socket.local_addr().map_err(|error| ServeError(error.to_string()))?;
        let mut options = self.options.clone();
        let (connections, evictions, memory, shutdown) = match audience {
            Audience::Public => {
                (Arc::clone(&self.connections), None, Arc::clone(&self.memory), self.shutdown.subscribe())
            }
            // Counted apart, or the drain would wait for them.
            Audience::Private { connections_max, idle_timeout } => {
                options.idle_timeout = idle_timeout;
                options.header_timeout = options.header_timeout.min(idle_timeout);
                (
                    Connections::new(ConnectionLimits::private(usize::MAX)),
                    Some(EvictionQueue::new(connections_max)),
                    MemoryBudget::new(MemoryLimits { address_max: usize::MAX, ..options.memory_limits() }),
                    self.no_shutdown.subscribe(),
                )
            }
        };
        let accept_loop = Arc::new(AcceptLoop {
            tls: tls.map(Arc::new),
            handshake_timeout: options.handshake_timeout,
            proxy_header_timeout: options.header_timeout,
            connections,
            evictions,
            listener: Arc::new(Listener::new(App::new(handler, options, memory))),
        });
        #[expect(clippy::disallowed_methods, reason = "a listener lives until shutdown, which awaits it")]
        let accepting = tokio::spawn(async move {
            keep_running("accept loop", || accept_loop.run(&socket, &shutdown)).await;
        });
        if audience == Audience::Public {
            self.accepting.push(accepting);
        }
        tracing::info!(listener = name, address = bound.to_string(), "listening");
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
            let _ = accepting.await;
        }
        self.connections.wait_until_closed().await;
        tokio::time::sleep(LATE_CONNECTION_DELAY).await;
        self.connections.wait_until_closed().await;
    }
}

/// Binds a socket, with `SO_REUSEADDR` and a backlog of 4096 (Rust 1.95).
fn bind(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let socket = TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(socket)
}
