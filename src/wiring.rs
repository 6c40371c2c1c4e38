//! Configuration → listeners, services, and their end.
//!
//! Sockets are bound here, before anything else starts, and handed to Pingora by their file descriptors: the bound
//! address is known (port 0 included), a taken one is an error at once, and a later upgrade can pass them on.

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
use url::Url;

use crate::apps::admin::{AdminApp, Observed};
use crate::apps::legacy::LegacyApp;
use crate::apps::sandbox::SandboxApp;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::config::Config;
use crate::gateway::Gateway;
use crate::ledger::Ledger;
use crate::sandbox::Sandbox;
use crate::server::handler::{self, Handler};
use crate::server::listener::{Connections, Listener};
use crate::telemetry::log::{Access, Log};
use crate::telemetry::metrics::Metrics;
use crate::upstream::client::{self, NativeUpstream};

/// Why the process could not serve.
#[derive(Debug)]
pub struct ServeError(String);

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServeError {}

/// Serves the gateway until it is told to stop.
///
/// # Errors
/// When an address cannot be bound, a certificate cannot be used, or no thread can be had.
pub fn run(config: &Config) -> Result<(), ServeError> {
    let metrics = Arc::new(Metrics::new());
    let log = start_log(config, &metrics)?;
    let runtime = runtime(config)?;
    let ran = runtime.block_on(async {
        let serving = gateway(config, metrics, config.log.access.then(|| log.access()))?;
        serving.until_told().await.map(|()| serving)
    });
    end(runtime, ran, &log)
}

/// Serves the sandbox alone until it is told to stop.
///
/// # Errors
/// As [`run`].
pub fn run_sandbox(config: &Config) -> Result<(), ServeError> {
    let metrics = Arc::new(Metrics::new());
    let log = start_log(config, &metrics)?;
    let runtime = runtime(config)?;
    let ran = runtime.block_on(async {
        let mut serving = Serving::new(config, &metrics);
        let address = config.sandbox.listen.0.ok_or_else(|| ServeError("sandbox.listen is off".to_owned()))?;
        let handler = SandboxApp::new(Sandbox::new(config.sandbox_options()));
        serving.start("sandbox", address, None, handler, Until::Told)?;
        serving.until_told().await.map(|()| serving)
    });
    end(runtime, ran, &log)
}

/// Ends the runtime before what it serves: a listener whose shutdown channel is closed under it calls that an error.
fn end(runtime: tokio::runtime::Runtime, ran: Result<Serving, ServeError>, log: &Log) -> Result<(), ServeError> {
    runtime.shutdown_background();
    log.flush();
    ran.map(drop)
}

fn start_log(config: &Config, metrics: &Metrics) -> Result<Log, ServeError> {
    let log = &config.log;
    Log::start(log.format, log.level, metrics.log_lines_dropped.clone()).map_err(ServeError)
}

fn runtime(config: &Config) -> Result<tokio::runtime::Runtime, ServeError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if config.server.threads.0 > 0 {
        builder.worker_threads(config.server.threads.size());
    }
    builder.enable_all().build().map_err(|error| ServeError(format!("no runtime: {error}")))
}

/// Takes as many open files as the system allows: each connection is one, and the usual default of 1024 is for programs
/// that have a handful.
fn raise_file_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => log::info!(files = limit; "open files allowed"),
        Err(_) => log::warn!("the limit of open files could not be raised"),
    }
}

