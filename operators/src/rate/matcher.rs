//! Prices matched to classes, each match made once and kept until a row that could alter it changes.

use super::book::{Owner, PriceBook, PriceTimeline};
use crate::domain::{ClassKey, PriceRow, UsageClass};
use crate::epoch::Diff;
use crate::guide::Guided;
use crate::keymap::KeyMap;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Prices matched to classes, remembered.
#[derive(Default)]
pub(super) struct PriceMatcher {
    pub(super) book: PriceBook,
    pub(super) classes: KeyMap<ClassKey, Rc<UsageClass>>,
    matched: KeyMap<u128, Matched>,
}

/// The prices of a class under one order of owners.
pub(super) struct Matched {
    owners: SmallVec<[Owner; 3]>,
    class: Rc<UsageClass>,
    timeline: Rc<PriceTimeline>,
}

impl PriceMatcher {
    pub(super) fn class(&self, key: ClassKey) -> Rc<UsageClass> {
        Rc::clone(
            self.classes
                .get(key)
                .expect("a class arrives no later than its records"),
        )
    }

    /// The owners to ask for prices, first to last.
    pub(super) fn owners(&self, guided: &Guided) -> SmallVec<[Owner; 3]> {
        self.book.owners(guided)
    }

    /// The prices of a class for usage that goes this way.
    pub(super) fn timeline(&mut self, guided: &Guided, class: ClassKey) -> Rc<PriceTimeline> {
        let owners = self.owners(guided);
        let key = match_key(&owners, class);
        let Self {
            book,
            classes,
            matched,
        } = self;
        let make = || {
            let class = classes
                .get(class)
                .expect("a class arrives no later than its records");
            let timeline = Rc::new(book.timeline(&owners, class));
            Matched {
                owners,
                class: Rc::clone(class),
                timeline,
            }
        };
        Rc::clone(&matched.entry(key, make).timeline)
    }

    /// Puts changed rows in force and forgets the matches that they could alter.
    pub(super) fn replace(&mut self, rows: &[(PriceRow, Diff)]) {
        for (row, _) in rows.iter().filter(|(_, diff)| *diff < 0) {
            self.book.change(row, false);
        }
        for (row, _) in rows.iter().filter(|(_, diff)| *diff > 0) {
            self.book.change(row, true);
        }
        // An account's first or last own price changes the owners asked, and so the key; matches
        // under the old key can no longer be reached and are dropped with the rest.
        let mut changed: BTreeMap<Owner, Vec<&PriceRow>> = BTreeMap::new();
        for (row, _) in rows {
            changed.entry(Owner::of(row)).or_default().push(row);
        }
        self.matched.retain(|matched| {
            let rows = matched
                .owners
                .iter()
                .filter_map(|owner| changed.get(owner))
                .flatten();
            !rows
                .into_iter()
                .any(|row| prices_an_item(row, &matched.class))
        });
    }
}

/// Whether the row could price usage of the class at some time.
pub(super) fn prices_an_item(row: &PriceRow, class: &UsageClass) -> bool {
    class.items.iter().any(|item| row.matches(class, item.name))
}

pub(super) fn match_key(owners: &[Owner], class: ClassKey) -> u128 {
    let mut bytes = SmallVec::<[u8; 64]>::new();
    for owner in owners {
        let (kind, key) = match owner {
            Owner::Account(account) => (0, account.0),
            Owner::List(list) => (1, list.0),
        };
        bytes.push(kind);
        bytes.extend_from_slice(&key.to_le_bytes());
    }
    bytes.extend_from_slice(&class.0.to_le_bytes());
    xxhash_rust::xxh3::xxh3_128(&bytes)
}
