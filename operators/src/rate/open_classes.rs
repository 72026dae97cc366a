//! The open usage of one service, by class.
//!
//! A service has few classes as a rule, and those are looked through; of more there is a map, so that a
//! service with a hundred thousand classes costs as much per record as one with ten.

use super::open_usage::OpenUsage;
use super::terms::TermsMaker;
use crate::domain::ClassKey;
use crate::keymap::KeyMap;
use smallvec::SmallVec;

/// Classes that are looked through. Few in tests, so that they reach both.
const FEW: usize = if cfg!(test) { 2 } else { 16 };

/// The open usage of a service, of one class.
pub(super) struct OpenClass {
    pub(super) class: ClassKey,
    pub(super) usage: OpenUsage,
    /// Of the record rated last. Records of a service's classes come in turns, so each keeps its own.
    pub(super) terms: TermsMaker,
}

/// See the module.
#[derive(Default)]
pub(super) struct OpenClasses {
    list: SmallVec<[OpenClass; 1]>,
    /// Where classes are in the list, once they are many.
    places: Option<Box<KeyMap<ClassKey, usize>>>,
}

impl OpenClasses {
    /// Where a class is, until one is removed.
    pub(super) fn place(&self, class: ClassKey) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(class).copied(),
            None => self.list.iter().position(|open| open.class == class),
        }
    }

    pub(super) fn get(&self, class: ClassKey) -> Option<&OpenClass> {
        self.list.get(self.place(class)?)
    }

    pub(super) fn get_mut(&mut self, class: ClassKey) -> Option<&mut OpenClass> {
        let place = self.place(class)?;
        self.list.get_mut(place)
    }

    pub(super) fn at_mut(&mut self, place: usize) -> &mut OpenClass {
        &mut self.list[place]
    }

    /// Takes in a class that is not here, for usage of so many items, and says where it is.
    pub(super) fn add(&mut self, class: ClassKey, items: usize) -> usize {
        let place = self.list.len();
        self.list.push(OpenClass {
            class,
            usage: OpenUsage::new(items),
            terms: TermsMaker::default(),
        });
        if let Some(places) = &mut self.places {
            places.insert(class, place);
        } else if self.list.len() > FEW {
            let mut places = KeyMap::default();
            for (place, open) in self.list.iter().enumerate() {
                places.insert(open.class, place);
            }
            self.places = Some(Box::new(places));
        }
        place
    }

    /// Forgets a class.
    pub(super) fn remove(&mut self, class: ClassKey) {
        let Some(place) = self.place(class) else {
            return;
        };
        self.list.swap_remove(place);
        if self.list.is_empty() {
            *self = Self::default();
        }
        if let Some(places) = &mut self.places {
            places.remove(class);
            if let Some(moved) = self.list.get(place) {
                places.insert(moved.class, place);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All classes, in no order that may reach an output.
    pub(super) fn iter(&self) -> impl Iterator<Item = &OpenClass> {
        self.list.iter()
    }

    /// Bytes of the map.
    pub(super) fn map_bytes(&self) -> usize {
        self.places.as_ref().map_or(0, |places| {
            size_of::<KeyMap<ClassKey, usize>>().saturating_add(places.bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_a_map(ops in prop::collection::vec((any::<bool>(), 0_u64..12), 0..200)) {
            let mut open = OpenClasses::default();
            let mut oracle: BTreeMap<u64, usize> = BTreeMap::new();
            for (n, (add, class)) in ops.into_iter().enumerate() {
                let key = ClassKey(class.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                if !add {
                    open.remove(key);
                    oracle.remove(&key.0);
                } else if let std::collections::btree_map::Entry::Vacant(slot) = oracle.entry(key.0) {
                    slot.insert(n);
                    let place = open.add(key, n);
                    prop_assert_eq!(open.at_mut(place).class, key);
                }
                let held = open.iter().map(|open| open.class.0);
                let held: std::collections::BTreeSet<u64> = held.collect();
                prop_assert_eq!(open.iter().count(), held.len());
                prop_assert!(held.iter().eq(oracle.keys()));
                for class in 0..12_u64 {
                    let key = ClassKey(class.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    let found = open.get(key).map(|open| open.class);
                    prop_assert_eq!(found, oracle.contains_key(&key.0).then_some(key));
                    prop_assert_eq!(open.get_mut(key).map(|open| open.class), found);
                }
            }
        }
    }
}
