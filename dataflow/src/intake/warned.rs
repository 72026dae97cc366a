//! What was said of the configuration that is in force, and of what is not for its faults.

use super::Intake;
use super::messages::Messages;
use millrace_connectors::decode::Unmet;
use millrace_connectors::diagnostic::Diagnostic;
use millrace_operators::domain::FileId;

/// Findings by what they are about: each is judged again on its own.
#[derive(Clone, Debug, Default)]
pub struct Warned {
    /// The job file.
    pub job: Vec<Diagnostic>,
    /// Mediation rules and the tables that they ask.
    pub rules: Vec<Diagnostic>,
    /// Catalog and accounts.
    pub reference: Vec<Diagnostic>,
    /// What files lack that rules read.
    pub files: Vec<Diagnostic>,
}

impl Warned {
    /// All of them, in the order of files and places.
    #[must_use]
    pub fn all(&self) -> Vec<Diagnostic> {
        let parts = [&self.job, &self.rules, &self.reference, &self.files];
        let mut all: Vec<Diagnostic> = parts.into_iter().flatten().cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// Those for which money may be wrong.
    #[must_use]
    pub fn about_money(&self) -> Vec<Diagnostic> {
        let mut all = self.all();
        all.retain(Diagnostic::is_about_money);
        all
    }
}

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
