//! Damage to anything that a job keeps: then it is run with one late record more.
//!
//! ```text
//!  every object: state manifests, journal, what is closed, commands, │ one bit turned, cut, gone,
//!                rules and tables that records were mediated by      │
//!                archive manifests, its files, copies of reference  │ in the place of a neighbour,
//!                changes, snapshots, raw records, progress          │ an older one in its place
//!  every folder: state, outputs, archive                            │ gone, an older copy
//! ```
//!
//! What comes of it is **refused** (and goes on when what was damaged is put back), **told** (exit 1, or by
//! whoever reads the damaged file), or **right**: it comes to the bill, and to changes that add up to it, as if
//! nothing had been damaged. Nothing else may.
//!
//! The short form does one damage to one object of each kind. `MILLRACE_DAMAGE` asks for every damage to so many
//! objects of each, `MILLRACE_SEED` for others, and other bits.

use crate::archive::forget::{DAYS, as_of, desk as archiving_desk, is_the_twins, lines, open};
use crate::archive::world::{self, call, calls};
use crate::durability::bytes;
use millrace::cli::Exit;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, Ended, millrace, rows, standing, totals};
use millrace_tests::kills::variable;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a run keeps.
const FOLDERS: [&str; 3] = ["state", "out", "closed"];

/// Kinds of objects, by what their names have in them.
const KINDS: [(&str, &[&str]); 16] = [
    ("state manifest", &["state/manifest/"]),
    ("journal", &["state/journal/"]),
    ("closed", &["state/closed/"]),
    ("command", &["state/commands/"]),
    ("rules", &["state/inputs/", ".inputs"]),
    ("lookup table", &["state/inputs/", ".table"]),
    ("archive manifest", &["closed/periods/", "/manifest-"]),
    ("sidecar", &["closed/periods/", "/sidecar-"]),
    ("archived usage", &["closed/periods/", "/usage-"]),
    ("archived lines", &["closed/periods/", "/lines-"]),
    ("reference copy", &["closed/reference/"]),
    ("changes", &["out/", "/changes/"]),
    ("snapshot", &["out/", "/snapshot/"]),
    ("snapshot as text", &["out/", "/snapshot."]),
    ("raw records", &["out/raw/"]),
    ("progress", &["out/_progress/"]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    Flip,
    Cut,
    Delete,
    Swap,
    Older,
}

const DAMAGES: [Damage; 5] = [
    Damage::Flip,
    Damage::Cut,
    Damage::Delete,
    Damage::Swap,
    Damage::Older,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Refused,
    Told,
    Right,
}

/// Files by their names below the desk.
type Files = BTreeMap<String, Vec<u8>>;

/// A job that has archived, forgotten and adjusted, as it was before and as it is.
struct World {
    desk: Desk,
    older: Files,
    whole: Files,
    /// What the late record brings the bill to, by the rule and by another.
    expected: [Bill; 2],
}

type Bill = BTreeMap<String, (Value, Value)>;

/// The rule, and another: what it says of open records is found in the raw ones. It asks a table for what a record
/// says itself.
fn rule(other: bool) -> String {
    let asks =
        world::MEDIATION.replace("zone: zone }", "zone: \"lookup('zones', 'name', zone)\" }");
    match other {
        true => asks.replace("seconds: seconds }", "seconds: seconds + 1 }"),
        false => asks,
    }
}

const TABLES: &str = "lookups: { zones: { file: zones.csv, key: zone } }\n";
const ZONES: &str = "zone,name\nhome,home\nfar,far\n";

impl World {
    fn new() -> Self {
        let desk = archiving_desk();
        as_of(&desk, DAYS[0]);
        let more = std::fs::read_to_string(desk.at("job.yaml")).unwrap();
        let more = more + TABLES;
        let twin = std::fs::read_to_string(desk.at("twin.yaml")).unwrap();
        desk.write("twin.yaml", twin + TABLES);
        desk.write("zones.csv", ZONES);
        desk.write("mediation.yaml", rule(false));
        let with_text = "outputs: { folder: 'out', csv: true }";
        let job = |day: &str| {
            let now = more.replace(DAYS[0], day);
            desk.write(
                "job.yaml",
                now.replace("outputs: { folder: 'out' }", with_text),
            );
        };
        job(DAYS[0]);
        let runs = |ended: Ended| {
            assert!(
                matches!(ended.exit, Exit::Ok | Exit::Findings),
                "{}",
                ended.err
            );
        };
        runs(desk.run());
        job(DAYS[1]);
        desk.write("calls/c.csv", calls(590..640));
        runs(desk.run());
        let older = kept(&desk);
        // What is archived stays as the table before made it.
        desk.write("zones.csv", ZONES.to_owned() + "near,near\n");
        desk.write("calls/d.csv", calls(630..700));
        runs(desk.run());
        // Told and not applied yet.
        let path = desk.at("job.yaml").display().to_string();
        for command in ["pause", "resume"] {
            assert_eq!(millrace(&[command, &path, "switch"]).exit, Exit::Ok);
        }
        let whole = kept(&desk);
        assert!(open(&desk) < 600);
        let mut world = Self {
            desk,
            older,
            whole,
            expected: Default::default(),
        };
        for other in [false, true] {
            world.begin(other);
            let ended = world.desk.run();
            runs(ended);
            world.expected[usize::from(other)] = lines(&world.desk, "out");
        }
        world.begin(false);
        let ended = world.desk.run();
        // The twin has the day of the desk.
        let twin = std::fs::read_to_string(world.desk.at("twin.yaml")).unwrap();
        world
            .desk
            .write("twin.yaml", twin.replace(DAYS[0], DAYS[1]));
        is_the_twins(&world.desk, &ended);
        assert_ne!(world.expected[0], world.expected[1]);
        assert!(!totals(&ended.summary()).is_empty());
        world
    }

    /// Puts everything back, with a late record of a closed bill unit, and one that was archived.
    fn begin(&self, other: bool) {
        put(&self.desk, &self.whole, &FOLDERS);
        self.desk.write("mediation.yaml", rule(other));
        let late = "id,number,at,zone,seconds\n9999,+1,2026-01-12T00:00:00Z,home,7\n";
        self.desk.write("calls/z.csv", late.to_owned() + &call(1));
    }

    /// What comes of damage to these objects, which is done; `table` is what reads them.
    fn outcome(
        &self,
        objects: &[&str],
        other: bool,
        table: Option<&str>,
    ) -> Result<Outcome, String> {
        let ended = self.desk.run();
        match ended.exit {
            Exit::Unusable => self.goes_on(&ended, objects, other),
            Exit::Ok | Exit::Findings => self.is_right_or_told(&ended, objects, other, table),
            Exit::Lost | Exit::Bug => Err(format!("is no end of such a run: {}", ended.err)),
        }
    }

    /// A run that was refused goes on when what was damaged is put back, as it says.
    fn goes_on(&self, refused: &Ended, objects: &[&str], other: bool) -> Result<Outcome, String> {
        if !refused.err.to_lowercase().contains("put ") {
            return Err(format!("does not say what to do: {}", refused.err));
        }
        // Whoever tries once more is told the same.
        let again = self.desk.run();
        if again.exit != Exit::Unusable {
            return Err(format!("is refused once alone: {}", refused.err));
        }
        for object in objects {
            match self.whole.get(*object) {
                Some(content) => self.desk.write(object, content),
                None => put(&self.desk, &self.whole, &[*object]),
            }
        }
        let ended = self.desk.run();
        match ended.exit {
            Exit::Ok | Exit::Findings if self.bill() == self.expected[usize::from(other)] => {
                self.adds_up()?;
                Ok(Outcome::Refused)
            }
            _ => Err(format!(
                "put back, it does not go on: {} behind {}",
                ended.err, refused.err
            )),
        }
    }

    fn bill(&self) -> Bill {
        lines(&self.desk, "out")
    }

    fn is_right_or_told(
        &self,
        ended: &Ended,
        objects: &[&str],
        other: bool,
        table: Option<&str>,
    ) -> Result<Outcome, String> {
        let says = |text: &str| ended.exit == Exit::Findings && ended.err.contains(text);
        // Its records stay as the rule before made them; and what an operator said is not done.
        if says("cannot be mediated again") || says("this is no whole command") {
            return Ok(Outcome::Told);
        }
        if self.bill() != self.expected[usize::from(other)] {
            return Err(format!("billed otherwise without a word: {}", ended.err));
        }
        if says("does not add up") {
            return Ok(Outcome::Told);
        }
        if objects.iter().any(|object| object.ends_with(".table")) {
            return self.tables_are_told();
        }
        if let Some(table) = table {
            let path = self.desk.at("job.yaml").display().to_string();
            let read = millrace(&["query", &path, &format!("SELECT count(*) FROM {table}")]);
            if read.exit != Exit::Ok {
                return match read.err.contains("is damaged") {
                    true => Ok(Outcome::Told),
                    false => Err(format!("whoever reads it is not told: {}", read.err)),
                };
            }
        }
        self.adds_up()?;
        Ok(Outcome::Right)
    }

    /// Whoever asks by which table an archived record was mediated is told that, or that it cannot be read.
    fn tables_are_told(&self) -> Result<Outcome, String> {
        let path = self.desk.at("job.yaml").display().to_string();
        let told = millrace(&["explain", &path, "a.csv:2", "--output", "json"]);
        let read: Value = serde_json::from_str(&told.out).map_err(|_| told.err)?;
        let table = &read["rule"]["tables"][0];
        let rows = serde_json::json!([["home", "home"], ["far", "far"]]);
        let problem = table["problem"].as_str().unwrap_or_default();
        match problem.contains("put it back from a copy") {
            true => Ok(Outcome::Told),
            false if table["content"] == rows => Ok(Outcome::Right),
            false => Err(format!("another table is told: {table}")),
        }
    }

    fn adds_up(&self) -> Result<(), String> {
        for output in ["aggregated", "suspense"] {
            let there = |form: &str| standing(rows(&self.desk.at(&format!("out/{output}/{form}"))));
            if there("changes") != there("snapshot") {
                return Err(format!("changes of {output} do not add up, without a word"));
            }
        }
        Ok(())
    }

    fn write(&self, object: &str, content: &[u8]) {
        std::fs::write(self.desk.at(object), content).unwrap();
    }

    /// Does damage to an object; returns which, nothing if it cannot be done to this one.
    fn damage(
        &self,
        damage: Damage,
        of_kind: &[&String],
        at: usize,
        dice: &mut Dice,
    ) -> Vec<String> {
        let object = of_kind[at];
        let content = &self.whole[object];
        let before = at.checked_sub(1).map(|before| of_kind[before]);
        match (damage, before) {
            (Damage::Flip, _) if !content.is_empty() => {
                let mut torn = content.clone();
                let place = dice.below(content.len());
                torn[place] ^= 1 << dice.roll(8);
                self.write(object, &torn);
            }
            (Damage::Cut, _) if !content.is_empty() => {
                let left = dice.below(content.len());
                self.write(object, &content[..left]);
            }
            (Damage::Delete, _) => std::fs::remove_file(self.desk.at(object)).unwrap(),
            (Damage::Swap, Some(before)) if self.whole[before] != *content => {
                self.write(object, &self.whole[before]);
                self.write(before, content);
                return vec![object.clone(), before.clone()];
            }
            (Damage::Older, Some(before)) if self.whole[before] != *content => {
                self.write(object, &self.whole[before]);
            }
            _ => return Vec::new(),
        }
        vec![object.clone()]
    }
}

/// All files of what a job keeps.
fn kept(desk: &Desk) -> Files {
    let start = format!("{}/", desk.at("").display()).replace("//", "/");
    let files = FOLDERS.iter().flat_map(|folder| bytes(&desk.at(folder)));
    let below = |name: String| name.strip_prefix(&start).unwrap_or(&name).to_owned();
    files
        .map(|(name, content)| (below(name), content))
        .collect()
}

/// Puts folders back as they were.
fn put(desk: &Desk, files: &Files, folders: &[&str]) {
    for folder in folders {
        remove(&desk.at(folder));
        let own = format!("{folder}/");
        for (name, content) in files.iter().filter(|(name, _)| name.starts_with(&own)) {
            let place = desk.at(name);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(place, content).unwrap();
        }
    }
}

fn remove(folder: &Path) {
    if folder.exists() {
        std::fs::remove_dir_all(folder).unwrap();
    }
}

/// The table that a file of changes belongs to.
fn table(kind: &str, object: &str) -> Option<String> {
    let output = object.split('/').nth(1)?;
    (kind == "changes").then(|| format!("{output}_changes"))
}

/// What cannot be found: the last command that waits was never told then, and the others of its kind say
/// nothing of it.
fn cannot_be_found(kind: &str, damage: Damage, at: usize, of_kind: &[&String]) -> bool {
    kind == "command" && damage == Damage::Delete && at + 1 == of_kind.len()
}

/// What came of damage to objects of a kind.
type Met = BTreeMap<(&'static str, Damage, Outcome), u32>;

#[test]
fn no_damage_is_silent() {
    let wanted = usize::try_from(variable("MILLRACE_DAMAGE", 0)).unwrap();
    let seed = variable("MILLRACE_SEED", 1);
    let mut dice = Dice(u64::from(seed));
    let world = World::new();
    let (mut met, mut silent) = (Met::new(), Vec::new());
    for (turn, (kind, parts)) in KINDS.into_iter().enumerate() {
        let is_of_kind = |name: &&String| {
            let first = parts.first().is_some_and(|part| name.starts_with(part));
            first && parts.iter().all(|part| name.contains(part))
        };
        let of_kind: Vec<&String> = world.whole.keys().filter(is_of_kind).collect();
        assert!(!of_kind.is_empty(), "the job keeps no {kind}");
        let mut damages = DAMAGES;
        damages.rotate_left((turn + usize::try_from(seed).unwrap()) % DAMAGES.len());
        for damage in damages {
            // The next run reads the last one, where it does not read all.
            let mut places: Vec<usize> = (0..of_kind.len() - 1).collect();
            places.sort_by_cached_key(|_| dice.number());
            places.insert(0, of_kind.len() - 1);
            let mut left = wanted.max(1);
            for at in places {
                if left == 0 || cannot_be_found(kind, damage, at, &of_kind) {
                    continue;
                }
                let other = kind == "raw records";
                world.begin(other);
                let damaged = world.damage(damage, &of_kind, at, &mut dice);
                let Some(first) = damaged.first() else {
                    continue;
                };
                left -= 1;
                let table = table(kind, first);
                let objects: Vec<&str> = damaged.iter().map(String::as_str).collect();
                match world.outcome(&objects, other, table.as_deref()) {
                    Ok(outcome) => *met.entry((kind, damage, outcome)).or_default() += 1,
                    Err(problem) => {
                        silent.push(format!("{kind}, {damage:?} of {objects:?}: {problem}"));
                    }
                }
            }
            if wanted == 0 && left == 0 {
                break;
            }
        }
    }
    for ((kind, damage, outcome), count) in &met {
        println!("{kind:18} {damage:?}: {count} {outcome:?}");
    }
    let count = silent.len();
    assert!(silent.is_empty(), "{count} silent:\n{}", silent.join("\n"));
    let kinds: BTreeSet<&str> = met.keys().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds.len(), KINDS.len());
    let outcomes: BTreeSet<Outcome> = met.keys().map(|(.., outcome)| *outcome).collect();
    assert_eq!(outcomes.len(), 3, "{met:?}");
}

#[test]
fn folders_that_are_gone_or_older_are_refused_and_put_back() {
    let world = World::new();
    let mut met = BTreeMap::new();
    for folders in [
        &["state"][..],
        &["out"],
        &["closed"],
        &["state", "out"],
        &["state", "closed"],
        &["out", "closed"],
        &FOLDERS,
    ] {
        for gone in [true, false] {
            world.begin(false);
            for folder in folders {
                match gone {
                    true => remove(&world.desk.at(folder)),
                    false => put(&world.desk, &world.older, &[*folder]),
                }
            }
            let outcome = world.outcome(folders, false, None);
            let outcome = outcome.unwrap_or_else(|problem| panic!("{folders:?}: {problem}"));
            met.insert((folders, gone), outcome);
        }
    }
    for ((folders, gone), outcome) in met {
        let all_of = |others: &[&str]| others.iter().all(|other| folders.contains(other));
        // All of an older job is that job, and goes on from there. Without anything that was forgotten, what
        // the sources have is read anew.
        let expected = match all_of(&FOLDERS) || gone && all_of(&["state", "closed"]) {
            true => Outcome::Right,
            false => Outcome::Refused,
        };
        assert_eq!(
            outcome,
            expected,
            "{folders:?} {}",
            if gone { "gone" } else { "older" }
        );
    }
}

#[test]
fn an_archive_that_is_named_otherwise_is_refused() {
    let world = World::new();
    world.begin(false);
    let job = std::fs::read_to_string(world.desk.at("job.yaml")).unwrap();
    world
        .desk
        .write("job.yaml", job.replace("'closed'", "'elsewhere'"));
    let refused = world.desk.run();
    assert_eq!(refused.exit, Exit::Unusable);
    let says = "it has nothing of [2026-01-01T00:00:00Z, 2026-02-01T00:00:00Z)";
    assert!(refused.err.contains(says), "{}", refused.err);
    // It is where the job says now, as the message has it.
    std::fs::rename(world.desk.at("closed"), world.desk.at("elsewhere")).unwrap();
    assert!(matches!(world.desk.run().exit, Exit::Ok | Exit::Findings));
    assert_eq!(world.bill(), world.expected[0]);
    // Not named at all.
    let unnamed = job.lines().filter(|line| !line.starts_with("archive:"));
    let unnamed: String = unnamed.map(|line| format!("{line}\n")).collect();
    world.desk.write("job.yaml", unnamed);
    let refused = world.desk.run();
    assert_eq!(refused.exit, Exit::Unusable);
    assert!(
        refused
            .err
            .contains("write `archive: { folder: … }` as it was"),
        "{}",
        refused.err
    );
}

/// Commits that nobody knows of any more: what they told stands among the outputs.
#[test]
fn newest_manifests_that_are_gone_are_refused_or_made_again() {
    let world = World::new();
    let names = || {
        let entries = std::fs::read_dir(world.desk.at("state/manifest")).unwrap();
        let mut names: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    let mut met = BTreeSet::new();
    for gone in 1..=6 {
        world.begin(false);
        let newest: Vec<PathBuf> = names().into_iter().rev().take(gone).collect();
        newest
            .iter()
            .for_each(|path| std::fs::remove_file(path).unwrap());
        let names = newest
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap());
        let names: Vec<String> = names.map(|name| format!("state/manifest/{name}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let outcome = world.outcome(&names, false, None);
        met.insert(outcome.unwrap_or_else(|problem| panic!("{gone} gone: {problem}")));
    }
    assert!(met.contains(&Outcome::Refused), "{met:?}");
}

#[test]
fn outputs_have_one_job_and_one_state() {
    let world = World::new();
    world.begin(false);
    let before = kept(&world.desk);
    let job = std::fs::read_to_string(world.desk.at("job.yaml")).unwrap();
    let own = job.replace("folder: state,", "folder: 'other-state',");
    let own = own.replace("'closed'", "'other-closed'");
    // Another job.
    world
        .desk
        .write("job.yaml", own.replace("name: calls", "name: texts"));
    let refused = world.desk.run();
    assert_eq!(refused.exit, Exit::Unusable);
    for says in [
        "they are of job \"calls\", not \"texts\"",
        "an `outputs.folder` of its own",
    ] {
        assert!(refused.err.contains(says), "{}", refused.err);
    }
    assert!(before == kept(&world.desk), "something was touched");
    // Without state, too.
    let plain = own.replace("name: calls", "name: texts");
    let plain = plain
        .lines()
        .filter(|line| !line.starts_with("durability:"));
    let plain: String = plain.map(|line| format!("{line}\n")).collect();
    world.desk.write("job.yaml", plain);
    let refused = world.desk.run();
    assert_eq!(refused.exit, Exit::Unusable, "{}", refused.err);
    assert!(before == kept(&world.desk), "something was touched");
    // The same job begun anew beside its state writes its outputs anew.
    world.desk.write("job.yaml", &own);
    let anew = world.desk.run();
    assert!(
        matches!(anew.exit, Exit::Ok | Exit::Findings),
        "{}",
        anew.err
    );
    assert!(anew.err.contains("everything is read anew"), "{}", anew.err);
    assert_eq!(world.bill(), world.expected[0]);
    world.adds_up().unwrap();
    // And once more, when the sources have less: that is not as it was.
    for folder in ["other-state", "other-closed"] {
        remove(&world.desk.at(folder));
    }
    let gone = std::fs::read(world.desk.at("calls/b.csv")).unwrap();
    std::fs::remove_file(world.desk.at("calls/b.csv")).unwrap();
    let fewer = world.desk.run();
    assert_eq!(fewer.exit, Exit::Findings, "{}", fewer.err);
    assert!(
        fewer.err.contains("what the sources do not have any more"),
        "{}",
        fewer.err
    );
    world.desk.write("calls/b.csv", gone);
    // They are not those of the first state any more.
    world.desk.write("job.yaml", &job);
    let refused = world.desk.run();
    assert_eq!(refused.exit, Exit::Unusable, "{}", refused.err);
    assert!(
        refused.err.contains("another state of the job"),
        "{}",
        refused.err
    );
    // As it says: with empty folders, everything is read from its beginning.
    for folder in FOLDERS {
        remove(&world.desk.at(folder));
    }
    let ended = world.desk.run();
    assert!(
        matches!(ended.exit, Exit::Ok | Exit::Findings),
        "{}",
        ended.err
    );
    assert_eq!(world.bill(), world.expected[0]);
    world.adds_up().unwrap();
}
