//! Event times: whatever the format, the same text or value means the same instant, or is told.

use crate::decode::{DecodeOptions, Decoder, Format};
use crate::lookup::Lookups;
use crate::mediate::{Mediated, MediationPlan, MediationRule};
use crate::names::Names;
use crate::store::Store;
use crate::stream::StreamId;
use crate::times::{TimeRange, TimeReading, TimeRules};
use arrow::array::{
    ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray,
};
use millrace_operators::domain::{EventTime, FileId};
use std::path::Path;
use std::sync::Arc;

fn rules() -> TimeRules {
    let at = |text: &str| EventTime::from(text.parse::<jiff::Timestamp>().unwrap());
    TimeRules {
        reading: TimeReading::of_tenant(TimeReading::zone_named("America/New_York").unwrap()),
        range: TimeRange {
            earliest: at("2000-01-01T00:00:00Z"),
            latest: at("2027-01-01T00:00:00Z"),
        },
    }
}

fn rule(column: &str, time: &str) -> String {
    format!(
        "columns: {{ t: {column} }}\nidentity: [t]\nservice: \"'s'\"\ntime: {time}\n\
         charges: {{ n: '1' }}\n"
    )
}

fn compile(rule: &str) -> MediationPlan {
    let rule: MediationRule = serde_saphyr::from_str(rule).unwrap();
    let stream = StreamId {
        platform: "p".to_owned(),
        service_type: "s".to_owned(),
        record_type: "postpaid".to_owned(),
    };
    let lookups = Arc::new(Lookups::default());
    let names = Arc::new(Names::default());
    MediationPlan::compile(stream, &rule, "job.yaml", &lookups, names, &rules()).unwrap()
}

/// Mediates the one file of a folder; an error is what keeps it from being read.
fn mediate(folder: &Path, rule: &str) -> Result<Mediated, String> {
    let plan = compile(rule);
    let store = Store::open(&folder.display().to_string(), folder).unwrap();
    let files = store.list().unwrap();
    let format = Format::of_name(&files[0].name).unwrap();
    let (file, options) = (FileId(1), DecodeOptions::default());
    let decoder = Decoder::open(&store, &files[0], file, &format, plan.columns(), &options);
    let mut decoder = decoder.map_err(|error| error.to_string())?;
    let mediator = plan.mediator(decoder.schema());
    let mut mediator = mediator.map_err(|findings| findings[0].to_string())?;
    let mut out = Mediated::default();
    while let Some(chunk) = decoder.next_chunk() {
        mediator.mediate(&chunk, file, &mut out);
    }
    Ok(out)
}

/// What becomes of one record: its event time, or the reason and what is told.
fn told(mediated: Result<Mediated, String>) -> String {
    let out = match mediated {
        Ok(out) => out,
        Err(error) => return error,
    };
    match (out.usage.as_slice(), out.faults.as_slice()) {
        ([usage], []) => usage.time.to_string(),
        ([], [fault]) => format!("{} {}", fault.reason.code(), fault.detail),
        other => panic!("{other:?}"),
    }
}

/// The same text in every format that has texts.
fn of_text(text: &str, column: &str, time: &str) -> Vec<String> {
    let parquet: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let files = [
        ("a.csv", format!("t\n\"{text}\"\n")),
        ("a.jsonl", format!("{{\"t\": \"{text}\"}}\n")),
        ("a.json", format!("[{{\"t\": \"{text}\"}}]")),
    ];
    let mut found: Vec<String> = files
        .iter()
        .map(|(name, content)| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(name), content).unwrap();
            told(mediate(folder.path(), &rule(column, time)))
        })
        .collect();
    found.push(of_values(parquet, column, time));
    found
}

