use super::super::conformance::{Conforms, Record, Sample, TEXT};
use super::super::{CsvLayout, Format, FormatEntry, format_of};
use super::*;
use crate::decode::Decoder;
use crate::decode::tests::{columns, shown};
use crate::reference::yaml::read;
use millrace_operators::domain::FileId;
use std::io::Cursor;

/// Records of twenty bytes: a number of ten, a text of eight, a note of one, and a byte that is nobody's.
fn records(records: &[Record], end: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for [a, b, note] in records {
        let fill = |count: usize| vec![b' '; count];
        let (before, behind) = (fill(10 - a.len()), fill(8 - b.len()));
        let parts: [&[u8]; 7] = [&before, a, b, &behind, note, b"-", end];
        bytes.extend(parts.concat());
    }
    bytes
}

impl Conforms for Fixed {
    fn samples() -> Vec<Sample> {
        let field = |start, length| FixedField {
            start,
            length,
            filler: None,
            align: None,
            decimals: None,
        };
        let sample = |line_ends, write: fn(&[Record]) -> Vec<u8>, damage| {
            let fields = [("a", 1, 10), (TEXT, 11, 8), ("note", 19, 1)];
            let fields =
                fields.map(|(name, start, length)| (name.to_owned(), field(start, length)));
            Sample {
                name: "a.dat",
                format: Format::Fixed(Fixed {
                    length: 20,
                    line_ends,
                    fields: fields.into(),
                }),
                write,
                lines: Some((1, 1)),
                damage: Some(damage),
                has_end: false,
            }
        };
        vec![
            sample(true, |all| records(all, b"\n"), b"        20two     y\n"),
            sample(
                true,
                |all| records(all, b"\r\n"),
                b"        20two      y--\r\n",
            ),
            sample(false, |all| records(all, b""), b"        20\ntwo    y-"),
        ]
    }
}

/// The format that somebody wrote, or what is told of it.
fn told(yaml: &str) -> Result<Fixed, Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Source {
        format: FormatEntry,
    }
    let read = read::<Source>("x", yaml);
    match read
        .value
        .and_then(|source| format_of("a", Some(&source.format), &CsvLayout::default()))
    {
        Some(Format::Fixed(fixed)) if read.findings.is_empty() => Ok(fixed),
        _ => Err(read.findings.iter().map(ToString::to_string).collect()),
    }
}

fn rows(format: &Fixed, text: &str, wanted: &[(&str, &str)]) -> Vec<String> {
    let input = Box::new(Cursor::new(text.as_bytes().to_vec()));
    let (format, columns) = (Format::Fixed(format.clone()), columns(wanted));
    let options = DecodeOptions::default();
    let decoder = Decoder::from_reader(input, "a", FileId(7), &format, &columns, &options);
    shown(decoder.unwrap())
}

#[test]
fn a_layout_that_cannot_be_is_told_where_it_stands() {
    let layout = |fields: &str| format!("format:\n  type: fixed\n  fields:\n{fields}");
    for (fields, found) in [
        (
            "    a: { start: 1, length: 10 }\n    b: { start: 10, length: 2 }",
            "x:5:8: the fields \"a\" (bytes 1 to 10) and \"b\" (bytes 10 to 11) overlap; correct",
        ),
        (
            "    a: { start: 5, length: 1 }\n    b: { start: 1, length: 9 }",
            "x:5:8: the fields \"a\" (bytes 5 to 5) and \"b\" (bytes 1 to 9) overlap",
        ),
        (
            "    a: { start: 0, length: 10 }",
            "x:4:8: the first byte of a record is 1",
        ),
        (
            "    a: { start: 1, length: 0 }",
            "x:4:8: a field has one byte at least",
        ),
        (
            "    a: { start: 1 }",
            "x:4:8: the key \"length\" is missing",
        ),
        (
            "    a: { start: 1, length: 4, filler: 0 }",
            "x:4:8: '0' cannot be a filler, because values hold it; leave it out",
        ),
        (
            "    a: { start: 1, length: 4, decimals: 39 }",
            "x:4:8: a number has 38 decimals at most",
        ),
        (
            "    a: { start: 1, length: 4, width: 3 }",
            "x:4:31: unknown key \"width\"",
        ),
        (
            "    a: { start: 1, length: 4 }\n  length: 3",
            "x:2:3: the field \"a\" (bytes 1 to 4) ends behind its record, which has 3 bytes",
        ),
        (
            "    a: { start: 1, length: 4 }\n  length: 8388609",
            "x:2:3: a record has from 1 to 8388608 bytes",
        ),
        (
            "    a: { start: 4294967295, length: 4294967295 }",
            "x:2:3: a record has from 1 to 8388608 bytes",
        ),
    ] {
        let shown = told(&layout(fields)).unwrap_err();
        assert!(
            shown.len() == 1 && shown[0].starts_with(found),
            "{fields}: {shown:?}"
        );
    }
    let word = told("format: fixed").unwrap_err();
    assert!(
        word[0].starts_with(
            "x:1:9: the format `fixed` needs options, missing field `fields`; write `format: {"
        ),
        "{word:?}"
    );
}

