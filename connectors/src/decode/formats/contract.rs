//! What a format of files is to the rest: names and options before a file is opened, records behind.

use crate::container::{ContainerError, Row};
use crate::decode::assemble::Assembler;
use crate::decode::chunk::Source;
use crate::decode::error::DecodeError;
use crate::decode::members::{Remark, decompress};
use crate::decode::paths::FieldPaths;
use crate::decode::request::{ColumnRequest, DecodeOptions};
use crate::decode::window::Window;
use crate::store::{FileMeta, RandomAccess, Store};
use arrow::datatypes::SchemaRef;
use millrace_operators::domain::FileId;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::io::{BufReader, Read};

/// A format of files.
pub(super) trait FileFormat: Sized {
    /// The word for it in files that people write.
    const NAME: &'static str;
    /// What people call it.
    const TITLE: &'static str;
    /// What its files hold, in a few words.
    const ABOUT: &'static str;
    /// How the names of its files end; none where names say nothing, or not enough.
    const ENDINGS: &'static [&'static str];

    /// What may be said of its files.
    type Options: Clone + Debug + PartialEq + Eq + DeserializeOwned + JsonSchema;

    /// The format of the file called `file`.
    fn of(options: &Self::Options, file: &str) -> Self;

    /// One of its kind, for documentation and tests.
    fn example() -> Self;

    /// What reads it.
    fn reading(&self) -> Reading<'_>;

    /// Whether text of which nothing else is known and that begins with this byte is of the format.
    fn begins_with(_: u8) -> bool {
        false
    }

    /// The format as people are shown it.
    fn described(&self) -> String {
        Self::TITLE.to_owned()
    }

    /// What must be written into a source beside a place like this one, as a line of YAML.
    fn written(&self, _place: &str) -> Option<String> {
        None
    }

    /// The fields of a file for whoever has no rule for it yet, and the format with what its content tells.
    ///
    /// # Errors
    /// When it cannot be read, or its beginning is not of the format.
    fn fields(self, store: &Store, file: &FileMeta) -> Result<Found<Self>, DecodeError>;

    /// The rows of a usage container.
    ///
    /// # Errors
    /// When the input is not of the format at all.
    fn containers(&self, _input: impl Read) -> Result<Vec<Row>, ContainerError> {
        let message = format!("{} is not read here; write CSV or JSON", Self::TITLE);
        Err(ContainerError::whole(message))
    }
}

/// What sort of bytes a format reads, and what reads them. A record of text has its place by its line and one
/// of columns by its row.
#[derive(Clone, Copy)]
pub(in crate::decode) enum Reading<'f> {
    /// Text whose records have lines of their own, so that each stands alone.
    Lines(&'f dyn TextFormat),
    /// Text whose records stand in a frame, behind a fault of which there are none.
    Frames(&'f dyn TextFormat),
    /// Columns with types of their own, read in any order.
    Columns(&'f dyn ColumnFormat),
}

/// Text, read from its beginning to its end.
pub(in crate::decode) trait TextFormat {
    /// Begins to read a file.
    ///
    /// # Errors
    /// When its beginning is not of the format, or it lacks a column.
    fn open(
        &self,
        window: Window,
        file: &str,
        assembler: Assembler,
        options: &DecodeOptions,
    ) -> Result<Box<dyn Source>, DecodeError>;

    /// Whether the first line is no record.
    fn has_header(&self) -> bool {
        false
    }

    /// How records of `file` are read again that were kept; `header` has the names of columns of which only
    /// bytes are kept.
    ///
    /// # Errors
    /// When the file has no such column.
    fn kept(
        &self,
        file: &str,
        header: Option<&[String]>,
        columns: &[ColumnRequest],
    ) -> Result<Kept, DecodeError>;
}

/// How kept records are read again.
pub(crate) enum Kept {
    /// Column by column, as text.
    Columns,
    /// From their bytes.
    Bytes(Box<dyn KeptRecords>),
    /// From their bytes, which name their fields.
    Named(FieldPaths),
}

/// Reads records again that were kept as their bytes.
pub(crate) trait KeptRecords: Send {
    /// Puts a record into the assembler, as a row or as a fault.
    fn record(&self, bytes: &[u8], line: u64, assembler: &mut Assembler);
}

/// A file of columns.
pub(in crate::decode) trait ColumnFormat {
    /// Opens a file and reads the first rows that are asked for.
    ///
    /// # Errors
    /// When it is damaged before its first row, or lacks a column.
    fn open(
        &self,
        access: &RandomAccess,
        file: &str,
        id: FileId,
        columns: &[ColumnRequest],
        options: &DecodeOptions,
    ) -> Result<(SchemaRef, Box<dyn Source>), DecodeError>;
}

/// The fields of a file.
pub(super) struct Found<F> {
    /// The format, with what its content tells.
    pub(super) format: F,
    /// Names, as a rule writes them; a dotted path into JSON.
    pub(super) names: Vec<String>,
    /// Those of them that are binary floats.
    pub(super) floats: Vec<String>,
}

impl<F> Found<F> {
    /// Fields of text, which has no floats.
    pub(super) fn of_text(format: F, names: Vec<String>) -> Self {
        Self {
            format,
            names,
            floats: Vec::new(),
        }
    }
}

/// The text of a file.
pub(super) fn text_of(
    store: &Store,
    file: &FileMeta,
) -> Result<BufReader<Box<dyn Read + Send>>, DecodeError> {
    // What is to be told of the file is told when it is read.
    let input = decompress(store.read(file)?, &file.name, &Remark::default());
    Ok(BufReader::new(input))
}

/// How a file's name ends, behind which it may be compressed.
pub(super) fn ending(file: &str) -> Option<String> {
    let lower = file.to_ascii_lowercase();
    let plain = lower
        .strip_suffix(".gz")
        .or(lower.strip_suffix(".zst"))
        .unwrap_or(&lower);
    Some(plain.rsplit_once('.')?.1.to_owned())
}

/// Where each requested column stands among the names of a file; `None` for one that may be absent, and is.
pub(super) fn positions(
    file: &str,
    header: &[String],
    columns: &[ColumnRequest],
) -> Result<Vec<Option<usize>>, DecodeError> {
    let place = |column: &ColumnRequest| {
        let names = header.iter().enumerate();
        let mut places = names.filter(|(_, name)| **name == column.name);
        match (places.next(), places.next()) {
            (Some((place, _)), None) => Ok(Some(place)),
            (Some(_), Some(_)) => Err(DecodeError::AmbiguousColumn {
                file: file.to_owned(),
                column: column.name.clone(),
            }),
            (None, _) if column.may_be.absent => Ok(None),
            (None, _) => {
                let available = header.iter().map(String::as_str);
                Err(DecodeError::unknown_column(file, column, available))
            }
        }
    };
    columns.iter().map(place).collect()
}
