//! Whether rows agree with each other: what no row can be judged by alone.
//!
//! Two rows that contradict each other wherever they meet (two prices for one thing at one time, two
//! currencies for one account) are errors, and neither is taken. A row that names something unknown
//! is a warning: feeds may bring rows in any order, and until the missing one comes its usage waits
//! in suspense.

use super::combine::{charged_later, refused_combinations};
use super::currencies::unbilled_parts;
use super::outranked::outranked;
use super::pool::{
    contested_sizes, divided_groups, overlapping_plans, repeated_plans, undated_subscriptions,
};
use super::rows::{Origin, Placed, Rows, Setting};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::names::Names;
use millrace_operators::domain::{
    AccountKey, Condition, Name, Period, PriceRow, ServiceUse, Subscription, SubscriptionKey,
};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Findings of one kind that are told apart; the others are counted.
pub(super) const ALIKE_MAX: usize = 20;

/// Everything that the rows disagree about.
pub(super) fn disagreements(rows: &Rows, setting: Setting<'_>) -> Vec<Diagnostic> {
    let (names, mut findings) = (setting.names, Vec::new());
    for kind in [
        ambiguous_prices(rows, names),
        outranked_prices(rows, names),
        interrupted_prices(rows, names),
        repeated_price_ids(rows, names),
        repeated_accounts(rows, names),
        overlapping_subscriptions(rows, names),
        unknown_subscriptions(rows, names),
        unknown_accounts(rows, names),
        unknown_lists(rows, names),
        contested_services(rows, names),
        unpriced_currencies(rows, names),
        undated_subscriptions(rows, names),
        repeated_plans(rows, names),
        overlapping_plans(rows, names),
        divided_groups(rows, names),
        contested_sizes(rows, names),
        unbilled_parts(rows, names),
        refused_combinations(rows, setting),
        charged_later(rows, names),
    ] {
        cap(kind, &mut findings);
    }
    findings
}

fn cap(mut kind: Vec<Diagnostic>, findings: &mut Vec<Diagnostic>) {
    kind.sort();
    let more = kind.len().saturating_sub(ALIKE_MAX);
    kind.truncate(ALIKE_MAX);
    if let Some(last) = kind.last_mut()
        && more > 0
    {
        last.hint
            .push_str(&format!(" (and {more} more findings like this one)"));
    }
    findings.append(&mut kind);
}

/// What decides whether two price rows can be in each other's way: the account or the list, the
/// item, the conditions and the priority.
type PriceSlot<'a> = (Option<AccountKey>, Option<Name>, Name, &'a [Condition], i32);

fn slot(row: &PriceRow) -> PriceSlot<'_> {
    // A row for an account wins over every list, so its list does not tell it apart.
    let list = row.account.is_none().then_some(row.list);
    (row.account, list, row.item, &row.conditions, row.priority)
}

fn ambiguous_prices(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    let mut sorted: Vec<&Placed<PriceRow>> = rows.prices.iter().collect();
    sorted.sort_by_key(|placed| (slot(&placed.row), placed.row.valid));
    overlaps(&sorted, slot, |row| row.valid)
        .into_iter()
        .filter(|(first, second)| first.row != second.row)
        .map(|(first, second)| {
            let (id, other) = (names.price(second.row.key), names.price(first.row.key));
            let message = format!(
                "the price \"{id}\" {} overlaps \"{other}\" {} of {}",
                second.row.valid, first.row.valid, first.origin
            );
            let hint = hint_to_part(first.row.valid, second.row.valid);
            second.origin.error(message).with_hint(hint)
        })
        .collect()
}

/// How to tell which of two rows holds when, of which the second begins no earlier.
fn hint_to_part(first: Period, second: Period) -> &'static str {
    let hint_alike =
        "leave one of the two out, or end one where the other begins (`to` is exclusive)";
    let hint_begins_alike =
        "give the one that ends first a priority, or begin the other where it ends";
    let hint_within = "give the one within the other a priority, like `priority: 1`";
    let hint_follows = "end the earlier one where the later begins (`to` is exclusive), or give the \
                        later a priority";
    match (
        first.start() == second.start(),
        first.end().cmp(&second.end()),
    ) {
        (true, Ordering::Equal) => hint_alike,
        (true, _) => hint_begins_alike,
        (false, Ordering::Greater) => hint_within,
        (false, _) => hint_follows,
    }
}

