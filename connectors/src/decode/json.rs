//! JSON records, one per line or in one value.

use super::assemble::Assembler;
use super::chunk::{RawChunk, Source};
use super::content::Content;
use super::paths::{FieldPaths, KEY_COLUMN};
use super::request::DecodeOptions;
use super::split::{Broken, Elements, Lines, Slice};
use super::unmet::Unmet;
use super::window::{RECORD_BYTES_MAX, Window, breaks_off};

pub(super) struct JsonSource {
    window: Window,
    splitter: Splitter,
    paths: FieldPaths,
    key_column: Option<usize>,
    assembler: Assembler,
    chunk_rows: u64,
    done: bool,
}

enum Splitter {
    Lines(Lines),
    Elements(Elements),
}

impl Splitter {
    fn next(&mut self, window: &mut Window) -> Result<Option<Slice>, Broken> {
        match self {
            Self::Lines(lines) => lines.next(window),
            Self::Elements(elements) => elements.next(window),
        }
    }

    fn line(&self) -> u64 {
        match self {
            Self::Lines(lines) => lines.line(),
            Self::Elements(elements) => elements.line(),
        }
    }
}

impl JsonSource {
    pub(super) fn lines(window: Window, assembler: Assembler, options: &DecodeOptions) -> Self {
        Self::new(
            window,
            Splitter::Lines(Lines::default()),
            assembler,
            options,
        )
    }

    pub(super) fn elements(window: Window, assembler: Assembler, options: &DecodeOptions) -> Self {
        Self::new(
            window,
            Splitter::Elements(Elements::new()),
            assembler,
            options,
        )
    }

    fn new(
        window: Window,
        splitter: Splitter,
        mut assembler: Assembler,
        options: &DecodeOptions,
    ) -> Self {
        let paths = FieldPaths::new(assembler.names());
        let key_column = assembler.names().iter().position(|name| name == KEY_COLUMN);
        if options.keep_originals {
            // The names of records in an object stand outside of the records.
            let names = matches!(splitter, Splitter::Elements(_)).then(|| KEY_COLUMN.to_owned());
            assembler.keep_originals(names.as_slice());
        }
        let chunk_rows = u64::try_from(options.chunk_rows.max(1)).unwrap_or(u64::MAX);
        Self {
            window,
            splitter,
            paths,
            key_column,
            assembler,
            chunk_rows,
            done: false,
        }
    }

    fn accept(&mut self, slice: &Slice) {
        let Self {
            window,
            paths,
            assembler,
            ..
        } = self;
        let bytes = window
            .bytes()
            .get(slice.start..slice.end)
            .unwrap_or_default();
        assembler.original_bytes(slice.line, slice.key.as_deref(), bytes);
        if slice.oversized {
            let detail = format!("a record of more than {RECORD_BYTES_MAX} bytes");
            return assembler.reject(slice.line, detail);
        }
        let key = slice
            .key
            .as_deref()
            .and_then(|key| Some((self.key_column?, key)));
        paths.record(bytes, slice.line, key, assembler);
    }
}

impl Source for JsonSource {
    fn next_chunk(&mut self) -> Option<RawChunk> {
        while !self.done && !self.assembler.is_chunk(self.chunk_rows) {
            let detail = match self.splitter.next(&mut self.window) {
                Ok(Some(slice)) if !self.assembler.is_full() => {
                    self.accept(&slice);
                    self.window.mark(slice.end);
                    if !slice.at_end {
                        self.window.settle(self.assembler.next_row());
                    }
                    continue;
                }
                Ok(Some(_)) => "the file has more than 2^40 rows".to_owned(),
                Ok(None) => {
                    self.done = true;
                    break;
                }
                Err(Broken::Read(error)) => breaks_off(&error),
                Err(Broken::Layout(detail)) => format!("the file is not JSON records: {detail}"),
            };
            self.assembler.file_fault(self.splitter.line(), detail);
            self.done = true;
        }
        self.assembler.finish()
    }

    fn content(&mut self) -> Option<Content> {
        self.window.content()
    }

    fn unmet(&self) -> Vec<Unmet> {
        self.assembler.unmet()
    }
}
