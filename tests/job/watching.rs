//! What a watching job says to the person in front of it, from the bill at the start to its end.

use crate::interrupt::{interrupt, start};
use millrace::cli::Exit;
use millrace_tests::jobs::Desk;
use std::io::Read as _;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const JOB: &str = "\
name: calls
time_zone: UTC
clock: 2026-03-20
sources:
  - name: switch
    platform: switch
    service_type: voice
    path: usage
    mediation:
      columns: { seconds: bigint, at: timestamp }
      identity: [id]
      service: number
      time: at
      attributes: { zone: zone }
      charges: { seconds: seconds }
catalog: [catalog.yaml]
accounts: [accounts.yaml]
";

const CATALOG: &str = "\
currency: EUR
prices:
  - { item: seconds, when: { zone: home }, price: 0.01 }
  - { item: seconds, when: { zone: far }, price: 0.05 }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: EUR }
  - { id: bolt, currency: EUR }
subscriptions:
  - { id: acme-voice, account: acme, price_lists: [standard], from: 2026-01-01, service_type: voice, services: [\"+1\"] }
  - { id: bolt-voice, account: bolt, price_lists: [standard], from: 2026-01-01, service_type: voice, services: [\"+2\"] }
";

const CALLS: &str = "\
id,number,at,zone,seconds
1,+1,2026-01-05T10:00:00Z,home,60
2,+1,2026-01-05T11:00:00Z,far,61
3,+2,2026-01-05T11:30:00Z,home,1000
4,+9,2026-01-05T12:00:00Z,home,7
";

/// A watching job, and what it says.
struct Watching {
    process: Child,
    said: Arc<Mutex<String>>,
    /// How much of it has been looked at.
    heard: usize,
}

impl Watching {
    fn start(desk: &Desk) -> Self {
        let mut process = start(desk, &["--watch", "--output", "json"]);
        let said = Arc::new(Mutex::new(String::new()));
        let (mut stream, told) = (process.stderr.take().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]);
                told.lock().unwrap().push_str(&text);
            }
        });
        Self {
            process,
            said,
            heard: 0,
        }
    }

    /// Waits until it has said something, since the last time that it was waited for.
    fn until(&mut self, expected: &str) -> String {
        let begun = Instant::now();
        loop {
            let said = self.said.lock().unwrap().clone();
            let new = &said[self.heard..];
            if let Some(at) = new.find(expected) {
                let end = new[at..].find('\n').map_or(new.len(), |end| at + end);
                self.heard += end;
                return new[..end].to_owned();
            }
            let late = begun.elapsed() > Duration::from_secs(60);
            assert!(!late, "not said: {expected}\nbut:\n{new}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_watching_job_tells_the_bill_who_moves_and_what_is_new() {
    let desk = Desk::new(&[
        ("job.yaml", JOB),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("usage/a.csv", CALLS),
    ]);
    let mut job = Watching::start(&desk);
    // The bill at the start, and what waits.
    job.until("everything is read: 4 records, 3 monetised on 2 billing lines");
    job.until("13.65 EUR, exactly 13.65");
    job.until("1 × SERVICE_UNKNOWN, a.csv");
    job.until("Ctrl-C ends");
    // Who moves by a change, and which row does it: the home price moves 10.6, the other 0.61.
    let dearer = CATALOG.replace("0.01", "0.02").replace("0.05", "0.06");
    desk.write("catalog.yaml", &dearer);
    let told = job.until("home]: 0.01 EUR -> 0.02 EUR, moves +10.6 EUR");
    assert!(
        !told.contains("far]"),
        "the row that moves most comes first: {told}"
    );
    job.until("far]: 0.05 EUR -> 0.06 EUR, moves +0.61 EUR");
    job.until("EUR 13.65 → 24.86");
    job.until("bolt: +10 EUR, 10 → 20");
    job.until("acme: +1.21 EUR, 3.65 → 4.86");
    // New suspense of a new file.
    let calls = "id,number,at,zone,seconds\n5,+1,2026-01-06T10:00:00Z,mars,1\n6,+2,2026-01-06T10:00:00Z,home,1\n";
    desk.write("usage/b.csv", calls);
    job.until("2 more records");
    job.until("EUR 24.86 → 24.88");
    job.until("new: 1 × PRICE_NOT_FOUND, b.csv");
    // It heals.
    desk.write(
        "catalog.yaml",
        format!("{dearer}  - {{ item: seconds, when: {{ zone: mars }}, price: 1 }}\n"),
    );
    job.until("EUR 24.88 → 25.88");
    job.until("1 records are PRICE_NOT_FOUND no more");
    // A file that could not be read is mended.
    desk.write(
        "usage/c.csv",
        "id,number,at,zone,sec\n9,+1,2026-01-07T10:00:00Z,home,5\n",
    );
    job.until("\"c.csv\" has no column \"seconds\"");
    desk.write(
        "usage/c.csv",
        "id,number,at,zone,seconds\n9,+1,2026-01-07T10:00:00Z,home,5\n",
    );
    job.until("\"c.csv\" is whole now: 1 records");
    // Nothing to do is no work.
    std::thread::sleep(Duration::from_secs(2));
    interrupt(&job.process);
    job.until("ending when everything that was found is read");
    assert_eq!(
        job.process.wait().unwrap().code(),
        Some(1),
        "a record still waits"
    );
    job.until("\"records_per_second\"");
    let said = job.said.lock().unwrap().clone();
    let number = |key: &str| {
        let (_, rest) = said.split_once(&format!("\"{key}\": ")).unwrap();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u64>().unwrap()
    };
    let (elapsed, busy) = (number("elapsed_ms"), number("busy_ms"));
    assert!(busy + 2_000 <= elapsed, "{busy} of {elapsed} ms");
    let received = said.rsplit_once("\"records\": {").unwrap().1;
    let received = received.split_once("\"received\": ").unwrap().1;
    let received: String = received.chars().take_while(char::is_ascii_digit).collect();
    let received = received.parse::<u64>().unwrap();
    let told = number("records_per_second");
    let slow = received * 1000 / (busy + 1);
    assert!(
        (slow..=received * 1000 / busy.max(1)).contains(&told),
        "{told} in {busy} ms"
    );
}

/// A slip in a price moves amounts, and what they moved from, past what a column holds: it is told and put right.
#[test]
fn a_saved_price_that_makes_sums_too_large_stops_nobody() {
    let calls = "\
id,number,at,zone,seconds
1,+1,2026-01-05T10:00:00Z,home,9000
2,+1,2026-01-05T11:00:00Z,home,9000
3,+2,2026-01-05T11:30:00Z,home,9000
";
    let desk = Desk::new(&[
        ("job.yaml", JOB),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("usage/a.csv", calls),
    ]);
    let mut job = Watching::start(&desk);
    job.until("270.00 EUR, exactly 270");
    job.until("Ctrl-C ends");
    desk.write("catalog.yaml", CATALOG.replace("0.01", "10000000000"));
    job.until("EUR 270 → 270000000000000");
    desk.write("catalog.yaml", CATALOG.replace("0.01", "0.02"));
    job.until("EUR 270000000000000 → 540");
    interrupt(&job.process);
    assert_eq!(job.process.wait().unwrap().code(), Some(0));
}

/// Sources, outputs and inline rules of a running job stay as they were, and nobody is left to think otherwise.
#[test]
fn a_saved_job_file_is_told_once_a_change_and_applied_at_the_next_start() {
    let known = CALLS.replace("4,+9,2026-01-05T12:00:00Z,home,7\n", "");
    let desk = Desk::new(&[
        ("job.yaml", JOB),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("usage/a.csv", &known),
    ]);
    let mut job = Watching::start(&desk);
    job.until("Ctrl-C ends");
    let changed =
        "job.yaml has changed; the job goes on as it began, and applies it at its next start";
    let doubled = JOB.replace("seconds: seconds }", "seconds: seconds * 2 }");
    // Saved twice, it has changed once.
    desk.write("job.yaml", &doubled);
    job.until(changed);
    desk.write("job.yaml", &doubled);
    desk.write("catalog.yaml", CATALOG.replace("0.01", "0.02"));
    let told = job.until("EUR 13.65 → 24.25");
    assert!(!told.contains(changed), "{told}");
    desk.write("job.yaml", JOB);
    job.until("job.yaml is again what the job runs by");
    desk.write("job.yaml", &doubled);
    job.until(changed);
    interrupt(&job.process);
    assert_eq!(job.process.wait().unwrap().code(), Some(0));
    let ended = desk.run();
    assert_eq!(ended.totals(), ["48.5 EUR"]);
}

#[test]
fn a_saved_file_that_does_not_hold_is_told_to_the_end() {
    let known = CALLS.replace("4,+9,2026-01-05T12:00:00Z,home,7\n", "");
    for (is_mended, code) in [(false, 1), (true, 0)] {
        let desk = Desk::new(&[
            ("job.yaml", JOB),
            ("catalog.yaml", CATALOG),
            ("accounts.yaml", ACCOUNTS),
            ("usage/a.csv", &known),
        ]);
        let mut job = Watching::start(&desk);
        job.until("Ctrl-C ends");
        desk.write(
            "catalog.yaml",
            "currency: EUR\nprices: [{ item: seconds }]\n",
        );
        job.until("the key \"price\" is missing");
        if is_mended {
            desk.write("catalog.yaml", CATALOG.replace("0.01", "0.02"));
            job.until("EUR 13.65 → 24.25");
        }
        interrupt(&job.process);
        assert_eq!(job.process.wait().unwrap().code(), Some(code));
    }
}

#[test]
fn another_record_of_an_identity_may_hold_from_the_beginning_alone() {
    let job = JOB.find("    mediation:").map_or("", |at| &JOB[..at]);
    let rest = JOB.find("catalog:").map_or("", |at| &JOB[at..]);
    let job = format!("{job}    mediation: mediation.yaml\n{rest}");
    let durable =
        |folder: &str| format!("{job}durability: {{ folder: {folder}, interval: 10ms }}\n");
    let rule = "\
columns: { seconds: bigint, at: timestamp }
identity: [id]
service: number
time: at
attributes: { zone: zone }
charges: { seconds: seconds }
";
    let calls = CALLS.replace("4,+9,2026-01-05T12:00:00Z,home,7\n", "");
    let desk = Desk::new(&[
        ("job.yaml", &durable("state")),
        ("mediation.yaml", rule),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("usage/a.csv", &calls),
    ]);
    let mut watching = Watching::start(&desk);
    watching.until("Ctrl-C ends");
    desk.write("mediation.yaml", format!("{rule}keep: last\n"));
    let advice =
        "put `keep` and `version` back as they were, or give `durability.folder` an empty folder";
    watching.until(advice);
    // Put back as it was, it goes on.
    desk.write("mediation.yaml", rule);
    let more = "id,number,at,zone,seconds\n5,+1,2026-01-06T10:00:00Z,home,60\n";
    desk.write("usage/b.csv", more);
    watching.until("EUR 13.65 → 14.25");
    interrupt(&watching.process);
    watching.process.wait().unwrap();
    // With an empty folder the last record of the first call holds: 100 seconds more.
    desk.write("mediation.yaml", format!("{rule}keep: last\n"));
    desk.write(
        "usage/c.csv",
        "id,number,at,zone,seconds\n1,+1,2026-01-05T10:00:00Z,home,160\n",
    );
    let refused = desk.run();
    assert_eq!(refused.exit, Exit::Unusable, "{refused:?}");
    desk.write("job.yaml", durable("fresh"));
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
    assert_eq!(ended.totals(), ["15.25 EUR"]);
}
