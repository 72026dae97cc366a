//! The intake: one thread that reads the sources in their order, mediates, and binds what it read to
//! epochs.
//!
//! ```text
//!  files ─► ledger ─► decode ─► raw archive                      ┌─► worker 0
//!                        └────► mediate ─► epoch: N rows ─ split ─┼─► worker 1
//!  reference data, rules ─► difference ──────┘                   └─► …
//! ```
//!
//! - Files are numbered in the order (source, name) in which they are found, rows in the order of
//!   their file: the order of records is the order of arrival, whatever the number of workers and
//!   wherever epochs are cut.
//! - What a changed rule or lookup table touches is mediated again, from the raw archive and from topics, old and
//!   new side by side, and only what differs goes on.
//! - Failure: a file that cannot be opened is entered as failed and the job goes on; one that breaks
//!   off, or is another when it is read on, is entered as incomplete with the rows before. A saved
//!   configuration that does not hold is reported and what was in force stays in force. So does a message
//!   of reference data that cannot be used; its neighbours are.
//! - Bounded: the channel to each worker holds few epochs; a slow worker makes the intake wait.

mod again;
mod archived;
mod behind;
mod bind;
mod change;
mod commands;
mod discard;
mod feeds;
mod files;
mod halt;
mod kept;
mod messages;
mod read;
mod record;
mod reference;
mod returned;
mod setting;
mod suspended;
mod turn;
mod warn;
mod warned;

pub use feeds::ReferenceFeeds;
pub(crate) use files::open_gates;
pub(crate) use kept::{KeptRecords, NotTold};
pub use kept::{RuleTold, TableTold};
pub(crate) use record::parts;
pub use record::{Fields, Mediation, RawRecord, find_record};
pub use suspended::Suspended;
pub use warned::Warned;

use crate::bundle::{Bundle, Channel};
use crate::check::check;
use crate::durable::{Applied, DurableError, FileRecord, Journal, Known};
use crate::interrupt::is_asked_to_end;
use crate::job::SourcePlan;
use crate::present::Witness;
use crate::watch::Saved;
use archived::Archived;
use files::{Files, Opened, RawFolder};
use halt::Halt;
use messages::{Desk, Messages};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::mediate::Mediated;
use millrace_connectors::reference::{Reference, ReferenceChanges};
use millrace_operators::domain::{Discard, EventTime, FileId, RecordId};
use millrace_operators::epoch::Epoch;
pub use setting::{IntakeError, Keeping, Points, Setting, TakenIn};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};
use turn::Turn;

/// See the module.
pub struct Intake {
    setting: Setting,
    channels: Vec<Channel>,
    files: Files,
    /// Topics that are read, once they are open.
    topics: Vec<Messages>,
    reading: Option<Opened>,
    epoch: Epoch,
    bundle: Bundle,
    mediated: Mediated,
    /// The present that the graph was told.
    clock: Option<EventTime>,
    /// What bears witness to the present.
    witness: Witness,
    /// It was told that the machine's clock is not to be believed.
    doubted: bool,
    /// The job was told to end while a change was being gathered.
    ending: bool,
    /// When the run ends to begin again, if it watches and may.
    turn: Option<Turn>,
    /// It ends for that.
    turns: bool,
    /// What was bound since the last commit began, where epochs are made durable.
    journal: Journal,
    /// When the last commit began.
    kept: Instant,
    /// How far partitions were read when the last epoch was bound.
    positions: BTreeMap<FileId, u64>,
    /// Records received, by file and partition.
    received: BTreeMap<FileId, u64>,
    /// Sources that operators have paused.
    paused: BTreeSet<String>,
    /// Sources of which records say what decides between them and others, as the state knows them; all that
    /// ever did, since these records stay.
    marked: BTreeSet<String>,
    /// The commands that were applied.
    applied: Applied,
    /// The number of the last one.
    command: u64,
    /// Commands that cannot be applied, as they are told once.
    passed_over: BTreeSet<String>,
    /// Records that operators have taken out of suspense.
    discards: BTreeMap<RecordId, Discard>,
    /// What was archived and forgotten, where records are read.
    archived: Option<Archived>,
    /// Archived records that the rules of sources would make otherwise, until they are told.
    otherwise: BTreeMap<usize, u64>,
    /// How often state was forgotten, and what was due has been fed.
    forgotten: u64,
    /// What keeps messages of reference data from being in force.
    held: Vec<Diagnostic>,
    /// Messages of reference data have come and are not in force yet.
    messages_came: bool,
    /// When the sources were looked at last.
    looked: Instant,
    /// What stood in the job file when it was told of last.
    job_text: Arc<str>,
}

