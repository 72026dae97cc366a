//! Typed columns to the declared types, where nothing is lost.

use super::assemble::quoted;
use super::columns::{ColumnBuilder, ColumnType};
use super::json::utf8;
use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, concat};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use std::sync::Arc;

/// How a column of the file becomes the column asked for.
pub(super) enum Conversion {
    Keep,
    Cast(DataType),
    Parse(ColumnType),
    /// Bytes that a declaration says are text, and what the text spells.
    Bytes(ColumnType),
}

impl Conversion {
    /// `None` when the conversion could lose something without a value being told.
    pub(super) fn plan(found: &DataType, declared: Option<ColumnType>) -> Option<Self> {
        use DataType::{
            Binary, BinaryView, Decimal32, Decimal64, Decimal128, Decimal256, Dictionary,
            FixedSizeBinary, Int8, Int16, Int32, Int64, LargeBinary, LargeUtf8, Timestamp, UInt8,
            UInt16, UInt32, UInt64, Utf8, Utf8View,
        };
        let is_text = |kind: &DataType| matches!(kind, Utf8 | LargeUtf8 | Utf8View);
        let is_bytes = |kind: &DataType| {
            matches!(kind, Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
        };
        let text = match found {
            Dictionary(_, value) => is_text(value),
            found => is_text(found),
        };
        match declared {
            None | Some(ColumnType::Text) if *found == Utf8 => Some(Self::Keep),
            None | Some(ColumnType::Text) if text => Some(Self::Cast(Utf8)),
            // Dictionaries hold values that no row has; expressions see those of the rows.
            None => match found {
                Dictionary(_, value) => Some(Self::Cast(value.as_ref().clone())),
                Decimal32(digits, scale) | Decimal64(digits, scale) => {
                    Some(Self::Cast(Decimal128(*digits, *scale)))
                }
                Decimal256(_, scale) if *scale <= 38 => Some(Self::Cast(Decimal128(38, *scale))),
                _ => Some(Self::Keep),
            },
            Some(kind) if text => Some(Self::Parse(kind)),
            Some(kind) if is_bytes(found) => Some(Self::Bytes(kind)),
            Some(kind) if matches!(found, Dictionary(_, value) if is_bytes(value)) => {
                Some(Self::Bytes(kind))
            }
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
                // What may not fit is parsed from its digits, value by value.
                let digits = matches!(
                    found,
                    Decimal32(_, _) | Decimal64(_, _) | Decimal128(_, _) | Decimal256(_, _)
                ) || whole_digits(found).is_some();
                let number = matches!(kind, ColumnType::BigInt | ColumnType::Decimal { .. });
                match exact {
                    true => Some(Self::Cast(target)),
                    false if digits && number => Some(Self::Parse(kind)),
                    false => None,
                }
            }
        }
    }

    /// The type of the column asked for.
    pub(super) fn data_type(&self, found: &DataType) -> DataType {
        match self {
            Self::Keep => found.clone(),
            Self::Cast(target) => target.clone(),
            Self::Parse(kind) | Self::Bytes(kind) => kind.data_type(),
        }
    }

    /// The column asked for. A value that is not of its type is NULL and told to `bad`, by its row.
    pub(super) fn apply(&self, column: &ArrayRef, mut bad: impl FnMut(usize, String)) -> ArrayRef {
        match self {
            Self::Keep => Arc::clone(column),
            Self::Cast(target) => match exact_cast(column, target) {
                Ok(values) => values,
                Err(_) => each_cast(column, target, bad),
            },
            Self::Parse(kind) => {
                let text = exact_cast(column, &DataType::Utf8)
                    .unwrap_or_else(|_| each_cast(column, &DataType::Utf8, &mut bad));
                parsed(text.as_string::<i32>().iter(), *kind, bad)
            }
            Self::Bytes(kind) => {
                let bytes = exact_cast(column, &DataType::LargeBinary)
                    .unwrap_or_else(|_| each_cast(column, &DataType::LargeBinary, &mut bad));
                let bytes = bytes.as_binary::<i64>();
                let texts: Vec<Option<&str>> = bytes
                    .iter()
                    .enumerate()
                    .map(|(row, bytes)| utf8(bytes?).map_err(|detail| bad(row, detail)).ok())
                    .collect();
                parsed(texts.into_iter(), *kind, bad)
            }
        }
    }
}

/// The values that texts spell. An empty text is a text, but no number, boolean or time.
fn parsed<'t>(
    texts: impl Iterator<Item = Option<&'t str>>,
    kind: ColumnType,
    mut bad: impl FnMut(usize, String),
) -> ArrayRef {
    let is_text = kind == ColumnType::Text;
    let mut builder = ColumnBuilder::new(kind);
    for (row, text) in texts.enumerate() {
        let Some(text) = text.filter(|text| is_text || !text.is_empty()) else {
            builder.append_null();
            continue;
        };
        if !builder.append(text) {
            bad(row, format!("{} is not of type {kind}", quoted(text)));
        }
    }
    builder.finish()
}

fn exact_cast(column: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    let exact = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(column, target, &exact)
}

/// Casts each value by itself, after a whole column failed for one of them.
fn each_cast(column: &ArrayRef, target: &DataType, mut bad: impl FnMut(usize, String)) -> ArrayRef {
    let mut values = Vec::with_capacity(column.len());
    for row in 0..column.len() {
        match exact_cast(&column.slice(row, 1), target) {
            Ok(value) => values.push(value),
            Err(error) => {
                bad(row, error.to_string());
                values.push(new_null_array(target, 1));
            }
        }
    }
    let values: Vec<&dyn Array> = values.iter().map(|value| &**value).collect();
    concat(&values).unwrap_or_else(|_| new_null_array(target, column.len()))
}
