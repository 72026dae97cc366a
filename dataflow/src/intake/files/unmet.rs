//! Fields that rules read and that no record of a file has: what a wrong name comes to where no header names the
//! fields. It is a fact of the file's entry in the ledger, so that every run tells it.

use super::Files;
use millrace_connectors::decode::Unmet;
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::mediate::MediationPlan;
use millrace_operators::domain::FileId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Files {
    /// Notes which fields no record of a file has by the rule that all of it is mediated by; returns what was
    /// not told of its source yet.
    pub(in crate::intake) fn lacks(
        &mut self,
        id: FileId,
        unmet: Vec<Unmet>,
        rule: &MediationPlan,
    ) -> Vec<Diagnostic> {
        let source = self.source_of(id);
        let (Some(entry), Some(source)) = (self.ledger.entry_mut(id), source) else {
            return Vec::new();
        };
        if entry.unmet == unmet {
            return Vec::new();
        }
        entry.unmet = unmet;
        self.changed.insert(id);
        let unmet = entry.unmet.iter();
        let told = &mut self.told_unmet;
        let new = unmet.filter(|unmet| told.insert((source, unmet.field.clone())));
        new.filter_map(|unmet| rule.tell_unmet(&entry.name, unmet))
            .collect()
    }

    /// Each field of a source once that no record of one of its files has, as far as the rule in force reads it.
    pub(in crate::intake) fn lacking(&self, rules: &[Arc<MediationPlan>]) -> Vec<Diagnostic> {
        let entries = || self.ledger.entries().iter();
        let replaced: BTreeSet<FileId> = entries().filter_map(|entry| entry.replaces).collect();
        let mut first = BTreeMap::new();
        for entry in entries() {
            let source = self.source_of(entry.file);
            let Some(source) = source.filter(|_| entry.state.counts()) else {
                continue;
            };
            if !replaced.contains(&entry.file) {
                for unmet in &entry.unmet {
                    let file = first.entry((source, &unmet.field));
                    file.or_insert((&entry.name, unmet));
                }
            }
        }
        let told = first
            .into_iter()
            .filter_map(|((source, _), (file, unmet))| rules.get(source)?.tell_unmet(file, unmet));
        told.collect()
    }
}
