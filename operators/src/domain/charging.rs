//! What ordered charging reads and writes: buckets of balance groups, priced usage, impacts.
//!
//! Bucket values are `i128`: units as [`Quantity`](super::Quantity), money as
//! [`Amount`](super::Amount). A bucket never converts between the two.

use super::amount::Amount;
use super::bill::BillingProfile;
use super::catalog::PriceModel;
use super::key::{
    AccountKey, BucketKey, ClassKey, EdgeKey, GroupKey, Name, PriceKey, ServiceKey,
    SubscriptionKey, TermsKey,
};
use super::tier::Tier;
use super::time::{EventTime, Period};
use super::usage::{Quantities, RecordId};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What a bucket counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Units of usage.
    Units,
    /// Money of the group's currency.
    Money,
}

/// What a bucket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BucketKind {
    /// Usage draws from it until nothing is left. Draws go by priority (the lower first), then
    /// earliest end, then earliest start, then key.
    Allowance {
        /// Who draws first.
        priority: i32,
    },
    /// Usage adds to it: `value · numerator / denominator` of its units or its charge before
    /// allowances.
    Accumulator {
        /// Of each record, this part counts.
        numerator: u32,
        /// At least 1.
        denominator: u32,
    },
    /// Usage adds to it what it costs: after allowances of units and caps, whether the account or an
    /// allowance of money pays it.
    Spend,
    /// Usage that an accumulator of its name counts adds its units to it, unless the price by the total
    /// of a list charges them: what of the total is charged elsewhere.
    Elsewhere {
        /// The list whose price by the total does not charge it.
        list: Name,
    },
    /// Charges add to it until it is full; what exceeds is not charged.
    Cap {
        /// The most that is charged.
        limit: Amount,
    },
}

impl BucketKind {
    /// Whether it says nothing that its accumulator and the charges do not: what counts units that are
    /// charged elsewhere is a working value.
    #[must_use]
    pub fn is_inner(self) -> bool {
        matches!(self, Self::Elsewhere { .. })
    }
}

/// A level of a bucket whose crossing is worth a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Threshold {
    /// The level: an allowance crosses it falling to it or below, any other bucket rising to it or
    /// above.
    pub level: i128,
    /// What it is of the whole, in percent, where it was given so.
    pub percent: Option<u8>,
}

/// A bucket of a balance group: a resource for a period.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bucket {
    /// The balance group that it belongs to.
    pub group: GroupKey,
    /// Identifier, unique in all groups.
    pub key: BucketKey,
    /// The allowance, accumulator or cap that it is a bucket of, as the catalog calls it.
    pub resource: Name,
    /// What it is for.
    pub kind: BucketKind,
    /// What it counts.
    pub measure: Measure,
    /// The items that it is for, sorted; none means any.
    pub items: SmallVec<[Name; 2]>,
    /// Event times of usage that may touch it.
    pub valid: Period,
    /// Its value before any usage: the grant of an allowance.
    pub opening: i128,
    /// Levels to give notice of.
    pub thresholds: SmallVec<[Threshold; 3]>,
}

/// Something that happens to a balance group at an instant, before the usage of that instant: the
/// edge of a period.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Edge {
    /// The balance group.
    pub group: GroupKey,
    /// Identifier, unique in all groups; settles the order of edges at one instant.
    pub key: EdgeKey,
    /// When.
    pub time: EventTime,
    /// What.
    pub action: EdgeAction,
}

/// What happens at an [`Edge`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EdgeAction {
    /// What is left of one allowance bucket opens another.
    Rollover {
        /// The bucket that ends.
        from: BucketKey,
        /// The bucket that begins.
        to: BucketKey,
        /// At most so much is carried over.
        cap: Option<i128>,
    },
    /// What a money accumulator lacks of a commitment is charged.
    TrueUp {
        /// The accumulator bucket.
        accumulator: BucketKey,
        /// What it should have reached.
        commitment: Amount,
    },
    /// What of a unit accumulator no other price has charged is charged at the price of the tier that
    /// the whole reached.
    Volume {
        /// The accumulator bucket.
        accumulator: BucketKey,
        /// The bucket of what is charged elsewhere.
        elsewhere: BucketKey,
        /// The tiers.
        tiers: Arc<[Tier]>,
    },
}

/// How a class of usage is charged in a stretch of time: who pays, and the price of each item.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Terms {
    /// Hash of all below: equal terms have equal keys on every worker.
    pub key: TermsKey,
    /// The balance group.
    pub group: GroupKey,
    /// The service used.
    pub service: ServiceKey,
    /// The class of the records.
    pub class: ClassKey,
    /// The subscription in force.
    pub subscription: SubscriptionKey,
    /// The account charged.
    pub account: AccountKey,
    /// The account's billing cycle.
    pub profile: BillingProfile,
    /// Currency of all amounts.
    pub currency: Name,
    /// The items of the class, each with its price.
    pub items: SmallVec<[TermsItem; 3]>,
}

/// The price of one item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TermsItem {
    /// The item.
    pub name: Name,
    /// Decimals of quantities.
    pub scale: u8,
    /// The price row in force.
    pub price: PriceKey,
    /// Its price list.
    pub list: Name,
    /// How the amount is found.
    pub model: PriceModel,
}

impl Terms {
    /// Reads a little of each part that charging needs, so that it is at hand. Tiers are shared with
    /// the price book, and so with others.
    pub(crate) fn touch(&self) -> i64 {
        let item = self.items.first();
        let item = item.map_or(0, |item| item.name.0 ^ item.price.0);
        (self.service.0 ^ self.currency.0 ^ item).cast_signed()
    }
}

impl PartialEq for Terms {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Terms {}

impl PartialOrd for Terms {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Terms {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl Hash for Terms {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// Usage that knows where it goes and at which prices, on its way to be charged in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PricedUsage {
    /// When it happened.
    pub time: EventTime,
    /// The record.
    pub record: RecordId,
    /// Who pays, and the prices.
    pub terms: Arc<Terms>,
    /// How much, per item of the terms.
    pub quantities: Quantities,
}

/// What a charge did to one resource. Impacts of one charge line, in order: per tier its price, and
/// after each price the draws on it with their offsets; then accumulators and caps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Impact {
    /// What kind of change.
    pub kind: ImpactKind,
    /// The tier, counted from 0.
    pub tier: u16,
    /// The bucket changed, where it is one.
    pub bucket: Option<BucketKey>,
    /// Units, in [`Quantity`](super::Quantity): priced, drawn (below zero) or accumulated.
    pub units: i128,
    /// Money: charged, offset (below zero), drawn (below zero) or accumulated.
    pub amount: Amount,
}

impl Impact {
    /// Whether it moves the bucket that it names: what is given back names the bucket that it is given
    /// back for, and leaves it alone, as a price does.
    #[must_use]
    pub fn moves_its_bucket(&self) -> bool {
        match self.kind {
            ImpactKind::Allowance | ImpactKind::Accumulator => true,
            ImpactKind::Price | ImpactKind::Offset | ImpactKind::CapOffset => false,
        }
    }

    /// What it moves a bucket of this measure by.
    #[must_use]
    pub fn moved(&self, measure: Measure) -> i128 {
        match measure {
            Measure::Units => self.units,
            Measure::Money => self.amount.0,
        }
    }
}

/// Kinds of [`Impact`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImpactKind {
    /// Currency, charged at a tier's price.
    Price,
    /// An allowance drawn; units or money below zero.
    Allowance,
    /// Currency, given back for what an allowance covered.
    Offset,
    /// Currency, given back beyond a cap.
    CapOffset,
    /// An accumulator or cap filled.
    Accumulator,
}
