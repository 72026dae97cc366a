//! The edge of the dataflow: changes leave it epoch by epoch, and only behind the frontier.
//!
//! ```text
//!  worker 0 ── (epoch, changes) ─┐
//!  worker 1 ── (epoch, changes) ─┼──► publisher: waits until every worker has sealed the epoch,
//!  worker 2 ── (epoch, sealed) ──┘    then hands the epoch on, sorted, as one
//! ```
//!
//! Rows of one epoch are sorted and consolidated before anyone writes them down, so what is published
//! does not depend on the number of workers. Nothing is published twice in one run; what happens across
//! restarts is the business of the sinks behind.

use crate::cluster::Company;
use millrace_operators::charge::{EdgeCharged, ItemImpact, Notice};
use millrace_operators::domain::{
    Activity, Bucket, Charge, Fate, Fault, FileId, LineKey, LineSum, RecordId, Suspense,
};
use millrace_operators::epoch::{Collection, Diff, Epoch};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender};
use timely::ExchangeData;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::ProbeHandle;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::{Capability, Probe};

/// How many records of a file share a fate.
pub type FateCount = ((FileId, Fate), Diff);

/// A change of a billing line.
pub type LineChange = ((LineKey, LineSum), Diff);

/// Changes of one output, of one epoch.
pub enum Published {
    /// Billing lines and their sums.
    Lines(Vec<LineChange>),
    /// Records suspended after mediation, duplicates included.
    Suspense(Vec<(Suspense, Diff)>),
    /// Records that decoding or mediation stopped.
    Faults(Vec<(Fault, Diff)>),
    /// What became of the records of each file.
    Counts(Vec<(FateCount, Diff)>),
    /// Charges, where an output wants each change.
    Charges(Vec<(Charge, Diff)>),
    /// What charges in order did to each resource, where an output wants it.
    Impacts(Vec<(ItemImpact, Diff)>),
    /// What the edges of periods did, where an output wants impacts.
    Edges(Vec<(EdgeCharged, Diff)>),
    /// The buckets that impacts are of.
    Buckets(Vec<(Bucket, Diff)>),
    /// Subscriptions charged without usage.
    Activity(Vec<(Activity, Diff)>),
    /// Thresholds crossed.
    Notices(Vec<(Notice, Diff)>),
    /// Records rated again, counted by the difference.
    Rerated(Vec<((), Diff)>),
    /// Records read from each file, as decoding counted them.
    Received(Vec<(FileId, u64)>),
    /// Records that a mediation rule excluded, where an output wants each.
    Ignored(Vec<(RecordId, Diff)>),
    /// Charged records that are archived now, or open again.
    Archived(Vec<(RecordId, Diff)>),
}

/// What a worker tells the publisher.
pub enum Dispatch {
    /// Changes of an epoch that this worker has completed.
    Changes(Epoch, Published),
    /// This worker will send nothing more for epochs before this one.
    Sealed {
        /// The worker.
        worker: usize,
        /// The first epoch still open.
        before: Epoch,
    },
}

/// Where a worker sends what it completes.
#[derive(Clone)]
pub struct Outbox {
    /// To the publisher.
    pub sender: Sender<Dispatch>,
    /// Whether an output wants each change of each charge.
    pub wants_charges: bool,
    /// Whether an output wants each change of each impact.
    pub wants_impacts: bool,
    /// The processes of the run: what they complete leaves through the first.
    pub company: Company,
}

