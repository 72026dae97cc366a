//! Worked dates, and histories against the oracle.

use super::*;
use crate::domain::*;
use crate::epoch::{Diff, Epoch};
use differential_dataflow::input::Input as _;
use smallvec::{SmallVec, smallvec};
use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use timely::dataflow::operators::Probe as _;

mod oracle;

/// One change of an input.
#[derive(Clone, Debug)]
pub(super) enum Row {
    Account(Account),
    Subscription(Subscription),
    Plan(PlanRow),
    Clock(EventTime),
}

/// What stands at the end of an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) buckets: Vec<Bucket>,
    pub(super) edges: Vec<Edge>,
    pub(super) activity: Vec<Activity>,
}

/// Runs the operator over epochs of changes: what stands after each.
pub(super) fn run(zone: &TimeZone, epochs: Vec<Vec<(Row, Diff)>>) -> Vec<Made> {
    let zone = zone.clone();
    let count = epochs.len();
    let (sender, receiver) = channel::<(Outcome, Epoch, Diff)>();
    timely::execute_directly(move |worker| {
        let (mut accounts, mut subscriptions, mut plans, mut clock, probe) = worker
            .dataflow::<Epoch, _, _>(|scope| {
                let (subscription_input, subscriptions) = scope.new_collection();
                let (account_input, accounts) = scope.new_collection();
                let (plan_input, plans) = scope.new_collection();
                let (clock_input, clock) = scope.new_collection();
                let (_, ahead) = scope.new_collection();
                let subscriptions = subscriptions
                    .map(|subscription: Subscription| {
                        (subscription.account, Arc::new(subscription))
                    })
                    .join_map(
                        accounts.map(|account: Account| (account.key, account)),
                        |_, subscription, account| (Arc::clone(subscription), account.clone()),
                    );
                let inputs = ActivityInputs {
                    subscriptions,
                    plans,
                    clock,
                    ahead,
                };
                let made = activity(inputs, &zone);
                let all = made
                    .buckets
                    .map(Outcome::Bucket)
                    .concat(made.edges.map(Outcome::Edge))
                    .concat(made.activity.map(Outcome::Activity));
                let (probe, _) = all
                    .inspect(move |change| sender.send(change.clone()).unwrap())
                    .inner
                    .probe();
                (
                    account_input,
                    subscription_input,
                    plan_input,
                    clock_input,
                    probe,
                )
            });
        for (epoch, changes) in (1..).zip(epochs) {
            for (row, diff) in changes {
                match row {
                    Row::Account(row) => accounts.update(row, diff),
                    Row::Subscription(row) => subscriptions.update(row, diff),
                    Row::Plan(row) => plans.update(row, diff),
                    Row::Clock(row) => clock.update(row, diff),
                }
            }
            accounts.advance_to(epoch);
            subscriptions.advance_to(epoch);
            plans.advance_to(epoch);
            clock.advance_to(epoch);
            accounts.flush();
            subscriptions.flush();
            plans.flush();
            clock.flush();
            while probe.less_than(&epoch) {
                worker.step();
            }
        }
    });
    let changes: Vec<(Outcome, Epoch, Diff)> = receiver.try_iter().collect();
    let mut standing: BTreeMap<Outcome, Diff> = BTreeMap::new();
    let mut made = Vec::with_capacity(count);
    for epoch in 0..count {
        for (outcome, at, diff) in &changes {
            if usize::try_from(*at).unwrap() == epoch {
                *standing.entry(outcome.clone()).or_default() += diff;
            }
        }
        standing.retain(|_, diff| *diff != 0);
        assert!(standing.values().all(|diff| *diff == 1), "{standing:?}");
        let mut here = Made::default();
        for outcome in standing.keys().cloned() {
            match outcome {
                Outcome::Bucket(bucket) => here.buckets.push(bucket),
                Outcome::Edge(edge) => here.edges.push(edge),
                Outcome::Activity(activity) => here.activity.push(activity),
            }
        }
        let keys: std::collections::BTreeSet<BucketKey> =
            here.buckets.iter().map(|bucket| bucket.key).collect();
        assert_eq!(keys.len(), here.buckets.len(), "keys are unique");
        made.push(here);
    }
    made
}

