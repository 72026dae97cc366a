//! Files and messages that were mediated by other rules, tables or layouts than those in force: mediated again,
//! from their raw records and from the broker. What differs goes on, as one change.
//!
//! ```text
//!  saved while the job runs:  raw records ─► the rule before ──┐
//!                                       └──► the rule now ─────┴─► what differs
//!  changed while it stood:    the journal of the last run ─────┐
//!                             raw records ─► the rule now ─────┴─► what differs
//! ```
//!
//! The ledger has for each file and partition the digest of what its records were mediated by. A file that
//! cannot be read again keeps its records as they are and its digest, and is told as long as that is so. Messages
//! that the broker has no more stay as they are too, but nobody can put them back: they are told when they are
//! left behind.

use super::again::{Before, Compared, Journaled, Replay, differences};
use super::archived::Forgotten;
use super::files::Behind;
use super::messages::MessagesAgain;
use super::{Halt, Intake};
use crate::durable::Restored;
use crate::listener::ChangeReport;
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::mediate::MediationPlan;
use millrace_operators::domain::{FileId, RecordId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Records of which the journal is asked at once.
const RECORDS: u64 = 1 << 20;

/// What brings a file that cannot be mediated again up to date.
const FILE: &str = "put the file back as it was when it was read, and start the job again";
/// What does for messages, where the rule before is not known any more.
const MESSAGES: &str = "start the job again: it holds them against what it has committed";
/// What does where records may no more be corrected.
const CORRECTED: &str = "let its source have corrections, or amend what changes, as it did before";
/// What does where its layout is another.
const LAYOUT: &str = "put `format` and `csv` of the source back as they were, or give files of the new layout a source \
                      of their own";
/// What does where that of messages is another.
const FORMAT: &str = "put `format` of the topics back as it was, or give messages of the new format a topic and a source \
                      of their own";
/// What brings the bill of closed bill units where a rule would have it.
const ARCHIVED: &str = "amend or void those records by records of their identities, where the rule has a `kind`; or put the \
                        rule, and the tables that it asks, back as they were";
/// What makes the rule before that of all messages again, where the broker has some no more.
const RULE: &str =
    "put the rule, and the tables that it asks, back as they were to have all of them by one rule";

impl Intake {
    /// Mediates again what rules saved while the job runs have left behind; `old` were in force.
    pub(super) fn mediate_again(
        &mut self,
        old: &[Arc<MediationPlan>],
        left: &BTreeSet<FileId>,
        report: &mut ChangeReport,
    ) -> Result<(), Halt> {
        let mut compared = Compared::default();
        for behind in self.take_behind() {
            if left.contains(&behind.id) {
                let message = format!("{:?} was mediated by a rule that is gone", behind.name);
                let hint = behind.file.as_ref().map_or(MESSAGES, |_| FILE);
                self.stays(&behind, &message, hint);
                continue;
            }
            match self.replay(&behind, &old[behind.source])? {
                Ok(before) => compared += self.compare(&behind, before)?,
                Err(message) => self.cannot(&behind, &message),
            }
        }
        self.tell_archived_otherwise();
        report.mediated += compared.records;
        Ok(())
    }

    /// Mediates again what was left behind while the job stood.
    pub(super) fn catch_up(&mut self, restored: &Restored) -> Result<(), Halt> {
        let mut compared = Compared::default();
        let (mut asked, mut records) = (BTreeMap::new(), 0);
        let behind = self.take_behind();
        let count = behind.len();
        for (at, behind) in behind.into_iter().enumerate() {
            records += self.records(&behind);
            asked.insert(behind.id, behind);
            if records < RECORDS && at + 1 < count {
                continue;
            }
            let mut stood = restored.stood(&asked.keys().copied().collect())?;
            for (id, behind) in std::mem::take(&mut asked) {
                let mut stood = stood.remove(&id).unwrap_or_default();
                if self.is_marked(behind.source) {
                    // As they were loaded.
                    let usage = stood.usage.iter_mut();
                    usage.for_each(|usage| {
                        usage.mark.get_or_insert_default();
                    });
                }
                compared += self.compare(&behind, Journaled::new(stood))?;
            }
            records = 0;
        }
        self.tell_archived_otherwise();
        if compared.records > 0 {
            self.setting.listener.message(&format!(
                "rules or lookup tables have changed since the last run: {} records were mediated again",
                compared.records
            ));
        }
        match count {
            0 => Ok(()),
            // What is told once is known from then on.
            _ => self.bind_and(true),
        }
    }

    /// What is left behind and can be held against what it was. What cannot stays, and is told.
    fn take_behind(&mut self) -> Vec<Behind> {
        let mut again = Vec::new();
        for behind in self.files.behind(&self.positions) {
            let Behind { id, source, .. } = behind;
            let name = &behind.name;
            if behind.rows.is_empty() {
                self.files.mediated(id);
            } else if self.files.is_laid_out_otherwise(id, source) {
                // Raw records are rows of the layout that they were read in.
                let message = format!("{name:?} was read in another format or layout");
                let hint = behind.file.as_ref().map_or(FORMAT, |_| LAYOUT);
                self.stays(&behind, &message, hint);
            } else if self.is_marked(source) && !self.setting.rules[source].decides() {
                let message = format!("{name:?} has records that are or were corrected");
                self.stays(&behind, &message, CORRECTED);
            } else {
                again.push(behind);
            }
        }
        again
    }

    /// What a rule makes of records that were read before; in words, why they cannot be read again.
    fn replay(
        &self,
        behind: &Behind,
        rule: &MediationPlan,
    ) -> Result<Result<Replay, String>, Halt> {
        let source = &self.setting.job.sources[behind.source];
        if let Some(file) = &behind.file {
            return Ok(self.files.open_again(file, source, rule).map(Replay::new));
        }
        let known = source
            .kafka
            .as_ref()
            .zip(self.files.partition_of(behind.id));
        let Some((plan, (partition, topic))) = known else {
            return Ok(Err(format!("{:?} is no topic's", behind.name)));
        };
        let opened = MessagesAgain::open(
            (source, plan),
            rule,
            (behind.id, partition, topic),
            &behind.rows,
            (&self.setting.listener, &self.setting.failed),
        )?;
        Ok(opened.map(|(messages, mediator)| Replay::of_messages(behind.id, messages, mediator)))
    }

    /// Adds to the bundle what differs between what records came to and what they come to now.
    fn compare(&mut self, behind: &Behind, before: impl Before) -> Result<Compared, Halt> {
        let rule = Arc::clone(&self.setting.rules[behind.source]);
        match self.replay(behind, &rule)? {
            Ok(mut now) => {
                let mut bundle = std::mem::take(&mut self.bundle);
                let known = |record: RecordId| !self.is_archived(record);
                let archive = |asked: &[Forgotten]| self.archived_otherwise(asked);
                let rows = &behind.rows;
                let compared = differences(rows, before, &mut now, known, archive, &mut bundle);
                self.bundle = bundle;
                let compared = compared?;
                let differ = self.otherwise.entry(behind.source).or_default();
                *differ += compared.archived;
                let stay = self.archived_of(behind.id, &behind.rows) | now.unread(&behind.rows);
                self.files.mediated_but(behind.id, &behind.rows, stay);
                if behind.file.is_none() {
                    self.tell_gone(behind, compared.records);
                }
                let (unmet, chooses) = now.unmet();
                self.warn_of_unmet(behind.id, unmet, chooses);
                self.files.mediated(behind.id);
                Ok(compared)
            }
            Err(message) => {
                self.cannot(behind, &message);
                Ok(Compared::default())
            }
        }
    }

    /// Records that were received of a file or partition.
    fn records(&self, behind: &Behind) -> u64 {
        let received = self.received.get(&behind.id).copied();
        match behind.file {
            Some(_) => self.files.entry(behind.id).map_or(0, |entry| entry.rows),
            None => received.unwrap_or(0),
        }
    }

    /// Tells that records cannot be read again.
    fn cannot(&mut self, behind: &Behind, message: &str) {
        if behind.file.is_some() {
            return self.stays(behind, message, FILE);
        }
        let left = self.records(behind);
        if self.files.leaves_behind(behind.id, left) {
            let message = format!("{:?} cannot be mediated again: {message}", behind.name);
            let message = format!("{message}; {}", self.left(behind, left));
            self.warn_of_rule(behind.source, message, RULE);
        }
        self.files.all_stay(behind.id, &behind.rows);
        self.files.mediated(behind.id);
    }

    /// Tells of messages that the broker has no more, where it had `read` of them.
    fn tell_gone(&mut self, behind: &Behind, read: u64) {
        let left = self.records(behind).saturating_sub(read);
        if left > 0 && self.files.leaves_behind(behind.id, left) {
            let message = format!(
                "{:?} cannot all be mediated again: the broker has {read} of the messages that were read; {}",
                behind.name,
                self.left(behind, left)
            );
            self.warn_of_rule(behind.source, message, RULE);
        }
    }

    fn left(&self, behind: &Behind, left: u64) -> String {
        let (first, last) = (behind.rows.start, behind.rows.end - 1);
        format!("{left} messages of offsets {first} to {last} stay as the rule before made them")
    }

    /// Tells that records are not what the rule in force makes of them.
    fn stays(&mut self, behind: &Behind, message: &str, hint: &str) {
        let records = self.records(behind);
        let message = format!("{message}; its {records} records stay as the rule before made them");
        self.warn_of_rule(behind.source, message, hint);
        if behind.file.is_none() {
            self.files.goes_on_otherwise(behind.id, &behind.rows);
        }
    }

    fn warn_of_rule(&mut self, source: usize, message: String, hint: &str) {
        let source = &self.setting.job.sources[source];
        let rule = self.setting.job.rule_path(source).display().to_string();
        let finding = Diagnostic::warning(&rule, (0, 0), message).with_hint(hint);
        self.setting.listener.warned(std::slice::from_ref(&finding));
        self.setting.warned.rules.push(finding);
    }

    /// Tells what the rules in force would make otherwise of records that are archived.
    fn tell_archived_otherwise(&mut self) {
        for (source, records) in std::mem::take(&mut self.otherwise) {
            if records > 0 {
                let message = format!(
                    "{records} records of closed bill units would be mediated otherwise; they stay as archived"
                );
                self.warn_of_rule(source, message, ARCHIVED);
            }
        }
    }
}
