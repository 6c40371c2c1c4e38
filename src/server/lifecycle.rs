//! Binds, starts and drains all listeners.
//!
//! Sockets are bound before anything is served: the bound address is known (port 0 included), a taken address is an error
//! at once, and a process that cannot start has accepted no connection.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
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
use super::shutdown::SHUTDOWN_GRACE;
use super::sockets::ListeningSockets;
use crate::memory::{MemoryBudget, MemoryLimits};
use crate::process::ShutdownSignals;
use crate::process::panics::keep_running;
use crate::process::supervisor;
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
        /// Whether a process that takes over from this one gets the socket.
        is_passed_on: bool,
    },
}

/// Why a process stops serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// A signal asks for it.
    Signal,
    /// Another process has taken over the listeners.
    Superseded,
}

/// The accept loop of a listener, which has not started.
type Accepting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// All listeners of the process.
pub struct Server {
    options: Options,
    /// Shared by all public listeners.
    memory: Arc<MemoryBudget>,
    sockets: ListeningSockets,
    /// Stops the public listeners and their connections.
    shutdown: watch::Sender<Option<Duration>>,
    /// Stops private listeners that are passed on.
    superseded: watch::Sender<Option<Duration>>,
    /// Never sent: stops nothing.
    no_shutdown: watch::Sender<Option<Duration>>,
    ready: Arc<AtomicBool>,
    /// Connections of the public listeners.
    connections: Arc<Connections>,
    /// The accept loops of all listeners, with whether they are public, until they start.
    prepared: Vec<(bool, Accepting)>,
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
    /// Creates a server without listeners. `connections` counts those of the public listeners, and `sockets` are those
    /// that the process inherits.
    pub fn new(options: Options, connections: Arc<Connections>, sockets: ListeningSockets) -> Self {
        Self {
            memory: MemoryBudget::new(options.memory_limits()),
            options,
            sockets,
            shutdown: watch::Sender::new(None),
            superseded: watch::Sender::new(None),
            no_shutdown: watch::Sender::new(None),
            ready: Arc::new(AtomicBool::new(true)),
            connections,
            prepared: Vec::new(),
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

    /// Prepares a listener, which serves once the server starts: inherits its socket, or binds one. Returns the bound
    /// address. Must be called in a tokio runtime.
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
        let is_passed_on = !matches!(audience, Audience::Private { is_passed_on: false, .. });
        let socket = if is_passed_on { self.sockets.open(name, address) } else { TcpListener::bind(address) };
        let socket = socket
            .and_then(to_tokio)
            .map_err(|error| ServeError(format!("cannot listen on {address} for {name}: {error}")))?;
        let bound = socket.local_addr().map_err(|error| ServeError(error.to_string()))?;
        let mut options = self.options.clone();
        let (connections, evictions, memory, stop, shutdown) = match audience {
            Audience::Public => {
                let shutdown = self.shutdown.subscribe();
                (Arc::clone(&self.connections), None, Arc::clone(&self.memory), shutdown.clone(), shutdown)
            }
            // Counted apart, or the drain would wait for them.
            Audience::Private { connections_max, idle_timeout, is_passed_on } => {
                let stop = if is_passed_on { &self.superseded } else { &self.no_shutdown };
                options.idle_timeout = idle_timeout;
                options.header_timeout = options.header_timeout.min(idle_timeout);
                (
                    Connections::new(ConnectionLimits::private(usize::MAX)),
                    Some(EvictionQueue::new(connections_max)),
                    MemoryBudget::new(MemoryLimits { address_max: usize::MAX, ..options.memory_limits() }),
                    stop.subscribe(),
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
        let accepting = Box::pin(async move {
            keep_running("accept loop", || accept_loop.run(&socket, &stop, &shutdown)).await;
        });
        self.prepared.push((audience == Audience::Public, accepting));
        tracing::info!(listener = name, address = bound.to_string(), "listening");
        Ok(bound)
    }

    /// Returns the sockets of the listeners that a process gets which takes over from this one.
    pub fn sockets(&self) -> ListeningSockets {
        self.sockets.clone()
    }

    /// Returns the longest time for which a process goes on after another one has taken over.
    pub fn superseded_max(&self) -> Duration {
        self.options.idle_timeout.saturating_add(self.options.drain_timeout)
    }

    /// Starts to serve all listeners.
    pub fn start(&mut self) {
        self.sockets.close_unused();
        for (is_public, accepting) in self.prepared.drain(..) {
            #[expect(clippy::disallowed_methods, reason = "a listener lives until shutdown, which awaits it")]
            let accepting = tokio::spawn(accepting);
            if is_public {
                self.accepting.push(accepting);
            }
        }
    }

    /// Waits for a signal that ends the process, or until another process has taken over, which `superseded` awaits. Then closes
    /// the listeners and drains their connections. After a signal, that takes at most the drain time. A process that
    /// was superseded leaves idle connections open as long as before, so that no client's next request meets a connection
    /// that was just closed.
    pub async fn run_until_shutdown(&mut self, signals: &mut ShutdownSignals, superseded: impl Future<Output = ()>) {
        let ending = tokio::select! {
            () = signals.recv() => Ending::Signal,
            () = superseded => Ending::Superseded,
        };
        let (grace, drain_timeout) = match ending {
            Ending::Signal => (SHUTDOWN_GRACE, self.options.drain_timeout),
            Ending::Superseded => (self.options.idle_timeout, self.superseded_max()),
        };
        tracing::info!(connections = self.connections.open() as u64, "draining");
        self.ready.store(false, Ordering::Relaxed);
        self.sockets.close();
        match ending {
            Ending::Signal => supervisor::report_stopping(),
            Ending::Superseded => drop(self.superseded.send_replace(Some(grace))),
        }
        self.shutdown.send_replace(Some(grace));
        let connections = Arc::clone(&self.connections);
        tokio::select! {
            () = self.drain() => tracing::info!("drained"),
            () = tokio::time::sleep(drain_timeout) => {
                let connections = connections.open() as u64;
                tracing::warn!(connections, "connections cut off at the end of server.drain_ms");
            }
            // A second signal asks to exit at once.
            () = signals.recv() => tracing::warn!("second signal: not drained"),
        }
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

/// Prepares a listening socket for the runtime.
fn to_tokio(socket: TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    socket.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(socket)
}
