//! The mediation rule as a person writes it.
//!
//! ```yaml
//! columns: { input_tokens: bigint, cost: "decimal(18,6)", t: timestamp }
//! let:
//!   uncached: input_tokens - cached_tokens
//! where: status = 200
//! identity: [request_id]            # or: position
//! keep: last                        # or: first, greatest(output_tokens); or version: revision
//! kind: op                          # usage, amend or void
//! service: team
//! time: t
//! attributes: { model: lower(model) }
//! charges: { input: uncached, cached: cached_tokens }
//! ```

use crate::decode::ColumnDeclaration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// An SQL expression and where it stands in the file.
pub type Sql = Spanned<String>;

/// How raw records of a stream become usage. All values are SQL expressions over the columns of the
/// record and the names of `let`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MediationRule {
    /// Types of columns whose text is not just text: `bigint`, `decimal(precision,scale)`,
    /// `boolean`, `timestamp`, `date`. Parquet columns have types of their own. In the longer form
    /// `{ type: bigint, may_be: empty }` records without a value are intended; with `may_be: absent`
    /// files without the column are, too. In every format an empty text is no number, boolean or
    /// time but an empty field; in CSV it is an empty field for text, too.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, ColumnDeclaration>")]
    pub columns: BTreeMap<String, Spanned<ColumnDeclaration>>,
    /// Intermediate values by name, in order; each may use those before it.
    #[serde(default, rename = "let")]
    pub lets: NamedSql,
    /// Which records count; the others are ignored and counted as such. All unless given. A record
    /// for which it hangs on an empty field is set aside.
    #[serde(default, rename = "where")]
    #[schemars(with = "Option<String>")]
    pub filter: Option<Sql>,
    /// What makes a record itself: two records that agree in all of these are duplicates. A record
    /// in which one is empty is set aside, unless its column is declared `may_be: empty`. The word
    /// `position` makes every record of every file its own.
    pub identity: IdentityRule,
    /// Which record holds where several have one identity: `first`, the first to arrive, where a record
    /// with another content is a CONFLICT (unless told otherwise); `last`, the one read last;
    /// `greatest(<expression>)`, the one with the greatest number or time.
    #[serde(default)]
    #[schemars(with = "Option<KeepWord>")]
    pub keep: Option<Sql>,
    /// What a record does: an expression that gives `usage`, `amend` (the record replaces what has its
    /// identity) or `void` (it takes that out; nothing but its identity is read). Usage unless given.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub kind: Option<Sql>,
    /// The version of a record, a number or a time: of the records of one identity the one with the
    /// greatest version holds, corrections included. Without it the correction that was read last does.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub version: Option<Sql>,
    /// The service id, which a subscription must have.
    #[schemars(with = "String")]
    pub service: Sql,
    /// When the usage happened.
    #[schemars(with = "String")]
    pub time: Sql,
    /// What prices may depend on. An attribute that is a mere column, or a conversion of one, is
    /// absent where the column is empty; one that is computed from an empty field sets the record
    /// aside.
    #[serde(default)]
    pub attributes: NamedSql,
    /// Quantities by item, whole numbers or decimals of up to 18 digits, of which 12 behind the
    /// point; zeros at the end do not count. An item that is a mere column, or a conversion of one,
    /// is absent from records in which the column is empty. One that is computed from an empty
    /// field sets the record aside, unless `coalesce` or `may_be: empty` says what that means.
    pub charges: NamedSql,
}

impl MediationRule {
    /// Whether more than the order of arrival decides which record of an identity holds.
    #[must_use]
    pub fn decides(&self) -> bool {
        let keep = self.keep.as_ref().map(|keep| keep.value.trim());
        keep.is_some_and(|keep| keep != "first") || self.kind.is_some() || self.version.is_some()
    }
}

/// What `keep` takes, for schemas.
struct KeepWord;

impl JsonSchema for KeepWord {
    fn schema_name() -> Cow<'static, str> {
        "KeepWord".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "enum": ["first", "last"] },
            { "type": "string", "pattern": r"^greatest\(.+\)$" },
        ] })
    }
}

/// Expressions by name, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedSql(pub Vec<(String, Sql)>);

impl<'de> Deserialize<'de> for NamedSql {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = NamedSql;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from names to SQL expressions")
            }

            fn visit_unit<E>(self) -> Result<NamedSql, E> {
                Ok(NamedSql::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NamedSql, A::Error> {
                let mut entries: Vec<(String, Sql)> = Vec::new();
                while let Some((name, sql)) = map.next_entry::<String, Sql>()? {
                    if entries.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format!("{name:?} is there twice")));
                    }
                    entries.push((name, sql));
                }
                Ok(NamedSql(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl JsonSchema for NamedSql {
    fn schema_name() -> Cow<'static, str> {
        "NamedSql".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": "string" } })
    }
}

/// What makes a record itself.
#[derive(Clone, Debug, PartialEq)]
pub enum IdentityRule {
    /// The place in its file: for sources that never send a record twice.
    Position,
    /// These values together.
    Fields(Vec<Sql>),
}

impl<'de> Deserialize<'de> for IdentityRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rule;
        impl<'de> Visitor<'de> for Rule {
            type Value = IdentityRule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of SQL expressions, or the word `position`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<IdentityRule, E> {
                if text == "position" {
                    return Ok(IdentityRule::Position);
                }
                Err(E::custom(format!(
                    "write [{text}] for one field, or the word `position`"
                )))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<IdentityRule, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = list.next_element::<Sql>()? {
                    fields.push(field);
                }
                if fields.is_empty() {
                    return Err(A::Error::custom(
                        "the identity has no field; name some, or write `position`",
                    ));
                }
                Ok(IdentityRule::Fields(fields))
            }
        }
        deserializer.deserialize_any(Rule)
    }
}

impl JsonSchema for IdentityRule {
    fn schema_name() -> Cow<'static, str> {
        "IdentityRule".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "oneOf": [
            { "const": "position" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ] })
    }
}
