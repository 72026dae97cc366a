//! Catalog and accounts in compacted topics: what messages say is in force as what files say would be,
//! at the start, while a job watches, and after kills.
//!
//! `MILLRACE_KILLS` asks for more kills than the few of the short form, `MILLRACE_SEED` for another
//! history.

use millrace::cli::Exit;
use millrace::interrupt::Stop;
use millrace::listener::{ChangeReport, Listener};
use millrace::metrics::Metrics;
use millrace::run::{RunOptions, run};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::kafka::{NewTopic, create_missing_topics};
use millrace_tests::broker::{Broker, PATIENCE, Sent};
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, instant, millrace, rows, standing};
use millrace_tests::kills::{MEDIATION, start, variable};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const KILLS: u32 = 5;

fn job(reference: &str, rest: &str) -> String {
    format!(
        "name: calls\ntime_zone: UTC\nclock: 2026-03-10\nsources:\n  - {{ name: switch, platform: switch, \
         service_type: voice, path: usage, mediation: mediation.yaml }}\n{reference}\nepoch: {{ rows: 100 }}\n{rest}"
    )
}

/// The reference data of a job: two topics, or as files.
struct World<'b> {
    broker: &'b Broker,
    desk: Desk,
    prices: String,
    customers: String,
    /// What stands under each key.
    catalog: BTreeMap<String, String>,
    accounts: BTreeMap<String, String>,
}

impl<'b> World<'b> {
    fn new(broker: &'b Broker, name: &str, rest: &str) -> Self {
        let (prices, customers) = (format!("{name}.prices"), format!("{name}.customers"));
        let topics = [
            NewTopic::compacted(&prices, 2),
            NewTopic::compacted(&customers, 2),
        ];
        create_missing_topics(&broker.settings(), &topics).unwrap();
        let address = broker.address();
        let from = |topic: &str| {
            format!("[{{ kafka: {{ brokers: '{address}', topics: [{topic}], version: n }} }}]")
        };
        let reference = format!("catalog: {}\naccounts: {}", from(&prices), from(&customers));
        let desk = Desk::new(&[
            ("mediation.yaml", MEDIATION),
            ("job.yaml", &job(&reference, rest)),
        ]);
        Self {
            broker,
            desk,
            prices,
            customers,
            catalog: BTreeMap::new(),
            accounts: BTreeMap::new(),
        }
    }

    fn send(&self, topic: &str, key: &str, message: Option<&str>) {
        let payload = message.map(str::as_bytes);
        let sent = Sent {
            key,
            payload,
            ..Sent::default()
        };
        self.broker.send(topic, &[sent]);
    }