/// What stands after one epoch of these rows.
fn made(zone: &str, rows: Vec<Row>) -> Made {
    let zone = TimeZone::get(zone).unwrap();
    let rows = rows.into_iter().map(|row| (row, 1)).collect();
    run(&zone, vec![rows]).pop().unwrap()
}

fn at(text: &str) -> EventTime {
    EventTime::from(text.parse::<jiff::Timestamp>().unwrap())
}

fn day(text: &str) -> EventTime {
    at(&format!("{text}T00:00:00Z"))
}

fn days(from: &str, to: &str) -> Period {
    let start = day(from);
    let end = if to == "open" {
        EventTime::MAX
    } else {
        day(to)
    };
    Period::new(start, end).unwrap()
}

fn account(anniversary: &str) -> Row {
    let date: jiff::civil::Date = anniversary.parse().unwrap();
    Row::Account(Account {
        key: AccountKey(1),
        currency: Name::new("USD"),
        profile: BillingProfile::new(date, 1, Cycle::Month),
    })
}

fn subscription_row(list: &str, valid: Period, status: SubscriptionStatus) -> Subscription {
    Subscription {
        key: SubscriptionKey(7),
        account: AccountKey(1),
        group: Name::new("pool"),
        price_lists: smallvec![Name::new(list)],
        valid,
        status,
    }
}

fn active(list: &str, from: &str, to: &str) -> Row {
    let status = SubscriptionStatus::Active;
    Row::Subscription(subscription_row(list, days(from, to), status))
}

fn units(whole: i64) -> i128 {
    Quantity::new(whole, 0).unwrap().0
}

fn usd(whole: i128) -> i128 {
    whole * 10_i128.pow(24)
}

fn allowance() -> Allowance {
    Allowance {
        resource: Name::new("minutes"),
        items: SmallVec::new(),
        measure: Measure::Units,
        size: units(310),
        currency: None,
        priority: 0,
        grant: Grant::Recurring,
        term: Term::BillUnit,
        proration: Proration::Prorate,
        rollover: None,
        thresholds: smallvec![50, 80, 100],
    }
}

fn accumulator() -> Accumulator {
    Accumulator {
        resource: Name::new("total"),
        items: SmallVec::new(),
        measure: Measure::Units,
        currency: None,
        numerator: 1,
        denominator: 1,
        term: Term::BillUnit,
        thresholds: smallvec![units(100)],
        activation: 0,
        recurring: 0,
    }
}

fn charge(when: ChargeWhen) -> PlanCharge {
    PlanCharge {
        item: Name::new("fee"),
        amount: Amount(usd(31)),
        currency: Name::new("USD"),
        when,
        term: Term::BillUnit,
        proration: Proration::Prorate,
    }
}

fn plan(list: &str, part: PlanPart) -> PlanRow {
    PlanRow {
        key: PlanKey::of(&[list, &format!("{part:?}")]),
        list: Name::new(list),
        valid: Period::ALWAYS,
        part,
    }
}

fn planned(list: &str, part: PlanPart) -> Row {
    Row::Plan(plan(list, part))
}

fn clock(text: &str) -> Row {
    Row::Clock(day(text))
}

/// Validity and size of each bucket of units, in order.
fn grants(made: &Made) -> Vec<(String, i128)> {
    let mut grants: Vec<(Period, i128)> = made
        .buckets
        .iter()
        .map(|bucket| (bucket.valid, bucket.opening))
        .collect();
    grants.sort_unstable();
    let told = |(valid, opening): (Period, i128)| {
        let opening = opening / 10_i128.pow(12);
        (
            format!("{} {}", valid.start(), valid.end()).replace("T00:00:00Z", ""),
            opening,
        )
    };
    grants.into_iter().map(told).collect()
}

