//! Runs a storm: sends the planned load and measures it. The only part of [`crate::storm`] that does I/O.

mod connection;
mod load;
mod progress;
mod target;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use url::Url;

use self::connection::ClientConnection;
use self::load::Storm;
use self::progress::{print_progress, wait_with_progress};
use self::target::{Target, TargetError, TargetPolicy};
use crate::process::{ShutdownSignals, raise_file_limit, start_runtime};
use crate::storm::plan::Plan;
use crate::storm::reply::RequestError;
use crate::storm::summary::Summary;
use crate::storm::upstream_calls::{self, UpstreamCalls};

/// The plan, the target and the permissions of a storm.
#[derive(Clone)]
pub struct StormOptions {
    /// The plan.
    pub plan: Plan,
    /// Base address of the legacy service.
    pub target: Url,
    /// The gateway's admin listener.
    pub admin: Option<Url>,
    /// Key of every request.
    pub key: String,
    /// Limit for a whole request.
    pub timeout: Duration,
    /// Whether a client keeps its connection between polls.
    pub keeps_connections: bool,
    /// Whether hosts other than this machine are allowed if confirmed.
    pub remote: bool,
    /// Confirmed host names.
    pub confirmed: Vec<String>,
    /// Number of threads.
    pub threads: usize,
}

/// Omits the key.
impl fmt::Debug for StormOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StormOptions").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// Why there is no summary.
#[derive(Debug)]
pub enum StormError {
    /// The arguments are refused; nothing was sent.
    Refused(String),
    /// The storm failed.
    Failed(String),
}

impl fmt::Display for StormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(reason) | Self::Failed(reason)) = self;
        f.write_str(reason)
    }
}

impl std::error::Error for StormError {}

impl From<TargetError> for StormError {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Refused(reason) => Self::Refused(reason),
            TargetError::Unresolved(reason) => Self::Failed(reason),
        }
    }
}

/// Runs a storm until its end, or until SIGTERM or SIGINT.
///
/// # Errors
/// If a host is refused or not found, the admin listener does not answer, or no task is accepted.
pub fn run(options: StormOptions) -> Result<Summary, StormError> {
    let runtime = start_runtime(Some(options.threads.max(1))).map_err(StormError::Failed)?;
    let summary = runtime.block_on(run_storm(options));
    runtime.shutdown_background();
    summary
}

async fn run_storm(options: StormOptions) -> Result<Summary, StormError> {
    let StormOptions { plan, target, admin, key, timeout, keeps_connections, remote, confirmed, threads: _ } = options;
    let policy = TargetPolicy { remote, confirmed: &confirmed, timeout, keeps_connections };
    // Both hosts are checked before anything is sent to either.
    let target = Target::resolve(&target, &policy).await?;
    let admin = match admin {
        Some(url) => Some(Target::resolve(&url, &policy).await?),
        None => None,
    };
    let calls_before = match &admin {
        Some(admin) => Some(fetch_upstream_calls(admin).await.map_err(StormError::Failed)?),
        None => None,
    };
    raise_file_limit_for(plan.clients);
    let mut signals = ShutdownSignals::install().map_err(StormError::Failed)?;
    let storm = Storm::new(plan, target, key);
    let mut clients = JoinSet::new();
    for task in 0..storm.plan.tasks {
        clients.spawn(Arc::clone(&storm).submit(task));
    }
    for client in 0..storm.plan.clients {
        clients.spawn(Arc::clone(&storm).poll(client));
    }
    wait_with_progress(&storm, &mut clients, &mut signals).await;
    let duration = storm.elapsed().min(storm.plan.duration);
    let mut upstream_calls = None;
    if let (Some(admin), Some(before)) = (&admin, calls_before) {
        match fetch_upstream_calls(admin).await {
            Ok(after) => upstream_calls = Some(upstream_calls::difference(&before, &after)),
            Err(error) => print_progress(&format!("capgate: {error}\n")),
        }
    }
    let tally = storm.tally.lock().clone();
    let was_stopped = storm.is_stopped();
    if tally.submit_results.ok == 0 && !was_stopped {
        let codes = tally.submit_results.codes.keys().map(String::as_str);
        let errors: Vec<&str> = codes.chain(tally.submit_results.request_errors.keys().copied()).collect();
        let errors = errors.join(", ");
        return Err(StormError::Failed(format!("no task was accepted, so there was nothing to poll: {errors}")));
    }
    let reconnects = storm.target.reconnects();
    Ok(Summary { plan: storm.plan.clone(), tally, duration, was_stopped, reconnects, upstream_calls })
}

async fn fetch_upstream_calls(admin: &Target) -> Result<UpstreamCalls, String> {
    let fetch = async {
        let request = admin.request("/metrics", None)?;
        ClientConnection::default().send(admin, &request, None).await
    };
    match fetch.await.map_err(RequestError::label) {
        Ok(response) => Ok(upstream_calls::parse(&String::from_utf8_lossy(&response.body))),
        Err(error) => Err(format!("--admin: /metrics could not be read: {error}")),
    }
}

/// Raises the limit of open files, and warns if it is too low for the connections of all clients.
fn raise_file_limit_for(clients: usize) {
    /// Files other than connections.
    const OTHER_FILES: u64 = 64;
    let needed = u64::try_from(clients).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    if let Ok(limit) = raise_file_limit()
        && limit < needed
    {
        print_progress(&format!(
            "capgate: {clients} clients need more open files than the {limit} allowed (ulimit -n)\n"
        ));
    }
}
