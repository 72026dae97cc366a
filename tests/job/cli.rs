//! The command line as a user meets it: what is printed where, and what the process ends with.

use millrace::cli::{Exit, main_with};
use millrace::console::{Console, Surroundings, Talk};
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::Path;
use tempfile::TempDir;

/// How a command ended, and what it printed on each stream.
struct Ended {
    exit: Exit,
    out: String,
    err: String,
}

fn millrace(arguments: &[&str]) -> Ended {
    let mut out = Vec::new();
    let (exit, err) = millrace_on(arguments, &mut out);
    Ended {
        exit,
        out: String::from_utf8(out).unwrap(),
        err,
    }
}

fn millrace_on(arguments: &[&str], out: &mut dyn Write) -> (Exit, String) {
    let (talk, kept) = Talk::kept();
    let arguments = ["millrace"].iter().chain(arguments).map(OsString::from);
    let mut console = Console::new(out, talk, Surroundings::default());
    let exit = main_with(arguments, &mut console);
    let err = String::from_utf8(kept.lock().unwrap().clone()).unwrap();
    (exit, err)
}

const JOB: &str = "\
name: calls
time_zone: UTC
sources:
  - { name: switch, platform: switch, service_type: voice, path: calls.csv, mediation: mediation.yaml }
catalog: [catalog.yaml]
accounts: [accounts.yaml]
";

const MEDIATION: &str = "\
columns: { seconds: bigint, at: timestamp }
where: seconds > 0
identity: [id]
service: number
time: at
attributes: { zone: zone }
charges: { seconds: seconds }
";

const CATALOG: &str = "\
currency: EUR
prices:
  - { item: seconds, when: { zone: home }, price: 0.000000000000000000001 }
  - { item: seconds, when: { zone: far }, price: 0.05 }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: EUR, billing: { anniversary: 2026-01-01, every: 1, cycle: month } }
