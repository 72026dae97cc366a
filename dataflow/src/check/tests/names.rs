//! Each name of a sound job misspelled in turn: none goes silent.

use super::*;

const JOB: &str = "\
name: gateway
time_zone: UTC
sources:
  - name: agents
    platform: proxy
    service_type: model
    path: usage.csv
    mediation: mediation.yaml
lookups:
  teams: { file: teams.csv, key: session }
catalog: [catalog.yaml]
accounts: [accounts.yaml]
billing: { aggregate_by: [region] }
";

const RULE: &str = "\
columns: { tokens: bigint, seconds: bigint, moment: timestamp }
let: { counted: tokens }
identity: [number]
service: lookup('teams', 'team', session)
time: moment
attributes: { region: place, variant: variety }
charges: { tokens_used: counted, seconds_used: seconds }
";

const CATALOG: &str = "\
currency: USD
plans:
  - list: premium
    allowances: [{ id: included, units: 10, items: [tokens_used] }]
    accumulators:
      - { id: spending, counts: money, items: [tokens_used, seconds_used] }
      - { id: consumed, items: [tokens_used] }
    caps: [{ id: ceiling, limit: 100, items: [tokens_used] }]
    commitments: [{ id: minimum, accumulator: spending, amount: 5 }]
prices:
  - { item: tokens_used, price: 1 }
  - { item: tokens_used, price: 2, when: { region: north } }
  - { item: seconds_used, price: 3, when: { variant: large } }
  - { list: premium, item: tokens_used, model: graduated, by: consumed, tiers: [{ price: 1 }] }
  - { item: tokens_used, account: initech, price: 4 }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: initech, currency: USD }
subscriptions:
  - { id: initech-main, account: initech, from: 2026-01-01, price_lists: [premium, standard], group: together, service_type: model, services: [alpha] }
  - { id: initech-more, account: initech, from: 2026-01-01, group: together, service_type: model, services: [gamma] }
  - { id: initech-side, account: initech, from: 2026-01-01, group: together, service_type: model, services: [delta] }
  - { id: initech-child, account: initech, from: 2026-01-01, parent: initech-main, service_type: model, services: [kappa] }
";

const FILES: &[(&str, &str)] = &[
    ("job.yaml", JOB),
    ("mediation.yaml", RULE),
    ("catalog.yaml", CATALOG),
    ("accounts.yaml", ACCOUNTS),
    (
        "usage.csv",
        "number,session,place,variety,tokens,seconds,moment\n1,s,north,large,5,5,2026-02-01T00:00:00Z\n",
    ),
    ("teams.csv", "session,team\ns,alpha\n"),
];

/// The names of each file: those that another place defines or asks for.
const NAMES: &[(&str, &[&str])] = &[
    ("job.yaml", &["model", "teams", "region"]),
    (
        "mediation.yaml",
        &[
            "teams",
            "team'",
            "session",
            "region",
            "variant",
            "tokens_used",
            "seconds_used",
            "counted",
            "place",
            "variety",
            "moment",
            "number",
        ],
    ),
    (
        "catalog.yaml",
        &[
            "premium",
            "tokens_used",
            "seconds_used",
            "spending",
            "consumed",
            "region",
            "variant",
            "initech",
            "USD",
        ],
    ),
    (
        "accounts.yaml",
        &[
            "premium",
            "standard",
            "together",
            "model",
            "account: initech",
            "initech-main",
            "USD",
        ],
    ),
];

fn findings(changed: &str, text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (file, sound) in FILES {
        let text = if *file == changed { text } else { sound };
        fs::write(folder.path().join(file), text).unwrap();
    }
    let found = check(&folder.path().join("job.yaml"));
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    let place = format!("{}/", folder.path().display());
    lines.join("\n").replace(&place, "")
}

/// The name, the last word where there are several, with its middle letter left out.
fn misspelled(name: &str) -> String {
    let start = name.rfind(' ').map_or(0, |space| space + 1);
    let middle = start + (name.len() - start) / 2;
    format!("{}{}", &name[..middle], &name[middle + 1..])
}

#[test]
fn the_job_is_sound() {
    assert_eq!(findings("", ""), "");
}

#[test]
fn no_misspelled_name_goes_silent() {
    for (file, names) in NAMES {
        let sound = FILES.iter().find(|(name, _)| name == file).unwrap().1;
        for name in *names {
            let places: Vec<usize> = sound.match_indices(name).map(|(at, _)| at).collect();
            assert!(!places.is_empty(), "{name} is not in {file}");
            for at in places {
                let wrong = misspelled(name);
                let text = format!("{}{wrong}{}", &sound[..at], &sound[at + name.len()..]);
                let line = sound[..at].lines().count();
                let found = findings(file, &text);
                let told = wrong
                    .rsplit([' ', '\''])
                    .find(|word| !word.is_empty())
                    .unwrap();
                let right = name
                    .rsplit([' ', '\''])
                    .find(|word| !word.is_empty())
                    .unwrap();
                // Where the cause is seen from the other side, that side is named.
                let named = found.contains(told) || found.contains(right);
                assert!(named, "{wrong} in line {line} of {file}:\n{found}");
            }
        }
    }
}

