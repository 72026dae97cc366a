//! Random histories of small worlds: a few services, accounts, plans and prices, much of it
//! overlapping, and records that come, change and go in any epoch. Half of the worlds have plans, so
//! that usage is charged in order, subscriptions share balance groups, and a clock moves.
//!
//! Everything lives in numbered slots. An operation fills a slot or empties it: filling an empty one
//! is an insert, a filled one an amendment, emptying a retraction. So every sequence of operations
//! is a valid history, and proptest can shrink it freely.

mod plan;

use millrace_operators::aggregate::Dimension;
use millrace_operators::domain::{
    Account, AccountKey, BillingProfile, Condition, Cycle, Discard, EventTime, Fate, Fault, FileId,
    Identity, Item, Keep, Kind, Mark, Name, Period, PlanRow, Price, PriceKey, PriceModel, PriceRow,
    Rank, Reason, RecordId, ServiceKey, ServiceUse, Subscription, SubscriptionKey,
    SubscriptionStatus, Usage, UsageClass, UsagePlace,
};
use millrace_operators::epoch::Diff;
use millrace_tests::oracle::calendar::Zone;
use millrace_tests::oracle::{BillRules, Changes, World};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::{BTreeMap, BTreeSet};

const RECORD_SLOTS: u64 = 24;
const RECORDS_PER_FILE: u64 = 10;
const HOUR: i64 = 3_600_000_000;
/// 2026-03-20T00:00:00Z: the days that follow hold a month's end and the start of summer time.
const START: i64 = 1_773_964_800_000_000;

/// One operation.
#[derive(Clone, Debug)]
enum Op {
    Record(u64, Option<RecordSpec>),
    /// A record that ends before dedup: ignored, or faulty for this reason.
    Settled(u64, Option<Option<Reason>>),
    Price(usize, Option<PriceRow>),
    Plan(usize, Option<PlanRow>),
    Clock(EventTime),
    Account(usize, Option<Account>),
    Terms(usize, Option<Subscription>),
    Service(usize, Option<ServiceUse>),
    /// Takes the record of a slot out, or puts it back: of those that are usage, or of the others.
    Discard(bool, u64, bool),
    /// A file comes in place of the one before it, or does not.
    Replace(u32, bool),
}

/// What a record says.
#[derive(Clone, Debug)]
struct RecordSpec {
    identity: u64,
    service: u64,
    class: usize,
    time: EventTime,
    quantities: [i64; 3],
    kind: Kind,
    rank: Option<i8>,
    /// Whether its rule excludes it, where marks decide.
    is_excluded: bool,
}

/// A history: operations, epoch by epoch.
#[derive(Clone, Debug)]
pub(crate) struct History {
    epochs: Vec<Vec<Op>>,
    prague: bool,
    dimensions: Vec<Dimension>,
}

/// How the history's bills are drawn up.
pub(crate) fn rules(history: &History) -> BillRules {
    BillRules {
        zone: if history.prague {
            Zone::Prague
        } else {
            Zone::Utc
        },
        dimensions: history.dimensions.clone(),
    }
}

fn name(kind: &str, index: usize) -> Name {
    Name::of(&[kind, &index.to_string()])
}

const ITEMS: [(&str, u8); 3] = [("tokens", 0), ("calls", 0), ("energy", 3)];

/// The classes of all records: with and without attributes, of one to three items.
fn classes() -> Vec<UsageClass> {
    let class = |attributes: &[(&str, &str)], items: &[usize]| {
        let mut attributes: Vec<_> = attributes
            .iter()
            .map(|(attribute, value)| (Name::new(attribute), Name::new(value)))
            .collect();
        attributes.sort_unstable();
        let item = |index: &usize| Item {
            name: Name::new(ITEMS[*index].0),
            scale: ITEMS[*index].1,
        };
        UsageClass {
            service_type: Name::new("api"),
            attributes,
            items: items.iter().map(item).collect(),
        }
    };
    vec![
        class(&[("model", "a")], &[0]),
        class(&[("model", "a"), ("region", "x")], &[0]),
        class(&[("model", "b"), ("region", "x")], &[0, 1]),
        class(&[("region", "y")], &[1, 0, 2]),
        class(&[], &[2]),
    ]
}

