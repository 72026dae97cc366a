//! The same archive behind the S3 protocol. Credentials belong to a process, so the commands run in
//! one of their own.

use super::world::{desk, job};
use crate::s3::{KEY, SECRET, serve};
use millrace_tests::jobs::millrace;
use serde_json::Value;
use std::process::Command;

const COMMANDS: &str = "MILLRACE_TEST_COMMANDS";

/// What the process of this test runs; without commands in the environment there is nothing to do.
#[test]
fn the_commands_of_the_environment() {
    let Ok(commands) = std::env::var(COMMANDS) else {
        return;
    };
    for command in commands.split('\n') {
        let arguments: Vec<&str> = command.split('\t').collect();
        let ended = millrace(&arguments[1..]);
        let told = serde_json::json!({"exit": format!("{:?}", ended.exit), "out": ended.out, "err": ended.err});
        std::fs::write(arguments[0], told.to_string()).unwrap();
    }
}

#[test]
fn an_archive_in_a_bucket_is_replayed() {
    let desk = desk();
    std::fs::create_dir_all(desk.at("buckets/closed")).unwrap();
    let server = serve(&desk.at("buckets"));
    desk.write("remote.yaml", job("2026-04-20", "s3://closed/calls", "out"));
    desk.write(
        "nowhere.yaml",
        job("2026-04-20", "s3://nobody/calls", "out"),
    );
    let at = |name: &str| desk.at(name).display().to_string();
    let commands = [
        vec![
            at("1"),
            "run".into(),
            at("remote.yaml"),
            "--output".into(),
            "json".into(),
        ],
        vec![
            at("2"),
            "replay".into(),
            "s3://closed/calls".into(),
            "--output".into(),
            "json".into(),
        ],
        vec![
            at("3"),
            "replay".into(),
            "s3://closed/calls".into(),
            "--account".into(),
            "dana".into(),
            "--output".into(),
            "json".into(),
        ],
        vec![at("4"), "replay".into(), "s3://closed/nothing".into()],
        vec![at("5"), "run".into(), at("nowhere.yaml")],
    ];
    let commands: Vec<String> = commands.iter().map(|command| command.join("\t")).collect();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "archive::remote::the_commands_of_the_environment",
            "--nocapture",
        ])
        .env(COMMANDS, commands.join("\n"))
        .env("AWS_ENDPOINT_URL", format!("http://{server}"))
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .output()
        .unwrap();
    let read = |name: &str| -> Value {
        let text = std::fs::read_to_string(desk.at(name));
        let text = text.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&child.stderr)));
        serde_json::from_str(&text).unwrap()
    };
    let exits: Vec<String> = ["1", "2", "3", "4", "5"]
        .iter()
        .map(|name| read(name)["exit"].to_string())
        .collect();
    assert_eq!(
        exits,
        ["\"Ok\"", "\"Ok\"", "\"Ok\"", "\"Unusable\"", "\"Unusable\""],
        "{} {}",
        read("2"),
        read("5")
    );
    let all: Value = serde_json::from_str(read("2")["out"].as_str().unwrap()).unwrap();
    assert_eq!(all["records"], 600);
    let one: Value = serde_json::from_str(read("3")["out"].as_str().unwrap()).unwrap();
    assert!(
        (1..300).contains(&one["records"].as_u64().unwrap()),
        "{one}"
    );
    assert!(
        read("4")["err"]
            .as_str()
            .unwrap()
            .contains("there is no archive at")
    );
    // A bucket that is not there is said, and what was read is written nowhere else.
    assert!(
        read("5")["err"].as_str().unwrap().contains("s3://nobody"),
        "{}",
        read("5")
    );
}
