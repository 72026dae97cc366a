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
//! - A changed rule, lookup table or file is mediated again from the raw archive, old and new side
//!   by side, and only what differs goes on.
//! - Failure: a file that cannot be opened is entered as failed and the job goes on; one that breaks
//!   off is entered as incomplete with the rows before. A saved configuration that does not hold is
//!   reported and what was in force stays in force.
//! - Bounded: the channel to each worker holds few epochs; a slow worker makes the intake wait.

mod again;
mod bundle;
mod files;
mod record;

pub use bundle::{Bundle, Channel, Feed, channels};
pub use files::FileList;
pub use record::{Fields, Mediation, RawRecord, find_record};

use crate::job::{Job, RuleSource};
use crate::listener::{ChangeReport, Listener, PendingChange};
use crate::metrics::Metrics;
use again::differences;
use files::{Files, Opened};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::mediate::{Mediated, MediationPlan};
use millrace_connectors::names::Names;
use millrace_connectors::output::LedgerRow;
use millrace_connectors::reference::{Reference, ReferenceChanges, ReferenceFiles};
use millrace_connectors::store::Store;
use millrace_operators::domain::{EventTime, Fate, FileId};
use millrace_operators::epoch::Epoch;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Files that were saved, as the watcher tells them.
pub type Saved = BTreeSet<PathBuf>;

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
    /// Reference data in force at the start.
    pub reference: Reference,
    /// Where raw records are kept.
    pub archive: Arc<Store>,
    /// Names of the files, for outputs.
    pub file_names: FileList,
    /// Who hears of files and of changes.
    pub listener: Arc<dyn Listener>,
    /// The job's numbers.
    pub metrics: Arc<Metrics>,
    /// Changes on their way through the dataflow.
    pub pending: Arc<Mutex<BTreeMap<Epoch, PendingChange>>>,
    /// Saved files, when the job watches.
    pub saved: Option<Receiver<Saved>>,
    /// Set when the run has failed elsewhere.
    pub failed: Arc<AtomicBool>,
    /// The first epoch that is not bound yet, for whoever wants to know whether all is done.
    pub bound: Arc<AtomicU64>,
    /// Whether an output wants each ignored record.
    pub wants_ignored: bool,
}

/// See the module.
pub struct Intake {
    setting: Setting,
    channels: Vec<Channel>,
    files: Files,
    reading: Option<Opened>,
    epoch: Epoch,
    bundle: Bundle,
    mediated: Mediated,
    /// The present that the graph was told.
    clock: Option<EventTime>,
    /// The job was told to end while a change was being gathered.
    ending: bool,
}

/// The workers are gone: the run has failed elsewhere.
struct Gone;

impl Intake {
    /// An intake that feeds these workers.
    #[must_use]
    pub fn new(setting: Setting, channels: Vec<Channel>) -> Self {
        let files = Files::new(setting.job.keep_raw, Arc::clone(&setting.archive));
        Self {
            setting,
            channels,
            files,
            reading: None,
            epoch: 0,
            bundle: Bundle::default(),
            mediated: Mediated::default(),
            clock: None,
            ending: false,
        }
    }

    /// Reads everything there is, and what is saved later while the job watches. Returns the ledger
    /// of files, and the reference data in force at the end.
    #[must_use]
    pub fn run(mut self) -> (Vec<LedgerRow>, Reference) {
        // Workers that are gone have reported why.
        self.all().unwrap_or(());
        (self.files.ledger_rows(), self.setting.reference)
    }

