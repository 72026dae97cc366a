//! Plans: what a price list gives and charges beside the prices of usage.
//!
//! Every subscription that has the price list gets the parts of its plan. Allowances and charges are
//! the subscription's own; accumulators, caps and commitments are the balance group's, so that
//! subscriptions of one group that have the same accumulator fill it together.

use super::amount::Amount;
use super::bill::{BillingProfile, Cycle};
use super::charging::Measure;
use super::key::Name;
use super::tier::Tier;
use super::time::{EventTime, Period};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A row of a plan, by its identifier in the catalog.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct PlanKey(pub u64);

impl PlanKey {
    /// The key of a text; the parts are hashed in order, so they cannot run into each other.
    #[must_use]
    pub fn of(parts: &[&str]) -> Self {
        let hash = |seed, part: &&str| xxh3_64_with_seed(part.as_bytes(), seed);
        Self(parts.iter().fold(10, hash))
    }
}

/// One row of a plan: a part of what the subscriptions of a price list get.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PlanRow {
    /// Identifier in the catalog.
    pub key: PlanKey,
    /// The price list whose subscriptions get it.
    pub list: Name,
    /// Event times that it is in force for.
    pub valid: Period,
    /// What they get.
    pub part: PlanPart,
}

/// A part of a plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PlanPart {
    /// Units or money that usage draws before it costs anything.
    Allowance(Allowance),
    /// A counter of usage.
    Accumulator(Accumulator),
    /// The most that is charged in a term.
    Cap(Cap),
    /// The least that is charged in a term.
    Commitment(Commitment),
    /// A price by the total of an accumulator: found at the end of its term, or as records start packages.
    Volume(Volume),
    /// A charge that needs no usage.
    Charge(PlanCharge),
}

impl PlanPart {
    /// The currency that it is in. A part with a currency is for accounts billed in it; a part
    /// without one counts units, and is for all.
    #[must_use]
    pub fn currency(&self) -> Option<Name> {
        match self {
            Self::Allowance(part) => part.currency,
            Self::Accumulator(part) => part.currency,
            Self::Cap(part) => Some(part.currency),
            Self::Commitment(part) => Some(part.currency),
            Self::Volume(part) => Some(part.currency),
            Self::Charge(part) => Some(part.currency),
        }
    }

    /// Whether it makes a price depend on the usage before, so that the usage of a balance group
    /// must be charged in order.
    #[must_use]
    pub fn orders_usage(&self) -> bool {
        match self {
            Self::Allowance(_) | Self::Accumulator(_) | Self::Cap(_) => true,
            Self::Commitment(part) => part.counts.has_a_counter(),
            Self::Volume(_) | Self::Charge(_) => false,
        }
    }
}

/// The recurring term of a part (ALLEGRO 1.6, 1.7): cycles are counted from the anniversary date of
/// the account, unless it is anchored elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Term {
    /// The account's bill unit.
    BillUnit,
    /// A cycle of its own.
    Every {
        /// How many units make a cycle, at least 1.
        every: u16,
        /// The unit.
        cycle: Cycle,
    },
    /// A cycle of its own, counted from elsewhere.
    Anchored {
        /// How many units make a cycle, at least 1.
        every: u16,
        /// The unit.
        cycle: Cycle,
        /// Where from.
        anchor: Anchor,
    },
}

/// Where the cycles of a term are counted from, if not from the account's anniversary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Anchor {
    /// The first day of the subscription, in the tenant's time zone; of what subscriptions of a group
    /// share, the first day of the one that is active longest.
    Subscription,
    /// A date.
    Date {
        /// Its year.
        year: i16,
        /// Its month.
        month: i8,
        /// Its day.
        day: i8,
    },
}

