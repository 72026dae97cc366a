//! Names, links and text of others: what is read of them, what is told, and what nobody is shown.

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, millrace, text};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

const JOB: &str = "\
name: calls
time_zone: UTC
clock: 2026-03-20
catalog: [catalog.yaml]
accounts: [accounts.yaml]
sources:
  - name: switch
    platform: switch
    service_type: voice
    path: usage
    mediation: rule.yaml
";

const RULE: &str = "\
columns: { seconds: bigint, at: timestamp }
identity: [id]
service: number
time: at
charges: { seconds: seconds }
";

const CATALOG: &str = "currency: EUR\nprices:\n  - { item: seconds, price: 1 }\n";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: EUR }
subscriptions:
  - { id: s1, account: acme, from: 2026-01-01, service_type: voice, services: [\"+1\"] }
";

fn desk(job: &str) -> Desk {
    Desk::new(&[
        ("job.yaml", job),
        ("rule.yaml", RULE),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
    ])
}

fn call(id: u32) -> String {
    format!("id,number,at,seconds\n{id},+1,2026-01-05T10:00:00Z,1\n")
}

#[test]
fn a_file_is_read_under_the_name_that_it_has_or_told() {
    let desk = desk(JOB);
    desk.write("usage/a\\b.csv", call(1));
    desk.write("usage/a/b.csv", call(2));
    desk.write("usage/new\nline.csv", call(3));
    let unnamed = desk.at("usage").join(OsStr::from_bytes(b"c\xff.csv"));
    fs::write(&unnamed, call(4)).unwrap();
    symlink("nowhere.csv", desk.at("usage/d.csv")).unwrap();
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Findings, "{ended:?}");
    assert_eq!(ended.totals(), ["3 EUR"]);
    let summary = ended.summary();
    let names = summary["files"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|file| text(file, "file")).collect();
    assert_eq!(names, ["a/b.csv", "a\\b.csv", "new\nline.csv"]);
    let unread = summary["unread"].as_array().unwrap();
    let unread: Vec<&str> = unread.iter().filter_map(|told| told.as_str()).collect();
    assert!(
        unread.len() == 2
            && unread[0].contains("\"c\u{fffd}.csv\" is not read: its name is no text")
            && unread[1].contains("\"d.csv\" is not read: "),
        "{unread:?}"
    );
    assert!(ended.err.contains("its name is no text"), "{}", ended.err);
    let job = desk.at("job.yaml").display().to_string();
    let table = millrace(&["run", &job, "--workers", "2"]);
    assert!(table.out.contains("its name is no text"), "{}", table.out);
    let check = millrace(&["check", &job]);
    assert_eq!(check.exit, Exit::Findings, "{check:?}");
    assert!(check.out.contains("its name is no text"), "{}", check.out);
    let bill = millrace(&["bill", &job]);
    assert_eq!(bill.exit, Exit::Findings, "{bill:?}");
    // The advice, followed.
    fs::rename(unnamed, desk.at("usage/c.csv")).unwrap();
    fs::remove_file(desk.at("usage/d.csv")).unwrap();
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
    assert_eq!(ended.totals(), ["4 EUR"]);
}

#[test]
fn links_in_circles_and_two_links_to_one_folder_are_read_once() {
    let desk = desk(JOB);
    desk.write("usage/a.csv", call(1));
    desk.write("usage/deep/b.csv", call(2));
    desk.write("elsewhere/c.csv", call(3));
    symlink(desk.at("usage"), desk.at("usage/deep/up")).unwrap();
    symlink(desk.at("elsewhere"), desk.at("usage/x")).unwrap();
    symlink(desk.at("elsewhere"), desk.at("usage/y")).unwrap();
    symlink("../usage/x", desk.at("elsewhere/round")).unwrap();
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
    assert_eq!(ended.totals(), ["3 EUR"]);
    assert_eq!(ended.summary()["files"].as_array().unwrap().len(), 3);
}

/// Names that others gave to files, accounts and identities give a terminal no orders, whichever command shows
/// them, nor do those that a person copies from there.
#[test]
fn no_name_gives_a_terminal_orders() {
    let foreign = "h\u{1b}[31mo\u{202e}m\u{9b}2Je\u{7f}\u{200b}";
    let escaped = foreign.chars().map(|c| format!("\\u{:04x}", u32::from(c)));
    let yaml = format!("\"{}\"", escaped.collect::<String>());
    let job = format!("{JOB}durability: {{ folder: state }}\n");
    let desk = desk(&job);
    desk.write(
        "accounts.yaml",
        ACCOUNTS.replace("acme", &yaml).replace("\"+1\"", &yaml),
    );
    let call = call(1).replace("+1", foreign);
    desk.write(&format!("usage/{foreign}.csv"), &call);
    desk.write(
        "usage/other.csv",
        call.replace("\n1,", "\n2,").replace(foreign, "nobody"),
    );
    desk.write("usage/copy.csv", &call);
    let unnamed = [&b"usage/"[..], foreign.as_bytes(), b"\xff.csv"].concat();
    fs::write(desk.at("").join(OsStr::from_bytes(&unnamed)), "x").unwrap();
    desk.write(&format!("usage/{foreign}.dat"), "x");
    let path = desk.at("job.yaml").display().to_string();
    let file = format!("{foreign}.csv");
    let record = format!("{file}:2");
    let sample = desk.at(&format!("usage/{file}")).display().to_string();
    let new = desk.at("new").display().to_string();
    assert_eq!(desk.run().exit, Exit::Findings);
    for command in [
        &["run", &path, "--workers", "1"][..],
        &["run", &path, "--workers", "1", "--output", "json"],
        &["check", &path],
        &["check", &path, "--output", "json"],
        &["explain", &path, &record],
        &["explain", &path, &record, "--output", "json"],
        &["bill", &path],
        &["balance", &path, foreign],
        &["status", &path],
        &["graph", &path],
        &["pause", &path, foreign],
        &["discard", &path, "--file", &file],
        &["retry", &path, "--file", &file],
        &["retry", &path, "--record", &record],
        &["run", &path, "--workers", "1"],
        &["init", &new, "--sample", &sample],
    ] {
        let Ended { out, err, .. } = millrace(command);
        let told = out + &err;
        let obeyed =
            |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{200b}');
        assert!(!told.contains(obeyed), "{command:?}: {told:?}");
    }
}

/// Whatever a command says: nobody sees what logs in.
#[test]
fn no_login_is_shown() {
    for job in [
        JOB.replace("path: usage", "path: \"s3://KEY:hunter2@bucket/in\""),
        JOB.replace("path: usage", "path: \"https://ann:hun/ter2@host/in\""),
        JOB.replace("rule.yaml", "\"https://ann:hunter2@host/rule.yaml\""),
        JOB.replace("[catalog.yaml]", "[\"https://ann:hunter2@host/c.yaml\"]"),
        JOB.replace("[accounts.yaml]", "[\"s3://ann:hunter2@host/a.yaml\"]"),
        JOB.replace(
            "sources:",
            "lookups: { t: { file: \"ftp://ann:hunter2@h/t.csv\", key: k } }\nsources:",
        ),
        format!("{JOB}outputs: {{ folder: \"s3://ann:hunter2@bucket/out\" }}\n"),
        format!("{JOB}durability: {{ folder: \"s3://ann:hunter2@bucket/state\" }}\n"),
    ] {
        let desk = desk(&job);
        desk.write("usage/a.csv", call(1));
        let path = desk.at("job.yaml").display().to_string();
        let out = desk.at("out").display().to_string();
        let usage = desk.at("usage/a.csv").display().to_string();
        let mut named = false;
        for command in [
            &["check", &path][..],
            &["check", &path, "--output", "json"],
            &["run", &path, "--workers", "1", "--out", &out],
            &["graph", &path],
            &["bill", &path],
            &["status", &path],
            &[
                "quote",
                &usage,
                "--catalog",
                "https://ann:hunter2@host/c.yaml",
            ],
            &["query", "s3://ann:hunter2@bucket/out", "SELECT 1"],
        ] {
            let Ended { out, err, .. } = millrace(command);
            let told = format!("{out}{err}");
            assert!(
                !told.contains("hunter2") && !told.contains("hun/ter2"),
                "{command:?}: {told}"
            );
            named |= command[0] == "check" && told.contains("***@");
        }
        assert!(named, "{job}");
    }
}
