//! Formats as people write them: a word, or a mapping of `type` and options.
//!
//! ```yaml
//! format: jsonl
//! format: { type: csv, delimiter: ";" }
//! ```

use super::csv::CsvLayout;
use super::{Format, Told};
use crate::diagnostic::did_you_mean;
use crate::reference::yaml::TYPE_FIRST;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::StringDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, Visitor,
};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::fmt;

/// What is said where no name tells the format, before the words for them.
const HINT_FORMAT: &str = "add `format: ";

/// A format that somebody wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatEntry(Told);

impl FormatEntry {
    /// The format of this name, if it needs no options.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Told::bare(name).ok().flatten().map(Self)
    }

    /// The names of formats that need no options.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        Told::bare_names()
    }

    /// The same for people.
    #[must_use]
    pub fn listed() -> String {
        let mut names = Told::bare_names();
        let last = names.pop().unwrap_or_default();
        format!("{} or {last}", names.join(", "))
    }

    /// What to write where no file's name tells the format.
    #[must_use]
    pub fn advice() -> String {
        let names = Self::listed()
            .replace(", ", "`, `")
            .replace(" or ", "` or `");
        format!("{HINT_FORMAT}{names}`")
    }
}

/// The format of `file`: as told, otherwise as its name suggests; `None` when neither says. `csv` is what stands
/// beside it of CSV files.
#[must_use]
pub fn format_of(file: &str, told: Option<&FormatEntry>, csv: &CsvLayout) -> Option<Format> {
    let told = told.map(|entry| entry.0.clone());
    Some(match told.or_else(|| Told::of_name(file))? {
        Told::Csv(_) if *csv != CsvLayout::default() => Told::Csv(csv.clone()).of(file),
        told => told.of(file),
    })
}

/// What is wrong with options of CSV that stand beside a format, and what to do.
#[must_use]
pub fn csv_misplaced(
    format: Option<&Format>,
    told: Option<&FormatEntry>,
) -> Option<(&'static str, &'static str)> {
    if format.is_some_and(|format| !matches!(format, Format::Csv(_))) {
        let hint = "leave it out, or correct the format";
        return Some(("`csv` is for CSV files, and these are none", hint));
    }
    let told = told.and_then(|told| {
        Told::bare(told.0.name())
            .ok()
            .flatten()
            .filter(|bare| *bare != told.0)
    });
    told.map(|_| {
        let hint = "write all options of the files under `format`, and leave `csv` out";
        ("`csv` says again how the files are laid out", hint)
    })
}

/// The layout of files by a text that is the same for ever where what is told is: records in durable state know
/// their layout by its digest.
///
/// # Panics
/// Never: options are names and numbers.
#[must_use]
pub fn layout_text(told: Option<&FormatEntry>, csv: &CsvLayout) -> String {
    let Some(FormatEntry(told)) = told else {
        return format!("None {csv:?}");
    };
    let name = told.name();
    let (first, rest) = name.split_at(1);
    let name = format!("{}{rest}", first.to_uppercase());
    match told {
        // Under either key it is the same layout.
        Told::Csv(options) if *csv == CsvLayout::default() => format!("Some({name}) {options:?}"),
        told if Told::bare(told.name()) == Ok(Some(told.clone())) => {
            format!("Some({name}) {csv:?}")
        }
        told => {
            let options = serde_json::to_string(&told.of(""));
            let options = options.expect("a format has names and numbers alone");
            format!("Some({name} {options}) {csv:?}")
        }
    }
}

/// The names of the options of a format.
pub(super) fn options_of(name: &str) -> Vec<String> {
    let schemas = Told::schemas(&mut SchemaGenerator::default());
    let schema = schemas.into_iter().find(|(known, _)| *known == name);
    let schema = schema.map_or(Value::Null, |(_, schema)| schema.to_value());
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties.map(|(name, _)| name.clone()).collect()
}

/// What is said of an option that a format does not take.
fn not_taken(format: &str, option: &str) -> Option<String> {
    let own = options_of(format);
    if own.iter().any(|own| own == option) {
        return None;
    }
    let others = Told::NAMES.iter().filter(|name| **name != format);
    let others: Vec<String> = others
        .filter(|name| options_of(name).iter().any(|own| own == option))
        .map(|name| format!("`{name}`"))
        .collect();
    let meant = did_you_mean(option, own.iter().map(String::as_str));
    let rest = match (meant, others.is_empty(), own.is_empty()) {
        (Some(meant), _, _) => format!("; did you mean \"{meant}\"?"),
        (None, false, _) => format!("; that is for {}", others.join(", ")),
        (None, true, true) => "; it takes no options".to_owned(),
        (None, true, false) => format!("; it takes {}", own.join(", ")),
    };
    Some(format!("the format `{format}` takes no \"{option}\"{rest}"))
}

