//! Random plans and histories, epoch by epoch, against the oracle.

use super::oracle::World;
use super::*;
use crate::charge::kernels::{charge_edge, charge_usage};
use crate::charge::plan::{Plan, Slots};
use crate::charge::step::Outcome;
use crate::charge::{Group, GroupChanges};
use proptest::prelude::*;

/// Random numbers from a seed.
struct Dice(u64);

impl Dice {
    fn pick(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end.max(1)
    }

    fn int(&mut self, end: i64) -> i64 {
        i64::try_from(self.pick(end.unsigned_abs())).unwrap()
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.pick(100) < percent
    }
}

const END: i64 = 120;
const ITEMS: [&str; 3] = ["call", "data", "text"];
const TOTALS: [&str; 2] = ["total", "spent"];

fn some_tiers(dice: &mut Dice, step: i128) -> Arc<[Tier]> {
    let mut from = 0;
    let count = 1 + dice.pick(4);
    let prices = ["1", "0.5", "0.3333", "2.25", "0"];
    let tiers = (0..count).map(|_| {
        let tier = Tier {
            from,
            price: Price::parse(prices[usize::try_from(dice.pick(5)).unwrap()]).unwrap(),
            per: 1 + dice.pick(3),
        };
        from += step * i128::from(1 + dice.pick(60));
        tier
    });
    tiers.collect()
}

fn some_model(dice: &mut Dice) -> PriceModel {
    let price = Price::parse(["1.5", "0.07", "3"][usize::try_from(dice.pick(3)).unwrap()]).unwrap();
    let total = Name::new(TOTALS[0]);
    match dice.pick(10) {
        0 => PriceModel::PerUnit { price, per: 3 },
        1 => PriceModel::PerBlock { price, block: 4 },
        2 => PriceModel::PerRecord { price },
        3 => PriceModel::Graduated {
            tiers: some_tiers(dice, units(1) / 2),
            by: TierReference::Record,
        },
        4 | 5 => PriceModel::Graduated {
            tiers: some_tiers(dice, units(3)),
            by: TierReference::Accumulator(total),
        },
        6 => PriceModel::Graduated {
            tiers: some_tiers(dice, money("1")),
            by: TierReference::Accumulator(Name::new(TOTALS[1])),
        },
        7 => PriceModel::Graduated {
            tiers: some_tiers(dice, units(5)),
            by: TierReference::PreviousPeriod(total),
        },
        8 => PriceModel::Volume {
            tiers: some_tiers(dice, units(5)),
            accumulator: total,
        },
        _ => PriceModel::Package {
            price,
            block: 1 + dice.pick(30),
            accumulator: total,
        },
    }
}

fn some_window(dice: &mut Dice) -> Period {
    let third = END / 3;
    let (start, end) = match dice.pick(5) {
        at @ 0..3 => {
            let at = i64::try_from(at).unwrap();
            (at * third, (at + 1) * third)
        }
        3 => (0, END),
        _ => {
            let start = dice.int(END);
            (start, start + 1 + dice.int(END))
        }
    };
    Period::new(EventTime(start), EventTime(end)).unwrap()
}

fn some_bucket(dice: &mut Dice, key: u64) -> Bucket {
    let fraction = |dice: &mut Dice| i128::from(dice.int(300)) * units(1) / 10;
    let (resource, kind, measure, opening) = match dice.pick(8) {
        0 | 1 => {
            let priority = i32::try_from(dice.pick(3)).unwrap();
            let kind = BucketKind::Allowance { priority };
            ("free", kind, Measure::Units, 3 * fraction(dice))
        }
        2 => {
            let opening = money("0.01") * i128::from(dice.int(9000));
            ("credit", ALLOWANCE, Measure::Money, opening)
        }
        3 => {
            let limit = Amount(money("0.01") * i128::from(dice.int(20_000)));
            ("cap", BucketKind::Cap { limit }, Measure::Money, 0)
        }
        4 => {
            let kind = BucketKind::Accumulator {
                numerator: 1 + u32::try_from(dice.pick(3)).unwrap(),
                denominator: 1 + u32::try_from(dice.pick(3)).unwrap(),
            };
            (TOTALS[1], kind, Measure::Money, 0)
        }
        5 => {
            let list = Name::new(["standard", "own"][usize::from(dice.chance(50))]);
            (
                TOTALS[0],
                BucketKind::Elsewhere { list },
                Measure::Units,
                fraction(dice),
            )
        }
        _ => (TOTALS[0], ACCUMULATOR, Measure::Units, fraction(dice)),
    };
    let mut made = bucket(key, resource, kind, measure, opening);
    made.valid = some_window(dice);
    let items = (0..dice.pick(3)).map(|_| Name::new(ITEMS[usize::try_from(dice.pick(3)).unwrap()]));
    let items: std::collections::BTreeSet<Name> = items.collect();
    made.items = items.into_iter().collect();
    let levels = (0..dice.pick(3)).map(|_| Threshold {
        level: match measure {
            Measure::Units => fraction(dice),
            Measure::Money => money("0.1") * i128::from(dice.int(900)),
        },
        percent: None,
    });
    let levels: std::collections::BTreeSet<Threshold> = levels.collect();
    made.thresholds = levels.into_iter().collect();
    made
}

