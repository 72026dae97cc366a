//! Prices matched to classes, each match made once and kept until a row that could alter it changes.

use super::book::{Found, Owner, PriceBook, PriceTimeline};
use super::conditions::ByConditions;
use crate::domain::{ClassKey, EventTime, Name, PriceRow, UsageClass};
use crate::epoch::Diff;
use crate::guide::{Guided, ServiceTimeline};
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

    /// The prices of a class for usage that goes this way.
    pub(super) fn timeline(&mut self, guided: &Guided, class: ClassKey) -> Rc<PriceTimeline> {
        let owners = self.book.owners(guided);
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

    /// The prices of a class along a guide.
    pub(super) fn along(&mut self, guide: &ServiceTimeline, class: ClassKey) -> PricesAlong {
        let mut along = PricesAlong::default();
        for segment in guide.segments() {
            // Usage that goes nowhere asks for no price.
            let Ok(guided) = &segment.guide else {
                continue;
            };
            let timeline = self.timeline(guided, class);
            let last = along.0.last();
            if last.is_none_or(|(_, last)| !Rc::ptr_eq(last, &timeline)) {
                along.0.push((segment.start, timeline));
            }
        }
        along
    }

    /// Puts changed rows in force and forgets the matches that they could alter.
    pub(super) fn replace(&mut self, rows: &[(PriceRow, Diff)], changed: &ChangedPrices) {
        for (row, _) in rows.iter().filter(|(_, diff)| *diff < 0) {
            self.book.change(row, false);
        }
        for (row, _) in rows.iter().filter(|(_, diff)| *diff > 0) {
            self.book.change(row, true);
        }
        // An account's first or last own price changes the owners asked, and so the key; matches
        // under the old key can no longer be reached and are dropped with the rest.
        self.matched.retain(|matched| {
            let mut owners = matched.owners.iter();
            !owners.any(|owner| changed.price_an_item(*owner, &matched.class))
        });
    }
}

/// The prices of a class along a guide, each with the instant from which they are asked for.
#[derive(Default)]
pub(super) struct PricesAlong(SmallVec<[(EventTime, Rc<PriceTimeline>); 1]>);

impl PricesAlong {
    /// The prices in force at an instant, where usage goes anywhere then.
    pub(super) fn at(&self, time: EventTime) -> Option<&Found> {
        let after = self.0.partition_point(|(start, _)| *start <= time);
        let (_, timeline) = self.0.get(after.checked_sub(1)?)?;
        Some(&timeline.at(time).prices)
    }

    /// Everywhere that a price may change: of each timeline only where it is asked.
    pub(super) fn starts(&self) -> impl Iterator<Item = EventTime> {
        let ends = self.0.iter().skip(1).map(|(start, _)| *start);
        let ends = ends.chain([EventTime::MAX]);
        self.0
            .iter()
            .zip(ends)
            .flat_map(|((start, timeline), end)| {
                let segments = timeline.within(*start, end).iter();
                [*start]
                    .into_iter()
                    .chain(segments.map(|segment| segment.start))
            })
    }
}

/// The conditions of price rows that changed: which classes notice.
pub(super) struct ChangedPrices(BTreeMap<Owner, BTreeMap<Name, ByConditions<()>>>);

impl ChangedPrices {
    pub(super) fn of(rows: &[(PriceRow, Diff)]) -> Self {
        let mut changed = Self(BTreeMap::new());
        for (row, _) in rows {
            let items = changed.0.entry(Owner::of(row)).or_default();
            items.entry(row.item).or_default().entry(&row.conditions);
        }
        changed
    }

    /// Whose prices changed.
    pub(super) fn owners(&self) -> impl Iterator<Item = Owner> {
        self.0.keys().copied()
    }

    /// Whether a changed row of an owner could price usage of the class at some time.
    pub(super) fn price_an_item(&self, owner: Owner, class: &UsageClass) -> bool {
        self.0.get(&owner).is_some_and(|items| {
            let of_class = class.items.iter().filter_map(|item| items.get(&item.name));
            let mut rows = of_class.flat_map(|rows| rows.matching(class));
            rows.next().is_some()
        })
    }
}

fn match_key(owners: &[Owner], class: ClassKey) -> u128 {
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
