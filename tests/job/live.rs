//! Whatever is saved while a job watches, the job then stands where a run from scratch over the same
//! files would stand: the same lines, charges, suspense and fates, to the byte.

use millrace::error::RunError;
use millrace::interrupt::Stop;
use millrace::listener::{ChangeReport, Listener};
use millrace::metrics::Metrics;
use millrace::report::Summary;
use millrace::run::{RunOptions, run};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_tests::jobs::{Desk, rows, standing};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

const JOB: &str = "\
name: calls
time_zone: UTC
sources:
  - { name: switch, platform: switch, service_type: voice, path: usage, mediation: mediation.yaml }
lookups:
  zones: { file: zones.csv, key: prefix }
catalog: [catalog.yaml]
accounts: [accounts.yaml]
billing: { aggregate_by: [zone] }
";

const MEDIATION: &str = "\
columns: { seconds: bigint, at: timestamp }
where: seconds > 0
identity: [id]
service: number
time: at
attributes:
  zone: lookup('zones', 'zone', prefix)
charges:
  seconds: seconds
";

const ZONES: &str = "prefix,zone\n420,home\n49,far\n";

const CATALOG: &str = "\
currency: EUR
prices:
  - { item: seconds, when: { zone: home }, price: 0.01 }
  - { item: seconds, when: { zone: far }, price: 0.05 }
  - { item: seconds, price: 0.02, list: loyal }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: EUR }
