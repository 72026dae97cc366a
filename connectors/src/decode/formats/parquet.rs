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
