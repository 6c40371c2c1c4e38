//! The composition root: builds every part from the configuration and connects them. The only file that knows all parts.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use url::Url;

use crate::apps::admin::AdminApp;
use crate::apps::legacy::LegacyApp;
use crate::apps::sandbox::SandboxApp;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::config::Config;
use crate::gateway::Gateway;
use crate::ledger::Ledger;
use crate::sandbox::Sandbox;
use crate::server::app::Limits;
use crate::server::connections::Connections;
use crate::server::lifecycle::{Lifetime, ServeError, Server};
use crate::server::tls::TlsFiles;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::MetricsRegistry;
use crate::upstream::client::{self, NativeUpstream};

/// Runs the gateway until SIGTERM or SIGINT.
///
/// # Errors
/// If an address cannot be bound, a certificate cannot be used, or a thread cannot be started.
pub fn run(config: &Config) -> Result<(), ServeError> {
    serve(config, start_gateway)
}

/// Runs the sandbox alone until SIGTERM or SIGINT.
///
/// # Errors
/// As [`run`].
pub fn run_sandbox(config: &Config) -> Result<(), ServeError> {
    serve(config, |config, registry, _log| {
        let mut server = new_server(config, registry);
        let address = config.sandbox.listen.0.ok_or_else(|| ServeError("sandbox.listen is off".to_owned()))?;
        let app = SandboxApp::new(Sandbox::new(config.sandbox_options()));
        server.listen("sandbox", address, None, app, Lifetime::Drained)?;
        Ok(server)
    })
}

/// Starts log and runtime, builds a server, and runs it until shutdown.
fn serve(
    config: &Config,
    build: impl FnOnce(&Config, &MetricsRegistry, &Log) -> Result<Server, ServeError>,
) -> Result<(), ServeError> {
    let registry = MetricsRegistry::new();
    let log = Log::start(config.log.format, config.log.level, &registry).map_err(ServeError)?;
    let runtime = start_runtime(config)?;
    let served = runtime.block_on(async {
        let mut server = build(config, &registry, &log)?;
        server.run_until_shutdown().await.map(|()| server)
    });
    // Stops the runtime before `Server` is dropped: a listener reports a closed shutdown channel as an error.
    runtime.shutdown_background();
    log.flush();
    served.map(drop)
}

fn start_runtime(config: &Config) -> Result<Runtime, ServeError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if config.server.threads.0 > 0 {
        builder.worker_threads(config.server.threads.size());
    }
    builder.enable_all().build().map_err(|error| ServeError(format!("cannot start the runtime: {error}")))
}

/// Builds the gateway and starts its listeners and background tasks.
fn start_gateway(config: &Config, registry: &MetricsRegistry, log: &Log) -> Result<Server, ServeError> {
    raise_file_limit();
    let mut server = new_server(config, registry);
    let url = match &config.upstream.url.0 {
        Some(url) => url.clone(),
        None => embed_sandbox(config, &mut server)?,
    };
    let upstream = NativeUpstream::new(upstream_options(config, url)).map_err(ServeError)?;
    let clock = Clock::start();
    let ledger = Ledger::new(config.ledger_options(), clock, config.follow_deadline());
    ledger.register_metrics(registry);
    let budget = Budget::new(config.budget_options());
    budget.register_metrics(registry, move || clock.now());
    let gateway =
        Gateway::new(config.gateway_options(), ledger.clone(), Arc::new(upstream.clone()), budget, clock, registry);
    let legacy = LegacyApp::new(gateway.clone(), config.log.access.then(|| log.access_log()));
    if let Some(address) = config.listen.http.0 {
        server.listen("http", address, None, Arc::clone(&legacy), Lifetime::Drained)?;
    }
    if let Some(address) = config.listen.https.0
        && let Some(tls) = tls_files(config)
    {
        server.listen("https", address, Some(tls.load().map_err(ServeError)?), legacy, Lifetime::Drained)?;
    }
    if let Some(address) = config.listen.admin.0 {
        let admin = AdminApp::new(registry.clone(), server.readiness());
        server.listen("admin", address, None, admin, Lifetime::Process)?;
    }
    spawn(ledger.sweep());
    spawn(gateway.run_prefetch());
    spawn(upstream.keep_resolved(config.upstream.resolve_every_ms.duration()));
    Ok(server)
}

/// Starts the embedded sandbox on a free port of loopback, and returns its URL.
fn embed_sandbox(config: &Config, server: &mut Server) -> Result<Url, ServeError> {
    let app = SandboxApp::new(Sandbox::new(config.sandbox_options()));
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = server.listen("sandbox", any_port, None, app, Lifetime::Process)?;
    tracing::warn!("upstream.url is not set: the embedded sandbox answers with tokens that begin with SANDBOX");
    Url::parse(&format!("http://{address}")).map_err(|error| ServeError(error.to_string()))
}

/// Raises the limit of open files as far as the system allows: each connection is an open file, and the usual default of
/// 1024 is far too low for a server.
fn raise_file_limit() {
    if let Ok(limit) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::info!(files = limit, "open files allowed");
    } else {
        tracing::warn!("the limit of open files could not be raised");
    }
}

fn new_server(config: &Config, registry: &MetricsRegistry) -> Server {
    let limits = &config.limits;
    let limits = Limits {
        body_bytes_max: limits.body_bytes_max.size(),
        header_timeout: limits.header_timeout_ms.duration(),
        body_timeout: limits.body_timeout_ms.duration(),
        write_timeout: limits.write_timeout_ms.duration(),
        idle_timeout: limits.idle_timeout_ms.duration(),
        connections_max: config.server.connections_max.size(),
        // A semaphore cannot hold more permits than this.
        bodies: Arc::new(Semaphore::new(limits.bodies_bytes_max.size().min(Semaphore::MAX_PERMITS))),
    };
    Server::new(limits, config.server.drain_ms.duration(), Connections::register(registry))
}

fn tls_files(config: &Config) -> Option<TlsFiles> {
    let (cert, key) = (config.tls.cert.clone(), config.tls.key.clone());
    (!cert.is_empty()).then_some(TlsFiles { cert, key })
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

fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "background tasks live as long as the process")]
    tokio::spawn(future);
}
