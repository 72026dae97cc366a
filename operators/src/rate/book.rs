//! The price book: which price row is in force for an item of a class, at every event time.

use super::conditions::ByConditions;
use crate::domain::{
    AccountKey, EventTime, Name, Period, Price, PriceKey, PriceModel, PriceRow, Reason, UsageClass,
};
use crate::guide::Guided;
use smallvec::SmallVec;
use std::cmp::Reverse;
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

    /// The segments that begin after `start` and before `end`.
    pub(super) fn within(&self, start: EventTime, end: EventTime) -> &[PriceSegment] {
        let first = self
            .segments
            .partition_point(|segment| segment.start <= start);
        let rest = &self.segments[first..];
        &rest[..rest.partition_point(|segment| segment.start < end)]
    }
}

/// All price rows, by owner, item and conditions.
#[derive(Debug, Default)]
pub(super) struct PriceBook {
    rows: BTreeMap<(Owner, Name), ByConditions<BTreeSet<Rc<PriceRow>>>>,
    len: usize,
    /// Rows per account, so that accounts without prices of their own share the lists' timelines.
    accounts: BTreeMap<AccountKey, usize>,
}

impl PriceBook {
    /// Adds or takes away a row.
    pub(super) fn change(&mut self, row: &PriceRow, added: bool) {
        let owner = Owner::of(row);
        let of_item = self.rows.entry((owner, row.item)).or_default();
        let rows = of_item.entry(&row.conditions);
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
            of_item.remove(&row.conditions);
        }
        if of_item.is_empty() {
            self.rows.remove(&(owner, row.item));
        }
        self.len = match added {
            true => self.len.saturating_add(1),
            false => self.len.saturating_sub(1),
        };
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

    /// The rows that match an item of a class, each once: a list named twice is one list.
    pub(super) fn matching(
        &self,
        owners: &[Owner],
        class: &UsageClass,
        item: Name,
    ) -> Vec<Candidate<'_>> {
        let mut found = Vec::new();
        for (place, owner) in owners.iter().enumerate() {
            if owners[..place].contains(owner) {
                continue;
            }
            let of_item = self.rows.get(&(*owner, item)).into_iter();
            let rows = of_item.flat_map(|rows| rows.matching(class)).flatten();
            found.extend(rows.map(|row| Candidate {
                standing: (place, Reverse(rank(row))),
                row,
            }));
        }
        found
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The kernel: the rows in force for every item of `class`, the first owner with a match winning
    /// over the next, and the most specific row over the less specific. One walk through time, with
    /// the rows in force at hand: as much work as there are rows, whatever they are versions of.
    pub(super) fn timeline(&self, owners: &[Owner], class: &UsageClass) -> PriceTimeline {
        let items = class.items.iter().map(|item| item.name);
        let matching = |item| self.matching(owners, class, item);
        let candidates: Vec<Vec<Candidate<'_>>> = items.clone().map(matching).collect();
        let mut walks: Vec<Walk<'_>> = items
            .zip(&candidates)
            .map(|(item, candidates)| Walk::new(item, candidates))
            .collect();
        let mut starts = vec![EventTime::MIN];
        for walk in &walks {
            starts.extend(walk.edges.iter().map(|(time, _)| *time));
        }
        starts.sort_unstable();
        starts.dedup();
        starts.retain(|start| *start != EventTime::MAX);

        let mut segments: Vec<PriceSegment> = Vec::with_capacity(starts.len());
        for start in starts {
            let mut faults = SmallVec::new();
            let row = |(place, walk): (usize, &mut Walk<'_>)| {
                walk.go_to(start);
                walk.row().unwrap_or_else(|reason| {
                    let item = walk.item;
                    faults.push(ItemFault {
                        place,
                        item,
                        reason,
                    });
                    Rc::new(nothing(item))
                })
            };
            let rows = walks.iter_mut().enumerate().map(row).collect();
            let prices = Found { rows, faults };
            if segments.last().is_none_or(|last| last.prices != prices) {
                segments.push(PriceSegment { start, prices });
            }
        }
        PriceTimeline { segments }
    }
}

/// What settles between rows in force, the least before the others: the place of the owner, then what
/// settles rows of one owner. Rows that stand alike are a tie.
pub(super) type Standing = (usize, Reverse<(usize, i32)>);

/// A row that matches an item of a class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) standing: Standing,
    pub(super) row: &'a Rc<PriceRow>,
}

/// A walk through time over the candidates for an item.
struct Walk<'a> {
    item: Name,
    candidates: &'a [Candidate<'a>],
    /// Where candidates begin and end, in order of time.
    edges: Vec<(EventTime, usize)>,
    /// The first edge that is still ahead.
    next: usize,
    /// The candidates in force, the one to use first.
    in_force: BTreeSet<(Standing, usize)>,
}

impl<'a> Walk<'a> {
    fn new(item: Name, candidates: &'a [Candidate<'a>]) -> Self {
        let mut edges: Vec<(EventTime, usize)> = Vec::new();
        for (at, candidate) in candidates.iter().enumerate() {
            let valid = candidate.row.valid;
            edges.extend([(valid.start(), at), (valid.end(), at)]);
        }
        edges.sort_unstable();
        Self {
            item,
            candidates,
            edges,
            next: 0,
            in_force: BTreeSet::new(),
        }
    }

    /// Goes on to `time`.
    fn go_to(&mut self, time: EventTime) {
        while let Some((_, at)) = self.edges.get(self.next).filter(|(edge, _)| *edge <= time) {
            let held = (self.candidates[*at].standing, *at);
            // The first edge of a candidate is its begin, the other its end.
            if !self.in_force.remove(&held) {
                self.in_force.insert(held);
            }
            self.next = self.next.saturating_add(1);
        }
    }

    /// The row to use.
    fn row(&self) -> Result<Rc<PriceRow>, Reason> {
        let mut in_force = self.in_force.iter();
        let Some((standing, at)) = in_force.next() else {
            return Err(missing(self.candidates));
        };
        match in_force.next() {
            Some((other, _)) if other == standing => Err(Reason::PriceAmbiguous),
            _ => Ok(Rc::clone(self.candidates[*at].row)),
        }
    }
}

/// Why there is no price, where no candidate is in force.
fn missing(candidates: &[Candidate<'_>]) -> Reason {
    match candidates.is_empty() {
        true => Reason::PriceNotFound,
        false => Reason::PriceNotEffective,
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

/// The rows that no other beats at `time`. More than one is a tie.
pub(super) fn leaders<'a>(
    candidates: &[Candidate<'a>],
    time: EventTime,
) -> Result<SmallVec<[&'a Rc<PriceRow>; 1]>, Reason> {
    let in_force = candidates
        .iter()
        .filter(|candidate| candidate.row.valid.contains(time));
    let least = in_force.clone().map(|candidate| candidate.standing).min();
    let least = least.ok_or_else(|| missing(candidates))?;
    let leaders = in_force.filter(|candidate| candidate.standing == least);
    Ok(leaders.map(|candidate| candidate.row).collect())
}

#[cfg(test)]
mod tests;
