//! What is saved while a job watches, put in force.

use super::Intake;
use super::halt::Halt;
use crate::job::SourcePlan;
use crate::listener::{ChangeReport, PendingChange};
use crate::watch::Saved;
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::mediate::MediationPlan;
use millrace_connectors::reference::ReferenceChanges;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

impl Intake {
    /// Applies what saved files and messages of reference data change, as one epoch.
    pub(super) fn changed(&mut self, saved: &Saved, noticed: Instant) -> Result<(), Halt> {
        let came = self.poll_reference()?;
        if saved.is_empty() && !came {
            return self.look();
        }
        self.tell_of_job(saved);
        let mut report = ChangeReport::default();
        let held = self.held.clone();
        let files = self.setting.reference_files.files();
        let touched = saved.iter().any(|path| files.contains(path));
        let rules = self.rules_touched(saved);
        if rules && self.bundle.rows > 0 {
            // A record and what takes it back are of two epochs.
            self.bind()?;
        }
        // Reference data is held against the names of the rules: what waited for a rule may be right now,
        // and what was right may name nothing any more.
        let renamed = rules && self.reload_rules(&mut report)?;
        if touched || came || renamed {
            self.reload_reference(touched || renamed, &mut report);
        }
        self.discover()?;
        if self.bundle.is_empty() {
            // Which messages are held back is part of what is kept.
            let kept = self.setting.keeping.is_some() && held != self.held;
            return if kept { self.bind_and(true) } else { Ok(()) };
        }
        let pending = PendingChange { report, noticed };
        let mut waiting = self
            .setting
            .pending
            .lock()
            .expect("pending changes are not poisoned");
        waiting.insert(self.epoch, pending);
        drop(waiting);
        self.setting.metrics.reference_changed();
        self.bind()
    }

    /// Says once of each change of the job file that it is not in force yet.
    fn tell_of_job(&mut self, saved: &Saved) {
        let job = &self.setting.job;
        if !saved.contains(&job.path) {
            return;
        }
        // An editor may have it away for the moment.
        let found = std::fs::read_to_string(&job.path).ok();
        let Some(text) = found.filter(|text| **text != *self.job_text) else {
            return;
        };
        let file = job.path.display();
        let message = match *text == *job.text {
            true => format!("{file} is again what the job runs by"),
            false => format!(
                "{file} has changed; the job goes on as it began, and applies it at its next start"
            ),
        };
        self.setting.listener.message(&message);
        self.job_text = Arc::from(text);
    }

    /// Reads the files again, where one was saved, and puts messages in force.
    pub(super) fn reload_reference(&mut self, files: bool, report: &mut ChangeReport) {
        self.messages_came = false;
        let loading = SystemTime::now();
        let reference_files = &mut self.setting.reference_files;
        let loaded = match files {
            true => reference_files.load(),
            false => reference_files.settle(),
        };
        match loaded {
            Ok(loaded) => {
                let changes = ReferenceChanges::between(&self.setting.reference, &loaded.reference);
                report.rows += changes.len();
                report.prices = changes.price_changes(&self.setting.names);
                report.plans = changes.plan_changes(&self.setting.names);
                self.setting.reference = loaded.reference;
                self.bundle.reference = changes;
                self.learn();
                self.warn_of_reference(loaded.warnings);
                self.hold(loaded.held);
            }
            Err(findings) => self.reject_reference(findings),
        }
        // The catalog may name other tables than before.
        let followed = self.setting.watch.as_mut();
        let files = self.setting.reference_files.files();
        if let Some(Err(error)) = followed.map(|watch| watch.follow(files, loading)) {
            self.setting.listener.message(&error.to_string());
        }
    }

    pub(super) fn rules_touched(&self, saved: &Saved) -> bool {
        saved
            .iter()
            .any(|path| self.setting.job.rule_files().contains(path))
    }

    /// What keeps rules from being in force: a folder's columns are only known from its files, and those of
    /// messages may be from a registry, so a rule that compiles may still not suit them. A file that cannot be
    /// read again at all speaks against no rule.
    pub(super) fn unsuitable(&self, rules: &[Arc<MediationPlan>]) -> Vec<Diagnostic> {
        let mut findings = Vec::new();
        for file in self.files.read_files() {
            let source = &self.setting.job.sources[file.source];
            let open = |rules: &[Arc<MediationPlan>]| {
                self.files.open_again(&file, source, &rules[file.source])
            };
            if let Err(message) = open(rules)
                && open(&self.setting.rules).is_ok()
            {
                let path = self.setting.job.rule_path(source);
                findings.push(Diagnostic::error(
                    &path.display().to_string(),
                    (0, 0),
                    message,
                ));
            }
        }
        for messages in &self.topics {
            let source = &self.setting.job.sources[messages.source];
            if let Err(message) = messages.suits(source, &rules[messages.source]) {
                let path = self.setting.job.rule_path(source).display().to_string();
                findings.push(Diagnostic::error(&path, (0, 0), message));
            }
        }
        findings
    }

    /// What is wrong with rules by which other records of an identity hold: in state that is kept, records
    /// stand as the rules before have marked them.
    pub(super) fn other_precedence(&self, rules: &[Arc<MediationPlan>]) -> Vec<Diagnostic> {
        if self.setting.keeping.is_none() {
            return Vec::new();
        }
        let sources = self.setting.job.sources.iter();
        let rules = sources.zip(self.setting.rules.iter().zip(rules));
        let differs = rules.filter(|(_, (old, new))| old.precedence() != new.precedence());
        let finding = |(source, (old, new)): (
            &SourcePlan,
            (&Arc<MediationPlan>, &Arc<MediationPlan>),
        )| {
            let path = self.setting.job.rule_path(source);
            let message = format!(
                "the source {:?} has taken in records of which {} holds, not {}",
                source.name,
                old.precedence(),
                new.precedence()
            );
            let hint = "put `keep` and `version` back as they were, or give `durability.folder` an empty \
                        folder to read all sources from their beginning";
            Diagnostic::error(&path.display().to_string(), (0, 0), message).with_hint(hint)
        };
        differs.map(finding).collect()
    }

    /// Mediates again what a changed rule or lookup table could alter; whether the rules are in force and
    /// call things otherwise than before.
    pub(super) fn reload_rules(&mut self, report: &mut ChangeReport) -> Result<bool, Halt> {
        let rules = match self.setting.job.working_rules(&self.setting.names) {
            Ok(rules) => rules,
            Err(findings) => {
                self.reject_rules(findings);
                return Ok(false);
            }
        };
        let mut unsuitable = self.unsuitable(&rules.plans);
        unsuitable.extend(self.other_precedence(&rules.plans));
        if !unsuitable.is_empty() {
            self.reject_rules(unsuitable);
            return Ok(false);
        }
        self.warn_of_rules(rules.warnings);
        let renamed = self.setting.reference_files.know(rules.vocabulary);
        let left = self.files.behind(&self.positions).into_iter();
        let left = left.map(|behind| behind.id).collect();
        let old = std::mem::replace(&mut self.setting.rules, rules.plans);
        self.mark();
        self.files
            .mediate_by(&self.setting.job.sources, &self.setting.rules);
        if self.setting.keeping.is_some() {
            self.files
                .keep_inputs(&self.setting.job.sources, &self.setting.rules);
        }
        self.files.try_again();
        self.mediate_again(&old, &left, report)?;
        for messages in &mut self.topics {
            let source = &self.setting.job.sources[messages.source];
            messages.mediate_by(source, &self.setting.rules[messages.source])?;
        }
        Ok(renamed)
    }
}
