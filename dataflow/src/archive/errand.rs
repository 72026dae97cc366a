//! What each worker finds out for an archive, and in how many passes.

use super::groups::WantedGroups;
use crate::worker::Seat;
use millrace_operators::epoch::SHARDS;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Records of one pass over what is held open.
const PASS_RECORDS: usize = 2_000_000;

/// What each worker is to find out of what it holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Errand {
    pub(super) groups: WantedGroups,
    /// Whether something is written.
    pub(super) writes: bool,
    /// Whether what is closed is forgotten then.
    pub(super) forgets: bool,
}

/// The shards of each pass over what is held open.
pub(super) fn passes(seat: Seat) -> impl Iterator<Item = Range<u64>> {
    let passes = seat.records.div_ceil(PASS_RECORDS).max(1);
    let passes = u64::try_from(passes).unwrap_or(SHARDS).min(SHARDS);
    let width = SHARDS.div_ceil(passes);
    let firsts = (0..SHARDS).step_by(usize::try_from(width).unwrap_or(1));
    firsts.map(move |first| first..(first + width).min(SHARDS))
}
