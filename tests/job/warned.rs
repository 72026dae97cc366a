//! What is told of a configuration that holds: a finding for which money may be wrong ends a run with
//! exit code 1 and stands in its summary, a remark is said and no more; `check` tells the two apart as
//! a run does.

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, millrace, text};

const JOB: &str = "\
name: calls
time_zone: Europe/Prague
clock: 2026-04-01
catalog: [catalog.yaml]
accounts: [accounts.yaml]
sources:
  - name: switch
    platform: switch
    service_type: voice
    path: calls.csv
    mediation:
      columns: { units: bigint, at: timestamp }
      identity: [id]
      service: number
      time: at
      attributes: { zone: zone }
      charges: { units: units }
";

const CATALOG: &str = "\
currency: USD
prices:
  - { item: units, price: 1 }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: USD }
subscriptions:
  - { id: s1, account: acme, service_type: voice, services: [n1], from: 2026-03-01, to: 2026-04-01 }
";

const CALLS: &str = "\
id,number,at,units,zone
1,n1,2026-03-10T00:00:00Z,3,far
";

fn desk() -> Desk {
    Desk::new(&[
        ("job.yaml", JOB),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("calls.csv", CALLS),
    ])
}

fn check(desk: &Desk) -> Ended {
    millrace(&["check", &desk.at("job.yaml").display().to_string()])
}

/// The findings of the configuration in a summary.
fn warnings(ended: &Ended) -> Vec<String> {
    let summary = ended.summary();
    let told = summary["warnings"].as_array().unwrap().iter();
    told.map(|told| told.as_str().unwrap().to_owned()).collect()
}

/// A configuration for which money may be wrong: a file, what it holds, and what is told of it.
const ABOUT_MONEY: &[(&str, &str, &str)] = &[
    (
        "catalog.yaml",
        "currency: USD\nprices:\n  - { id: low, item: units, price: 1 }\n  \
         - { id: high, item: units, price: 2, priority: 1 }\n",
        "the price \"low\" is never used",
    ),
    (
        "catalog.yaml",
        "currency: USD\nprices:\n  - { item: units, price: 1 }\n  \
         - { item: units, account: nobody, price: 2 }\n",
        "is for the account \"nobody\", which is unknown",
    ),
    (
        "catalog.yaml",
        "currency: USD\nplans:\n  - allowances: [{ id: free, units: 1, items: [texts] }]\nprices:\n  \
         - { item: units, price: 1 }\n",
        "no mediation rule of the job charges \"texts\", which a part of a plan here is for",
    ),
    (
        "catalog.yaml",
        "currency: USD\nplans:\n  - commitments: [{ id: least, amount: 1, items: [texts] }]\nprices:\n  \
         - { item: units, price: 1 }\n",
        "no mediation rule of the job charges \"texts\", which a part of a plan here is for",
    ),
    (
        "catalog.yaml",
        "currency: USD\ntables:\n  - file: prices.csv\n    columns: { vaild_from: timestamp }\n    \
         prices: [{ item: \"'units'\", price: price, from: valid_from }]\n",
        "`columns` declares \"vaild_from\", which no expression reads\n  hint: did you mean \"valid_from\"?",
    ),
    (
        "accounts.yaml",
        "accounts:\n  - { id: acme, currency: USD }\nsubscriptions:\n  \
         - { id: s1, account: acme, service_type: voice, services: [n1], from: 2026-03-01 }\n  \
         - { id: s2, account: bolt, service_type: voice, services: [n2], from: 2026-03-01 }\n",
        "names the account \"bolt\", which is unknown",
    ),
];

#[test]
fn a_run_with_a_doubtful_configuration_ends_with_one_and_its_summary_says_why() {
    for (file, content, expected) in ABOUT_MONEY {
        let desk = desk();
        desk.write("prices.csv", "price,valid_from\n1,2026-01-01\n");
        desk.write(file, content);
        let ended = desk.run();
        assert_eq!(ended.exit, Exit::Findings, "{expected}: {ended:?}");
        let told = warnings(&ended);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(expected), "{expected}: {told:?}");
        assert_eq!(check(&desk).exit, Exit::Findings, "{expected}");
        // The tables of a terminal have it, too.
        let job = desk.at("job.yaml").display().to_string();
        let shown = millrace(&["run", &job, "--workers", "1"]);
        assert!(shown.out.contains("\nConfiguration\n"), "{}", shown.out);
        assert_eq!(millrace(&["bill", &job]).exit, Exit::Findings, "{expected}");
    }
}

/// What no money depends on.
const REMARKS: &[(&str, &str, &str)] = &[
    (
        "catalog.yaml",
        "currency: USD\nprices:\n  - { item: units, price: 1 }\n  - { item: texts, price: 1 }\n",
        "no mediation rule of the job charges \"texts\", which a row here is for",
    ),
    (
        "catalog.yaml",
        "currency: USD\ntables:\n  - file: prices.csv\n    columns: { note: boolean }\n    \
         prices: [{ item: \"'units'\", price: price }]\n",
        "`columns` declares \"note\", which no expression reads",
    ),
];

#[test]
fn remarks_are_said_and_all_is_well() {
    for (file, content, expected) in REMARKS {
        let desk = desk();
        desk.write("prices.csv", "price,note\n1,x\n");
        desk.write(file, content);
        let ended = desk.run();
        assert_eq!(ended.exit, Exit::Ok, "{expected}: {ended:?}");
        assert!(warnings(&ended).is_empty(), "{ended:?}");
        assert!(ended.err.contains(expected), "{}", ended.err);
        let checked = check(&desk);
        assert_eq!(checked.exit, Exit::Ok, "{}", checked.out);
        assert!(checked.out.contains(expected), "{}", checked.out);
        assert!(checked.out.ends_with(": 1 remark\n"), "{}", checked.out);
    }
}

#[test]
fn columns_that_a_rule_declares_and_does_not_read_are_told() {
    let slip = JOB.replace("at: timestamp }", "at: timestamp, zoen: bigint }");
    let idle = JOB.replace("at: timestamp }", "at: timestamp, colour: bigint }");
    let calls = CALLS.replace("zone\n", "zone,zoen,colour\n");
    let calls = calls.replace("far\n", "far,1,2\n");
    for (job, exit, place, hint) in [
        (
            slip,
            Exit::Findings,
            "job.yaml:12:54",
            "did you mean \"zone\"?",
        ),
        (idle, Exit::Ok, "job.yaml:12:56", "leave it out"),
    ] {
        let desk = desk();
        desk.write("job.yaml", &job);
        desk.write("calls.csv", &calls);
        let ended = desk.run();
        assert_eq!(ended.exit, exit, "{ended:?}");
        assert!(ended.err.contains(place), "{}", ended.err);
        assert!(ended.err.contains(hint), "{}", ended.err);
        assert_eq!(check(&desk).exit, exit);
    }
}

#[test]
fn what_is_said_of_the_configuration_is_gone_with_its_cause() {
    let desk = desk();
    let (file, content, _) = ABOUT_MONEY[0];
    desk.write(file, content);
    assert_eq!(desk.run().exit, Exit::Findings);
    desk.write(file, CATALOG);
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
    assert_eq!(text(&ended.summary()["totals"][0], "amount"), "3");
}
