//! Files whose end comes later, files beside the data, and files without records: what is billed, and what
//! is told.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use flate2::Compression;
use flate2::write::GzEncoder;
use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, millrace, rows, text};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression as ParquetPacking, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::sync::Arc;

const CATALOG: &str = "currency: EUR\nprices: [{ item: n, price: 1 }]\n";

const ACCOUNTS: &str = "\
accounts: [{ id: acme, currency: EUR }]
subscriptions: [{ id: s, account: acme, service_type: iot, services: [dev] }]
";

fn job(identity: &str, more: &str, durable: bool) -> String {
    let state = if durable {
        "durability: { folder: state }\n"
    } else {
        ""
    };
    format!(
        "\
name: frames
time_zone: UTC
clock: 2026-12-01
sources:
  - name: feed
    platform: feed
    service_type: iot
    path: usage
{more}    mediation:
      columns: {{ n: bigint, at: timestamp }}
      identity: {identity}
      service: dev
      time: at
      charges: {{ n: n }}
catalog: [catalog.yaml]
accounts: [accounts.yaml]
{state}"
    )
}

fn desk(identity: &str, more: &str, durable: bool) -> Desk {
    let job = job(identity, more, durable);
    let desk = Desk::new(&[
        ("job.yaml", &job),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
    ]);
    fs::create_dir_all(desk.at("usage")).unwrap();
    desk
}

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn files(ended: &Ended) -> Vec<Value> {
    ended.summary()["files"].as_array().unwrap().clone()
}

fn states(ended: &Ended) -> Vec<(String, String)> {
    let state = |file: &Value| {
        (
            text(file, "file").to_owned(),
            text(file, "state").to_owned(),
        )
    };
    files(ended).iter().map(state).collect()
}

/// Ten records of 1 to 10, as one format writes them.
fn records(format: &str, count: u64) -> Vec<u8> {
    let at = "2026-06-01T10:00:00Z";
    let rows = 1..=count;
    match format {
        "csv" => rows.fold("id,dev,n,at,note\n".to_owned(), |text, n| {
            text + &format!("i{n},dev,{n},{at},\"a note, {n}\"\n")
        }),
        "jsonl" => rows.fold(String::new(), |text, n| {
            text + &format!("{{\"id\":\"i{n}\",\"dev\":\"dev\",\"n\":{n},\"at\":\"{at}\"}}\n")
        }),
        _ => {
            let rows: Vec<String> = rows
                .map(|n| format!("{{\"id\":\"i{n}\",\"dev\":\"dev\",\"n\":{n},\"at\":\"{at}\"}}"))
                .collect();
            format!("[{}]", rows.join(",\n"))
        }
    }
    .into_bytes()
}

/// The whole of a file that was cut is billed once, whatever identifies a record, wherever it was cut, under
/// its own name or another, compressed or not.
#[test]
fn a_file_that_was_cut_and_comes_whole_is_billed_once() {
    for format in ["csv", "jsonl", "json"] {
        let whole = records(format, 10);
        for identity in ["position", "[id]"] {
            for part in [20, 41, 42] {
                let cut = &whole[..whole.len() * part / 60];
                for packed in [false, true] {
                    let first = match packed {
                        true => {
                            // Cut behind what is there, as a transfer is.
                            let packed = gzip(cut, 0);
                            packed[..packed.len() - 8].to_vec()
                        }
                        false => cut.to_vec(),
                    };
                    let ending = if packed { ".gz" } else { "" };
                    for name in ["calls", "again"] {
                        let said = format!("{format} {identity} {part} {packed} {name}");
                        let desk = desk(identity, "", true);
                        desk.write(&format!("usage/calls.{format}{ending}"), &first);
                        let before = desk.run();
                        let second = if packed {
                            gzip(&whole, 6)
                        } else {
                            whole.clone()
                        };
                        desk.write(&format!("usage/{name}.{format}{ending}"), second);
                        let after = desk.run();
                        assert_eq!(after.totals(), ["55 EUR"], "{said}: {before:?} {after:?}");
                        assert_eq!(after.exit, Exit::Ok, "{said}: {after:?}");
                        assert_eq!(after.summary()["records"]["monetised"], 10, "{said}");
                        // It stays so.
                        assert_eq!(desk.run().totals(), ["55 EUR"], "{said}");
                    }
                }
            }
        }
    }
}