/// The name of a format.
struct Name(&'static str);

impl Name {
    fn known<E: Error>(text: &str) -> Result<Self, E> {
        let names = || Told::NAMES.iter().copied();
        if let Some(name) = names().find(|name| *name == text) {
            return Ok(Self(name));
        }
        let meant = did_you_mean(text, names());
        let meant = meant.map_or_else(String::new, |name| format!(", did you mean \"{name}\"?"));
        let known = Told::NAMES.join(", ");
        Err(E::custom(format!(
            "unknown format \"{text}\"{meant}; known are {known}"
        )))
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a format")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Name, E> {
                Name::known(text)
            }
        }
        deserializer.deserialize_str(Word)
    }
}

impl<'de> Deserialize<'de> for FormatEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = FormatEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a format, or a mapping of its `type` and options")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<FormatEntry, D::Error> {
                deserializer.deserialize_any(self)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<FormatEntry, E> {
                let Name(name) = Name::known(text)?;
                let told = Told::bare(name).map_err(|lacks| {
                    E::custom(format!(
                        "the format `{name}` needs options, {lacks}; write `format: {{ type: {name}, … }}`"
                    ))
                })?;
                told.map(FormatEntry)
                    .ok_or_else(|| E::missing_field("type"))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FormatEntry, A::Error> {
                if map.next_key::<String>()?.as_deref() != Some("type") {
                    return Err(A::Error::missing_field("type"));
                }
                let Name(format) = map.next_value()?;
                let told = Told::read(format, Options { map, format })?;
                told.map(FormatEntry)
                    .ok_or_else(|| A::Error::missing_field("type"))
            }
        }
        deserializer.deserialize_newtype_struct(TYPE_FIRST, Form)
    }
}

/// The options of a format, of which those that it does not take are told by what does.
struct Options<A> {
    map: A,
    format: &'static str,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Options<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let format = self.format;
        self.map.next_key_seed(Taken { seed, format })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

struct Taken<K> {
    seed: K,
    format: &'static str,
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Taken<K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K::Value, D::Error> {
        let option = String::deserialize(deserializer)?;
        if let Some(told) = not_taken(self.format, &option) {
            return Err(D::Error::custom(told));
        }
        let option: StringDeserializer<D::Error> = option.into_deserializer();
        self.seed.deserialize(option)
    }
}

impl JsonSchema for FormatEntry {
    fn schema_name() -> Cow<'static, str> {
        "Format".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let words = json_schema!({ "type": "string", "enum": Told::bare_names() });
        let mut forms = vec![words];
        for (name, mut options) in Told::schemas(generator) {
            let object = options.ensure_object();
            let properties = object.entry("properties").or_insert_with(|| json!({}));
            if let Some(properties) = properties.as_object_mut() {
                properties.insert("type".to_owned(), json!({ "const": name }));
            }
            let required = object.entry("required").or_insert_with(|| json!([]));
            if let Some(required) = required.as_array_mut() {
                required.push(json!("type"));
            }
            forms.push(options);
        }
        json_schema!({ "anyOf": forms })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Csv;
    use super::*;
    use crate::reference::yaml::read;
    use serde_saphyr::Spanned;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Source {
        format: Option<Spanned<FormatEntry>>,
        #[serde(default)]
        csv: CsvLayout,
    }

    impl Source {
        fn of(&self, file: &str) -> Option<Format> {
            let told = self.format.as_ref().map(|told| &told.value);
            format_of(file, told, &self.csv)
        }
    }

    fn source(yaml: &str) -> Source {
        let read = read::<Source>("x", yaml);
        assert!(read.findings.is_empty(), "{yaml}: {:?}", read.findings);
        read.value.unwrap()
    }

    #[test]
    fn what_is_told_wins_over_the_name() {
        let csv = |delimiter| {
            Some(Format::Csv(Csv {
                delimiter,
                header: None,
            }))
        };
        for (yaml, file, format) in [
            ("format: jsonl", "a.json", Format::of_name("a.jsonl")),
            ("{}", "a.parquet", Format::of_name("b.parquet")),
            ("{}", "a.dat", None),
            ("{}", "a.tsv.gz", csv('\t')),
            ("format: csv", "a.tsv.gz", csv('\t')),
            ("format: csv", "a.json", csv(',')),
            ("csv: { delimiter: ; }", "a.tsv", csv(';')),
            ("csv: { delimiter: ; }", "a.json", Format::of_name("a.json")),
            ("format: { type: csv }", "a.tsv", csv('\t')),
            ("format: { delimiter: ;, type: csv }", "a.dat", csv(';')),
            (
                "format: { type: jsonl }",
                "a.dat",
                Format::of_name("a.jsonl"),
            ),
        ] {
            assert_eq!(source(yaml).of(file), format, "{yaml} of {file}");
        }
    }

