//! Two sources of one stream: whose an identity is has to be said, and holds.

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, millrace};

const MEDIATION: &str = "\
columns: { at: timestamp, seconds: bigint }
identity: [id]
service: number
time: at
charges: { seconds: seconds }
";

const EAST: &str = "id,number,at,seconds\n1,a,2026-01-05T10:00:00Z,10\n";
const WEST: &str =
    "id,number,at,seconds\n1,a,2026-01-05T10:00:00Z,10\n2,a,2026-01-05T11:00:00Z,5\n";

/// A job with two sources of one stream, and what each says beside its path.
fn desk(east: &str, west: &str) -> Desk {
    let job = format!(
        "name: two\ntime_zone: UTC\nclock: 2026-02-01\nsources:\n  \
         - {{ name: east, platform: pbx, service_type: voice, mediation: mediation.yaml, {east} }}\n  \
         - {{ name: west, platform: pbx, service_type: voice, mediation: mediation.yaml, {west} }}\n\
         catalog: [catalog.yaml]\naccounts: [accounts.yaml]\n"
    );
    Desk::new(&[
        ("job.yaml", &job),
        ("mediation.yaml", MEDIATION),
        (
            "catalog.yaml",
            "currency: EUR\nprices: [{ item: seconds, price: 1 }]\n",
        ),
        (
            "accounts.yaml",
            "accounts: [{ id: acme, currency: EUR }]\nsubscriptions:\n  \
             - { id: s, account: acme, service_type: voice, services: [a] }\n",
        ),
        ("east/calls.csv", EAST),
        ("west/calls.csv", WEST),
    ])
}

#[test]
fn an_identity_is_the_sources_own_or_shared() {
    for (scope, total) in [("own", "25 EUR"), ("shared", "15 EUR")] {
        let said = |path: &str| format!("path: {path}, identity: {scope}");
        let desk = desk(&said("east"), &said("west"));
        let ended = desk.run();
        assert_eq!(ended.exit, Exit::Ok, "{scope}: {}", ended.err);
        assert_eq!(ended.totals(), [total], "{scope}");
    }
}

#[test]
fn one_file_is_billed_by_each_source_that_owns_its_identities() {
    let own = "path: west, identity: own";
    let ended = desk(own, own).run();
    assert_eq!(ended.totals(), ["30 EUR"], "{}", ended.err);
}

#[test]
fn what_is_not_said_is_refused() {
    for (east, west, why, advice) in [
        (
            "path: east",
            "path: west",
            "do not say whether",
            "`identity: own`",
        ),
        (
            "path: east, identity: own",
            "path: west",
            "do not say whether",
            "`identity: shared`",
        ),
        (
            "path: east, identity: own",
            "path: west, identity: shared",
            "only one has identities of its own",
            "the same `identity` in both",
        ),
        (
            "path: east, identity: shared",
            "path: east, identity: shared",
            "read the same files",
            "`identity: own` in both",
        ),
        (
            "path: east, identity: own",
            "path: west, corrections: true",
            "correct one another",
            "`identity: shared` in both",
        ),
    ] {
        let desk = desk(east, west);
        let checked = millrace(&["check", &desk.at("job.yaml").display().to_string()]);
        let ended = desk.run();
        assert_eq!(
            (checked.exit, ended.exit),
            (Exit::Unusable, Exit::Unusable),
            "{east}, {west}"
        );
        for part in [why, advice, "\"east\"", "\"west\""] {
            assert!(checked.out.contains(part), "{part}: {}", checked.out);
            assert!(ended.err.contains(part), "{part}: {}", ended.err);
        }
    }
    // A place in a file is no other source's, so there is nothing to say.
    let desk = desk("path: east", "path: west");
    desk.write(
        "mediation.yaml",
        MEDIATION.replace("identity: [id]", "identity: position"),
    );
    assert_eq!(desk.run().totals(), ["25 EUR"]);
}