#[test]
fn a_record_ends_with_its_last_field_unless_told() {
    let format = told("format: { fields: { a: { start: 3, length: 2 } }, type: fixed }").unwrap();
    assert_eq!((format.length, format.line_ends), (4, true));
    let format = told("format: { type: fixed, length: 9, fields: { a: { start: 3, length: 2 } } }");
    assert_eq!(format.unwrap().length, 9);
}

#[test]
fn bytes_become_values_as_their_field_says() {
    let format = told(
        "format:
  type: fixed
  fields:
    id: { start: 1, length: 6 }
    left: { start: 7, length: 4, filler: '*', align: left }
    right: { start: 11, length: 4, filler: '*', align: right }
    amount: { start: 15, length: 6, decimals: 2 }
    whole: { start: 21, length: 3, decimals: 0 }",
    )
    .unwrap();
    let wanted = [
        ("id", ""),
        ("left", ""),
        ("right", ""),
        ("amount", "decimal(9,2)"),
        ("whole", "bigint"),
    ];
    let lines = [
        "  a b *x****x*012345007",
        "      ********    -5 +1",
        "caf\u{e9} ********    12  0",
        "",
        "                       ",
        "x     ********  12.3   ",
        "x     ********12345X   ",
        "x     ********- 12     ",
        "x     ********-        ",
        "short",
        "x     ********     1   too long",
        "x\0y   ********     1   ",
    ];
    assert_eq!(
        rows(&format, &lines.join("\n"), &wanted),
        [
            "0@1 a b|*x|x*|123.45|7",
            "1@2 NULL|NULL|NULL|-0.05|1",
            "2@3 caf\u{e9}|NULL|NULL|0.12|0",
            "3@5 NULL|    |    |NULL|NULL",
            "4@6 FIELD_UNPARSABLE amount: \"12.3\" is no whole number, the last 2 digits of which are decimals",
            "5@7 FIELD_UNPARSABLE amount: \"12345X\" is no whole number, the last 2 digits of which are decimals",
            "6@8 FIELD_UNPARSABLE amount: \"- 12\" is no whole number, the last 2 digits of which are decimals",
            "7@9 FIELD_UNPARSABLE amount: \"-\" is no whole number, the last 2 digits of which are decimals",
            "8@10 ROW_UNREADABLE: 5 bytes instead of 23: \"short\"",
            "9@11 ROW_UNREADABLE: 31 bytes instead of 23: \"x     ********     1   too long\"",
            "10@12 FIELD_UNPARSABLE id: \"x\\0y\" holds a NUL byte",
        ]
    );
    // A character of two bytes is cut by the end of its field.
    let cut = rows(
        &format,
        "12345\u{e9}*******         ",
        &[("id", ""), ("whole", "")],
    );
    assert_eq!(
        cut,
        ["0@1 FIELD_UNPARSABLE id: \"12345\u{fffd}\" is not UTF-8 text"]
    );
}

#[test]
fn records_without_line_ends_are_told_where_bytes_are_lost() {
    let format =
        told("format: { type: fixed, line_ends: false, fields: { a: { start: 1, length: 4 } } }");
    let format = format.unwrap();
    let read = |text: &str| rows(&format, text, &[("a", "bigint")]);
    assert_eq!(read("0001 002   3"), ["0@1 1", "1@2 2", "2@3 3"]);
    assert_eq!(
        read("0001 00"),
        [
            "0@1 1",
            "1@2 FILE_UNREADABLE: the file is not records of one length: it ends inside of a record, which \
             has 3 bytes instead of 4",
        ]
    );
    let lines = read("0001\n002");
    assert!(
        lines[1].starts_with("1@2 ROW_UNREADABLE: a line end stands inside of a record"),
        "{lines:?}"
    );
}