    /// Durable state holds digests of these texts.
    #[test]
    fn a_layout_has_the_text_that_it_always_had() {
        for (yaml, text) in [
            (
                "{}",
                "None CsvLayout { delimiter: None, header: FirstLine }",
            ),
            (
                "format: csv",
                "Some(Csv) CsvLayout { delimiter: None, header: FirstLine }",
            ),
            (
                "format: jsonl",
                "Some(Jsonl) CsvLayout { delimiter: None, header: FirstLine }",
            ),
            (
                "format: json",
                "Some(Json) CsvLayout { delimiter: None, header: FirstLine }",
            ),
            (
                "format: parquet",
                "Some(Parquet) CsvLayout { delimiter: None, header: FirstLine }",
            ),
            (
                "csv: { delimiter: ;, header: [a] }",
                "None CsvLayout { delimiter: Some(';'), header: Names([\"a\"]) }",
            ),
            (
                "format: csv\ncsv: { delimiter: ; }",
                "Some(Csv) CsvLayout { delimiter: Some(';'), header: FirstLine }",
            ),
            (
                "format: { type: csv, delimiter: ; }",
                "Some(Csv) CsvLayout { delimiter: Some(';'), header: FirstLine }",
            ),
        ] {
            let source = source(yaml);
            let told = source.format.as_ref().map(|told| &told.value);
            assert_eq!(layout_text(told, &source.csv), text, "{yaml}");
        }
    }

    #[test]
    fn what_is_no_format_is_told_where_it_stands() {
        for (yaml, told) in [
            (
                "format: cvs",
                "x:1:9: unknown format \"cvs\", did you mean \"csv\"?; known are ",
            ),
            (
                "format: excel",
                "x:1:9: unknown format \"excel\"; known are ",
            ),
            (
                "format:\n  delimiter: ;\n  type: xml",
                "x:3:9: unknown format \"xml\"; known are ",
            ),
            (
                "format:\n  type: jsonl\n  delimiter: ;",
                "x:3:3: the format `jsonl` takes no \"delimiter\"; that is for `csv`",
            ),
            (
                "format:\n  type: csv\n  delimter: ;",
                "x:3:3: the format `csv` takes no \"delimter\"; did you mean \"delimiter\"?",
            ),
            (
                "format:\n  type: csv\n  quotes: no",
                "x:3:3: the format `csv` takes no \"quotes\"; it takes delimiter, header",
            ),
            (
                "format: { type: json, quotes: no }",
                "x:1:23: the format `json` takes no \"quotes\"; it takes no options",
            ),
            (
                "format: { delimiter: ; }",
                "x:1:9: the key \"type\" is missing",
            ),
            (
                "format:\n  type: csv\n  header: false",
                "x:3:11: a file without a header line needs its column names as a list here",
            ),
        ] {
            let found = read::<Source>("x", yaml).findings;
            let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
            let told = match told.ends_with("known are ") {
                true => format!("{told}{}", Told::NAMES.join(", ")),
                false => told.to_owned(),
            };
            assert!(
                shown.len() == 1 && shown[0].starts_with(&told),
                "{yaml}: {shown:?}"
            );
        }
    }

    #[test]
    fn options_of_csv_stand_at_one_place() {
        let misplaced = |yaml: &str, file: &str| {
            let source = source(yaml);
            let told = source.format.as_ref().map(|told| &told.value);
            csv_misplaced(source.of(file).as_ref(), told).map(|(message, _)| message)
        };
        assert_eq!(misplaced("format: csv", "a"), None);
        assert_eq!(misplaced("{}", "a"), None);
        assert!(misplaced("{}", "a.json").unwrap().contains("is for CSV"));
        let twice = misplaced("format: { type: csv, delimiter: ; }", "a");
        assert!(twice.unwrap().contains("says again"));
    }

    #[test]
    fn what_to_write_is_every_word_that_says_enough() {
        assert_eq!(
            FormatEntry::advice(),
            "add `format: csv`, `jsonl`, `json` or `parquet`"
        );
    }
}
