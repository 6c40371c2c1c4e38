//! The composition root: builds every part from the configuration and connects them. The only file that knows all
//! parts.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use url::Url;

use crate::apps::admin::AdminApp;
use crate::apps::legacy::LegacyApp;
use crate::apps::sandbox::SandboxApp;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::config::Config;
use crate::gateway::Gateway;
use crate::ledger::{Ledger, Persistence, RestoreStats};
use crate::process::panics::{EXIT_PANICS, keep_running};
use crate::process::supervisor;
use crate::process::{self, ShutdownSignals};
use crate::sandbox::Sandbox;
use crate::server::connections::Connections;
use crate::server::lifecycle::{Audience, ServeError, Server};
use crate::server::options::ConnectionLimits;
use crate::server::sockets::{InheritedSocket, ListeningSockets};
use crate::store::Store;
use crate::store::clock::SystemTimes;
use crate::store::folder::{Folder, Opened};
use crate::store::metrics::StoreMetrics;
use crate::store::snapshot::UnixOrigin;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::MetricsRegistry;
use crate::telemetry::panics::install_hook;
use crate::upgrade::control::{self, CONTROL};
use crate::upgrade::predecessor::Predecessor;
use crate::upgrade::successor::Program;
use crate::upstream::client::NativeUpstream;
use crate::upstream::options::Options as UpstreamOptions;

/// Connections of operators and monitoring above which a new one takes the place of the oldest.
const ADMIN_CONNECTIONS_MAX: usize = 64;

/// How long such a connection may be idle. Short, so that forgotten connections do not add up: monitoring opens a new one
/// for each scrape without trouble.
const ADMIN_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Name of the lock of the store among the files that are passed on.
const STORE_LOCK: &str = "store-lock";

/// What the process gets from the one before it, or from its supervisor.
#[derive(Debug, Default)]
pub struct Inheritance {
    predecessor: Option<Predecessor>,
    sockets: ListeningSockets,
    control: Option<UnixListener>,
    store_lock: Option<File>,
}

impl Inheritance {
    /// Takes the sockets that a supervisor has bound. Must be called before any thread is started.
    ///
    /// # Errors
    /// If what the supervisor passed is no listening socket.
    pub fn from_supervisor() -> Result<Self, ServeError> {
        let sockets = supervisor::take_sockets().map_err(ServeError)?;
        let sockets = sockets.into_iter().map(|socket| InheritedSocket { name: None, socket }).collect();
        Ok(Self { sockets: ListeningSockets::inherit(sockets), ..Self::default() })
    }

    /// Takes over from the process that started this one.
    ///
    /// # Errors
    /// If that is no capgate which upgrades.
    pub fn from_predecessor() -> Result<Self, ServeError> {
        let (predecessor, files) = Predecessor::meet().map_err(ServeError)?;
        let (mut sockets, mut control, mut store_lock) = (Vec::new(), None, None);
        for (name, file) in files {
            match &*name {
                CONTROL => control = Some(file.into()),
                STORE_LOCK => store_lock = Some(file.into()),
                _ => sockets.push(InheritedSocket { name: Some(name), socket: file.into() }),
            }
        }
        let sockets = ListeningSockets::inherit(sockets);
        Ok(Self { predecessor: Some(predecessor), sockets, control, store_lock })
    }
}

