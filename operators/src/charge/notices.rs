//! The thresholds of a group's buckets, and who crossed them first.

use super::group::Group;
use super::plan::{Held, Plan};
use super::read::Watch;
use super::{Notice, Sink};
use crate::domain::{BucketKind, GroupKey, RecordId, Threshold};
use std::collections::BTreeSet;

impl Group {
    /// Lists the thresholds of all buckets, keeping crossings that are known.
    pub(super) fn arrange_watches(&mut self) {
        self.watches = self
            .plan
            .buckets()
            .flat_map(|(slot, held)| {
                let falling = matches!(held.rule.kind, BucketKind::Allowance { .. });
                held.rule.thresholds.iter().map(move |threshold| {
                    let watch = Watch {
                        slot,
                        level: threshold.level,
                        falling,
                        crossed_at: None,
                    };
                    (watch, *threshold)
                })
            })
            .collect();
    }

    pub(super) fn find_crossings(&mut self) {
        if self.watches.is_empty() {
            return;
        }
        let mut watches: Vec<Watch> = self
            .watches
            .iter()
            .map(|(watch, _)| watch.clone())
            .collect();
        watches.iter_mut().for_each(|watch| watch.crossed_at = None);
        let mut reader = self.reader();
        self.tree.find_crossings(&mut watches, &mut reader);
        for ((held, _), found) in self.watches.iter_mut().zip(watches) {
            *held = found;
        }
    }

    /// The thresholds crossed, each by the first record or edge that does.
    pub fn notices(&self) -> BTreeSet<Notice> {
        let notice = |(watch, threshold): &(Watch, Threshold)| {
            notice(self.key, &self.plan, watch, threshold)
        };
        self.watches.iter().filter_map(notice).collect()
    }

    pub(super) fn tell_notices(&self, before: &BTreeSet<Notice>, sink: &mut dyn Sink) {
        if before.is_empty() && self.watches.is_empty() {
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
pub(super) fn notice(
    group: GroupKey,
    plan: &Plan,
    watch: &Watch,
    threshold: &Threshold,
) -> Option<Notice> {
    let at = watch.crossed_at?;
    let Held { key, rule } = plan.get(watch.slot)?;
    Some(Notice {
        group,
        bucket: key,
        resource: rule.resource,
        measure: rule.measure,
        valid: rule.valid,
        threshold: *threshold,
        time: at.time,
        record: at.usage.then_some(RecordId(at.id)),
    })
}
