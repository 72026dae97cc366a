//! Records that stand in slices of a text, put together to chunks.

use super::assemble::Assembler;
use super::chunk::{RawChunk, Source};
use super::content::Content;
use super::request::DecodeOptions;
use super::split::{Broken, Slice, Splitter};
use super::unmet::Unmet;
use super::window::{RECORD_BYTES_MAX, Window, breaks_off};

/// What reads the records of a format.
pub(super) trait Records: Send {
    /// What they are, where a file has none of them.
    const WHAT: &'static str;
    /// Whether records name their fields themselves, so that one that none of them has is told at the end.
    const NAMED: bool;

    /// Puts a record into the assembler, as a row or as a fault.
    fn record(&self, slice: &Slice, bytes: &[u8], assembler: &mut Assembler);
}

/// A text of which `S` finds the records and `R` reads them.
pub(super) struct Sliced<S, R> {
    window: Window,
    splitter: S,
    records: R,
    assembler: Assembler,
    chunk_rows: u64,
    done: bool,
}

impl<S: Splitter, R: Records> Sliced<S, R> {
    /// Records of a text, with these columns of what is kept of them beside their bytes.
    pub(super) fn new(
        window: Window,
        splitter: S,
        records: R,
        mut assembler: Assembler,
        options: &DecodeOptions,
        kept: &[String],
    ) -> Self {
        if options.keep_originals {
            assembler.keep_originals(kept);
        }
        Self {
            window,
            splitter,
            records,
            assembler,
            chunk_rows: u64::try_from(options.chunk_rows.max(1)).unwrap_or(u64::MAX),
            done: false,
        }
    }

    fn accept(&mut self, slice: &Slice) {
        let bytes = self.window.bytes().get(slice.start..slice.end);
        let bytes = bytes.unwrap_or_default();
        self.assembler
            .original_bytes(slice.line, slice.key.as_deref(), bytes);
        if slice.oversized {
            let detail = format!("a record of more than {RECORD_BYTES_MAX} bytes");
            return self.assembler.reject(slice.line, detail);
        }
        self.records.record(slice, bytes, &mut self.assembler);
    }
}

impl<S: Splitter, R: Records> Source for Sliced<S, R> {
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
                Err(Broken::Layout(detail)) => {
                    format!("the file is not {}: {detail}", R::WHAT)
                }
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
        match R::NAMED {
            true => self.assembler.unmet(),
            false => Vec::new(),
        }
    }
}
