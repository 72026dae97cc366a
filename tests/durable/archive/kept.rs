//! Archives of jobs with durable state: late records and changed prices are adjustments, and a run that
//! is killed leaves nothing that counts.

use super::world::{CATALOG, calls, desk, job, replay, replayed};
use millrace::cli::Exit;
use millrace_connectors::archive::Archive;
use millrace_operators::domain::LineSum;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, millrace, text};
use millrace_tests::kills::{start, variable};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

const KILLS: u32 = 12;
const FILES: u64 = 8;
/// Calls of a file.
const CALLS: u64 = 200;

/// The world's job, with durable state.
fn durable(archive: &str) -> String {
    let kept = "durability: { folder: state, interval: 20ms }\n";
    job("2026-04-20", archive, "out") + kept
}

fn kept_desk() -> Desk {
    let desk = desk();
    desk.write("job.yaml", durable("closed"));
    desk
}

/// What the archive adds up to, adjustments and all: charges and money by line.
fn archived(desk: &Desk) -> BTreeMap<String, (i64, String)> {
    let archive = Archive::open("closed", &desk.at("")).unwrap();
    let mut sums: BTreeMap<String, LineSum> = BTreeMap::new();
    for period in archive.periods() {
        let period = archive.period(period).unwrap();
        for shard in period.shards() {
            for line in period.lines(shard).unwrap() {
                let sum = sums.entry(line.id.to_string()).or_default();
                sum.charges += line.sum.charges;
                sum.amount = sum.amount.plus(line.sum.amount);
            }
        }
    }
    sums.retain(|_, sum| *sum != LineSum::default());
    let shown = |sum: LineSum| (sum.charges, sum.amount.to_string());
    sums.into_iter().map(|(id, sum)| (id, shown(sum))).collect()
}

/// What the last run bills of bill units that are closed: those of the first quarter.
fn billed(desk: &Desk) -> BTreeMap<String, (i64, String)> {
    let lines = desk.snapshot("aggregated").into_iter();
    let closed = lines.filter(|line| text(line, "bill_unit_end") < "2026-04-02");
    closed
        .map(|line| {
            let amount = text(&line, "amount").trim_end_matches('0');
            let amount = amount.trim_end_matches('.').to_owned();
            let charges = line["charges"].as_i64().unwrap();
            (text(&line, "aggregate_id").to_owned(), (charges, amount))
        })
        .collect()
}

/// The archive is the bill, is billed the same again, and has no file that nothing names.
pub(super) fn adds_up(desk: &Desk) {
    let (archived, billed) = (archived(desk), billed(desk));
    assert!(billed.len() > 10);
    assert_eq!(archived, billed);
    replayed(&replay(desk, &[]), Exit::Ok);
    for period in std::fs::read_dir(desk.at("closed/periods")).unwrap() {
        let folder = period.unwrap().path();
        let (named, there) = (named(&folder), names(&folder));
        let unnamed: Vec<&String> = there.difference(&named).collect();
        assert!(unnamed.is_empty(), "{}: {unnamed:?}", folder.display());
    }
}

/// The files of a period but for manifests and what is not whole.
fn names(period: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(period).unwrap();
    let mut names: BTreeSet<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| !name.starts_with("manifest-") && !name.ends_with(".tmp"));
    names
}

/// The files that the manifests of a period name.
fn named(period: &Path) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for entry in std::fs::read_dir(period).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("manifest-") || name.ends_with(".tmp") {
            continue;
        }
        let manifest = std::fs::read_to_string(&path).unwrap();
        let manifest: Value = serde_json::from_str(manifest.lines().next().unwrap()).unwrap();
        for shard in manifest["shards"].as_object().unwrap().values() {
            for kind in ["usage", "lines", "sidecar"] {
                let name = shard[kind]["name"].as_str().unwrap_or_default();
                named.extend(name.rsplit('/').next().map(str::to_owned));
            }
        }
    }
    named
}

#[test]
fn what_changes_behind_the_close_is_an_adjustment() {
    let desk = kept_desk();
    let first = desk.run();
    assert!(first.err.contains("archived [2026-01-01"), "{}", first.err);
    adds_up(&desk);
    let quiet = desk.run();
    let said = |what: &str| ["archived", "adjustment"].iter().any(|w| what.contains(w));
    assert!(!said(&quiet.err), "{}", quiet.err);
    // Late calls of everybody, the pool among them; and some that came before.
    desk.write("calls/c.csv", calls(590..640));
    let late = desk.run();
    assert!(
        late.err.contains("adjustment 1 of archived [2026-01-01"),
        "{}",
        late.err
    );
    adds_up(&desk);
    // One late call of acme, who shares with nobody, on 12 January: one account, one month.
    desk.write(
        "calls/d.csv",
        "id,number,at,zone,seconds\n9999,+1,2026-01-12T00:00:00Z,home,7\n",
    );
    let one = desk.run();
    let told: Vec<&str> = one.err.lines().filter(|line| said(line)).collect();
    assert_eq!(told.len(), 1, "{}", one.err);
    assert!(
        told[0].contains(
            "adjustment 2 of archived [2026-01-01T00:00:00Z, 2026-02-01T00:00:00Z): 1 line"
        ),
        "{told:?}"
    );
    let january = desk.at("closed/periods/20260101T000000Z-20260201T000000Z");
    let sidecars = names(&january).into_iter();
    let of_second: Vec<String> = sidecars
        .filter(|name| name.contains("-0002-") && name.starts_with("sidecar"))
        .collect();
    assert_eq!(of_second.len(), 1, "{of_second:?}");
    adds_up(&desk);
    // A price of the past, and a grant that is carried on.
    let other = CATALOG.replace("price: 0.05", "price: 0.06");
    let other = other.replace("units: 300", "units: 350");
    desk.write("catalog.yaml", other);
    let priced = desk.run();
    assert!(priced.err.contains("adjustment 3"), "{}", priced.err);
    adds_up(&desk);
    // And a price that is gone: what it charged is taken back.
    let without: String = CATALOG
        .lines()
        .filter(|line| !line.contains("id: far"))
        .map(|line| format!("{line}\n"))
        .collect();
    desk.write("catalog.yaml", without);
    assert!(desk.run().err.contains("adjustment 4"));
    adds_up(&desk);
}

