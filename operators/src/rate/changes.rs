//! What an epoch brings to the rate stage.

use crate::domain::{Discard, PriceRow, ServiceKey, Usage, UsageClass};
use crate::epoch::Diff;
use crate::guide::ServiceTimeline;

/// The changes of one epoch.
pub(super) struct Changes {
    pub(super) usage: Vec<(Usage, Diff)>,
    pub(super) timelines: Vec<((ServiceKey, ServiceTimeline), Diff)>,
    pub(super) prices: Vec<(PriceRow, Diff)>,
    pub(super) classes: Vec<(UsageClass, Diff)>,
    pub(super) discards: Vec<(Discard, Diff)>,
}
