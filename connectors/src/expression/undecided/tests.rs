use super::super::{Functions, Inputs, Parsed};
use crate::lookup::{LookupTable, Lookups};
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use proptest::prelude::*;
use std::sync::Arc;

fn functions() -> Functions {
    Functions::new(
        &Arc::new(Lookups::default()),
        &crate::times::TimeReading::default(),
    )
}

fn batch(rows: &[[Option<i64>; 3]]) -> RecordBatch {
    let column = |place: usize| -> ArrayRef {
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row[place])))
    };
    let text: StringArray = rows
        .iter()
        .map(|row| row[2].map(|c| c.to_string()))
        .collect();
    RecordBatch::try_from_iter([
        ("a", column(0)),
        ("b", column(1)),
        ("c", column(2)),
        ("t", Arc::new(text) as ArrayRef),
    ])
    .unwrap()
}

/// The rows for which the expression is undecided; `z` may be empty, and is `c` under another name.
fn undecided(sql: &str, rows: &[[Option<i64>; 3]], inputs: &Inputs) -> Vec<bool> {
    let batch = batch(rows);
    let parsed = Parsed::parse(sql).unwrap();
    let planned = parsed.plan_decided(&batch.schema(), &functions(), inputs);
    let (_, decision) = planned.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let found = decision.undecided(&batch);
    assert_eq!(found.failures, [], "{sql}");
    let mut rows = vec![false; rows.len()];
    found.rows.iter().for_each(|(row, _)| rows[*row] = true);
    rows
}

#[test]
fn each_form_is_undecided_where_an_empty_field_decides() {
    let none = Inputs::default();
    let row = |a, b, c| [a, b, c];
    let whole = row(Some(5), Some(0), Some(1));
    let without_c = row(Some(5), Some(0), None);
    let without_a = row(None, Some(0), Some(1));
    for (sql, lacks_c, lacks_a) in [
        ("a - c", true, true),
        ("-c", true, false),
        ("a * 0 + c", true, true),
        ("a > c", true, true),
        ("NOT c = 1", true, false),
        ("c IN (1, 2)", true, false),
        ("a IN (c, 5)", false, true),
        ("a IN (c, 6)", true, true),
        ("a NOT IN (6, 7)", false, true),
        ("c BETWEEN 0 AND 9", true, false),
        ("a BETWEEN 6 AND c", false, true),
        ("a < 0 AND c > 0", false, true),
        ("c > 0 AND a < 0", false, true),
        ("a > 0 AND c > 0", true, true),
        ("a > 0 OR c > 0", false, false),
        ("a < 0 OR c > 0", true, false),
        ("t LIKE '1%'", true, false),
        ("t || 'x'", true, false),
        ("concat(t, 'x')", true, false),
        ("concat_ws('-', t, 'x')", true, false),
        ("greatest(a, c)", true, true),
        ("least(a, c)", true, true),
        ("upper(t)", true, false),
        ("ceil_units(c, 60)", true, false),
        ("divide(a, c, 2)", true, true),
        ("decimal(t, 2)", true, false),
        ("CAST(c AS decimal(20,2))", true, false),
        // What asks for NULL has an answer.
        ("c IS NULL", false, false),
        ("a - c IS NULL", false, false),
        ("c IS NOT NULL AND a > 0", false, true),
        ("(c > 0) IS TRUE", false, false),
        ("(c > 0) IS NOT FALSE", false, false),
        ("c IS DISTINCT FROM 1", false, false),
        ("c IS NOT DISTINCT FROM a", false, false),
        ("nullif(c, 0)", false, false),
        ("a - nullif(c, 0)", true, true),
        ("coalesce(c, 0)", false, false),
        ("a - coalesce(c, 0)", false, true),
        ("coalesce(c, a)", false, false),
        ("coalesce(c, a - b)", false, false),
        ("coalesce(b, c)", false, false),
        ("coalesce(a, c)", false, false),
        ("coalesce(nullif(a, 5), c)", true, false),
        ("nvl(c, 0)", false, false),
        // Conditions that are undecided do not go on to ELSE in silence.
        ("CASE WHEN c > 0 THEN 1 ELSE 2 END", true, false),
        ("CASE WHEN c > 0 THEN 1 END", true, false),
        ("CASE c WHEN 1 THEN 1 ELSE 2 END", true, false),
        (
            "CASE WHEN a > 0 THEN 1 WHEN c > 0 THEN 2 ELSE 3 END",
            false,
            true,
        ),
        ("CASE WHEN a > 0 THEN a ELSE c END", false, true),
        ("CASE WHEN a > 9 THEN a ELSE c END", true, true),
        ("CASE WHEN a > 9 THEN c END", false, true),
        ("CASE WHEN c IS NULL THEN a ELSE a - c END", false, true),
        // Nor is a guess made good by asking for NULL.
        (
            "coalesce(CASE WHEN c > 0 THEN 1 ELSE 2 END, 9)",
            true,
            false,
        ),
        ("(CASE WHEN c > 0 THEN 1 ELSE 2 END) IS NULL", true, false),
        ("nullif(CASE WHEN c > 0 THEN 1 ELSE 2 END, 9)", true, false),
        ("coalesce(concat(t, 'x'), 'y')", true, false),
    ] {
        let got = undecided(sql, &[whole, without_c, without_a], &none);
        assert_eq!(got, [false, lacks_c, lacks_a], "{sql}");
        // Declared so, the same NULL is what SQL makes of it.
        let intended = Inputs::new(["a", "b", "c", "t"].map(str::to_owned));
        let got = undecided(sql, &[whole, without_c, without_a], &intended);
        assert_eq!(got, [false; 3], "{sql}");
    }
}

