//! Durable state under kills, damage, and a second run of the same job.
//!
//! A job is killed again and again, at any moment, and continued each time; what it has written in the
//! end is what a run that nobody disturbed writes: snapshots to the byte, and changes that add up to
//! them, none lost and none twice.
//!
//! Each run is a process of its own: this binary again, which finds in its environment what to run.
//! `MILLRACE_KILLS` asks for more kills than the few of the short form, `MILLRACE_SEED` for another
//! history.

use crate::archive::forget::desk_that_forgot;
use crate::by_hand;
use crate::cluster::{Processes, commits};
use millrace::cli::Exit;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, millrace, rows, standing};
use millrace_tests::kills::{CATALOG, MEDIATION, accounts, start, variable};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

const KILLS: u32 = 20;
const FILES: u32 = 12;
const ROWS: u32 = 2_000;
/// Rows of a small file.
pub(crate) const FEW: u32 = 60;
/// How long a run may take to do what it is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn job(durability: &str) -> String {
    format!(
        "name: calls\ntime_zone: UTC\nclock: 2026-03-10\nsources:\n  - {{ name: switch, platform: switch, \
         service_type: voice, path: usage, mediation: mediation.yaml }}\ncatalog: [catalog.yaml]\n\
         accounts: [accounts.yaml]\nepoch: {{ rows: 300 }}\n{durability}"
    )
}

/// A file of calls: some late, some sent again from earlier files, some not calls at all, some of
/// numbers that nobody has.
pub(crate) fn calls(file: u32, dice: &mut Dice) -> String {
    let mut text = "id,number,at,seconds\n".to_owned();
    for row in 0..ROWS {
        let now = u64::from(file * ROWS + row) * 200;
        let late = if dice.roll(10) == 0 {
            dice.roll(400_000)
        } else {
            0
        };
        let at = 1_767_225_600 + now.saturating_sub(late);
        let at = millrace_tests::jobs::instant(at);
        let id = match dice.roll(20) {
            0 => dice.roll(u64::from(file * ROWS + row + 1)),
            _ => u64::from(file * ROWS + row),
        };
        let seconds = match dice.roll(200) {
            0 => "many".to_owned(),
            _ => dice.roll(60).to_string(),
        };
        writeln!(text, "c{id},+{},{at},{seconds}", dice.roll(9)).unwrap();
    }
    text
}

/// The beginning of a file of calls.
pub(crate) fn few(file: u32) -> String {
    let calls = calls(file, &mut Dice(u64::from(file)));
    let lines = calls.lines().take(usize::try_from(FEW).unwrap() + 1);
    lines.map(|line| format!("{line}\n")).collect()
}

/// Waits for something that a run does.
#[track_caller]
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what} in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the job has committed so many records.
#[track_caller]
pub(crate) fn received(desk: &Desk, records: u32) {
    let job = desk.at("job.yaml").display().to_string();
    wait("records are waited for", || {
        // There is none before the first commit, and none to read while one takes another's place.
        let status = millrace(&["status", &job, "--output", "json"]);
        status.exit == Exit::Ok && status.summary()["received"] == records
    });
}

