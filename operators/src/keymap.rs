//! A map whose keys are hashes already: no hashing, 1 byte of overhead per slot, and no way to reach
//! its order by accident.

use crate::domain::{ClassKey, GroupKey, Identity, ServiceKey, TermsKey};
use hashbrown::HashTable;

/// A key that is evenly spread by itself.
pub(crate) trait Spread: Copy + Eq + Ord {
    /// 64 evenly spread bits.
    fn bits(self) -> u64;
}

impl Spread for u64 {
    fn bits(self) -> u64 {
        self
    }
}

impl Spread for u128 {
    fn bits(self) -> u64 {
        u64::try_from(self >> 64).unwrap_or(0)
    }
}

impl Spread for ServiceKey {
    fn bits(self) -> u64 {
        self.0
    }
}

impl Spread for ClassKey {
    fn bits(self) -> u64 {
        self.0
    }
}

impl Spread for GroupKey {
    fn bits(self) -> u64 {
        self.0
    }
}

impl Spread for TermsKey {
    fn bits(self) -> u64 {
        self.0.bits()
    }
}

impl Spread for Identity {
    fn bits(self) -> u64 {
        self.0[0]
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct KeyMap<K, V> {
    table: HashTable<(K, V)>,
}

impl<K, V> Default for KeyMap<K, V> {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
        }
    }
}

impl<K: Spread, V> KeyMap<K, V> {
    pub(crate) fn get(&self, key: K) -> Option<&V> {
        self.table
            .find(key.bits(), |(held, _)| *held == key)
            .map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.table
            .find_mut(key.bits(), |(held, _)| *held == key)
            .map(|(_, value)| value)
    }

    /// The value of `key`, made first if there is none.
    pub(crate) fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let entry = self
            .table
            .entry(key.bits(), |(held, _)| *held == key, |(k, _)| k.bits());
        &mut entry.or_insert_with(|| (key, make())).into_mut().1
    }

    /// Where in the table a key lies, roughly: whoever visits many keys in this order walks through
    /// memory once. One place is one key.
    pub(crate) fn place(&self, key: K) -> u64 {
        let slots = self.table.num_buckets().max(1);
        key.bits().rotate_right(slots.trailing_zeros())
    }

    /// Sets the value of `key`, returning the one it had.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.table.find_mut(key.bits(), |(held, _)| *held == key) {
            Some((_, held)) => Some(std::mem::replace(held, value)),
            None => {
                self.table
                    .insert_unique(key.bits(), (key, value), |(held, _)| held.bits());
                None
            }
        }
    }

    /// Sets the value of `key` unless it has one, which is then returned.
    pub(crate) fn insert_new(&mut self, key: K, value: V) -> Option<&V> {
        use hashbrown::hash_table::Entry;
        match self.table.entry(
            key.bits(),
            |(held, _)| *held == key,
            |(held, _)| held.bits(),
        ) {
            Entry::Occupied(held) => Some(&held.into_mut().1),
            Entry::Vacant(slot) => {
                slot.insert((key, value));
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let entry = self
            .table
            .find_entry(key.bits(), |(held, _)| *held == key)
            .ok()?;
        Some(entry.remove().0.1)
    }

    /// Keeps the entries for which `keep` holds.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        self.table.retain(|(_, value)| keep(value));
    }

    /// Takes all entries out, in no order that may reach an output; the room stays.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (K, V)> {
        self.table.drain()
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes of the table itself.
    pub(crate) fn bytes(&self) -> usize {
        self.table.allocation_size()
    }

    /// All keys in their own order: the only way to walk the map.
    pub(crate) fn sorted_keys(&self) -> Vec<K> {
        let mut keys: Vec<K> = self.table.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }
}
