mod frames;
mod parquet;

use super::*;
use crate::store::Store;
use arrow::array::{AsArray, RecordBatch};
use millrace_operators::domain::{FileId, Reason};
use std::io::{self, Write};
use std::sync::Arc;

pub(super) fn columns(wanted: &[(&str, &str)]) -> Vec<ColumnRequest> {
    let column = |(name, kind): &(&str, &str)| {
        ColumnRequest::new(*name, (!kind.is_empty()).then(|| kind.parse().unwrap()))
    };
    wanted.iter().map(column).collect()
}

fn open(
    name: &str,
    format: &Format,
    bytes: impl Into<Vec<u8>>,
    wanted: &[(&str, &str)],
) -> Result<Decoder, DecodeError> {
    let input = Box::new(io::Cursor::new(bytes.into()));
    let options = DecodeOptions {
        chunk_rows: 2,
        ..DecodeOptions::default()
    };
    Decoder::from_reader(input, name, FileId(7), format, &columns(wanted), &options)
}

/// What was read, one line per row and per fault, in the order of the file.
pub(super) fn shown(mut decoder: Decoder) -> Vec<String> {
    let mut shown = Vec::new();
    while let Some(chunk) = decoder.next_chunk() {
        let faults = chunk
            .faults
            .iter()
            .filter(|f| f.reason != Reason::FileUnreadable)
            .count();
        assert_eq!(
            chunk.received,
            u64::try_from(chunk.rows.len() + faults).unwrap()
        );
        for (index, row) in chunk.rows.iter().enumerate() {
            let values = chunk.batch.columns().iter().map(|column| {
                let options = arrow::util::display::FormatOptions::default().with_null("NULL");
                let shown = arrow::util::display::ArrayFormatter::try_new(column, &options);
                shown.unwrap().value(index).to_string()
            });
            let line = chunk.lines.get(index).copied().unwrap_or(0);
            shown.push((
                *row,
                format!("{row}@{line} {}", values.collect::<Vec<_>>().join("|")),
            ));
        }
        for fault in chunk.faults {
            assert_eq!(fault.record.file(), FileId(7));
            let (row, line) = (fault.record.row(), fault.line);
            let place = format!("{row}@{line} {} {}", fault.reason.code(), fault.field);
            shown.push((row, format!("{}: {}", place.trim_end(), fault.detail)));
        }
    }
    shown.sort_by_key(|(row, _)| *row);
    shown.into_iter().map(|(_, line)| line).collect()
}

const CSV: Format = Format::Csv(Csv {
    delimiter: ',',
    header: None,
});

#[test]
fn csv_rows_keep_their_neighbours_mistakes_to_themselves() {
    let mut file = b"id,n,at\n1,10,2026-08-01T00:00:00Z\n2,ten,\n3,30\n\n".to_vec();
    file.extend_from_slice(b"4,\xff,\n5,50,1999-99-99\n6,a\0b,\n\"7\nseven\",70,\n8,,\n");
    let wanted = [("n", "bigint"), ("id", ""), ("at", "timestamp")];
    assert_eq!(
        shown(open("a.csv", &CSV, file, &wanted).unwrap()),
        [
            "0@2 10|1|2026-08-01T00:00:00Z",
            "1@3 FIELD_UNPARSABLE n: \"ten\" is not of type bigint",
            "2@4 ROW_UNREADABLE: 2 fields instead of 3: \"3,30\"",
            "3@6 FIELD_UNPARSABLE n: \"\u{fffd}\" is not UTF-8 text",
            "4@7 FIELD_UNPARSABLE at: \"1999-99-99\" is not of type timestamp",
            "5@8 ROW_UNREADABLE: \"6a\\0b\" holds a NUL byte",
            "6@9 70|7\nseven|NULL",
            "7@11 NULL|8|NULL",
        ]
    );
}

