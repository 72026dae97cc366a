//! Typed columns to the declared types, where nothing is lost.

use super::assemble::quoted;
use super::columns::{ColumnBuilder, ColumnType};
use arrow::array::{ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use std::sync::Arc;

/// How a column of the file becomes the column asked for.
pub(super) enum Conversion {
    Keep,
    Cast(DataType),
    Parse(ColumnType),
}

impl Conversion {
    /// `None` when the conversion could lose something.
    pub(super) fn plan(found: &DataType, declared: Option<ColumnType>) -> Option<Self> {
        use DataType::{
            Decimal128, Dictionary, Int8, Int16, Int32, Int64, LargeUtf8, Timestamp, UInt8, UInt16,
            UInt32, UInt64, Utf8, Utf8View,
        };
        let is_text = |kind: &DataType| matches!(kind, Utf8 | LargeUtf8 | Utf8View);
        let text = match found {
            Dictionary(_, value) => is_text(value),
            found => is_text(found),
        };
        match declared {
            None | Some(ColumnType::Text) if *found == Utf8 => Some(Self::Keep),
            None | Some(ColumnType::Text) if text => Some(Self::Cast(Utf8)),
            None => Some(Self::Keep),
            Some(kind) if text => Some(Self::Parse(kind)),
            Some(kind) => {
                let target = kind.data_type();
                if *found == target {
                    return Some(Self::Keep);
                }
                let whole_digits = |found: &DataType| match found {
                    Int8 | UInt8 => Some(3),
                    Int16 | UInt16 => Some(5),
                    Int32 | UInt32 => Some(10),
                    Int64 => Some(19),
                    UInt64 => Some(20),
                    _ => None,
                };
                let exact = match (found, &target) {
                    (Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32, Int64) => true,
                    (Decimal128(p1, s1), Decimal128(p2, s2)) => {
                        s1 <= s2
                            && i16::from(*p1) - i16::from(*s1) <= i16::from(*p2) - i16::from(*s2)
                    }
                    (Timestamp(_, _), Timestamp(_, _)) => true,
                    (found, Decimal128(p, s)) => whole_digits(found)
                        .is_some_and(|digits: i16| digits <= i16::from(*p) - i16::from(*s)),
                    (_, Utf8) => whole_digits(found).is_some(),
                    _ => false,
                };
                exact.then_some(Self::Cast(target))
            }
        }
    }

    /// The type of the column asked for.
    pub(super) fn data_type(&self, found: &DataType) -> DataType {
        match self {
            Self::Keep => found.clone(),
            Self::Cast(target) => target.clone(),
            Self::Parse(kind) => kind.data_type(),
        }
    }

    /// The column asked for. A value that is not of its type is NULL and told to `bad`, by its row.
    pub(super) fn apply(
        &self,
        column: &ArrayRef,
        mut bad: impl FnMut(usize, String),
    ) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::Keep => Ok(Arc::clone(column)),
            Self::Cast(target) => {
                let exact = CastOptions {
                    safe: false,
                    ..CastOptions::default()
                };
                cast_with_options(column, target, &exact)
            }
            Self::Parse(kind) => {
                let text = arrow::compute::cast(column, &DataType::Utf8)?;
                let mut builder = ColumnBuilder::new(*kind);
                for (row, text) in text.as_string::<i32>().iter().enumerate() {
                    let Some(text) = text.filter(|text| !text.is_empty()) else {
                        builder.append_null();
                        continue;
                    };
                    if !builder.append(text) {
                        bad(row, format!("{} is not of type {kind}", quoted(text)));
                    }
                }
                Ok(builder.finish())
            }
        }
    }
}
