//! Epochs, and operators that work epoch by epoch.
//!
//! Dataflow time is a `u64` epoch, totally ordered. An operator that keeps its own state collects
//! the changes of an epoch until the frontier says that no more can come, and then evaluates them at
//! once: order of arrival inside an epoch cannot matter, and many changes of one group cost one
//! evaluation.

use std::collections::BTreeMap;
use timely::dataflow::operators::{Capability, InputCapability};
use timely::progress::frontier::MutableAntichain;

/// A step of progress, and the unit of commit.
pub type Epoch = u64;

/// How often a thing is added (positive) or taken away (negative).
pub type Diff = isize;

/// A collection of changes on epochs.
pub type Collection<'scope, D> = differential_dataflow::VecCollection<'scope, Epoch, D, Diff>;

/// Virtual shards: the unit in which state is spread over workers, and outputs over files. A job
/// may have fewer workers than shards, never more.
pub const SHARDS: u64 = 64;

/// The shard of a key, from the top bits, so that tables that index by the low bits stay even. The
/// worker is the shard modulo the workers.
#[must_use]
pub fn shard(key: u64) -> u64 {
    key >> 58
}

/// Changes that wait for the end of their epoch.
pub(crate) struct Pending<D> {
    epochs: BTreeMap<Epoch, Vec<(D, Diff)>>,
}

impl<D> Default for Pending<D> {
    fn default() -> Self {
        Self {
            epochs: BTreeMap::new(),
        }
    }
}

impl<D> Pending<D> {
    pub(crate) fn stash(&mut self, updates: &mut Vec<(D, Epoch, Diff)>) {
        // Containers are nearly always of one epoch: look it up once per run.
        let mut updates = updates.drain(..).peekable();
        while let Some((data, epoch, diff)) = updates.next() {
            let waiting = self.epochs.entry(epoch).or_default();
            waiting.push((data, diff));
            while let Some((data, _, diff)) = updates.next_if(|(_, next, _)| *next == epoch) {
                waiting.push((data, diff));
            }
        }
    }

    pub(crate) fn take(&mut self, epoch: Epoch) -> Vec<(D, Diff)> {
        self.epochs.remove(&epoch).unwrap_or_default()
    }

    pub(crate) fn first(&self) -> Option<Epoch> {
        self.epochs.first_key_value().map(|(epoch, _)| *epoch)
    }
}

/// The right to send at the epochs that still wait, one capability per output.
#[derive(Default)]
pub(crate) struct Rights(Vec<Capability<Epoch>>);

impl Rights {
    /// Keeps what is needed to answer a message received under `capability`.
    pub(crate) fn keep(&mut self, capability: &InputCapability<Epoch>, outputs: usize) {
        if self
            .0
            .first()
            .is_none_or(|held| capability.time() < held.time())
        {
            self.0 = (0..outputs)
                .map(|output| capability.retain(output))
                .collect();
        }
    }

    /// The capability to send on `output` at `epoch`.
    pub(crate) fn at(&self, output: usize, epoch: Epoch) -> Capability<Epoch> {
        self.0[output].delayed(&epoch)
    }

    /// Gives up everything before `next`.
    pub(crate) fn advance(&mut self, next: Option<Epoch>) {
        match next {
            Some(epoch) => self.0.iter_mut().for_each(|held| held.downgrade(&epoch)),
            None => self.0.clear(),
        }
    }
}

/// So many of what needs no name, as one update; none where there are none.
pub(crate) fn counted(number: usize, epoch: Epoch) -> Option<((), Epoch, Diff)> {
    (number > 0).then(|| ((), epoch, Diff::try_from(number).unwrap_or(Diff::MAX)))
}

/// Whether no input can bring anything more for `epoch`.
pub(crate) fn complete(frontiers: &[MutableAntichain<Epoch>], epoch: Epoch) -> bool {
    frontiers
        .iter()
        .all(|frontier| !frontier.less_equal(&epoch))
}