/// Sends the changes of a collection to the publisher, one message per complete epoch.
pub(crate) fn publish<'scope, D: ExchangeData + Ord>(
    collection: Collection<'scope, D>,
    outbox: &Outbox,
    probe: &ProbeHandle<Epoch>,
    wrap: fn(Vec<(D, Diff)>) -> Published,
) {
    let sender = outbox.sender.clone();
    outbox
        .company
        .gather(collection)
        .inner
        .unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(
            Pipeline,
            "publish",
            move |_, _| {
                let mut waiting: BTreeMap<Epoch, Vec<(D, Diff)>> = BTreeMap::new();
                let mut held: Option<Capability<Epoch>> = None;
                move |(input, frontier), _output| {
                    input.for_each(|capability, updates| {
                        for (data, epoch, diff) in updates.drain(..) {
                            waiting.entry(epoch).or_default().push((data, diff));
                        }
                        // Held so that the probe does not pass an epoch before it is sent on.
                        if held
                            .as_ref()
                            .is_none_or(|held| capability.time() < held.time())
                        {
                            held = Some(capability.retain(0));
                        }
                    });
                    while let Some(first) = waiting.first_entry()
                        && !frontier.less_equal(first.key())
                    {
                        let (epoch, changes) = first.remove_entry();
                        if !changes.is_empty() {
                            // A publisher that is gone has said why; the worker ends by itself.
                            sender.send(Dispatch::Changes(epoch, wrap(changes))).ok();
                        }
                    }
                    match waiting.first_key_value() {
                        Some((epoch, _)) => held.iter_mut().for_each(|held| held.downgrade(epoch)),
                        None => held = None,
                    }
                }
            },
        )
        .probe_with(probe);
}

/// Sorted, with one entry per thing that changed.
pub(crate) fn consolidate<D: Ord>(mut changes: Vec<(D, Diff)>) -> Vec<(D, Diff)> {
    changes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut kept: Vec<(D, Diff)> = Vec::with_capacity(changes.len());
    for (data, diff) in changes {
        match kept.last_mut() {
            Some((last, sum)) if *last == data => *sum += diff,
            _ => kept.push((data, diff)),
        }
    }
    kept.retain(|(_, diff)| *diff != 0);
    kept
}

/// One epoch's changes from all workers, as they came; see [`EpochChanges::settled`].
#[derive(Default)]
pub struct EpochChanges {
    /// The epoch.
    pub epoch: Epoch,
    /// Billing lines.
    pub lines: Vec<LineChange>,
    /// Suspended records.
    pub suspense: Vec<(Suspense, Diff)>,
    /// Faulty records.
    pub faults: Vec<(Fault, Diff)>,
    /// Counts of fates.
    pub counts: Vec<(FateCount, Diff)>,
    /// Charges.
    pub charges: Vec<(Charge, Diff)>,
    /// What charges in order did.
    pub impacts: Vec<(ItemImpact, Diff)>,
    /// What the edges of periods did.
    pub edges: Vec<(EdgeCharged, Diff)>,
    /// Buckets.
    pub buckets: Vec<(Bucket, Diff)>,
    /// Subscriptions charged without usage.
    pub activity: Vec<(Activity, Diff)>,
    /// Thresholds crossed.
    pub notices: Vec<(Notice, Diff)>,
    /// Records rated again.
    pub rerated: u64,
    /// Records read.
    pub received: Vec<(FileId, u64)>,
    /// Records excluded.
    pub ignored: Vec<(RecordId, Diff)>,
    /// Charged records that adjustments put into the archive, or that came back from it.
    pub archived: Vec<(RecordId, Diff)>,
}

impl EpochChanges {
    fn add(&mut self, published: Published) {
        match published {
            Published::Lines(mut changes) => self.lines.append(&mut changes),
            Published::Suspense(mut changes) => self.suspense.append(&mut changes),
            Published::Faults(mut changes) => self.faults.append(&mut changes),
            Published::Counts(mut changes) => self.counts.append(&mut changes),
            Published::Charges(mut changes) => self.charges.append(&mut changes),
            Published::Impacts(mut changes) => self.impacts.append(&mut changes),
            Published::Edges(mut changes) => self.edges.append(&mut changes),
            Published::Buckets(mut changes) => self.buckets.append(&mut changes),
            Published::Activity(mut changes) => self.activity.append(&mut changes),
            Published::Notices(mut changes) => self.notices.append(&mut changes),
            Published::Rerated(counts) => {
                let count = |(_, diff): ((), Diff)| u64::try_from(diff).unwrap_or(0);
                self.rerated += counts.into_iter().map(count).sum::<u64>();
            }
            Published::Received(mut counts) => self.received.append(&mut counts),
            Published::Ignored(mut changes) => self.ignored.append(&mut changes),
            Published::Archived(mut changes) => self.archived.append(&mut changes),
        }
    }

