//! The requested fields of JSON records: only they are looked at, and numbers keep their text.

use super::assemble::Assembler;
use super::scalar::quoted;
use super::window::BYTE_ORDER_MARK;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The column that holds the name of a record in an object of records.
pub(crate) const KEY_COLUMN: &str = "key";

/// The requested fields as a tree of names: `usage.input_tokens` is `input_tokens` below `usage`.
pub(crate) struct FieldPaths {
    root: Node,
    count: usize,
}

#[derive(Default)]
struct Node {
    children: Vec<(String, Node)>,
    slot: Option<usize>,
    /// What the field of the slot is called by whoever wants it.
    name: Option<String>,
}

impl Node {
    fn child(&mut self, name: &str) -> &mut Self {
        let place = match self.children.iter().position(|(known, _)| known == name) {
            Some(place) => place,
            None => {
                self.children.push((name.to_owned(), Self::default()));
                self.children.len() - 1
            }
        };
        &mut self.children[place].1
    }
}

impl FieldPaths {
    pub(crate) fn new(names: &[String]) -> Self {
        let mut root = Node::default();
        for (slot, name) in names.iter().enumerate() {
            let leaf = name.split('.').fold(&mut root, Node::child);
            (leaf.slot, leaf.name) = (Some(slot), Some(name.clone()));
            if name.contains('.') {
                // A field may also be called that, dot and all.
                let leaf = root.child(name);
                (leaf.slot, leaf.name) = (Some(slot), Some(name.clone()));
            }
        }
        Self {
            root,
            count: names.len(),
        }
    }

    /// The wanted fields of the object that `text` spells, in the order of the names.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn find<'j>(&self, text: &'j str) -> Result<Vec<Option<&'j RawValue>>, String> {
        let mut found: Vec<Option<&RawValue>> = vec![None; self.count];
        let mut json = serde_json::Deserializer::from_str(text);
        Fields {
            node: &self.root,
            found: &mut found,
        }
        .deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|error| format!("{} in {}", cut(&error.to_string()), quoted(text.trim())))?;
        Ok(found)
    }

    /// Puts the record that `bytes` spell into the assembler, as a row or as a fault.
    pub(crate) fn record(
        &self,
        bytes: &[u8],
        line: u64,
        key: Option<(usize, &str)>,
        assembler: &mut Assembler,
    ) {
        let text = Text::of(bytes);
        let found = match text.find(self) {
            Ok(found) => found,
            Err(detail) => return assembler.reject(line, detail),
        };
        assembler.begin_row(line);
        for (column, value) in found.into_iter().enumerate() {
            match (value, key) {
                (None, Some((key_column, name))) if key_column == column => {
                    assembler.meet(column);
                    assembler.value(column, Some(name));
                }
                (value, _) => {
                    if value.is_some() {
                        assembler.meet(column);
                    }
                    assembler.json_value(column, value, text.damaged);
                }
            }
        }
        assembler.read(&text.text);
        assembler.end_row();
    }
}

impl Assembler {
    /// The JSON value of column `column` in the current row, of a text that is `damaged` or is not.
    pub(crate) fn json_value(&mut self, column: usize, value: Option<&RawValue>, damaged: bool) {
        match value.map(value_text) {
            None => self.value(column, None),
            Some(Ok(text)) if damaged => self.damaged_value(column, text.as_deref()),
            Some(Ok(text)) => self.value(column, text.as_deref()),
            Some(Err(error)) => {
                self.unreadable_value(column, format!("not a JSON text: {error}"));
            }
        }
    }
}

/// What a parser says, which may quote a whole record, cut to a readable length.
fn cut(said: &str) -> String {
    const CHARS_MAX: usize = 200;
    said.chars().take(CHARS_MAX).collect()
}

/// The text that `bytes` spell; a byte order mark before it is none of it.
///
/// # Errors
/// That they are none.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, String> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|_| {
        format!(
            "{} is not UTF-8 text",
            quoted(&String::from_utf8_lossy(bytes))
        )
    })
}

/// The text of a record.
pub(crate) struct Text<'b> {
    pub(crate) text: Cow<'b, str>,
    /// Whether it has bytes that are no UTF-8 text, for each of which U+FFFD stands.
    pub(crate) damaged: bool,
}

impl<'b> Text<'b> {
    pub(crate) fn of(bytes: &'b [u8]) -> Self {
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        // Looking for the first wrong byte is much slower than finding that there is none.
        let (text, damaged) = match std::str::from_utf8(bytes) {
            Ok(text) => (Cow::Borrowed(text), false),
            Err(_) => (String::from_utf8_lossy(bytes), true),
        };
        Self { text, damaged }
    }

    /// As [`FieldPaths::find`].
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn find(&self, paths: &FieldPaths) -> Result<Vec<Option<&RawValue>>, String> {
        paths.find(&self.text).map_err(|detail| match self.damaged {
            true => format!("{} is not UTF-8 text", quoted(&self.text)),
            false => detail,
        })
    }
}

/// A JSON value as the text of a column: strings without quotes, numbers digit by digit as they
/// stand, `null` as NULL, arrays and objects as JSON.
pub(crate) fn value_text(value: &RawValue) -> Result<Option<Cow<'_, str>>, serde_json::Error> {
    let text = value.get();
    if text == "null" {
        return Ok(None);
    }
    let Some(inner) = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return Ok(Some(Cow::Borrowed(text)));
    };
    if inner.contains('\\') {
        serde_json::from_str(text).map(|text: String| Some(Cow::Owned(text)))
    } else {
        Ok(Some(Cow::Borrowed(inner)))
    }
}

/// Walks an object and keeps the raw values of the fields below `node`.
struct Fields<'n, 'f, 'j> {
    node: &'n Node,
    found: &'f mut [Option<&'j RawValue>],
}

impl<'j> DeserializeSeed<'j> for Fields<'_, '_, 'j> {
    type Value = ();

    fn deserialize<D: Deserializer<'j>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'j> Visitor<'j> for Fields<'_, '_, 'j> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(child) = map.next_key_seed(Known(self.node))? {
            let Some(child) = child else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value: &'j RawValue = map.next_value()?;
            if let Some(found) = child.slot.and_then(|slot| self.found.get_mut(slot)) {
                let before = found.replace(value).map(RawValue::get);
                // Which of the two holds, nobody can tell.
                if let Some(before) = before.filter(|before| *before != value.get()) {
                    let name = child.name.as_deref().unwrap_or_default();
                    let (before, now) = (quoted(before), quoted(value.get()));
                    let message =
                        format!("the field {name:?} is there twice, as {before} and as {now}");
                    return Err(serde::de::Error::custom(message));
                }
            }
            if !child.children.is_empty() && value.get().starts_with('{') {
                let mut json = serde_json::Deserializer::from_str(value.get());
                Fields {
                    node: child,
                    found: &mut *self.found,
                }
                .deserialize(&mut json)
                .map_err(serde::de::Error::custom)?;
            }
        }
        Ok(())
    }
}

/// Looks a field's name up among the wanted ones.
struct Known<'n>(&'n Node);

impl<'j, 'n> DeserializeSeed<'j> for Known<'n> {
    type Value = Option<&'n Node>;

    fn deserialize<D: Deserializer<'j>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for Known<'n> {
    type Value = Option<&'n Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self
            .0
            .children
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, node)| node))
    }
}
