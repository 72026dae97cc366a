//! CSV: the splitter of csv-core over a bounded window.
//!
//! A field may be quoted: its first byte is a quote, and so is its last, in front of a delimiter or a line
//! end; a quote inside is written twice, and delimiters and line ends inside are data. Any other quote
//! means that the quotes of the record do not pair: it was cut inside of quotes, or written by something
//! that does not quote. What it says cannot be believed, even where it has the right number of fields.
//!
//! The window keeps a record's bytes until it is accepted. So when a record's quotes do not pair, or it
//! gets too long, or has the wrong number of fields, only its first line is the fault and reading goes on
//! behind that line: a quote that nobody closed costs no line but its own.

use super::assemble::Assembler;
use super::chunk::{RawChunk, Source};
use super::content::Content;
use super::error::DecodeError;
use super::request::{ColumnRequest, DecodeOptions};
use super::scalar::quoted;
use super::window::{BYTE_ORDER_MARK, RECORD_BYTES_MAX, Window, breaks_off};
use csv_core::ReadRecordResult;
use memchr::{memchr, memchr2};
use std::io;

/// Columns of a file, at most: each costs memory in every row that is kept.
const COLUMNS_MAX: usize = 16_384;
/// Columns of rows that are kept field by field, at most; wider rows are kept as their bytes, since each
/// column costs a writer time and memory of its own.
const KEPT_COLUMNS_MAX: usize = 1_000;

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
    /// Whether rows are kept as their bytes.
    keeps_bytes: bool,
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
        let positions = positions(file, &header, assembler.columns())?;
        let keeps_bytes = header.len() > KEPT_COLUMNS_MAX;
        match options.keep_originals {
            true if keeps_bytes => assembler.keep_wide_originals(&header),
            true => assembler.keep_originals(&header),
            false => {}
        }
        let chunk_rows = u64::try_from(options.chunk_rows.max(1)).unwrap_or(u64::MAX);
        Ok(Self {
            splitter,
            assembler,
            positions,
            width: header.len(),
            keeps_bytes,
            chunk_rows,
            done,
        })
    }

    fn accept(&mut self, line: u64) {
        let Self {
            splitter,
            assembler,
            positions,
            keeps_bytes,
            ..
        } = self;
        let text = &splitter.fields[..splitter.fields_length()];
        if text.contains(&0) {
            assembler.original_bytes(line, None, splitter.record());
            return assembler.reject(line, format!("{} holds a NUL byte", quoted(&lossy(text))));
        }
        let is_damaged = splitter.is_damaged();
        if assembler.keeps_originals() && *keeps_bytes {
            assembler.original_bytes(line, None, splitter.record());
        } else if assembler.keeps_originals() && is_damaged {
            let texts = (0..splitter.count).map(|i| splitter.field_bytes(i).unwrap_or_default());
            let texts: Vec<String> = texts.map(lossy).collect();
            let texts = texts.iter().map(String::as_str);
            assembler.original_fields(line, texts, Some(splitter.record()));
        } else if assembler.keeps_originals() {
            let fields = (0..splitter.count).map(|i| splitter.field(i).unwrap_or_default());
            assembler.original_fields(line, fields, None);
        }
        assembler.begin_row(line);
        match is_damaged {
            true => fill_damaged(splitter, positions, assembler),
            false => fill(splitter, positions, assembler),
        }
        assembler.end_row();
    }

    fn reject(&mut self, line: u64, detail: String) {
        self.assembler
            .original_bytes(line, None, self.splitter.record());
        self.assembler.reject(line, detail);
    }
}

