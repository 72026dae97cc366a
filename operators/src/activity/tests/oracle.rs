//! Histories of rows against a reference that walks the days of a calendar one by one, and shares
//! nothing with the operator but the types of the rows.

use super::{Made, Row, run};
use crate::domain::*;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

const DAYS: i64 = 160;
const DAY_US: i64 = 86_400_000_000;

/// Day `n` of the history is that many days after 2025-12-20, in UTC.
fn origin() -> Date {
    jiff::civil::date(2025, 12, 20)
}

fn instant(day: i64) -> EventTime {
    // 2025-12-20 is day 20,442 of the epoch.
    EventTime((20_442 + day) * DAY_US)
}

fn date(day: i64) -> (i64, i64, i64) {
    let date = origin().checked_add(jiff::Span::new().days(day)).unwrap();
    (date.year().into(), date.month().into(), date.day().into())
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Whether a cycle begins on the day.
fn begins(profile: &BillingProfile, term: Term, day: i64) -> bool {
    let (every, cycle) = match term {
        Term::BillUnit => (i64::from(profile.every), profile.cycle),
        Term::Every { every, cycle } => (i64::from(every), cycle),
        Term::Anchored { .. } => unreachable!("no history has one"),
    };
    let (year, month, of_month) = date(day);
    let anchor = origin().until(Date::new(profile.year, profile.month, profile.day).unwrap());
    let elapsed = day - i64::from(anchor.unwrap().get_days());
    let months = (year - i64::from(profile.year)) * 12 + month - i64::from(profile.month);
    let monthly = |months_each: i64| {
        months % months_each == 0
            && of_month == i64::from(profile.day).min(month_length(year, month))
    };
    match cycle {
        Cycle::Day => elapsed % every == 0,
        Cycle::Week => elapsed % (7 * every) == 0,
        Cycle::Month => monthly(every),
        Cycle::Quarter => monthly(3 * every),
        Cycle::Year => monthly(12 * every),
    }
}

/// The cycle of a day: its first day and the first after it.
fn cycle(profile: &BillingProfile, term: Term, day: i64) -> (i64, i64) {
    let start = (0..)
        .map(|n| day - n)
        .find(|d| begins(profile, term, *d))
        .unwrap();
    let end = (1..)
        .map(|n| day + n)
        .find(|d| begins(profile, term, *d))
        .unwrap();
    (start, end)
}

fn holds(valid: Period, day: i64) -> bool {
    valid.start() <= instant(day) && instant(day) < valid.end()
}

/// What a bucket is, without its key.
type Told = (Name, GroupKey, i64, i64, i128, BucketKind);

/// A rollover: when, and the starts and openings of both buckets.
type Rolled = (i64, (i64, i128), (i64, i128));

/// What the reference makes: buckets, rollovers as (time, from, to), true-ups, charges.
#[derive(Debug, Default, PartialEq, Eq)]
struct Expected {
    buckets: BTreeMap<Told, usize>,
    rollovers: BTreeMap<Rolled, usize>,
    true_ups: BTreeSet<(i64, GroupKey, Name, i128)>,
    charges: BTreeSet<(SubscriptionKey, Name, i64, i64, i64, i128)>,
}

#[derive(Clone, Debug)]
struct World {
    accounts: Vec<Account>,
    subscriptions: Vec<Subscription>,
    plans: Vec<PlanRow>,
    clock: i64,
}

fn share(whole: i128, applied: i64, length: i64, proration: Proration) -> i128 {
    if applied == 0 || applied == length {
        return if applied == 0 { 0 } else { whole };
    }
    match proration {
        Proration::NoCharge => 0,
        Proration::FullCharge => whole,
        Proration::Prorate => {
            let (product, length) = (whole * i128::from(applied), i128::from(length));
            let (low, twice) = (product / length, product % length * 2);
            let up = twice > length || (twice == length && low % 2 == 1);
            low + i128::from(up)
        }
    }
}

fn reference(world: &World) -> Expected {
    let mut expected = Expected::default();
    let account = |key: AccountKey| world.accounts.iter().find(|a| a.key == key).unwrap();
    // Active days of (subscription, list), each with its account. Only the two accounts differ in
    // their cycles, so a holding is told by subscription, list and account.
    let mut active: BTreeMap<(SubscriptionKey, Name, AccountKey, Name), BTreeSet<i64>> =
        BTreeMap::new();
    for row in &world.subscriptions {
        if row.status == SubscriptionStatus::Active {
            for list in &row.price_lists {
                let held = (row.key, *list, row.account, row.group);
                let days = (0..DAYS).filter(|day| holds(row.valid, *day));
                active.entry(held).or_default().extend(days);
            }
        }
    }
    active.retain(|_, days| !days.is_empty());
    let first_ever = |key: SubscriptionKey, list: Name| {
        let held = active
            .iter()
            .filter(|((k, l, _, _), _)| *k == key && *l == list);
        held.filter_map(|(_, days)| days.first().copied())
            .min()
            .unwrap()
    };
    // Own parts.
    for ((key, list, payer, pool), days) in &active {
        let account = account(*payer);
        let group = GroupKey::of_pool(*pool, account.currency);
        let first = first_ever(*key, *list);
        let last = *days.last().unwrap() + 1;
        for row in world.plans.iter().filter(|row| row.list == *list) {
            let in_force = |day: &i64| days.contains(day) && holds(row.valid, *day);
            let term = match &row.part {
                PlanPart::Allowance(a) => a.term,
                PlanPart::Charge(c) => c.term,
                _ => continue,
            };
            let (present, present_end) = cycle(&account.profile, term, world.clock);
            let mut starts = BTreeSet::new();
            for day in days {
                starts.insert(cycle(&account.profile, term, *day));
            }
            for (start, end) in starts {
                let applied: Vec<i64> = (start..end).filter(in_force).collect();
                let count = i64::try_from(applied.len()).unwrap();
                let activated = (start..end).contains(&first)
                    && days.contains(&first)
                    && holds(row.valid, first);
                match &row.part {
                    PlanPart::Allowance(a) if start <= present_end => {
                        let kind = BucketKind::Allowance {
                            priority: a.priority,
                        };
                        let mut told = |from, to, opening| {
                            let told = (a.resource, group, from, to, opening, kind);
                            *expected.buckets.entry(told).or_default() += 1;
                        };
                        let size = |start: i64, end: i64| {
                            let applied = (start..end).filter(in_force).count();
                            let applied = i64::try_from(applied).unwrap();
                            share(a.size, applied, end - start, a.proration)
                        };
                        if let Grant::Once { lasts } = a.grant {
                            if activated {
                                let mut until = (start, end);
                                for _ in 1..lasts.unwrap_or(1) {
                                    until = cycle(&account.profile, term, until.1);
                                }
                                let end = lasts.map_or(last, |_| last.min(until.1));
                                told(first, end, a.size);
                            }
                            continue;
                        }
                        if count > 0 && size(start, end) > 0 {
                            told(applied[0], applied[applied.len() - 1] + 1, size(start, end));
                        }
                        let Some(rollover) = a.rollover else { continue };
                        let here: Vec<i64> = (start..end).filter(|d| days.contains(d)).collect();
                        let (mut begin, mut from_age) = (start, 0);
                        while from_age < rollover.cycles_max {
                            let (origin, origin_end) = cycle(&account.profile, term, begin - 1);
                            if !(origin..origin_end).any(|day| days.contains(&day)) {
                                break;
                            }
                            if size(origin, origin_end) > 0 {
                                told(here[0], here[here.len() - 1] + 1, 0);
                                let (previous, previous_end) =
                                    cycle(&account.profile, term, start - 1);
                                let before = (previous..previous_end).filter(|d| {
                                    days.contains(d) && (from_age > 0 || holds(row.valid, *d))
                                });
                                let opening = if from_age == 0 {
                                    size(previous, previous_end)
                                } else {
                                    0
                                };
                                let from = (before.min().unwrap(), opening);
                                let edge = (start, from, (here[0], 0));
                                *expected.rollovers.entry(edge).or_default() += 1;
                            }
                            begin = origin;
                            from_age += 1;
                        }
                    }
                    PlanPart::Charge(c) => {
                        let due = match c.when {
                            ChargeWhen::Arrears => end <= present,
                            _ => start <= world.clock.max(present),
                        };
                        if !due {
                            continue;
                        }
                        let mut told = |from, to, amount| {
                            let told = (*key, c.item, start, from, to, amount);
                            expected.charges.insert(told);
                        };
                        if c.when == ChargeWhen::Activation {
                            if activated {
                                told(first, first, c.amount.0);
                            }
                        } else if count > 0 {
                            let amount = share(c.amount.0, count, end - start, c.proration);
                            told(applied[0], applied[applied.len() - 1] + 1, amount);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    shared(world, &active, &first_ever, &mut expected);
    expected
}

type Active = BTreeMap<(SubscriptionKey, Name, AccountKey, Name), BTreeSet<i64>>;

/// Accumulators and commitments: one version of each, so that only the members differ.
fn shared(
    world: &World,
    active: &Active,
    first_ever: &dyn Fn(SubscriptionKey, Name) -> i64,
    expected: &mut Expected,
) {
    let account = |key: AccountKey| world.accounts.iter().find(|a| a.key == key).unwrap();
    let groups: BTreeSet<GroupKey> = active
        .keys()
        .map(|(_, _, payer, pool)| GroupKey::of_pool(*pool, account(*payer).currency))
        .collect();
    for group in groups {
        let members: Vec<_> = active
            .iter()
            .filter(|((_, _, payer, pool), _)| {
                GroupKey::of_pool(*pool, account(*payer).currency) == group
            })
            .collect();
        for row in &world.plans {
            let PlanPart::Accumulator(a) = &row.part else {
                continue;
            };
            let with: Vec<_> = members
                .iter()
                .filter(|((_, list, _, _), days)| {
                    *list == row.list && days.iter().any(|day| holds(row.valid, *day))
                })
                .collect();
            let oldest = with.iter().min_by_key(|((key, ..), days)| {
                let first = *days.first().unwrap();
                let gap = (first..).find(|day| !days.contains(day)).unwrap();
                (first, gap, *key)
            });
            let Some(((_, _, payer, _), _)) = oldest else {
                continue;
            };
            let profile = account(*payer).profile;
            let (present, present_end) = cycle(&profile, a.term, world.clock);
            let counted: BTreeSet<i64> = with
                .iter()
                .flat_map(|(_, days)| days.iter().copied())
                .filter(|day| holds(row.valid, *day))
                .collect();
            let cycles: BTreeSet<(i64, i64)> = counted
                .iter()
                .map(|day| cycle(&profile, a.term, *day))
                .collect();
            for (start, end) in cycles
                .into_iter()
                .filter(|(start, _)| *start <= present_end)
            {
                let here: Vec<i64> = counted.range(start..end).copied().collect();
                let mut adds: BTreeMap<SubscriptionKey, bool> = BTreeMap::new();
                for ((key, list, _, _), days) in &with {
                    if days.range(start..end).any(|day| holds(row.valid, *day)) {
                        let first = first_ever(*key, *list);
                        let activated = (start..end).contains(&first) && days.contains(&first);
                        *adds.entry(*key).or_default() |= activated;
                    }
                }
                let opening = adds
                    .values()
                    .map(|activated| a.recurring + if *activated { a.activation } else { 0 })
                    .sum();
                let kind = BucketKind::Accumulator {
                    numerator: a.numerator,
                    denominator: a.denominator,
                };
                let told = (
                    a.resource,
                    group,
                    here[0],
                    here[here.len() - 1] + 1,
                    opening,
                    kind,
                );
                *expected.buckets.entry(told).or_default() += 1;
                if end > present {
                    continue;
                }
                for committed in &world.plans {
                    let PlanPart::Commitment(c) = &committed.part else {
                        continue;
                    };
                    let mut total = 0;
                    for ((_, list, _, _), days) in &members {
                        let in_force = |day: &i64| holds(committed.valid, *day);
                        let count = days.range(start..end).copied().filter(in_force).count();
                        if *list == committed.list
                            && c.counts == Counts::Accumulated(a.resource)
                            && count > 0
                        {
                            let count = i64::try_from(count).unwrap();
                            total += share(c.amount.0, count, end - start, c.proration);
                        }
                    }
                    if total > 0 {
                        expected.true_ups.insert((end, group, c.resource, total));
                    }
                }
            }
        }
    }
}

/// What the operator made, in the words of the reference.
fn retold(made: &Made) -> Expected {
    let day = |time: EventTime| time.0.div_euclid(DAY_US) - 20_442;
    let mut told = Expected::default();
    let find = |key: BucketKey| {
        made.buckets
            .iter()
            .find(|bucket| bucket.key == key)
            .unwrap()
    };
    for bucket in &made.buckets {
        let (start, end) = (day(bucket.valid.start()), day(bucket.valid.end()));
        let row = (
            bucket.resource,
            bucket.group,
            start,
            end,
            bucket.opening,
            bucket.kind,
        );
        *told.buckets.entry(row).or_default() += 1;
    }
    for edge in &made.edges {
        if let EdgeAction::Rollover { from, to, .. } = edge.action {
            let place = |key| (day(find(key).valid.start()), find(key).opening);
            let row = (day(edge.time), place(from), place(to));
            *told.rollovers.entry(row).or_default() += 1;
        }
    }
    for row in &made.activity {
        if let ActivityKind::TrueUp { commitment } = row.kind {
            let end = day(row.cycle.end());
            told.true_ups
                .insert((end, row.group, row.item, commitment.0));
            assert!(made.edges.iter().any(|edge| edge.key.0 == row.key.0));
        } else {
            let applied = (day(row.applied_start), day(row.applied_end));
            let start = day(row.cycle.start());
            let row = (
                row.subscription,
                row.item,
                start,
                applied.0,
                applied.1,
                row.amount.0,
            );
            told.charges.insert(row);
        }
    }
    told
}

fn period() -> impl Strategy<Value = Period> {
    (10..DAYS - 30, 1_i64..70).prop_map(|(from, length)| {
        Period::new(instant(from), instant((from + length).min(DAYS - 1))).unwrap()
    })
}

fn term() -> impl Strategy<Value = Term> {
    prop_oneof![
        3 => Just(Term::BillUnit),
        1 => Just(Term::Every { every: 2, cycle: Cycle::Week }),
        1 => Just(Term::Every { every: 1, cycle: Cycle::Month }),
    ]
}

fn proration() -> impl Strategy<Value = Proration> {
    prop_oneof![
        Just(Proration::NoCharge),
        Just(Proration::FullCharge),
        Just(Proration::Prorate)
    ]
}

fn part(slot: usize) -> BoxedStrategy<PlanPart> {
    let named = |what: &str| Name::of(&[what, &slot.to_string()]);
    let (minutes, fee, total, least) = (
        named("minutes"),
        named("fee"),
        named("total"),
        named("least"),
    );
    let grant = prop_oneof![
        2 => Just(Grant::Recurring),
        1 => Just(Grant::Once { lasts: None }),
        1 => (1_u16..4).prop_map(|n| Grant::Once { lasts: Some(n) }),
    ];
    let rollover = proptest::option::of((1_u8..4).prop_map(|cycles_max| Rollover {
        cap_per_cycle: None,
        cycles_max,
    }));
    let allowance = (1_i128..1000, grant, term(), proration(), rollover).prop_map(
        move |(size, grant, term, proration, rollover)| {
            PlanPart::Allowance(Allowance {
                resource: minutes,
                items: SmallVec::new(),
                measure: Measure::Units,
                size,
                currency: None,
                priority: 3,
                grant,
                term,
                proration,
                rollover,
                thresholds: SmallVec::new(),
            })
        },
    );
    let when = prop_oneof![
        Just(ChargeWhen::Activation),
        Just(ChargeWhen::Advance),
        Just(ChargeWhen::Arrears)
    ];
    let charge = (1_i128..1000, when, term(), proration()).prop_map(
        move |(amount, when, term, proration)| {
            PlanPart::Charge(PlanCharge {
                item: fee,
                amount: Amount(amount),
                currency: Name::new("USD"),
                when,
                term,
                proration,
            })
        },
    );
    let accumulator = (0_i128..3, 0_i128..3).prop_map(move |(activation, recurring)| {
        PlanPart::Accumulator(Accumulator {
            resource: total,
            items: SmallVec::new(),
            measure: Measure::Money,
            currency: Some(Name::new("USD")),
            numerator: 3,
            denominator: 4,
            term: Term::BillUnit,
            thresholds: SmallVec::new(),
            activation,
            recurring,
        })
    });
    let commitment =
        (0_usize..6, 1_i128..1000, proration()).prop_map(move |(of, amount, proration)| {
            PlanPart::Commitment(Commitment {
                resource: least,
                counts: Counts::Accumulated(Name::of(&["total", &of.to_string()])),
                items: SmallVec::new(),
                recurring: Vec::new(),
                amount: Amount(amount),
                currency: Name::new("USD"),
                term: Term::BillUnit,
                proration,
            })
        });
    prop_oneof![
        3 => allowance.boxed(),
        3 => charge.boxed(),
        3 => accumulator.boxed(),
        2 => commitment.boxed(),
    ]
    .boxed()
}

fn plan_row(slot: usize) -> impl Strategy<Value = PlanRow> {
    let valid = prop_oneof![3 => Just(Period::ALWAYS), 1 => period()];
    (0_u64..2, valid, part(slot)).prop_map(move |(list, valid, part)| PlanRow {
        key: PlanKey(slot as u64),
        list: Name(list),
        valid,
        part,
    })
}

fn subscription(slot: usize) -> impl Strategy<Value = Subscription> {
    let status = prop_oneof![
        4 => Just(SubscriptionStatus::Active),
        1 => Just(SubscriptionStatus::Inactive)
    ];
    let lists = proptest::collection::btree_set(0_u64..3, 1..3);
    (0_u64..2, 0_u64..2, lists, period(), status).prop_map(
        move |(account, group, lists, valid, status)| Subscription {
            key: SubscriptionKey(u64::try_from(slot % 3).unwrap() << 60),
            account: AccountKey(account),
            group: Name(group),
            price_lists: lists.into_iter().map(Name).collect(),
            valid,
            status,
        },
    )
}

fn accounts() -> Vec<Account> {
    let anniversaries = [(2025, 12, 31), (2026, 1, 15)];
    let accounts = (0..).zip(anniversaries).map(|(key, (y, m, d))| Account {
        key: AccountKey(key),
        currency: Name::new("USD"),
        profile: BillingProfile::new(jiff::civil::date(y, m, d), 1, Cycle::Month),
    });
    accounts.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_history_ends_as_the_reference_says(
        plans in (0..6).map(plan_row).collect::<Vec<_>>(),
        subscriptions in (0..6).map(subscription).collect::<Vec<_>>(),
        clocks in proptest::collection::vec(20..DAYS - 10, 1..4),
        toggles in proptest::collection::vec((0_usize..13, 0_usize..4), 0..24),
    ) {
        let mut world = World {
            accounts: accounts(),
            subscriptions: Vec::new(),
            plans: Vec::new(),
            clock: clocks[0],
        };
        let mut first: Vec<(Row, isize)> =
            world.accounts.iter().cloned().map(|row| (Row::Account(row), 1)).collect();
        first.push((Row::Clock(instant(world.clock)), 1));
        let mut epochs = vec![first];
        let mut worlds = vec![world.clone()];
        // Each group of toggles is an epoch: a row comes or goes, or the clock moves.
        for group in toggles.chunk_by(|a, b| a.1 == b.1) {
            let mut changes = Vec::new();
            let chosen: BTreeSet<usize> = group.iter().map(|(slot, _)| *slot).collect();
            for slot in chosen {
                if let Some(row) = plans.get(slot) {
                    let known = world.plans.iter().position(|held| held == row);
                    changes.push((Row::Plan(row.clone()), if known.is_some() { -1 } else { 1 }));
                    match known {
                        Some(at) => drop(world.plans.remove(at)),
                        None => world.plans.push(row.clone()),
                    }
                } else if let Some(row) = subscriptions.get(slot - plans.len()) {
                    let known = world.subscriptions.iter().position(|held| held == row);
                    let diff = if known.is_some() { -1 } else { 1 };
                    changes.push((Row::Subscription(row.clone()), diff));
                    match known {
                        Some(at) => drop(world.subscriptions.remove(at)),
                        None => world.subscriptions.push(row.clone()),
                    }
                } else {
                    let next = clocks[worlds.len() % clocks.len()];
                    if next != world.clock {
                        changes.push((Row::Clock(instant(world.clock)), -1));
                        changes.push((Row::Clock(instant(next)), 1));
                        world.clock = next;
                    }
                }
            }
            epochs.push(changes);
            worlds.push(world.clone());
        }
        for (made, world) in run(&TimeZone::UTC, epochs).iter().zip(&worlds) {
            prop_assert_eq!(retold(made), reference(world), "{:?}", world);
        }
    }
}
