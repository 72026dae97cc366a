//! Everything may change while a job stands and while it runs: what it keeps, and goes on from, comes to what a
//! job comes to that begins with all of it.
//!
//! A seed makes a job and a history: rules, lookup tables, prices, plans, accounts, who has a service, the clock,
//! settings of outputs, archive and epochs, and the source's name change; names come that nobody had before; files
//! come late by their names, grow and are sent again; records are corrected. Runs are of one to three workers, watch or
//! not, and some are killed. What stands is compared with a run of the same files without state, and with what the
//! changes of each output add up to. No output has a key in the place of a name.
//!
//! What decides by arrival is not compared where arrival differs by design: which of several equal copies holds
//! (their contents are compared, not their places). So is what stays by design: files that are gone, records of closed
//! bill units under other rules, commands. Histories with an archive compare bill, balances, suspense, what became
//! of each record, and counts.
//!
//! `MILLRACE_HISTORIES` asks for more than the few of the short form, `MILLRACE_SEED` for others. One that fails
//! prints its steps, and its seed repeats them; only the moments of kills and of what is saved under a run differ.

use millrace::cli::Exit;
use millrace::interrupt::Stop;
use millrace::listener::{ChangeReport, Listener};
use millrace::metrics::Metrics;
use millrace::run::{RunOptions, run};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, instant, millrace, rows, same_rows, standing, totals};
use millrace_tests::kills::{start, variable};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Histories of the short form: two of each kind, one of all without state.
const HISTORIES: u32 = 8;
/// Runs of a history.
const RUNS: usize = 4;
const SERVICES: usize = 4;
/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a watching run is given to hear of what was saved: it is no mistake if it does not.
const NOTICE: Duration = Duration::from_secs(2);
const OUTPUTS: [&str; 8] = [
    "monetised",
    "impacts",
    "activity",
    "notices",
    "suspense",
    "aggregated",
    "raw_status",
    "balances",
];
const ZONES: [&str; 3] = ["near", "far", "off"];
/// Days that the clock may tell; where bill units close it never goes back.
const DAYS: [&str; 4] = ["2026-02-05", "2026-02-20", "2026-03-20", "2026-04-20"];

/// What kind of history it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mix {
    /// Each record comes once: all is compared, to the place of each record.
    Once,
    /// Some come again, in files of their own or others.
    Copies,
    /// Some are amended or taken out, or the greatest holds.
    Corrections,
    /// Bill units close, and are adjusted.
    Archive,
}

const MIXES: [Mix; 4] = [Mix::Once, Mix::Copies, Mix::Corrections, Mix::Archive];

/// Who has a service, from a day on.
#[derive(Clone)]
struct Holder {
    account: String,
    subscription: String,
    group: Option<String>,
    list: &'static str,
    from: &'static str,
    to: Option<&'static str>,
}

/// A job whose files change.
struct World {
    mix: Mix,
    /// Whether it keeps state; without, it only watches.
    keeps: bool,
    desk: Desk,
    dice: Dice,
    steps: Vec<String>,
    named: u64,
    /// What the rule says of which record holds, for ever.
    holds: &'static str,
    dimensions: &'static str,
    // The rule.
    item: String,
    attribute: String,
    factor: u64,
    filter: &'static str,
    identity: &'static str,
    service: &'static str,
    time: &'static str,
    // The table.
    table: usize,
    // Catalog and accounts.
    price: String,
    tenths: u64,
    split: Option<&'static str>,
    fee: Option<(String, u64)>,
    allowance: Option<(String, u64)>,
    least: Option<u64>,
    accounts: BTreeMap<String, &'static str>,
    holders: [Vec<Holder>; SERVICES],
    // The job.
    source: String,
    day: usize,
    settings: String,
    after: &'static str,
    // Usage: the records there are, the next rank, and the files with their texts.
    next: u64,
    rank: u64,
    files: BTreeMap<String, String>,
}

const HEAD: &str = "id,number,at,zone,seconds,kind,rank\n";

