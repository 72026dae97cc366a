//! Splits JSON files into the texts of their records, without parsing them.
//!
//! The splitter only follows strings and brackets, so one record with a mistake inside does not
//! cost its neighbours; the JSON parser proper judges each record afterwards.

use super::shape;
use super::window::{BYTE_ORDER_MARK, RECORD_BYTES_MAX, Window};
use std::borrow::Cow;
use std::io;

/// A record's text in the window.
pub(super) struct Slice {
    /// Line that it begins on.
    pub(super) line: u64,
    /// Its name in the object around it.
    pub(super) key: Option<String>,
    /// Where it stands in [`Window::bytes`].
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether it was too long, and only its beginning is there.
    pub(super) oversized: bool,
    /// Whether it ends where the file does, so that a longer file might have a longer one.
    pub(super) at_end: bool,
}

/// Why there is no next record where there should be one.
pub(super) enum Broken {
    Read(io::Error),
    Layout(Cow<'static, str>),
}

impl Broken {
    fn layout(told: &'static str) -> Self {
        Self::Layout(Cow::Borrowed(told))
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// Finds the records of a text.
pub(super) trait Splitter: Send {
    /// The next record.
    ///
    /// # Errors
    /// Why there is none where there should be one.
    fn next(&mut self, window: &mut Window) -> Result<Option<Slice>, Broken>;

    /// The line that the last record begins on.
    fn line(&self) -> u64;
}

/// Reads records that stand one per line.
#[derive(Default)]
pub(super) struct Lines {
    line: u64,
    consumed: usize,
    /// Whether the first record has been seen.
    begun: bool,
    /// Whether a line of white space is a record.
    keeps_blanks: bool,
}

impl Splitter for Lines {
    fn line(&self) -> u64 {
        self.line
    }

    fn next(&mut self, window: &mut Window) -> Result<Option<Slice>, Broken> {
        loop {
            window.advance(std::mem::take(&mut self.consumed));
            self.line += 1;
            if !self.begun {
                self.begin(window)?;
            }
            let mut seen = 0;
            let (mut dropped, mut at_end) = (false, false);
            let end = loop {
                let bytes = window.bytes();
                let fresh = bytes.get(seen..).unwrap_or_default();
                if let Some(newline) = memchr::memchr(b'\n', fresh) {
                    self.consumed = seen + newline + 1;
                    break seen + newline;
                }
                seen = bytes.len();
                if window.ended() {
                    self.consumed = seen;
                    at_end = true;
                    break seen;
                }
                if seen > RECORD_BYTES_MAX {
                    // Only the beginning is kept for the message.
                    window.advance(seen);
                    seen = 0;
                    dropped = true;
                }
                window.fill()?;
            };
            let text = window.bytes().get(..end).unwrap_or_default();
            // Files that were put together have marks in the middle; the parser passes over them.
            let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
            if dropped || text.len() > RECORD_BYTES_MAX {
                let end = if dropped { 0 } else { end };
                return Ok(Some(Slice {
                    line: self.line,
                    key: None,
                    start: 0,
                    end,
                    oversized: true,
                    at_end,
                }));
            }
            let is_blank = match self.keeps_blanks {
                true => text.strip_suffix(b"\r").unwrap_or(text).is_empty(),
                false => text.trim_ascii().is_empty(),
            };
            if !is_blank {
                let slice = Slice {
                    line: self.line,
                    key: None,
                    start: 0,
                    end,
                    oversized: false,
                    at_end,
                };
                return Ok(Some(slice));
            }
            if self.consumed == 0 && window.ended() {
                return Ok(None);
            }
        }
    }
}

impl Lines {
    /// Lines of which none is JSON, and all that hold anything are records.
    pub(super) fn of_any_text() -> Self {
        Self {
            begun: true,
            keeps_blanks: true,
            ..Self::default()
        }
    }

    /// Looks whether the first record is on a line of its own, once the window begins with it.
    fn begin(&mut self, window: &mut Window) -> Result<(), Broken> {
        if let Some(told) = shape::of_lines(window) {
            return Err(Broken::Layout(Cow::Owned(told)));
        }
        let line = window.bytes().split(|byte| *byte == b'\n').next();
        self.begun = line.is_some_and(|line| !line.trim_ascii().is_empty());
        Ok(())
    }
}

/// Reads records of one length that follow one another; each counts as a line.
pub(super) struct Blocks {
    length: usize,
    line: u64,
    consumed: usize,
}

impl Blocks {
    pub(super) fn new(length: usize) -> Self {
        Self {
            length,
            line: 0,
            consumed: 0,
        }
    }
}

impl Splitter for Blocks {
    fn line(&self) -> u64 {
        self.line
    }

    fn next(&mut self, window: &mut Window) -> Result<Option<Slice>, Broken> {
        window.advance(std::mem::take(&mut self.consumed));
        self.line += 1;
        let (held, length) = (window.look(self.length).len(), self.length);
        if held >= length {
            self.consumed = length;
            return Ok(Some(Slice {
                line: self.line,
                key: None,
                start: 0,
                end: length,
                oversized: false,
                at_end: false,
            }));
        }
        if !window.ended() {
            // What broke the stream off is told now.
            window.fill()?;
        }
        match held {
            0 => Ok(None),
            _ => Err(Broken::Layout(Cow::Owned(format!(
                "it ends inside of a record, which has {held} bytes instead of {length}"
            )))),
        }
    }
}

/// Reads the elements of one array, or the entries of one object.
pub(super) struct Elements {
    line: u64,
    /// Bytes of the window that belong to the element handed out last.
    consumed: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Start,
    /// Inside the array or object; whether an element has been seen, so that a comma must follow.
    Inside {
        object: bool,
        first: bool,
    },
    Done,
}

impl Elements {
    pub(super) fn new() -> Self {
        Self {
            line: 1,
            consumed: 0,
            state: State::Start,
        }
    }
}

impl Splitter for Elements {
    fn line(&self) -> u64 {
        self.line
    }

    fn next(&mut self, window: &mut Window) -> Result<Option<Slice>, Broken> {
        let consumed = std::mem::take(&mut self.consumed);
        self.take(window, consumed);
        loop {
            let byte = self.peek(window)?;
            match (self.state, byte) {
                (State::Start, None) => return Ok(None),
                (State::Start, Some(b'[' | b'{')) => {
                    if byte == Some(b'{')
                        && let Some(told) = shape::of_object(window)
                    {
                        return Err(Broken::Layout(Cow::Owned(told)));
                    }
                    self.state = State::Inside {
                        object: byte == Some(b'{'),
                        first: true,
                    };
                    self.take(window, 1);
                }
                (State::Start, Some(_)) => {
                    return Err(Broken::layout("it begins with neither '[' nor '{'"));
                }
                (State::Done, None) => return Ok(None),
                (State::Done, Some(_)) => {
                    return Err(Broken::layout("something follows the end of the records"));
                }
                (State::Inside { .. }, None) => {
                    return Err(Broken::layout("it ends before its records do"));
                }
                (State::Inside { object: false, .. }, Some(b']'))
                | (State::Inside { object: true, .. }, Some(b'}')) => {
                    self.state = State::Done;
                    self.take(window, 1);
                }
                (
                    State::Inside {
                        object,
                        first: false,
                    },
                    Some(b','),
                ) => {
                    self.take(window, 1);
                    return self.element(window, object).map(Some);
                }
                (
                    State::Inside {
                        object,
                        first: true,
                    },
                    Some(_),
                ) => {
                    return self.element(window, object).map(Some);
                }
                (State::Inside { first: false, .. }, Some(_)) => {
                    return Err(Broken::layout("a comma is missing between two records"));
                }
            }
        }
    }
}

impl Elements {
    fn element(&mut self, window: &mut Window, object: bool) -> Result<Slice, Broken> {
        self.state = State::Inside {
            object,
            first: false,
        };
        let key = if object {
            Some(self.key(window)?)
        } else {
            None
        };
        self.peek(window)?;
        let (end, oversized) = self.value_end(window)?;
        self.consumed = if oversized { 0 } else { end };
        Ok(Slice {
            line: self.line,
            key,
            start: 0,
            end: if oversized { 0 } else { end },
            oversized,
            at_end: false,
        })
    }

    fn key(&mut self, window: &mut Window) -> Result<String, Broken> {
        if self.peek(window)? != Some(b'"') {
            return Err(Broken::layout("a record's name is missing"));
        }
        let (end, oversized) = self.value_end(window)?;
        let name = window.bytes().get(..end).unwrap_or_default();
        let name = if oversized {
            None
        } else {
            serde_json::from_slice(name).ok()
        };
        let name = name.ok_or(Broken::layout("a record's name is no text"))?;
        self.take(window, end);
        if self.peek(window)? != Some(b':') {
            return Err(Broken::layout("a colon is missing behind a record's name"));
        }
        self.take(window, 1);
        Ok(name)
    }

    /// Where the value that begins the window ends. A value that is too long is let go of while its
    /// end is looked for.
    fn value_end(&mut self, window: &mut Window) -> Result<(usize, bool), Broken> {
        let (mut position, mut depth, mut in_string, mut escaped) = (0, 0_usize, false, false);
        let mut oversized = false;
        loop {
            let Some(&byte) = window.bytes().get(position) else {
                if window.ended() {
                    return Err(Broken::layout("it ends inside a record"));
                }
                if position > RECORD_BYTES_MAX {
                    self.take(window, position);
                    position = 0;
                    oversized = true;
                }
                window.fill()?;
                continue;
            };
            let mut after = position + 1;
            let closes = if in_string {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => in_string = false,
                    _ => {}
                }
                !in_string && depth == 0
            } else {
                match byte {
                    b'"' => {
                        in_string = true;
                        false
                    }
                    b'{' | b'[' => {
                        depth += 1;
                        false
                    }
                    b'}' | b']' if depth > 0 => {
                        depth -= 1;
                        depth == 0
                    }
                    // A bare word or number ends where something else begins.
                    b',' | b'}' | b']' if depth == 0 => {
                        after = position;
                        true
                    }
                    _ => false,
                }
            };
            if closes {
                if oversized {
                    self.take(window, after);
                }
                return Ok((after, oversized));
            }
            position += 1;
        }
    }

    /// The next byte that is not white space.
    fn peek(&mut self, window: &mut Window) -> io::Result<Option<u8>> {
        loop {
            let blank = window
                .bytes()
                .iter()
                .take_while(|byte| byte.is_ascii_whitespace())
                .count();
            self.take(window, blank);
            match window.bytes().first() {
                Some(byte) => return Ok(Some(*byte)),
                None if window.ended() => return Ok(None),
                None => window.fill()?,
            }
        }
    }

    fn take(&mut self, window: &mut Window, count: usize) {
        let bytes = window.bytes().get(..count).unwrap_or_default();
        let newlines = bytes.iter().filter(|byte| **byte == b'\n').count();
        self.line += u64::try_from(newlines).unwrap_or(0);
        window.advance(count);
    }
}
