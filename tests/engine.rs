//! Runs a script of changes through the graph, as a job would, and keeps all that it publishes.

use crate::oracle::{Bill, BillRules, Changes};
use jiff::tz::TimeZone;
use millrace::cluster::Company;
use millrace::graph::{GraphStats, Inputs, Resume};
use millrace::publish::{Collector, EpochChanges, Outbox};
use millrace::worker::{Epochs, Fed, run as run_worker};
use millrace_operators::aggregate::{ClassLookup, LineFinder};
use millrace_operators::charge::{EdgeCharged, Notice, OpenCharges, Sink};
use millrace_operators::domain::{
    BillCalendar, BucketKey, Charge, ClassKey, EventTime, GroupKey, Impact, Suspense, UsageClass,
};
use millrace_operators::epoch::{Diff, Epoch};
use millrace_operators::rate::Rating;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// What came of a script.
pub struct Run {
    /// What was published, epoch by epoch; epochs without changes are absent.
    pub epochs: Vec<EpochChanges>,
    /// What each worker's open usage came to in the end, in the order of the visit.
    pub open: Vec<Vec<Rating>>,
    /// What each worker's balance groups came to in the end.
    pub charged: Vec<OpenGroups>,
}

/// What the balance groups of a worker came to, in the order of the visit.
#[derive(Default)]
pub struct OpenGroups {
    /// Charges with their impacts.
    pub charges: Vec<(Charge, Vec<Impact>)>,
    /// Records that could not be charged.
    pub suspense: Vec<Suspense>,
    /// Thresholds crossed.
    pub notices: Vec<Notice>,
    /// The value of each bucket of a group just before each of [`INSTANTS`], and in the end.
    pub balances: Vec<GroupBalances>,
}

/// The value of each bucket of a group, just before an instant or in the end.
pub type GroupBalances = (GroupKey, Option<EventTime>, Vec<(BucketKey, i128)>);

/// Instants whose balances are read: midnights and noons of the days of histories.
pub const INSTANTS: [EventTime; 4] = [
    EventTime(1_774_224_000_000_000),
    EventTime(1_774_267_200_000_000),
    EventTime(1_774_483_200_000_000),
    EventTime(1_775_217_600_000_000),
];

impl OpenGroups {
    fn read(open: &OpenCharges) -> Self {
        let mut groups = Self::default();
        open.visit(|_| true, &mut groups);
        for group in open.groups() {
            for at in [None].into_iter().chain(INSTANTS.map(Some)) {
                let values = open.balances(group, at).unwrap_or_default();
                groups.balances.push((group, at, values));
            }
        }
        groups
    }
}

impl Sink for OpenGroups {
    fn item(&mut self, charge: &Charge, impacts: &[Impact], _: Diff) {
        self.charges.push((*charge, impacts.to_vec()));
    }

    fn suspense(&mut self, suspense: &Suspense, _: Diff) {
        self.suspense.push(*suspense);
    }

    fn edge(&mut self, _: &EdgeCharged, _: Diff) {}

    fn notice(&mut self, notice: &Notice, _: Diff) {
        self.notices.push(*notice);
    }
}

/// Feeds one worker its share of a script.
struct Replay {
    script: Arc<Vec<Changes>>,
    worker: usize,
    workers: usize,
    seed: usize,
}

impl Replay {
    /// Which worker feeds the `index`-th change of an epoch: any, but always the same.
    fn mine(&self, epoch: usize, index: usize) -> bool {
        let mixed = (self.seed ^ (epoch << 16) ^ index).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 40) % self.workers == self.worker
    }
}

impl Epochs for Replay {
    fn feed(&mut self, epoch: Epoch, inputs: &mut Inputs, _: Duration) -> Fed {
        let index = usize::try_from(epoch).expect("few epochs");
        let Some(changes) = self.script.get(index) else {
            return Fed::End;
        };
        for (at, (usage, diff)) in changes.usage.iter().enumerate() {
            if self.mine(index, at) {
                inputs.usage.update(usage.clone(), *diff);
            }
        }
        for (at, (file, fate, diff)) in changes.fates.iter().enumerate() {
            if self.mine(index, at) {
                inputs.fates.update((*file, *fate), *diff);
            }
        }
        for (at, (fault, diff)) in changes.faults.iter().enumerate() {
            if self.mine(index, at) {
                inputs.faults.update(fault.clone(), *diff);
            }
        }
        if self.worker == 0 {
            macro_rules! feed {
                ($($input:ident),*) => {$(
                    for (row, diff) in &changes.$input {
                        inputs.$input.update(row.clone(), *diff);
                    }
                )*};
            }
            feed!(
                classes,
                prices,
                plans,
                accounts,
                subscriptions,
                services,
                clock,
                discards,
                replaced
            );
        }
        Fed::Epoch(epoch)
    }
}