subscriptions:
  - { id: acme-voice, account: acme, price_lists: [standard], service_type: voice, services: [\"+1\"] }
";

const CALLS: &str = "\
id,number,at,prefix,seconds
1,+1,2026-01-05T10:00:00Z,420,60
2,+1,2026-01-05T11:00:00Z,49,61
3,+2,2026-01-05T11:30:00Z,49,10
4,+1,2026-01-05T12:00:00Z,44,7
5,+1,2026-01-05T13:00:00Z,420,0
2,+1,2026-01-05T11:00:00Z,49,61
";

/// What a job told.
#[derive(Debug)]
enum Heard {
    Message(String),
    Rejected(Vec<Diagnostic>),
    Changed(ChangeReport),
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
    fn message(&self, text: &str) {
        self.hear(Heard::Message(text.to_owned()));
    }
    fn warned(&self, _: &[Diagnostic]) {}
    fn rejected(&self, findings: &[Diagnostic]) {
        self.hear(Heard::Rejected(findings.to_vec()));
    }
    fn changed(&self, change: &ChangeReport) {
        self.hear(Heard::Changed(change.clone()));
    }
    fn settled(&self) {
        self.hear(Heard::Settled);
    }
}

/// A run of the job of `desk`, to `out`, and what it tells.
fn start(
    desk: &Desk,
    out: PathBuf,
    watch: bool,
) -> (JoinHandle<Result<Summary, RunError>>, Receiver<Heard>, Stop) {
    let (tell, heard) = channel();
    let listener: Arc<dyn Listener> = Arc::new(Ear(Mutex::new(tell)));
    let options = RunOptions {
        workers: Some(2),
        watch,
        out: Some(out),
        ..RunOptions::default()
    };
    let (path, stop) = (desk.at("job.yaml"), Stop::default());
    let ended = Stop::clone(&stop);
    let thread =
        std::thread::spawn(move || run(&path, &options, &Metrics::new(), &listener, &ended));
    (thread, heard, stop)
}

/// What stands in each output: rows with how often they are there.
type Books = BTreeMap<&'static str, BTreeMap<String, i64>>;

const BOOKS: [&str; 4] = ["aggregated", "monetised", "suspense", "raw_status"];

fn books(out: &Path, kind: &str) -> Books {
    let book = |name| (name, standing(rows(&out.join(name).join(kind))));
    BOOKS.into_iter().map(book).collect()
}

/// A job that watches.
struct Live {
    desk: Desk,
    out: PathBuf,
    thread: JoinHandle<Result<Summary, RunError>>,
    heard: Receiver<Heard>,
    stop: Stop,
    runs: usize,
    changes: Vec<ChangeReport>,
    messages: Vec<String>,
    rejected: Vec<Diagnostic>,
}

impl Live {
    fn start() -> Self {
        let desk = Desk::new(&[
            ("job.yaml", JOB),
            ("mediation.yaml", MEDIATION),
            ("zones.csv", ZONES),
            ("catalog.yaml", CATALOG),
            ("accounts.yaml", ACCOUNTS),
            ("usage/a.csv", CALLS),
        ]);
        let out = desk.at("live");
        let (thread, heard, stop) = start(&desk, out.clone(), true);
        let (changes, messages, rejected) = Default::default();
        let mut live = Self {
            desk,
            out,
            thread,
            heard,
            stop,
            runs: 0,
            changes,
            messages,
            rejected,
        };
        live.stands_at("3.65 EUR");
        live
    }

    /// Waits until the job has told something for which `done` holds.
    fn until(&mut self, what: &str, mut done: impl FnMut(&Self, &Heard) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let heard = match self.heard.recv_timeout(left) {
                Ok(heard) => heard,
                Err(RecvTimeoutError::Timeout) => panic!("not in time: {what}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the job ended before: {what}"),
            };
            let found = done(self, &heard);
            match heard {
                Heard::Message(text) => self.messages.push(text),
                Heard::Rejected(findings) => self.rejected.extend(findings),
                Heard::Changed(change) => self.changes.push(change),
                Heard::Settled => {}
            }
            if found {
                return;
            }
        }
    }

    /// The books and the total of a run from scratch over the files as they are.
    fn run_anew(&mut self) -> (Books, Vec<String>) {
        self.runs += 1;
        let out = self.desk.at(&format!("scratch-{}", self.runs));
        let (thread, _, _) = start(&self.desk, out.clone(), false);
        let summary = thread.join().unwrap().unwrap();
        assert!(summary.ties_out);
        (books(&out, "snapshot"), totals(&summary))
    }

    /// Waits until the job stands where a run from scratch does, which must be at `total`.
    fn stands_at(&mut self, total: &str) {
        let (expected, totals) = self.run_anew();
        assert_eq!(totals, [total], "from scratch");
        let mut last = Books::new();
        let deadline = Instant::now() + DEADLINE;
        while books_differ(&self.out, &expected, &mut last) {
            assert!(
                Instant::now() < deadline,
                "{}",
                difference(&last, &expected)
            );
            match self.heard.recv_timeout(Duration::from_millis(500)) {
                Ok(Heard::Message(text)) => self.messages.push(text),
                Ok(Heard::Rejected(findings)) => self.rejected.extend(findings),
                Ok(Heard::Changed(change)) => self.changes.push(change),
                Ok(Heard::Settled) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the job has ended; {}", difference(&last, &expected))
                }
            }
        }
    }

    /// Saves a file whose consequences the job must report, and returns the report.
    fn save(&mut self, file: &str, content: &str) -> ChangeReport {
        self.desk.write(file, content);
        self.until(file, |_, heard| matches!(heard, Heard::Changed(_)));
        self.changes.pop().unwrap()
    }

    /// Ends the job; its snapshots are what its changes come to.
    fn end(self) -> (Summary, Books) {
        self.stop
            .lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .send(BTreeSet::new())
            .unwrap();
        let summary = self.thread.join().unwrap().unwrap();
        assert!(summary.ties_out);
        let snapshots = books(&self.out, "snapshot");
        let changes = books(&self.out, "changes");
        assert_eq!(changes, snapshots, "changes come to the snapshots");
        (summary, snapshots)
    }
}

fn totals(summary: &Summary) -> Vec<String> {
    summary
        .totals
        .iter()
        .map(|money| format!("{} {}", money.amount, money.currency))
        .collect()
}

/// Files of changes are whole once the job has settled; before, some may not be there yet.
fn books_differ(out: &Path, expected: &Books, last: &mut Books) -> bool {
    *last = books(out, "changes");
    last != expected
}

/// What one side has and the other has not.
fn difference(found: &Books, expected: &Books) -> String {
    let mut text = String::from("not where a run from scratch stands:\n");
    for (name, book) in expected {
        let empty = BTreeMap::new();
        let other = found.get(name).unwrap_or(&empty);
        for (row, count) in other
            .iter()
            .filter(|(row, count)| book.get(*row) != Some(count))
        {
            text += &format!("{name} has {count} × {row}\n");
        }
        for (row, count) in book
            .iter()
            .filter(|(row, count)| other.get(*row) != Some(count))
        {
            text += &format!("{name} lacks {count} × {row}\n");
        }
    }
    text
}

