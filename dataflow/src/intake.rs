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
mod bundle;
mod commands;
mod discard;
mod files;
mod kept;
mod messages;
mod record;
mod reference;
mod suspended;
mod turn;
mod warned;

pub use bundle::{Bundle, Channel, EpochHead, Feed, channels};
pub use files::FileList;
pub(crate) use files::open_gates;
pub(crate) use kept::{KeptRecords, NotTold};
pub use kept::{RuleTold, TableTold};
pub(crate) use record::parts;
pub use record::{Fields, Mediation, RawRecord, find_record};
pub use reference::ReferenceFeeds;
pub use suspended::Suspended;
pub use warned::Warned;

use crate::check::check;
use crate::crash::{Crashes, Subject};
use crate::durable::{
    Applied, Closed, DurableError, Facts, FileRecord, Journal, Known, Manifest, Point, Restored,
    generation_of,
};
use crate::interrupt::is_asked_to_end;
use crate::job::{Job, SourcePlan};
use crate::listener::{ChangeReport, Listener, PendingChange};
use crate::metrics::Metrics;
use crate::present::{Present, Witness, machine};
use crate::watch::{FileWatch, Saved};
use archived::Archived;
use files::{Begin, Files, Opened, RawFolder, SourceFile, TakeBack};
use messages::{Desk, Messages};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::kafka::KafkaError;
use millrace_connectors::lines::{FileLines, LineMap};
use millrace_connectors::mediate::{Mediated, MediationPlan};
use millrace_connectors::names::Names;
use millrace_connectors::output::LedgerRow;
use millrace_connectors::reference::{Reference, ReferenceChanges, ReferenceFiles};
use millrace_connectors::store::{Store, StoreError};
use millrace_operators::domain::{Discard, EventTime, Fate, FileId, Reason, RecordId};
use millrace_operators::epoch::Epoch;
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use turn::Turn;

/// What the intake needs from the run.
pub struct Setting {
    /// The job.
    pub job: Job,
    /// The name book.
    pub names: Arc<Names>,
    /// Rules, one per source.
    pub rules: Vec<Arc<MediationPlan>>,
    /// Reference files.
    pub reference_files: ReferenceFiles,
    /// Topics beside them, read to their end.
    pub reference_feeds: Option<ReferenceFeeds>,
    /// Reference data in force at the start; of files alone, where there are topics.
    pub reference: Reference,
    /// What was said of the job, its rules and its reference data.
    pub warned: Warned,
    /// Where raw records are kept.
    pub archive: Arc<Store>,
    /// Names of the files, for outputs.
    pub file_names: FileList,
    /// The lines of their records, likewise.
    pub file_lines: FileLines,
    /// Who hears of files and of changes.
    pub listener: Arc<dyn Listener>,
    /// The job's numbers.
    pub metrics: Arc<Metrics>,
    /// Changes on their way through the dataflow.
    pub pending: Arc<Mutex<BTreeMap<Epoch, PendingChange>>>,
    /// Saved files, when the job watches.
    pub saved: Option<Receiver<Saved>>,
    /// Who tells of them.
    pub watch: Option<FileWatch>,
    /// Set when the run has failed elsewhere.
    pub failed: Arc<AtomicBool>,
    /// The first epoch that is not bound yet, for whoever wants to know whether all is done.
    pub bound: Arc<AtomicU64>,
    /// Whether an output wants each ignored record.
    pub wants_ignored: bool,
    /// What an earlier run took in.
    pub restored: Option<Restored>,
    /// What is done once that is loaded, before anything is written.
    pub loaded: Box<dyn Fn() -> Result<(), StoreError> + Send>,
    /// Where epochs are made durable.
    pub keeping: Option<Keeping>,
    /// What is suspended, for commands.
    pub suspended: Option<Suspended>,
    /// What is closed, and what is due of it.
    pub closed: Arc<Closed>,
    /// Whether the sources are read, or only what an earlier run took in.
    pub reads: bool,
    /// Whether the run closes bill units at its end.
    pub closes: bool,
}

/// The last epochs of commits that have begun, until their outputs are staged.
pub type Points = Arc<Mutex<VecDeque<Epoch>>>;

/// How epochs are made durable.
pub struct Keeping {
    /// What the names of the run have in them.
    pub tag: String,
    /// Where commits begin.
    pub points: SyncSender<Point>,
    /// For the publisher: after which epochs to stage its outputs.
    pub begun: Points,
    /// How often.
    pub interval: Duration,
    /// Where operators tell commands.
    pub state: Arc<Store>,
    /// Which files runs crashed at, where that can be told.
    pub crashes: Option<Crashes>,
}

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