/// How long an epoch gathers messages that come one by one.
const EPOCH: Duration = Duration::from_millis(100);

impl Intake {
    /// An intake that feeds these workers.
    #[must_use]
    pub fn new(setting: Setting, channels: Vec<Channel>) -> Self {
        let tag = setting.keeping.as_ref().map(|keeping| keeping.tag.clone());
        let raw = RawFolder::of(setting.job.keep_raw, Arc::clone(&setting.archive), tag);
        let mut files = Files::new(raw);
        let watches = setting.saved.is_some();
        if watches || setting.keeping.is_some() {
            files.remember();
        }
        files.mediate_by(&setting.job.sources, &setting.rules);
        if setting.keeping.is_some() {
            files.keep_inputs(&setting.job.sources, &setting.rules);
        }
        Self {
            turn: Turn::of(&setting.job).filter(|_| watches),
            turns: false,
            job_text: Arc::clone(&setting.job.text),
            setting,
            channels,
            files,
            topics: Vec::new(),
            reading: None,
            epoch: 0,
            bundle: Bundle::default(),
            mediated: Mediated::default(),
            clock: None,
            witness: Witness::default(),
            doubted: false,
            ending: false,
            journal: Journal::default(),
            kept: Instant::now(),
            positions: BTreeMap::new(),
            received: BTreeMap::new(),
            paused: BTreeSet::new(),
            marked: BTreeSet::new(),
            applied: Applied::default(),
            command: 0,
            passed_over: BTreeSet::new(),
            discards: BTreeMap::new(),
            archived: None,
            otherwise: BTreeMap::new(),
            forgotten: 0,
            held: Vec::new(),
            messages_came: false,
            looked: Instant::now(),
        }
    }

    /// Loads what an earlier run took in, reads everything there is, and what is saved later while the
    /// job watches. Hands back where it is told what is saved if the job is to begin again.
    ///
    /// # Errors
    /// When what an earlier run took in cannot be loaded, or a topic cannot be read.
    pub fn run(mut self) -> Result<(TakenIn, Option<Receiver<Saved>>), IntakeError> {
        let error = match self.all() {
            // Workers that are gone have reported why.
            Ok(()) | Err(Halt::Gone) => {
                self.doubt();
                let doubt = self.doubts();
                self.setting.warned.job.extend(doubt);
                self.setting.warned.files = self.files.lacking(&self.setting.rules);
                let taken = TakenIn {
                    ledger: self.files.ledger_rows(),
                    unread: self.files.unread(),
                    reference: self.setting.reference,
                    held: self.held,
                    warned: self.setting.warned,
                    discarded: self.discards.keys().map(|record| record.0).collect(),
                    reopened: self.archived.map(Archived::reopened).unwrap_or_default(),
                    witness: self.witness,
                };
                return Ok((taken, self.setting.saved.filter(|_| self.turns)));
            }
            Err(Halt::Durable(error)) => error.into(),
            Err(Halt::Source(message)) => IntakeError::Source(message),
            Err(Halt::Reference(findings)) => IntakeError::Reference(findings),
        };
        self.setting.failed.store(true, Ordering::Relaxed);
        Err(error)
    }

