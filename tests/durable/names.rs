//! Names are never lost: whatever leaves the configuration, its rows are taken back by the names that they
//! were written with.
//!
//! Random histories, of jobs that are started again and of jobs that watch: services come to accounts, move and
//! leave; accounts, subscriptions, balance groups, items, attributes, prices and plans come and go under names
//! that nobody had before. After each run no output has a key in the place of a name, and the changes of each
//! output add up to its snapshot.
//!
//! `MILLRACE_HISTORIES` asks for more than the few of the short form, `MILLRACE_SEED` for others.

use millrace::cli::Exit;
use millrace::listener::{ChangeReport, Listener};
use millrace::metrics::Metrics;
use millrace::run::{RunError, RunOptions, Stop, run};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, instant, millrace, rows, standing};
use millrace_tests::kills::variable;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Histories of each kind in the short form.
const HISTORIES: u32 = 4;
/// Runs of a history.
const RUNS: u32 = 5;
const SERVICES: usize = 5;
/// How long a run may take to hear of what was saved: it is no mistake if it does not, see [`Live::step`].
const NOTICE: Duration = Duration::from_secs(3);
const OUTPUTS: [&str; 7] = [
    "monetised",
    "impacts",
    "activity",
    "notices",
    "suspense",
    "aggregated",
    "raw_status",
];

/// Who has a service.
#[derive(Clone)]
struct Holder {
    account: String,
    subscription: String,
    group: Option<String>,
}

/// A configuration whose names change.
struct World {
    desk: Desk,
    dice: Dice,
    named: u64,
    accounts: Vec<String>,
    holders: [Option<Holder>; SERVICES],
    item: String,
    attribute: String,
    value: String,
    price: String,
    fee: Option<String>,
    allowance: Option<String>,
    files: u32,
}

impl World {
    fn new(seed: u64, durability: &str) -> Self {
        let job = format!(
            "name: calls\ntime_zone: UTC\nclock: 2026-03-10\nsources:\n  - {{ name: switch, platform: switch, \
             service_type: voice, path: usage, mediation: mediation.yaml }}\ncatalog: [catalog.yaml]\n\
             accounts: [accounts.yaml]\nbilling: {{ aggregate_by: [service, subscription, price] }}\n\
             epoch: {{ rows: 40 }}\n{durability}"
        );
        let mut world = Self {
            desk: Desk::new(&[("job.yaml", &job)]),
            dice: Dice(seed),
            named: 0,
            accounts: Vec::new(),
            holders: Default::default(),
            item: "item-0".to_owned(),
            attribute: "attribute-0".to_owned(),
            value: "home".to_owned(),
            price: "price-0".to_owned(),
            fee: None,
            allowance: None,
            files: 0,
        };
        world.holders[0] = Some(world.holder());
        world.use_services();
        world.save();
        world
    }

    /// A name that nobody had before.
    fn name(&mut self, of: &str) -> String {
        self.named += 1;
        format!("{of}-{}", self.named)
    }

    fn holder(&mut self) -> Holder {
        let account = match self.accounts.is_empty() || self.dice.one_in(2) {
            true => {
                let account = self.name("account");
                self.accounts.push(account.clone());
                account
            }
            false => self.dice.pick(&self.accounts).clone(),
        };
        Holder {
            account,
            subscription: self.name("subscription"),
            group: self.dice.one_in(3).then(|| self.name("group")),
        }
    }

    /// A file of usage.
    fn use_services(&mut self) {
        let mut text = "id,number,at,zone,seconds\n".to_owned();
        for row in 0..60 {
            let day = self.dice.roll(40);
            let at = instant(1_769_904_000 + day * 86_400 + row);
            let zone = self.dice.pick(&["home", "far", "mars"]);
            let (number, seconds) = (self.dice.below(SERVICES + 1), self.dice.roll(90));
            let id = self.files * 50 + u32::try_from(row).unwrap();
            writeln!(text, "c{id},+{number},{at},{zone},{seconds}").unwrap();
        }
        let name = format!("usage/calls-{:03}.csv", self.files);
        self.desk.write(&name, text);
        self.files += 1;
    }

