//! Rates usage of a period again: the very graph of a job over rows that are given at once, so a
//! replay cannot differ from a bill by anything but its reference data.

use crate::archive::{Collected, collect, moved};
use crate::cluster::Company;
use crate::graph::{GraphStats, Inputs, Open, Opening, Resume};
use crate::publish::{Collector, EpochChanges, Outbox};
use crate::worker::{self, Epochs, Fed, Seat};
use differential_dataflow::difference::{Abelian, IsZero, Semigroup};
use millrace_connectors::archive::Moved;
use millrace_connectors::names::Names;
use millrace_connectors::reference::Reference;
use millrace_operators::aggregate::{ClassLookup, Dimension, LineFinder};
use millrace_operators::domain::{
    BillCalendar, ClassKey, EventTime, GroupKey, LineKey, LineSum, Period, RecordId, Suspense,
    Usage, UsageClass,
};
use millrace_operators::epoch::{Diff, Epoch};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// Records that one worker rates sooner than several workers could be started.
const ONE_WORKER_RECORDS: usize = 50_000;

/// What is the same for all that is rated again.
#[derive(Clone)]
pub struct Rater {
    /// The name book that the usage and the reference data are entered in.
    pub names: Arc<Names>,
    /// The tenant's time zone.
    pub zone: jiff::tz::TimeZone,
    /// What separates billing lines.
    pub dimensions: Vec<Dimension>,
    /// Worker threads.
    pub workers: usize,
}

/// What is rated.
#[derive(Clone, Debug, Default)]
pub struct Portion {
    /// Usage that was there.
    pub usage: Vec<Usage>,
    /// Usage that came later: of two records with one identity the one that was there is kept.
    pub late: Vec<Usage>,
    /// The reference data.
    pub reference: Reference,
    /// Where balance groups stood before.
    pub opening: Opening,
    /// The present.
    pub clock: EventTime,
}

/// What it comes to.
#[derive(Clone, Debug, Default)]
pub struct Rated {
    /// Billing lines, of all bill units.
    pub lines: BTreeMap<LineKey, LineSum>,
    /// Records that could not be rated, duplicates among them.
    pub suspense: BTreeMap<RecordId, Suspense>,
    /// The usage that was rated, by period and shard, where it was asked for.
    pub collected: Collected,
    /// What had moved the buckets of balance groups when the period began.
    pub opening: BTreeMap<GroupKey, Vec<Moved>>,
    /// What had moved the buckets of balance groups when the period ended.
    pub closing: BTreeMap<GroupKey, Vec<Moved>>,
}

impl Rater {
    /// Rates a portion, and reads where balance groups stand at both ends of `period`.
    ///
    /// # Panics
    /// On a broken invariant: that is a bug.
    #[must_use]
    pub fn rate(&self, period: Period, portion: Portion) -> Rated {
        let opening = Arc::new(portion.opening.clone());
        let told = Arc::clone(&opening);
        let (changes, parts) = self.run(portion, &opening, move |open, _, _| {
            let stands = |at: EventTime| -> BTreeMap<GroupKey, Vec<Moved>> {
                let groups = open.charges.groups().into_iter();
                groups
                    .map(|group| (group, moved(open, group, at, &told)))
                    .collect()
            };
            let (opening, closing) = (stands(period.start()), stands(period.end()));
            (collect(open, |_, _, _| Some(period)), opening, closing)
        });
        let mut rated = Rated {
            lines: lines(&changes),
            suspense: suspense(&changes),
            ..Rated::default()
        };
        for (collected, opening, closing) in parts {
            rated.collected.append(collected);
            rated.opening.extend(opening);
            rated.closing.extend(closing);
        }
        rated
    }