/// Binds and starts everything that the gateway consists of. Called inside of a tokio runtime.
fn gateway(config: &Config, metrics: Arc<Metrics>, access: Option<Access>) -> Result<Serving, ServeError> {
    raise_file_limit();
    let mut serving = Serving::new(config, &metrics);
    let url = match &config.upstream.url.0 {
        Some(url) => url.clone(),
        None => serving.embed_sandbox(config)?,
    };
    let upstream = NativeUpstream::new(upstream_options(config, url)).map_err(ServeError)?;
    let clock = Clock::start();
    let ledger = Ledger::new(config.ledger_options(), clock, config.follow_deadline());
    let budget = Budget::new(config.budget_options());
    let gateway = Gateway::new(
        config.gateway_options(),
        ledger.clone(),
        Arc::new(upstream.clone()),
        Arc::clone(&budget),
        clock,
        Arc::clone(&metrics),
    );
    let app = LegacyApp::new(gateway.clone(), access);
    let admin = AdminApp::new(Observed {
        metrics,
        ledger: ledger.clone(),
        budget,
        clock,
        connections: Arc::clone(&serving.connections),
        ready: Arc::clone(&serving.ready),
    });
    if let Some(address) = config.listen.http.0 {
        serving.start("http", address, None, Arc::clone(&app), Until::Told)?;
    }
    if let Some(address) = config.listen.https.0.filter(|_| !config.tls.cert.is_empty()) {
        serving.start("https", address, Some(tls(config)?), app, Until::Told)?;
    }
    if let Some(address) = config.listen.admin.0 {
        serving.start("admin", address, None, admin, Until::Exit)?;
    }
    spawn(ledger.sweep());
    spawn(gateway.run_prefetch());
    spawn(upstream.keep_resolved(config.upstream.resolve_every_ms.duration()));
    Ok(serving)
}

fn upstream_options(config: &Config, url: Url) -> client::Options {
    let upstream = &config.upstream;
    client::Options {
        url,
        ca_file: (!upstream.ca_file.is_empty()).then(|| upstream.ca_file.clone()),
        connect_timeout: upstream.connect_timeout_ms.duration(),
        poll_timeout: upstream.poll_timeout_ms.duration(),
        submit_timeout: upstream.submit_timeout_ms.duration(),
        idle_timeout: upstream.idle_timeout_ms.duration(),
        connections_idle_max: upstream.connections_idle_max.size(),
        answer_bytes_max: upstream.answer_bytes_max.size(),
    }
}

fn tls(config: &Config) -> Result<TlsSettings, ServeError> {
    let (cert, key) = (&config.tls.cert, &config.tls.key);
    check_pair(cert, key).map_err(|why| ServeError(format!("tls.cert {cert} and tls.key {key}: {why}")))?;
    let mut settings = TlsSettings::intermediate(cert, key)
        .map_err(|error| ServeError(format!("tls.cert {cert} and tls.key {key}: {}", error.etype().as_str())))?;
    settings.enable_h2();
    Ok(settings)
}

/// Pingora panics on files that it can read but not use.
fn check_pair(cert: &str, key: &str) -> Result<(), String> {
    for (file, kind) in [(cert, "CERTIFICATE-----"), (key, "PRIVATE KEY-----")] {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        if !text.contains(kind) {
            return Err(format!(
                "{file} holds no {kind} in PEM",
                kind = kind.trim_end_matches('-').to_ascii_lowercase()
            ));
        }
    }
    Ok(())
}

/// How long a listener goes on.
#[derive(Clone, Copy)]
enum Until {
    /// Until the process is told to stop; its connections are drained.
    Told,
    /// Until the process is gone.
    Exit,
}

/// What listens and runs.
struct Serving {
    options: handler::Options,
    drain: Duration,
    fds: ListenFds,
    /// Ends the legacy listeners.
    shutdown: watch::Sender<bool>,
    /// Ends nothing: health is told and the embedded sandbox answers until the process is gone.
    never: watch::Sender<bool>,
    ready: Arc<AtomicBool>,
    /// Of the legacy listeners (or the sandbox, where it runs alone).
    connections: Arc<Connections>,
    shed: prometheus::IntCounter,
}

impl Serving {
    fn new(config: &Config, metrics: &Metrics) -> Self {
        let limits = &config.limits;
        Self {
            options: handler::Options {
                body_bytes_max: limits.body_bytes_max.size(),
                header_timeout: limits.header_timeout_ms.duration(),
                body_timeout: limits.body_timeout_ms.duration(),
                write_timeout: limits.write_timeout_ms.duration(),
                idle_timeout: limits.idle_timeout_ms.duration(),
                connections_max: config.server.connections_max.size(),
                // A semaphore holds no more permits than this.
                bodies: Arc::new(Semaphore::new(limits.bodies_bytes_max.size().min(Semaphore::MAX_PERMITS))),
            },
            drain: config.server.drain_ms.duration(),
            fds: Arc::new(Mutex::new(Fds::new())),
            shutdown: watch::Sender::new(false),
            never: watch::Sender::new(false),
            ready: Arc::new(AtomicBool::new(true)),
            connections: Arc::default(),
            shed: metrics.connections_shed.clone(),
        }
    }

