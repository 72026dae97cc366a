//! Raw status: what became of each raw record.

use super::columns::{Labels, label, number};
use super::{OutputRow, Texts};
use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::Field;
use millrace_operators::domain::{Fate, Reason, RecordId};
use std::sync::Arc;

/// A raw record and its fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawStatus {
    /// The record.
    pub record: RecordId,
    /// What became of it.
    pub fate: Fate,
}

/// The status that a raw record is shown with, and the code that says why.
#[must_use]
pub fn status_of(fate: Fate) -> (&'static str, &'static str) {
    match fate {
        Fate::Monetised => ("processed", "MONETISED"),
        Fate::Ignored => ("processed", "IGNORED"),
        Fate::Duplicate => ("failed", "DUPLICATE"),
        Fate::Conflict => ("failed", "CONFLICT"),
        Fate::Discarded => ("failed", "DISCARDED"),
        Fate::Superseded(reason) => ("processed", reason.code()),
        Fate::Error(reason) => ("failed", reason.code()),
        Fate::Suspended(reason) => ("pending", reason.code()),
    }
}

impl OutputRow for RawStatus {
    fn fields(_: &Texts) -> Vec<Field> {
        vec![label("file"), number("row"), label("status"), label("code")]
    }

    fn encode(rows: &[Self], texts: &Texts) -> Vec<ArrayRef> {
        let column = || Labels::with_capacity(rows.len());
        let (mut file, mut status, mut code) = (column(), column(), column());
        for RawStatus { record, fate } in rows {
            let (shown, why) = status_of(*fate);
            let key = match fate {
                Fate::Monetised => 0_u32,
                Fate::Ignored => 1,
                Fate::Duplicate => 2,
                Fate::Discarded => 3,
                Fate::Conflict => 4 + u32::from(Reason::Conflict as u8),
                Fate::Error(reason) | Fate::Suspended(reason) | Fate::Superseded(reason) => {
                    4 + u32::from(*reason as u8)
                }
            };
            file.push(record.file().0, || texts.file(record.file()));
            status.push(key, || Arc::from(shown));
            code.push(key, || Arc::from(why));
        }
        let record = rows.iter().map(|row| row.record.row());
        vec![
            file.finish(),
            Arc::new(UInt64Array::from_iter_values(record)),
            status.finish(),
            code.finish(),
        ]
    }
}
