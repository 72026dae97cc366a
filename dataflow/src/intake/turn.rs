//! When a watching run ends to begin again: bill units have closed, or archived ones are to be adjusted.

use crate::archive::Closing;
use crate::durable::Closed;
use crate::intake::Suspended;
use crate::job::Job;
use crate::present::Present;
use millrace_connectors::reference::Reference;
use millrace_operators::domain::{EventTime, Reason};
use std::time::{Duration, Instant};

/// How often a closing is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Turn {
    /// How long what is late waits.
    adjust: Duration,
    /// When the next bill unit closes; a job with a clock of its own waits for none.
    closes: Option<EventTime>,
    /// Whether reference data has changed that archived bill units were billed by.
    changed: bool,
    begun: Instant,
    looked: Instant,
}

impl Turn {
    /// For a job with an archive and durable state.
    pub(super) fn of(job: &Job) -> Option<Self> {
        let archive = job.archive.as_ref()?;
        job.durability.as_ref()?;
        Some(Self {
            adjust: archive.adjust,
            closes: None,
            changed: false,
            begun: Instant::now(),
            looked: Instant::now(),
        })
    }

    /// Learns the reference data in force, and whether that has changed.
    pub(super) fn learn(
        &mut self,
        job: &Job,
        (reference, changed): (&Reference, bool),
        closed: &Closed,
        present: Present,
    ) {
        self.changed |= changed;
        let Some(archive) = &job.archive else {
            return;
        };
        let closing = Closing::new(reference, job.zone.clone(), archive.after, present.at);
        let archived = closed.periods.keys().copied();
        let mut closing = closing
            .behind(&closed.units, archived)
            .that_closes(present.closes);
        self.closes = match job.clock {
            _ if closing.units() != closed.units => Some(present.at),
            None => closing.next(),
            Some(_) => None,
        };
    }

    /// Whether it is time. Corrections of archived records wait as late records do.
    pub(super) fn is_due(
        &mut self,
        closed: &Closed,
        suspended: Option<&Suspended>,
        corrects: bool,
        present: Present,
    ) -> bool {
        if self.looked.elapsed() < LOOK {
            return false;
        }
        self.looked = Instant::now();
        if present.closes && self.closes.is_some_and(|closes| closes <= present.at) {
            return true;
        }
        if self.begun.elapsed() < self.adjust || closed.units.0.is_empty() {
            return false;
        }
        self.begun = Instant::now();
        let waits = |suspended: &Suspended| suspended.has(Reason::PeriodClosed);
        self.changed || corrects || suspended.is_some_and(waits)
    }
}