/// A file that was cut at the end of a row looks whole. Where nothing but its place tells a record from
/// others, it and the whole of it are billed once, whichever comes first, together or one by one.
#[test]
fn a_file_that_was_cut_between_two_rows_is_billed_once() {
    for (format, count) in [("csv", 4), ("jsonl", 1), ("json", 5)] {
        let (part, whole) = (records(format, count), records(format, 10));
        let unended = part.trim_ascii_end().to_vec();
        for (part, packed) in [(part.clone(), false), (unended, false), (part, true)] {
            for first_is_part in [true, false] {
                for (durable, together) in [(true, false), (true, true), (false, true)] {
                    let said =
                        format!("{format} {count} {packed} {first_is_part} {durable} {together}");
                    let desk = desk("position", "", durable);
                    let ending = if packed { ".gz" } else { "" };
                    let pack = |bytes: &[u8]| {
                        if packed {
                            gzip(bytes, 6)
                        } else {
                            bytes.to_vec()
                        }
                    };
                    let files = [pack(&part), pack(&whole)];
                    let order = if first_is_part { [0, 1] } else { [1, 0] };
                    for (name, file) in ["a", "b"].iter().zip(order) {
                        desk.write(&format!("usage/{name}.{format}{ending}"), &files[file]);
                        if !together {
                            assert_ne!(desk.run().exit, Exit::Unusable);
                        }
                    }
                    for _ in 0..2 {
                        let ended = desk.run();
                        assert_eq!(ended.totals(), ["55 EUR"], "{said}: {ended:?}");
                        let expected = if first_is_part {
                            Exit::Ok
                        } else {
                            Exit::Findings
                        };
                        assert_eq!(ended.exit, expected, "{said}: {ended:?}");
                        assert_eq!(ended.summary()["records"]["monetised"], 10, "{said}");
                        if !first_is_part {
                            assert_eq!(states(&ended)[1].1, "refused", "{said}");
                        }
                    }
                }
            }
        }
    }
}

/// Files of which each begins with another are read one behind the other, and what is no beginning is read.
#[test]
fn files_that_begin_alike_are_read_behind_each_other() {
    let rows = String::from_utf8(records("csv", 9)).unwrap();
    let lines: Vec<&str> = rows.split_inclusive('\n').collect();
    let first = |count: usize| lines[..=count].concat();
    let fork = first(3) + "i20,dev,100,2026-06-01T10:00:00Z,other\n";
    for durable in [true, false] {
        let desk = desk("position", "", durable);
        for (name, text) in [
            ("a", first(3)),
            ("b", first(5)),
            ("c", first(9)),
            ("d", fork.clone()),
            ("e", lines[0].to_owned() + &lines[2..4].concat()),
        ] {
            desk.write(&format!("usage/{name}.csv"), text);
            if durable {
                assert_ne!(desk.run().exit, Exit::Unusable);
            }
        }
        let ended = desk.run();
        // 1 to 9, and 100 of the fork, and 2 and 3 of a file that begins otherwise.
        assert_eq!(ended.totals(), ["150 EUR"], "{durable}: {ended:?}");
        assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
        if durable {
            // One that has a row more under the name of the first goes on behind the longest.
            desk.write(
                "usage/a.csv",
                first(9) + "i10,dev,1000,2026-06-01T10:00:00Z,\n",
            );
            let ended = desk.run();
            assert_eq!(ended.totals(), ["1150 EUR"], "{ended:?}");
        }
    }
}

