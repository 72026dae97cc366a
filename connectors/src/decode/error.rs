//! Why a file cannot be decoded at all.

use super::kind::ColumnType;
use super::nested;
use super::request::ColumnRequest;
use crate::shield::shielded;
use crate::store::{RandomAccess, StoreError};
use arrow::datatypes::{DataType, Fields};
use std::io;

/// Why a file cannot be decoded at all; faults of its records are data instead.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The store could not hand out the file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The first bytes could not be read.
    #[error("cannot read {file:?}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A Parquet file without a readable footer.
    #[error("{file:?} is not a whole Parquet file: {detail}; have the source send it again")]
    Parquet {
        /// The file.
        file: String,
        /// What the reader said.
        detail: String,
    },
    /// A file on which its reader panicked.
    #[error("{file:?} cannot be read: {detail}; have the source send it again")]
    Panicked {
        /// The file.
        file: String,
        /// What the panic said.
        detail: String,
    },
    /// A column that the file does not have.
    #[error(
        "{file:?} has no column {column:?}{suggestion}; its columns are {available}{declaration}"
    )]
    UnknownColumn {
        /// The file.
        file: String,
        /// The column asked for.
        column: String,
        /// `, did you mean ...`, or nothing.
        suggestion: String,
        /// What there is.
        available: String,
        /// How the rule says that files may lack it; nothing where no rule asks.
        declaration: Box<str>,
    },
    /// A column asked for whose name stands twice in the header or the schema.
    #[error("the header of {file:?} names the column {column:?} twice")]
    AmbiguousColumn {
        /// The file.
        file: String,
        /// The column asked for.
        column: String,
    },
    /// A typed column that cannot become the declared type without loss.
    #[error(
        "column {column:?} of {file:?} is {found}, which does not convert exactly to the declared \
         type {declared}; {advice}"
    )]
    ColumnType {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// Its type in the file.
        found: String,
        /// The type declared.
        declared: String,
        /// What to do instead.
        advice: Box<str>,
    },
    /// A header line that is not text.
    #[error("the header of {file:?} is not readable text: {detail}")]
    Header {
        /// The file.
        file: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Text in another encoding.
    #[error(
        "{file:?} is {encoding} text, and text is read as UTF-8; have the source write UTF-8, or convert \
         it: iconv -f {encoding} -t UTF-8"
    )]
    Encoding {
        /// The file.
        file: String,
        /// How it is encoded.
        encoding: &'static str,
    },
    /// A delimiter that cannot delimit.
    #[error(
        "{delimiter:?} cannot be a delimiter; it must be one ASCII character other than a quote or a line end"
    )]
    Delimiter {
        /// The delimiter asked for.
        delimiter: char,
    },
    /// The schema registry gave no usable answer.
    #[error("cannot ask the schema registry {url}: {detail}")]
    Registry {
        /// Its URL, without a password.
        url: String,
        /// What happened, and what to do.
        detail: String,
    },
    /// A message too far behind the beginning of its partition.
    #[error(
        "cannot number the message at offset {offset} of {partition}: offsets reach from 0 to \
         2^40; move the topic's messages to a new one"
    )]
    Offset {
        /// The partition.
        partition: String,
        /// The offset.
        offset: i64,
    },
    /// Parquet from a stream.
    #[error("{file:?} is a stream, and Parquet is read from its end; save it as a file first")]
    NotAStream {
        /// The stream.
        file: String,
    },
}

impl DecodeError {
    /// Why a Parquet file cannot be read: of what is wrong with it, or because the store did not give it.
    pub(crate) fn parquet(access: &RandomAccess, file: &str, detail: String) -> Self {
        let file = file.to_owned();
        let damaged = Self::Parquet { file, detail };
        access.trouble().map_or(damaged, Self::Store)
    }

    pub(crate) fn unknown_column<'n>(
        file: &str,
        column: &ColumnRequest,
        available: impl Iterator<Item = &'n str> + Clone,
    ) -> Self {
        Self::UnknownColumn {
            file: file.to_owned(),
            column: column.name.clone(),
            suggestion: crate::diagnostic::did_you_mean(&column.name, available.clone())
                .map_or_else(String::new, |name| format!(", did you mean {name:?}")),
            available: available.take(100).collect::<Vec<_>>().join(", "),
            declaration: declaration(column).into(),
        }
    }

    pub(super) fn column_type(file: &str, column: &ColumnRequest, found: &DataType) -> Self {
        let name = &column.name;
        let inside = |fields: &Fields| {
            let fields = nested::names(fields);
            let paths: Vec<String> = fields.iter().map(|f| format!("{name}.{f}")).collect();
            format!("name one of its fields: {}", paths.join(", "))
        };
        let is_time = column.kind == Some(ColumnType::Timestamp) || column.names_zone;
        let advice = match found {
            found if found.is_floating() => format!(
                "leave the declaration out and convert with exact(\"{name}\", scale), and round it \
                 with round_half_even(exact(\"{name}\", 18), decimals)"
            ),
            DataType::Struct(fields) => inside(fields),
            DataType::Map(_, _) => format!("name a key of the map: {name}.<key>"),
            DataType::Timestamp(_, Some(_)) if is_time => {
                "it holds instants, which a zone cannot move: declare it as timestamp; if its clock \
                 times were written as if they were UTC's, have the source write them without a zone"
                    .to_owned()
            }
            found if is_time && found.is_numeric() => format!(
                "a number does not say its unit: declare it as bigint or decimal, and write \
                 to_timestamp_seconds(\"{name}\"), or _millis, _micros, _nanos"
            ),
            _ => "leave the declaration out, and convert it where it is used".to_owned(),
        };
        Self::ColumnType {
            file: file.to_owned(),
            column: name.clone(),
            found: found.to_string(),
            declared: column
                .kind
                .map_or_else(String::new, |kind| kind.to_string()),
            advice: advice.into(),
        }
    }

    /// The same for files that no rule of mediation reads, whose columns cannot be declared.
    #[must_use]
    pub fn without_declaration(mut self) -> Self {
        if let Self::UnknownColumn { declaration, .. } = &mut self {
            *declaration = Box::default();
        }
        self
    }
}

/// The way to declare a column that only some files have, where there is one.
fn declaration(column: &ColumnRequest) -> String {
    column.declaration().map_or_else(String::new, |declared| {
        format!("; if files may lack it, declare it in `columns`: {declared}")
    })
}

/// Opens a file behind the shield.
pub(crate) fn opening<T>(
    file: &str,
    open: impl FnOnce() -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    shielded(open).unwrap_or_else(|panicked| {
        Err(DecodeError::Panicked {
            file: file.to_owned(),
            detail: panicked.to_string(),
        })
    })
}
