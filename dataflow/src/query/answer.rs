//! The answer to a query, written as it arrives.
//!
//! Decimals are written with all their digits and without trailing zeros, in JSON as text, because a
//! reader that takes numbers for binary floats would change them.

use super::engine::{explain, hint};
use super::{Place, QueryError};
use crate::shown::{shown_json, shown_lines};
use crate::table::{Column, Style};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt as _;
use millrace_operators::domain::plain_text;
use std::fmt::Display;
use std::io::Write;
use tokio::runtime::Runtime;

/// Rows of a table on a terminal; more are counted, not shown.
const TABLE_ROWS_MAX: usize = 1_000;

/// Rows on their way.
pub struct Answer {
    runtime: Runtime,
    stream: SendableRecordBatchStream,
    place: Place,
}

impl Answer {
    pub(super) fn new(runtime: Runtime, stream: SendableRecordBatchStream, place: Place) -> Self {
        Self {
            runtime,
            stream,
            place,
        }
    }

    fn schema(&self) -> SchemaRef {
        self.stream.schema()
    }

    fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        let next = self.runtime.block_on(self.stream.next()).transpose();
        next.map_err(|error| explain(&error, &self.place))
    }

    fn failed(&self, error: &ArrowError) -> QueryError {
        QueryError::Sql {
            message: error.to_string(),
            hint: hint(&self.place),
        }
    }

    fn names(&self) -> Vec<String> {
        self.schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect()
    }

    /// Writes the rows as a table, and how many there are.
    ///
    /// # Errors
    /// When the query fails on the way, or the output does not take it.
    pub fn write_table(mut self, style: Style, out: &mut dyn Write) -> Result<(), QueryError> {
        let fields = self.schema();
        // All columns were asked for: none is spared.
        let columns = fields.fields().iter().map(|field| {
            let name = field.name().as_str();
            match field.data_type().is_numeric() {
                true => Column::number(name),
                false => Column::text(name),
            }
        });
        let mut table = style.table(columns);
        let mut rows = 0_usize;
        while let Some(batch) = self.next()? {
            let cells = Cells::of(&batch).map_err(|error| self.failed(&error))?;
            let room = TABLE_ROWS_MAX.saturating_sub(rows);
            for row in 0..batch.num_rows().min(room) {
                let shown = cells.row(row).map(|cell| match cell {
                    Cell::Null => String::new(),
                    Cell::Number(text) | Cell::Text(text) => text,
                });
                table.add_row(shown.collect::<Vec<String>>());
            }
            rows += batch.num_rows();
        }
        writeln!(out, "{table}")?;
        match rows {
            1 => writeln!(out, "1 row")?,
            rows if rows > TABLE_ROWS_MAX => writeln!(
                out,
                "{rows} rows, the first {TABLE_ROWS_MAX} shown; use LIMIT, or --output csv for all"
            )?,
            rows => writeln!(out, "{rows} rows")?,
        }
        Ok(out.flush()?)
    }

    /// Writes the rows as a JSON array of objects.
    ///
    /// # Errors
    /// As [`Self::write_table`].
    pub fn write_json(mut self, out: &mut dyn Write) -> Result<(), QueryError> {
        let names: Vec<String> = self.names().iter().map(|name| json_text(name)).collect();
        let mut between = "[\n";
        while let Some(batch) = self.next()? {
            let cells = Cells::of(&batch).map_err(|error| self.failed(&error))?;
            for row in 0..batch.num_rows() {
                out.write_all(between.as_bytes())?;
                between = ",\n";
                let values = names
                    .iter()
                    .zip(cells.row(row))
                    .map(|(name, cell)| match cell {
                        Cell::Null => format!("{name}:null"),
                        Cell::Number(text) => format!("{name}:{text}"),
                        Cell::Text(text) => format!("{name}:{}", json_text(&text)),
                    });
                write!(out, "  {{{}}}", values.collect::<Vec<_>>().join(","))?;
            }
        }
        out.write_all(if between == "[\n" { b"[]\n" } else { b"\n]\n" })?;
        Ok(out.flush()?)
    }

    /// Writes the rows as CSV with a header line; NULL is empty.
    ///
    /// # Errors
    /// As [`Self::write_table`].
    pub fn write_csv(mut self, out: &mut dyn Write) -> Result<(), QueryError> {
        let mut writer = csv::Writer::from_writer(out);
        let written = |result: Result<(), csv::Error>| {
            result.map_err(|error| QueryError::Output(std::io::Error::from(error)))
        };
        let shown = |text: &str| shown_lines(text).into_owned();
        let names = self.names();
        written(writer.write_record(names.iter().map(|name| shown(name))))?;
        while let Some(batch) = self.next()? {
            let cells = Cells::of(&batch).map_err(|error| self.failed(&error))?;
            for row in 0..batch.num_rows() {
                let fields = cells.row(row).map(|cell| match cell {
                    Cell::Null => String::new(),
                    Cell::Number(text) | Cell::Text(text) => shown(&text),
                });
                written(writer.write_record(fields))?;
            }
        }
        Ok(writer.flush()?)
    }
}

