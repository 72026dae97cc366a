//! Hints about the expressions of mediation rules: what may not be written, and what to write instead.

use super::*;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use std::sync::Arc;

/// What the base charges.
const UNITS: &str = "charges: { units: units }";

/// A charge that is refused, and the one that the hint says.
fn charge(message: &'static str, hint: &'static str, wrong: &str, right: &str) -> Case {
    let of = |sql: &str| format!("charges: {{ units: \"{sql}\" }}");
    Case::refused(message, hint)
        .wrong(swap(JOB, UNITS, of(wrong)))
        .right(swap(JOB, of(wrong), of(right)))
}

/// An attribute that is refused, and the one that the hint says.
fn attribute(message: &'static str, hint: &'static str, wrong: &str, right: &str) -> Case {
    let of = |sql: &str| format!("attributes: {{ x: \"{sql}\",");
    Case::refused(message, hint)
        .wrong(swap(JOB, "attributes: {", of(wrong)))
        .right(swap(JOB, of(wrong), of(right)))
}

/// The same for the time, of a record whose time is a text.
fn time(message: &'static str, hint: &'static str, wrong: &str, right: &str) -> Case {
    let of = |sql: &str| format!("time: \"{sql}\"");
    Case::refused(message, hint)
        .wrong(swap(JOB, ", at: timestamp", ""))
        .wrong(swap(JOB, "time: at", of(wrong)))
        .right(swap(JOB, of(wrong), of(right)))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = numbers();
    cases.extend(texts());
    cases.extend(times());
    cases.extend(parsed());
    cases.extend(sizes());
    cases.extend(lookups());
    let mut cases = of_one_file(cases);
    cases.extend(floats());
    cases
}

fn numbers() -> Vec<Case> {
    vec![
        charge(
            "is a binary float",
            "declare the column as decimal(precision,scale)",
            "CAST(units AS double)",
            "units",
        )
        .right(swap(JOB, "units: bigint", "units: \"decimal(18,6)\"")),
        // 3 / 2 and 4 / 2, to one decimal; or blocks of two that are started.
        charge(
            "`/` drops decimals",
            "write divide(a, b, scale)",
            "units / 2",
            "divide(units, 2, 1)",
        )
        .total("3.5 USD"),
        charge(
            "`/` drops decimals",
            "ceil_units(a, block) to count started blocks",
            "units / 2",
            "ceil_units(units, 2)",
        )
        .total("4 USD"),
        Case::refused(
            "`units` is a number, in",
            "declare the column's type in `columns`, or convert it with decimal(column, scale)",
        )
        .wrong(swap(
            JOB,
            "      identity",
            "      where: units > id\n      identity",
        ))
        .right(swap(JOB, "units > id", "units > decimal(id, 0)")),
        charge(
            "could lose digits",
            "write round_half_even(x, decimals), which says how it rounds",
            "CAST(CAST(units AS decimal(10,2)) AS bigint)",
            "round_half_even(CAST(units AS decimal(10,2)), 0)",
        ),
        charge(
            "could lose digits",
            "write decimal(text, scale), which is exact or fails for the row",
            "CAST(id AS decimal(10,2)) * units",
            "decimal(id, 2) * units",
        )
        .total("11 USD"),
        charge(
            "no function \"round\"",
            "write round_half_even(x, scale) or ceil_units(x, block)",
            "round(units)",
            "round_half_even(units, 0)",
        ),
        charge(
            "no function \"sum\"",
            "an expression sees one record; totals are made when usage is aggregated",
            "sum(units)",
            "units",
        ),
        charge(
            "no function \"now\"",
            "use a column of the record",
            "units * date_part('day', now())",
            "units",
        ),
        charge(
            "no function \"divde\"",
            "did you mean divide?",
            "divde(units, 2, 1)",
            "divide(units, 2, 1)",
        )
        .total("3.5 USD"),
        charge(
            "no function \"quotient\"",
            "functions are DataFusion's for text, patterns and dates, and divide,",
            "quotient(units, 2)",
            "divide(units, 2, 1)",
        )
        .total("3.5 USD"),
        charge(
            "has an argument of type",
            "declare the column's type in `columns`, or convert it with decimal(column, scale)",
            "ceil_units(id, 2) * units",
            "ceil_units(decimal(id, 0), 2) * units",
        ),
    ]
}

/// Binary floats, which Parquet files and casts have.
fn floats() -> Vec<Case> {
    let job = JOB_TEXT.replace("units: bigint, ", "");
    let of_file = |message, hint, wrong: &str, right: &str| {
        let charges = |sql: &str| format!("charges: {{ units: \"{sql}\" }}");
        let job = |sql: &str| {
            job.replace(UNITS, &charges(sql))
                .replace("path: usage", "path: floats")
        };
        Case::new(Told::Unread, message, hint)
            .wrong(put("floats/a.parquet", parquet()))
            .wrong(put(JOB, job(wrong)))
            .right(put(JOB, job(right)))
    };
    vec![of_file(
        "is a binary float",
        "for a float column of a typed file write exact(column, scale)",
        "units + 0",
        "exact(units, 0)",
    )]
}

