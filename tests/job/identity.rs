//! Several records of one identity: which is billed, what is told of the others, and how a record is
//! corrected or taken out afterwards.

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, millrace};
use serde_json::Value;
use std::collections::BTreeMap;

const CATALOG: &str = "\
currency: USD
prices:
  - { item: gb, price: 1 }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: USD }
subscriptions:
  - { id: s, account: acme, service_type: cloud, services: [c1] }
";

/// A job whose first source has the rule `more` says, and beside it what `sources` adds.
fn job(more: &str, sources: &str) -> String {
    format!(
        "\
name: identity
time_zone: UTC
clock: 2026-12-01
catalog: [catalog.yaml]
accounts: [accounts.yaml]
outputs: {{ suspense: {{ json: true }} }}
sources:
  - name: feed
    platform: feed
    service_type: cloud
    path: usage
    mediation:
      columns: {{ gb: bigint, at: timestamp, version: bigint }}
      identity: [id]
      service: customer
      time: at
      charges: {{ gb: gb }}
{more}{sources}"
    )
}

/// A source of corrections whose records void where a column says so.
const CORRECTIONS: &str = "
  - name: corrections
    platform: feed
    service_type: cloud
    path: corrections
    corrections: true
    mediation:
      columns: { gb: bigint, at: timestamp }
      identity: [id]
      kind: kind
      service: customer
      time: at
      charges: { gb: gb }
";

fn desk(job: &str, files: &[(&str, &str)]) -> Desk {
    let mut all = vec![
        ("job.yaml", job),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
    ];
    all.extend(files);
    Desk::new(&all)
}

/// The total, and how many records have which fate.
fn told(ended: &Ended) -> (Vec<String>, BTreeMap<String, u64>) {
    let summary = ended.summary();
    assert_eq!(summary["ties_out"], true, "{summary}");
    let reasons = summary["reasons"].as_array().unwrap().iter();
    let reasons = reasons.map(|reason| {
        let code = reason["reason"].as_str().unwrap().to_owned();
        (code, reason["records"].as_u64().unwrap())
    });
    (ended.totals(), reasons.collect())
}

fn reasons<const N: usize>(reasons: [(&str, u64); N]) -> BTreeMap<String, u64> {
    reasons.map(|(code, n)| (code.to_owned(), n)).into()
}

const HEAD: &str = "id,customer,at,gb,version\n";

fn rows(rows: &[&str]) -> String {
    format!("{HEAD}{}\n", rows.join("\n"))
}

#[test]
fn a_known_identity_with_another_content_is_told_and_an_equal_copy_is_not() {
    // Time, service, class and quantity alike; and whatever is not charged for does not matter.
    let others = [
        ("1,c1,2026-06-01T10:00:00Z,11,0", 1),
        ("1,c1,2026-06-01T10:00:01Z,10,0", 1),
        ("1,c2,2026-06-01T10:00:00Z,10,0", 1),
        ("1,c1,2026-06-01T10:00:00Z,10,0", 0),
        ("1,c1,2026-06-01T10:00:00Z,10,7", 0),
    ];
    for (other, conflicts) in others {
        let usage = rows(&["1,c1,2026-06-01T10:00:00Z,10,0", other]);
        let desk = desk(&job("", ""), &[("usage/a.csv", &usage)]);
        let ended = desk.run();
        let (total, found) = told(&ended);
        assert_eq!(total, ["10 USD"], "{other}");
        let expected = match conflicts {
            0 => ("DUPLICATE", Exit::Ok),
            _ => ("CONFLICT", Exit::Findings),
        };
        assert_eq!(
            (found, ended.exit),
            (reasons([(expected.0, 1)]), expected.1),
            "{other}"
        );
    }
}

