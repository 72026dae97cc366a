use crate::expression::{ExpressionError, Functions, Parsed};
use crate::lookup::Lookups;
use crate::times::{TimeReading, instants};
use arrow::array::{
    ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::sync::Arc;

/// 2026-03-31 21:30 in New York, where it is April in UTC; and 01:30 when clocks are put back.
const INSTANTS: [i64; 2] = [1_775_007_000_000_000_000, 1_793_511_000_000_000_001];

fn times() -> TimeReading {
    TimeReading::of_tenant(TimeReading::zone_named("America/New_York").unwrap())
}

fn batch() -> RecordBatch {
    let at: ArrayRef =
        Arc::new(TimestampNanosecondArray::from(INSTANTS.to_vec()).with_timezone("UTC"));
    let at = instants(&at, &times(), |_, _, _| panic!("instants are instants")).unwrap();
    let text = |values: [&str; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    RecordBatch::try_from_iter([
        ("at", at),
        (
            "local",
            text(["2026-03-31T21:30:00", "2026-11-01T01:30:00"]),
        ),
        ("german", text(["31.03.2026 21:30", "01.04.2026 00:00"])),
        (
            "offset",
            text(["2026-04-01T01:30:00Z", "2026-04-01T03:30:00+02:00"]),
        ),
        ("day", Arc::new(Date32Array::from(vec![20_543, 20_544]))),
        ("n", Arc::new(Int64Array::from(vec![1_775_007_000, 0]))),
    ])
    .unwrap()
}

fn values(sql: &str) -> Result<Vec<String>, ExpressionError> {
    let functions = Functions::new(&Arc::new(Lookups::default()), &times());
    let evaluated = Parsed::parse(sql)?
        .plan(&batch().schema(), &functions)?
        .evaluate(&batch());
    let shown = ArrayFormatter::try_new(&evaluated.values, &FormatOptions::default()).unwrap();
    let failure = |row| evaluated.failures.iter().find(|failure| failure.row == row);
    Ok((0..2)
        .map(|row| match failure(row) {
            Some(failure) => failure.reason.code().to_owned(),
            None => shown.value(row).to_string(),
        })
        .collect())
}

#[test]
fn times_without_an_offset_are_the_tenants() {
    let evening = "2026-03-31T21:30:00-04:00";
    for (sql, expected) in [
        ("CAST(local AS TIMESTAMP)", [evening, "TIME_AMBIGUOUS"]),
        ("local::timestamp", [evening, "TIME_AMBIGUOUS"]),
        ("to_timestamp(local)", [evening, "TIME_AMBIGUOUS"]),
        ("instant(local)", [evening, "TIME_AMBIGUOUS"]),
        (
            "instant(local, 'America/New_York', 'later')",
            [evening, "2026-11-01T01:30:00-05:00"],
        ),
        (
            "instant(local, 'Asia/Tokyo')",
            ["2026-03-31T08:30:00-04:00", "2026-10-31T12:30:00-04:00"],
        ),
        (
            "CAST(local AS TIMESTAMP) AT TIME ZONE 'Asia/Tokyo'",
            ["2026-03-31T08:30:00-04:00", "2026-10-31T12:30:00-04:00"],
        ),
        (
            "CAST(offset AS TIMESTAMP) AT TIME ZONE 'Asia/Tokyo'",
            [evening, evening],
        ),
        ("CAST(offset AS TIMESTAMP)", [evening, evening]),
        ("TIMESTAMP '2026-03-31 21:30:00'", [evening, evening]),
        (
            "to_timestamp(german, '%d.%m.%Y %H:%M')",
            [evening, "2026-04-01T00:00:00-04:00"],
        ),
        (
            "date_trunc('day', local)",
            ["2026-03-31T00:00:00-04:00", "TIME_AMBIGUOUS"],
        ),
        (
            "CAST(day AS TIMESTAMP)",
            ["2026-03-31T00:00:00-04:00", "2026-04-01T00:00:00-04:00"],
        ),
        ("at >= DATE '2026-04-01'", ["false", "true"]),
        ("at >= '2026-03-31 21:30'", ["true", "true"]),
        ("at > TIMESTAMP '2026-03-31 21:30'", ["false", "true"]),
        (
            "at BETWEEN '2026-03-31' AND '2026-04-01'",
            ["true", "false"],
        ),
        ("day = CAST(at AS DATE)", ["true", "false"]),
        (
            "to_timestamp_seconds(n)",
            [evening, "1969-12-31T19:00:00-05:00"],
        ),
        (
            "to_timestamp_millis(n * 1000)",
            [evening, "1969-12-31T19:00:00-05:00"],
        ),
        (
            "to_timestamp_millis(divide(n, 1, 3) * 1000)",
            [evening, "1969-12-31T19:00:00-05:00"],
        ),
        (
            "plus_seconds(day, 0.000000001)",
            [
                "2026-03-31T00:00:00.000000001-04:00",
                "2026-04-01T00:00:00.000000001-04:00",
            ],
        ),
        ("to_date(offset)", ["2026-03-31", "2026-03-31"]),
        ("CAST(local AS DATE)", ["2026-03-31", "2026-11-01"]),
        (
            "to_date(german, '%d.%m.%Y %H:%M')",
            ["2026-03-31", "2026-04-01"],
        ),
    ] {
        let found = values(sql).unwrap_or_else(|error| panic!("{sql}: {error} ({})", error.hint));
        assert_eq!(found, expected, "{sql}");
    }
}

#[test]
fn date_functions_show_the_tenants_clock() {
    for (sql, expected) in [
        ("extract(hour from at)", ["21", "1"]),
        ("date_part('day', at)", ["31", "1"]),
        ("date_part('month', at) = 3", ["true", "false"]),
        ("extract(dow from at)", ["2", "0"]),
        (
            "extract(year from TIMESTAMP '2026-12-31 22:00:00') = 2026",
            ["true", "true"],
        ),
        (
            "extract(year from plus_seconds(at, 23760000)) = 2026",
            ["true", "false"],
        ),
        ("CAST(at AS DATE)", ["2026-03-31", "2026-11-01"]),
        (
            "date_trunc('day', at)",
            ["2026-03-31T00:00:00-04:00", "2026-11-01T00:00:00-04:00"],
        ),
        (
            "date_trunc('month', at)",
            ["2026-03-01T00:00:00-05:00", "2026-11-01T00:00:00-04:00"],
        ),
        (
            "date_trunc('hour', at)",
            ["2026-03-31T21:00:00-04:00", "2026-11-01T01:00:00-04:00"],
        ),
        (
            "to_char(at, '%Y-%m-%d %H:%M')",
            ["2026-03-31 21:30", "2026-11-01 01:30"],
        ),
        (
            "CAST(at AS TEXT)",
            [
                "2026-03-31T21:30:00-04:00",
                "2026-11-01T01:30:00.000000001-04:00",
            ],
        ),
        (
            "CAST(at AS TIMESTAMP)",
            [
                "2026-03-31T21:30:00-04:00",
                "2026-11-01T01:30:00.000000001-04:00",
            ],
        ),
        (
            "extract(hour from at AT TIME ZONE 'Asia/Tokyo')",
            ["10", "14"],
        ),
        (
            "CAST(at AT TIME ZONE 'Asia/Tokyo' AS DATE)",
            ["2026-04-01", "2026-11-01"],
        ),
        ("at AT TIME ZONE 'Asia/Tokyo' = at", ["true", "true"]),
        (
            "at + INTERVAL '1 day'",
            [
                "2026-04-01T21:30:00-04:00",
                "2026-11-02T01:30:00.000000001-05:00",
            ],
        ),
        ("to_unixtime(at)", ["1775007000", "1793511000"]),
    ] {
        let found = values(sql).unwrap_or_else(|error| panic!("{sql}: {error} ({})", error.hint));
        assert_eq!(found, expected, "{sql}");
    }
}

#[test]
fn nothing_is_guessed() {
    for (sql, hint) in [
        ("CAST(n AS TIMESTAMP)", "to_timestamp_seconds"),
        ("to_timestamp(n)", "to_timestamp_seconds"),
        ("to_timestamp_seconds(local)", "bigint"),
        ("CAST(at AS BIGINT)", "to_unixtime"),
        ("CAST(at - at AS BIGINT)", "to_unixtime(end)"),
        ("CAST(CAST(local AS TIME) AS BIGINT)", "date_part('hour'"),
        ("to_unixtime(CAST(at AS DATE))", "to_unixtime(instant(day))"),
        ("CAST(at AS TIMESTAMP(3))", "date_trunc"),
        ("date_bin(INTERVAL '1 day', at)", "date_trunc"),
        ("to_local_time(at)", "AT TIME ZONE"),
        ("to_unixtime(local)", "instant"),
        ("instant(local, 'Europe/Pragu')", "Europe/Prague"),
        ("instant(local, 'UTC', 'first')", "'earlier'"),
        ("TIMESTAMP '2026-11-01 01:30:00'", "offset"),
        ("at > 'soon'", "offset"),
        (
            "arrow_cast(local, 'Timestamp(Nanosecond, None)')",
            "instant",
        ),
        (
            "arrow_cast(local, 'Timestamp(Nanosecond, Some(\"+00:00\"))')",
            "instant",
        ),
        (
            "arrow_cast(n, 'Timestamp(Second, None)')",
            "to_timestamp_seconds",
        ),
    ] {
        match values(sql) {
            Err(error) => assert!(error.hint.contains(hint), "{sql}: {error} ({})", error.hint),
            Ok(found) => panic!("{sql}: {found:?}"),
        }
    }
}
