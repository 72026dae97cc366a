//! Telling what is wrong with the configuration, when it is found.

use super::Intake;
use super::messages::Messages;
use millrace_connectors::decode::Unmet;
use millrace_connectors::diagnostic::Diagnostic;
use millrace_operators::domain::FileId;

impl Intake {
    /// Tells what is said of rules that are in force from now on.
    pub(super) fn warn_of_rules(&mut self, warnings: Vec<Diagnostic>) {
        self.warn(&warnings);
        self.setting.warned.rules = warnings;
    }

    /// Tells what is said of reference data that is in force from now on.
    pub(super) fn warn_of_reference(&mut self, warnings: Vec<Diagnostic>) {
        self.warn(&warnings);
        self.setting.warned.reference = warnings;
    }

    /// Tells what is said of the job beside what is said of it already.
    pub(super) fn warn_of_job(&mut self, warnings: Vec<Diagnostic>) {
        self.warn(&warnings);
        self.setting.warned.job.extend(warnings);
    }

    /// Tells which fields that the rule reads are in no record of a file.
    pub(super) fn warn_of_unmet(&mut self, id: FileId, unmet: Vec<Unmet>, chooses: bool) {
        if let Some(source) = self.files.source_of(id) {
            let rule = &self.setting.rules[source];
            let unmet = rule.misses(unmet, chooses);
            let told = self.files.lacks(id, unmet, rule);
            self.warn(&told);
        }
    }

    fn warn(&self, warnings: &[Diagnostic]) {
        if !warnings.is_empty() {
            self.setting.listener.warned(warnings);
        }
    }

    /// Tells of messages that were removed before they were read.
    pub(super) fn warn_of_skipped(&mut self) {
        let skipped = self.topics.iter_mut().flat_map(Messages::take_skipped);
        let job = self.setting.job.path.display().to_string();
        let finding = |message: String| {
            Diagnostic::warning(&job, (0, 0), message)
                .with_hint("load them from elsewhere, as files of a source of the same stream")
        };
        let skipped = skipped.map(finding).collect();
        self.warn_of_job(skipped);
    }

    /// Tells why saved rules are not in force.
    pub(super) fn reject_rules(&mut self, findings: Vec<Diagnostic>) {
        self.setting.listener.rejected(&findings);
        self.setting.warned.rules = findings;
    }

    /// Tells why saved reference data is not in force.
    pub(super) fn reject_reference(&mut self, findings: Vec<Diagnostic>) {
        self.setting.listener.rejected(&findings);
        self.setting.warned.reference = findings;
    }
}
