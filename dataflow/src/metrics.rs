//! The numbers that a job reports of itself, in the words of Prometheus.
//!
//! ```text
//!  workers ── NodeStats ─────────┐
//!  intake ─── epoch bound ───────┼─► Metrics ─► text, made when somebody asks
//!  publisher ─ epoch complete,   │
//!              fates, residual ──┘
//! ```
//!
//! Nothing here steers the flow. The clock is read once when an epoch is bound and once when it is
//! complete, never per record. What can go down (records that are suspended heal) is a gauge, what
//! only grows a counter; no label names an account, so the number of series is bounded.

mod exposition;

use crate::board::{ReasonCount, RecordCounts};
use crate::durable::Manifest;
use crate::graph::GraphStats;
use exposition::Exposition;
use millrace_operators::epoch::Epoch;
use millrace_operators::stats::NodeReading;
use prometheus_client::encoding::text;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// An epoch that takes longer than this means that a worker is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// See the module. Shared by everyone who has something to report.
#[derive(Debug)]
pub struct Metrics {
    started: Instant,
    progress: Mutex<Progress>,
    fates: Mutex<Fates>,
    workers: Mutex<Vec<GraphStats>>,
    epoch_seconds: Histogram,
}

#[derive(Debug, Default)]
struct Progress {
    reference_loaded: bool,
    /// What there was when the job began is read, and bound or about to be.
    all_read: bool,
    /// Epochs before this one are bound.
    bound: Epoch,
    /// Epochs before this one are complete.
    complete: Epoch,
    /// When each epoch in flight was bound.
    in_flight: VecDeque<(Epoch, Instant)>,
    reference_changes: u64,
    commit: Commit,
    rest: Rest,
    files: Extent,
    topics: Extent,
}

/// When the job had nothing to do.
#[derive(Debug, Default)]
struct Rest {
    /// The intake waits for something to come.
    waits: bool,
    /// Since when nothing has been on its way either.
    since: Option<Instant>,
    /// All of it, until the last work.
    sum: Duration,
}

impl Rest {
    fn begin(&mut self, now: Instant) {
        if self.waits {
            self.since.get_or_insert(now);
        }
    }

    fn end(&mut self) {
        if let Some(since) = self.since.take() {
            self.sum += since.elapsed();
        }
    }
}

/// How much of what there is to read is read: bytes of the files that were found, messages of the topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// What is read.
    pub read: u64,
    /// What there is.
    pub found: u64,
}

impl std::iter::Sum for Extent {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            read: sum.read + part.read,
            found: sum.found + part.found,
        })
    }
}

/// How far the job is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// The number of the newest commit; 0 where nothing is committed.
    pub number: u64,
    /// The run that committed.
    pub generation: u64,
    /// The first epoch that is not committed.
    pub live: Epoch,
}

#[derive(Clone, Debug, Default)]
struct Fates {
    counts: RecordCounts,
    reasons: Vec<ReasonCount>,
}

/// How far the job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Catalog, accounts and tables are loaded.
    pub reference_loaded: bool,
    /// Epochs bound.
    pub epochs_bound: u64,
    /// Epochs complete.
    pub epochs_complete: u64,
    /// How long the oldest epoch in flight has been so.
    pub lag: Duration,
    /// Times that reference data was changed while the job ran.
    pub reference_changes: u64,
    /// The newest commit.
    pub commit: Commit,
    /// What became of the records so far.
    pub counts: RecordCounts,
    /// Since the job began.
    pub elapsed: Duration,
    /// How far its files are read.
    pub files: Extent,
    /// How far the topics are read, up to where they ended when the job began.
    pub topics: Extent,
}

impl Reading {
    /// Whether no worker is stuck.
    ///
    /// # Errors
    /// Why one must be.
    pub fn healthy(&self) -> Result<(), String> {
        if self.lag <= STUCK_AFTER {
            return Ok(());
        }
        let epoch = self.epochs_complete;
        Err(format!(
            "epoch {epoch} has been in flight for {} s",
            self.lag.as_secs()
        ))
    }

    /// Whether results can be asked for.
    ///
    /// # Errors
    /// What is still to come.
    pub fn ready(&self) -> Result<(), String> {
        if !self.reference_loaded {
            return Err("reference data is not loaded yet".to_owned());
        }
        if self.epochs_complete == 0 {
            return Err("the first epoch is not complete yet".to_owned());
        }
        self.healthy()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        // 1 ms to 65 s.
        let buckets = exponential_buckets(0.001, 2.0, 17);
        Self {
            started: Instant::now(),
            progress: Mutex::default(),
            fates: Mutex::default(),
            workers: Mutex::default(),
            epoch_seconds: Histogram::new(buckets),
        }
    }
}

