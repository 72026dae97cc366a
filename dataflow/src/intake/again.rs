//! Mediation again: what the raw records of a file or partition come to under a new rule, beside what they
//! came to: under the old rule, or as the journal of an earlier run has it.

use super::archived::Forgotten;
use super::files::Opened;
use super::halt::Halt;
use super::messages::MessagesAgain;
use crate::bundle::Bundle;
use crate::bundle::count;
use crate::durable::Stood;
use millrace_connectors::decode::{Decoder, RawChunk, Unmet};
use millrace_connectors::mediate::{Mediated, Mediator};
use millrace_operators::domain::{Fate, Fault, FileId, RecordId, Usage};
use millrace_operators::epoch::Diff;
use roaring::RoaringTreemap;
use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use std::ops::{AddAssign, Range};

/// Rows compared at a time.
const WINDOW_ROWS: u64 = 65_536;
/// Forgotten records that the archive is asked for at once.
const ASKED_MAX: usize = 1 << 20;

/// What became of the records of a file or partition before, window by window.
pub(super) trait Before {
    /// Of the records before row `end` those that have not been taken yet; `after` is what becomes of them
    /// now.
    fn window(&mut self, end: u64, after: &Window, bundle: &mut Bundle) -> Result<Window, Halt>;
    /// Whether all were taken.
    fn is_done(&self) -> bool;
    /// Whether it says what became of records that the state has forgotten.
    fn knows_forgotten(&self) -> bool;
    /// What broke the file.
    fn broken(&mut self) -> Option<Fault>;
}

/// Where raw records are read once more.
enum Reading {
    File { decoder: Decoder, reached: u64 },
    Messages(Box<MessagesAgain>),
}

impl Reading {
    fn next_chunk(&mut self) -> Result<Option<RawChunk>, Halt> {
        match self {
            Self::File { decoder, reached } => {
                let chunk = decoder.next_chunk();
                *reached += chunk.as_ref().map_or(0, |chunk| chunk.received);
                Ok(chunk)
            }
            Self::Messages(messages) => messages.next_chunk(),
        }
    }

    /// Rows below this have been read.
    fn reached(&self) -> u64 {
        match self {
            Self::File { reached, .. } => *reached,
            Self::Messages(messages) => messages.reached(),
        }
    }

    /// Which rows were read since the last call, where it may not be all up to the last.
    fn take_rows(&mut self) -> Option<Vec<u64>> {
        match self {
            Self::File { .. } => None,
            Self::Messages(messages) => Some(messages.take_offsets()),
        }
    }
}

/// A file or partition being mediated once more, window by window.
pub(super) struct Replay {
    id: FileId,
    reading: Reading,
    mediator: Mediator,
    ended: bool,
    usage: VecDeque<Usage>,
    faults: VecDeque<Fault>,
    ignored: VecDeque<RecordId>,
    /// Which rows were read and not taken yet; nothing where it is all.
    rows: Option<VecDeque<u64>>,
    broken: Option<Fault>,
    /// Records mediated.
    records: u64,
    /// Whether any of them was not ignored.
    chooses: bool,
    /// Which, where it may not be all up to the last.
    read: RoaringTreemap,
}

/// What became of the records of a window, each list in record order.
pub(super) struct Window {
    usage: Vec<Usage>,
    faults: Vec<Fault>,
    ignored: Vec<RecordId>,
    /// The rows that there are, in order; nothing where it is all.
    rows: Option<Vec<u64>>,
}

impl Window {
    fn within(self, rows: &Range<u64>) -> Self {
        match *rows == (0..u64::MAX) {
            true => self,
            false => self.filtered(|row| rows.contains(&row)),
        }
    }

    /// What it has of the rows that there are: whatever becomes of a record is known where it is there both
    /// times.
    fn among(self, rows: Option<&[u64]>) -> Self {
        match rows {
            None => self,
            Some(rows) => self.filtered(|row| rows.binary_search(&row).is_ok()),
        }
    }

