mod frames;

use super::*;
use crate::store::Store;
use arrow::array::AsArray;
use arrow::array::RecordBatch;
use arrow::datatypes::{Decimal128Type, Field, Int64Type, TimestampNanosecondType};
use millrace_operators::domain::{Fault, FileId, Reason, RecordId};
use proptest::prelude::*;
use std::io::{self, Write};
use std::sync::Arc;

fn columns(wanted: &[(&str, &str)]) -> Vec<ColumnRequest> {
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
fn shown(mut decoder: Decoder) -> Vec<String> {
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

#[test]
fn parquet_columns_keep_their_types_and_row_groups_stand_alone() {
    use arrow::array::{Float64Array, Int32Array, StringArray};
    let batch = RecordBatch::try_from_iter([
        (
            "n",
            Arc::new(Int32Array::from_iter_values(0..10)) as arrow::array::ArrayRef,
        ),
        (
            "price",
            Arc::new(Float64Array::from_iter_values((0..10).map(f64::from))),
        ),
        (
            "at",
            Arc::new(StringArray::from_iter_values((0..10).map(|i| {
                if i == 6 {
                    "x".to_owned()
                } else {
                    format!("2026-08-0{}", i.max(1))
                }
            }))),
        ),
    ])
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let properties = ::parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(4));
    let file = std::fs::File::create(folder.path().join("a.parquet")).unwrap();
    let mut writer =
        ::parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties.build()))
            .unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();

    let store = Store::open("a.parquet", folder.path()).unwrap();
    let file = &store.list().unwrap()[0];
    let groups = row_groups(&store, file).unwrap();
    assert_eq!(
        groups
            .iter()
            .map(|g| (g.first_row, g.rows))
            .collect::<Vec<_>>(),
        [(0, 4), (4, 4), (8, 2)]
    );
    let open = |wanted: &[(&str, &str)], range| {
        let options = DecodeOptions {
            row_groups: range,
            ..DecodeOptions::default()
        };
        Decoder::open(
            &store,
            file,
            FileId(7),
            &Format::Parquet(Parquet {}),
            &columns(wanted),
            &options,
        )
    };
    let mut decoder = open(&[("at", "timestamp"), ("n", "")], Some(1..2)).unwrap();
    let chunk = decoder.next_chunk().unwrap();
    assert_eq!(chunk.rows, [4, 5, 7]);
    assert_eq!(
        chunk
            .batch
            .column(0)
            .as_primitive::<TimestampNanosecondType>()
            .len(),
        3
    );
    assert_eq!(
        chunk.batch.column(1).data_type(),
        &arrow::datatypes::DataType::Int32
    );
    assert_eq!(chunk.faults[0].record, RecordId::new(FileId(7), 6));
    assert_eq!(shown(open(&[("n", "bigint")], None).unwrap()).len(), 10);
    let mut decoder = open(&[("n", "bigint"), ("n", "decimal(38,2)")], None).unwrap();
    let batch = decoder.next_chunk().unwrap().batch;
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(3), 3);
    assert_eq!(
        batch.column(1).as_primitive::<Decimal128Type>().value(3),
        300
    );

    let error = open(&[("price", "decimal(18,2)")], None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("leave the declaration out and convert with exact"),
        "{error}"
    );
    assert!(
        open(&[("m", "")], None)
            .unwrap_err()
            .to_string()
            .contains("its columns are n, price, at")
    );

    let bytes = std::fs::read(folder.path().join("a.parquet")).unwrap();
    std::fs::write(folder.path().join("a.parquet"), &bytes[..bytes.len() - 20]).unwrap();
    let error = open(&[("n", "")], None).unwrap_err().to_string();
    assert!(error.contains("not a whole Parquet file"), "{error}");
}

