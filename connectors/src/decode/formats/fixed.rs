//! Fixed width: records of one length, whose fields stand at the same bytes of each.
//!
//! ```yaml
//! format:
//!   type: fixed
//!   fields:
//!     id: { start: 1, length: 10 }
//!     units: { start: 11, length: 8, decimals: 2 }
//! ```
//!
//! - A record of another length is told by itself: nothing says which of its fields are where they should be.
//! - Without line ends only the length tells records apart, so bytes that are lost move all that follows. A line
//!   end inside of a record shows it, and so does the end of the file; a file of lines is safer.
//! - What a value must be is said by the rule, as for all text: here is only how its bytes become a text.

use super::contract::{FileFormat, Found, Kept, KeptRecords, Reading, TextFormat, positions};
use crate::decode::assemble::Assembler;
use crate::decode::chunk::Source;
use crate::decode::error::DecodeError;
use crate::decode::request::{ColumnRequest, DecodeOptions};
use crate::decode::scalar::quoted;
use crate::decode::slices::{Records, Sliced};
use crate::decode::split::{Blocks, Lines, Slice};
use crate::decode::window::{BYTE_ORDER_MARK, RECORD_BYTES_MAX, Window};
use crate::store::{FileMeta, Store};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Records of one length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fixed {
    /// Bytes of a record, without its line end.
    pub length: u32,
    /// Whether each record ends with a line end; otherwise one follows the other.
    pub line_ends: bool,
    /// Where its fields stand, none within another.
    pub fields: BTreeMap<String, FixedField>,
}

/// Where a field stands, and how its bytes are a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedField {
    /// Its first byte; the first byte of a record is 1.
    pub start: u32,
    /// How many bytes it has.
    pub length: u32,
    /// What fills a value up to the length; a space unless given. A field of nothing else is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filler: Option<char>,
    /// Where in the field a value stands; what fills it up is taken off the other end, or off both unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub align: Option<Align>,
    /// How many of the digits stand behind a decimal point that is not written: 12345 with 2 is 123.45.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimals: Option<u8>,
}

/// Where in its field a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Align {
    /// At its beginning.
    Left,
    /// At its end.
    Right,
}

/// Decimals of a number, at most.
const DECIMALS_MAX: u8 = 38;

/// The options as they are written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// Bytes of a record, without its line end; up to the end of the last field unless given.
    #[serde(default)]
    length: Option<u32>,
    /// Whether each record ends with a line end, which it does unless told otherwise.
    #[serde(default = "yes")]
    line_ends: bool,
    /// Where fields stand, by their names. Bytes of no field are nobody's.
    #[serde(deserialize_with = "fields_apart")]
    #[schemars(with = "BTreeMap<String, FixedField>")]
    fields: BTreeMap<String, FixedField>,
}

fn yes() -> bool {
    true
}

impl<'de> Deserialize<'de> for Fixed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written {
            length,
            line_ends,
            fields,
        } = Written::deserialize(deserializer)?;
        let last = fields.iter().max_by_key(|(_, field)| field.end());
        let end = last.map_or(1, |(_, field)| field.end());
        let length = length.map_or(end, u64::from);
        if let Some((name, field)) = last.filter(|_| end > length) {
            return Err(D::Error::custom(format!(
                "the field \"{name}\" ({field}) ends behind its record, which has {length} bytes; correct \
                 `length` of the record or the field"
            )));
        }
        let most = u32::try_from(RECORD_BYTES_MAX).unwrap_or(u32::MAX);
        let length = u32::try_from(length)
            .ok()
            .filter(|length| (1..=most).contains(length));
        let length = length.ok_or_else(|| {
            D::Error::custom(format!("a record has from 1 to {RECORD_BYTES_MAX} bytes"))
        })?;
        Ok(Self {
            length,
            line_ends,
            fields,
        })
    }
}

impl JsonSchema for Fixed {
    fn schema_name() -> Cow<'static, str> {
        "Fixed".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Written::json_schema(generator)
    }
}

/// Fields of which no two share a byte; each is told where it stands.
fn fields_apart<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, FixedField>, D::Error> {
    struct Fields;
    impl<'de> Visitor<'de> for Fields {
        type Value = BTreeMap<String, FixedField>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("fields by their names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = BTreeMap::new();
            while let Some(name) = map.next_key::<String>()? {
                let field = map.next_value_seed(Beside {
                    name: &name,
                    fields: &fields,
                })?;
                fields.insert(name, field);
            }
            Ok(fields)
        }
    }
    deserializer.deserialize_map(Fields)
}

