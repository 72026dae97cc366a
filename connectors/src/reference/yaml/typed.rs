//! A YAML tree to a typed value, by serde, and the failure that names the node at fault.
//!
//! Scalars are handed over as the text that was written wherever the type takes text, so a price
//! never passes through a binary float. `serde_saphyr::Spanned` fields get their place.

use super::tree::{Entry, Kind, Node};
use crate::diagnostic::did_you_mean;
use serde::de::value::{MapDeserializer, StrDeserializer};
use serde::de::{self, DeserializeSeed, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use std::collections::BTreeSet;
use std::fmt;
use std::iter::Chain;
use std::slice::Iter;

/// Why a tree is not a value of the type.
#[derive(Debug)]
pub(super) struct Failure {
    /// The node or entry at fault; `None` until the innermost node has claimed it.
    pub(super) node: Option<Culprit>,
    pub(super) message: String,
    pub(super) hint: String,
    /// The field that is missing, when that is the failure.
    pub(super) missing: Option<&'static str>,
    /// The key that an unknown one was meant to be.
    pub(super) meant: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Culprit {
    pub(super) id: usize,
    pub(super) line: u64,
    pub(super) column: u64,
}

/// Keys that people expect, and what there is instead.
const HINTS: [(&str, &str); 1] = [(
    "time_zone",
    "bill units begin at midnight in the job's `time_zone`, whoever the account is: bill customers of \
     another zone by a job of their own",
)];

impl Failure {
    fn new(message: String, hint: String) -> Self {
        Self {
            node: None,
            message,
            hint,
            missing: None,
            meant: None,
        }
    }

    fn at(mut self, id: usize, line: u64, column: u64) -> Self {
        self.node.get_or_insert(Culprit { id, line, column });
        self
    }

    fn unknown(what: &str, written: &str, known: &'static [&'static str]) -> Self {
        let limit = HINTS.iter().find(|(key, _)| *key == written);
        let meant = did_you_mean(written, known.iter().copied());
        let hint = match meant {
            Some(name) => format!("did you mean \"{name}\"?"),
            None if limit.is_some() => {
                limit.map_or_else(String::new, |(_, hint)| (*hint).to_owned())
            }
            None if known.is_empty() => String::new(),
            None => format!("known here: {}", known.join(", ")),
        };
        Self {
            meant,
            ..Self::new(format!("unknown {what} \"{written}\""), hint)
        }
    }
}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string(), String::new())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match found {
            Unexpected::Unit => {
                let hint = "write a value; quote a text like \"null\" or \"~\"";
                Self::new(
                    format!("expected {expected}, found nothing"),
                    hint.to_owned(),
                )
            }
            found => Self::new(format!("expected {expected}, found {found}"), String::new()),
        }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::unknown("value", variant, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::unknown("key", field, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        let message = format!("the key \"{field}\" is missing");
        Self {
            missing: Some(field),
            ..Self::new(message, String::new())
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A deserializer of one node that passes over the nodes known to be at fault.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) node: &'a Node,
    pub(super) at_fault: &'a BTreeSet<usize>,
}

impl<'a> Reader<'a> {
    fn claim<T>(self, result: Result<T, Failure>) -> Result<T, Failure> {
        result.map_err(|failure| failure.at(self.node.id, self.node.line, self.node.column))
    }

    fn other<T>(self, expected: &dyn fmt::Display) -> Result<T, Failure> {
        let message = format!("expected {expected}, found {}", self.node.describe());
        let hint = match self.node.kind {
            Kind::Null(ref text) if !text.is_empty() => "quote it if it is meant as text",
            // What SQL with a comma becomes inside braces.
            Kind::Null(_) => "write a value; between { } quote text that holds a comma",
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => "",
        };
        self.claim(Err(Failure::new(message, hint.to_owned())))
    }

    fn text(self, expected: &dyn fmt::Display) -> Result<&'a str, Failure> {
        match &self.node.kind {
            Kind::Scalar { text, .. } => Ok(text),
            Kind::Null(_) | Kind::List(_) | Kind::Map(_) => self.other(expected),
        }
    }

    fn entries(self) -> Entries<'a> {
        self.entries_from(0)
    }

    /// The entries of a mapping, that at `first` before all others.
    fn entries_from(self, first: usize) -> Entries<'a> {
        let entries: &[Entry] = match &self.node.kind {
            Kind::Map(entries) => entries,
            Kind::Null(_) | Kind::Scalar { .. } | Kind::List(_) => &[],
        };
        let (before, rest) = entries.split_at(first.min(entries.len()));
        let (first, behind) = rest.split_at(rest.len().min(1));
        Entries {
            entries: first.iter().chain(before).chain(behind),
            at_fault: self.at_fault,
            value: None,
        }
    }

    fn items(self) -> Items<'a> {
        let items: &[Node] = match &self.node.kind {
            Kind::List(items) => items,
            Kind::Null(_) | Kind::Scalar { .. } | Kind::Map(_) => &[],
        };
        Items {
            items: items.iter(),
            at_fault: self.at_fault,
        }
    }
}

macro_rules! whole_number {
    ($($method:ident => $visit:ident, $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            let expected = format!("a whole number from {} to {}", <$type>::MIN, <$type>::MAX);
            match self.text(&expected)?.parse::<$type>() {
                Ok(number) => self.claim(visitor.$visit(number)),
                Err(_) => self.other(&expected),
            }
        }
    )*};
}

/// The name by which `serde_saphyr::Spanned` asks for a value with its place, and the key that
/// marks the answer.
const SPANNED: &str = "__yaml_spanned";
const SPANNED_MARK: &str = "__serde_saphyr_private_spanned";

