//! The words that a field takes are those that its schema offers: every text of a job and its files is
//! replaced by a word that nothing has and, where that is refused, by each word that the refusal or the
//! field's description names.

use millrace::check::check;
use millrace::schema::{FileKind, schema};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_tests::jobs::Desk;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A word that nothing has.
const NOTHING: &str = "zzznothing";

/// What the documents below call things.
const OWN: [&str; 6] = ["region", "zone", "zones", "more", "other", "name"];

/// A text in a file: the definition and the property that it is of, and where it stands.
#[derive(Clone, Debug)]
struct Site {
    of: String,
    property: String,
    pointer: String,
    /// What the schema says of the property.
    schema: Value,
}

fn resolved<'s>(root: &'s Value, schema: &'s Value) -> (Option<String>, &'s Value) {
    match schema["$ref"].as_str() {
        Some(to) => {
            let name = to.rsplit('/').next().unwrap().to_owned();
            (Some(name), root.pointer(&to[1..]).unwrap())
        }
        None => (None, schema),
    }
}

/// A schema and its alternatives, with the definitions that they are of.
fn alternatives<'s>(root: &'s Value, of: &str, schema: &'s Value) -> Vec<(String, &'s Value)> {
    let (name, schema) = resolved(root, schema);
    let of = name.unwrap_or_else(|| of.to_owned());
    let mut all = vec![(of.clone(), schema)];
    for key in ["anyOf", "oneOf"] {
        for other in schema[key].as_array().into_iter().flatten() {
            all.extend(alternatives(root, &of, other));
        }
    }
    all
}

/// Every text of a value, by the property that it is of.
fn sites(
    root: &Value,
    (of, schema): (&str, &Value),
    value: &Value,
    (property, pointer): (Option<(&str, &str, &Value)>, &str),
    found: &mut Vec<Site>,
) {
    if value.is_string()
        && let Some((of, property, schema)) = property
    {
        found.push(Site {
            of: of.to_owned(),
            property: property.to_owned(),
            pointer: pointer.to_owned(),
            schema: schema.clone(),
        });
    }
    for (of, schema) in alternatives(root, of, schema) {
        for (key, value) in value.as_object().into_iter().flatten() {
            let pointer = format!("{pointer}/{key}");
            if let Some(inner) = schema["properties"].get(key) {
                let property = Some((of.as_str(), key.as_str(), inner));
                sites(root, (&of, inner), value, (property, &pointer), found);
            } else if schema["additionalProperties"].is_object() {
                let inner = &schema["additionalProperties"];
                sites(root, (&of, inner), value, (property, &pointer), found);
            }
        }
        for (at, value) in value.as_array().into_iter().flatten().enumerate() {
            let pointer = format!("{pointer}/{at}");
            sites(
                root,
                (&of, &schema["items"]),
                value,
                (property, &pointer),
                found,
            );
        }
    }
}

/// The words that a schema offers for a text.
fn offered(root: &Value, schema: &Value, words: &mut BTreeSet<String>) {
    for (_, schema) in alternatives(root, "", schema) {
        let listed = schema["enum"].as_array().into_iter().flatten();
        let listed = listed.chain(schema.get("const"));
        words.extend(listed.filter_map(Value::as_str).map(str::to_owned));
        for key in ["items", "additionalProperties"] {
            if schema[key].is_object() {
                offered(root, &schema[key], words);
            }
        }
    }
}

/// Whether a property is or holds a text.
fn takes_text(root: &Value, schema: &Value) -> bool {
    alternatives(root, "", schema).iter().any(|(_, schema)| {
        let texts = [&schema["items"], &schema["additionalProperties"]];
        schema["type"].as_str() == Some("string")
            || schema["type"]
                .as_array()
                .is_some_and(|t| t.contains(&json!("string")))
            || texts
                .iter()
                .any(|inner| inner.is_object() && takes_text(root, inner))
    })
}

/// Lone words between quotes of one kind or another, or in a list behind "one of".
fn named(text: &str) -> BTreeSet<String> {
    let is_word =
        |word: &&str| word.len() > 1 && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let quoted = text.split(['`', '"']).skip(1).step_by(2);
    let listed = text.split_once("one of ").map_or("", |(_, list)| list);
    let listed = listed.split([',', ' ']).map(str::trim);
    let words = quoted.chain(listed).filter(is_word);
    words.map(str::to_owned).collect()
}

