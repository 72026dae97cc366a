//! What stands under conditions on the attributes of a class, found without looking at what stands
//! under others.
//!
//! A catalog asks for few sets of attributes, and for many values of them: for each set, the values that
//! a class has are looked up.

use crate::domain::{Condition, Name, UsageClass};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Attributes, or a value of each.
type Names = SmallVec<[Name; 2]>;

/// Values by conditions; see the module.
#[derive(Debug)]
pub(super) struct ByConditions<T> {
    /// By the attributes that are asked for, and then by the values that they must have.
    by_attributes: BTreeMap<Names, BTreeMap<Names, T>>,
}

impl<T> Default for ByConditions<T> {
    fn default() -> Self {
        Self {
            by_attributes: BTreeMap::new(),
        }
    }
}

/// The attributes of conditions in order, and the value of each.
fn parts(conditions: &[Condition]) -> (Names, Names) {
    let mut sorted: SmallVec<[Condition; 2]> = SmallVec::from_slice(conditions);
    sorted.sort_unstable();
    sorted.iter().map(|c| (c.attribute, c.value)).unzip()
}

impl<T: Default> ByConditions<T> {
    /// What stands under exactly these conditions, made if there is nothing.
    pub(super) fn entry(&mut self, conditions: &[Condition]) -> &mut T {
        let (attributes, values) = parts(conditions);
        let by_values = self.by_attributes.entry(attributes).or_default();
        by_values.entry(values).or_default()
    }
}

impl<T> ByConditions<T> {
    /// Forgets what stands under exactly these conditions.
    pub(super) fn remove(&mut self, conditions: &[Condition]) {
        let (attributes, values) = parts(conditions);
        if let Some(by_values) = self.by_attributes.get_mut(&attributes) {
            by_values.remove(&values);
            if by_values.is_empty() {
                self.by_attributes.remove(&attributes);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_attributes.is_empty()
    }

    /// Everything under conditions that hold for a class.
    pub(super) fn matching<'a>(&'a self, class: &UsageClass) -> impl Iterator<Item = &'a T> {
        self.by_attributes
            .iter()
            .filter_map(|(attributes, by_values)| {
                let values = attributes.iter().map(|name| class.attribute(*name));
                by_values.get(&values.collect::<Option<Names>>()?)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn conditions(pairs: &[(u64, u64)]) -> Vec<Condition> {
        let condition = |(attribute, value): &(u64, u64)| Condition {
            attribute: Name(*attribute),
            value: Name(*value),
        };
        pairs.iter().map(condition).collect()
    }

    proptest! {
        /// Conditions that repeat an attribute hold only where they agree, as if each were asked alone.
        #[test]
        fn what_holds_is_found_and_nothing_else(
            held in prop::collection::vec(prop::collection::vec((0_u64..4, 0_u64..3), 0..4), 0..30),
            gone in prop::collection::vec(any::<bool>(), 30),
            class in prop::collection::btree_map(0_u64..4, 0_u64..3, 0..4),
        ) {
            let mut index: ByConditions<Vec<usize>> = ByConditions::default();
            for (n, pairs) in held.iter().enumerate() {
                index.entry(&conditions(pairs)).push(n);
            }
            let sorted = |pairs: &Vec<(u64, u64)>| {
                let mut pairs = pairs.clone();
                pairs.sort_unstable();
                pairs
            };
            let mut left: Vec<usize> = (0..held.len()).collect();
            for (pairs, _) in held.iter().zip(&gone).filter(|(_, gone)| **gone) {
                index.remove(&conditions(pairs));
                left.retain(|n| sorted(&held[*n]) != sorted(pairs));
            }
            prop_assert_eq!(index.is_empty(), left.is_empty());
            left.retain(|n| held[*n].iter().all(|(name, value)| class.get(name) == Some(value)));
            let class = UsageClass {
                service_type: Name(0),
                attributes: class.iter().map(|(name, value)| (Name(*name), Name(*value))).collect(),
                items: SmallVec::new(),
            };
            let mut found: Vec<usize> = index.matching(&class).flatten().copied().collect();
            found.sort_unstable();
            prop_assert_eq!(found, left);
        }
    }
}
