//! Fields that are empty or absent, in every place of a rule and every format: nothing that hangs on
//! them is charged in silence.

use super::*;
use crate::decode::{DecodeOptions, Decoder, Format};
use crate::lookup::Lookups;
use crate::store::Store;
use arrow::array::{Int64Array, StringArray};
use parquet::arrow::ArrowWriter;
use std::fmt::Write as _;
use std::path::Path;

/// A record: what `c` and `x` hold, next to fields that are always there.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Record {
    c: Option<i64>,
    x: Option<&'static str>,
}

const FORMATS: [&str; 3] = ["csv", "jsonl", "parquet"];

fn write(folder: &Path, format: &str, records: &[Record], with_columns: bool) {
    let path = folder.join(format!("a.{format}"));
    let rows = records.iter().enumerate();
    let mut text = String::new();
    match format {
        "csv" => {
            text.push_str("id,team,t,n,k");
            text.push_str(if with_columns { ",c,x\n" } else { "\n" });
            for (row, record) in rows {
                write!(text, "r{row},red,2026-08-01,10,k").unwrap();
                if with_columns {
                    let c = record.c.map_or_else(String::new, |c| c.to_string());
                    write!(text, ",{c},{}", record.x.unwrap_or_default()).unwrap();
                }
                text.push('\n');
            }
            std::fs::write(path, text).unwrap();
        }
        "jsonl" => {
            for (row, record) in rows {
                let mut object = serde_json::json!({
                    "id": format!("r{row}"), "team": "red", "t": "2026-08-01", "n": 10, "k": "k",
                });
                if with_columns {
                    object["c"] = record.c.into();
                    object["x"] = record.x.into();
                }
                writeln!(text, "{object}").unwrap();
            }
            std::fs::write(path, text).unwrap();
        }
        _ => {
            let texts = |value: &dyn Fn(usize) -> Option<String>| -> ArrayRef {
                Arc::new((0..records.len()).map(value).collect::<StringArray>())
            };
            let always = |value: &str| {
                let value = value.to_owned();
                texts(&move |_| Some(value.clone()))
            };
            let ten = Int64Array::from(vec![10; records.len()]);
            let mut columns: Vec<(&str, ArrayRef)> = vec![
                ("id", texts(&|row| Some(format!("r{row}")))),
                ("team", always("red")),
                ("t", always("2026-08-01")),
                ("n", Arc::new(ten)),
                ("k", always("k")),
            ];
            if with_columns {
                let c: Int64Array = records.iter().map(|record| record.c).collect();
                columns.push(("c", Arc::new(c)));
                columns.push(("x", texts(&|row| records[row].x.map(str::to_owned))));
            }
            let batch = RecordBatch::try_from_iter(columns).unwrap();
            let file = std::fs::File::create(path).unwrap();
            let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
        }
    }
}

/// What mediation makes of a file; the message when it cannot be opened.
fn mediated(rule: &str, folder: &Path, format: &str) -> Result<Mediated, String> {
    let rule: MediationRule = serde_saphyr::from_str(rule).unwrap();
    let part = str::to_owned;
    let stream = StreamId {
        platform: part("p"),
        service_type: part("s"),
        record_type: part("r"),
    };
    let (lookups, names) = (Arc::new(Lookups::default()), Arc::new(Names::default()));
    let plan = MediationPlan::compile(
        stream,
        &rule,
        "job.yaml",
        &lookups,
        names,
        &crate::times::TimeRules::default(),
    )
    .unwrap();
    let store = Store::open(&format!("a.{format}"), folder).unwrap();
    let file = store.list().unwrap().remove(0);
    let options = DecodeOptions::default();
    let format = Format::of_name(&file.name).unwrap();
    let mut decoder = Decoder::open(&store, &file, FileId(1), &format, plan.columns(), &options)
        .map_err(|error| error.to_string())?;
    let mut mediator = plan.mediator(decoder.schema()).unwrap();
    let mut out = Mediated::default();
    while let Some(chunk) = decoder.next_chunk() {
        mediator.mediate(&chunk, FileId(1), &mut out);
    }
    let fates = out.usage.len() + out.faults.len() + out.ignored.len();
    assert_eq!(out.received, u64::try_from(fates).unwrap());
    Ok(out)
}

