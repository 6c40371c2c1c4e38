//! The composition root: builds every part from the configuration and connects them. The only file that knows all
//! parts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use url::Url;

use crate::apps::admin::AdminApp;
use crate::apps::legacy::LegacyApp;
use crate::apps::sandbox::SandboxApp;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::config::Config;
use crate::gateway::Gateway;
use crate::ledger::{Ledger, Persistence, RestoreStats};
use crate::process;
use crate::process::panics::{EXIT_PANICS, keep_running};
use crate::sandbox::Sandbox;
use crate::server::connections::Connections;
use crate::server::lifecycle::{Audience, ServeError, Server};
use crate::server::options::ConnectionLimits;
use crate::store::Store;
use crate::store::clock::SystemTimes;
use crate::store::folder::{Folder, Opened};
use crate::store::metrics::StoreMetrics;
use crate::store::snapshot::UnixOrigin;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::MetricsRegistry;
use crate::telemetry::panics::install_hook;
use crate::upstream::client::NativeUpstream;
use crate::upstream::options::Options as UpstreamOptions;

/// Connections of operators and monitoring above which a new one takes the place of the oldest.
const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Name of the systemd credential with the keys of the store.
const KEY_CREDENTIAL: &str = "capgate-store-key";

/// How long such a connection may be idle. Short, so that forgotten connections do not add up: monitoring opens a new one
/// for each scrape without trouble.
const ADMIN_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

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
    serve(config, async |config: &Config, registry: &MetricsRegistry, _log: &Log| {
        let limits = ConnectionLimits::private(config.connection_limits().connections_max);
        let mut server = Server::new(config.server_options(), Connections::register(limits, registry));
        let address = config.sandbox_address().ok_or_else(|| ServeError("sandbox.listen is off".to_owned()))?;
        let app = SandboxApp::new(Sandbox::new(config.sandbox_options()));
        server.listen("sandbox", address, None, app, Audience::Public)?;
        Ok(server)
    })
}

/// Starts the log and the runtime, builds a server, and runs it until shutdown, or until there were too many panics.
///
/// # Errors
/// As [`run`].
pub fn serve(
    config: &Config,
    build: impl AsyncFnOnce(&Config, &MetricsRegistry, &Log) -> Result<Server, ServeError>,
) -> Result<(), ServeError> {
    let registry = MetricsRegistry::new();
    let options = config.log_options();
    let log = Log::start(options.format, options.level, &registry).map_err(ServeError)?;
    let flushed = log.clone();
    install_hook(config.panics_per_minute_max(), &registry, move || {
        flushed.flush();
        std::process::exit(EXIT_PANICS);
    });
    let runtime = process::start_runtime(config.runtime_threads()).map_err(ServeError)?;
    let served = runtime.block_on(async {
        let signals = process::ignore_other_signals().map_err(ServeError)?;
        let mut signals = Some(signals);
        // The handlers stay installed in any case, so there is nothing to start again.
        spawn("signals", move || {
            let signals = signals.take();
            async move {
                if let Some(signals) = signals {
                    signals.await;
                }
            }
        });
        let mut server = build(config, &registry, &log).await?;
        server.run_until_shutdown().await.map(|()| server)
    });
    // Stops the runtime before `Server` is dropped, whose closed channel would read as a shutdown.
    runtime.shutdown_background();
    log.flush();
    served.map(drop)
}

/// Builds the gateway and starts its listeners and background tasks.
async fn start_gateway(config: &Config, registry: &MetricsRegistry, log: &Log) -> Result<Server, ServeError> {
    let mut limits = config.connection_limits();
    let mut idle_max = config.upstream_connections_idle_max();
    fit_to_open_files(&mut limits.connections_max, &mut idle_max);
    let mut server = Server::new(config.server_options(), Connections::register(limits, registry));
    server.register_memory(registry);
    let url = match config.upstream_url() {
        Some(url) => url,
        None => embed_sandbox(config, &mut server)?,
    };
    let options = UpstreamOptions { connections_idle_max: idle_max, ..config.upstream_options(url) };
    let upstream = NativeUpstream::new(options, registry).map_err(ServeError)?;
    let clock = Clock::start();
    let opened = open_store(config, clock, registry).await?;
    let (folder, persistence) = opened.unzip();
    let ledger = Ledger::new(config.ledger_options(), clock, config.follow_deadline(), persistence.clone());
    ledger.register_metrics(registry);
    let budget = Budget::new(config.budget_options());
    budget.register_metrics(registry, move || clock.now());
    let gateway = Gateway::new(
        config.gateway_options(),
        ledger.clone(),
        Arc::new(upstream.clone()),
        budget,
        clock,
        persistence.as_ref(),
        registry,
    );
    gateway.restore_keys().await;
    let access_log = config.log_options().access.then(|| log.access_log());
    let legacy = LegacyApp::new(gateway.clone(), access_log, registry);
    if let Some(address) = config.http_address() {
        server.listen("http", address, None, Arc::clone(&legacy), Audience::Public)?;
    }
    if let Some((address, files)) = config.https_listener() {
        server.listen("https", address, Some(files.load().map_err(ServeError)?), legacy, Audience::Public)?;
    }
    if let Some(address) = config.admin_address() {
        let store = persistence.as_ref().map(|persistence| Arc::clone(&persistence.store));
        let trouble = move || store.as_ref().and_then(|store| store.trouble());
        let admin = AdminApp::new(registry.clone(), server.readiness(), trouble);
        let operators = Audience::Private { connections_max: ADMIN_CONNECTIONS_MAX, idle_timeout: ADMIN_IDLE_TIMEOUT };
        server.listen("admin", address, None, admin, operators)?;
    }
    let resolve_interval = config.resolve_interval();
    if let (Some(folder), Some(persistence)) = (folder, persistence) {
        let (restored, store) = (ledger.clone(), persistence.store);
        let folder = Arc::new(Mutex::new(folder));
        spawn("restore", move || restore(restored.clone(), Arc::clone(&store), Arc::clone(&folder)));
        let kept = ledger.clone();
        spawn("store upkeep", move || kept.clone().run_upkeep());
    }
    spawn("sweep", move || ledger.clone().run_sweep());
    let reporter = gateway.clone();
    spawn("reports", move || reporter.clone().run_reports());
    spawn("prefetch", move || gateway.clone().run_prefetch());
    let checked = upstream.clone();
    spawn("resolver", move || upstream.run_resolver(resolve_interval));
    spawn("health_checks", move || checked.run_health_checks());
    Ok(server)
}