    /// Sorted, with one entry per thing that changed: independent of who sent what first.
    #[must_use]
    pub fn settled(self) -> Self {
        let settled = self.settled_besides_lines();
        Self {
            lines: consolidate(settled.lines),
            ..settled
        }
    }

    /// The same, but for billing lines: they are as they came.
    #[must_use]
    pub fn settled_besides_lines(self) -> Self {
        Self {
            epoch: self.epoch,
            lines: self.lines,
            suspense: consolidate(self.suspense),
            faults: consolidate(self.faults),
            counts: consolidate(self.counts),
            charges: consolidate(self.charges),
            impacts: consolidate(self.impacts),
            edges: consolidate(self.edges),
            buckets: consolidate(self.buckets),
            activity: consolidate(self.activity),
            notices: consolidate(self.notices),
            rerated: self.rerated,
            received: self.received,
            ignored: consolidate(self.ignored),
            archived: consolidate(self.archived),
        }
    }
}

/// Collects what the workers dispatch and hands on whole epochs, in order.
pub struct Collector {
    receiver: Receiver<Dispatch>,
    sealed: Vec<Epoch>,
    waiting: BTreeMap<Epoch, EpochChanges>,
}

impl Collector {
    /// A collector of what `workers` workers dispatch.
    #[must_use]
    pub fn new(workers: usize, receiver: Receiver<Dispatch>) -> Self {
        Self {
            receiver,
            sealed: vec![0; workers],
            waiting: BTreeMap::new(),
        }
    }

    /// Hands every complete epoch to `deliver`, until all workers are gone. `deliver` also learns
    /// the first epoch that is not complete, whenever it moves.
    ///
    /// # Errors
    /// The first error that `deliver` returns.
    pub fn run<E>(
        mut self,
        mut deliver: impl FnMut(Option<EpochChanges>, Epoch) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Ok(dispatch) = self.receiver.recv() {
            self.take(dispatch, &mut deliver)?;
        }
        Ok(())
    }

    /// Hands on what is complete of what the workers have dispatched up to now; see [`Self::run`].
    ///
    /// # Errors
    /// The first error that `deliver` returns.
    pub fn turn<E>(
        &mut self,
        mut deliver: impl FnMut(Option<EpochChanges>, Epoch) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Ok(dispatch) = self.receiver.try_recv() {
            self.take(dispatch, &mut deliver)?;
        }
        Ok(())
    }

    fn take<E>(
        &mut self,
        dispatch: Dispatch,
        mut deliver: impl FnMut(Option<EpochChanges>, Epoch) -> Result<(), E>,
    ) -> Result<(), E> {
        match dispatch {
            Dispatch::Changes(epoch, published) => {
                let fresh = || EpochChanges {
                    epoch,
                    ..EpochChanges::default()
                };
                self.waiting
                    .entry(epoch)
                    .or_insert_with(fresh)
                    .add(published);
            }
            Dispatch::Sealed { worker, before } => {
                let was = self.complete();
                self.sealed[worker] = before;
                let now = self.complete();
                while let Some(first) = self.waiting.first_entry()
                    && *first.key() < now
                {
                    let changes = first.remove();
                    deliver(Some(changes), now)?;
                }
                if now > was {
                    deliver(None, now)?;
                }
            }
        }
        Ok(())
    }

    fn complete(&self) -> Epoch {
        self.sealed.iter().copied().min().unwrap_or(0)
    }
}
