//! What a replay and a job with an archive refuse, and what they say.

use super::replay::JANUARY;
use super::world::{ACCOUNTS, desk, job, replay, replayed};
use crate::durability::bytes;
use millrace::cli::Exit;
use millrace_tests::jobs::millrace;

#[test]
fn bad_input_is_said() {
    let desk = desk();
    assert_eq!(desk.run().exit, Exit::Ok);
    let refused = |more: &[&str], said: &[&str]| {
        let ended = replay(&desk, more);
        assert_eq!(
            (ended.exit, ended.out.as_str()),
            (Exit::Unusable, ""),
            "{ended:?}"
        );
        for said in said {
            assert!(ended.err.contains(said), "{said:?} is not in {}", ended.err);
        }
    };
    refused(
        &["--account", "acne"],
        &["no account \"acne\"", "did you mean \"acme\"?"],
    );
    refused(
        &["--from", "2027-01-01"],
        &["no closed period", "2026-04-01T00:00:00Z"],
    );
    refused(
        &["--from", "soon"],
        &["\"soon\" is no instant", "2026-03-31"],
    );
    refused(
        &["--from", "2026-03-01", "--to", "2026-02-01"],
        &["--from must be before --to"],
    );
    refused(&["--workers", "0"], &["from 1 to 64 workers"]);
    // Everything wrong with a catalog at once.
    desk.write("bad.yaml", "currency: EUR\nprices:\n  - { item: seconds, price: much }\n  - { item: seconds, prise: 1 }\n");
    refused(
        &["--catalog", &desk.at("bad.yaml").display().to_string()],
        &["much", "prise"],
    );
    let cycles = ACCOUNTS.replace(
        "{ id: acme, currency: EUR }",
        "{ id: acme, currency: EUR, billing: { anniversary: 2026-01-15 } }",
    );
    desk.write("cycles.yaml", cycles);
    refused(
        &[
            "--accounts-file",
            &desk.at("cycles.yaml").display().to_string(),
        ],
        &["\"acme\"", "another billing cycle"],
    );
    // acme is billed by the month, bulk by the quarter: a number moves from one to the other, or acme
    // shares the balances of bulk.
    let moved = ACCOUNTS
        .replace(
            "services: [\"+1\", \"+2\"]",
            "services: [{ id: \"+1\", to: 2026-02-10 }, \"+2\"]",
        )
        .replace(
            "services: [\"+5\"]",
            "services: [\"+5\", { id: \"+1\", from: 2026-02-10 }]",
        );
    desk.write("moved.yaml", &moved);
    let path = desk.at("moved.yaml").display().to_string();
    let says = [
        "\"+1\" between accounts with different billing cycles",
        "acme",
        "bulk",
    ];
    refused(&["--accounts-file", &path], &says);
    refused(&["--accounts-file", &path, "--account", "bulk"], &says);
    // Between accounts of one cycle it is a difference.
    let among = ACCOUNTS
        .replace("services: [\"+1\", \"+2\"]", "services: [\"+2\"]")
        .replace("services: [\"+4\"]", "services: [\"+4\", \"+1\"]");
    desk.write("among.yaml", &among);
    let path = desk.at("among.yaml").display().to_string();
    replayed(&replay(&desk, &["--accounts-file", &path]), Exit::Findings);
    let shared = ACCOUNTS
        .replace(
            "account: acme, price_lists",
            "account: acme, group: all, price_lists",
        )
        .replace(
            "account: bulk, price_lists",
            "account: bulk, group: all, price_lists",
        );
    desk.write("shared.yaml", &shared);
    let path = desk.at("shared.yaml").display().to_string();
    refused(
        &["--accounts-file", &path],
        &["acme", "share balances with other cycles"],
    );
    let nowhere = millrace(&["replay", &desk.at("nowhere").display().to_string()]);
    assert_eq!(nowhere.exit, Exit::Unusable);
    assert!(
        nowhere.err.contains("there is no archive at"),
        "{}",
        nowhere.err
    );
    // A file that is gone is named.
    let gone = std::fs::read_dir(desk.at("closed/periods").join(JANUARY)).unwrap();
    let gone = gone.map(|entry| entry.unwrap().path());
    let gone = gone
        .filter(|path| path.display().to_string().contains("usage-"))
        .min()
        .unwrap();
    std::fs::remove_file(&gone).unwrap();
    refused(
        &[],
        &[
            gone.file_name().unwrap().to_str().unwrap(),
            "does not exist",
        ],
    );
}

