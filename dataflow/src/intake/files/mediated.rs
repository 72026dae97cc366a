//! What the records of files were mediated by.

use crate::durable::{KeptInputs, KeptText, Stays, WantedInputs};
use crate::job::SourcePlan;
use millrace_connectors::decode::layout_text;
use millrace_connectors::ledger::Inputs;
use millrace_connectors::lookup::LookupTable;
use millrace_connectors::mediate::{MediationPlan, RuleContent};
use millrace_operators::domain::{FileId, RecordId};
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// How the files of a source are laid out.
pub(super) fn layout(source: &SourcePlan) -> String {
    let messages = source.kafka.as_ref().map(|kafka| &kafka.format);
    let files = layout_text(source.format.as_ref(), &source.csv);
    format!("{files} {messages:?}")
}

/// Digests of how the files of a source are laid out, and of the rest that the outcome of its records
/// depends on.
pub(super) fn inputs(source: &SourcePlan, rule: &MediationPlan) -> Inputs {
    Inputs {
        layout: blake3::hash(layout(source).as_bytes()).to_hex().to_string(),
        rule: rule.inputs(),
    }
}

/// What records were mediated by, and which of them.
#[derive(Default)]
pub(super) struct MediatedBy {
    /// Rules and layouts, by digest.
    pub(super) texts: BTreeMap<String, KeptText>,
    /// Tables, by digest; nothing of those that a commit has.
    pub(super) tables: BTreeMap<String, Option<Arc<LookupTable>>>,
    /// Those in force.
    pub(super) in_force: BTreeSet<String>,
    /// Records that stay as something in force no more made them.
    pub(super) stays: Stays,
    /// Those that no commit has.
    pub(super) fresh: Vec<(Inputs, RoaringTreemap)>,
    /// Something of it is new, or named no more.
    pub(super) changed: bool,
}

impl MediatedBy {
    /// What is in force from now on.
    pub(super) fn begin(
        &mut self,
        sources: &[SourcePlan],
        rules: &[Arc<MediationPlan>],
        inputs: &[Inputs],
    ) {
        self.in_force.clear();
        let now = || jiff::Timestamp::now().to_string();
        for ((source, rule), inputs) in sources.iter().zip(rules).zip(inputs) {
            let layout = (&inputs.layout, layout(source));
            for (digest, content) in [layout, (&inputs.rule, rule.content())] {
                self.in_force.insert(digest.clone());
                let text = KeptText {
                    content,
                    since: now(),
                    until: None,
                };
                self.texts.entry(digest.clone()).or_insert(text);
            }
            for (_, table) in rule.tables() {
                let digest = table.digest().to_owned();
                self.in_force.insert(digest.clone());
                let kept = self.tables.entry(digest);
                kept.or_insert_with(|| Some(Arc::clone(table)));
            }
        }
        self.settle();
    }

    /// Notes which of what is known is in force.
    pub(super) fn settle(&mut self) {
        for (digest, text) in &mut self.texts {
            match (self.in_force.contains(digest), &text.until) {
                (true, Some(_)) => text.until = None,
                (false, None) => text.until = Some(jiff::Timestamp::now().to_string()),
                _ => continue,
            }
            self.changed = true;
        }
    }

    /// Takes in what an earlier run kept.
    pub(super) fn restore(&mut self, kept: KeptInputs, stays: Stays) {
        let known = |digest: &String| kept.texts.contains_key(digest);
        self.changed = !self.texts.keys().all(known);
        self.texts.extend(kept.texts);
        let tables = kept.tables.into_keys().map(|digest| (digest, None));
        self.tables.extend(tables);
        self.stays = stays;
        self.settle();
    }

    /// Keeps what is in force and what `named` names; what is to be kept from the next commit on.
    pub(super) fn take(&mut self, named: &BTreeSet<&str>) -> WantedInputs {
        let in_force = &self.in_force;
        let is_wanted = |digest: &str| in_force.contains(digest) || named.contains(digest);
        self.texts.retain(|digest, _| is_wanted(digest));
        let contents = self.texts.values();
        let contents = contents.filter_map(|text| RuleContent::of(&text.content));
        let asked: BTreeSet<String> = contents
            .flat_map(|content| content.tables.into_values())
            .collect();
        self.tables.retain(|digest, _| asked.contains(digest));
        let tables = self.tables.iter_mut();
        let wanted = WantedInputs {
            texts: self.texts.clone(),
            tables: tables
                .map(|(digest, table)| (digest.clone(), table.take()))
                .collect(),
        };
        self.changed = false;
        wanted
    }
}

/// All rows within a range, as records of a file.
pub(super) fn records_of(id: FileId, rows: &Range<u64>) -> RoaringTreemap {
    let mut records = RoaringTreemap::new();
    if !rows.is_empty() {
        records.insert_range(RecordId::new(id, rows.start).0..=RecordId::new(id, rows.end - 1).0);
    }
    records
}