/// A record: each has a time of its own, and its contents follow from its number and how often it was amended.
fn row(id: u64, content: u64, kind: &str, rank: u64) -> String {
    let mut of_id = Dice(id * 1_000 + content);
    let at = instant(1_767_225_600 + of_id.roll(90) * 86_400 + id);
    let (service, zone) = (of_id.below(SERVICES + 1), of_id.pick(&ZONES));
    let seconds = match of_id.roll(25) {
        // Nothing that cannot be read decides which record of several holds.
        0 if rank == 0 && kind.is_empty() => "x".to_owned(),
        _ => of_id.roll(100).to_string(),
    };
    format!("c{id},+{service},{at},{zone},{seconds},{kind},{rank}\n")
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mix = MIXES[usize::try_from(seed).unwrap() % MIXES.len()];
        let marked = mix == Mix::Corrections || mix == Mix::Archive && dice.one_in(2);
        let holds = match marked {
            true => *dice.pick(&["kind: kind\nversion: rank\n", "keep: greatest(rank)\n"]),
            false => "",
        };
        let dimensions = *dice.pick(&["service, subscription, price", "service", "price", ""]);
        let mut world = Self {
            mix,
            keeps: !seed.is_multiple_of(8),
            desk: Desk::new(&[]),
            dice,
            steps: Vec::new(),
            named: 0,
            holds,
            dimensions,
            item: "item-0".to_owned(),
            attribute: "attribute-0".to_owned(),
            factor: 1,
            filter: "seconds <> 13",
            identity: "id",
            service: "number",
            time: "at",
            table: 0,
            price: "price-0".to_owned(),
            tenths: 5,
            split: None,
            fee: None,
            allowance: None,
            least: None,
            accounts: BTreeMap::new(),
            holders: Default::default(),
            source: "switch".to_owned(),
            day: if mix == Mix::Archive { 0 } else { 2 },
            settings: String::new(),
            after: "10d",
            next: 0,
            rank: 0,
            files: BTreeMap::new(),
        };
        for service in 0..SERVICES - 1 {
            let holder = world.holder("2026-01-01");
            world.holders[service].push(holder);
        }
        world.receive();
        world.save();
        world
            .steps
            .push(format!("{mix:?} {holds:?} by {dimensions:?}"));
        world
    }

    /// A name that nobody had before.
    fn name(&mut self, of: &str) -> String {
        self.named += 1;
        format!("{of}-{}", self.named)
    }

    fn holder(&mut self, from: &'static str) -> Holder {
        let known: Vec<String> = self.accounts.keys().cloned().collect();
        let account = match known.is_empty() || self.dice.one_in(2) {
            true => {
                let account = self.name("account");
                self.accounts.insert(account.clone(), "");
                account
            }
            false => self.dice.pick(&known).clone(),
        };
        Holder {
            account,
            subscription: self.name("subscription"),
            group: self.dice.one_in(3).then(|| self.name("group")),
            list: self.dice.pick::<&str>(&["standard", "standard", "flat"]),
            from,
            to: None,
        }
    }

    /// Rows that come: new ones, and what the history has besides.
    fn some(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..2 + self.dice.roll(25) {
            let known = self.dice.roll(self.next.max(1));
            let corrected = !self.holds.is_empty() && self.dice.one_in(4);
            text += &match () {
                () if corrected => {
                    self.rank += 1;
                    let content = 1 + self.dice.roll(3);
                    let kind = match self.holds.starts_with("kind") {
                        true => *self.dice.pick(&["amend", "amend", "void"]),
                        false => "",
                    };
                    row(known, content, kind, self.rank)
                }
                () if self.mix != Mix::Once && self.dice.one_in(6) => row(known, 0, "", 0),
                () => {
                    self.next += 1;
                    row(self.next - 1, 0, "", 0)
                }
            };
        }
        text
    }

    /// Usage comes: in a new file, in one that is late by its name, in one that grows, or once more.
    fn receive(&mut self) {
        let number = self.files.len();
        let known: Vec<String> = self.files.keys().cloned().collect();
        let (name, text) = match self.dice.below(6) {
            0 if !known.is_empty() => {
                let name = self.dice.pick(&known).clone();
                let text = self.files[&name].clone() + &self.some();
                (name, text)
            }
            1 if !known.is_empty() && self.mix != Mix::Once => {
                let again = self.dice.pick(&known).clone();
                (
                    format!("usage/z-{number:03}.csv"),
                    self.files[&again].clone(),
                )
            }
            2 => (
                format!("usage/a-{number:03}.csv"),
                HEAD.to_owned() + &self.some(),
            ),
            _ => (
                format!("usage/m-{number:03}.csv"),
                HEAD.to_owned() + &self.some(),
            ),
        };
        self.steps
            .push(format!("{name} of {} rows", text.lines().count() - 1));
        self.files.insert(name, text);
    }

    /// Something changes, and is saved.
    fn step(&mut self) {
        let archived = self.mix == Mix::Archive;
        let service = self.dice.below(SERVICES);
        let kinds: &[usize] = match archived {
            // Closed records stay as their rule made them, so with an archive rules, tables and names stay.
            true => &[0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 10],
            false => &[0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        };
        let told = match *self.dice.pick(kinds) {
            0 => {
                self.receive();
                String::new()
            }
            1 => {
                self.holders[service].clear();
                format!("nobody has +{service}")
            }
            2 => {
                let holder = self.holder("2026-01-01");
                let told = format!("{} has +{service}", holder.account);
                self.holders[service] = vec![holder];
                told
            }
            3 => {
                let from =
                    *self
                        .dice
                        .pick(&["2026-01-20", "2026-02-01", "2026-02-14", "2026-03-01"]);
                self.holders[service].retain(|held| held.from < from);
                if let Some(last) = self.holders[service].last_mut() {
                    last.to = Some(from);
                }
                let holder = self.holder(from);
                let told = format!("{} has +{service} from {from}", holder.account);
                self.holders[service].push(holder);
                told
            }
            4 => {
                let held = self.holders.iter().flatten();
                let held: BTreeSet<String> = held.map(|held| held.account.clone()).collect();
                self.accounts.retain(|account, _| held.contains(account));
                "accounts that hold nothing leave".to_owned()
            }
            5 => {
                self.tenths = 1 + self.dice.roll(9);
                let days = [None, Some("2026-01-15"), Some("2026-02-10")];
                self.split = *self.dice.pick(&days);
                format!("prices by {}, another from {:?}", self.tenths, self.split)
            }
            6 => {
                let fee = (self.name("fee"), 1 + self.dice.roll(5));
                self.fee = self.dice.one_in(2).then_some(fee);
                format!("fee {:?}", self.fee)
            }
            7 => {
                let allowance = (self.name("allowance"), 100 + self.dice.roll(300));
                self.allowance = self.dice.one_in(3).then_some(allowance);
                format!("allowance {:?}", self.allowance)
            }
            8 => {
                self.least = self.dice.one_in(2).then_some(10 + self.dice.roll(50));
                format!("least {:?}", self.least)
            }
            9 => {
                self.day = match archived {
                    true => (self.day + 1).min(DAYS.len() - 1),
                    false => self.dice.below(DAYS.len()),
                };
                if archived && self.dice.one_in(3) {
                    self.after = *self.dice.pick(&["3d", "10d", "20d, adjust: 1s"]);
                }
                format!("clock {}, after {}", DAYS[self.day], self.after)
            }
            10 => {
                let rows = *self.dice.pick(&[3, 40, 1_000]);
                let form = *self
                    .dice
                    .pick(&["", ", csv: true", ", aggregated: { json: true }"]);
                self.settings = format!("{rows} }}{form}");
                if self.dice.one_in(2) {
                    self.source = self.name("source");
                }
                format!("settings {:?}, source {}", self.settings, self.source)
            }
            11 => {
                self.item = self.name("item");
                self.price = self.name("price");
                format!("{} {}", self.item, self.price)
            }
            12 => {
                self.attribute = self.name("attribute");
                self.attribute.clone()
            }
            13 => {
                self.factor = 1 + self.dice.roll(3);
                self.filter =
                    *self
                        .dice
                        .pick(&["seconds <> 13", "seconds < 40", "seconds % 7 <> 1"]);
                format!("rule times {} where {}", self.factor, self.filter)
            }
            14 => {
                let moved = "\"case when seconds % 5 = 0 then '+1' else number end\"";
                self.service = *self.dice.pick(&["number", "number", moved]);
                self.time = *self.dice.pick(&["at", "at", "\"at + interval '1 month'\""]);
                self.identity = match self.holds {
                    "" => *self.dice.pick(&["id", "id, number"]),
                    _ => "id",
                };
                format!("rule {} {} [{}]", self.service, self.time, self.identity)
            }
            _ => {
                self.table = self.dice.below(4);
                format!("table {}", self.table)
            }
        };
        if !told.is_empty() {
            self.steps.push(told);
        }
        self.save();
    }

    fn job(&self, out: &str, kept: bool) -> String {
        let (source, day) = (&self.source, DAYS[self.day]);
        let settings = match self.settings.as_str() {
            "" => "40 }",
            settings => settings,
        };
        let (epoch, forms) = settings.split_once('}').unwrap();
        let was = if source == "switch" {
            ""
        } else {
            "was: switch, "
        };
        let mut job = format!(
            "name: calls\ntime_zone: UTC\nclock: {day}\nsources:\n  - {{ name: {source}, {was}platform: switch, \
             service_type: voice, path: usage, mediation: mediation.yaml }}\ncatalog: [catalog.yaml]\n\
             accounts: [accounts.yaml]\nlookups: {{ zones: {{ file: zones.csv, key: zone }} }}\n\
             billing: {{ aggregate_by: [{}] }}\nepoch: {{ rows: {epoch}}}\noutputs: {{ folder: {out}{forms} }}\n",
            self.dimensions
        );
        if kept {
            job += "durability: { folder: state, interval: 20ms }\n";
            if self.mix == Mix::Archive {
                job += &format!("archive: {{ folder: closed, after: {} }}\n", self.after);
            }
        }
        job
    }

    fn catalog(&self) -> String {
        let item = &self.item;
        let mut catalog =
            "currency: EUR\nplans:\n  - list: standard\n    accumulators:\n".to_owned();
        catalog += &format!(
            "      - {{ id: total, items: [{item}] }}\n      - {{ id: spent, counts: money }}\n"
        );
        if let Some((id, units)) = &self.allowance {
            catalog += &format!(
                "    allowances: [{{ id: {id}, units: {units}, items: [{item}], rollover_cycles: 1, thresholds: [50] }}]\n"
            );
        }
        if let Some(least) = self.least {
            catalog += &format!(
                "    commitments: [{{ id: least, accumulator: spent, counts: money, amount: {least} }}]\n"
            );
        }
        if let Some((fee, amount)) = &self.fee {
            catalog +=
                &format!("    charges: [{{ item: {fee}, amount: {amount}, when: advance }}]\n");
        }
        let (price, attribute, tenths) = (&self.price, &self.attribute, self.tenths);
        catalog += &format!(
            "prices:\n  - {{ id: {price}, list: standard, item: {item}, model: graduated, by: total, \
             tiers: [{{ price: 0.{tenths} }}, {{ from: 200, price: 0.0{tenths} }}] }}\n  \
             - {{ id: {price}-far, list: flat, item: {item}, when: {{ {attribute}: abroad }}, price: 2.{tenths} }}\n"
        );
        catalog += &match self.split {
            None => format!(
                "  - {{ id: {price}-home, list: flat, item: {item}, when: {{ {attribute}: home }}, price: 1 }}\n"
            ),
            Some(day) => format!(
                "  - {{ id: {price}-home, list: flat, item: {item}, when: {{ {attribute}: home }}, price: 1, to: {day} }}\n  \
                 - {{ id: {price}-then, list: flat, item: {item}, when: {{ {attribute}: home }}, price: 3, from: {day} }}\n"
            ),
        };
        catalog
    }

    fn accounts(&self) -> String {
        let section = |name: &str, rows: String| match rows.as_str() {
            "" => format!("{name}: []\n"),
            _ => format!("{name}:\n{rows}"),
        };
        let (mut accounts, mut subscriptions) = (String::new(), String::new());
        for (account, billing) in &self.accounts {
            writeln!(accounts, "  - {{ id: {account}, currency: EUR{billing} }}").unwrap();
        }
        for (service, held) in self.holders.iter().enumerate() {
            for held in held {
                let group = held.group.as_ref().map(|group| format!("group: {group}, "));
                let to = held.to.map(|to| format!("to: {to}, "));
                writeln!(
                    subscriptions,
                    "  - {{ id: {}, account: {}, {}price_lists: [{}], from: {}, {}service_type: voice, \
                     services: [\"+{service}\"] }}",
                    held.subscription,
                    held.account,
                    group.unwrap_or_default(),
                    held.list,
                    held.from,
                    to.unwrap_or_default()
                )
                .unwrap();
            }
        }
        section("accounts", accounts) + &section("subscriptions", subscriptions)
    }

    /// Writes what is not as it was.
    fn save(&self) {
        let (item, attribute) = (&self.item, &self.attribute);
        let mediation = format!(
            "columns: {{ seconds: bigint, at: timestamp, rank: bigint }}\nwhere: {}\nidentity: [{}]\nservice: {}\n\
             time: {}\nattributes: {{ {attribute}: \"lookup('zones', 'region', zone)\" }}\n\
             charges: {{ {item}: seconds * {} }}\n{}",
            self.filter, self.identity, self.service, self.time, self.factor, self.holds
        );
        let table = [
            "near,home\nfar,abroad\n",
            "near,abroad\nfar,abroad\n",
            "near,home\n",
            "near,home\nfar,home\noff,abroad\n",
        ][self.table];
        let files = [
            ("zones.csv", format!("zone,region\n{table}")),
            ("mediation.yaml", mediation),
            ("catalog.yaml", self.catalog()),
            ("accounts.yaml", self.accounts()),
            ("job.yaml", self.job("out", self.keeps)),
            ("twin.yaml", self.job("twin", false)),
        ];
        let files = files.iter().map(|(name, text)| (*name, text));
        let usage = self.files.iter().map(|(name, text)| (name.as_str(), text));
        for (name, text) in files.chain(usage) {
            let held = std::fs::read_to_string(self.desk.at(name));
            if held.map_or(true, |held| held != *text) {
                self.desk.write(name, text);
            }
        }
    }

    /// Runs the job in this process; while it watches, some things change.
    fn runs(&mut self, watch: bool) {
        let workers = 1 + self.dice.below(3);
        let word = if watch { "watch" } else { "run" };
        self.steps.push(format!("{word} on {workers}"));
        let (changed, heard) = channel();
        let listener: Arc<dyn Listener> = Arc::new(Ear(Mutex::new(changed)));
        let options = RunOptions {
            workers: Some(workers),
            watch,
            ..RunOptions::default()
        };
        let (path, stop, metrics) = (self.desk.at("job.yaml"), Stop::default(), Metrics::new());
        let (ends, told) = (Stop::clone(&stop), Arc::clone(&metrics));
        let job = std::thread::spawn(move || run(&path, &options, &told, &listener, &stop));
        if watch {
            let begun = Instant::now();
            while !metrics.is_all_read() && !job.is_finished() {
                assert!(begun.elapsed() < PATIENCE, "the job does not watch");
                std::thread::sleep(Duration::from_millis(5));
            }
            for _ in 0..=self.dice.below(3) {
                self.step();
                match self.dice.one_in(3) {
                    true => std::thread::sleep(Duration::from_millis(self.dice.roll(100))),
                    false => drop(heard.recv_timeout(NOTICE)),
                }
            }
            let end = ends.lock().unwrap().take();
            if let Some(end) = end {
                end.send(BTreeSet::new()).ok();
            }
        }
        let summary = job
            .join()
            .unwrap()
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(summary.ties_out);
        named("the summary", &summary.json().unwrap());
        self.adds_up();
    }

    /// The changes of each output add up to its snapshot, and have no key in the place of a name.
    fn adds_up(&self) {
        for output in OUTPUTS {
            let [changes, snapshot] = ["changes", "snapshot"]
                .map(|form| rows(&self.desk.at(&format!("out/{output}/{form}"))));
            let all = changes.iter().chain(&snapshot);
            all.for_each(|row| named(output, &row.to_string()));
            // What is archived is in the archive, and only its bill in the outputs.
            let is_whole = self.mix != Mix::Archive
                || ["activity", "aggregated", "suspense", "raw_status"].contains(&output);
            if output != "balances" && is_whole {
                let what = format!("changes and snapshot of {output}");
                same_rows(&standing(changes), &standing(snapshot), &what);
            }
        }
        for row in self.desk.snapshot("ledger") {
            named("ledger", &row.to_string());
        }
    }

    /// Runs the job in a process of its own, which is killed.
    fn killed(&mut self) {
        let (watch, workers) = (self.dice.one_in(2), 1 + self.dice.below(2));
        let job = self.desk.at("job.yaml").display().to_string();
        let workers = workers.to_string();
        let mut arguments = vec!["run", &job, "--workers", &workers];
        if watch {
            arguments.push("--watch");
        }
        let after = 20 + self.dice.roll(700);
        self.steps.push(format!(
            "{} killed after {after} ms",
            arguments[2..].join(" ")
        ));
        let mut process = start(&arguments);
        if self.dice.one_in(2) {
            std::thread::sleep(Duration::from_millis(self.dice.roll(after)));
            self.step();
        }
        std::thread::sleep(Duration::from_millis(after));
        process.kill().unwrap();
        let ended = process.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(
            ended.status.success() || ended.status.code().is_none(),
            "{said}"
        );
    }

    /// Runs the job to its end; it comes to what one comes to that begins with all of it.
    fn compare(&mut self) {
        self.steps.push("compare".to_owned());
        let ran = self.desk.run();
        assert!(matches!(ran.exit, Exit::Ok | Exit::Findings), "{}", ran.err);
        std::fs::remove_dir_all(self.desk.at("twin")).ok();
        let twin = self.desk.at("twin.yaml").display().to_string();
        let twin = millrace(&["run", &twin, "--output", "json"]);
        assert!(
            matches!(twin.exit, Exit::Ok | Exit::Findings),
            "{}",
            twin.err
        );
        named("standard error", &ran.err);
        let (ours, theirs) = (ran.summary(), twin.summary());
        assert_eq!(
            (&ours["ties_out"], &theirs["ties_out"]),
            (&Value::Bool(true), &Value::Bool(true))
        );
        assert_eq!(totals(&ours), totals(&theirs), "totals; {}", ran.err);
        assert_eq!(ours["records"], theirs["records"], "counts; {}", ran.err);
        self.adds_up();
        for output in OUTPUTS {
            let of =
                |root: &str, form: &str| rows(&self.desk.at(&format!("{root}/{output}/{form}")));
            let (found, expected) = (of("out", "snapshot"), of("twin", "snapshot"));
            match (self.mix, output) {
                (Mix::Archive, "aggregated" | "suspense" | "raw_status")
                | (Mix::Once | Mix::Copies | Mix::Corrections, _) => {
                    let (found, expected) = (self.content(found), self.content(expected));
                    same_rows(
                        &found,
                        &expected,
                        &format!("{output} and that from scratch"),
                    );
                }
                (Mix::Archive, "balances") => {
                    let columns = [
                        "balance_group",
                        "resource",
                        "valid_start",
                        "valid_end",
                        "units",
                        "amount",
                    ];
                    let of = |rows: Vec<Value>| -> BTreeSet<String> {
                        let of =
                            |row: &Value| columns.map(|column| row[column].to_string()).join(" ");
                        rows.iter().map(of).collect()
                    };
                    let (found, expected) = (of(found), of(expected));
                    let more: Vec<_> = found.difference(&expected).take(4).collect();
                    assert!(more.is_empty(), "balances that differ: {more:#?}");
                }
                (Mix::Archive, _) => {}
            }
        }
        let job = self.desk.at("job.yaml").display().to_string();
        let first = self
            .files
            .keys()
            .next()
            .map(|name| name.replace("usage/", "") + ":2");
        for command in [
            &["bill", job.as_str()][..],
            &["balance", job.as_str()],
            &[
                "explain",
                job.as_str(),
                first.as_deref().unwrap_or_default(),
            ],
        ] {
            let ended = millrace(command);
            assert_ne!(ended.exit, Exit::Bug, "{}", ended.err);
            named(command[0], &(ended.out + &ended.err));
        }
    }

    /// Rows without what says which of several equal records holds, where there may be several.
    fn content(&self, mut rows: Vec<Value>) -> BTreeMap<String, i64> {
        if self.mix != Mix::Once {
            for row in rows.iter_mut().filter_map(Value::as_object_mut) {
                for place in ["file", "row", "line", "original_file", "original_row"] {
                    row.remove(place);
                }
            }
        }
        standing(rows)
    }
}

