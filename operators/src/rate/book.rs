//! The price book: which price row is in force for an item of a class, at every event time.

use crate::domain::{
    AccountKey, EventTime, Name, Period, Price, PriceKey, PriceModel, PriceRow, Reason, UsageClass,
};
use crate::guide::Guided;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Whose prices: an account's own, or a list's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Account(AccountKey),
    List(Name),
}

impl Owner {
    pub(super) fn of(row: &PriceRow) -> Self {
        row.account.map_or(Self::List(row.list), Self::Account)
    }
}

/// A reason, and the item that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RateFault {
    pub(super) reason: Reason,
    pub(super) item: Option<Name>,
}

/// The price rows of a class's items, in item order.
pub(super) type Prices = SmallVec<[Rc<PriceRow>; 3]>;

/// The price rows of a class's items, and what is wrong with those that have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// A row per item; of an item without a price, one that makes nothing of nothing.
    pub(super) rows: Prices,
    /// The items without a price, in item order, and why; mostly none.
    pub(super) faults: SmallVec<[ItemFault; 1]>,
}

/// Why an item has no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ItemFault {
    /// The place of the item in its class.
    pub(super) place: usize,
    pub(super) item: Name,
    pub(super) reason: Reason,
}

impl ItemFault {
    /// Whether a record with this quantity of the item waits: nothing needs no price, but where two
    /// rows claim an item, either may charge for the record itself.
    pub(super) fn stops(&self, quantities: &[i64]) -> bool {
        let missing = [Reason::PriceNotFound, Reason::PriceNotEffective].contains(&self.reason);
        !missing || quantities.get(self.place) != Some(&0)
    }
}

/// A stretch of a price timeline, from `start` to the start of the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PriceSegment {
    pub(super) start: EventTime,
    pub(super) prices: Found,
}

/// The prices of one class under one order of owners, over all of event time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PriceTimeline {
    pub(super) segments: Vec<PriceSegment>,
}

impl PriceTimeline {
    pub(super) fn at(&self, time: EventTime) -> &PriceSegment {
        let after = self
            .segments
            .partition_point(|segment| segment.start <= time);
        &self.segments[after.saturating_sub(1)]
    }
}

/// All price rows, by owner and item.
#[derive(Debug, Default)]
pub(super) struct PriceBook {
    rows: BTreeMap<(Owner, Name), BTreeSet<Rc<PriceRow>>>,
    /// Rows per account, so that accounts without prices of their own share the lists' timelines.
    accounts: BTreeMap<AccountKey, usize>,
}

impl PriceBook {
    /// Adds or takes away a row.
    pub(super) fn change(&mut self, row: &PriceRow, added: bool) {
        let owner = Owner::of(row);
        let rows = self.rows.entry((owner, row.item)).or_default();
        let changed = if added {
            rows.insert(Rc::new(row.clone()))
        } else {
            rows.remove(row)
        };
        assert!(
            changed,
            "price rows are added once and taken away once: {row:?}"
        );
        if rows.is_empty() {
            self.rows.remove(&(owner, row.item));
        }
        if let Owner::Account(account) = owner {
            let count = self.accounts.entry(account).or_default();
            *count = if added {
                count.saturating_add(1)
            } else {
                count.saturating_sub(1)
            };
            if *count == 0 {
                self.accounts.remove(&account);
            }
        }
    }

    /// Whether the account has prices of its own.
    pub(super) fn has_own(&self, account: AccountKey) -> bool {
        self.accounts.contains_key(&account)
    }

    /// The owners to ask for prices of usage that goes this way, first to last.
    pub(super) fn owners(&self, guided: &Guided) -> SmallVec<[Owner; 3]> {
        let own = self
            .has_own(guided.account)
            .then_some(Owner::Account(guided.account));
        own.into_iter()
            .chain(guided.price_lists.iter().copied().map(Owner::List))
            .collect()
    }