    fn all(&mut self) -> Result<(), Halt> {
        let restored = self.setting.restored.clone();
        let known = self.load()?;
        if !self.setting.reads {
            self.setting.reference = known;
            return Ok(());
        }
        // Everything that could keep the job from reading is known before it writes.
        self.open_topics()?;
        let Setting { job, listener, .. } = &self.setting;
        for message in self.files.place_left(&job.sources, &job.folder) {
            listener.message(&message);
        }
        self.settle_messages()?;
        self.bundle.reference = ReferenceChanges::between(&known, &self.setting.reference);
        self.learn();
        self.tell_time();
        self.bind()?;
        self.settle_due()?;
        if let Some(restored) = &restored {
            self.catch_up(restored)?;
        }
        self.setting.metrics.reference_loaded();
        self.obey()?;
        self.discover()?;
        self.read_all()?;
        if !self.topics.is_empty() {
            self.follow()?;
            return self.move_read(true);
        }
        self.keep_all()?;
        self.move_read(self.setting.saved.is_none())?;
        while let Some(saved) = self.rest()? {
            self.tell_time();
            self.obey()?;
            self.changed(&saved, Instant::now())?;
            self.read_all()?;
            self.keep_all()?;
            self.move_read(false)?;
        }
        self.move_read(true)
    }

