//! Which balance group each subscription belongs to, and whether the group's members agree.

use super::rows::{Origin, Placed, Rows};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::names::Names;
use millrace_operators::domain::{
    BillingProfile, EventTime, Name, Period, PlanPart, PlanRow, SubscriptionKey, SubscriptionStatus,
};
use std::collections::{BTreeMap, BTreeSet};

/// Gives every subscription with a parent the group of the root above it. A parent given in one row
/// of a subscription holds for all of its rows.
pub(super) fn settle_groups(rows: &mut Rows, names: &Names) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let groups: BTreeMap<SubscriptionKey, Name> = rows
        .subscriptions
        .iter()
        .rev()
        .map(|placed| (placed.row.key, placed.row.group))
        .collect();
    let mut parents: BTreeMap<SubscriptionKey, (SubscriptionKey, &Origin)> = BTreeMap::new();
    for Placed { row, origin } in &rows.parents {
        let (child, parent) = *row;
        let told = names.subscription(child);
        if !groups.contains_key(&parent) {
            let written = names.subscription(parent);
            let message = format!(
                "the subscription \"{told}\" names the parent \"{written}\", which is unknown"
            );
            let known: Vec<_> = groups.keys().map(|key| names.subscription(*key)).collect();
            let meant = did_you_mean(&written, known.iter().map(|name| &**name));
            let hint = meant.map_or_else(
                || "add the parent, or leave `parent` out".to_owned(),
                |name| format!("did you mean \"{name}\"?"),
            );
            findings.push(origin.error(message).with_hint(hint));
        }
        match parents.get(&child) {
            Some((known, first)) if *known != parent => {
                let message = format!("the subscription \"{told}\" has another parent at {first}");
                let hint = "a subscription has one parent in all of its rows";
                findings.push(origin.error(message).with_hint(hint));
            }
            _ => drop(parents.insert(child, (parent, origin))),
        }
    }
    let mut roots: BTreeMap<SubscriptionKey, Name> = BTreeMap::new();
    // Subscriptions below or in a circle that was told.
    let mut circled: BTreeSet<SubscriptionKey> = BTreeSet::new();
    for (child, (_, origin)) in &parents {
        let mut root = *child;
        let mut seen = BTreeSet::from([root]);
        while let Some((parent, _)) = parents.get(&root) {
            root = *parent;
            if !seen.insert(root) {
                let is_new = circled.is_disjoint(&seen);
                circled.extend(&seen);
                if !is_new {
                    break;
                }
                let told = names.subscription(*child);
                let message = format!("the parents of the subscription \"{told}\" form a circle");
                let hint = "leave `parent` out of the one at the root";
                findings.push(origin.error(message).with_hint(hint));
                break;
            }
        }
        if let Some(group) = groups.get(&root) {
            roots.insert(*child, *group);
        }
    }
    for placed in &mut rows.subscriptions {
        if let Some(group) = roots.get(&placed.row.key) {
            placed.row.group = *group;
        }
    }
    findings
}

/// Subscriptions with a plan that have no first day: their first cycle cannot be told.
pub(super) fn undated_subscriptions(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    let planned: BTreeSet<Name> = rows.plans.iter().map(|placed| placed.row.list).collect();
    let mut findings = Vec::new();
    for Placed { row, origin } in &rows.subscriptions {
        let list = row.price_lists.iter().find(|list| planned.contains(list));
        if let Some(list) = list
            && row.status == SubscriptionStatus::Active
            && row.valid.start() == EventTime::MIN
        {
            let (id, list) = (names.subscription(row.key), names.text(*list));
            let message = format!(
                "the subscription \"{id}\" has no `from`, and the plan of its list \"{list}\" begins with it"
            );
            let hint = "write the first day of the subscription, like `from: 2026-01-31`";
            findings.push(origin.error(message).with_hint(hint));
        }
    }
    findings
}

