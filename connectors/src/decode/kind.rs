//! Declared column types.

use crate::times::TimeReading;
use arrow::datatypes::DataType;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// The declared type of a raw column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ColumnType {
    /// Text as it stands.
    Text,
    /// A whole number of 64 bits.
    BigInt,
    /// An exact decimal of `precision` digits, `scale` of them behind the point.
    Decimal {
        /// Digits in all, at most 38.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// True or false.
    Boolean,
    /// An instant, in nanoseconds. A text without an offset is of the tenant's zone, or of the one that
    /// the column declares.
    Timestamp,
    /// A calendar day.
    Date,
}

impl JsonSchema for ColumnType {
    fn schema_name() -> Cow<'static, str> {
        "ColumnType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words = ["text", "bigint", "integer", "boolean", "timestamp", "date"];
        json_schema!({
            "description": "The declared type of a raw column; others are like `decimal(18,6)`.",
            "anyOf": [{ "type": "string", "enum": words }, { "type": "string" }],
            "examples": ["decimal(18,6)"],
        })
    }
}

impl ColumnType {
    /// The arrow type that values of this column have; instants are shown as `times` says.
    #[must_use]
    pub fn data_type(self, times: &TimeReading) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::BigInt => DataType::Int64,
            Self::Decimal { precision, scale } => {
                DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(i8::MAX))
            }
            Self::Boolean => DataType::Boolean,
            Self::Timestamp => times.data_type(),
            Self::Date => DataType::Date32,
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("text"),
            Self::BigInt => f.write_str("bigint"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Boolean => f.write_str("boolean"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Date => f.write_str("date"),
        }
    }
}

impl From<ColumnType> for String {
    fn from(kind: ColumnType) -> Self {
        kind.to_string()
    }
}

impl TryFrom<String> for ColumnType {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for ColumnType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.trim().to_ascii_lowercase();
        let arguments = |inner: &str| -> Option<(u8, u8)> {
            let (precision, scale) = inner.split_once(',')?;
            let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
            ((1..=38).contains(&precision) && scale <= precision).then_some((precision, scale))
        };
        match lower.as_str() {
            "text" => return Ok(Self::Text),
            "bigint" | "integer" => return Ok(Self::BigInt),
            "boolean" => return Ok(Self::Boolean),
            "timestamp" => return Ok(Self::Timestamp),
            "date" => return Ok(Self::Date),
            _ => {}
        }
        lower
            .strip_prefix("decimal")
            .map(str::trim)
            .and_then(|rest| rest.strip_prefix('(')?.strip_suffix(')'))
            .and_then(arguments)
            .map(|(precision, scale)| Self::Decimal { precision, scale })
            .ok_or_else(|| {
                // In braces, YAML ends a value at its comma.
                let cut = lower
                    .strip_prefix("decimal")
                    .and_then(|rest| rest.trim().strip_prefix('('))
                    .filter(|rest| rest.trim().parse::<u8>().is_ok());
                if let Some(precision) = cut {
                    return format!(
                        "{text:?} is cut at its comma, which separates entries within braces; \
                         write \"decimal({precision},3)\" in quotes"
                    );
                }
                format!(
                    "unknown column type {text:?}; types are text, bigint (or integer), decimal(precision,scale) \
                     with at most 38 digits, boolean, timestamp, date"
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_come_from_their_text() {
        for text in [
            "text",
            "bigint",
            "decimal(38,12)",
            "boolean",
            "timestamp",
            "date",
        ] {
            assert_eq!(text.parse::<ColumnType>().unwrap().to_string(), text);
        }
        for junk in [
            "float",
            "double",
            "decimal",
            "decimal(39,2)",
            "decimal(2,3)",
            "",
        ] {
            assert!(
                junk.parse::<ColumnType>()
                    .unwrap_err()
                    .contains("types are"),
                "{junk}"
            );
        }
    }
}