    /// Something of the configuration changes, and its files are saved.
    fn step(&mut self) {
        let service = self.dice.below(SERVICES);
        match self.dice.below(11) {
            0 | 1 => self.holders[service] = None,
            2..=4 => self.holders[service] = Some(self.holder()),
            5 => {
                let holders = self.holders.iter().flatten();
                let held: BTreeSet<&String> = holders.map(|holder| &holder.account).collect();
                let held: Vec<String> = held.into_iter().cloned().collect();
                self.accounts = held;
            }
            6 => self.item = self.name("item"),
            7 => {
                self.attribute = self.name("attribute");
                self.value = self.dice.pick(&["home", "far"]).to_string();
            }
            8 => self.price = self.name("price"),
            9 => {
                let fee = self.name("fee");
                self.fee = self.dice.one_in(2).then_some(fee);
                let allowance = self.name("allowance");
                self.allowance = self.dice.one_in(2).then_some(allowance);
            }
            _ => self.use_services(),
        }
        self.save();
    }

    fn save(&self) {
        let (item, attribute, value) = (&self.item, &self.attribute, &self.value);
        let mediation = format!(
            "columns: {{ seconds: bigint, at: timestamp }}\nidentity: [id]\nservice: number\ntime: at\n\
             attributes: {{ {attribute}: zone }}\ncharges: {{ {item}: seconds }}\n"
        );
        let mut catalog = "currency: EUR\n".to_owned();
        if self.fee.is_some() || self.allowance.is_some() {
            catalog += "plans:\n  - list: standard\n";
        }
        if let Some(allowance) = &self.allowance {
            catalog += &format!(
                "    allowances: [{{ id: {allowance}, units: 200, items: [{item}], thresholds: [50] }}]\n"
            );
        }
        if let Some(fee) = &self.fee {
            catalog += &format!("    charges: [{{ item: {fee}, amount: 3.00, when: advance }}]\n");
        }
        let price = &self.price;
        catalog += &format!(
            "prices:\n  - {{ id: {price}, item: {item}, when: {{ {attribute}: {value} }}, price: 0.05 }}\n  \
               - {{ id: {price}-mars, item: {item}, when: {{ {attribute}: mars }}, price: 0.07 }}\n"
        );
        let (mut accounts, mut subscriptions) = (String::new(), String::new());
        for account in &self.accounts {
            accounts += &format!("  - {{ id: {account}, currency: EUR }}\n");
        }
        for (service, holder) in self.holders.iter().enumerate() {
            let Some(Holder {
                account,
                subscription,
                group,
            }) = holder
            else {
                continue;
            };
            let group = group.as_ref().map(|group| format!("group: {group}, "));
            let group = group.unwrap_or_default();
            subscriptions += &format!(
                "  - {{ id: {subscription}, account: {account}, {group}from: 2026-01-01, service_type: voice, \
                 services: [\"+{service}\"] }}\n"
            );
        }
        let section = |name: &str, rows: &str| match rows {
            "" => format!("{name}: []\n"),
            rows => format!("{name}:\n{rows}"),
        };
        let accounts = section("accounts", &accounts) + &section("subscriptions", &subscriptions);
        for (name, content) in [
            ("mediation.yaml", mediation),
            ("catalog.yaml", catalog),
            ("accounts.yaml", accounts),
        ] {
            let held = std::fs::read_to_string(self.desk.at(name));
            if held.is_ok_and(|held| held == content) {
                continue;
            }
            self.desk.write(name, content);
        }
    }
}