#[test]
fn a_conflict_names_both_records_in_summary_ledger_and_suspense() {
    let first = rows(&["1,c1,2026-06-01T10:00:00Z,10,0"]);
    let second = rows(&[
        "2,c1,2026-06-01T10:00:00Z,1,0",
        "1,c1,2026-06-01T10:00:00Z,12,0",
    ]);
    let files = [
        ("usage/a.csv", first.as_str()),
        ("usage/b.csv", second.as_str()),
    ];
    let desk = desk(&job("", ""), &files);
    let ended = desk.run();
    let summary = ended.summary();
    assert_eq!(summary["records"]["conflict"], 1);
    assert_eq!(summary["files"][1]["conflict"], 1);
    let reason = &summary["reasons"][0];
    assert!(
        reason["example"].as_str().unwrap().starts_with("b.csv "),
        "{reason}"
    );
    assert!(
        reason["detail"].as_str().unwrap().contains("a.csv line 2"),
        "{reason}"
    );
    let row = &desk.snapshot("suspense")[0];
    assert_eq!(row["reason"], "CONFLICT");
    assert_eq!(row["severity"], "warning");
    assert_eq!(
        (&row["original_file"], &row["original_row"]),
        (&"a.csv".into(), &0.into())
    );
    assert_eq!(desk.snapshot("ledger")[1]["conflict"], 1);
    let status = desk.snapshot("raw_status");
    assert!(
        status.iter().any(|row| row["code"] == "CONFLICT"),
        "{status:?}"
    );
}

#[test]
fn the_rule_says_which_record_of_an_identity_holds() {
    // A placeholder and then the call, in whatever file; an equal copy; and two that come to the same.
    let a = rows(&[
        "1,c1,2026-06-01T10:00:00Z,0,1",
        "1,c1,2026-06-01T10:00:06Z,271,2",
        "2,c1,2026-06-01T11:00:00Z,5,9",
        "2,c1,2026-06-01T11:00:00Z,5,9",
    ]);
    let b = rows(&["1,c1,2026-06-01T10:00:03Z,100,3"]);
    let cases: [(&str, &str, BTreeMap<String, u64>); 6] = [
        ("", "5", reasons([("CONFLICT", 2), ("DUPLICATE", 1)])),
        (
            "      keep: first\n",
            "5",
            reasons([("CONFLICT", 2), ("DUPLICATE", 1)]),
        ),
        (
            "      keep: last\n",
            "105",
            reasons([("SUPERSEDED", 2), ("DUPLICATE", 1)]),
        ),
        (
            "      keep: greatest(gb)\n",
            "276",
            reasons([("SUPERSEDED", 2), ("DUPLICATE", 1)]),
        ),
        (
            "      keep: greatest(at)\n",
            "276",
            reasons([("SUPERSEDED", 2), ("DUPLICATE", 1)]),
        ),
        (
            "      version: version\n",
            "105",
            reasons([("SUPERSEDED", 2), ("DUPLICATE", 1)]),
        ),
    ];
    for (keep, total, expected) in cases {
        let files = [("usage/a.csv", a.as_str()), ("usage/b.csv", b.as_str())];
        let desk = desk(&job(keep, ""), &files);
        let ended = desk.run();
        let (totals, found) = told(&ended);
        assert_eq!(totals, [format!("{total} USD")], "{keep}");
        assert_eq!(found, expected, "{keep}");
        let exit = if expected.contains_key("CONFLICT") {
            Exit::Findings
        } else {
            Exit::Ok
        };
        assert_eq!(ended.exit, exit, "{keep}");
    }
}

#[test]
fn two_contents_of_the_greatest_value_are_told() {
    let usage = rows(&[
        "1,c1,2026-06-01T10:00:00Z,7,1",
        "1,c1,2026-06-01T10:00:06Z,7,1",
        "1,c1,2026-06-01T10:00:09Z,3,1",
    ]);
    let desk = desk(
        &job("      keep: greatest(gb)\n", ""),
        &[("usage/a.csv", &usage)],
    );
    let ended = desk.run();
    let expected = reasons([("CONFLICT", 1), ("SUPERSEDED", 1)]);
    assert_eq!(told(&ended), (vec!["7 USD".to_owned()], expected));
    assert_eq!(ended.exit, Exit::Findings);
}