    /// The price of calls of a list.
    fn price(&mut self, list: &str, price: &str, version: u64) {
        let row =
            format!(r#"{{"id": "{list}", "list": "{list}", "item": "seconds", "price": {price}}}"#);
        let message = format!(r#"{{"n": {version}, "currency": "EUR", "prices": [{row}]}}"#);
        self.send(&self.prices, list, Some(&message));
        self.catalog.insert(list.to_owned(), row);
    }

    /// An account of one number.
    fn account(&mut self, n: u64, list: &str, version: u64) {
        let account = format!(r#"{{"id": "a{n}", "currency": "EUR"}}"#);
        let subscription = format!(
            r#"{{"id": "s{n}", "account": "a{n}", "price_lists": ["{list}"], "service_type": "voice", "services": ["+{n}"]}}"#
        );
        let message = format!(
            r#"{{"n": {version}, "accounts": [{account}], "subscriptions": [{subscription}]}}"#
        );
        self.send(&self.customers, &format!("a{n}"), Some(&message));
        self.accounts
            .insert(format!("a{n}"), format!("{account}\n{subscription}"));
    }

    fn close(&mut self, n: u64) {
        self.send(&self.customers, &format!("a{n}"), None);
        self.accounts.remove(&format!("a{n}"));
    }

    fn usage(&self, file: u64, count: u64) {
        let mut text = "id,number,at,seconds\n".to_owned();
        for row in 0..count {
            let at = instant(1_767_225_600 + row * 500);
            writeln!(text, "{file}-{row},+{},{at},{}", row % 5, row % 50).unwrap();
        }
        self.desk.write(&format!("usage/{file:04}.csv"), text);
    }

    /// Compares what the job wrote with a run over files that say the same.
    fn compare(&self, changes: bool) {
        let lines = |rows: &BTreeMap<String, String>| {
            let rows: Vec<&str> = rows.values().map(String::as_str).collect();
            rows.join(", ")
        };
        let catalog = format!(
            "{{\"currency\": \"EUR\", \"prices\": [{}]}}",
            lines(&self.catalog)
        );
        self.desk.write("catalog.yaml", catalog);
        let part = |at: usize| {
            let rows = self
                .accounts
                .values()
                .filter_map(|rows| rows.lines().nth(at));
            rows.collect::<Vec<_>>().join(", ")
        };
        let accounts = format!(
            "{{\"accounts\": [{}], \"subscriptions\": [{}]}}",
            part(0),
            part(1)
        );
        self.desk.write("accounts.yaml", accounts);
        let reference = "catalog: [catalog.yaml]\naccounts: [accounts.yaml]";
        self.desk
            .write("plain.yaml", job(reference, "outputs: { folder: plain }\n"));
        let plain = self.desk.at("plain.yaml").display().to_string();
        let ended = millrace(&["run", &plain, "--workers", "2"]);
        assert!(
            matches!(ended.exit, Exit::Ok | Exit::Findings),
            "{}",
            ended.err
        );
        for output in ["monetised", "suspense", "aggregated", "raw_status"] {
            let of = |folder: &str| {
                standing(rows(&self.desk.at(&format!("{folder}/{output}/snapshot"))))
            };
            assert_eq!(of("out"), of("plain"), "{output}");
            if changes {
                let changes = standing(rows(&self.desk.at(&format!("out/{output}/changes"))));
                assert_eq!(changes, of("plain"), "changes of {output}");
            }
        }
    }
}

#[test]
fn messages_are_in_force_as_files_are() {
    let broker = Broker::shared();
    let mut world = World::new(broker, "force", "");
    world.usage(0, 200);
    world.price("standard", "0.10", 5);
    world.price("flat", "0.05", 1);
    for n in 0..4 {
        world.account(n, ["standard", "flat"][usize::try_from(n % 2).unwrap()], 1);
    }
    let ended = world.desk.run();
    assert_eq!(
        ended.exit,
        Exit::Findings,
        "number +4 is nobody's: {}",
        ended.err
    );
    world.compare(true);
    let totals = ended.totals();

    // Repeated, and late.
    world.price("flat", "0.05", 1);
    let late = r#"{"n": 4, "currency": "EUR", "prices": [{"id": "standard", "item": "seconds", "price": 9}]}"#;
    world.send(&world.prices, "standard", Some(late));
    assert_eq!(world.desk.run().totals(), totals);
    world.compare(true);

    // A message that is bad stops nobody, whatever is bad about it.
    let bad = [
        ("a1", Some("{"), "not JSON"),
        (
            "a1",
            Some(r#"{"n": 2, "accounts": [{"id": "a1"}]}"#),
            "currency",
        ),
        (
            "x",
            Some(r#"{"n": 1, "subscriptions": [{"id": "x", "account": "a1", "parent": "y"}]}"#),
            "\"y\", which is unknown",
        ),
    ];
    for (key, message, _) in bad {
        world.send(&world.customers, key, message);
    }
    world.account(4, "flat", 1);
    let ended = world.desk.run();
    assert_eq!(ended.exit, Exit::Findings);
    assert_eq!(ended.summary()["records"]["suspended"], 0, "{}", ended.err);
    assert_eq!(
        ended.summary()["held"].as_array().unwrap().len(),
        2,
        "{}",
        ended.out
    );
    for why in ["currency", "\"y\", which is unknown"] {
        assert!(ended.err.contains(why), "{why}: {}", ended.err);
    }
    assert!(
        ended.err.contains("force.customers/") && ended.err.contains(" offset "),
        "{}",
        ended.err
    );
    world.compare(true);

    // Taken away.
    world.close(0);
    let ended = world.desk.run();
    assert_eq!(ended.summary()["records"]["suspended"], 40, "{}", ended.err);
    world.compare(true);

    // Those who only ask are told the same.
    let path = world.desk.at("job.yaml").display().to_string();
    let balance = millrace(&["balance", &path, "a1"]);
    assert_eq!(balance.exit, Exit::Findings, "{}", balance.err);
    let check = millrace(&["check", &path]);
    assert_eq!(check.exit, Exit::Ok, "{}", check.out);
    let drawn = millrace(&["graph", &path]);
    assert!(drawn.out.contains("force.prices"), "{}", drawn.out);
}

#[test]
fn a_missing_topic_is_said() {
    let broker = Broker::shared();
    let world = World::new(broker, "missed", "");
    world.usage(0, 1);
    let job = std::fs::read_to_string(world.desk.at("job.yaml")).unwrap();
    world
        .desk
        .write("job.yaml", job.replace("missed.prices", "missed.price"));
    let refused = world.desk.run();
    assert_eq!(refused.exit, Exit::Unusable);
    let says = "did you mean \"missed.prices\"";
    assert!(
        refused.err.contains("\"missed.price\"") && refused.err.contains(says),
        "{}",
        refused.err
    );
    world
        .desk
        .write("job.yaml", job.replace("version: n", "version: n."));
    let refused = world.desk.run();
    assert!(
        refused.err.contains("is no member of a message"),
        "{}",
        refused.err
    );
}

/// What a watching job tells.
#[derive(Debug)]
enum Heard {
    Changed(ChangeReport),
    Rejected(String),
    Settled,
}

struct Ear(Mutex<Sender<Heard>>);

impl Ear {
    fn hear(&self, heard: Heard) {
        // A test that has failed listens no more.
        self.0.lock().unwrap().send(heard).ok();
    }
}

impl Listener for Ear {
    fn message(&self, _: &str) {}
    fn warned(&self, _: &[Diagnostic]) {}
    fn rejected(&self, findings: &[Diagnostic]) {
        findings
            .iter()
            .for_each(|finding| self.hear(Heard::Rejected(finding.to_string())));
    }
    fn changed(&self, change: &ChangeReport) {
        self.hear(Heard::Changed(change.clone()));
    }
    fn settled(&self) {
        self.hear(Heard::Settled);
    }
}

#[track_caller]
fn until<T>(heard: &Receiver<Heard>, mut found: impl FnMut(Heard) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let heard = heard.recv_timeout(left).expect("the job tells it in time");
        if let Some(found) = found(heard) {
            return found;
        }
    }
}

#[test]
fn a_watching_job_follows_its_topics() {
    for (name, rest) in [
        ("live", ""),
        ("kept", "durability: { folder: state, interval: 10ms }\n"),
    ] {
        let broker = Broker::shared();
        let mut world = World::new(broker, name, rest);
        world.usage(0, 200);
        world.price("standard", "0.10", 1);
        (0..5).for_each(|n| world.account(n, "standard", 1));
        let (tell, heard) = channel();
        let (path, stop) = (world.desk.at("job.yaml"), Stop::default());
        let stopped = Stop::clone(&stop);
        let thread = std::thread::spawn(move || {
            let listener: Arc<dyn Listener> = Arc::new(Ear(Mutex::new(tell)));
            let options = RunOptions {
                workers: Some(2),
                watch: true,
                ..RunOptions::default()
            };
            run(&path, &options, &Metrics::new(), &listener, &stopped)
        });
        until(&heard, |heard| {
            matches!(heard, Heard::Settled).then_some(())
        });
        let changed = |heard| match heard {
            Heard::Changed(change) => Some(change),
            _ => None,
        };
        world.price("standard", "0.20", 2);
        let change = until(&heard, changed);
        assert_eq!(change.rerated, 196, "{change:?}");
        let (before, after) = &change.money[0];
        assert_eq!(
            (before.amount.as_str(), after.amount.as_str()),
            ("484.8", "969.6")
        );
        // Bad, and told; the next one is applied.
        world.send(&world.prices, "standard", Some(r#"{"n": 3, "currency": "EUR", "prices": [{"id": "standard", "item": "seconds", "price": "?"}]}"#));
        let told = until(&heard, |heard| match heard {
            Heard::Rejected(finding) => Some(finding),
            _ => None,
        });
        assert!(
            told.contains(".prices/") && told.contains(" offset ") && told.contains('?'),
            "{told}"
        );
        world.close(0);
        let change = until(&heard, changed);
        assert_eq!(change.rerated, 40, "{change:?}");
        assert!(millrace::interrupt::end(&stop), "the job listens");
        let summary = thread.join().unwrap().unwrap();
        assert_eq!(summary.held.len(), 1);
        world.compare(true);
    }
}

#[test]
fn kills_change_nothing_that_messages_say() {
    let kills = variable("MILLRACE_KILLS", KILLS);
    let seed = u64::from(variable("MILLRACE_SEED", 1));
    let mut dice = Dice(seed);
    let broker = Broker::shared();
    let mut world = World::new(
        broker,
        "killed",
        "durability: { folder: state, interval: 20ms }\n",
    );
    let job = world.desk.at("job.yaml").display().to_string();
    world.price("standard", "0.10", 0);
    let (mut killed, mut round) = (0, 0);
    while killed < kills {
        round += 1;
        world.usage(round, 300);
        for step in 0..4 {
            let version = round * 10 + step;
            match dice.roll(6) {
                0 => world.close(dice.roll(5)),
                1 => world.send(&world.prices, "bad", Some("[]")),
                2 => world.price("flat", &format!("0.0{}", 1 + dice.roll(9)), version),
                3 => world.price("standard", &format!("0.{}", 1 + dice.roll(9)), version),
                _ => {
                    let list = ["standard", "flat"][usize::try_from(dice.roll(2)).unwrap()];
                    world.account(dice.roll(5), list, version);
                }
            }
        }
        let workers = (1 + dice.roll(3)).to_string();
        let mut process = start(&["run", &job, "--watch", "--workers", &workers]);
        std::thread::sleep(Duration::from_millis(50 + dice.roll(1_500)));
        let list = ["standard", "flat"][usize::try_from(dice.roll(2)).unwrap()];
        world.price(list, &format!("0.00{}", 1 + dice.roll(9)), round * 10 + 5);
        std::thread::sleep(Duration::from_millis(dice.roll(300)));
        process.kill().unwrap();
        let ended = process.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.signal().is_some(), "seed {seed}: {said}");
        killed += 1;
    }
    let last = millrace(&["run", &job, "--workers", "2"]);
    assert!(
        matches!(last.exit, Exit::Ok | Exit::Findings),
        "{}",
        last.err
    );
    world.compare(true);
    println!("{killed} kills, seed {seed}");
}