fn some_edge(dice: &mut Dice, key: u64, buckets: u64) -> Edge {
    let mut bucket = || BucketKey(1 + dice.pick(buckets + 1));
    let (first, second) = (bucket(), bucket());
    let action = match dice.pick(3) {
        0 => EdgeAction::Rollover {
            from: first,
            to: second,
            cap: dice.chance(50).then(|| units(dice.int(20))),
        },
        1 => EdgeAction::TrueUp {
            accumulator: first,
            commitment: Amount(money("1") * i128::from(dice.int(200))),
        },
        _ => EdgeAction::Volume {
            accumulator: first,
            elsewhere: second,
            tiers: some_tiers(dice, units(5)),
        },
    };
    Edge {
        group: GROUP,
        key: EdgeKey(key),
        time: EventTime(dice.int(END)),
        action,
    }
}

/// A rollover between a bucket of units and one of money would add apples to pears; plans refuse it,
/// and so does this.
fn sound(edge: &Edge, buckets: &[Bucket]) -> bool {
    let bucket = |key: BucketKey| buckets.iter().find(|bucket| bucket.key == key);
    match &edge.action {
        EdgeAction::Rollover { from, to, .. } => {
            from != to
                && match (bucket(*from), bucket(*to)) {
                    (Some(from), Some(to)) => from.measure == to.measure,
                    _ => true,
                }
        }
        EdgeAction::Volume {
            accumulator,
            elsewhere,
            ..
        } => {
            let is_of_units =
                |key| bucket(key).is_none_or(|bucket| bucket.measure == Measure::Units);
            is_of_units(*accumulator) && is_of_units(*elsewhere)
        }
        EdgeAction::TrueUp { .. } => true,
    }
}

