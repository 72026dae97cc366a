//! Reference data: prices, accounts, subscriptions and services, from files that people and feeds
//! keep, to sorted rows of domain types and the difference between two states of them.
//!
//! ```text
//!   catalog.yaml ─► yaml ─► catalog ─► price, plan ┐
//!        └ tables ► SQL ──►                      ├► rows ─► agree ─► Reference ─► difference
//!   accounts.yaml ► yaml ─► accounts ─► account ─┘
//!   messages ► JSON ─► each a small file ─► rows, in force as far as they agree
//! ```
//!
//! - Everything wrong is found at once, each finding with its file, line and column.
//! - A state with an error is not taken at all: the state before stays in force.
//! - Two loads of the same files give equal rows, whatever the order of files and rows.

mod account;
pub mod accounts;
mod agree;
pub mod catalog;
mod combine;
mod commitment;
mod currencies;
mod difference;
mod field;
mod held;
mod load;
pub mod location;
mod mapping;
mod messages;
mod outranked;
mod plan;
pub mod plans;
mod pool;
mod price;
pub mod price_fields;
mod rows;
mod table;
mod terms;
mod tiers;
mod told;
mod vocabulary;
mod words;
pub mod yaml;

pub use difference::{Change, PlanChange, PriceChange, ReferenceChanges};
pub use field::moment;
pub use load::{Loaded, ReferenceFiles};
pub use messages::{HeldMessage, Section};
pub use vocabulary::Vocabulary;
pub use words::{WordField, WordForm, word_fields};

use crate::names::Names;
use millrace_operators::domain::{
    Account, AccountKey, GroupKey, Name, Period, PlanRow, PriceRow, ServiceUse, Subscription,
};
use rows::{Placed, Rows};
use std::collections::{BTreeMap, BTreeSet};

/// The reference data in force: every collection sorted and without repetition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reference {
    /// Price rows.
    pub prices: Vec<PriceRow>,
    /// Plan rows; those of volume prices are made from their price rows.
    pub plans: Vec<PlanRow>,
    /// Accounts.
    pub accounts: Vec<Account>,
    /// Subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// Services.
    pub services: Vec<ServiceUse>,
}

impl Reference {
    /// Accounts with the pools of their subscriptions, and the currency that both are in.
    fn pools(&self) -> BTreeSet<(AccountKey, Name, Name)> {
        let billed = |account: &Account| (account.key, account.currency);
        let billed: BTreeMap<AccountKey, Name> = self.accounts.iter().map(billed).collect();
        let pool = |subscription: &Subscription| {
            let currency = billed.get(&subscription.account)?;
            Some((subscription.account, subscription.group, *currency))
        };
        self.subscriptions.iter().filter_map(pool).collect()
    }

    /// The balance groups of each account's subscriptions.
    #[must_use]
    pub fn groups(&self) -> BTreeMap<AccountKey, BTreeSet<GroupKey>> {
        let mut groups: BTreeMap<AccountKey, BTreeSet<GroupKey>> = BTreeMap::new();
        for (account, pool, currency) in self.pools() {
            let group = GroupKey::of_pool(pool, currency);
            groups.entry(account).or_default().insert(group);
        }
        groups
    }

    /// Enters the names of the balance groups; without plans nothing has a balance.
    pub fn name_groups(&self, names: &Names) {
        if self.plans.is_empty() {
            return;
        }
        for (_, pool, currency) in self.pools() {
            names.enter_group(&names.text(pool), &names.text(currency));
        }
    }
}

impl From<Rows> for Reference {
    fn from(rows: Rows) -> Self {
        Self {
            prices: sorted(rows.prices),
            plans: sorted(rows.plans),
            accounts: sorted(rows.accounts),
            subscriptions: sorted(rows.subscriptions),
            services: joined(sorted(rows.services)),
        }
    }
}

fn sorted<T: Ord>(rows: Vec<Placed<T>>) -> Vec<T> {
    let mut rows: Vec<T> = rows.into_iter().map(|placed| placed.row).collect();
    rows.sort_unstable();
    rows.dedup();
    // They were collected where they stood with their places, which is room for more rows.
    rows.shrink_to_fit();
    rows
}

/// Rows that say the same of meeting stretches of time become one, so that a feed may repeat
/// itself: two rows of one service and subscription would serve usage twice.
fn joined(services: Vec<ServiceUse>) -> Vec<ServiceUse> {
    let mut joined: Vec<ServiceUse> = Vec::with_capacity(services.len());
    for next in services {
        if let Some(last) = joined.last_mut()
            && (last.service, last.subscription) == (next.service, next.subscription)
            && next.valid.start() <= last.valid.end()
            && let Some(both) =
                Period::new(last.valid.start(), last.valid.end().max(next.valid.end()))
        {
            last.valid = both;
        } else {
            joined.push(next);
        }
    }
    joined.shrink_to_fit();
    joined
}

#[cfg(test)]
mod tests;
