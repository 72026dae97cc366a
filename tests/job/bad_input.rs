//! Whatever is wrong with a file, the job ends in good order, says what and where it is, and bills
//! everything else to the last decimal.

use flate2::Compression;
use flate2::write::GzEncoder;
use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, text};
use serde_json::Value;
use std::io::Write as _;

const JOB: &str = "\
name: calls
time_zone: UTC
sources:
  - { name: switch, platform: switch, service_type: voice, path: usage, mediation: mediation.yaml }
catalog: [catalog.yaml]
accounts: [accounts.yaml]
";

const MEDIATION: &str = "\
columns: { seconds: bigint, at: timestamp }
where: zone <> 'test'
identity: [id]
service: number
time: at
attributes: { zone: zone }
charges: { seconds: seconds * 2 }
";

const CATALOG: &str = "\
currency: EUR
prices:
  - { item: seconds, when: { zone: home }, price: 0.000000000000000000001 }
  - { item: seconds, when: { zone: far }, price: 0.05 }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: EUR }
subscriptions:
  - { id: acme-voice, account: acme, price_lists: [standard], service_type: voice, services: [\"+420\"] }
";

const HEADER: &str = "id,number,at,zone,seconds\n";
/// 2 × 7 at 1e-21 each.
const FIRST: &str = "first,+420,2026-01-05T10:00:00Z,home,7\n";
/// 2 × 30 at 0.05 each.
const LAST: &str = "last,+420,2026-01-05T11:00:00Z,far,30\n";
/// What the first and the last record come to.
const NEIGHBOURS: &str = "3.000000000000000000014 EUR";
const FIRST_ALONE: &str = "0.000000000000000000014 EUR";

fn desk() -> Desk {
    Desk::new(&[
        ("job.yaml", JOB),
        ("mediation.yaml", MEDIATION),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
    ])
}

/// Runs the desk and checks what holds whatever is wrong: it ends with findings, and every record of
/// every file is accounted for once.
fn run(desk: &Desk) -> Ended {
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Findings, "{ended:?}");
    assert_eq!(ended.summary()["ties_out"], true, "{ended:?}");
    for row in desk.snapshot("ledger") {
        let count = |key: &str| row[key].as_u64().unwrap();
        let settled = [
            "ignored",
            "duplicate",
            "conflict",
            "error",
            "suspended",
            "monetised",
        ]
        .map(count);
        assert_eq!(settled.iter().sum::<u64>(), count("received"), "{row}");
    }
    ended
}

/// What is expected of a suspended record: line, reason, field, and what its detail says.
struct Expected {
    line: u64,
    reason: &'static str,
    field: &'static str,
    detail: &'static str,
}

#[track_caller]
fn is_as_expected(row: &Value, file: &str, number: u64, expected: &Expected) {
    assert_eq!(text(row, "file"), file, "{row}");
    assert_eq!(row["row"].as_u64(), Some(number), "{row}");
    assert_eq!(row["line"].as_u64().unwrap_or(0), expected.line, "{row}");
    assert_eq!(text(row, "reason"), expected.reason, "{row}");
    assert_eq!(text(row, "field"), expected.field, "{row}");
    assert!(text(row, "detail").contains(expected.detail), "{row}");
    assert!(
        text(row, "detail").len() < 1_000,
        "a detail is cut to a readable length"
    );
    assert!(!text(row, "hint").is_empty(), "{row}");
}

/// A record between two good ones: it alone is suspended, with its place and its reason.
#[track_caller]
fn bad_record(record: &[u8], expected: &Expected) {
    let desk = desk();
    let content = [
        HEADER.as_bytes(),
        FIRST.as_bytes(),
        record,
        b"\n",
        LAST.as_bytes(),
    ]
    .concat();
    desk.write("usage/calls.csv", content);
    let ended = run(&desk);
    assert_eq!(ended.totals(), [NEIGHBOURS]);
    let suspense = desk.snapshot("suspense");
    let [row] = suspense.as_slice() else {
        panic!("{suspense:?}")
    };
    is_as_expected(row, "calls.csv", 1, expected);
    let records = &ended.summary()["records"];
    assert_eq!(
        (&records["received"], &records["monetised"]),
        (&3.into(), &2.into())
    );
}

fn unreadable(record: &[u8], detail: &'static str) {
    bad_record(
        record,
        &Expected {
            line: 3,
            reason: "ROW_UNREADABLE",
            field: "",
            detail,
        },
    );
}

#[test]
fn a_record_with_too_few_or_too_many_fields() {
    unreadable(b"2,+420,2026-01-05T10:30:00Z,far", "4 fields instead of 5");
    unreadable(
        b"2,+420,2026-01-05T10:30:00Z,far,1,1",
        "6 fields instead of 5",
    );
}

#[test]
fn a_record_with_nul_bytes_or_bytes_that_are_not_text() {
    unreadable(b"2,+420,2026-01-05T10:30:00Z,fa\0r,1", "NUL");
    bad_record(
        b"2,+420,2026-01-05T10:30:00Z,f\xff\xfer,1",
        &Expected {
            line: 3,
            reason: "FIELD_UNPARSABLE",
            field: "zone",
            detail: "not UTF-8",
        },
    );
}

#[test]
fn a_line_of_ten_megabytes() {
    let mut record = b"2,+420,2026-01-05T10:30:00Z,".to_vec();
    record.resize(10 << 20, b'x');
    record.extend_from_slice(b",1");
    unreadable(&record, "more than");
}

#[test]
fn fields_that_are_not_of_their_type() {
    let unparsable = |record: &str, field, detail| {
        let expected = Expected {
            line: 3,
            reason: "FIELD_UNPARSABLE",
            field,
            detail,
        };
        bad_record(record.as_bytes(), &expected);
    };
    unparsable(
        "2,+420,2026-02-30T10:30:00Z,far,1",
        "at",
        "2026-02-30T10:30:00Z",
    );
    unparsable("2,+420,yesterday,far,1", "at", "yesterday");
    unparsable("2,+420,2026-01-05T10:30:00Z,far,1.5", "seconds", "1.5");
    unparsable(
        "2,+420,2026-01-05T10:30:00Z,far,99999999999999999999",
        "seconds",
        "99999999999999999999",
    );
}

#[test]
fn times_that_no_usage_has() {
    for (time, field, detail) in [
        ("0001-01-01T00:00:00Z", "at", "1677 to 2262"),
        ("0", "at", "to_timestamp_seconds"),
        (
            "1999-12-31T23:59:59Z",
            "time",
            "before 2000-01-01T00:00:00Z",
        ),
        ("2200-01-01T00:00:00Z", "time", "too far ahead"),
        ("9999-12-31T23:59:59Z", "at", "1677 to 2262"),
    ] {
        let record = format!("2,+420,{time},far,1");
        let expected = Expected {
            line: 3,
            reason: if time == "0" {
                "FIELD_UNPARSABLE"
            } else {
                "TIME_OUT_OF_RANGE"
            },
            field,
            detail,
        };
        bad_record(record.as_bytes(), &expected);
    }
}

#[test]
fn quantities_that_cannot_be_billed() {
    for (seconds, reason, detail) in [
        ("-1", "QUANTITY_NEGATIVE", "-2"),
        (
            "600000000000000000",
            "QUANTITY_OUT_OF_RANGE",
            "1200000000000000000",
        ),
        // Doubled, it is more than an integer of the machine holds.
        ("9223372036854775807", "RULE_FAILED", ""),
        ("", "QUANTITY_MISSING", "hangs on seconds, which is empty"),
    ] {
        let record = format!("2,+420,2026-01-05T10:30:00Z,far,{seconds}");
        bad_record(
            record.as_bytes(),
            &Expected {
                line: 3,
                reason,
                field: "charges.seconds",
                detail,
            },
        );
    }
}

#[test]
fn a_record_that_is_nobodys_or_has_no_identity() {
    let time = "2026-01-05T10:30:00Z";
    let missing = |record: String, reason, field| {
        bad_record(
            record.as_bytes(),
            &Expected {
                line: 3,
                reason,
                field,
                detail: "",
            },
        );
    };
    missing(
        format!(",+420,{time},far,1"),
        "IDENTITY_MISSING",
        "identity",
    );
    missing(format!("2,,{time},far,1"), "SERVICE_MISSING", "service");
}

#[test]
fn usage_without_a_price_or_a_subscriber_waits() {
    for (record, reason, service) in [
        (
            "2,+420,2026-01-05T10:30:00Z,mars,1",
            "PRICE_NOT_FOUND",
            "+420",
        ),
        (
            "2,+999,2026-01-05T10:30:00Z,far,1",
            "SERVICE_UNKNOWN",
            "+999",
        ),
    ] {
        let desk = desk();
        desk.write(
            "usage/calls.csv",
            format!("{HEADER}{FIRST}{record}\n{LAST}"),
        );
        let ended = run(&desk);
        assert_eq!(ended.totals(), [NEIGHBOURS]);
        let suspense = desk.snapshot("suspense");
        let [row] = suspense.as_slice() else {
            panic!("{suspense:?}")
        };
        assert_eq!(row["row"].as_u64(), Some(1), "{row}");
        let found = ["file", "reason", "service", "service_type"].map(|key| text(row, key));
        assert_eq!(found, ["calls.csv", reason, service, "voice"], "{row}");
        assert_eq!(ended.summary()["records"]["suspended"], 1);
    }
}

fn gzip(content: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// The ledger's row of a file: its state and its message.
fn ledger(desk: &Desk, file: &str) -> (String, String) {
    let rows = desk.snapshot("ledger");
    let row = rows.iter().find(|row| text(row, "file") == file);
    let row = row.unwrap_or_else(|| panic!("{file} is not in {rows:?}"));
    (
        text(row, "state").to_owned(),
        text(row, "message").to_owned(),
    )
}

#[test]
fn a_compressed_file_that_is_cut_short_counts_as_far_as_it_goes() {
    let desk = desk();
    let filler: String = (0..20_000)
        .map(|n| format!("{n},+420,2026-01-05T10:00:00Z,far,{}\n", (n * 7_919) % 600))
        .collect();
    let whole = gzip(&format!("{HEADER}{FIRST}{filler}"));
    desk.write("usage/cut.csv.gz", &whole[..whole.len() / 2]);
    desk.write("usage/whole.csv", format!("{HEADER}{LAST}"));
    let ended = run(&desk);
    let rows = desk.snapshot("ledger");
    let cut = rows
        .iter()
        .find(|row| text(row, "file") == "cut.csv.gz")
        .unwrap();
    let received = cut["received"].as_u64().unwrap();
    assert!((1..20_001).contains(&received), "{cut}");
    assert_eq!(text(cut, "state"), "incomplete", "{cut}");
    assert!(text(cut, "message").contains("ends early"), "{cut}");
    // The last record that is there may be torn; those before it are billed exactly.
    let suspense = desk.snapshot("suspense");
    let broken: Vec<&Value> = suspense
        .iter()
        .filter(|row| text(row, "reason") == "FILE_UNREADABLE")
        .collect();
    assert_eq!(broken.len(), 1, "{suspense:?}");
    assert_eq!(text(broken[0], "file"), "cut.csv.gz");
    let whole_rows = received - (suspense.len() as u64 - 1);
    let seconds: u64 = (0..whole_rows - 1).map(|n| (n * 7_919) % 600).sum();
    // 0.10 for each second, 3 for the last record, and what the first comes to.
    let expected = format!(
        "{}.{}00000000000000000014 EUR",
        3 + seconds / 10,
        seconds % 10
    );
    assert_eq!(ended.totals(), [expected]);
    assert_eq!(ledger(&desk, "whole.csv").0, "loaded");
}

/// A file that cannot be used beside one that can: it is entered as failed, with a message that
/// helps, and the other is billed.
#[track_caller]
fn bad_file(name: &str, content: &[u8], said: &[&str]) {
    let desk = desk();
    desk.write(&format!("usage/{name}"), content);
    desk.write("usage/good.csv", format!("{HEADER}{FIRST}{LAST}"));
    let ended = run(&desk);
    assert_eq!(ended.totals(), [NEIGHBOURS]);
    let (state, message) = ledger(&desk, name);
    assert_eq!(state, "failed", "{message}");
    for expected in said {
        assert!(
            message.contains(expected),
            "{expected:?} is not in {message:?}"
        );
        assert!(
            ended.err.contains(expected),
            "{expected:?} is not in {:?}",
            ended.err
        );
    }
}

#[test]
fn a_file_without_a_column_of_the_rule() {
    let said = [
        "bad.csv",
        "no column",
        "its columns are id, number, at, zone, length",
    ];
    bad_file(
        "bad.csv",
        b"id,number,at,zone,length\n1,+420,2026-01-05T10:00:00Z,far,1\n",
        &said,
    );
    let said = ["no column \"seconds\"", "did you mean \"second\""];
    bad_file(
        "bad.csv",
        b"id,number,at,zone,second\n1,+420,2026-01-05T10:00:00Z,far,1\n",
        &said,
    );
}

#[test]
fn a_file_of_another_format_than_its_name_says() {
    bad_file(
        "bad.parquet",
        b"id,number,at,zone,seconds\n",
        &["bad.parquet", "not a whole Parquet"],
    );
    bad_file("bad.csv.gz", HEADER.as_bytes(), &["bad.csv.gz"]);
    bad_file(
        "bad.csv",
        b"PAR1\x15\x04\x15\0\x15\xff\xffPAR1",
        &["bad.csv"],
    );
    bad_file("calls.bin", b"?", &["calls.bin", "format"]);
}

#[test]
fn a_csv_file_that_is_called_json_lines() {
    let desk = desk();
    desk.write("usage/bad.jsonl", format!("{HEADER}{FIRST}"));
    desk.write("usage/good.csv", format!("{HEADER}{FIRST}{LAST}"));
    let ended = run(&desk);
    assert_eq!(ended.totals(), [NEIGHBOURS]);
    let suspense = desk.snapshot("suspense");
    assert_eq!(suspense.len(), 2, "{suspense:?}");
    for (row, line) in suspense.iter().zip(1..) {
        let expected = Expected {
            line,
            reason: "ROW_UNREADABLE",
            field: "",
            detail: "expected",
        };
        is_as_expected(row, "bad.jsonl", line - 1, &expected);
    }
}

#[test]
fn an_empty_file_and_a_header_alone_are_files_without_records() {
    let desk = desk();
    desk.write("usage/a-empty.csv", "");
    desk.write("usage/b-header.csv", HEADER);
    desk.write("usage/good.csv", format!("{HEADER}{FIRST}{LAST}"));
    let ended = desk.run();
    assert_eq!(ended.totals(), [NEIGHBOURS], "{ended:?}");
    assert_eq!(
        ledger(&desk, "b-header.csv"),
        ("loaded".to_owned(), String::new())
    );
    assert_eq!(ended.summary()["records"]["received"], 2);
    assert_eq!(desk.snapshot("suspense"), Vec::<Value>::new());
    let (state, message) = ledger(&desk, "a-empty.csv");
    assert!(
        state == "loaded" || message.contains("a-empty.csv"),
        "{state}: {message}"
    );
}

#[test]
fn a_parquet_file_that_is_damaged() {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use std::sync::Arc;
    let ids = (0..5_000).map(|n| format!("row {n}"));
    let rows: ArrayRef = Arc::new(StringArray::from_iter_values(ids));
    let same = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; 5_000])) };
    let seconds: ArrayRef = Arc::new(Int64Array::from_iter_values(0..5_000));
    let batch = RecordBatch::try_from_iter([
        ("id", rows),
        ("number", same("+420")),
        ("at", same("2026-01-05T10:00:00Z")),
        ("zone", same("far")),
        ("seconds", seconds),
    ])
    .unwrap();
    let mut bytes = Vec::new();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    // Without its end it cannot be opened.
    bad_file(
        "bad.parquet",
        &bytes[..bytes.len() / 2],
        &["bad.parquet", "not a whole Parquet file"],
    );
    // With an end, but other bytes where the records are, it has no row in front of the damage.
    let mut damaged = bytes.clone();
    damaged[4..3_000].fill(0xa5);
    bad_file(
        "bad.parquet",
        &damaged,
        &["bad.parquet", "have the source send it again"],
    );
    // One byte in the schema that arrow put into the footer, or in a place that the footer names.
    let at = |sought: &[u8]| {
        let mut places = bytes.windows(sought.len());
        places.position(|bytes| bytes == sought).unwrap()
    };
    for place in [at(b"ARROW:schema") + 40, bytes.len() - 7, bytes.len() - 300] {
        for byte in [0, 0xff] {
            let mut damaged = bytes.clone();
            damaged[place] = byte;
            bad_file(
                "bad.parquet",
                &damaged,
                &["bad.parquet", "have the source send it again"],
            );
        }
    }
    // Whole, it is billed.
    let desk = self::desk();
    desk.write("usage/whole.parquet", &bytes);
    let ended = desk.run();
    assert_eq!(ended.totals(), ["1249750 EUR"], "{ended:?}");
}

