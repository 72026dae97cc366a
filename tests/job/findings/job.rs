//! Hints about the job file, beside its sources.

use super::*;

const STATE: &str = "durability: { folder: state }\n";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = keys();
    cases.extend(files());
    cases.extend(tables());
    cases.extend(lasting());
    cases.extend(topics());
    cases
}

fn keys() -> Vec<Case> {
    let zone = |zone: &str| swap(JOB, "time_zone: UTC", format!("time_zone: {zone}"));
    vec![
        Case::refused("unknown key \"clcok\"", "did you mean \"clock\"?")
            .wrong(swap(JOB, "clock:", "clcok:"))
            .right(swap(JOB, "clcok:", "clock:")),
        Case::refused(
            "unknown key \"present\"",
            "known here: name, time_zone, clock,",
        )
        .wrong(swap(JOB, "clock:", "present:"))
        .right(swap(JOB, "present:", "clock:")),
        Case::refused(
            "time zone \"Europe/Pragu\"",
            "did you mean \"Europe/Prague\"?",
        )
        .wrong(zone("Europe/Pragu"))
        .right(put(JOB, JOB_TEXT.replace("UTC", "Europe/Prague"))),
        Case::refused("time zone \"Narnia\"", "write an IANA name like UTC")
            .wrong(zone("Narnia"))
            .right(put(JOB, JOB_TEXT)),
        Case::refused(
            "\"April\" is no instant",
            "write a date, 2026-03-31, or an instant",
        )
        .wrong(swap(JOB, "clock: 2026-04-01", "clock: April"))
        .right(swap(JOB, "clock: April", "clock: 2026-04-01T00:00:00Z")),
        Case::refused("\"soon\" is no length of time", "write days, 2d or P2D")
            .wrong(more(JOB, "time: { ahead: soon }\n"))
            .right(swap(JOB, "soon", "2d")),
        Case::refused("\"31\" is no length of time", "31 days are `31d`")
            .wrong(more(JOB, "time: { ahead: 31 }\n"))
            .right(swap(JOB, "ahead: 31", "ahead: 31d")),
        Case::refused(
            "\"0014-01-01\" is no time of usage",
            "write a day from 1678-01-01 to 2261-12-31",
        )
        .wrong(more(JOB, "time: { earliest: 0014-01-01 }\n"))
        .right(swap(JOB, "0014-01-01", "2014-01-01")),
        Case::refused("not an address to listen on", "or a port alone")
            .wrong(more(JOB, "metrics: { listen: everywhere }\n"))
            .right(swap(JOB, "everywhere", "0")),
        Case::refused(
            "found null, which is nothing",
            "quote it if it is meant as text",
        )
        .wrong(swap(JOB, "name: calls", "name: null"))
        .right(swap(JOB, "null", "\"null\"")),
        Case::refused(
            "expected text, found nothing",
            "write a value; between { } quote text",
        )
        .wrong(swap(JOB, "name: calls", "name:"))
        .right(swap(JOB, "name:", "name: calls")),
        Case::refused(
            "found nothing",
            "write a value; quote a text like \"null\" or \"~\"",
        )
        .wrong(swap(JOB, "[catalog.yaml]", "[~]"))
        .right(swap(JOB, "[~]", "[catalog.yaml]")),
        Case::refused(
            "the key has no value",
            "write the value, or leave the key out",
        )
        .wrong(swap(JOB, "clock: 2026-04-01", "clock:"))
        .right(swap(JOB, "clock:", "clock: 2026-04-01")),
        Case::refused("the tag \"!date\" is not known", "leave the tag out")
            .wrong(swap(JOB, "clock: 2026", "clock: !date 2026"))
            .right(swap(JOB, "!date ", "")),
        Case::refused("merge keys (`<<`)", "write the keys out")
            .wrong(swap(
                JOB,
                "{ file: zones.csv, key: zone }",
                "{ <<: { file: zones.csv }, key: zone }",
            ))
            .right(swap(JOB, "<<: { file: zones.csv }", "file: zones.csv")),
        Case::refused("\"region\" is given twice", "leave one of the two out")
            .wrong(more(JOB, "billing: { aggregate_by: [region, region] }\n"))
            .right(swap(JOB, "region, region", "region")),
        Case::refused(
            "defines the attribute \"regin\"",
            "did you mean \"region\"?",
        )
        .wrong(more(JOB, "billing: { aggregate_by: [regin] }\n"))
        .right(swap(JOB, "regin]", "region]")),
        Case::refused(
            "defines the attribute \"colour\"",
            "lines are separated by one of price, region,",
        )
        .wrong(more(JOB, "billing: { aggregate_by: [colour] }\n"))
        .right(swap(JOB, "colour", "price")),
    ]
}