/// A file that was cut within its first record is whole when the whole of it comes, under any name.
#[test]
fn a_file_that_was_cut_in_its_first_record_is_settled_by_the_whole_of_it() {
    for identity in ["position", "[id]"] {
        for (format, packed, bytes) in [
            ("json", false, 30),
            ("json", true, 30),
            ("jsonl", true, 30),
            ("csv", true, 30),
        ] {
            for first_is_part in [true, false] {
                let said = format!("{format} {packed} {identity} {first_is_part}");
                let desk = desk(identity, "", true);
                let whole = records(format, 10);
                let (part, whole, ending) = match packed {
                    true => {
                        let part = gzip(&whole[..bytes], 0);
                        (part[..part.len() - 8].to_vec(), gzip(&whole, 6), ".gz")
                    }
                    false => (whole[..bytes].to_vec(), whole, ""),
                };
                let files = if first_is_part {
                    [part, whole]
                } else {
                    [whole, part]
                };
                for (name, file) in ["a", "b"].iter().zip(files) {
                    desk.write(&format!("usage/{name}.{format}{ending}"), file);
                    assert_ne!(desk.run().exit, Exit::Unusable);
                }
                for _ in 0..2 {
                    let ended = desk.run();
                    assert_eq!(ended.totals(), ["55 EUR"], "{said}: {ended:?}");
                    assert_eq!(ended.exit, Exit::Ok, "{said}: {ended:?}");
                    assert!(
                        states(&ended).iter().all(|(_, state)| state == "loaded"),
                        "{said}"
                    );
                }
            }
        }
    }
}

/// The ten records, in row groups of five; and where the quantities of the second group begin.
fn parquet_records(packing: ParquetPacking) -> (Vec<u8>, usize) {
    let texts = |text: fn(i64) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((1..=10).map(text)))
    };
    let batch = RecordBatch::try_from_iter([
        ("id", texts(|n| format!("i{n}"))),
        ("dev", texts(|_| "dev".to_owned())),
        (
            "n",
            Arc::new(Int64Array::from_iter_values(1..=10)) as ArrayRef,
        ),
        ("at", texts(|_| "2026-06-01T10:00:00Z".to_owned())),
    ])
    .unwrap();
    let groups = WriterProperties::builder()
        .set_max_row_group_row_count(Some(5))
        .set_compression(packing)
        .build();
    let mut whole = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut whole, batch.schema(), Some(groups)).unwrap();
    writer.write(&batch).unwrap();
    let written = writer.close().unwrap();
    let (begins, _) = written.row_group(1).column(2).byte_range();
    (whole, usize::try_from(begins).unwrap())
}

/// A Parquet file is read whichever way its pages are packed.
#[test]
fn parquet_of_every_packing_is_read() {
    for packing in [
        ParquetPacking::UNCOMPRESSED,
        ParquetPacking::SNAPPY,
        ParquetPacking::GZIP(GzipLevel::default()),
        ParquetPacking::BROTLI(BrotliLevel::default()),
        ParquetPacking::LZ4,
        ParquetPacking::LZ4_RAW,
        ParquetPacking::ZSTD(ZstdLevel::default()),
    ] {
        let desk = desk("[id]", "", false);
        desk.write("usage/calls.parquet", parquet_records(packing).0);
        let ended = desk.run();
        assert_eq!(ended.totals(), ["55 EUR"], "{packing}: {ended:?}");
        assert_eq!(ended.exit, Exit::Ok, "{packing}: {ended:?}");
    }
}

/// A Parquet file of ten records of which the last five cannot be read, and the whole of it.
fn damaged_parquet() -> [Vec<u8>; 2] {
    // Of a column that every rule reads.
    let (whole, begins) = parquet_records(ParquetPacking::UNCOMPRESSED);
    let mut damaged = whole.clone();
    damaged[begins..begins + 20].fill(0xff);
    [damaged, whole]
}

