//! Fields that a rule reads and that no record of a file has: a wrong name bills nothing, or by another price, so
//! it is told by every run until the rule is put right.

use flate2::Compression;
use flate2::write::GzEncoder;
use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, millrace};
use std::io::Write as _;

const JOB: &str = "\
name: tokens
time_zone: UTC
clock: 2026-04-01
catalog: [catalog.yaml]
accounts: [accounts.yaml]
sources:
  - { name: src, platform: p, service_type: x, path: usage, mediation: rule.yaml }
";
const RULE: &str = "\
columns: { t: timestamp, inn: bigint, out: bigint }
identity: [id]
service: who
time: t
charges: { i: inn, o: out }
";
const CATALOG: &str = "currency: USD\nprices: [{ item: i, price: 1 }, { item: o, price: 1 }]\n";
const ACCOUNTS: &str = "\
accounts: [{ id: acme, currency: USD }]
subscriptions: [{ id: s, account: acme, from: 2026-01-01, service_type: x, services: [a] }]
";
const USAGE: &str = "{\"id\":1,\"t\":\"2026-03-02T10:00:00Z\",\"who\":\"a\",\"in\":5,\"out\":1}\n";
const TOLD: &str = "no record of \"a.jsonl\" has the field \"inn\", did you mean \"in\"; its fields are id, in, out, t, who";

fn desk(usage: &str) -> Desk {
    Desk::new(&[
        ("job.yaml", JOB),
        ("rule.yaml", RULE),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("usage/a.jsonl", usage),
    ])
}

fn check(desk: &Desk) -> (Exit, String) {
    let ended = millrace(&["check", &desk.at("job.yaml").display().to_string()]);
    (ended.exit, ended.err + &ended.out)
}