/// The money of a change: before and after.
fn money(change: &ChangeReport) -> Vec<(&str, &str)> {
    change
        .money
        .iter()
        .map(|(old, new)| (&*old.amount, &*new.amount))
        .collect()
}

#[test]
fn a_saved_price_rerates_what_it_touches() {
    let mut live = Live::start();
    let change = live.save("catalog.yaml", &CATALOG.replace("0.05", "0.06"));
    assert_eq!(money(&change), [("3.65", "4.26")]);
    assert_eq!((change.prices.len(), change.lines), (1, 1), "{change:?}");
    live.stands_at("4.26 EUR");
    // And back, as if it had never been.
    let change = live.save("catalog.yaml", CATALOG);
    assert_eq!(money(&change), [("4.26", "3.65")]);
    live.stands_at("3.65 EUR");
    let (summary, _) = live.end();
    assert_eq!(totals(&summary), ["3.65 EUR"]);
}

#[test]
fn a_saved_account_cures_what_waited_for_it() {
    let mut live = Live::start();
    let joined = ACCOUNTS.replace(
        "  - { id: acme, currency: EUR }",
        "  - { id: acme, currency: EUR }\n  - { id: bolt, currency: EUR }",
    ) + "  - { id: bolt-voice, account: bolt, price_lists: [standard], service_type: voice, services: [\"+2\"] }\n";
    let change = live.save("accounts.yaml", &joined);
    assert_eq!(money(&change), [("3.65", "4.15")]);
    live.stands_at("4.15 EUR");
    // Moved to another list, everything of the subscription is priced anew.
    let change = live.save("accounts.yaml", &joined.replacen("standard", "loyal", 1));
    assert_eq!(money(&change), [("4.15", "2.92")]);
    live.stands_at("2.92 EUR");
    let (summary, books) = live.end();
    assert_eq!(summary.records.suspended, 0);
    assert!(
        !books["suspense"]
            .keys()
            .any(|row| row.contains("SERVICE_UNKNOWN")),
        "{books:?}"
    );
}

#[test]
fn a_saved_lookup_table_mediates_again_what_it_could_alter() {
    let mut live = Live::start();
    let change = live.save("zones.csv", &format!("{ZONES}44,far\n"));
    assert_eq!(money(&change), [("3.65", "4")]);
    live.stands_at("4 EUR");
    let change = live.save(
        "zones.csv",
        &format!("{}44,far\n", ZONES.replace("49,far", "49,home")),
    );
    assert_eq!(money(&change), [("4", "1.56")]);
    live.stands_at("1.56 EUR");
    let (summary, _) = live.end();
    assert_eq!((summary.records.error, summary.records.suspended), (0, 1));
}

#[test]
fn a_corrected_rule_cures_its_faults_and_may_ignore_others() {
    let mut live = Live::start();
    // Prefixes that the table does not have are far.
    let corrected = MEDIATION.replace(
        "lookup('zones', 'zone', prefix)",
        "\"CASE WHEN prefix = '44' THEN 'far' ELSE lookup('zones', 'zone', prefix) END\"",
    );
    let change = live.save("mediation.yaml", &corrected);
    assert_eq!(money(&change), [("3.65", "4")]);
    assert_eq!(change.mediated, 6);
    live.stands_at("4 EUR");
    let change = live.save(
        "mediation.yaml",
        &corrected.replace("seconds > 0", "seconds >= 60"),
    );
    assert_eq!(money(&change), [("4", "3.65")]);
    live.stands_at("3.65 EUR");
    let (summary, _) = live.end();
    let records = summary.records;
    assert_eq!(
        (records.ignored, records.duplicate, records.error),
        (3, 1, 0),
        "{records:?}"
    );
}