fn json_text(text: &str) -> String {
    shown_json(&serde_json::Value::from(text).to_string()).into_owned()
}

/// A value as text, and whether JSON can take it as it is.
enum Cell {
    Null,
    Number(String),
    Text(String),
}

/// The values of a batch.
struct Cells<'a> {
    columns: Vec<(&'a ArrayRef, ArrayFormatter<'a>)>,
}

impl<'a> Cells<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        const OPTIONS: FormatOptions<'static> = FormatOptions::new();
        let columns = batch.columns().iter();
        let columns = columns.map(|column| {
            // What the engine adds up is not held against the digits of its type.
            match column.data_type() {
                DataType::Decimal128(precision, _) => {
                    let column = column.as_primitive::<Decimal128Type>();
                    column.validate_decimal_precision(*precision)?;
                }
                DataType::Decimal256(precision, _) => {
                    let column = column.as_primitive::<Decimal256Type>();
                    column.validate_decimal_precision(*precision)?;
                }
                _ => {}
            }
            Ok((column, ArrayFormatter::try_new(column.as_ref(), &OPTIONS)?))
        });
        Ok(Self {
            columns: columns.collect::<Result<_, ArrowError>>()?,
        })
    }

    fn row(&self, row: usize) -> impl Iterator<Item = Cell> + '_ {
        self.columns.iter().map(move |(column, formatter)| {
            if column.is_null(row) {
                return Cell::Null;
            }
            let text = match column.data_type() {
                DataType::Decimal128(_, scale) => {
                    let units = column.as_primitive::<Decimal128Type>().value(row);
                    return Cell::Text(decimal(units, *scale));
                }
                DataType::Decimal256(_, scale) => {
                    let units = column.as_primitive::<Decimal256Type>().value(row);
                    return Cell::Text(decimal(units, *scale));
                }
                _ => formatter.value(row).to_string(),
            };
            match column.data_type() {
                DataType::Float16 | DataType::Float32 | DataType::Float64
                    if text.parse::<f64>().is_ok_and(f64::is_finite) =>
                {
                    Cell::Number(text)
                }
                kind if kind.is_integer() => Cell::Number(text),
                DataType::Boolean => Cell::Number(text),
                _ => Cell::Text(text),
            }
        })
    }
}

/// Without the zeros that only fill a decimal up to its scale; of a scale below 0 with those that it stands
/// for.
fn decimal(units: impl Display, scale: i8) -> String {
    match u8::try_from(scale) {
        Ok(scale) => plain_text(units, scale),
        Err(_) => match units.to_string() {
            nothing if nothing == "0" => nothing,
            digits => digits + &"0".repeat(usize::from(scale.unsigned_abs())),
        },
    }
}
