//! Subscription activity: what subscriptions are charged without usage.

use super::amount::{Amount, Quantity};
use super::bill::BillingProfile;
use super::key::{AccountKey, GroupKey, Name, SubscriptionKey};
use super::plan::PlanKey;
use super::suspense::Reason;
use super::time::{EventTime, Period};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A subscription activity, by the hash of what it is for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ActivityKey(pub u64);

/// The kinds of subscription activity (ALLEGRO 1.10 "Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivityKind {
    /// Charged at activation.
    OneTime,
    /// Charged at the beginning of a cycle.
    ForwardRecurring,
    /// Charged at the end of a cycle.
    ArrearsRecurring,
    /// A commitment falls due. The [`Edge`](super::Edge) with the same key charges what is lacking,
    /// so the activity itself has no amount.
    TrueUp {
        /// What is committed.
        commitment: Amount,
    },
    /// The volume price of a cycle falls due. The edge with the same key charges the total.
    Volume,
}

/// Which part of a cycle is applied, as a ratio in lowest terms (ALLEGRO 1.10 "Proration").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Scale {
    numerator: u64,
    denominator: u64,
}

impl Scale {
    /// Nothing of the cycle.
    pub const ZERO: Self = Self {
        numerator: 0,
        denominator: 1,
    };
    /// All of the cycle.
    pub const ONE: Self = Self {
        numerator: 1,
        denominator: 1,
    };

    /// `applied / cycle`, at most 1; nothing of an empty cycle.
    #[must_use]
    pub fn new(applied: u64, cycle: u64) -> Self {
        let applied = applied.min(cycle);
        let (mut divisor, mut rest) = (cycle, applied);
        while let Some(next) = divisor.checked_rem(rest) {
            (divisor, rest) = (rest, next);
        }
        let reduced = |part: u64| part.checked_div(divisor);
        match (reduced(applied), reduced(cycle)) {
            (Some(numerator), Some(denominator)) => Self {
                numerator,
                denominator,
            },
            _ => Self::ZERO,
        }
    }

    /// The ratio's numerator.
    #[must_use]
    pub fn numerator(self) -> u64 {
        self.numerator
    }

    /// The ratio's denominator, at least 1.
    #[must_use]
    pub fn denominator(self) -> u64 {
        self.denominator
    }

    /// The share of a whole, rounded half to even at the last digit of its representation, as by
    /// [`Amount::from_ratio`]. `None` when it leaves the range.
    #[must_use]
    pub fn of(self, whole: i128) -> Option<i128> {
        let (by, divisor) = (i128::from(self.numerator), i128::from(self.denominator));
        Amount::from_product(whole, by, u32::from(Amount::SCALE), divisor).map(|share| share.0)
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.numerator, self.denominator)
    }
}

/// A charge of a subscription that needs no usage (ALLEGRO 1.10 "Subscription Activity").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Activity {
    /// Identifier; that of a true-up is also the key of its edge.
    pub key: ActivityKey,
    /// What kind.
    pub kind: ActivityKind,
    /// The balance group.
    pub group: GroupKey,
    /// The subscription; of a true-up the one of the group that has been committed longest.
    pub subscription: SubscriptionKey,
    /// The account charged.
    pub account: AccountKey,
    /// The account's billing cycle.
    pub profile: BillingProfile,
    /// The plan row.
    pub plan: PlanKey,
    /// What is charged.
    pub item: Name,
    /// Currency of the amount.
    pub currency: Name,
    /// The cycle of the term.
    pub cycle: Period,
    /// First instant charged for; of an activation its instant.
    pub applied_start: EventTime,
    /// First instant no longer charged for; of an activation its instant.
    pub applied_end: EventTime,
    /// What the cycle counts for.
    pub scale: Scale,
    /// The charge.
    pub amount: Amount,
    /// When what was bought may be used.
    pub valid: Period,
    /// Why nothing is charged, where something should have been.
    pub reason: Option<Reason>,
}

impl Activity {
    /// Whether its amount is still to be found at the [`Edge`](super::Edge) with its key.
    #[must_use]
    pub fn awaits_its_edge(&self) -> bool {
        let by_edge = matches!(
            self.kind,
            ActivityKind::TrueUp { .. } | ActivityKind::Volume
        );
        by_edge && self.reason.is_none()
    }

    /// What it adds to the quantity of its billing line: one charge, or nothing where the records of
    /// a volume have brought the quantity already.
    #[must_use]
    pub fn quantity(&self) -> Quantity {
        match self.kind {
            ActivityKind::Volume => Quantity::default(),
            ActivityKind::OneTime
            | ActivityKind::ForwardRecurring
            | ActivityKind::ArrearsRecurring
            | ActivityKind::TrueUp { .. } => Quantity::ONE,
        }
    }

    /// The instant whose bill unit carries the charge: the activation, the first instant of a cycle
    /// charged in advance, the last instant of one charged at its end.
    #[must_use]
    pub fn billed_at(&self) -> EventTime {
        match self.kind {
            ActivityKind::OneTime | ActivityKind::ForwardRecurring => self.applied_start,
            ActivityKind::ArrearsRecurring | ActivityKind::TrueUp { .. } | ActivityKind::Volume => {
                EventTime(self.cycle.end().0.saturating_sub(1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_in_lowest_terms_and_at_most_one() {
        let day = 86_400_000_000;
        assert_eq!(Scale::new(16 * day, 31 * day), Scale::new(16, 31));
        assert_eq!(Scale::new(16, 32), Scale::new(1, 2));
        assert_eq!(Scale::new(5, 5), Scale::ONE);
        assert_eq!(Scale::new(6, 5), Scale::ONE);
        assert_eq!(Scale::new(0, 5), Scale::ZERO);
        assert_eq!(Scale::new(0, 0), Scale::ZERO);
        assert_eq!(Scale::new(16, 32).to_string(), "1/2");
    }

    #[test]
    fn a_share_is_rounded_half_to_even_at_the_last_digit() {
        assert_eq!(Scale::new(1, 2).of(5), Some(2));
        assert_eq!(Scale::new(1, 2).of(7), Some(4));
        // 150 trillion in units of 10⁻²⁴ leaves no room for the product.
        let whole = 150_000_000_000_000 * 10_i128.pow(24);
        assert_eq!(
            Scale::new(16, 31)
                .of(whole)
                .map(|share| share / 10_i128.pow(24)),
            Some(77_419_354_838_709)
        );
    }
}