fn told(expected: &[(&str, i128)]) -> Vec<(String, i128)> {
    expected
        .iter()
        .map(|(valid, size)| ((*valid).to_owned(), *size))
        .collect()
}

/// Applied days and amount of each activity, in the order of their cycles.
fn charged(made: &Made) -> Vec<String> {
    let mut rows: Vec<&Activity> = made.activity.iter().collect();
    rows.sort_by_key(|row| (row.cycle, row.applied_start));
    let row = |row: &&Activity| {
        let applied = format!("{} {}", row.applied_start, row.applied_end);
        format!("{} {}", applied.replace("T00:00:00Z", ""), row.amount)
    };
    rows.iter().map(row).collect()
}

#[test]
fn grants_follow_a_month_end_anniversary_up_to_one_cycle_ahead() {
    let rows = |now: &str| {
        vec![
            account("2025-12-31"),
            active("gold", "2025-12-31", "open"),
            planned("gold", PlanPart::Allowance(allowance())),
            clock(now),
        ]
    };
    let expected = [
        ("2025-12-31 2026-01-31", 310),
        ("2026-01-31 2026-02-28", 310),
        ("2026-02-28 2026-03-31", 310),
        ("2026-03-31 2026-04-30", 310),
    ];
    assert_eq!(
        grants(&made("UTC", rows("2026-02-27"))),
        told(&expected[..3])
    );
    assert_eq!(grants(&made("UTC", rows("2026-02-28"))), told(&expected));
}

#[test]
fn a_start_in_a_cycle_is_prorated_as_told() {
    let rows = |proration| {
        let part = Allowance {
            proration,
            ..allowance()
        };
        vec![
            account("2026-01-01"),
            active("gold", "2026-01-16", "open"),
            planned("gold", PlanPart::Allowance(part)),
            clock("2026-01-20"),
        ]
    };
    let next = ("2026-02-01 2026-03-01", 310);
    let first = |size| told(&[("2026-01-16 2026-02-01", size), next]);
    assert_eq!(grants(&made("UTC", rows(Proration::Prorate))), first(160));
    assert_eq!(
        grants(&made("UTC", rows(Proration::FullCharge))),
        first(310)
    );
    let none = grants(&made("UTC", rows(Proration::NoCharge)));
    assert_eq!(none, told(&[next]));
}

#[test]
fn a_month_whose_clocks_change_is_prorated_by_days() {
    // March 2026 in Prague has 31 days and 743 hours.
    let from = Period::new(at("2026-03-15T23:00:00Z"), EventTime::MAX).unwrap();
    let row = subscription_row("gold", from, SubscriptionStatus::Active);
    let rows = vec![
        account("2026-01-01"),
        Row::Subscription(row),
        planned("gold", PlanPart::Allowance(allowance())),
        planned("gold", PlanPart::Charge(charge(ChargeWhen::Advance))),
        clock("2026-03-20"),
    ];
    let made = made("Europe/Prague", rows);
    let first = ("2026-03-15T23:00:00Z 2026-03-31T22:00:00Z", 160);
    let next = ("2026-03-31T22:00:00Z 2026-04-30T22:00:00Z", 310);
    assert_eq!(grants(&made), told(&[first, next]));
    let [fee] = made.activity.as_slice() else {
        panic!("{made:?}")
    };
    assert_eq!(
        (fee.scale, fee.amount),
        (Scale::new(16, 31), Amount(usd(16)))
    );
    assert_eq!(fee.kind, ActivityKind::ForwardRecurring);
}