impl Term {
    /// The cycle of the term for an account with this billing cycle and a subscription that began at
    /// an instant.
    #[must_use]
    pub fn profile(
        self,
        account: &BillingProfile,
        began: EventTime,
        zone: &TimeZone,
    ) -> BillingProfile {
        let (every, cycle, anchor) = match self {
            Self::BillUnit => return *account,
            Self::Every { every, cycle } => (every, cycle, None),
            Self::Anchored {
                every,
                cycle,
                anchor,
            } => (every, cycle, Some(anchor)),
        };
        let account_date = (account.year, account.month, account.day);
        let (year, month, day) = match anchor {
            None => account_date,
            Some(Anchor::Date { year, month, day }) => (year, month, day),
            Some(Anchor::Subscription) => began.timestamp().map_or(account_date, |began| {
                let date = zone.to_datetime(began).date();
                (date.year(), date.month(), date.day())
            }),
        };
        BillingProfile {
            year,
            month,
            day,
            every: every.max(1),
            cycle,
        }
    }

    /// What tells terms apart, in numbers.
    #[must_use]
    pub fn identity(self) -> [u64; 4] {
        let unit = |every: u16, cycle: Cycle| (u64::from(every), cycle as u64);
        match self {
            Self::BillUnit => [0; 4],
            Self::Every { every, cycle } => {
                let (every, cycle) = unit(every, cycle);
                [every, cycle, 0, 0]
            }
            Self::Anchored {
                every,
                cycle,
                anchor,
            } => {
                let (every, cycle) = unit(every, cycle);
                let date = match anchor {
                    Anchor::Subscription => 0,
                    Anchor::Date { year, month, day } => {
                        let [year_high, year_low] = year.to_be_bytes();
                        let [month, day] = [month, day].map(i8::cast_unsigned);
                        u64::from(u32::from_be_bytes([year_high, year_low, month, day]))
                    }
                };
                [every, cycle, 1, date]
            }
        }
    }
}

/// What a cycle that a subscription was active in for a part only is worth (ALLEGRO 1.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proration {
    /// Nothing.
    NoCharge,
    /// As much as a whole cycle.
    FullCharge,
    /// Its share: applied period / cycle period, in the tenant's wall-clock time.
    Prorate,
}

/// An allowance (ALLEGRO 1.7): each grant is a bucket with a validity period.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Allowance {
    /// What it is called.
    pub resource: Name,
    /// The items that draw on it, sorted; none means any.
    pub items: SmallVec<[Name; 2]>,
    /// Units or money (ALLEGRO 1.7 "Unit or money").
    pub measure: Measure,
    /// How much a grant gives, in the measure.
    pub size: i128,
    /// The currency of money.
    pub currency: Option<Name>,
    /// Who is drawn first: the lower (ALLEGRO 3, answer 4).
    pub priority: i32,
    /// When it is granted.
    pub grant: Grant,
    /// The term of recurring grants, and the cycles that a one-time grant lasts.
    pub term: Term,
    /// What a cycle in part is granted.
    pub proration: Proration,
    /// What becomes of the rest; forfeited unless given (ALLEGRO 1.7 "Expiry").
    pub rollover: Option<Rollover>,
    /// Percents used to give notice of (ALLEGRO 3, answer 28).
    pub thresholds: SmallVec<[u8; 3]>,
}

/// When an allowance is granted (ALLEGRO 1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Grant {
    /// At activation, whole.
    Once {
        /// Through the end of so many cycles, that of the activation counted; to the end of the
        /// subscription unless given.
        lasts: Option<u16>,
    },
    /// Every term.
    Recurring,
}

/// What is carried into later cycles (ALLEGRO 3, answer 12). Each cycle's rest is a bucket of its
/// own in the next, and what it keeps then goes on, so the oldest can be spent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rollover {
    /// At most so much of a bucket is carried over.
    pub cap_per_cycle: Option<i128>,
    /// The cycles that it lives on for, from 1 to [`Self::CYCLES_MAX`].
    pub cycles_max: u8,
}

impl Rollover {
    /// The most cycles that a rest may live on for: every one of them is a bucket in every cycle.
    pub const CYCLES_MAX: u8 = 60;
}