/// Writes a batch as the file `a.parquet` of a folder.
fn write_parquet(folder: &std::path::Path, batch: &RecordBatch) {
    let file = std::fs::File::create(folder.join("a.parquet")).unwrap();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// A Parquet file of one column for each kind of trouble.
fn troubled() -> (tempfile::TempDir, Store) {
    use arrow::array::{ArrayRef, BinaryArray, Decimal128Array, Int64Array, MapBuilder};
    use arrow::array::{StringArray, StringBuilder, StructArray};
    let bytes: Vec<&[u8]> = vec![b"red", b"\xff", b"7", b""];
    let amounts = Decimal128Array::from(vec![
        2_469_135_500_000_000_000_000_000_i128,
        20_833_333_000_000,
        1,
        0,
    ]);
    let amounts = amounts.with_precision_and_scale(38, 18).unwrap();
    let counts: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)]));
    let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c", "d"]));
    let fields = vec![
        Field::new("input", arrow::datatypes::DataType::Int64, true),
        Field::new("name", arrow::datatypes::DataType::Utf8, true),
    ];
    let inner = Some(vec![true, true, false, true].into());
    let usage = StructArray::new(fields.into(), vec![counts, names], inner);
    let mut tags = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in 0..4 {
        if row != 1 {
            tags.keys().append_value("team");
            tags.values().append_value(format!("t{row}"));
            tags.keys().append_value("a.b");
            tags.values().append_value("x");
        }
        tags.append(row != 2).unwrap();
    }
    let columns: [(&str, ArrayRef); 4] = [
        ("bytes", Arc::new(BinaryArray::from(bytes))),
        ("amount", Arc::new(amounts)),
        ("usage", Arc::new(usage)),
        ("tags", Arc::new(tags.finish())),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.map(|(name, column)| (name, column, true)),
    )
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_parquet(folder.path(), &batch);
    let store = Store::open("a.parquet", folder.path()).unwrap();
    (folder, store)
}

#[test]
fn a_value_that_does_not_fit_its_declaration_fails_its_row_only() {
    let (_folder, store) = troubled();
    let open = |wanted: &[(&str, &str)]| {
        let file = store.list().unwrap().remove(0);
        let options = DecodeOptions::default();
        Decoder::open(
            &store,
            &file,
            FileId(7),
            &Format::Parquet(Parquet {}),
            &columns(wanted),
            &options,
        )
    };
    let faulty = |wanted: &[(&str, &str)]| -> Vec<String> {
        let lines = shown(open(wanted).unwrap());
        lines
            .into_iter()
            .filter(|line| line.contains("FIELD_"))
            .collect()
    };
    assert_eq!(faulty(&[("bytes", "text")]).len(), 1);
    assert!(faulty(&[("bytes", "text")])[0].starts_with("1@0 FIELD_UNPARSABLE bytes"));
    assert_eq!(
        faulty(&[("bytes", "bigint")]).len(),
        2,
        "an empty one is an empty number"
    );
    // A column that nobody names is not touched.
    assert_eq!(faulty(&[("amount", "")]).len(), 0);
    let fine = faulty(&[("amount", "decimal(38,12)")]);
    assert_eq!(fine.len(), 1, "{fine:?}");
    assert!(
        fine[0].contains("\"0.000000000000000001\" is not of type decimal(38,12)"),
        "{fine:?}"
    );
    let whole = faulty(&[("amount", "bigint")]);
    assert_eq!(whole.len(), 3, "{whole:?}");
}

