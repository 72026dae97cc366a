//! Plans, prices that depend on the usage before, and the clock.

use super::{HOUR, ITEMS, START, name, period};
use millrace_operators::domain::{
    Accumulator, Allowance, Amount, Anchor, Cap, ChargeWhen, Commitment, Counts, Cycle, EventTime,
    Grant, Measure, Name, Period, PlanCharge, PlanKey, PlanPart, PlanRow, Price, PriceModel,
    Proration, Rollover, Term, Tier, TierReference, Volume,
};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::sample::subsequence;
use std::sync::Arc;

/// Rows of plans that there can be.
pub(super) const SLOTS: usize = 12;

const UNIT: i128 = 1_000_000_000_000;
/// A hundredth of the currency.
const CENT: i128 = 10_000_000_000_000_000_000_000;

fn currency() -> Name {
    Name::new("USD")
}

/// From before the first usage to after the last.
pub(super) fn clock() -> impl Strategy<Value = EventTime> {
    let offset = select(vec![0, 0, -1, 12 * HOUR]);
    (-2_i64..26, offset).prop_map(|(day, offset)| EventTime(START + day * 24 * HOUR + offset))
}

fn exact(text: &str) -> Price {
    Price::parse(text).expect("a price")
}

fn tiers(measure: Measure) -> impl Strategy<Value = Arc<[Tier]>> {
    let step = match measure {
        Measure::Units => UNIT,
        Measure::Money => CENT,
    };
    let tier = (
        select(vec![1_i128, 20, 39, 1_000, 500_000]),
        select(vec!["0.000003", "0.01", "0", "0.3333", "-0.5"]),
        select(vec![1_000_000, 1_000_003]),
    );
    proptest::collection::vec(tier, 1..4).prop_map(move |steps| {
        let mut from = 0;
        let tier = |(width, price, per): (i128, &str, u64)| {
            let tier = Tier {
                from,
                price: exact(price),
                per,
            };
            from += width * step;
            tier
        };
        steps.into_iter().map(tier).collect()
    })
}

/// A price that looks back.
pub(super) fn model() -> impl Strategy<Value = PriceModel> {
    let graduated = |tiers, by| PriceModel::Graduated { tiers, by };
    let (total, spent) = (Name::new("total"), Name::new("spent"));
    let package = (select(vec!["0.000003", "0.01"]), select(vec![7, 20, 1_000]));
    prop_oneof![
        1 => tiers(Measure::Units).prop_map(move |t| graduated(t, TierReference::Record)),
        3 => tiers(Measure::Units).prop_map(move |t| graduated(t, TierReference::Accumulator(total))),
        1 => tiers(Measure::Money).prop_map(move |t| graduated(t, TierReference::Accumulator(spent))),
        1 => tiers(Measure::Units).prop_map(move |t| graduated(t, TierReference::PreviousPeriod(total))),
        1 => tiers(Measure::Units).prop_map(move |tiers| PriceModel::Volume {
            tiers,
            accumulator: Name::new("calls made"),
        }),
        1 => package.prop_map(move |(price, block)| PriceModel::Package {
            price: exact(price),
            block,
            accumulator: total,
        }),
    ]
}

fn term() -> impl Strategy<Value = Term> {
    let own = select(vec![
        (1, Cycle::Day),
        (3, Cycle::Day),
        (1, Cycle::Week),
        (1, Cycle::Month),
    ]);
    prop_oneof![
        Just(Term::BillUnit),
        own.clone()
            .prop_map(|(every, cycle)| Term::Every { every, cycle }),
        own.prop_map(|(every, cycle)| Term::Anchored {
            every,
            cycle,
            anchor: Anchor::Subscription,
        }),
    ]
}

fn proration() -> impl Strategy<Value = Proration> {
    select(vec![
        Proration::Prorate,
        Proration::Prorate,
        Proration::FullCharge,
        Proration::NoCharge,
    ])
}

fn items() -> impl Strategy<Value = smallvec::SmallVec<[Name; 2]>> {
    let named = subsequence(ITEMS.map(|(item, _)| item).to_vec(), 0..3);
    named.prop_map(|items| {
        let mut names: Vec<Name> = items.into_iter().map(Name::new).collect();
        names.sort_unstable();
        names.into_iter().collect()
    })
}

fn percents() -> impl Strategy<Value = smallvec::SmallVec<[u8; 3]>> {
    subsequence(vec![33, 50, 100], 0..3).prop_map(|percents| percents.into_iter().collect())
}

fn allowance(slot: usize, measure: Measure) -> impl Strategy<Value = PlanPart> {
    let sizes = match measure {
        Measure::Units => vec![0, UNIT, 25 * UNIT, 1_000 * UNIT, 700_001 * UNIT],
        Measure::Money => vec![1, CENT / 1_000, CENT, 300 * CENT, 10_i128.pow(14) * CENT],
    };
    let grant = prop_oneof![
        1 => weighted(0.5, 1_u16..4).prop_map(|lasts| Grant::Once { lasts }),
        3 => Just(Grant::Recurring),
    ];
    let caps = sizes.clone();
    let rollover = weighted(0.5, (weighted(0.5, select(caps)), 1_u8..4));
    let size = select(sizes);
    let rest = (items(), percents(), 0_i32..2);
    (size, grant, term(), proration(), rollover, rest).prop_map(
        move |(size, grant, term, proration, rollover, (items, thresholds, priority))| {
            PlanPart::Allowance(Allowance {
                resource: name("free", slot),
                items,
                measure,
                size,
                currency: (measure == Measure::Money).then(currency),
                priority,
                grant,
                term,
                proration,
                rollover: rollover.map(|(cap_per_cycle, cycles_max)| Rollover {
                    cap_per_cycle,
                    cycles_max,
                }),
                thresholds,
            })
        },
    )
}

