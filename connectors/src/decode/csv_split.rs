//! Splits CSV into records of fields: csv-core over a bounded window.

use super::window::{BYTE_ORDER_MARK, RECORD_BYTES_MAX, Window};
use csv_core::ReadRecordResult;
use memchr::{memchr, memchr2};
use std::io;

/// Splits the stream into records of fields.
pub(super) struct Splitter {
    pub(super) window: Window,
    core: csv_core::Reader,
    /// The fields of the record, unquoted, one behind the other.
    pub(super) fields: Vec<u8>,
    ends: Vec<usize>,
    pub(super) count: usize,
    /// Bytes of the record in the window.
    pub(super) record_length: usize,
    /// Line on which the window begins.
    pub(super) line: u64,
    pub(super) oversized: bool,
    /// Whether the window stands inside a line that is to be passed over.
    skipping: bool,
    /// Whether the record ends where the file does, so that a longer file might have a longer one.
    pub(super) at_end: bool,
    delimiter: u8,
    /// Bytes at the beginning of the window in which no quote stands.
    unquoted: usize,
    /// Whether the byte let go of last was a carriage return, whose line feed may follow.
    returned: bool,
}

impl Splitter {
    pub(super) fn new(window: Window, delimiter: u8) -> Self {
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
    pub(super) fn next(&mut self) -> io::Result<Option<u64>> {
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
    pub(super) fn record(&self) -> &[u8] {
        self.window
            .bytes()
            .get(..self.record_length)
            .unwrap_or_default()
    }

    pub(super) fn fields_length(&self) -> usize {
        self.count
            .checked_sub(1)
            .and_then(|last| self.ends.get(last))
            .copied()
            .unwrap_or(0)
    }

    /// Whether a field of the record is no text. One look at the whole record instead of one per field: nearly
    /// all records are plain ASCII.
    pub(super) fn is_damaged(&self) -> bool {
        let text = self.fields.get(..self.fields_length()).unwrap_or_default();
        !text.is_ascii() && (0..self.count).any(|index| self.field(index).is_none())
    }

    pub(super) fn field(&self, index: usize) -> Option<&str> {
        std::str::from_utf8(self.field_bytes(index)?).ok()
    }

    pub(super) fn field_bytes(&self, index: usize) -> Option<&[u8]> {
        let start = if index == 0 {
            0
        } else {
            *self.ends.get(index - 1)?
        };
        self.fields.get(start..*self.ends.get(index)?)
    }

    /// What is wrong with the quotes of the record, if anything is.
    pub(super) fn damage(&mut self) -> Option<&'static str> {
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
    pub(super) fn keep_first_line_only(&mut self) {
        if let Some(end) = memchr2(b'\n', b'\r', self.record()) {
            self.record_length = end + 1;
            self.core.reset();
        } else if self.oversized {
            self.core.reset();
            self.skipping = !self.at_end;
        }
    }

    /// Lets go of the record.
    pub(super) fn release(&mut self) {
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
