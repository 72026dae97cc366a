//! The formats of files: a line each in the table below, a file each beside it.
//!
//! A format's file has its options with what is wrong with them, its description, its decoder and its tests. From
//! the table follow the words of `format`, its JSON schema, what is said of an unknown one and of options that a
//! format does not take, what the names of files and the beginning of a text suggest, and the tests that every
//! format passes.

mod contract;
mod csv;
mod fixed;
mod json;
mod json_lines;
mod parquet;
mod told;

pub use csv::{CsvLayout, Header};
pub use told::{FormatEntry, csv_misplaced, format_of, layout_text};

pub(crate) use contract::Kept;
pub(super) use contract::Reading;

use super::error::{DecodeError, opening};
use super::request::ColumnRequest;
use crate::container::{ContainerError, Row, unmarked};
use crate::store::{FileMeta, Store};
use contract::{FileFormat, ending};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::{Error, MapDeserializer};
use serde::de::{MapAccess, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize};
use std::io::Read;

macro_rules! formats {
    ($($format:ident in $module:ident,)+) => {
        $(pub use self::$module::$format;)+

        /// How the bytes of a file are laid out. `.gz` and `.zst` behind the name are taken off first.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "type", rename_all = "snake_case")]
        pub enum Format {
            $(#[doc = concat!("As `", stringify!($module), ".rs` says.")] $format($format),)+
        }

        /// A format and what was said of it.
        #[derive(Clone, Debug, PartialEq, Eq)]
        enum Told {
            $($format(<$format as FileFormat>::Options),)+
        }

        impl Told {
            /// The names of all formats.
            const NAMES: &'static [&'static str] = &[$(<$format as FileFormat>::NAME,)+];

            /// The format of this name with the options of `map`.
            fn read<'de, A: MapAccess<'de>>(name: &str, map: A) -> Result<Option<Self>, A::Error> {
                $(if name == <$format as FileFormat>::NAME {
                    let options = Deserialize::deserialize(MapAccessDeserializer::new(map));
                    return options.map(|options| Some(Self::$format(options)));
                })+
                Ok(None)
            }

            fn name(&self) -> &'static str {
                match self {
                    $(Self::$format(_) => <$format as FileFormat>::NAME,)+
                }
            }

            /// The format of the file called `file`.
            fn of(&self, file: &str) -> Format {
                match self {
                    $(Self::$format(options) => {
                        Format::$format(<$format as FileFormat>::of(options, file))
                    })+
                }
            }

            /// The format that a file's name suggests.
            fn of_name(file: &str) -> Option<Self> {
                let ending = ending(file)?;
                $(if <$format as FileFormat>::ENDINGS.contains(&&*ending) {
                    return Self::bare(<$format as FileFormat>::NAME).ok().flatten();
                })+
                None
            }

            /// What the options of each format are.
            fn schemas(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
                vec![$((
                    <$format as FileFormat>::NAME,
                    <$format as FileFormat>::Options::json_schema(generator),
                ),)+]
            }
        }

        impl Format {
            /// What is known of each format.
            #[must_use]
            pub fn all() -> Vec<FormatAbout> {
                vec![$(FormatAbout {
                    name: <$format as FileFormat>::NAME,
                    title: <$format as FileFormat>::TITLE,
                    about: <$format as FileFormat>::ABOUT,
                    endings: <$format as FileFormat>::ENDINGS,
                    example: Self::$format(<$format as FileFormat>::example()),
                },)+]
            }

            /// The format of text that begins like this.
            #[must_use]
            pub fn of_beginning(text: &[u8]) -> Self {
                let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
                $(if first.is_some_and(|byte| <$format as FileFormat>::begins_with(*byte)) {
                    return Self::$format(<$format as FileFormat>::example());
                })+
                Self::Csv(Csv::example())
            }

            /// What reads it.
            pub(super) fn reading(&self) -> Reading<'_> {
                match self {
                    $(Self::$format(format) => format.reading(),)+
                }
            }

            /// The format as people are shown it.
            #[must_use]
            pub fn described(&self) -> String {
                match self {
                    $(Self::$format(format) => format.described(),)+
                }
            }

            /// What must be written into a source beside a place like this one, as a line of YAML.
            #[must_use]
            pub fn written(&self, place: &str) -> Option<String> {
                match self {
                    $(Self::$format(format) => format.written(place),)+
                }
            }

            /// All rows of a usage container; a bad row is an error of its own.
            ///
            /// # Errors
            /// When the input is not of the format at all.
            pub fn containers(&self, input: impl Read) -> Result<Vec<Row>, ContainerError> {
                let input = unmarked(input);
                let input = input.map_err(|error| ContainerError::whole(error.to_string()))?;
                match self {
                    $(Self::$format(format) => format.containers(input),)+
                }
            }

            /// Files of all formats.
            #[cfg(test)]
            fn samples() -> Vec<conformance::Sample> {
                let mut all = Vec::new();
                $(all.extend(<$format as conformance::Conforms>::samples());)+
                all
            }

            fn fields(self, store: &Store, file: &FileMeta) -> Result<Fields, DecodeError> {
                match self {
                    $(Self::$format(format) => format.fields(store, file).map(|found| Fields {
                        format: Self::$format(found.format),
                        names: found.names,
                        floats: found.floats,
                    }),)+
                }
            }
        }
    };
}

