//! Epochs: what is bound to one, and what is kept with it.

use super::Intake;
use super::halt::Halt;
use super::messages::Messages;
use crate::durable::{Facts, Point};
use crate::present::{Present, machine};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_operators::domain::EventTime;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Intake {
    /// Notes the sources whose records may be corrected.
    pub(super) fn mark(&mut self) {
        let sources = self.setting.job.sources.iter().zip(&self.setting.rules);
        let correctable = sources.filter(|(_, rule)| rule.decides());
        let origins = correctable.map(|(source, _)| source.origin().to_owned());
        self.marked.extend(origins);
    }

    /// Whether the records of a source are held whole.
    pub(super) fn is_marked(&self, source: usize) -> bool {
        let source = self.setting.job.sources.get(source);
        source.is_some_and(|source| self.marked.contains(source.origin()))
    }

    /// By which instant bill units close.
    pub(super) fn present(&self) -> Present {
        self.witness.present(self.setting.job.clock, machine())
    }

    /// What is to be said of the machine's clock.
    pub(super) fn doubts(&self) -> Option<Diagnostic> {
        let closes = self.setting.closes;
        closes.then(|| self.witness.doubt(&self.setting.job, machine()))?
    }

    /// Tells that the machine's clock is not to be believed, once.
    pub(super) fn doubt(&mut self) {
        if self.doubted {
            return;
        }
        if let Some(finding) = self.doubts() {
            self.doubted = true;
            self.setting.listener.warned(&[finding]);
        }
    }

    /// Moves the graph's clock. Cycles begin and end at midnights of the tenant, so the clock moves
    /// with the tenant's date.
    pub(super) fn tell_time(&mut self) {
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

    /// Sends the bundle as the next epoch, split over the workers.
    pub(super) fn bind(&mut self) -> Result<(), Halt> {
        self.bind_and(self.is_due())
    }

    pub(super) fn is_due(&self) -> bool {
        let keeping = self.setting.keeping.as_ref();
        keeping.is_some_and(|keeping| self.kept.elapsed() >= keeping.interval)
    }

    /// Begins a commit of everything that is bound and not durable yet.
    pub(super) fn keep_all(&mut self) -> Result<(), Halt> {
        if self.setting.keeping.is_some() && !self.journal.is_empty() {
            self.bind_and(true)?;
        }
        Ok(())
    }

    pub(super) fn bind_and(&mut self, keep: bool) -> Result<(), Halt> {
        if let Some(opened) = &self.reading {
            // The records of this epoch are told by their lines, wherever it ends.
            self.tell_lines_of(opened.id, &opened.lines);
        }
        // A file that amends another is entered when it is read, not when it is found.
        self.name_files();
        let bundle = std::mem::take(&mut self.bundle);
        if self.setting.closes {
            let comes = bundle.usage().iter().filter(|(_, diff)| *diff > 0);
            self.witness.see(comes.map(|(usage, _)| usage.time));
        }
        for (file, records) in &bundle.received {
            *self.received.entry(*file).or_default() += records;
        }
        self.setting.metrics.epoch_bound(self.epoch);
        if let Some(keeping) = &self.setting.keeping {
            self.journal.enter(self.epoch, &bundle);
            if keep {
                // Before any worker can complete the epoch.
                let mut begun = keeping.begun.lock();
                let begun = begun.as_mut().expect("points are not poisoned");
                begun.push_back(self.epoch);
            }
        }
        for (part, channel) in bundle
            .split(self.epoch, self.channels.len())
            .zip(&self.channels)
        {
            channel.send(part).map_err(|_| Halt::Gone)?;
        }
        self.epoch += 1;
        self.setting.bound.store(self.epoch, Ordering::Relaxed);
        if keep { self.keep() } else { Ok(()) }
    }

    /// Hands what was bound since the last commit to the committer; waits while others wait.
    pub(super) fn keep(&mut self) -> Result<(), Halt> {
        let Some(keeping) = &self.setting.keeping else {
            return Ok(());
        };
        // What was read at the offsets of other topics never happened.
        self.topics.iter().try_for_each(Messages::is_same)?;
        if let Some(opened) = &mut self.reading {
            self.files.note(opened);
        }
        self.witness = self.witness.committed(self.setting.job.clock, machine());
        // What waits to be read on stays where it was.
        let mut positions = self.files.positions().clone();
        positions.extend(&self.positions);
        let reading = self.reading.as_ref();
        positions.extend(reading.map(|opened| (opened.id, opened.position())));
        let point = Point {
            epoch: self.epoch - 1,
            journal: std::mem::take(&mut self.journal),
            raw: self.files.take_raw(),
            facts: Facts {
                names: self.setting.names.entered(),
                files: self.files.changed(&self.setting.job.sources),
                positions: positions
                    .into_iter()
                    .map(|(id, next)| {
                        (id, self.files.position(id, next, &self.setting.job.sources))
                    })
                    .collect(),
                paused: self.paused_origins(),
                marked: self.marked.clone(),
                commands: self.applied.clone(),
                held: self.setting.reference_files.held(),
                forgotten: self.forgotten,
                raw: self.files.take_raw_digests(),
                witness: self.witness,
                stays: self.files.take_stays(),
            },
            inputs: self.files.take_inputs(),
        };
        self.kept = Instant::now();
        keeping.points.send(point).map_err(|_| Halt::Gone)
    }
}
