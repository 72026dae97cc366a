//! Whom a change of the reference data since a period was billed may touch.

use crate::replay::scope::Links;
use millrace_connectors::archive::{ArchiveError, ArchivedPeriod};
use millrace_connectors::names::Names;
use millrace_connectors::reference::{Reference, ReferenceChanges};
use millrace_operators::domain::{
    AccountKey, Name, Period, PriceKey, Subscription, SubscriptionKey,
};
use std::collections::{BTreeMap, BTreeSet};

/// The accounts whose bill of the period may be another by `reference`. Rows that say the same, or
/// that say something of other times, touch nobody.
pub(super) fn touched(
    period: &ArchivedPeriod,
    reference: &Reference,
    links: &Links<'_>,
    names: &Names,
) -> Result<BTreeSet<AccountKey>, ArchiveError> {
    let mut touched = BTreeSet::new();
    if period.has_reference(reference, names)? {
        return Ok(touched);
    }
    let archived = period.reference(None, names)?;
    let changes = ReferenceChanges::between(&archived, reference);
    let bounds = period.period();
    let overlaps = |valid: Period| valid.overlaps(bounds);

    let mut lists: BTreeSet<Name> = BTreeSet::new();
    let mut prices: BTreeSet<PriceKey> = BTreeSet::new();
    for (row, sign) in changes.prices.iter().filter(|(row, _)| overlaps(row.valid)) {
        // A row that goes touches whoever it priced; one that comes may price anybody with its list.
        if *sign < 0 {
            prices.insert(row.key);
        } else if let Some(account) = row.account {
            touched.insert(account);
        } else {
            lists.insert(row.list);
        }
    }
    // What a plan gives may be carried on for as long as the plan lasts and longer.
    let plans = changes
        .plans
        .iter()
        .filter(|(row, _)| row.valid.start() < bounds.end());
    lists.extend(plans.map(|(row, _)| row.list));
    let prices: BTreeSet<String> = prices
        .iter()
        .map(|key| names.price(*key).to_string())
        .collect();
    if !prices.is_empty() {
        let priced = period.priced_by(&prices)?;
        touched.extend(priced.iter().map(|account| names.enter_account(account)));
    }
    let mut of_subscription: BTreeMap<SubscriptionKey, BTreeSet<AccountKey>> = BTreeMap::new();
    for row in archived
        .subscriptions
        .iter()
        .chain(&reference.subscriptions)
    {
        of_subscription
            .entry(row.key)
            .or_default()
            .insert(row.account);
        if row.price_lists.iter().any(|list| lists.contains(list)) {
            touched.insert(row.account);
        }
    }
    touched.extend(changes.accounts.iter().map(|(row, _)| row.key));
    let subscriptions: Vec<&Subscription> = changes
        .subscriptions
        .iter()
        .map(|(row, _)| row)
        .filter(|row| row.valid.start() < bounds.end())
        .collect();
    touched.extend(subscriptions.iter().map(|row| row.account));
    for (row, _) in changes
        .services
        .iter()
        .filter(|(row, _)| overlaps(row.valid))
    {
        touched.extend(of_subscription.get(&row.subscription).into_iter().flatten());
        touched.extend(links.payers(row.service));
    }
    Ok(touched)
}
