//! `capgate storm`: sends the load that [`crate::storm`] plans, and tells what came of it.

mod client;
mod connection;

use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use url::Url;

use self::client::Storm;
use self::connection::{Line, NoSite, Site, Terms};
use crate::storm::Plan;
use crate::storm::admin::{Calls, calls, since};
use crate::storm::answer::Trouble;
use crate::storm::summary::Summary;

/// Settings.
#[derive(Clone)]
pub struct Options {
    /// What shall happen.
    pub plan: Plan,
    /// The legacy service: its base address.
    pub target: Url,
    /// The gateway's admin listener.
    pub admin: Option<Url>,
    /// The key of every request.
    pub key: String,
    /// For a whole request.
    pub timeout: Duration,
    /// Whether a client keeps its connection between its polls.
    pub keeps_connections: bool,
    /// Whether hosts that are not this machine may be stormed at all …
    pub remote: bool,
    /// … and which ones.
    pub confirmed: Vec<String>,
    /// Threads.
    pub threads: usize,
}

/// Without the key.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// Why there was no storm.
#[derive(Debug)]
pub enum StormError {
    /// The arguments are refused; nothing was sent.
    Refused(String),
    /// It could not be.
    Failed(String),
}

impl fmt::Display for StormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(why) | Self::Failed(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for StormError {}

impl From<NoSite> for StormError {
    fn from(none: NoSite) -> Self {
        match none {
            NoSite::Refused(why) => Self::Refused(why),
            NoSite::Unresolved(why) => Self::Failed(why),
        }
    }
}

/// Lets it storm until the plan's end, or until SIGINT or SIGTERM.
///
/// # Errors
/// When a host is refused or not found, the admin listener tells nothing, or no task was accepted.
pub fn run(options: Options) -> Result<Summary, StormError> {
    let failed = |error: std::io::Error| StormError::Failed(format!("no runtime: {error}"));
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(options.threads.max(1)).enable_all().build().map_err(failed)?;
    let summary = runtime.block_on(storm(options));
    runtime.shutdown_background();
    summary
}

async fn storm(options: Options) -> Result<Summary, StormError> {
    let Options { plan, target, admin, key, timeout, keeps_connections, remote, confirmed, .. } = options;
    let terms = Terms { remote, confirmed: &confirmed, timeout, keeps_connections };
    // Both are checked before either hears anything.
    let site = Site::find(&target, &terms).await?;
    let admin = match admin {
        Some(url) => Some(Site::find(&url, &terms).await?),
        None => None,
    };
    let before = match &admin {
        Some(admin) => Some(read_calls(admin).await.map_err(StormError::Failed)?),
        None => None,
    };
    allow_files(plan.clients);
    let mut told = ToldToStop::new().map_err(|error| StormError::Failed(format!("no signal handler: {error}")))?;
    let storm = Storm::new(plan, site, key);
    let mut running = JoinSet::new();
    for task in 0..storm.plan.tasks {
        running.spawn(Arc::clone(&storm).submit(task));
    }
    for client in 0..storm.plan.clients {
        running.spawn(Arc::clone(&storm).poll(client));
    }
    watch(&storm, &mut running, &mut told).await;
    let length = storm.elapsed().min(storm.plan.length);
    let mut calls = None;
    if let (Some(admin), Some(before)) = (&admin, before) {
        match read_calls(admin).await {
            Ok(after) => calls = Some(since(&before, &after)),
            Err(why) => say(&format!("capgate: {why}\n")),
        }
    }
    let tally = storm.tally.lock().clone();
    let stopped = storm.is_stopped();
    if tally.submits.ok == 0 && !stopped {
        let codes: Vec<&str> = tally.submits.codes.keys().map(String::as_str).collect();
        let troubles: Vec<&str> = tally.submits.troubles.keys().copied().collect();
        let why = [codes, troubles].concat().join(", ");
        return Err(StormError::Failed(format!("no task was accepted, so there was nothing to poll: {why}")));
    }
    Ok(Summary { plan: storm.plan.clone(), tally, length, stopped, reconnects: storm.site.reconnects(), calls })
}

/// Waits until all are done, with a line about each second.
async fn watch(storm: &Storm, running: &mut JoinSet<()>, told: &mut ToldToStop) {
    const PROGRESS_EVERY: Duration = Duration::from_secs(1);
    let in_place = std::io::stderr().is_terminal();
    let mut progress = tokio::time::interval(PROGRESS_EVERY);
    progress.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    progress.tick().await;
    let mut last = storm.elapsed();
    loop {
        tokio::select! {
            () = told.wait() => storm.stop(),
            _ = progress.tick() => {
                let now = storm.elapsed();
                let line = storm.tally.lock().progress(now, now.saturating_sub(last));
                last = now;
                // Over the line before, and whatever of it is longer.
                say(&if in_place { format!("\r{line}\x1b[K") } else { format!("{line}\n") });
            }
            one = running.join_next() => if one.is_none() { break },
        }
    }
    if in_place {
        say("\n");
    }
}

/// Writes to standard error. One who closed it does not want to know.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

async fn read_calls(admin: &Site) -> Result<Calls, String> {
    let told = match admin.header("/metrics", None) {
        Ok(header) => Line::default().ask(admin, &header, None).await.map_err(Trouble::label),
        Err(_) => Err("write"),
    };
    let told = told.map_err(|why| format!("--admin: /metrics could not be read: {why}"))?;
    Ok(calls(&String::from_utf8_lossy(&told.body)))
}

/// Each client has a connection, which is an open file.
fn allow_files(clients: usize) {
    /// For everything else that is open.
    const BESIDES: u64 = 64;
    let needed = u64::try_from(clients).unwrap_or(u64::MAX).saturating_add(BESIDES);
    if let Ok(limit) = rlimit::increase_nofile_limit(u64::MAX)
        && limit < needed
    {
        say(&format!("capgate: {clients} clients need more open files than the {limit} allowed (ulimit -n)\n"));
    }
}

/// SIGINT and SIGTERM.
struct ToldToStop(Signal, Signal);

impl ToldToStop {
    fn new() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}