fn accumulator(resource: &'static str, measure: Measure) -> impl Strategy<Value = PlanPart> {
    let step = match measure {
        Measure::Units => UNIT,
        Measure::Money => CENT,
    };
    let items = match resource {
        "calls made" => Just([Name::new("calls")].into_iter().collect()).boxed(),
        _ => prop_oneof![3 => Just(Default::default()), 1 => items()].boxed(),
    };
    let ratio = prop_oneof![3 => Just((1, 1)), 1 => Just((3, 4)), 1 => Just((1, 3))];
    let levels = subsequence(vec![1, 20, 500], 0..3);
    let adds = (select(vec![0, 0, 1, 30]), select(vec![0, 0, 2]));
    let term = prop_oneof![3 => Just(Term::BillUnit), 1 => term()];
    (items, ratio, levels, adds, term).prop_map(
        move |(items, (numerator, denominator), levels, (activation, recurring), term)| {
            PlanPart::Accumulator(Accumulator {
                resource: Name::new(resource),
                items,
                measure,
                currency: (measure == Measure::Money).then(currency),
                numerator,
                denominator,
                term,
                thresholds: levels.into_iter().map(|level: i128| level * step).collect(),
                activation: activation * step,
                recurring: recurring * step,
            })
        },
    )
}

fn cap() -> impl Strategy<Value = PlanPart> {
    let limit = select(vec![0, CENT / 10, 5 * CENT, 10_i128.pow(12) * CENT]);
    (limit, items(), term(), percents()).prop_map(|(limit, items, term, thresholds)| {
        PlanPart::Cap(Cap {
            resource: Name::new("limit"),
            items,
            limit: Amount(limit),
            currency: currency(),
            term,
            thresholds,
        })
    })
}

fn commitment() -> impl Strategy<Value = PlanPart> {
    let amount = select(vec![CENT, 700 * CENT, 10_i128.pow(12) * CENT]);
    let term = prop_oneof![4 => Just(Term::BillUnit), 1 => term()];
    let counts = select(vec![
        Counts::Accumulated(Name::new("spent")),
        Counts::Spend,
        Counts::Spend,
        Counts::Money,
        Counts::Nothing,
    ]);
    (amount, term, proration(), counts).prop_map(|(amount, term, proration, counts)| {
        PlanPart::Commitment(Commitment {
            resource: Name::new("shortfall"),
            counts,
            items: Default::default(),
            recurring: Vec::new(),
            amount: Amount(amount),
            currency: currency(),
            term,
            proration,
        })
    })
}

fn charge(slot: usize) -> impl Strategy<Value = PlanPart> {
    let when = select(vec![
        ChargeWhen::Activation,
        ChargeWhen::Advance,
        ChargeWhen::Advance,
        ChargeWhen::Arrears,
    ]);
    let amount = select(vec![0, CENT, 999 * CENT]);
    (amount, when, term(), proration()).prop_map(move |(amount, when, term, proration)| {
        PlanPart::Charge(PlanCharge {
            item: name("fee", slot % 2),
            amount: Amount(amount),
            currency: currency(),
            when,
            term,
            proration,
        })
    })
}

/// Of a volume, or of packages: those have no tiers.
fn by_total() -> impl Strategy<Value = PlanPart> {
    let volume = tiers(Measure::Units).prop_map(|tiers| ("calls made", tiers));
    let package = Just(("total", Arc::from([])));
    prop_oneof![2 => volume, 1 => package].prop_map(|(accumulator, tiers)| {
        PlanPart::Volume(Volume {
            item: Name::new("calls"),
            accumulator: Name::new(accumulator),
            tiers,
            currency: currency(),
        })
    })
}

/// A row of a plan; its slot says what kind of part it is.
pub(super) fn row(slot: usize) -> impl Strategy<Value = PlanRow> {
    let part = match slot {
        0 | 1 => allowance(slot, Measure::Units).boxed(),
        2 => allowance(slot, Measure::Money).boxed(),
        3 | 4 => accumulator("total", Measure::Units).boxed(),
        5 => accumulator("spent", Measure::Money).boxed(),
        6 => accumulator("calls made", Measure::Units).boxed(),
        7 => cap().boxed(),
        8 => commitment().boxed(),
        9 => by_total().boxed(),
        _ => charge(slot).boxed(),
    };
    let valid = prop_oneof![4 => Just(Period::ALWAYS), 1 => period()];
    (0_usize..3, valid, part).prop_map(move |(list, valid, part)| PlanRow {
        key: PlanKey(slot as u64),
        list: name("list", list),
        valid,
        part,
    })
}