/// Rows that are never used: at every instant that they hold, another with the same conditions has a
/// higher priority.
fn outranked_prices(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    let mut alike: BTreeMap<_, Vec<&Placed<PriceRow>>> = BTreeMap::new();
    // Without priorities nothing is outranked, and most catalogs have none.
    if rows.prices.iter().any(|placed| placed.row.priority != 0) {
        for placed in &rows.prices {
            let (account, list, item, conditions, _) = slot(&placed.row);
            let place = (account, list, item, conditions);
            alike.entry(place).or_default().push(placed);
        }
    }
    let finding = |(placed, rival): (&Placed<PriceRow>, &Placed<PriceRow>)| {
        let (id, other) = (names.price(placed.row.key), names.price(rival.row.key));
        let message = format!(
            "the price \"{id}\" is never used: \"{other}\" of {} has the same conditions and a higher \
             priority whenever it holds",
            rival.origin
        );
        let hint = "leave one of the two out, or end one where the other begins";
        placed.origin.warning(message).with_hint(hint)
    };
    let alike = alike.into_values().flat_map(outranked);
    alike.map(finding).collect()
}

/// Stretches of time between two prices of a list, for one item under the same conditions, in which the
/// list has none that would hold instead.
fn interrupted_prices(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    type Prices<'a> = Vec<&'a Placed<PriceRow>>;
    let mut items: BTreeMap<_, BTreeMap<&[Condition], Prices<'_>>> = BTreeMap::new();
    // What an account pays for some time it pays instead of the list, and that goes on.
    for placed in rows.prices.iter().filter(|p| p.row.account.is_none()) {
        let slots = items.entry((placed.row.list, placed.row.item)).or_default();
        slots
            .entry(&placed.row.conditions)
            .or_default()
            .push(placed);
    }
    let mut findings = Vec::new();
    for ((list, item), mut slots) in items {
        for prices in slots.values_mut() {
            prices.sort_by_key(|placed| (placed.row.valid, &placed.origin));
        }
        for (conditions, prices) in &slots {
            let mut last = prices[0];
            for &next in prices {
                let (ends, begins) = (last.row.valid.end(), next.row.valid.start());
                if next.row.valid.end() > ends {
                    let gap = Period::new(ends, begins);
                    let wider = slots.iter().filter(|(other, _)| {
                        other.len() < conditions.len()
                            && other.iter().all(|c| conditions.contains(c))
                    });
                    let wider = wider.flat_map(|(_, prices)| prices).map(|p| p.row.valid);
                    if let Some(gap) = gap.and_then(|gap| uncovered(gap, wider)) {
                        let (list, item) = (names.text(list), names.text(item));
                        let (id, before) = (names.price(next.row.key), names.price(last.row.key));
                        let message = format!(
                            "the price list \"{list}\" has no price for \"{item}\" in {gap}, between \
                             \"{before}\" of {} and \"{id}\"",
                            last.origin
                        );
                        let hint = "begin the later price where the earlier ends (`to` is exclusive), or \
                                    add one for the time between: its usage waits";
                        findings.push(next.origin.warning(message).with_hint(hint));
                    }
                    last = next;
                }
            }
        }
    }
    findings
}

/// The first part of a gap that none of these periods covers.
fn uncovered(gap: Period, periods: impl Iterator<Item = Period>) -> Option<Period> {
    let mut periods: Vec<Period> = periods.filter(|period| period.overlaps(gap)).collect();
    periods.sort();
    let (mut start, mut end) = (gap.start(), gap.end());
    for period in periods {
        if period.start() > start {
            end = end.min(period.start());
            break;
        }
        start = start.max(period.end());
    }
    Period::new(start, end)
}