/// Bytes that are no text cost a record only where they are in a field that somebody wants.
#[test]
fn bytes_that_are_no_text_cost_only_the_fields_that_are_read() {
    let wanted = [("n", "bigint"), ("id", "")];
    let csv = b"id,n,note\na,1,caf\xe9\nb\xe9,2,x\nc,3,\xef\xbf\xbd\n\xef\xbf\xbd,4,x\n".to_vec();
    assert_eq!(
        shown(open("a.csv", &CSV, csv, &wanted).unwrap()),
        [
            "0@2 1|a",
            "1@3 FIELD_UNPARSABLE id: \"b\u{fffd}\" is not UTF-8 text",
            "2@4 3|c",
            "3@5 4|\u{fffd}",
        ]
    );
    let json: &[u8] = b"{\"id\":\"a\",\"n\":1,\"note\":\"caf\xe9\",\"k\xe9\":{\"id\":\"\xe9\"}}
{\"id\":\"b\xe9\",\"n\":2}\n{\"id\":\"c\",\"n\":3,\"note\":\"\xe9\n";
    let told = shown(
        open(
            "a.jsonl",
            &Format::JsonLines(JsonLines {}),
            json.to_vec(),
            &wanted,
        )
        .unwrap(),
    );
    assert_eq!(
        &told[..2],
        [
            "0@1 1|a",
            "1@2 FIELD_UNPARSABLE id: \"b\u{fffd}\" is not UTF-8 text",
        ]
    );
    assert!(told[2].starts_with("2@3 ROW_UNREADABLE") && told[2].ends_with("is not UTF-8 text"));
}

#[test]
fn a_quote_never_closed_costs_its_own_line_only() {
    let file = "a,b\n1,x\n2,\"y\n3,z\n4,w\n";
    assert_eq!(
        shown(open("a.csv", &CSV, file, &[("a", "")]).unwrap()),
        [
            "0@2 1",
            "1@3 ROW_UNREADABLE: a quote is never closed: \"2,\\\"y\"",
            "2@4 3",
            "3@5 4",
        ]
    );
}

#[test]
fn a_line_of_ten_megabytes_is_one_fault() {
    let long = "x".repeat(10 << 20);
    for file in [
        format!("a,b\n1,2\n{long},3\n4,5\n"),
        format!("a,b\n1,2\n\"{long},3\n4,5\n"),
    ] {
        let lines = shown(open("a.csv", &CSV, file, &[("a", "")]).unwrap());
        assert_eq!(
            lines.len(),
            3,
            "{:?}",
            lines
                .iter()
                .map(|l| &l[..l.len().min(90)])
                .collect::<Vec<_>>()
        );
        assert_eq!((lines[0].as_str(), lines[2].as_str()), ("0@2 1", "2@4 4"));
        assert!(lines[1].starts_with("1@3 ROW_UNREADABLE: a record of more than 8388608 bytes"));
        assert!(lines[1].len() < 300, "messages stay short");
    }
    let json = format!("{{\"a\":1}}\n{{\"a\":\"{long}\"}}\n{{\"a\":3}}\n");
    let lines = shown(
        open(
            "a.jsonl",
            &Format::JsonLines(JsonLines {}),
            json,
            &[("a", "")],
        )
        .unwrap(),
    );
    assert_eq!((lines.len(), lines[2].as_str()), (3, "2@3 3"));
    let json = format!("[{{\"a\":1}},\n{{\"a\":\"{long}\"}},\n{{\"a\":3}}]");
    let lines = shown(open("a.json", &Format::Json(Json {}), json, &[("a", "")]).unwrap());
    assert_eq!((lines.len(), lines[2].as_str()), (3, "2@3 3"));
}

#[test]
fn a_column_that_is_not_there_is_named_with_its_neighbours() {
    let error = open("a.csv", &CSV, "model,tokens\n", &[("modle", "")])
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "\"a.csv\" has no column \"modle\", did you mean \"model\"; its columns are model, tokens; \
         if files may lack it, declare it in `columns`: modle: { type: text, may_be: absent }"
    );
    let error = open("a.csv", &CSV, "a\n", &[("net cost", "decimal(12,3)")]).unwrap_err();
    let told = "`columns`: \"net cost\": { type: \"decimal(12,3)\", may_be: absent }";
    assert!(error.to_string().ends_with(told), "{error}");
    let kept = error.without_declaration().to_string();
    assert!(kept.ends_with("its columns are a"), "{kept}");
    let error = open("a.csv", &CSV, "a,b,a\n", &[("a", "")])
        .unwrap_err()
        .to_string();
    assert!(error.contains("names the column \"a\" twice"), "{error}");
    let error = open("a.csv", &CSV, b"\x1f\x8b\xff,b\n".as_slice(), &[("a", "")]).unwrap_err();
    assert!(error.to_string().contains("not UTF-8"), "{error}");
}