/// The name by which a value asks for its `type` before its other keys, since that decides what they are: so
/// each of them is read, and told, where it stands.
pub(crate) const TYPE_FIRST: &str = "__type_first";

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.claim(match &self.node.kind {
            Kind::Null(_) => visitor.visit_unit(),
            Kind::List(_) => visitor.visit_seq(self.items()),
            Kind::Map(_) => visitor.visit_map(self.entries()),
            Kind::Scalar { text, plain: true } => match (text.as_str(), text.parse::<i64>()) {
                ("true", _) => visitor.visit_bool(true),
                ("false", _) => visitor.visit_bool(false),
                // `007` and `+420` are not the numbers that they parse as.
                (_, Ok(number)) if number.to_string() == *text => visitor.visit_i64(number),
                _ => visitor.visit_str(text),
            },
            Kind::Scalar { text, plain: false } => visitor.visit_str(text),
        })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.kind {
            Kind::Scalar { text, plain: true } if text == "true" => {
                self.claim(visitor.visit_bool(true))
            }
            Kind::Scalar { text, plain: true } if text == "false" => {
                self.claim(visitor.visit_bool(false))
            }
            _ => self.other(&"true or false"),
        }
    }

    whole_number! {
        deserialize_i8 => visit_i8, i8;
        deserialize_i16 => visit_i16, i16;
        deserialize_i32 => visit_i32, i32;
        deserialize_i64 => visit_i64, i64;
        deserialize_u8 => visit_u8, u8;
        deserialize_u16 => visit_u16, u16;
        deserialize_u32 => visit_u32, u32;
        deserialize_u64 => visit_u64, u64;
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let text = self.text(&"text")?;
        self.claim(visitor.visit_str(text))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.kind {
            Kind::Null(text) if text.is_empty() => {
                let message = "the key has no value".to_owned();
                let hint = "write the value, or leave the key out; between { } quote text that holds a comma";
                self.claim(Err(Failure::new(message, hint.to_owned())))
            }
            Kind::Null(_) => visitor.visit_none(),
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match (name, &self.node.kind) {
            (SPANNED, _) => visitor.visit_newtype_struct(WithPlace(self)),
            (TYPE_FIRST, Kind::Map(entries)) => {
                let first = entries.iter().position(|entry| entry.key == "type");
                self.claim(visitor.visit_map(self.entries_from(first.unwrap_or(0))))
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    // What is left empty is an empty list or mapping: `catalog:` with its lines commented out.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node.kind {
            Kind::Null(_) | Kind::List(_) => self.claim(visitor.visit_seq(self.items())),
            Kind::Scalar { .. } | Kind::Map(_) => self.other(&"a list"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node.kind {
            Kind::Null(_) | Kind::Map(_) => self.claim(visitor.visit_map(self.entries())),
            Kind::Scalar { .. } | Kind::List(_) => self.other(&"a mapping"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let text = self.text(&format!("one of {}", variants.join(", ")))?;
        self.claim(visitor.visit_enum(IntoDeserializer::<Failure>::into_deserializer(text)))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

struct Items<'a> {
    items: Iter<'a, Node>,
    at_fault: &'a BTreeSet<usize>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Failure> {
        let at_fault = self.at_fault;
        match self.items.find(|node| !at_fault.contains(&node.id)) {
            Some(node) => seed.deserialize(Reader { node, at_fault }).map(Some),
            None => Ok(None),
        }
    }
}

struct Entries<'a> {
    entries: Chain<Chain<Iter<'a, Entry>, Iter<'a, Entry>>, Iter<'a, Entry>>,
    at_fault: &'a BTreeSet<usize>,
    value: Option<&'a Node>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Failure> {
        let at_fault = self.at_fault;
        let usable = |e: &&Entry| !at_fault.contains(&e.id) && !at_fault.contains(&e.value.id);
        let Some(entry) = self.entries.find(usable) else {
            return Ok(None);
        };
        self.value = Some(&entry.value);
        let key: StrDeserializer<'_, Failure> = entry.key.as_str().into_deserializer();
        seed.deserialize(key)
            .map(Some)
            .map_err(|f| f.at(entry.id, entry.line, entry.column))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Failure> {
        let node = self
            .value
            .take()
            .ok_or_else(|| de::Error::custom("a value without its key"))?;
        seed.deserialize(Reader {
            node,
            at_fault: self.at_fault,
        })
    }
}

/// A value as `serde_saphyr::Spanned` expects it: with the place where it stands.
struct WithPlace<'a>(Reader<'a>);

impl<'de> de::Deserializer<'de> for WithPlace<'_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_map(PlacedEntries {
            reader: self.0,
            step: 0,
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

struct PlacedEntries<'a> {
    reader: Reader<'a>,
    step: usize,
}

impl<'de> de::MapAccess<'de> for PlacedEntries<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Failure> {
        let keys = [SPANNED_MARK, "value", "referenced", "defined"];
        let Some(key) = keys.get(self.step) else {
            return Ok(None);
        };
        self.step += 1;
        let key: StrDeserializer<'_, Failure> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Failure> {
        match self.step {
            1 => seed.deserialize(true.into_deserializer()),
            2 => seed.deserialize(self.reader),
            _ => {
                let place = [
                    ("line", self.reader.node.line),
                    ("column", self.reader.node.column),
                ];
                let place = place.into_iter();
                seed.deserialize(MapDeserializer::<'de, _, Failure>::new(place))
            }
        }
    }
}
