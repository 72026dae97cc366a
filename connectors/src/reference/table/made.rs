//! A row that a table makes.

use super::super::field::Complaint;
use super::super::mapping::{Kind, Output};
use super::super::rows::Origin;
use crate::diagnostic::Diagnostic;
use arrow::array::{Array, StringArray};

/// The fields of an output, evaluated for the rows of a chunk.
pub(super) struct Made<'a> {
    pub(super) output: &'a Output<'a>,
    /// Fields, then conditions, as the output lists them.
    pub(super) columns: Vec<StringArray>,
}

impl Made<'_> {
    pub(super) fn text(&self, field: &str, row: usize) -> Option<&str> {
        let index = self
            .output
            .fields
            .iter()
            .position(|(name, _)| *name == field)?;
        value(self.columns.get(index)?, row)
    }

    /// The conditions of a price row; those of empty cells are empty.
    pub(super) fn conditions(&self, row: usize) -> Vec<(&str, &str)> {
        let columns = self.columns.iter().skip(self.output.fields.len());
        let conditions = self.output.when.iter().zip(columns);
        conditions
            .map(|((name, _), column)| (*name, value(column, row).unwrap_or_default()))
            .collect()
    }

    /// Fields that are mapped, empty in this row, and would silently make it one for everybody.
    pub(super) fn too_general(&self, row: usize) -> Vec<Complaint> {
        let hint_account = "write the account, or `*` where the price is for all";
        let hint_list = "write the price list, or `standard`";
        let fields: &[(&str, &str)] = match self.output.kind {
            Kind::Price => &[("account", hint_account), ("list", hint_list)],
            Kind::Subscription => &[("price_list", hint_list)],
            Kind::Account | Kind::Service => &[],
        };
        let mapped = |name: &str| self.output.fields.iter().find(|(field, _)| *field == name);
        let empty = fields
            .iter()
            .filter_map(|(name, hint)| Some((mapped(name)?.0, hint)));
        let empty = empty.filter(|(name, _)| self.text(name, row).is_none());
        let complain = |(name, hint): (&'static str, &&str)| {
            Complaint::new(name, format!("\"{name}\" is empty")).with_hint(*hint)
        };
        empty.map(complain).collect()
    }

    pub(super) fn finding(
        &self,
        complaint: Complaint,
        row: usize,
        origin: &Origin,
        number: u64,
    ) -> Diagnostic {
        let kind = self.output.kind;
        let mut what = format!(
            "{} \"{}\"",
            kind.word(),
            self.text(kind.told_by(), row).unwrap_or("")
        );
        let when: Vec<String> = self
            .conditions(row)
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !when.is_empty() {
            what.push_str(&format!(" [{}]", when.join(", ")));
        }
        let sql = self
            .output
            .fields
            .iter()
            .find(|(name, _)| *name == complaint.field);
        let empty = self
            .conditions(row)
            .into_iter()
            .find(|(_, value)| value.is_empty());
        let empty = empty.filter(|_| complaint.field == "when");
        let of_when = self.output.when.iter();
        let mut of_when = of_when.filter(|(name, _)| empty.is_some_and(|(of, _)| of == *name));
        let sql = sql.map(|(name, sql)| (*name, *sql));
        let sql = sql.or_else(|| of_when.next().map(|(name, sql)| (*name, *sql)));
        let from = sql.map_or_else(String::new, |(name, sql)| {
            format!(", {name} from `{}`", sql.value)
        });
        let message = format!("{} (row {number}, {what}{from})", complaint.message);
        origin.error(message).with_hint(complaint.hint)
    }
}

pub(super) fn value(column: &StringArray, row: usize) -> Option<&str> {
    (!column.is_null(row))
        .then(|| column.value(row))
        .filter(|text| !text.trim().is_empty())
}
