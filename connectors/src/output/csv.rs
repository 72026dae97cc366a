//! CSV, for spreadsheets and for people.
//!
//! The first line names the columns, which are those of the Parquet file. Decimals have all their
//! digits and no zeros behind them, times are RFC 3339 in UTC, nothing stands for a missing value.
//!
//! Spreadsheets take a text that begins with `=`, `+`, `-` or `@` for a formula and run it, so whoever
//! names an account could run one on the desk of whoever bills it. Such a text has a `'` before it, and
//! so has one that begins with `'`, so that a reader that takes one `'` away has the text again.

use super::OutputError;
use super::columns::decimals_of;
use crate::store::{NewFile, StoreError, Waiting};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millrace_operators::domain::plain_text;

/// A file of CSV being written; it appears when it is finished.
pub struct CsvFile {
    writer: ::csv::Writer<NewFile>,
    location: String,
}

impl CsvFile {
    /// Writes the line that names the columns to a file that was started.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn of(file: NewFile, schema: &SchemaRef) -> Result<Self, OutputError> {
        let location = file.location().to_owned();
        let mut writer = ::csv::Writer::from_writer(file);
        let names = schema
            .fields()
            .iter()
            .map(|field| spreadsheet_text(field.name()));
        let written = writer.write_record(names);
        written.map_err(|error| failed(error, &location))?;
        Ok(Self { writer, location })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        let options = FormatOptions::default();
        let columns = batch.columns().iter();
        let columns = columns.map(|column| {
            let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
            Ok::<_, arrow::error::ArrowError>((column, formatter))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            for (column, formatter) in &columns {
                let cell = match column.data_type() {
                    _ if column.is_null(row) => String::new(),
                    DataType::Decimal128(_, scale) => {
                        let units = column.as_primitive::<Decimal128Type>().value(row);
                        plain_text(units, decimals_of(*scale))
                    }
                    kind => cell(kind, formatter.value(row).to_string()),
                };
                let written = self.writer.write_field(cell);
                written.map_err(|error| failed(error, &self.location))?;
            }
            let ended = self.writer.write_record(None::<&[u8]>);
            ended.map_err(|error| failed(error, &self.location))?;
        }
        Ok(())
    }

    /// Puts the file in its place, see [`NewFile::finish`].
    ///
    /// # Errors
    /// When the last rows cannot be written.
    pub fn finish(self) -> Result<Option<Waiting>, OutputError> {
        let Self { writer, location } = self;
        let file = writer.into_inner();
        let file = file.map_err(|error| failed(error.into_error().into(), &location))?;
        Ok(file.finish()?)
    }
}

fn failed(error: ::csv::Error, location: &str) -> OutputError {
    OutputError::Store(StoreError::io("write", location, error.into()))
}

fn cell(kind: &DataType, text: String) -> String {
    match kind {
        DataType::Utf8 => spreadsheet_text(&text),
        DataType::Dictionary(_, values) if **values == DataType::Utf8 => spreadsheet_text(&text),
        _ => text,
    }
}

/// A text that no spreadsheet takes for a formula; see the module.
#[must_use]
pub fn spreadsheet_text(text: &str) -> String {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\'']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::columns::{Labels, decimals, label, money, text, time, times};
    use crate::store::Store;
    use arrow::array::{ArrayRef, StringArray};
    use arrow::datatypes::Schema;
    use millrace_operators::domain::EventTime;
    use std::path::Path;
    use std::sync::Arc;

    #[test]
    fn texts_are_no_formulas_and_numbers_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().display().to_string(), Path::new("")).unwrap();
        let fields = vec![text("@name"), label("account"), money("amount"), time("at")];
        let schema = Arc::new(Schema::new(fields));
        let mut accounts = Labels::with_capacity(2);
        accounts.push(1_u64, || Arc::from("=HYPERLINK(\"x\";1)"));
        accounts.push(2_u64, || Arc::from("'quoted, twice"));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("-1+2"), None])),
            accounts.finish(),
            decimals(
                [Some(-1_500_000_000_000_000_000_000_000), Some(0)].into_iter(),
                24,
            ),
            times([Some(EventTime(0)), None].into_iter()),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        let mut file = CsvFile::of(store.create("x/snapshot.csv").unwrap(), &schema).unwrap();
        file.write(&batch).unwrap();
        file.finish().unwrap();
        let written = std::fs::read_to_string(folder.path().join("x/snapshot.csv")).unwrap();
        assert_eq!(
            written,
            "'@name,account,amount,at\n\
             '-1+2,\"'=HYPERLINK(\"\"x\"\";1)\",-1.5,1970-01-01T00:00:00Z\n\
             ,\"''quoted, twice\",0,\n"
        );
    }
}
