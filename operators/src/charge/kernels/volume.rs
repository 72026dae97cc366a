//! Volume prices: at the end of a period what no other price has charged of its total is charged at the
//! price of the one tier that the whole reached.

use crate::charge::step::{Kernel, Part, Parts, Step};
use crate::domain::tier::{cost, index_at};
use crate::domain::{Reason, Tier};

pub(super) struct VolumeEdge<'a> {
    pub(super) accumulator: u32,
    pub(super) elsewhere: u32,
    pub(super) tiers: &'a [Tier],
}

impl Kernel for VolumeEdge<'_> {
    type Rest = Parts;

    fn charge(&self, step: &mut Step<'_>) -> Result<Parts, Reason> {
        let total = step.read(self.accumulator);
        let units = total.checked_sub(step.read(self.elsewhere));
        let units = units.ok_or(Reason::AmountOutOfRange)?;
        let index = index_at(self.tiers, total);
        let amount = self.tiers.get(index).and_then(|tier| cost(tier, units));
        Ok(Parts::from_iter([Part {
            tier: u16::try_from(index).unwrap_or(u16::MAX),
            units,
            amount: amount.ok_or(Reason::AmountOutOfRange)?,
        }]))
    }
}
