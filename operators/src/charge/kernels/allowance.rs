//! Allowances: units or money that usage draws before it is charged. Each draw gives back the money
//! that it covers, at the price of the tier that it covers; never more than is left of it.

use crate::charge::step::{Kernel, Part, Step};
use crate::domain::{Amount, BucketKey, ImpactKind, Measure, Reason};

pub(super) struct Allowance {
    pub(super) slot: u32,
    pub(super) key: BucketKey,
    pub(super) measure: Measure,
    /// The part of a tier, as it was priced.
    pub(super) part: Part,
    /// What earlier buckets left of it.
    pub(super) left: Part,
}

impl Kernel for Allowance {
    /// What is left of the part.
    type Rest = Part;

    fn charge(&self, step: &mut Step<'_>) -> Result<Part, Reason> {
        let Self {
            slot,
            part,
            mut left,
            ..
        } = *self;
        let (drawn, offset) = match self.measure {
            Measure::Units => {
                let drawn = step.draw(slot, left.units);
                left.units = left.units.saturating_sub(drawn);
                let offset = if left.units == 0 {
                    left.amount
                } else {
                    let worth = share(part, drawn).ok_or(Reason::AmountOutOfRange)?;
                    if part.amount < Amount::ZERO {
                        worth.max(left.amount)
                    } else {
                        worth.min(left.amount)
                    }
                };
                (drawn, offset)
            }
            Measure::Money => {
                let drawn = step.draw(slot, left.amount.0);
                (drawn, Amount(drawn))
            }
        };
        if drawn == 0 {
            return Ok(self.left);
        }
        left.amount = left
            .amount
            .checked_sub(offset)
            .ok_or(Reason::AmountOutOfRange)?;
        if self.measure == Measure::Money && left.amount == Amount::ZERO {
            left.units = 0;
        }
        let tier = part.tier;
        moved(step, self.key, self.measure, tier, drawn.saturating_neg());
        let back = Amount(offset.0.saturating_neg());
        step.impact(ImpactKind::Offset, tier, Some(self.key), 0, back);
        Ok(left)
    }
}

/// The money that `drawn` of a part's units are worth, rounded half to even at the last decimal of
/// [`Amount`]: the one place where an offset is rounded.
fn share(part: Part, drawn: i128) -> Option<Amount> {
    let scale = u32::from(Amount::SCALE);
    Amount::from_product(part.amount.0, drawn, scale, part.units)
}

/// Notes what a bucket gained or, below zero, gave.
pub(super) fn moved(
    step: &mut Step<'_>,
    bucket: BucketKey,
    measure: Measure,
    tier: u16,
    value: i128,
) {
    let (units, amount) = match measure {
        Measure::Units => (value, Amount::ZERO),
        Measure::Money => (0, Amount(value)),
    };
    step.impact(ImpactKind::Allowance, tier, Some(bucket), units, amount);
}