/// Runs the gateway until SIGTERM or SIGINT, or until a new process has taken over.
///
/// # Errors
/// If an address cannot be bound, a certificate cannot be used, or a thread cannot be started.
pub fn run(config: &Config, inheritance: Inheritance) -> Result<(), ServeError> {
    let Inheritance { predecessor, sockets, control, store_lock } = inheritance;
    let program = Program::of_this_process().map_err(ServeError)?;
    let build = async |config: &Config, registry: &MetricsRegistry, log: &Log| {
        start_gateway(config, registry, log, sockets, store_lock).await
    };
    serve(config, build, |server, durable| {
        let control = match (config.control_socket(), control) {
            (None, _) => None,
            (Some(_), Some(inherited)) => Some(inherited),
            (Some(path), None) => Some(control::bind(&path).map_err(ServeError)?),
        };
        match predecessor {
            // The process before reports this one to the supervisor, which believes no other.
            Some(predecessor) => predecessor.report_ready().map_err(ServeError)?,
            None => supervisor::report_ready(),
        }
        let upgrade = control.zip(durable);
        let superseded = upgrade
            .map(|(control, durable)| serve_control_socket(control, program, server.sockets(), durable))
            .transpose()?;
        Ok(async move {
            let Some(superseded) = superseded else { return std::future::pending().await };
            // The thread ends without a result only if it panics.
            if superseded.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    })
}

/// Serves the control socket in a thread of its own. The result arrives once a new process has taken over.
fn serve_control_socket(
    control: UnixListener,
    program: Program,
    sockets: ListeningSockets,
    durable: Durable,
) -> Result<oneshot::Receiver<()>, ServeError> {
    let (done, superseded) = oneshot::channel();
    let to_files = move |control: &UnixListener| {
        let mut files = sockets.duplicate()?;
        files.push((CONTROL.to_owned(), control.try_clone()?.into()));
        files.push((STORE_LOCK.to_owned(), durable.lock.try_clone()?.into()));
        Ok(files)
    };
    let upgrade = move |control: &UnixListener| {
        let files = to_files(control).map_err(|error: io::Error| error.to_string())?;
        let handover = durable.ledger.begin_handover();
        let pid = program.start(&files)?;
        handover.finish();
        supervisor::report_successor(pid);
        Ok(pid)
    };
    let serve = move || {
        control::serve(&control, || {
            tracing::info!("upgrade requested");
            let upgraded = upgrade(&control);
            match &upgraded {
                Ok(pid) => tracing::info!(pid, "a new process has taken over"),
                Err(error) => tracing::error!(kind = error, "upgrade failed"),
            }
            upgraded
        });
        let _ = done.send(());
    };
    std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(serve)
        .map_err(|error| ServeError(error.to_string()))?;
    Ok(superseded)
}

/// Runs the sandbox alone until SIGTERM or SIGINT.
///
/// # Errors
/// As [`run`].
pub fn run_sandbox(config: &Config) -> Result<(), ServeError> {
    let build = async |config: &Config, registry: &MetricsRegistry, _log: &Log| {
        let limits = ConnectionLimits::private(config.connection_limits().connections_max);
        let connections = Connections::register(limits, registry);
        let mut server = Server::new(config.server_options(), connections, ListeningSockets::default());
        let address = config.sandbox_address().ok_or_else(|| ServeError("sandbox.listen is off".to_owned()))?;
        let app = SandboxApp::new(Sandbox::new(config.sandbox_options()));
        server.listen("sandbox", address, None, app, Audience::Public)?;
        Ok((server, ()))
    };
    serve(config, build, |_, ()| Ok(std::future::pending()))
}

/// Starts the log and the runtime, builds a server, and runs it until shutdown, or until there were too many panics. Calls
/// `started` once the server serves, with what was built beside it, and ends as well when the future that it returns does.
///
/// # Errors
/// As [`run`].
pub fn serve<T, F: Future<Output = ()>>(
    config: &Config,
    build: impl AsyncFnOnce(&Config, &MetricsRegistry, &Log) -> Result<(Server, T), ServeError>,
    started: impl FnOnce(&Server, T) -> Result<F, ServeError>,
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
        let (mut server, context) = build(config, &registry, &log).await?;
        let mut signals = ShutdownSignals::install().map_err(ServeError)?;
        server.start();
        let superseded = started(&server, context)?;
        server.run_until_shutdown(&mut signals, superseded).await;
        Ok(server)
    });
    // Stops the runtime before `Server` is dropped, whose closed channel would read as a shutdown.
    runtime.shutdown_background();
    log.flush();
    served.map(drop)
}

