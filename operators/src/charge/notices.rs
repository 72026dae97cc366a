//! The thresholds of a group's buckets, and who crossed them first.

use super::group::Group;
use super::guarded::index;
use super::leaf::Position;
use super::plan::{Held, Plan};
use super::read::Watch;
use super::{Notice, Sink};
use crate::domain::{GroupKey, RecordId};
use std::collections::BTreeSet;

/// A threshold that was crossed, and where it first was. Those that were not take no room: most groups
/// cross few.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crossing {
    slot: u32,
    /// The place of the threshold among those of its bucket.
    place: usize,
    at: Position,
}

impl Group {
    /// Notes the thresholds that a row crosses by moving a bucket, where no row before it did.
    pub(super) fn cross(
        &mut self,
        slot: u32,
        delta: i128,
        at: Position,
        crossed: &mut BTreeSet<Notice>,
    ) {
        let Some(Held { rule, .. }) = self.plan.get(slot) else {
            return;
        };
        for place in 0..rule.thresholds.len() {
            let after = self.closing[index(slot)];
            let watch = Watch::of(slot, rule, place);
            if !watch.crosses(after.saturating_sub(delta), after) {
                continue;
            }
            let known = self
                .crossings
                .binary_search_by_key(&(slot, place), |known| (known.slot, known.place));
            if let Err(next) = known {
                let crossing = Crossing { slot, place, at };
                self.crossings.insert(next, crossing);
                crossed.extend(notice(self.key, &self.plan, &crossing));
            }
        }
    }

    /// Finds the first crossing of each threshold.
    pub(super) fn find_crossings(&mut self) {
        self.crossings = Vec::new();
        let mut watches: Vec<Watch> = self.plan.watches().collect();
        if watches.is_empty() || self.tree.len() == 0 {
            return;
        }
        let mut reader = self.reader();
        self.tree.find_crossings(&mut watches, &mut reader);
        let found = watches.iter().filter_map(|watch| {
            let (slot, place) = (watch.slot, watch.place);
            let at = watch.crossed_at?;
            Some(Crossing { slot, place, at })
        });
        self.crossings = found.collect();
        self.crossings.shrink_to_fit();
    }

    /// The thresholds crossed, each by the first record or edge that does.
    pub fn notices(&self) -> BTreeSet<Notice> {
        let crossings = self.crossings.iter();
        crossings
            .filter_map(|crossing| notice(self.key, &self.plan, crossing))
            .collect()
    }

    pub(super) fn tell_notices(&self, before: &BTreeSet<Notice>, sink: &mut dyn Sink) {
        if before.is_empty() && self.crossings.is_empty() {
            return;
        }
        let now = self.notices();
        for notice in before.difference(&now) {
            sink.notice(notice, -1);
        }
        for notice in now.difference(before) {
            sink.notice(notice, 1);
        }
    }
}

/// What to tell of a threshold that was crossed.
fn notice(group: GroupKey, plan: &Plan, crossing: &Crossing) -> Option<Notice> {
    let Held { key, rule } = plan.get(crossing.slot)?;
    let at = crossing.at;
    Some(Notice {
        group,
        bucket: key,
        resource: rule.resource,
        measure: rule.measure,
        valid: rule.valid,
        threshold: *rule.thresholds.get(crossing.place)?,
        time: at.time,
        record: at.usage.then_some(RecordId(at.id)),
    })
}