formats! {
    Csv in csv,
    JsonLines in json_lines,
    Json in json,
    Parquet in parquet,
    Fixed in fixed,
}

/// A format, for documentation and for tests of all of them.
#[derive(Clone, Debug)]
pub struct FormatAbout {
    /// The word for it in files that people write.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// What its files hold, in a few words.
    pub about: &'static str,
    /// How the names of its files end.
    pub endings: &'static [&'static str],
    /// One of its kind.
    pub example: Format,
}

impl FormatAbout {
    /// What is read, in a few words.
    #[must_use]
    pub fn reads(&self) -> &'static str {
        match self.example.reading() {
            Reading::Lines(_) => "text by lines",
            Reading::Frames(_) => "text in a frame",
            Reading::Columns(_) => "columns",
        }
    }

    /// The names of its options.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        told::options_of(self.name)
    }
}

impl Told {
    /// The format of this name without options, if it needs none.
    ///
    /// # Errors
    /// What it needs.
    fn bare(name: &str) -> Result<Option<Self>, Error> {
        let nothing = std::iter::empty::<(&str, &str)>();
        Self::read(name, MapDeserializer::new(nothing))
    }

    /// The names of formats that need no options.
    fn bare_names() -> Vec<&'static str> {
        let names = Self::NAMES.iter().copied();
        names.filter(|name| Self::bare(name).is_ok()).collect()
    }
}

impl Format {
    /// The format that a file's name suggests.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Told::of_name(name).map(|told| told.of(name))
    }

    /// Whether columns have the types of the file instead of declared ones. Such a file is read in any order, so
    /// it is an archive of its records itself, and these have no lines.
    #[must_use]
    pub fn is_typed(&self) -> bool {
        matches!(self.reading(), Reading::Columns(_))
    }

    /// Whether the first line of a file is no record.
    pub(super) fn has_header(&self) -> bool {
        match self.reading() {
            Reading::Lines(text) | Reading::Frames(text) => text.has_header(),
            Reading::Columns(_) => false,
        }
    }

    /// How records of `file` are read again that were kept; `header` has the names of columns of which only
    /// bytes are kept.
    ///
    /// # Errors
    /// When the file has no such column.
    pub(crate) fn kept(
        &self,
        file: &str,
        header: Option<&[String]>,
        columns: &[ColumnRequest],
    ) -> Result<Kept, DecodeError> {
        match self.reading() {
            Reading::Lines(text) | Reading::Frames(text) => text.kept(file, header, columns),
            Reading::Columns(_) => Ok(Kept::Columns),
        }
    }
}

/// The fields of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The format, with what the content tells.
    pub format: Format,
    /// Names, as a rule writes them; a dotted path into JSON.
    pub names: Vec<String>,
    /// Those of them that are binary floats.
    pub floats: Vec<String>,
}

/// Looks at the fields of a file, for whoever has no rule for it yet.
///
/// # Errors
/// When it cannot be read, or its beginning is not of the format.
pub fn fields_of(store: &Store, file: &FileMeta, format: Format) -> Result<Fields, DecodeError> {
    opening(&file.name, || format.fields(store, file))
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;
