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
        let amount = lacking.and_then(Amount::within);
        Ok(Parts::from_iter([Part {
            tier: 0,
            units: 0,
            amount: amount.ok_or(Reason::AmountOutOfRange)?,
        }]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::charge::step::Outcome;

    #[test]
    fn what_is_lacking_is_an_amount_or_a_reason() {
        let most = Amount::MAX.0;
        let lacking = |reached: i128, commitment: i128| {
            let mut outcome = Outcome::default();
            let true_up = TrueUp {
                accumulator: 0,
                commitment: Amount(commitment),
            };
            let parts = true_up.charge(&mut Step::new(&mut [reached], &mut outcome));
            parts.map(|parts| parts.first().map(|part| part.amount.0))
        };
        assert_eq!(lacking(7, 10), Ok(Some(3)));
        assert_eq!(lacking(10, 10), Ok(None));
        assert_eq!(lacking(0, most), Ok(Some(most)));
        // 39 digits, which 127 bits would hold, and more than these.
        assert_eq!(lacking(-1, most), Err(Reason::AmountOutOfRange));
        assert_eq!(lacking(-most, most), Err(Reason::AmountOutOfRange));
    }
}