    /// Moves files that were read out of their input folders, once everything read so far is durable.
    fn move_read(&mut self, waits: bool) -> Result<(), Halt> {
        let moves = |source: &SourcePlan| source.moves_in.is_some();
        if !self.files.to_move() || !self.setting.job.sources.iter().any(moves) {
            return Ok(());
        }
        while self.setting.keeping.is_some() && self.setting.metrics.read().commit.live < self.epoch
        {
            if self.setting.failed.load(Ordering::Relaxed) {
                return Err(Halt::Gone);
            }
            if !waits {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let Setting { job, listener, .. } = &self.setting;
        for message in self.files.move_read(&job.sources, &job.folder) {
            listener.message(&message);
        }
        Ok(())
    }

    /// Feeds what an earlier run took in; returns the reference rows that the graph holds then.
    fn load(&mut self) -> Result<Reference, Halt> {
        self.mark();
        let Some(restored) = self.setting.restored.take() else {
            return Ok(Reference::default());
        };
        self.marked.extend(restored.manifest.marked.iter().cloned());
        let channels = &self.channels;
        let feed = |parts: Vec<Bundle>| -> Result<(), Halt> {
            for (part, channel) in parts.into_iter().zip(channels) {
                channel.send(part).map_err(|_| Halt::Gone)?;
            }
            Ok(())
        };
        let (names, workers) = (&self.setting.names, channels.len());
        let meet = |file: &FileRecord| self.meet(file);
        let known = restored.load(names, workers, &self.marked, meet, feed)?;
        let Known {
            reference,
            clock,
            files,
            positions,
            received,
            paused,
            commands,
            held,
            discards,
            beside,
            reopened,
            forgotten,
            raw,
            witness,
            stays,
            inputs,
        } = known;
        self.files.know_raw(raw);
        self.files.restore_inputs(inputs, stays);
        self.open_archived(&restored.store, beside, reopened)?;
        let sources = self.setting.job.sources.iter();
        let paused = sources.filter(|source| paused.contains(source.origin()));
        self.paused = paused.map(|source| source.name.clone()).collect();
        (self.applied, self.discards) = (commands, discards);
        (self.forgotten, self.witness) = (forgotten, witness);
        self.received = received;
        self.setting.reference_files.restore(held);
        self.clock = clock;
        self.epoch = restored.live();
        let Setting { job, .. } = &self.setting;
        self.files
            .restore(files, positions, &job.sources, &job.folder)
            .map_err(DurableError::Store)?;
        self.name_files();
        for entry in self.files.entries() {
            self.tell_lines(entry.file);
        }
        (self.setting.loaded)().map_err(DurableError::Store)?;
        Ok(reference)
    }

    fn learn(&mut self) {
        let present = self.present();
        let Setting {
            job,
            reference,
            closed,
            ..
        } = &self.setting;
        if let Some(turn) = &mut self.turn {
            let changed = !self.bundle.reference.is_empty();
            turn.learn(job, (reference, changed), closed, present);
        }
    }

    /// Whether the run ends to begin again. What could not begin again goes on.
    fn is_turn(&mut self) -> bool {
        let present = self.present();
        let Setting {
            closed,
            suspended,
            job,
            ..
        } = &self.setting;
        let archived = self.archived.as_ref();
        let corrects = archived.is_some_and(Archived::corrects);
        let turn = self.turn.as_mut();
        self.turns = turn.is_some_and(|turn| {
            turn.is_due(closed, suspended.as_ref(), corrects, present)
                && !check(&job.path).iter().any(Diagnostic::is_error)
        });
        self.turns
    }

    /// Feeds what follows from the adjustments of closed bill units, once.
    fn settle_due(&mut self) -> Result<(), Halt> {
        let closed = Arc::clone(&self.setting.closed);
        if self.forgotten == closed.number {
            return Ok(());
        }
        self.forgotten = closed.number;
        let mut due = closed.due.clone();
        for usage in &mut due.reopened {
            // Records of such streams are held whole.
            let source = self.files.source_of(usage.record.file());
            if source.is_some_and(|source| self.is_marked(source)) {
                usage.mark.get_or_insert_default();
            }
        }
        self.bundle.take_due(due);
        self.bind_and(true)
    }

    fn pause(&mut self, source: String, pauses: bool) {
        let sources = &self.setting.job.sources;
        let message = if !sources.iter().any(|known| known.name == source) {
            format!("command {}: the job has no source {source:?}", self.command)
        } else if pauses {
            let message = format!("source {source:?} is paused");
            self.paused.insert(source);
            message
        } else {
            self.paused.remove(&source);
            format!("source {source:?} is read on")
        };
        self.setting.listener.message(&message);
    }

    /// The paused sources, as the state knows them.
    fn paused_origins(&self) -> BTreeSet<String> {
        let sources = self.setting.job.sources.iter();
        let paused = sources.filter(|source| self.paused.contains(&source.name));
        paused.map(|source| source.origin().to_owned()).collect()
    }

    fn is_paused(&self, source: usize) -> bool {
        self.paused.contains(&self.setting.job.sources[source].name)
    }

    fn open_topics(&mut self) -> Result<(), Halt> {
        for (index, source) in self.setting.job.sources.iter().enumerate() {
            if let Some(plan) = &source.kafka {
                let rule = &self.setting.rules[index];
                let messages = Messages::open((index, source, plan), rule, &mut self.files)?;
                self.topics.push(messages);
            }
        }
        // What a run commits before it reads says where it begins.
        self.positions = self.topics.iter().flat_map(Messages::positions).collect();
        self.name_files();
        self.warn_of_skipped();
        Ok(())
    }

    /// Reads topics, and beside them files that arrive and what is saved; to where the topics ended when
    /// the run began, or for ever while the job watches.
    fn follow(&mut self) -> Result<(), Halt> {
        const WAIT: Duration = Duration::from_millis(20);
        const LOOK: Duration = Duration::from_secs(1);
        let watches = self.setting.saved.is_some();
        let (mut looked, mut begun) = (Instant::now(), Instant::now());
        while !self.setting.failed.load(Ordering::Relaxed) {
            if !watches && self.setting.keeping.is_some() && is_asked_to_end() {
                break;
            }
            let mut count = 0;
            for messages in &mut self.topics {
                let source = &self.setting.job.sources[messages.source];
                if self.paused.contains(&source.name) {
                    continue;
                }
                if self.bundle.is_empty() {
                    begun = Instant::now();
                }
                let most = self.setting.job.epoch_rows.saturating_sub(self.bundle.rows);
                let mut desk = Desk {
                    bundle: &mut self.bundle,
                    mediated: &mut self.mediated,
                    archived: self.archived.as_mut(),
                    listener: &self.setting.listener,
                    failed: &self.setting.failed,
                    wants_ignored: self.setting.wants_ignored,
                };
                count += messages.read(most.max(1), WAIT, &mut desk)?;
            }
            let extent = self.topics.iter().map(Messages::extent).sum();
            self.setting.metrics.topics_read(extent);
            // Whatever binds the next epoch, it has read up to here.
            self.positions = self.topics.iter().flat_map(Messages::positions).collect();
            let full = self.bundle.rows >= self.setting.job.epoch_rows;
            if full || (!self.bundle.is_empty() && begun.elapsed() >= EPOCH) {
                self.bind()?;
            } else if self.is_due() && self.bundle.is_empty() {
                self.keep_all()?;
            }
            match count {
                0 if self.bundle.is_empty() => {
                    self.doubt();
                    self.setting.metrics.waits();
                }
                _ => self.setting.metrics.works(),
            }
            if count > 0 && looked.elapsed() < LOOK {
                continue;
            }
            if watches {
                if self.ends()? || self.is_turn() {
                    break;
                }
            } else if self.all_read()? {
                break;
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.tell_time();
                self.obey()?;
                self.look()?;
                for messages in &mut self.topics {
                    let source = &self.setting.job.sources[messages.source];
                    let rule = &self.setting.rules[messages.source];
                    messages.refresh(source, rule, &mut self.files)?;
                }
                self.name_files();
                self.warn_of_skipped();
                self.read_all()?;
                self.move_read(false)?;
            }
        }
        self.setting.metrics.works();
        if !self.bundle.is_empty() {
            self.bind()?;
        }
        self.keep_all()
    }

    fn all_read(&self) -> Result<bool, Halt> {
        for messages in &self.topics {
            if !self.is_paused(messages.source) && !messages.ended()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Applies what was saved meanwhile; says whether the job was told to end.
    fn ends(&mut self) -> Result<bool, Halt> {
        let mut saved = Saved::new();
        while let Some(receiver) = &self.setting.saved {
            match receiver.try_recv() {
                Ok(more) if more.is_empty() => return Ok(true),
                Ok(more) => saved.extend(more),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(true),
            }
        }
        self.changed(&saved, Instant::now())?;
        Ok(false)
    }

    /// Waits, and lets nobody count the time as work.
    fn rest(&mut self) -> Result<Option<Saved>, Halt> {
        self.doubt();
        self.setting.metrics.waits();
        let saved = self.wait();
        self.setting.metrics.works();
        saved
    }

    /// Waits for saved files, and for messages of reference data; `None` when there will be none.
    /// Editors save in several steps, and a person may save several files: what comes within a moment is
    /// one change, which a long copy does not put off. Nothing saved for a while is told as such: time has
    /// gone on, or the sources are to be looked at.
    fn wait(&mut self) -> Result<Option<Saved>, Halt> {
        const MOMENT: Duration = Duration::from_millis(15);
        const MOMENTS: Duration = Duration::from_millis(200);
        const LOOK_UP: Duration = Duration::from_millis(200);
        const MESSAGES: Duration = Duration::from_millis(20);
        const WHILE: Duration = Duration::from_secs(60);
        const COMMANDS: Duration = Duration::from_secs(1);
        let obeys = self.setting.keeping.is_some();
        let patience = if obeys { COMMANDS } else { WHILE };
        let follows = self.setting.reference_feeds.is_some();
        let look_up = if follows { MESSAGES } else { LOOK_UP };
        let begun = Instant::now();
        let mut saved = loop {
            let Some(receiver) = self.setting.saved.as_ref().filter(|_| !self.ending) else {
                return Ok(None);
            };
            match receiver.recv_timeout(look_up.min(self.until_look())) {
                // Whoever stops the job says that nothing was saved.
                Ok(saved) if saved.is_empty() => return Ok(None),
                Ok(saved) => break saved,
                Err(RecvTimeoutError::Timeout) if !self.setting.failed.load(Ordering::Relaxed) => {
                    if self.is_turn() {
                        return Ok(None);
                    }
                    let due = begun.elapsed() >= patience || self.until_look().is_zero();
                    if due || self.poll_reference()? {
                        return Ok(Some(Saved::new()));
                    }
                }
                Err(_) => return Ok(None),
            }
        };
        let begun = Instant::now();
        while let Some(receiver) = &self.setting.saved
            && begun.elapsed() < MOMENTS
        {
            match receiver.recv_timeout(MOMENT) {
                Ok(more) if more.is_empty() => {
                    self.ending = true;
                    break;
                }
                Ok(more) => saved.extend(more),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
        Ok(Some(saved))
    }

    /// How long until the sources are looked at, whether the watcher tells of files or not.
    fn until_look(&self) -> Duration {
        let patience = self.files.patience();
        patience.saturating_sub(self.looked.elapsed())
    }

    /// Enters new files when it is time to look.
    fn look(&mut self) -> Result<(), Halt> {
        match self.until_look().is_zero() {
            true => self.discover(),
            false => Ok(()),
        }
    }
}
