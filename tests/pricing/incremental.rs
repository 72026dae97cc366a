//! Whatever happens, in whatever order, on however many workers: what the graph has published after
//! each epoch is what the oracle computes from scratch.
//!
//! `MILLRACE_CASES=2000 cargo test -p millrace-tests --test pricing incremental` runs longer than usual.

use crate::history::{History, histories, rules, take_back};
use millrace::publish::EpochChanges;
use millrace_operators::charge::ItemImpact;
use millrace_operators::domain::{
    ActivityKind, ClassKey, EventTime, ImpactKind, Reason, ServiceKey, Stage,
};
use millrace_operators::epoch::Epoch;
use millrace_operators::rate::Rating;
use millrace_tests::engine::{INSTANTS, Run, accumulate, run};
use millrace_tests::oracle::{Bill, BillRules, Changes, World};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::FileFailurePersistence;
use std::collections::{BTreeMap, BTreeSet};

fn cases() -> ProptestConfig {
    let wanted = std::env::var("MILLRACE_CASES").ok();
    let cases = wanted.and_then(|cases| cases.parse().ok()).unwrap_or(96);
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/incremental.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        ..ProptestConfig::with_cases(cases)
    }
}

/// The published epochs, each under its number.
fn by_epoch(epochs: &[EpochChanges]) -> BTreeMap<Epoch, &EpochChanges> {
    let found: BTreeMap<_, _> = epochs.iter().map(|e| (e.epoch, e)).collect();
    assert_eq!(found.len(), epochs.len(), "an epoch is published once");
    found
}

/// Everything in an epoch, as text, for comparison to the byte.
fn text(epochs: &[EpochChanges]) -> String {
    let mut text = String::new();
    for e in epochs {
        let parts = (&e.lines, &e.suspense, &e.faults, &e.counts, &e.charges);
        let in_order = (&e.impacts, &e.activity, &e.notices);
        text.push_str(&format!("{} {parts:#?} {in_order:#?}\n", e.epoch));
    }
    text
}

/// Received = ignored + error + duplicate + conflict + suspended + discarded + monetised, in every file.
fn check_conservation(world: &World, bill: &Bill) {
    let mut settled = BTreeMap::new();
    for ((file, _), count) in &bill.counts {
        assert!(*count > 0, "no count of nothing is published");
        *settled.entry(*file).or_insert(0) += count;
    }
    assert_eq!(settled, world.received());
}

/// What all workers hold open is what was published, in the order promised.
fn check_open(rules: &BillRules, script: &[Changes], run: &Run, bill: &Bill) {
    let key = |rating: &Rating| match rating {
        Rating::Charge(c) => (c.service, c.class, c.time, c.record, c.item),
        Rating::Priced(p) => (p.terms.service, p.terms.class, p.time, p.record, 0),
        // Discarded usage comes behind, in the order of records.
        Rating::Suspense(s) if s.reason == Reason::Discarded => {
            (ServiceKey(u64::MAX), ClassKey(0), EventTime(0), s.record, 0)
        }
        Rating::Suspense(s) => (s.service, s.class, s.time, s.record, 0),
    };
    let (mut charges, mut suspense, mut priced) = (Vec::new(), Vec::new(), Vec::new());
    for ratings in &run.open {
        assert!(ratings.is_sorted_by_key(key));
        for rating in ratings {
            match rating {
                Rating::Charge(charge) => charges.push(*charge),
                Rating::Priced(usage) => priced.push(usage.record),
                Rating::Suspense(fault) => suspense.push(*fault),
            }
        }
    }
    let (mut impacts, mut notices, mut in_order) = (Vec::new(), Vec::new(), Vec::new());
    for groups in &run.charged {
        for (charge, of_item) in &groups.charges {
            charges.push(*charge);
            in_order.extend((charge.item == 0).then_some(charge.record));
            impacts.extend(ItemImpact::of(charge, of_item));
        }
        in_order.extend(groups.suspense.iter().map(|suspense| suspense.record));
        suspense.extend(&groups.suspense);
        notices.extend(&groups.notices);
    }
    assert_eq!(charges.len(), bill.charges.len());
    same("open charges", &BTreeSet::from_iter(charges), &bill.charges);
    same("open impacts", &BTreeSet::from_iter(impacts), &bill.impacts);
    same("open notices", &BTreeSet::from_iter(notices), &bill.notices);
    let undoubled = bill
        .suspense
        .iter()
        .filter(|s| s.reason.stage() != Stage::Dedup);
    suspense.sort_unstable();
    assert_eq!(suspense, undoubled.copied().collect::<Vec<_>>());
    priced.sort_unstable();
    in_order.sort_unstable();
    assert_eq!(priced, in_order);
    check_balances(rules, script, run);
}

