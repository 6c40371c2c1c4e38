//! What operators see of a store: whether all of it can be read, how much is in it, and its tasks without secrets. Needs no
//! lock, so that a store in use can be inspected.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::backend::{Place, Space};
use super::cipher::Cipher;
use super::clock::{Heartbeat, SystemTimes};
use super::codec;
use super::folder;
use super::identity::{self, Identity};
use super::session::Session;
use super::snapshot::{NativeIdSnapshot, ReportSnapshot, SolveTimesSnapshot, StateSnapshot, TaskSnapshot};
use super::sqlite::inspector::Inspector;

/// A store that is inspected.
#[derive(Debug)]
pub struct Inspection {
    identity: Identity,
    cipher: Cipher,
    inspector: Inspector,
}

/// The contents of a store, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Random number of the store.
    pub store_id: String,
    /// Ids of the keys that may have sealed values. The last one seals at present.
    pub key_ids: Vec<String>,
    /// Size of the database, in bytes.
    pub bytes: u64,
    /// Bytes of the database that are unused at present.
    pub unused_bytes: u64,
    /// Tasks by state.
    pub tasks: BTreeMap<&'static str, u64>,
    /// Tasks that have expired and are not removed yet.
    pub expired_tasks: u64,
    /// Accounts with a task.
    pub accounts: u64,
    /// Reports that wait to be sent.
    pub waiting_reports: u64,
    /// Keys that the upstream has accepted.
    pub accepted_keys: u64,
    /// Methods with solve times.
    pub methods_with_solve_times: u64,
    /// Values that cannot be read.
    pub unreadable: u64,
}

/// A task without its key, answer and pingback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExportedTask {
    /// Id that the client knows.
    pub id: u64,
    /// Keyed digest of the account's key: equal for the tasks of an account, and of no use elsewhere.
    pub account: String,
    /// Name of the row of the method table.
    pub method: String,
    /// State.
    pub state: &'static str,
    /// Id that the upstream knows.
    pub native_id: Option<NativeIdSnapshot>,
    /// Tasks whose answers it joins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<u64>,
    /// Polls of the upstream so far, of an open task.
    pub polls_used: Option<u16>,
    /// Report.
    pub report: ReportSnapshot,
    /// When the task is forgotten, in Unix milliseconds of the store's time.
    pub expires_unix_ms: u64,
}

impl Inspection {
    /// Opens a store. `key_file` is the file with the key; `None` for the one in the folder. Creates nothing.
    ///
    /// # Errors
    /// What is wrong, with the path.
    pub fn open(path: &Path, key_file: Option<&Path>) -> Result<Self, String> {
        let explain = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let identity = Identity::read(path, identity::FILE_NAME)?;
        let identity = identity.ok_or_else(|| explain(&"there is no store"))?;
        let cipher = folder::open_key(path, key_file)?;
        folder::check_key(path, &identity, &cipher)?;
        let inspector = Inspector::open(path, &identity.id).map_err(|error| explain(&error))?;
        Ok(Self { identity, cipher, inspector })
    }

    /// Returns the number of values, which [`Inspection::stats`] reads.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn values(&self) -> Result<u64, String> {
        let counts = Space::ALL.iter().map(|space| self.inspector.count(*space));
        counts.sum::<Result<u64, _>>().map_err(|error| error.to_string())
    }

    /// Checks the structure of the database, page by page.
    ///
    /// # Errors
    /// What is damaged.
    pub fn check_structure(&self) -> Result<(), String> {
        self.inspector.check().map_err(|error| error.to_string())
    }

    /// Reads every value. Calls `on_value` after each.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn stats(&self, mut on_value: impl FnMut()) -> Result<Stats, String> {
        let (bytes, unused_bytes) = self.inspector.size_bytes().map_err(|error| error.to_string())?;
        let mut stats = Stats {
            store_id: self.identity.id.clone(),
            key_ids: self.identity.key_ids.clone(),
            bytes,
            unused_bytes,
            ..Stats::default()
        };
        let mut now_unix_ms = 0;
        self.for_each(Space::System, |session: Option<Session>| {
            on_value();
            match session {
                Some(Session { heartbeat, .. }) => {
                    now_unix_ms = Heartbeat::after(Some(&heartbeat), SystemTimes::now()).store_unix_ms;
                }
                None => stats.unreadable += 1,
            }
        })?;
        let mut accounts = BTreeSet::new();
        self.for_each(Space::Tasks, |task: Option<TaskSnapshot>| {
            on_value();
            let Some(task) = task else { return stats.unreadable += 1 };
            *stats.tasks.entry(state_name(&task.state)).or_default() += 1;
            stats.expired_tasks += u64::from(task.expires_unix_ms < now_unix_ms);
            let is_waiting = matches!(task.report, ReportSnapshot::QueuedGood | ReportSnapshot::QueuedBad);
            stats.waiting_reports += u64::from(is_waiting);
            accounts.insert(self.cipher.digest(task.account_key.as_bytes()));
        })?;
        stats.accounts = accounts.len() as u64;
        self.for_each(Space::AcceptedKeys, |key: Option<String>| {
            on_value();
            *(if key.is_some() { &mut stats.accepted_keys } else { &mut stats.unreadable }) += 1;
        })?;
        self.for_each(Space::SolveTimes, |times: Option<SolveTimesSnapshot>| {
            on_value();
            *(if times.is_some() { &mut stats.methods_with_solve_times } else { &mut stats.unreadable }) += 1;
        })?;
        Ok(stats)
    }

    /// Reads every task. Returns the number of tasks that cannot be read.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn export(&self, mut each: impl FnMut(ExportedTask)) -> Result<u64, String> {
        let mut unreadable = 0;
        self.for_each(Space::Tasks, |task: Option<TaskSnapshot>| match task {
            Some(task) => each(self.redact(task)),
            None => unreadable += 1,
        })?;
        Ok(unreadable)
    }

    fn redact(&self, task: TaskSnapshot) -> ExportedTask {
        let state = state_name(&task.state);
        let (polls_used, members) = match task.state {
            StateSnapshot::Open { polls_used, .. } => (Some(polls_used), Vec::new()),
            StateSnapshot::Group { members } => (None, members),
            StateSnapshot::Unbound | StateSnapshot::Solved(_) | StateSnapshot::Failed(_) => (None, Vec::new()),
        };
        ExportedTask {
            id: task.legacy_id,
            account: format!("{:016x}", self.cipher.digest(task.account_key.as_bytes())),
            method: task.method,
            state,
            native_id: task.native_id,
            members,
            polls_used,
            report: task.report,
            expires_unix_ms: task.expires_unix_ms,
        }
    }

    /// Calls `each` with every value of a space, or with `None` if it cannot be read.
    fn for_each<T: DeserializeOwned>(&self, space: Space, mut each: impl FnMut(Option<T>)) -> Result<(), String> {
        let read = self.inspector.for_each(space, |key, sealed| {
            let opened = self.cipher.open(&Place { space, key }.to_bytes(), sealed).ok();
            each(opened.and_then(|bytes| codec::decode(&bytes).ok()));
        });
        read.map_err(|error| error.to_string())
    }
}

fn state_name(state: &StateSnapshot) -> &'static str {
    match state {
        StateSnapshot::Unbound => "submitted",
        StateSnapshot::Open { .. } => "open",
        StateSnapshot::Group { .. } => "group",
        StateSnapshot::Solved(_) => "solved",
        StateSnapshot::Failed(_) => "failed",
    }
}
