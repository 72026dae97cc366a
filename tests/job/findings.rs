//! What is found wrong with a configuration carries a hint. Each hint is followed here to the letter, and
//! the money is right then: nothing is told any more, and the total is what it comes to by hand.
//!
//! - Each case is a small job with one mistake, so one thing is told: the cause, and not what follows.
//! - A hint that stands in the sources and that no case follows fails, see [`literals`].

mod accounts;
mod catalog;
mod causes;
mod combined;
mod commitments;
mod expressions;
mod job;
mod literals;
mod plans;
mod rules;
mod sources;
mod streams;

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, millrace, text};
use serde_json::Value;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

/// The files of the job.
const JOB: &str = "job.yaml";
const CATALOG: &str = "catalog.yaml";
const ACCOUNTS: &str = "accounts.yaml";
const USAGE: &str = "usage/a.csv";

const JOB_TEXT: &str = "\
name: calls
time_zone: UTC
clock: 2026-04-01
catalog: [catalog.yaml]
accounts: [accounts.yaml]
lookups: { zones: { file: zones.csv, key: zone } }
sources:
  - name: switch
    platform: switch
    service_type: voice
    path: usage
    mediation:
      columns: { units: bigint, at: timestamp }
      identity: [id]
      service: number
      time: at
      attributes: { region: \"lookup('zones', 'region', zone)\" }
      charges: { units: units }
";

const CATALOG_TEXT: &str = "\
currency: USD
prices:
  - { item: units, price: 1 }
";

const ACCOUNTS_TEXT: &str = "\
accounts:
  - { id: acme, currency: USD }
subscriptions:
  - { id: s1, account: acme, service_type: voice, services: [n1], from: 2026-03-01, to: 2026-04-01 }
";

/// Seven units.
const USAGE_TEXT: &str = "\
id,number,at,units,zone
1,n1,2026-03-10T00:00:00Z,3,far
2,n1,2026-03-20T00:00:00Z,4,far
";

/// What comes of a mistake before anybody follows the hint.
enum Told {
    /// An error: nothing is billed.
    Refused,
    /// A warning: this is billed, and the run ends with 1.
    Doubtful(&'static str),
    /// A remark: this is billed, and all is well.
    Remark(&'static str),
    /// An error of a file that says its types itself: nothing of it is billed, and the run ends with 1.
    Unread,
    /// An error of a job that needs a broker to run: only `check` is asked.
    Unrun,
}

/// A change of a file: its whole text, a part of it and what stands there instead, or more at its end.
enum Edit {
    Whole(&'static str, Vec<u8>),
    Swapped(&'static str, String, String),
    More(&'static str, String),
}

/// A mistake, what is told of it, and what the hint says to do.
struct Case {
    message: &'static str,
    hint: &'static str,
    told: Told,
    wrong: Vec<Edit>,
    advised: Vec<Edit>,
    total: &'static str,
}

impl Case {
    fn new(told: Told, message: &'static str, hint: &'static str) -> Self {
        Self {
            message,
            hint,
            told,
            wrong: Vec::new(),
            advised: Vec::new(),
            total: "7 USD",
        }
    }

    fn refused(message: &'static str, hint: &'static str) -> Self {
        Self::new(Told::Refused, message, hint)
    }

    fn doubtful(billed: &'static str, message: &'static str, hint: &'static str) -> Self {
        Self::new(Told::Doubtful(billed), message, hint)
    }

    fn remark(message: &'static str, hint: &'static str) -> Self {
        Self::new(Told::Remark("7 USD"), message, hint)
    }

    fn unrun(message: &'static str, hint: &'static str) -> Self {
        Self::new(Told::Unrun, message, hint)
    }

    fn wrong(mut self, edit: Edit) -> Self {
        self.wrong.push(edit);
        self
    }

    fn right(mut self, edit: Edit) -> Self {
        self.advised.push(edit);
        self
    }

    /// The total after the advice; that of the base unless said.
    fn total(self, total: &'static str) -> Self {
        Self { total, ..self }
    }
}

/// The cases with a single CSV file as their source: its rule is judged before anything is read.
fn of_one_file(mut cases: Vec<Case>) -> Vec<Case> {
    for case in &mut cases {
        let one = swap(JOB, "path: usage\n", "path: usage/a.csv\n");
        case.wrong.insert(0, one);
    }
    cases
}

fn put(file: &'static str, text: impl Into<Vec<u8>>) -> Edit {
    Edit::Whole(file, text.into())
}

fn swap(file: &'static str, part: impl Into<String>, by: impl Into<String>) -> Edit {
    Edit::Swapped(file, part.into(), by.into())
}

fn more(file: &'static str, text: impl Into<String>) -> Edit {
    Edit::More(file, text.into())
}

impl Edit {
    fn make(&self, desk: &Desk) {
        let before = |file: &str| std::fs::read_to_string(desk.at(file)).unwrap_or_default();
        match self {
            Self::Whole(file, text) => desk.write(file, text),
            Self::Swapped(file, part, by) => {
                let before = before(file);
                assert!(before.contains(part), "{part} is not in\n{before}");
                desk.write(file, before.replacen(part, by, 1));
            }
            Self::More(file, text) => desk.write(file, before(file) + text),
        }
    }
}

/// The job without a mistake.
fn base() -> Desk {
    Desk::new(&[
        (JOB, JOB_TEXT),
        (CATALOG, CATALOG_TEXT),
        (ACCOUNTS, ACCOUNTS_TEXT),
        ("zones.csv", "zone,region\nfar,abroad\n"),
        (USAGE, USAGE_TEXT),
    ])
}

fn check(desk: &Desk) -> (Exit, Vec<Value>) {
    let job = desk.at(JOB).display().to_string();
    let ended = millrace(&["check", &job, "--output", "json"]);
    let findings = ended.summary().as_array().unwrap().clone();
    // What is to be known and calls for nothing is told beside it.
    let advised =
        |finding: &Value| !text(finding, "hint").is_empty() || finding["severity"] != "info";
    (ended.exit, findings.into_iter().filter(advised).collect())
}

/// What a run billed; nothing where it billed none.
fn billed(ended: &Ended) -> String {
    match ended.totals().as_slice() {
        [] => "0 USD".to_owned(),
        totals => totals.join(", "),
    }
}

/// Makes the mistake, looks at what is told, follows the hint; the hint as it was told.
fn follow(case: &Case) -> String {
    let named = case.message;
    let desk = base();
    case.wrong.iter().for_each(|edit| edit.make(&desk));
    let (exit, findings) = check(&desk);
    let [finding] = findings.as_slice() else {
        panic!("{named}: one cause, and this is told: {findings:#?}");
    };
    let told = (text(finding, "message"), text(finding, "hint"));
    assert!(told.0.contains(case.message), "{named}: {told:?}");
    assert!(told.1.contains(case.hint), "{}: {told:?}", case.hint);
    let (expected, total) = match case.told {
        Told::Refused | Told::Unread | Told::Unrun => (Exit::Unusable, None),
        Told::Doubtful(total) => (Exit::Findings, Some(total)),
        Told::Remark(total) => (Exit::Ok, Some(total)),
    };
    assert_eq!(exit, expected, "{named}: {findings:#?}");
    if !matches!(case.told, Told::Unrun) {
        let ended = desk.run();
        let of_file = matches!(case.told, Told::Unread);
        let expected = if of_file { Exit::Findings } else { expected };
        assert_eq!(ended.exit, expected, "{named}: {ended:?}");
        match total {
            Some(total) => assert_eq!(billed(&ended), total, "{named}: {ended:?}"),
            None => assert!(
                format!("{ended:?}").contains(format!("{:?}", case.message).trim_matches('"')),
                "{named}: {ended:?}"
            ),
        }
    }
    case.advised.iter().for_each(|edit| edit.make(&desk));
    let (exit, findings) = check(&desk);
    assert_eq!(exit, Exit::Ok, "{named}: {findings:#?}");
    // Where the hint says that nothing is to be done, it stays.
    let left = !case.advised.is_empty();
    assert!(findings.is_empty() || !left, "{named}: {findings:#?}");
    if !matches!(case.told, Told::Unrun) {
        let ended = desk.run();
        assert_eq!(ended.exit, Exit::Ok, "{named}: {ended:?}");
        assert_eq!(billed(&ended), case.total, "{named}: {ended:?}");
    }
    told.1.to_owned()
}

/// The cases, by what they are about.
const AREAS: [fn() -> Vec<Case>; 10] = [
    job::cases,
    sources::cases,
    streams::cases,
    rules::cases,
    expressions::cases,
    catalog::cases,
    combined::cases,
    plans::cases,
    commitments::cases,
    accounts::cases,
];

/// What came of the cases.
#[derive(Default)]
struct Followed {
    /// The hints as they were told.
    hints: Vec<String>,
    /// The cases that failed; why stands in the output.
    failed: Vec<&'static str>,
}

/// All cases, each whatever became of the others.
static FOLLOWED: LazyLock<Followed> = LazyLock::new(|| {
    let of_area = |cases: fn() -> Vec<Case>| {
        let mut followed = Followed::default();
        for case in cases() {
            match catch_unwind(AssertUnwindSafe(|| follow(&case))) {
                Ok(hint) => followed.hints.push(hint),
                Err(_) => followed.failed.push(case.message),
            }
        }
        followed
    };
    std::thread::scope(|scope| {
        let areas = AREAS.map(|cases| scope.spawn(move || of_area(cases)));
        let mut followed = Followed::default();
        for area in areas {
            let area = area.join().unwrap();
            followed.hints.extend(area.hints);
            followed.failed.extend(area.failed);
        }
        followed
    })
});

#[test]
fn hints_followed_to_the_letter_lead_to_the_right_bill() {
    assert!(FOLLOWED.failed.is_empty(), "{:#?}", FOLLOWED.failed);
}

/// Hints that no edit of a small job can follow, and who follows them or why nobody does.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "check the bucket, the path and its spelling",
        "of objects that are not there: durable/remote_reference.rs asks a server",
    ),
    (
        "put `keep` and `version` back as they were",
        "of a job that goes on meanwhile: watching.rs follows it",
    ),
    (
        "set the clock of the machine",
        "of a job that closes bill units by the machine's clock: durable/archive/clock.rs follows it",
    ),
    (
        "it names no file; write s3://bucket/folder/file",
        "a part of the message about a URL, which no job can read without a server",
    ),
    (
        "write exact(column, scale)",
        "a float is told where it stands, before the function that takes it is looked at",
    ),
    (
        "convert the column first, with exact(column, scale)",
        "as above",
    ),
    (
        "the columns are ",
        "a column that a file lacks is told by its reader, before any expression is planned",
    ),
    (
        "write instant(x), the tenant's time, or instant(x, 'Europe/Prague')",
        "a fence behind others: nothing that is planned makes a time without a zone",
    ),
    (
        "write it in another way",
        "a defect of the planner, which is caught",
    ),
];

#[test]
fn every_hint_is_followed() {
    let written = literals::hints();
    let elsewhere = |hint: &str| ELSEWHERE.iter().any(|(part, _)| hint.contains(part));
    let missing = written
        .iter()
        .filter(|(_, hint)| !literals::is_among(hint, &FOLLOWED.hints) && !elsewhere(hint));
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "no case follows {missing:#?}");
    for (part, _) in ELSEWHERE {
        let stands = written.iter().any(|(_, hint)| hint.contains(part));
        assert!(stands, "no hint says {part}");
    }
    // What was told must have been found in the sources, or the look at them has become blind.
    let unseen = FOLLOWED.hints.iter().filter(|told| {
        let mut written = written.iter();
        !told.is_empty() && !written.any(|(_, hint)| literals::is_among(hint, &[(*told).clone()]))
    });
    let unseen: Vec<_> = unseen.collect();
    assert!(unseen.is_empty(), "not found in the sources: {unseen:#?}");
}
