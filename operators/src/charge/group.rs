//! A balance group: its buckets, its records in order, and how the changes of an epoch move them.

use super::book::Book;
use super::guarded::index;
use super::leaf::{Position, Row};
use super::plan::{Plan, same_rules, windows_touched};
use super::read::{Charger, Watch, find_crossings, leaf_at, move_before, visit};
use super::step::Outcome;
use super::sweep::{RowChange, Side, Sweep, Work, tell};
use super::tree::{Tree, row_of};
use super::{Explained, Notice, Sink};
use crate::domain::{
    Bucket, BucketKey, BucketKind, Edge, EventTime, GroupKey, Period, PricedUsage, Quantities,
    RecordId, TermsKey, Threshold,
};
use crate::epoch::Diff;
use differential_dataflow::consolidation::consolidate;
use std::collections::{BTreeMap, BTreeSet};

/// The changes of one group in one epoch.
#[derive(Clone, Debug, Default)]
pub struct GroupChanges {
    /// Records that come and go.
    pub usage: Vec<(PricedUsage, Diff)>,
    /// Buckets granted, changed and taken back.
    pub buckets: Vec<(Bucket, Diff)>,
    /// Edges of periods.
    pub edges: Vec<(Edge, Diff)>,
}

/// See the module.
#[derive(Debug)]
pub struct Group {
    key: GroupKey,
    plan: Plan,
    book: Book,
    tree: Tree,
    /// The state after all rows.
    closing: Vec<i128>,
    /// The thresholds of all buckets, each with its first crossing.
    watches: Vec<(Watch, Threshold)>,
}

/// Memory that is used again from group to group.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    rows: Vec<RowChange>,
    outcome: Outcome,
}

/// What the changes come to for the tree.
#[derive(Default)]
struct Moves {
    rows: Vec<RowChange>,
    /// The rules before, where they changed.
    old_plan: Option<Plan>,
    windows: Vec<Period>,
    /// The states before all rows, as it was and as it is.
    opening: Option<(Vec<i128>, Vec<i128>)>,
    /// What is forgotten once the old rows are told.
    terms_left: Vec<TermsKey>,
    edges_left: Vec<usize>,
    /// Whether a bucket came, went or has other thresholds.
    watches_changed: bool,
}

fn opening(plan: &Plan) -> Vec<i128> {
    let slots = (0..plan.len()).map(|slot| u32::try_from(slot).unwrap_or(u32::MAX));
    slots
        .map(|slot| plan.get(slot).map_or(0, |held| held.bucket.opening))
        .collect()
}

impl Group {
    /// A group without anything.
    #[must_use]
    pub fn new(key: GroupKey) -> Self {
        Self {
            key,
            plan: Plan::default(),
            book: Book::default(),
            tree: Tree::default(),
            closing: Vec::new(),
            watches: Vec::new(),
        }
    }

    /// Records and edges held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Buckets held.
    #[must_use]
    pub fn bucket_count(&self) -> usize {
        self.plan.bucket_count()
    }