/// An accumulator (ALLEGRO 1.8): a bucket per term that usage adds to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Accumulator {
    /// What it is called.
    pub resource: Name,
    /// The items that it counts, sorted; none means any.
    pub items: SmallVec<[Name; 2]>,
    /// Units or money.
    pub measure: Measure,
    /// The currency of money.
    pub currency: Option<Name>,
    /// Of each record `numerator / denominator` counts (ALLEGRO 1.8 "expression-based").
    pub numerator: u32,
    /// At least 1.
    pub denominator: u32,
    /// The term of its buckets.
    pub term: Term,
    /// Levels to give notice of, in the measure.
    pub thresholds: SmallVec<[i128; 3]>,
    /// What the activation of a subscription adds to the bucket of that term.
    pub activation: i128,
    /// What each subscription adds to every bucket that it is active in.
    pub recurring: i128,
}

/// A spend cap: charges of a term beyond it are not charged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cap {
    /// What it is called.
    pub resource: Name,
    /// The items that it limits, sorted; none means any.
    pub items: SmallVec<[Name; 2]>,
    /// The most that is charged in a term.
    pub limit: Amount,
    /// Its currency.
    pub currency: Name,
    /// The term.
    pub term: Term,
    /// Percents of the limit to give notice of.
    pub thresholds: SmallVec<[u8; 3]>,
}

/// A minimum commitment as true-up (ALLEGRO 1.10; section 3, answer 13): at the end of a term what
/// the accumulator lacks is charged. A commitment as allowance is a recurring charge beside a money
/// allowance of the same size.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Commitment {
    /// What it is called, and the item that the shortfall is charged as.
    pub resource: Name,
    /// What of usage counts towards it.
    pub counts: Counts,
    /// The items that count, where the commitment has a counter of its own, sorted; none means any.
    pub items: SmallVec<[Name; 2]>,
    /// The recurring charges of the price list that count towards it: those that fall due in the term.
    pub recurring: Vec<DatedCharge>,
    /// What each subscription commits to.
    pub amount: Amount,
    /// Its currency.
    pub currency: Name,
    /// The term, that of the accumulator where there is one.
    pub term: Term,
    /// What is committed for a cycle in part.
    pub proration: Proration,
}

/// What of usage counts towards a commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Counts {
    /// What a money accumulator has counted: charges before allowances and caps.
    Accumulated(Name),
    /// What usage costs after allowances of units and caps, whether the account or an allowance of
    /// money pays it: a counter of the commitment's own.
    Spend,
    /// Charges before allowances and caps, in a counter of the commitment's own.
    Money,
    /// Nothing of it.
    Nothing,
}

impl Counts {
    /// Whether the commitment has a counter of its own.
    #[must_use]
    pub fn has_a_counter(self) -> bool {
        !matches!(self, Self::Accumulated(_))
    }
}

/// A charge, and when it is in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DatedCharge {
    /// Event times that it is in force for.
    pub valid: Period,
    /// The charge.
    pub charge: PlanCharge,
}

/// Volume pricing (ALLEGRO 1.6 "Volume rating"): at the end of its term what no other price has charged
/// of an accumulator is charged at the price of the tier that the whole reached. Made from price rows as
/// they are loaded, of packages too: what other prices charge starts none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Volume {
    /// The item charged.
    pub item: Name,
    /// The unit accumulator that counts it.
    pub accumulator: Name,
    /// The tiers; none of packages, which records have paid for when they started them.
    pub tiers: Arc<[Tier]>,
    /// The currency of their prices.
    pub currency: Name,
}

/// A charge of a subscription that needs no usage (ALLEGRO 1.10).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PlanCharge {
    /// What is charged.
    pub item: Name,
    /// How much, for a whole cycle.
    pub amount: Amount,
    /// Its currency.
    pub currency: Name,
    /// When.
    pub when: ChargeWhen,
    /// The term of recurring charges.
    pub term: Term,
    /// What a cycle in part costs.
    pub proration: Proration,
}

/// When a plan charges (ALLEGRO 1.10 "Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChargeWhen {
    /// Once, at activation, whole.
    Activation,
    /// At the beginning of every cycle.
    Advance,
    /// At the end of every cycle.
    Arrears,
}