/// Bytes of every file below a folder.
pub(crate) fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                let name = entry.path().display().to_string();
                found.insert(name, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

const OUTPUTS: [&str; 8] = [
    "monetised",
    "impacts",
    "balances",
    "activity",
    "notices",
    "suspense",
    "aggregated",
    "raw_status",
];

/// The name of a file without what says which run wrote it.
fn untagged(name: &str) -> String {
    let Some(stem) = name.strip_suffix(".parquet") else {
        return name.to_owned();
    };
    let mut words = stem.rsplitn(3, '-');
    let run = words.next().filter(|word| word.len() == 16);
    let generation = words.next().filter(|word| word.parse::<u64>().is_ok());
    match (run, generation, words.next()) {
        (Some(_), Some(_), Some(plain)) => format!("{plain}.parquet"),
        _ => name.to_owned(),
    }
}

/// Compares what the durable job wrote with what an undisturbed run over the same files writes.
pub(crate) fn compare(desk: &Desk, seed: u64) {
    desk.write("plain.yaml", job("outputs: { folder: plain }\n"));
    let plain = desk.at("plain.yaml").display().to_string();
    let ended = millrace(&["run", &plain, "--workers", "2"]);
    assert!(matches!(ended.exit, Exit::Findings), "{}", ended.err);
    for output in OUTPUTS {
        let folder = |root: &str, form: &str| desk.at(&format!("{root}/{output}/{form}"));
        let relative = |root: &str| {
            let files = bytes(&folder(root, "snapshot")).into_iter();
            let start = desk.at(root).display().to_string();
            files
                .map(|(name, bytes)| (untagged(&name.replacen(&start, "", 1)), bytes))
                .collect::<BTreeMap<_, _>>()
        };
        let (durable, plain) = (relative("out"), relative("plain"));
        assert!(!plain.is_empty(), "{output} is written");
        if durable != plain {
            let rows = |root: &str| standing(rows(&folder(root, "snapshot")));
            let (ours, theirs) = (rows("out"), rows("plain"));
            let only = |rows: &BTreeMap<String, i64>, others: &BTreeMap<String, i64>| {
                let only = rows.keys().filter(|row| !others.contains_key(*row));
                only.take(4).cloned().collect::<Vec<_>>().join("\n")
            };
            let (more, less) = (only(&ours, &theirs), only(&theirs, &ours));
            panic!("seed {seed}: the snapshots of {output} differ; ours:\n{more}\ntheirs:\n{less}");
        }
        if output == "balances" {
            continue;
        }
        let changes = standing(rows(&folder("out", "changes")));
        let snapshot = standing(rows(&folder("plain", "snapshot")));
        for (row, count) in &changes {
            let stands = snapshot.get(row).copied().unwrap_or(0);
            assert_eq!(*count, stands, "seed {seed}: {output}: {row}");
        }
        assert_eq!(changes.len(), snapshot.len(), "seed {seed}: {output}");
    }
}

pub(crate) fn desk() -> Desk {
    Desk::new(&[
        ("mediation.yaml", MEDIATION),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", &accounts()),
        (
            "job.yaml",
            &job("durability: { folder: state, interval: 10ms }\n"),
        ),
    ])
}

#[test]
fn kills_neither_lose_nor_double() {
    let kills = variable("MILLRACE_KILLS", KILLS);
    let seed = u64::from(variable("MILLRACE_SEED", 1));
    let mut dice = Dice(seed);
    let desk = desk();
    let (mut killed, mut ended, mut file) = (0, 0, 0);
    // Kills before anything new is committed, and how many of them follow another such.
    let (mut in_recovery, mut in_a_row) = (0, 0);
    // Behind every third kill two are aimed at recoveries, so many milliseconds after a run took over.
    let mut aims = [[0, 0], [5, 60], [15, 25], [100, 140]]
        .map(|pair| pair.map(Duration::from_millis))
        .into_iter()
        .cycle();
    let (mut aimed, mut unaimed, mut last_caught) = (Vec::new(), 0, false);
    let job = desk.at("job.yaml").display().to_string();
    while file < FILES || killed < kills {
        let aim: Option<Duration> = aimed.pop();
        // More when all is read, so that there is more to be killed at; a file never changes.
        if aim.is_none() && (file < FILES || dice.roll(3) == 0) {
            desk.write(
                &format!("usage/calls-{file:04}.csv"),
                calls(file, &mut dice),
            );
            file += 1;
        }
        let workers = (1 + dice.roll(3)).to_string();
        let before = commits(&desk);
        let mut process = start(&["run", &job, "--workers", &workers]);
        let patience = aim.unwrap_or_else(|| Duration::from_millis(20 + dice.roll(900)));
        let mut begun = Instant::now();
        let status = loop {
            let takes_over = aim.is_some() && commits(&desk) == before;
            if takes_over {
                begun = Instant::now();
            }
            if let Some(status) = process.try_wait().unwrap() {
                break status;
            }
            if !takes_over && begun.elapsed() > patience {
                process.kill().unwrap();
                break process.wait().unwrap();
            }
            std::thread::sleep(Duration::from_millis(3));
        };
        // It has taken over what there was, and committed nothing since.
        let caught = status.signal().is_some() && before > 0 && commits(&desk) == before + 1;
        in_recovery += u32::from(caught);
        in_a_row += u32::from(caught && last_caught);
        last_caught = caught;
        match status.signal() {
            Some(_) => {
                killed += 1;
                unaimed += u32::from(aim.is_none());
                if aim.is_none() && unaimed % 3 == 0 {
                    aimed.extend(aims.next().into_iter().flatten());
                }
            }
            None => {
                let output = process.wait_with_output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(status.success(), "seed {seed}: {said}");
                ended += 1;
            }
        }
    }
    let last = millrace(&["run", &job, "--workers", "2"]);
    assert!(matches!(last.exit, Exit::Findings), "{}", last.err);
    compare(&desk, seed);
    by_hand::compare(&desk, seed);
    println!(
        "{killed} kills, {in_recovery} in recovery, {in_a_row} of them in a row, {ended} runs to the end, \
         {file} files, seed {seed}"
    );
    assert!(kills < KILLS || (in_recovery > 0 && in_a_row > 0));
}

/// The objects of a folder of the state, sorted.
fn objects(desk: &Desk, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(desk.at(&format!("state/{folder}"))).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.map(|name| format!("{folder}/{name}")).collect();
    names.sort();
    names
}

#[test]
fn damaged_state_is_named_and_nothing_is_started() {
    let desk = desk();
    desk.write("usage/calls.csv", calls(0, &mut Dice(3)));
    let whole = desk.run();
    assert!(matches!(whole.exit, Exit::Findings), "{}", whole.err);
    let mut read = objects(&desk, "journal");
    read.extend(objects(&desk, "manifest").pop());
    damage_is_named(&desk, &read);
    assert_eq!(desk.run().totals(), whole.totals());
}

#[test]
fn damage_to_what_is_left_of_closed_bill_units_is_named() {
    let desk = desk_that_forgot();
    let whole = desk.run();
    let closed = objects(&desk, "closed");
    assert_eq!(closed.len(), 1, "{closed:?}");
    damage_is_named(&desk, &closed);
    assert_eq!(desk.run().totals(), whole.totals());
}

/// Damages each object in several ways, and puts it back in the end.
fn damage_is_named(desk: &Desk, objects: &[String]) {
    for object in objects {
        let place = desk.at(&format!("state/{object}"));
        let bytes = std::fs::read(&place).unwrap();
        let refused = |what: &str| {
            let manifests = self::objects(desk, "manifest");
            let before = self::bytes(&desk.at("out"));
            let ended = desk.run();
            assert_eq!(ended.exit, Exit::Unusable, "{object} {what}: {}", ended.err);
            assert!(ended.err.contains(object), "{object} {what}: {}", ended.err);
            assert!(ended.err.contains("nothing was started"), "{}", ended.err);
            let changes = |files: BTreeMap<String, Vec<u8>>| {
                let mut files = files;
                files.retain(|name, _| name.contains("/changes/") && !name.contains("/ledger/"));
                files
            };
            assert!(
                changes(before) == changes(self::bytes(&desk.at("out"))),
                "{object} {what}"
            );
            // The generation that looked has created a manifest of its own.
            let mut created = self::objects(desk, "manifest");
            created.retain(|manifest| !manifests.contains(manifest));
            for manifest in created {
                std::fs::remove_file(desk.at(&format!("state/{manifest}"))).unwrap();
            }
        };
        for at in (0..bytes.len()).step_by(bytes.len() / 5 + 1) {
            let mut torn = bytes.clone();
            torn[at] ^= 0x20;
            std::fs::write(&place, &torn).unwrap();
            refused(&format!("changed at byte {at}"));
        }
        for left in [0, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&place, &bytes[..left]).unwrap();
            refused(&format!("cut to {left} bytes"));
        }
        if !object.starts_with("manifest/") {
            std::fs::remove_file(&place).unwrap();
            refused("missing");
        }
        std::fs::write(&place, &bytes).unwrap();
    }
}

