//! `millrace init`: whatever the sample, what is written runs, and says what it guessed.

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, millrace};

fn init(desk: &Desk, sample: &str) -> Ended {
    let (folder, sample) = (desk.at("job"), desk.at(sample));
    let (folder, sample) = (folder.display().to_string(), sample.display().to_string());
    millrace(&["init", &folder, "--sample", &sample, "--currency", "EUR"])
}

fn run(desk: &Desk) -> Ended {
    let job = desk.at("job/job.yaml").display().to_string();
    millrace(&["run", &job, "--workers", "1", "--output", "json"])
}

/// A sample, what its quantities add up to, and what must be said of it.
const SAMPLES: [(&str, &str, &str, &[&str]); 8] = [
    (
        "calls.csv",
        "call_id,customer,started_at,zone,seconds,cost\n\
         1,acme,2026-01-05T10:00:00Z,home,60,0.5\n\
         2,initech,2026-02-05T10:00:00Z,far,7,0.25\n",
        "67",
        &[
            "who used: customer",
            "cost: looks like money",
            "time: started_at",
        ],
    ),
    (
        "meters.tsv",
        "Meter No\tDate\tkWh\nM-1\t2026-01-05\t1.25\nM-2\t2026-01-06\t\nM-1\t2026-01-07\t2\n",
        "3.25",
        &[
            "\"Meter No\"",
            "1 records have no number, taken for 0",
            "position",
        ],
    ),
    (
        "events.jsonl",
        "{\"id\": \"a\", \"user\": \"u1\", \"ts\": 1767603600000, \"usage\": {\"in\": 5, \"out\": 7}}\n\
         {\"id\": \"b\", \"user\": \"no\", \"ts\": 1767603601000, \"usage\": {\"in\": 1}}\n\
         {\"id\": \"c\", \"ts\": 1767603601000, \"usage\": {\"in\": 1}}\n",
        "14",
        &[
            "to_timestamp_millis(ts)",
            "quantity usage_in",
            "1 records name nobody",
            "[id]",
        ],
    ),
    (
        "seconds.csv",
        "time,device,n\n1767603600,d1,1\n1767603601,d2,2\n",
        "3",
        &["to_timestamp_seconds(\"time\")"],
    ),
    (
        "nothing.json",
        "[{\"name\": \"x\"}, {\"name\": \"y\"}]",
        "2",
        &[
            "no field holds a time",
            "each record counts as one",
            "all is of one account",
        ],
    ),
    (
        "semicolon.csv",
        "\u{feff}id;Account;when;units\r\n1;\"=A; B\";2026-01-05 10:00:00;3\r\n2;'C': #d;2026-01-05 11:00:00;4\r\n",
        "7",
        &["which name no zone"],
    ),
    (
        "keyed.json",
        "{\"r1\": {\"team\": \"a\", \"n\": 2, \"at\": \"2026-01-05T10:00:00+02:00\"}, \"r2\": {\"team\": \"b\", \"n\": 3, \"at\": \"2026-01-05T10:00:00+02:00\"}}",
        "5",
        &["which record: [key]"],
    ),
    (
        "large.csv",
        "id,org,at,bytes\n1,x,2026-01-05T10:00:00Z,12345678901234\n2,x,2026-01-05T10:00:00Z,0.5\n",
        "12345678901234.5",
        &["quantity bytes"],
    ),
];

#[test]
fn what_is_written_runs_and_counts_all_of_the_sample() {
    for (name, content, total, said) in SAMPLES {
        let desk = Desk::new(&[(name, content)]);
        let begun = init(&desk, name);
        assert_eq!(begun.exit, Exit::Ok, "{name}: {}\n{}", begun.out, begun.err);
        assert!(
            begun.out.contains("every price is a placeholder of 1"),
            "{}",
            begun.out
        );
        assert!(
            begun.out.contains(&format!("{total} EUR in all")),
            "{name}: {}",
            begun.out
        );
        for expected in said {
            assert!(
                begun.out.contains(expected),
                "{name}: {expected}\n{}",
                begun.out
            );
        }
        let job = desk.at("job/job.yaml").display().to_string();
        let checked = millrace(&["check", &job]);
        assert_eq!(checked.exit, Exit::Ok, "{name}: {}", checked.out);
        let ended = run(&desk);
        assert_eq!(ended.exit, Exit::Ok, "{name}: {}\n{}", ended.out, ended.err);
        assert_eq!(ended.totals(), [format!("{total} EUR")], "{name}");
        assert!(
            desk.at("job/out/aggregated/snapshot.csv").exists(),
            "{name}"
        );
    }
}

#[test]
fn a_parquet_file_is_a_sample_too() {
    // What a job wrote is Parquet with decimals, times and texts.
    let (name, content, total, _) = SAMPLES[0];
    let desk = Desk::new(&[(name, content)]);
    assert_eq!(init(&desk, name).exit, Exit::Ok);
    assert_eq!(run(&desk).exit, Exit::Ok);
    let raw = std::fs::read_dir(desk.at("job/out/monetised/snapshot")).unwrap();
    let part = raw.flatten().next().unwrap().path();
    std::fs::copy(part, desk.at("charges.parquet")).unwrap();
    let folder = desk.at("again").display().to_string();
    let sample = desk.at("charges.parquet").display().to_string();
    let begun = millrace(&["init", &folder, "--sample", &sample]);
    assert_eq!(begun.exit, Exit::Ok, "{}\n{}", begun.out, begun.err);
    assert!(begun.out.contains("event_time"), "{}", begun.out);
    assert!(
        begun.out.contains(&format!("{total} USD in all")),
        "{}",
        begun.out
    );
}

#[test]
fn nothing_is_written_over_and_what_is_no_sample_is_said() {
    let (name, content, ..) = SAMPLES[0];
    let desk = Desk::new(&[(name, content), ("job/catalog.yaml", "mine")]);
    let begun = init(&desk, name);
    assert_eq!((begun.exit, &*begun.out), (Exit::Unusable, ""));
    assert!(
        begun.err.contains("catalog.yaml is there already"),
        "{}",
        begun.err
    );
    assert!(!desk.at("job/job.yaml").exists());
    assert_eq!(
        std::fs::read_to_string(desk.at("job/catalog.yaml")).unwrap(),
        "mine"
    );
    for (name, content, expected) in [
        ("empty.csv", "", "no record of it has a field"),
        ("header.csv", "a,b\n", "it has no record"),
        ("data.bin", "x", "cannot be told from its name"),
        ("broken.json", "{\"a\": ", "cannot read"),
    ] {
        desk.write(name, content);
        let begun = init(&desk, name);
        assert_eq!(begun.exit, Exit::Unusable, "{name}");
        assert!(begun.err.contains(expected), "{name}: {}", begun.err);
    }
    let gone = init(&desk, "gone.csv");
    assert_eq!(gone.exit, Exit::Unusable);
}