    /// Starts the embedded sandbox on a port of its own, and says so.
    fn embed_sandbox(&mut self, config: &Config) -> Result<Url, ServeError> {
        let handler = SandboxApp::new(Sandbox::new(config.sandbox_options()));
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = self.start("sandbox", anywhere, None, handler, Until::Exit)?;
        log::warn!("upstream.url is not set: the embedded sandbox answers, nothing is solved, tokens say SANDBOX");
        Url::parse(&format!("http://{address}")).map_err(|error| ServeError(error.to_string()))
    }

    fn start<H: Handler>(
        &mut self,
        name: &'static str,
        address: SocketAddr,
        tls: Option<TlsSettings>,
        handler: Arc<H>,
        until: Until,
    ) -> Result<SocketAddr, ServeError> {
        let refuse = |error: std::io::Error| ServeError(format!("cannot listen on {address} for {name}: {error}"));
        let socket = TcpListener::bind(address).map_err(refuse)?;
        socket.set_nonblocking(true).map_err(refuse)?;
        let bound = socket.local_addr().map_err(refuse)?;
        self.fds.lock().add(bound.to_string(), socket.into_raw_fd());
        // Whole requests are read at once, and answers written at once: a buffer for each connection, idle ones included,
        // would only cost memory.
        let mut endpoint = ListenerConfig::tcp(bound.to_string()).l4_buffer(L4BufferSettings::unbuffered());
        if let Some(tls) = tls {
            endpoint = endpoint.tls(tls);
        }
        let (connections, shutdown) = match until {
            Until::Told => (Arc::clone(&self.connections), self.shutdown.subscribe()),
            // Not counted, or the drain would wait for them.
            Until::Exit => (Arc::default(), self.never.subscribe()),
        };
        let app = Listener::new(handler, self.options.clone(), connections, self.shed.clone());
        let mut service = Service::new(name.to_owned(), app);
        service.add_listener(endpoint);
        let fds = Arc::clone(&self.fds);
        spawn(async move { service.start_service(Some(fds), shutdown, 1).await });
        let bound_text = bound.to_string();
        log::info!(listener = name, address = bound_text.as_str(); "listening");
        Ok(bound)
    }

    /// Waits for SIGTERM or SIGINT, then stops listening and waits until every connection is done, at most `drain`.
    async fn until_told(&self) -> Result<(), ServeError> {
        use tokio::signal::unix::{SignalKind, signal};
        let no_signal = |error: std::io::Error| ServeError(format!("no signal handler: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        log::info!(connections = self.connections.open() as u64; "draining");
        self.ready.store(false, Ordering::Relaxed);
        self.shutdown.send_replace(true);
        let drained = async {
            /// Fine enough that nobody waits for it, coarse enough to cost nothing.
            const LOOK_EVERY: Duration = Duration::from_millis(20);
            // Once more after the first zero, for a connection that was accepted while the listeners closed.
            for _ in 0..2 {
                tokio::time::sleep(LOOK_EVERY).await;
                while self.connections.open() > 0 {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        };
        tokio::select! {
            () = drained => log::info!("drained"),
            () = tokio::time::sleep(self.drain) => {
                log::warn!(connections = self.connections.open() as u64; "connections cut off at the end of server.drain_ms");
            }
            // A second signal means now.
            _ = terminate.recv() => log::warn!("told twice to stop: not drained"),
            _ = interrupt.recv() => log::warn!("told twice to stop: not drained"),
        }
        Ok(())
    }
}

fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "services live as long as the process")]
    tokio::spawn(future);
}