/// What is advised about a file that breaks off leads to the right bill, whatever its format and its rule.
#[test]
fn what_is_advised_about_a_broken_file_is_true() {
    let rows = |count| String::from_utf8(records("csv", count)).unwrap();
    let whole = rows(10);
    let packed = gzip(&whole.as_bytes()[..whole.len() / 2], 0);
    let cut = packed[..packed.len() - 8].to_vec();
    let [damaged, sound] = damaged_parquet();
    let amends = "    on_change: amend\n";
    let own = "again under its own name";
    let other = "again under another name";
    let apart = "in a file of their own";
    for (identity, more, durable, ending, advised) in [
        ("[id]", "", true, "csv.gz", own),
        ("position", "", true, "csv.gz", own),
        ("position", "", false, "csv.gz", own),
        ("[id]", "", true, "parquet", other),
        ("[id]", amends, true, "parquet", own),
        ("position", "", true, "parquet", apart),
        ("[id]", "", false, "parquet", own),
        ("position", "", false, "parquet", own),
    ] {
        let desk = desk(identity, more, durable);
        let said = format!("{identity} {more} {durable} {ending}");
        let (broken, mended) = match ending {
            "parquet" => (&damaged, sound.clone()),
            _ => (&cut, gzip(whole.as_bytes(), 6)),
        };
        desk.write(&format!("usage/a.{ending}"), broken);
        let ended = desk.run();
        assert_eq!(ended.exit, Exit::Findings, "{said}: {ended:?}");
        let reason = ended.summary()["reasons"][0].clone();
        assert_eq!(
            text(&reason, "reason"),
            "FILE_UNREADABLE",
            "{said}: {reason}"
        );
        let detail = text(&reason, "detail");
        assert!(detail.contains(advised), "{said}: {detail}");
        match advised {
            _ if advised == own => desk.write(&format!("usage/a.{ending}"), mended),
            _ if advised == other => desk.write(&format!("usage/b.{ending}"), mended),
            _ => {
                assert!(detail.contains("behind the first 5"), "{detail}");
                let lines: Vec<&str> = whole.split_inclusive('\n').collect();
                desk.write("usage/b.csv", lines[0].to_owned() + &lines[6..].concat());
            }
        }
        let ended = desk.run();
        assert_eq!(ended.totals(), ["55 EUR"], "{said}: {ended:?}");
        // One that was amended stays in the books as it was.
        if advised == own && more.is_empty() {
            assert_eq!(ended.exit, Exit::Ok, "{said}: {ended:?}");
        }
        assert_eq!(desk.run().totals(), ["55 EUR"], "{said}");
    }
}

/// Each of two sources that read a folder bills what lies there once.
#[test]
fn two_sources_bill_a_file_that_was_cut_between_two_rows_once_each() {
    let second = job("position", "", false)
        .split_once("sources:\n")
        .map(|(_, rest)| rest.split_once("catalog:").unwrap().0.to_owned())
        .unwrap()
        .replace("name: feed", "name: copy")
        .replace("platform: feed", "platform: other");
    let both = job("position", "", true).replace("catalog:", &format!("{second}catalog:"));
    let desk = desk("position", "", true);
    desk.write("job.yaml", both);
    desk.write("usage/a.csv", records("csv", 3));
    assert_eq!(desk.run().totals(), ["12 EUR"]);
    desk.write("usage/b.csv", records("csv", 4));
    let ended = desk.run();
    assert_eq!(
        (ended.exit, ended.totals()),
        (Exit::Ok, vec!["20 EUR".to_owned()])
    );
}