fn write_parquet(folder: &Path, values: ArrayRef) {
    let batch = RecordBatch::try_from_iter([("t", values)]).unwrap();
    let file = std::fs::File::create(folder.join("a.parquet")).unwrap();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn of_values(values: ArrayRef, column: &str, time: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    write_parquet(folder.path(), values);
    told(mediate(folder.path(), &rule(column, time)))
}

#[test]
fn a_text_means_the_same_in_every_format() {
    for (text, column, instant) in [
        ("2026-03-31", "timestamp", "2026-03-31T04:00:00Z"),
        ("2026-03-31", "date", "2026-03-31T04:00:00Z"),
        (
            "2026-03-31",
            "timestamp('Asia/Tokyo')",
            "2026-03-30T15:00:00Z",
        ),
        ("2026-03-31 21:30", "timestamp", "2026-04-01T01:30:00Z"),
        (
            "2026-03-31 21:30",
            "timestamp('Europe/Prague')",
            "2026-03-31T19:30:00Z",
        ),
        (
            "2026-03-31T21:30:00Z",
            "timestamp('Europe/Prague')",
            "2026-03-31T21:30:00Z",
        ),
        ("2026-07-01T24:00", "timestamp", "2026-07-02T04:00:00Z"),
        (
            "2026-06-30T23:59:60Z",
            "timestamp",
            "2026-06-30T23:59:59.999999Z",
        ),
        (
            "2026-11-01 01:30",
            "timestamp",
            "TIME_AMBIGUOUS \"2026-11-01 01:30\" comes twice in America/New_York, where clocks are changed then",
        ),
        (
            "2026-03-08 02:30",
            "timestamp",
            "TIME_AMBIGUOUS \"2026-03-08 02:30\" never comes in America/New_York, where clocks are changed then",
        ),
        (
            "2026-11-01 01:30",
            "{ type: timestamp, ambiguous: earlier }",
            "2026-11-01T05:30:00Z",
        ),
        (
            "2026-11-01 01:30",
            "{ type: timestamp, ambiguous: later }",
            "2026-11-01T06:30:00Z",
        ),
        (
            "2026-10-25 02:30",
            "{ type: timestamp, zone: Europe/Prague, ambiguous: later }",
            "2026-10-25T01:30:00Z",
        ),
        (
            "1780308000",
            "timestamp",
            "FIELD_UNPARSABLE \"1780308000\" is not of type timestamp: a number does not say its unit; declare the column as bigint or decimal, and write to_timestamp_seconds(column), or _millis, _micros, _nanos",
        ),
        (
            "9999-12-31",
            "timestamp",
            "TIME_OUT_OF_RANGE \"9999-12-31\" is outside of the years that instants have, 1677 to 2262",
        ),
    ] {
        for found in of_text(text, column, "t") {
            assert_eq!(found, instant, "{text} as {column}");
        }
    }
    for (text, instant) in [
        ("2026-03-31 21:30", "2026-04-01T01:30:00Z"),
        (
            "2026-11-01 01:30",
            "TIME_AMBIGUOUS \"2026-11-01 01:30\" comes twice in America/New_York, where clocks are changed then",
        ),
    ] {
        for time in ["CAST(t AS TIMESTAMP)", "instant(t)", "to_timestamp(t)"] {
            for found in of_text(text, "text", time) {
                assert_eq!(found, instant, "{text} by {time}");
            }
        }
    }
}

#[test]
fn typed_values_mean_instants_too() {
    // 2026-03-31 21:30 on a clock, in each unit.
    let clock = 1_774_992_600_i64;
    let local = "2026-04-01T01:30:00Z";
    let utc = "2026-03-31T21:30:00Z";
    let micros = || TimestampMicrosecondArray::from(vec![clock * 1_000_000]);
    let millis = || TimestampMillisecondArray::from(vec![clock * 1_000]);
    let nanos = || TimestampNanosecondArray::from(vec![clock * 1_000_000_000]);
    let day = || Arc::new(Date32Array::from(vec![20_543]));
    for (values, column, instant) in [
        (Arc::new(micros()) as ArrayRef, "{ may_be: empty }", local),
        (Arc::new(millis()), "timestamp", local),
        (Arc::new(nanos()), "timestamp", local),
        (
            Arc::new(micros()),
            "timestamp('Europe/Prague')",
            "2026-03-31T19:30:00Z",
        ),
        (Arc::new(micros().with_timezone("UTC")), "timestamp", utc),
        (
            Arc::new(nanos().with_timezone("Asia/Tokyo")),
            "{ may_be: empty }",
            utc,
        ),
        (
            Arc::new(millis().with_timezone("UTC")),
            "{ may_be: empty }",
            utc,
        ),
        (day(), "date", "2026-03-31T04:00:00Z"),
        (day(), "timestamp", "2026-03-31T04:00:00Z"),
        (day(), "timestamp('Europe/Prague')", "2026-03-30T22:00:00Z"),
    ] {
        assert_eq!(of_values(values, column, "t"), instant, "{column}");
    }
    let dst = TimestampMicrosecondArray::from(vec![1_793_496_600_000_000]);
    let found = of_values(Arc::new(dst), "timestamp", "t");
    assert!(
        found.starts_with("TIME_AMBIGUOUS 2026-11-01T01:30:00 comes twice"),
        "{found}"
    );
    let far = TimestampMicrosecondArray::from(vec![252_000_000_000_000_000]).with_timezone("UTC");
    let found = of_values(Arc::new(far), "timestamp", "t");
    assert!(
        found.starts_with("TIME_OUT_OF_RANGE 9955-07-25T16:00:00 is outside"),
        "{found}"
    );
    // A zone for instants, or a unit for numbers, would have to be guessed.
    let found = of_values(
        Arc::new(micros().with_timezone("UTC")),
        "timestamp('Asia/Tokyo')",
        "t",
    );
    assert!(found.contains("holds instants"), "{found}");
    let found = of_values(Arc::new(Int64Array::from(vec![clock])), "timestamp", "t");
    assert!(found.contains("to_timestamp_seconds"), "{found}");
    let found = of_values(Arc::new(Int64Array::from(vec![clock])), "bigint", "t");
    assert!(found.contains("to_timestamp_seconds"), "{found}");
}

#[test]
fn times_that_are_not_real_are_told_as_they_stand() {
    for (text, column, time, said) in [
        (
            "1970-01-01 01:00:00",
            "timestamp",
            "t",
            "t \"1970-01-01 01:00:00\", the event time is 1970-01-01T06:00:00Z, before 2000-01-01T00:00:00Z, the earliest taken for real",
        ),
        (
            "2027-01-01T00:00:00Z",
            "timestamp",
            "t",
            "t \"2027-01-01T00:00:00Z\", the event time is 2027-01-01T00:00:00Z, too far ahead, not before 2027-01-01T00:00:00Z",
        ),
        (
            "0",
            "bigint",
            "to_timestamp_millis(t)",
            "t \"0\", the event time is 1970-01-01T00:00:00Z, before 2000-01-01T00:00:00Z, the earliest taken for real",
        ),
        (
            "1780308000",
            "bigint",
            "to_timestamp_millis(t)",
            "t \"1780308000\", the event time is 1970-01-21T14:31:48Z, before 2000-01-01T00:00:00Z, the earliest taken for real",
        ),
        (
            "1780308000000000",
            "bigint",
            "to_timestamp_millis(t)",
            "1780308000000000 is outside of the years that instants have, 1677 to 2262",
        ),
    ] {
        for found in of_text(text, column, time) {
            let parquet =
                found.replace("1970-01-01T06:00:00Z\", the", "1970-01-01 01:00:00\", the");
            assert_eq!(parquet, format!("TIME_OUT_OF_RANGE {said}"), "{text}");
        }
    }
    for text in ["2000-01-01T00:00:00Z", "2026-12-31T23:59:59.999999999Z"] {
        let found = of_text(text, "timestamp", "t");
        assert!(
            found.iter().all(|found| !found.contains("OUT_OF_RANGE")),
            "{found:?}"
        );
    }
}

#[test]
fn identities_keep_all_digits_of_a_time() {
    let nanos = [1_780_308_000_123_456_100_i64, 1_780_308_000_123_456_900];
    let instant = |nanos: &i64| jiff::Timestamp::from_nanosecond(i128::from(*nanos)).unwrap();
    let identities = |folder: &Path| -> Vec<_> {
        let out = mediate(folder, &rule("timestamp", "t")).unwrap();
        assert_eq!(out.usage[0].time, out.usage[1].time);
        out.usage.iter().map(|usage| usage.identity).collect()
    };
    let lines = |form: &dyn Fn(String) -> String| -> String {
        nanos
            .iter()
            .map(|nanos| form(instant(nanos).to_string()))
            .collect()
    };
    let csv = tempfile::tempdir().unwrap();
    let text = lines(&|at| format!("{at}\n"));
    std::fs::write(csv.path().join("a.csv"), format!("t\n{text}")).unwrap();
    let json = tempfile::tempdir().unwrap();
    let text = lines(&|at| format!("{{\"t\":\"{at}\"}}\n"));
    std::fs::write(json.path().join("a.jsonl"), text).unwrap();
    let typed = tempfile::tempdir().unwrap();
    let values = TimestampNanosecondArray::from(nanos.to_vec()).with_timezone("UTC");
    write_parquet(typed.path(), Arc::new(values));
    let [first, second] = identities(csv.path())[..] else {
        panic!("two records are two");
    };
    assert_ne!(first, second);
    assert_eq!(identities(json.path()), [first, second]);
    assert_eq!(identities(typed.path()), [first, second]);
}

#[test]
fn a_time_shown_elsewhere_is_no_event_time() {
    let found = of_text(
        "2026-03-31 21:30",
        "timestamp",
        "t AT TIME ZONE 'Europe/Prague'",
    );
    for found in found {
        assert!(
            found.contains("declare it as timestamp('Europe/Prague')"),
            "{found}"
        );
    }
    let same = of_text(
        "2026-03-31 21:30",
        "timestamp",
        "t AT TIME ZONE 'America/New_York'",
    );
    assert!(
        same.iter().all(|found| found == "2026-04-01T01:30:00Z"),
        "{same:?}"
    );
    let meant = of_text(
        "2026-03-31 21:30",
        "timestamp",
        "instant(t AT TIME ZONE 'Europe/Prague')",
    );
    assert!(
        meant.iter().all(|found| found == "2026-04-01T01:30:00Z"),
        "{meant:?}"
    );
}
