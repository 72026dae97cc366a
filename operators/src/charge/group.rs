//! A balance group: its buckets, its records in order, and how the changes of an epoch move them.

use super::book::Book;
use super::changes::Moves;
use super::guarded::{State, index};
use super::leaf::{Position, Row};
use super::notices::Crossing;
use super::plan::{Held, Plan, SharedRules};
use super::read::Charger;
use super::step::Outcome;
use super::sweep::{RowChange, Side, Sweep, Work, charge_row, tell};
use super::tree::{Tree, row_of};
use super::{Explained, Notice, Sink};
use crate::domain::{Bucket, BucketKey, Edge, EventTime, GroupKey, PricedUsage, RecordId};
use crate::epoch::Diff;
use smallvec::SmallVec;
use std::collections::BTreeSet;

/// Records of a group that come after its rows, in order.
pub(super) type Followers<'u> = SmallVec<[&'u PricedUsage; 4]>;

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
    pub(super) key: GroupKey,
    pub(super) plan: Plan,
    pub(super) book: Book,
    pub(super) tree: Tree,
    /// The state after all rows.
    pub(super) closing: State,
    /// The thresholds that were crossed, by bucket.
    pub(super) crossings: Vec<Crossing>,
}

/// What groups share: their rules, and memory that is used again from one to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    rows: Vec<RowChange>,
    outcome: Outcome,
    /// The stretch of the last record.
    hint: usize,
    pub(super) rules: SharedRules,
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
            closing: State::new(),
            crossings: Vec::new(),
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
        let spilled = self.closing.spilled().then(|| self.closing.capacity());
        let state = spilled.unwrap_or(0).saturating_mul(size_of::<i128>());
        let parts = [self.plan.bytes(), self.row_bytes(), state];
        parts
            .into_iter()
            .fold(size_of::<Self>(), usize::saturating_add)
    }

    /// The part of [`Self::bytes`] that an append may change.
    pub(super) fn row_bytes(&self) -> usize {
        let crossings = self
            .crossings
            .capacity()
            .saturating_mul(size_of::<Crossing>());
        [self.book.bytes(), self.tree.bytes(), crossings]
            .into_iter()
            .fold(0, usize::saturating_add)
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
        let usage_only = changes.buckets.is_empty() && changes.edges.is_empty();
        let usage = std::mem::take(&mut changes.usage);
        if usage_only && let Some(next) = self.followers(&usage) {
            return self.append_usage(&next, scratch, sink);
        }
        changes.usage = usage;
        let mut moves = Moves {
            rows: std::mem::take(&mut scratch.rows),
            ..Moves::default()
        };
        let buckets_change = !changes.buckets.is_empty();
        // Taken before a bucket goes, because a notice names its bucket.
        let before = buckets_change.then(|| self.notices());
        let buckets = std::mem::take(&mut changes.buckets);
        self.change_buckets(buckets, &mut scratch.rules, &mut moves);
        self.change_edges(std::mem::take(&mut changes.edges), &mut moves);
        self.change_usage(&mut changes.usage, &mut moves);
        if !moves.edges_left.is_empty() || !moves.windows.is_empty() || moves.rows.len() > 1 {
            let order = |row: &RowChange| (row.position, row.diff);
            moves.rows.sort_by_key(order);
        }
        let append = moves.old_plan.is_none()
            && moves.opening.is_none()
            && moves.rows.iter().all(|row| row.diff > 0)
            && moves
                .rows
                .first()
                .is_none_or(|row| self.tree.last().is_none_or(|last| last < row.position));
        let work = if append && !buckets_change {
            let mut crossed = BTreeSet::new();
            for change in &moves.rows {
                let row = row_of(change.position, change.tag, &change.quantities);
                self.append(&row, scratch, &mut crossed, sink);
            }
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

    /// Reads a little of each part of the group itself that an append needs.
    pub(super) fn touch(&self) -> i64 {
        let value = i64::from(self.closing.first() == Some(&0) && self.crossings.is_empty());
        [self.plan.touch(), self.book.touch(), self.tree.touch()]
            .into_iter()
            .fold(value, i64::wrapping_add)
    }

    /// The same of what lies apart from it.
    pub(super) fn touch_tail(&self) -> i64 {
        self.tree.touch_tail()
    }

    /// The records in order, if all come after every row and each once.
    pub(super) fn followers<'u>(
        &self,
        usage: impl IntoIterator<Item = &'u (PricedUsage, Diff)>,
    ) -> Option<Followers<'u>> {
        let position = |usage: &&PricedUsage| Position::of(usage.time, usage.record);
        let mut next = Followers::new();
        for (usage, diff) in usage {
            if *diff != 1 {
                return None;
            }
            next.push(usage);
        }
        if next.len() > 1 {
            next.sort_unstable_by_key(position);
        }
        let last = self.tree.last();
        let after = next
            .first()
            .is_none_or(|first| last.is_none_or(|last| last < position(first)));
        let once = next.is_sorted_by(|left, right| position(left) < position(right));
        (after && once).then_some(next)
    }

    /// Charges records that come after all rows: no node is looked at.
    pub(super) fn append_usage(
        &mut self,
        usage: &[&PricedUsage],
        scratch: &mut Scratch,
        sink: &mut dyn Sink,
    ) -> Work {
        let mut crossed = BTreeSet::new();
        for usage in usage {
            let row = Row {
                time: usage.time,
                id: usage.record.0,
                tag: self.book.enter(&usage.terms),
                quantities: &usage.quantities,
            };
            self.append(&row, scratch, &mut crossed, sink);
        }
        crossed.iter().for_each(|notice| sink.notice(notice, 1));
        Work {
            replayed: usage.len(),
            nodes: 0,
        }
    }

    /// Charges one row that comes after all others.
    fn append(
        &mut self,
        row: &Row<'_>,
        scratch: &mut Scratch,
        crossed: &mut BTreeSet<Notice>,
        sink: &mut dyn Sink,
    ) {
        let Scratch { outcome, hint, .. } = scratch;
        charge_row(
            (&self.plan, &self.book),
            row,
            &mut self.closing,
            outcome,
            hint,
        );
        tell(&self.book, self.key, (row, outcome), 1, sink);
        let effect = &outcome.effect;
        self.tree.append(row, effect, outcome.turned);
        for (slot, delta) in effect.deltas() {
            self.cross(slot, delta, row.position(), crossed);
        }
    }

    fn sweep(&mut self, moves: &mut Moves, sink: &mut dyn Sink) -> Work {
        let start = || self.plan.opening();
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

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader {
            book: &self.book,
            side: Side::new(&self.plan, self.plan.opening()),
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
                let limit = Position::of(at, RecordId(0));
                self.tree.move_before(limit, &mut reader);
                self.values(&reader.side.state)
            }
        }
    }

    fn values(&self, state: &[i128]) -> Vec<(BucketKey, i128)> {
        let value = |(slot, held): (u32, Held<'_>)| (held.key, state[index(slot)]);
        self.plan.buckets().map(value).collect()
    }

    /// The buckets, by key.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> {
        let slots = self.plan.buckets().map(|(slot, _)| slot);
        slots.filter_map(|slot| self.plan.bucket(self.key, slot))
    }

    /// What a record met and what it came to; `None` if the group has no such record.
    #[must_use]
    pub fn explain(&self, time: EventTime, record: RecordId) -> Option<Explained> {
        let position = Position::of(time, record);
        let leaf = self.tree.leaf_at(position);
        let row = leaf.iter().find(|row| row.position() == position)?;
        let mut reader = self.reader();
        self.tree.move_before(position, &mut reader);
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
        self.tree.visit(&mut |row| {
            reader.charge(row);
            tell(&self.book, self.key, (row, &reader.side.outcome), 1, sink);
        });
        self.notices()
            .iter()
            .for_each(|notice| sink.notice(notice, 1));
    }
}

/// Reads the group as it stands.
pub(super) struct Reader<'a> {
    book: &'a Book,
    side: Side<'a>,
}

impl Charger for Reader<'_> {
    fn state(&mut self) -> &mut [i128] {
        &mut self.side.state
    }

    fn charge(&mut self, row: &Row<'_>) {
        self.side.charge(self.book, row);
    }
}
