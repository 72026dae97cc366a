//! Mediation again: the raw records of a file under an old and a new rule, and what differs.

use super::bundle::Bundle;
use super::count;
use super::files::Opened;
use millrace_connectors::mediate::Mediated;
use millrace_operators::domain::{Fate, Fault, RecordId, Usage};
use millrace_operators::epoch::Diff;
use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

/// Rows compared at a time.
const WINDOW_ROWS: u64 = 65_536;

/// A file being mediated once more, window by window.
struct Replay {
    opened: Opened,
    ended: bool,
    usage: VecDeque<Usage>,
    faults: VecDeque<Fault>,
    ignored: VecDeque<RecordId>,
    broken: Option<Fault>,
    /// Rows below this have been mediated.
    reached: u64,
}

/// What became of the records of a window, each list in record order.
struct Window {
    usage: Vec<Usage>,
    faults: Vec<Fault>,
    ignored: Vec<RecordId>,
}

impl Window {
    fn within(mut self, rows: &Range<u64>) -> Self {
        if *rows != (0..u64::MAX) {
            let within = |record: RecordId| rows.contains(&record.row());
            self.usage.retain(|usage| within(usage.record));
            self.faults.retain(|fault| within(fault.record));
            self.ignored.retain(|record| within(*record));
        }
        self
    }
}

impl Replay {
    fn new(opened: Opened) -> Self {
        let (usage, faults, ignored) = Default::default();
        Self {
            opened,
            ended: false,
            usage,
            faults,
            ignored,
            broken: None,
            reached: 0,
        }
    }

    /// The records before row `end` that have not been taken yet.
    fn window(&mut self, end: u64, bundle: &mut Bundle) -> Window {
        let mut mediated = Mediated::default();
        while !self.ended && self.reached < end {
            let Some(chunk) = self.opened.decoder.next_chunk() else {
                self.ended = true;
                break;
            };
            self.reached += chunk.received;
            mediated.clear();
            self.opened
                .mediator
                .mediate(&chunk, self.opened.id, &mut mediated);
            bundle
                .classes
                .extend(mediated.classes.drain(..).map(|(_, class)| class));
            self.usage.extend(mediated.usage.drain(..));
            mediated.faults.sort_by_key(|fault| fault.record);
            self.faults.extend(mediated.faults.drain(..));
            mediated.ignored.sort_unstable();
            self.ignored.extend(mediated.ignored.drain(..));
            self.broken = self.broken.take().or(mediated.file_fault.take());
        }
        let before = |record: RecordId| record.row() < end;
        Window {
            usage: take_while(&mut self.usage, |usage| before(usage.record)),
            faults: take_while(&mut self.faults, |fault| before(fault.record)),
            ignored: take_while(&mut self.ignored, |record| before(*record)),
        }
    }

    fn is_done(&self) -> bool {
        self.ended && self.usage.is_empty() && self.faults.is_empty() && self.ignored.is_empty()
    }
}

fn take_while<T>(queue: &mut VecDeque<T>, wanted: impl Fn(&T) -> bool) -> Vec<T> {
    let count = queue.iter().take_while(|item| wanted(item)).count();
    queue.drain(..count).collect()
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// Records mediated.
    pub(super) records: u64,
    /// Records that differ and stay as they were archived.
    pub(super) archived: u64,
}

/// Adds what differs between the two in these rows of a file to `bundle`, as far as records are `known`.
pub(super) fn differences(
    rows: &Range<u64>,
    old: Opened,
    new: Opened,
    known: impl Fn(RecordId) -> bool,
    bundle: &mut Bundle,
) -> Compared {
    let mut archived: BTreeSet<RecordId> = BTreeSet::new();
    let mut wanted = |record: RecordId| {
        let known = known(record);
        if !known {
            archived.insert(record);
        }
        known
    };
    let file = new.id;
    let (mut old, mut new) = (Replay::new(old), Replay::new(new));
    let mut end = 0;
    while !old.is_done() || !new.is_done() {
        end += WINDOW_ROWS;
        let before = old.window(end, bundle).within(rows);
        let after = new.window(end, bundle).within(rows);
        changes(
            before.usage,
            after.usage,
            |usage| usage.record,
            |usage, diff| {
                if wanted(usage.record) {
                    bundle.usage.push((usage, diff));
                }
            },
        );
        changes(
            before.faults,
            after.faults,
            |fault| fault.record,
            |fault, diff| {
                if wanted(fault.record) {
                    count(&mut bundle.fates, file, Fate::of(fault.reason), diff);
                    bundle.faults.push((fault, diff));
                }
            },
        );
        changes(
            before.ignored,
            after.ignored,
            |record| *record,
            |record, diff| {
                if wanted(record) {
                    count(&mut bundle.fates, file, Fate::Ignored, diff);
                    bundle.ignored.push((record, diff));
                }
            },
        );
    }
    let broken = |replay: &mut Replay| replay.broken.take().into_iter().collect();
    changes(
        broken(&mut old),
        broken(&mut new),
        |fault| fault.record,
        |fault, diff| {
            bundle.faults.push((fault, diff));
        },
    );
    bundle.fates.retain(|_, diff| *diff != 0);
    Compared {
        records: new.reached,
        archived: u64::try_from(archived.len()).unwrap_or(u64::MAX),
    }
}

/// Walks two lists in record order and tells what is only in one of them, the old before the new.
fn changes<T: PartialEq>(
    old: Vec<T>,
    new: Vec<T>,
    record: impl Fn(&T) -> RecordId,
    mut tell: impl FnMut(T, Diff),
) {
    let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(gone), Some(come)) => record(gone).cmp(&record(come)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return,
        };
        let gone = if order.is_le() { old.next() } else { None };
        let come = if order.is_ge() { new.next() } else { None };
        if gone != come {
            gone.into_iter().for_each(|item| tell(item, -1));
            come.into_iter().for_each(|item| tell(item, 1));
        }
    }
}
