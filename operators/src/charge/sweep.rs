//! One walk over a group's rows with two states in hand: as it was, and as it is now.
//!
//! Where both come to the same, nothing is told. Rows whose guard admits both states are charged
//! once; subtrees whose guard does are not looked at.

use super::book::{Book, Entry};
use super::guarded::{Guarded, State};
use super::kernels::{charge_edge, charge_usage};
use super::leaf::{Position, Row};
use super::plan::Plan;
use super::step::Outcome;
use super::{EdgeCharged, Sink};
use crate::domain::{Charge, EventTime, GroupKey, Period, Quantities, RecordId, Suspense};
use crate::epoch::Diff;

/// A row that comes, goes, or must be looked at.
#[derive(Clone, Debug)]
pub(super) struct RowChange {
    pub(super) position: Position,
    pub(super) tag: i64,
    pub(super) quantities: Quantities,
    /// 1, -1, or 0 for a row that stays and may be charged differently.
    pub(super) diff: Diff,
}

/// What many rows did together.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    pub(super) effect: Guarded,
    /// Whether a bucket may have moved against its direction.
    pub(super) turned: bool,
}

impl Summary {
    pub(super) fn compose(&mut self, effect: &Guarded, turned: bool) {
        self.effect.compose(effect);
        self.turned |= turned;
    }
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Records and edges charged again, or for the first time.
    pub replayed: usize,
    /// Nodes of trees looked at.
    pub nodes: usize,
}

impl Work {
    pub(super) fn add(&mut self, more: Self) {
        self.replayed = self.replayed.saturating_add(more.replayed);
        self.nodes = self.nodes.saturating_add(more.nodes);
    }
}

/// Charges rows against one state.
pub(super) struct Side<'a> {
    pub(super) plan: &'a Plan,
    pub(super) state: State,
    pub(super) outcome: Outcome,
    hint: usize,
}

impl<'a> Side<'a> {
    pub(super) fn new(plan: &'a Plan, state: State) -> Self {
        Self {
            plan,
            state,
            outcome: Outcome::default(),
            hint: 0,
        }
    }

    /// Charges a row; the state moves on.
    pub(super) fn charge(&mut self, book: &Book, row: &Row<'_>) {
        let (state, outcome) = (&mut self.state[..], &mut self.outcome);
        charge_row((self.plan, book), row, state, outcome, &mut self.hint);
    }
}

/// Charges a row; the state moves on. `hint` is as for [`Plan::at`].
pub(super) fn charge_row(
    (plan, book): (&Plan, &Book),
    row: &Row<'_>,
    state: &mut [i128],
    outcome: &mut Outcome,
    hint: &mut usize,
) {
    match book.entry(row.tag) {
        Entry::Usage(terms) => {
            let live = plan.at(row.time, hint);
            charge_usage(plan, live, (terms, row.quantities), state, outcome);
        }
        Entry::Edge(edge) => charge_edge(plan, edge, state, outcome),
    }
}

