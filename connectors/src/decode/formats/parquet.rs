//! Parquet: columns with types of their own.

use super::contract::{ColumnFormat, FileFormat, Found, Reading};
use crate::decode::chunk::Source;
use crate::decode::error::DecodeError;
use crate::decode::parquet;
use crate::decode::request::{ColumnRequest, DecodeOptions};
use crate::store::{FileMeta, RandomAccess, Store};
use arrow::datatypes::SchemaRef;
use millrace_operators::domain::FileId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parquet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parquet {}

impl FileFormat for Parquet {
    const NAME: &'static str = "parquet";
    const TITLE: &'static str = "Parquet";
    const ABOUT: &'static str = "typed columns";
    const ENDINGS: &'static [&'static str] = &["parquet"];

    type Options = Self;

    fn of(_: &Self, _: &str) -> Self {
        Self {}
    }

    fn example() -> Self {
        Self {}
    }

    fn reading(&self) -> Reading<'_> {
        Reading::Columns(self)
    }

    fn fields(self, store: &Store, file: &FileMeta) -> Result<Found<Self>, DecodeError> {
        let opened = parquet::footer(&store.random(file)?, &file.name)?;
        let fields = opened.schema().fields().iter();
        let fields = fields.filter(|field| !field.data_type().is_nested());
        let (mut names, mut floats) = (Vec::new(), Vec::new());
        for field in fields {
            names.push(field.name().clone());
            if field.data_type().is_floating() {
                floats.push(field.name().clone());
            }
        }
        Ok(Found {
            format: self,
            names,
            floats,
        })
    }
}

impl ColumnFormat for Parquet {
    fn open(
        &self,
        access: &RandomAccess,
        file: &str,
        id: FileId,
        columns: &[ColumnRequest],
        options: &DecodeOptions,
    ) -> Result<(SchemaRef, Box<dyn Source>), DecodeError> {
        let (schema, source) = parquet::open(access, file, id, columns, options)?;
        Ok((schema, Box::new(source)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::conformance::{Conforms, Record, Sample, TEXT};
    use super::*;
    use ::parquet::arrow::ArrowWriter;
    use ::parquet::file::properties::WriterProperties;
    use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
    use std::sync::Arc;

    fn written(records: &[Record]) -> Vec<u8> {
        let texts = |column: usize| -> ArrayRef {
            let texts = records
                .iter()
                .map(|record| std::str::from_utf8(record[column]).unwrap());
            Arc::new(StringArray::from_iter_values(texts))
        };
        let notes: ArrayRef = Arc::new(BinaryArray::from_iter_values(records.iter().map(|r| r[2])));
        let columns = [("a", texts(0)), (TEXT, texts(1)), ("note", notes)];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(3));
        let properties = Some(properties.build());
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), properties).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    impl Conforms for Parquet {
        fn samples() -> Vec<Sample> {
            vec![Sample {
                name: "a.parquet",
                format: Format::Parquet(Self {}),
                write: written,
                lines: None,
                damage: None,
                has_end: true,
            }]
        }
    }
}
