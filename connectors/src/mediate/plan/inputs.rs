//! What the outcome of a record depends on, as a digest: whoever keeps that knows which records another rule
//! would make other usage of.

use super::MediationPlan;
use crate::digest::Digest;
use crate::lookup::{LookupTable, Lookups};
use crate::mediate::lookups::columns_looked_up;
use crate::mediate::rule::MediationRule;
use crate::times::TimeReading;
use std::sync::Arc;

/// What functions and fields of rules mean: another number where a change of this code makes other usage of
/// the same record, so that what was taken in before is mediated again.
const MEANING: u32 = 1;

/// The tables that a rule asks.
pub(super) fn asked(rule: &MediationRule, lookups: &Lookups) -> Vec<(String, Arc<LookupTable>)> {
    let asked = columns_looked_up(rule).into_keys();
    let table = |name: String| {
        let table = lookups.shared(&name)?;
        Some((name, table))
    };
    asked.filter_map(table).collect()
}

impl MediationPlan {
    /// A digest of all that the outcome of a raw record depends on: the rule, the tables that it asks, how
    /// columns and times are read, and what the functions of this build mean. What is too far ahead is left
    /// out, which depends on the present.
    #[must_use]
    pub fn inputs(&self) -> String {
        let mut digest = Digest::default();
        digest.enter(&format!("meaning {MEANING}, of {}", self.stream));
        let reading =
            |times: &TimeReading| format!("{} {:?}", times.zone_name(), times.ambiguous());
        digest.enter(&format!(
            "times {} {} from {}",
            self.times.reading.shown_in(),
            reading(&self.times.reading),
            self.times.range.earliest
        ));
        for (name, table) in &self.tables {
            digest.enter(&format!("table {name} {}", table.digest()));
        }
        for column in &self.columns {
            let kind = column.kind.as_ref().map(ToString::to_string);
            digest.enter(&column.name);
            digest.enter(&format!(
                "{kind:?} {:?} {} {}",
                column.may_be,
                column.names_zone,
                reading(&column.times)
            ));
        }
        // Whether records may be corrected is for the state to know: what did stays so.
        digest.enter(&format!("{:?} {:?}", self.keep, self.treatment.source));
        let written = self.lets.iter().chain(&self.filter);
        let written = written.chain(self.identity.iter().flatten());
        let written = written.chain(&self.rank).chain(&self.kind);
        let written = written.chain([&self.service, &self.time]);
        for written in written.chain(&self.attributes).chain(&self.charges) {
            for text in [&written.field, &written.name, written.parsed.sql()] {
                digest.enter(text);
            }
        }
        digest.hex()
    }
}