/// Runs a script on `workers` workers, its usage dealt out to them by `seed`.
///
/// # Panics
/// If a worker does.
#[must_use]
pub fn run(rules: &BillRules, script: &[Changes], workers: usize, seed: usize) -> Run {
    let script = Arc::new(script.to_vec());
    let classes: BTreeMap<ClassKey, Arc<UsageClass>> = script
        .iter()
        .flat_map(|changes| &changes.classes)
        .map(|(class, _)| (class.key(), Arc::new(class.clone())))
        .collect();
    let lookup: ClassLookup = Arc::new(move |key| classes.get(&key).cloned());
    let (sender, receiver) = channel();
    let outbox = Outbox {
        sender,
        wants_charges: true,
        wants_impacts: true,
        company: Company::default(),
    };
    let rules = rules.clone();
    let zone = TimeZone::get(rules.zone.name()).expect("the zone database is built in");
    // The closure owns the outbox, so the last sender goes with the last worker.
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let calendar = BillCalendar::new(zone.clone());
        let finder = LineFinder::new(rules.dimensions.clone(), calendar, Arc::clone(&lookup));
        let mut replay = Replay {
            script: Arc::clone(&script),
            worker: worker.index(),
            workers,
            seed,
        };
        let stats = GraphStats::default();
        let open = run_worker(
            worker,
            finder,
            &stats,
            &outbox,
            &Resume::default(),
            &mut replay,
        );
        let mut ratings = Vec::new();
        let visited = open.ratings.visit(
            |_| true,
            |rating| {
                ratings.push(rating.clone());
                Ok::<(), Infallible>(())
            },
        );
        visited.expect("infallible");
        (ratings, OpenGroups::read(&open.charges))
    });
    let (open, charged) = guards
        .expect("threads can be started")
        .join()
        .into_iter()
        .map(|held| held.expect("no worker panics"))
        .unzip();
    let mut epochs = Vec::new();
    let collected = Collector::new(workers, receiver).run(|changes, _| {
        epochs.extend(changes.map(EpochChanges::settled));
        Ok::<(), Infallible>(())
    });
    collected.expect("infallible");
    Run {
        epochs,
        open,
        charged,
    }
}

/// Adds an epoch's changes to what was published before.
///
/// # Panics
/// If something is taken away that was never published, or published twice.
pub fn accumulate(bill: &mut Bill, changes: &EpochChanges) {
    for (charge, diff) in removals_first(&changes.charges) {
        let fresh = match diff {
            1 => bill.charges.insert(*charge),
            -1 => bill.charges.remove(charge),
            _ => false,
        };
        assert!(fresh, "charge published {diff} times: {charge:?}");
    }
    for (suspense, diff) in removals_first(&changes.suspense) {
        let fresh = match diff {
            1 => bill.suspense.insert(*suspense),
            -1 => bill.suspense.remove(suspense),
            _ => false,
        };
        assert!(fresh, "suspense published {diff} times: {suspense:?}");
    }
    for (fault, diff) in removals_first(&changes.faults) {
        let fresh = match diff {
            1 => bill.faults.insert(fault.clone()),
            -1 => bill.faults.remove(fault),
            _ => false,
        };
        assert!(fresh, "fault published {diff} times: {fault:?}");
    }
    for (impact, diff) in removals_first(&changes.impacts) {
        let fresh = match diff {
            1 => bill.impacts.insert(*impact),
            -1 => bill.impacts.remove(impact),
            _ => false,
        };
        assert!(fresh, "impact published {diff} times: {impact:?}");
    }
    for (activity, diff) in removals_first(&changes.activity) {
        let fresh = match diff {
            1 => bill.activity.insert(activity.clone()),
            -1 => bill.activity.remove(activity),
            _ => false,
        };
        assert!(fresh, "activity published {diff} times: {activity:?}");
    }
    for (notice, diff) in removals_first(&changes.notices) {
        let fresh = match diff {
            1 => bill.notices.insert(*notice),
            -1 => bill.notices.remove(notice),
            _ => false,
        };
        assert!(fresh, "notice published {diff} times: {notice:?}");
    }
    for ((line, sum), diff) in removals_first(&changes.lines) {
        let fresh = match diff {
            1 => bill.lines.insert(line.clone(), *sum).is_none(),
            -1 => bill.lines.remove(line) == Some(*sum),
            _ => false,
        };
        assert!(fresh, "line published {diff} times: {line:?}");
    }
    for ((key, count), diff) in removals_first(&changes.counts) {
        let fresh = match diff {
            1 => bill.counts.insert(*key, *count).is_none(),
            -1 => bill.counts.remove(key) == Some(*count),
            _ => false,
        };
        assert!(fresh, "count published {diff} times: {key:?}");
    }
}

fn removals_first<D>(changes: &[(D, Diff)]) -> impl Iterator<Item = &(D, Diff)> {
    let removed = changes.iter().filter(|(_, diff)| *diff < 0);
    removed.chain(changes.iter().filter(|(_, diff)| *diff > 0))
}
