//! Which balance group each subscription belongs to, and whether the group's members agree.

use super::agree::ALIKE_MAX;
use super::held::Held;
use super::rows::{Origin, Placed, Rows};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::names::Names;
use millrace_operators::domain::{
    BillingProfile, EventTime, Name, PlanPart, PlanRow, SubscriptionKey, SubscriptionStatus,
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
    let mut parents = Parents::new();
    let mut unknown = 0;
    for Placed { row, origin } in &rows.parents {
        let (child, parent) = *row;
        let told = names.subscription(child);
        if !groups.contains_key(&parent) {
            let written = names.subscription(parent);
            let message = format!(
                "the subscription \"{told}\" names the parent \"{written}\", which is unknown"
            );
            // Finding what was meant costs a look at every name, and nobody reads it many times.
            unknown += 1;
            let meant = (unknown <= ALIKE_MAX).then(|| {
                let known: Vec<_> = groups.keys().map(|key| names.subscription(*key)).collect();
                did_you_mean(&written, known.iter().map(|name| &**name)).map(str::to_owned)
            });
            let hint = meant.flatten().map_or_else(
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
    let (roots, circles) = roots(&parents);
    for (child, origin) in circles {
        let told = names.subscription(child);
        let message = format!("the parents of the subscription \"{told}\" form a circle");
        let hint = "leave `parent` out of the one at the root";
        findings.push(origin.error(message).with_hint(hint));
    }
    for placed in &mut rows.subscriptions {
        let root = roots.get(&placed.row.key);
        if let Some(group) = root.and_then(|root| groups.get(root)) {
            placed.row.group = *group;
        }
    }
    findings
}

/// The parent of each subscription that has one, and where that is said.
type Parents<'a> = BTreeMap<SubscriptionKey, (SubscriptionKey, &'a Origin)>;

/// The root above each subscription with a parent, and the first subscription of each that has a circle
/// above it instead. Every subscription is passed once: the root of one below is that of its parent.
fn roots<'a>(
    parents: &Parents<'a>,
) -> (
    BTreeMap<SubscriptionKey, SubscriptionKey>,
    Vec<(SubscriptionKey, &'a Origin)>,
) {
    let mut roots: BTreeMap<SubscriptionKey, SubscriptionKey> = BTreeMap::new();
    let mut circles = Vec::new();
    for (child, (_, origin)) in parents {
        // The way up, to the root or to a subscription whose root is known.
        let mut way = Vec::new();
        let mut on_the_way = BTreeSet::new();
        let mut top = *child;
        while let Some((parent, _)) = parents.get(&top)
            && !roots.contains_key(&top)
        {
            if !on_the_way.insert(top) {
                circles.push((*child, *origin));
                // Within the circle each is its own root.
                let below = way.iter().take_while(|below| **below != top).count();
                roots.extend(way.drain(below..).map(|within| (within, within)));
                break;
            }
            way.push(top);
            top = *parent;
        }
        let root = roots.get(&top).copied().unwrap_or(top);
        roots.extend(way.into_iter().map(|below| (below, root)));
    }
    (roots, circles)
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

/// Plan rows with one identifier: of two that are alike one would be lost.
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
            // Each catalog has the accumulators that its prices name.
            Some(held)
                if held.origin != placed.origin
                    && !matches!(
                        placed.row.part,
                        PlanPart::Accumulator(_) | PlanPart::Volume(_)
                    ) =>
            {
                let id = names.plan(placed.row.key);
                let message = format!(
                    "\"{id}\" is given twice, alike, and holds once; first at {}",
                    held.origin
                );
                let hint = "leave one of the two out, or give it an id of its own: then both hold";
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
    let held = Held::of(rows);
    rivals.retain(|(first, other)| held.at_once(&first.row, &other.row));
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn origin(line: u64) -> Origin {
        Origin {
            file: Arc::from("accounts.yaml"),
            line,
            column: 0,
        }
    }

    /// The root above a subscription, or where the circle begins that its parents come to.
    fn walked(parents: &BTreeMap<u64, u64>, child: u64) -> (u64, bool) {
        let (mut root, mut seen) = (child, vec![child]);
        while let Some(parent) = parents.get(&root) {
            root = *parent;
            if seen.contains(&root) {
                return (root, true);
            }
            seen.push(root);
        }
        (root, false)
    }

    proptest! {
        #[test]
        fn every_root_is_found_by_walking_up(
            parents in prop::collection::btree_map(0_u64..16, 0_u64..16, 0..16),
        ) {
            let origins: Vec<Origin> = (0..16).map(origin).collect();
            let held = parents.iter().zip(&origins).map(|((child, parent), origin)| {
                (SubscriptionKey(*child), (SubscriptionKey(*parent), origin))
            });
            let (roots, circles) = roots(&held.collect());
            let found: Vec<(u64, u64)> = roots.iter().map(|(child, root)| (child.0, root.0)).collect();
            let expected = parents.keys().map(|child| (*child, walked(&parents, *child).0));
            prop_assert_eq!(found, expected.collect::<Vec<_>>());
            // Each circle once: of all that come to it, the first is told.
            let mut told: Vec<u64> = Vec::new();
            let mut seen: BTreeSet<u64> = BTreeSet::new();
            for child in parents.keys().filter(|child| walked(&parents, **child).1) {
                let mut around = vec![walked(&parents, *child).0];
                while let Some(next) = parents.get(&around[around.len() - 1])
                    && *next != around[0]
                {
                    around.push(*next);
                }
                if around.iter().all(|place| !seen.contains(place)) {
                    told.push(*child);
                }
                seen.extend(around);
            }
            let circles: Vec<u64> = circles.iter().map(|(child, _)| child.0).collect();
            prop_assert_eq!(circles, told);
        }
    }

    #[test]
    fn a_long_chain_has_one_root() {
        const LENGTH: u64 = 200_000;
        let origin = origin(1);
        let parents = (1..LENGTH).map(|n| (SubscriptionKey(n), (SubscriptionKey(n - 1), &origin)));
        let (roots, circles) = roots(&parents.collect());
        assert!(circles.is_empty());
        assert_eq!(roots.len() as u64, LENGTH - 1);
        assert!(roots.values().all(|root| *root == SubscriptionKey(0)));
        // From the other end, where every way is one step longer than the last.
        let parents = (1..LENGTH).map(|n| (SubscriptionKey(n - 1), (SubscriptionKey(n), &origin)));
        let (roots, _) = super::roots(&parents.collect());
        assert!(
            roots
                .values()
                .all(|root| *root == SubscriptionKey(LENGTH - 1))
        );
    }
}
