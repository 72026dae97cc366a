//! A job whose usage and outputs lie behind the S3 protocol, against a real server on loopback.
//!
//! Credentials belong to a process, so each run is a process of its own: this binary again, which
//! finds in its environment which job to run.

use crate::s3::{KEY, SECRET, serve};
use flate2::Compression;
use flate2::write::GzEncoder;
use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, millrace, rows, standing, totals};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const JOB_VARIABLE: &str = "MILLRACE_TEST_JOB";

pub(crate) const MEDIATION: &str = "\
columns: { seconds: bigint, at: timestamp }
identity: [id]
service: number
time: at
attributes: { zone: zone }
charges: { seconds: seconds }
";

const CATALOG: &str = "\
currency: EUR
prices:
  - { item: seconds, when: { zone: home }, price: 0.01 }
  - { item: seconds, when: { zone: far }, price: 0.05 }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: EUR }
subscriptions:
  - { id: acme-voice, account: acme, price_lists: [standard], service_type: voice, services: [\"+1\"] }
";

const HEADER: &str = "id,number,at,zone,seconds\n";

pub(super) fn job(path: &str, out: &str) -> String {
    format!(
        "name: calls\ntime_zone: UTC\nsources:\n  - {{ name: switch, path: '{path}', mediation: mediation.yaml }}\n\
         catalog: [catalog.yaml]\naccounts: [accounts.yaml]\noutputs: {{ folder: '{out}' }}\n"
    )
}

fn gzip(content: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn parquet_calls(count: i64) -> Vec<u8> {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use std::sync::Arc;
    let each = |text: fn(i64) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..count).map(text)))
    };
    let batch = RecordBatch::try_from_iter([
        ("id", each(|n| format!("p{n}"))),
        ("number", each(|_| "+1".to_owned())),
        (
            "at",
            each(|n| format!("2026-01-{:02}T10:00:00Z", n % 28 + 1)),
        ),
        (
            "zone",
            each(|n| ["home", "far", "mars"][usize::try_from(n % 3).unwrap()].to_owned()),
        ),
        (
            "seconds",
            Arc::new(Int64Array::from_iter_values(0..count)) as ArrayRef,
        ),
    ])
    .unwrap();
    let mut bytes = Vec::new();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// The server's folder of buckets, and a job with its files; usage lies in a bucket and in a local
/// folder alike.
pub(super) fn desk() -> Desk {
    let desk = Desk::new(&[
        ("mediation.yaml", MEDIATION),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        (
            "local.yaml",
            &job("local/switch/voice/postpaid/input", "local-out"),
        ),
        (
            "remote.yaml",
            &job(
                "s3://usage/month/switch/voice/postpaid/input",
                "s3://usage/out",
            ),
        ),
        (
            "durable.yaml",
            &format!(
                "{}durability: {{ folder: 's3://usage/state', interval: 50ms }}\nepoch: {{ rows: 200 }}\n",
                job(
                    "s3://usage/month/switch/voice/postpaid/input",
                    "s3://usage/durable"
                )
            ),
        ),
        (
            "nowhere.yaml",
            &job(
                "s3://nowhere/switch/voice/postpaid/input",
                "s3://usage/nothing",
            ),
        ),
        (
            "unwritable.yaml",
            &job(
                "s3://usage/month/switch/voice/postpaid/input",
                "s3://nowhere/out",
            ),
        ),
    ]);
    let calls: String = (0..5_000)
        .map(|n| format!("{n},+1,2026-02-03T10:00:00Z,home,{}\n", n % 61))
        .collect();
    for (name, content) in [
        (
            "a.csv.gz",
            gzip(&format!(
                "{HEADER}{calls}x,+1,2026-02-30T10:00:00Z,home,1\n"
            )),
        ),
        ("b.parquet", parquet_calls(3_000)),
    ] {
        desk.write(
            &format!("local/switch/voice/postpaid/input/{name}"),
            &content,
        );
        desk.write(
            &format!("buckets/usage/month/switch/voice/postpaid/input/{name}"),
            &content,
        );
    }
    desk
}

pub(super) fn process(desk: &Desk, job: &str, server: SocketAddr, secret: &str) -> Command {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process
        .args([
            "--exact",
            "object_store::the_job_of_the_environment",
            "--nocapture",
        ])
        .env(JOB_VARIABLE, desk.at(job))
        .env("AWS_ENDPOINT_URL", format!("http://{server}"))
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    process
}