/// What is changed in which file, and what is said of it.
const TOLD: &[(&str, &str, &str, &str)] = &[
    // A price that no usage can meet, and that another row would stand in for.
    (
        "catalog.yaml",
        "region: north",
        "regin: north",
        "catalog.yaml:12:5: no mediation rule that charges \"tokens_used\" defines the attribute \
         \"regin\"\n  hint: did you mean \"region\"? Otherwise other rows would price the item instead",
    ),
    // Its usage would wait, so that it is told anyway.
    (
        "catalog.yaml",
        "variant: large",
        "colour: red",
        "catalog.yaml:13:5: warning: no mediation rule that charges \"seconds_used\" defines the \
         attribute \"colour\"",
    ),
    (
        "catalog.yaml",
        "  - { item: tokens_used, price: 1 }\n",
        "  - { item: tokens_used, price: 1 }\n  - { item: minutes, price: 1 }\n  - { item: texts, price: 1 }\n",
        "catalog.yaml:12:5: info: no mediation rule of the job charges \"minutes\", \"texts\", which \
         2 rows here are for\n  hint: the rules charge \"seconds_used\", \"tokens_used\"; in a catalog that \
         several jobs share nothing is to be done",
    ),
    (
        "catalog.yaml",
        "item: seconds_used, price",
        "item: second_used, price",
        "catalog.yaml:13:5: no mediation rule charges the item \"second_used\"\n  hint: did you mean \
         \"seconds_used\"?",
    ),
    (
        "accounts.yaml",
        "[premium, standard]",
        "[gold, standard]",
        "accounts.yaml:4:5: the price list \"gold\" has no price and no plan\n  hint: add prices to the \
         list, or leave it out: the other lists price its usage",
    ),
    (
        "accounts.yaml",
        "service_type: model, services: [gamma]",
        "service_type: voice, services: [gamma]",
        "accounts.yaml:5:110: info: no source of the job has the service type \"voice\", which a service \
         here has",
    ),
    (
        "job.yaml",
        "[region]",
        "[colour]",
        "job.yaml:13:27: no mediation rule defines the attribute \"colour\"\n  hint: lines are separated by \
         one of price, region, service, service_type, subscription, variant",
    ),
    (
        "mediation.yaml",
        "lookup('teams', 'team', session)",
        "session",
        "job.yaml:10:18: info: no mediation rule asks the lookup table \"teams\"",
    ),
    (
        "catalog.yaml",
        "region: north",
        "region: \"*\"",
        "catalog.yaml:12:5: the price \"standard/tokens_used\" [always, open) overlaps",
    ),
    (
        "catalog.yaml",
        "region: north",
        "region: \"\"",
        "catalog.yaml:12:52: `when` gives \"region\" no value\n  hint: write the value, or `*` where the \
         price is for any",
    ),
    (
        "catalog.yaml",
        "account: initech",
        "account: \"\"",
        "catalog.yaml:15:35: \"account\" is empty\n  hint: write a value, or leave the key out",
    ),
    (
        "catalog.yaml",
        "  - { item: tokens_used, price: 1 }\n",
        "  - { item: tokens_used, price: 1 }\n  - { id: new, item: tokens_used, price: 7, priority: 1 }\n",
        "catalog.yaml:11:5: warning: the price \"standard/tokens_used\" is never used: \"new\" of \
         catalog.yaml:12 has the same conditions and a higher priority whenever it holds",
    ),
    (
        "job.yaml",
        "service_type: model",
        "service_type: model\n    record_type: prepaid",
        "job.yaml:7:18: unknown record type \"prepaid\"\n  hint: there is `postpaid` alone",
    ),
    (
        "job.yaml",
        "usage.csv",
        "usage.csv\n    format: jsonl\n    csv: { delimiter: ; }",
        "job.yaml:9:10: `csv` is for CSV files, and these are none",
    ),
    (
        "job.yaml",
        "platform: proxy",
        "platform:",
        "job.yaml:5:13: the key has no value\n  hint: write the value, or leave the key out",
    ),
];

#[test]
fn each_finding_says_what_would_happen() {
    for (file, from, to, expected) in TOLD {
        let sound = FILES.iter().find(|(name, _)| name == file).unwrap().1;
        assert!(sound.contains(from), "{from} is not in {file}");
        let found = findings(file, &sound.replacen(from, to, 1));
        assert!(
            found.lines().any(|_| found.contains(expected)),
            "{to} in {file}: expected\n{expected}\nin\n{found}"
        );
    }
}

/// Parts of a price list that a shared catalog has for other jobs keep nobody from running.
#[test]
fn a_shared_catalog_is_only_remarked_upon() {
    let more: String = (0..40)
        .map(|at| format!("  - {{ item: other_{at}, when: {{ shade: s }}, price: 1 }}\n"))
        .collect();
    let found = findings("catalog.yaml", &format!("{CATALOG}{more}"));
    assert_eq!(found.lines().count(), 2, "{found}");
    assert!(
        found.contains("and 35 more, which 40 rows here are for"),
        "{found}"
    );
    assert!(found.contains(": info: "), "{found}");
}
