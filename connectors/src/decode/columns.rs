//! The builders that fill columns from text.

use super::kind::ColumnType;
use super::request::ColumnRequest;
use super::scalar::{self, quoted};
use crate::times::{TimeRange, TimeReader, date};
use arrow::array::{
    ArrayBuilder, ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Int64Builder,
    StringBuilder, TimestampNanosecondBuilder,
};
use millrace_operators::domain::Reason;
use std::sync::Arc;

/// Builds one column from text.
pub(super) struct ColumnBuilder {
    kind: ColumnType,
    values: Values,
    range: TimeRange,
    /// Texts of times outside of the range, by their place in the column.
    odd: Vec<(usize, String)>,
}

/// Why a value did not become one of its column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

impl Refused {
    pub(super) fn unparsable(detail: String) -> Self {
        Self {
            reason: Reason::FieldUnparsable,
            detail,
        }
    }
}

enum Values {
    Text(StringBuilder),
    BigInt(Int64Builder),
    Decimal(Decimal128Builder),
    Boolean(BooleanBuilder),
    Timestamp(TimestampNanosecondBuilder, TimeReader),
    Date(Date32Builder),
}

impl ColumnBuilder {
    pub(super) fn new(kind: ColumnType, request: &ColumnRequest) -> Self {
        let times = &request.times;
        let values = match kind {
            ColumnType::Text => Values::Text(StringBuilder::new()),
            ColumnType::BigInt => Values::BigInt(Int64Builder::new()),
            ColumnType::Decimal { .. } => {
                Values::Decimal(Decimal128Builder::new().with_data_type(kind.data_type(times)))
            }
            ColumnType::Boolean => Values::Boolean(BooleanBuilder::new()),
            ColumnType::Timestamp => Values::Timestamp(
                TimestampNanosecondBuilder::new().with_data_type(kind.data_type(times)),
                TimeReader::new(times.clone()),
            ),
            ColumnType::Date => Values::Date(Date32Builder::new()),
        };
        Self {
            kind,
            values,
            range: request.range,
            odd: Vec::new(),
        }
    }

    pub(super) fn kind(&self) -> ColumnType {
        self.kind
    }

    pub(super) fn append_null(&mut self) {
        match &mut self.values {
            Values::Text(builder) => builder.append_null(),
            Values::BigInt(builder) => builder.append_null(),
            Values::Decimal(builder) => builder.append_null(),
            Values::Boolean(builder) => builder.append_null(),
            Values::Timestamp(builder, _) => builder.append_null(),
            Values::Date(builder) => builder.append_null(),
        }
    }

    /// Appends the value that `text` spells; a NULL when it is not of this type.
    pub(super) fn append(&mut self, text: &str) -> Result<(), Refused> {
        let not_of_type =
            || Refused::unparsable(format!("{} is not of type {}", quoted(text), self.kind));
        macro_rules! parsed {
            ($builder:expr, $value:expr) => {{
                let value = $value;
                $builder.append_option(value);
                value.map(|_| ()).ok_or_else(not_of_type)
            }};
        }
        match &mut self.values {
            Values::Text(builder) => {
                builder.append_value(text);
                Ok(())
            }
            Values::BigInt(builder) => parsed!(builder, scalar::bigint(text)),
            Values::Decimal(builder) => {
                let ColumnType::Decimal { precision, scale } = self.kind else {
                    return Err(not_of_type());
                };
                parsed!(builder, scalar::decimal(text, precision, scale))
            }
            Values::Boolean(builder) => parsed!(builder, scalar::boolean(text)),
            Values::Timestamp(builder, reader) => {
                let instant = reader.instant(text);
                builder.append_option(instant.as_ref().ok().copied());
                if let Ok(instant) = instant
                    && !self.range.contains(instant)
                {
                    self.odd.push((builder.len() - 1, text.to_owned()));
                }
                instant.map(|_| ()).map_err(|error| Refused {
                    reason: error.reason(),
                    detail: error.detail(&quoted(text)),
                })
            }
            Values::Date(builder) => parsed!(builder, date(text)),
        }
    }

    /// The texts of times outside of the range, by their place in the column.
    pub(super) fn take_odd(&mut self) -> Vec<(usize, String)> {
        std::mem::take(&mut self.odd)
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match &mut self.values {
            Values::Text(builder) => Arc::new(builder.finish()),
            Values::BigInt(builder) => Arc::new(builder.finish()),
            Values::Decimal(builder) => Arc::new(builder.finish()),
            Values::Boolean(builder) => Arc::new(builder.finish()),
            Values::Timestamp(builder, _) => Arc::new(builder.finish()),
            Values::Date(builder) => Arc::new(builder.finish()),
        }
    }
}