/// Why the intake ends early.
#[derive(Debug)]
enum Halt {
    /// The workers are gone: the run has failed elsewhere.
    Gone,
    /// What an earlier run took in cannot be loaded.
    Durable(DurableError),
    /// A source cannot be read, in words.
    Source(String),
    /// The reference data does not hold.
    Reference(Vec<Diagnostic>),
}

impl From<KafkaError> for Halt {
    fn from(error: KafkaError) -> Self {
        Self::Source(error.to_string())
    }
}

/// Why the intake could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// What an earlier run took in cannot be loaded.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// A source cannot be read.
    #[error("{0}")]
    Source(String),
    /// The reference data does not hold.
    #[error("the reference data does not hold")]
    Reference(Vec<Diagnostic>),
}

/// What the intake leaves behind.
#[derive(Debug)]
pub struct TakenIn {
    /// The ledger of files.
    pub ledger: Vec<LedgerRow>,
    /// What could not be read of the sources.
    pub unread: Vec<String>,
    /// The reference data in force.
    pub reference: Reference,
    /// What keeps messages of reference data from being in force.
    pub held: Vec<Diagnostic>,
    /// What was said of the configuration in force, and of what is not for its faults.
    pub warned: Warned,
    /// Records that operators have taken out of suspense.
    pub discarded: RoaringTreemap,
    /// Archived records that came back since state was forgotten.
    pub reopened: RoaringTreemap,
    /// What bears witness to the present.
    pub witness: Witness,
}