    /// Whether there is nothing left to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tree.len() == 0 && self.plan.is_empty() && self.book.is_empty()
    }

    /// Bytes held, allocation slack of rows included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let state = self.closing.capacity().saturating_mul(size_of::<i128>());
        let watches = self
            .watches
            .capacity()
            .saturating_mul(size_of::<(Watch, Threshold)>());
        let parts = [self.plan.bytes(), self.book.bytes(), self.tree.bytes()];
        parts
            .into_iter()
            .fold(size_of::<Self>(), usize::saturating_add)
            .saturating_add(state)
            .saturating_add(watches)
    }

    /// Applies the changes of one epoch and tells what is charged differently.
    ///
    /// # Panics
    /// When a record comes twice, or goes without having come: the stages before see to that.
    pub fn apply(&mut self, mut changes: GroupChanges, sink: &mut dyn Sink) -> Work {
        self.apply_with(&mut changes, &mut Scratch::default(), sink)
    }

    /// As [`Self::apply`], in memory that is used again from group to group; `changes` are empty
    /// afterwards.
    pub(super) fn apply_with(
        &mut self,
        changes: &mut GroupChanges,
        scratch: &mut Scratch,
        sink: &mut dyn Sink,
    ) -> Work {
        let mut moves = Moves {
            rows: std::mem::take(&mut scratch.rows),
            ..Moves::default()
        };
        let buckets_change = !changes.buckets.is_empty();
        // Taken before a bucket goes, because a notice names its bucket.
        let before = buckets_change.then(|| self.notices());
        self.change_buckets(std::mem::take(&mut changes.buckets), &mut moves);
        self.change_edges(std::mem::take(&mut changes.edges), &mut moves);
        self.change_usage(&mut changes.usage, &mut moves);
        if !moves.edges_left.is_empty() || !moves.windows.is_empty() || moves.rows.len() > 1 {
            let order = |row: &RowChange| (row.position, row.diff);
            moves.rows.sort_by_key(order);
        }
        if moves.watches_changed {
            self.arrange_watches();
        }
        let append = moves.old_plan.is_none()
            && moves.opening.is_none()
            && moves.rows.iter().all(|row| row.diff > 0)
            && moves
                .rows
                .first()
                .is_none_or(|row| self.tree.last().is_none_or(|last| last < row.position));
        let work = if append && !buckets_change {
            let crossed = self.append(&moves.rows, &mut scratch.outcome, sink);
            crossed.iter().for_each(|notice| sink.notice(notice, 1));
            Work {
                replayed: moves.rows.len(),
                nodes: 0,
            }
        } else {
            let before = before.unwrap_or_else(|| self.notices());
            let work = self.sweep(&mut moves, sink);
            self.find_crossings();
            self.tell_notices(&before, sink);
            work
        };
        for key in moves.terms_left {
            self.book.leave(key);
        }
        for edge in moves.edges_left {
            self.book.leave_edge(edge);
        }
        self.closing.truncate(self.plan.len());
        moves.rows.clear();
        scratch.rows = moves.rows;
        work
    }

    /// Reads a little of all that [`Self::apply`] is about to need. Each part waits for memory by
    /// itself; the parts of many groups, asked for one after the other, wait together.
    pub(super) fn touch(&self) -> i128 {
        let closing = self.closing.first().copied().unwrap_or(0);
        let last = self.tree.last().map_or(0, |last| last.time.0);
        closing
            .wrapping_add(i128::from(last))
            .wrapping_add(self.plan.touch())
            .wrapping_add(self.book.touch())
    }

    fn change_buckets(&mut self, mut buckets: Vec<(Bucket, Diff)>, moves: &mut Moves) {
        consolidate(&mut buckets);
        if buckets.is_empty() {
            return;
        }
        moves.watches_changed = true;
        let mut changed: BTreeMap<BucketKey, (Option<Bucket>, Option<Bucket>)> = BTreeMap::new();
        for (bucket, diff) in buckets {
            let pair = changed.entry(bucket.key).or_default();
            if diff > 0 {
                pair.1 = Some(bucket);
            } else {
                pair.0 = Some(bucket);
            }
        }
        let rules_change = |pair: &(Option<Bucket>, Option<Bucket>)| match pair {
            (Some(old), Some(new)) => !same_rules(old, new),
            _ => true,
        };
        let rules_changed: BTreeSet<BucketKey> = changed
            .iter()
            .filter(|(_, pair)| rules_change(pair))
            .map(|(key, _)| *key)
            .collect();
        let old_plan = self.plan.clone();
        for (_, new) in changed.values() {
            if let Some(new) = new {
                self.plan.put(new.clone());
            }
        }
        for (key, (_, new)) in &changed {
            if new.is_none() {
                self.plan.take(*key);
            }
        }
        self.plan.arrange();
        for key in &rules_changed {
            let (old, new) = &changed[key];
            for bucket in [old, new].into_iter().flatten() {
                windows_touched(&old_plan, bucket, &mut moves.windows);
                windows_touched(&self.plan, bucket, &mut moves.windows);
            }
            for edge in self.book.edges_of(*key) {
                moves.rows.push(RowChange {
                    position: edge_position(edge),
                    tag: 0,
                    quantities: Quantities::new(),
                    diff: 0,
                });
            }
        }
        moves.windows.sort_unstable();
        moves.windows.dedup();
        let (mut old, mut new) = (opening(&old_plan), opening(&self.plan));
        let len = old.len().max(new.len());
        old.resize(len, 0);
        new.resize(len, 0);
        self.closing.resize(len, 0);
        for slot in 0..len {
            let at = u32::try_from(slot).unwrap_or(u32::MAX);
            match (old_plan.get(at), self.plan.get(at)) {
                // A bucket that only one side knows: the other leaves its value alone.
                (None, Some(_)) => {
                    old[slot] = new[slot];
                    self.closing[slot] = new[slot];
                }
                (Some(_), None) => new[slot] = old[slot],
                _ => {}
            }
        }
        if old != new || !rules_changed.is_empty() {
            moves.opening = Some((old, new));
        }
        moves.old_plan = (!rules_changed.is_empty()).then_some(old_plan);
    }

    fn change_edges(&mut self, mut edges: Vec<(Edge, Diff)>, moves: &mut Moves) {
        consolidate(&mut edges);
        // Those that go first: one that takes the place of another is entered after it is found.
        edges.sort_by_key(|(_, diff)| *diff);
        for (edge, diff) in edges {
            let position = edge_position(&edge);
            let tag = if diff > 0 {
                self.book.enter_edge(edge)
            } else {
                moves.edges_left.extend(self.book.edge_place(&edge));
                0
            };
            moves.rows.push(RowChange {
                position,
                tag,
                quantities: Quantities::new(),
                diff: diff.signum(),
            });
        }
    }

    fn change_usage(&mut self, usage: &mut Vec<(PricedUsage, Diff)>, moves: &mut Moves) {
        if usage.len() > 1 {
            consolidate(usage);
        }
        for (usage, diff) in usage.drain(..) {
            let tag = if diff > 0 {
                self.book.enter(&usage.terms)
            } else {
                moves.terms_left.push(usage.terms.key);
                0
            };
            moves.rows.push(RowChange {
                position: Position::of(usage.time, usage.record),
                tag,
                quantities: usage.quantities,
                diff: diff.signum(),
            });
        }
    }

    /// Charges rows that come after all others: no node is looked at. Returns what they crossed.
    fn append(
        &mut self,
        rows: &[RowChange],
        outcome: &mut Outcome,
        sink: &mut dyn Sink,
    ) -> BTreeSet<Notice> {
        let mut side = Side::new(&self.plan, std::mem::take(&mut self.closing));
        side.outcome = std::mem::take(outcome);
        let mut crossed = BTreeSet::new();
        for change in rows {
            let row = row_of(change.position, change.tag, &change.quantities);
            side.charge(&self.book, &row);
            tell(&self.book, self.key, (&row, &side.outcome), 1, sink);
            let effect = &side.outcome.effect;
            self.tree.append(&row, effect, side.outcome.turned);
            for (watch, threshold) in &mut self.watches {
                let delta = effect.delta(watch.slot);
                if delta != 0 && watch.crossed_at.is_none() {
                    let after = side.state[index(watch.slot)];
                    if watch.crosses(after.saturating_sub(delta), after) {
                        watch.crossed_at = Some(change.position);
                        crossed.extend(notice(self.key, &self.plan, watch, threshold));
                    }
                }
            }
        }
        self.closing = side.state;
        *outcome = side.outcome;
        crossed
    }

    fn sweep(&mut self, moves: &mut Moves, sink: &mut dyn Sink) -> Work {
        let start = || opening(&self.plan);
        let (old, new) = moves.opening.take().unwrap_or_else(|| (start(), start()));
        let old_plan = moves.old_plan.as_ref().unwrap_or(&self.plan);
        let mut sweep = Sweep::new(
            (self.key, &self.book),
            Side::new(old_plan, old),
            Side::new(&self.plan, new),
            &moves.windows,
            &moves.rows,
            sink,
        );
        self.tree.sweep(&mut sweep, &moves.rows);
        if !sweep.stopped {
            self.closing = std::mem::take(&mut sweep.new.state);
        }
        sweep.work
    }

    /// Lists the thresholds of all buckets, keeping crossings that are known.
    fn arrange_watches(&mut self) {
        self.watches = self
            .plan
            .buckets()
            .flat_map(|(slot, bucket)| {
                let falling = matches!(bucket.kind, BucketKind::Allowance { .. });
                bucket.thresholds.iter().map(move |threshold| {
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

    fn find_crossings(&mut self) {
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
        find_crossings(&self.tree.root, &mut watches, &mut reader);
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

    fn tell_notices(&self, before: &BTreeSet<Notice>, sink: &mut dyn Sink) {
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

    fn reader(&self) -> Reader<'_> {
        Reader {
            book: &self.book,
            side: Side::new(&self.plan, opening(&self.plan)),
        }
    }

    /// The value of each bucket, by key: after everything, or just before the usage of `at`, when the
    /// edges of that instant have been: what began with it counts.
    #[must_use]
    pub fn balances(&self, at: Option<EventTime>) -> Vec<(BucketKey, i128)> {
        match at {
            None => self.values(&self.closing),
            Some(at) => {
                let mut reader = self.reader();
                move_before(&self.tree.root, Position::of(at, RecordId(0)), &mut reader);
                self.values(&reader.side.state)
            }
        }
    }

    fn values(&self, state: &[i128]) -> Vec<(BucketKey, i128)> {
        let value = |(slot, bucket): (u32, &Bucket)| (bucket.key, state[index(slot)]);
        self.plan.buckets().map(value).collect()
    }

    /// The buckets, by key.
    pub fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.plan.buckets().map(|(_, bucket)| bucket)
    }

    /// What a record met and what it came to; `None` if the group has no such record.
    #[must_use]
    pub fn explain(&self, time: EventTime, record: RecordId) -> Option<Explained> {
        let position = Position::of(time, record);
        let leaf = leaf_at(&self.tree.root, position);
        let row = leaf.iter().find(|row| row.position() == position)?;
        let mut reader = self.reader();
        move_before(&self.tree.root, position, &mut reader);
        let mut explained = Explained {
            before: self.values(&reader.side.state),
            ..Explained::default()
        };
        reader.charge(&row);
        let told = (&row, &reader.side.outcome);
        tell(&self.book, self.key, told, 1, &mut explained);
        Some(explained)
    }

    /// Tells everything charged, in order, as if it were new.
    pub fn visit(&self, sink: &mut dyn Sink) {
        let mut reader = self.reader();
        visit(&self.tree.root, &mut |row| {
            reader.charge(row);
            tell(&self.book, self.key, (row, &reader.side.outcome), 1, sink);
        });
        self.notices()
            .iter()
            .for_each(|notice| sink.notice(notice, 1));
    }
}

/// What to tell of a threshold that was crossed.
fn notice(group: GroupKey, plan: &Plan, watch: &Watch, threshold: &Threshold) -> Option<Notice> {
    let at = watch.crossed_at?;
    let bucket = &plan.get(watch.slot)?.bucket;
    Some(Notice {
        group,
        bucket: bucket.key,
        resource: bucket.resource,
        measure: bucket.measure,
        valid: bucket.valid,
        threshold: *threshold,
        time: at.time,
        record: at.usage.then_some(RecordId(at.id)),
    })
}

fn edge_position(edge: &Edge) -> Position {
    Position {
        time: edge.time,
        usage: false,
        id: edge.key.0,
    }
}

/// Reads the group as it stands.
struct Reader<'a> {
    book: &'a Book,
    side: Side<'a>,
}

impl Charger for Reader<'_> {
    fn state(&mut self) -> &mut Vec<i128> {
        &mut self.side.state
    }

    fn charge(&mut self, row: &Row<'_>) {
        self.side.charge(self.book, row);
    }
}