#[test]
fn state_of_another_plan_is_refused() {
    let desk = desk();
    desk.write("usage/calls.csv", calls(0, &mut Dice(3)));
    assert!(matches!(desk.run().exit, Exit::Findings));
    let other = job("durability: { folder: state }\n").replace("UTC", "Europe/Prague");
    desk.write("job.yaml", other);
    let refused = desk.run();
    assert_eq!(refused.exit, Exit::Unusable);
    let says = "its time zone is UTC, not Europe/Prague";
    assert!(refused.err.contains(says), "{}", refused.err);
}

#[test]
fn the_older_of_two_runs_ends() {
    let desk = desk();
    desk.write("usage/calls.csv", calls(0, &mut Dice(3)));
    let job = desk.at("job.yaml").display().to_string();
    let mut older = start(&["run", &job, "--watch", "--workers", "1"]);
    let begun = Instant::now();
    let committed = |commits: usize| {
        std::fs::read_dir(desk.at("state/manifest")).is_ok_and(|names| names.count() >= commits)
    };
    while !committed(2) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "nothing is committed"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let younger = desk.run();
    assert!(matches!(younger.exit, Exit::Findings), "{}", younger.err);
    let begun = Instant::now();
    while older.try_wait().unwrap().is_none() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the older run goes on"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let ended = older.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success());
    assert!(
        said.contains("another run of this job has taken over"),
        "{said}"
    );
    compare(&desk, 0);
}