/// Opens the embedded store, if one is configured. Whatever is wrong with it is an error: a store that cannot be read, or
/// cannot be written, must not look like an empty one.
async fn open_store(
    config: &Config,
    clock: Clock,
    registry: &MetricsRegistry,
) -> Result<Option<(Folder, Persistence)>, ServeError> {
    let Some((path, key_file)) = config.store_paths() else {
        tracing::warn!("store.path is not set: tasks are kept in memory, and lost when the process ends");
        return Ok(None);
    };
    let refuse = |error: String| ServeError(format!("store.path: {error}"));
    let credential = || Some(config.credentials_folder()?.join(KEY_CREDENTIAL)).filter(|file| file.exists());
    let key_file = key_file.or_else(credential);
    let Opened { folder, backend, cipher } =
        Folder::open(&path, key_file.as_deref(), StoreMetrics::register(registry)).map_err(refuse)?;
    let store = Arc::new(Store::new(Arc::new(backend), cipher));
    store.register_metrics(registry);
    let session = store.begin(SystemTimes::now()).await;
    let session = session.map_err(|error| refuse(format!("{}: {error}", path.display())))?;
    let origin = UnixOrigin::new(clock.now(), session.heartbeat.store_unix_ms);
    let methods = config.legacy_limits().submit.table;
    Ok(Some((folder, Persistence { store, methods, origin, ids: Some(session.ids) })))
}

/// Restores the tasks of earlier processes while the listeners serve already. Returns once all are restored.
async fn restore(ledger: Ledger, store: Arc<Store>, folder: Arc<Mutex<Folder>>) {
    /// Pause after a failure, while polls look their tasks up in the store.
    const RETRY: Duration = Duration::from_secs(2);
    loop {
        match ledger.restore().await {
            Ok(stats) => {
                let RestoreStats { restored, expired, unreadable } = stats;
                tracing::info!(restored, expired, unreadable, "tasks restored");
                let mut folder = folder.lock();
                if unreadable == 0 && folder.has_earlier_keys() {
                    match folder.forget_earlier_keys(store.current_key_id()) {
                        Ok(()) => tracing::info!("the first key of the key file has sealed the whole store"),
                        Err(error) => tracing::warn!(kind = error, "cannot note that the store was sealed again"),
                    }
                }
                return;
            }
            Err(error) => tracing::error!(kind = error.to_string(), "cannot restore tasks"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Starts the embedded sandbox on a free loopback port and returns its URL.
fn embed_sandbox(config: &Config, server: &mut Server) -> Result<Url, ServeError> {
    let app = SandboxApp::new(Sandbox::new(config.sandbox_options()));
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let idle_timeout = config.server_options().idle_timeout;
    let gateway = Audience::Private { connections_max: usize::MAX, idle_timeout };
    let address = server.listen("sandbox", any_port, None, app, gateway)?;
    tracing::warn!("upstream.url is not set: the embedded sandbox answers with tokens that begin with SANDBOX");
    Url::parse(&format!("http://{address}")).map_err(|error| ServeError(error.to_string()))
}

/// Raises the limit of open files, and lowers the numbers of connections where it is still too low, so that strangers cannot
/// take the files that the admin listener, the upstream and the log need.
fn fit_to_open_files(connections_max: &mut usize, idle_max: &mut usize) {
    let Ok(files) = process::raise_file_limit() else {
        tracing::warn!("the limit of open files could not be raised");
        return;
    };
    tracing::info!(files, "open files allowed");
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    // Half of these for idle connections to the upstream, of which each account has its own.
    let reserved = (files / 4).clamp(64, (2 * *idle_max).max(4_096));
    lower("server.connections_max", connections_max, files.saturating_sub(reserved).max(1), files);
    lower("upstream.connections_idle_max", idle_max, reserved / 2, files);
}

/// Lowers a configured number of connections to a limit, with a warning.
fn lower(key: &'static str, configured: &mut usize, limit: usize, files: usize) {
    if limit < *configured {
        let (was, lowered, files) = (*configured as u64, limit as u64, files as u64);
        tracing::warn!(configured = was, lowered, files, "{key} lowered to fit the limit of open files");
        *configured = limit;
    }
}

fn spawn<F: Future<Output = ()> + Send + 'static>(name: &'static str, start: impl FnMut() -> F + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "background tasks live as long as the process")]
    tokio::spawn(keep_running(name, start));
}