/// Nothing has a key in the place of a name.
#[track_caller]
fn named(what: &str, text: &str) {
    let is_key = |at: usize| {
        let digits = text.get(at + 1..at + 17);
        digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let key = text.match_indices('#').find(|(at, _)| is_key(*at));
    assert!(
        key.is_none(),
        "{what} has a key in the place of a name: {text}"
    );
}

/// What a run says, checked at once; sends on that something was applied, or not.
struct Ear(Mutex<Sender<()>>);

impl Ear {
    fn tell(&self) {
        // Nobody may be waiting any more.
        self.0.lock().unwrap().send(()).ok();
    }
}

impl Listener for Ear {
    fn message(&self, text: &str) {
        named("a message", text);
    }
    fn warned(&self, findings: &[Diagnostic]) {
        named("a warning", &format!("{findings:?}"));
    }
    fn rejected(&self, findings: &[Diagnostic]) {
        named("a finding", &format!("{findings:?}"));
        self.tell();
    }
    fn changed(&self, change: &ChangeReport) {
        named("a change", &format!("{change:?}"));
        self.tell();
    }
    fn settled(&self) {}
}

#[test]
fn any_history_comes_to_what_a_job_comes_to_that_begins_with_all_of_it() {
    let first = u64::from(variable("MILLRACE_SEED", 1));
    let histories = u64::from(variable("MILLRACE_HISTORIES", HISTORIES));
    let mut failed = Vec::new();
    for seed in first..first + histories {
        let mut world = World::new(seed);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..RUNS {
                match world.dice.below(4) {
                    _ if !world.keeps => world.runs(true),
                    0 => world.runs(true),
                    1 => world.killed(),
                    _ => world.runs(false),
                }
                for _ in 0..world.dice.below(4) {
                    world.step();
                }
                if world.dice.one_in(2) {
                    world.compare();
                }
            }
            // Everybody leaves, by the names that they came with.
            if world.mix != Mix::Archive && world.dice.one_in(3) {
                world.holders = Default::default();
                world.accounts.clear();
                world.steps.push("everybody leaves".to_owned());
                world.save();
            }
            world.compare();
        }));
        if let Err(reason) = ended {
            eprintln!(
                "MILLRACE_SEED={seed} MILLRACE_HISTORIES=1 repeats this:\n  {}",
                world.steps.join("\n  ")
            );
            failed.push((seed, reason));
        }
    }
    let seeds: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    if let Some((_, reason)) = failed.pop() {
        eprintln!("{} of {histories} histories failed: {seeds:?}", seeds.len());
        resume_unwind(reason);
    }
}
