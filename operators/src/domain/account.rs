//! Accounts and subscriptions: who pays for which service, from when to when.

use super::bill::BillingProfile;
use super::key::{AccountKey, Name, ServiceKey, SubscriptionKey};
use super::time::Period;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

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
    /// Price lists, the one to be tried first in front.
    pub price_lists: SmallVec<[Name; 2]>,
    /// When these terms hold.
    pub valid: Period,
    /// Whether usage is allowed in that time.
    pub status: SubscriptionStatus,
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
