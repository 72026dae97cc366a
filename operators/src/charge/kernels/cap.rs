//! Spend caps: charges fill a bucket, and what does not fit is given back. Of several caps each takes
//! what the one before let through.

use crate::charge::step::{Kernel, Step};
use crate::domain::{Amount, BucketKey, ImpactKind, Reason};

pub(super) struct Cap {
    pub(super) slot: u32,
    pub(super) key: BucketKey,
    pub(super) limit: Amount,
    /// What is charged after allowances and earlier caps.
    pub(super) net: Amount,
}

impl Kernel for Cap {
    /// What is charged after this cap.
    type Rest = Amount;

    fn charge(&self, step: &mut Step<'_>) -> Result<Amount, Reason> {
        let wanted = self.net.0;
        if wanted <= 0 {
            return Ok(self.net);
        }
        let fitted = step.fill(self.slot, wanted, self.limit.0);
        let bucket = Some(self.key);
        if fitted != wanted {
            let back = Amount(fitted.saturating_sub(wanted));
            step.impact(ImpactKind::CapOffset, 0, bucket, 0, back);
        }
        if fitted != 0 {
            step.impact(ImpactKind::Accumulator, 0, bucket, 0, Amount(fitted));
        }
        Ok(Amount(fitted))
    }
}