/// Plan rows with one identifier that hold at once.
pub(super) fn repeated_plans(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    let mut first: BTreeMap<_, &Placed<PlanRow>> = BTreeMap::new();
    let mut findings = Vec::new();
    for placed in &rows.plans {
        match first.get(&placed.row.key) {
            Some(held) if held.row != placed.row => {
                let id = names.plan(placed.row.key);
                let message = format!("\"{id}\" is given twice; first at {}", held.origin);
                let hint = "give each part of a plan its own id";
                findings.push(placed.origin.error(message).with_hint(hint));
            }
            Some(_) => {}
            None => drop(first.insert(placed.row.key, placed)),
        }
    }
    findings
}

/// Versions of one resource of a list that hold at once.
pub(super) fn overlapping_plans(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    let mut by_resource: BTreeMap<(Name, Name), Vec<&Placed<PlanRow>>> = BTreeMap::new();
    for placed in &rows.plans {
        if let Some(resource) = resource(&placed.row.part) {
            let versions = by_resource.entry((placed.row.list, resource)).or_default();
            versions.push(placed);
        }
    }
    let mut findings = Vec::new();
    for ((list, resource), mut versions) in by_resource {
        versions.sort_by_key(|placed| (placed.row.valid, &placed.origin));
        let mut furthest: Option<&Placed<PlanRow>> = None;
        for next in versions {
            if let Some(before) = furthest
                && before.row.valid.overlaps(next.row.valid)
                && before.row.key != next.row.key
            {
                let (list, resource) = (names.text(list), names.text(resource));
                let message = format!(
                    "\"{resource}\" of the price list \"{list}\" is defined at {} for the same time",
                    before.origin
                );
                let hint = "end the plan of one where that of the other begins, or rename one";
                findings.push(next.origin.error(message).with_hint(hint));
            }
            let reach = |placed: &&Placed<PlanRow>| placed.row.valid.end();
            furthest = furthest.into_iter().chain([next]).max_by_key(reach);
        }
    }
    findings
}

fn resource(part: &PlanPart) -> Option<Name> {
    match part {
        PlanPart::Allowance(part) => Some(part.resource),
        PlanPart::Accumulator(part) => Some(part.resource),
        PlanPart::Cap(part) => Some(part.resource),
        PlanPart::Commitment(part) => Some(part.resource),
        PlanPart::Volume(_) | PlanPart::Charge(_) => None,
    }
}

/// What decides whether two definitions of a name are one counter; the sizes may differ.
fn counted(part: &PlanPart) -> Option<(Name, String)> {
    match part {
        PlanPart::Accumulator(a) => {
            let ratio = (a.numerator, a.denominator);
            Some((
                a.resource,
                format!("{:?}", (&a.items, a.measure, ratio, a.term)),
            ))
        }
        PlanPart::Cap(cap) => Some((cap.resource, format!("{:?}", (&cap.items, cap.term)))),
        PlanPart::Commitment(c) if c.counts.has_a_counter() => {
            Some((c.resource, format!("{:?}", (&c.items, c.counts, c.term))))
        }
        _ => None,
    }
}

/// Groups whose members share a counter and disagree about it: two definitions under one name, or
/// two billing cycles.
pub(super) fn divided_groups(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    let mut counters: BTreeMap<Name, Vec<&Placed<PlanRow>>> = BTreeMap::new();
    for placed in rows.plans.iter().filter(|p| counted(&p.row.part).is_some()) {
        counters.entry(placed.row.list).or_default().push(placed);
    }
    if counters.is_empty() {
        return Vec::new();
    }
    let accounts: BTreeMap<_, _> = rows.accounts.iter().map(|p| (p.row.key, &p.row)).collect();
    let mut profiles: BTreeMap<(Name, Name), (BillingProfile, &Origin)> = BTreeMap::new();
    let mut lists: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    let mut findings = Vec::new();
    for Placed { row, origin } in &rows.subscriptions {
        let counting = row
            .price_lists
            .iter()
            .filter(|list| counters.contains_key(list));
        let counting: Vec<Name> = counting.copied().collect();
        let (Some(account), false) = (accounts.get(&row.account), counting.is_empty()) else {
            continue;
        };
        lists.entry(row.group).or_default().extend(counting);
        let pool = (row.group, account.currency);
        let (profile, first) = profiles.entry(pool).or_insert((account.profile, origin));
        if *profile != account.profile {
            let message = format!(
                "the balance group \"{}\" has accounts with two billing cycles: \"{}\" here, another at {first}",
                names.text(row.group),
                names.account(row.account)
            );
            let hint = "subscriptions that share accumulators or caps need accounts with one billing cycle";
            findings.push(origin.error(message).with_hint(hint));
        }
    }
    let sets: BTreeSet<BTreeSet<Name>> = lists.into_values().collect();
    let mut told = BTreeSet::new();
    for set in sets {
        let mut known: BTreeMap<Name, (String, &Placed<PlanRow>)> = BTreeMap::new();
        for placed in set.iter().flat_map(|list| &counters[list]) {
            let Some((resource, definition)) = counted(&placed.row.part) else {
                continue;
            };
            let (held, first) = known
                .entry(resource)
                .or_insert_with(|| (definition.clone(), placed));
            // Two definitions by one list are told apart from this.
            let apart =
                first.row.list == placed.row.list || !first.row.valid.overlaps(placed.row.valid);
            if *held != definition && !apart && told.insert((&first.origin, &placed.origin)) {
                let message = format!(
                    "\"{}\" is counted differently at {}, and subscriptions of one balance group have both",
                    names.text(resource),
                    first.origin
                );
                let hint = "define it alike for every price list of the group, or rename one";
                findings.push(placed.origin.error(message).with_hint(hint));
            }
        }
    }
    findings
}