/// What a process that takes over needs beside the sockets: without a store, it would know no task.
struct Durable {
    ledger: Ledger,
    /// The lock of the store.
    lock: File,
}

/// Builds the gateway and starts its listeners and background tasks.
async fn start_gateway(
    config: &Config,
    registry: &MetricsRegistry,
    log: &Log,
    sockets: ListeningSockets,
    store_lock: Option<File>,
) -> Result<(Server, Option<Durable>), ServeError> {
    let takes_over = store_lock.is_some();
    let mut limits = config.connection_limits();
    let mut idle_max = config.upstream_connections_idle_max();
    fit_to_open_files(&mut limits.connections_max, &mut idle_max);
    let mut server = Server::new(config.server_options(), Connections::register(limits, registry), sockets);
    server.register_memory(registry);
    let url = match config.upstream_url() {
        Some(url) => url,
        None => embed_sandbox(config, &mut server)?,
    };
    let options = UpstreamOptions { connections_idle_max: idle_max, ..config.upstream_options(url) };
    let upstream = NativeUpstream::new(options, registry).map_err(ServeError)?;
    let clock = Clock::start();
    let opened = open_store(config, clock, store_lock, registry).await?;
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
        let operators = Audience::Private {
            connections_max: ADMIN_CONNECTIONS_MAX,
            idle_timeout: ADMIN_IDLE_TIMEOUT,
            is_passed_on: true,
        };
        server.listen("admin", address, None, admin, operators)?;
    }
    let resolve_interval = config.resolve_interval();
    let mut durable = None;
    if let (Some(folder), Some(persistence)) = (folder, persistence) {
        let lock = folder.duplicate_lock().map_err(|error| ServeError(format!("store.path: {error}")))?;
        durable = Some(Durable { ledger: ledger.clone(), lock });
        if takes_over {
            ledger.begin_overlap();
        }
        let (restored, store) = (ledger.clone(), persistence.store);
        let folder = Arc::new(Mutex::new(folder));
        spawn("restore", move || restore(restored.clone(), Arc::clone(&store), Arc::clone(&folder)));
        let kept = ledger.clone();
        spawn("store upkeep", move || kept.clone().run_upkeep());
    }
    let swept = ledger.clone();
    spawn("sweep", move || swept.clone().run_sweep());
    let (reporter, overlap) = (gateway.clone(), takes_over.then(|| server.superseded_max()));
    spawn("reports", move || {
        let (ledger, reporter) = (ledger.clone(), reporter.clone());
        async move {
            // The process before delivers its reports until its end.
            if let Some(longest) = overlap {
                ledger.end_overlap(longest).await;
            }
            reporter.run_reports().await;
        }
    });
    spawn("prefetch", move || gateway.clone().run_prefetch());
    let checked = upstream.clone();
    spawn("resolver", move || upstream.run_resolver(resolve_interval));
    spawn("health_checks", move || checked.run_health_checks());
    Ok((server, durable))
}

/// Opens the embedded store, if one is configured. Whatever is wrong with it is an error: a store that cannot be read, or
/// cannot be written, must not look like an empty one.
async fn open_store(
    config: &Config,
    clock: Clock,
    inherited_lock: Option<File>,
    registry: &MetricsRegistry,
) -> Result<Option<(Folder, Persistence)>, ServeError> {
    let Some((path, key_file)) = config.store_paths() else {
        tracing::warn!("store.path is not set: tasks are kept in memory, and lost when the process ends");
        return Ok(None);
    };
    let refuse = |error: String| ServeError(format!("store.path: {error}"));
    let Opened { folder, backend, cipher } =
        Folder::open(&path, key_file.as_deref(), inherited_lock, StoreMetrics::register(registry)).map_err(refuse)?;
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
    let gateway = Audience::Private { connections_max: usize::MAX, idle_timeout, is_passed_on: false };
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
