//! A run of one process that does not move ends, and is continued by the next.

use crate::cluster::{Processes, commits};
use crate::durability::{FEW, compare, desk, few, received};
use millrace::cli::Exit;
use millrace::durable::STAGE;
use millrace_tests::jobs::{Desk, millrace};
use millrace_tests::kills::start;
use serde_json::Value;
use std::process::Command;

/// What a process ends with that nothing moves in.
const STUCK: i32 = 3;

/// What the names of the newest run have in them.
fn tag(desk: &Desk) -> String {
    let manifests = std::fs::read_dir(desk.at("state/manifest")).unwrap();
    let newest = manifests.map(|entry| entry.unwrap().path()).max().unwrap();
    let text = std::fs::read_to_string(newest).unwrap();
    let manifest: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let run = manifest["run"].as_str().unwrap();
    format!("{}-{run}", manifest["generation"])
}

#[test]
fn a_run_whose_output_takes_nothing_ends() {
    let desk = desk();
    desk.write("usage/calls-0.csv", few(0));
    let job = desk.at("job.yaml").display().to_string();
    let arguments = [
        "run",
        &job,
        "--watch",
        "--workers",
        "1",
        "--stuck-after",
        "2",
    ];
    let run = Processes(vec![start(&arguments)]);
    received(&desk, FEW);
    let committed = commits(&desk);
    let status = millrace(&["status", &job, "--output", "json"]).summary();
    let next = status["epochs"].as_u64().unwrap();
    let tag = tag(&desk);
    // Whichever epoch brings the next charges: the file that it begins is a pipe that nobody reads.
    let pipe = |epoch: u64| {
        let name = format!("{tag}-monetised-changes-{epoch:020}-{tag}.parquet.tmp");
        desk.at("out").join(STAGE).join(name)
    };
    let pipes: Vec<_> = (next..next + 50).map(pipe).collect();
    std::fs::create_dir_all(desk.at("out").join(STAGE)).unwrap();
    let made = Command::new("mkfifo").args(&pipes).status().unwrap();
    assert!(made.success());
    desk.write("usage/calls-1.csv", few(1));
    let (status, said) = run.end("stuck").remove(0);
    assert_eq!(status.code(), Some(STUCK), "{said}");
    let says = "has not completed for";
    assert!(said.contains(says), "{said}");
    assert!(said.contains("--stuck-after"), "{said}");
    assert_eq!(
        commits(&desk),
        committed,
        "what stands still is not committed"
    );
    pipes
        .iter()
        .for_each(|pipe| std::fs::remove_file(pipe).unwrap());
    let again = desk.run();
    assert_eq!(again.exit, Exit::Findings, "{}", again.err);
    compare(&desk, 0);
}