/// A field beside others.
struct Beside<'f> {
    name: &'f str,
    fields: &'f BTreeMap<String, FixedField>,
}

impl<'de> DeserializeSeed<'de> for Beside<'_> {
    type Value = FixedField;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<FixedField, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Beside<'_> {
    type Value = FixedField;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field as `{ start: 1, length: 10 }`")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FixedField, A::Error> {
        let field = FixedField::deserialize(MapAccessDeserializer::new(map))?;
        let is_value = |filler: &char| {
            !filler.is_ascii() || filler.is_ascii_alphanumeric() || "+-.".contains(*filler)
        };
        let mut others = self.fields.iter();
        let told = if field.start == 0 {
            "the first byte of a record is 1; count `start` from there".to_owned()
        } else if field.length == 0 {
            "a field has one byte at least; leave it out if the record lacks it".to_owned()
        } else if let Some(filler) = field.filler.filter(is_value) {
            format!(
                "{filler:?} cannot be a filler, because values hold it; leave it out: zeros before a number \
                 mean nothing, and ltrim(\"{}\", '0') takes them off a text",
                self.name
            )
        } else if field
            .decimals
            .is_some_and(|decimals| decimals > DECIMALS_MAX)
        {
            format!("a number has {DECIMALS_MAX} decimals at most")
        } else if let Some((other, place)) = others.find(|(_, other)| other.overlaps(&field)) {
            format!(
                "the fields \"{other}\" ({place}) and \"{}\" ({field}) overlap; correct `start` or \
                 `length` of one of them",
                self.name
            )
        } else {
            return Ok(field);
        };
        Err(A::Error::custom(told))
    }
}

impl FixedField {
    /// Its last byte, counted from 1.
    fn end(&self) -> u64 {
        (u64::from(self.start) + u64::from(self.length)).saturating_sub(1)
    }

    fn overlaps(&self, other: &Self) -> bool {
        u64::from(self.start) <= other.end() && u64::from(other.start) <= self.end()
    }

    /// Its bytes in a record, without what fills them up.
    fn of<'b>(&self, record: &'b [u8]) -> &'b [u8] {
        let place = |byte: u64| usize::try_from(byte).unwrap_or(usize::MAX);
        let start = place(u64::from(self.start).saturating_sub(1));
        let mut bytes = record.get(start..place(self.end())).unwrap_or_default();
        let filler = self.filler.and_then(|filler| u8::try_from(filler).ok());
        let filler = filler.unwrap_or(b' ');
        while self.align != Some(Align::Left)
            && let [first, rest @ ..] = bytes
            && *first == filler
        {
            bytes = rest;
        }
        while self.align != Some(Align::Right)
            && let [rest @ .., last] = bytes
            && *last == filler
        {
            bytes = rest;
        }
        bytes
    }

    /// The text of its value.
    ///
    /// # Errors
    /// That it is none.
    fn text<'b>(&self, record: &'b [u8]) -> Result<Cow<'b, str>, String> {
        let bytes = self.of(record);
        let text = std::str::from_utf8(bytes).map_err(|_| {
            let shown = quoted(&String::from_utf8_lossy(bytes));
            format!("{shown} is not UTF-8 text")
        })?;
        if text.contains('\0') {
            return Err(format!("{} holds a NUL byte", quoted(text)));
        }
        match self.decimals {
            Some(decimals) if !text.is_empty() => pointed(text, usize::from(decimals))
                .map(Cow::Owned)
                .ok_or_else(|| {
                    format!(
                        "{} is no whole number, the last {decimals} digits of which are decimals",
                        quoted(text)
                    )
                }),
            _ => Ok(Cow::Borrowed(text)),
        }
    }
}

/// Digits with a point before the last of them.
fn pointed(text: &str, decimals: usize) -> Option<String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let sign = &text[..text.len() - digits.len()];
    let digits = format!("{digits:0>width$}", width = decimals + 1);
    let (whole, rest) = digits.split_at(digits.len() - decimals);
    Some(match rest {
        "" => format!("{sign}{whole}"),
        rest => format!("{sign}{whole}.{rest}"),
    })
}

impl fmt::Display for FixedField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {} to {}", self.start, self.end())
    }
}

