//! What stands behind the frontier: the board, the changes on their way to files, and whoever is
//! told of them.

use super::{Pending, RunError, moved};
use crate::board::{Board, Movement};
use crate::durable::Flushed;
use crate::intake::{Points, Suspended};
use crate::listener::{ChangeReport, Listener, PendingChange, Standing};
use crate::metrics::Metrics;
use crate::outputs::{ChangeWriter, MessageWriter};
use crate::publish::EpochChanges;
use millrace_connectors::names::Names;
use millrace_operators::epoch::Epoch;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

/// See the module.
pub(super) struct Publisher {
    pub(super) board: Board,
    pub(super) changes: Option<ChangeWriter>,
    pub(super) messages: Option<MessageWriter>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) listener: Arc<dyn Listener>,
    pub(super) pending: Pending,
    pub(super) bound: Arc<AtomicU64>,
    pub(super) watch: bool,
    /// What is suspended, for commands.
    pub(super) suspended: Option<Suspended>,
    /// Epochs before this one are loaded: they stand on the board, and were published before.
    pub(super) live: Epoch,
    /// Epochs from this one on may not have been published as messages.
    pub(super) unpublished: Epoch,
    /// The text behind keys.
    pub(super) names: Arc<Names>,
    /// Where epochs are made durable.
    pub(super) keeping: Option<Staging>,
}

/// After which epochs outputs are staged, and who is told.
pub(super) struct Staging {
    pub(super) begun: Points,
    pub(super) flushed: Sender<Flushed>,
}

impl Publisher {
    /// Takes a complete epoch in, or learns how far epochs are complete.
    pub(super) fn deliver(
        &mut self,
        changes: Option<EpochChanges>,
        before: Epoch,
    ) -> Result<(), RunError> {
        self.stage(changes.as_ref().map_or(before, |changes| changes.epoch))?;
        if let Some(changes) = changes {
            // Lines that move from here on are told, or made durable.
            let followed = match &self.messages {
                Some(_) => self.unpublished,
                None => self.live,
            };
            if self.keeping.is_some() && changes.epoch >= followed {
                self.board.follow_lines();
            }
            if changes.epoch < self.live {
                let changes = changes.settled_besides_lines();
                self.board.apply(&changes)?;
                if let Some(suspended) = &self.suspended {
                    suspended.apply(&changes);
                }
                if let Some(writer) = &mut self.changes {
                    writer.learn(&changes.buckets);
                }
                if let Some(messages) = &mut self.messages {
                    if changes.epoch < self.unpublished {
                        messages.learn(&changes);
                    } else {
                        messages.write(&changes)?;
                    }
                }
                return Ok(());
            }
            let mut writer = self
                .changes
                .as_mut()
                .filter(|writer| writer.wants(&changes));
            let changes = match (&writer, &self.messages, &self.suspended) {
                (None, None, None) => changes,
                // Billing lines are settled once for all epochs of a commit.
                (None, ..) => changes.settled_besides_lines(),
                (Some(_), ..) => changes.settled(),
            };
            let movement = self.board.apply(&changes)?;
            if let Some(suspended) = &self.suspended {
                suspended.apply(&changes);
            }
            if let Some(writer) = &mut writer {
                writer.write(&changes)?;
            }
            if let Some(messages) = &mut self.messages {
                messages.write(&changes)?;
            }
            self.report(&changes, &movement);
            return Ok(());
        }
        self.metrics
            .set_records(self.board.counts(), self.board.reasons());
        self.metrics.complete_before(before);
        if let Some(suspended) = &self.suspended {
            suspended.complete(before);
        }
        // Changes that moved nothing are answered too.
        let quiet = {
            let pending = self
                .pending
                .lock()
                .expect("pending changes are not poisoned");
            pending
                .range(..before)
                .map(|(epoch, _)| *epoch)
                .collect::<Vec<_>>()
        };
        for epoch in quiet {
            let nothing = EpochChanges {
                epoch,
                ..EpochChanges::default()
            };
            self.report(&nothing, &Movement::default());
        }
        if self.watch && self.keeping.is_none() && self.rests(before) {
            self.settle()?;
            self.tell_standing();
        }
        Ok(())
    }

    /// Stages the outputs of commits whose epochs all lie before `epoch`.
    fn stage(&mut self, epoch: Epoch) -> Result<(), RunError> {
        let Some(keeping) = &self.keeping else {
            return Ok(());
        };
        let (begun, told) = (Points::clone(&keeping.begun), keeping.flushed.clone());
        loop {
            let mut begun = begun.lock().expect("points are not poisoned");
            let Some(point) = begun.pop_front_if(|point| *point < epoch) else {
                return Ok(());
            };
            drop(begun);
            self.settle()?;
            let staged = self.changes.as_mut().map(ChangeWriter::staged);
            let lines = self.board.moved();
            if let Some(messages) = &mut self.messages {
                messages.write_lines(&lines)?;
            }
            let flushed = Flushed {
                epoch: point,
                outputs: staged.unwrap_or_default(),
                messages: self
                    .messages
                    .as_mut()
                    .map(MessageWriter::take)
                    .unwrap_or_default(),
                lines,
                received: self.board.counts().received,
            };
            // A committer that is gone has said why.
            told.send(flushed).ok();
            // While more is on its way not everything is read.
            if self.watch && self.rests(point + 1) {
                self.tell_standing();
            }
        }
    }

    /// Whether nothing is on its way but epochs before this one.
    fn rests(&self, before: Epoch) -> bool {
        self.metrics.is_all_read() && before >= self.bound.load(Ordering::Relaxed)
    }

    fn tell_standing(&self) {
        self.listener.settled();
        self.listener.stands(&Standing {
            totals: self.board.totals(),
            counts: self.board.counts(),
            lines: self.board.line_count(),
            reasons: self.board.reasons(),
        });
    }

    /// Finishes the files begun.
    pub(super) fn settle(&mut self) -> Result<(), RunError> {
        let settled = self.changes.as_mut().map(ChangeWriter::settle);
        Ok(settled.transpose().map(|_| ())?)
    }

    fn report(&mut self, changes: &EpochChanges, movement: &Movement) {
        let mut pending = self
            .pending
            .lock()
            .expect("pending changes are not poisoned");
        let change = pending.remove(&changes.epoch);
        drop(pending);
        if let Some(PendingChange { report, noticed }) = change {
            let money = |currency, amount| self.board.money(currency, amount);
            let prices_moved = moved::prices(changes, &self.names);
            let mut prices = report.prices.clone();
            // Those that moved nothing come last, in their order.
            let mut places: BTreeMap<&str, usize> = BTreeMap::new();
            for (place, moved) in prices_moved.iter().enumerate() {
                places.entry(&moved.id).or_insert(place);
            }
            prices.sort_by_cached_key(|price| {
                let place = places.get(price.id.as_str());
                place.copied().unwrap_or(usize::MAX)
            });
            let report = ChangeReport {
                prices,
                prices_moved,
                accounts: moved::accounts(changes, &self.board, &self.names),
                rerated: changes.rerated,
                lines: changes
                    .lines
                    .iter()
                    .map(|((key, _), _)| key)
                    .collect::<BTreeSet<_>>()
                    .len(),
                money: movement
                    .totals
                    .iter()
                    .map(|(c, (old, new))| (money(*c, *old), money(*c, *new)))
                    .collect(),
                elapsed: noticed.elapsed(),
                ..report
            };
            self.listener.changed(&report);
        }
    }
}
