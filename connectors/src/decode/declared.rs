//! How a rule declares a raw column: its type, and which absence of it is intended.
//!
//! ```yaml
//! columns:
//!   prompt_tokens: bigint
//!   cached_tokens: { type: bigint, may_be: empty }
//!   discount_code: { type: text, may_be: [empty, absent] }
//!   started: timestamp('Europe/Prague')
//!   ended: { type: timestamp, zone: Europe/Prague, ambiguous: earlier }
//! ```

use super::kind::ColumnType;
use crate::times::{Ambiguous, TimeReading};
use jiff::tz::TimeZone;
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
    /// The zone of times that name no offset; the tenant's unless given.
    pub zone: Option<TimeZone>,
    /// What such a time means that clocks show twice or never; the record is set aside unless given.
    pub ambiguous: Option<Ambiguous>,
}

/// The zone in `timestamp('zone')`.
fn zone_in(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("timestamp")?.trim();
    let inner = inner.strip_prefix('(')?.strip_suffix(')')?.trim();
    let unquoted = |quote| inner.strip_prefix(quote)?.strip_suffix(quote);
    Some(unquoted('\'').or_else(|| unquoted('"')).unwrap_or(inner))
}

/// The zone of this name, or what is wrong with it in one sentence.
fn zone_named<E: Error>(name: &str) -> Result<TimeZone, E> {
    TimeReading::zone_named(name).map_err(|(message, hint)| E::custom(format!("{message}; {hint}")))
}

/// A type, and the zone that it names.
struct Typed {
    kind: ColumnType,
    zone: Option<TimeZone>,
}

impl Typed {
    fn parse<E: Error>(text: &str) -> Result<Self, E> {
        let zone = zone_in(text).map(zone_named).transpose()?;
        let kind = match &zone {
            Some(_) => ColumnType::Timestamp,
            None => text.parse().map_err(E::custom)?,
        };
        Ok(Self { kind, zone })
    }
}

impl<'de> Deserialize<'de> for Typed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?)
    }
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
    #[schemars(with = "Option<ColumnType>")]
    kind: Option<Typed>,
    /// `empty`: records without a value are intended, NULL behaves as SQL says. `absent`: files
    /// without the column are intended, too; needs a `type`.
    #[serde(default)]
    may_be: MayBe,
    /// The zone of times that name no offset, an IANA name; the tenant's unless given. A date has none:
    /// write `instant(day, 'Europe/Prague')` where it is used as a time.
    #[serde(default)]
    zone: Option<String>,
    /// What a time without an offset means that clocks of the zone show twice or never, because they are
    /// changed; `suspend` unless given.
    #[serde(default)]
    ambiguous: Option<Ambiguous>,
}

impl<'de> Deserialize<'de> for ColumnDeclaration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = ColumnDeclaration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a column type, or a map of `type`, `may_be`, `zone` and `ambiguous`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ColumnDeclaration, E> {
                let typed = Typed::parse(text)?;
                Ok(ColumnDeclaration {
                    kind: Some(typed.kind),
                    may_be: MayBe::default(),
                    zone: typed.zone,
                    ambiguous: None,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ColumnDeclaration, A::Error> {
                let Declared {
                    kind,
                    may_be,
                    zone,
                    ambiguous,
                } = Declared::deserialize(MapAccessDeserializer::new(map))?;
                let (kind, named) =
                    kind.map_or((None, None), |typed| (Some(typed.kind), typed.zone));
                if named.is_some() && zone.is_some() {
                    return Err(A::Error::custom("the zone is given twice; leave one out"));
                }
                let is_time = matches!(kind, None | Some(ColumnType::Timestamp));
                if (zone.is_some() || ambiguous.is_some()) && !is_time {
                    return Err(A::Error::custom(
                        "`zone` and `ambiguous` are for timestamps; where a date or a text is used \
                         as a time, write instant(column, 'Europe/Prague', 'earlier')",
                    ));
                }
                let kind = match zone.is_some() || ambiguous.is_some() {
                    true => Some(ColumnType::Timestamp),
                    false => kind,
                };
                let zone = match zone {
                    Some(name) => Some(zone_named(&name)?),
                    None => named,
                };
                if may_be.absent && kind.is_none() {
                    return Err(A::Error::custom(
                        "a column that may be absent needs a `type`, which no file of its absence \
                         tells: write { type: text, may_be: absent }",
                    ));
                }
                Ok(ColumnDeclaration {
                    kind,
                    may_be,
                    zone,
                    ambiguous,
                })
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
                Ok(ColumnDeclaration {
                    kind,
                    may_be,
                    zone: None,
                    ambiguous: None,
                }),
                "{yaml}"
            );
        }
    }

    #[test]
    fn a_timestamp_may_name_its_zone() {
        let prague = || Some(TimeReading::zone_named("Europe/Prague").unwrap());
        for (yaml, zone, ambiguous) in [
            ("c: timestamp('Europe/Prague')", prague(), None),
            ("{ c: timestamp('Europe/Prague') }", prague(), None),
            ("c: timestamp(Europe/Prague)", prague(), None),
            ("c: { type: timestamp('Europe/Prague') }", prague(), None),
            (
                "c: { type: timestamp, zone: Europe/Prague, ambiguous: later }",
                prague(),
                Some(Ambiguous::Later),
            ),
            ("c: { zone: Europe/Prague }", prague(), None),
            (
                "c: { type: timestamp, ambiguous: suspend }",
                None,
                Some(Ambiguous::Suspend),
            ),
        ] {
            let found = parse(yaml).unwrap();
            assert_eq!(found.kind, Some(ColumnType::Timestamp), "{yaml}");
            assert_eq!((found.zone, found.ambiguous), (zone, ambiguous), "{yaml}");
        }
        for (yaml, told) in [
            (
                "c: timestamp('Europe/Pragu')",
                "did you mean \"Europe/Prague\"?",
            ),
            ("c: { type: date, zone: UTC }", "instant(column"),
            ("c: { type: timestamp, ambiguous: first }", "ambiguous"),
            ("c: { type: timestamp('UTC'), zone: UTC }", "twice"),
        ] {
            let error = parse(yaml).unwrap_err();
            assert!(error.contains(told), "{yaml}: {error}");
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