/// Bytes that are no text cost a record nothing in a column that its rule does not read, and the record as it
/// was kept says the same when the rule reads it later.
#[test]
fn a_column_that_is_no_text_costs_nothing_until_it_is_read() {
    for format in ["csv", "jsonl"] {
        let plain = String::from_utf8(records(format, 3)).unwrap();
        let rows = match format {
            "csv" => plain.replace("a note, 2", "caf~"),
            _ => plain.replace("\"n\":2", "\"n\":2,\"note\":\"caf~\""),
        };
        let latin: Vec<u8> = rows
            .bytes()
            .map(|byte| if byte == b'~' { 0xe9 } else { byte })
            .collect();
        let desk = desk("[id]", "", true);
        desk.write(&format!("usage/a.{format}"), latin);
        for _ in 0..2 {
            let ended = desk.run();
            assert_eq!(
                (ended.exit, ended.totals()),
                (Exit::Ok, vec!["6 EUR".to_owned()]),
                "{format}"
            );
        }
        // From here on the rule reads it.
        let read = job("['a' || note || id]", "", false).replace(
            "columns: {",
            "columns: { note: { type: text, may_be: [absent, empty] },",
        );
        let read = read.replace("'a' || note || id", "\"id || coalesce(note, '')\"");
        desk.write("job.yaml", read);
        let ended = desk.run();
        assert_eq!(
            (ended.exit, ended.totals()),
            (Exit::Findings, vec!["4 EUR".to_owned()]),
            "{format} {ended:?}"
        );
        let reason = ended.summary()["reasons"][0].clone();
        assert_eq!(text(&reason, "reason"), "FIELD_UNPARSABLE");
    }
}

/// What is written to the end of a file is read on, and what is changed before it is told.
#[test]
fn a_file_that_grows_is_read_on_and_one_that_changed_is_told() {
    for format in ["csv", "jsonl", "json"] {
        let desk = desk("position", "", true);
        let name = format!("usage/calls.{format}");
        for count in [0, 1, 3, 4, 7] {
            desk.write(&name, records(format, count));
            let ended = desk.run();
            let sum = count * (count + 1) / 2;
            let total = if sum == 0 {
                vec![]
            } else {
                vec![format!("{sum} EUR")]
            };
            assert_eq!(ended.exit, Exit::Ok, "{format} {count}: {ended:?}");
            assert_eq!(ended.totals(), total, "{format} {count}");
        }
        let changed = String::from_utf8(records(format, 9)).unwrap();
        desk.write(&name, changed.replace("i2", "j2"));
        let ended = desk.run();
        assert_eq!(ended.exit, Exit::Findings);
        assert_eq!(ended.totals(), ["28 EUR"], "{format}");
        let told = files(&ended);
        let message = text(told.last().unwrap(), "message");
        assert!(
            message.contains(&format!("calls.{format}"))
                && message.contains("in a file of their own"),
            "{message}"
        );
    }
}

/// A last row that is cut in the middle of its quantity looks whole; it is read again when the rest comes.
#[test]
fn a_quantity_that_was_cut_is_billed_whole_in_the_end() {
    let desk = desk("position", "", true);
    desk.write("usage/calls.csv", "at,dev,n\n2026-06-01T10:00:00Z,dev,1");
    assert_eq!(desk.run().totals(), ["1 EUR"]);
    desk.write(
        "usage/calls.csv",
        "at,dev,n\n2026-06-01T10:00:00Z,dev,125\n",
    );
    let ended = desk.run();
    assert_eq!(
        (ended.exit, ended.totals()),
        (Exit::Ok, vec!["125 EUR".to_owned()])
    );
}

#[test]
fn files_without_records_are_loaded_and_are_no_copies() {
    for durable in [false, true] {
        let desk = desk("[id]", "", durable);
        for day in 1..4 {
            desk.write(&format!("usage/{day}.csv"), records("csv", 0));
            desk.write(&format!("usage/{day}.jsonl"), "");
            desk.write(&format!("usage/{day}.json"), "[]");
            desk.write(&format!("usage/{day}.csv.gz"), gzip(&records("csv", 0), 6));
        }
        desk.write("usage/empty.csv", "");
        desk.write("usage/one.csv", records("csv", 1));
        for _ in 0..2 {
            let ended = desk.run();
            assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
            assert_eq!(ended.totals(), ["1 EUR"]);
            assert!(
                states(&ended).iter().all(|(_, state)| state == "loaded"),
                "{ended:?}"
            );
        }
    }
}