/// A job that must not start: what it says, and that nothing was written.
#[track_caller]
fn refused(desk: &Desk, said: &[&str]) {
    let ended = desk.run();
    assert_eq!(
        (ended.exit, ended.out.as_str()),
        (Exit::Unusable, ""),
        "{ended:?}"
    );
    for expected in said {
        assert!(
            ended.err.contains(expected),
            "{expected:?} is not in\n{}",
            ended.err
        );
    }
    assert!(
        !desk.at("out").exists(),
        "a job that does not start writes nothing"
    );
}

#[test]
fn a_catalog_with_overlapping_versions_is_refused() {
    let desk = desk();
    desk.write("usage/good.csv", format!("{HEADER}{FIRST}{LAST}"));
    let version = |from: &str, to: &str, price: &str| {
        format!(
            "  - {{ item: seconds, when: {{ zone: far }}, price: {price}, from: {from}, to: {to} }}\n"
        )
    };
    let (one, two) = (
        version("2026-01-01", "2026-03-01", "0.05"),
        version("2026-02-01", "2026-04-01", "0.06"),
    );
    desk.write(
        "catalog.yaml",
        format!("currency: EUR\nprices:\n{one}{two}"),
    );
    refused(&desk, &["catalog.yaml", "overlap"]);
}

#[test]
fn unknown_keys_are_refused_all_at_once_with_their_place() {
    let desk = desk();
    desk.write("usage/good.csv", format!("{HEADER}{FIRST}{LAST}"));
    desk.write("catalog.yaml", CATALOG.replace("prices:", "prizes:"));
    desk.write(
        "accounts.yaml",
        ACCOUNTS.replace("price_lists:", "pricelists:"),
    );
    refused(
        &desk,
        &[
            "catalog.yaml:2:1",
            "did you mean \"prices\"?",
            "accounts.yaml:4:",
            "price_lists",
        ],
    );
    desk.write(
        "job.yaml",
        JOB.replace("time_zone: UTC", "time_zone: UTC\nretries: 3"),
    );
    refused(&desk, &["job.yaml:3:1", "retries"]);
}

