//! CSV: the splitter of csv-core over a bounded window.
//!
//! The window keeps a record's bytes until it is accepted. So when a quote that nobody closed
//! swallows the lines behind it (the record gets too long or has the wrong number of fields), only
//! its first line is the fault and reading goes on behind that line.

use super::assemble::{Assembler, quoted};
use super::error::DecodeError;
use super::window::{RECORD_BYTES_MAX, Window};
use super::{DecodeOptions, RawChunk, Source};
use csv_core::ReadRecordResult;
use std::io;

pub(super) struct Layout<'l> {
    pub(super) delimiter: u8,
    pub(super) header: Option<&'l [String]>,
}

pub(super) struct CsvSource {
    splitter: Splitter,
    assembler: Assembler,
    /// Where each requested column stands in the file; `None` for one that may be absent, and is.
    positions: Vec<Option<usize>>,
    width: usize,
    chunk_rows: u64,
    done: bool,
}

impl CsvSource {
    pub(super) fn open(
        window: Window,
        file: &str,
        layout: &Layout<'_>,
        mut assembler: Assembler,
        options: &DecodeOptions,
    ) -> Result<Self, DecodeError> {
        let mut splitter = Splitter::new(window, layout.delimiter);
        let header = match layout.header {
            Some(header) => Some(header.to_vec()),
            None => read_header(&mut splitter, file)?,
        };
        let done = header.is_none();
        let header = header.unwrap_or_else(|| assembler.names().to_vec());
        let mut positions = Vec::with_capacity(assembler.names().len());
        for column in assembler.columns() {
            let mut places = header
                .iter()
                .enumerate()
                .filter(|(_, name)| **name == column.name);
            match (places.next(), places.next()) {
                (Some((place, _)), None) => positions.push(Some(place)),
                (Some(_), Some(_)) => {
                    return Err(DecodeError::AmbiguousColumn {
                        file: file.to_owned(),
                        column: column.name.clone(),
                    });
                }
                (None, _) if column.may_be.absent => positions.push(None),
                (None, _) => {
                    let available = header.iter().map(String::as_str);
                    return Err(DecodeError::unknown_column(file, column, available));
                }
            }
        }
        if options.keep_originals {
            assembler.keep_originals(&header);
        }
        let chunk_rows = u64::try_from(options.chunk_rows.max(1)).unwrap_or(u64::MAX);
        Ok(Self {
            splitter,
            assembler,
            positions,
            width: header.len(),
            chunk_rows,
            done,
        })
    }

    fn accept(&mut self, line: u64) {
        let Self {
            splitter,
            assembler,
            positions,
            ..
        } = self;
        let text = &splitter.fields[..splitter.fields_length()];
        // One look at the whole record instead of one per field: nearly all records are plain ASCII.
        if text.contains(&0) {
            assembler.original_bytes(line, None, splitter.record());
            return assembler.reject(line, format!("{} holds a NUL byte", quoted(&lossy(text))));
        }
        if !text.is_ascii() && (0..splitter.count).any(|i| splitter.field(i).is_none()) {
            assembler.original_bytes(line, None, splitter.record());
            return assembler.reject(line, format!("{} is not UTF-8 text", quoted(&lossy(text))));
        }
        if assembler.keeps_originals() {
            let fields = (0..splitter.count).map(|i| splitter.field(i).unwrap_or_default());
            assembler.original_fields(line, fields);
        }
        assembler.begin_row(line);
        for (column, &position) in positions.iter().enumerate() {
            // An empty field is NULL: CSV has no other way to say it.
            assembler.value(
                column,
                position
                    .and_then(|position| splitter.field(position))
                    .filter(|text| !text.is_empty()),
            );
        }
        assembler.end_row();
    }

    fn reject(&mut self, line: u64, detail: String) {
        self.assembler
            .original_bytes(line, None, self.splitter.record());
        self.assembler.reject(line, detail);
    }
}