/// What a counter holds from the beginning, or at the most, by its definition.
fn size(part: &PlanPart) -> Option<(i128, i128)> {
    match part {
        PlanPart::Accumulator(a) => Some((a.activation, a.recurring)),
        PlanPart::Cap(cap) => Some((cap.limit.0, 0)),
        _ => None,
    }
}

/// One counter of several lists that has another size by each of them, where a group has two at once:
/// nothing says which holds.
pub(super) fn contested_sizes(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    let sized = rows.plans.iter().filter_map(|placed| {
        let counter = counted(&placed.row.part)?;
        Some((counter, (placed, size(&placed.row.part)?)))
    });
    let mut counters: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (counter, version) in sized {
        counters.entry(counter).or_default().push(version);
    }
    let mut rivals: Vec<(&Placed<PlanRow>, &Placed<PlanRow>)> = Vec::new();
    for versions in counters.values() {
        for (at, (first, held)) in versions.iter().enumerate() {
            let others = versions[at + 1..].iter();
            let others = others.filter(|(other, size)| {
                other.row.list != first.row.list
                    && size != held
                    && other.row.valid.overlaps(first.row.valid)
                    && other.row.part.currency() == first.row.part.currency()
            });
            rivals.extend(others.map(|(other, _)| (*first, *other)));
        }
    }
    if rivals.is_empty() {
        return Vec::new();
    }
    let mut held: BTreeMap<Name, BTreeMap<Name, Vec<Period>>> = BTreeMap::new();
    let active = rows.subscriptions.iter().map(|placed| &placed.row);
    for row in active.filter(|row| row.status == SubscriptionStatus::Active) {
        let lists = held.entry(row.group).or_default();
        for list in &row.price_lists {
            lists.entry(*list).or_default().push(row.valid);
        }
    }
    let at_once = |first: &PlanRow, other: &PlanRow| {
        held.values().any(|lists| {
            let when = |row: &PlanRow| -> Vec<Period> {
                let held = lists.get(&row.list).into_iter().flatten();
                held.filter_map(|held| held.intersect(row.valid)).collect()
            };
            let (first, other) = (when(first), when(other));
            first
                .iter()
                .any(|one| other.iter().any(|two| one.overlaps(*two)))
        })
    };
    rivals.retain(|(first, other)| at_once(&first.row, &other.row));
    let finding = |(first, other): (&Placed<PlanRow>, &Placed<PlanRow>)| {
        let id = resource(&other.row.part).map(|name| names.text(name));
        let message = format!(
            "\"{}\" has another size at {}, and a balance group has both price lists at once",
            id.unwrap_or_default(),
            first.origin
        );
        let hint = "give it one size in both, or rename one: then each holds by itself";
        other.origin.error(message).with_hint(hint)
    };
    rivals.into_iter().map(finding).collect()
}
