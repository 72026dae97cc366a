//! The formats of files.

use serde::{Deserialize, Serialize};

/// How the bytes of a file are laid out. `.gz` and `.zst` behind the name are taken off first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Format {
    /// Text with a delimiter.
    Csv {
        /// One byte between fields; a comma unless given.
        #[serde(default = "comma")]
        delimiter: char,
        /// Names of the columns of a file that has no header line.
        #[serde(default)]
        header: Option<Vec<String>>,
    },
    /// One JSON object per line.
    JsonLines,
    /// One JSON array of objects, or an object whose entries are the records, each entry's name in
    /// the column `key`.
    Json,
    /// Parquet.
    Parquet,
}

fn comma() -> char {
    ','
}

impl Format {
    /// The format that a file's name suggests.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let plain = lower
            .strip_suffix(".gz")
            .or(lower.strip_suffix(".zst"))
            .unwrap_or(&lower);
        match plain.rsplit_once('.')?.1 {
            "csv" | "txt" => Some(Self::Csv {
                delimiter: ',',
                header: None,
            }),
            "tsv" => Some(Self::Csv {
                delimiter: '\t',
                header: None,
            }),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "json" => Some(Self::Json),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// Whether columns have the types of the file instead of declared ones.
    #[must_use]
    pub fn is_typed(&self) -> bool {
        matches!(self, Self::Parquet)
    }
}