#[test]
fn kills_archive_no_period_twice_and_lose_none() {
    let kills = variable("MILLRACE_KILLS", KILLS);
    let seed = u64::from(variable("MILLRACE_SEED", 1));
    let mut dice = Dice(seed);
    let desk = kept_desk();
    let job = desk.at("job.yaml").display().to_string();
    let whole = Instant::now();
    assert_eq!(super::world::desk().run().exit, Exit::Ok);
    let whole = u64::try_from(whole.elapsed().as_millis()).unwrap() + 100;
    let (mut file, mut killed, mut ended, mut cut) = (0, 0, 0, 0);
    while file < FILES || killed < kills {
        if file < FILES || dice.roll(3) == 0 {
            let first = 600 + file * CALLS;
            let again = first.saturating_sub(dice.roll(CALLS));
            desk.write(
                &format!("calls/late-{file:04}.csv"),
                calls(again..first + CALLS),
            );
            file += 1;
        }
        let workers = (1 + dice.roll(3)).to_string();
        let mut process = start(&["run", &job, "--workers", &workers]);
        // One in three ends; half of the kills come when something of the archive is there that
        // nothing names yet.
        let (waits, patience) = match dice.roll(3) {
            0 => (false, Duration::MAX),
            1 => (true, Duration::MAX),
            _ => (false, Duration::from_millis(dice.roll(2 * whole))),
        };
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = process.try_wait().unwrap() {
                break status;
            }
            let at_work = waits && is_cut(&desk);
            if at_work || begun.elapsed() > patience {
                process.kill().unwrap();
                break process.wait().unwrap();
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if status.success() {
            ended += 1;
        } else {
            killed += 1;
            cut += u32::from(is_cut(&desk));
        }
    }
    let last = millrace(&["run", &job, "--workers", "2"]);
    assert_eq!(last.exit, Exit::Ok, "seed {seed}: {}", last.err);
    adds_up(&desk);
    println!("{killed} kills, {cut} of them while archiving, {ended} runs to the end, seed {seed}");
    assert!(cut > 0, "no kill met the archive");
}

/// Whether a period has files that no manifest names.
pub(super) fn is_cut(desk: &Desk) -> bool {
    let periods = std::fs::read_dir(desk.at("closed/periods"));
    let mut folders = periods
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path());
    folders.any(|folder| !names(&folder).is_subset(&named(&folder)))
}

#[test]
fn an_archive_has_one_job() {
    let desk = kept_desk();
    assert_eq!(desk.run().exit, Exit::Ok);
    let before = archived(&desk);
    for (old, new, says) in [
        ("name: calls", "name: texts", "its job is calls, not texts"),
        (
            "time_zone: UTC",
            "time_zone: Europe/Prague",
            "its time zone is UTC",
        ),
        (
            "[zone]",
            "[zone, service]",
            "its billing.aggregate_by is zone, not",
        ),
    ] {
        let other = durable("closed").replace(old, new);
        desk.write("job.yaml", other.replace("folder: state", "folder: other"));
        let refused = desk.run();
        assert_eq!(refused.exit, Exit::Unusable, "{}", refused.err);
        assert!(refused.err.contains(says), "{}", refused.err);
        assert_eq!(archived(&desk), before);
        std::fs::remove_dir_all(desk.at("other")).ok();
    }
}

#[test]
fn cycles_that_never_meet_are_told() {
    let desk = kept_desk();
    // Allowances may be shared by cycles of any kind, accumulators may not.
    let plans = "\
currency: EUR
plans:
  - { list: pool, from: 2026-01-01, allowances: [{ id: minutes, items: [seconds], units: 300 }] }
prices:
  - { item: seconds, price: 0.02 }
  - { list: pool, item: seconds, price: 0.10 }
  - { list: bulk, item: seconds, price: 0.03 }
";
    desk.write("catalog.yaml", plans);
    let accounts = super::world::ACCOUNTS.replace(
        "{ id: dana, currency: EUR }",
        "{ id: dana, currency: EUR, billing: { anniversary: 2026-01-15 } }",
    );
    desk.write("accounts.yaml", accounts);
    let says = "the bill units of \"carl\", \"dana\" are never archived";
    let job = desk.at("job.yaml").display().to_string();
    let checked = millrace(&["check", &job]);
    let told = checked.out + &checked.err;
    assert!(told.contains(says), "{told}");
    let ran = desk.run();
    assert!(ran.err.contains(says), "{}", ran.err);
    // The others are, and nothing of these two.
    let archive = Archive::open("closed", &desk.at("")).unwrap();
    for period in archive.periods() {
        let period = archive.period(period).unwrap();
        assert!(period.find("carl").unwrap().is_none() && period.find("dana").unwrap().is_none());
    }
    assert!(archive.periods().count() > 2);
}