/// A row that is whole, one of which nothing can be read or found, and one that is empty and may be.
fn unreadable() -> RecordBatch {
    let numbers =
        |values: [Option<i64>; 3]| -> ArrayRef { Arc::new(Int64Array::from(values.to_vec())) };
    let texts =
        |values: [Option<&str>; 3]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    RecordBatch::try_from_iter([
        ("n", numbers([Some(10), Some(10), Some(10)])),
        ("c", numbers([Some(1), Some(0), None])),
        ("x", texts([Some("7"), Some("a lot"), None])),
        ("k", texts([Some("a"), Some("unknown"), None])),
    ])
    .unwrap()
}

#[test]
fn a_null_of_any_cause_is_told_where_it_is_needed_and_not_asked_for() {
    let rows = [("a", [Some("2")].as_slice())];
    let table = LookupTable::from_rows(&["rate"], &rows);
    let lookups = Arc::new(Lookups::new([("rates".to_owned(), Arc::new(table))]));
    let functions = Functions::new(&lookups, &crate::times::TimeReading::default());
    let batch = unreadable();
    let inputs = Inputs::new(["n", "c", "x", "k"].map(str::to_owned));
    let read = "TRY_CAST(x AS bigint)";
    let of_all = ["NULL", "CASE WHEN c > 0 THEN 2 END"];
    let rate = "decimal(lookup_or_null('rates', 'rate', k), 2)";
    for (sql, part) in [
        (read.to_owned(), "TRY_CAST(x AS Int64)"),
        (format!("{read} > 5"), "TRY_CAST(x AS Int64)"),
        (format!("NOT {read} > 5"), "TRY_CAST(x AS Int64)"),
        (format!("n + {read}"), "TRY_CAST(x AS Int64)"),
        (format!("greatest(n, {read})"), "TRY_CAST(x AS Int64)"),
        (format!("n > 50 OR {read} > 5"), "TRY_CAST(x AS Int64)"),
        (format!("n > 5 OR {read} > 5"), ""),
        (format!("n < 5 AND {read} > 5"), ""),
        (
            format!("CASE WHEN {read} > 5 THEN 1 ELSE 2 END"),
            "TRY_CAST(x AS Int64)",
        ),
        (
            format!("CASE WHEN {read} > 5 THEN 1 END"),
            "TRY_CAST(x AS Int64)",
        ),
        (
            format!("CASE {read} WHEN 7 THEN 1 ELSE 2 END"),
            "TRY_CAST(x AS Int64)",
        ),
        (
            format!("CASE WHEN n > 5 THEN n WHEN {read} > 5 THEN 1 ELSE 2 END"),
            "",
        ),
        (
            format!("CASE WHEN n > 5 THEN {read} ELSE 2 END"),
            "TRY_CAST(x AS Int64)",
        ),
        (
            format!("coalesce(CASE WHEN {read} > 5 THEN 1 ELSE 2 END, 0)"),
            "TRY_CAST(x AS Int64)",
        ),
        (
            format!("CASE WHEN coalesce({read}, 0) > 5 THEN 1 ELSE 2 END"),
            "",
        ),
        (format!("CASE WHEN {read} IS NULL THEN 1 ELSE 2 END"), ""),
        (format!("coalesce({read}, 0)"), ""),
        (format!("coalesce({read} + 1, n)"), ""),
        (format!("{read} IS DISTINCT FROM 7"), ""),
        (format!("nullif({read}, 8)"), ""),
        (
            format!("n + nullif({read}, 8)"),
            "nullif(TRY_CAST(x AS Int64), 8)",
        ),
        (
            "regexp_match(x, '^[0-9]+$')".to_owned(),
            "regexp_match(x, '^[0-9]+$')",
        ),
        ("regexp_match(x, '^[0-9]+$') IS NULL".to_owned(), ""),
        // What the rule itself says is NULL is an answer, but no number.
        ("nullif(c, 0)".to_owned(), ""),
        ("decimal(nullif(c, 0), 2)".to_owned(), ""),
        ("greatest(n, nullif(c, 0))".to_owned(), ""),
        ("concat('a', nullif(x, 'a lot'))".to_owned(), ""),
        ("'a' || nullif(x, 'a lot')".to_owned(), "nullif(x, 'a lot')"),
        ("n - nullif(c, 0)".to_owned(), "nullif(c, 0)"),
        ("coalesce(n - nullif(c, 0), n)".to_owned(), ""),
        (
            "CASE WHEN nullif(c, 0) > 1 THEN 1 ELSE 2 END".to_owned(),
            "nullif(c, 0)",
        ),
        ("CASE WHEN c > 0 THEN n END".to_owned(), ""),
        (
            "n * CASE WHEN c > 0 THEN 2 END".to_owned(),
            "CASE WHEN c > 0 THEN 2 END",
        ),
        (
            "n * CASE WHEN c = 0 THEN NULL ELSE 2 END".to_owned(),
            "CASE WHEN c = 0 THEN NULL ELSE 2 END",
        ),
        ("lookup_or_null('rates', 'rate', k)".to_owned(), ""),
        (rate.to_owned(), ""),
        (
            format!("n * {rate}"),
            "decimal(lookup_or_null('rates', 'rate', k), 2)",
        ),
        (format!("n * coalesce({rate}, 0)"), ""),
        (
            "CASE WHEN lookup_or_null('rates', 'rate', k) = '2' THEN 1 ELSE 2 END".to_owned(),
            "lookup_or_null('rates', 'rate', k)",
        ),
        (
            "CASE WHEN c = 1 OR c = NULL THEN 1 ELSE 2 END".to_owned(),
            "NULL",
        ),
        (
            "CASE WHEN c IN (1, NULL) THEN 1 ELSE 2 END".to_owned(),
            "NULL",
        ),
    ] {
        let parsed = Parsed::parse(&sql).unwrap();
        let planned = parsed.plan_decided(&batch.schema(), &functions, &inputs);
        let (_, decision) = planned.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let found = decision.undecided(&batch);
        assert_eq!(found.failures, [], "{sql}");
        let told: Vec<(usize, Option<&str>)> = found
            .rows
            .iter()
            .map(|(row, lacking)| (*row, lacking.parts.last().map(String::as_str)))
            // What may be empty is not there either, and that is no number.
            .filter(|(row, _)| !of_all.contains(&part) || *row != 2)
            .collect();
        match part {
            "" => assert_eq!(told, [], "{sql}"),
            part => assert_eq!(told, [(1, Some(part))], "{sql}"),
        }
        // Of a bare one, what cannot be read is all that is left.
        let unread = decision.undecided_or_unread(&batch);
        assert_eq!(unread.rows, found.rows, "{sql}");
    }
}

