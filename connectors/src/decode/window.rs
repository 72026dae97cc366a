//! A sliding window over a byte stream: what a splitter still needs stays, the rest makes room.
//!
//! The window grows up to a record's length and no further than [`RECORD_BYTES_MAX`] past it,
//! which is what bounds the memory of a decoder whatever the file holds.

use std::io::{self, Read};

/// The longest record that is read; longer ones are faults.
pub const RECORD_BYTES_MAX: usize = 8 << 20;

const READ_BYTES: usize = 256 << 10;

pub(super) struct Window {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
}

impl Window {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            ended: false,
        }
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

    /// Reads more behind the bytes held; positions relative to [`Self::bytes`] stay valid.
    pub(super) fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < self.end + READ_BYTES {
            self.buffer
                .resize((self.buffer.len() * 2).max(self.end + READ_BYTES), 0);
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
