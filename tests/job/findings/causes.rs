//! One cause, one finding: what was refused is told, and what follows from its absence is not told, too.

use super::*;

/// Files in which one value is wrong, and what is told of it.
fn causes() -> Vec<(Edit, &'static str)> {
    let job = |part: &str, by: &str| put(JOB, JOB_TEXT.replacen(part, by, 1));
    let kafka = "kafka: { brokers: \"127.0.0.1:9\", topics: [usage] }";
    let more_job = |text: &str| put(JOB, format!("{JOB_TEXT}{text}"));
    let catalog = |price: &str| {
        put(
            CATALOG,
            format!("currency: USD\nprices: [{{ item: units, {price} }}]\n"),
        )
    };
    let plan = |parts: &str| put(CATALOG, format!("{CATALOG_TEXT}plans: [{{ {parts} }}]\n"));
    let subscription = |part: &str, by: &str| put(ACCOUNTS, ACCOUNTS_TEXT.replacen(part, by, 1));
    vec![
        // The stream of a source.
        (
            job("platform: switch", "platform: [switch]"),
            "expected text, found a list",
        ),
        (
            job("platform: switch", "platform: { name: switch }"),
            "expected text, found a mapping",
        ),
        (job("platform: switch", "platform:"), "the key has no value"),
        (
            job("platform: switch", "platfrom: switch"),
            "unknown key \"platfrom\"",
        ),
        (
            job("service_type: voice", "service_type: [voice]"),
            "expected text, found a list",
        ),
        (
            job("service_type: voice", "servicetype: voice"),
            "unknown key \"servicetype\"",
        ),
        // Where it is read from.
        (
            job("path: usage", "path: [usage]"),
            "expected text, found a list",
        ),
        (job("path: usage", "paht: usage"), "unknown key \"paht\""),
        (
            job("path: usage", &kafka.replace("brokers", "broker")),
            "unknown key \"broker\"",
        ),
        (
            job("path: usage", &kafka.replace("[usage]", "[[usage]]")),
            "expected text, found a list",
        ),
        (
            job(
                "path: usage",
                "path: usage\n    on_change: amnd\n    missing: void",
            ),
            "unknown value \"amnd\"",
        ),
        // Its rule.
        (job("units: bigint", "units: bigintt"), "bigintt"),
        (job("columns: {", "column: {"), "unknown key \"column\""),
        (job("time: at", "time: [at]"), "expected text, found a list"),
        // What else a job has.
        (
            job("catalog: [catalog.yaml]", "catalog: [[catalog.yaml]]"),
            "a file, or a mapping with `kafka`",
        ),
        (
            job("accounts: [accounts.yaml]", "accounts: [[accounts.yaml]]"),
            "a file, or a mapping with `kafka`",
        ),
        (
            job("time_zone: UTC", "time_zone: [UTC]"),
            "expected text, found a list",
        ),
        (
            job("time_zone: UTC", "timezone: UTC"),
            "unknown key \"timezone\"",
        ),
        (
            more_job(
                "archive: { folder: closed, after: 40d, adjust: 1h }\ndurability: { folder: state, intervall: 1s }\n",
            ),
            "unknown key \"intervall\"",
        ),
        (
            more_job("archive: { folder: closed, after: 40d, adjust: 1h }\ndurability: state\n"),
            "expected a mapping",
        ),
        (
            more_job(
                "outputs: { kafka: { brokers: b, topics: { agregated: lines } } }\ndurability: { folder: state }\n",
            ),
            "unknown key \"agregated\"",
        ),
        // Prices.
        (catalog("price: [1]"), "expected text, found a list"),
        (catalog("prise: 1"), "unknown key \"prise\""),
        (
            catalog("price: 1, model: per_block, block: [60]"),
            "expected text, found a list",
        ),
        (
            catalog("model: graduated, tiers: 5"),
            "expected a list, found \"5\"",
        ),
        (
            catalog("model: graduated, tiers: [{ prise: 1 }, { from: 5, price: 2 }]"),
            "unknown key \"prise\"",
        ),
        (
            catalog("model: graduated, tiers: [{ price: 1 }, { from: [5], price: 2 }]"),
            "expected text, found a list",
        ),
        (
            catalog("model: volume, by: [total], tiers: [{ price: 1 }]"),
            "expected text, found a list",
        ),
        // Plans.
        (
            plan("allowances: [{ id: free, units: [2] }]"),
            "expected text, found a list",
        ),
        (
            plan("allowances: [{ id: free, unitz: 2 }]"),
            "unknown key \"unitz\"",
        ),
        (
            plan("allowances: [{ idd: free, units: 2 }]"),
            "unknown key \"idd\"",
        ),
        (
            plan("allowances: [{ id: free, units: 2, items: [[units]] }]"),
            "expected",
        ),
        (
            plan("allowances: [{ id: free, units: 2, rollover_cap: 1, rollover_cycles: [1] }]"),
            "expected text, found a list",
        ),
        (
            plan("charges: [{ item: fee, amount: 1, when: advance, every: 2, cycle: [month] }]"),
            "expected text, found a list",
        ),
        (
            plan(
                "charges: [{ item: fee, amount: 1, when: advance, anchor: account, cycel: month }]",
            ),
            "unknown key \"cycel\"",
        ),
        (
            plan("charges: [{ item: fee, amount: 1, wen: advance }]"),
            "unknown key \"wen\"",
        ),
        (
            plan("commitments: [{ id: least, amount: [5] }]"),
            "expected text, found a list",
        ),
        (
            plan(
                "charges: [{ item: fee, amount: 1, when: [advance] }], commitments: [{ id: least, amount: 5, counts: recurring }]",
            ),
            "expected text, found a list",
        ),
        (
            plan(
                "accumulators: [{ id: spent, counts: [money] }], commitments: [{ id: least, amount: 5, accumulator: spent }]",
            ),
            "expected text, found a list",
        ),
        (
            plan("accumulators: [[]], commitments: [{ id: least, amount: 5, accumulator: spent }]"),
            "expected a mapping, found a list",
        ),
        // Accounts.
        (
            subscription("service_type: voice", "service_type: [voice]"),
            "expected text, found a list",
        ),
        (
            subscription("service_type: voice", "servicetype: voice"),
            "unknown key \"servicetype\"",
        ),
        (
            subscription("account: acme", "account: [acme]"),
            "expected text, found a list",
        ),
        (
            subscription("currency: USD", "curency: USD"),
            "unknown key \"curency\"",
        ),
    ]
}

#[test]
fn of_one_cause_only_the_cause_is_told() {
    let mut wrong = Vec::new();
    for (edit, message) in causes() {
        let desk = base();
        edit.make(&desk);
        let (exit, findings) = check(&desk);
        let told: Vec<&str> = findings.iter().map(|told| text(told, "message")).collect();
        let alone = told.len() == 1 && told[0].contains(message) && exit == Exit::Unusable;
        if !alone || desk.run().exit != Exit::Unusable {
            wrong.push(format!("{message}: {told:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Other mistakes beside a refused value are told, each.
#[test]
fn what_does_not_follow_is_told_beside_the_cause() {
    let desk = base();
    let job = JOB_TEXT.replace("    platform: switch\n", "    platform: [switch]\n");
    let job = job.replace("    service_type: voice\n", "");
    desk.write(JOB, job.replace("clock: 2026-04-01", "clock: soon"));
    let (_, findings) = check(&desk);
    let told: Vec<&str> = findings.iter().map(|told| text(told, "message")).collect();
    assert_eq!(told.len(), 3, "{told:#?}");
    for expected in ["is no instant", "expected text", "has no service_type"] {
        assert!(told.iter().any(|told| told.contains(expected)), "{told:#?}");
    }
}