/// The usage of the base in a Parquet file, its units as binary floats.
fn parquet() -> Vec<u8> {
    let texts = |texts: [&str; 2]| -> ArrayRef { Arc::new(StringArray::from(texts.to_vec())) };
    let times = TimestampMicrosecondArray::from(vec![1_773_100_800_000_000, 1_773_964_800_000_000])
        .with_timezone("UTC");
    let batch = RecordBatch::try_from_iter([
        ("id", texts(["1", "2"])),
        ("number", texts(["n1", "n1"])),
        ("at", Arc::new(times) as ArrayRef),
        ("units", Arc::new(Float64Array::from(vec![3.0, 4.0]))),
        ("zone", texts(["far", "far"])),
    ]);
    let batch = batch.unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn texts() -> Vec<Case> {
    vec![
        attribute(
            "substr is told no place to begin",
            "write substr(text, start) or substr(text, start, length)",
            "substr(zone)",
            "substr(zone, 1)",
        ),
        attribute(
            "requires String",
            "CAST(x AS text) makes a text of it",
            "upper(units)",
            "upper(CAST(units AS text))",
        ),
        attribute(
            "would make a text of 100000000 characters",
            "write a length",
            "repeat(zone, 100000000)",
            "repeat(zone, 100)",
        ),
    ]
}

fn times() -> Vec<Case> {
    let offset = "'2026-03-10T00:00:00Z'";
    let times = |first: &str, second: &str| {
        let usage = USAGE_TEXT.replace("2026-03-10T00:00:00Z", first);
        put(USAGE, usage.replace("2026-03-20T00:00:00Z", second))
    };
    vec![
        time(
            "is a number, in",
            "write to_timestamp_seconds(x)",
            "CAST(units AS timestamp)",
            "to_timestamp_seconds(1773100800 + units)",
        ),
        time(
            "to_timestamp(x) of a number",
            "write to_timestamp_seconds(x)",
            "to_timestamp(1773100800 + units)",
            "to_timestamp_seconds(1773100800 + units)",
        ),
        attribute(
            "to_date(x) of an instant",
            "write CAST(x AS DATE), the tenant's day",
            "CAST(to_date(at) AS text)",
            "CAST(CAST(at AS DATE) AS text)",
        ),
        time(
            "of a text",
            "declare the column as bigint, or decimal(20,6), in `columns`",
            "to_timestamp_seconds(at)",
            "to_timestamp_seconds(at)",
        )
        .wrong(times("1773100800", "1773964800"))
        .right(swap(JOB, "units: bigint }", "units: bigint, at: bigint }")),
        time(
            "the zone of instant(x, zone) is no text",
            "instant(x, 'Europe/Prague')",
            "instant(at, 5)",
            "instant(at, 'Europe/Prague')",
        ),
        time(
            "is no timestamp",
            "declare the column as timestamp, or write to_timestamp_seconds(...)",
            "plus_seconds(zone, units)",
            "plus_seconds(TIMESTAMP '2026-03-10T00:00:00Z', units)",
        ),
        time(
            "a format of to_timestamp is no text",
            "write it in single quotes",
            "to_timestamp(at, 5)",
            "to_timestamp(at, '%d.%m.%Y %H:%M:%S')",
        )
        .wrong(times("10.03.2026 00:00:00", "20.03.2026 00:00:00")),
        time(
            "is no instant, in",
            "write a time with its offset, like '2026-08-01T00:00:00Z'",
            "instant('yesterday')",
            &format!("instant({offset})"),
        ),
        attribute(
            "as a number, in",
            "write to_unixtime(x), the seconds since 1970, or to_char(x, '%Y%m%d')",
            "CAST(CAST(at AS bigint) AS text)",
            "CAST(to_unixtime(at) AS text)",
        ),
        attribute(
            "to_unixtime of a day",
            "write to_unixtime(instant(day)), the midnight of the tenant's zone",
            "CAST(to_unixtime(CAST(at AS date)) AS text)",
            "CAST(to_unixtime(instant(CAST(at AS date))) AS text)",
        ),
        attribute(
            "as a number, in",
            "write to_unixtime(end) - to_unixtime(start), the seconds between two instants",
            "CAST(CAST(at - at AS bigint) AS text)",
            "CAST(to_unixtime(at) - to_unixtime(at) AS text)",
        ),
        attribute(
            "as a number, in",
            "write date_part('hour', x) * 3600 + date_part('minute', x) * 60 + date_part('second', x)",
            "CAST(CAST(CAST(seen AS time) AS bigint) AS text)",
            "CAST(date_part('hour', CAST(seen AS time)) * 3600 + date_part('minute', CAST(seen AS time)) * 60 \
             + date_part('second', CAST(seen AS time)) AS text)",
        )
        .wrong(put(
            USAGE,
            USAGE_TEXT
                .replace("zone\n", "zone,seen\n")
                .replace("far\n", "far,10:02:05\n"),
        )),
        attribute(
            "to_unixtime of a text",
            "write to_unixtime(instant(text))",
            "CAST(to_unixtime(seen) AS text)",
            "CAST(to_unixtime(instant(seen)) AS text)",
        )
        .wrong(put(
            USAGE,
            USAGE_TEXT
                .replace("zone\n", "zone,seen\n")
                .replace("far\n", "far,2026-03-21T00:00:00Z\n"),
        )),
        attribute(
            "no function \"date_bin\"",
            "write date_trunc('hour', x) or date_trunc('day', x)",
            "CAST(date_bin(INTERVAL '1 hour', at) AS text)",
            "CAST(date_trunc('hour', at) AS text)",
        ),
        attribute(
            "no function \"to_local_time\"",
            "an instant stays one",
            "CAST(to_local_time(at) AS text)",
            "CAST(at AT TIME ZONE 'Europe/Prague' AS text)",
        ),
        time(
            "no function \"make_timestamp\"",
            "write instant(text), where the text is a date and a time",
            "make_timestamp(2026, 3, 10, 0, 0, 0)",
            "instant('2026-03-10T00:00:00')",
        ),
        attribute(
            "no function \"make_time\"",
            "write to_char(x, '%H:%M:%S')",
            "CAST(make_time(1, 2, 3) AS text)",
            "to_char(at, '%H:%M:%S')",
        ),
        attribute(
            "`zone` is read as a time",
            "write instant(x), or CAST(x AS TIMESTAMP)",
            "CAST(arrow_cast(zone, 'Timestamp(Nanosecond, None)') AS text)",
            "CAST(instant(zone) AS text)",
        )
        .wrong(put(
            USAGE,
            USAGE_TEXT.replace("far", "2026-03-21T00:00:00Z"),
        ))
        .wrong(put(
            "zones.csv",
            "zone,region\n2026-03-21T00:00:00Z,abroad\n",
        )),
        attribute(
            "in",
            "write date_trunc('second', x), which stays an instant",
            "CAST(CAST(at AS timestamp(0)) AS text)",
            "CAST(date_trunc('second', at) AS text)",
        ),
    ]
}

/// What is no expression.
fn parsed() -> Vec<Case> {
    vec![
        charge(
            "cannot parse `units +`",
            "write one SQL expression",
            "units +",
            "units + 0",
        ),
        charge(
            "cannot parse",
            "`interval` is a word of SQL; if a column has this name, it stands in double quotes",
            "interval",
            "x",
        )
        .wrong(put(USAGE, USAGE_TEXT.replace("units", "interval")))
        .wrong(swap(
            JOB,
            "columns: { units: bigint",
            "columns: { interval: bigint",
        ))
        .right(swap(JOB, "units: \"x\"", "units: '\"interval\"'")),
        charge(
            "gives its value a name",
            "leave out AS and what follows",
            "units AS n",
            "units",
        ),
    ]
}

/// Expressions that are too long or too deep.
fn sizes() -> Vec<Case> {
    let long = "x".repeat(65 << 10);
    let many: Vec<String> = (0..300).map(|n| format!("zone = '{n}'")).collect();
    let deep = format!("{}units{}", "(".repeat(80), ")".repeat(80));
    vec![
        attribute(
            "bytes, and 65536 are the most",
            "put the values into a reference table and look them up with lookup_or_null",
            &format!("CASE zone WHEN '{long}' THEN 'a' END"),
            "lookup_or_null('zones', 'region', zone)",
        ),
        attribute(
            "levels, and 256 are the most",
            "write `x in ('a', 'b')` instead of many `or`",
            &format!("CASE WHEN {} THEN 'a' ELSE 'b' END", many.join(" or ")),
            "CASE WHEN zone in ('1', '2') THEN 'a' ELSE 'b' END",
        ),
        charge(
            "inside of each other are the most",
            "put the inner parts into `let`",
            &deep,
            "inner",
        )
        .right(swap(
            JOB,
            "      identity",
            "      let: { inner: units }\n      identity",
        )),
    ]
}

fn lookups() -> Vec<Case> {
    let lookup = |message, hint, wrong: &str, right: &str| {
        let of = |arguments: &str| format!("lookup({arguments})");
        Case::refused(message, hint)
            .wrong(swap(JOB, of("'zones', 'region', zone"), of(wrong)))
            .right(swap(JOB, of(wrong), of(right)))
    };
    let right = "'zones', 'region', zone";
    vec![
        lookup(
            "has its key first",
            "write lookup('zones', 'region', key)",
            "zone, 'zones', 'region'",
            right,
        ),
        lookup(
            "needs its table and column as texts",
            "put them in single quotes",
            "zones, region, zone",
            right,
        ),
        lookup(
            "names an unknown table 'zone'",
            "did you mean 'zones'?",
            "'zone', 'region', zone",
            right,
        ),
        lookup(
            "names an unknown table 'countries'",
            "there is zones",
            "'countries', 'region', zone",
            right,
        ),
        lookup(
            "has its column first",
            "write lookup('zones', 'region', key)",
            "'region', 'zones', zone",
            right,
        ),
    ]
}
