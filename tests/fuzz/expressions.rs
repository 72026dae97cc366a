//! Expressions: parsed, planned and evaluated, or told what is wrong with them. A record has one value
//! whichever records stand beside it.

use crate::harness::fuzz;
use arrow::array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use millrace_connectors::expression::{Functions, Parsed};
use millrace_connectors::lookup::{LookupTable, Lookups};
use millrace_connectors::times::TimeReading;
use std::sync::Arc;

fn records() -> RecordBatch {
    let a = Int64Array::from(vec![
        Some(1),
        None,
        Some(0),
        Some(i64::MAX),
        Some(i64::MIN),
        Some(-7),
    ]);
    let d = Decimal128Array::from(vec![
        Some(15_000),
        Some(0),
        None,
        Some(999_999_999_999_999_999),
        Some(-999_999_999_999_999_999),
        Some(1),
    ]);
    let d = d.with_precision_and_scale(18, 4).unwrap();
    let t = StringArray::from(vec![
        Some("a"),
        Some(""),
        None,
        Some("12.5"),
        Some("ž\u{1F600}b"),
        Some("2026-03-29T01:30:00Z"),
    ]);
    let at = TimestampMicrosecondArray::from(vec![
        Some(1_785_585_600_000_000),
        Some(0),
        None,
        Some(i64::MAX),
        Some(i64::MIN),
        Some(-1),
    ]);
    let f = Float64Array::from(vec![
        Some(0.1),
        Some(f64::NAN),
        None,
        Some(f64::INFINITY),
        Some(-0.0),
        Some(1e300),
    ]);
    let b = BooleanArray::from(vec![
        Some(true),
        Some(false),
        None,
        Some(true),
        None,
        Some(false),
    ]);
    let columns: [(&str, ArrayRef); 6] = [
        ("a", Arc::new(a)),
        ("d", Arc::new(d)),
        ("t", Arc::new(t)),
        ("at", Arc::new(at.with_timezone("+00:00"))),
        ("f", Arc::new(f)),
        ("b", Arc::new(b)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
        .unwrap()
}

#[test]
fn expressions() {
    let table = LookupTable::from_rows(&["zone"], &[("a", &[Some("home")]), ("12", &[None])]);
    let lookups = Arc::new(Lookups::new([("codes".to_owned(), Arc::new(table))]));
    let functions = Functions::new(&lookups, &TimeReading::default());
    let records = records();
    let words: [&[u8]; 40] = [
        b"a",
        b"d",
        b"t",
        b"at",
        b"f",
        b"b",
        b"+",
        b"-",
        b"*",
        b"/",
        b"%",
        b"||",
        b" and ",
        b" or ",
        b" not ",
        b" is null",
        b" in (1, 2)",
        b" between 1 and 2",
        b"(",
        b")",
        b",",
        b"'x'",
        b"''",
        b"null",
        b"1e9",
        b"9223372036854775807",
        b"-9223372036854775808",
        b"0.000000000000000001",
        b"case when b then a else 1 end",
        b"cast(",
        b" as bigint)",
        b"interval '1 day'",
        b"repeat(t, ",
        b"lpad(t, 70000",
        b"divide(a, d, 3)",
        b"ceil_units(a, 0)",
        b"date_trunc('month', at)",
        b"plus_seconds(at, a)",
        b"lookup('codes', 'zone', t)",
        b"regexp_like(t, '(a*)*b')",
    ];
    fuzz("expressions", &words, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let planned =
            Parsed::parse(&text).and_then(|parsed| parsed.plan(&records.schema(), &functions));
        let expression = match planned {
            Ok(expression) => expression,
            Err(error) => return assert!(!error.message.is_empty()),
        };
        let evaluated = expression.evaluate(&records);
        assert_eq!(evaluated.values.len(), records.num_rows());
        assert_eq!(evaluated.values.data_type(), expression.data_type());
        for row in 0..records.num_rows() {
            let alone = expression.evaluate(&records.slice(row, 1));
            let failed = evaluated.failures.iter().any(|failure| failure.row == row);
            assert_eq!(failed, !alone.failures.is_empty(), "row {row} of `{text}`");
            assert_eq!(
                evaluated.values.slice(row, 1).to_data(),
                alone.values.slice(0, 1).to_data(),
                "row {row} of `{text}`"
            );
        }
    });
}

/// What is too large is told by its size, before any record is read; what is just small enough works on
/// the stack of any thread.
#[test]
fn expressions_that_are_too_large() {
    let functions = Functions::new(&Arc::default(), &TimeReading::default());
    let records = records();
    let plan = |text: &str| {
        let parsed = Parsed::parse(text)?;
        parsed.plan(&records.schema(), &functions)
    };
    let joined = |part: &str, by: &str, count: usize| vec![part; count].join(by);
    for (text, said) in [
        (
            joined("a = 1", " or ", 1_200),
            "1201 levels, and 256 are the most",
        ),
        (joined("a", " + ", 30_000), "are the most"),
        (
            joined("a", " + ", 60_000),
            "an expression of 239997 bytes, and 65536 are the most",
        ),
        (
            format!("{}a{}", "(".repeat(900), ")".repeat(900)),
            "brackets or calls inside of each other",
        ),
        (
            format!("{}a{}", "abs(".repeat(900), ")".repeat(900)),
            "brackets or calls inside of each other",
        ),
        (
            "repeat('x', 1000000000)".to_owned(),
            "repeat would make a text of 1000000000 characters",
        ),
        (
            "lpad('x', 1000000000, 'y')".to_owned(),
            "lpad would make a text of 1000000000",
        ),
        (
            "rpad(t, 70000)".to_owned(),
            "rpad would make a text of 70000",
        ),
    ] {
        let error = plan(&text).unwrap_err();
        assert!(
            error.message.contains(said),
            "{} is not {said}",
            &error.message[..error.message.len().min(300)]
        );
        assert!(
            error.message.len() < 3_000,
            "a message is cut to a readable length"
        );
    }
    for text in [
        joined("a = 1", " or ", 250),
        joined("a", " + ", 250),
        format!("a in ({})", joined("17", ", ", 5_000)),
        format!("case {} end", joined("when a = 1 then 'x'", " ", 1_000)),
    ] {
        assert_eq!(plan(&text).unwrap().evaluate(&records).values.len(), 6);
    }
}

/// What an expression makes of many records is known to be too much before all of it is made.
#[test]
fn texts_that_are_too_much_together() {
    let functions = Functions::new(&Arc::default(), &TimeReading::default());
    let counts: ArrayRef = Arc::new(Int64Array::from(vec![60_000; 16_384]));
    let records = RecordBatch::try_from_iter([("n", counts)]).unwrap();
    let expression = Parsed::parse("repeat('x', n)").unwrap();
    let expression = expression.plan(&records.schema(), &functions).unwrap();
    let most = 64 << 20;
    assert!(expression.evaluate_within(&records, most).is_none());
    let few = expression.evaluate_within(&records.slice(0, 1_000), most);
    assert_eq!(few.unwrap().values.len(), 1_000);
}

/// A record that asks for too much fails, and no other.
#[test]
fn a_record_that_asks_for_too_much() {
    let functions = Functions::new(&Arc::default(), &TimeReading::default());
    let counts: ArrayRef = Arc::new(Int64Array::from(vec![3, 1_000_000_000, 2]));
    let long: ArrayRef = Arc::new(StringArray::from(vec![
        "x".to_owned(),
        "y".to_owned(),
        "z".repeat(5_000),
    ]));
    let records = RecordBatch::try_from_iter([("n", counts), ("t", long)]).unwrap();
    let joined_text = vec!["t"; 14].join(" || ");
    for (text, rows) in [
        ("repeat('x', n)", vec![1]),
        ("lpad(t, n)", vec![1]),
        ("rpad(t, n, 'ab')", vec![1]),
        ("levenshtein(t, 'x')", vec![2]),
        ("replace(t, 'z', t)", vec![2]),
        ("regexp_replace(t, 'z', t)", vec![2]),
        (&joined_text, vec![2]),
    ] {
        let expression = Parsed::parse(text)
            .unwrap()
            .plan(&records.schema(), &functions)
            .unwrap();
        let evaluated = expression.evaluate(&records);
        let failed: Vec<usize> = evaluated
            .failures
            .iter()
            .map(|failure| failure.row)
            .collect();
        assert_eq!(failed, rows, "{text}");
        assert!(
            evaluated.failures[0].detail.contains("are the most"),
            "{:?}",
            evaluated.failures
        );
    }
}