/// Instants around midnights, so that records fall just inside and just outside of periods and
/// bill units.
fn instant() -> impl Strategy<Value = EventTime> {
    let offset = select(vec![0, 0, -1, -HOUR, -2 * HOUR, 12 * HOUR]);
    (0_i64..20, offset).prop_map(|(day, offset)| EventTime(START + day * 24 * HOUR + offset))
}

fn period() -> impl Strategy<Value = Period> {
    let edges = (weighted(0.25, instant()), weighted(0.25, instant()));
    edges.prop_map(|(start, end)| {
        let (start, end) = (
            start.unwrap_or(EventTime::MIN),
            end.unwrap_or(EventTime::MAX),
        );
        Period::new(start.min(end), start.max(end)).unwrap_or(Period::ALWAYS)
    })
}

/// Mostly all of time.
fn long_period() -> impl Strategy<Value = Period> {
    prop_oneof![1 => Just(Period::ALWAYS), 1 => period()]
}

/// From some day on, mostly before all usage, and mostly for ever.
fn dated() -> impl Strategy<Value = Period> {
    let start = prop_oneof![
        4 => (0_i64..40).prop_map(|day| EventTime(START - day * 24 * HOUR)),
        1 => instant(),
    ];
    (start, weighted(0.2, instant())).prop_map(|(start, end)| {
        let end = end.filter(|end| *end > start).unwrap_or(EventTime::MAX);
        Period::new(start, end).expect("the start is before the end")
    })
}

/// Quantities from nothing to what no price can bear.
fn quantity() -> impl Strategy<Value = i64> {
    select(vec![
        0,
        1,
        2,
        3,
        19,
        20,
        21,
        59,
        1_000,
        1_001,
        500_000,
        71_175,
        400_000_000_000_000_000,
        400_000_000_000_000_000,
    ])
}

fn record() -> impl Strategy<Value = RecordSpec> {
    let identity = 0_u64..16;
    let service = prop_oneof![12 => 0_u64..4, 1 => Just(4)];
    let quantities = (quantity(), quantity(), 0_i64..100_000);
    let copies = prop::bool::weighted(0.3);
    let kind = prop_oneof![
        6 => Just(Kind::Usage),
        1 => Just(Kind::Restate),
        1 => Just(Kind::Amend),
        1 => Just(Kind::Void),
    ];
    let is_excluded = prop::bool::weighted(0.25);
    let marks = (kind, prop::option::weighted(0.9, 0_i8..3), is_excluded);
    let parts = (
        identity,
        service,
        0_usize..5,
        instant(),
        quantities,
        copies,
        marks,
    );
    parts.prop_map(
        |(identity, service, class, time, quantities, copies, (kind, rank, is_excluded))| {
            match copies {
                // Content that follows from the identity: two of them are equal.
                true => RecordSpec {
                    identity,
                    service: identity % 4,
                    class: 0,
                    time: EventTime(START + HOUR * i64::try_from(identity).unwrap_or(0)),
                    quantities: [20, 3, 59],
                    kind,
                    rank,
                    is_excluded,
                },
                false => RecordSpec {
                    identity,
                    service,
                    class,
                    time,
                    quantities: quantities.into(),
                    kind,
                    rank,
                    is_excluded,
                },
            }
        },
    )
}

fn model(planned: bool) -> BoxedStrategy<PriceModel> {
    if planned {
        prop_oneof![2 => flat_model(), 1 => plan::model()].boxed()
    } else {
        flat_model().boxed()
    }
}

