//! What to do about a file that breaks off, by what becomes of what comes then.

use super::Files;
use crate::job::SourcePlan;
use millrace_connectors::mediate::MediationPlan;
use millrace_operators::domain::Fault;

impl Files {
    /// How the rest of a file is read that breaks off with `broken`.
    pub(in crate::intake) fn advice(
        &self,
        broken: &Fault,
        source: &SourcePlan,
        rule: &MediationPlan,
    ) -> String {
        let name = self.known.get(&broken.record.file());
        let format = name.and_then(|file| source.format_of(&file.meta.name));
        let is_text = format.is_none_or(|format| !format.is_typed());
        let rows = broken.record.row();
        let again = "have the source send the whole file again under its own name";
        if !self.remembers {
            return format!("{again}, in its place: the next run reads it from its beginning");
        }
        match (is_text, rows) {
            (true, _) => format!("{again}: it is read on behind the {rows} rows that were read"),
            (false, 0) => again.to_owned(),
            (false, _) if !rule.has_identity() => format!(
                "have the source send the rows behind the first {rows} in a file of their own: nothing but \
                 their place tells records apart, so these {rows} would be billed twice"
            ),
            (false, _) if source.amends => {
                format!("{again}: it amends the {rows} rows that were read")
            }
            (false, _) => format!(
                "have the source send the whole file again under another name: the {rows} rows that were \
                 read are duplicates then, and are billed once"
            ),
        }
    }
}
