//! What an epoch carries from the intake to the workers.

use crate::graph::Inputs;
use crate::publish::{Dispatch, Published};
use crate::worker::{Epochs, Fed};
use millrace_connectors::mediate::Mediated;
use millrace_connectors::reference::ReferenceChanges;
use millrace_operators::dedup::Replacement;
use millrace_operators::domain::{
    Discard, EventTime, Fate, Fault, FileId, LineKey, LineSum, RecordId, Suspense, Usage,
    UsageClass,
};
use millrace_operators::epoch::{Diff, Epoch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::time::Duration;

/// Epochs that may wait for a worker.
const EPOCHS_WAITING: usize = 2;

/// Where the intake sends a worker's part of each epoch.
pub type Channel = SyncSender<Bundle>;

/// The changes of an epoch, or a worker's part of them.
#[derive(Default)]
pub struct Bundle {
    /// The epoch, once bound.
    pub epoch: Epoch,
    /// Rows read for it.
    pub rows: usize,
    pub(crate) usage: Vec<(Usage, Diff)>,
    pub(crate) classes: Vec<UsageClass>,
    pub(crate) faults: Vec<(Fault, Diff)>,
    pub(crate) fates: BTreeMap<(FileId, Fate), Diff>,
    pub(crate) discards: Vec<(Discard, Diff)>,
    pub(crate) duplicates: Vec<(Suspense, Diff)>,
    /// Records that were archived, and are among `usage` because others of their identities have come.
    pub(crate) reopened: Vec<RecordId>,
    /// Files of which what the second has no more is taken out of the first.
    pub(crate) replaced: Vec<(Replacement, Diff)>,
    pub(crate) ignored: Vec<(RecordId, Diff)>,
    /// Charged records that are archived now, or open again: nothing in the graph says what became of them.
    pub(crate) archived: Vec<(RecordId, Diff)>,
    pub(crate) received: BTreeMap<FileId, u64>,
    pub(crate) reference: ReferenceChanges,
    pub(crate) clock: Vec<(EventTime, Diff)>,
    pub(crate) lines: Vec<(LineKey, LineSum)>,
}

/// What an epoch brings besides usage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochHead {
    /// Classes of usage.
    pub classes: Vec<UsageClass>,
    /// Records that decoding or mediation stopped.
    pub faults: Vec<(Fault, Diff)>,
    /// What became of records before dedup.
    pub fates: Vec<((FileId, Fate), Diff)>,
    /// Records that operators take out of suspense, or put back.
    pub discards: Vec<(Discard, Diff)>,
    /// Duplicates of archived records, whose fates are among `fates`.
    pub duplicates: Vec<(Suspense, Diff)>,
    /// Records that were archived, and are open again because others of their identities have come.
    pub reopened: Vec<RecordId>,
    /// Files of which what the second has no more is taken out of the first.
    pub replaced: Vec<(Replacement, Diff)>,
    /// What is billed more or less in closed bill units, until it is part of the lines that stand.
    pub adjusted: Vec<(LineKey, LineSum)>,
    /// Records that a rule excludes, where an output wants each.
    pub ignored: Vec<(RecordId, Diff)>,
    /// Records read.
    pub received: Vec<(FileId, u64)>,
    /// Reference rows.
    pub reference: ReferenceChanges,
    /// The present.
    pub clock: Vec<(EventTime, Diff)>,
}

impl EpochHead {
    /// Whether it only adds records.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let adds = |diff: &Diff| *diff > 0;
        self.reference.is_empty()
            && self.clock.is_empty()
            && self.discards.is_empty()
            && self.adjusted.is_empty()
            && self.replaced.is_empty()
            && self.duplicates.iter().all(|(_, diff)| adds(diff))
            && self.faults.iter().all(|(_, diff)| adds(diff))
            && self.fates.iter().all(|(_, diff)| adds(diff))
            && self.ignored.iter().all(|(_, diff)| adds(diff))
    }
}

impl Bundle {
    /// What the bundle brings besides usage.
    #[must_use]
    pub fn head(&self) -> EpochHead {
        EpochHead {
            classes: self.classes.clone(),
            faults: self.faults.clone(),
            fates: self.fates.iter().map(|(fate, n)| (*fate, *n)).collect(),
            discards: self.discards.clone(),
            duplicates: self.duplicates.clone(),
            reopened: self.reopened.clone(),
            replaced: self.replaced.clone(),
            adjusted: self.lines.clone(),
            ignored: self.ignored.clone(),
            received: self.received.iter().map(|(file, n)| (*file, *n)).collect(),
            reference: self.reference.clone(),
            clock: self.clock.clone(),
        }
    }

    /// The usage that the bundle brings.
    #[must_use]
    pub fn usage(&self) -> &[(Usage, Diff)] {
        &self.usage
    }

    /// Adds usage of an epoch that was journaled.
    pub fn take_usage(&mut self, mut usage: Vec<(Usage, Diff)>) {
        self.rows += usage.len();
        self.usage.append(&mut usage);
    }