#[test]
fn headers_may_be_missing_and_delimiters_differ() {
    let header = Some(vec!["a".to_owned(), "b".to_owned()]);
    let format = Format::Csv(Csv {
        delimiter: ';',
        header,
    });
    assert_eq!(
        shown(open("a.csv", &format, "1;2\r\n3;4", &[("b", "")]).unwrap()),
        ["0@1 2", "1@2 4"]
    );
    assert!(shown(open("a.csv", &CSV, "", &[("b", "")]).unwrap()).is_empty());
    assert!(shown(open("a.csv", &CSV, "\u{feff}b\n", &[("b", "")]).unwrap()).is_empty());
}

#[test]
fn a_gzip_cut_short_gives_what_lies_before_the_cut() {
    let text: String = (0..50_000)
        .map(|row| format!("{row},{}\n", row * 7919 % 10_007))
        .collect();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder
        .write_all(format!("a,b\n{text}").as_bytes())
        .unwrap();
    let whole = encoder.finish().unwrap();
    let cut = whole[..whole.len() / 2].to_vec();
    let all = shown(open("a.csv.gz", &CSV, whole, &[("a", "bigint")]).unwrap());
    assert_eq!(all.len(), 50_000);
    let some = shown(open("a.csv.gz", &CSV, cut, &[("a", "bigint")]).unwrap());
    assert!(some.len() > 1000 && some.len() < 50_000);
    let (fault, rows) = some.split_last().unwrap();
    assert!(
        fault.contains("FILE_UNREADABLE: the file ends early"),
        "{fault}"
    );
    assert_eq!(rows, &all[..rows.len()]);
}

#[test]
fn zstandard_is_taken_off() {
    let bytes = zstd::encode_all("a\n1\n".as_bytes(), 1).unwrap();
    assert_eq!(
        shown(open("a.csv.zst", &CSV, bytes, &[("a", "")]).unwrap()),
        ["0@2 1"]
    );
}

/// Whichever bit of a compressed file changes: its rows are what they were, or it is told.
#[test]
fn one_bit_of_a_compressed_file_is_told() {
    let text: String = (0..40)
        .map(|row| format!("{row},{}\n", row * 7919))
        .collect();
    let text = format!("a,b\n{text}");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(text.as_bytes()).unwrap();
    let mut zstandard = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    zstandard.include_checksum(true).unwrap();
    zstandard.write_all(text.as_bytes()).unwrap();
    for (name, bytes) in [
        ("a.csv.gz", gzip.finish().unwrap()),
        ("a.csv.zst", zstandard.finish().unwrap()),
    ] {
        let read = |bytes: &[u8]| {
            let wanted = [("a", "bigint"), ("b", "bigint")];
            open(name, &CSV, bytes, &wanted).map(shown)
        };
        let whole = read(&bytes).unwrap();
        assert_eq!(whole.len(), 40);
        let mut told = 0;
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let is_told = match read(&damaged) {
                Ok(rows) => {
                    let broken = rows.iter().any(|row| row.contains("FILE_UNREADABLE"));
                    assert!(broken || rows == whole, "{name}, bit {bit}: {rows:?}");
                    broken
                }
                Err(_) => true,
            };
            told += usize::from(is_told);
        }
        assert!(told * 10 > bytes.len() * 8 * 7, "{name}: {told} are told");
    }
}

#[test]
fn json_lines_give_nested_fields_and_exact_numbers() {
    let file = concat!(
        "{\"id\":\"a\\u00e9\",\"usage\":{\"input_tokens\":12345678901234567890.125,\"x\":[1]}}\n",
        "{\"id\":null,\"usage\":{\"input_tokens\":1e3}}\n",
        "{\"id\":7,}\n",
        "[1]\n\n",
        "{\"id\":true,\"usage\":{\"input_tokens\":\"abc\"}}\n",
        "{\"usage.input_tokens\":5}",
    );
    let wanted = [("id", ""), ("usage.input_tokens", "decimal(38,3)")];
    let lines = shown(open("a.jsonl", &Format::JsonLines(JsonLines {}), file, &wanted).unwrap());
    assert_eq!(lines[0], "0@1 aé|12345678901234567890.125");
    assert_eq!(lines[1], "1@2 NULL|1000.000");
    assert!(
        lines[2].starts_with("2@3 ROW_UNREADABLE: trailing comma"),
        "{}",
        lines[2]
    );
    assert!(
        lines[3].starts_with("3@4 ROW_UNREADABLE: invalid type"),
        "{}",
        lines[3]
    );
    assert!(lines[4].starts_with("4@6 FIELD_UNPARSABLE usage.input_tokens: \"abc\""));
    assert_eq!(lines[5], "5@7 NULL|5.000");
}

