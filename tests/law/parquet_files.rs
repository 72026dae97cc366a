//! Parquet files, whose columns have types of their own.

use crate::Identity;
use crate::reader::{COLUMNS, Texts, Verdict, bill};
use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray};
use millrace_tests::dice::Dice;
use parquet::arrow::ArrowWriter;
use std::sync::Arc;

/// The records as a Parquet file, and what it comes to.
pub(crate) fn write(
    random: &mut Dice,
    records: &[Texts],
    identity: Identity,
) -> (Vec<u8>, Verdict) {
    let mut verdict = bill(records, identity);
    // An empty text is no value, as everywhere.
    let empty = |text: &&str| text.is_empty();
    if records
        .iter()
        .flatten()
        .flatten()
        .any(|text| empty(&text.as_str()))
    {
        verdict = bill(
            &records.iter().map(without_empty).collect::<Vec<_>>(),
            identity,
        );
    }
    let typed = random.below(4);
    let columns: Vec<(&str, ArrayRef)> = COLUMNS
        .iter()
        .enumerate()
        .map(|(column, name)| {
            let texts = || records.iter().map(move |record| record[column].as_deref());
            let as_text = || -> ArrayRef { Arc::new(StringArray::from_iter(texts())) };
            let wholes: Option<Vec<Option<i64>>> = texts()
                .map(|text| {
                    text.map(|text| text.parse().ok())
                        .map_or(Some(None), |n| n.map(Some))
                })
                .collect();
            let array: ArrayRef = match (*name, typed, wholes) {
                ("m", 1 | 2, Some(wholes)) => Arc::new(Int64Array::from(wholes)),
                ("n", 1, Some(wholes)) => {
                    let values = wholes
                        .into_iter()
                        .map(|n| n.map(|n| i128::from(n) * 10_000));
                    let values = Decimal128Array::from_iter(values);
                    Arc::new(values.with_precision_and_scale(24, 4).unwrap())
                }
                // Binary floats are no numbers that a bill is made of, unless the rule says how.
                ("n", 2, _) => {
                    let values = texts().map(|text| text.and_then(|text| text.parse().ok()));
                    Arc::new(Float64Array::from_iter(values))
                }
                _ => as_text(),
            };
            (*name, array)
        })
        .collect();
    if typed == 2 {
        verdict = Verdict::Told;
    }
    // Wider than the declared decimal(18,4), so refused or exact: both are right.
    if typed == 1 && verdict != Verdict::Told {
        verdict = match verdict {
            Verdict::Bill(_) if columns[4].1.data_type().is_decimal() => Verdict::Either,
            verdict => verdict,
        };
    }
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    );
    let batch = batch.unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    if random.one_in(4) {
        bytes.truncate(random.below(bytes.len()));
        verdict = if bytes.is_empty() {
            Verdict::Either
        } else {
            Verdict::Told
        };
    }
    (bytes, verdict)
}

fn without_empty(record: &Texts) -> Texts {
    record
        .clone()
        .map(|text| text.filter(|text| !text.is_empty()))
}
