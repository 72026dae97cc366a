//! The worker loop: takes bound epochs from its intake, feeds the graph, and lets no more than a few
//! epochs be in flight.

use crate::graph::{Graph, GraphStats, Inputs, Open, Resume, build};
use crate::publish::{Dispatch, Outbox};
use millrace_operators::aggregate::LineFinder;
use millrace_operators::epoch::Epoch;
use std::time::Duration;
use timely::dataflow::ProbeHandle;
use timely::worker::Worker;

/// Epochs that may be in flight: enough to keep every stage busy, few enough to bound memory.
const EPOCHS_IN_FLIGHT: u64 = 3;

/// How long a worker waits for the next epoch, or for the other workers, until it looks around again.
const PATIENCE: Duration = Duration::from_millis(1);

/// Where a worker's epochs come from.
pub trait Epochs {
    /// Feeds the changes of `epoch`, or of a later one, into the graph. Where there may be some later, it
    /// waits for them up to `patience`, and then answers [`Fed::Idle`].
    fn feed(&mut self, epoch: Epoch, inputs: &mut Inputs, patience: Duration) -> Fed;
}

/// What an intake did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// This epoch is complete; those before it that were not fed are empty.
    Epoch(Epoch),
    /// There is nothing to do now.
    Idle,
    /// There will never be anything more.
    End,
}

/// A worker among its peers.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// Which worker.
    pub worker: u64,
    /// Of how many.
    pub peers: u64,
    /// Records that all workers hold open.
    pub records: usize,
}

/// Runs one worker to the end of its epochs and returns what it holds open. See
/// [`build`] for `resume`.
pub fn run(
    worker: &mut Worker,
    finder: LineFinder,
    stats: &GraphStats,
    outbox: &Outbox,
    resume: &Resume,
    epochs: &mut dyn Epochs,
) -> Open {
    let Graph {
        mut inputs,
        probe,
        open,
    } = worker.dataflow::<Epoch, _, _>(|scope| build(scope, finder, stats, outbox, resume));
    let index = worker.index();
    let mut sealed: Epoch = 0;
    let mut epoch: Epoch = 0;
    let mut seal = || seal(&probe, index, &mut sealed, outbox);
    loop {
        // An epoch takes many turns: while one is in flight, nothing may wait between them.
        let in_flight = probe.less_than(&epoch);
        let patience = if in_flight { Duration::ZERO } else { PATIENCE };
        match epochs.feed(epoch, &mut inputs, patience) {
            Fed::Epoch(fed) => {
                epoch = fed + 1;
                inputs.advance_to(epoch);
                // One turn at least, so that epochs move while the next is read.
                worker.step();
                seal();
                while probe.less_than(&epoch.saturating_sub(EPOCHS_IN_FLIGHT)) {
                    worker.step_or_park(Some(PATIENCE));
                    seal();
                }
            }
            Fed::Idle => {
                if in_flight {
                    worker.step_or_park(Some(PATIENCE));
                } else {
                    worker.step();
                }
                seal();
            }
            Fed::End => break,
        }
    }
    drop(inputs);
    while worker.step_or_park(Some(PATIENCE)) {
        seal();
    }
    seal();
    open
}

/// Tells the publisher which epochs are complete on a worker, where that has moved on since `sealed`.
pub fn seal(probe: &ProbeHandle<Epoch>, worker: usize, sealed: &mut Epoch, outbox: &Outbox) {
    let first = probe.with_frontier(|frontier| frontier.first().copied());
    let before = first.unwrap_or(Epoch::MAX);
    if before > *sealed {
        *sealed = before;
        // A publisher that is gone has said why; the worker ends by itself.
        outbox.sender.send(Dispatch::Sealed { worker, before }).ok();
    }
}
