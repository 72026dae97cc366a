//! Files that were mediated by other rules, tables or layouts than those in force: mediated again, from their
//! raw records. What differs goes on, as one change.
//!
//! ```text
//!  saved while the job runs:  raw records ─► the rule before ──┐
//!                                       └──► the rule now ─────┴─► what differs
//!  changed while it stood:    the journal of the last run ─────┐
//!                             raw records ─► the rule now ─────┴─► what differs
//! ```
//!
//! The ledger has for each file the digest of what its records were mediated by. A file that cannot be read
//! again keeps its records as they are and its digest, and is told as long as that is so.

use super::again::{Before, Compared, Journaled, Replay, differences};
use super::files::SourceFile;
use super::{Halt, Intake};
use crate::durable::Restored;
use crate::listener::ChangeReport;
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::mediate::MediationPlan;
use millrace_operators::domain::{FileId, RecordId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// Records of which the journal is asked at once.
const RECORDS: u64 = 1 << 20;

/// What brings a file that cannot be mediated again up to date.
const FILE: &str = "put the file back as it was when it was read, and start the job again";
/// What does where records may no more be corrected.
const CORRECTED: &str = "let its source have corrections, or amend what changes, as it did before";
/// What does where its layout is another.
const LAYOUT: &str = "put `format` and `csv` of the source back as they were, or give files of the new layout a source \
                      of their own";

impl Intake {
    /// Mediates again the files that rules saved while the job runs have left behind; `old` were in force.
    pub(super) fn mediate_again(
        &mut self,
        old: &[Arc<MediationPlan>],
        left: &BTreeSet<FileId>,
        report: &mut ChangeReport,
    ) {
        let mut compared = Compared::default();
        for (file, rows) in self.files.behind() {
            let source = &self.setting.job.sources[file.source];
            let before = match left.contains(&file.id) {
                false => self.files.open_again(&file, source, &old[file.source]),
                true => Err(format!(
                    "{:?} was mediated by a rule that is gone",
                    file.meta.name
                )),
            };
            match before {
                Ok(old) => compared += self.compare(&file, &rows, Replay::new(old)),
                Err(message) => self.stays(&file, &message, FILE),
            }
        }
        self.pass_over_messages();
        self.tell_compared(compared);
        report.mediated += compared.records;
    }

    /// Mediates again the files that were left behind while the job stood.
    pub(super) fn catch_up(&mut self, restored: &Restored) -> Result<(), Halt> {
        let mut compared = Compared::default();
        let (mut asked, mut records) = (BTreeMap::new(), 0);
        let behind = self.files.behind().into_iter();
        // Raw records are rows of the layout that they were read in.
        let otherwise = |(file, _): &(SourceFile, _)| self.files.is_laid_out_otherwise(file);
        let (otherwise, behind): (Vec<_>, Vec<_>) = behind.partition(otherwise);
        for (file, _) in otherwise {
            let name = &file.meta.name;
            let message = format!("{name:?} was read in another format or layout");
            self.stays(&file, &message, LAYOUT);
        }
        let count = behind.len();
        for (at, (file, rows)) in behind.into_iter().enumerate() {
            let read = self.files.entry(file.id).map_or(0, |entry| entry.rows);
            records += read;
            asked.insert(file.id, (file, rows));
            if records < RECORDS && at + 1 < count {
                continue;
            }
            let mut stood = restored.stood(&asked.keys().copied().collect())?;
            for (id, (file, rows)) in std::mem::take(&mut asked) {
                let mut stood = stood.remove(&id).unwrap_or_default();
                if self.is_marked(file.source) {
                    // As they were loaded.
                    let usage = stood.usage.iter_mut();
                    usage.for_each(|usage| {
                        usage.mark.get_or_insert_default();
                    });
                }
                compared += self.compare(&file, &rows, Journaled::new(stood));
            }
            records = 0;
        }
        self.pass_over_messages();
        self.tell_compared(compared);
        if compared.records > 0 {
            self.setting.listener.message(&format!(
                "rules or lookup tables have changed since the last run: {} records were mediated again",
                compared.records
            ));
        }
        match self.bundle.is_empty() {
            true => Ok(()),
            false => self.bind(),
        }
    }

    /// Adds to the bundle what differs between what the records of a file came to and what they come to now.
    fn compare(&mut self, file: &SourceFile, rows: &Range<u64>, before: impl Before) -> Compared {
        let source = &self.setting.job.sources[file.source];
        let rule = &self.setting.rules[file.source];
        if self.is_marked(file.source) && !rule.decides() {
            let message = format!(
                "{:?} has records that are or were corrected",
                file.meta.name
            );
            self.stays(file, &message, CORRECTED);
            return Compared::default();
        }
        match self.files.open_again(file, source, rule) {
            Ok(now) => {
                let mut bundle = std::mem::take(&mut self.bundle);
                let known = |record: RecordId| !self.is_archived(record);
                let compared = differences(rows, before, now, known, &mut bundle);
                self.bundle = bundle;
                self.files.mediated(file.id);
                compared
            }
            Err(message) => {
                self.stays(file, &message, FILE);
                Compared::default()
            }
        }
    }

    /// Tells, once, of messages that the rule before made what they are: they are not kept.
    fn pass_over_messages(&mut self) {
        for (id, source) in self.files.partitions_behind() {
            let read = self.positions.get(&id).or(self.files.positions().get(&id));
            let read = read.copied().unwrap_or(0);
            self.files.mediated(id);
            if let Some(entry) = self.files.entry(id).filter(|_| read > 0) {
                let message = format!(
                    "messages of {} before offset {read} stay as the rule before made them: messages are not \
                     kept",
                    entry.name
                );
                let hint = "begin with an empty `durability.folder` to have all of the topic mediated by the \
                            new rule (and with output topics without messages, where outputs are topics)";
                self.warn_of_rule(source, message, hint);
            }
        }
    }

    /// Tells that the records of a file are not what the rule in force makes of them.
    fn stays(&mut self, file: &SourceFile, message: &str, hint: &str) {
        let records = self.files.entry(file.id).map_or(0, |entry| entry.rows);
        let message = format!("{message}; its {records} records stay as the rule before made them");
        self.warn_of_rule(file.source, message, hint);
    }

    fn warn_of_rule(&mut self, source: usize, message: String, hint: &str) {
        let source = &self.setting.job.sources[source];
        let rule = self.setting.job.rule_path(source).display().to_string();
        let finding = Diagnostic::warning(&rule, (0, 0), message).with_hint(hint);
        self.setting.listener.warned(std::slice::from_ref(&finding));
        self.setting.warned.rules.push(finding);
    }

    fn tell_compared(&self, compared: Compared) {
        if compared.archived > 0 {
            self.setting.listener.message(&format!(
                "{} records of closed bill units would be mediated otherwise; they stay as archived",
                compared.archived
            ));
        }
    }
}
