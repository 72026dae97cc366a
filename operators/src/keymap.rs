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

/// Tables of a [`WideMap`].
const TABLES: usize = 32;
/// Parts that keys fall into: table *i* takes `TABLES + i` of them.
const PARTS: usize = TABLES * TABLES + TABLES * (TABLES - 1) / 2;

/// The table of each part.
const TABLE_OF: [u8; PARTS] = {
    let mut table_of = [0; PARTS];
    let (mut part, mut table) = (0, 0);
    while table < TABLES {
        let mut taken = 0;
        while taken < TABLES + table {
            #[expect(clippy::cast_possible_truncation, reason = "there are 32 tables")]
            {
                table_of[part] = table as u8;
            }
            taken += 1;
            part += 1;
        }
        table += 1;
    }
    table_of
};

/// A map of ever more keys. A table that is full is copied into one twice as large, which takes seconds
/// where it holds ten million keys; so there are many, of sizes from one to twice another, and each is
/// full at a time of its own.
#[derive(Debug)]
pub(crate) struct WideMap<K, V> {
    tables: [KeyMap<K, V>; TABLES],
}

impl<K, V> Default for WideMap<K, V> {
    fn default() -> Self {
        Self {
            tables: std::array::from_fn(|_| KeyMap::default()),
        }
    }
}

impl<K: Spread, V> WideMap<K, V> {
    /// By bits that neither the places in a table nor the shards of workers are chosen by.
    fn table(key: K) -> usize {
        let bits = usize::from(u16::try_from(key.bits() >> 40 & 0xffff).unwrap_or(0));
        usize::from(TABLE_OF[bits.saturating_mul(PARTS) >> 16])
    }

    pub(crate) fn get(&self, key: K) -> Option<&V> {
        self.tables[Self::table(key)].get(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.tables[Self::table(key)].insert(key, value)
    }

    /// Sets the value of `key` unless it has one, which is then returned.
    pub(crate) fn insert_new(&mut self, key: K, value: V) -> Option<&V> {
        self.tables[Self::table(key)].insert_new(key, value)
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        self.tables[Self::table(key)].remove(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.tables.iter().map(KeyMap::len).sum()
    }

    /// Bytes of the tables themselves.
    pub(crate) fn bytes(&self) -> usize {
        self.tables.iter().map(KeyMap::bytes).sum()
    }

    /// All keys in their own order: the only way to walk the map.
    pub(crate) fn sorted_keys(&self) -> Vec<K> {
        let tables = self.tables.iter();
        let keys = tables.flat_map(|map| map.table.iter().map(|(key, _)| *key));
        let mut keys: Vec<K> = keys.collect();
        keys.sort_unstable();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_again_and_no_two_tables_grow_together() {
        let mut map = WideMap::default();
        let mix = |n: u64| {
            n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(31)
                .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        };
        let (mut grown, mut before) = (Vec::new(), map.tables.each_ref().map(KeyMap::bytes));
        for n in 0..200_000_u64 {
            assert_eq!(map.insert_new(mix(n), n), None);
            let now = map.tables.each_ref().map(KeyMap::bytes);
            if n >= 100_000 {
                let tables = now.iter().zip(&before).filter(|(now, before)| now > before);
                grown.push(tables.count());
            }
            before = now;
        }
        // Each has grown once while the keys became twice as many, and hardly ever two in a hundredth of that.
        let growths: usize = grown.iter().sum();
        assert!((30..=34).contains(&growths), "{growths} growths");
        let most = grown
            .chunks(1_000)
            .map(|some| some.iter().sum::<usize>())
            .max();
        assert!(most <= Some(4), "{most:?} at once");
        assert_eq!(map.len(), 200_000);
        assert!((0..200_000).all(|n| map.get(mix(n)) == Some(&n)));
        assert_eq!(map.insert(mix(7), 8), Some(7));
        assert_eq!((map.remove(mix(7)), map.get(mix(7))), (Some(8), None));
        let keys = map.sorted_keys();
        assert!(keys.len() == 199_999 && keys.is_sorted());
    }
}