/// The warnings of a run.
fn warnings(ended: &Ended) -> Vec<String> {
    let summary = ended.summary();
    let warnings = summary["warnings"].as_array().unwrap().iter();
    warnings.map(|w| w.as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn tells(ended: &Ended, total: &str, told: &[&str]) {
    assert_eq!(ended.totals(), [total], "{ended:?}");
    let exit = if told.is_empty() {
        Exit::Ok
    } else {
        Exit::Findings
    };
    assert_eq!(ended.exit, exit, "{ended:?}");
    let warnings = warnings(ended);
    assert_eq!(warnings.len(), told.len(), "{warnings:#?}");
    for (warning, told) in warnings.iter().zip(told) {
        assert!(warning.contains(told), "{warning}");
    }
}

#[test]
fn a_misspelled_field_of_json_is_told_by_run_and_check() {
    let desk = desk(USAGE);
    tells(&desk.run(), "1 USD", &[TOLD]);
    let (exit, said) = check(&desk);
    assert_eq!(exit, Exit::Findings, "{said}");
    assert!(
        said.replace(['\n', ' '], "")
            .contains(&TOLD.replace(' ', "")),
        "{said}"
    );
    desk.write("rule.yaml", RULE.replace("inn", "in"));
    tells(&desk.run(), "6 USD", &[]);
    assert_eq!(check(&desk).0, Exit::Ok);
}

#[test]
fn neither_a_field_that_one_record_has_nor_one_that_may_be_absent_is_told() {
    let desk = desk(&format!(
        "{USAGE}{}",
        USAGE.replace("\"id\":1", "\"id\":2,\"inn\":null")
    ));
    tells(&desk.run(), "2 USD", &[]);
    desk.write("usage/a.jsonl", USAGE);
    desk.write(
        "rule.yaml",
        RULE.replace("inn: bigint", "inn: { type: bigint, may_be: empty }"),
    );
    tells(&desk.run(), "1 USD", &[TOLD]);
    desk.write(
        "rule.yaml",
        RULE.replace("inn: bigint", "inn: { type: bigint, may_be: absent }"),
    );
    tells(&desk.run(), "1 USD", &[]);
    assert_eq!(check(&desk).0, Exit::Ok);
}

#[test]
fn of_records_that_where_leaves_out_only_its_own_fields_are_asked() {
    let desk = desk(USAGE);
    desk.write(
        "rule.yaml",
        format!("{RULE}where: coalesce(who, 'b') = 'b'\n"),
    );
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
    desk.write(
        "rule.yaml",
        format!("{RULE}where: coalesce(whoo, 'b') = 'a'\n"),
    );
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Findings, "{ended:?}");
    let told = warnings(&ended);
    assert!(
        told.len() == 1 && told[0].contains("\"whoo\", did you mean \"who\""),
        "{told:?}"
    );
}

#[test]
fn each_field_is_told_once_of_a_source_by_any_number_of_workers() {
    let desk = desk(USAGE);
    for file in 2..30 {
        let usage = USAGE.replace("\"id\":1", &format!("\"id\":{file}"));
        desk.write(&format!("usage/b{file}.jsonl"), usage);
    }
    desk.write("job.yaml", format!("{JOB}epoch: {{ rows: 3 }}\n"));
    for workers in ["1", "3"] {
        let job = desk.at("job.yaml").display().to_string();
        let ended = millrace(&["run", &job, "--workers", workers, "--output", "json"]);
        tells(&ended, "29 USD", &[TOLD]);
    }
}

#[test]
fn a_job_with_state_tells_it_until_the_rule_is_put_right() {
    let desk = desk(USAGE);
    desk.write(
        "job.yaml",
        format!("{JOB}durability: {{ folder: state }}\n"),
    );
    for _ in 0..2 {
        tells(&desk.run(), "1 USD", &[TOLD]);
    }
    desk.write("rule.yaml", RULE.replace("inn", "In"));
    tells(
        &desk.run(),
        "1 USD",
        &["the field \"In\", did you mean \"in\""],
    );
    desk.write("rule.yaml", RULE.replace("inn", "in"));
    for _ in 0..2 {
        tells(&desk.run(), "6 USD", &[]);
    }
}

#[test]
fn a_file_to_be_looked_at_for_something_else_tells_it_too() {
    let desk = desk(USAGE);
    std::fs::remove_file(desk.at("usage/a.jsonl")).unwrap();
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(USAGE.as_bytes()).unwrap();
    let marked = [packed.finish().unwrap(), b"END\n".to_vec()].concat();
    desk.write("usage/a.jsonl.gz", marked);
    let state = "durability: { folder: state }\n";
    desk.write("job.yaml", format!("{JOB}{state}"));
    let told = TOLD.replace("a.jsonl", "a.jsonl.gz");
    for _ in 0..2 {
        let ended = desk.run();
        assert_eq!(ended.summary()["files"][0]["state"], "doubtful");
        tells(&ended, "1 USD", &[&told]);
    }
}

#[test]
fn nobody_is_advised_to_let_files_lack_what_tells_records_apart() {
    let desk = desk(USAGE);
    std::fs::remove_file(desk.at("usage/a.jsonl")).unwrap();
    desk.write(
        "usage/a.csv",
        "Id,t,who,inn,out\n1,2026-03-02T10:00:00Z,a,5,1\n",
    );
    for (identity, column) in [
        ("[id]", "id"),
        ("[who, key]\nlet: { key: id }", "id"),
        ("['\"\"']", ""),
    ] {
        desk.write("rule.yaml", RULE.replace("[id]", identity));
        let (exit, said) = check(&desk);
        assert_eq!(exit, Exit::Unusable, "{said}");
        assert!(said.contains(&format!("no column {column:?}")), "{said}");
        assert!(!said.contains("may_be"), "{said}");
    }
    // Of what does not, they are.
    desk.write(
        "usage/a.csv",
        "id,t,who,in,out\n1,2026-03-02T10:00:00Z,a,5,1\n",
    );
    desk.write("rule.yaml", RULE);
    let (exit, said) = check(&desk);
    assert_eq!(exit, Exit::Unusable, "{said}");
    assert!(
        said.contains("inn: { type: bigint, may_be: absent }"),
        "{said}"
    );
}
