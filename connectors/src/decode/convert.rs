//! Typed columns to the declared types, where nothing is lost.

use super::columns::{ColumnBuilder, Refused};
use super::kind::ColumnType;
use super::paths::utf8;
use super::request::ColumnRequest;
use crate::times::{self, TimeReading};
use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, concat};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use std::sync::Arc;

/// How a column of the file becomes the column asked for.
pub(super) enum Conversion {
    Keep,
    Cast(DataType),
    Parse(ColumnType, ColumnRequest),
    /// Bytes that a declaration says are text, and what the text spells.
    Bytes(ColumnType, ColumnRequest),
    /// Instants, times without a zone, and days become instants.
    Instant(TimeReading),
}

impl Conversion {
    /// `None` when the conversion could lose something without a value being told.
    pub(super) fn plan(found: &DataType, request: &ColumnRequest) -> Option<Self> {
        use DataType::{
            Binary, BinaryView, Date32, Date64, Decimal32, Decimal64, Decimal128, Decimal256,
            Dictionary, FixedSizeBinary, Int8, Int16, Int32, Int64, LargeBinary, LargeUtf8,
            Timestamp, UInt8, UInt16, UInt32, UInt64, Utf8, Utf8View,
        };
        let is_text = |kind: &DataType| matches!(kind, Utf8 | LargeUtf8 | Utf8View);
        let is_bytes = |kind: &DataType| {
            matches!(kind, Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
        };
        let text = match found {
            Dictionary(_, value) => is_text(value),
            found => is_text(found),
        };
        match request.kind {
            None | Some(ColumnType::Text) if *found == Utf8 => Some(Self::Keep),
            None | Some(ColumnType::Text) if text => Some(Self::Cast(Utf8)),
            Some(kind) if text => Some(Self::Parse(kind, request.clone())),
            None | Some(ColumnType::Timestamp) if matches!(found, Timestamp(_, _)) => {
                // An instant needs no zone: one declared would have been meant to move it.
                let no_use = matches!(found, Timestamp(_, Some(_))) && request.names_zone;
                (!no_use).then(|| Self::Instant(request.times.clone()))
            }
            Some(ColumnType::Timestamp) if matches!(found, Date32 | Date64) => {
                Some(Self::Instant(request.times.clone()))
            }
            None if *found == Date64 => Some(Self::Cast(Date32)),
            // Dictionaries hold values that no row has; expressions see those of the rows.
            None => match found {
                Dictionary(_, value) => Some(Self::Cast(value.as_ref().clone())),
                Decimal32(digits, scale) | Decimal64(digits, scale) => {
                    Some(Self::Cast(Decimal128(*digits, *scale)))
                }
                Decimal256(_, scale) if *scale <= 38 => Some(Self::Cast(Decimal128(38, *scale))),
                _ => Some(Self::Keep),
            },
            Some(kind) if is_bytes(found) => Some(Self::Bytes(kind, request.clone())),
            Some(kind) if matches!(found, Dictionary(_, value) if is_bytes(value)) => {
                Some(Self::Bytes(kind, request.clone()))
            }
            Some(kind) => {
                let target = kind.data_type(&request.times);
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
                    (Date64, Date32) => true,
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
                    false if digits && number => Some(Self::Parse(kind, request.clone())),
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
            Self::Parse(kind, request) | Self::Bytes(kind, request) => {
                kind.data_type(&request.times)
            }
            Self::Instant(times) => times.data_type(),
        }
    }

    /// The column asked for. A value that is not of its type is NULL and told to `bad`, by its row.
    pub(super) fn apply(&self, column: &ArrayRef, mut bad: impl FnMut(usize, Refused)) -> ArrayRef {
        match self {
            Self::Keep => Arc::clone(column),
            Self::Cast(target) => match exact_cast(column, target) {
                Ok(values) => values,
                Err(_) => each_cast(column, target, bad),
            },
            Self::Parse(kind, request) => {
                let text = exact_cast(column, &DataType::Utf8)
                    .unwrap_or_else(|_| each_cast(column, &DataType::Utf8, &mut bad));
                parsed(text.as_string::<i32>().iter(), *kind, request, bad)
            }
            Self::Bytes(kind, request) => {
                let bytes = exact_cast(column, &DataType::LargeBinary)
                    .unwrap_or_else(|_| each_cast(column, &DataType::LargeBinary, &mut bad));
                let bytes = bytes.as_binary::<i64>();
                let texts: Vec<Option<&str>> = bytes
                    .iter()
                    .enumerate()
                    .map(|(row, bytes)| {
                        let text = utf8(bytes?);
                        text.map_err(|detail| bad(row, Refused::unparsable(detail)))
                            .ok()
                    })
                    .collect();
                parsed(texts.into_iter(), *kind, request, bad)
            }
            Self::Instant(times) => times::instants(column, times, |row, shown, error| {
                let (reason, detail) = (error.reason(), error.detail(&shown));
                bad(row, Refused { reason, detail });
            })
            .unwrap_or_else(|_| new_null_array(&times.data_type(), column.len())),
        }
    }
}

/// The values that texts spell. An empty text is a text, but no number, boolean or time.
fn parsed<'t>(
    texts: impl Iterator<Item = Option<&'t str>>,
    kind: ColumnType,
    request: &ColumnRequest,
    mut bad: impl FnMut(usize, Refused),
) -> ArrayRef {
    let is_text = kind == ColumnType::Text;
    let mut builder = ColumnBuilder::new(kind, request);
    for (row, text) in texts.enumerate() {
        let Some(text) = text.filter(|text| is_text || !text.is_empty()) else {
            builder.append_null();
            continue;
        };
        if let Err(refused) = builder.append(text) {
            bad(row, refused);
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
fn each_cast(
    column: &ArrayRef,
    target: &DataType,
    mut bad: impl FnMut(usize, Refused),
) -> ArrayRef {
    let mut values = Vec::with_capacity(column.len());
    for row in 0..column.len() {
        match exact_cast(&column.slice(row, 1), target) {
            Ok(value) => values.push(value),
            Err(error) => {
                bad(row, Refused::unparsable(error.to_string()));
                values.push(new_null_array(target, 1));
            }
        }
    }
    let values: Vec<&dyn Array> = values.iter().map(|value| &**value).collect();
    concat(&values).unwrap_or_else(|_| new_null_array(target, column.len()))
}