/// Manifests are taken away sixteen commits later, so the number that the older run would commit next
/// is free again when it goes on; and it has something to commit.
#[test]
fn an_older_run_that_stood_still_for_long_commits_nothing() {
    let desk = desk();
    desk.write("usage/calls-00.csv", few(0));
    let job = desk.at("job.yaml").display().to_string();
    let watching = || Processes(vec![start(&["run", &job, "--watch", "--workers", "1"])]);
    let older = watching();
    received(&desk, FEW);
    older.signal(0, "-STOP");
    let stood = commits(&desk);
    let younger = watching();
    wait("the younger run is waited for", || commits(&desk) > stood);
    for file in 1..=25 {
        let before = commits(&desk);
        desk.write(&format!("usage/calls-{file:02}.csv"), few(file));
        wait("a commit is waited for", || commits(&desk) > before);
    }
    received(&desk, 26 * FEW);
    younger.signal(0, "-TERM");
    let (status, said) = younger.end("younger").remove(0);
    assert!(status.success(), "{said}");
    assert!(commits(&desk) > stood + 20, "{stood}, {}", commits(&desk));
    let next = format!("state/manifest/{:020}.json", stood + 1);
    assert!(
        !desk.at(&next).exists(),
        "the older run's next number is free"
    );
    let committed = bytes(&desk.at("state/manifest"));
    older.signal(0, "-CONT");
    let (status, said) = older.end("older").remove(0);
    assert!(!status.success(), "{said}");
    let says = "another run of this job has taken over";
    assert!(said.contains(says), "{said}");
    assert!(
        committed == bytes(&desk.at("state/manifest")),
        "it committed"
    );
    compare(&desk, 0);
    let last = desk.run();
    assert_eq!(last.exit, Exit::Findings, "{}", last.err);
    compare(&desk, 0);
}

