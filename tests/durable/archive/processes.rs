//! Several processes archive and forget as one does: the same bytes, whatever is killed, and the next run
//! may be of any number of them.

use super::forget::{DAYS, adjusting, as_of, catalog, desk, is_the_twins, january_has, open};
use super::kept::{adds_up, is_cut};
use super::world::{calls, job};
use crate::cluster::{Processes, files};
use millrace::cli::Exit;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::Desk;
use millrace_tests::kills::variable;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Kills of the short form.
const KILLS: u32 = 6;
/// Files of late records.
const FILES: u64 = 8;
/// How long a watching job may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the job to its end; what it said, where it is one process.
fn run_by(desk: &Desk, processes: usize) -> Option<String> {
    if processes == 1 {
        let ran = desk.run();
        assert!(matches!(ran.exit, Exit::Ok | Exit::Findings), "{}", ran.err);
        return Some(ran.err);
    }
    let path = desk.at("job.yaml").display().to_string();
    for (status, said) in Processes::start(desk, &path, processes, &[]).end("run") {
        assert!(status.success(), "{processes} processes: {said}");
    }
    None
}

/// What is archived, but for the state that it was written from: each desk has its own, with commits of its own.
fn archived(desk: &Desk) -> BTreeMap<String, Vec<u8>> {
    let mut archived = files(&desk.at("closed"));
    for (name, content) in &mut archived {
        if name.contains("/manifest-") {
            let line = content.split(|byte| *byte == b'\n').next().unwrap();
            let mut manifest: Value = serde_json::from_slice(line).unwrap();
            manifest["state"].take();
            *content = manifest.to_string().into_bytes();
        }
    }
    archived
}

/// The names of files of which the content is another.
fn differing<'n>(
    ours: &'n BTreeMap<String, Vec<u8>>,
    theirs: &'n BTreeMap<String, Vec<u8>>,
) -> Vec<&'n String> {
    let names = ours.keys().chain(theirs.keys());
    let mut names: Vec<&String> = names
        .filter(|name| ours.get(*name) != theirs.get(*name))
        .collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn any_number_of_processes_archives_the_same_bytes() {
    for kept in [true, false] {
        let mut alone: Vec<BTreeMap<String, Vec<u8>>> = Vec::new();
        for processes in [1, 2, 3] {
            let desk = desk();
            let mut written = Vec::new();
            for (step, day) in [DAYS[1], DAYS[1], DAYS[3]].into_iter().enumerate() {
                as_of(&desk, day);
                if !kept {
                    desk.write("job.yaml", job(day, "closed", "out"));
                }
                if step == 1 {
                    // What is late, and a price of the past.
                    desk.write("calls/c.csv", calls(590..640));
                    let other = catalog().replace("price: 0.05", "price: 0.06");
                    desk.write("catalog.yaml", other);
                }
                let said = run_by(&desk, processes);
                let says = match (kept, step) {
                    (true, 1) => "adjustment 1 of archived [2026-01-01",
                    (false, 1) => "of its lines would be others now",
                    _ => "archived [2026-0",
                };
                let said = said.unwrap_or_else(|| says.to_owned());
                assert!(said.contains(says), "{says}: {said}");
                written.push(archived(&desk));
                if !kept {
                    let mut outputs = files(&desk.at("out"));
                    // Each desk has files of its own, written at another time.
                    outputs.retain(|name, _| !name.starts_with("/ledger/"));
                    written.push(outputs);
                }
            }
            if kept {
                assert_eq!(open(&desk), 0, "everything is closed");
                is_the_twins(&desk, &desk.run());
                adds_up(&desk);
            }
            if processes == 1 {
                alone = written;
                continue;
            }
            for (ours, theirs) in written.iter().zip(&alone) {
                assert!(theirs.len() > 10, "{:?}", theirs.keys());
                let differ = differing(ours, theirs);
                assert!(differ.is_empty(), "{processes} processes: {differ:?}");
            }
        }
    }
}

#[test]
fn a_watching_job_of_several_processes_closes_and_adjusts_by_itself() {
    let desk = adjusting();
    let path = desk.at("job.yaml").display().to_string();
    let mut cluster = Processes::start(&desk, &path, 2, &["--watch"]);
    let mut there = |name: &str| {
        january_has(&desk, name, || {
            assert!(!cluster.is_over(), "the processes have ended");
        });
    };
    there("manifest-0000.json");
    desk.write("calls/c.csv", calls(600..640));
    there("manifest-0001.json");
    cluster.signal(1, "-TERM");
    for (status, said) in cluster.end("asked") {
        assert!(status.success(), "{status} {said}");
    }
    let last = desk.run();
    assert!(!last.err.contains("adjustment"), "{}", last.err);
    is_the_twins(&desk, &last);
    let held = open(&desk);
    assert!(held < 500, "{held} records are open");
}

#[test]
fn kills_of_processes_archive_no_period_twice_and_lose_none() {
    let kills = variable("MILLRACE_KILLS", KILLS);
    let seed = u64::from(variable("MILLRACE_SEED", 1));
    let mut dice = Dice(seed);
    let desk = desk();
    as_of(&desk, DAYS[3]);
    let path = desk.at("job.yaml").display().to_string();
    let (mut file, mut killed, mut ended, mut cut) = (0, 0, 0, 0);
    for round in 0.. {
        if file >= FILES && killed >= kills {
            break;
        }
        if file < FILES || dice.roll(3) == 0 {
            let first = 600 + file * 12;
            let again = first.saturating_sub(dice.roll(12));
            desk.write(
                &format!("calls/late-{file:04}.csv"),
                calls(again..first + 12),
            );
            file += 1;
        }
        let processes = [2, 3, 1, 2][round % 4];
        let mut cluster = Processes::start(&desk, &path, processes, &[]);
        // Half of the kills come when something of the archive is there that nothing names yet.
        let waits = dice.one_in(2);
        let until = Instant::now() + Duration::from_millis(200 + dice.roll(2500));
        let patience = Instant::now() + PATIENCE;
        while !cluster.is_over() {
            let now = Instant::now();
            assert!(now < patience, "seed {seed}: the processes do not end");
            if (waits && is_cut(&desk)) || (!waits && now > until) {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let one = dice.below(processes);
        if cluster.is_over() || cluster.0[one].try_wait().unwrap().is_some() {
            let all = cluster.end("run");
            for (status, said) in all {
                assert!(status.success(), "seed {seed}: {said}");
            }
            ended += 1;
            continue;
        }
        cluster.signal(one, "-KILL");
        killed += 1;
        let until = Instant::now() + Duration::from_secs(2);
        while !cluster.is_over() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(3));
        }
        // Those that wait for each other wait on; here nobody comes again.
        for process in &mut cluster.0 {
            process.kill().unwrap();
        }
        cluster.end("killed");
        cut += u32::from(is_cut(&desk));
    }
    let last = desk.run();
    is_the_twins(&desk, &last);
    adds_up(&desk);
    println!("{killed} kills, {cut} of them while archiving, {ended} runs to the end, seed {seed}");
}