#[test]
fn a_folder_where_a_file_is_expected_is_refused() {
    let desk = desk();
    desk.write("usage/good.csv", format!("{HEADER}{FIRST}{LAST}"));
    desk.write("job.yaml", JOB.replace("catalog.yaml", "usage"));
    refused(&desk, &["usage"]);
    desk.write("job.yaml", JOB.replace("mediation.yaml", "usage"));
    refused(&desk, &["usage"]);
}

#[test]
fn a_folder_that_is_called_like_a_file_is_a_folder_of_files() {
    let desk = desk();
    desk.write("usage/calls.csv/part.csv", format!("{HEADER}{FIRST}"));
    let ended = desk.run();
    assert_eq!(
        (ended.exit, ended.totals()),
        (Exit::Ok, vec![FIRST_ALONE.to_owned()]),
        "{ended:?}"
    );
    assert_eq!(ledger(&desk, "calls.csv/part.csv").0, "loaded");
}

#[test]
fn an_account_with_a_zone_of_its_own_is_told_what_there_is_instead() {
    let accounts =
        "accounts:\n  - { id: tokyo, currency: USD, billing: { time_zone: Asia/Tokyo } }\n";
    let desk = Desk::new(&[
        ("job.yaml", JOB),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", accounts),
    ]);
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Unusable);
    let said = "bill customers of another zone by a job of their own";
    assert!(ended.err.contains(said), "{}", ended.err);
    assert!(ended.err.contains("accounts.yaml:2:44"), "{}", ended.err);
}
