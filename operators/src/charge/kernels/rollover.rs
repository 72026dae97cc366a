//! Rollover: what is left of one bucket, up to a cap, opens the next; the rest is forfeited with the
//! bucket's end.

use super::allowance::moved;
use crate::charge::step::{Kernel, Step};
use crate::domain::{BucketKey, Measure, Reason};

pub(super) struct Rollover {
    pub(super) from: (u32, BucketKey),
    pub(super) to: (u32, BucketKey),
    pub(super) measure: Measure,
    pub(super) cap: Option<i128>,
}

impl Kernel for Rollover {
    type Rest = ();

    fn charge(&self, step: &mut Step<'_>) -> Result<(), Reason> {
        // Without a cap the bucket's own value is what is wanted, and any other would change it.
        let wanted = self.cap.unwrap_or(i128::MAX);
        let carried = step.draw(self.from.0, wanted);
        if carried != 0 {
            step.add(self.to.0, carried)?;
            step.turns();
            moved(step, self.from.1, self.measure, 0, carried.saturating_neg());
            moved(step, self.to.1, self.measure, 0, carried);
        }
        Ok(())
    }
}