#[test]
fn a_plan_changed_in_a_month_splits_it() {
    let silver = Allowance {
        size: units(62),
        ..allowance()
    };
    let rows = vec![
        account("2026-01-01"),
        active("gold", "2026-01-01", "2026-01-11"),
        active("silver", "2026-01-11", "open"),
        planned("gold", PlanPart::Allowance(allowance())),
        planned("gold", PlanPart::Charge(charge(ChargeWhen::Advance))),
        planned("silver", PlanPart::Allowance(silver)),
        planned("silver", PlanPart::Charge(charge(ChargeWhen::Activation))),
        clock("2026-01-20"),
    ];
    let made = made("UTC", rows);
    let expected = [
        ("2026-01-01 2026-01-11", 100),
        ("2026-01-11 2026-02-01", 42),
        ("2026-02-01 2026-03-01", 62),
    ];
    assert_eq!(grants(&made), told(&expected));
    assert_eq!(
        charged(&made),
        ["2026-01-01 2026-01-11 10", "2026-01-11 2026-01-11 31"]
    );
}

#[test]
fn a_backdated_subscription_is_granted_and_charged_from_its_first_day() {
    let zone = TimeZone::UTC;
    let before = vec![
        (account("2026-01-01"), 1),
        (planned("gold", PlanPart::Allowance(allowance())), 1),
        (
            planned("gold", PlanPart::Charge(charge(ChargeWhen::Arrears))),
            1,
        ),
        (clock("2026-03-05"), 1),
    ];
    let backdated = vec![(active("gold", "2026-01-01", "open"), 1)];
    let ends = vec![
        (active("gold", "2026-01-01", "open"), -1),
        (active("gold", "2026-01-01", "2026-02-15"), 1),
    ];
    let gone = vec![(active("gold", "2026-01-01", "2026-02-15"), -1)];
    let made = run(&zone, vec![before, backdated, ends, gone]);
    assert_eq!(made[0], Made::default());
    assert_eq!(grants(&made[1]).len(), 4);
    let both = ["2026-01-01 2026-02-01 31", "2026-02-01 2026-03-01 31"];
    assert_eq!(charged(&made[1]), both);
    assert_eq!(grants(&made[2]).len(), 2);
    let shortened = ["2026-01-01 2026-02-01 31", "2026-02-01 2026-02-15 15.5"];
    assert_eq!(charged(&made[2]), shortened);
    assert_eq!(made[3], Made::default());
}

#[test]
fn arrears_wait_for_the_clock_and_the_clock_replaces_nothing() {
    let zone = TimeZone::UTC;
    let start = vec![
        (account("2026-01-01"), 1),
        (active("gold", "2026-01-01", "open"), 1),
        (planned("gold", PlanPart::Allowance(allowance())), 1),
        (
            planned("gold", PlanPart::Charge(charge(ChargeWhen::Arrears))),
            1,
        ),
        (clock("2026-01-31"), 1),
    ];
    let moved = vec![(clock("2026-01-31"), -1), (clock("2026-02-01"), 1)];
    let made = run(&zone, vec![start, moved]);
    assert_eq!(charged(&made[0]), [""; 0]);
    assert_eq!(charged(&made[1]), ["2026-01-01 2026-02-01 31"]);
    for bucket in &made[0].buckets {
        assert!(made[1].buckets.contains(bucket));
    }
}

#[test]
fn a_row_that_changes_something_else_keeps_the_bucket() {
    let rows = |rows: Vec<Row>| {
        let world = vec![
            account("2026-01-01"),
            planned("gold", PlanPart::Allowance(allowance())),
            clock("2026-01-20"),
        ];
        made("UTC", [world, rows].concat())
    };
    let one = rows(vec![active("gold", "2026-01-01", "open")]);
    let mut second = subscription_row(
        "gold",
        days("2026-01-10", "open"),
        SubscriptionStatus::Active,
    );
    second.price_lists.push(Name::new("extra"));
    let two = rows(vec![
        active("gold", "2026-01-01", "2026-01-10"),
        Row::Subscription(second),
    ]);
    assert_eq!(one, two);
}