/// A rule with one expression in one place; `k` keeps it right otherwise.
fn rule(place: &str, sql: &str, may_be: &str) -> String {
    let mut rule = format!(
        "columns:\n  t: timestamp\n  n: bigint\n  c: {{ type: bigint{may_be} }}\n  \
         x: {{ type: text{may_be} }}\n"
    );
    let sql = match place.strip_prefix("let ") {
        Some(_) => {
            writeln!(rule, "let:\n  v: \"{sql}\"").unwrap();
            "v".to_owned()
        }
        None => sql.to_owned(),
    };
    let place = place.strip_prefix("let ").unwrap_or(place);
    let at = |wanted: &str, otherwise: &str| {
        if place == wanted {
            format!("\"{sql}\"")
        } else {
            otherwise.to_owned()
        }
    };
    if place == "where" {
        writeln!(rule, "where: \"{sql}\"").unwrap();
    }
    writeln!(rule, "identity: [id, {}]", at("identity", "k")).unwrap();
    writeln!(rule, "service: {}", at("service", "team")).unwrap();
    writeln!(rule, "time: {}", at("time", "t")).unwrap();
    writeln!(rule, "attributes: {{ z: {} }}", at("attributes", "k")).unwrap();
    writeln!(rule, "charges: {{ n: n, q: {} }}", at("charges", "n")).unwrap();
    rule
}