impl Metrics {
    /// Nothing reported yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress
            .lock()
            .expect("no holder of the progress panics")
    }

    fn fates(&self) -> MutexGuard<'_, Fates> {
        self.fates.lock().expect("no holder of the fates panics")
    }

    fn workers(&self) -> MutexGuard<'_, Vec<GraphStats>> {
        self.workers
            .lock()
            .expect("no holder of the workers panics")
    }

    /// Forgets the workers of an earlier graph.
    pub fn begin(&self) {
        self.workers().clear();
    }

    /// Reads the numbers of one more worker from now on.
    pub fn watch_worker(&self, stats: GraphStats) {
        self.workers().push(stats);
    }

    /// Catalog, accounts and tables are loaded.
    pub fn reference_loaded(&self) {
        self.progress().reference_loaded = true;
    }

    /// What there was when the job began is read.
    pub fn all_read(&self) {
        self.progress().all_read = true;
    }

    /// Whether what there was when the job began is read.
    #[must_use]
    pub fn is_all_read(&self) -> bool {
        self.progress().all_read
    }

    /// A saved file changed reference data while the job runs.
    pub fn reference_changed(&self) {
        self.progress().reference_changes += 1;
    }

    /// All changes of `epoch` and before are on their way. Every worker may say so; the first counts.
    pub fn epoch_bound(&self, epoch: Epoch) {
        let mut progress = self.progress();
        progress.rest.end();
        if epoch >= progress.bound {
            progress.bound = epoch + 1;
            progress.in_flight.push_back((epoch, Instant::now()));
        }
    }

    /// All epochs before `before` have been published.
    pub fn complete_before(&self, before: Epoch) {
        let now = Instant::now();
        let mut progress = self.progress();
        // At the end of the job the frontier is past every epoch.
        let before = before.min(progress.bound);
        progress.complete = progress.complete.max(before);
        while let Some((epoch, bound)) = progress.in_flight.front().copied()
            && epoch < before
        {
            self.epoch_seconds
                .observe(now.duration_since(bound).as_secs_f64());
            progress.in_flight.pop_front();
        }
        if progress.in_flight.is_empty() {
            progress.rest.begin(now);
        }
    }

    /// The intake waits for something to come.
    pub fn waits(&self) {
        let mut progress = self.progress();
        progress.rest.waits = true;
        if progress.in_flight.is_empty() {
            progress.rest.begin(Instant::now());
        }
    }

    /// Something has come.
    pub fn works(&self) {
        let rest = &mut self.progress().rest;
        rest.waits = false;
        rest.end();
    }

    /// How long the job had nothing to do so far.
    #[must_use]
    pub fn idle(&self) -> Duration {
        let rest = &self.progress().rest;
        rest.sum + rest.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// How far the files of the job are read.
    pub fn files_read(&self, files: Extent) {
        self.progress().files = files;
    }

    /// How far the topics of the job are read.
    pub fn topics_read(&self, topics: Extent) {
        self.progress().topics = topics;
    }

    /// A commit is published.
    pub fn committed(&self, manifest: &Manifest) {
        self.progress().commit = Commit {
            number: manifest.commit,
            generation: manifest.generation,
            live: manifest.live,
        };
    }

    /// What became of all records received, after the last complete epoch.
    pub fn set_records(&self, counts: RecordCounts, reasons: Vec<ReasonCount>) {
        *self.fates() = Fates { counts, reasons };
    }

    /// How far the job is.
    #[must_use]
    pub fn read(&self) -> Reading {
        let counts = self.fates().counts;
        let progress = self.progress();
        let oldest = progress.in_flight.front();
        Reading {
            reference_loaded: progress.reference_loaded,
            epochs_bound: progress.bound,
            epochs_complete: progress.complete,
            lag: oldest.map_or(Duration::ZERO, |(_, bound)| bound.elapsed()),
            reference_changes: progress.reference_changes,
            commit: progress.commit,
            counts,
            elapsed: self.started.elapsed(),
            files: progress.files,
            topics: progress.topics,
        }
    }

    /// What the nodes report, summed over the workers, by stage.
    #[must_use]
    pub fn nodes(&self) -> BTreeMap<&'static str, NodeReading> {
        let workers = self.workers();
        let mut nodes: BTreeMap<&'static str, NodeReading> = BTreeMap::new();
        for stats in &*workers {
            let GraphStats {
                dedup,
                rate,
                charge,
            } = stats;
            for (stage, node) in [("dedup", dedup), ("rate", rate), ("charge", charge)] {
                let sum = nodes.entry(stage).or_default();
                *sum = sum.plus(node.read());
            }
        }
        nodes
    }

    /// Everything as OpenMetrics text.
    #[must_use]
    pub fn text(self: &Arc<Self>) -> String {
        let mut registry = Registry::with_prefix("millrace");
        registry.register(
            "epoch_duration_seconds",
            "Time from an epoch's last input to its publication",
            self.epoch_seconds.clone(),
        );
        registry.register_collector(Box::new(Exposition::of(self)));
        written(&registry)
    }
}

fn written(registry: &Registry) -> String {
    let mut written = String::new();
    text::encode(&mut written, registry).expect("writing to a string does not fail");
    written
}

#[cfg(test)]
mod tests;