/// Runs a job of the desk in a process of its own, with this secret.
pub(super) fn run(desk: &Desk, job: &str, server: SocketAddr, secret: &str) -> Ended {
    ended(desk, job, &mut process(desk, job, server, secret))
}

/// Runs a job of the desk by this command.
pub(super) fn ended(desk: &Desk, job: &str, process: &mut Command) -> Ended {
    let child = process.output().unwrap();
    let read = |suffix: &str| std::fs::read_to_string(desk.at(&format!("{job}.{suffix}")));
    let exit = match read("exit").as_deref() {
        Ok("Ok") => Exit::Ok,
        Ok("Findings") => Exit::Findings,
        Ok("Unusable") => Exit::Unusable,
        other => panic!("{other:?}: {}", String::from_utf8_lossy(&child.stderr)),
    };
    Ended {
        exit,
        out: read("out").unwrap(),
        err: read("err").unwrap(),
    }
}

/// What the processes of this test run; without a job in the environment there is nothing to do.
#[test]
fn the_job_of_the_environment() {
    let Ok(job) = std::env::var(JOB_VARIABLE) else {
        return;
    };
    let ended = millrace(&["run", &job, "--workers", "2", "--output", "json"]);
    std::fs::write(format!("{job}.out"), &ended.out).unwrap();
    std::fs::write(format!("{job}.err"), &ended.err).unwrap();
    std::fs::write(format!("{job}.exit"), format!("{:?}", ended.exit)).unwrap();
}

#[test]
fn a_job_between_buckets_comes_to_what_the_same_job_between_folders_does() {
    let desk = desk();
    let server = serve(&desk.at("buckets"));
    let local = run(&desk, "local.yaml", server, SECRET);
    let remote = run(&desk, "remote.yaml", server, SECRET);
    // One record has an impossible date, a third of those in Parquet has no price.
    assert_eq!(
        (local.exit, remote.exit),
        (Exit::Findings, Exit::Findings),
        "{remote:?}"
    );
    let (local, remote) = (local.summary(), remote.summary());
    assert_eq!(totals(&remote), totals(&local));
    let home: u64 =
        (0..5_000_u64).map(|n| n % 61).sum::<u64>() + (0..3_000).step_by(3).sum::<u64>();
    let cents = home + 5 * (1..3_000_u64).step_by(3).sum::<u64>();
    let expected = format!("{}.{:02}", cents / 100, cents % 100);
    assert_eq!(remote["totals"][0]["rounded"], expected.as_str());
    assert_eq!(remote["records"], local["records"]);
    assert_eq!(remote["records"]["received"], 8_001);
    assert_eq!(remote["ties_out"], true);
    for (file, name) in remote["files"]
        .as_array()
        .unwrap()
        .iter()
        .zip(["a.csv.gz", "b.parquet"])
    {
        let stream = ["platform", "service_type", "record_type"].map(|key| file[key].clone());
        assert_eq!(stream, ["switch", "voice", "postpaid"], "{file}");
        let expected = format!("s3://usage/month/switch/voice/postpaid/input/{name}");
        assert_eq!(
            (&file["file"], &file["location"]),
            (&name.into(), &expected.into())
        );
    }
    for output in ["monetised", "suspense", "aggregated", "raw_status"] {
        for kind in ["snapshot", "changes"] {
            let there =
                |folder: &str| standing(rows(&desk.at(&format!("{folder}/{output}/{kind}"))));
            let (local, remote) = (there("local-out"), there("buckets/usage/out"));
            assert!(!local.is_empty(), "{output}/{kind}");
            assert_eq!(local, remote, "{output}/{kind}");
        }
    }
    assert_eq!(remote["outputs"], "s3://usage/out");
}