impl FileFormat for Fixed {
    const NAME: &'static str = "fixed";
    const TITLE: &'static str = "Fixed width";
    const ABOUT: &'static str = "records of one length, their fields at the same bytes";
    const ENDINGS: &'static [&'static str] = &[];

    type Options = Self;

    fn of(options: &Self, _: &str) -> Self {
        options.clone()
    }

    fn example() -> Self {
        let field = |start, length, decimals| FixedField {
            start,
            length,
            filler: None,
            align: None,
            decimals,
        };
        let fields = [
            ("id", field(1, 6, None)),
            ("n", field(7, 8, Some(2))),
            ("at", field(15, 20, None)),
            ("usage.count", field(35, 6, None)),
        ];
        Self {
            length: 40,
            line_ends: true,
            fields: fields.map(|(name, field)| (name.to_owned(), field)).into(),
        }
    }

    fn reading(&self) -> Reading<'_> {
        match self.line_ends {
            true => Reading::Lines(self),
            false => Reading::Frames(self),
        }
    }

    fn described(&self) -> String {
        format!("fixed width, records of {} bytes", self.length)
    }

    fn fields(self, _: &Store, _: &FileMeta) -> Result<Found<Self>, DecodeError> {
        let names = self.fields.keys().cloned().collect();
        Ok(Found::of_text(self, names))
    }
}

impl TextFormat for Fixed {
    fn open(
        &self,
        window: Window,
        file: &str,
        assembler: Assembler,
        options: &DecodeOptions,
    ) -> Result<Box<dyn Source>, DecodeError> {
        let records = FixedRecords::new(self, file, assembler.columns())?;
        let source: Box<dyn Source> = match self.line_ends {
            true => {
                let lines = Lines::of_any_text();
                Box::new(Sliced::new(window, lines, records, assembler, options, &[]))
            }
            false => {
                let blocks = Blocks::new(records.length);
                Box::new(Sliced::new(
                    window,
                    blocks,
                    records,
                    assembler,
                    options,
                    &[],
                ))
            }
        };
        Ok(source)
    }

    fn kept(
        &self,
        file: &str,
        _: Option<&[String]>,
        columns: &[ColumnRequest],
    ) -> Result<Kept, DecodeError> {
        let records = FixedRecords::new(self, file, columns)?;
        Ok(Kept::Bytes(Box::new(records)))
    }
}

/// The fields that are asked for.
struct FixedRecords {
    length: usize,
    line_ends: bool,
    /// Nothing for a field that may be absent, and is.
    fields: Vec<Option<FixedField>>,
}

impl FixedRecords {
    fn new(format: &Fixed, file: &str, columns: &[ColumnRequest]) -> Result<Self, DecodeError> {
        let (names, fields): (Vec<String>, Vec<&FixedField>) = format
            .fields
            .iter()
            .map(|(name, field)| (name.clone(), field))
            .unzip();
        let positions = positions(file, &names, columns)?.into_iter();
        let field = |position: usize| fields.get(position).map(|field| (*field).clone());
        Ok(Self {
            length: usize::try_from(format.length).unwrap_or(usize::MAX),
            line_ends: format.line_ends,
            fields: positions.map(|position| position.and_then(field)).collect(),
        })
    }

    /// What keeps bytes from being a record.
    fn fault(&self, bytes: &[u8]) -> Option<String> {
        let shown = || quoted(&String::from_utf8_lossy(bytes));
        if bytes.len() != self.length {
            let (found, length) = (bytes.len(), self.length);
            return Some(format!("{found} bytes instead of {length}: {}", shown()));
        }
        let broken = !self.line_ends && bytes.contains(&b'\n');
        broken.then(|| {
            format!(
                "a line end stands inside of a record that has none; bytes before it may be lost: {}",
                shown()
            )
        })
    }
}

impl KeptRecords for FixedRecords {
    fn record(&self, bytes: &[u8], line: u64, assembler: &mut Assembler) {
        let mut bytes = bytes;
        if self.line_ends {
            // Files that were put together have marks in the middle.
            bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
            bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        }
        if let Some(detail) = self.fault(bytes) {
            return assembler.reject(line, detail);
        }
        assembler.begin_row(line);
        for (column, field) in self.fields.iter().enumerate() {
            match field.as_ref().map(|field| field.text(bytes)) {
                // An empty field is NULL, as in CSV.
                Some(Ok(text)) if !text.is_empty() => assembler.value(column, Some(&text)),
                Some(Ok(_)) | None => assembler.value(column, None),
                Some(Err(detail)) => assembler.unreadable_value(column, detail),
            }
        }
        assembler.end_row();
    }
}

impl Records for FixedRecords {
    const WHAT: &'static str = "records of one length";
    const NAMED: bool = false;

    fn record(&self, slice: &Slice, bytes: &[u8], assembler: &mut Assembler) {
        KeptRecords::record(self, bytes, slice.line, assembler);
    }
}

#[cfg(test)]
mod tests;
