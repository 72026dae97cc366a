//! How a file named in a job, a catalog or an accounts file is laid out.

use crate::decode::Format;
use schemars::JsonSchema;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The layout of a file, by the name that users give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FormatName {
    /// Text with a delimiter.
    Csv,
    /// One JSON object per line.
    Jsonl,
    /// A JSON array of objects, or an object of objects whose names are the column `key`.
    Json,
    /// Parquet.
    Parquet,
}

/// What varies between CSV files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvLayout {
    /// The character between fields; by default a comma, for `.tsv` a tab.
    pub delimiter: Option<char>,
    /// `true` (the default) when the first line names the columns; otherwise their names.
    #[serde(default)]
    pub header: Header,
}

/// Where the names of CSV columns come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Header {
    /// From the first line.
    #[default]
    #[schemars(with = "bool")]
    FirstLine,
    /// From here; the first line is a record already.
    Names(Vec<String>),
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, or the list of column names")
            }

            fn visit_bool<E: de::Error>(self, first_line: bool) -> Result<Header, E> {
                if first_line {
                    return Ok(Header::FirstLine);
                }
                Err(E::custom(
                    "a file without a header line needs its column names as a list here",
                ))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Header, A::Error> {
                let mut header = Vec::new();
                while let Some(name) = names.next_element()? {
                    header.push(name);
                }
                Ok(Header::Names(header))
            }
        }

        deserializer.deserialize_any(HeaderVisitor)
    }
}

/// The format of `file`: as told, otherwise as its name suggests; `None` when neither says.
#[must_use]
pub fn format_of(file: &str, told: Option<FormatName>, csv: &CsvLayout) -> Option<Format> {
    let suggested = Format::of_name(file);
    let suggested_delimiter = match &suggested {
        Some(Format::Csv { delimiter, .. }) => *delimiter,
        _ => ',',
    };
    let csv = || Format::Csv {
        delimiter: csv.delimiter.unwrap_or(suggested_delimiter),
        header: match &csv.header {
            Header::FirstLine => None,
            Header::Names(names) => Some(names.clone()),
        },
    };
    match told {
        Some(FormatName::Csv) => Some(csv()),
        Some(FormatName::Jsonl) => Some(Format::JsonLines),
        Some(FormatName::Json) => Some(Format::Json),
        Some(FormatName::Parquet) => Some(Format::Parquet),
        None if matches!(suggested, Some(Format::Csv { .. })) => Some(csv()),
        None => suggested,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::yaml::read;

    #[test]
    fn what_is_told_wins_over_the_name() {
        let csv = CsvLayout::default();
        assert_eq!(
            format_of("a.json", Some(FormatName::Jsonl), &csv),
            Some(Format::JsonLines)
        );
        assert_eq!(format_of("a.parquet", None, &csv), Some(Format::Parquet));
        assert_eq!(format_of("a.dat", None, &csv), None);
        let tab = Format::Csv {
            delimiter: '\t',
            header: None,
        };
        assert_eq!(format_of("a.tsv.gz", None, &csv), Some(tab));
    }

    #[test]
    fn a_header_is_true_or_names() {
        let csv = read::<CsvLayout>("x", "delimiter: ;\nheader: [a, b]")
            .value
            .unwrap();
        let header = Some(vec!["a".to_owned(), "b".to_owned()]);
        let expected = Format::Csv {
            delimiter: ';',
            header,
        };
        assert_eq!(format_of("a.csv", None, &csv), Some(expected));
        let refused = read::<CsvLayout>("x", "header: false").findings;
        assert!(refused[0].message.contains("column names"), "{refused:?}");
    }
}
