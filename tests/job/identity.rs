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

/// Of equal copies only the places are held, so what becomes of them is asked once more when what holds says
/// something else, or is gone.
#[test]
fn very_many_copies_come_to_the_same_in_kept_state_as_anew() {
    let row = |n: u32, gb: u32| format!("{},c1,2026-06-01T10:00:00Z,{gb},{}", n % 7, n / 700);
    let file = |from: u32, to: u32| {
        let all = (from..to).map(|n| row(n, if n % 1000 == 999 { 6 } else { 5 }));
        let all: Vec<String> = all.collect();
        rows(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (first, second) = (file(0, 2_000), file(2_000, 9_100));
    let files = [("usage/a.csv", &*first), ("usage/b.csv", &*second)];
    let says = |charges: &str, rule: &str| {
        job(rule, "").replace(
            "charges: { gb: gb }",
            &format!("charges: {{ gb: {charges} }}"),
        )
    };
    // What all copies say changes, some say something else, and those that hold go.
    let rules = [
        (
            says("gb", ""),
            "35 USD",
            [("DUPLICATE", 9_084), ("CONFLICT", 9)],
        ),
        (
            says("gb * 2", ""),
            "70 USD",
            [("DUPLICATE", 9_084), ("CONFLICT", 9)],
        ),
        (
            says("gb + version", ""),
            "35 USD",
            [("DUPLICATE", 693), ("CONFLICT", 8_400)],
        ),
        (
            says("gb + version", "      where: version > 1\n"),
            "49 USD",
            [("DUPLICATE", 692), ("CONFLICT", 7_001)],
        ),
        (
            says("gb", "      where: version > 1\n"),
            "35 USD",
            [("DUPLICATE", 7_685), ("CONFLICT", 8)],
        ),
    ];
    let kept = desk(&rules[0].0, &files);
    for (rule, total, reasons) in rules {
        kept.write(
            "job.yaml",
            format!("{rule}durability: {{ folder: state }}\n"),
        );
        let anew = desk(&rule, &files);
        let (ended, expected) = (told(&kept.run()), told(&anew.run()));
        let reasons = reasons.map(|(code, records)| (code.to_owned(), records));
        assert_eq!(expected, (vec![total.to_owned()], reasons.into()), "{rule}");
        assert_eq!(ended, expected, "{rule}");
        for output in ["suspense", "raw_status"] {
            let (kept, anew) = (kept.snapshot(output), anew.snapshot(output));
            assert!(kept == anew, "{output} of\n{rule}");
        }
    }
    let path = kept.at("job.yaml").display().to_string();
    let ended = millrace(&["explain", &path, "b.csv:5002", "--output", "json"]);
    let told: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(
        (&told["code"], &told["duplicate_of"]),
        (&"DUPLICATE".into(), &"a.csv:1402".into())
    );
    let versions = told["versions"].as_array().unwrap();
    let quantity = |v: &Value| v["usage"]["items"][0][1].as_str().unwrap().to_owned();
    let codes = |code: &str| {
        versions
            .iter()
            .filter(|v| v["code"] == code)
            .map(quantity)
            .collect()
    };
    let equal: Vec<String> = codes("DUPLICATE");
    assert!(
        equal.len() > 1_000 && equal.iter().all(|quantity| quantity == "5"),
        "{equal:?}"
    );
    assert_eq!(codes("HOLDS"), ["5"]);
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

/// A job with state whose file is written over with a second content.
fn written_over(source: &str, second: &str) -> (Desk, Ended) {
    let state = "durability: { folder: state }\n";
    let job = job("", "").replace("    path: usage\n", &format!("    path: usage\n{source}"));
    let first = rows(&[
        "1,c1,2026-06-01T10:00:00Z,10,0",
        "2,c1,2026-06-02T10:00:00Z,10,0",
    ]);
    let desk = desk(&format!("{job}{state}"), &[("usage/month.csv", &first)]);
    assert_eq!(told(&desk.run()), (vec!["20 USD".to_owned()], reasons([])));
    desk.write("usage/month.csv", second);
    let ended = desk.run();
    (desk, ended)
}

#[test]
fn a_file_that_is_written_over_is_told_unless_its_source_amends() {
    // One row corrected, one gone, one new.
    let second = rows(&[
        "2,c1,2026-06-02T10:00:00Z,12,0",
        "3,c1,2026-06-03T10:00:00Z,10,0",
    ]);
    let (desk, ended) = written_over("", &second);
    assert_eq!(
        (ended.totals(), ended.exit),
        (vec!["20 USD".to_owned()], Exit::Findings)
    );
    let message = ended.summary()["files"][1]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.contains("\"month.csv\"") && message.contains("`on_change: amend`"),
        "{message}"
    );
    // The hint, followed literally.
    let job = std::fs::read_to_string(desk.at("job.yaml")).unwrap();
    desk.write(
        "job.yaml",
        job.replace(
            "    path: usage\n",
            "    path: usage\n    on_change: amend\n",
        ),
    );
    let ended = desk.run();
    assert_eq!(
        told(&ended),
        (vec!["32 USD".to_owned()], reasons([("AMENDED", 1)]))
    );

    let amended = (vec!["32 USD".to_owned()], reasons([("AMENDED", 1)]));
    let (desk, ended) = written_over("    on_change: amend\n", &second);
    assert_eq!((told(&ended), ended.exit), (amended.clone(), Exit::Ok));
    assert_eq!(told(&desk.run()), amended, "and stays so");
    // As it was at first: rows that are equal again are no correction, and the third row stays.
    let first = rows(&[
        "1,c1,2026-06-01T10:00:00Z,10,0",
        "2,c1,2026-06-02T10:00:00Z,10,0",
    ]);
    desk.write("usage/month.csv", &first);
    let (total, found) = told(&desk.run());
    assert_eq!(total, ["30 USD"], "{found:?}");

    let source = "    on_change: amend\n    missing: void\n";
    let (desk, ended) = written_over(source, &second);
    let voided = (
        vec!["22 USD".to_owned()],
        reasons([("AMENDED", 1), ("VOIDED", 1)]),
    );
    assert_eq!((told(&ended), ended.exit), (voided.clone(), Exit::Ok));
    assert_eq!(told(&desk.run()), voided, "and stays so");
    desk.write("usage/month.csv", &first);
    let (total, found) = told(&desk.run());
    assert_eq!(total, ["20 USD"], "{found:?}");
    // A file that cannot be read whole takes nothing out.
    desk.write(
        "usage/month.csv",
        rows(&["1,c1,2026-06-01T10:00:00Z,10,0", "2,c1,never,10,0"]),
    );
    let ended = desk.run();
    assert_eq!(
        (ended.totals(), ended.exit),
        (vec!["20 USD".to_owned()], Exit::Findings)
    );
    assert!(
        ended.err.contains("none that it had before is taken out"),
        "{}",
        ended.err
    );
}

#[test]
fn usage_sent_by_mistake_is_taken_back_as_its_hint_says() {
    let usage = rows(&[
        "1,c1,2026-06-01T10:00:00Z,150,0",
        "2,c1,2026-06-02T10:00:00Z,30,0",
        "3,c1,2026-06-03T10:00:00Z,-30,0",
    ]);
    let first = desk(&job("", ""), &[("usage/a.csv", &usage)]);
    let ended = first.run();
    assert_eq!(ended.totals(), ["180 USD"]);
    let hint = ended.summary()["reasons"][0]["hint"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        hint.contains("`corrections: true`") && hint.contains("`kind: \"'void'\"`"),
        "{hint}"
    );
    // A source whose records all void: of record 2 nothing but its identity is sent.
    let voids = CORRECTIONS
        .replace("kind: kind", "kind: \"'void'\"")
        .replace("bigint", "{ type: bigint, may_be: absent }")
        .replace("timestamp", "{ type: timestamp, may_be: absent }");
    let job = job("      where: gb > 0\n", &voids);
    let files = [
        ("usage/a.csv", usage.as_str()),
        ("corrections/c.csv", "id,customer\n2,c1\n"),
    ];
    let ended = desk(&job, &files).run();
    let expected = reasons([("VOIDED", 1), ("VOID", 1)]);
    assert_eq!(told(&ended), (vec!["150 USD".to_owned()], expected));
    assert_eq!(ended.exit, Exit::Ok);
}

#[test]
fn an_identity_of_a_closed_bill_unit_is_known_whatever_its_time() {
    let closes = |clock: &str| {
        let more = "durability: { folder: state }\narchive: { folder: closed }\n";
        let job = job("", CORRECTIONS).replace("2026-12-01", clock);
        format!("{job}{more}")
            .replace("bigint, at", "{ type: bigint, may_be: empty }, at")
            .replace("timestamp }", "{ type: timestamp, may_be: empty } }")
    };
    let usage = rows(&[
        "1,c1,2026-06-01T10:00:00Z,14,0",
        "2,c1,2026-12-05T10:00:00Z,3,0",
    ]);
    let files = [
        ("usage/a.csv", usage.as_str()),
        ("corrections/c.csv", "id,customer,at,gb,kind\n"),
    ];
    let desk = desk(&closes("2026-12-10"), &files);
    assert_eq!(desk.run().totals(), ["17 USD"]);
    // An equal copy, another content with its time in the open bill unit, and corrections of it.
    desk.write("usage/b.csv", rows(&["1,c1,2026-06-01T10:00:00Z,14,0"]));
    desk.write(
        "usage/c.csv",
        rows(&[
            "1,c1,2026-12-05T10:00:00Z,8,0",
            "4,c1,2026-12-05T10:00:00Z,1,0",
        ]),
    );
    let voids = "id,customer,at,gb,kind\n1,c1,2026-06-01T10:00:00Z,9,\n1,,,,void\n";
    desk.write("corrections/d.csv", voids);
    let expected = reasons([
        ("DUPLICATE", 1),
        ("SUPERSEDED", 2),
        ("VOID", 1),
        ("VOIDED", 1),
    ]);
    for again in [false, true] {
        let ended = desk.run();
        assert_eq!(
            told(&ended),
            (vec!["4 USD".to_owned()], expected.clone()),
            "again: {again}"
        );
        assert_eq!(ended.exit, Exit::Findings);
    }
    // What came meanwhile is closed too, and known.
    desk.write("job.yaml", closes("2027-01-10"));
    assert_eq!(desk.run().totals(), ["4 USD"]);
    desk.write(
        "usage/e.csv",
        rows(&[
            "4,c1,2027-01-05T10:00:00Z,1,0",
            "5,c1,2027-01-05T10:00:00Z,2,0",
        ]),
    );
    let ended = desk.run();
    let (total, found) = told(&ended);
    assert_eq!((total, found["CONFLICT"]), (vec!["6 USD".to_owned()], 1));
}

/// A register by day and hour, of which some records carry the whole instant in the day: the rule's time
/// says what stands in for an empty hour, so it is no part that is missing.
#[test]
fn a_part_of_the_identity_that_the_time_fills_in_may_be_empty() {
    let job = |time: &str| {
        format!(
            "name: identity\ntime_zone: UTC\nclock: 2026-12-31\ncatalog: [catalog.yaml]\n\
             accounts: [accounts.yaml]\nsources:\n  - name: feed\n    platform: feed\n    \
             service_type: cloud\n    path: usage.csv\n    mediation:\n      \
             columns: {{ gb: bigint }}\n      let: {{ at: \"{time}\" }}\n      \
             identity: [customer, day, hour]\n      service: customer\n      \
             time: CAST(at AS TIMESTAMP)\n      charges: {{ gb: gb }}\n"
        )
    };
    let fills = "day || coalesce('T' || hour || ':00Z', '')";
    let rows = "customer,day,hour,gb\nc1,2026-07-01,23:00,1\nc1,2026-07-01T20:00:00Z,,2\n\
                c1,2026-07-01T21:00:00Z,,4\n";
    let desk = Desk::new(&[
        ("job.yaml", &job(fills)),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("usage.csv", rows),
    ]);
    let ended = desk.run();
    assert_eq!(ended.totals(), ["7 USD"], "{}", ended.err);
    // Where nothing is said of an empty hour, it is missing.
    desk.write("job.yaml", job("concat(day, 'T', '10:00:00Z')"));
    let rows = "customer,day,hour,gb\nc1,2026-07-01,23:00,1\nc1,2026-07-02,,2\n";
    desk.write("usage.csv", rows);
    let ended = desk.run();
    assert_eq!(
        (ended.exit, ended.totals()),
        (Exit::Findings, vec!["1 USD".to_owned()])
    );
}

/// What decides between records is marked when they come in, so kept state and another rule do not agree.
#[test]
fn what_holds_in_kept_state_does_not_change_unsaid() {
    let kept = |rule: &str| job(rule, "") + "durability: { folder: state }\n";
    let usage = rows(&[
        "1,c1,2026-06-01T10:00:00Z,10,9",
        "1,c1,2026-06-01T10:00:00Z,4,3",
    ]);
    let desk = desk(&kept(""), &[("usage/a.csv", &usage)]);
    let first = told(&desk.run());
    assert_eq!(first.0, ["10 USD"]);
    let others = [
        ("last", "keep: last", "the last of an identity"),
        (
            "greatest",
            "keep: greatest(version)",
            "the one with the greatest `version`",
        ),
        (
            "version",
            "version: version",
            "the one with the greatest version `version`",
        ),
    ];
    for (name, rule, says) in others {
        desk.write("job.yaml", kept(&format!("      {rule}\n")));
        let refused = desk.run();
        assert_eq!(refused.exit, Exit::Unusable, "{name}: {}", refused.err);
        let says = format!("of which the first of an identity holds, not {says}");
        assert!(refused.err.contains(&says), "{name}: {}", refused.err);
    }
    // What records do may be said later: those that came before report usage.
    desk.write(
        "job.yaml",
        kept("      kind: \"case when version = 3 then 'void' else 'usage' end\"\n"),
    );
    desk.write(
        "usage/b.csv",
        rows(&[
            "1,c1,2026-06-01T10:00:00Z,0,3",
            "2,c1,2026-06-01T10:00:00Z,1,0",
        ]),
    );
    assert_eq!(told(&desk.run()).0, ["1 USD"]);
    // As advised: state of its own.
    desk.write(
        "job.yaml",
        kept("      keep: last\n").replace("folder: state", "folder: other"),
    );
    assert_eq!(told(&desk.run()).0, ["1 USD"]);
}

/// A file that was told to have changed corrects what was read of it once the source says so, and is told
/// again when it says so no more.
#[test]
fn whether_a_file_amends_may_be_said_between_runs() {
    let kept = |more: &str| {
        let job = job("", "").replace("path: usage", &format!("path: usage{more}"));
        job + "durability: { folder: state }\n"
    };
    let amends = "\n    on_change: amend\n    missing: void";
    let row = |n: u32, gb: u32| format!("{n},c1,2026-06-01T10:00:00Z,{gb},0");
    let usage = |all: &[String]| rows(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let desk = desk(
        &kept(""),
        &[("usage/a.csv", &usage(&[row(1, 10), row(2, 20), row(3, 30)]))],
    );
    assert_eq!(desk.run().totals(), ["60 USD"]);
    desk.write("usage/a.csv", usage(&[row(1, 11), row(2, 20)]));
    let told = desk.run();
    assert_eq!(
        (told.exit, told.totals()),
        (Exit::Findings, vec!["60 USD".to_owned()]),
        "{}",
        told.err
    );
    desk.write("job.yaml", kept(amends));
    assert_eq!(desk.run().totals(), ["31 USD"]);
    desk.write("usage/a.csv", usage(&[row(1, 12), row(2, 20)]));
    desk.write("job.yaml", kept(""));
    let told = desk.run();
    assert_eq!(
        (told.exit, told.totals()),
        (Exit::Findings, vec!["31 USD".to_owned()]),
        "{}",
        told.err
    );
    desk.write("job.yaml", kept(amends));
    assert_eq!(desk.run().totals(), ["32 USD"]);
}

/// A record that `where` excludes is a version of its identity like any other, and leaves nothing of it where it
/// holds.
#[test]
fn what_where_excludes_takes_the_place_of_what_came_before() {
    const AMENDS: &str = "      kind: CASE WHEN version = 1 THEN 'amend' ELSE 'usage' END\n";
    let keep = |keep: &str| format!("      keep: {keep}\n");
    // What the rule says, quantity and version of each record (it excludes zeros), and what is billed.
    let cases = [
        (keep("last"), [(5, 0), (0, 1)], 0, Some("SUPERSEDED")),
        (keep("last"), [(0, 0), (5, 1)], 5, None),
        (keep("last"), [(0, 0), (0, 1)], 0, None),
        (
            keep("greatest(version)"),
            [(5, 1), (0, 2)],
            0,
            Some("SUPERSEDED"),
        ),
        (
            keep("greatest(version)"),
            [(0, 2), (5, 1)],
            0,
            Some("SUPERSEDED"),
        ),
        (keep("greatest(version)"), [(5, 2), (0, 1)], 5, None),
        // Of equally great ones the later says what became of the earlier.
        (
            keep("greatest(version)"),
            [(5, 1), (0, 1)],
            0,
            Some("SUPERSEDED"),
        ),
        (keep("greatest(version)"), [(0, 1), (5, 1)], 5, None),
        (
            "      version: version\n".to_owned(),
            [(5, 1), (0, 2)],
            0,
            Some("SUPERSEDED"),
        ),
        (AMENDS.to_owned(), [(5, 0), (0, 1)], 0, Some("AMENDED")),
        (AMENDS.to_owned(), [(0, 1), (5, 0)], 0, Some("AMENDED")),
        // Of what reports usage, the first holds.
        (AMENDS.to_owned(), [(5, 0), (0, 0)], 5, None),
        (AMENDS.to_owned(), [(0, 0), (5, 0)], 5, None),
        (String::new(), [(5, 0), (0, 1)], 5, None),
    ];
    let row = |(gb, version): (u32, u32)| format!("1,c1,2026-06-01T10:00:00Z,{gb},{version}");
    for (rule, records, billed, reason) in cases {
        let told_of = |ended: &Ended| {
            let records = ended.summary()["records"].clone();
            let ignored = records["ignored"].as_u64().unwrap();
            let (total, found) = told(ended);
            (total, found, ignored, ended.exit)
        };
        let total = match billed {
            0 => Vec::new(),
            n => vec![format!("{n} USD")],
        };
        let found = reason.map(|reason| (reason.to_owned(), 1));
        let zeros = records.iter().filter(|(gb, _)| *gb == 0).count();
        let expected = (total, found.into_iter().collect(), zeros as u64, Exit::Ok);
        let rule = format!("{rule}      where: gb > 0\n");
        let all = rows(&records.map(row).each_ref().map(String::as_str));
        let at_once = desk(&job(&rule, ""), &[("usage/a.csv", &all)]);
        assert_eq!(told_of(&at_once.run()), expected, "{rule} {records:?}");
        let one = at_once.at("job.yaml").display().to_string();
        let one = millrace(&["run", &one, "--workers", "1", "--output", "json"]);
        assert_eq!(told_of(&one), expected, "{rule} {records:?}, one worker");
        // One after the other, with a restart between, and one behind.
        let kept = job(&rule, "") + "durability: { folder: state }\n";
        let [first, second] = records.map(|record| rows(&[&row(record)]));
        let by_turns = desk(&kept, &[("usage/a.csv", &first)]);
        assert_eq!(by_turns.run().exit, Exit::Ok);
        by_turns.write("usage/b.csv", second);
        for _ in 0..2 {
            assert_eq!(told_of(&by_turns.run()), expected, "{rule} {records:?}");
        }
    }
}

#[test]
fn a_correction_that_its_rule_excludes_is_one_and_is_explained() {
    let usage = rows(&[
        "1,c1,2026-06-01T10:00:00Z,5,0",
        "2,c1,2026-06-01T10:00:00Z,7,0",
    ]);
    let excludes = format!("{CORRECTIONS}      where: gb > 0\n");
    let first = desk(
        &job("", &excludes),
        &[
            ("usage/a.csv", &usage),
            (
                "corrections/c.csv",
                "id,customer,at,gb,kind\n1,c1,2026-06-01T10:00:00Z,0,\n",
            ),
        ],
    );
    let amended = (vec!["7 USD".to_owned()], reasons([("AMENDED", 1)]));
    assert_eq!(told(&first.run()), amended);
    let explain = |record: &str| {
        let job = first.at("job.yaml").display().to_string();
        let ended = millrace(&["explain", &job, record, "--output", "json"]);
        serde_json::from_str::<Value>(&ended.out).unwrap()
    };
    let original = explain("a.csv:2");
    assert_eq!(original["code"], "AMENDED", "{original}");
    let versions = original["versions"].as_array().unwrap().iter();
    let versions: Vec<_> = versions
        .map(|version| (version["kind"].clone(), version["code"].clone()))
        .collect();
    assert_eq!(
        versions,
        [
            ("usage".into(), "AMENDED".into()),
            ("passed over".into(), "IGNORED".into())
        ]
    );
    assert_eq!(
        original["versions"][0]["because"],
        original["versions"][1]["record"]
    );
    let excluded = explain("c.csv:2");
    assert_eq!(excluded["code"], "IGNORED", "{excluded}");
    assert_eq!(excluded["versions"], original["versions"]);

    // A file that is sent again with a row that is excluded now.
    let changed = rows(&[
        "1,c1,2026-06-01T10:00:00Z,0,0",
        "2,c1,2026-06-01T10:00:00Z,7,0",
    ]);
    for more in ["", "    missing: void\n"] {
        let source = format!("    on_change: amend\n{more}");
        let kept = job("      where: gb > 0\n", "") + "durability: { folder: state }\n";
        let kept = kept.replace("    path: usage\n", &format!("    path: usage\n{source}"));
        let desk = desk(&kept, &[("usage/a.csv", &usage)]);
        assert_eq!(desk.run().totals(), ["12 USD"]);
        desk.write("usage/a.csv", &changed);
        let expected = (
            vec!["7 USD".to_owned()],
            reasons([("AMENDED", 1), ("DUPLICATE", 1)]),
        );
        for _ in 0..2 {
            let ended = desk.run();
            assert_eq!(
                (told(&ended), ended.exit),
                (expected.clone(), Exit::Ok),
                "{more}"
            );
        }
        // And that is not any more.
        desk.write("usage/a.csv", &usage);
        assert_eq!(desk.run().totals(), ["12 USD"], "{more}");
        // A rule that excludes nothing any more.
        desk.write("usage/a.csv", &changed);
        assert_eq!(desk.run().totals(), ["7 USD"], "{more}");
        desk.write("job.yaml", kept.replace("where: gb > 0", "where: gb >= 0"));
        assert_eq!(desk.run().totals(), ["7 USD"], "{more}");
        desk.write("job.yaml", &kept);
        assert_eq!(desk.run().totals(), ["7 USD"], "{more}");
    }
}

/// A writer that begins anew leaves its file empty, and then cut, before it has what it had.
#[test]
fn a_file_that_was_emptied_or_cut_and_is_restored_is_billed_whole() {
    let row = |n: u32| format!("{n},c1,2026-06-01T10:00:00Z,{n},0");
    let usage = |all: &[u32]| {
        let all: Vec<String> = all.iter().map(|n| row(*n)).collect();
        rows(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let source = "    path: usage\n    on_change: amend\n    missing: void\n";
    let kept = job("", "").replace("    path: usage\n", source);
    let desk = desk(
        &(kept + "durability: { folder: state }\n"),
        &[("usage/a.csv", &usage(&[1, 10, 100]))],
    );
    let total = |content: &str| {
        desk.write("usage/a.csv", content);
        let once = desk.run();
        let again = desk.run();
        assert_eq!(once.totals(), again.totals(), "{} {}", once.err, again.err);
        assert_eq!(once.exit, again.exit, "{} {}", once.err, again.err);
        (once.totals().concat(), once.exit, once.err)
    };
    let is = |content: &str, billed: &str| {
        let (total, exit, err) = total(content);
        assert_eq!(
            (total.as_str(), exit),
            (billed, Exit::Ok),
            "{content:?} {err}"
        );
    };
    is(&usage(&[1, 10, 100]), "111 USD");
    is(&usage(&[1]), "1 USD");
    is(&usage(&[1, 10, 100]), "111 USD");
    is(&usage(&[1, 10]), "11 USD");
    is(&usage(&[1, 10, 100]), "111 USD");
    is(&usage(&[1, 10, 100, 1000]), "1111 USD");
    is(&usage(&[1, 10, 100]), "111 USD");
    // Nothing at all says nothing.
    let (held, exit, err) = total("");
    assert_eq!((held.as_str(), exit), ("111 USD", Exit::Findings));
    assert!(
        err.contains("\"a.csv\" was loaded before and has no bytes any more"),
        "{err}"
    );
    is(&usage(&[1, 10, 100]), "111 USD");
    // A header alone does, as told.
    is(HEAD, "");
    is(&usage(&[1, 10, 100]), "111 USD");
    is(&usage(&[100]), "100 USD");
    is(&usage(&[1, 10, 100]), "111 USD");
}

#[test]
fn a_file_in_place_of_another_may_repeat_what_it_had() {
    let usage = |first: u32| {
        let row = |n: u32| {
            format!(
                "{n},c1,2026-06-01T10:00:00Z,{},0",
                if n == 0 { first } else { 1 }
            )
        };
        let all: Vec<String> = (0..40).map(row).collect();
        rows(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let kept = job("", "").replace(
        "    path: usage\n",
        "    path: usage\n    on_change: amend\n",
    );
    let desk = desk(
        &(kept + "durability: { folder: state }\n"),
        &[("usage/a.csv", &usage(1))],
    );
    assert_eq!(desk.run().totals(), ["40 USD"]);
    desk.write("usage/a.csv", usage(2));
    for _ in 0..2 {
        let ended = desk.run();
        let message = ended.summary()["files"][1]["message"].clone();
        assert_eq!(
            (ended.totals(), ended.exit),
            (vec!["41 USD".to_owned()], Exit::Ok),
            "{message}"
        );
        assert_eq!(message, "");
    }
}
