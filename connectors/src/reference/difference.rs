//! What changed between two states of the reference data: the rows to take away and to add, which
//! is all that the dataflow needs to hear.
//!
//! - **Law:** the old rows with the changes applied are the new rows; nothing changes by staying.
//! - **Cost:** one walk over both states, which are sorted.

use super::Reference;
use super::told::told;
use crate::names::Names;
use millrace_operators::domain::{
    Account, PlanKey, PlanRow, PriceKey, PriceModel, PriceRow, ServiceUse, Subscription, Tier,
};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

/// A row and +1 where it is new, -1 where it is gone.
pub type Change<T> = (T, isize);

/// The rows that two states of the reference data do not share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceChanges {
    /// Price rows.
    pub prices: Vec<Change<PriceRow>>,
    /// Plan rows.
    pub plans: Vec<Change<PlanRow>>,
    /// Accounts.
    pub accounts: Vec<Change<Account>>,
    /// Subscriptions.
    pub subscriptions: Vec<Change<Subscription>>,
    /// Services.
    pub services: Vec<Change<ServiceUse>>,
}

impl ReferenceChanges {
    /// The changes that lead from `old` to `new`.
    #[must_use]
    pub fn between(old: &Reference, new: &Reference) -> Self {
        Self {
            prices: rows_between(&old.prices, &new.prices),
            plans: rows_between(&old.plans, &new.plans),
            accounts: rows_between(&old.accounts, &new.accounts),
            subscriptions: rows_between(&old.subscriptions, &new.subscriptions),
            services: rows_between(&old.services, &new.services),
        }
    }

    /// Adds changes that come after these.
    pub fn append(&mut self, mut later: Self) {
        self.prices.append(&mut later.prices);
        self.plans.append(&mut later.plans);
        self.accounts.append(&mut later.accounts);
        self.subscriptions.append(&mut later.subscriptions);
        self.services.append(&mut later.services);
    }

    /// Rows added and taken away.
    #[must_use]
    pub fn len(&self) -> usize {
        self.prices.len()
            + self.plans.len()
            + self.accounts.len()
            + self.subscriptions.len()
            + self.services.len()
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The changed prices for a person to read, row by row: the old and the new row of one
    /// identifier are one change.
    #[must_use]
    pub fn price_changes(&self, names: &Names) -> Vec<PriceChange> {
        let mut by_key: BTreeMap<PriceKey, (Option<&PriceRow>, Option<&PriceRow>)> =
            BTreeMap::new();
        for (row, sign) in &self.prices {
            let (old, new) = by_key.entry(row.key).or_default();
            *(if *sign < 0 { old } else { new }) = Some(row);
        }
        let change = |(key, (old, new)): (PriceKey, _)| PriceChange {
            id: names.price(key).to_string(),
            old: describe(old, new, names),
            new: describe(new, old, names),
        };
        let mut changes: Vec<PriceChange> = by_key.into_iter().map(change).collect();
        changes.sort();
        changes
    }
}

impl ReferenceChanges {
    /// The changed plan rows for a person to read, like [`Self::price_changes`].
    #[must_use]
    pub fn plan_changes(&self, names: &Names) -> Vec<PlanChange> {
        let mut by_key: BTreeMap<PlanKey, (Option<&PlanRow>, Option<&PlanRow>)> = BTreeMap::new();
        for (row, sign) in &self.plans {
            let (old, new) = by_key.entry(row.key).or_default();
            *(if *sign < 0 { old } else { new }) = Some(row);
        }
        let text = |row: Option<&PlanRow>, other: Option<&PlanRow>| {
            let row = row?;
            let mut text = told(&row.part, names);
            if other.is_some_and(|other| other.valid != row.valid) {
                text.push_str(&format!(" in {}", row.valid));
            }
            Some(text)
        };
        let change = |(key, (old, new)): (PlanKey, _)| PlanChange {
            id: names.plan(key).to_string(),
            old: text(old, new),
            new: text(new, old),
        };
        let mut changes: Vec<PlanChange> = by_key.into_iter().map(change).collect();
        changes.sort();
        changes
    }
}

fn rows_between<T: Ord + Clone>(old: &[T], new: &[T]) -> Vec<Change<T>> {
    let mut changes = Vec::new();
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(gone), Some(come)) => gone.cmp(come),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return changes,
        };
        if order.is_le()
            && let Some(gone) = old.next()
            && order.is_lt()
        {
            changes.push((gone.clone(), -1));
        }
        if order.is_ge()
            && let Some(come) = new.next()
            && order.is_gt()
        {
            changes.push((come.clone(), 1));
        }
    }
}