/// A world and the dice to change it with.
struct History {
    dice: Dice,
    world: World,
    terms: Vec<Arc<Terms>>,
    records: u64,
    clock: i64,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed | 1);
        for _ in 0..8 {
            dice.pick(2);
        }
        let terms = (1..6)
            .map(|key| {
                let count = 1 + dice.pick(2);
                let items: Vec<(&str, u8, PriceModel)> = (0..count)
                    .map(|_| {
                        let name = ITEMS[usize::try_from(dice.pick(3)).unwrap()];
                        let scale = u8::try_from(dice.pick(2)).unwrap();
                        (name, scale, some_model(&mut dice))
                    })
                    .collect();
                terms(key, &items)
            })
            .collect();
        Self {
            dice,
            world: World::default(),
            terms,
            records: 0,
            clock: 0,
        }
    }

    fn some_usage(&mut self) -> PricedUsage {
        let late = self.dice.chance(15);
        if !late {
            self.clock = (self.clock + self.dice.int(2)).min(END + 5);
        }
        let time = if late { self.dice.int(END) } else { self.clock };
        self.records += 1;
        let at = usize::try_from(self.dice.pick(5)).unwrap();
        let terms = Arc::clone(&self.terms[at]);
        let quantities: Vec<i64> = terms.items.iter().map(|_| self.dice.int(60)).collect();
        // Ids are not in order of arrival.
        let id = self.records.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        usage(time, id, &terms, &quantities)
    }

    fn epoch(&mut self) -> GroupChanges {
        let mut changes = GroupChanges::default();
        let inserts = [0, 1, 1, 2, 5, 40][usize::try_from(self.dice.pick(6)).unwrap()];
        for _ in 0..self.dice.pick(3) {
            if !self.world.usage.is_empty() && self.dice.chance(40) {
                let at = self
                    .dice
                    .pick(u64::try_from(self.world.usage.len()).unwrap());
                let old = self.world.usage.swap_remove(usize::try_from(at).unwrap());
                let mut amended = old.clone();
                changes.usage.push((old, -1));
                if self.dice.chance(60) {
                    let at = usize::try_from(self.dice.pick(5)).unwrap();
                    amended.terms = Arc::clone(&self.terms[at]);
                    let items = amended.terms.items.iter();
                    amended.quantities = items.map(|_| self.dice.int(60)).collect();
                    if self.dice.chance(30) {
                        amended.time = EventTime(self.dice.int(END));
                    }
                    changes.usage.push((amended.clone(), 1));
                    self.world.usage.push(amended);
                }
            }
        }
        for _ in 0..inserts {
            let made = self.some_usage();
            changes.usage.push((made.clone(), 1));
            self.world.usage.push(made);
        }
        if self.dice.chance(25) || self.world.buckets.is_empty() {
            self.change_bucket(&mut changes);
        }
        if self.dice.chance(12) {
            self.change_edge(&mut changes);
        }
        changes
    }

    fn change_bucket(&mut self, changes: &mut GroupChanges) {
        let key = 1 + self.dice.pick(6);
        let at = self.world.buckets.iter().position(|held| held.key.0 == key);
        let mut made = some_bucket(&mut self.dice, key);
        if let Some(at) = at {
            let old = self.world.buckets.swap_remove(at);
            if self.dice.chance(60) {
                // Only the grant, or only the window, changes.
                let (opening, valid) = (made.opening, made.valid);
                made = old.clone();
                if self.dice.chance(60) {
                    made.opening = opening % (units(90))
                        + money("0.1") * i128::from(made.measure == Measure::Money);
                } else {
                    made.valid = valid;
                }
            }
            changes.buckets.push((old, -1));
            if self.dice.chance(20) {
                return self.drop_unsound(changes);
            }
        }
        self.world.buckets.push(made.clone());
        changes.buckets.push((made, 1));
        self.drop_unsound(changes);
    }

    fn drop_unsound(&mut self, changes: &mut GroupChanges) {
        let World { edges, buckets, .. } = &mut self.world;
        edges.retain(|edge| {
            let keep = sound(edge, buckets);
            if !keep {
                changes.edges.push((edge.clone(), -1));
            }
            keep
        });
    }

    fn change_edge(&mut self, changes: &mut GroupChanges) {
        let key = 1 + self.dice.pick(5);
        if let Some(at) = self.world.edges.iter().position(|held| held.key.0 == key) {
            let old = self.world.edges.swap_remove(at);
            changes.edges.push((old, -1));
        }
        let made = some_edge(&mut self.dice, key, 6);
        if sound(&made, &self.world.buckets)
            && self.world.edges.iter().all(|held| held.key != made.key)
            && changes
                .edges
                .iter()
                .all(|(gone, _)| gone.key != made.key || gone.time != made.time || *gone != made)
        {
            changes.edges.push((made.clone(), 1));
            self.world.edges.push(made);
        }
    }
}