/// Tells what a row came to.
pub(super) fn tell(
    book: &Book,
    group: GroupKey,
    (row, outcome): (&Row<'_>, &Outcome),
    diff: Diff,
    sink: &mut dyn Sink,
) {
    let terms = match book.entry(row.tag) {
        Entry::Usage(terms) => terms,
        Entry::Edge(edge) => {
            let charged = EdgeCharged {
                group,
                edge: edge.key,
                time: edge.time,
                impacts: outcome.impacts.iter().copied().collect(),
                reason: outcome.fault.map(|(reason, _)| reason),
            };
            return sink.edge(&charged, diff);
        }
    };
    let record = RecordId(row.id);
    if let Some((reason, item)) = outcome.fault {
        let suspense = Suspense {
            record,
            reason,
            service: terms.service,
            class: terms.class,
            time: row.time,
            item,
            original: None,
        };
        return sink.suspense(&suspense, diff);
    }
    let mut start = 0;
    let items = terms.items.iter().zip(row.quantities).zip(&outcome.items);
    for (at, ((item, quantity), (amount, end))) in items.enumerate() {
        let charge = Charge {
            record,
            item: u8::try_from(at).expect("mediation refuses rules with more than 255 items"),
            time: row.time,
            service: terms.service,
            class: terms.class,
            subscription: terms.subscription,
            account: terms.account,
            profile: terms.profile,
            price: item.price,
            currency: terms.currency,
            quantity: *quantity,
            amount: *amount,
        };
        sink.item(&charge, &outcome.impacts[start..*end], diff);
        start = *end;
    }
}

/// See the module.
pub(super) struct Sweep<'a> {
    pub(super) group: GroupKey,
    pub(super) book: &'a Book,
    pub(super) old: Side<'a>,
    pub(super) new: Side<'a>,
    /// Whether the two states are equal.
    same: bool,
    /// Windows in which rules changed, in order and apart from each other.
    windows: &'a [Period],
    windows_end: EventTime,
    changes: &'a [RowChange],
    /// The first change not yet made.
    next: usize,
    /// Whether the walk ended before the last row, because nothing could change any more.
    pub(super) stopped: bool,
    pub(super) work: Work,
    pub(super) sink: &'a mut dyn Sink,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(
        (group, book): (GroupKey, &'a Book),
        old: Side<'a>,
        new: Side<'a>,
        windows: &'a [Period],
        changes: &'a [RowChange],
        sink: &'a mut dyn Sink,
    ) -> Self {
        let ends = windows.iter().map(|window| window.end());
        Self {
            group,
            book,
            same: old.state == new.state,
            old,
            new,
            windows,
            windows_end: ends.max().unwrap_or(EventTime::MIN),
            changes,
            next: 0,
            stopped: false,
            work: Work::default(),
            sink,
        }
    }

    /// Whether nothing from `first` on can change.
    pub(super) fn finished(&mut self, first: Position) -> bool {
        let done = self.same && self.next == self.changes.len() && first.time >= self.windows_end;
        self.stopped |= done;
        done
    }

    /// Whether rows from `first` up to `upper` change by themselves.
    fn touches(&self, first: Position, upper: Option<Position>) -> bool {
        let before = |position: Position| upper.is_none_or(|upper| position < upper);
        let change = self.changes.get(self.next);
        let window = self.window(first.time);
        change.is_some_and(|change| before(change.position))
            || window.is_some_and(|window| before(Position::before(window.start())))
    }

    /// The first window that does not end before an instant.
    fn window(&self, time: EventTime) -> Option<&Period> {
        let ended = self.windows.partition_point(|window| window.end() <= time);
        self.windows.get(ended)
    }

    /// Goes past the rows from `first` up to `upper`, if what they do is known and the same.
    pub(super) fn skip(
        &mut self,
        first: Position,
        upper: Option<Position>,
        summary: Option<&Summary>,
    ) -> bool {
        self.work.nodes = self.work.nodes.saturating_add(1);
        let Some(summary) = summary else {
            return false;
        };
        let effect = &summary.effect;
        let admits =
            effect.admits(&self.new.state) && (self.same || effect.admits(&self.old.state));
        if !admits || self.touches(first, upper) {
            return false;
        }
        effect.apply(&mut self.old.state);
        effect.apply(&mut self.new.state);
        true
    }

    /// The changes before `upper` that are not yet made; they are then.
    pub(super) fn take_changes(&mut self, upper: Option<Position>) -> &'a [RowChange] {
        let rest = &self.changes[self.next..];
        let end = rest.partition_point(|change| upper.is_none_or(|upper| change.position < upper));
        self.next = self.next.saturating_add(end);
        &rest[..end]
    }

    /// Charges a row that was, is, or both, and tells the difference; returns what it does now.
    pub(super) fn row(
        &mut self,
        old: Option<&Row<'_>>,
        new: Option<&Row<'_>>,
        touched: bool,
    ) -> &Outcome {
        self.work.replayed = self.work.replayed.saturating_add(1);
        let (book, group) = (self.book, self.group);
        let in_window = |row: &Row<'_>| {
            let window = self.window(row.time);
            row.tag >= 0 && window.is_some_and(|window| window.contains(row.time))
        };
        if let (Some(old), Some(row)) = (old, new)
            && !touched
            && !in_window(row)
            && old == row
        {
            // Both states are charged under rules that did not change: the old one first, and the
            // new one only where the guard does not already answer for it.
            self.old.charge(book, row);
            if self.same || self.old.outcome.effect.admits(&self.new.state) {
                self.old.outcome.effect.apply(&mut self.new.state);
                return &self.old.outcome;
            }
            self.new.charge(book, row);
            if !self.old.outcome.same_impacts(&self.new.outcome) {
                tell(book, group, (row, &self.old.outcome), -1, self.sink);
                tell(book, group, (row, &self.new.outcome), 1, self.sink);
            }
            return &self.new.outcome;
        }
        self.same = false; // until compared again
        if let Some(row) = old {
            self.old.charge(book, row);
        }
        if let Some(row) = new {
            self.new.charge(book, row);
        } else {
            self.new.outcome.clear();
        }
        if old != new || !self.old.outcome.same_impacts(&self.new.outcome) {
            if let Some(row) = old {
                tell(book, group, (row, &self.old.outcome), -1, self.sink);
            }
            if let Some(row) = new {
                tell(book, group, (row, &self.new.outcome), 1, self.sink);
            }
        }
        &self.new.outcome
    }

    /// Compares the states, at the end of a leaf.
    pub(super) fn compare(&mut self) {
        self.same = self.old.state == self.new.state;
    }
}
