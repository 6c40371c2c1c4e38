//! A backend in memory, for tests of what is built on a store. It fails on request.

use std::collections::BTreeMap;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::backend::{Backend, Change, Place, Space, StoreError, Value, Written};

type WrittenSender = oneshot::Sender<Result<(), StoreError>>;

/// Values in memory.
#[derive(Debug, Default)]
pub struct MemoryBackend {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    values: BTreeMap<Place, Value>,
    mode: Mode,
    /// Writes that wait, in order.
    held: Vec<(Vec<Change>, WrittenSender)>,
}

/// What the backend does with writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Writes succeed at once.
    #[default]
    Works,
    /// Writes and reads fail.
    Fails,
    /// Writes wait until the mode changes.
    Holds,
}

impl MemoryBackend {
    /// Changes the mode. Completes the writes that were held, unless the new mode holds them.
    pub fn set_mode(&self, mode: Mode) {
        let mut state = self.state.lock();
        state.mode = mode;
        if mode != Mode::Holds {
            for (changes, written_tx) in std::mem::take(&mut state.held) {
                drop(written_tx.send(state.apply(changes)));
            }
        }
    }

    /// Returns a backend with the values that are durable at present.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let values = self.state.lock().values.clone();
        Self { state: Mutex::new(State { values, ..State::default() }) }
    }

    /// Copies a value to another place, as an intruder would.
    pub fn copy(&self, from: Place, to: Place) {
        let mut state = self.state.lock();
        if let Some(value) = state.values.get(&from).cloned() {
            state.values.insert(to, value);
        }
    }

    /// Returns the number of values in a space.
    pub fn count(&self, space: Space) -> usize {
        self.state.lock().values.keys().filter(|place| place.space == space).count()
    }
}

impl State {
    fn apply(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.check()?;
        for Change { place, value } in changes {
            match value {
                Some(value) => self.values.insert(place, value),
                None => self.values.remove(&place),
            };
        }
        Ok(())
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.mode == Mode::Fails { Err(StoreError::Unavailable("switched off".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn write(&self, changes: Vec<Change>) -> Written {
        let (written_tx, written_rx) = oneshot::channel();
        let mut state = self.state.lock();
        if state.mode == Mode::Holds {
            state.held.push((changes, written_tx));
        } else {
            drop(written_tx.send(state.apply(changes)));
        }
        written_rx
    }

    async fn read(&self, place: Place) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.state.lock();
        state.check()?;
        Ok(state.values.get(&place).map(|value| value.sealed.clone()))
    }

    async fn scan(
        &self,
        space: Space,
        each: &mut (dyn FnMut(Vec<(u64, Vec<u8>)>) -> bool + Send),
    ) -> Result<(), StoreError> {
        let state = self.state.lock();
        state.check()?;
        let values = state.values.iter().filter(|(place, _)| place.space == space);
        for (place, value) in values {
            if !each(vec![(place.key, value.sealed.clone())]) {
                break;
            }
        }
        Ok(())
    }

    fn expire(&self, before_unix_ms: u64) {
        self.state.lock().values.retain(|_, value| value.expires_unix_ms >= before_unix_ms);
    }

    fn is_available(&self) -> bool {
        self.state.lock().mode != Mode::Fails
    }

    fn trouble(&self) -> Option<String> {
        (!self.is_available()).then(|| "switched off".to_owned())
    }

    fn size_bytes(&self) -> u64 {
        self.state.lock().values.values().map(|value| value.sealed.len() as u64).sum()
    }
}