subscriptions:
  - { id: acme-voice, account: acme, price_lists: [standard], from: 2026-01-01, services: [{ type: voice, id: \"+420\" }] }
";

/// Two calls that can be billed, one copy, one that the rule leaves out.
const CALLS: &str = "\
id,number,at,zone,seconds
1,+420,2026-01-05T10:00:00Z,home,7
2,+420,2026-01-05T11:00:00Z,far,60
2,+420,2026-01-05T11:00:00Z,far,60
3,+420,2026-01-05T12:00:00Z,far,0
";

fn job(calls: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("job.yaml", JOB),
        ("mediation.yaml", MEDIATION),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("calls.csv", calls),
    ] {
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    folder
}

fn at(folder: &TempDir, file: &str) -> String {
    folder.path().join(file).display().to_string()
}

#[test]
fn a_run_prints_the_bill_to_the_last_decimal_and_ends_with_0() {
    let folder = job(CALLS);
    let ended = millrace(&["run", &at(&folder, "job.yaml"), "--workers", "2"]);
    assert_eq!(ended.exit, Exit::Ok, "{}", ended.err);
    assert!(
        ended.out.contains("3.000000000000000000007"),
        "{}",
        ended.out
    );
    assert!(
        ended.out.contains("acme") && ended.out.contains('✓'),
        "{}",
        ended.out
    );
    assert!(!ended.out.contains('\u{1b}'));
    assert!(folder.path().join("out/aggregated/snapshot").is_dir());
}

#[test]
fn json_has_money_as_text_and_every_record_accounted_for() {
    let folder = job(CALLS);
    let out = at(&folder, "elsewhere");
    let ended = millrace(&[
        "run",
        &at(&folder, "job.yaml"),
        "--output",
        "json",
        "--out",
        &out,
    ]);
    assert_eq!(ended.exit, Exit::Ok, "{}", ended.err);
    let json: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(json["totals"][0]["amount"], "3.000000000000000000007");
    assert_eq!(json["totals"][0]["currency"], "EUR");
    let records = &json["records"];
    let counts = [
        "received",
        "ignored",
        "duplicate",
        "conflict",
        "error",
        "suspended",
        "monetised",
    ];
    assert_eq!(
        counts.map(|name| records[name].as_u64().unwrap()),
        [4, 1, 1, 0, 0, 0, 2]
    );
    assert_eq!(json["ties_out"], true);
    assert!(Path::new(&out).join("monetised/snapshot").is_dir());
    assert!(!folder.path().join("out").exists());
}

#[test]
fn records_that_wait_or_are_refused_end_with_1_and_say_why() {
    let calls = format!("{CALLS}4,+420,2026-01-05T13:00:00Z,mars,1\n5,+420,yesterday,far,1\n");
    let folder = job(&calls);
    let ended = millrace(&["run", &at(&folder, "job.yaml")]);
    assert_eq!(ended.exit, Exit::Findings, "{}", ended.err);
    for expected in [
        "PRICE_NOT_FOUND",
        "FIELD_UNPARSABLE",
        "calls.csv line 7",
        "add a price row",
    ] {
        assert!(
            ended.out.contains(expected),
            "{expected} is not in\n{}",
            ended.out
        );
    }
}

#[test]
fn a_job_that_cannot_run_prints_no_result_and_ends_with_2() {
    let folder = job(CALLS);
    std::fs::write(
        folder.path().join("catalog.yaml"),
        "currency: EUR\nprizes: []\n",
    )
    .unwrap();
    std::fs::write(
        folder.path().join("mediation.yaml"),
        MEDIATION.replace("number", "numbr"),
    )
    .unwrap();
    let ended = millrace(&["run", &at(&folder, "job.yaml")]);
    assert_eq!((ended.exit, &*ended.out), (Exit::Unusable, ""));
    for expected in [
        "catalog.yaml:2",
        "did you mean \"prices\"?",
        "job.yaml:4",
        "numbr",
    ] {
        assert!(
            ended.err.contains(expected),
            "{expected} is not in\n{}",
            ended.err
        );
    }
    let checked = millrace(&["check", &at(&folder, "job.yaml"), "--output", "json"]);
    assert_eq!(checked.exit, Exit::Unusable);
    let findings: serde_json::Value = serde_json::from_str(&checked.out).unwrap();
    assert!(findings.as_array().unwrap().len() >= 2, "{findings}");
}

#[test]
fn a_good_job_checks_without_findings() {
    let folder = job(CALLS);
    let ended = millrace(&["check", &at(&folder, "job.yaml")]);
    assert_eq!(ended.exit, Exit::Ok, "{}", ended.out);
    assert!(ended.out.ends_with("no findings\n"), "{}", ended.out);
    assert!(
        !folder.path().join("out").exists(),
        "checking writes nothing"
    );
}

#[test]
fn a_port_that_is_taken_is_said() {
    let folder = job(CALLS);
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let ended = millrace(&["run", &at(&folder, "job.yaml"), "--metrics", &port]);
    assert_eq!(ended.exit, Exit::Unusable);
    assert!(ended.err.contains("the port is taken"), "{}", ended.err);
    let ended = millrace(&["run", &at(&folder, "job.yaml"), "--metrics", "0"]);
    assert_eq!(ended.exit, Exit::Ok, "{}", ended.err);
    assert!(
        ended.err.contains("metrics on http://127.0.0.1:"),
        "{}",
        ended.err
    );
}

#[test]
fn the_graph_of_a_job_is_drawn_without_running_it() {
    let folder = job(CALLS);
    let text = millrace(&["graph", &at(&folder, "job.yaml")]);
    assert_eq!(text.exit, Exit::Ok, "{}", text.err);
    assert!(
        text.out.contains("source switch") && text.out.contains("──► rate"),
        "{}",
        text.out
    );
    let dot = millrace(&["graph", &at(&folder, "job.yaml"), "--format", "dot"]);
    assert!(dot.out.starts_with("digraph \"calls\" {"), "{}", dot.out);
    assert!(!folder.path().join("out").exists());
}

#[test]
fn every_kind_of_file_has_a_schema() {
    for kind in ["job", "catalog", "accounts", "mediation"] {
        let ended = millrace(&["schema", kind]);
        let schema: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!(
            (ended.exit, &schema["type"]),
            (Exit::Ok, &"object".into()),
            "{kind}"
        );
    }
}

#[test]
fn completions_are_a_script() {
    let ended = millrace(&["completions", "bash"]);
    assert_eq!(ended.exit, Exit::Ok);
    assert!(ended.out.contains("_millrace()"), "{}", ended.out);
}

#[test]
fn what_is_mistyped_ends_with_2_and_a_suggestion() {
    let ended = millrace(&["chek"]);
    assert_eq!((ended.exit, &*ended.out), (Exit::Unusable, ""));
    assert!(
        ended.err.contains("check") && !ended.err.contains('\u{1b}'),
        "{}",
        ended.err
    );
    assert!(
        millrace(&["--color", "always", "chek"])
            .err
            .contains('\u{1b}')
    );
    assert_eq!(millrace(&["run", "no/such/job.yaml"]).exit, Exit::Unusable);
    assert_eq!(
        millrace(&["run", "x.yaml", "--metrics", "everywhere"]).exit,
        Exit::Unusable
    );
    let folder = job(CALLS);
    let ended = millrace(&["run", &at(&folder, "job.yaml"), "--workers", "0"]);
    assert_eq!(ended.exit, Exit::Unusable);
    assert!(ended.err.contains("workers, not 0"), "{}", ended.err);
}

#[test]
fn help_and_version_are_results() {
    let version = millrace(&["--version"]);
    assert_eq!((version.exit, &*version.err), (Exit::Ok, ""));
    assert!(version.out.starts_with("millrace "), "{}", version.out);
    assert!(millrace(&["help"]).out.contains("query"));
}

/// A reader that has gone away.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_goes_away_is_no_mistake() {
    assert_eq!(
        millrace_on(&["schema"], &mut Gone),
        (Exit::Ok, String::new())
    );
    assert_eq!(
        millrace_on(&["--help"], &mut Gone),
        (Exit::Ok, String::new())
    );
}

#[test]
fn a_quote_needs_no_job_and_prices_exactly() {
    let folder = job(CALLS);
    let usage = at(&folder, "usage.jsonl");
    let rows = "\
{\"item\": \"seconds\", \"quantity\": 60, \"zone\": \"far\"}
{\"item\": \"seconds\", \"quantity\": 0.5, \"zone\": \"home\"}
";
    std::fs::write(&usage, rows).unwrap();
    let catalog = at(&folder, "catalog.yaml");
    let quoted = millrace(&["quote", &usage, "--catalog", &catalog, "--output", "json"]);
    assert_eq!(quoted.exit, Exit::Ok, "{}", quoted.err);
    let json: serde_json::Value = serde_json::from_str(&quoted.out).unwrap();
    assert_eq!(json["lines"][0]["amount"], "3");
    assert_eq!(json["lines"][1]["amount"], "0.0000000000000000000005");
    assert_eq!(json["totals"]["EUR"], "3.0000000000000000000005");
    let table = millrace(&["quote", &usage, "--catalog", &catalog]);
    assert!(
        table.out.contains("total 3.0000000000000000000005 EUR"),
        "{}",
        table.out
    );
    let csv = millrace(&["quote", &usage, "--catalog", &catalog, "--output", "csv"]);
    assert!(
        csv.out
            .starts_with("row,item,quantity,price,amount,currency,reason,message\n")
    );
    assert_eq!(csv.out.lines().count(), 3, "{}", csv.out);
}

#[test]
fn what_cannot_be_quoted_is_a_line_with_a_reason() {
    let folder = job(CALLS);
    let usage = at(&folder, "usage.csv");
    std::fs::write(
        &usage,
        "item,quantity,zone\nseconds,1,mars\nseconds,1,far\n",
    )
    .unwrap();
    let catalog = at(&folder, "catalog.yaml");
    let quoted = millrace(&["quote", &usage, "--catalog", &catalog]);
    assert_eq!(quoted.exit, Exit::Findings, "{}", quoted.err);
    assert!(quoted.out.contains("PRICE_NOT_FOUND"), "{}", quoted.out);
    assert!(
        quoted.out.contains("not priced: 1 of 2 lines"),
        "{}",
        quoted.out
    );
    assert_eq!(millrace(&["quote", &usage]).exit, Exit::Unusable);
    let nowhere = millrace(&["quote", "no/such.csv", "--catalog", &catalog]);
    assert!(
        nowhere.err.contains("cannot read \"no/such.csv\""),
        "{}",
        nowhere.err
    );
}

#[test]
fn a_job_quotes_raw_records_by_its_own_rule() {
    let folder = job(CALLS);
    let (job, calls) = (at(&folder, "job.yaml"), at(&folder, "calls.csv"));
    let quoted = millrace(&["quote", &calls, "--job", &job, "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&quoted.out).unwrap();
    assert_eq!(
        json["totals"]["EUR"], "3.000000000000000000007",
        "{}",
        quoted.out
    );
}

#[test]
fn what_a_job_wrote_can_be_asked_about() {
    let folder = job(CALLS);
    let job = at(&folder, "job.yaml");
    let early = millrace(&["query", &job, "SELECT 1"]);
    assert_eq!(early.exit, Exit::Unusable);
    assert!(early.err.contains("run the job first"), "{}", early.err);
    assert_eq!(millrace(&["run", &job]).exit, Exit::Ok);
    let sum = "SELECT sum(amount) AS total FROM aggregated";
    let asked = millrace(&["query", &job, sum, "--output", "csv"]);
    assert_eq!(
        asked.out, "total\n3.000000000000000000007\n",
        "{}",
        asked.err
    );
    for (table, rows) in [
        ("monetised", 2),
        ("monetised_changes", 2),
        ("suspense", 1),
        ("raw_status", 4),
        ("ledger", 1),
        ("raw_switch_voice_postpaid", 4),
    ] {
        let sql = format!("SELECT count(*) AS n FROM {table}");
        let asked = millrace(&["query", &at(&folder, "out"), &sql, "--output", "csv"]);
        assert_eq!(asked.out, format!("n\n{rows}\n"), "{table}: {}", asked.err);
    }
}
