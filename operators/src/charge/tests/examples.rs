//! Worked examples.

use super::*;
use crate::charge::{Group, GroupChanges};

fn by_total(steps: &[(i128, &str)]) -> PriceModel {
    PriceModel::Graduated {
        tiers: tiers(steps),
        by: TierReference::Accumulator(Name::new("total")),
    }
}

#[test]
fn tiers_come_first_and_allowances_are_drawn_at_their_prices() {
    // 100 units, 40 at 1 and 60 at 0.50, of which an allowance covers 90: 5 to pay.
    let model = by_total(&[(0, "1"), (units(40), "0.5")]);
    let terms = terms(1, &[("call", 0, model)]);
    let mut told = Told::default();
    let mut group = Group::new(GROUP);
    let changes = GroupChanges {
        usage: vec![(usage(10, 1, &terms, &[100]), 1)],
        buckets: vec![
            (bucket(1, "free", ALLOWANCE, Measure::Units, units(90)), 1),
            (bucket(2, "total", ACCUMULATOR, Measure::Units, 0), 1),
        ],
        edges: vec![],
    };
    group.apply(changes, &mut told);
    let Some(Out::Item(charge, impacts)) = told.held.keys().next() else {
        panic!("a charge");
    };
    assert_eq!(charge.amount.0, money("5"));
    let impact = |kind, tier, bucket: u64, units, amount: &str| Impact {
        kind,
        tier,
        bucket: (bucket > 0).then_some(BucketKey(bucket)),
        units,
        amount: Amount(money(amount)),
    };
    let expected = [
        impact(ImpactKind::Price, 0, 0, units(40), "40"),
        impact(ImpactKind::Allowance, 0, 1, units(-40), "0"),
        impact(ImpactKind::Offset, 0, 1, 0, "-40"),
        impact(ImpactKind::Price, 1, 0, units(60), "30"),
        impact(ImpactKind::Allowance, 1, 1, units(-50), "0"),
        impact(ImpactKind::Offset, 1, 1, 0, "-25"),
        impact(ImpactKind::Accumulator, 0, 2, units(100), "0"),
    ];
    assert_eq!(impacts, &expected);
    let balances = group.balances(None);
    assert_eq!(balances, [(BucketKey(1), 0), (BucketKey(2), units(100))]);
    let explained = group.explain(EventTime(10), RecordId(1)).unwrap();
    assert_eq!(
        explained.before,
        [(BucketKey(1), units(90)), (BucketKey(2), 0)]
    );
    assert_eq!(explained.items[0].1, expected);
}

#[test]
fn services_share_the_tiers_of_a_pool() {
    let api = by_total(&[(0, "0"), (units(100), "0.10"), (units(500), "0.08")]);
    let downloads = by_total(&[(0, "0"), (units(100), "0.08"), (units(500), "0.06")]);
    let api = terms(1, &[("api", 0, api)]);
    let downloads = terms(2, &[("downloads", 0, downloads)]);
    let mut told = Told::default();
    let mut group = Group::new(GROUP);
    let pool = bucket(2, "total", ACCUMULATOR, Measure::Units, 0);
    let changes = GroupChanges {
        buckets: vec![(pool, 1)],
        ..GroupChanges::default()
    };
    group.apply(changes, &mut told);
    let loads = [
        (&api, 125, "2.5"),
        (&downloads, 300, "24"),
        (&api, 200, "17.5"),
        (&downloads, 150, "9"),
    ];
    let mut sum = 0;
    for (time, (terms, quantity, amount)) in (1..).zip(loads) {
        let changes = GroupChanges {
            usage: vec![(usage(time, 1, terms, &[quantity]), 1)],
            ..GroupChanges::default()
        };
        group.apply(changes, &mut told);
        sum += money(amount);
        assert_eq!(told.charged().0, sum, "load {time}");
    }
}

#[test]
fn a_price_without_its_accumulator_waits() {
    let terms = terms(1, &[("call", 0, by_total(&[(0, "1")]))]);
    let mut told = Told::default();
    let mut group = Group::new(GROUP);
    let changes = GroupChanges {
        usage: vec![(usage(10, 1, &terms, &[1]), 1)],
        ..GroupChanges::default()
    };
    group.apply(changes, &mut told);
    let Some(Out::Suspense(suspense)) = told.held.keys().next() else {
        panic!("suspense");
    };
    assert_eq!(suspense.reason, Reason::TierReferenceMissing);
    assert_eq!(suspense.item, Some(Name::new("call")));
    let changes = GroupChanges {
        buckets: vec![(bucket(2, "total", ACCUMULATOR, Measure::Units, 0), 1)],
        ..GroupChanges::default()
    };
    group.apply(changes, &mut told);
    assert_eq!(told.charged().0, money("1"));
    assert_eq!(told.held.len(), 1, "the suspense is taken back");
}

#[test]
fn an_amount_past_the_range_is_suspense_and_leaves_no_trace() {
    let model = PriceModel::PerUnit {
        price: Price::parse("90000000").unwrap(),
        per: 1,
    };
    let terms = terms(1, &[("call", 0, model)]);
    let mut told = Told::default();
    let mut group = Group::new(GROUP);
    let spent = bucket(1, "spent", ACCUMULATOR, Measure::Money, 0);
    let record = |id| usage(10, id, &terms, &[1_000_000]);
    let changes = GroupChanges {
        usage: vec![(record(1), 1), (record(2), 1)],
        buckets: vec![(spent, 1)],
        edges: vec![],
    };
    group.apply(changes, &mut told);
    // 90 trillion fit, 180 do not.
    let reasons: Vec<_> = told
        .held
        .keys()
        .filter(|out| matches!(out, Out::Suspense(_)))
        .collect();
    assert_eq!(reasons.len(), 1);
    assert_eq!(
        group.balances(None),
        [(BucketKey(1), money("90000000000000"))]
    );
    let changes = GroupChanges {
        usage: vec![(record(1), -1)],
        ..GroupChanges::default()
    };
    group.apply(changes, &mut told);
    assert_eq!(told.charged().0, money("90000000000000"));
    assert_eq!(told.held.len(), 1, "the second fits once the first is gone");
}