/// Files that are named and not there, or there twice.
fn files() -> Vec<Case> {
    let second = "currency: USD\nprices: [{ item: texts, price: 1 }]\n";
    let texts = "charges: { units: units, texts: units }";
    vec![
        Case::refused(
            "no file or folder \"catalg.yaml\"",
            "did you mean \"catalog.yaml\"?",
        )
        .wrong(swap(JOB, "[catalog.yaml]", "[catalg.yaml]"))
        .right(swap(JOB, "[catalg.yaml]", "[catalog.yaml]")),
        Case::refused(
            "no file or folder \"far/who.yaml\"",
            "far/who.yaml; paths are relative to this file",
        )
        .wrong(swap(JOB, "[accounts.yaml]", "[far/who.yaml]"))
        .right(put("far/who.yaml", ACCOUNTS_TEXT)),
        Case::refused(
            "\"catalog.yaml\" is given twice",
            "leave one of the two out",
        )
        .wrong(swap(JOB, "[catalog.yaml]", "[catalog.yaml, catalog.yaml]"))
        .right(swap(JOB, "[catalog.yaml, catalog.yaml]", "[catalog.yaml]")),
        // Seven texts beside seven units.
        Case::refused(
            "a second document in the file",
            "each document into a file of its own",
        )
        .wrong(swap(JOB, "charges: { units: units }", texts))
        .wrong(more(CATALOG, format!("---\n{second}")))
        .right(put(CATALOG, CATALOG_TEXT))
        .right(put("second.yaml", second))
        .right(swap(JOB, "[catalog.yaml]", "[catalog.yaml, second.yaml]"))
        .total("14 USD"),
    ]
}

/// Lookup tables.
fn tables() -> Vec<Case> {
    let idle = || {
        Case::remark(
            "asks the lookup table \"idle\"",
            "leave it out, or ask it with `lookup()`",
        )
        .wrong(put("idle.csv", "zone,kind\nfar,day\n"))
        .wrong(swap(
            JOB,
            "lookups: {",
            "lookups: { idle: { file: idle.csv, key: zone },",
        ))
    };
    let asked = "attributes: { kind: \"lookup('idle', 'kind', zone)\", ";
    vec![
        idle().right(swap(JOB, " idle: { file: idle.csv, key: zone },", "")),
        idle().right(swap(JOB, "attributes: { ", asked)),
        Case::refused(
            "the lookup table \"zones\" has no key",
            "name the column that rows are found by",
        )
        .wrong(swap(JOB, "key: zone", "key: \"\""))
        .right(swap(JOB, "key: \"\"", "key: zone")),
        Case::refused(
            "the format of \"zones.dat\" cannot be told",
            "add `format: csv`",
        )
        .wrong(put("zones.dat", "zone,region\nfar,abroad\n"))
        .wrong(swap(JOB, "zones.csv", "zones.dat"))
        .right(swap(JOB, "zones.dat,", "zones.dat, format: csv,")),
        Case::refused(
            "`csv` is for CSV files",
            "leave it out, or correct the format",
        )
        .wrong(put(
            "zones.jsonl",
            "{\"zone\": \"far\", \"region\": \"abroad\"}\n",
        ))
        .wrong(swap(
            JOB,
            "zones.csv,",
            "zones.jsonl, csv: { delimiter: ; },",
        ))
        .right(swap(JOB, " csv: { delimiter: ; },", "")),
    ]
}

