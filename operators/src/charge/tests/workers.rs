//! The operator: any number of workers tells what the groups by themselves do.

use super::*;
use crate::charge::{ChargeInputs, Group, GroupChanges, ItemImpact, charge};
use crate::epoch::Epoch;
use crate::stats::NodeStats;
use differential_dataflow::input::Input;
use std::sync::Mutex;

const GROUPS: u64 = 7;

fn of_group(group: u64, terms: &Arc<Terms>) -> Arc<Terms> {
    let mut terms = Terms::clone(terms);
    terms.group = GroupKey(group << 58);
    terms.key = TermsKey(group.into());
    Arc::new(terms)
}

/// Three epochs of one group: plans and usage, a late record, a retraction.
fn epochs(group: u64) -> Vec<GroupChanges> {
    let model = PriceModel::Graduated {
        tiers: tiers(&[(0, "1"), (units(40), "0.5")]),
        by: TierReference::Accumulator(Name::new("total")),
    };
    let terms = of_group(group, &terms(1, &[("call", 0, model)]));
    let key = |key| group * 10 + key;
    let mut free = bucket(key(1), "free", ALLOWANCE, Measure::Units, units(30));
    free.group = terms.group;
    free.thresholds.push(Threshold {
        level: 0,
        percent: Some(100),
    });
    let mut total = bucket(key(2), "total", ACCUMULATOR, Measure::Units, 0);
    total.group = terms.group;
    let edge = Edge {
        group: terms.group,
        key: EdgeKey(key(3)),
        time: EventTime(900),
        action: EdgeAction::Volume {
            accumulator: total.key,
            elsewhere: total.key,
            tiers: tiers(&[(0, "0.01")]),
        },
    };
    let missing = Arc::new(Terms {
        key: TermsKey((1000 + group).into()),
        items: [TermsItem {
            model: PriceModel::Volume {
                tiers: tiers(&[(0, "1")]),
                accumulator: Name::new("none"),
            },
            ..terms.items[0].clone()
        }]
        .into_iter()
        .collect(),
        ..Terms::clone(&terms)
    });
    let record = |time, id| usage(time, key(id), &terms, &[12]);
    let first: Vec<_> = (1..5)
        .map(|id| (record(i64::try_from(id * 50).unwrap(), id), 1))
        .collect();
    vec![
        GroupChanges {
            usage: first,
            buckets: vec![(free, 1), (total, 1)],
            edges: vec![(edge, 1)],
        },
        GroupChanges {
            usage: vec![(record(60, 7), 1), (usage(61, key(8), &missing, &[1]), 1)],
            ..GroupChanges::default()
        },
        GroupChanges {
            usage: vec![(record(50, 1), -1)],
            ..GroupChanges::default()
        },
    ]
}

/// What a dataflow of so many workers holds in the end, and what its groups then say.
fn run(workers: usize) -> (BTreeMap<Out, isize>, BTreeMap<Out, isize>) {
    let told = Arc::new(Mutex::new((Told::default(), Vec::new())));
    let again = Arc::new(Mutex::new(Told::default()));
    let (shared, shared_again) = (Arc::clone(&told), Arc::clone(&again));
    let config = timely::Config::process(workers);
    let guards = timely::execute(config, move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let sent = Arc::clone(&shared);
        let (mut usage, mut buckets, mut edges, open) = worker.dataflow::<Epoch, _, _>(|scope| {
            let (usage_input, usage) = scope.new_collection();
            let (bucket_input, buckets) = scope.new_collection();
            let (edge_input, edges) = scope.new_collection();
            let inputs = ChargeInputs {
                usage,
                buckets,
                edges,
            };
            let charged = charge(inputs, true, Arc::new(NodeStats::default()));
            let to = Arc::clone(&sent);
            charged.edges.inspect(move |(edge, _, diff)| {
                to.lock().unwrap().0.add(Out::Edge(edge.clone()), *diff);
            });
            let to = Arc::clone(&sent);
            charged.suspense.inspect(move |(record, _, diff)| {
                to.lock().unwrap().0.add(Out::Suspense(*record), *diff);
            });
            let to = Arc::clone(&sent);
            charged.notices.inspect(move |(notice, _, diff)| {
                to.lock().unwrap().0.add(Out::Notice(*notice), *diff);
            });
            let to = Arc::clone(&sent);
            charged.charges.inspect(move |(charge, _, diff)| {
                to.lock().unwrap().0.add(Out::Item(*charge, vec![]), *diff);
            });
            let to = Arc::clone(&sent);
            charged.impacts.inspect(move |(impact, _, diff)| {
                to.lock().unwrap().1.push((*impact, *diff));
            });
            (usage_input, bucket_input, edge_input, charged.open)
        });
        for epoch in 0..3 {
            for group in (0..GROUPS).filter(|group| {
                let sender = (group + 3) % u64::try_from(peers).unwrap();
                sender == u64::try_from(index).unwrap()
            }) {
                let changes = epochs(group).swap_remove(epoch);
                changes
                    .usage
                    .into_iter()
                    .for_each(|(row, diff)| usage.update(row, diff));
                changes
                    .buckets
                    .into_iter()
                    .for_each(|(row, diff)| buckets.update(row, diff));
                changes
                    .edges
                    .into_iter()
                    .for_each(|(row, diff)| edges.update(row, diff));
            }
            let next = u64::try_from(epoch).unwrap() + 1;
            usage.advance_to(next);
            buckets.advance_to(next);
            edges.advance_to(next);
        }
        drop((usage, buckets, edges));
        while worker.step_or_park(None) {}
        open.visit(|_| true, &mut *shared_again.lock().unwrap());
    });
    for guard in guards.unwrap().join() {
        guard.unwrap();
    }
    let (told, impacts) = &mut *told.lock().unwrap();
    let mut held: BTreeMap<ItemImpact, isize> = BTreeMap::new();
    for (impact, diff) in impacts.drain(..) {
        *held.entry(impact).or_insert(0) += diff;
    }
    held.retain(|_, count| *count != 0);
    let whole = told.held.keys().map(|out| match out {
        Out::Item(charge, _) => {
            let mine = held
                .iter()
                .filter(|(impact, _)| (impact.record, impact.item) == (charge.record, charge.item));
            let mine = mine.map(|(impact, count)| {
                assert_eq!(*count, 1);
                impact.impact
            });
            (Out::Item(*charge, mine.collect()), 1)
        }
        other => (other.clone(), 1),
    });
    let again = std::mem::take(&mut again.lock().unwrap().held);
    (whole.collect(), again)
}

#[test]
fn any_number_of_workers_tells_the_same() {
    let mut expected = Told::default();
    for group in 0..GROUPS {
        let mut alone = Group::new(GroupKey(group << 58));
        for changes in epochs(group) {
            alone.apply(changes, &mut expected);
        }
    }
    let kinds = |wanted: fn(&Out) -> bool| expected.held.keys().filter(|out| wanted(out)).count();
    assert_eq!(kinds(|out| matches!(out, Out::Item(..))), 28);
    assert_eq!(kinds(|out| matches!(out, Out::Notice(_))), 7);
    assert_eq!(kinds(|out| matches!(out, Out::Suspense(_))), 7);
    for workers in [1, 2, 4] {
        let (told, again) = run(workers);
        assert_eq!(told, expected.held, "{workers} workers");
        assert_eq!(again, expected.held, "{workers} workers, read at the end");
    }
}
