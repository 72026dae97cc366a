//! The committer: one thread that makes state durable, commits, and puts outputs in their places.
//!
//! For each commit, in order: pack the journal; wait until the outputs of its epochs are staged; write
//! the journal object; create the manifest; publish; take away what no manifest needs. A commit begins
//! when the one before it is published, so only the newest manifest can have outputs that still wait.
//! Small objects are written as one beside that, and stand in the first manifest after it.

use super::commands::{FOLDER as COMMANDS, place};
use super::error::DurableError;
use super::forget::CLOSED;
use super::generation::Generation;
use super::inputs::{INPUTS, KeptInputs, WantedInputs};
use super::journal::{Facts, Journal, close};
use super::manifest::Manifest;
use super::messages::MessageSink;
use super::names::{GATES, JOURNAL, STAGE, rank};
use super::object::{Object, create};
use super::part::Part;
use super::progress::Mark;
use super::restore::Restored;
use super::staged::{Staged, take_places};
use crate::board::MovedLine;
use millrace_connectors::kafka::PublishError;
use millrace_connectors::store::Store;
use millrace_operators::epoch::Epoch;
use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Commits that may wait.
const WAITING: usize = 2;
/// How often an idle run looks whether another has taken over.
const LOOK: Duration = Duration::from_secs(1);
/// Objects that are merged into one: a restart reads few, and each byte is merged seldom.
const MERGED: usize = 64;
/// Bytes from which on objects are merged earlier, and one is not merged again.
const LARGE: u64 = 16 << 20;

/// A commit, from the intake.
pub struct Point {
    /// The last epoch of it.
    pub epoch: Epoch,
    /// What those epochs brought.
    pub journal: Journal,
    /// What is new besides.
    pub facts: Facts,
    /// Raw records that were taken in, under their hidden names.
    pub raw: Vec<Staged>,
    /// What records are mediated by, where that has changed.
    pub inputs: Option<WantedInputs>,
}

/// The outputs of the epochs of a commit, from the publisher.
#[derive(Debug, Default)]
pub struct Flushed {
    /// The last epoch of them.
    pub epoch: Epoch,
    /// Files under their hidden names.
    pub outputs: Vec<Staged>,
    /// Messages.
    pub messages: Vec<Part>,
    /// The billing lines that those epochs moved.
    pub lines: Vec<MovedLine>,
    /// Records received up to then.
    pub received: u64,
}

/// See the module.
pub struct Committer {
    state: Arc<Store>,
    outputs: Arc<Store>,
    generation: Generation,
    points: Receiver<Point>,
    flushed: Receiver<Flushed>,
    /// How far outputs in files are told.
    mark: Option<Mark>,
    /// Where messages are published.
    sink: Option<MessageSink>,
    /// Told of each commit.
    committed: Box<dyn Fn(&Manifest) + Send>,
    /// Objects that are merged into one.
    merged: usize,
    /// Whether a commit waits for the merge that it began.
    merges_at_once: bool,
    merging: Option<Merging>,
    /// What records were mediated by, as it is kept.
    inputs: KeptInputs,
}

/// Objects that are written as one, by a thread of its own.
struct Merging {
    of: Vec<Object>,
    thread: JoinHandle<Result<Object, DurableError>>,
}

/// Where the intake and the publisher tell the committer.
pub struct Ends {
    /// Commits begun.
    pub points: SyncSender<Point>,
    /// Outputs staged.
    pub flushed: Sender<Flushed>,
}

impl Committer {
    /// A committer of this generation.
    #[must_use]
    pub fn new(
        state: Arc<Store>,
        outputs: Arc<Store>,
        generation: Generation,
        sink: Option<MessageSink>,
        committed: Box<dyn Fn(&Manifest) + Send>,
    ) -> (Self, Ends) {
        let (point_sender, points) = sync_channel(WAITING);
        let (flush_sender, flushed) = channel();
        let committer = Self {
            state,
            outputs,
            generation,
            points,
            flushed,
            mark: None,
            sink,
            committed,
            merged: MERGED,
            merges_at_once: false,
            merging: None,
            inputs: KeptInputs::default(),
        };
        let ends = Ends {
            points: point_sender,
            flushed: flush_sender,
        };
        (committer, ends)
    }

