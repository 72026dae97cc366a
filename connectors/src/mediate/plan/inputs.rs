//! What the outcome of a record depends on, as text and as its digest: whoever keeps the digest knows which records
//! another rule would make other usage of, and whoever keeps the text can tell what that rule was.

use super::MediationPlan;
use crate::lookup::{LookupTable, Lookups};
use crate::mediate::lookups::columns_looked_up;
use crate::mediate::rule::MediationRule;
use crate::times::TimeReading;
use millrace_operators::domain::Keep;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What functions and fields of rules mean: another number where a change of this code makes other usage of
/// the same record, so that what was taken in before is mediated again.
const MEANING: u32 = 2;

/// The tables that a rule asks.
pub(super) fn asked(rule: &MediationRule, lookups: &Lookups) -> Vec<(String, Arc<LookupTable>)> {
    let asked = columns_looked_up(rule).into_keys();
    let table = |name: String| {
        let table = lookups.shared(&name)?;
        Some((name, table))
    };
    asked.filter_map(table).collect()
}

/// All that the outcome of a raw record depends on: the rule, the tables that it asks, how columns and times are
/// read, and what the functions of this build mean. What is too far ahead is left out, which depends on the present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleContent {
    /// What functions and fields mean.
    pub meaning: u32,
    /// The stream that the rule is for.
    pub stream: String,
    /// How times are read.
    pub times: String,
    /// The digests of the tables that it asks, by name.
    pub tables: BTreeMap<String, String>,
    /// The columns that it reads.
    pub columns: Vec<ColumnContent>,
    /// Which record of an identity holds.
    pub keep: String,
    /// The source, where equal ids of two sources are different records.
    pub source: Option<String>,
    /// Its expressions, in their order.
    pub expressions: Vec<ExpressionContent>,
}

/// A column that a rule reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnContent {
    /// Its name.
    pub name: String,
    /// Its declared type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Which absence of it is intended, and how its times are read.
    pub reading: String,
}

/// An expression of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpressionContent {
    /// The field of the rule.
    pub field: String,
    /// Its name in that field, where it has one.
    pub name: String,
    /// What is written.
    pub sql: String,
}

impl RuleContent {
    /// From the text that [`MediationPlan::content`] gives.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// As lines of a rule file.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let quoted = |sql: &str| serde_json::to_string(sql).unwrap_or_default();
        let declared = self.columns.iter().filter_map(|column| {
            let kind = column.kind.as_ref()?;
            Some(format!("{}: {}", quoted(&column.name), quoted(kind)))
        });
        let declared: Vec<String> = declared.collect();
        let mut lines = Vec::new();
        if !declared.is_empty() {
            lines.push(format!("columns: {{ {} }}", declared.join(", ")));
        }
        if !self.expressions.iter().any(|part| part.field == "identity") {
            lines.push("identity: position".to_owned());
        }
        if self.keep == "Last" {
            lines.push("keep: last".to_owned());
        }
        for parts in self.expressions.chunk_by(|a, b| a.field == b.field) {
            let (field, sql) = (&parts[0].field, |part: &ExpressionContent| {
                quoted(&part.sql)
            });
            let named = |part: &ExpressionContent| format!("{}: {}", quoted(&part.name), sql(part));
            let all = |shown: &dyn Fn(&ExpressionContent) -> String| {
                parts.iter().map(shown).collect::<Vec<_>>().join(", ")
            };
            lines.push(match &parts[0] {
                _ if field == "identity" => format!("{field}: [{}]", all(&sql)),
                part if part.name.is_empty() => format!("{field}: {}", sql(part)),
                _ => format!("{field}: {{ {} }}", all(&named)),
            });
        }
        lines
    }
}

impl MediationPlan {
    /// A digest of all that the outcome of a raw record depends on.
    #[must_use]
    pub fn inputs(&self) -> String {
        blake3::hash(self.content().as_bytes()).to_hex().to_string()
    }

    /// All that the outcome of a raw record depends on, as text: see [`RuleContent`].
    ///
    /// # Panics
    /// Never: texts have a JSON form.
    #[must_use]
    pub fn content(&self) -> String {
        let reading =
            |times: &TimeReading| format!("{} {:?}", times.zone_name(), times.ambiguous());
        let columns = self.columns.iter().map(|column| ColumnContent {
            name: column.name.clone(),
            kind: column.kind.as_ref().map(ToString::to_string),
            reading: format!(
                "{:?} {} {}",
                column.may_be,
                column.names_zone,
                reading(&column.times)
            ),
        });
        let expression = |written: &super::Written| {
            let (field, sql) = (written.field.split('.').next(), written.parsed.sql());
            let field = field.unwrap_or_default();
            ExpressionContent {
                field: field.to_owned(),
                name: written.name.clone(),
                sql: match (field, self.keep) {
                    ("keep", Keep::Greatest) => format!("greatest({sql})"),
                    _ => sql.to_owned(),
                },
            }
        };
        let expressions = self.lets.iter().chain(self.all());
        let content = RuleContent {
            meaning: MEANING,
            stream: self.stream.to_string(),
            times: format!(
                "{} {} from {}",
                self.times.reading.shown_in(),
                reading(&self.times.reading),
                self.times.range.earliest
            ),
            tables: self
                .tables()
                .map(|(name, table)| (name.to_owned(), table.digest().to_owned()))
                .collect(),
            columns: columns.collect(),
            keep: format!("{:?}", self.keep),
            // Whether records may be corrected is for the state to know: what did stays so.
            source: self.treatment.source.clone(),
            expressions: expressions.map(expression).collect(),
        };
        serde_json::to_string(&content).expect("texts have a JSON form")
    }

    /// The tables that the rule asks.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &Arc<LookupTable>)> {
        let tables = self.tables.iter();
        tables.map(|(name, table)| (name.as_str(), table))
    }
}