#[test]
fn a_paused_source_waits_until_it_is_resumed() {
    let desk = desk();
    desk.write("usage/a.csv", calls(0, &mut Dice(3)));
    let job = desk.at("job.yaml").display().to_string();
    let received = |ended: &millrace_tests::jobs::Ended| {
        assert_eq!(ended.exit, Exit::Findings, "{}", ended.err);
        ended.summary()["records"]["received"].as_u64().unwrap()
    };
    assert_eq!(received(&desk.run()), u64::from(ROWS));
    let unknown = millrace(&["pause", &job, "swich"]);
    assert!(
        unknown.err.contains("did you mean \"switch\"?"),
        "{}",
        unknown.err
    );
    // Told while the job is stopped, and kept by the commits of the run that applies it.
    assert_eq!(millrace(&["pause", &job, "switch"]).exit, Exit::Ok);
    desk.write("usage/b.csv", calls(1, &mut Dice(4)));
    assert_eq!(received(&desk.run()), u64::from(ROWS));
    assert_eq!(received(&desk.run()), u64::from(ROWS));
    let status = millrace(&["status", &job]);
    assert!(status.out.contains("paused: switch"), "{}", status.out);
    assert_eq!(millrace(&["resume", &job, "switch"]).exit, Exit::Ok);
    assert_eq!(received(&desk.run()), 2 * u64::from(ROWS));
    compare(&desk, 3);
}

#[test]
fn files_move_when_they_are_committed() {
    let desk = desk();
    let moving = job("durability: { folder: state, interval: 10ms }\n")
        .replace("path: usage", "path: in/input, after: move");
    desk.write("job.yaml", &moving);
    desk.write("in/input/a.csv", calls(0, &mut Dice(3)));
    desk.write("in/input/again.csv", calls(0, &mut Dice(3)));
    desk.write("in/input/broken.parquet", "no Parquet");
    let first = desk.run();
    assert_eq!(first.exit, Exit::Findings, "{}", first.err);
    let names = |folder: &str| {
        let mut names: Vec<String> = bytes(&desk.at(&format!("in/{folder}")))
            .into_keys()
            .map(|name| name.rsplit('/').next().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("input"), Vec::<String>::new());
    assert_eq!(names("processed"), ["a.csv"]);
    assert_eq!(names("failed"), ["again.csv", "broken.parquet"]);
    // What was moved is known: sent once more it is not read again, and does not stay.
    desk.write("in/input/a.csv", calls(0, &mut Dice(3)));
    let second = desk.run();
    assert_eq!(second.totals(), first.totals());
    assert_eq!(names("input"), Vec::<String>::new());
    let wrong = desk.at("job.yaml").display().to_string();
    desk.write("job.yaml", moving.replace("after: move", "after: remove"));
    let refused = millrace(&["check", &wrong]);
    assert_eq!(refused.exit, Exit::Unusable);
}

#[test]
fn status_tells_the_newest_commit() {
    let desk = desk();
    let job = desk.at("job.yaml").display().to_string();
    desk.write("usage/calls.csv", calls(0, &mut Dice(3)));
    let none = millrace(&["status", &job]);
    assert_eq!(none.exit, Exit::Unusable);
    assert!(none.err.contains("has committed nothing"), "{}", none.err);
    let ran = desk.run();
    let status = millrace(&["status", &job, "--output", "json"]).summary();
    assert_eq!(status["received"], ran.summary()["records"]["received"]);
    assert_eq!(
        (&status["generation"], &status["files"]),
        (&1.into(), &1.into())
    );
    let objects = status["objects"].as_array().unwrap();
    assert_eq!(status["state"]["objects"], objects.len());
    for object in objects {
        let place = desk.at(&format!("state/{}", object["name"].as_str().unwrap()));
        assert_eq!(object["bytes"], std::fs::metadata(place).unwrap().len());
    }
    // What is committed is what balances are told from: the sources are not read again.
    std::fs::remove_file(desk.at("usage/calls.csv")).unwrap();
    let balances = millrace(&["balance", &job, "a0"]);
    // Calls that wait are in no balance, which is told.
    assert_eq!(balances.exit, Exit::Findings, "{balances:?}");
    assert!(balances.out.contains("used"), "{}", balances.out);
}