#[test]
fn a_correction_replaces_a_record_or_takes_it_out() {
    let usage = rows(&[
        "1,c1,2026-06-01T10:00:00Z,10,0",
        "2,c1,2026-06-02T10:00:00Z,20,0",
        "3,c1,2026-06-03T10:00:00Z,30,0",
    ]);
    // The last names what nobody has sent. A void needs nothing but its identity.
    let corrections =
        "id,customer,at,gb,kind\n1,c1,2026-06-01T10:00:00Z,12,\n2,,,,void\n9,,,,void\n";
    let files = [
        ("usage/a.csv", usage.as_str()),
        ("corrections/c.csv", corrections),
    ];
    let job = job("", CORRECTIONS).replace(
        "columns: { gb: bigint, at: timestamp }",
        "columns: { gb: { type: bigint, may_be: empty }, at: { type: timestamp, may_be: empty } }",
    );
    let desk = desk(&job, &files);
    let ended = desk.run();
    let expected = [
        ("AMENDED", 1),
        ("VOIDED", 1),
        ("VOID", 1),
        ("ORIGINAL_MISSING", 1),
    ];
    assert_eq!(told(&ended), (vec!["42 USD".to_owned()], reasons(expected)));
    assert_eq!(ended.exit, Exit::Findings, "the original of one is missing");
    let summary = ended.summary();
    assert_eq!(summary["records"]["superseded"], 3);
    assert_eq!(summary["records"]["suspended"], 1);
}

#[test]
fn explain_tells_all_versions_of_an_identity() {
    let usage = rows(&[
        "1,c1,2026-06-01T10:00:00Z,10,0",
        "1,c1,2026-06-01T10:00:00Z,11,0",
    ]);
    let corrections = "id,customer,at,gb,kind\n1,c1,2026-06-01T10:00:00Z,12,\n";
    let files = [
        ("usage/a.csv", usage.as_str()),
        ("corrections/c.csv", corrections),
    ];
    let desk = desk(&job("", CORRECTIONS), &files);
    let path = desk.at("job.yaml").display().to_string();
    let told = |record: &str| -> Value {
        let ended = millrace(&["explain", &path, record, "--output", "json"]);
        serde_json::from_str(&ended.out).unwrap()
    };
    let told = ["a.csv:2", "a.csv:3", "c.csv:2"].map(told);
    for told in &told {
        let versions = told["versions"].as_array().unwrap();
        let codes: Vec<_> = versions
            .iter()
            .map(|v| v["code"].as_str().unwrap())
            .collect();
        assert_eq!(codes, ["AMENDED", "SUPERSEDED", "HOLDS"]);
        let quantity = |v: &Value| v["usage"]["items"][0][1].as_str().unwrap().to_owned();
        let quantities: Vec<_> = versions.iter().map(quantity).collect();
        assert_eq!(quantities, ["10", "11", "12"]);
    }
    assert_eq!(
        told.map(|told| told["code"].clone()),
        ["AMENDED", "SUPERSEDED", "MONETISED"]
    );
    let text = millrace(&["explain", &path, "a.csv:2"]).out;
    assert!(
        text.contains("chosen: it holds") && text.contains("AMENDED: c.csv:2 decides"),
        "{text}"
    );
    // Where the first is kept without its content, that is read again.
    let files = [("usage/a.csv", usage.as_str())];
    let desk = self::desk(&job("", ""), &files);
    let path = desk.at("job.yaml").display().to_string();
    let ended = millrace(&["explain", &path, "a.csv:3", "--output", "json"]);
    let told: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(told["code"], "CONFLICT");
    assert_eq!(told["versions"][0]["usage"]["items"][0][1], "10");
}

