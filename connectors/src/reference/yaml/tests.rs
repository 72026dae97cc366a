use super::*;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Shop {
    name: String,
    #[serde(default)]
    rows: Vec<Row>,
    open: Option<bool>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Row {
    price: Spanned<String>,
    per: Option<u64>,
    #[serde(default)]
    when: BTreeMap<String, String>,
    unit: Option<Unit>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Unit {
    PerUnit,
    PerBlock,
}

fn good(text: &str) -> Shop {
    let read = read::<Shop>("shop.yaml", text);
    assert_eq!(read.findings, []);
    read.value.unwrap()
}

/// The findings of a text, as a person sees them.
fn bad(text: &str) -> String {
    let read = read::<Shop>("shop.yaml", text);
    let lines: Vec<String> = read.findings.iter().map(ToString::to_string).collect();
    lines
        .join("\n")
        .replace("shop.yaml:", "")
        .replace("\n  hint: ", " | ")
}

#[test]
fn numbers_stay_the_text_that_was_written() {
    for text in [
        "3e-07",
        "0.10",
        "1_000",
        "0x10",
        "12345678901234567890.123456789",
        "true",
        "1:30",
    ] {
        let shop = good(&format!("name: {text}\nrows:\n  - price: {text}\n"));
        assert_eq!(shop.name, text);
        assert_eq!(shop.rows[0].price.value, text);
    }
}

#[test]
fn places_are_lines_and_columns_from_one() {
    let shop = good("name: x\nrows:\n  - per: 5\n    price: \"0.1\"\n  - { price: 7 }\n");
    let places: Vec<_> = shop.rows.iter().map(|row| place_of(&row.price)).collect();
    assert_eq!(places, [(4, 12), (5, 14)]);
}

#[test]
fn every_mistake_is_found_at_once() {
    let text = "\
name: [a]
rows:
  - prize: 1
    price: 1
  - price: 2
    per: many
    per: 3
  - per: 4
  - price: 3
    unit: per_unti
  - just text
opne: true
";
    assert_eq!(
        bad(text),
        "\
1:7: expected text, found a list
3:5: unknown key \"prize\" | did you mean \"price\"?
6:10: expected a whole number from 0 to 18446744073709551615, found \"many\"
7:5: the key \"per\" is given twice; first in line 6
8:5: the key \"price\" is missing
10:11: unknown value \"per_unti\" | did you mean \"per_unit\"?
11:5: expected a mapping, found \"just text\"
12:1: unknown key \"opne\" | did you mean \"open\"?"
    );
}

#[test]
fn what_is_empty_is_absent() {
    let shop = good("name: x\nrows:\nopen: ~\n");
    assert_eq!(
        shop,
        Shop {
            name: "x".into(),
            rows: vec![],
            open: None
        }
    );
    assert_eq!(
        bad("name: x\nopen:\nrows: [{ price: 1, per: }]\n"),
        "2:5: the key has no value | write the value, or leave the key out; between { } quote text that holds a comma\n\
         3:23: the key has no value | write the value, or leave the key out; between { } quote text that holds a comma"
    );
    assert_eq!(bad(""), "1:1: the key \"name\" is missing");
    assert_eq!(
        bad("name:"),
        "1:5: expected text, found nothing | write a value; between { } quote text that holds a comma"
    );
}

#[test]
fn aliases_are_followed_and_cannot_explode() {
    let shop = good("name: x\nrows: [&a { price: 1, when: {m: \"4\"} }, *a]\n");
    assert_eq!(shop.rows[0].when, shop.rows[1].when);
    assert_eq!(place_of(&shop.rows[1].price).0, 2);
    let mut bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
    for i in 1..12 {
        let uses = format!("*a{}, ", i - 1).repeat(10);
        bomb.push_str(&format!("a{i}: &a{i} [{uses}]\n"));
    }
    assert!(
        bad(&bomb).contains("aliases for more than"),
        "{}",
        bad(&bomb)
    );
    assert!(bad(&format!("name: {}{}", "[".repeat(40), "]".repeat(40))).contains("nested deeper"));
    assert_ne!(bad(&"[".repeat(100_000)), "");
}

#[test]
fn broken_syntax_has_a_place() {
    for text in [
        "name: 'x",
        "name: x\n\trows: 1",
        "a: b: c",
        "name: *nobody",
        "%",
        "- ]",
        "\u{0}",
    ] {
        let findings = read::<Shop>("shop.yaml", text).findings;
        assert!(
            !findings.is_empty() && findings[0].line > 0,
            "{text:?}: {findings:?}"
        );
    }
    assert!(bad("name: x\n---\nname: y\n").contains("second document"));
}

#[test]
fn a_file_full_of_mistakes_ends() {
    let text = format!("name: x\nrows:\n{}", "  - {}\n".repeat(1000));
    assert_eq!(
        read::<Shop>("shop.yaml", &text).findings.len(),
        FINDINGS_MAX
    );
}

#[test]
fn tags_and_merge_keys_are_refused_where_they_stand() {
    assert_eq!(
        bad("name: !secret x\n"),
        "1:15: the tag \"!secret\" is not known here | leave the tag out, and quote what is to be taken as text"
    );
    assert_eq!(good("name: !!str 0042\n").name, "0042");
    let merged = bad("name: x\nrows: [&a { price: 1 }, { <<: *a, per: 2 }]\n");
    assert!(merged.starts_with("2:27: merge keys"), "{merged}");
}

#[test]
fn what_begins_a_file_and_ends_its_lines_does_not_matter() {
    let text = "name: x\nrows:\n  - price: 1\n    when: { a: \"b\" }\n";
    let plain = good(text);
    assert_eq!(good(&format!("\u{feff}{text}")), plain);
    assert_eq!(good(&text.replace('\n', "\r\n")), plain);
    let late = bad(&format!("\u{feff}{}", text.replace("price", "prize")));
    assert_eq!(late, "3:5: unknown key \"prize\" | did you mean \"price\"?");
}

#[test]
fn nothing_is_a_text_only_in_quotes() {
    for nothing in ["null", "~", "Null", "NULL"] {
        let told = bad(&format!("name: {nothing}\n"));
        assert_eq!(
            told,
            format!(
                "1:7: expected text, found {nothing}, which is nothing | quote it if it is meant as text"
            )
        );
        assert_eq!(good(&format!("name: \"{nothing}\"\n")).name, nothing);
    }
}
