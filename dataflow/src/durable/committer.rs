//! The committer: one thread that makes state durable, commits, and puts outputs in their places.
//!
//! For each commit, in order: pack the journal; wait until the outputs of its epochs are staged; write
//! the journal object; create the manifest; publish; take away what no manifest needs. A commit begins
//! when the one before it is published, so only the newest manifest can have outputs that still wait.

use super::forget::CLOSED;
use super::journal::{Facts, Journal, close};
use super::manifest::{Generation, Manifest, Object, Staged};
use super::{DurableError, MessageSink, Restored};
use crate::outputs::Part;
use crate::publish::LineChange;
use millrace_connectors::store::Store;
use millrace_operators::epoch::Epoch;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

/// Commits that may wait.
const WAITING: usize = 2;
/// How often an idle run looks whether another has taken over.
const LOOK: Duration = Duration::from_secs(1);
/// Objects that are merged into one: a restart reads few, and each byte is merged seldom.
const MERGED: usize = 64;

/// A commit, from the intake.
pub struct Point {
    /// The last epoch of it.
    pub epoch: Epoch,
    /// What those epochs brought.
    pub journal: Journal,
    /// What is new besides.
    pub facts: Facts,
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
    /// What those epochs changed in billing lines.
    pub lines: Vec<LineChange>,
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
    /// Where messages are published.
    sink: Option<MessageSink>,
    /// Told of each commit.
    committed: Box<dyn Fn(&Manifest) + Send>,
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
            sink,
            committed,
        };
        let ends = Ends {
            points: point_sender,
            flushed: flush_sender,
        };
        (committer, ends)
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
        self.publish()?;
        for name in self.outputs.names(STAGE)? {
            self.outputs.remove(&format!("{STAGE}/{name}"))?;
        }
        let manifest = &self.generation.manifest;
        let objects = || manifest.journal.iter().chain(&manifest.closed);
        let held = |name: &str| objects().any(|object| object.name == name);
        for folder in [JOURNAL, CLOSED] {
            for name in self.state.names(folder)? {
                let name = format!("{folder}/{name}");
                if !held(&name) {
                    self.state.remove(&name)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the messages of the newest commit are made again, in case they were not published.
    #[must_use]
    pub fn makes_again(&self) -> bool {
        self.sink.is_some() && self.generation.manifest.live > 0
    }

    fn publish_messages(&mut self, flushed: &Flushed) -> Result<(), DurableError> {
        let sink = self.sink.as_mut();
        sink.map_or(Ok(()), |sink| {
            sink.publish(flushed.epoch, &flushed.messages)
        })
    }

    /// Commits until the intake has ended.
    ///
    /// # Errors
    /// When a store fails, or another run has taken over.
    pub fn run(mut self) -> Result<Generation, DurableError> {
        if self.makes_again() {
            let flushed = self.flushed.recv().map_err(|_| DurableError::Ended)?;
            self.publish_messages(&flushed)?;
        }
        loop {
            match self.points.recv_timeout(LOOK) {
                Ok(point) => self.commit(point)?,
                Err(RecvTimeoutError::Timeout) => self.generation.check(&self.state)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(self.generation),
            }
        }
    }

    /// Makes what a commit brought durable, and publishes it.
    ///
    /// # Errors
    /// When a store fails, or another run has taken over.
    ///
    /// # Panics
    /// When the outputs that wait are of another commit.
    pub fn commit(&mut self, point: Point) -> Result<(), DurableError> {
        let before = &self.generation.manifest;
        // Packing takes longest, and needs nothing of the epochs that the workers are still at.
        let (mut content, rows) = point.journal.pack(&point.facts);
        let flushed = self.flushed.recv().map_err(|_| DurableError::Ended)?;
        close(&mut content, &flushed.lines);
        let commit = before.commit + 1;
        let object = self.write(commit, &content, rows)?;
        assert_eq!(
            flushed.epoch, point.epoch,
            "outputs are staged commit by commit"
        );
        let mut journal = before.journal.clone();
        journal.push(object);
        let merged = self.merge(commit, &mut journal)?;
        let next = Manifest {
            live: point.epoch + 1,
            positions: point.facts.positions,
            paused: point.facts.paused,
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
            outputs: flushed.outputs.clone(),
            from: before.live,
            ..before.clone()
        };
        self.generation.commit(&self.state, next)?;
        self.publish()?;
        self.publish_messages(&flushed)?;
        (self.committed)(&self.generation.manifest);
        merged.iter().try_for_each(|name| self.state.remove(name))?;
        Ok(())
    }

    fn write(&self, commit: u64, content: &[u8], rows: u64) -> Result<Object, DurableError> {
        let generation = self.generation.number;
        let name = format!("{JOURNAL}/{commit:020}-{generation}.journal");
        let object = Object::of(name, content, rows);
        self.state.put(&object.name, content)?;
        Ok(object)
    }

    /// Writes the last objects of equal rank as one, when there are many; returns the names of those
    /// that are not needed any more. Each merge makes an object at least 64 times as long, so that few
    /// are read at a restart and no byte is copied often.
    fn merge(&self, commit: u64, journal: &mut Vec<Object>) -> Result<Vec<String>, DurableError> {
        let Some(last) = journal.last().map(rank) else {
            return Ok(Vec::new());
        };
        let mut gone = Vec::new();
        let mut of = last;
        loop {
            let run = journal.iter().rev().take_while(|o| rank(o) == of).count();
            if run < MERGED {
                return Ok(gone);
            }
            let from = journal.len() - run;
            let mut content = Vec::new();
            let mut rows = 0;
            for object in &journal[from..] {
                content.extend_from_slice(&object.read(&self.state)?);
                rows += object.rows;
            }
            of += 1;
            let (generation, mark) = (self.generation.number, "+".repeat(of));
            let name = format!("{JOURNAL}/{commit:020}-{generation}{mark}.journal");
            let object = Object::of(name, &content, rows);
            self.state.put(&object.name, &content)?;
            gone.extend(journal.drain(from..).map(|object| object.name));
            journal.push(object);
        }
    }

    /// Puts the outputs of the newest manifest in their places, as far as they are not there.
    fn publish(&self) -> Result<(), DurableError> {
        for output in &self.generation.manifest.outputs {
            self.outputs.rename(&output.staged, &output.place)?;
        }
        Ok(())
    }
}

/// How often an object was merged.
pub(super) fn rank(object: &Object) -> usize {
    object.name.matches('+').count()
}

/// Where outputs wait for their commit, below the output folder.
pub const STAGE: &str = "_staged";
pub(super) const JOURNAL: &str = "journal";