#[test]
fn what_hangs_on_an_empty_field_is_told_in_every_place_and_format() {
    const OK: Option<Reason> = None;
    let quantity = Some(Reason::QuantityMissing);
    let filter = Some(Reason::FilterUndecided);
    let identity = Some(Reason::IdentityMissing);
    let attribute = Some(Reason::AttributeUndecided);
    let (service, time) = (Some(Reason::ServiceMissing), Some(Reason::TimeMissing));
    let table = [
        ("charges", "n - c", quantity),
        ("charges", "ceil_units(c, 60)", quantity),
        ("charges", "greatest(n, c)", quantity),
        ("charges", "CASE WHEN c > 1 THEN n ELSE 0 END", quantity),
        ("charges", "CASE WHEN x = 'a' THEN n ELSE 0 END", quantity),
        ("charges", "CASE WHEN n > 5 THEN n ELSE c + 1 END", OK),
        ("charges", "CASE WHEN n < 5 THEN c END", OK),
        ("charges", "n - coalesce(c, 0)", OK),
        ("charges", "c", OK),
        ("charges", "decimal(c, 2)", OK),
        ("charges", "round_half_even(decimal(c, 4), 2)", OK),
        ("charges", "nullif(c, 0)", OK),
        ("where", "c > 1", filter),
        ("where", "x = 'a'", filter),
        ("where", "c IN (1, 4)", filter),
        ("where", "n > 5 AND c > 1", filter),
        ("where", "n > 5 OR c > 1", OK),
        ("where", "coalesce(c, 4) > 1", OK),
        ("where", "c IS NULL OR c > 1", OK),
        ("where", "x IS DISTINCT FROM 'b'", OK),
        ("identity", "c", identity),
        ("identity", "x", identity),
        ("identity", "concat(x, 'a')", identity),
        ("identity", "coalesce(x, '')", OK),
        ("identity", "coalesce(c, 0)", OK),
        ("service", "x", service),
        ("service", "concat(team, x)", service),
        (
            "service",
            "CASE WHEN x = 'a' THEN team ELSE 'blue' END",
            service,
        ),
        ("service", "coalesce(x, team)", OK),
        ("time", "plus_seconds(t, c)", time),
        ("time", "plus_seconds(t, coalesce(c, 0))", OK),
        ("attributes", "x", OK),
        ("attributes", "lower(x)", OK),
        ("attributes", "c", OK),
        ("attributes", "c > 1", attribute),
        ("attributes", "concat('a', x)", attribute),
        ("attributes", "coalesce(x, 'other')", OK),
    ];
    let whole = Record {
        c: Some(4),
        x: Some("a"),
    };
    let records = [whole, Record { c: None, x: None }];
    for format in FORMATS {
        for with_columns in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), format, &records, with_columns);
            for (place, sql, expected) in table {
                for place in [place.to_owned(), format!("let {place}")] {
                    let told = format!("{place} {sql} {format} {with_columns}");
                    let found = mediated(&rule(&place, sql, ""), folder.path(), format);
                    if !with_columns && format != "jsonl" {
                        let error = found.unwrap_err();
                        // Without what tells records apart, they would be taken for one.
                        let advised = !place.contains("identity");
                        let advises = error.contains("may_be: absent");
                        assert_eq!(advises, advised, "{told}: {error}");
                        continue;
                    }
                    let found = found.unwrap();
                    let reasons: Vec<_> = found.faults.iter().map(|f| f.reason).collect();
                    let affected = if with_columns { 1 } else { 2 };
                    match expected {
                        Some(reason) => assert_eq!(reasons, vec![reason; affected], "{told}"),
                        None => assert_eq!(reasons, [], "{told}"),
                    }
                    assert_eq!(found.ignored, [], "{told}");
                    for fault in &found.faults {
                        let names_field = ["c", "x"].iter().any(|name| {
                            fault.detail.contains(&format!("on {name},"))
                                || fault.detail.contains(&format!("`{name}`"))
                        });
                        assert!(names_field, "{told}: {}", fault.detail);
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_declared_is_what_sql_makes_of_it() {
    for format in FORMATS {
        for with_columns in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            write(
                folder.path(),
                format,
                &[Record { c: None, x: None }],
                with_columns,
            );
            for (place, sql, usage) in [
                ("charges", "n - c", 1),
                ("charges", "CASE WHEN c > 1 THEN n ELSE 0 END", 1),
                ("identity", "x", 1),
                ("attributes", "concat('a', x)", 1),
                ("where", "c > 1", 0),
            ] {
                let found = mediated(&rule(place, sql, ", may_be: absent"), folder.path(), format);
                let found = found.unwrap();
                assert_eq!(found.faults, [], "{place} {sql} {format}");
                assert_eq!(found.usage.len(), usage, "{place} {sql} {format}");
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_told_in_every_place_and_format() {
    let quantity = Some(Reason::QuantityMissing);
    let part = "`TRY_CAST(x AS Int64)`, which has no value";
    let table = [
        ("charges", "TRY_CAST(x AS bigint)", quantity, part),
        ("charges", "coalesce(TRY_CAST(x AS bigint), 0)", None, ""),
        (
            "charges",
            "CASE WHEN TRY_CAST(x AS bigint) > 5 THEN n ELSE 1 END",
            quantity,
            part,
        ),
        ("charges", "nullif(c, 4)", None, ""),
        ("charges", "n - nullif(c, 4)", quantity, "`nullif(c, 4)`"),
        ("charges", "n - coalesce(nullif(c, 4), 0)", None, ""),
        (
            "where",
            "TRY_CAST(x AS bigint) > 5",
            Some(Reason::FilterUndecided),
            part,
        ),
        (
            "identity",
            "TRY_CAST(x AS bigint)",
            Some(Reason::IdentityMissing),
            part,
        ),
        (
            "service",
            "TRY_CAST(x AS bigint)",
            Some(Reason::ServiceMissing),
            part,
        ),
        (
            "attributes",
            "TRY_CAST(x AS bigint)",
            Some(Reason::AttributeUndecided),
            part,
        ),
        ("attributes", "nullif(x, 'a')", None, ""),
    ];
    for format in FORMATS {
        let folder = tempfile::tempdir().unwrap();
        let record = Record {
            c: Some(4),
            x: Some("a"),
        };
        write(folder.path(), format, &[record], true);
        for (place, sql, reason, part) in table {
            for place in [place.to_owned(), format!("let {place}")] {
                // That a field may be empty says nothing of one that cannot be read.
                for may_be in ["", ", may_be: empty"] {
                    let told = format!("{place} {sql} {format} {may_be}");
                    let found = mediated(&rule(&place, sql, may_be), folder.path(), format);
                    let found = found.unwrap();
                    let reasons: Vec<_> = found.faults.iter().map(|f| f.reason).collect();
                    assert_eq!(reasons, Vec::from_iter(reason), "{told}");
                    for fault in &found.faults {
                        assert!(fault.detail.contains(part), "{told}: {}", fault.detail);
                    }
                }
            }
        }
    }
}

#[test]
fn guards_keep_their_order_around_what_is_undecided() {
    let csv = "id,team,t,n,k,c,x\nr0,,2026-08-01,10,k,,\n,red,2026-08-01,10,,,\nr2,red,,10,k,,\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), csv).unwrap();
    let found = mediated(&rule("charges", "n - c", ""), folder.path(), "csv").unwrap();
    let reasons: Vec<_> = found.faults.iter().map(|fault| fault.reason).collect();
    use Reason::{IdentityMissing, ServiceMissing, TimeMissing};
    assert_eq!(reasons, [ServiceMissing, IdentityMissing, TimeMissing]);
    assert_eq!(found.classes, [], "what is not usage leaves no class");
}

#[test]
fn an_empty_text_is_an_empty_number_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(
        path("a.csv"),
        "id,team,t,n,k,c,x\nr,red,2026-08-01,10,k,,\n",
    )
    .unwrap();
    let json = r#"{"id":"r","team":"red","t":"2026-08-01","n":10,"k":"k","c":"","x":""}"#;
    std::fs::write(path("a.jsonl"), json).unwrap();
    let columns = [
        ("id", "r"),
        ("team", "red"),
        ("t", "2026-08-01"),
        ("n", "10"),
        ("k", "k"),
        ("c", ""),
        ("x", ""),
    ];
    let columns = columns.map(|(name, value)| {
        let array: ArrayRef = Arc::new(StringArray::from(vec![value]));
        (name, array)
    });
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(path("a.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    for format in FORMATS {
        let reason = |place: &str, sql: &str| {
            let found = mediated(&rule(place, sql, ""), folder.path(), format).unwrap();
            found.faults.first().map(|fault| fault.reason)
        };
        assert_eq!(
            reason("charges", "n - c"),
            Some(Reason::QuantityMissing),
            "{format}"
        );
        assert_eq!(reason("charges", "n - coalesce(c, 0)"), None, "{format}");
        assert_eq!(
            reason("identity", "x"),
            Some(Reason::IdentityMissing),
            "{format}"
        );
        assert_eq!(
            reason("service", "x"),
            Some(Reason::ServiceMissing),
            "{format}"
        );
    }
}

#[test]
fn digits_that_do_not_fit_are_told_by_record_and_zeros_are_no_digits() {
    let rule = |charge: &str| {
        format!(
            "columns: {{ t: timestamp, c: \"decimal(38,18)\" }}\nidentity: [id]\nservice: id\ntime: t\n\
             charges: {{ q: \"{charge}\" }}\n"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let values = [
        "2469135.500000",
        "0.000020833333000000",
        "0.0000208333330001",
        "123456789.123456789012",
        "12345678.1234567890",
        "0",
    ];
    let rows: Vec<String> = (1..)
        .zip(values)
        .map(|(row, c)| format!("r{row},2026-08-01,{c}\n"))
        .collect();
    let csv = format!("id,t,c\n{}", rows.concat());
    std::fs::write(folder.path().join("a.csv"), csv).unwrap();
    for charge in ["c", "round_half_even(c, 12)"] {
        let found = mediated(&rule(charge), folder.path(), "csv").unwrap();
        let scales = found
            .classes
            .iter()
            .map(|(key, class)| (*key, class.items[0].scale));
        let scales: BTreeMap<_, _> = scales.collect();
        let got: BTreeMap<u64, (i64, u8)> = found
            .usage
            .iter()
            .map(|usage| {
                (
                    usage.record.row(),
                    (usage.quantities[0], scales[&usage.class]),
                )
            })
            .collect();
        assert_eq!(got[&0], (246_913_550_000_000_000, 11), "{charge}");
        assert_eq!(got[&1], (20_833_333, 12), "{charge}");
        assert_eq!(got[&4], (123_456_781_234_567_890, 10), "{charge}");
        assert_eq!(got[&5], (0, 12), "{charge}");
        let told: Vec<_> = found
            .faults
            .iter()
            .map(|fault| (fault.record.row(), fault.reason, fault.detail.as_str()))
            .collect();
        let large = (
            3,
            Reason::QuantityOutOfRange,
            "the quantity is 123456789.123456789012",
        );
        let fine = (
            2,
            Reason::QuantityOutOfRange,
            "the quantity is 0.0000208333330001",
        );
        match charge {
            "c" => assert_eq!(told, [fine, large]),
            _ => assert_eq!(told, [large]),
        }
    }
}