/// State, archive, and what needs them.
fn lasting() -> Vec<Case> {
    let adjust = || {
        Case::refused(
            "only jobs with durable state adjust",
            "or leave `adjust` out",
        )
        .wrong(more(
            JOB,
            "archive: { folder: closed, after: 40d, adjust: 1h }\n",
        ))
    };
    let adjusted = |wrong: &str| {
        more(
            JOB,
            format!("{STATE}archive: {{ folder: closed, after: 40d, adjust: {wrong} }}\n"),
        )
    };
    vec![
        adjust().right(more(JOB, STATE)),
        adjust().right(swap(JOB, ", adjust: 1h", "")),
        Case::refused("\"later\" is no length of time", "write days, 10d or P10D")
            .wrong(more(JOB, "archive: { folder: closed, after: later }\n"))
            .right(swap(JOB, "later", "P10D")),
        Case::refused("\"never\" is no time between adjustments", "write 1s to")
            .wrong(adjusted("never"))
            .right(swap(JOB, "never", "6h")),
        Case::refused("\"31d\" is no time between adjustments", "to 30 days")
            .wrong(adjusted("31d"))
            .right(swap(JOB, "31d", "30 days")),
        Case::refused("\"2h\" is no interval between commits", "write 10ms to 1h")
            .wrong(more(JOB, "durability: { folder: state, interval: 2h }\n"))
            .right(swap(JOB, "2h", "1h")),
        never_closed()
            .right(swap(
                ACCOUNTS,
                "anniversary: 2026-03-16",
                "anniversary: 2026-03-01",
            ))
            .total("5 USD"),
        // The unit of the second is nobody else's.
        never_closed()
            .right(swap(ACCOUNTS, ", group: ours", ""))
            .right(swap(ACCOUNTS, ", group: ours", ""))
            .total("6 USD"),
    ]
}

/// Two accounts share an allowance of one unit each, and the months of one begin on the 16th: two of seven
/// units are free.
fn never_closed() -> Case {
    let accounts = "\
accounts:
  - { id: acme, currency: USD }
  - { id: bolt, currency: USD, billing: { anniversary: 2026-03-16 } }
subscriptions:
  - { id: s1, account: acme, service_type: voice, services: [n1], from: 2026-03-01, to: 2026-04-01, group: ours }
  - { id: s2, account: bolt, service_type: voice, services: [n2], from: 2026-03-16, to: 2026-04-16, group: ours }
";
    let free = "plans: [{ allowances: [{ id: free, units: 1, proration: full_charge }] }]\n";
    Case::new(
        Told::Remark("5 USD"),
        "are never archived",
        "cycles that meet, or groups of their own",
    )
    .wrong(put(ACCOUNTS, accounts))
    .wrong(more(CATALOG, free))
    .wrong(more(JOB, "archive: { folder: closed, after: 40d }\n"))
}

fn topics() -> Vec<Case> {
    let kafka =
        "catalog: [catalog.yaml, { kafka: { brokers: \"127.0.0.1:9\", topics: [prices] } }]";
    let outputs = |topics: &str| {
        format!("outputs: {{ kafka: {{ brokers: \"127.0.0.1:9\", topics: {{ {topics} }} }} }}\n")
    };
    vec![
        Case::unrun("no topic is named", "write `topics: [prices]`")
            .wrong(swap(
                JOB,
                "catalog: [catalog.yaml]",
                kafka.replace("[prices]", "[]"),
            ))
            .right(swap(JOB, "topics: []", "topics: [prices]")),
        Case::unrun(
            "\"meta..version\" is no member",
            "or a dotted path like meta.version",
        )
        .wrong(swap(
            JOB,
            "catalog: [catalog.yaml]",
            kafka.replace("[prices]", "[prices], version: meta..version"),
        ))
        .right(swap(JOB, "meta..version", "meta.version")),
        Case::unrun(
            "published exactly once, which needs durable state",
            "add `durability: { folder: state }`",
        )
        .wrong(more(JOB, outputs("aggregated: billing.lines")))
        .right(more(JOB, STATE)),
        Case::unrun(
            "no output has a topic",
            "name one, like `topics: { aggregated: billing.lines }`",
        )
        .wrong(more(JOB, outputs("")))
        .wrong(more(JOB, STATE))
        .right(swap(
            JOB,
            "topics: {  }",
            "topics: { aggregated: billing.lines }",
        )),
    ]
}