    fn filtered(mut self, wanted: impl Fn(u64) -> bool) -> Self {
        self.usage.retain(|usage| wanted(usage.record.row()));
        self.faults.retain(|fault| wanted(fault.record.row()));
        self.ignored.retain(|record| wanted(record.row()));
        self
    }
}

impl Replay {
    /// Of a file.
    pub(super) fn new(opened: Opened) -> Self {
        let Opened {
            id,
            decoder,
            mediator,
            ..
        } = opened;
        let reached = 0;
        Self::of(id, Reading::File { decoder, reached }, mediator, None)
    }

    /// Of the messages of a partition.
    pub(super) fn of_messages(id: FileId, messages: MessagesAgain, mediator: Mediator) -> Self {
        let rows = Some(VecDeque::new());
        Self::of(id, Reading::Messages(Box::new(messages)), mediator, rows)
    }

    fn of(id: FileId, reading: Reading, mediator: Mediator, rows: Option<VecDeque<u64>>) -> Self {
        let (usage, faults, ignored) = Default::default();
        Self {
            id,
            reading,
            mediator,
            ended: false,
            usage,
            faults,
            ignored,
            rows,
            broken: None,
            records: 0,
            chooses: false,
            read: RoaringTreemap::new(),
        }
    }

    /// The records within these rows that were not there to be read.
    pub(super) fn unread(&self, rows: &Range<u64>) -> RoaringTreemap {
        let mut unread = RoaringTreemap::new();
        if self.rows.is_some() && !rows.is_empty() {
            let (first, last) = (rows.start, rows.end - 1);
            unread.insert_range(self.record(first)..=self.record(last));
            unread -= &self.read;
        }
        unread
    }

    /// The fields that no record has, and whether any record was not ignored; nothing of messages, which are
    /// never all there.
    pub(super) fn unmet(&self) -> (Vec<Unmet>, bool) {
        let unmet = match &self.reading {
            Reading::File { decoder, .. } => decoder.unmet(),
            Reading::Messages(_) => Vec::new(),
        };
        (unmet, self.chooses)
    }

    fn record(&self, row: u64) -> u64 {
        RecordId::new(self.id, row).0
    }

    /// The records before row `end` that have not been taken yet.
    fn next(&mut self, end: u64, bundle: &mut Bundle) -> Result<Window, Halt> {
        let mut mediated = Mediated::default();
        while !self.ended && self.reading.reached() < end {
            let Some(chunk) = self.reading.next_chunk()? else {
                self.ended = true;
                break;
            };
            self.records += chunk.received;
            if let (Some(rows), Some(read)) = (&mut self.rows, self.reading.take_rows()) {
                self.read
                    .extend(read.iter().map(|row| RecordId::new(self.id, *row).0));
                rows.extend(read);
            }
            mediated.clear();
            self.mediator.mediate(&chunk, self.id, &mut mediated);
            self.chooses |= mediated.chooses();
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
        let rows = self.rows.as_mut();
        Ok(Window {
            usage: take_while(&mut self.usage, |usage| before(usage.record)),
            faults: take_while(&mut self.faults, |fault| before(fault.record)),
            ignored: take_while(&mut self.ignored, |record| before(*record)),
            rows: rows.map(|rows| take_while(rows, |row| *row < end)),
        })
    }
}

impl Before for Replay {
    fn window(&mut self, end: u64, _after: &Window, bundle: &mut Bundle) -> Result<Window, Halt> {
        self.next(end, bundle)
    }

    fn is_done(&self) -> bool {
        self.ended && self.usage.is_empty() && self.faults.is_empty() && self.ignored.is_empty()
    }

    fn knows_forgotten(&self) -> bool {
        true
    }