type Files = BTreeMap<&'static str, Value>;

/// What `check` finds, as messages with their hints.
fn found(files: &Files) -> BTreeSet<(String, String)> {
    let desk = Desk::new(&[
        (
            "usage/a.csv",
            "id,t,svc,region,n\n1,2026-03-02T00:00:00Z,x,eu,5\n",
        ),
        ("prices.csv", "item,price\ncalls,1\n"),
        ("customers.csv", "id,key\nc1,k1\n"),
        ("zones.csv", "zone,name\neu,Europe\n"),
    ]);
    for (name, content) in files {
        desk.write(name, content.to_string());
    }
    let text = |d: Diagnostic| (d.message, d.hint);
    check(&desk.at("job.yaml")).into_iter().map(text).collect()
}

fn documents() -> Vec<Files> {
    let rule = json!({
        "columns": { "t": { "type": "timestamp", "zone": "UTC", "ambiguous": "earlier", "may_be": "empty" },
                     "n": "bigint", "region": { "type": "text", "may_be": ["empty"] } },
        "let": { "zone": "lookup('zones', 'name', region)" },
        "where": "n > 0", "identity": ["id"], "keep": "last", "kind": "'usage'", "version": "n",
        "service": "svc", "time": "t", "attributes": { "region": "region", "zone": "zone" },
        "charges": { "calls": "n" },
    });
    // Options of each format.
    let csv = json!({ "type": "csv", "delimiter": ",", "header": ["zone", "name"] });
    let fixed = json!({ "type": "fixed", "length": "7", "fields": {
        "zone": { "start": "1", "length": "2", "filler": "*", "align": "left" },
        "name": { "start": "3", "length": "5", "decimals": "0" } } });
    let job = json!({
        "name": "words", "time_zone": "UTC", "clock": "2026-04-01",
        "time": { "earliest": "2020-01-01", "ahead": "400d" },
        "sources": [{
            "name": "a", "platform": "p", "service_type": "api", "record_type": "postpaid",
            "path": "usage", "include": ["*.csv"], "exclude": ["b*.csv"], "format": "csv",
            "csv": { "delimiter": ",", "header": ["id", "t", "svc", "region", "n"] }, "after": "mark",
            "on_change": "amend", "missing": "void", "identity": "own", "mediation": "rule.yaml",
        }],
        "lookups": { "zones": { "file": "zones.csv", "key": "zone", "format": "csv", "csv": { "delimiter": "," } },
                     "more": { "file": "zones.csv", "key": "zone", "format": csv },
                     "other": { "file": "zones.csv", "key": "zone", "format": fixed } },
        "catalog": ["catalog.yaml"], "accounts": ["accounts.yaml"],
        "billing": { "aggregate_by": ["region"] },
        "outputs": { "folder": "out" },
        "archive": { "folder": "closed", "after": "10d", "adjust": "1h" },
        "metrics": { "listen": "127.0.0.1:0" },
        "durability": { "folder": "state", "interval": "1s" },
    });
    let kafka = json!({
        "name": "words", "time_zone": "UTC",
        "sources": [
            { "name": "a", "platform": "p", "service_type": "api", "mediation": "rule.yaml",
              "kafka": { "brokers": "127.0.0.1:9", "settings": { "client.id": "x" }, "topics": ["usage"],
                         "format": { "type": "json" }, "from": "latest" } },
            { "name": "b", "was": "c", "platform": "q", "service_type": "api", "mediation": rule,
              "kafka": { "brokers": "127.0.0.1:9", "topics": ["more"], "removed": "skip",
                         "format": { "type": "avro", "registry": "http://127.0.0.1:9", "subject": "s" } } },
        ],
        "catalog": ["catalog.yaml", { "kafka": { "brokers": "127.0.0.1:9", "settings": { "client.id": "x" },
                                                 "topics": ["prices"], "version": "v" } }],
        "accounts": ["accounts.yaml"],
        "lookups": { "zones": { "file": "zones.csv", "key": "zone" } },
        "outputs": { "kafka": { "brokers": "127.0.0.1:9", "settings": { "client.id": "x" }, "progress": "p",
                                "topics": { "activity": "t1", "aggregated": "t2", "balances": "t3",
                                            "monetised": "t4", "notices": "t5", "suspense": "t6" } } },
        "durability": { "folder": "state" },
    });
    let term = |mut part: Value| {
        let part_of = part.as_object_mut().unwrap();
        for (key, value) in [
            ("currency", "USD"),
            ("cycle", "month"),
            ("every", "1"),
            ("anchor", "account"),
        ] {
            part_of.insert(key.to_owned(), json!(value));
        }
        part
    };
    let catalog = json!({
        "currency": "USD",
        "prices": [
            { "id": "p1", "list": "standard", "account": "acme", "item": "calls", "when": { "region": "eu" },
              "price": "1", "per": "1", "model": "per_unit", "from": "2026-01-01", "to": "2026-02-01",
              "priority": "1", "currency": "USD" },
            { "item": "calls", "when": { "region": "us" }, "price": "1", "block": "2" },
            { "item": "calls", "model": "graduated", "by": "total",
              "tiers": [{ "from": "0", "price": "1", "per": "2" }] },
        ],
        "tables": [{ "file": "prices.csv", "format": "csv", "csv": { "delimiter": ",", "header": ["item", "price"] },
                     "columns": { "price": "text" }, "where": "price <> ''",
                     "prices": [{ "item": "item", "list": "'two'", "when": { "region": "'eu'" }, "price": "price" }] },
                   { "file": "zones.csv", "format": csv, "prices": [{ "item": "'none'", "price": "NULL" }] },
                   { "file": "zones.csv", "format": fixed, "prices": [{ "item": "'none'", "price": "NULL" }] }],
        "plans": [{
            "list": "standard", "from": "2026-01-01", "to": "2027-01-01",
            "allowances": [
                { "id": "a1", "units": "1", "priority": "1", "grant": "recurring", "rollover_cycles": "1",
                  "rollover_cap": "1", "items": ["calls"], "thresholds": ["50"], "proration": "prorate",
                  "cycle": "month", "every": "1", "anchor": "account" },
                { "id": "a2", "money": "1", "currency": "USD", "grant": "once", "lasts": "2" },
            ],
            "accumulators": [
                { "id": "total", "counts": "units", "percent": "100", "activation": "1", "recurring": "1",
                  "items": ["calls"], "thresholds": ["5"] },
                term(json!({ "id": "spent", "counts": "money" })),
            ],
            "caps": [term(json!({ "id": "c", "limit": "100", "items": ["calls"], "thresholds": ["50"] }))],
            "commitments": [
                term(json!({ "id": "m", "accumulator": "spent", "amount": "1", "counts": "money",
                             "proration": "prorate" })),
                { "id": "n", "amount": "1", "counts": ["spend", "recurring"], "items": ["calls"] },
            ],
            "charges": [term(json!({ "id": "f", "item": "fee", "amount": "1", "when": "advance",
                                     "proration": "prorate" }))],
        }],
    });
    let accounts = json!({
        "accounts": [{ "id": "acme", "currency": "USD",
                       "billing": { "cycle": "month", "every": "1", "anniversary": "2026-01-01" } }],
        "subscriptions": [
            { "id": "s1", "account": "acme", "from": "2026-01-01", "to": "2027-01-01", "price_lists": ["standard"],
              "status": "active", "group": "g", "service_type": "api",
              "services": ["x", { "id": "y", "type": "api", "from": "2026-01-01", "to": "2026-02-01" }] },
            { "id": "s2", "account": "acme", "from": "2026-01-01", "parent": "s1" },
        ],
        "tables": [{ "file": "customers.csv", "format": "csv",
                     "csv": { "delimiter": ",", "header": ["id", "key"] }, "columns": { "id": "text" },
                     "where": "id <> ''",
                     "accounts": [{ "id": "id", "currency": "'USD'", "cycle": "'month'", "every": "'1'",
                                    "anniversary": "'2026-01-01'" }],
                     "subscriptions": [
                        { "id": "id", "account": "id", "from": "'2026-01-01'", "to": "'2027-01-01'",
                          "price_list": "'standard'", "status": "'active'", "group": "id" },
                        { "id": "concat(id, 'b')", "account": "id", "from": "'2026-01-01'", "parent": "id" }],
                     "services": [{ "service_type": "'api'", "service": "key", "subscription": "id",
                                    "from": "'2026-01-01'", "to": "'2027-01-01'" }] },
                   { "file": "zones.csv", "format": csv, "accounts": [{ "id": "NULL", "currency": "'USD'" }] },
                   { "file": "zones.csv", "format": fixed, "accounts": [{ "id": "NULL", "currency": "'USD'" }] }],
    });
    [job, kafka]
        .into_iter()
        .map(|job| {
            let files = [
                ("catalog.yaml", &catalog),
                ("accounts.yaml", &accounts),
                ("rule.yaml", &rule),
            ];
            let files = files.map(|(name, content)| (name, content.clone()));
            files.into_iter().chain([("job.yaml", job)]).collect()
        })
        .collect()
}