/// Pairs of neighbours that share a slot and an instant; `sorted` is in the order of slot and
/// period. Each row is compared with the one that reaches furthest, so no overlap is missed.
fn overlaps<'a, T, K: PartialEq>(
    sorted: &[&'a Placed<T>],
    slot: impl Fn(&'a T) -> K,
    valid: impl Fn(&'a T) -> Period,
) -> Vec<(&'a Placed<T>, &'a Placed<T>)> {
    let mut found = Vec::new();
    let mut furthest: Option<&'a Placed<T>> = None;
    for &next in sorted {
        let meets = furthest.filter(|before| slot(&before.row) == slot(&next.row));
        furthest = match meets {
            Some(before) => {
                if valid(&before.row).overlaps(valid(&next.row)) {
                    found.push((before, next));
                }
                let reaches = valid(&before.row).end() >= valid(&next.row).end();
                Some(if reaches { before } else { next })
            }
            None => Some(next),
        };
    }
    found
}

/// Reports the rows that have the key of an earlier row without being equal to it.
fn repeated<'a, T: PartialEq, K: Ord>(
    rows: &'a [Placed<T>],
    key: impl Fn(&T) -> K,
    excused: impl Fn(&T, &T) -> bool,
    message: impl Fn(&T, &Origin) -> (String, &'static str),
) -> Vec<Diagnostic> {
    let mut first: BTreeMap<K, &'a Placed<T>> = BTreeMap::new();
    let mut findings = Vec::new();
    for placed in rows {
        let held = *first.entry(key(&placed.row)).or_insert(placed);
        if held.row != placed.row && !excused(&held.row, &placed.row) {
            let (message, hint) = message(&placed.row, &held.origin);
            findings.push(placed.origin.error(message).with_hint(hint));
        }
    }
    findings
}

fn repeated_price_ids(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    // Rows that overlap have been reported for that.
    let excused = |a: &PriceRow, b: &PriceRow| slot(a) == slot(b) && a.valid.overlaps(b.valid);
    repeated(
        &rows.prices,
        |row| row.key,
        excused,
        |row, first| {
            let id = names.price(row.key);
            let message = format!("the price id \"{id}\" is given twice; first at {first}");
            let hint = "give each row its own id, or leave the id out";
            (message, hint)
        },
    )
}

fn repeated_accounts(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    repeated(
        &rows.accounts,
        |row| row.key,
        |_, _| false,
        |row, first| {
            let id = names.account(row.key);
            let message =
                format!("the account \"{id}\" is given twice, differently; first at {first}");
            let hint = "an account has one currency and one billing cycle; keep one of the rows";
            (message, hint)
        },
    )
}

fn overlapping_subscriptions(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    let mut sorted: Vec<&Placed<Subscription>> = rows.subscriptions.iter().collect();
    sorted.sort_by_key(|placed| (placed.row.key, placed.row.valid));
    overlaps(&sorted, |row| row.key, |row| row.valid)
        .into_iter()
        .filter(|(first, second)| first.row != second.row)
        .map(|(first, second)| {
            let message = format!(
                "the subscription \"{}\" has two sets of terms at once: {} here and {} at {}",
                names.subscription(second.row.key),
                second.row.valid,
                first.row.valid,
                first.origin
            );
            let hint = "end one row where the next begins (`to` is exclusive)";
            second.origin.error(message).with_hint(hint)
        })
        .collect()
}

fn unknown<'a, T, K: Ord + Copy>(
    rows: &'a [Placed<T>],
    keys: impl Fn(&'a T) -> Vec<K>,
    known: &BTreeMap<K, Arc<str>>,
    text: impl Fn(K) -> Arc<str>,
    message: impl Fn(&T, &str) -> (String, &'static str),
) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let mut told: BTreeSet<K> = BTreeSet::new();
    for placed in rows {
        for key in keys(&placed.row) {
            if known.contains_key(&key) || !told.insert(key) {
                continue;
            }
            let written = text(key);
            let (message, hint) = message(&placed.row, &written);
            // Past the cap nobody reads the advice, and finding it costs a look at every name.
            let meant = (findings.len() < ALIKE_MAX)
                .then(|| did_you_mean(&written, known.values().map(|name| &**name)))
                .flatten();
            let hint = match meant {
                Some(name) => format!("did you mean \"{name}\"? Otherwise {hint}"),
                None => hint.to_owned(),
            };
            findings.push(placed.origin.warning(message).with_hint(hint));
        }
    }
    findings
}

fn unknown_subscriptions(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    let known: BTreeMap<SubscriptionKey, Arc<str>> = rows
        .subscriptions
        .iter()
        .map(|p| (p.row.key, names.subscription(p.row.key)))
        .collect();
    let key = |row: &ServiceUse| vec![row.subscription];
    unknown(
        &rows.services,
        key,
        &known,
        |key| names.subscription(key),
        |row, written| {
            let (_, service) = names.service(row.service);
            let message = format!(
                "the service \"{service}\" names the subscription \"{written}\", which is unknown"
            );
            let hint = "add the subscription; until then usage of the service is suspended";
            (message, hint)
        },
    )
}

fn unknown_accounts(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    let known: BTreeMap<AccountKey, Arc<str>> = rows
        .accounts
        .iter()
        .map(|p| (p.row.key, names.account(p.row.key)))
        .collect();
    let text = |key| names.account(key);
    let of_subscription = |row: &Subscription| vec![row.account];
    let mut findings = unknown(
        &rows.subscriptions,
        of_subscription,
        &known,
        text,
        |row, written| {
            let id = names.subscription(row.key);
            let message = format!(
                "the subscription \"{id}\" names the account \"{written}\", which is unknown"
            );
            let hint = "add the account; until then usage of the subscription is suspended";
            (message, hint)
        },
    );
    let of_price = |row: &PriceRow| row.account.into_iter().collect();
    findings.extend(unknown(
        &rows.prices,
        of_price,
        &known,
        text,
        |row, written| {
            let id = names.price(row.key);
            let message =
                format!("the price \"{id}\" is for the account \"{written}\", which is unknown");
            let hint = "add the account; until then the price is never used";
            (message, hint)
        },
    ));
    findings
}

fn unknown_lists(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    // Without any price there is no catalog yet, and one finding per list would say nothing.
    if rows.prices.is_empty() {
        return Vec::new();
    }
    let priced = rows.prices.iter().map(|p| p.row.list);
    let planned = rows.plans.iter().map(|p| p.row.list);
    let known: BTreeMap<Name, Arc<str>> = priced
        .chain(planned)
        .map(|list| (list, names.text(list)))
        .collect();
    let lists = |row: &Subscription| row.price_lists.to_vec();
    unknown(
        &rows.subscriptions,
        lists,
        &known,
        |key| names.text(key),
        |row, written| {
            let id = names.subscription(row.key);
            let message = format!(
                "the subscription \"{id}\" names the price list \"{written}\", which has no price"
            );
            let hint = "add prices to the list, or name another";
            (message, hint)
        },
    )
}

fn contested_services(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    let mut sorted: Vec<&Placed<ServiceUse>> = rows.services.iter().collect();
    sorted.sort_by_key(|placed| (placed.row.service, placed.row.valid));
    overlaps(&sorted, |row| row.service, |row| row.valid)
        .into_iter()
        .filter(|(first, second)| first.row.subscription != second.row.subscription)
        .map(|(first, second)| {
            let (service_type, service) = names.service(second.row.service);
            let message = format!(
                "the {service_type} service \"{service}\" is claimed by \"{}\" here and by \"{}\" at {}",
                names.subscription(second.row.subscription),
                names.subscription(first.row.subscription),
                first.origin
            );
            let hint = "end one before the other begins; usage in between is suspended";
            second.origin.warning(message).with_hint(hint)
        })
        .collect()
}

fn unpriced_currencies(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    if rows.prices.is_empty() {
        return Vec::new();
    }
    let priced: BTreeSet<Name> = rows.prices.iter().map(|p| p.row.currency).collect();
    // An account that is given twice is told for that.
    let billed = rows.accounts.iter();
    let billed = billed.filter(|p| priced.contains(&p.row.currency));
    let billed: BTreeSet<AccountKey> = billed.map(|p| p.row.key).collect();
    let mut told = BTreeSet::new();
    rows.accounts
        .iter()
        .filter(|p| !billed.contains(&p.row.key) && told.insert(p.row.currency))
        .map(|placed| {
            let currency = names.text(placed.row.currency);
            let id = names.account(placed.row.key);
            let priced: Vec<Arc<str>> = priced.iter().map(|priced| names.text(*priced)).collect();
            let message = format!(
                "the account \"{id}\" is billed in {currency}, and no price is in {currency}; prices \
                 are in {}",
                priced.join(", ")
            );
            placed
                .origin
                .warning(message)
                .with_hint(
                    "correct the currency, or add a price list in it, and name it first in the \
                     subscription's `price_lists`",
                )
        })
        .collect()
}