#[test]
fn two_sources_may_read_one_file_and_each_bills_it() {
    let second = job("[id]", "", false)
        .split_once("sources:\n")
        .map(|(_, rest)| rest.split_once("catalog:").unwrap().0.to_owned())
        .unwrap()
        .replace("name: feed", "name: copy")
        .replace("platform: feed", "platform: other");
    let both = job("[id]", "", true).replace("catalog:", &format!("{second}catalog:"));
    let desk = desk("[id]", "", true);
    desk.write("job.yaml", both);
    desk.write("usage/a.csv", records("csv", 3));
    for _ in 0..2 {
        let ended = desk.run();
        assert_eq!(ended.totals(), ["12 EUR"], "{ended:?}");
        assert_eq!(ended.exit, Exit::Ok);
    }
}

#[test]
fn what_is_no_data_is_passed_over_and_what_is_not_wanted_is_left_out() {
    let excluded = "    exclude: [\"*-Manifest.json\", \"old/*\"]\n";
    let included = "    include: [\"*.csv\"]\n    exclude: [\"old/**\"]\n";
    for more in [excluded, included] {
        let desk = desk("[id]", more, false);
        desk.write("usage/day/a.csv", records("csv", 2));
        for name in [
            "_SUCCESS",
            ".a.csv.crc",
            "day/_committed_1",
            ".old/b.csv",
            "_tmp/b.csv",
        ] {
            desk.write(&format!("usage/{name}"), "\0no data");
        }
        desk.write("usage/cost-Manifest.json", "{\"columns\": 3}");
        desk.write("usage/old/b.csv", records("csv", 5));
        let ended = desk.run();
        assert_eq!(ended.totals(), ["3 EUR"], "{more}: {ended:?}");
        assert_eq!(ended.exit, Exit::Ok, "{more}: {ended:?}");
    }
    // Without it, the neighbour is told once, with the way out.
    let desk = desk("[id]", "", false);
    desk.write("usage/a.csv", records("csv", 2));
    desk.write(
        "usage/cost-Manifest.json",
        "{\"columns\": 3, \"reports\": \"x\"}",
    );
    let ended = desk.run();
    assert_eq!(
        (ended.exit, ended.totals()),
        (Exit::Findings, vec!["3 EUR".to_owned()])
    );
    let told = files(&ended)
        .into_iter()
        .find(|file| text(file, "file").contains("Manifest"));
    let told = told.unwrap();
    assert!(text(&told, "message").contains("`exclude`"), "{told}");
    assert_eq!(told["received"], 0);
    // A pattern that is none, and choosing among messages, are refused.
    desk.write("job.yaml", job("[id]", "    include: [\"a[\"]\n", false));
    let refused = desk.run();
    assert_eq!(refused.exit, Exit::Unusable);
    assert!(refused.err.contains("is no pattern"), "{}", refused.err);
}

#[test]
fn bytes_behind_the_end_are_told_and_padding_is_not() {
    let desk = desk("[id]", "", false);
    let rows = records("csv", 2);
    desk.write("usage/a.csv.gz", [gzip(&rows, 6), vec![0; 512]].concat());
    let ended = desk.run();
    assert_eq!(
        (ended.exit, ended.totals()),
        (Exit::Ok, vec!["3 EUR".to_owned()])
    );
    assert_eq!(text(&files(&ended)[0], "message"), "");
    desk.write(
        "usage/a.csv.gz",
        [gzip(&rows, 6), b"text".to_vec()].concat(),
    );
    let ended = desk.run();
    assert_eq!(ended.totals(), ["3 EUR"]);
    assert_eq!(
        (states(&ended)[0].1.as_str(), ended.exit),
        ("doubtful", Exit::Findings)
    );
    let message = text(&files(&ended)[0], "message").to_owned();
    assert!(
        message.contains("the last 4 bytes, behind its gzip data"),
        "{message}"
    );
    // A second part whose first byte is damaged is no padding.
    let mut damaged = gzip(&records("csv", 3), 6);
    damaged[0] ^= 1;
    desk.write("usage/a.csv.gz", [gzip(&rows, 6), damaged].concat());
    let ended = desk.run();
    assert_eq!(ended.totals(), ["3 EUR"]);
    assert_eq!(
        (states(&ended)[0].1.as_str(), ended.exit),
        ("incomplete", Exit::Findings)
    );
}

