//! Progressive tiers: units move through them one by one, from where the reference puts the record.

use crate::charge::step::{Kernel, Part, Parts, Step};
use crate::domain::tier::{TierPart, bounds, cost, index_at, split};
use crate::domain::{Measure, Reason, Tier};

/// A record begins in the first tier.
pub(super) struct ByRecord<'a> {
    pub(super) tiers: &'a [Tier],
    pub(super) units: i128,
}

/// A record begins at the value of an accumulator before it, gross of allowances. Where the
/// accumulator counts money, units cannot move through its tiers: the one before the record prices
/// all of it.
pub(super) struct ByAccumulator<'a> {
    pub(super) tiers: &'a [Tier],
    pub(super) units: i128,
    pub(super) slot: u32,
    pub(super) measure: Measure,
}

/// What an accumulator had reached in its last period chooses one tier; without a last period, the
/// first.
pub(super) struct ByPreviousPeriod<'a> {
    pub(super) tiers: &'a [Tier],
    pub(super) units: i128,
    pub(super) slot: Option<u32>,
}

fn collect(tiers: impl Iterator<Item = TierPart>) -> Result<Parts, Reason> {
    let mut parts = Parts::new();
    for TierPart {
        tier,
        units,
        amount,
    } in tiers
    {
        parts.push(Part {
            tier,
            units,
            amount: amount.ok_or(Reason::AmountOutOfRange)?,
        });
    }
    Ok(parts)
}

fn whole(tiers: &[Tier], tier: usize, units: i128) -> Result<Parts, Reason> {
    let amount = tiers.get(tier).and_then(|tier| cost(tier, units));
    let tier = u16::try_from(tier).unwrap_or(u16::MAX);
    collect(
        [TierPart {
            tier,
            units,
            amount,
        }]
        .into_iter(),
    )
}

impl Kernel for ByRecord<'_> {
    type Rest = Parts;

    fn charge(&self, _: &mut Step<'_>) -> Result<Parts, Reason> {
        collect(split(self.tiers, 0, self.units))
    }
}

impl Kernel for ByAccumulator<'_> {
    type Rest = Parts;

    fn charge(&self, step: &mut Step<'_>) -> Result<Parts, Reason> {
        if self.measure == Measure::Money {
            let tier = step.locate(self.slot, self.tiers, |tier| tier.from);
            return whole(self.tiers, tier, self.units);
        }
        step.among(self.slot, |position| {
            let parts = collect(split(self.tiers, position, self.units));
            let (low, high) = bounds(self.tiers, index_at(self.tiers, position));
            // The last of the units must lie in the tier, too; a record across a bound would be cut
            // elsewhere from anywhere else.
            let fits = high.saturating_sub(self.units.saturating_sub(1).max(0));
            if position <= fits {
                (parts, low, fits)
            } else {
                (parts, position, position)
            }
        })
    }
}

impl Kernel for ByPreviousPeriod<'_> {
    type Rest = Parts;

    fn charge(&self, step: &mut Step<'_>) -> Result<Parts, Reason> {
        let tier = match self.slot {
            Some(slot) => step.locate(slot, self.tiers, |tier| tier.from),
            None => 0,
        };
        whole(self.tiers, tier, self.units)
    }
}
