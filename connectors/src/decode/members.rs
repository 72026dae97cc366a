//! Takes gzip or Zstandard off a stream: one compressed part behind the other, to the end.
//!
//! - Zeros between and behind the parts are padding, which tools that write in blocks leave there, and
//!   mean nothing.
//! - Short text behind a part is a mark that somebody put there: it is passed over, and a remark says so.
//! - Other bytes behind a part may be one whose beginning is damaged, which is an error.
//! - A part that was cut, or does not agree with its checksum, is an error.
//! - So is content of more than [`EXPANSION_MAX`] times the bytes that it was packed into: no usage
//!   packs that well, and what was made to fill memory and time does.
//! - How far damaged content goes does not depend on the pieces in which its bytes come.

use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Bytes of the stream held at a time.
const HELD_BYTES: usize = 64 << 10;

/// How often content may be as long as the bytes that it was packed into; gzip cannot do more than 1,032.
const EXPANSION_MAX: u64 = 2_000;
/// Content that is never too long, however few bytes it was packed into.
const CONTENT_BYTES_FREE: u64 = 64 << 20;

/// Bytes of a mark behind compressed data, at most: what is longer may be records.
const MARK_BYTES_MAX: usize = 64;

/// What is to be told of a file that was read whole all the same.
pub(super) type Remark = Arc<OnceLock<String>>;

/// How the parts are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstandard,
}

impl Compression {
    /// What the file's name says.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let ends_with = |ending: &str| {
            let at = name.len().checked_sub(ending.len());
            let end = at.and_then(|at| name.get(at..));
            end.is_some_and(|end| end.eq_ignore_ascii_case(ending))
        };
        match () {
            () if ends_with(".gz") => Some(Self::Gzip),
            () if ends_with(".zst") => Some(Self::Zstandard),
            () => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstandard => "Zstandard",
        }
    }

    /// What a part begins with.
    fn begin(self) -> &'static [u8] {
        match self {
            Self::Gzip => &[0x1f, 0x8b],
            Self::Zstandard => &[0x28, 0xb5, 0x2f, 0xfd],
        }
    }

    fn begins(self, head: &[u8]) -> bool {
        match self {
            Self::Gzip => head.starts_with(self.begin()),
            // A frame, or one that is to be skipped.
            Self::Zstandard => {
                head.starts_with(self.begin()) || matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18])
            }
        }
    }
}

/// The content of a stream that is compressed where `name` says so.
pub(super) fn decompress(
    input: Box<dyn Read + Send>,
    name: &str,
    remark: &Remark,
) -> Box<dyn Read + Send> {
    match Compression::of_name(name) {
        Some(compression) => Box::new(Members::new(input, compression, Arc::clone(remark))),
        None => input,
    }
}

/// The content of a compressed stream.
pub(super) struct Members {
    compression: Compression,
    place: Place,
    remark: Remark,
    /// Bytes of content so far.
    content: u64,
    /// Bytes of the stream so far.
    packed: Arc<AtomicU64>,
}

enum Place {
    Before(Held),
    Between(Held),
    Gzip(Box<flate2::bufread::GzDecoder<Held>>),
    Zstandard(zstd::stream::read::Decoder<'static, Held>),
    End,
}

impl Members {
    pub(super) fn new(
        input: Box<dyn Read + Send>,
        compression: Compression,
        remark: Remark,
    ) -> Self {
        let input = Held::new(input);
        let packed = Arc::clone(&input.packed);
        Self {
            compression,
            place: Place::Before(input),
            remark,
            content: 0,
            packed,
        }
    }

    /// Counts content that was read.
    fn counted(&mut self, count: usize) -> io::Result<usize> {
        let bytes = u64::try_from(count).unwrap_or(u64::MAX);
        self.content = self.content.saturating_add(bytes);
        let packed = self.packed.load(Ordering::Relaxed);
        if self.content > packed.saturating_mul(EXPANSION_MAX).max(CONTENT_BYTES_FREE) {
            self.place = Place::End;
            let told = format!(
                "its first {packed} bytes have a content of more than {EXPANSION_MAX} times as much, which \
                 no usage has; split the file if it is meant"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, told));
        }
        Ok(count)
    }