/// Where each requested column stands in a header; `None` for one that may be absent, and is.
fn positions(
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

/// Hands the fields of a record over that are asked for.
fn fill(splitter: &Splitter, positions: &[Option<usize>], assembler: &mut Assembler) {
    for (column, &position) in positions.iter().enumerate() {
        let text = position.and_then(|position| splitter.field(position));
        // An empty field is NULL: CSV has no other way to say it.
        assembler.value(column, text.filter(|text| !text.is_empty()));
    }
}

/// The same of a record with fields that are no text: they cost it only where somebody wants them.
fn fill_damaged(splitter: &Splitter, positions: &[Option<usize>], assembler: &mut Assembler) {
    for (column, &position) in positions.iter().enumerate() {
        let bytes = position.and_then(|position| splitter.field_bytes(position));
        let text = bytes.filter(|bytes| !bytes.is_empty()).map(lossy);
        assembler.damaged_value(column, text.as_deref());
    }
}

/// Rows of a file that were kept as their bytes.
pub(crate) struct KeptRows {
    positions: Vec<Option<usize>>,
    delimiter: u8,
}

impl KeptRows {
    /// Rows of a file with this header, of which some columns are asked for.
    ///
    /// # Errors
    /// When the file has no such column.
    pub(crate) fn new(
        file: &str,
        header: &[String],
        delimiter: char,
        columns: &[ColumnRequest],
    ) -> Result<Self, DecodeError> {
        Ok(Self {
            positions: positions(file, header, columns)?,
            delimiter: u8::try_from(delimiter).unwrap_or(b','),
        })
    }

    /// Hands the fields of a row over that are asked for.
    pub(crate) fn row(&self, bytes: &[u8], line: u64, assembler: &mut Assembler) {
        let window = Window::new(Box::new(io::Cursor::new(bytes.to_vec())));
        let mut splitter = Splitter::new(window, self.delimiter);
        if !matches!(splitter.next(), Ok(Some(_))) {
            return assembler.reject(line, "the row was kept and is none".to_owned());
        }
        assembler.begin_row(line);
        match splitter.is_damaged() {
            true => fill_damaged(&splitter, &self.positions, assembler),
            false => fill(&splitter, &self.positions, assembler),
        }
        assembler.end_row();
    }
}

impl Source for CsvSource {
    fn next_chunk(&mut self) -> Option<RawChunk> {
        while !self.done && !self.assembler.is_chunk(self.chunk_rows) {
            let line = match self.splitter.next() {
                Ok(Some(line)) => line,
                Ok(None) => {
                    self.done = true;
                    break;
                }
                Err(error) => {
                    let line = self.splitter.line;
                    self.assembler.file_fault(line, breaks_off(&error));
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
            } else if let Some(damage) = self.splitter.damage() {
                self.splitter.keep_first_line_only();
                let kept = quoted(lossy(self.splitter.record()).trim_end());
                self.reject(line, format!("{damage}: {kept}"));
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
            if !self.splitter.at_end {
                self.splitter.window.settle(self.assembler.next_row());
            }
        }
        self.assembler.finish()
    }

    fn content(&mut self) -> Option<Content> {
        self.splitter.window.content()
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
    if let Some(damage) = splitter.damage() {
        return Err(header_error(&format!("{damage}; is the file CSV?")));
    }
    let names = (0..splitter.count).map(|i| {
        splitter
            .field(i)
            .filter(|name| !name.contains('\0'))
            .map(|name| name.trim().to_owned())
            .ok_or_else(|| header_error("it is not UTF-8; is the file CSV, and uncompressed?"))
    });
    let names = names.collect::<Result<Vec<_>, _>>()?;
    if names.len() > COLUMNS_MAX {
        return Err(header_error(&format!(
            "it has {} columns, and {COLUMNS_MAX} are the most; is the delimiter right?",
            names.len()
        )));
    }
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
    /// Whether the record ends where the file does, so that a longer file might have a longer one.
    at_end: bool,
    delimiter: u8,
    /// Bytes at the beginning of the window in which no quote stands.
    unquoted: usize,
    /// Whether the byte let go of last was a carriage return, whose line feed may follow.
    returned: bool,
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
            delimiter,
            unquoted: 0,
            returned: false,
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
            match self.window.bytes().first().copied() {
                Some(b'\n') => {
                    self.line += u64::from(!self.returned);
                    self.returned = false;
                }
                Some(b'\r') => {
                    self.line += 1;
                    self.returned = true;
                }
                // Files that were put together have marks in the middle.
                Some(0xEF) if self.at_mark()? => self.advance(BYTE_ORDER_MARK.len() - 1),
                Some(_) => {
                    self.returned = false;
                    return Ok(());
                }
                None if self.window.ended() => return Ok(()),
                None => {
                    self.window.fill()?;
                    continue;
                }
            }
            self.advance(1);
        }
    }

    fn at_mark(&mut self) -> io::Result<bool> {
        while self.window.bytes().len() < BYTE_ORDER_MARK.len() && !self.window.ended() {
            self.window.fill()?;
        }
        Ok(self.window.bytes().starts_with(BYTE_ORDER_MARK))
    }

    fn advance(&mut self, count: usize) {
        self.window.advance(count);
        self.unquoted = self.unquoted.saturating_sub(count);
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

    /// Whether a field of the record is no text. One look at the whole record instead of one per field: nearly
    /// all records are plain ASCII.
    fn is_damaged(&self) -> bool {
        let text = self.fields.get(..self.fields_length()).unwrap_or_default();
        !text.is_ascii() && (0..self.count).any(|index| self.field(index).is_none())
    }

    fn field(&self, index: usize) -> Option<&str> {
        std::str::from_utf8(self.field_bytes(index)?).ok()
    }

    fn field_bytes(&self, index: usize) -> Option<&[u8]> {
        let start = if index == 0 {
            0
        } else {
            *self.ends.get(index - 1)?
        };
        self.fields.get(start..*self.ends.get(index)?)
    }

    /// What is wrong with the quotes of the record, if anything is.
    fn damage(&mut self) -> Option<&'static str> {
        // Most files have none, and are looked through once.
        if self.unquoted < self.record_length {
            let bytes = self.window.bytes();
            let fresh = bytes.get(self.unquoted..).unwrap_or_default();
            self.unquoted += memchr(b'"', fresh).unwrap_or(fresh.len());
        }
        if self.unquoted >= self.record_length {
            return None;
        }
        unpaired(self.record(), self.delimiter)
    }

    /// Takes the record for its first line alone; what follows is read anew.
    fn keep_first_line_only(&mut self) {
        if let Some(end) = memchr2(b'\n', b'\r', self.record()) {
            self.record_length = end + 1;
            self.core.reset();
        } else if self.oversized {
            self.core.reset();
            self.skipping = !self.at_end;
        }
    }

    /// Lets go of the record.
    fn release(&mut self) {
        let record = self.record();
        let newlines = record.iter().filter(|byte| **byte == b'\n').count();
        let returned = record.last() == Some(&b'\r');
        self.line += u64::try_from(newlines).unwrap_or(0) + u64::from(returned);
        self.returned = returned;
        self.advance(self.record_length);
        self.window.mark(0);
        self.record_length = 0;
    }

    /// Lets go of what is left of a line that is too long.
    fn skip_rest_of_line(&mut self) -> io::Result<()> {
        while self.skipping {
            let bytes = self.window.bytes();
            let newline = memchr2(b'\n', b'\r', bytes);
            let count = newline.unwrap_or(bytes.len());
            self.advance(count);
            self.skipping = newline.is_none() && !self.window.ended();
            if self.skipping {
                self.window.fill()?;
            }
        }
        Ok(())
    }
}

/// What is wrong with the quotes of a record, if anything is.
fn unpaired(record: &[u8], delimiter: u8) -> Option<&'static str> {
    let mut at = 0;
    while let Some(open) = quote(record, at) {
        if open > 0 && record.get(open - 1) != Some(&delimiter) {
            return Some("a quote stands inside of a field that does not begin with one");
        }
        let mut inside = open + 1;
        let close = loop {
            let Some(close) = quote(record, inside) else {
                return Some("a quote is never closed");
            };
            if record.get(close + 1) != Some(&b'"') {
                break close;
            }
            inside = close + 2;
        };
        match record.get(close + 1) {
            Some(b'\r' | b'\n') | None => return None,
            Some(byte) if *byte == delimiter => at = close + 2,
            Some(_) => return Some("text follows a closing quote"),
        }
    }
    None
}

fn quote(record: &[u8], from: usize) -> Option<usize> {
    let at = memchr(b'"', record.get(from..)?)?;
    Some(from + at)
}