/// What the buckets of every group hold, at any time, is what its events have left in them.
fn check_balances(rules: &BillRules, script: &[Changes], run: &Run) {
    let mut world = World::default();
    for (epoch, changes) in (0..).zip(script) {
        world.apply(epoch, changes);
    }
    let (_, courses, _) = world.bill_and_balances(rules);
    let mut expected = Vec::new();
    for (group, course) in courses {
        for at in [None].into_iter().chain(INSTANTS.map(Some)) {
            expected.push((group, at, course.at(at)));
        }
    }
    let all = run.charged.iter().flat_map(|groups| &groups.balances);
    let mut found: Vec<_> = all.cloned().collect();
    found.sort();
    expected.sort();
    same("balances", &found, &expected);
}

/// Says what is too much and what is missing, not all that there is.
fn same<'a, T, C>(what: &str, published: &'a C, expected: &'a C)
where
    T: PartialEq + std::fmt::Debug,
    &'a C: IntoIterator<Item = T>,
{
    let (published, expected): (Vec<T>, Vec<T>) = (
        published.into_iter().collect(),
        expected.into_iter().collect(),
    );
    let surplus: Vec<&T> = published
        .iter()
        .filter(|row| !expected.contains(row))
        .collect();
    let missing: Vec<&T> = expected
        .iter()
        .filter(|row| !published.contains(row))
        .collect();
    assert!(
        surplus.is_empty() && missing.is_empty(),
        "{what}: published and wrong {surplus:#?}, missing {missing:#?}"
    );
}

/// Compares a run with the oracle at every epoch and returns the state in the end.
fn check(rules: &BillRules, script: &[Changes], epochs: &[EpochChanges]) -> Bill {
    let published = by_epoch(epochs);
    let mut world = World::default();
    let mut bill = Bill::default();
    for (epoch, changes) in (0..).zip(script) {
        world.apply(epoch, changes);
        if let Some(changes) = published.get(&epoch) {
            accumulate(&mut bill, changes);
        }
        let expected = world.bill(rules);
        let at = |what: &str| format!("{what} at epoch {epoch}");
        same(&at("suspense"), &bill.suspense, &expected.suspense);
        same(&at("charges"), &bill.charges, &expected.charges);
        same(&at("lines"), &bill.lines, &expected.lines);
        same(&at("counts"), &bill.counts, &expected.counts);
        same(&at("faults"), &bill.faults, &expected.faults);
        same(&at("impacts"), &bill.impacts, &expected.impacts);
        same(&at("activity"), &bill.activity, &expected.activity);
        same(&at("notices"), &bill.notices, &expected.notices);
        check_conservation(&world, &bill);
    }
    bill
}