    fn all(&mut self) -> Result<(), Gone> {
        let empty = Reference::default();
        self.bundle.reference = ReferenceChanges::between(&empty, &self.setting.reference);
        self.tell_time();
        self.bind()?;
        self.setting.metrics.reference_loaded();
        self.discover();
        self.read_all()?;
        while let Some(saved) = self.wait() {
            self.tell_time();
            if !saved.is_empty() {
                self.changed(&saved, Instant::now())?;
            }
            self.read_all()?;
        }
        Ok(())
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

    /// Waits for saved files; `None` when there will be none. Editors save in several steps, and a
    /// person may save several files: what comes within a moment is one change. Nothing saved for a
    /// while is told as such: time has gone on.
    fn wait(&mut self) -> Option<Saved> {
        const MOMENT: Duration = Duration::from_millis(15);
        const LOOK_UP: Duration = Duration::from_millis(200);
        const WHILE: Duration = Duration::from_secs(60);
        let begun = Instant::now();
        let receiver = self.setting.saved.as_ref().filter(|_| !self.ending)?;
        let mut saved = loop {
            match receiver.recv_timeout(LOOK_UP) {
                // Whoever stops the job says that nothing was saved.
                Ok(saved) if saved.is_empty() => return None,
                Ok(saved) => break saved,
                Err(RecvTimeoutError::Timeout) if !self.setting.failed.load(Ordering::Relaxed) => {
                    if begun.elapsed() >= WHILE {
                        return Some(Saved::new());
                    }
                }
                Err(_) => return None,
            }
        };
        loop {
            match receiver.recv_timeout(MOMENT) {
                Ok(more) if more.is_empty() => {
                    self.ending = true;
                    return Some(saved);
                }
                Ok(more) => saved.extend(more),
                Err(RecvTimeoutError::Timeout) => return Some(saved),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Enters new files of all sources.
    fn discover(&mut self) {
        for (index, source) in self.setting.job.sources.iter().enumerate() {
            let found = self.files.discover(index, source, &self.setting.job.folder);
            for message in found {
                self.setting.listener.message(&message);
            }
        }
        let names = self.files.names();
        *self
            .setting
            .file_names
            .write()
            .expect("the list of files is not poisoned") = names;
    }

    /// Reads the files that wait, epoch by epoch.
    fn read_all(&mut self) -> Result<(), Gone> {
        loop {
            if self.reading.is_none() {
                let Some(opened) = self.open_next() else {
                    break;
                };
                self.reading = Some(opened);
            }
            self.read_chunk()?;
            if self.bundle.rows >= self.setting.job.epoch_rows {
                self.bind()?;
            }
        }
        if self.bundle.is_empty() {
            Ok(())
        } else {
            self.bind()
        }
    }

    /// Opens the next file that can be opened.
    fn open_next(&mut self) -> Option<Opened> {
        while let Some(file) = self.files.next() {
            let source = &self.setting.job.sources[file.source];
            let rule = &self.setting.rules[file.source];
            match self
                .files
                .open(&file, source, rule, self.setting.job.epoch_rows)
            {
                Ok(opened) => return Some(opened),
                Err(message) => {
                    self.setting.listener.message(&message);
                    self.files.failed(file.id, message);
                }
            }
        }
        None
    }

    fn read_chunk(&mut self) -> Result<(), Gone> {
        let Some(opened) = &mut self.reading else {
            return Ok(());
        };
        let Some(chunk) = opened.decoder.next_chunk() else {
            let opened = self.reading.take();
            let finished = opened.map(|opened| self.files.finish(opened));
            if let Some(message) = finished.flatten() {
                self.setting.listener.message(&message);
            }
            return Ok(());
        };
        self.mediated.clear();
        opened
            .mediator
            .mediate(&chunk, opened.id, &mut self.mediated);
        opened.received += chunk.received;
        if let Some(archive) = &mut opened.archive
            && let Err(error) = archive.write(&chunk, &self.mediated.usage)
        {
            self.setting
                .listener
                .message(&format!("raw records are not kept: {error}"));
            opened.archive = None;
        }
        let id = opened.id;
        if let Some(fault) = &self.mediated.file_fault {
            opened.broken = Some(fault.detail.clone());
        }
        self.bundle
            .add(&mut self.mediated, id, self.setting.wants_ignored);
        Ok(())
    }

    /// Sends the bundle as the next epoch, split over the workers.
    fn bind(&mut self) -> Result<(), Gone> {
        let bundle = std::mem::take(&mut self.bundle);
        self.setting.metrics.epoch_bound(self.epoch);
        for (part, channel) in bundle
            .split(self.epoch, self.channels.len())
            .zip(&self.channels)
        {
            channel.send(part).map_err(|_| Gone)?;
        }
        self.epoch += 1;
        self.setting.bound.store(self.epoch, Ordering::Relaxed);
        Ok(())
    }

    /// Applies what saved files change, as one epoch.
    fn changed(&mut self, saved: &Saved, noticed: Instant) -> Result<(), Gone> {
        let mut report = ChangeReport::default();
        if saved
            .iter()
            .any(|path| self.setting.reference_files.files().contains(path))
        {
            self.reload_reference(&mut report);
        }
        if self.rules_touched(saved) {
            self.reload_rules(&mut report);
        }
        self.discover();
        if self.bundle.is_empty() {
            return Ok(());
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

    fn reload_reference(&mut self, report: &mut ChangeReport) {
        match self.setting.reference_files.load() {
            Ok(loaded) => {
                let changes = ReferenceChanges::between(&self.setting.reference, &loaded.reference);
                report.rows += changes.len();
                report.prices = changes.price_changes(&self.setting.names);
                self.setting.reference = loaded.reference;
                self.bundle.reference = changes;
                self.warn(&loaded.warnings);
            }
            Err(findings) => self.setting.listener.rejected(&findings),
        }
    }

    fn warn(&self, warnings: &[Diagnostic]) {
        if !warnings.is_empty() {
            self.setting.listener.warned(warnings);
        }
    }

    fn rules_touched(&self, saved: &Saved) -> bool {
        saved
            .iter()
            .any(|path| self.setting.job.rule_files().contains(path))
    }

    /// What keeps rules from being in force: a folder's columns are only known from its files, so a
    /// rule that compiles may still not suit them. A file that cannot be read again at all speaks
    /// against no rule.
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
                let path = match &source.mediation {
                    RuleSource::File(path) => path,
                    RuleSource::Inline(_) => &self.setting.job.path,
                };
                findings.push(Diagnostic::error(
                    &path.display().to_string(),
                    (0, 0),
                    message,
                ));
            }
        }
        findings
    }

    /// Mediates again what a changed rule or lookup table could alter, from the raw records.
    fn reload_rules(&mut self, report: &mut ChangeReport) {
        let rules = match self.setting.job.rules(&self.setting.names) {
            Ok(rules) => rules,
            Err(findings) => return self.setting.listener.rejected(&findings),
        };
        let unsuitable = self.unsuitable(&rules);
        if !unsuitable.is_empty() {
            return self.setting.listener.rejected(&unsuitable);
        }
        let old = std::mem::replace(&mut self.setting.rules, rules);
        for file in self.files.read_files() {
            let source = &self.setting.job.sources[file.source];
            let (old, new) = (&old[file.source], &self.setting.rules[file.source]);
            let both = self.files.open_again(&file, source, old).and_then(|old| {
                let new = self.files.open_again(&file, source, new)?;
                Ok((old, new))
            });
            match both {
                Ok((old, new)) => {
                    report.mediated += differences(file.id, old, new, &mut self.bundle);
                }
                Err(message) => self.setting.listener.message(&message),
            }
        }
    }
}

/// Adds one to the count of a fate.
fn count(fates: &mut BTreeMap<(FileId, Fate), isize>, file: FileId, fate: Fate, diff: isize) {
    *fates.entry((file, fate)).or_default() += diff;
}
