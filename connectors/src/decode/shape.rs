//! Tells what a JSON file is from its beginning, so that one that holds no records where they are looked
//! for is told once, with what to do, and not record by record.
//!
//! Only the first [`LOOKED_AT`] bytes are looked at, however they arrive: the same file is always told the
//! same.

use super::scalar::quoted;
use super::window::Window;
use serde::de::IgnoredAny;

/// Bytes that decide what a file is.
const LOOKED_AT: usize = 1 << 20;
/// Lists that a message names.
const LISTS_NAMED: usize = 3;

/// The bytes that decide.
fn beginning(window: &mut Window) -> &[u8] {
    let bytes = window.look(LOOKED_AT);
    bytes.get(..LOOKED_AT).unwrap_or(bytes)
}

/// What is wrong with a file that is to be one object whose entries are records, if anything is.
pub(super) fn of_object(window: &mut Window) -> Option<String> {
    let object = Object::read(beginning(window));
    let told = if object.follows {
        "it holds one JSON object after the other, which is `format: jsonl`".to_owned()
    } else if let Some(lists) = object.lists() {
        format!("it is one object, and the records are lists inside of it: {lists}")
    } else if object.others.len() > object.objects {
        let other = object.others.first().map(|name| quoted(name));
        let other = other.unwrap_or_default();
        format!(
            "it is one object and its entries are no records, like {other}; a single record is a list of \
             one, [{{...}}], and a file without records can be left out with `exclude`"
        )
    } else {
        return None;
    };
    Some(told)
}

/// What is wrong with a file that is to have a record on each line, if its first record, which begins the
/// window, goes over several.
pub(super) fn of_lines(window: &mut Window) -> Option<String> {
    let bytes = beginning(window);
    let first = bytes.split(|byte| *byte == b'\n').next();
    let first = first.unwrap_or_default();
    let unfinished = |bytes: &[u8]| match serde_json::from_slice::<IgnoredAny>(bytes) {
        Ok(_) => false,
        Err(error) => error.is_eof(),
    };
    if first.trim_ascii().is_empty() || first.len() == bytes.len() || !unfinished(first) {
        return None;
    }
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<IgnoredAny>();
    let lines = match values.next() {
        Some(Ok(_)) => {
            let value = &bytes[..values.byte_offset()];
            let lines = value.split(|byte| *byte == b'\n').count();
            format!("lines 1 to {lines}")
        }
        Some(Err(error)) if error.is_eof() => "many lines".to_owned(),
        // A torn line.
        _ => return None,
    };
    if first.trim_ascii_start().starts_with(b"[") {
        return Some(format!(
            "it is one JSON list over {lines}, which is `format: json`"
        ));
    }
    Some(match Object::read(bytes).lists() {
        Some(lists) => {
            format!("it is one object, and the records are lists inside of it: {lists}")
        }
        None => format!(
            "its first record goes over {lines}, and each record has a line of its own; write it so: \
             jq -c . old.jsonl > new.jsonl"
        ),
    })
}

/// The entries of an object, as far as they were looked at.
#[derive(Default)]
struct Object {
    /// How many are objects.
    objects: usize,
    /// The names of those that are none.
    others: Vec<String>,
    /// Those that are lists of objects, and the lists inside of their first.
    nested: Vec<(String, Option<String>)>,
    /// Whether another object follows.
    follows: bool,
}

impl Object {
    fn read(bytes: &[u8]) -> Self {
        let mut object = Self::default();
        // What is not whole any more is not judged.
        let _whole: Option<()> = object.entries(&mut Cursor { bytes, at: 0 });
        object
    }

    /// Nothing when there is no more to look at, or it is no object.
    fn entries(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        cursor.expect(b'{')?;
        while cursor.peek()? != b'}' {
            let name = cursor.value()?;
            let name = serde_json::from_slice(name).unwrap_or_default();
            cursor.expect(b':')?;
            match cursor.peek()? {
                b'{' => self.objects += 1,
                first => {
                    if first == b'[' && cursor.rest().get(1..).map(next_byte) == Some(Some(b'{')) {
                        let inner = cursor.list_inside();
                        self.nested.push((name, inner));
                    } else {
                        self.others.push(name);
                    }
                }
            }
            cursor.value()?;
            if cursor.peek()? == b',' {
                cursor.at += 1;
            }
        }
        cursor.at += 1;
        self.follows = cursor.peek()? == b'{';
        Some(())
    }

    fn lists(&self) -> Option<String> {
        let list = |(name, inner): &(String, Option<String>)| match inner {
            Some(inner) => format!("{name:?}, with {inner:?} as a list in each of its entries"),
            None => format!("{name:?}"),
        };
        let lists: Vec<String> = self.nested.iter().take(LISTS_NAMED).map(list).collect();
        let (first, inner) = self.nested.first()?;
        let path = match inner {
            Some(inner) => format!(".{first}[] | . as $a | .{inner}[] | $a + . | del(.{inner})"),
            None => format!(".{first}[]"),
        };
        Some(format!(
            "{}; have the file hold one record per line: jq -c '{path}' old.json > new.jsonl",
            lists.join(", ")
        ))
    }
}

/// A place in JSON text.
struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    fn rest(&self) -> &'b [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_ascii_start().len();
        self.rest().first().copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Passes over a value.
    fn value(&mut self) -> Option<&'b [u8]> {
        self.peek()?;
        let (start, mut depth, mut in_string, mut escaped) = (self.at, 0_usize, false, false);
        loop {
            let byte = *self.bytes.get(self.at)?;
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth > 0 => depth -= 1,
                // A bare word or number ends where something else begins.
                b',' | b'}' | b']' | b':' if depth == 0 => break,
                _ => {}
            }
            self.at += 1;
            if depth == 0 && !in_string && matches!(byte, b'"' | b'}' | b']') {
                break;
            }
        }
        self.bytes.get(start..self.at)
    }

    /// The name of the first list of objects in the first object of the list that begins here.
    fn list_inside(&self) -> Option<String> {
        let mut inside = Object::default();
        let mut cursor = Cursor {
            bytes: self.bytes,
            at: self.at + 1,
        };
        // It may be cut.
        let _whole: Option<()> = inside.entries(&mut cursor);
        inside.nested.into_iter().next().map(|(name, _)| name)
    }
}

/// The first byte that is not white space.
fn next_byte(bytes: &[u8]) -> Option<u8> {
    bytes.trim_ascii_start().first().copied()
}