/// A price row that changed, in words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct PriceChange {
    /// The row's identifier.
    pub id: String,
    /// What it said, unless it is new.
    pub old: Option<String>,
    /// What it says, unless it is gone.
    pub new: Option<String>,
}

impl fmt::Display for PriceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gone = || "no price".to_owned();
        let old = self.old.clone().unwrap_or_else(gone);
        let new = self.new.clone().unwrap_or_else(gone);
        write!(f, "{}: {old} -> {new}", self.id)
    }
}

/// A plan row that changed, in words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct PlanChange {
    /// The row's identifier.
    pub id: String,
    /// What it said, unless it is new.
    pub old: Option<String>,
    /// What it says, unless it is gone.
    pub new: Option<String>,
}

impl fmt::Display for PlanChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |side: &Option<String>| side.clone().unwrap_or_else(|| "nothing".to_owned());
        write!(f, "{}: {} -> {}", self.id, told(&self.old), told(&self.new))
    }
}

/// The price of a row, and its validity where that is what changed.
fn describe(row: Option<&PriceRow>, other: Option<&PriceRow>, names: &Names) -> Option<String> {
    let row = row?;
    let currency = names.text(row.currency);
    let mut text = match &row.model {
        PriceModel::PerUnit { price, per: 1 } => format!("{price} {currency}"),
        PriceModel::PerUnit { price, per } => format!("{price} {currency} per {per}"),
        PriceModel::PerBlock { price, block } => format!("{price} {currency} per started {block}"),
        PriceModel::PerRecord { price } => format!("{price} {currency} per record"),
        PriceModel::Graduated { tiers, .. } => {
            format!("{} {currency} through tiers", prices(tiers))
        }
        PriceModel::Volume { tiers, .. } => format!("{} {currency} by volume", prices(tiers)),
        PriceModel::Package { price, block, .. } => {
            format!("{price} {currency} per package of {block}")
        }
    };
    if other.is_some_and(|other| other.valid != row.valid) {
        text.push_str(&format!(" in {}", row.valid));
    }
    Some(text)
}

/// The prices of tiers, from the first to the last.
fn prices(tiers: &[Tier]) -> String {
    let prices: Vec<String> = tiers.iter().map(|tier| tier.price.to_string()).collect();
    prices.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::tests::catalog;
    use proptest::prelude::*;

    fn applied(old: &[u8], changes: &[Change<u8>]) -> Vec<u8> {
        let mut counts: BTreeMap<u8, isize> = BTreeMap::new();
        for (row, sign) in old
            .iter()
            .map(|row| (*row, 1))
            .chain(changes.iter().copied())
        {
            *counts.entry(row).or_default() += sign;
        }
        assert!(counts.values().all(|count| [0, 1].contains(count)));
        counts
            .into_iter()
            .filter(|(_, count)| *count == 1)
            .map(|(row, _)| row)
            .collect()
    }

    proptest! {
        #[test]
        fn changes_lead_from_old_to_new_and_back(
            old in proptest::collection::btree_set(0_u8..20, 0..12),
            new in proptest::collection::btree_set(0_u8..20, 0..12),
        ) {
            let (old, new): (Vec<u8>, Vec<u8>) = (old.into_iter().collect(), new.into_iter().collect());
            let changes = rows_between(&old, &new);
            prop_assert_eq!(applied(&old, &changes), new.clone());
            let back: Vec<Change<u8>> = rows_between(&new, &old);
            let mirrored: Vec<Change<u8>> = changes.iter().map(|(row, sign)| (*row, -sign)).collect();
            prop_assert_eq!(back, mirrored);
            prop_assert!(changes.iter().all(|(row, _)| old.contains(row) != new.contains(row)));
            prop_assert!(rows_between(&new, &new).is_empty());
        }
    }

    #[test]
    fn a_changed_price_is_told_in_words() {
        let names = Names::default();
        let old = catalog(
            &names,
            "{id: a, item: t, price: 0.010, per: 1000}, {id: b, item: u, price: 1}",
        );
        let new = catalog(
            &names,
            "{id: a, item: t, price: 0.012, per: 1000}, {id: c, item: u, price: 1, block: 60}",
        );
        let changes = ReferenceChanges::between(&old, &new);
        assert_eq!(changes.len(), 4);
        let told: Vec<String> = changes
            .price_changes(&names)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "a: 0.01 USD per 1000 -> 0.012 USD per 1000",
                "b: 1 USD -> no price",
                "c: no price -> 1 USD per started 60",
            ]
        );
    }
}