    /// The place behind what was read: the next part, or the end.
    fn next(&mut self, mut input: Held, first: bool) -> io::Result<Place> {
        let padding = if first { 0 } else { input.skip_zeros()? };
        let head = input.peek(4)?;
        if self.compression.begins(head) {
            return Ok(match self.compression {
                Compression::Gzip => Place::Gzip(Box::new(flate2::bufread::GzDecoder::new(input))),
                Compression::Zstandard => {
                    let decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                    Place::Zstandard(decoder.single_frame())
                }
            });
        }
        let name = self.compression.name();
        match (first, head.is_empty()) {
            (false, true) => Ok(Place::End),
            (true, true) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("it is empty, which {name} data never is"),
            )),
            (true, false) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("its name says {name}, and its bytes are none"),
            )),
            (false, false) => {
                let is_cut = self.compression.begin().starts_with(head);
                let (behind, is_mark) = input.pass_rest()?;
                let behind = padding.saturating_add(behind);
                if is_mark && !is_cut {
                    let told = format!(
                        "the last {behind} bytes, behind its {name} data, are text that somebody put there, and are \
                         passed over"
                    );
                    // Only the first remark counts, and there is one end.
                    drop(self.remark.set(told));
                    return Ok(Place::End);
                }
                Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "the last {behind} bytes, behind its {name} data, are neither padding nor another \
                         part of it, and are passed over"
                    ),
                ))
            }
        }
    }
}

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            // An error leaves the end behind, so that nothing is read after it.
            let place = std::mem::replace(&mut self.place, Place::End);
            self.place = match place {
                Place::End => return Ok(0),
                Place::Before(input) => self.next(input, true)?,
                Place::Between(input) => self.next(input, false)?,
                Place::Gzip(mut decoder) => match decoder.read(buffer)? {
                    0 => Place::Between(decoder.into_inner()),
                    count => {
                        self.place = Place::Gzip(decoder);
                        return self.counted(count);
                    }
                },
                Place::Zstandard(mut decoder) => match decoder.read(buffer)? {
                    0 => Place::Between(decoder.finish()),
                    count => {
                        self.place = Place::Zstandard(decoder);
                        return self.counted(count);
                    }
                },
            };
        }
    }
}

/// A stream that can be looked at some bytes ahead.
struct Held {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// What the stream said behind the bytes held.
    failed: Option<io::Error>,
    packed: Arc<AtomicU64>,
}

impl Held {
    fn new(input: Box<dyn Read + Send>) -> Self {
        Self {
            input,
            buffer: vec![0; HELD_BYTES],
            start: 0,
            end: 0,
            failed: None,
            packed: Arc::default(),
        }
    }

    fn held(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Reads as much as there is room for behind the bytes held, of which there are few; says whether
    /// there was more.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let before = self.end;
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        while self.end < self.buffer.len() {
            let free = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.input.read(free) {
                Ok(0) => break,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.end == before => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        let more = u64::try_from(self.end - before).unwrap_or(u64::MAX);
        self.packed.fetch_add(more, Ordering::Relaxed);
        Ok(more > 0)
    }

    /// The next bytes, fewer than `count` only at the end.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.held().len() < count && self.fill()? {}
        let length = self.held().len().min(count);
        Ok(&self.held()[..length])
    }

    /// Passes over zeros; says how many there were.
    fn skip_zeros(&mut self) -> io::Result<u64> {
        let mut skipped = 0_u64;
        loop {
            let zeros = self.held().iter().take_while(|byte| **byte == 0).count();
            self.start += zeros;
            skipped = skipped.saturating_add(u64::try_from(zeros).unwrap_or(u64::MAX));
            if self.start < self.end || !self.fill()? {
                return Ok(skipped);
            }
        }
    }

    /// Passes over all that is left; says how much it was, and whether it is a mark.
    fn pass_rest(&mut self) -> io::Result<(u64, bool)> {
        let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        let (mut count, mut is_mark) = (0_usize, true);
        loop {
            count = count.saturating_add(self.held().len());
            is_mark &= count <= MARK_BYTES_MAX && self.held().iter().all(is_text);
            self.start = self.end;
            if !self.fill()? {
                return Ok((u64::try_from(count).unwrap_or(u64::MAX), is_mark));
            }
        }
    }
}

impl Read for Held {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Held {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.fill()?;
        }
        Ok(self.held())
    }

    fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
    }
}
