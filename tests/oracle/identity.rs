//! Identities of what plans make, stated a second time: a bucket, an edge or an activity is known by
//! what it is for, so it stays the same one when anything else changes. Whoever keeps them between
//! runs relies on this, and draws that tie are settled by it.

use millrace_operators::domain::{AccountKey, GroupKey};
use millrace_operators::domain::{
    Accumulator, Anchor, Cap, Commitment, Counts, Measure, Name, PlanPart, PlanRow,
    SubscriptionKey, Term,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Kinds of identities, which keep equal parts apart.
const ALLOWANCE: u64 = 8;
const ROLLOVER: u64 = 9;
const CHARGE: u64 = 11;
const COUNTER: u64 = 12;
const TRUE_UP: u64 = 13;
const VOLUME: u64 = 14;
const ELSEWHERE: u64 = 15;

fn identity(kind: u64, parts: &[u64]) -> u64 {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend(part.to_le_bytes());
    }
    xxh3_64_with_seed(&bytes, kind)
}

/// Whose part of a plan it is.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    pub(super) group: GroupKey,
    pub(super) account: AccountKey,
    pub(super) subscription: SubscriptionKey,
}

fn owned(row: &PlanRow, owner: Owner, start: i64) -> Vec<u64> {
    vec![
        row.key.0,
        row.list.0,
        owner.group.0,
        owner.account.0,
        owner.subscription.0,
        start.cast_unsigned(),
    ]
}

/// The bucket of a grant.
pub(super) fn grant(row: &PlanRow, owner: Owner, start: i64) -> u64 {
    let mut parts = owned(row, owner, start);
    parts.push(0);
    identity(ALLOWANCE, &parts)
}

/// The bucket of a grant that rolls over, `age` cycles after: the oldest is the smallest.
pub(super) fn rest(row: &PlanRow, owner: Owner, start: i64, age: u64) -> u64 {
    let mut parts = owned(row, owner, start);
    parts.push(age);
    (60 - age) * (1 << 58) + identity(ALLOWANCE, &parts) / 64
}

/// The edge from one bucket into another.
pub(super) fn rollover(from: u64, to: u64) -> u64 {
    identity(ROLLOVER, &[from, to])
}

/// A charge without usage.
pub(super) fn charge(row: &PlanRow, owner: Owner, start: i64) -> u64 {
    identity(CHARGE, &owned(row, owner, start))
}

/// What makes two rows versions of one counter: all but the size.
pub(super) fn counter(part: &PlanPart) -> Option<u64> {
    let (kind, resource, ratio, term, items) = match part {
        PlanPart::Accumulator(Accumulator {
            resource,
            items,
            measure,
            numerator,
            denominator,
            term,
            ..
        }) => {
            let kind = if *measure == Measure::Units { 1 } else { 2 };
            (kind, resource, (*numerator, *denominator), term, items)
        }
        PlanPart::Cap(Cap {
            resource,
            items,
            term,
            ..
        }) => (3, resource, (1, 1), term, items),
        PlanPart::Commitment(Commitment {
            resource,
            items,
            counts,
            term,
            ..
        }) => {
            let kind = match counts {
                Counts::Accumulated(_) => return None,
                Counts::Spend => 4,
                Counts::Money => 5,
                Counts::Nothing => 6,
            };
            (kind, resource, (1, 1), term, items)
        }
        _ => return None,
    };
    let (every, cycle, anchor) = match term {
        Term::BillUnit => (0, 0, None),
        Term::Every { every, cycle } => (u64::from(*every), *cycle as u64, None),
        Term::Anchored {
            every,
            cycle,
            anchor,
        } => (u64::from(*every), *cycle as u64, Some(anchor)),
    };
    let ratio = (u64::from(ratio.0), u64::from(ratio.1));
    let mut parts = vec![kind, resource.0, ratio.0, ratio.1, every, cycle];
    if let Some(anchor) = anchor {
        let date = match anchor {
            Anchor::Subscription => 0,
            Anchor::Date { year, month, day } => {
                let small = |part: i8| u64::try_from(part).expect("a calendar's number");
                let year = u64::try_from(*year).expect("a year of our time");
                (year << 16) + (small(*month) << 8) + small(*day)
            }
        };
        parts.extend([u64::MAX, date]);
    }
    parts.extend(items.iter().map(|item| item.0));
    Some(identity(COUNTER, &parts))
}

/// A counter's bucket of a cycle.
pub(super) fn counted(counter: u64, group: GroupKey, start: i64) -> u64 {
    identity(COUNTER, &[counter, group.0, start.cast_unsigned()])
}

/// A commitment that falls due, by its item.
pub(super) fn true_up(bucket: u64, item: Name) -> u64 {
    identity(TRUE_UP, &[bucket, item.0])
}

/// A volume that is priced, by its item and list.
pub(super) fn volume(bucket: u64, item: Name, list: Name) -> u64 {
    identity(VOLUME, &[bucket, item.0, list.0])
}

/// What of a counter a list's price of an item by the total does not charge.
pub(super) fn elsewhere(bucket: u64, item: Name, list: Name) -> u64 {
    identity(ELSEWHERE, &[bucket, list.0, item.0])
}
