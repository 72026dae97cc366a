//! Hints about mediation rules, beside their expressions.

use super::*;

/// The job with a line of its rule replaced.
fn rule(line: &str, by: &str) -> Edit {
    swap(JOB, line, by)
}

/// A refused line of the rule, and the line that the hint says.
fn line(message: &'static str, hint: &'static str, good: &str, wrong: &str, right: &str) -> Case {
    Case::refused(message, hint)
        .wrong(rule(good, wrong))
        .right(rule(wrong, right))
}

const ID: &str = "identity: [id]";
const AT: &str = "at: timestamp }";
const CHARGES: &str = "charges: { units: units }";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = kept();
    cases.extend(types());
    cases.extend(times());
    cases.extend(names());
    of_one_file(cases)
}

/// Which record of an identity holds.
fn kept() -> Vec<Case> {
    let with = |what: &str| format!("{ID}\n      {what}");
    let keep = |message, hint, wrong: &str, right: &str| {
        line(message, hint, ID, &with(wrong), &with(right))
    };
    let again = "1,n1,2026-03-10T00:00:00Z,5,far\n";
    let fields = "name the fields that a record and its correction have in common in `identity`";
    let by_place = |what: &str| {
        Case::refused("no record has the identity of another here", fields)
            .wrong(rule(ID, &format!("identity: position\n      {what}")))
            .right(rule("identity: position", ID))
    };
    let both = || {
        Case::refused("the greatest `version` holds", "write one of the two")
            .wrong(rule(AT, "at: timestamp, seq: bigint }"))
            .wrong(rule(ID, &with("keep: last\n      version: seq")))
            .wrong(put(USAGE, "id,number,at,units,zone,seq\n1,n1,2026-03-10T00:00:00Z,3,far,2\n1,n1,2026-03-10T00:00:00Z,5,far,1\n"))
    };
    vec![
        // The second record of the first identity has five units, and comes later.
        keep("\"lst\" is none of", "did you mean \"last\"?", "keep: lst", "keep: last")
            .wrong(more(USAGE, again))
            .total("9 USD"),
        keep("\"greatest\" is none of", "did you mean \"greatest(<expression>)\"?", "keep: greatest", "keep: greatest(units)")
            .wrong(more(USAGE, again))
            .total("9 USD"),
        keep("\"newest\" is none of", "write for example `keep: last`", "keep: newest", "keep: last")
            .wrong(more(USAGE, again))
            .total("9 USD"),
        by_place("keep: last"),
        by_place("kind: \"'usage'\""),
        both().right(rule("      keep: last\n", "")).total("3 USD"),
        both()
            .right(rule("\n      version: seq", ""))
            .right(rule(", seq: bigint", ""))
            .total("5 USD"),
        keep("where a whole number, a decimal of up to 18 decimals or a time belongs", "declare the column in `columns` as bigint, decimal or timestamp", "keep: greatest(seq)", "keep: greatest(seq)")
            .wrong(put(USAGE, "id,number,at,units,zone,seq\n1,n1,2026-03-10T00:00:00Z,3,far,10\n1,n1,2026-03-10T00:00:00Z,5,far,9\n"))
            .right(rule(AT, "at: timestamp, seq: bigint }"))
            .total("3 USD"),
    ]
}

/// What an expression must be.
fn types() -> Vec<Case> {
    let since = "at - instant('2026-03-01T00:00:00Z')";
    let attribute = |right: &str| {
        let of = |sql: &str| format!("attributes: {{ since: \"{sql}\",");
        Case::refused(
            "where a text belongs",
            "declare the column as text in `columns`, convert it, or choose another column",
        )
        .wrong(rule("attributes: {", &of(since)))
        .right(rule(&of(since), &of(right)))
    };
    let units = || {
        Case::refused(
            "where a whole number or a decimal belongs",
            "declare the column in `columns`, or convert it with decimal(column, scale)",
        )
        .wrong(rule("columns: { units: bigint, ", "columns: { "))
    };
    vec![
        attribute("to_char(at, '%d')"),
        attribute("zone"),
        units().right(rule("columns: { ", "columns: { units: bigint, ")),
        units().right(rule(CHARGES, "charges: { units: \"decimal(units, 0)\" }")),
        line(
            "where true or false belongs",
            "write a condition",
            ID,
            "where: units\n      identity: [id]",
            "where: units > 0\n      identity: [id]",
        ),
    ]
}