    /// The same, merging this many objects into one, each time within the commit that completes them:
    /// what is done, and in which order, depends on the commits alone.
    #[must_use]
    pub fn merging_at_once(self, merged: usize) -> Self {
        Self {
            merged,
            merges_at_once: true,
            ..self
        }
    }

    /// What the names of this run have in them.
    #[must_use]
    pub fn tag(&self) -> String {
        self.generation.tag()
    }

    /// What is to be loaded, if anything is committed.
    #[must_use]
    pub fn restored(&self) -> Restored {
        Restored {
            store: Arc::clone(&self.state),
            manifest: self.generation.manifest.clone(),
        }
    }

    /// Completes what the last run committed and did not publish, and takes away what it did not
    /// commit.
    ///
    /// # Errors
    /// When a store fails.
    pub fn recover(&mut self) -> Result<(), DurableError> {
        // What a younger run has staged or written is not ours to take away: this one may have stood still.
        let is_older = |name: &str| self.generation.is_younger_than(name);
        self.outputs.close_gates(GATES, is_older)?;
        let names = self.outputs.names(STAGE)?.into_iter();
        let mut staged: BTreeSet<String> = names.map(|name| format!("{STAGE}/{name}")).collect();
        let outputs = &self.generation.manifest.outputs;
        // An upload that was completed is known no more. One that was given up is written again: this run
        // has snapshots of its own at its end.
        let waiting = outputs
            .iter()
            .filter(|output| output.waiting.is_some() || staged.remove(&output.staged));
        let waiting: Vec<&Staged> = waiting.collect();
        take_places(&self.outputs, waiting.into_iter())?;
        let mut left = staged.iter().filter(|name| is_older(name));
        left.try_for_each(|name| self.outputs.remove(name))?;
        self.outputs.sweep(STAGE, is_older)?;
        let manifest = &self.generation.manifest;
        let tag = self.generation.tag();
        self.mark = Some(Mark::create(&self.outputs, manifest, tag, is_older)?);
        self.inputs = KeptInputs::of(&self.state, manifest)?;
        let objects = || {
            let named = manifest.journal.iter().chain(&manifest.closed);
            named.chain(&manifest.inputs).chain(self.inputs.objects())
        };
        let held = |name: &str| objects().any(|object| object.name == name);
        for folder in [JOURNAL, CLOSED, INPUTS] {
            self.state.sweep(folder, is_older)?;
            for name in self.state.names(folder)? {
                let name = format!("{folder}/{name}");
                if is_older(&name) && !held(&name) {
                    self.state.remove(&name)?;
                }
            }
        }
        // Nobody makes a command again: this one is applied, whoever may run by now.
        let commands = self.state.names(COMMANDS)?.into_iter();
        let mut applied = commands.filter(|name| manifest.commands.has(name));
        applied.try_for_each(|name| Ok(self.state.remove(&place(&name))?))
    }

    /// Whether the messages of the newest commit are made again, in case they were not published.
    #[must_use]
    pub fn makes_again(&self) -> bool {
        self.sink.is_some() && self.generation.manifest.live > 0
    }

    fn publish_messages(&mut self, flushed: &Flushed) -> Result<(), DurableError> {
        let Some(sink) = &mut self.sink else {
            return Ok(());
        };
        loop {
            let published = sink.publish(flushed.epoch, &flushed.messages);
            let Err(fenced @ DurableError::Publish(PublishError::Fenced { .. })) = published else {
                return published;
            };
            // An older run that stood still may have opened the publisher: it ends when it looks whether
            // it is the newest, as this one does now.
            self.generation.check(&self.state)?;
            if !sink.take_back()? {
                return Err(fenced);
            }
        }
    }

    /// Commits until the intake has ended.
    ///
    /// # Errors
    /// When a store fails, or another run has taken over.
    pub fn run(mut self) -> Result<Generation, DurableError> {
        let ended = self.commit_all();
        if ended.is_err() {
            // A run that has taken over takes away what this one reads and stages.
            self.generation.check(&self.state)?;
        }
        ended.map(|()| self.generation)
    }