/// Times of 96 bits keep their nanoseconds; those that no instant of 64 bits is suspend their rows, wherever
/// and however their pages hold them.
#[test]
fn times_of_96_bits_are_exact_or_told() {
    use ::parquet::data_type::{Int96, Int96Type};
    use ::parquet::file::properties::{WriterProperties, WriterVersion};
    use ::parquet::file::writer::SerializedFileWriter;
    let time = |day: i64, nanos: u64| {
        let mut time = Int96::new();
        let day = u32::try_from(2_440_588 + day).unwrap();
        let low = u32::try_from(nanos & u64::from(u32::MAX)).unwrap();
        time.set_data(low, u32::try_from(nanos >> 32).unwrap(), day);
        time
    };
    let times = [
        time(20_513, 3_600_000_000_005),
        time(-135_140, 0),
        time(376_200, 0),
        time(0, 1),
        time(2_000_000_000, 0),
        time(106_751, 85_636_854_775_807),
        time(106_751, 85_636_854_775_808),
        time(-106_752, 763_145_224_193),
    ];
    let levels = [1, 0, 1, 1, 1, 1, 1, 1, 1];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    for (dictionary, version) in [
        (true, WriterVersion::PARQUET_1_0),
        (true, WriterVersion::PARQUET_2_0),
        (false, WriterVersion::PARQUET_1_0),
        (false, WriterVersion::PARQUET_2_0),
    ] {
        let schema = "message m { optional int96 at; }";
        let schema = ::parquet::schema::parser::parse_message_type(schema).unwrap();
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(dictionary)
            .set_writer_version(version);
        let file = std::fs::File::create(&path).unwrap();
        let properties = Arc::new(properties.build());
        let mut writer = SerializedFileWriter::new(file, Arc::new(schema), properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<Int96Type>()
            .write_batch(&times, Some(&levels[..]), None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        let store = Store::open("a.parquet", folder.path()).unwrap();
        let file = store.list().unwrap().remove(0);
        for kind in ["", "timestamp"] {
            let wanted = columns(&[("at", kind)]);
            let options = DecodeOptions::default();
            let format = &Format::Parquet(Parquet {});
            let opened = Decoder::open(&store, &file, FileId(7), format, &wanted, &options);
            let lines = shown(opened.unwrap());
            let told = |row: usize| {
                format!(
                    "{row}@0 TIME_OUT_OF_RANGE at: a time of 96 bits is outside of the years that \
                     instants have, 1677 to 2262"
                )
            };
            assert_eq!(
                lines,
                [
                    "0@0 2026-03-01T01:00:00.000000005Z".to_owned(),
                    "1@0 NULL".to_owned(),
                    told(2),
                    told(3),
                    "4@0 1970-01-01T00:00:00.000000001Z".to_owned(),
                    told(5),
                    "6@0 2262-04-11T23:47:16.854775807Z".to_owned(),
                    told(7),
                    "8@0 1677-09-21T00:12:43.145224193Z".to_owned(),
                ]
            );
        }
    }
}

#[test]
fn a_path_leads_into_structs_and_maps() {
    let (_folder, store) = troubled();
    let open = |wanted: &[(&str, &str)]| {
        let file = store.list().unwrap().remove(0);
        let options = DecodeOptions::default();
        Decoder::open(
            &store,
            &file,
            FileId(7),
            &Format::Parquet(Parquet {}),
            &columns(wanted),
            &options,
        )
    };
    let wanted = [
        ("tags.team", ""),
        ("usage.input", "bigint"),
        ("tags.a.b", "text"),
        ("usage.name", ""),
        ("tags.owner", ""),
    ];
    assert_eq!(
        shown(open(&wanted).unwrap()),
        [
            "0@0 t0|1|x|a|NULL",
            "1@0 NULL|NULL|NULL|b|NULL",
            "2@0 NULL|NULL|NULL|NULL|NULL",
            "3@0 t3|4|x|d|NULL",
        ]
    );
    let told = open(&[("usage.inputs", "")]).unwrap_err().to_string();
    assert!(told.contains("did you mean \"usage.input\""), "{told}");
    assert!(
        told.contains("usage.input, usage.name, tags.<key>"),
        "{told}"
    );
    let told = open(&[("usage", "bigint")]).unwrap_err().to_string();
    assert!(
        told.contains("name one of its fields: usage.input, usage.name"),
        "{told}"
    );
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
fn a_key_that_no_map_has_is_unmet() {
    let (_folder, store) = troubled();
    let wanted = [("tags.team", ""), ("tags.teams", ""), ("usage.name", "")];
    let there = ["tags.team", "tags.a.b"].map(str::to_owned).to_vec();
    let teams = Unmet {
        field: "tags.teams".to_owned(),
        there,
    };
    for chunk_rows in [1, 3, 100] {
        let found = unmet(&store, &Format::Parquet(Parquet {}), &wanted, chunk_rows);
        assert_eq!(found, std::slice::from_ref(&teams), "{chunk_rows}");
    }
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
fn a_name_that_a_typed_file_has_twice_is_told() {
    use arrow::array::{ArrayRef, Int64Array, MapBuilder, StringBuilder, StructArray};
    use arrow::datatypes::DataType;
    let number = |n: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![n, n])) };
    let mut tags = MapBuilder::new(None, StringBuilder::new(), Int64Array::builder(2));
    for keys in [vec!["a", "b"], vec!["a", "a"]] {
        for (value, key) in (1..).zip(keys) {
            tags.keys().append_value(key);
            tags.values().append_value(value);
        }
        tags.append(true).unwrap();
    }
    let inner = vec![Field::new("n", DataType::Int64, true)];
    let usage: ArrayRef = Arc::new(StructArray::new(inner.into(), vec![number(1)], None));
    let fields = [
        ("n", number(7)),
        ("n", number(5)),
        ("u", usage),
        ("u.n", number(2)),
        ("tags", Arc::new(tags.finish())),
        ("tags.c", number(3)),
    ];
    let batch = RecordBatch::try_from_iter(fields).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_parquet(folder.path(), &batch);
    let store = Store::open("a.parquet", folder.path()).unwrap();
    let file = store.list().unwrap().remove(0);
    let open = |name: &str| {
        let wanted = columns(&[(name, "bigint")]);
        let options = DecodeOptions::default();
        Decoder::open(
            &store,
            &file,
            FileId(7),
            &Format::Parquet(Parquet {}),
            &wanted,
            &options,
        )
    };
    for name in ["n", "u.n", "tags.c"] {
        let told = open(name).unwrap_err().to_string();
        assert!(
            told.contains(&format!("names the column \"{name}\" twice")),
            "{told}"
        );
    }
    assert_eq!(
        shown(open("tags.a").unwrap()),
        [
            "0@0 1",
            "1@0 ROW_UNREADABLE tags.a: its map has the key \"a\" twice"
        ]
    );
    assert_eq!(shown(open("tags.b").unwrap()), ["0@0 2", "1@0 NULL"]);
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

proptest! {
    /// Whatever the bytes are, decoding ends, numbers every record once, and does not panic.
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(
        prop_oneof![6 => proptest::sample::select(b"ab1,\"\n\r{}[]:\\ e.-\0".to_vec()), 1 => any::<u8>()],
        0..200,
    )) {
        for format in [CSV, Format::JsonLines(JsonLines {}), Format::Json(Json {})] {
            for start in ["", "a,b\n", "[", "{\"a\":"] {
                let bytes = [start.as_bytes(), &bytes].concat();
                let Ok(mut decoder) = open("x", &format, bytes, &[("a", "decimal(9,2)")]) else {
                    continue;
                };
                let mut numbers = Vec::new();
                while let Some(chunk) = decoder.next_chunk() {
                    numbers.extend(&chunk.rows);
                    let of_rows = |fault: &&Fault| fault.reason != Reason::FileUnreadable;
                    let faults = chunk.faults.iter().filter(of_rows);
                    numbers.extend(faults.map(|fault| fault.record.row()));
                }
                numbers.sort_unstable();
                prop_assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{:?}", numbers);
            }
        }
    }
}

#[test]
fn damaged_parquet_is_a_fault_wherever_the_damage_lies() {
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    let batch = RecordBatch::try_from_iter([
        (
            "n",
            Arc::new(Int64Array::from_iter_values(0..500)) as ArrayRef,
        ),
        (
            "s",
            Arc::new(StringArray::from_iter_values(
                (0..500).map(|i| format!("text {i}")),
            )),
        ),
    ])
    .unwrap();
    let mut writer =
        ::parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let bytes = writer.into_inner().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let store = Store::open("a.parquet", folder.path()).unwrap();
    for place in (0..bytes.len()).step_by(61) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x5a;
        std::fs::write(&path, damaged).unwrap();
        let file = &store.list().unwrap()[0];
        let wanted = columns(&[("n", ""), ("s", "")]);
        let options = DecodeOptions::default();
        let opened = Decoder::open(
            &store,
            file,
            FileId(1),
            &Format::Parquet(Parquet {}),
            &wanted,
            &options,
        );
        if let Ok(mut decoder) = opened {
            while decoder.next_chunk().is_some() {}
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