    /// Runs the graph over a portion; returns what left it, epoch by epoch, and what `harvest` read
    /// of each worker when all had left it.
    ///
    /// # Panics
    /// On a broken invariant: that is a bug.
    pub fn run<T: Send + 'static>(
        &self,
        portion: Portion,
        opening: &Arc<Opening>,
        harvest: impl Fn(&Open, Seat, &[EpochChanges]) -> T + Send + Sync + 'static,
    ) -> (Vec<EpochChanges>, Vec<T>) {
        let records = portion.usage.len() + portion.late.len();
        let workers = if records <= ONE_WORKER_RECORDS {
            1
        } else {
            self.workers.max(1)
        };
        let (sender, receiver) = channel();
        let clock = portion.clock;
        let feeds = self.feeds(portion, workers);
        let feeds = Mutex::new(feeds.into_iter().map(Some).collect::<Vec<_>>());
        // Every worker takes one, and the collector ends when the last is done.
        let senders = Mutex::new(vec![Some(sender); workers]);
        let (dimensions, zone) = (self.dimensions.clone(), self.zone.clone());
        let book = Arc::clone(&self.names);
        let classes: ClassLookup = Arc::new(move |key| book.class(key));
        let resume = Resume {
            opening: Arc::clone(opening),
            ..Resume::default()
        };
        let resume = resume.from_clock(clock);
        let position = |n: usize| u64::try_from(n).unwrap_or(0);
        let settled: Arc<OnceLock<Vec<EpochChanges>>> = Arc::default();
        let awaited = Arc::clone(&settled);
        let guards = timely::execute(timely::Config::process(workers), move |worker| {
            let index = worker.index();
            let mut feed = feeds.lock().expect("no worker has failed")[index]
                .take()
                .expect("each worker takes its own feed");
            let sender = senders.lock().expect("no worker has failed")[index].take();
            let outbox = Outbox {
                sender: sender.expect("each worker takes its own sender"),
                wants_charges: false,
                wants_impacts: false,
                company: Company::of(0, 1, workers),
            };
            let calendar = BillCalendar::new(zone.clone());
            let finder = LineFinder::new(dimensions.clone(), calendar, Arc::clone(&classes));
            let stats = GraphStats::default();
            let open = worker::run(worker, finder, &stats, &outbox, &resume, &mut feed);
            drop(outbox);
            let seat = Seat {
                worker: position(index),
                peers: position(workers),
                records,
            };
            harvest(&open, seat, awaited.wait())
        });
        let guards = guards.expect("threads of this process need no network");
        let mut changes = Vec::new();
        let collected = Collector::new(workers, receiver).run(|epoch, _| {
            changes.extend(epoch.map(EpochChanges::settled));
            Ok::<(), Infallible>(())
        });
        match collected {
            Ok(()) => {}
            Err(never) => match never {},
        }
        settled.get_or_init(|| changes);
        let parts = guards.join().into_iter();
        let parts = parts.map(|part| part.expect("a worker that panics ends the process"));
        let parts = parts.collect();
        let settled = Arc::into_inner(settled).and_then(OnceLock::into_inner);
        (settled.expect("the workers are gone"), parts)
    }

    /// The epochs of each worker: what was there, then what came later. Usage is spread; everything
    /// else goes to the first worker.
    fn feeds(&self, portion: Portion, workers: usize) -> Vec<Feed> {
        let Portion {
            usage,
            late,
            reference,
            clock,
            ..
        } = portion;
        let classes: BTreeSet<ClassKey> =
            usage.iter().chain(&late).map(|usage| usage.class).collect();
        let classes = classes.into_iter().filter_map(|key| self.names.class(key));
        let classes = classes.map(|class| UsageClass::clone(&class)).collect();
        let mut feeds: Vec<Feed> = (0..workers).map(|_| Feed::default()).collect();
        for rows in [usage, late] {
            let share = rows.len().div_ceil(workers).max(1);
            let mut rows = rows.into_iter();
            for feed in &mut feeds {
                feed.epochs.push_back(rows.by_ref().take(share).collect());
            }
        }
        if let Some(first) = feeds.first_mut() {
            first.given = Some((reference, clock, classes));
        }
        feeds
    }
}

/// The billing lines that changes come to.
#[must_use]
pub fn lines(changes: &[EpochChanges]) -> BTreeMap<LineKey, LineSum> {
    let mut lines: BTreeMap<LineKey, LineSum> = BTreeMap::new();
    for ((key, sum), diff) in changes.iter().flat_map(|changes| &changes.lines) {
        let line = lines.entry(key.clone()).or_default();
        line.plus_equals(&signed(*sum, *diff));
    }
    lines.retain(|_, sum| !sum.is_zero());
    lines
}

/// The suspended records that changes come to.
fn suspense(changes: &[EpochChanges]) -> BTreeMap<RecordId, Suspense> {
    let mut suspense = BTreeMap::new();
    for changes in changes {
        // What goes before what comes: a record may be suspended for another reason.
        for (gone, _) in changes.suspense.iter().filter(|(_, diff)| *diff < 0) {
            suspense.remove(&gone.record);
        }
        let come = changes.suspense.iter().filter(|(_, diff)| *diff > 0);
        suspense.extend(come.map(|(come, _)| (come.record, *come)));
    }
    suspense
}

fn signed(mut sum: LineSum, diff: Diff) -> LineSum {
    if diff < 0 {
        sum.negate();
    }
    sum
}

/// A worker's epochs.
#[derive(Default)]
struct Feed {
    given: Option<(Reference, EventTime, Vec<UsageClass>)>,
    epochs: VecDeque<Vec<Usage>>,
}

impl Epochs for Feed {
    fn feed(&mut self, epoch: Epoch, inputs: &mut Inputs, _: Duration) -> Fed {
        let Some(usage) = self.epochs.pop_front() else {
            return Fed::End;
        };
        if let Some((reference, clock, classes)) = self.given.take() {
            let Reference {
                prices,
                plans,
                accounts,
                subscriptions,
                services,
            } = reference;
            prices.into_iter().for_each(|row| inputs.prices.insert(row));
            plans.into_iter().for_each(|row| inputs.plans.insert(row));
            accounts
                .into_iter()
                .for_each(|row| inputs.accounts.insert(row));
            subscriptions
                .into_iter()
                .for_each(|row| inputs.subscriptions.insert(row));
            services
                .into_iter()
                .for_each(|row| inputs.services.insert(row));
            classes
                .into_iter()
                .for_each(|row| inputs.classes.insert(row));
            inputs.clock.insert(clock);
        }
        usage.into_iter().for_each(|row| inputs.usage.insert(row));
        Fed::Epoch(epoch)
    }
}
