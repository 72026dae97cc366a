use super::*;
use crate::lookup::{LookupTable, Lookups};
use crate::times::TimeReading;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, Decimal128Array, Float16Array, Float64Array, Int32Array,
    Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::Float16Type;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millrace_operators::domain::Reason;
use proptest::prelude::*;

type Half = <Float16Type as ArrowPrimitiveType>::Native;

fn batch() -> RecordBatch {
    let tokens = Int64Array::from(vec![Some(10), None, Some(i64::MAX), Some(-3)]);
    let price = Decimal128Array::from(vec![Some(1_500_000), Some(25), None, Some(-1)]);
    let price = price.with_precision_and_scale(18, 6).unwrap();
    let at = TimestampMicrosecondArray::from(vec![0, 1_000_000, 2_000_000, 3_000_000]);
    RecordBatch::try_from_iter([
        ("tokens", Arc::new(tokens) as ArrayRef),
        ("price", Arc::new(price)),
        (
            "kind",
            Arc::new(StringArray::from(vec![
                Some("a"),
                Some("b"),
                None,
                Some("9"),
            ])),
        ),
        (
            "ratio",
            Arc::new(Float64Array::from(vec![0.1, 2.5, 1e-7, f64::NAN])),
        ),
        (
            "half",
            Arc::new(Float16Array::from_iter_values(
                [0.1, 2.5, 0.0005, f32::NAN].map(Half::from_f32),
            )),
        ),
        ("usage.Total", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
        ("at", Arc::new(at.with_timezone("UTC"))),
    ])
    .unwrap()
}

fn functions() -> Functions {
    let rates: [(&str, &[Option<&str>]); 3] = [
        ("a", &[Some("alpha")]),
        ("b", &[None]),
        ("abc", &[Some("long")]),
    ];
    let table = LookupTable::from_rows(&["name"], &rates);
    let lookups = Arc::new(Lookups::new([("rates".to_owned(), Arc::new(table))]));
    Functions::new(&lookups, &TimeReading::default())
}

fn plan(sql: &str) -> Result<Expression, ExpressionError> {
    Parsed::parse(sql)?.plan(&batch().schema(), &functions())
}

/// The values of an expression as text, failures as `!`.
fn values(sql: &str) -> Vec<String> {
    let evaluated = plan(sql)
        .unwrap_or_else(|e| panic!("{sql}: {e} ({})", e.hint))
        .evaluate(&batch());
    let options = FormatOptions::default().with_null("NULL");
    let shown = ArrayFormatter::try_new(&evaluated.values, &options).unwrap();
    let failed = |row| evaluated.failures.iter().any(|failure| failure.row == row);
    (0..batch().num_rows())
        .map(|row| {
            if failed(row) {
                "!".to_owned()
            } else {
                shown.value(row).to_string()
            }
        })
        .collect()
}

#[test]
fn values_are_exact_or_the_row_fails() {
    for (sql, expected) in [
        ("tokens + 1", ["11", "NULL", "!", "-2"]),
        ("tokens * 2", ["20", "NULL", "!", "-6"]),
        ("-tokens - 2", ["-12", "NULL", "!", "1"]),
        ("9223372036854775807 + 1", ["!", "!", "!", "!"]),
        ("tokens * price", ["15.000000", "NULL", "NULL", "0.000003"]),
        (
            "price * 0.000001",
            [
                "0.000001500000",
                "0.000000000025",
                "NULL",
                "-0.000000000001",
            ],
        ),
        (
            "divide(tokens, 3, 4)",
            ["3.3333", "NULL", "3074457345618258602.3333", "-1.0000"],
        ),
        (
            "divide(tokens, tokens - 10, 2)",
            ["!", "NULL", "1.00", "0.23"],
        ),
        (
            "round_half_even(price, 5)",
            ["1.50000", "0.00002", "NULL", "0.00000"],
        ),
        (
            "ceil_units(tokens, 4)",
            ["3", "NULL", "2305843009213693952", "-1"],
        ),
        ("ceil_units(price, 0.5)", ["3", "1", "NULL", "-1"]),
        (
            "exact(ratio, 7)",
            ["0.1000000", "2.5000000", "0.0000001", "!"],
        ),
        ("exact(half, 4)", ["0.1000", "2.5000", "0.0005", "!"]),
        ("exact(half, 3)", ["0.100", "2.500", "!", "!"]),
        ("decimal(kind, 2)", ["!", "!", "NULL", "9.00"]),
        ("decimal(price, 2)", ["1.50", "!", "NULL", "!"]),
        ("usage.Total + 1", ["2", "3", "4", "5"]),
        ("\"usage.Total\"", ["1", "2", "3", "4"]),
        // A branch that is not taken cannot fail.
        (
            "CASE WHEN tokens = 10 THEN 0 ELSE divide(1, tokens - 10, 2) END",
            ["0.00", "NULL", "0.00", "-0.08"],
        ),
        (
            "tokens <> 10 AND divide(1, tokens - 10, 2) < 0",
            ["false", "NULL", "false", "true"],
        ),
        (
            "coalesce(tokens, 0)",
            ["10", "0", "9223372036854775807", "-3"],
        ),
        (
            "CASE WHEN tokens > 5 THEN upper(kind) ELSE 'x' END",
            ["A", "x", "NULL", "x"],
        ),
        ("lookup('rates', 'name', kind)", ["alpha", "!", "NULL", "!"]),
        (
            "lookup_or_null('rates', 'name', kind)",
            ["alpha", "NULL", "NULL", "NULL"],
        ),
        (
            "lookup_prefix('rates', 'name', concat(kind, 'bcd'))",
            ["long", "!", "!", "!"],
        ),
        (
            "kind IN ('a', 'b') AND tokens IS NOT NULL",
            ["true", "false", "NULL", "false"],
        ),
        (
            "regexp_like(kind, '^[a-z]$')",
            ["true", "true", "NULL", "false"],
        ),
        ("price > 0.00001", ["true", "true", "NULL", "false"]),
    ] {
        assert_eq!(values(sql), expected, "{sql}");
    }
    assert_eq!(
        values("plus_seconds(at, 1.5)")[0],
        "1970-01-01T00:00:01.500Z"
    );
    assert_eq!(values("extract(hour from at)")[3], "0");
    assert_eq!(
        values("at >= '1970-01-01T00:00:02Z'"),
        ["false", "false", "true", "true"]
    );
}

#[test]
fn what_could_be_inexact_is_not_planned() {
    for (sql, message, hint) in [
        ("tokens / 3", "`/` drops decimals", "divide(a, b, scale)"),
        (
            "ratio * 2",
            "`ratio` is a binary float",
            "exact(column, scale)",
        ),
        (
            "cast(tokens as double)",
            "binary float",
            "decimal(precision,scale)",
        ),
        ("exact(ratio * ratio, 2)", "binary float", "exact"),
        (
            "cast(price as decimal(18,2))",
            "could lose digits",
            "round_half_even",
        ),
        (
            "cast(price as bigint)",
            "could lose digits",
            "round_half_even",
        ),
        (
            "try_cast(price as int)",
            "could lose digits",
            "round_half_even",
        ),
        (
            "cast(kind as decimal(18,2))",
            "could lose digits",
            "decimal(text, scale)",
        ),
        (
            "kind > 10",
            "`kind` is text, `Int64(10)` is a number",
            "decimal(column, scale)",
        ),
        ("tokens + kind", "is text", "`columns`"),
        ("kind IN (1, 2)", "is text", "`columns`"),
        ("divide(kind, 2, 2)", "where a number belongs", "`columns`"),
        (
            "divide(tokens, 2, tokens)",
            "the scale of divide(a, b, scale) is not a number",
            "",
        ),
        (
            "tokns + 1",
            "unknown column \"tokns\"",
            "did you mean \"tokens\"?",
        ),
        (
            "\"a b\"",
            "unknown column \"a b\"",
            "the columns are tokens, price",
        ),
        (
            "rond_half_even(price, 1)",
            "no function \"rond_half_even\"",
            "did you mean round_half_even?",
        ),
        (
            "round(price, 1)",
            "no function \"round\"",
            "round_half_even",
        ),
        (
            "substr(tokens, 1, 2)",
            "Function 'substr' requires String, but received Int64 in `substr(tokens, 1, 2)`",
            "CAST(x AS text)",
        ),
        (
            "substr(kind)",
            "substr is told no place to begin",
            "substr(text, start)",
        ),
        ("now()", "no function \"now\"", "the same bill"),
        ("sum(tokens)", "no function \"sum\"", ""),
        (
            "lookup('rate', 'name', kind)",
            "unknown table 'rate'",
            "did you mean 'rates'?",
        ),
        (
            "lookup('rates', 'nam', kind)",
            "unknown column 'nam'",
            "did you mean 'name'?",
        ),
        (
            "lookup('name', 'rates', kind)",
            "'rates' is the table, 'name' the column",
            "write lookup('rates', 'name', key)",
        ),
        (
            "lookup(kind, 'rates', 'name')",
            "the key comes last",
            "write lookup('rates', 'name', key)",
        ),
        (
            "lookup(kind, 'name', kind)",
            "needs its table and column as texts",
            "single quotes",
        ),
        ("tokens +", "cannot parse `tokens +`", ""),
        ("tokens AS t", "gives its value a name", "AS"),
        ("tokens; tokens", "cannot parse", ""),
        (
            "arrow_cast(price, 'Decimal128(18, 2)')",
            "could lose digits",
            "round_half_even",
        ),
        ("arrow_cast(tokens, 'Float64')", "binary float", ""),
        ("upper(tokens, 1)", "upper", ""),
        ("(SELECT 1)", "", ""),
    ] {
        let error = plan(sql).expect_err(sql);
        assert!(error.message.contains(message), "{sql}: {}", error.message);
        assert!(error.hint.contains(hint), "{sql}: {}", error.hint);
    }
}

#[test]
fn columns_read_are_known_before_planning() {
    let parsed =
        Parsed::parse("CASE WHEN a.b > 1 THEN lookup('t','c',\"X y\") ELSE z END").unwrap();
    let columns: Vec<&str> = parsed.columns().iter().map(String::as_str).collect();
    assert_eq!(columns, ["X y", "a.b", "z"]);
}

#[test]
fn columns_may_be_called_as_words_of_sql_are() {
    for sql in ["user", "lower(user)", "order", "group", "date", "\"from\""] {
        let parsed = Parsed::parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let name = sql.trim_start_matches("lower(").trim_matches([')', '"']);
        let columns: Vec<&str> = parsed.columns().iter().map(String::as_str).collect();
        assert_eq!(columns, [name]);
    }
    for (sql, word) in [
        ("interval", "interval"),
        ("lower(interval)", "interval"),
        ("exists", "exists"),
        ("lower(select)", "select"),
    ] {
        // Either it is the column, or the message says how to write the column.
        match Parsed::parse(sql) {
            Ok(parsed) => assert_eq!(parsed.columns().iter().collect::<Vec<_>>(), [word]),
            Err(error) => {
                let told = format!("double quotes within the expression: '\"{word}\"'");
                assert!(error.hint.contains(&told), "{sql}: {error} {}", error.hint);
            }
        }
    }
}

#[test]
fn a_key_in_brackets_is_a_path() {
    for sql in ["tags['team']", "tags.team", "\"tags.team\""] {
        let parsed = Parsed::parse(sql).unwrap();
        assert_eq!(parsed.columns().iter().collect::<Vec<_>>(), ["tags.team"]);
    }
    let parsed = Parsed::parse("upper(a.b['c']['d.e'])").unwrap();
    assert_eq!(parsed.columns().iter().collect::<Vec<_>>(), ["a.b.c.d.e"]);
}

#[test]
fn failures_say_what_and_why() {
    let failures = plan("lookup('rates', 'name', kind)")
        .unwrap()
        .evaluate(&batch())
        .failures;
    let empty = &failures[0];
    assert_eq!((empty.row, empty.reason), (1, Reason::LookupMissing));
    assert_eq!(
        empty.detail,
        "column \"name\" of table \"rates\" is empty for \"b\""
    );
    let missing = failures.last().unwrap();
    assert_eq!((missing.row, missing.reason), (3, Reason::LookupMissing));
    assert_eq!(missing.detail, "table \"rates\" has no row for \"9\"");
    let failures = plan("tokens + 1").unwrap().evaluate(&batch()).failures;
    assert_eq!(
        (failures[0].row, failures[0].reason),
        (2, Reason::RuleFailed)
    );
    assert!(
        failures[0].detail.contains("Overflow"),
        "{}",
        failures[0].detail
    );
}

#[test]
fn one_value_that_is_no_text_fails_alone() {
    use arrow::array::{BinaryArray, DictionaryArray};
    use arrow::datatypes::Int32Type;
    let mut values: Vec<&[u8]> = vec![b"red"; 50];
    values[20] = b"\xff\xfe";
    let bytes = BinaryArray::from(values);
    let keys = Int32Array::from_iter_values(0..50);
    let dictionary = DictionaryArray::<Int32Type>::new(keys, Arc::new(bytes.clone()));
    let columns: [ArrayRef; 2] = [Arc::new(bytes), Arc::new(dictionary)];
    for column in columns {
        let batch = RecordBatch::try_from_iter([("dev", column)]).unwrap();
        for sql in ["arrow_cast(dev, 'Utf8')", "upper(arrow_cast(dev, 'Utf8'))"] {
            let planned = Parsed::parse(sql).unwrap();
            let planned = planned.plan(&batch.schema(), &functions()).unwrap();
            let evaluated = planned.evaluate(&batch);
            let failed: Vec<usize> = evaluated.failures.iter().map(|f| f.row).collect();
            assert_eq!(failed, [20], "{sql}");
            assert_eq!(evaluated.values.null_count(), 1, "{sql}");
        }
    }
}

proptest! {
    #[test]
    fn exactly_the_bad_rows_fail(numbers in proptest::collection::vec(
        prop_oneof![3 => -1000_i64..1000, 1 => i64::MAX - 1..=i64::MAX], 0..200)) {
        let column = Arc::new(Int64Array::from(numbers.clone())) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let expression = Parsed::parse("n + 1").unwrap().plan(&batch.schema(), &functions()).unwrap();
        let evaluated = expression.evaluate(&batch);
        let values = evaluated.values.as_any().downcast_ref::<Int64Array>().unwrap();
        let got: Vec<Option<i64>> = values.iter().collect();
        let expected: Vec<Option<i64>> = numbers.iter().map(|n| n.checked_add(1)).collect();
        prop_assert_eq!(got, expected);
        let failed: Vec<usize> = evaluated.failures.iter().map(|failure| failure.row).collect();
        let bad: Vec<usize> = (0..numbers.len()).filter(|i| numbers[*i] == i64::MAX).collect();
        prop_assert_eq!(failed, bad);
    }
}