#[test]
fn nothing_is_granted_for_stretches_that_are_not_active() {
    let row = |status, from: &str, to: &str| {
        Row::Subscription(subscription_row("gold", days(from, to), status))
    };
    let rows = vec![
        account("2026-01-01"),
        row(SubscriptionStatus::Active, "2026-01-01", "2026-01-11"),
        row(SubscriptionStatus::Inactive, "2026-01-11", "2026-01-21"),
        row(SubscriptionStatus::Active, "2026-01-21", "2026-02-01"),
        row(SubscriptionStatus::Closed, "2026-02-01", "open"),
        planned("gold", PlanPart::Allowance(allowance())),
        planned("gold", PlanPart::Charge(charge(ChargeWhen::Activation))),
        clock("2026-03-10"),
    ];
    let made = made("UTC", rows);
    assert_eq!(grants(&made), told(&[("2026-01-01 2026-02-01", 210)]));
    assert_eq!(charged(&made), ["2026-01-01 2026-01-01 31"]);
}

#[test]
fn a_one_time_grant_lasts_as_told() {
    let rows = |lasts| {
        let part = Allowance {
            grant: Grant::Once { lasts },
            ..allowance()
        };
        let rows = vec![
            account("2026-01-31"),
            active("gold", "2026-02-10", "2026-12-01"),
            planned("gold", PlanPart::Allowance(part)),
            clock("2026-05-01"),
        ];
        grants(&made("UTC", rows))
    };
    assert_eq!(rows(None), told(&[("2026-02-10 2026-12-01", 310)]));
    assert_eq!(rows(Some(1)), told(&[("2026-02-10 2026-02-28", 310)]));
    assert_eq!(rows(Some(3)), told(&[("2026-02-10 2026-04-30", 310)]));
}

#[test]
fn what_is_left_rolls_over_for_as_many_cycles_as_told() {
    let part = Allowance {
        rollover: Some(Rollover {
            cap_per_cycle: Some(units(50)),
            cycles_max: 2,
        }),
        ..allowance()
    };
    let rows = vec![
        account("2026-01-01"),
        active("gold", "2026-01-01", "open"),
        planned("gold", PlanPart::Allowance(part)),
        clock("2026-03-10"),
    ];
    let made = made("UTC", rows);
    let expected = [
        ("2026-01-01 2026-02-01", 310),
        ("2026-02-01 2026-03-01", 0),
        ("2026-02-01 2026-03-01", 310),
        ("2026-03-01 2026-04-01", 0),
        ("2026-03-01 2026-04-01", 0),
        ("2026-03-01 2026-04-01", 310),
        ("2026-04-01 2026-05-01", 0),
        ("2026-04-01 2026-05-01", 0),
        ("2026-04-01 2026-05-01", 310),
    ];
    assert_eq!(grants(&made), told(&expected));
    // Through the chain of edges January's rest lives in February and March, and not in April.
    let find = |start: &str, rest: usize| {
        let mut buckets: Vec<&Bucket> = made
            .buckets
            .iter()
            .filter(|bucket| bucket.valid.start() == day(start))
            .collect();
        // The oldest rest is drawn first: its key is the smallest.
        buckets.sort_by_key(|bucket| bucket.key);
        assert!(buckets.last().unwrap().opening > 0);
        buckets.iter().rev().nth(rest).unwrap().key
    };
    let edge = |time: &str| {
        let mut edges: Vec<(BucketKey, BucketKey)> = made
            .edges
            .iter()
            .filter(|edge| edge.time == day(time))
            .map(|edge| match edge.action {
                EdgeAction::Rollover {
                    from,
                    to,
                    cap: Some(cap),
                } if cap == units(50) => (from, to),
                _ => panic!("{edge:?}"),
            })
            .collect();
        edges.sort_unstable();
        edges
    };
    assert_eq!(
        edge("2026-02-01"),
        [(find("2026-01-01", 0), find("2026-02-01", 1))]
    );
    let mut march = [
        (find("2026-02-01", 0), find("2026-03-01", 1)),
        (find("2026-02-01", 1), find("2026-03-01", 2)),
    ];
    march.sort_unstable();
    assert_eq!(edge("2026-03-01"), march);
}

