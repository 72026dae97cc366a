//! A file of any format, record by record.

use super::assemble::Assembler;
use super::chunk::{RawChunk, Source};
use super::content::Content;
use super::error::{DecodeError, opening};
use super::formats::{Format, Reading};
use super::members::{Remark, decompress};
use super::request::{ColumnRequest, DecodeOptions, text_schema};
use super::unmet::Unmet;
use super::window::Window;
use crate::shield::shielded;
use crate::store::{FileMeta, Store};
use arrow::datatypes::SchemaRef;
use millrace_operators::domain::FileId;
use std::io::Read;

/// A file being decoded.
pub struct Decoder {
    file: FileId,
    schema: SchemaRef,
    /// Nothing when it panicked: it may be half changed.
    source: Option<Box<dyn Source>>,
    remark: Remark,
    /// Records handed out.
    received: u64,
}

impl Decoder {
    /// Opens `file` of `store` and checks that it has the columns asked for.
    ///
    /// # Errors
    /// When the file cannot be opened, is not of the format from its first bytes, or lacks a column.
    pub fn open(
        store: &Store,
        file: &FileMeta,
        id: FileId,
        format: &Format,
        columns: &[ColumnRequest],
        options: &DecodeOptions,
    ) -> Result<Self, DecodeError> {
        if let Reading::Columns(reading) = format.reading() {
            let access = store.random(file)?;
            return opening(&file.name, || {
                let (schema, source) = reading.open(&access, &file.name, id, columns, options)?;
                Ok(Self::from_source(id, schema, source))
            });
        }
        Self::from_reader(store.read(file)?, &file.name, id, format, columns, options)
    }

    /// Decodes a stream of bytes (standard input, a buffer) in a text format; `name` is for messages
    /// and for its `.gz` or `.zst`.
    ///
    /// # Errors
    /// As [`Self::open`]; and for Parquet, which is read from its end and so cannot be a stream.
    pub fn from_reader(
        input: Box<dyn Read + Send>,
        name: &str,
        id: FileId,
        format: &Format,
        columns: &[ColumnRequest],
        options: &DecodeOptions,
    ) -> Result<Self, DecodeError> {
        opening(name, || {
            Self::of_text(input, name, id, format, columns, options)
        })
    }

    fn of_text(
        input: Box<dyn Read + Send>,
        name: &str,
        id: FileId,
        format: &Format,
        columns: &[ColumnRequest],
        options: &DecodeOptions,
    ) -> Result<Self, DecodeError> {
        let remark = Remark::default();
        let mut input = decompress(input, name, &remark);
        if let Some(bytes) = options.bytes {
            input = Box::new(input.take(bytes));
        }
        let mut window = Window::new(input);
        if options.remember {
            window.remember();
        }
        window.begin().map_err(|encoding| DecodeError::Encoding {
            file: name.to_owned(),
            encoding,
        })?;
        let assembler = Assembler::new(id, columns);
        let source = match format.reading() {
            Reading::Lines(text) | Reading::Frames(text) => {
                text.open(window, name, assembler, options)?
            }
            Reading::Columns(_) => {
                return Err(DecodeError::NotAStream {
                    file: name.to_owned(),
                });
            }
        };
        Ok(Self {
            remark,
            ..Self::from_source(id, text_schema(columns), source)
        })
    }

    pub(crate) fn from_source(file: FileId, schema: SchemaRef, source: Box<dyn Source>) -> Self {
        Self {
            file,
            schema,
            source: Some(source),
            remark: Remark::default(),
            received: 0,
        }
    }

    /// The schema of every chunk's batch.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next records of the file; `None` after the last.
    pub fn next_chunk(&mut self) -> Option<RawChunk> {
        let source = self.source.as_mut()?;
        match shielded(|| source.next_chunk()) {
            Ok(chunk) => {
                self.received += chunk.as_ref().map_or(0, |chunk| chunk.received);
                chunk
            }
            Err(panicked) => {
                self.source = None;
                let detail = format!("the file is damaged: {panicked}");
                let (schema, file) = (&self.schema, self.file);
                Some(RawChunk::broken(schema, file, self.received, detail))
            }
        }
    }

    /// What has been read so far; nothing of formats that are no text, or unless it is to be remembered.
    pub fn content(&mut self) -> Option<Content> {
        let source = self.source.as_mut()?;
        shielded(|| source.content()).ok().flatten()
    }

    /// The fields asked for that no record read so far has, unless they may be absent. Of formats with a
    /// header it is none: a file without such a column is not opened.
    #[must_use]
    pub fn unmet(&self) -> Vec<Unmet> {
        let source = self.source.as_ref();
        source.map_or_else(Vec::new, |source| source.unmet())
    }

    /// What a person should look at in a file that was read to its end.
    #[must_use]
    pub fn remark(&self) -> Option<&str> {
        self.remark.get().map(String::as_str)
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}