#[test]
fn named_values_carry_it_through() {
    let rows = [[Some(5), Some(0), Some(1)], [Some(5), Some(0), None]];
    let batch = batch(&rows);
    let mut fields = batch.schema().fields().to_vec();
    let mut inputs = Inputs::default();
    for (name, sql) in [
        ("v", "a - c"),
        ("w", "c"),
        ("x", "v + v"),
        ("y", "CASE WHEN w > 0 THEN 1 ELSE 2 END"),
    ] {
        let schema = Arc::new(arrow::datatypes::Schema::new(fields.clone()));
        let planned = Parsed::parse(sql).unwrap();
        let planned = planned
            .plan_decided(&schema, &functions(), &inputs)
            .unwrap();
        let kind = planned.0.data_type().clone();
        fields.push(Arc::new(arrow::datatypes::Field::new(name, kind, true)));
        inputs.name(name, &planned.1);
        assert_eq!(planned.1.is_bare(), name == "w", "{name}");
    }
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    for (sql, expected) in [
        ("v", true),
        ("x", true),
        ("w", true),
        ("y", true),
        ("coalesce(x, 0)", false),
        ("coalesce(y, 0)", true),
        ("a > 0 OR v > 0", false),
    ] {
        let columns = batch.columns().iter().cloned();
        let named = ["v", "w", "x", "y"].map(|name| {
            let kind = schema.field_with_name(name).unwrap().data_type();
            arrow::array::new_null_array(kind, rows.len())
        });
        // `y` guesses: the second row has a value in spite of all.
        let mut columns: Vec<ArrayRef> = columns.chain(named).collect();
        let place = columns.len() - 1;
        columns[place] = Arc::new(Int64Array::from(vec![1, 2]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        let planned = Parsed::parse(sql).unwrap();
        let (_, decision) = planned
            .plan_decided(&schema, &functions(), &inputs)
            .unwrap();
        let found: Vec<usize> = decision
            .undecided(&batch)
            .rows
            .iter()
            .map(|(row, _)| *row)
            .collect();
        assert_eq!(found.contains(&1), expected, "{sql}");
        if let Some((_, lacking)) = decision.undecided(&batch).rows.last() {
            assert_eq!(lacking.empty, ["c"], "{sql}");
        }
    }
}

#[test]
fn conditions_stay_small_however_values_build_on_each_other() {
    let batch = batch(&[[Some(1), None, None]]);
    let mut fields = batch.schema().fields().to_vec();
    let mut inputs = Inputs::default();
    let mut last = "b".to_owned();
    for index in 0..60 {
        let name = format!("v{index}");
        let sql = format!("CASE WHEN {last} > 0 THEN {last} ELSE coalesce({last}, a) END");
        let schema = Arc::new(arrow::datatypes::Schema::new(fields.clone()));
        let planned = Parsed::parse(&sql).unwrap();
        let planned = planned
            .plan_decided(&schema, &functions(), &inputs)
            .unwrap();
        fields.push(Arc::new(arrow::datatypes::Field::new(
            &name,
            planned.0.data_type().clone(),
            true,
        )));
        inputs.name(&name, &planned.1);
        last = name;
    }
}

/// Expressions without a word about NULL.
fn numbers() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("c".to_owned()),
        (-2_i64..3).prop_map(|n| format!("({n})")),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let condition = conditions(inner.clone());
        prop_oneof![
            (inner.clone(), prop_oneof!["\\+", "-", "\\*"], inner.clone())
                .prop_map(|(l, op, r)| format!("({l} {op} {r})")),
            (inner.clone(), inner.clone()).prop_map(|(l, r)| format!("greatest({l}, {r})")),
            (condition.clone(), inner.clone(), inner.clone())
                .prop_map(|(c, l, r)| format!("CASE WHEN {c} THEN {l} ELSE {r} END")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(of, l, r)| format!("CASE {of} WHEN 1 THEN {l} WHEN 0 THEN {r} END")),
            (condition, inner).prop_map(|(c, l)| format!("CASE WHEN {c} THEN {l} END")),
        ]
    })
}

