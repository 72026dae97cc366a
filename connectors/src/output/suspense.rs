//! Suspense: one row per record that is not monetised, with what a person needs to mend it.

use super::columns::{Labels, label, number, text, time, times};
use super::monetised::attributes_text;
use super::{OutputRow, Texts};
use arrow::array::{ArrayRef, StringArray, UInt64Array};
use arrow::datatypes::Field;
use millrace_operators::domain::{Fault, Reason, RecordId, Severity, Suspense};
use std::sync::Arc;

/// A record that is not monetised: stopped before it became usage, or after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SuspendedUsage {
    /// Stopped by a source or by mediation.
    Fault(Fault),
    /// Stopped later.
    Suspense(Suspense),
}

impl SuspendedUsage {
    /// The record.
    #[must_use]
    pub fn record(&self) -> RecordId {
        match self {
            Self::Fault(fault) => fault.record,
            Self::Suspense(suspense) => suspense.record,
        }
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Fault(fault) => fault.reason,
            Self::Suspense(suspense) => suspense.reason,
        }
    }

    fn suspense(&self) -> Option<&Suspense> {
        match self {
            Self::Fault(_) => None,
            Self::Suspense(suspense) => Some(suspense),
        }
    }

    fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Fault(fault) => Some(fault),
            Self::Suspense(_) => None,
        }
    }
}

impl OutputRow for SuspendedUsage {
    fn fields(_: &Texts) -> Vec<Field> {
        vec![
            label("file"),
            number("row"),
            number("line"),
            label("stage"),
            label("severity"),
            label("reason"),
            text("field"),
            text("detail"),
            label("hint"),
            label("service_type"),
            text("service"),
            label("attributes"),
            time("event_time"),
            label("item"),
            label("original_file"),
            number("original_row"),
        ]
    }

    fn encode(rows: &[Self], texts: &Texts) -> Vec<ArrayRef> {
        let names = &texts.names;
        let column = || Labels::with_capacity(rows.len());
        let (mut file, mut stage, mut severity, mut reason) =
            (column(), column(), column(), column());
        let (mut hint, mut service_type, mut attributes) = (column(), column(), column());
        let (mut item, mut original_file) = (column(), column());
        for row in rows {
            let why = row.reason();
            let code = u128::from(why as u8);
            file.push(row.record().file().0, || texts.file(row.record().file()));
            stage.push(code, || Arc::from(why.stage().name()));
            severity.push(code, || Arc::from(severity_text(why.severity())));
            reason.push(code, || Arc::from(why.code()));
            hint.push(code, || Arc::from(why.hint()));
            match row
                .suspense()
                .and_then(|s| names.class(s.class).map(|class| (s, class)))
            {
                Some((suspense, class)) => {
                    service_type.push(class.service_type.0, || names.text(class.service_type));
                    attributes.push(suspense.class.0, || attributes_text(&class, texts));
                }
                None => {
                    service_type.push_null();
                    attributes.push_null();
                }
            }
            match row.suspense().and_then(|suspense| suspense.item) {
                Some(name) => item.push(name.0, || names.text(name)),
                None => item.push_null(),
            }
            match row.suspense().and_then(|suspense| suspense.original) {
                Some(first) => original_file.push(first.file().0, || texts.file(first.file())),
                None => original_file.push_null(),
            }
        }
        let line = rows.iter().map(|row| {
            let told = row.fault().map(|fault| fault.line).filter(|l| *l > 0);
            told.or_else(|| texts.line(row.record()))
        });
        let field = rows
            .iter()
            .map(|row| row.fault().map(|fault| fault.field.as_str()));
        let detail = rows
            .iter()
            .map(|row| row.fault().map(|fault| fault.detail.as_str()));
        let service = rows
            .iter()
            .map(|row| row.suspense().map(|s| names.service(s.service).1));
        let original = rows
            .iter()
            .map(|row| row.suspense()?.original.map(RecordId::row));
        vec![
            file.finish(),
            Arc::new(UInt64Array::from_iter_values(
                rows.iter().map(|row| row.record().row()),
            )),
            Arc::new(line.collect::<UInt64Array>()),
            stage.finish(),
            severity.finish(),
            reason.finish(),
            Arc::new(field.collect::<StringArray>()),
            Arc::new(detail.collect::<StringArray>()),
            hint.finish(),
            service_type.finish(),
            Arc::new(service.collect::<StringArray>()),
            attributes.finish(),
            times(
                rows.iter()
                    .map(|row| row.suspense().map(|suspense| suspense.time)),
            ),
            item.finish(),
            original_file.finish(),
            Arc::new(original.collect::<UInt64Array>()),
        ]
    }
}

fn severity_text(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}
