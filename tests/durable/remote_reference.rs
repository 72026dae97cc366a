//! Reference data and mediation rules in a bucket, and usage under keys that need care, against a real
//! server on loopback.

use crate::object_store::{MEDIATION, process, run};
use crate::s3::{SECRET, serve};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, totals};
use std::sync::Arc;

const CHECK_VARIABLE: &str = "MILLRACE_TEST_CHECK";

const CATALOG: &str = "\
currency: EUR
tables:
  - file: prices.csv
    prices: [{ item: item, when: { zone: zone }, price: price }]
";

const PRICES: &str = "item,zone,price\nseconds,home,0.01\nseconds,far,0.05\n";

const ACCOUNTS: &str = "\
tables:
  - file: accounts.parquet
    accounts: [{ id: account, currency: \"'EUR'\" }]
    subscriptions: [{ id: \"account || '-voice'\", account: account, price_list: \"'standard'\" }]
    services: [{ service_type: \"'voice'\", service: number, subscription: \"account || '-voice'\" }]
";

const USAGE: &str = "\
id,number,at,zone,seconds
1,+1,2026-02-03T10:00:00Z,home,100
2,+2,2026-02-03T11:00:00Z,far,7
";

/// A name that a path of `object_store` would be encoded for.
const NAME: &str = "a #1 {x}~50%.csv";

fn accounts() -> Vec<u8> {
    let column = |texts: [&str; 2]| -> ArrayRef { Arc::new(StringArray::from_iter_values(texts)) };
    let batch = RecordBatch::try_from_iter([
        ("account", column(["acme", "beta"])),
        ("number", column(["+1", "+2"])),
    ])
    .unwrap();
    let mut bytes = Vec::new();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn job(usage: &str, rule: &str, catalog: &str, accounts: &str, out: &str) -> String {
    format!(
        "name: calls\ntime_zone: UTC\nsources:\n  - {{ name: switch, platform: switch, service_type: voice, \
         path: '{usage}', mediation: '{rule}' }}\n\
         catalog: ['{catalog}']\naccounts: ['{accounts}']\noutputs: {{ folder: {out} }}\n"
    )
}

fn desk() -> Desk {
    let remote = [
        "s3://usage/in",
        "s3://config/rules/mediation.yaml",
        "s3://config/eu~1/catalog.yaml",
        "s3://config/accounts.yaml",
    ];
    let [usage, rule, catalog, given] = remote;
    let local = job(
        "in",
        "mediation.yaml",
        "catalog.yaml",
        "accounts.yaml",
        "local",
    );
    let urls = job(
        "file://in",
        "file://mediation.yaml",
        "file://catalog.yaml",
        "file://accounts.yaml",
        "urls",
    );
    let missing = job(
        usage,
        "s3://config/rules/none.yaml",
        catalog,
        "s3://config/none.yaml",
        "missing",
    );
    let desk = Desk::new(&[
        ("local.yaml", &local),
        ("urls.yaml", &urls),
        ("remote.yaml", &job(usage, rule, catalog, given, "remote")),
        ("missing.yaml", &missing),
    ]);
    for (here, there, content) in [
        (NAME, "usage/in", USAGE.as_bytes()),
        ("mediation.yaml", "config/rules", MEDIATION.as_bytes()),
        ("catalog.yaml", "config/eu~1", CATALOG.as_bytes()),
        ("prices.csv", "config/eu~1", PRICES.as_bytes()),
        ("accounts.yaml", "config", ACCOUNTS.as_bytes()),
        ("accounts.parquet", "config", &accounts()),
    ] {
        let local = if here == NAME {
            format!("in/{here}")
        } else {
            here.to_owned()
        };
        desk.write(&local, content);
        desk.write(&format!("buckets/{there}/{here}"), content);
    }
    desk
}

/// What the process of a check runs; without a job in the environment there is nothing to do.
#[test]
fn the_check_of_the_environment() {
    let Ok(job) = std::env::var(CHECK_VARIABLE) else {
        return;
    };
    let findings = millrace::check::check(job.as_ref());
    let told: String = findings.iter().map(|found| format!("{found}\n")).collect();
    std::fs::write(format!("{job}.found"), told).unwrap();
}

fn check(desk: &Desk, job: &str) -> String {
    let server = serve(&desk.at("buckets"));
    // The server and its key are those of a run; what the process does is another test.
    let of_run = process(desk, job, server, SECRET);
    let mut process = std::process::Command::new(of_run.get_program());
    let ended = process
        .args(["--exact", "remote_reference::the_check_of_the_environment"])
        .envs(
            of_run
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .env(CHECK_VARIABLE, desk.at(job))
        .output()
        .unwrap();
    assert!(ended.status.success(), "{ended:?}");
    std::fs::read_to_string(desk.at(&format!("{job}.found"))).unwrap()
}

#[test]
fn what_describes_a_job_may_lie_in_a_bucket() {
    let desk = desk();
    let server = serve(&desk.at("buckets"));
    for name in ["local.yaml", "urls.yaml", "remote.yaml"] {
        let ended = run(&desk, name, server, SECRET);
        assert_eq!(ended.exit, Exit::Ok, "{name}: {ended:?}");
        let summary = ended.summary();
        assert_eq!(totals(&summary), ["1.35 EUR"], "{name}");
        assert_eq!(summary["files"][0]["file"], NAME, "{name}");
    }
    let found = check(&desk, "remote.yaml");
    assert_eq!(found, "");
}

#[test]
fn a_missing_file_in_a_bucket_is_told_with_its_place() {
    let desk = desk();
    let found = check(&desk, "missing.yaml");
    for url in ["s3://config/rules/none.yaml", "s3://config/none.yaml"] {
        let expected = format!(
            "{url}: there is no file \"{url}\"\n  hint: check the bucket, the path and its spelling"
        );
        assert!(found.contains(&expected), "{expected}\nis not in\n{found}");
    }
    let server = serve(&desk.at("buckets"));
    let ended = run(&desk, "missing.yaml", server, SECRET);
    assert_ne!(ended.exit, Exit::Ok);
    let told = format!("{}{}", ended.out, ended.err);
    assert!(told.contains("s3://config/none.yaml"), "{told}");
}