    fn broken(&mut self) -> Option<Fault> {
        self.broken.take()
    }
}

/// What the journal says of a file or partition. Records that it does not name were excluded.
pub(super) struct Journaled {
    usage: VecDeque<Usage>,
    faults: VecDeque<Fault>,
    broken: Option<Fault>,
}

impl Journaled {
    pub(super) fn new(stood: Stood) -> Self {
        let (broken, faults): (Vec<Fault>, Vec<Fault>) = stood
            .faults
            .into_iter()
            .partition(|fault| fault.reason.is_of_file());
        Self {
            usage: stood.usage.into(),
            faults: faults.into(),
            broken: broken.into_iter().next_back(),
        }
    }
}

impl Before for Journaled {
    fn window(&mut self, end: u64, after: &Window, _bundle: &mut Bundle) -> Result<Window, Halt> {
        let before = |record: RecordId| record.row() < end;
        let usage = take_while(&mut self.usage, |usage| before(usage.record));
        let faults = take_while(&mut self.faults, |fault| before(fault.record));
        let named = usage.iter().filter(|usage| !usage.is_passed_over());
        let named = named.map(|usage| usage.record);
        let named: BTreeSet<RecordId> = named.chain(faults.iter().map(|f| f.record)).collect();
        let known = after.usage.iter().map(|usage| usage.record);
        let known = known.chain(after.faults.iter().map(|fault| fault.record));
        let known = known.chain(after.ignored.iter().copied());
        let mut ignored: Vec<RecordId> = known.filter(|record| !named.contains(record)).collect();
        ignored.sort_unstable();
        ignored.dedup();
        Ok(Window {
            usage,
            faults,
            ignored,
            rows: None,
        })
    }

    fn is_done(&self) -> bool {
        self.usage.is_empty() && self.faults.is_empty()
    }

    fn knows_forgotten(&self) -> bool {
        false
    }

    fn broken(&mut self) -> Option<Fault> {
        self.broken.take()
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

impl AddAssign for Compared {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.archived += other.archived;
    }
}

/// Adds what differs between the two in these rows of a file or partition to `bundle`, as far as records are
/// `known`. What became of others the journal does not say: how many of them differ is asked of `archive`.
pub(super) fn differences(
    rows: &Range<u64>,
    mut old: impl Before,
    new: &mut Replay,
    known: impl Fn(RecordId) -> bool,
    archive: impl Fn(&[Forgotten]) -> Result<u64, Halt>,
    bundle: &mut Bundle,
) -> Result<Compared, Halt> {
    let mut archived: BTreeSet<RecordId> = BTreeSet::new();
    let (mut asked, mut differ): (Vec<Forgotten>, u64) = Default::default();
    let asks = !old.knows_forgotten();
    let is_known = &known;
    let mut wanted = |record: RecordId| {
        let known = is_known(record);
        if !known {
            archived.insert(record);
        }
        known
    };
    let file = new.id;
    let mut end = new.reading.reached();
    while !old.is_done() || !new.is_done() {
        end += WINDOW_ROWS;
        let after = new.next(end, bundle)?;
        let before = old.window(end, &after, bundle)?.within(rows);
        let before = before.among(after.rows.as_deref());
        let after = after.within(rows).among(before.rows.as_deref());
        if asks {
            // What is archived had not been left out.
            let left_out = after.ignored.iter().filter(|record| !is_known(**record));
            differ += count_of(left_out.count());
        }
        changes(
            before.usage,
            after.usage,
            |usage| usage.record,
            |usage, diff| {
                if asks && diff > 0 && !is_known(usage.record) {
                    asked.push((usage.record, usage.identity, usage.content()));
                } else if wanted(usage.record) {
                    bundle.usage.push((usage, diff));
                }
            },
        );
        if asked.len() >= ASKED_MAX {
            differ += archive(&std::mem::take(&mut asked))?;
        }
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
                // The journal does not name what is archived, and it was not left out.
                let is_asked = asks && !is_known(record);
                if !is_asked && wanted(record) {
                    count(&mut bundle.fates, file, Fate::Ignored, diff);
                    bundle.ignored.push((record, diff));
                }
            },
        );
    }
    changes(
        old.broken().into_iter().collect(),
        new.broken().into_iter().collect(),
        |fault| fault.record,
        |fault, diff| {
            bundle.faults.push((fault, diff));
        },
    );
    bundle.fates.retain(|_, diff| *diff != 0);
    Ok(Compared {
        records: new.records,
        archived: count_of(archived.len()) + differ + archive(&asked)?,
    })
}

fn count_of(records: usize) -> u64 {
    u64::try_from(records).unwrap_or(u64::MAX)
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