#[test]
fn subscriptions_of_a_pool_share_an_accumulator_and_add_up_commitments() {
    let second = |row: Row| match row {
        Row::Subscription(row) => Row::Subscription(Subscription {
            key: SubscriptionKey(8),
            ..row
        }),
        other => other,
    };
    let spent = Accumulator {
        resource: Name::new("spent"),
        measure: Measure::Money,
        currency: Some(Name::new("USD")),
        activation: usd(5),
        recurring: usd(1),
        ..accumulator()
    };
    let least = Commitment {
        resource: Name::new("least"),
        counts: Counts::Accumulated(Name::new("spent")),
        items: SmallVec::new(),
        recurring: Vec::new(),
        amount: Amount(usd(31)),
        currency: Name::new("USD"),
        term: Term::BillUnit,
        proration: Proration::Prorate,
    };
    let rows = vec![
        account("2026-01-01"),
        active("gold", "2026-01-01", "open"),
        second(active("silver", "2026-01-11", "open")),
        planned("gold", PlanPart::Accumulator(spent.clone())),
        planned("silver", PlanPart::Accumulator(spent)),
        planned("gold", PlanPart::Commitment(least.clone())),
        planned("silver", PlanPart::Commitment(least)),
        clock("2026-02-10"),
    ];
    let made = made("UTC", rows);
    let openings: Vec<i128> = made.buckets.iter().map(|bucket| bucket.opening).collect();
    assert_eq!(openings.iter().sum::<i128>(), usd(12 + 2 + 2));
    assert_eq!(openings.len(), 3);
    let [edge] = made.edges.as_slice() else {
        panic!("{made:?}")
    };
    let [due] = made.activity.as_slice() else {
        panic!("{made:?}")
    };
    assert_eq!(edge.time, day("2026-02-01"));
    let EdgeAction::TrueUp {
        accumulator,
        commitment,
    } = edge.action
    else {
        panic!("{edge:?}")
    };
    assert_eq!(commitment, Amount(usd(31 + 21)));
    let bucket = made.buckets.iter().find(|bucket| bucket.key == accumulator);
    assert_eq!(bucket.unwrap().valid, days("2026-01-01", "2026-02-01"));
    assert_eq!(due.key.0, edge.key.0);
    assert_eq!(due.kind, ActivityKind::TrueUp { commitment });
    assert_eq!(due.subscription, SubscriptionKey(7));
    assert_eq!(due.amount, Amount::ZERO);
    assert_eq!(due.billed_at(), EventTime(day("2026-02-01").0 - 1));
}

#[test]
fn a_commitment_as_allowance_is_a_charge_and_money_of_the_same_size() {
    let money = Allowance {
        measure: Measure::Money,
        size: usd(31),
        currency: Some(Name::new("USD")),
        ..allowance()
    };
    let rows = vec![
        account("2026-01-01"),
        active("gold", "2026-01-17", "open"),
        planned("gold", PlanPart::Charge(charge(ChargeWhen::Advance))),
        planned("gold", PlanPart::Allowance(money)),
        clock("2026-01-20"),
    ];
    let made = made("UTC", rows);
    let fee = made.activity.iter().map(|row| row.amount.0);
    assert_eq!(fee.collect::<Vec<_>>(), [usd(15)]);
    let granted = made
        .buckets
        .iter()
        .filter(|b| b.valid.start() == day("2026-01-17"));
    assert_eq!(granted.map(|b| b.opening).collect::<Vec<_>>(), [usd(15)]);
}

#[test]
fn a_part_in_a_currency_is_for_accounts_billed_in_it() {
    let euros = PlanCharge {
        currency: Name::new("EUR"),
        ..charge(ChargeWhen::Advance)
    };
    let rows = vec![
        account("2026-01-01"),
        active("gold", "2026-01-01", "open"),
        planned("gold", PlanPart::Charge(euros)),
        clock("2026-01-20"),
    ];
    assert_eq!(made("UTC", rows), Made::default());
}