/// The files of a document with their schemas.
const KINDS: [(&str, FileKind); 4] = [
    ("job.yaml", FileKind::Job),
    ("catalog.yaml", FileKind::Catalog),
    ("accounts.yaml", FileKind::Accounts),
    ("rule.yaml", FileKind::Mediation),
];

/// What `check` says more when a text is this word.
fn said(
    files: &Files,
    file: &'static str,
    site: &Site,
    word: &str,
    known: &BTreeSet<(String, String)>,
) -> Vec<(String, String)> {
    let mut files = files.clone();
    let place = files.get_mut(file).unwrap().pointer_mut(&site.pointer);
    *place.unwrap() = json!(word);
    found(&files).difference(known).cloned().collect()
}

#[test]
fn a_field_takes_the_words_that_its_schema_offers() {
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    let mut wrong = Vec::new();
    for files in documents() {
        let known = found(&files);
        for (file, kind) in KINDS {
            let root = schema(kind).to_value();
            let mut all = Vec::new();
            sites(&root, ("", &root), &files[file], (None, ""), &mut all);
            for site in all {
                if !seen.insert((
                    format!("{} {}", kind.name(), site.of),
                    site.property.clone(),
                )) {
                    continue;
                }
                let refused = said(&files, file, &site, NOTHING, &known);
                let refused: Vec<_> = refused
                    .into_iter()
                    .filter(|(m, _)| m.contains(NOTHING))
                    .collect();
                let Some((message, hint)) = refused.first() else {
                    continue;
                };
                let mut words = BTreeSet::new();
                offered(&root, &site.schema, &mut words);
                let description = site.schema["description"].as_str().unwrap_or_default();
                let mut tried = words.clone();
                for text in [message.as_str(), hint, description] {
                    tried.extend(named(text));
                }
                tried.retain(|word| word != NOTHING && !OWN.contains(&word.as_str()));
                let is_taken = |word: &String| {
                    // Behind the fault may stand a word that is like this one.
                    let fault = |message: &str| message.split("; ").next().map(str::to_owned);
                    let alike = fault(&message.replace(NOTHING, word));
                    let said = said(&files, file, &site, word, &known);
                    said.iter().all(|(message, _)| fault(message) != alike)
                };
                let taken: BTreeSet<String> = tried.into_iter().filter(is_taken).collect();
                if taken != words {
                    wrong.push(format!(
                        "{} of {} in {} takes {taken:?}, and its schema offers {words:?}: {message}",
                        site.property, site.of, kind.name()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // No field is passed over.
    for (file, kind) in KINDS {
        let root = schema(kind).to_value();
        let definitions = root["$defs"].as_object().into_iter().flatten();
        let definitions = definitions.map(|(name, definition)| (name.as_str(), definition));
        for (of, definition) in definitions.chain([("", &root)]) {
            for (of, alternative) in alternatives(&root, of, definition) {
                for (name, property) in alternative["properties"].as_object().into_iter().flatten()
                {
                    let place = (format!("{} {of}", kind.name()), name.clone());
                    assert!(
                        !takes_text(&root, property) || seen.contains(&place),
                        "{name} of {of} is nowhere in {file}"
                    );
                }
            }
        }
    }
}