/// A key in the place of a name.
fn key_of(text: &str) -> Option<&str> {
    let is_key = |at: usize| {
        let digits = text.get(at + 1..at + 17);
        digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let (at, _) = text.match_indices('#').find(|(at, _)| is_key(*at))?;
    text.get(at..at + 17)
}

#[track_caller]
fn assert_named(what: &str, text: &str) {
    assert_eq!(key_of(text), None, "{what}: {text}");
}

/// What a run says, checked at once.
struct Ear {
    seed: u64,
    changed: Mutex<Sender<()>>,
}

impl Ear {
    fn hear(&self, text: &str) {
        assert_named(&format!("seed {}", self.seed), text);
    }

    fn tell(&self) {
        // Nobody may be waiting any more.
        self.changed.lock().unwrap().send(()).ok();
    }
}

impl Listener for Ear {
    fn message(&self, text: &str) {
        self.hear(text);
    }
    fn warned(&self, findings: &[Diagnostic]) {
        self.hear(&format!("{findings:?}"));
    }
    fn rejected(&self, findings: &[Diagnostic]) {
        self.hear(&format!("{findings:?}"));
        self.tell();
    }
    fn changed(&self, change: &ChangeReport) {
        self.hear(&format!("{change:?}"));
        self.tell();
    }
    fn settled(&self) {}
}

/// Runs the job once; while it watches, some things change. Then looks at what was written.
fn run_once(world: &mut World, seed: u64, watch: bool) {
    let (changed, heard) = channel();
    let changed = Mutex::new(changed);
    let listener: Arc<dyn Listener> = Arc::new(Ear { seed, changed });
    let workers = 1 + world.dice.below(3);
    let options = RunOptions {
        workers: Some(workers),
        watch,
        ..RunOptions::default()
    };
    let (path, stop) = (world.desk.at("job.yaml"), Stop::default());
    let ends = Stop::clone(&stop);
    let metrics = Metrics::new();
    let told = Arc::clone(&metrics);
    let job = std::thread::spawn(move || run(&path, &options, &told, &listener, &stop));
    if watch {
        let begun = Instant::now();
        while !metrics.is_all_read() && !job.is_finished() {
            assert!(begun.elapsed() < Duration::from_secs(60), "seed {seed}");
            std::thread::sleep(Duration::from_millis(5));
        }
        for _ in 0..=world.dice.below(3) {
            world.step();
            // Usage is not told as a change, and what is saved again as it was is none.
            heard.recv_timeout(NOTICE).ok();
        }
        // A job that has failed says why, and hears nothing.
        let end = ends.lock().unwrap().take();
        if let Some(end) = end {
            end.send(BTreeSet::new()).ok();
        }
    }
    let ended: Result<_, RunError> = job.join().unwrap();
    let summary = ended.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
    assert!(summary.ties_out, "seed {seed}");
    assert_named(&format!("seed {seed}"), &summary.json().unwrap());
    for output in OUTPUTS {
        let of = |form: &str| rows(&world.desk.at(&format!("out/{output}/{form}")));
        let (changes, snapshot) = (of("changes"), of("snapshot"));
        for row in changes.iter().chain(&snapshot) {
            assert_named(&format!("seed {seed}: {output}"), &row.to_string());
        }
        let (changes, snapshot) = (standing(changes), standing(snapshot));
        let differ = |(row, count): (&String, &i64)| {
            let stands = snapshot.get(row).copied().unwrap_or(0);
            (stands != *count).then(|| format!("{count} instead of {stands}: {row}"))
        };
        let more: Vec<String> = changes.iter().filter_map(differ).collect();
        assert!(
            more.is_empty(),
            "seed {seed}: {output}: {}",
            more.join("\n")
        );
        assert_eq!(changes.len(), snapshot.len(), "seed {seed}: {output}");
    }
    for row in ["balances", "ledger"]
        .map(|output| world.desk.snapshot(output))
        .iter()
        .flatten()
    {
        assert_named(&format!("seed {seed}"), &row.to_string());
    }
}

/// Histories of one kind; each with a number of its own.
fn histories(durability: &str, mut live: impl FnMut(&mut World, u64)) {
    let histories = variable("MILLRACE_HISTORIES", HISTORIES);
    let first = u64::from(variable("MILLRACE_SEED", 1));
    for seed in (first..).take(usize::try_from(histories).unwrap()) {
        let mut world = World::new(seed, durability);
        live(&mut world, seed);
        let job = world.desk.at("job.yaml").display().to_string();
        for command in [
            &["bill", job.as_str()][..],
            &["balance", job.as_str()],
            &["explain", job.as_str(), "calls-000.csv:2"],
        ] {
            let ended = millrace(command);
            assert_ne!(ended.exit, Exit::Bug, "seed {seed}: {}", ended.err);
            assert_named(
                &format!("seed {seed}: {command:?}"),
                &(ended.out + &ended.err),
            );
        }
    }
}

const DURABLE: &str = "durability: { folder: state, interval: 20ms }\n";

#[test]
fn a_job_that_is_started_again_takes_everything_back_by_its_name() {
    histories(DURABLE, |world, seed| {
        for _ in 0..RUNS {
            run_once(world, seed, false);
            for _ in 0..=world.dice.below(2) {
                world.step();
            }
        }
        // Everybody leaves.
        world.holders = Default::default();
        world.accounts.clear();
        world.save();
        run_once(world, seed, false);
    });
}

#[test]
fn a_job_that_watches_takes_everything_back_by_its_name() {
    histories(DURABLE, |world, seed| {
        for _ in 0..RUNS {
            let watch = world.dice.one_in(2);
            run_once(world, seed, watch);
            if world.dice.one_in(2) {
                world.step();
            }
        }
        world.holders = Default::default();
        world.save();
        run_once(world, seed, false);
    });
    // Without state all is in memory, and stays there.
    histories("", |world, seed| run_once(world, seed, true));
}