/// When a record happened.
fn times() -> Vec<Case> {
    let untyped = || {
        Case::refused(
            "where a timestamp belongs",
            "declare the column as timestamp in `columns`",
        )
        .wrong(rule(", at: timestamp }", " }"))
    };
    let seconds = || {
        Case::refused("where a timestamp belongs", "for a number write to_timestamp_seconds(x), or _millis, _micros, _nanos; or write plus_seconds(TIMESTAMP '2026-08-01T00:00:00Z', seconds)")
            .wrong(rule(AT, "at: bigint }"))
            .wrong(put(USAGE, "id,number,at,units,zone\n1,n1,1773100800,3,far\n2,n1,1773964800,4,far\n"))
    };
    let zoned = || {
        Case::refused(
            "shows its instants in Europe/Prague, which moves none",
            "leave AT TIME ZONE out here, or write instant(",
        )
        .wrong(rule("time: at", "time: at AT TIME ZONE 'Europe/Prague'"))
    };
    // The subscription ends at midnight in UTC, which is two o'clock in Prague.
    let local =
        "id,number,at,units,zone\n1,n1,2026-03-10T00:00:00,3,far\n2,n1,2026-04-01T01:30:00,4,far\n";
    vec![
        untyped().right(rule("bigint }", "bigint, at: timestamp }")),
        seconds().right(rule("time: at", "time: to_timestamp_seconds(at)")),
        // Both are of 2026-03-10 and 2026-03-20, counted from the beginning of 1970.
        seconds().right(rule(
            "time: at",
            "time: \"plus_seconds(TIMESTAMP '1970-01-01T00:00:00Z', at)\"",
        )),
        zoned().right(put(JOB, JOB_TEXT)),
        zoned().right(rule(
            "at AT TIME ZONE 'Europe/Prague'",
            "instant(at AT TIME ZONE 'Europe/Prague')",
        )),
        Case::refused(
            "shows its instants in Europe/Prague",
            "name no offset, declare it as timestamp('Europe/Prague') in `columns`",
        )
        .wrong(put(USAGE, local))
        .wrong(rule("time: at", "time: at AT TIME ZONE 'Europe/Prague'"))
        .right(rule(AT, "at: \"timestamp('Europe/Prague')\" }"))
        .right(rule("at AT TIME ZONE 'Europe/Prague'", "at")),
    ]
}

/// Columns and values by their names.
fn names() -> Vec<Case> {
    let lets = "let: { twice: once * 2, once: units }\n      identity: [id]";
    vec![
        line(
            "the value \"once\" is used before it is there",
            "put it further up in `let`",
            ID,
            lets,
            "let: { once: units, twice: once * 2 }\n      identity: [id]",
        )
        .wrong(rule(CHARGES, "charges: { units: twice }"))
        .total("14 USD"),
        line(
            "the value \"units\" is used before it is there",
            "a value cannot have the name of a column that it reads",
            ID,
            "let: { units: units * 2 }\n      identity: [id]",
            "let: { twice: units * 2 }\n      identity: [id]",
        )
        .right(rule(CHARGES, "charges: { units: twice }"))
        .total("14 USD"),
        Case::doubtful(
            "7 USD",
            "declares \"zoen\", which no expression reads",
            "did you mean \"zone\"? It is read as if it were not declared",
        )
        .wrong(rule(AT, "at: timestamp, zoen: text }"))
        .right(rule("zoen", "zone")),
        Case::remark(
            "declares \"colour\", which no expression reads",
            "leave it out",
        )
        .wrong(rule(AT, "at: timestamp, colour: text }"))
        .right(rule(", colour: text", "")),
    ]
}