    /// Adds the lines that stood when an earlier run ended.
    pub fn take_lines(&mut self, lines: impl IntoIterator<Item = (LineKey, LineSum)>) {
        self.lines.extend(lines);
    }

    /// Adds what follows from adjustments of closed bill units.
    pub(crate) fn take_due(&mut self, due: Due) {
        self.archived.extend(due.monetised());
        self.usage
            .extend(due.usage.into_iter().map(|usage| (usage, -1)));
        self.usage
            .extend(due.reopened.into_iter().map(|usage| (usage, 1)));
        self.fates.extend(due.fates);
        self.duplicates.extend(due.duplicates);
        self.take_lines(due.lines);
    }

    /// Adds the rest of an epoch that was journaled.
    pub fn take_head(&mut self, mut head: EpochHead) {
        self.classes.append(&mut head.classes);
        self.faults.append(&mut head.faults);
        self.discards.append(&mut head.discards);
        self.duplicates.append(&mut head.duplicates);
        self.reopened.append(&mut head.reopened);
        self.replaced.append(&mut head.replaced);
        self.lines.append(&mut head.adjusted);
        self.ignored.append(&mut head.ignored);
        self.clock.append(&mut head.clock);
        for ((file, fate), diff) in head.fates {
            count(&mut self.fates, file, fate, diff);
        }
        for (file, rows) in head.received {
            *self.received.entry(file).or_default() += rows;
        }
        self.reference.append(head.reference);
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
            && self.usage.is_empty()
            && self.faults.is_empty()
            && self.fates.is_empty()
            && self.reference.is_empty()
            && self.clock.is_empty()
            && self.discards.is_empty()
            && self.duplicates.is_empty()
            && self.replaced.is_empty()
            && self.lines.is_empty()
    }

    /// Adds what mediation made of a chunk, and leaves `mediated` empty.
    pub(crate) fn add(&mut self, mediated: &mut Mediated, file: FileId, wants_ignored: bool) {
        self.rows += usize::try_from(mediated.received).unwrap_or(usize::MAX);
        *self.received.entry(file).or_default() += mediated.received;
        self.usage
            .extend(mediated.usage.drain(..).map(|usage| (usage, 1)));
        self.classes
            .extend(mediated.classes.drain(..).map(|(_, class)| class));
        for fault in mediated.faults.drain(..) {
            count(&mut self.fates, file, Fate::of(fault.reason), 1);
            self.faults.push((fault, 1));
        }
        // What breaks a file is told, but is no record.
        self.faults
            .extend(mediated.file_fault.take().map(|fault| (fault, 1)));
        if !mediated.ignored.is_empty() {
            let ignored = Diff::try_from(mediated.ignored.len()).unwrap_or(Diff::MAX);
            count(&mut self.fates, file, Fate::Ignored, ignored);
        }
        if wants_ignored {
            self.ignored
                .extend(mediated.ignored.drain(..).map(|record| (record, 1)));
        }
    }

    /// Takes back what mediation made of records before, and leaves `mediated` empty. They may count as
    /// ignored from now on.
    pub(crate) fn take_back(
        &mut self,
        mediated: &mut Mediated,
        file: FileId,
        as_ignored: bool,
        wants_ignored: bool,
    ) {
        let mut records: Vec<RecordId> = Vec::new();
        for usage in mediated.usage.drain(..) {
            // One that is passed over is counted as ignored already.
            records.extend((!usage.is_passed_over()).then_some(usage.record));
            retract(&mut self.usage, usage);
        }
        self.classes
            .extend(mediated.classes.drain(..).map(|(_, class)| class));
        for fault in mediated.faults.drain(..) {
            records.push(fault.record);
            count(&mut self.fates, file, Fate::of(fault.reason), -1);
            retract(&mut self.faults, fault);
        }
        if as_ignored {
            for record in records {
                count(&mut self.fates, file, Fate::Ignored, 1);
                if wants_ignored {
                    self.ignored.push((record, 1));
                }
            }
        } else {
            for record in mediated.ignored.drain(..) {
                count(&mut self.fates, file, Fate::Ignored, -1);
                if wants_ignored {
                    retract(&mut self.ignored, record);
                }
            }
        }
        self.fates.retain(|_, diff| *diff != 0);
    }

    /// Takes back a fault that was told before.
    pub(crate) fn forgive(&mut self, fault: Fault) {
        retract(&mut self.faults, fault);
    }

    /// Counts rows that a file has no more as ignored.
    pub(crate) fn ignore(&mut self, file: FileId, rows: u64) {
        let rows = Diff::try_from(rows).unwrap_or(Diff::MAX);
        count(&mut self.fates, file, Fate::Ignored, rows);
    }

