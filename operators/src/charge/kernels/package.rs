//! Packages: a price per started block of an accumulated total. A record pays for the blocks that it
//! starts, and nothing while it stays in one that is paid for.

use crate::charge::step::{Kernel, Part, Parts, Step};
use crate::domain::{Amount, Price, Quantity, Reason};

pub(super) struct Package {
    pub(super) price: Price,
    pub(super) block: u64,
    pub(super) units: i128,
    pub(super) slot: u32,
    /// What of the total other prices have charged: no block is paid for by that.
    pub(super) elsewhere: i128,
}

/// Blocks started once a total stands at `at`, and the totals for which it is the same.
fn started(at: i128, block: i128) -> Option<(i128, i128, i128)> {
    if at <= 0 {
        return Some((0, i128::MIN, 0));
    }
    let blocks = at.checked_sub(1)?.checked_div(block)?.checked_add(1)?;
    let low = blocks.checked_sub(1)?.checked_mul(block)?.checked_add(1)?;
    let high = blocks.checked_mul(block).unwrap_or(i128::MAX);
    Some((blocks, low, high))
}

impl Kernel for Package {
    type Rest = Parts;

    fn charge(&self, step: &mut Step<'_>) -> Result<Parts, Reason> {
        let one = 10_i128.checked_pow(u32::from(Quantity::SCALE));
        let block = one.and_then(|one| i128::from(self.block).checked_mul(one));
        let blocks = step.among(self.slot, |total| {
            let found = || {
                let block = block?;
                let before = total.checked_sub(self.elsewhere)?;
                let after = before.checked_add(self.units)?;
                let (paid, low, high) = started(before, block)?;
                let (due, low_after, high_after) = started(after, block)?;
                let low = low.max(low_after.saturating_sub(self.units));
                let high = high.min(high_after.saturating_sub(self.units));
                let totals = [low, high].map(|own| own.saturating_add(self.elsewhere));
                Some((due.checked_sub(paid)?, totals[0], totals[1]))
            };
            match found() {
                Some((blocks, low, high)) => (Some(blocks), low, high),
                None => (None, total, total),
            }
        });
        let amount = blocks.and_then(|blocks| {
            Amount::from_product(blocks, self.price.mantissa(), self.price.scale(), 1)
        });
        Ok(Parts::from_iter([Part {
            tier: 0,
            units: self.units,
            amount: amount.ok_or(Reason::AmountOutOfRange)?,
        }]))
    }
}
