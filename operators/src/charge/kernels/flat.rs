//! A price that looks at nothing but the record: per unit, per started block, per record.

use crate::charge::step::{Kernel, Part, Parts, Step};
use crate::domain::{PriceModel, Reason};

pub(super) struct Flat<'a> {
    pub(super) model: &'a PriceModel,
    pub(super) mantissa: i64,
    pub(super) scale: u8,
    pub(super) units: i128,
}

impl Kernel for Flat<'_> {
    type Rest = Parts;

    fn charge(&self, _: &mut Step<'_>) -> Result<Parts, Reason> {
        let amount = self.model.amount(self.mantissa, self.scale);
        Ok(Parts::from_iter([Part {
            tier: 0,
            units: self.units,
            amount: amount.ok_or(Reason::AmountOutOfRange)?,
        }]))
    }
}