#[test]
fn a_job_file_says_what_is_wrong_with_its_archive() {
    let desk = desk();
    let wrong = job("2026-04-20", "closed", "out").replace("after: 10d", "after: -1d");
    desk.write("job.yaml", wrong);
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Unusable);
    assert!(
        ended.err.contains("\"-1d\" is no length of time"),
        "{}",
        ended.err
    );
    desk.write("job.yaml", job("2026-04-20", "gopher://x", "out"));
    assert!(desk.run().err.contains("use a path, file:// or s3://"));
}

/// Runs without state number records anew, each its own way, so none can go on from what the other archived: both
/// are told, nothing is touched, and what they say to do comes to the same bill.
#[test]
fn an_archive_goes_on_with_state_or_without_as_it_was_written() {
    const STATE: &str = "durability: { folder: state, interval: 20ms }\n";
    let desk = desk();
    let plain = job("2026-04-20", "closed", "out");
    let first = desk.run();
    assert_eq!(first.exit, Exit::Ok, "{}", first.err);
    let archived = bytes(&desk.at("closed"));
    let is_refused = |says: [&str; 2]| {
        let before = ["closed", "anew", "out"].map(|folder| bytes(&desk.at(folder)));
        let refused = desk.run();
        assert_eq!(refused.exit, Exit::Unusable, "{}", refused.err);
        for says in says {
            assert!(refused.err.contains(says), "{}", refused.err);
        }
        let now = ["closed", "anew", "out"].map(|folder| bytes(&desk.at(folder)));
        assert!(before == now, "something was touched");
    };
    // What was read then is gone, and what is left would have other numbers: less would be billed.
    let gone = std::fs::read(desk.at("calls/a.csv")).unwrap();
    std::fs::remove_file(desk.at("calls/a.csv")).unwrap();
    desk.write("job.yaml", format!("{plain}{STATE}"));
    let says = [
        "was written by runs without durable state",
        "give `archive.folder` an empty folder",
    ];
    is_refused(says);
    assert!(!desk.at("state/manifest").exists(), "a run has begun");
    // As it says.
    desk.write("calls/a.csv", gone);
    let anew = job("2026-04-20", "anew", "out");
    desk.write("job.yaml", format!("{anew}{STATE}"));
    let kept = desk.run();
    assert_eq!(kept.exit, Exit::Ok, "{}", kept.err);
    assert_eq!(kept.totals(), first.totals());
    let path = desk.at("anew").display().to_string();
    let again = millrace(&["replay", &path, "--output", "json"]);
    replayed(&again, Exit::Ok);
    // And the other way round.
    desk.write("job.yaml", &anew);
    is_refused([
        "was written from durable state",
        "write `durability` as it was",
    ]);
    desk.write("job.yaml", format!("{anew}{STATE}"));
    let back = desk.run();
    assert_eq!(
        (back.exit, back.totals()),
        (Exit::Ok, first.totals()),
        "{}",
        back.err
    );
    // Nothing is forgotten of the first, and it goes on without state.
    assert_eq!(bytes(&desk.at("closed")), archived);
    desk.write("job.yaml", plain);
    let without = desk.run();
    assert_eq!(
        (without.exit, without.totals()),
        (Exit::Ok, first.totals()),
        "{}",
        without.err
    );
}