impl Source for CsvSource {
    fn next_chunk(&mut self) -> Option<RawChunk> {
        while !self.done && self.assembler.received() < self.chunk_rows {
            let line = match self.splitter.next() {
                Ok(Some(line)) => line,
                Ok(None) => {
                    self.done = true;
                    break;
                }
                Err(error) => {
                    let line = self.splitter.line;
                    self.assembler
                        .file_fault(line, format!("the file ends early: {error}"));
                    self.done = true;
                    break;
                }
            };
            if self.assembler.is_full() {
                self.assembler
                    .file_fault(line, "the file has more than 2^40 rows".to_owned());
                self.done = true;
                break;
            }
            if self.splitter.oversized {
                self.splitter.keep_first_line_only();
                let kept = quoted(&lossy(
                    &self.splitter.record()[..self.splitter.record_length.min(400)],
                ));
                self.reject(
                    line,
                    format!("a record of more than {RECORD_BYTES_MAX} bytes: {kept}"),
                );
            } else if self.splitter.unclosed() {
                self.splitter.keep_first_line_only();
                let kept = quoted(&lossy(self.splitter.record()));
                self.reject(line, format!("a quote is never closed: {kept}"));
            } else if self.splitter.count != self.width {
                self.splitter.keep_first_line_only();
                let kept = quoted(lossy(self.splitter.record()).trim_end());
                let (found, expected) = (self.splitter.count, self.width);
                self.reject(
                    line,
                    format!("{found} fields instead of {expected}: {kept}"),
                );
            } else {
                self.accept(line);
            }
            self.splitter.release();
        }
        self.assembler.finish()
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn read_header(splitter: &mut Splitter, file: &str) -> Result<Option<Vec<String>>, DecodeError> {
    let header_error = |detail: &str| DecodeError::Header {
        file: file.to_owned(),
        detail: detail.to_owned(),
    };
    let found = splitter.next().map_err(|source| DecodeError::Read {
        file: file.to_owned(),
        source,
    })?;
    if found.is_none() {
        return Ok(None);
    }
    if splitter.oversized {
        return Err(header_error("it is longer than 8 MiB; is the file CSV?"));
    }
    let names = (0..splitter.count).map(|i| {
        splitter
            .field(i)
            .filter(|name| !name.contains('\0'))
            .map(|name| name.trim().to_owned())
            .ok_or_else(|| header_error("it is not UTF-8; is the file CSV, and uncompressed?"))
    });
    let names = names.collect::<Result<Vec<_>, _>>()?;
    splitter.release();
    Ok(Some(names))
}

/// Splits the stream into records of fields.
struct Splitter {
    window: Window,
    core: csv_core::Reader,
    /// The fields of the record, unquoted, one behind the other.
    fields: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
    /// Bytes of the record in the window.
    record_length: usize,
    /// Line on which the window begins.
    line: u64,
    oversized: bool,
    /// Whether the window stands inside a line that is to be passed over.
    skipping: bool,
    at_end: bool,
}

impl Splitter {
    fn new(window: Window, delimiter: u8) -> Self {
        let core = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Self {
            window,
            core,
            fields: vec![0; 4096],
            ends: vec![0; 64],
            count: 0,
            record_length: 0,
            line: 1,
            oversized: false,
            skipping: false,
            at_end: false,
        }
    }

    /// Finds the next record and the line that it begins on.
    fn next(&mut self) -> io::Result<Option<u64>> {
        self.skip_rest_of_line()?;
        self.skip_line_ends()?;
        self.oversized = false;
        self.at_end = false;
        self.count = 0;
        let (mut read, mut written) = (0, 0);
        loop {
            if read == self.window.bytes().len() && !self.window.ended() {
                self.window.fill()?;
                continue;
            }
            let rest = self.window.bytes().get(read..).unwrap_or_default();
            self.at_end = rest.is_empty();
            let (result, bytes_in, bytes_out, ends_out) = self.core.read_record(
                rest,
                &mut self.fields[written..],
                &mut self.ends[self.count..],
            );
            read += bytes_in;
            written += bytes_out;
            self.count += ends_out;
            self.record_length = read;
            match result {
                ReadRecordResult::OutputFull => self.fields.resize(self.fields.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::InputEmpty if read > RECORD_BYTES_MAX => {
                    self.oversized = true;
                    return Ok(Some(self.line));
                }
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record => {
                    self.oversized = read > RECORD_BYTES_MAX;
                    return Ok(Some(self.line));
                }
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    fn skip_line_ends(&mut self) -> io::Result<()> {
        loop {
            match self.window.bytes().first() {
                Some(b'\n') => self.line += 1,
                Some(b'\r') => {}
                Some(_) => return Ok(()),
                None if self.window.ended() => return Ok(()),
                None => {
                    self.window.fill()?;
                    continue;
                }
            }
            self.window.advance(1);
        }
    }

    /// The bytes of the record as they stand.
    fn record(&self) -> &[u8] {
        self.window
            .bytes()
            .get(..self.record_length)
            .unwrap_or_default()
    }

    fn fields_length(&self) -> usize {
        self.count
            .checked_sub(1)
            .and_then(|last| self.ends.get(last))
            .copied()
            .unwrap_or(0)
    }

    fn field(&self, index: usize) -> Option<&str> {
        let start = if index == 0 {
            0
        } else {
            *self.ends.get(index - 1)?
        };
        std::str::from_utf8(self.fields.get(start..*self.ends.get(index)?)?).ok()
    }

    /// Whether the stream ended inside quotes: the record swallowed every line to the end.
    fn unclosed(&self) -> bool {
        let record = self.record().trim_ascii_end();
        self.at_end && record.contains(&b'\n') && !record.ends_with(b"\"")
    }

    /// Takes the record for its first line alone; what follows is read anew.
    fn keep_first_line_only(&mut self) {
        if let Some(end) = self.record().iter().position(|byte| *byte == b'\n') {
            self.record_length = end + 1;
            self.core.reset();
        } else if self.oversized {
            self.core.reset();
            self.skipping = !self.at_end;
        }
    }

    /// Lets go of the record.
    fn release(&mut self) {
        let newlines = self.record().iter().filter(|byte| **byte == b'\n').count();
        self.line += u64::try_from(newlines).unwrap_or(0);
        self.window.advance(self.record_length);
        self.record_length = 0;
    }

    /// Lets go of what is left of a line that is too long.
    fn skip_rest_of_line(&mut self) -> io::Result<()> {
        while self.skipping {
            let bytes = self.window.bytes();
            let newline = bytes.iter().position(|byte| *byte == b'\n');
            let count = newline.unwrap_or(bytes.len());
            self.window.advance(count);
            self.skipping = newline.is_none() && !self.window.ended();
            if self.skipping {
                self.window.fill()?;
            }
        }
        Ok(())
    }
}
