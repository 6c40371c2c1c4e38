//! The interface to the place where sealed values are kept. A backend knows neither what a value means nor how it is
//! sealed, and the rest of the program does not know which backend is in use.

use std::fmt;

use async_trait::async_trait;
use tokio::sync::oneshot;

/// What a value describes. The name is part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// Tasks, by the order of their ids.
    Tasks,
    /// Keys that the upstream has accepted, by a digest.
    AcceptedKeys,
    /// Solve times, by a digest of the method's name.
    SolveTimes,
    /// What the store knows of itself, under one key.
    System,
}

impl Space {
    /// All spaces.
    pub const ALL: [Self; 4] = [Self::Tasks, Self::AcceptedKeys, Self::SolveTimes, Self::System];

    /// Name in the stored format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::AcceptedKeys => "accepted_keys",
            Self::SolveTimes => "solve_times",
            Self::System => "system",
        }
    }
}

/// Where a value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// What the value describes.
    pub space: Space,
    /// Its key in this space.
    pub key: u64,
}

impl Place {
    /// Returns the bytes that bind a sealed value to its place.
    pub fn to_bytes(self) -> [u8; 9] {
        let mut bytes = [0; 9];
        let [space, key @ ..] = &mut bytes;
        *space = self.space as u8;
        *key = self.key.to_be_bytes();
        bytes
    }
}

/// A sealed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// When the value may be forgotten, in Unix milliseconds.
    pub expires_unix_ms: u64,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
}

/// A change of one place: a new value, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The place.
    pub place: Place,
    /// Its new value; `None` removes the place.
    pub value: Option<Value>,
}

/// Why the store cannot do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The medium fails, is full, or is out of reach. The text is the system's.
    Unavailable(String),
    /// The stored data is damaged, foreign, newer than this program, or sealed with another key.
    Unreadable(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(text) => write!(f, "the store is unavailable: {text}"),
            Self::Unreadable(text) => write!(f, "the store cannot be read: {text}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// The result of a write that is in progress.
pub type Written = oneshot::Receiver<Result<(), StoreError>>;

/// Keeps sealed values.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// Queues changes, which become durable together. Never waits. Of two calls, the changes of the first are applied
    /// first. The result arrives when the changes are durable or have failed.
    fn write(&self, changes: Vec<Change>) -> Written;

    /// Reads one value, expired or not.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn read(&self, place: Place) -> Result<Option<Vec<u8>>, StoreError>;

    /// Reads all values of a space in batches, until `each` returns `false`. A value that changes meanwhile is read
    /// before or after its change, or both.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn scan(
        &self,
        space: Space,
        each: &mut (dyn FnMut(Vec<(u64, Vec<u8>)>) -> bool + Send),
    ) -> Result<(), StoreError>;

    /// Lets the backend remove values that expired before this time, when it suits it.
    fn expire(&self, before_unix_ms: u64);

    /// Whether writes succeed at present, as far as is known.
    fn is_available(&self) -> bool;

    /// Returns why writes do not succeed at present. For operators.
    fn trouble(&self) -> Option<String>;

    /// Returns the size of what is kept, in bytes.
    fn size_bytes(&self) -> u64;
}