    /// Splits the usage evenly over the workers; everything else goes to the first.
    pub fn split(mut self, epoch: Epoch, workers: usize) -> impl Iterator<Item = Self> {
        self.epoch = epoch;
        let share = self.usage.len().div_ceil(workers.max(1)).max(1);
        let mut parts: Vec<Self> = Vec::with_capacity(workers);
        for _ in 1..workers {
            let from = self.usage.len().saturating_sub(share);
            let usage = self.usage.split_off(from);
            parts.push(Self {
                epoch,
                usage,
                ..Self::default()
            });
        }
        parts.push(self);
        parts.into_iter().rev()
    }
}

/// Takes a row back; one of this very epoch never reaches the graph.
fn retract<T: PartialEq>(rows: &mut Vec<(T, Diff)>, row: T) {
    match rows
        .iter()
        .rposition(|(held, diff)| *diff > 0 && *held == row)
    {
        Some(place) => {
            rows.remove(place);
        }
        None => rows.push((row, -1)),
    }
}

/// A channel to each worker, and what the worker reads of it.
#[must_use]
pub fn channels(workers: usize, publisher: &Sender<Dispatch>) -> (Vec<Channel>, Vec<Feed>) {
    (0..workers)
        .map(|_| {
            let (sender, receiver) = sync_channel(EPOCHS_WAITING);
            (
                sender,
                Feed {
                    receiver,
                    publisher: publisher.clone(),
                },
            )
        })
        .unzip()
}

/// A worker's epochs, from its channel.
pub struct Feed {
    receiver: Receiver<Bundle>,
    publisher: Sender<Dispatch>,
}

impl Epochs for Feed {
    fn feed(&mut self, epoch: Epoch, inputs: &mut Inputs, patience: Duration) -> Fed {
        let bundle = match self.receiver.recv_timeout(patience) {
            Ok(bundle) => bundle,
            Err(RecvTimeoutError::Timeout) => return Fed::Idle,
            Err(RecvTimeoutError::Disconnected) => return Fed::End,
        };
        assert!(bundle.epoch >= epoch, "epochs come in order");
        let epoch = bundle.epoch;
        inputs.advance_to(epoch);
        for (usage, diff) in bundle.usage {
            inputs.usage.update(usage, diff);
        }
        bundle
            .classes
            .into_iter()
            .for_each(|class| inputs.classes.insert(class));
        for (fault, diff) in bundle.faults {
            inputs.faults.update(fault, diff);
        }
        for (fate, diff) in bundle.fates {
            inputs.fates.update(fate, diff);
        }
        for (discard, diff) in bundle.discards {
            inputs.discards.update(discard, diff);
        }
        for (duplicate, diff) in bundle.duplicates {
            inputs.duplicates.update(duplicate, diff);
        }
        for (replacement, diff) in bundle.replaced {
            inputs.replaced.update(replacement, diff);
        }
        let reference = bundle.reference;
        reference
            .prices
            .into_iter()
            .for_each(|(row, diff)| inputs.prices.update(row, diff));
        reference
            .plans
            .into_iter()
            .for_each(|(row, diff)| inputs.plans.update(row, diff));
        reference
            .accounts
            .into_iter()
            .for_each(|(row, diff)| inputs.accounts.update(row, diff));
        for (row, diff) in reference.subscriptions {
            inputs.subscriptions.update(row, diff);
        }
        reference
            .services
            .into_iter()
            .for_each(|(row, diff)| inputs.services.update(row, diff));
        for line in bundle.lines {
            inputs.lines.insert(line);
        }
        for (instant, diff) in bundle.clock {
            inputs.clock.update(instant, diff);
        }
        let told = [
            (!bundle.received.is_empty())
                .then(|| Published::Received(bundle.received.into_iter().collect())),
            (!bundle.ignored.is_empty()).then_some(Published::Ignored(bundle.ignored)),
            (!bundle.archived.is_empty()).then_some(Published::Archived(bundle.archived)),
        ];
        for published in told.into_iter().flatten() {
            // A publisher that is gone has said why; the worker ends by itself.
            self.publisher
                .send(Dispatch::Changes(epoch, published))
                .ok();
        }
        Fed::Epoch(epoch)
    }
}

/// What follows from adjustments, and is fed to the graph once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// Records that leave: late ones that are in the archive now, and those that gave way to them.
    pub usage: Vec<Usage>,
    /// What became of them.
    pub fates: BTreeMap<(FileId, Fate), Diff>,
    /// Those that do not hold, with what is told of them no more.
    pub duplicates: Vec<(Suspense, Diff)>,
    /// Archived records that belong to open bill units now, and those that gave way to them.
    pub reopened: Vec<Usage>,
    /// What is billed more or less.
    pub lines: Vec<(LineKey, LineSum)>,
}

/// Adds one to the count of a fate.
pub(crate) fn count(
    fates: &mut BTreeMap<(FileId, Fate), isize>,
    file: FileId,
    fate: Fate,
    diff: isize,
) {
    *fates.entry((file, fate)).or_default() += diff;
}