/// A renamed source is told before anything is read: its records would be others.
#[test]
fn a_durable_job_whose_source_has_another_name_is_refused() {
    let desk = desk("path: east, identity: own", "path: west, identity: own");
    let job = std::fs::read_to_string(desk.at("job.yaml")).unwrap();
    let job = format!("{job}durability: {{ folder: state }}\n");
    desk.write("job.yaml", &job);
    assert_eq!(desk.run().totals(), ["25 EUR"]);
    desk.write("job.yaml", job.replace("name: west", "name: occident"));
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Unusable, "{}", ended.err);
    assert!(
        ended
            .err
            .contains("a source \"west\", which the job has not (give it its name again, or write `was: \"west\"`"),
        "{}",
        ended.err
    );
    desk.write("job.yaml", job);
    assert_eq!(desk.run().totals(), ["25 EUR"]);
}

/// A source that is renamed goes on where it was: what it has read, whose its identities are, what waits and
/// whether it is paused.
#[test]
fn a_source_that_had_another_name_goes_on() {
    let own = |path: &str| format!("path: {path}, identity: own");
    let desk = desk(&own("east"), &own("west"));
    let job = std::fs::read_to_string(desk.at("job.yaml")).unwrap();
    let job = format!("{job}durability: {{ folder: state }}\n");
    desk.write("job.yaml", &job);
    let unknown = "id,number,at,seconds\n9,b,2026-01-05T10:00:00Z,100\n";
    desk.write("west/unknown.csv", unknown);
    assert_eq!(desk.run().totals(), ["25 EUR"]);
    let path = desk.at("job.yaml").display().to_string();
    assert_eq!(millrace(&["pause", &path, "west"]).exit, Exit::Ok);
    // Some for the second time, and one that is new.
    let more = "3,a,2026-01-05T12:00:00Z,7\n";
    desk.write("west/more.csv", format!("{WEST}{more}"));
    assert_eq!(desk.run().totals(), ["25 EUR"]);
    let renamed = |name: &str, path: &str| {
        let now = format!("name: {name}, was: west");
        job.replace("name: west", &now)
            .replace("path: west", &format!("path: {path}"))
    };
    desk.write("job.yaml", renamed("occident", "west"));
    let ended = desk.run();
    assert_eq!(ended.totals(), ["25 EUR"], "{}", ended.err);
    let status = millrace(&["status", &path, "--output", "json"]).summary();
    assert_eq!(status["paused"], serde_json::json!(["occident"]));
    assert_eq!(millrace(&["resume", &path, "occident"]).exit, Exit::Ok);
    let ended = desk.run();
    assert_eq!(ended.totals(), ["32 EUR"], "{}", ended.err);
    assert_eq!(ended.summary()["records"]["duplicate"], 2);
    assert_eq!(ended.summary()["records"]["suspended"], 1);
    // Another name, and another place; what waited is billed.
    std::fs::rename(desk.at("west"), desk.at("wild")).unwrap();
    desk.write("job.yaml", renamed("wild", "wild"));
    let accounts = std::fs::read_to_string(desk.at("accounts.yaml")).unwrap();
    desk.write("accounts.yaml", accounts.replace("[a]", "[a, b]"));
    let ended = desk.run();
    assert_eq!(ended.totals(), ["132 EUR"], "{}", ended.err);
    assert_eq!(ended.summary()["records"]["duplicate"], 2);
    // A file that was read is the source's as ever.
    desk.write(
        "wild/calls.csv",
        format!("{WEST}4,a,2026-01-05T12:00:00Z,1\n"),
    );
    assert_eq!(desk.run().totals(), ["133 EUR"]);
    // The name that identities are made of stays.
    let unsaid = renamed("wild", "wild").replace(", was: west", "");
    desk.write("job.yaml", &unsaid);
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Unusable, "{}", ended.err);
    assert!(ended.err.contains("write `was: \"west\"`"), "{}", ended.err);
    desk.write(
        "job.yaml",
        unsaid.replace("name: wild", "name: wild, was: east"),
    );
    let refused = millrace(&["check", &path]);
    let both = "\"east\" and \"wild\" are both known as \"east\"";
    assert!(refused.out.contains(both), "{}", refused.out);
}
