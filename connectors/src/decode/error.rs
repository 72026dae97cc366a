//! Why a file cannot be decoded at all.

use crate::store::StoreError;
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
    /// A column that the file does not have.
    #[error("{file:?} has no column {column:?}{suggestion}; its columns are {available}")]
    UnknownColumn {
        /// The file.
        file: String,
        /// The column asked for.
        column: String,
        /// `, did you mean ...`, or nothing.
        suggestion: String,
        /// What there is.
        available: String,
    },
    /// A column asked for whose name stands twice in the header.
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
         type {declared}; leave the declaration out and convert with exact(\"{column}\", scale)"
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
    },
    /// A header line that is not text.
    #[error("the header of {file:?} is not readable text: {detail}")]
    Header {
        /// The file.
        file: String,
        /// What is wrong with it.
        detail: String,
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
    pub(crate) fn unknown_column<'n>(
        file: &str,
        column: &str,
        available: impl Iterator<Item = &'n str> + Clone,
    ) -> Self {
        Self::UnknownColumn {
            file: file.to_owned(),
            column: column.to_owned(),
            suggestion: crate::diagnostic::did_you_mean(column, available.clone())
                .map_or_else(String::new, |name| format!(", did you mean {name:?}")),
            available: available.take(100).collect::<Vec<_>>().join(", "),
        }
    }
}
