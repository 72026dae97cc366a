//! What stands behind the frontier: the board, the changes on their way to files, and whoever is
//! told of them.

use super::{Pending, RunError};
use crate::board::{Board, Movement};
use crate::listener::{ChangeReport, Listener, PendingChange};
use crate::metrics::Metrics;
use crate::outputs::ChangeWriter;
use crate::publish::EpochChanges;
use millrace_operators::epoch::Epoch;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
pub(super) struct Publisher {
    pub(super) board: Board,
    pub(super) changes: Option<ChangeWriter>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) listener: Arc<dyn Listener>,
    pub(super) pending: Pending,
    pub(super) bound: Arc<AtomicU64>,
    /// Records re-rated up to the last complete epoch.
    pub(super) rerated: u64,
    pub(super) watch: bool,
}

impl Publisher {
    /// Takes a complete epoch in, or learns how far epochs are complete.
    pub(super) fn deliver(
        &mut self,
        changes: Option<EpochChanges>,
        before: Epoch,
    ) -> Result<(), RunError> {
        if let Some(changes) = changes {
            let mut writer = self
                .changes
                .as_mut()
                .filter(|writer| writer.wants(&changes));
            let changes = match &writer {
                Some(_) => changes.settled(),
                None => changes,
            };
            let movement = self.board.apply(&changes)?;
            if let Some(writer) = &mut writer {
                writer.write(&changes)?;
            }
            self.report(&changes, &movement);
            return Ok(());
        }
        self.metrics
            .set_records(self.board.counts(), self.board.reasons());
        self.metrics.complete_before(before);
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
        if self.watch && before >= self.bound.load(Ordering::Relaxed) {
            self.settle()?;
            self.listener.settled();
        }
        Ok(())
    }

    /// Finishes the files begun.
    pub(super) fn settle(&mut self) -> Result<(), RunError> {
        let settled = self.changes.as_mut().map(ChangeWriter::settle);
        Ok(settled.transpose().map(|_| ())?)
    }

    fn report(&mut self, changes: &EpochChanges, movement: &Movement) {
        let rerated: u64 = self.metrics.nodes().values().map(|node| node.rerated).sum();
        let mut pending = self
            .pending
            .lock()
            .expect("pending changes are not poisoned");
        let change = pending.remove(&changes.epoch);
        drop(pending);
        if let Some(PendingChange { report, noticed }) = change {
            let money = |currency, amount| self.board.money(currency, amount);
            let report = ChangeReport {
                rerated: rerated.saturating_sub(self.rerated),
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
        self.rerated = rerated;
    }
}
