//! Accumulators: a share of the whole quantity, or of the whole charge before allowances and caps.

use crate::charge::step::{Kernel, Step};
use crate::domain::{Amount, BucketKey, ImpactKind, Measure, Reason};

pub(super) struct Accumulator {
    pub(super) slot: u32,
    pub(super) key: BucketKey,
    pub(super) measure: Measure,
    /// Numerator and denominator.
    pub(super) share: (u32, u32),
    /// Units and charge of the item.
    pub(super) whole: (i128, Amount),
}

impl Kernel for Accumulator {
    type Rest = ();

    fn charge(&self, step: &mut Step<'_>) -> Result<(), Reason> {
        let whole = match self.measure {
            Measure::Units => self.whole.0,
            Measure::Money => self.whole.1.0,
        };
        let value = counted(whole, self.share).ok_or(Reason::AmountOutOfRange)?;
        if value == 0 {
            return Ok(());
        }
        if value < 0 {
            step.turns();
        }
        step.add(self.slot, value)?;
        let (units, amount) = match self.measure {
            Measure::Units => (value, Amount::ZERO),
            Measure::Money => (0, Amount(value)),
        };
        step.impact(ImpactKind::Accumulator, 0, Some(self.key), units, amount);
        Ok(())
    }
}

/// The share that counts, rounded half to even at the last decimal: the one place where what is
/// accumulated is rounded.
fn counted(whole: i128, (numerator, denominator): (u32, u32)) -> Option<i128> {
    if numerator == denominator {
        return (denominator != 0).then_some(whole);
    }
    let scale = u32::from(Amount::SCALE);
    let (numerator, denominator) = (i128::from(numerator), i128::from(denominator));
    Amount::from_product(whole, numerator, scale, denominator).map(|share| share.0)
}
