//! A disk without room: the job says so and ends; with more room the next run goes on from there.
//!
//! The disk is a small one in memory, mounted where only the script below and its children see it.

use crate::durability::{calls, compare, desk, job};
use millrace_tests::dice::Dice;
use millrace_tests::jobs::Desk;
use millrace_tests::kills::command;
use std::ffi::OsStr;
use std::process::{Command, Output};

/// Runs the job twice: on a disk that is too small, then on one that has grown.
const SCRIPT: &str = r#"
set -e
cd "$1"
shift
mount -t tmpfs -o size="$1" tmpfs disk
shift
if "$@" 2> full.txt; then exit 3; fi
mount -o remount,size=64m disk
"$@"
cp -r disk/out out
"#;

/// A command that runs where it may mount.
fn apart() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]);
    command
}

fn twice(size: &str) -> (Output, String, Desk) {
    let desk = desk();
    desk.write("disk/place", "");
    let durable =
        "durability: { folder: disk/state, interval: 10ms }\noutputs: { folder: disk/out }\n";
    desk.write("job.yaml", job(durable));
    for file in 0..3 {
        let name = format!("usage/calls-{file}.csv");
        desk.write(&name, calls(file, &mut Dice(u64::from(file))));
    }
    let path = desk.at("job.yaml").display().to_string();
    let run = command(&["run", &path, "--workers", "2"]);
    let given =
        |(name, value): (&OsStr, Option<&OsStr>)| Some((name.to_owned(), value?.to_owned()));
    let output = apart()
        .args(["sh", "-c", SCRIPT, "sh"])
        .arg(desk.at("."))
        .arg(size)
        .arg(run.get_program())
        .args(run.get_args())
        .envs(run.get_envs().filter_map(given))
        .output()
        .unwrap();
    let full = std::fs::read_to_string(desk.at("full.txt")).unwrap_or_default();
    (output, full, desk)
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost() {
    let mounts = apart()
        .args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        .output();
    if !mounts.is_ok_and(|mounts| mounts.status.success()) {
        eprintln!("not tried: this machine lets no process mount a disk of its own");
        return;
    }
    for size in ["16k", "200k", "500k"] {
        let (output, full, desk) = twice(size);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{size}: {said}\n{full}");
        assert!(full.contains("No space left on device"), "{size}: {full}");
        assert!(full.contains("/disk/"), "{size} names no file: {full}");
        compare(&desk, 0);
    }
}
