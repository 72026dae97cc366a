//! Scenarios as text: each file in `scenarios/` asks one question about a bill, and the snapshot of
//! its report is the answer. Reviewing a changed snapshot is reviewing a change to someone's bill.
//!
//! Every scenario is also checked against the oracle at every epoch, and on three workers.

use crate::scenario::language::parse;
use crate::scenario::report::{State, report};
use millrace_tests::engine::{accumulate, run};
use millrace_tests::oracle::{Bill, World};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

#[test]
fn scenarios_end_as_reviewed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = std::fs::read_dir(&folder).expect("the scenarios are there");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no scenarios found");
    let failed: Vec<String> = files
        .iter()
        .filter(|file| catch_unwind(AssertUnwindSafe(|| check(file))).is_err())
        .map(|file| file.display().to_string())
        .collect();
    assert!(
        failed.is_empty(),
        "scenarios that end otherwise: {failed:#?}"
    );
}

fn check(file: &Path) {
    let name = file
        .file_stem()
        .expect("a file")
        .to_string_lossy()
        .into_owned();
    let text = std::fs::read_to_string(file).expect("a readable scenario");
    let scenario = parse(&text).unwrap_or_else(|error| panic!("{name}.txt {error}"));

    let one = run(&scenario.rules, &scenario.script, 1, 0);
    let three = run(&scenario.rules, &scenario.script, 3, 7);
    let mut world = World::default();
    let (mut bill, mut again) = (Bill::default(), Bill::default());
    let mut states = vec![State::default()];
    for (epoch, changes) in (0..).zip(&scenario.script) {
        world.apply(epoch, changes);
        for (bill, run) in [(&mut bill, &one), (&mut again, &three)] {
            let published = run
                .epochs
                .iter()
                .filter(|published| published.epoch == epoch);
            published.for_each(|changes| accumulate(bill, changes));
        }
        assert_eq!(
            bill,
            world.bill(&scenario.rules),
            "{name}.txt, epoch {epoch}"
        );
        assert_eq!(bill, again, "{name}.txt, epoch {epoch}, three workers");
        states.push(State {
            bill: bill.clone(),
            buckets: world.buckets(&scenario.rules),
        });
    }
    let left = &states[states.len() - 1].buckets;
    let mut left: Vec<_> = left.iter().map(|(b, value)| (b.key, *value)).collect();
    left.sort_unstable();
    for run in [&one, &three] {
        let balances = run.charged.iter().flat_map(|groups| &groups.balances);
        let in_the_end = balances.filter(|(_, at, _)| at.is_none());
        let mut held: Vec<_> = in_the_end
            .flat_map(|(_, _, values)| values.clone())
            .collect();
        held.sort_unstable();
        assert_eq!(held, left, "{name}.txt, balances in the end");
    }

    insta::with_settings!({
        prepend_module_to_snapshot => false,
        omit_expression => true,
        description => scenario.question.clone(),
    }, {
        insta::assert_snapshot!(name, report(&scenario, &states));
    });
}
