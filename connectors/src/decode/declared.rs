//! How a rule declares a raw column: its type, and which absence of it is intended.
//!
//! ```yaml
//! columns:
//!   prompt_tokens: bigint
//!   cached_tokens: { type: bigint, may_be: empty }
//!   discount_code: { type: text, may_be: [empty, absent] }
//! ```

use super::ColumnType;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// The declaration of a raw column: the word of its type, or a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDeclaration {
    /// The type; text, or for typed formats the type of the file, unless given.
    pub kind: Option<ColumnType>,
    /// Which absence of a value is intended.
    pub may_be: MayBe,
}

/// Which absence of a column's value the rule intends. What is not intended is a finding wherever an
/// expression needs the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MayBe {
    /// Records without a value are as they should be: NULL behaves as SQL says.
    pub empty: bool,
    /// Files without the column are, too; all its values are then empty.
    pub absent: bool,
}

impl MayBe {
    fn add<E: Error>(&mut self, word: &str) -> Result<(), E> {
        match word {
            "empty" => self.empty = true,
            "absent" => (self.empty, self.absent) = (true, true),
            word => {
                return Err(E::custom(format!(
                    "a column may be `empty` (records without a value) or `absent` (files without \
                     the column, too), not `{word}`"
                )));
            }
        }
        Ok(())
    }
}

/// The map form.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Declared {
    /// The type of the column: text, bigint, decimal(precision,scale), boolean, timestamp, date.
    #[serde(default, rename = "type")]
    kind: Option<ColumnType>,
    /// `empty`: records without a value are intended, NULL behaves as SQL says. `absent`: files
    /// without the column are intended, too; needs a `type`.
    #[serde(default)]
    may_be: MayBe,
}

impl<'de> Deserialize<'de> for ColumnDeclaration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = ColumnDeclaration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a column type, or a map of `type` and `may_be`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ColumnDeclaration, E> {
                Ok(ColumnDeclaration {
                    kind: Some(text.parse().map_err(E::custom)?),
                    may_be: MayBe::default(),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ColumnDeclaration, A::Error> {
                let Declared { kind, may_be } =
                    Declared::deserialize(MapAccessDeserializer::new(map))?;
                if may_be.absent && kind.is_none() {
                    return Err(A::Error::custom(
                        "a column that may be absent needs a `type`, which no file of its absence \
                         tells: write { type: text, may_be: absent }",
                    ));
                }
                Ok(ColumnDeclaration { kind, may_be })
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl<'de> Deserialize<'de> for MayBe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = MayBe;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`empty`, `absent`, or a list of both")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<MayBe, E> {
                let mut may_be = MayBe::default();
                may_be.add(word)?;
                Ok(may_be)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<MayBe, A::Error> {
                let mut may_be = MayBe::default();
                while let Some(word) = list.next_element::<String>()? {
                    may_be.add(&word)?;
                }
                Ok(may_be)
            }
        }
        deserializer.deserialize_any(Words)
    }
}

impl JsonSchema for ColumnDeclaration {
    fn schema_name() -> Cow<'static, str> {
        "ColumnDeclaration".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = generator.subschema_for::<ColumnType>();
        let map = generator.subschema_for::<Declared>();
        json_schema!({ "anyOf": [word, map] })
    }
}

impl JsonSchema for MayBe {
    fn schema_name() -> Cow<'static, str> {
        "MayBe".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let word = json_schema!({ "enum": ["empty", "absent"] });
        json_schema!({ "oneOf": [word, { "type": "array", "items": word }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn parse(yaml: &str) -> Result<ColumnDeclaration, String> {
        let columns: Result<BTreeMap<String, ColumnDeclaration>, _> = serde_saphyr::from_str(yaml);
        let columns = columns.map_err(|error| error.to_string())?;
        Ok(columns.into_values().next().unwrap())
    }

    #[test]
    fn a_declaration_is_a_word_or_a_map() {
        let none = MayBe::default();
        let (empty, absent) = (true, true);
        for (yaml, kind, may_be) in [
            ("c: bigint", Some(ColumnType::BigInt), none),
            ("c: integer", Some(ColumnType::BigInt), none),
            ("c: { type: bigint }", Some(ColumnType::BigInt), none),
            (
                "c: { may_be: empty }",
                None,
                MayBe {
                    empty,
                    absent: false,
                },
            ),
            (
                "c: { type: text, may_be: absent }",
                Some(ColumnType::Text),
                MayBe { empty, absent },
            ),
            (
                "c: { type: text, may_be: [empty, absent] }",
                Some(ColumnType::Text),
                MayBe { empty, absent },
            ),
            (
                "c: { type: text, may_be: [] }",
                Some(ColumnType::Text),
                none,
            ),
        ] {
            assert_eq!(
                parse(yaml),
                Ok(ColumnDeclaration { kind, may_be }),
                "{yaml}"
            );
        }
    }

    #[test]
    fn what_is_no_declaration_is_refused_with_the_way_out() {
        for (yaml, told) in [
            ("c: { type: bigint, may: empty }", "unknown field `may`"),
            ("c: { type: number }", "types are text, bigint"),
            ("c: { type: bigint, may_be: null }", "`empty`, `absent`"),
            ("c: { type: bigint, may_be: missing }", "not `missing`"),
            (
                "c: { may_be: absent }",
                "write { type: text, may_be: absent }",
            ),
            ("{ c: decimal(12,3) }", "write \"decimal(12,3)\" in quotes"),
            ("c: { type: decimal(12,3) }", "in quotes"),
        ] {
            let error = parse(yaml).unwrap_err();
            assert!(error.contains(told), "{yaml}: {error}");
        }
    }
}