fn conditions(
    number: impl Strategy<Value = String> + Clone + 'static,
) -> impl Strategy<Value = String> + Clone {
    let leaf = prop_oneof![
        (
            number.clone(),
            prop_oneof!["<", "=", "<>", ">="],
            number.clone()
        )
            .prop_map(|(l, op, r)| format!("({l} {op} {r})")),
        (number.clone(), number.clone(), number.clone())
            .prop_map(|(of, l, r)| format!("({of} IN ({l}, {r}))")),
        (number.clone(), number.clone(), number)
            .prop_map(|(of, l, r)| format!("({of} NOT BETWEEN {l} AND {r})")),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            (inner.clone(), prop_oneof!["AND", "OR"], inner.clone())
                .prop_map(|(l, op, r)| format!("({l} {op} {r})")),
            inner.prop_map(|of| format!("(NOT {of})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What is decided does not hang on what is empty: whatever stood there, the value is the same.
    /// So no undecided value is ever taken for an absent item, or a zero.
    #[test]
    fn what_is_decided_is_the_same_whatever_the_empty_fields_hold(
        sql in numbers(),
        row in proptest::array::uniform3(proptest::option::of(-2_i64..3)),
        fills in proptest::collection::vec(proptest::array::uniform3(-2_i64..3), 12),
    ) {
        let found = undecided(&sql, &[row], &Inputs::default());
        // Without ELSE the rule makes a NULL itself.
        let states = sql.matches("CASE").count() > sql.matches("ELSE").count();
        let lacks = states || row.iter().any(Option::is_none);
        prop_assert!(!found[0] || lacks, "{sql} of a whole row");
        if found[0] {
            return Ok(());
        }
        let filled = fills.iter().map(|fill| {
            std::array::from_fn(|place| Some(row[place].unwrap_or(fill[place])))
        });
        let rows: Vec<[Option<i64>; 3]> = std::iter::once(row).chain(filled).collect();
        let batch = batch(&rows);
        let expression = Parsed::parse(&sql).unwrap().plan(&batch.schema(), &functions()).unwrap();
        let evaluated = expression.evaluate(&batch);
        prop_assert_eq!(evaluated.failures, []);
        let values: Vec<_> = (0..rows.len())
            .map(|row| evaluated.values.slice(row, 1).to_data())
            .collect();
        for value in &values {
            prop_assert_eq!(value, &values[0], "{}", sql);
        }
    }
}
