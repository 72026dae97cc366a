//! What all formats have in common.

use super::*;
use std::path::Path;

/// The fields of a file of this name and content.
pub(super) fn fields(name: &str, content: &str) -> Fields {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), content).unwrap();
    let store = Store::open(&folder.path().display().to_string(), Path::new("")).unwrap();
    let file = store.find(name).unwrap();
    fields_of(&store, &file, Format::of_name(name).unwrap()).unwrap()
}

#[test]
fn formats_follow_from_names() {
    let named = |name: &str| Format::of_name(name).map(|format| format.described());
    assert_eq!(
        named("a/b.CSV.gz").as_deref(),
        Some("csv, fields end at ','")
    );
    assert_eq!(named("b.tsv").as_deref(), Some("csv, fields end at '\\t'"));
    assert_eq!(named("b.ndjson.zst").as_deref(), Some("JSON lines"));
    assert_eq!(named("b.parquet").as_deref(), Some("Parquet"));
    assert_eq!(named("b.tar.gz"), None);
    assert_eq!(named("b"), None);
}

/// Archives of raw records say of what format their source was.
#[test]
fn a_format_is_written_as_it_always_was() {
    for (name, text) in [
        ("a.csv", r#"{"type":"csv","delimiter":",","header":null}"#),
        ("a.jsonl", r#"{"type":"json_lines"}"#),
        ("a.json", r#"{"type":"json"}"#),
        ("a.parquet", r#"{"type":"parquet"}"#),
    ] {
        let format = Format::of_name(name).unwrap();
        assert_eq!(serde_json::to_string(&format).unwrap(), text);
        assert_eq!(serde_json::from_str::<Format>(text).unwrap(), format);
    }
}

#[test]
fn a_text_shows_its_format_by_its_first_character() {
    let begins = |text: &[u8]| Format::of_beginning(text).described();
    assert_eq!(begins(b"\n {\"item\": 1}"), "JSON lines");
    assert_eq!(begins(b"[{}]"), "JSON");
    assert_eq!(begins(b"item,quantity"), "csv, fields end at ','");
    assert_eq!(begins(b""), "csv, fields end at ','");
}