#[test]
fn a_volume_price_is_charged_at_the_end_of_its_term() {
    let tier = |from, price: &str| Tier {
        from: units(from),
        price: Price::parse(price).unwrap(),
        per: 1,
    };
    let volume = |price: &str| {
        PlanPart::Volume(Volume {
            item: Name::new("calls"),
            accumulator: Name::new("total"),
            tiers: [tier(0, price), tier(100, "0.5")].into(),
            currency: Name::new("USD"),
        })
    };
    let mut row = subscription_row(
        "gold",
        days("2026-01-01", "open"),
        SubscriptionStatus::Active,
    );
    row.price_lists.push(Name::new("silver"));
    let rows = vec![
        account("2026-01-01"),
        Row::Subscription(row),
        planned("silver", PlanPart::Accumulator(accumulator())),
        planned("gold", PlanPart::Accumulator(accumulator())),
        planned("silver", volume("2")),
        planned("gold", volume("1")),
        clock("2026-02-01"),
    ];
    let made = made("UTC", rows);
    // Each list prices what was charged by it.
    let mut prices = Vec::new();
    for edge in &made.edges {
        assert_eq!(edge.time, day("2026-02-01"));
        let EdgeAction::Volume {
            accumulator,
            elsewhere,
            tiers,
        } = &edge.action
        else {
            panic!("{edge:?}")
        };
        let bucket = |key| made.buckets.iter().find(|bucket| bucket.key == key);
        let (total, other) = (bucket(*accumulator).unwrap(), bucket(*elsewhere).unwrap());
        assert_eq!(other.valid, total.valid);
        let BucketKind::Elsewhere { list } = other.kind else {
            panic!("{other:?}")
        };
        let activity = made.activity.iter().find(|one| one.key.0 == edge.key.0);
        let activity = activity.unwrap();
        assert_eq!(activity.kind, ActivityKind::Volume);
        assert_eq!(activity.cycle, days("2026-01-01", "2026-02-01"));
        prices.push((list, tiers.first().unwrap().price.to_string()));
    }
    prices.sort_by(|a, b| a.1.cmp(&b.1));
    let of = |list: &str, price: &str| (Name::new(list), price.to_owned());
    assert_eq!(prices, [of("gold", "1"), of("silver", "2")]);
    assert_eq!(made.activity.len(), 2);
}

#[test]
fn thresholds_are_levels_of_the_grant() {
    let cap = Cap {
        resource: Name::new("cap"),
        items: SmallVec::new(),
        limit: Amount(usd(200)),
        currency: Name::new("USD"),
        term: Term::Every {
            every: 1,
            cycle: Cycle::Year,
        },
        thresholds: smallvec![80],
    };
    let rows = vec![
        account("2026-01-01"),
        active("gold", "2026-01-01", "2026-01-11"),
        planned("gold", PlanPart::Allowance(allowance())),
        planned("gold", PlanPart::Cap(cap)),
        clock("2026-01-20"),
    ];
    let made = made("UTC", rows);
    let levels = |resource: &str| -> Vec<i128> {
        let resource = Name::new(resource);
        let found = made
            .buckets
            .iter()
            .find(|b| b.resource == resource)
            .unwrap();
        found.thresholds.iter().map(|t| t.level).collect()
    };
    assert_eq!(levels("minutes"), [units(50), units(20), 0]);
    assert_eq!(levels("cap"), [usd(160)]);
}

#[test]
fn a_subscription_without_a_first_day_gets_nothing() {
    let row = subscription_row("gold", Period::ALWAYS, SubscriptionStatus::Active);
    let rows = vec![
        account("2026-01-01"),
        Row::Subscription(row),
        planned("gold", PlanPart::Allowance(allowance())),
        clock("2026-01-20"),
    ];
    assert_eq!(made("UTC", rows), Made::default());
}
