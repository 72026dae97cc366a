//! Billed lines as rows of a Parquet file.

use super::ArchiveError;
use super::rows::dictionary;
use crate::output::{AggregatedLine, Texts, encode as encode_rows, schema as line_schema};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType,
    UInt32Type,
};
use arrow::error::ArrowError;
use millrace_operators::domain::{AggregateId, Amount, EventTime, LineSum, Quantity};
use std::sync::Arc;

/// A billed line, or what an adjustment added to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedLine {
    /// Its identifier, a hash of all but the sum.
    pub id: AggregateId,
    /// Who was billed.
    pub account: String,
    /// Start of the bill unit.
    pub unit_start: EventTime,
    /// End of the bill unit.
    pub unit_end: EventTime,
    /// What was used.
    pub item: String,
    /// Currency of the amount.
    pub currency: String,
    /// The grouping attributes, in the order of the manifest.
    pub dimensions: Vec<Option<String>>,
    /// What it added up.
    pub sum: LineSum,
    /// 0 for the bill, then the number of the adjustment.
    pub sequence: u32,
}

const SEQUENCE: &str = "sequence";
/// The sums of a line that columns of 38 digits do not hold, as JSON; empty for all others.
const BEYOND: &str = "beyond";

pub(super) fn schema(texts: &Texts) -> SchemaRef {
    let lines = line_schema::<AggregatedLine>(texts);
    let mut fields: Vec<Field> = lines
        .fields()
        .iter()
        .map(|field| field.as_ref().clone())
        .collect();
    fields.push(Field::new(SEQUENCE, DataType::UInt32, false));
    fields.push(Field::new(BEYOND, DataType::Utf8, true));
    Arc::new(Schema::new(fields))
}

/// Lines as a batch.
pub(super) fn encode(
    lines: &[AggregatedLine],
    sequence: u32,
    texts: &Texts,
) -> Result<RecordBatch, ArrowError> {
    let batch = encode_rows(lines, texts)?;
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    columns.push(Arc::new(UInt32Array::from(vec![sequence; lines.len()])));
    let beyond = |line: &AggregatedLine| {
        let sums = (!line.sum.fits()).then(|| serde_json::to_string(&line.sum));
        sums.transpose()
    };
    let beyond = lines.iter().map(beyond).collect::<Result<StringArray, _>>();
    let beyond = beyond.map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
    columns.push(Arc::new(beyond));
    RecordBatch::try_new(schema(texts), columns)
}

/// Lines from a batch, with as many dimensions as `aggregate_by` names.
pub(super) fn decode(
    batch: &RecordBatch,
    aggregate_by: &[String],
    location: &str,
) -> Result<Vec<ArchivedLine>, ArchiveError> {
    let damaged = |name: &str| ArchiveError::damaged(location, format!("has no readable {name:?}"));
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| damaged(name));
    let text = |name: &str| dictionary(column(name)?).ok_or_else(|| damaged(name));
    let decimal = |name: &str| {
        let column = column(name)?;
        column
            .as_primitive_opt::<Decimal128Type>()
            .ok_or_else(|| damaged(name))
    };
    let time = |name: &str| {
        let column = column(name)?;
        column
            .as_primitive_opt::<TimestampMicrosecondType>()
            .ok_or_else(|| damaged(name))
    };
    let (ids, accounts) = (text("aggregate_id")?, text("account")?);
    let (items, currencies) = (text("item")?, text("currency")?);
    let (starts, ends) = (time("bill_unit_start")?, time("bill_unit_end")?);
    let (quantities, amounts) = (decimal("quantity")?, decimal("amount")?);
    let charges = column("charges")?
        .as_primitive_opt::<Int64Type>()
        .ok_or_else(|| damaged("charges"))?;
    let sequences = column(SEQUENCE)?
        .as_primitive_opt::<UInt32Type>()
        .ok_or_else(|| damaged(SEQUENCE))?;
    let beyond = column(BEYOND)?
        .as_string_opt::<i32>()
        .ok_or_else(|| damaged(BEYOND))?;
    // Behind the fixed ones, so that an attribute of a fixed name is not taken for it.
    const FIXED: usize = 5;
    let dimensions = (0..aggregate_by.len()).map(|index| {
        let column = batch.columns().get(FIXED + index);
        column
            .and_then(dictionary)
            .ok_or_else(|| damaged("aggregate_by"))
    });
    let dimensions = dimensions.collect::<Result<Vec<_>, _>>()?;
    let line = |row: usize| {
        let owned = |column: &super::rows::Texted| column.get(row).map(str::to_owned);
        let id = ids
            .get(row)
            .and_then(|id| u128::from_str_radix(id, 16).ok());
        Some(ArchivedLine {
            id: AggregateId(id?),
            account: owned(&accounts)?,
            unit_start: EventTime(starts.value(row)),
            unit_end: EventTime(ends.value(row)),
            item: owned(&items)?,
            currency: owned(&currencies)?,
            dimensions: dimensions.iter().map(owned).collect(),
            sum: match beyond.is_valid(row) {
                true => serde_json::from_str(beyond.value(row)).ok()?,
                false => LineSum {
                    charges: charges.value(row),
                    quantity: Quantity(quantities.value(row)).into(),
                    amount: Amount(amounts.value(row)).into(),
                },
            },
            sequence: sequences.value(row),
        })
    };
    let lines = (0..batch.num_rows()).map(|row| line(row).ok_or_else(|| damaged("aggregate_id")));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Names;
    use millrace_operators::domain::LineKey;

    #[test]
    fn amounts_come_back_with_all_their_digits() {
        let texts = Texts {
            names: Arc::new(Names::default()),
            files: Arc::default(),
            lines: Arc::default(),
            dimensions: Arc::new([]),
        };
        let names = &texts.names;
        let key = LineKey {
            account: names.enter_account("acme"),
            unit_start: EventTime(0),
            unit_end: EventTime(1),
            item: names.enter("seconds"),
            currency: names.enter("EUR"),
            dimensions: Default::default(),
        };
        // The last are sums that a column does not hold.
        let amounts = (0..=38).flat_map(|power| [10_i128.pow(power), 1 - 10_i128.pow(power)]);
        let line = |amount: i128| AggregatedLine {
            key: key.clone(),
            sum: LineSum::of(Quantity(amount), Amount(amount), 1),
        };
        let lines: Vec<AggregatedLine> = amounts.map(line).collect();
        let batch = encode(&lines, 0, &texts).unwrap();
        let back = decode(&batch, &[], "here").unwrap();
        assert_eq!(back.len(), lines.len());
        for (back, line) in back.iter().zip(&lines) {
            assert_eq!(back.sum, line.sum);
        }
    }
}
