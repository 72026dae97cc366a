//! A sliding window over a byte stream: what a splitter still needs stays, the rest makes room.
//!
//! The window grows up to a record's length and no further than [`RECORD_BYTES_MAX`] past it,
//! which is what bounds the memory of a decoder whatever the file holds.
//!
//! A byte order mark at the beginning is no data in any text format: it is passed over here, and text in
//! another encoding is told here, before any format is asked.

use super::content::{Content, head_of};
use std::io::{self, Read};

/// The longest record that is read; longer ones are faults.
pub const RECORD_BYTES_MAX: usize = 8 << 20;

/// The mark that some programs write before text, and before each piece of text that they put together.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

const READ_BYTES: usize = 256 << 10;

pub(super) struct Window {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    /// What the stream said while its beginning was looked at.
    failed: Option<io::Error>,
    /// Bytes that stood before the buffer.
    passed: u64,
    /// Where the last record ends.
    mark: usize,
    /// What the bytes before the mark are remembered by, when somebody wants it.
    hasher: Option<Box<blake3::Hasher>>,
    /// How far the buffer is hashed.
    hashed: usize,
    /// Records whose end does not depend on the end of the stream.
    settled: u64,
    /// As [`Content::heads`].
    heads: Vec<u64>,
}

impl Window {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            ended: false,
            failed: None,
            passed: 0,
            mark: 0,
            hasher: None,
            hashed: 0,
            settled: 0,
            heads: Vec::new(),
        }
    }

    /// Remembers the bytes that are read from here on, which is the beginning; see [`Self::content`].
    pub(super) fn remember(&mut self) {
        self.hasher = Some(Box::default());
    }

    /// Passes over a byte order mark; tells the encoding of text that is not UTF-8.
    ///
    /// # Errors
    /// The name of that encoding.
    pub(super) fn begin(&mut self) -> Result<(), &'static str> {
        match self.look(4) {
            [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => return Err("UTF-32"),
            [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => return Err("UTF-16"),
            // Without a mark: every other byte of plain text is zero then.
            [a, 0, b, 0, ..] | [0, a, 0, b, ..] if *a > 0 && *b > 0 => return Err("UTF-16"),
            bytes if bytes.starts_with(BYTE_ORDER_MARK) => self.advance(BYTE_ORDER_MARK.len()),
            _ => {}
        }
        Ok(())
    }

    /// The bytes held, `count` of them at least where there are so many. What breaks the stream off is told
    /// when the bytes before it have been read.
    pub(super) fn look(&mut self, count: usize) -> &[u8] {
        while self.bytes().len() < count && !self.ended && self.failed.is_none() {
            if let Err(error) = self.fill() {
                self.failed = Some(error);
            }
        }
        self.bytes()
    }

    /// The bytes held.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Whether the stream has no more bytes than those held.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Lets go of the first `count` bytes.
    pub(super) fn advance(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
    }

    /// Says that a record ends behind the first `count` bytes.
    pub(super) fn mark(&mut self, count: usize) {
        self.mark = self.end.min(self.start + count);
    }

    /// Says that the record before the mark, which is the one before `next_row`, ends there whatever follows.
    pub(super) fn settle(&mut self, next_row: u64) {
        if self.settled + 1 != next_row {
            return;
        }
        self.settled = next_row;
        if self.settled.is_power_of_two() {
            self.hash();
            let head = self.hasher.as_ref().map(|hasher| head_of(hasher));
            self.heads.extend(head);
        }
    }

    /// What has been read up to the end of the last record.
    pub(super) fn content(&mut self) -> Option<Content> {
        self.hash();
        let hasher = self.hasher.as_ref()?;
        Some(Content {
            bytes: self.passed + u64::try_from(self.mark).unwrap_or(u64::MAX),
            digest: hasher.finalize().to_hex().to_string(),
            settled: self.settled,
            heads: self.heads.clone(),
        })
    }

    fn hash(&mut self) {
        if let Some(hasher) = &mut self.hasher {
            let fresh = self.buffer.get(self.hashed..self.mark);
            hasher.update(fresh.unwrap_or_default());
            self.hashed = self.mark;
        }
    }

    /// Reads more behind the bytes held; positions relative to [`Self::bytes`] stay valid.
    pub(super) fn fill(&mut self) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut keep = self.start;
        if self.hasher.is_some() {
            // What follows a record without being one stays until it is known what it is, but for so long.
            if self.start.saturating_sub(self.mark) > RECORD_BYTES_MAX {
                self.mark = self.start;
            }
            self.hash();
            keep = keep.min(self.mark);
        }
        let held = self.end - keep;
        if self.buffer.len() < held + READ_BYTES {
            // Fresh memory is zero already.
            let mut larger = vec![0; (self.buffer.len() * 2).max(held + READ_BYTES)];
            larger[..held].copy_from_slice(&self.buffer[keep..self.end]);
            self.buffer = larger;
        } else if keep > 0 {
            self.buffer.copy_within(keep..self.end, 0);
        }
        if keep > 0 {
            self.passed += u64::try_from(keep).unwrap_or(u64::MAX);
            self.start -= keep;
            self.end -= keep;
            self.mark = self.mark.saturating_sub(keep);
            self.hashed = self.hashed.saturating_sub(keep);
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }
}

/// What is told of a file when reading it fails in the middle.
pub(super) fn breaks_off(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            format!("the file is damaged: {error}")
        }
        _ => format!("the file ends early: {error}"),
    }
}