fn flat_model() -> impl Strategy<Value = PriceModel> {
    let price = select(vec![
        "0.000003",
        "3",
        "0.01",
        "2.9999900000000002e-06",
        "0.1234567890123456789012345678",
        "-0.5",
        "0",
    ]);
    let price = price.prop_map(|text| Price::parse(text).expect("a price"));
    (
        price,
        0..6,
        select(vec![1, 3, 7, 1_000_000]),
        select(vec![1, 7, 20]),
    )
        .prop_map(|(price, kind, per, block)| match kind {
            0 => PriceModel::PerRecord { price },
            1 | 2 => PriceModel::PerBlock { price, block },
            _ => PriceModel::PerUnit { price, per },
        })
}

/// A price row. Those of the first slots price every item of every list for everyone, so that most
/// records find a price; the others compete with them.
fn price(slot: usize, planned: bool) -> impl Strategy<Value = PriceRow> {
    let broad = slot < 9;
    let often = if broad { 0.03 } else { 0.3 };
    let condition = move |attribute: &'static str, values: [&'static str; 2]| {
        weighted(often, select(values.to_vec())).prop_map(move |value| {
            value.map(|value| Condition {
                attribute: Name::new(attribute),
                value: Name::new(value),
            })
        })
    };
    let conditions = (
        condition("model", ["a", "b"]),
        condition("region", ["x", "y"]),
    );
    let valid = prop_oneof![
        if broad { 8 } else { 1 } => Just(Period::ALWAYS),
        1 => period(),
    ];
    let owner = (0_usize..3, weighted(often, 0_u64..3));
    let rank = prop_oneof![3 => Just(i32::try_from(slot).expect("few slots")), 1 => Just(0)];
    let currency = prop_oneof![12 => Just("USD"), 1 => Just("EUR")];
    let item = 0_usize..3;
    (
        owner,
        item,
        conditions,
        rank,
        valid,
        model(planned),
        currency,
    )
        .prop_map(
            move |((list, account), item, (one, two), priority, valid, model, currency)| {
                let (item, list) = if broad {
                    (slot % 3, slot / 3)
                } else {
                    (item, list)
                };
                PriceRow {
                    key: PriceKey::of(&[&slot.to_string()]),
                    list: name("list", list),
                    account: account.map(AccountKey),
                    item: Name::new(ITEMS[item].0),
                    conditions: one.into_iter().chain(two).collect(),
                    priority,
                    valid,
                    model,
                    currency: Name::new(currency),
                }
            },
        )
}

fn account(slot: usize) -> impl Strategy<Value = Account> {
    let currency = prop_oneof![8 => Just("USD"), 1 => Just("EUR")];
    let cycle = select(vec![
        (2026, 1, 31, 1, Cycle::Month),
        (2026, 3, 22, 1, Cycle::Day),
        (2026, 4, 6, 3, Cycle::Day),
        (2026, 3, 1, 2, Cycle::Week),
        (2025, 12, 30, 1, Cycle::Quarter),
        (2024, 2, 29, 1, Cycle::Year),
    ]);
    (currency, cycle).prop_map(
        move |(currency, (year, month, day, every, cycle))| Account {
            key: AccountKey(slot as u64),
            currency: Name::new(currency),
            profile: BillingProfile {
                year,
                month,
                day,
                every,
                cycle,
            },
        },
    )
}

fn terms(slot: usize, planned: bool) -> impl Strategy<Value = Subscription> {
    let status = prop_oneof![
        8 => Just(SubscriptionStatus::Active),
        1 => Just(SubscriptionStatus::Inactive),
        1 => Just(SubscriptionStatus::Closed),
    ];
    // The first slots are one subscription each; the others are further terms of any.
    let key = (0_u64..3).prop_map(move |any| if slot < 3 { slot as u64 } else { any });
    let valid = if planned {
        prop_oneof![3 => dated(), 1 => long_period()].boxed()
    } else {
        long_period().boxed()
    };
    // Two pools, and groups of one subscription each.
    let pool = if planned {
        weighted(0.7, 100_u64..102).boxed()
    } else {
        Just(None).boxed()
    };
    let lists = vec(0_usize..3, 1..4);
    (key, 0_u64..3, lists, valid, status, pool).prop_map(
        |(key, account, lists, valid, status, pool)| Subscription {
            key: SubscriptionKey(key),
            account: AccountKey(account),
            group: Name(pool.unwrap_or(key)),
            price_lists: lists.into_iter().map(|list| name("list", list)).collect(),
            valid,
            status,
        },
    )
}

