//! Minimum commitment: at the end of a period, what a money accumulator lacks of it is charged.

use crate::charge::step::{Kernel, Part, Parts, Step};
use crate::domain::{Amount, Reason};

pub(super) struct TrueUp {
    pub(super) accumulator: u32,
    pub(super) commitment: Amount,
}

impl Kernel for TrueUp {
    type Rest = Parts;

    fn charge(&self, step: &mut Step<'_>) -> Result<Parts, Reason> {
        let commitment = self.commitment.0;
        let lacking = step.among(self.accumulator, |reached| {
            if reached >= commitment {
                (None, commitment, i128::MAX)
            } else {
                (Some(commitment.checked_sub(reached)), reached, reached)
            }
        });
        let Some(lacking) = lacking else {
            return Ok(Parts::new());
        };
        Ok(Parts::from_iter([Part {
            tier: 0,
            units: 0,
            amount: Amount(lacking.ok_or(Reason::AmountOutOfRange)?),
        }]))
    }
}
