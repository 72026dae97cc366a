//! Charges and the billing lines that they add up to.

use super::amount::{Amount, Quantity};
use super::bill::BillingProfile;
use super::key::{AccountKey, ClassKey, Name, PriceKey, ServiceKey, SubscriptionKey};
use super::time::EventTime;
use super::total::{MoneyTotal, QuantityTotal};
use super::usage::RecordId;
use differential_dataflow::difference::{Abelian, IsZero, Monoid, Semigroup};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::fmt;
use xxhash_rust::xxh3::xxh3_128;

/// One monetised charge line: an item of a record, its price, and the currency impact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Charge {
    /// The record charged.
    pub record: RecordId,
    /// Which item of the record's class.
    pub item: u8,
    /// When the usage happened.
    pub time: EventTime,
    /// The service used.
    pub service: ServiceKey,
    /// The record's class.
    pub class: ClassKey,
    /// The subscription in force.
    pub subscription: SubscriptionKey,
    /// The account charged.
    pub account: AccountKey,
    /// The account's billing cycle.
    pub profile: BillingProfile,
    /// The price row in force.
    pub price: PriceKey,
    /// Currency of the amount.
    pub currency: Name,
    /// Mantissa of the quantity, at the scale that the class gives the item.
    pub quantity: i64,
    /// The currency impact.
    pub amount: Amount,
}

/// What the charges of one billing line have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LineKey {
    /// Who is billed.
    pub account: AccountKey,
    /// Start of the bill unit.
    pub unit_start: EventTime,
    /// End of the bill unit.
    pub unit_end: EventTime,
    /// What was used.
    pub item: Name,
    /// Currency of the amount.
    pub currency: Name,
    /// The keys of the configured grouping attributes, in their configured order; 0 where a record
    /// has none.
    pub dimensions: SmallVec<[u64; 4]>,
}

/// The identifier that a billing line and every record on it carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AggregateId(pub u128);

impl LineKey {
    /// The line's identifier: a pure function of the key, so a record finds its line and a line its
    /// records without a join, and a re-run finds the same.
    #[must_use]
    pub fn aggregate_id(&self) -> AggregateId {
        let fields = [
            self.account.0,
            self.unit_start.0.cast_unsigned(),
            self.unit_end.0.cast_unsigned(),
            self.item.0,
            self.currency.0,
        ];
        let mut bytes = SmallVec::<[u8; 80]>::new();
        for field in fields.iter().chain(&self.dimensions) {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        AggregateId(xxh3_128(&bytes))
    }
}

impl fmt::Display for AggregateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a billing line adds up: carried in the *difference* of the dataflow, so that a total costs
/// nothing to keep, whatever its size.
///
/// It has room for as many charges as can be counted; see [`Total`](super::Total).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LineSum {
    /// Charges on the line.
    pub charges: i64,
    /// Their quantity.
    pub quantity: QuantityTotal,
    /// Their amount.
    pub amount: MoneyTotal,
}

impl LineSum {
    /// What one charge adds, `sign` times.
    #[must_use]
    pub fn of(quantity: Quantity, amount: Amount, sign: i64) -> Self {
        let sum = Self {
            charges: 1,
            quantity: quantity.into(),
            amount: amount.into(),
        };
        sum.times(sign)
    }

    fn times(self, by: i64) -> Self {
        let charges = self.charges.checked_mul(by);
        Self {
            charges: charges.expect("a billing line has fewer than 2⁶³ charges"),
            quantity: self.quantity.times(by),
            amount: self.amount.times(by),
        }
    }

    /// Whether a column of 38 digits holds its quantity and its amount.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.quantity.fitting().is_some() && self.amount.fitting().is_some()
    }
}

impl IsZero for LineSum {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl Semigroup for LineSum {
    fn plus_equals(&mut self, other: &Self) {
        let charges = self.charges.checked_add(other.charges);
        *self = Self {
            charges: charges.expect("a billing line has fewer than 2⁶³ charges"),
            quantity: self.quantity.plus(other.quantity),
            amount: self.amount.plus(other.amount),
        };
    }
}

impl Monoid for LineSum {
    fn zero() -> Self {
        Self::default()
    }
}

impl Abelian for LineSum {
    fn negate(&mut self) {
        *self = self.times(-1);
    }
}
