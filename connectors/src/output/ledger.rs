//! The file ledger: one row per source file, loaded or refused.

use super::columns::{number, text};
use super::{OutputRow, Texts};
use arrow::array::{ArrayRef, StringArray, UInt64Array};
use arrow::datatypes::Field;
use std::sync::Arc;

/// A source file and what became of its records.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct LedgerRow {
    /// Name below its source.
    pub file: String,
    /// Where it is.
    pub location: String,
    /// Source platform.
    pub platform: String,
    /// Service type.
    pub service_type: String,
    /// Usage record type.
    pub record_type: String,
    /// Its bytes.
    pub size: u64,
    /// What identifies its content.
    pub checksum: String,
    /// `loaded`, `doubtful`, `incomplete`, `refused` or `failed`.
    pub state: String,
    /// Why it is not simply loaded.
    pub message: String,
    /// Whether it came in place of another of its name: what did not change in it came before.
    #[serde(skip)]
    pub replaces: bool,
    /// Records read.
    pub received: u64,
    /// Records excluded by the mediation rule.
    pub ignored: u64,
    /// Records with the identity and the content of an earlier one.
    pub duplicate: u64,
    /// Records with the identity of another that holds, and another content.
    pub conflict: u64,
    /// Records that gave way to another version of theirs, and corrections that take one out.
    pub superseded: u64,
    /// Records stopped by the source or by mediation.
    pub error: u64,
    /// Records that wait for reference data.
    pub suspended: u64,
    /// Records that operators have taken out of suspense.
    pub discarded: u64,
    /// Records charged.
    pub monetised: u64,
}

impl LedgerRow {
    /// Whether every record received is accounted for exactly once.
    #[must_use]
    pub fn ties_out(&self) -> bool {
        let settled = [
            self.ignored,
            self.duplicate,
            self.conflict,
            self.superseded,
            self.error,
            self.suspended,
            self.discarded,
            self.monetised,
        ];
        settled.iter().sum::<u64>() == self.received
    }
}

impl OutputRow for LedgerRow {
    fn fields(_: &Texts) -> Vec<Field> {
        let texts = [
            "file",
            "location",
            "platform",
            "service_type",
            "record_type",
        ];
        let states = ["checksum", "state", "message"];
        let counts = [
            "received",
            "ignored",
            "duplicate",
            "conflict",
            "superseded",
            "error",
            "suspended",
            "discarded",
            "monetised",
        ];
        let mut fields: Vec<Field> = texts.iter().map(|name| text(name)).collect();
        fields.push(number("size"));
        fields.extend(states.iter().map(|name| text(name)));
        fields.extend(counts.iter().map(|name| number(name)));
        fields
    }

    fn encode(rows: &[Self], _: &Texts) -> Vec<ArrayRef> {
        let text = |get: fn(&Self) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(get)))
        };
        let number = |get: fn(&Self) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(get)))
        };
        vec![
            text(|row| &row.file),
            text(|row| &row.location),
            text(|row| &row.platform),
            text(|row| &row.service_type),
            text(|row| &row.record_type),
            number(|row| row.size),
            text(|row| &row.checksum),
            text(|row| &row.state),
            text(|row| &row.message),
            number(|row| row.received),
            number(|row| row.ignored),
            number(|row| row.duplicate),
            number(|row| row.conflict),
            number(|row| row.superseded),
            number(|row| row.error),
            number(|row| row.suspended),
            number(|row| row.discarded),
            number(|row| row.monetised),
        ]
    }
}