proptest! {
    #[test]
    fn every_epoch_is_what_the_oracle_says(seed in any::<u64>(), epochs in 1_usize..60) {
        let mut history = History::new(seed);
        let mut group = Group::new(GROUP);
        let mut told = Told::default();
        for epoch in 0..epochs {
            let changes = history.epoch();
            group.apply(changes, &mut told);
            let bill = history.world.bill();
            prop_assert!(told.held == bill.told, "seed {} epoch {}:\n{}", seed, epoch, difference(&told.held, &bill.told));
            let at = EventTime(history.dice.int(END + 20));
            prop_assert_eq!(group.balances(None), bill.balances(None), "seed {} epoch {}", seed, epoch);
            prop_assert_eq!(group.balances(Some(at)), bill.balances(Some(at)));
            prop_assert_eq!(group.len(), history.world.usage.len() + history.world.edges.len());
        }
        let mut again = Told::default();
        group.visit(&mut again);
        prop_assert_eq!(&again.held, &told.held);
        for record in history.world.usage.iter().take(5) {
            let explained = group.explain(record.time, record.record).unwrap();
            prop_assert_eq!(explained.items.is_empty(), explained.suspense.is_some());
        }
        let World { usage, buckets, edges } = history.world;
        let gone = GroupChanges {
            usage: usage.into_iter().map(|usage| (usage, -1)).collect(),
            buckets: buckets.into_iter().map(|bucket| (bucket, -1)).collect(),
            edges: edges.into_iter().map(|edge| (edge, -1)).collect(),
        };
        group.apply(gone, &mut told);
        prop_assert!(told.held.is_empty() && group.is_empty());
    }

    /// A pool of hundreds of subscriptions has as many allowances, and a record meets those that are empty
    /// and one more.
    #[test]
    fn many_allowances_are_drawn_as_the_oracle_says(seed in any::<u64>(), number in 7_u64..80) {
        let mut history = History::new(seed);
        let mut group = Group::new(GROUP);
        let mut told = Told::default();
        let mut granted = GroupChanges::default();
        for key in 1..=number {
            let mut made = some_bucket(&mut history.dice, key);
            if history.dice.chance(80) {
                let priority = i32::try_from(history.dice.pick(3)).unwrap();
                made.kind = BucketKind::Allowance { priority };
                made.resource = Name::new("free");
                made.opening = match made.measure {
                    Measure::Units => units(history.dice.int(30)) / 10,
                    Measure::Money => money("0.01") * i128::from(history.dice.int(300)),
                };
            }
            granted.buckets.push((made.clone(), 1));
            history.world.buckets.push(made);
        }
        group.apply(granted, &mut told);
        for epoch in 0..12 {
            let changes = history.epoch();
            group.apply(changes, &mut told);
            let bill = history.world.bill();
            prop_assert!(told.held == bill.told, "seed {} epoch {}:\n{}", seed, epoch, difference(&told.held, &bill.told));
            prop_assert_eq!(group.balances(None), bill.balances(None), "seed {} epoch {}", seed, epoch);
        }
    }

    /// The law that everything rests on: in any state that the guard admits, the same impacts and the
    /// same delta.
    #[test]
    fn inside_its_guard_a_step_does_the_same(seed in any::<u64>()) {
        let mut history = History::new(seed);
        let mut plan = Plan::default();
        let mut slots = Slots::of(&plan, 5);
        for key in 1..6 {
            plan.put(some_bucket(&mut history.dice, key), &mut slots);
        }
        plan.arrange();
        let usage = history.some_usage();
        let edge = some_edge(&mut history.dice, 1, 5);
        let use_edge = history.dice.chance(30);
        let charge = |state: &mut Vec<i128>| {
            let mut outcome = Outcome::default();
            if use_edge {
                charge_edge(&plan, &edge, state, &mut outcome);
            } else {
                let live = plan.at(usage.time, &mut 0);
                let what = (&*usage.terms, &usage.quantities[..]);
                charge_usage(&plan, live, what, state, &mut outcome);
            }
            outcome
        };
        let start: Vec<i128> = (0..plan.len())
            .map(|_| i128::from(history.dice.int(900)) * units(1) / 10 * if history.dice.chance(40) { 100_000_000_000 } else { 1 })
            .collect();
        let mut after = start.clone();
        let outcome = charge(&mut after);
        prop_assert!(outcome.effect.admits(&start));
        for _ in 0..40 {
            let mut other = start.clone();
            for span in outcome.effect.spans() {
                let value = &mut other[usize::try_from(span.slot).unwrap()];
                let far = i128::from(history.dice.int(900)) * units(1) / 10;
                *value = match history.dice.pick(5) {
                    0 => span.low,
                    1 => span.high,
                    2 => value.saturating_add(far).min(span.high),
                    3 => value.saturating_sub(far).max(span.low),
                    _ => *value,
                };
            }
            let before = other.clone();
            prop_assert!(outcome.effect.admits(&before));
            let again = charge(&mut other);
            prop_assert!(again.same_impacts(&outcome), "seed {}: {:?} {:?}", seed, outcome, again);
            let mut moved = before;
            outcome.effect.apply(&mut moved);
            prop_assert_eq!(moved, other);
        }
    }
}

fn difference(told: &BTreeMap<Out, isize>, expected: &BTreeMap<Out, isize>) -> String {
    let more = told
        .iter()
        .filter(|(out, count)| expected.get(out) != Some(count));
    let less = expected
        .iter()
        .filter(|(out, count)| told.get(out) != Some(count));
    let more = more.take(2).map(|out| format!("told     {out:?}\n"));
    more.chain(less.take(2).map(|out| format!("expected {out:?}\n")))
        .collect()
}