fn service(slot: usize) -> impl Strategy<Value = ServiceUse> {
    let subscription = prop_oneof![9 => 0_u64..3, 1 => Just(7)];
    let service = (0_u64..4).prop_map(move |any| if slot < 4 { slot as u64 } else { any });
    (service, subscription, long_period()).prop_map(|(service, subscription, valid)| ServiceUse {
        service: ServiceKey(shuffled(service)),
        subscription: SubscriptionKey(subscription),
        valid,
    })
}

/// Keys whose top bits differ, so that workers share them.
fn shuffled(key: u64) -> u64 {
    key.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn op(planned: bool) -> BoxedStrategy<Op> {
    let settled = prop_oneof![
        Just(None),
        Just(Some(Reason::RowUnreadable)),
        Just(Some(Reason::QuantityNegative)),
    ];
    let price = (0_usize..18).prop_flat_map(move |s| {
        weighted(0.7, price(s, planned)).prop_map(move |p| Op::Price(s, p))
    });
    let terms = (0_usize..5).prop_flat_map(move |s| {
        weighted(0.8, terms(s, planned)).prop_map(move |t| Op::Terms(s, t))
    });
    let plan = (0..plan::SLOTS)
        .prop_flat_map(|s| weighted(0.7, plan::row(s)).prop_map(move |p| Op::Plan(s, p)));
    let any = prop_oneof![
        20 => (0..RECORD_SLOTS, weighted(0.75, record())).prop_map(|(s, r)| Op::Record(s, r)),
        2 => (0_u64..6, weighted(0.7, settled)).prop_map(|(s, f)| Op::Settled(s, f)),
        6 => price,
        1 => (0_usize..3).prop_flat_map(|s| weighted(0.7, account(s)).prop_map(move |a| Op::Account(s, a))),
        2 => terms,
        2 => (0_usize..6).prop_flat_map(|s| weighted(0.8, service(s)).prop_map(move |u| Op::Service(s, u))),
        3 => (weighted(0.8, 0..RECORD_SLOTS), 0_u64..6, weighted(0.6, Just(()))).prop_map(
            |(usage, settled, out)| Op::Discard(usage.is_some(), usage.unwrap_or(settled), out.is_some())
        ),
        1 => (0_u32..2, prop::bool::ANY).prop_map(|(file, comes)| Op::Replace(file, comes)),
    ];
    if planned {
        prop_oneof![30 => any, 3 => plan, 2 => plan::clock().prop_map(Op::Clock)].boxed()
    } else {
        any.boxed()
    }
}

/// Reference data to begin with, so that most records are charged.
fn beginning(planned: bool) -> impl Strategy<Value = Vec<Op>> {
    let prices: Vec<_> = (0..15)
        .map(|s| price(s, planned).prop_map(move |p| Op::Price(s, Some(p))))
        .collect();
    let accounts: Vec<_> = (0..3)
        .map(|s| account(s).prop_map(move |a| Op::Account(s, Some(a))))
        .collect();
    let terms: Vec<_> = (0..3)
        .map(|s| terms(s, planned).prop_map(move |t| Op::Terms(s, Some(t))))
        .collect();
    let services: Vec<_> = (0..4)
        .map(|s| service(s).prop_map(move |u| Op::Service(s, Some(u))))
        .collect();
    let slots = if planned { plan::SLOTS } else { 0 };
    let plans: Vec<_> = (0..slots)
        .map(|s| plan::row(s).prop_map(move |p| Op::Plan(s, Some(p))))
        .collect();
    let reference = (prices, accounts, terms, services, plans, plan::clock());
    reference.prop_map(move |(prices, accounts, terms, services, plans, clock)| {
        let mut all = [prices, accounts, terms, services, plans].concat();
        all.extend(planned.then_some(Op::Clock(clock)));
        all
    })
}

/// Any history.
pub(crate) fn histories() -> impl Strategy<Value = History> {
    prop_oneof![histories_of(false), histories_of(true)]
}

fn histories_of(planned: bool) -> impl Strategy<Value = History> {
    let epochs = vec(vec(op(planned), 0..16), 1..10);
    let dimension = select(vec![
        Dimension::Service,
        Dimension::ServiceType,
        Dimension::Subscription,
        Dimension::Price,
        Dimension::Attribute(Name::new("model")),
        Dimension::Attribute(Name::new("region")),
    ]);
    (
        beginning(planned),
        epochs,
        any::<bool>(),
        vec(dimension, 0..3),
    )
        .prop_map(|(beginning, mut epochs, prague, dimensions)| {
            // The reference data comes with the first records, before the last or between.
            let at = beginning.len() % epochs.len();
            epochs[at.min(1)].splice(0..0, beginning);
            History {
                epochs,
                prague,
                dimensions,
            }
        })
}

/// What fills the slots.
#[derive(Default)]
struct Slots {
    records: BTreeMap<u64, Usage>,
    settled: BTreeMap<u64, (FileId, Fate, Option<Fault>)>,
    prices: BTreeMap<usize, PriceRow>,
    plans: BTreeMap<usize, PlanRow>,
    clock: Option<EventTime>,
    accounts: BTreeMap<usize, Account>,
    terms: BTreeMap<usize, Subscription>,
    services: BTreeMap<usize, ServiceUse>,
    discards: BTreeMap<RecordId, Discard>,
    replaced: BTreeSet<(FileId, FileId)>,
    /// Records that have ever come, where positions follow arrival.
    arrived: u64,
}

/// How the records of an identity are marked; of half of them not at all.
fn mark(identity: u64, spec: &RecordSpec) -> Option<Mark> {
    let keep = match identity {
        0..8 => return None,
        8..10 => Keep::First,
        10..12 => Keep::Last,
        12..14 => Keep::Greatest,
        _ => Keep::Version,
    };
    Some(Mark {
        keep,
        kind: spec.kind,
        rank: spec.rank.map(|rank| Rank::Number(rank.into())),
    })
}

impl Slots {
    fn record(&mut self, slot: u64, spec: Option<RecordSpec>, in_order: bool) {
        let Some(spec) = spec else {
            self.records.remove(&slot);
            return;
        };
        let held = self.records.get(&slot);
        let position = match held {
            Some(held) => held.record,
            None if in_order => {
                self.arrived += 1;
                position(self.arrived)
            }
            None => position(slot),
        };
        let identity = match held {
            // An amendment that changes the identity would arrive anew, at an old position.
            Some(held) if in_order => held.identity,
            _ => Identity([shuffled(spec.identity), spec.identity]),
        };
        let class = &classes()[spec.class];
        let mark = mark(identity.0[1], &spec).map(Box::new);
        let marked = mark.as_ref().is_some_and(|mark| mark.kind != Kind::Void);
        let has_usage = !(spec.is_excluded && marked);
        let usage = Usage {
            record: position,
            identity,
            service: ServiceKey(shuffled(spec.service)),
            class: class.key(),
            time: spec.time,
            quantities: class
                .items
                .iter()
                .filter(|_| has_usage)
                .map(|item| match item.scale {
                    0 => spec.quantities[usize::from(item.name == class.items[0].name)],
                    _ => spec.quantities[2],
                })
                .collect(),
            mark,
        };
        self.records.insert(slot, usage);
    }

    fn settle(&mut self, slot: u64, reason: Option<Option<Reason>>) {
        let Some(reason) = reason else {
            self.settled.remove(&slot);
            return;
        };
        let file = FileId(u32::try_from(slot % 3).expect("small"));
        let record = RecordId::new(file, 1_000 + slot);
        let fault = reason.map(|reason| Fault {
            record,
            line: slot,
            reason,
            field: "field".to_owned(),
            detail: "detail".to_owned(),
        });
        let fate = reason.map_or(Fate::Ignored, Fate::Error);
        self.settled.insert(slot, (file, fate, fault));
    }

    fn discard(&mut self, of_usage: bool, slot: u64, out: bool) {
        let usage = self.records.get(&slot).filter(|_| of_usage);
        let fault = self
            .settled
            .get(&slot)
            .and_then(|(_, _, fault)| fault.as_ref());
        let (record, place) = match (usage, fault) {
            (Some(usage), _) => (usage.record, Some((usage.service, usage.class, usage.time))),
            (None, Some(fault)) if !of_usage => (fault.record, None),
            _ => return,
        };
        if !out {
            self.discards.remove(&record);
            return;
        }
        let place = place.map(|(service, class, time)| UsagePlace {
            service,
            class,
            time,
        });
        // One that is discarded already stays so as it was.
        self.discards.entry(record).or_insert(Discard {
            record,
            reason: Reason::ServiceUnknown,
            place,
        });
    }

    fn apply(&mut self, op: Op, in_order: bool) {
        fn put<K: Ord, V>(slots: &mut BTreeMap<K, V>, slot: K, row: Option<V>) {
            match row {
                Some(row) => slots.insert(slot, row),
                None => slots.remove(&slot),
            };
        }
        match op {
            Op::Record(slot, spec) => self.record(slot, spec, in_order),
            Op::Settled(slot, reason) => self.settle(slot, reason),
            Op::Price(slot, row) => put(&mut self.prices, slot, row),
            Op::Plan(slot, row) => put(&mut self.plans, slot, row),
            Op::Clock(instant) => self.clock = Some(instant),
            Op::Account(slot, row) => put(&mut self.accounts, slot, row),
            Op::Terms(slot, row) => put(&mut self.terms, slot, row),
            Op::Service(slot, row) => put(&mut self.services, slot, row),
            Op::Discard(of_usage, slot, out) => self.discard(of_usage, slot, out),
            Op::Replace(file, comes) => {
                let files = (FileId(file), FileId(file + 1));
                match comes {
                    true => self.replaced.insert(files),
                    false => self.replaced.remove(&files),
                };
            }
        }
    }

    /// All that is there, each thing once: two slots may hold the same row.
    fn rows(&self) -> Rows {
        let settled = self.settled.values();
        Rows {
            usage: self.records.values().cloned().collect(),
            prices: self.prices.values().cloned().collect(),
            plans: self.plans.values().cloned().collect(),
            clock: self.clock.into_iter().collect(),
            accounts: self.accounts.values().cloned().collect(),
            terms: self.terms.values().cloned().collect(),
            services: self.services.values().cloned().collect(),
            discards: self.discards.values().copied().collect(),
            replaced: self.replaced.clone(),
            faults: settled.clone().filter_map(|s| s.2.clone()).collect(),
            fates: self
                .settled
                .iter()
                .map(|(slot, s)| (*slot, s.0, s.1))
                .collect(),
        }
    }
}

fn position(index: u64) -> RecordId {
    let file = u32::try_from(index / RECORDS_PER_FILE).expect("small");
    RecordId::new(FileId(file), index % RECORDS_PER_FILE)
}

#[derive(Clone, Default)]
struct Rows {
    usage: BTreeSet<Usage>,
    prices: BTreeSet<PriceRow>,
    plans: BTreeSet<PlanRow>,
    clock: BTreeSet<EventTime>,
    accounts: BTreeSet<Account>,
    terms: BTreeSet<Subscription>,
    services: BTreeSet<ServiceUse>,
    discards: BTreeSet<Discard>,
    replaced: BTreeSet<(FileId, FileId)>,
    faults: BTreeSet<Fault>,
    fates: BTreeSet<(u64, FileId, Fate)>,
}

/// What was added and what taken away, in mixed order.
fn difference<D: Ord + Clone>(old: &BTreeSet<D>, new: &BTreeSet<D>) -> Vec<(D, Diff)> {
    let added = new.difference(old).map(|row| (row.clone(), 1));
    let removed = old.difference(new).map(|row| (row.clone(), -1));
    added.chain(removed).collect()
}

impl History {
    /// The same operations, `size` to an epoch.
    pub(crate) fn cut_every(&self, size: usize) -> Self {
        let all: Vec<Op> = self.epochs.iter().flatten().cloned().collect();
        Self {
            epochs: all.chunks(size).map(<[Op]>::to_vec).collect(),
            ..self.clone()
        }
    }

    /// The changes of each epoch; a record's position is its slot, whenever it comes.
    pub(crate) fn script(&self) -> Vec<Changes> {
        self.changes(false)
    }

    /// The changes of each epoch; records have their positions in the order in which they come.
    pub(crate) fn script_in_order_of_arrival(&self) -> Vec<Changes> {
        self.changes(true)
    }

    fn changes(&self, in_order: bool) -> Vec<Changes> {
        let classes = classes();
        let mut known = BTreeSet::new();
        let mut slots = Slots::default();
        let mut old = Rows::default();
        let mut script = Vec::new();
        for ops in &self.epochs {
            for op in ops {
                slots.apply(op.clone(), in_order);
            }
            let new = slots.rows();
            let usage = difference(&old.usage, &new.usage);
            // A class comes with its first record.
            let fresh = |class: &&UsageClass| {
                usage.iter().any(|(usage, _)| usage.class == class.key())
                    && known.insert(class.key())
            };
            script.push(Changes {
                classes: classes
                    .iter()
                    .filter(fresh)
                    .map(|c| (c.clone(), 1))
                    .collect(),
                usage,
                faults: difference(&old.faults, &new.faults),
                fates: difference(&old.fates, &new.fates)
                    .into_iter()
                    .map(|((_, file, fate), diff)| (file, fate, diff))
                    .collect(),
                prices: difference(&old.prices, &new.prices),
                plans: difference(&old.plans, &new.plans),
                clock: difference(&old.clock, &new.clock),
                accounts: difference(&old.accounts, &new.accounts),
                subscriptions: difference(&old.terms, &new.terms),
                services: difference(&old.services, &new.services),
                discards: difference(&old.discards, &new.discards),
                replaced: difference(&old.replaced, &new.replaced),
            });
            old = new;
        }
        script
    }
}

/// Epochs that take back all that a script leaves, one kind of thing after the other, the
/// `first`-th kind first.
pub(crate) fn take_back(script: &[Changes], first: usize) -> Vec<Changes> {
    fn gone<D: Clone>(rows: impl IntoIterator<Item = D>) -> Vec<(D, Diff)> {
        rows.into_iter().map(|row| (row, -1)).collect()
    }
    let mut world = World::default();
    for (epoch, changes) in (0..).zip(script) {
        world.apply(epoch, changes);
    }
    let usage = gone(world.usage.into_values().map(|(_, usage)| usage));
    let mut epochs = vec![
        Changes {
            usage,
            ..Changes::default()
        },
        Changes {
            prices: gone(world.prices),
            ..Changes::default()
        },
        Changes {
            plans: gone(world.plans),
            ..Changes::default()
        },
        Changes {
            clock: gone(world.clock),
            ..Changes::default()
        },
        Changes {
            accounts: gone(world.accounts),
            ..Changes::default()
        },
        Changes {
            subscriptions: gone(world.subscriptions),
            ..Changes::default()
        },
        Changes {
            services: gone(world.services),
            ..Changes::default()
        },
        Changes {
            discards: gone(world.discards),
            ..Changes::default()
        },
        Changes {
            replaced: gone(world.replaced),
            ..Changes::default()
        },
        Changes {
            faults: gone(world.faults),
            fates: world
                .fates
                .iter()
                .map(|(file, fate)| (*file, *fate, -1))
                .collect(),
            ..Changes::default()
        },
    ];
    epochs.rotate_left(first);
    epochs
}
