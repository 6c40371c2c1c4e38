//! A map with a bound that forgets what was not used for longest.

use std::collections::HashMap;
use std::hash::Hash;

/// A map in two generations: an entry that is used moves to the current one, and the previous one is dropped as a whole when
/// the current one is full. An entry is therefore kept until at least `entries_max` others were used after it.
#[derive(Debug)]
pub(super) struct Generations<K, V> {
    entries_max: usize,
    current: HashMap<K, V>,
    previous: HashMap<K, V>,
}

impl<K: Copy + Eq + Hash, V> Generations<K, V> {
    /// Creates an empty map of at most twice `entries_max` entries.
    pub(super) fn new(entries_max: usize) -> Self {
        Self { entries_max, current: HashMap::new(), previous: HashMap::new() }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.current.get(key).or_else(|| self.previous.get(key))
    }

    /// Returns a value without counting it as used.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.current.get_mut(key).or_else(|| self.previous.get_mut(key))
    }

    /// Uses a value, which is created if there is none.
    pub(super) fn get_or_insert_with(&mut self, key: K, create: impl FnOnce() -> V) -> &mut V {
        if !self.current.contains_key(&key) {
            let moved = self.previous.remove(&key);
            if self.current.len() >= self.entries_max {
                self.previous = std::mem::take(&mut self.current);
            }
            if let Some(value) = moved {
                self.current.insert(key, value);
            }
        }
        self.current.entry(key).or_insert_with(create)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_survives_and_the_rest_is_bounded() {
        let mut map = Generations::new(10);
        *map.get_or_insert_with(1_000, || 0) = 7;
        for key in 0..500 {
            map.get_or_insert_with(key, || key);
            if key % 9 == 0 {
                map.get_or_insert_with(1_000, || 0);
            }
            assert!(map.current.len() + map.previous.len() <= 20);
        }
        assert_eq!((map.get(&1_000), map.get(&499), map.get(&400)), (Some(&7), Some(&499), None));
    }
}
