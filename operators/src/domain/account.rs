//! Accounts and subscriptions: who pays for which service, from when to when.

use super::bill::BillingProfile;
use super::key::{AccountKey, GroupKey, Name, ServiceKey, SubscriptionKey};
use super::time::Period;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// An account: who is billed, in which currency, on which cycle.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Account {
    /// Identifier.
    pub key: AccountKey,
    /// The one currency it is billed in.
    pub currency: Name,
    /// Its billing cycle.
    pub profile: BillingProfile,
}

/// What a subscription allows for a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SubscriptionStatus {
    /// Usage is rated.
    Active,
    /// Usage in this stretch is suspended.
    Inactive,
    /// The subscription has ended; usage in this stretch is suspended.
    Closed,
}

/// A subscription's terms for a stretch of event time. A change of plan or status is two rows that
/// meet; status is judged at the time of usage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subscription {
    /// Identifier.
    pub key: SubscriptionKey,
    /// Who pays.
    pub account: AccountKey,
    /// The pool of allowances and accumulators that it belongs to: its own id, that of the root of
    /// its hierarchy, or a name that several subscriptions share.
    pub group: Name,
    /// Price lists, the one to be tried first in front.
    pub price_lists: SmallVec<[Name; 2]>,
    /// When these terms hold.
    pub valid: Period,
    /// Whether usage is allowed in that time.
    pub status: SubscriptionStatus,
}

impl GroupKey {
    /// The balance group of a pool in a currency: accounts of two currencies may name one pool, and
    /// must not share a balance.
    #[must_use]
    pub fn of_pool(group: Name, currency: Name) -> Self {
        let seed = xxh3_64_with_seed(&group.0.to_le_bytes(), 7);
        Self(xxh3_64_with_seed(&currency.0.to_le_bytes(), seed))
    }
}

/// A service that a subscription serves, for a stretch of event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceUse {
    /// The service.
    pub service: ServiceKey,
    /// The subscription that serves it.
    pub subscription: SubscriptionKey,
    /// When it does.
    pub valid: Period,
}