#[test]
fn kinds_and_versions_that_say_nothing_are_told() {
    let usage = "id,customer,at,gb,version,kind\n\
        1,c1,2026-06-01T10:00:00Z,10,1,usage\n\
        1,c1,2026-06-01T10:00:00Z,12,,amend\n\
        2,c1,2026-06-01T10:00:00Z,5,1,delete\n";
    let rule = "      version: version\n      kind: kind\n";
    let job = job(rule, "").replace(
        "version: bigint",
        "version: { type: bigint, may_be: empty }",
    );
    let desk = desk(&job, &[("usage/a.csv", usage)]);
    let ended = desk.run();
    let expected = reasons([("VERSION_MISSING", 1), ("KIND_UNKNOWN", 1)]);
    assert_eq!(told(&ended), (vec!["10 USD".to_owned()], expected));
    assert_eq!(ended.exit, Exit::Findings);
}

#[test]
fn rules_about_identity_that_cannot_hold_are_refused() {
    let by_place = |rule: &str| job(rule, "").replace("identity: [id]", "identity: position");
    let other_keep = CORRECTIONS.replace("      kind: kind", "      keep: last");
    let cases = [
        (job("      keep: lst\n", ""), "is none of `first`, `last`"),
        (
            job("      keep: greatest()\n", ""),
            "is none of `first`, `last`",
        ),
        (
            job("      keep: greatest(id)\n", ""),
            "where a whole number",
        ),
        (
            job("      keep: last\n      version: version\n", ""),
            "nothing to keep",
        ),
        (
            by_place("      keep: last\n"),
            "no record has the identity of another",
        ),
        (
            by_place("      version: version\n"),
            "no record has the identity of another",
        ),
        (job("", &other_keep), "keep different records"),
        (
            job(
                "",
                &CORRECTIONS.replace("identity: [id]", "identity: position"),
            ),
            "no record has the identity of another",
        ),
    ];
    let usage = rows(&["1,c1,2026-06-01T10:00:00Z,10,0"]);
    for (job, expected) in cases {
        let job = job.replace("path: usage", "path: usage/a.csv");
        let files = [
            ("usage/a.csv", usage.as_str()),
            ("corrections/c.csv", "id\n"),
        ];
        let desk = desk(&job, &files);
        let path = desk.at("job.yaml").display().to_string();
        let ended = millrace(&["check", &path]);
        assert_eq!(ended.exit, Exit::Unusable, "{expected}: {ended:?}");
        let told = format!("{}{}", ended.out, ended.err);
        assert!(told.contains(expected), "{expected}: {told}");
    }
}

/// A durable job that learns later that records may be corrected, and goes on as one that always knew.
#[test]
fn a_job_with_state_takes_corrections_from_a_later_start_on() {
    let state = "durability: { folder: state }\n";
    let usage = rows(&[
        "1,c1,2026-06-01T10:00:00Z,10,0",
        "2,c1,2026-06-02T10:00:00Z,20,0",
    ]);
    let first = format!("{}{state}", job("", ""));
    let desk = desk(&first, &[("usage/a.csv", &usage)]);
    assert_eq!(told(&desk.run()), (vec!["30 USD".to_owned()], reasons([])));
    desk.write("job.yaml", format!("{}{state}", job("", CORRECTIONS)));
    desk.write(
        "corrections/c.csv",
        "id,customer,at,gb,kind\n1,c1,2026-06-01T10:00:00Z,12,\n",
    );
    let once = told(&desk.run());
    assert_eq!(once, (vec!["32 USD".to_owned()], reasons([("AMENDED", 1)])));
    assert_eq!(told(&desk.run()), once, "and stays so");
    // The newest correction holds.
    desk.write(
        "corrections/d.csv",
        "id,customer,at,gb,kind\n1,c1,2026-06-01T10:00:00Z,15,\n",
    );
    let expected = reasons([("AMENDED", 1), ("SUPERSEDED", 1)]);
    assert_eq!(told(&desk.run()), (vec!["35 USD".to_owned()], expected));
}