#[test]
fn a_file_that_appears_is_read_and_billed_once() {
    let mut live = Live::start();
    let more = "id,number,at,prefix,seconds\n6,+1,2026-02-05T10:00:00Z,420,100\n1,+1,2026-01-05T10:00:00Z,420,60\n";
    live.desk.write("usage/b.csv", more);
    live.stands_at("4.65 EUR");
    // The same content under another name is the classic way to bill a month twice.
    live.desk.write("usage/c.csv", more);
    live.until(
        "the refusal",
        |_, heard| matches!(heard, Heard::Message(text) if text.contains("not billed twice")),
    );
    let refusal = live.messages.last().unwrap().clone();
    assert!(
        refusal.contains("\"c.csv\"") && refusal.contains("\"b.csv\""),
        "{refusal}"
    );
    live.stands_at("4.65 EUR");
    // So is other content under a name that was loaded.
    live.desk.write(
        "usage/b.csv",
        "id,number,at,prefix,seconds\n7,+1,2026-02-05T10:00:00Z,420,9\n",
    );
    live.until(
        "the refusal",
        |_, heard| matches!(heard, Heard::Message(text) if text.contains("`on_change: amend`")),
    );
    let (summary, _) = live.end();
    assert_eq!(totals(&summary), ["4.65 EUR"]);
    let states: Vec<_> = summary
        .files
        .iter()
        .map(|file| (file.file.as_str(), file.state.as_str()))
        .collect();
    let expected = [
        ("a.csv", "loaded"),
        ("b.csv", "loaded"),
        ("c.csv", "refused"),
        ("b.csv", "refused"),
    ];
    assert_eq!(states, expected);
}

#[test]
fn what_is_saved_with_an_error_changes_nothing() {
    let mut live = Live::start();
    for (file, content, said) in [
        (
            "catalog.yaml",
            CATALOG.replace("price: 0.05", "prize: 0.05"),
            "prize",
        ),
        (
            "accounts.yaml",
            ACCOUNTS.replace("account: acme", "account: [acme"),
            "accounts.yaml",
        ),
        (
            "mediation.yaml",
            MEDIATION.replace("number", "numbr"),
            "numbr",
        ),
        ("zones.csv", "prefix,zon\n420,home\n".to_owned(), "zones"),
    ] {
        let good = std::fs::read_to_string(live.desk.at(file)).unwrap();
        live.desk.write(file, &content);
        live.until(file, |_, heard| matches!(heard, Heard::Rejected(_)));
        let told: String = live
            .rejected
            .drain(..)
            .map(|finding| finding.to_string())
            .collect();
        assert!(told.contains(said), "{said} is not in {told}");
        live.desk.write(file, &good);
    }
    // The old state has been in force all along, and a change that holds is applied again.
    let change = live.save("catalog.yaml", &CATALOG.replace("0.05", "0.06"));
    assert_eq!(money(&change), [("3.65", "4.26")]);
    live.stands_at("4.26 EUR");
    live.end();
}

#[test]
fn several_files_saved_at_once_end_where_a_run_from_scratch_does() {
    let mut live = Live::start();
    live.desk
        .write("catalog.yaml", CATALOG.replace("0.01", "0.03"));
    live.desk.write("zones.csv", format!("{ZONES}44,home\n"));
    live.desk.write(
        "usage/b.csv",
        "id,number,at,prefix,seconds\n8,+1,2026-03-01T00:00:00Z,44,50\n",
    );
    live.desk.write(
        "mediation.yaml",
        MEDIATION.replace("seconds > 0", "seconds > 7"),
    );
    live.stands_at("6.35 EUR");
    let (summary, _) = live.end();
    assert_eq!(totals(&summary), ["6.35 EUR"]);
}

/// A condition on what no rule defines yet is refused, and holds as soon as a rule defines it.
#[test]
fn a_catalog_that_waits_for_a_rule_comes_with_it() {
    let mut live = Live::start();
    let longer = "  - { item: seconds, when: { zone: home, band: long }, price: 9 }\n";
    live.desk
        .write("catalog.yaml", format!("{CATALOG}{longer}"));
    let refused = |_: &Live, heard: &Heard| matches!(heard, Heard::Rejected(_));
    live.until("the catalog is refused", refused);
    let told = live.rejected.pop().unwrap().to_string();
    assert!(told.contains("defines the attribute \"band\""), "{told}");
    let band = "attributes:\n  band: CASE WHEN seconds > 50 THEN 'long' END\n";
    live.save("mediation.yaml", &MEDIATION.replace("attributes:\n", band));
    live.stands_at("543.05 EUR");
    live.end();
}