impl From<DurableError> for Halt {
    fn from(error: DurableError) -> Self {
        Self::Durable(error)
    }
}

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

    /// Notes the sources whose records may be corrected.
    fn mark(&mut self) {
        let sources = self.setting.job.sources.iter().zip(&self.setting.rules);
        let correctable = sources.filter(|(_, rule)| rule.decides());
        let origins = correctable.map(|(source, _)| source.origin().to_owned());
        self.marked.extend(origins);
    }

    /// Whether the records of a source are held whole.
    fn is_marked(&self, source: usize) -> bool {
        let source = self.setting.job.sources.get(source);
        source.is_some_and(|source| self.marked.contains(source.origin()))
    }

    /// By which instant bill units close.
    fn present(&self) -> Present {
        self.witness.present(self.setting.job.clock, machine())
    }

    /// What is to be said of the machine's clock.
    fn doubts(&self) -> Option<Diagnostic> {
        let closes = self.setting.closes;
        closes.then(|| self.witness.doubt(&self.setting.job, machine()))?
    }

    /// Tells that the machine's clock is not to be believed, once.
    fn doubt(&mut self) {
        if self.doubted {
            return;
        }
        if let Some(finding) = self.doubts() {
            self.doubted = true;
            self.setting.listener.warned(&[finding]);
        }
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

    /// Moves the graph's clock. Cycles begin and end at midnights of the tenant, so the clock moves
    /// with the tenant's date.
    fn tell_time(&mut self) {
        let now = || {
            let now = jiff::Timestamp::now().to_zoned(self.setting.job.zone.clone());
            let midnight = now
                .start_of_day()
                .map_or(now.timestamp(), |day| day.timestamp());
            EventTime::from(midnight)
        };
        let now = self.setting.job.clock.unwrap_or_else(now);
        if self.clock != Some(now) {
            let before = self.clock.replace(now).map(|before| (before, -1));
            self.bundle.clock = before.into_iter().chain([(now, 1)]).collect();
        }
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

    /// Enters new files of all sources.
    fn discover(&mut self) -> Result<(), Halt> {
        let mut messages = Vec::new();
        let sources = self.setting.job.sources.iter().enumerate();
        for (index, source) in sources.filter(|(_, source)| source.kafka.is_none()) {
            messages.extend(self.files.discover(index, source, &self.setting.job.folder));
        }
        self.looked = Instant::now();
        self.setting.metrics.files_read(self.files.read_of(None));
        self.name_files();
        self.advise(messages)
    }

    /// Tells what is wrong with files, unless another run has taken over: it may have moved them, and that it
    /// has is then all there is to say.
    fn advise(&self, messages: impl IntoIterator<Item = String>) -> Result<(), Halt> {
        let mut messages = messages.into_iter().peekable();
        if let (Some(Keeping { state, tag, .. }), Some(_)) =
            (&self.setting.keeping, messages.peek())
        {
            // Where the state cannot be looked at, the committer will say so.
            let newest = Manifest::newest(state).ok().flatten();
            let theirs = newest.map_or(0, |newest| newest.generation);
            let ours = generation_of(tag).unwrap_or(theirs);
            if theirs > ours {
                return Err(DurableError::Superseded { ours, theirs }.into());
            }
        }
        messages.for_each(|message| self.setting.listener.message(&message));
        Ok(())
    }

    /// Says which lines the records read so far stand on.
    fn tell_lines(&self, id: FileId) {
        let Some(entry) = self.files.entry(id) else {
            return;
        };
        self.tell_lines_of(id, &entry.lines);
    }

    /// Says which lines the records of a file stand on, as far as nothing better is known.
    fn tell_lines_of(&self, id: FileId, known: &LineMap) {
        let lines = self.setting.file_lines.read();
        let lines = lines.expect("the lines of files are not poisoned");
        let more = known.reaches_behind(lines.get(&id).unwrap_or(&LineMap::default()));
        drop(lines);
        if more {
            let lines = self.setting.file_lines.write();
            let mut lines = lines.expect("the lines of files are not poisoned");
            lines.insert(id, known.clone());
        }
    }

    /// Says how a file that an earlier run has met is called, and which lines its records stand on:
    /// before they are fed, because messages of them may be made again.
    fn meet(&self, file: &FileRecord) {
        let entry = &file.entry;
        let names = self.setting.file_names.write();
        let mut names = names.expect("the list of files is not poisoned");
        let place = usize::try_from(entry.file.0).unwrap_or(usize::MAX);
        if names.len() <= place {
            names.resize(place.saturating_add(1), Arc::from(""));
        }
        names[place] = Arc::from(entry.name.as_str());
        drop(names);
        self.tell_lines_of(entry.file, &entry.lines);
    }

    fn name_files(&self) {
        let names = self.setting.file_names.write();
        let mut names = names.expect("the list of files is not poisoned");
        // A name stays with its number.
        if names.len() != self.files.entries().len() {
            *names = self.files.names();
        }
    }

    /// Reads the files that wait, epoch by epoch.
    fn read_all(&mut self) -> Result<(), Halt> {
        // Where the next run reads on, this one need not read all.
        while !(self.setting.keeping.is_some() && is_asked_to_end()) {
            if self.reading.is_none() {
                let Some(opened) = self.open_next()? else {
                    break;
                };
                self.reading = Some(opened);
            }
            self.read_chunk()?;
            if self.bundle.rows >= self.setting.job.epoch_rows {
                self.bind()?;
            }
        }
        // The last epoch of the first reading lets the publisher tell the bill; where there is none left,
        // an empty one does.
        let Setting {
            metrics,
            saved,
            keeping,
            bound,
            ..
        } = &self.setting;
        let tells = !metrics.is_all_read() && saved.is_some() && keeping.is_none();
        if self.bundle.is_empty() && !tells {
            metrics.all_read();
            return Ok(());
        }
        // First, so that no epoch before this one is taken for the last.
        bound.store(self.epoch + 1, Ordering::Relaxed);
        metrics.all_read();
        self.bind()
    }

    /// Opens the next file that can be opened.
    fn open_next(&mut self) -> Result<Option<Opened>, Halt> {
        while let Some(file) = self.next_file() {
            if let Some(message) = self.reads(&file) {
                let failed = self.files.failed(file.id, message);
                self.advise(failed)?;
                continue;
            }
            let rule = Arc::clone(&self.setting.rules[file.source]);
            let begun = self.go_on(&file);
            let source = &self.setting.job.sources[file.source];
            let opened = match begun {
                Ok(true) => {
                    let rows = self.setting.job.epoch_rows;
                    self.files.open(&file, source, &rule, rows)
                }
                Ok(false) => {
                    self.reads_none();
                    continue;
                }
                Err(message) => Err(message),
            };
            match opened {
                Ok(opened) => {
                    self.files.begun(&opened);
                    return Ok(Some(opened));
                }
                Err(message) => {
                    let failed = self.files.failed(file.id, message);
                    let bundle = &mut self.bundle;
                    let healed = self.files.heal_by_known(file.id, source, bundle);
                    self.reads_none();
                    self.advise(healed.or(failed))?;
                }
            }
        }
        Ok(None)
    }

    fn crashes(&mut self) -> Option<&mut Crashes> {
        self.setting.keeping.as_mut()?.crashes.as_mut()
    }

    /// Says that a file is being read from now on; why not, where run after run crashed at it.
    fn reads(&mut self, file: &SourceFile) -> Option<String> {
        let entry = self.files.entry(file.id)?;
        let subject = Subject {
            source: entry.source.clone(),
            name: entry.name.clone(),
            checksum: entry.checksum.clone(),
        };
        let crashes = self.crashes()?;
        if crashes.blame(&subject) {
            let (name, job) = (&subject.name, self.setting.job.path.display());
            return Some(format!(
                "{name:?} is passed over: three runs in a row crashed while they read it; `millrace retry \
                 {job} --file {name:?}` has it read again"
            ));
        }
        crashes.reads(Some(&subject));
        None
    }

    fn reads_none(&mut self) {
        if let Some(crashes) = self.crashes() {
            crashes.reads(None);
        }
    }

    fn next_file(&mut self) -> Option<SourceFile> {
        let sources = &self.setting.job.sources;
        let paused = |source: usize| self.paused.contains(&sources[source].name);
        self.files.next(paused)
    }

    /// Prepares a file to be read on, if any of it was read before; says whether it is read now.
    fn go_on(&mut self, file: &SourceFile) -> Result<bool, String> {
        let Setting {
            job,
            rules,
            closed,
            listener,
            wants_ignored,
            ..
        } = &self.setting;
        let archived = self.archived.as_ref();
        let beside = |record| archived.is_some_and(|archived| archived.told(record));
        let back = TakeBack {
            bundle: &mut self.bundle,
            wants_ignored: *wants_ignored,
            known: &|record| !closed.has(record) && !beside(record),
        };
        let (source, rule) = (&job.sources[file.source], &rules[file.source]);
        let (messages, reads) = match self.files.go_on(file, source, rule, back)? {
            Begin::Read(messages) => (messages, true),
            Begin::Refused(messages) => (messages, false),
        };
        messages
            .iter()
            .for_each(|message| listener.message(message));
        Ok(reads)
    }

    fn read_chunk(&mut self) -> Result<(), Halt> {
        let Some(opened) = &mut self.reading else {
            return Ok(());
        };
        let chunk = opened.decoder.next_chunk();
        self.setting
            .metrics
            .files_read(self.files.read_of(Some(opened.id)));
        let Some(chunk) = chunk else {
            let Some(opened) = self.reading.take() else {
                return Ok(());
            };
            self.reads_none();
            let gone = opened
                .counted
                .saturating_sub(opened.received.max(opened.skip));
            if gone > 0 {
                self.bundle.ignore(opened.id, gone);
            }
            let id = opened.id;
            let missing = self.void_missing(&opened)?;
            self.warn_of_unmet(id, opened.decoder.unmet(), opened.chooses);
            let finished = self.files.finish(opened);
            self.tell_lines(id);
            let source = self.files.source_of(id);
            let healed = source.and_then(|source| {
                let source = &self.setting.job.sources[source];
                self.files.heal_by_known(id, source, &mut self.bundle)
            });
            return self.advise(missing.into_iter().chain(healed.or(finished)));
        };
        self.mediated.clear();
        opened.number_lines(&chunk);
        let before = opened.received;
        opened.received += chunk.received;
        let unused = opened.archive.is_none() && opened.replaces.is_none() && opened.chooses;
        if opened.received < opened.skip && unused {
            return Ok(());
        }
        opened
            .mediator
            .mediate(&chunk, opened.id, &mut self.mediated);
        opened.chooses |= self.mediated.chooses();
        if let Some(archive) = &mut opened.archive
            && let Err(error) = archive.write(&chunk, &self.mediated.usage)
        {
            self.setting
                .listener
                .message(&format!("raw records are not kept: {error}"));
            opened.archive = None;
        }
        if let Some(fault) = &mut self.mediated.file_fault {
            let source = self.files.source_of(opened.id);
            if let Some(source) = source {
                let (source, rule) = (
                    &self.setting.job.sources[source],
                    &self.setting.rules[source],
                );
                let advice = self.files.advice(fault, source, rule);
                fault.detail = format!("{}; {advice}", fault.detail);
            }
            opened.broken = Some(fault.clone());
        }
        opened.faults += self.mediated.faults.len();
        if before < opened.skip.max(opened.counted) {
            let left = opened.received.saturating_sub(before.max(opened.counted));
            self.mediated.skip_to(opened.skip, left);
        }
        if opened.skip > opened.received {
            // It was told before.
            self.mediated.file_fault = None;
        }
        if let Some(archived) = &mut self.archived {
            archived.tell(&mut self.mediated, &mut self.bundle)?;
        }
        let id = opened.id;
        let unreadable = self.mediated.faults.iter();
        let unreadable = unreadable.filter(|fault| fault.reason == Reason::RowUnreadable);
        let unreadable = unreadable.map(|fault| fault.record.row()).max();
        opened.unreadable = opened.unreadable.max(unreadable);
        self.bundle
            .add(&mut self.mediated, id, self.setting.wants_ignored);
        Ok(())
    }

    /// Takes out what a file that came in place of another has no more, where its source says so; returns
    /// what a person should hear.
    fn void_missing(&mut self, opened: &Opened) -> Result<Option<String>, Halt> {
        let source = self.files.source_of(opened.id);
        let source = source.map(|source| &self.setting.job.sources[source]);
        let Some(replaces) = opened
            .replaces
            .filter(|_| source.is_some_and(|source| source.voids_missing))
        else {
            return Ok(None);
        };
        if opened.broken.is_some() || opened.faults > 0 {
            let name = self
                .files
                .file(opened.id)
                .map(|file| file.meta.name.as_str());
            let name = name.unwrap_or_default();
            return Ok(Some(format!(
                "{name:?} has records that cannot be read, so none that it had before is taken out; send it once more when they are mended"
            )));
        }
        self.bundle.replaced.push(((replaces, opened.id), 1));
        let before: BTreeSet<FileId> = std::iter::successors(Some(replaces), |file| {
            self.files.entry(*file).and_then(|entry| entry.replaces)
        })
        .collect();
        if let Some(archived) = &mut self.archived {
            archived.reopen_files(&before, &mut self.bundle)?;
        }
        Ok(None)
    }

    /// Sends the bundle as the next epoch, split over the workers.
    fn bind(&mut self) -> Result<(), Halt> {
        self.bind_and(self.is_due())
    }

    fn is_due(&self) -> bool {
        let keeping = self.setting.keeping.as_ref();
        keeping.is_some_and(|keeping| self.kept.elapsed() >= keeping.interval)
    }

    /// Begins a commit of everything that is bound and not durable yet.
    fn keep_all(&mut self) -> Result<(), Halt> {
        if self.setting.keeping.is_some() && !self.journal.is_empty() {
            self.bind_and(true)?;
        }
        Ok(())
    }

    fn bind_and(&mut self, keep: bool) -> Result<(), Halt> {
        if let Some(opened) = &self.reading {
            // The records of this epoch are told by their lines, wherever it ends.
            self.tell_lines_of(opened.id, &opened.lines);
        }
        // A file that amends another is entered when it is read, not when it is found.
        self.name_files();
        let bundle = std::mem::take(&mut self.bundle);
        if self.setting.closes {
            let comes = bundle.usage().iter().filter(|(_, diff)| *diff > 0);
            self.witness.see(comes.map(|(usage, _)| usage.time));
        }
        for (file, records) in &bundle.received {
            *self.received.entry(*file).or_default() += records;
        }
        self.setting.metrics.epoch_bound(self.epoch);
        if let Some(keeping) = &self.setting.keeping {
            self.journal.enter(self.epoch, &bundle);
            if keep {
                // Before any worker can complete the epoch.
                let mut begun = keeping.begun.lock();
                let begun = begun.as_mut().expect("points are not poisoned");
                begun.push_back(self.epoch);
            }
        }
        for (part, channel) in bundle
            .split(self.epoch, self.channels.len())
            .zip(&self.channels)
        {
            channel.send(part).map_err(|_| Halt::Gone)?;
        }
        self.epoch += 1;
        self.setting.bound.store(self.epoch, Ordering::Relaxed);
        if keep { self.keep() } else { Ok(()) }
    }

    /// Hands what was bound since the last commit to the committer; waits while others wait.
    fn keep(&mut self) -> Result<(), Halt> {
        let Some(keeping) = &self.setting.keeping else {
            return Ok(());
        };
        // What was read at the offsets of other topics never happened.
        self.topics.iter().try_for_each(Messages::is_same)?;
        if let Some(opened) = &mut self.reading {
            self.files.note(opened);
        }
        self.witness = self.witness.committed(self.setting.job.clock, machine());
        // What waits to be read on stays where it was.
        let mut positions = self.files.positions().clone();
        positions.extend(&self.positions);
        let reading = self.reading.as_ref();
        positions.extend(reading.map(|opened| (opened.id, opened.position())));
        let point = Point {
            epoch: self.epoch - 1,
            journal: std::mem::take(&mut self.journal),
            raw: self.files.take_raw(),
            facts: Facts {
                names: self.setting.names.entered(),
                files: self.files.changed(&self.setting.job.sources),
                positions: positions
                    .into_iter()
                    .map(|(id, next)| {
                        (id, self.files.position(id, next, &self.setting.job.sources))
                    })
                    .collect(),
                paused: self.paused_origins(),
                marked: self.marked.clone(),
                commands: self.applied.clone(),
                held: self.setting.reference_files.held(),
                forgotten: self.forgotten,
                raw: self.files.take_raw_digests(),
                witness: self.witness,
                stays: self.files.take_stays(),
            },
            inputs: self.files.take_inputs(),
        };
        self.kept = Instant::now();
        keeping.points.send(point).map_err(|_| Halt::Gone)
    }

    /// Applies what saved files and messages of reference data change, as one epoch.
    fn changed(&mut self, saved: &Saved, noticed: Instant) -> Result<(), Halt> {
        let came = self.poll_reference()?;
        if saved.is_empty() && !came {
            return self.look();
        }
        self.tell_of_job(saved);
        let mut report = ChangeReport::default();
        let held = self.held.clone();
        let files = self.setting.reference_files.files();
        let touched = saved.iter().any(|path| files.contains(path));
        let rules = self.rules_touched(saved);
        if rules && self.bundle.rows > 0 {
            // A record and what takes it back are of two epochs.
            self.bind()?;
        }
        // Reference data is held against the names of the rules: what waited for a rule may be right now,
        // and what was right may name nothing any more.
        let renamed = rules && self.reload_rules(&mut report)?;
        if touched || came || renamed {
            self.reload_reference(touched || renamed, &mut report);
        }
        self.discover()?;
        if self.bundle.is_empty() {
            // Which messages are held back is part of what is kept.
            let kept = self.setting.keeping.is_some() && held != self.held;
            return if kept { self.bind_and(true) } else { Ok(()) };
        }
        let pending = PendingChange { report, noticed };
        let mut waiting = self
            .setting
            .pending
            .lock()
            .expect("pending changes are not poisoned");
        waiting.insert(self.epoch, pending);
        drop(waiting);
        self.setting.metrics.reference_changed();
        self.bind()
    }

    /// Says once of each change of the job file that it is not in force yet.
    fn tell_of_job(&mut self, saved: &Saved) {
        let job = &self.setting.job;
        if !saved.contains(&job.path) {
            return;
        }
        // An editor may have it away for the moment.
        let found = std::fs::read_to_string(&job.path).ok();
        let Some(text) = found.filter(|text| **text != *self.job_text) else {
            return;
        };
        let file = job.path.display();
        let message = match *text == *job.text {
            true => format!("{file} is again what the job runs by"),
            false => format!(
                "{file} has changed; the job goes on as it began, and applies it at its next start"
            ),
        };
        self.setting.listener.message(&message);
        self.job_text = Arc::from(text);
    }

    /// Reads the files again, where one was saved, and puts messages in force.
    fn reload_reference(&mut self, files: bool, report: &mut ChangeReport) {
        self.messages_came = false;
        let loading = SystemTime::now();
        let reference_files = &mut self.setting.reference_files;
        let loaded = match files {
            true => reference_files.load(),
            false => reference_files.settle(),
        };
        match loaded {
            Ok(loaded) => {
                let changes = ReferenceChanges::between(&self.setting.reference, &loaded.reference);
                report.rows += changes.len();
                report.prices = changes.price_changes(&self.setting.names);
                report.plans = changes.plan_changes(&self.setting.names);
                self.setting.reference = loaded.reference;
                self.bundle.reference = changes;
                self.learn();
                self.warn_of_reference(loaded.warnings);
                self.hold(loaded.held);
            }
            Err(findings) => self.reject_reference(findings),
        }
        // The catalog may name other tables than before.
        let followed = self.setting.watch.as_mut();
        let files = self.setting.reference_files.files();
        if let Some(Err(error)) = followed.map(|watch| watch.follow(files, loading)) {
            self.setting.listener.message(&error.to_string());
        }
    }

    fn rules_touched(&self, saved: &Saved) -> bool {
        saved
            .iter()
            .any(|path| self.setting.job.rule_files().contains(path))
    }

    /// What keeps rules from being in force: a folder's columns are only known from its files, and those of
    /// messages may be from a registry, so a rule that compiles may still not suit them. A file that cannot be
    /// read again at all speaks against no rule.
    fn unsuitable(&self, rules: &[Arc<MediationPlan>]) -> Vec<Diagnostic> {
        let mut findings = Vec::new();
        for file in self.files.read_files() {
            let source = &self.setting.job.sources[file.source];
            let open = |rules: &[Arc<MediationPlan>]| {
                self.files.open_again(&file, source, &rules[file.source])
            };
            if let Err(message) = open(rules)
                && open(&self.setting.rules).is_ok()
            {
                let path = self.setting.job.rule_path(source);
                findings.push(Diagnostic::error(
                    &path.display().to_string(),
                    (0, 0),
                    message,
                ));
            }
        }
        for messages in &self.topics {
            let source = &self.setting.job.sources[messages.source];
            if let Err(message) = messages.suits(source, &rules[messages.source]) {
                let path = self.setting.job.rule_path(source).display().to_string();
                findings.push(Diagnostic::error(&path, (0, 0), message));
            }
        }
        findings
    }

    /// What is wrong with rules by which other records of an identity hold: in state that is kept, records
    /// stand as the rules before have marked them.
    fn other_precedence(&self, rules: &[Arc<MediationPlan>]) -> Vec<Diagnostic> {
        if self.setting.keeping.is_none() {
            return Vec::new();
        }
        let sources = self.setting.job.sources.iter();
        let rules = sources.zip(self.setting.rules.iter().zip(rules));
        let differs = rules.filter(|(_, (old, new))| old.precedence() != new.precedence());
        let finding = |(source, (old, new)): (
            &SourcePlan,
            (&Arc<MediationPlan>, &Arc<MediationPlan>),
        )| {
            let path = self.setting.job.rule_path(source);
            let message = format!(
                "the source {:?} has taken in records of which {} holds, not {}",
                source.name,
                old.precedence(),
                new.precedence()
            );
            let hint = "put `keep` and `version` back as they were, or give `durability.folder` an empty \
                        folder to read all sources from their beginning";
            Diagnostic::error(&path.display().to_string(), (0, 0), message).with_hint(hint)
        };
        differs.map(finding).collect()
    }

    /// Mediates again what a changed rule or lookup table could alter; whether the rules are in force and
    /// call things otherwise than before.
    fn reload_rules(&mut self, report: &mut ChangeReport) -> Result<bool, Halt> {
        let rules = match self.setting.job.working_rules(&self.setting.names) {
            Ok(rules) => rules,
            Err(findings) => {
                self.reject_rules(findings);
                return Ok(false);
            }
        };
        let mut unsuitable = self.unsuitable(&rules.plans);
        unsuitable.extend(self.other_precedence(&rules.plans));
        if !unsuitable.is_empty() {
            self.reject_rules(unsuitable);
            return Ok(false);
        }
        self.warn_of_rules(rules.warnings);
        let renamed = self.setting.reference_files.know(rules.vocabulary);
        let left = self.files.behind(&self.positions).into_iter();
        let left = left.map(|behind| behind.id).collect();
        let old = std::mem::replace(&mut self.setting.rules, rules.plans);
        self.mark();
        self.files
            .mediate_by(&self.setting.job.sources, &self.setting.rules);
        if self.setting.keeping.is_some() {
            self.files
                .keep_inputs(&self.setting.job.sources, &self.setting.rules);
        }
        self.files.try_again();
        self.mediate_again(&old, &left, report)?;
        for messages in &mut self.topics {
            let source = &self.setting.job.sources[messages.source];
            messages.mediate_by(source, &self.setting.rules[messages.source])?;
        }
        Ok(renamed)
    }
}

/// Adds one to the count of a fate.
fn count(fates: &mut BTreeMap<(FileId, Fate), isize>, file: FileId, fate: Fate, diff: isize) {
    *fates.entry((file, fate)).or_default() += diff;
}