#[test]
fn json_may_be_an_array_or_an_object_of_records() {
    let wanted = [("a", "bigint"), ("key", "")];
    let array = "[ {\"a\":1},\n {\"a\":2,\"s\":\"]},{\"}\n, 3, {\"a\":} , {\"a\":4}]";
    let lines = shown(open("a.json", &Format::Json(Json {}), array, &wanted).unwrap());
    assert_eq!(
        (lines[0].as_str(), lines[1].as_str()),
        ("0@1 1|NULL", "1@2 2|NULL")
    );
    assert!(
        lines[2].starts_with("2@3 ROW_UNREADABLE") && lines[3].starts_with("3@3 ROW_UNREADABLE")
    );
    assert_eq!(lines[4], "4@3 4|NULL");
    let object = "{\"gpt-4\": {\"a\":1},\n\"x\\\"y\": {\"a\":2}}\n";
    let lines = shown(open("a.json", &Format::Json(Json {}), object, &wanted).unwrap());
    assert_eq!(lines, ["0@1 1|gpt-4", "1@2 2|x\"y"]);
    for (broken, said) in [
        ("[{\"a\":1}", "it ends before its records do"),
        ("[{\"a\":1},{\"a\"", "it ends inside a record"),
        ("{\"k\" {\"a\":1}}", "a colon is missing"),
        ("[{\"a\":1} {\"a\":2}]", "a comma is missing"),
        ("hello", "neither"),
        ("[{\"a\":1}] x", "something follows"),
    ] {
        let lines = shown(open("a.json", &Format::Json(Json {}), broken, &wanted).unwrap());
        let fault = lines.last().unwrap();
        assert!(
            fault.contains("FILE_UNREADABLE") && fault.contains(said),
            "{broken}: {lines:?}"
        );
    }
}

#[test]
fn originals_hold_every_record_as_it_stood() {
    let options = DecodeOptions {
        keep_originals: true,
        ..DecodeOptions::default()
    };
    let file = b"a,b\n1,\"x,y\"\n2\n3,\xff\n".to_vec();
    let read = |format: &Format, file: Vec<u8>| {
        let input = Box::new(io::Cursor::new(file));
        let wanted = columns(&[("a", "bigint")]);
        let mut decoder =
            Decoder::from_reader(input, "a", FileId(1), format, &wanted, &options).unwrap();
        decoder.next_chunk().unwrap().originals.unwrap()
    };
    let originals = read(&CSV, file);
    assert_eq!(
        (originals.rows, originals.lines),
        (vec![0, 1, 2], vec![2, 3, 4])
    );
    assert_eq!(
        originals.columns.column(1).as_string::<i32>().value(0),
        "x,y"
    );
    let raw: Vec<_> = originals.raw.iter().collect();
    assert_eq!(
        raw,
        [None, Some(b"2\n".as_slice()), Some(b"3,\xff\n".as_slice())]
    );
    let originals = read(
        &Format::JsonLines(JsonLines {}),
        b"{\"a\":1}\n{\"a\n".to_vec(),
    );
    let raw: Vec<_> = originals.raw.iter().collect();
    assert_eq!(
        raw,
        [Some(b"{\"a\":1}".as_slice()), Some(b"{\"a".as_slice())]
    );
}