    /// The rows that match an item of a class, in the order of their owners.
    pub(super) fn matching(
        &self,
        owners: &[Owner],
        class: &UsageClass,
        item: Name,
    ) -> Vec<&Rc<PriceRow>> {
        let of_owner = |owner: &Owner| self.rows.get(&(*owner, item));
        let rows = owners.iter().filter_map(of_owner).flatten();
        rows.filter(|row| row.matches(class, item)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.values().map(BTreeSet::len).sum()
    }

    /// The kernel: the rows in force for every item of `class`, the first owner with a match winning
    /// over the next, and the most specific row over the less specific.
    pub(super) fn timeline(&self, owners: &[Owner], class: &UsageClass) -> PriceTimeline {
        let candidates: Vec<Vec<&Rc<PriceRow>>> = class
            .items
            .iter()
            .map(|item| self.matching(owners, class, item.name))
            .collect();
        let mut starts = vec![EventTime::MIN];
        for row in candidates.iter().flatten() {
            starts.extend([row.valid.start(), row.valid.end()]);
        }
        starts.sort_unstable();
        starts.dedup();
        starts.retain(|start| *start != EventTime::MAX);

        let mut segments: Vec<PriceSegment> = Vec::with_capacity(starts.len());
        for start in starts {
            let mut faults = SmallVec::new();
            let mut row = |(place, rows): (usize, &Vec<&Rc<PriceRow>>)| {
                let item = class.items[place].name;
                best(rows, start).unwrap_or_else(|reason| {
                    faults.push(ItemFault {
                        place,
                        item,
                        reason,
                    });
                    Rc::new(nothing(item))
                })
            };
            let rows = candidates.iter().enumerate().map(&mut row).collect();
            let prices = Found { rows, faults };
            if segments.last().is_none_or(|last| last.prices != prices) {
                segments.push(PriceSegment { start, prices });
            }
        }
        PriceTimeline { segments }
    }
}

/// What prices nothing of an item that has no price: at nothing, in whichever currency.
fn nothing(item: Name) -> PriceRow {
    PriceRow {
        key: PriceKey::NONE,
        list: Name::default(),
        account: None,
        item,
        conditions: Vec::new(),
        priority: 0,
        valid: Period::ALWAYS,
        model: PriceModel::PerUnit {
            price: Price::default(),
            per: 1,
        },
        currency: Name::default(),
    }
}

/// What settles rows of one owner: the more conditions, then the higher priority.
pub(super) fn rank(row: &PriceRow) -> (usize, i32) {
    (row.conditions.len(), row.priority)
}

/// The row to use at `time` among the matching ones, which come in the order of their owners.
fn best(rows: &[&Rc<PriceRow>], time: EventTime) -> Result<Rc<PriceRow>, Reason> {
    match leaders(rows, time)?.as_slice() {
        [row] => Ok(Rc::clone(row)),
        [] => Err(Reason::PriceNotFound),
        _ => Err(Reason::PriceAmbiguous),
    }
}

/// The rows that no other beats at `time`: of the first owner with a row in force, those of the
/// highest rank. More than one is a tie.
pub(super) fn leaders<'a>(
    rows: &[&'a Rc<PriceRow>],
    time: EventTime,
) -> Result<SmallVec<[&'a Rc<PriceRow>; 1]>, Reason> {
    let mut in_force = rows
        .iter()
        .copied()
        .filter(|row| row.valid.contains(time))
        .peekable();
    let Some(first) = in_force.peek() else {
        let reason = if rows.is_empty() {
            Reason::PriceNotFound
        } else {
            Reason::PriceNotEffective
        };
        return Err(reason);
    };
    let owner = Owner::of(first);
    let mut leaders: SmallVec<[&Rc<PriceRow>; 1]> = SmallVec::new();
    for row in in_force.take_while(|row| Owner::of(row) == owner) {
        match leaders.first().map(|held| rank(row).cmp(&rank(held))) {
            Some(std::cmp::Ordering::Less) => {}
            // A list named twice offers one row twice, which is no tie.
            Some(std::cmp::Ordering::Equal) if leaders.contains(&row) => {}
            Some(std::cmp::Ordering::Equal) => leaders.push(row),
            None | Some(std::cmp::Ordering::Greater) => leaders = SmallVec::from_buf([row]),
        }
    }
    Ok(leaders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Condition, Item};

    fn class(attributes: &[(&str, &str)]) -> UsageClass {
        let mut attributes: Vec<_> = attributes
            .iter()
            .map(|(a, v)| (Name::new(a), Name::new(v)))
            .collect();
        attributes.sort_unstable();
        let items = [Item {
            name: Name::new("calls"),
            scale: 0,
        }]
        .into_iter()
        .collect();
        UsageClass {
            service_type: Name::new("api"),
            attributes,
            items,
        }
    }

    fn row(id: &str, list: &str, conditions: &[(&str, &str)]) -> PriceRow {
        let condition = |(a, v): &(&str, &str)| Condition {
            attribute: Name::new(a),
            value: Name::new(v),
        };
        PriceRow {
            key: PriceKey::of(&[id]),
            list: Name::new(list),
            account: None,
            item: Name::new("calls"),
            conditions: conditions.iter().map(condition).collect(),
            priority: 0,
            valid: Period::ALWAYS,
            model: PriceModel::PerUnit {
                price: Price::parse("1").unwrap(),
                per: 1,
            },
            currency: Name::new("USD"),
        }
    }

    fn book(rows: &[PriceRow]) -> PriceBook {
        let mut book = PriceBook::default();
        rows.iter().for_each(|row| book.change(row, true));
        book
    }

    fn chosen(
        book: &PriceBook,
        owners: &[Owner],
        class: &UsageClass,
        time: i64,
    ) -> Result<PriceKey, Reason> {
        let timeline = book.timeline(owners, class);
        let Found { rows, faults } = &timeline.at(EventTime(time)).prices;
        faults
            .first()
            .map_or(Ok(rows[0].key), |fault| Err(fault.reason))
    }

    fn list(name: &str) -> Owner {
        Owner::List(Name::new(name))
    }

    #[test]
    fn the_most_specific_row_wins() {
        // The attribute table of the public documentation, with its misprint in row 2 read as High.
        let book = book(&[
            row(
                "R1",
                "std",
                &[("band", "High"), ("case", "UC1"), ("party", "ABC")],
            ),
            row("R2", "std", &[("band", "High"), ("case", "UC1")]),
            row("R3", "std", &[("band", "High"), ("case", "UC2")]),
            row("R4", "std", &[]),
        ]);
        for (band, case, party, expected) in [
            ("High", "UC1", "ABC", "R1"),
            ("High", "UC1", "XYZ", "R2"),
            ("High", "UC2", "ABC", "R3"),
            ("High", "UC5", "ABC", "R4"),
            ("Low", "UC3", "ABC", "R4"),
        ] {
            let class = class(&[("band", band), ("case", case), ("party", party)]);
            assert_eq!(
                chosen(&book, &[list("std")], &class, 0),
                Ok(PriceKey::of(&[expected]))
            );
        }
    }

    #[test]
    fn equally_specific_rows_need_a_priority() {
        let mut rows = [
            row("a", "std", &[("x", "1")]),
            row("b", "std", &[("y", "1")]),
        ];
        let class = class(&[("x", "1"), ("y", "1")]);
        let ambiguous = chosen(&book(&rows), &[list("std")], &class, 0);
        assert_eq!(ambiguous, Err(Reason::PriceAmbiguous));
        rows[1].priority = 1;
        assert_eq!(
            chosen(&book(&rows), &[list("std")], &class, 0),
            Ok(rows[1].key)
        );
    }

    #[test]
    fn owners_are_tried_in_order_at_every_instant() {
        let mut own = row("own", "std", &[]);
        own.account = Some(AccountKey(9));
        own.valid = Period::new(EventTime(10), EventTime(20)).unwrap();
        let book = book(&[own, row("list", "std", &[("x", "1")])]);
        let owners = [Owner::Account(AccountKey(9)), list("std")];
        let class = class(&[("x", "1")]);
        assert_eq!(
            chosen(&book, &owners, &class, 9),
            Ok(PriceKey::of(&["list"]))
        );
        assert_eq!(
            chosen(&book, &owners, &class, 10),
            Ok(PriceKey::of(&["own"]))
        );
        assert_eq!(
            chosen(&book, &owners, &class, 20),
            Ok(PriceKey::of(&["list"]))
        );
        assert_eq!(
            chosen(&book, &[list("none")], &class, 0),
            Err(Reason::PriceNotFound)
        );
    }

    #[test]
    fn a_list_named_twice_is_one_list() {
        let book = book(&[row("a", "std", &[])]);
        let found = chosen(&book, &[list("std"), list("std")], &class(&[]), 0);
        assert_eq!(found, Ok(PriceKey::of(&["a"])));
    }

    #[test]
    fn versions_meet_without_gap() {
        let (mut old, mut new) = (row("old", "std", &[]), row("new", "std", &[]));
        old.valid = Period::new(EventTime(0), EventTime(100)).unwrap();
        new.valid = Period::new(EventTime(100), EventTime::MAX).unwrap();
        let book = book(&[old, new]);
        let at = |time| chosen(&book, &[list("std")], &class(&[]), time);
        assert_eq!(at(-1), Err(Reason::PriceNotEffective));
        assert_eq!(at(99), Ok(PriceKey::of(&["old"])));
        assert_eq!(at(100), Ok(PriceKey::of(&["new"])));
    }
}