    fn commit_all(&mut self) -> Result<(), DurableError> {
        if self.makes_again() {
            let flushed = self.flushed.recv().map_err(|_| DurableError::Ended)?;
            self.publish_messages(&flushed)?;
        }
        loop {
            match self.points.recv_timeout(LOOK) {
                Ok(point) => self.commit(point)?,
                Err(RecvTimeoutError::Timeout) => self.generation.check(&self.state)?,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Some(merging) = self.merging.take() {
            // No manifest will name it.
            let unneeded = merging.finish()?;
            self.state.remove(&unneeded.name)?;
        }
        Ok(())
    }

    /// Makes what a commit brought durable, and publishes it.
    ///
    /// # Errors
    /// When a store fails, or another run has taken over.
    ///
    /// # Panics
    /// When the outputs that wait are of another commit.
    pub fn commit(&mut self, point: Point) -> Result<(), DurableError> {
        let before = self.generation.manifest.clone();
        // Packing takes longest, and needs nothing of the epochs that the workers are still at.
        let (mut content, rows) = point.journal.pack(&point.facts);
        let flushed = self.flushed.recv().map_err(|_| DurableError::Ended)?;
        close(&mut content, &flushed.lines);
        let commit = before.commit + 1;
        let object = self.write(commit, &content, rows)?;
        // Raw records need not be on the disk: no money is made of them unless they are read whole.
        let staged = flushed.outputs.iter();
        self.outputs
            .keep(staged.map(|output| output.staged.as_str()))?;
        assert_eq!(
            flushed.epoch, point.epoch,
            "outputs are staged commit by commit"
        );
        let commands = point.facts.commands;
        let obeyed: Vec<String> = commands.since(&before.commands).map(place).collect();
        let mut journal = before.journal;
        journal.push(object);
        let merged = self.merge(commit, &mut journal)?;
        let (inputs, unneeded) = self.keep_inputs(commit, point.inputs, before.inputs.as_ref())?;
        let mut next = Manifest {
            inputs,
            live: point.epoch + 1,
            positions: point.facts.positions,
            paused: point.facts.paused,
            marked: point.facts.marked,
            commands,
            files: before.files.max(
                point
                    .facts
                    .files
                    .iter()
                    .map(|file| u64::from(file.entry.file.0) + 1)
                    .max()
                    .unwrap_or(0),
            ),
            received: flushed.received,
            journal,
            outputs: flushed.outputs.iter().cloned().chain(point.raw).collect(),
            from: before.live,
            ..before
        };
        flushed.outputs.iter().for_each(|output| next.tell(output));
        let tells = !flushed.outputs.is_empty();
        self.generation.commit(&self.state, next)?;
        if tells {
            self.advance()?;
        }
        self.generation.publish(&self.state, &self.outputs)?;
        self.publish_messages(&flushed)?;
        if !tells {
            // Messages need not wait for it.
            self.advance()?;
        }
        (self.committed)(&self.generation.manifest);
        for name in merged.iter().chain(&obeyed).chain(&unneeded) {
            // It is committed, whatever stays behind: the next run takes it away.
            self.state.remove(name).ok();
        }
        Ok(())
    }

    /// Outputs in files are told up to what is committed.
    fn advance(&mut self) -> Result<(), DurableError> {
        let Some(mark) = &mut self.mark else {
            return Ok(());
        };
        if mark.advance(&self.outputs, &self.generation.manifest)? {
            return Ok(());
        }
        // A younger run has taken it away, or else somebody has.
        self.generation.check(&self.state)?;
        Err(DurableError::Taken {
            folder: self.outputs.location().to_owned(),
        })
    }

    /// Writes what records are mediated by, where that has changed. Returns what the next manifest names, and what is
    /// named no more then.
    fn keep_inputs(
        &mut self,
        commit: u64,
        wanted: Option<WantedInputs>,
        before: Option<&Object>,
    ) -> Result<(Option<Object>, Vec<String>), DurableError> {
        let Some(wanted) = wanted else {
            return Ok((before.cloned(), Vec::new()));
        };
        let held = self.inputs.clone();
        let place = format!("{commit:020}-{}", self.generation.tag());
        let object = self.inputs.change(&self.state, wanted, &place)?;
        let is_named = |old: &&Object| self.inputs.objects().any(|now| now == *old);
        let old = held.objects().filter(|old| !is_named(old)).chain(before);
        let unneeded = old.map(|old| old.name.clone()).collect();
        Ok((Some(object), unneeded))
    }

    fn write(&self, commit: u64, content: &[u8], rows: u64) -> Result<Object, DurableError> {
        let name = format!("{JOURNAL}/{commit:020}-{}.journal", self.generation.tag());
        let object = Object::of(name, content, rows);
        create(&self.state, &object, content)?;
        Ok(object)
    }

    /// Puts an object that was merged in the place of those that it was merged of, whose names it
    /// returns: they are needed no more once that is committed. Begins to merge the next ones.
    fn merge(
        &mut self,
        commit: u64,
        journal: &mut Vec<Object>,
    ) -> Result<Vec<String>, DurableError> {
        if self.merging.is_none()
            && let Some(due) = due(journal, self.merged)
        {
            let (state, of) = (Arc::clone(&self.state), journal[due].to_vec());
            let mark = "+".repeat(of.first().map_or(0, rank) + 1);
            let tag = self.generation.tag();
            let name = format!("{JOURNAL}/{commit:020}-{tag}{mark}.journal");
            self.merging = Merging::begin(state, of, name);
        }
        let at_once = self.merges_at_once;
        let is_done = |merging: &mut Merging| at_once || merging.thread.is_finished();
        let Some(merging) = self.merging.take_if(is_done) else {
            return Ok(Vec::new());
        };
        let gone: Vec<String> = merging.of.iter().map(|of| of.name.clone()).collect();
        let object = merging.finish()?;
        let first = journal
            .iter()
            .position(|held| Some(&held.name) == gone.first());
        let first = first.expect("nobody else takes objects out");
        journal.splice(first..first + gone.len(), [object]);
        Ok(gone)
    }
}

impl Merging {
    /// Nothing where the system has no thread for it now: a later commit begins it then.
    fn begin(state: Arc<Store>, of: Vec<Object>, name: String) -> Option<Self> {
        let objects = of.clone();
        let merge = move || {
            let bytes: u64 = objects.iter().map(|object| object.bytes).sum();
            let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
            for object in &objects {
                content.extend_from_slice(&object.read(&state)?);
            }
            let rows = objects.iter().map(|object| object.rows).sum();
            let merged = Object::of(name, &content, rows);
            create(&state, &merged, &content)?;
            Ok(merged)
        };
        let thread = std::thread::Builder::new().name("merger".to_owned());
        let thread = thread.spawn(merge).ok()?;
        Some(Self { of, thread })
    }

    fn finish(self) -> Result<Object, DurableError> {
        self.thread
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// Objects of equal rank, one after the other, that are `merged` or large together: each merge makes an
/// object that many times as long, so that few are read at a restart and no byte is copied often. What
/// is large already stays as it is, or ever longer copies would be made beside the commits.
fn due(journal: &[Object], merged: usize) -> Option<Range<usize>> {
    let is_small = |object: &Object| object.bytes < LARGE;
    let mut from = 0;
    for run in journal.chunk_by(|a, b| rank(a) == rank(b) && is_small(a) && is_small(b)) {
        let mut bytes = 0;
        for (count, object) in (1..).zip(run) {
            bytes += object.bytes;
            if count >= merged || count > 1 && bytes >= LARGE {
                return Some(from..from + count);
            }
        }
        from += run.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(sizes: &[(usize, u64)]) -> Vec<Object> {
        let object = |(rank, bytes): &(usize, u64)| Object {
            name: format!("journal/1-1{}.journal", "+".repeat(*rank)),
            bytes: *bytes,
            rows: 1,
            digest: String::new(),
        };
        sizes.iter().map(object).collect()
    }

    #[test]
    fn few_small_objects_stay() {
        assert_eq!(due(&journal(&[]), 3), None);
        assert_eq!(due(&journal(&[(1, 9), (1, 9), (0, 9), (0, 9)]), 3), None);
        assert_eq!(due(&journal(&[(0, 9), (0, LARGE), (0, 9)]), 3), None);
    }

    #[test]
    fn many_or_large_ones_of_one_rank_are_merged() {
        let ranks = journal(&[(1, 9), (0, 9), (0, 9), (0, 9), (0, 9)]);
        assert_eq!(due(&ranks, 3), Some(1..4));
        let above = journal(&[(2, 9), (1, 9), (1, 9), (1, 9), (0, 9)]);
        assert_eq!(due(&above, 3), Some(1..4));
        let large = journal(&[(0, LARGE), (0, LARGE / 2), (0, LARGE / 2), (0, 9)]);
        assert_eq!(due(&large, 3), Some(1..3));
    }
}