#[test]
fn a_killed_job_goes_on_from_its_bucket() {
    let desk = desk();
    let server = serve(&desk.at("buckets"));
    let undisturbed = run(&desk, "remote.yaml", server, SECRET).summary();
    let mut killed = 0;
    for patience in (0..8).map(|n| 150 + 130 * n) {
        let mut child = process(&desk, "durable.yaml", server, SECRET)
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(patience));
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(killed > 0, "no run was killed");
    let last = run(&desk, "durable.yaml", server, SECRET);
    assert_eq!(last.exit, Exit::Findings, "{}", last.err);
    let last = last.summary();
    assert_eq!(totals(&last), totals(&undisturbed));
    assert_eq!(last["records"], undisturbed["records"]);
    for output in ["monetised", "suspense", "aggregated", "raw_status"] {
        let there = |folder: &str| {
            standing(rows(
                &desk.at(&format!("buckets/usage/{folder}/{output}/changes")),
            ))
        };
        assert_eq!(there("durable"), there("out"), "{output}");
    }
}

#[test]
fn outputs_in_a_bucket_go_with_their_state() {
    let desk = desk();
    let server = serve(&desk.at("buckets"));
    let durable = || run(&desk, "durable.yaml", server, SECRET);
    assert_eq!(durable().exit, Exit::Findings);
    let (state, out) = (
        desk.at("buckets/usage/state"),
        desk.at("buckets/usage/durable"),
    );
    let (older, aside) = (desk.at("older"), desk.at("aside"));
    copy(&state, &older);
    let name = "month/switch/voice/postpaid/input/c.csv.gz";
    let call = format!("{HEADER}late,+1,2026-02-03T10:00:00Z,home,7\n");
    desk.write(&format!("buckets/usage/{name}"), gzip(&call));
    let whole = durable();
    assert_eq!(whole.exit, Exit::Findings, "{}", whole.err);
    let refused = |says: &str| {
        let before = crate::durability::bytes(&desk.at("buckets"));
        let ended = durable();
        assert_eq!(ended.exit, Exit::Unusable, "{}", ended.err);
        assert!(ended.err.contains(says), "{says}: {}", ended.err);
        let after = crate::durability::bytes(&desk.at("buckets"));
        assert!(before == after, "something was touched");
    };
    // The state is an older copy, and put back.
    std::fs::rename(&state, &aside).unwrap();
    std::fs::rename(&older, &state).unwrap();
    refused("it is older");
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::rename(&aside, &state).unwrap();
    assert_eq!(durable().totals(), whole.totals());
    // The outputs are gone, and put back.
    std::fs::rename(&out, &aside).unwrap();
    refused("they are not there");
    std::fs::rename(&aside, &out).unwrap();
    assert_eq!(durable().totals(), whole.totals());
    // Something of the changes is gone.
    let changes = desk.at("buckets/usage/durable/aggregated/changes");
    let first = std::fs::read_dir(&changes)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    std::fs::remove_file(first.path()).unwrap();
    let told = durable();
    assert_eq!(told.exit, Exit::Findings);
    assert!(
        told.err.contains("aggregated/changes among the outputs"),
        "{}",
        told.err
    );
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let place = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &place),
            false => drop(std::fs::copy(&path, &place).unwrap()),
        }
    }
}

/// A job that cannot start: it says why, prints no result, and leaves nothing behind.
#[track_caller]
fn refused(desk: &Desk, ended: &Ended, said: &[&str]) {
    assert_eq!(
        (ended.exit, ended.out.as_str()),
        (Exit::Unusable, ""),
        "{ended:?}"
    );
    for expected in said {
        assert!(
            ended.err.contains(expected),
            "{expected:?} is not in\n{}",
            ended.err
        );
    }
    for folder in [
        "buckets/usage/out",
        "buckets/usage/nothing",
        "buckets/nowhere",
    ] {
        assert!(!desk.at(folder).exists(), "{folder} was written");
    }
}

#[test]
fn a_bucket_that_does_not_exist_is_said_before_anything_starts() {
    let desk = desk();
    let server = serve(&desk.at("buckets"));
    refused(
        &desk,
        &run(&desk, "nowhere.yaml", server, SECRET),
        &["s3://nowhere", "check"],
    );
    refused(
        &desk,
        &run(&desk, "unwritable.yaml", server, SECRET),
        &["s3://nowhere", "check"],
    );
}

#[test]
fn credentials_that_the_store_refuses_are_said_before_anything_starts() {
    let desk = desk();
    let server = serve(&desk.at("buckets"));
    let ended = run(&desk, "remote.yaml", server, "another secret");
    refused(
        &desk,
        &ended,
        &["s3://usage/", "access denied", "AWS_SECRET_ACCESS_KEY"],
    );
}