/// Writes a batch as the file `a.parquet` of a folder.
fn write_parquet(folder: &std::path::Path, batch: &RecordBatch) {
    let file = std::fs::File::create(folder.join("a.parquet")).unwrap();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// The fields that no record has, read with chunks of so many rows.
fn unmet(store: &Store, format: &Format, wanted: &[(&str, &str)], chunk_rows: usize) -> Vec<Unmet> {
    let file = store.list().unwrap().remove(0);
    let options = DecodeOptions {
        chunk_rows,
        ..DecodeOptions::default()
    };
    let wanted = columns(wanted);
    let mut decoder = Decoder::open(store, &file, FileId(7), format, &wanted, &options).unwrap();
    while decoder.next_chunk().is_some() {}
    decoder.unmet()
}

#[test]
fn a_field_that_no_record_of_json_has_is_unmet() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for row in 0..300 {
        // What comes late is listed no more, and what is asked for is met wherever it stands.
        let late = if row == 250 { "late" } else { "a" };
        text += &format!("{{\"{late}\": null, \"u\": {{\"tokens\": {row}}}}}\n");
    }
    std::fs::write(folder.path().join("a.jsonl"), text).unwrap();
    let store = Store::open("a.jsonl", folder.path()).unwrap();
    let wanted = [
        ("late", ""),
        ("u.token", "bigint"),
        ("u.tokens", ""),
        ("a", ""),
    ];
    let token = Unmet {
        field: "u.token".to_owned(),
        there: ["a", "u.tokens"].map(str::to_owned).to_vec(),
    };
    for chunk_rows in [1, 7, 1000] {
        let found = unmet(
            &store,
            &Format::JsonLines(JsonLines {}),
            &wanted,
            chunk_rows,
        );
        assert_eq!(found, std::slice::from_ref(&token), "{chunk_rows}");
    }
}

#[test]
fn a_column_that_may_be_absent_is_empty_in_files_without_it() {
    let mut wanted = columns(&[("id", ""), ("n", "bigint")]);
    wanted[1].may_be = MayBe {
        empty: true,
        absent: true,
    };
    let folder = tempfile::tempdir().unwrap();
    let ids: arrow::array::ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["a", "b"]));
    let batch = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    write_parquet(folder.path(), &batch);
    std::fs::write(folder.path().join("a.csv"), "id,x\na,\nb,1\n").unwrap();
    std::fs::write(
        folder.path().join("a.jsonl"),
        "{\"id\":\"a\"}\n{\"id\":\"b\"}\n",
    )
    .unwrap();
    let store = Store::open(&folder.path().display().to_string(), folder.path()).unwrap();
    let files = store.list().unwrap();
    assert_eq!(files.len(), 3);
    for file in &files {
        let (format, options) = (Format::of_name(&file.name), DecodeOptions::default());
        let open = |wanted: &[ColumnRequest]| {
            let format = format.as_ref().unwrap();
            Decoder::open(&store, file, FileId(7), format, wanted, &options)
        };
        let decoder = open(&wanted).unwrap();
        let kind = decoder.schema().field(1).data_type().clone();
        assert_eq!(kind, arrow::datatypes::DataType::Int64, "{}", file.name);
        let lines: Vec<String> = shown(decoder)
            .iter()
            .map(|line| line.split(' ').nth(1).unwrap().to_owned())
            .collect();
        assert_eq!(lines, ["a|NULL", "b|NULL"], "{}", file.name);
        if file.name != "a.jsonl" {
            let told = open(&columns(&[("n", "bigint")])).unwrap_err().to_string();
            assert!(
                told.ends_with("n: { type: bigint, may_be: absent }"),
                "{told}"
            );
        }
    }
}

#[test]
fn a_field_that_is_there_twice_has_one_value_or_is_told() {
    let lines = [
        r#"{"id":"a","n":1,"n":1}"#,
        r#"{"id":"b","n":1,"n":2}"#,
        r#"{"id":"c","x":1,"x":2,"n":3}"#,
        r#"{"id":"d","n":4,"usage":{"n":1},"usage.n":2}"#,
        r#"{"id":"e","n":5,"usage":{"n":1,"n":1},"usage.n":1}"#,
    ];
    let wanted = [("id", ""), ("n", "bigint"), ("usage.n", "bigint")];
    let read = open(
        "a.jsonl",
        &Format::JsonLines(JsonLines {}),
        lines.join("\n"),
        &wanted,
    )
    .unwrap();
    let shown = shown(read);
    let said = [
        "0@1 a|1|NULL",
        "1@2 ROW_UNREADABLE: the field \"n\" is there twice, as",
        "2@3 c|3|NULL",
        "3@4 ROW_UNREADABLE: the field \"usage.n\" is there twice, as",
        "4@5 e|5|1",
    ];
    assert_eq!(shown.len(), said.len(), "{shown:#?}");
    for (shown, said) in shown.iter().zip(said) {
        assert!(shown.starts_with(said), "{shown}");
    }
}
