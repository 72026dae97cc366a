//! Volume prices: at the end of a period its whole total is charged at the price of the one tier that
//! it reached.

use crate::charge::step::{Kernel, Part, Parts, Step};
use crate::domain::tier::{cost, index_at};
use crate::domain::{Reason, Tier};

pub(super) struct VolumeEdge<'a> {
    pub(super) accumulator: u32,
    pub(super) tiers: &'a [Tier],
}

impl Kernel for VolumeEdge<'_> {
    type Rest = Parts;

    fn charge(&self, step: &mut Step<'_>) -> Result<Parts, Reason> {
        let total = step.read(self.accumulator);
        let index = index_at(self.tiers, total);
        let amount = self.tiers.get(index).and_then(|tier| cost(tier, total));
        Ok(Parts::from_iter([Part {
            tier: u16::try_from(index).unwrap_or(u16::MAX),
            units: total,
            amount: amount.ok_or(Reason::AmountOutOfRange)?,
        }]))
    }
}