proptest! {
    #![proptest_config(cases())]

    /// Incremental = from scratch, at every epoch.
    #[test]
    fn every_epoch_is_what_the_oracle_says(history in histories(), seed in 0_usize..1000) {
        let rules = rules(&history);
        let script = history.script();
        let one = run(&rules, &script, 1, seed);
        let bill = check(&rules, &script, &one.epochs);
        check_open(&rules, &script, &one, &bill);
    }

    /// The number of workers, and which of them reads what, changes nothing.
    #[test]
    fn any_number_of_workers_publishes_the_same(history in histories(), seed in 0_usize..1000) {
        let rules = rules(&history);
        let script = history.script();
        let one = run(&rules, &script, 1, seed);
        let bill = check(&rules, &script, &one.epochs);
        for workers in [2, 4] {
            let more = run(&rules, &script, workers, seed);
            prop_assert_eq!(text(&one.epochs), text(&more.epochs), "{} workers", workers);
            check_open(&rules, &script, &more, &bill);
        }
    }

    /// Records in order of arrival, cut into epochs in two ways, end in one state.
    #[test]
    fn any_split_into_epochs_ends_the_same(history in histories(), size in 1_usize..40) {
        let rules = rules(&history);
        let mut ends = Vec::new();
        for history in [history.clone(), history.cut_every(size), history.cut_every(1)] {
            let script = history.script_in_order_of_arrival();
            ends.push(check(&rules, &script, &run(&rules, &script, 1, 0).epochs));
        }
        prop_assert_eq!(&ends[0], &ends[1]);
        prop_assert_eq!(&ends[0], &ends[2]);
    }

    /// Taking everything back leaves nothing, whatever came between.
    #[test]
    fn insert_then_retract_gives_nothing(history in histories(), first in 0_usize..8) {
        let rules = rules(&history);
        let mut script = history.script();
        script.extend(take_back(&script, first));
        let bill = check(&rules, &script, &run(&rules, &script, 1, 0).epochs);
        prop_assert_eq!(bill, Bill::default());
    }
}

/// What of plans a history has come to.
fn reached_of_plans(bill: &Bill, reached: &mut BTreeSet<String>) {
    let impacts = bill.impacts.iter().map(|impact| impact.impact.kind);
    reached.extend(impacts.map(|kind| format!("{kind:?}")));
    let spanning = bill.impacts.iter().any(|impact| {
        impact.impact.kind == ImpactKind::Price && impact.index > 0 && impact.impact.units > 0
    });
    reached.extend(spanning.then(|| "several tiers".to_owned()));
    for activity in bill.activity.iter().filter(|one| one.amount.0 != 0) {
        let kind = match activity.kind {
            ActivityKind::TrueUp { .. } => "TrueUp".to_owned(),
            kind => format!("{kind:?}"),
        };
        reached.insert(kind);
    }
    let notices = bill.notices.iter();
    reached.extend(notices.map(|notice| match notice.record {
        Some(_) => "notice by a record".to_owned(),
        None => "notice by an edge".to_owned(),
    }));
}

/// The histories are worth checking: together they reach every fate and every reason after
/// mediation, everything that plans do, and a good part of the records is charged.
#[test]
fn histories_reach_every_reason() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut reached, mut of_plans) = (BTreeSet::new(), BTreeSet::new());
    let (mut charged, mut records) = (0, 0);
    for _ in 0..192 {
        let tree = histories().new_tree(&mut runner).expect("a history");
        let history: History = tree.current();
        let mut world = World::default();
        for (epoch, changes) in (0..).zip(history.script()) {
            world.apply(epoch, &changes);
            let bill = world.bill(&rules(&history));
            reached.extend(bill.suspense.iter().map(|suspense| suspense.reason));
            reached_of_plans(&bill, &mut of_plans);
            charged += bill
                .charges
                .iter()
                .filter(|charge| charge.item == 0)
                .count();
            records += world.usage.len();
        }
    }
    // A missing bucket is told of an edge, never of a record; and no bill unit of a history is closed.
    let elsewhere = [Reason::BucketMissing, Reason::PeriodClosed];
    let after_mediation =
        |reason: &&Reason| **reason >= Reason::Duplicate && !elsewhere.contains(reason);
    let all: Vec<&Reason> = Reason::ALL.iter().filter(after_mediation).collect();
    assert_eq!(reached.iter().collect::<Vec<_>>(), all);
    assert!(charged * 7 > records, "{charged} of {records} charged");
    let expected = [
        "Accumulator",
        "Allowance",
        "ArrearsRecurring",
        "CapOffset",
        "ForwardRecurring",
        "Offset",
        "OneTime",
        "Price",
        "TrueUp",
        "Volume",
        "notice by a record",
        "notice by an edge",
        "several tiers",
    ];
    assert_eq!(of_plans.iter().collect::<Vec<_>>(), expected);
}