#[test]
fn a_file_that_mostly_came_before_is_told() {
    let desk = desk("[id]", "", false);
    desk.write("usage/a.csv", records("csv", 6));
    desk.write("usage/b.csv", records("csv", 7));
    let ended = desk.run();
    assert_eq!(ended.totals(), ["28 EUR"]);
    assert_eq!(ended.exit, Exit::Findings, "{ended:?}");
    let message = text(&files(&ended)[1], "message").to_owned();
    assert!(
        message.contains("more than half of its records came before"),
        "{message}"
    );
}

#[test]
fn a_file_of_an_unknown_kind_is_told_once() {
    let desk = desk("[id]", "", false);
    desk.write("usage/calls.ber", "\x30");
    let one = desk.at("job.yaml").display().to_string();
    for path in ["usage", "usage/calls.ber"] {
        desk.write(
            "job.yaml",
            job("[id]", "", false).replace("path: usage", &format!("path: {path}")),
        );
        let told = millrace(&["check", &one]);
        let said = format!("{}{}", told.out, told.err).replace('\n', " ");
        let times = said.matches("cannot be told from its name").count();
        assert_eq!(times, 1, "{path}: {said}");
    }
}

/// The line that the summary names is the line of the file, and `explain` means the same.
#[test]
fn lines_are_those_of_the_file_everywhere() {
    let at = "2026-06-01T10:00:00Z";
    for (name, file, line) in [
        (
            "a.csv",
            format!("id,dev,n,at\n\n1,dev,1,{at}\n2,\"de\nv\",2,{at}\n3,dev,3,{at}\n"),
            4,
        ),
        (
            "a.jsonl",
            format!(
                "\n{{\"id\":1,\"dev\":\"dev\",\"n\":1,\"at\":\"{at}\"}}\n\n{{\"id\":2,\"dev\":\"gone\",\"n\":2,\"at\":\"{at}\"}}\n"
            ),
            4,
        ),
        (
            "a.json",
            format!(
                "[\n{{\"id\":1,\"dev\":\"dev\",\"n\":1,\n\"at\":\"{at}\"}},\n{{\"id\":2,\"dev\":\"gone\",\"n\":2,\"at\":\"{at}\"}}]"
            ),
            4,
        ),
    ] {
        let desk = desk("[id]", "", true);
        let by_one = job("[id]", "", true).replace("clock:", "epoch: { rows: 1 }\nclock:");
        desk.write(
            "job.yaml",
            by_one + "outputs: { suspense: { changes: true, snapshot: true } }\n",
        );
        desk.write(&format!("usage/{name}"), file);
        for _ in 0..2 {
            let reasons = desk.run().summary()["reasons"].clone();
            let example = text(&reasons[0], "example").to_owned();
            assert_eq!(example, format!("{name} line {line}"), "{reasons}");
            let snapshot = desk.snapshot("suspense");
            assert_eq!(snapshot[0]["line"], line, "{name}: {snapshot:?}");
            let changes = rows(&desk.at("out/suspense/changes"));
            assert!(
                changes.iter().all(|row| row["line"] == line),
                "{name}: {changes:?}"
            );
        }
        let path = desk.at("job.yaml").display().to_string();
        for named in [format!("{name}:{line}"), format!("{name}#1")] {
            let told = millrace(&["explain", &path, &named]);
            assert!(
                told.out
                    .contains(&format!("{name}:{line} is SERVICE_UNKNOWN")),
                "{told:?}"
            );
        }
    }
}
