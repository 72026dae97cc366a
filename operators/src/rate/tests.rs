//! The state of the rate stage under random changes, and with many of each thing.

use super::Rating;
use super::changes::Changes;
use super::state::RateState;
use crate::domain::{
    AccountKey, BillingProfile, ClassKey, Condition, EventTime, GroupKey, Identity, Item, Name,
    Period, Price, PriceKey, PriceModel, PriceRow, Reason, RecordId, ServiceKey, SubscriptionKey,
    Usage, UsageClass,
};
use crate::epoch::Diff;
use crate::guide::{GuideSegment, Guided, ServiceTimeline};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn class(model: u64) -> UsageClass {
    UsageClass {
        service_type: Name(1),
        attributes: vec![(Name(1), Name(model)), (Name(2), Name(model % 2))],
        items: [Item {
            name: Name(7),
            scale: 0,
        }]
        .into_iter()
        .collect(),
    }
}

fn usage(record: u64, service: u64, class: &UsageClass, time: i64) -> Usage {
    Usage {
        record: RecordId(record),
        identity: Identity::default(),
        service: ServiceKey(service),
        class: class.key(),
        time: EventTime(time),
        quantities: [1].into_iter().collect(),
        mark: None,
    }
}

/// A price of a list, for a model where it asks for one.
fn price(number: u64, list: u64, model: Option<u64>, (start, length): (i64, i64)) -> PriceRow {
    let asked = model.map(|model| Condition {
        attribute: Name(1),
        value: Name(model),
    });
    PriceRow {
        key: PriceKey(number),
        list: Name(list),
        account: None,
        item: Name(7),
        conditions: asked.into_iter().collect(),
        priority: 0,
        valid: Period::new(EventTime(start), EventTime(start + length)).unwrap(),
        model: PriceModel::PerUnit {
            price: Price::parse(&(number + 1).to_string()).unwrap(),
            per: 1,
        },
        currency: Name(3),
    }
}

fn guided(account: u64, lists: &[u64]) -> Guided {
    Guided {
        subscription: SubscriptionKey(account),
        account: AccountKey(account),
        currency: Name(3),
        profile: BillingProfile::default(),
        group: GroupKey(account),
        ordered: false,
        price_lists: lists.iter().map(|list| Name(*list)).collect(),
    }
}

/// A way to these accounts one after the other from the instant 10 on, each for so long; nowhere before.
fn timeline(accounts: &[u64], lists: &[u64], each: i64) -> ServiceTimeline {
    let nowhere = GuideSegment {
        start: EventTime::MIN,
        guide: Err(Reason::ServiceNotEffective),
    };
    let segments = (0_i64..).zip(accounts).map(|(n, account)| GuideSegment {
        start: EventTime(10 + n * each),
        guide: Ok(guided(*account, lists)),
    });
    ServiceTimeline::of([nowhere].into_iter().chain(segments).collect())
}

/// The outcome of each record: its account and price, or why it has none.
type Outcomes = BTreeMap<RecordId, Result<(AccountKey, PriceKey), Reason>>;

/// A state, and what it told that was not taken back.
#[derive(Default)]
struct Told {
    state: RateState,
    told: BTreeMap<Rating, Diff>,
    rerated: usize,
}

impl Told {
    fn apply(&mut self, changes: Changes) {
        let told = &mut self.told;
        self.rerated += self.state.apply(changes, &mut |rating, diff| {
            *told.entry(rating).or_default() += diff;
        });
        self.told.retain(|_, diff| *diff != 0);
    }

    fn outcomes(&mut self) -> Outcomes {
        let mut read: BTreeMap<Rating, Diff> = BTreeMap::new();
        let mut visit = |rating: &Rating| {
            read.insert(rating.clone(), 1);
            Ok::<(), ()>(())
        };
        self.state.visit(|_| true, true, &mut visit).unwrap();
        assert!(self.told == read, "what is told is what stands");
        let outcome = |rating: &Rating| match rating {
            Rating::Charge(charge) => (charge.record, Ok((charge.account, charge.price))),
            Rating::Suspense(suspense) => (suspense.record, Err(suspense.reason)),
            Rating::Priced(usage) => panic!("nothing is in order: {usage:?}"),
        };
        read.keys().map(outcome).collect()
    }
}

fn nothing() -> Changes {
    Changes {
        usage: Vec::new(),
        timelines: Vec::new(),
        prices: Vec::new(),
        classes: Vec::new(),
        discards: Vec::new(),
    }
}

/// All that is known: what the outcomes are found in, one by one.
#[derive(Clone, Default, PartialEq)]
struct World {
    usage: BTreeMap<u64, Usage>,
    prices: BTreeMap<u64, PriceRow>,
    timelines: BTreeMap<ServiceKey, ServiceTimeline>,
}

const CLASSES: u64 = 7;

impl World {
    fn change(&mut self, (what, a, b, c): (u8, u64, u64, u64)) {
        let time = i64::try_from(c % 40).unwrap();
        match what % 4 {
            0 => drop(self.usage.remove(&(a % 24))),
            1 => {
                let usage = usage(a % 24, 1 + b % 2, &class(b % CLASSES), time);
                self.usage.insert(a % 24, usage);
            }
            2 => {
                let number = a % 10;
                // Two of one list and model may be in each other's way.
                let model = (number % 4).checked_sub(1);
                let valid = (time, 1 + i64::try_from(b % 30).unwrap());
                let row = price(number, 1 + number % 2, model, valid);
                if self.prices.remove(&number).is_none_or(|_| b % 3 > 0) {
                    self.prices.insert(number, row);
                }
            }
            _ => {
                let service = ServiceKey(1 + a % 2);
                let accounts: Vec<u64> = (0..b % 4).map(|n| 1 + (c + n) % 3).collect();
                let lists = [1 + c % 2, 2 - c % 2];
                let timeline = timeline(&accounts, &lists[..1 + usize::from(b % 2 == 0)], 7);
                self.timelines.insert(service, timeline);
            }
        }
    }

    /// What leads from `self` to `now`, net.
    fn until(&self, now: &Self) -> Changes {
        fn differences<K: Ord, V: Clone + PartialEq>(
            old: &BTreeMap<K, V>,
            new: &BTreeMap<K, V>,
        ) -> Vec<(V, Diff)> {
            let gone = old.iter().filter(|(key, row)| new.get(key) != Some(row));
            let come = new.iter().filter(|(key, row)| old.get(key) != Some(row));
            let gone = gone.map(|(_, row)| (row.clone(), -1));
            gone.chain(come.map(|(_, row)| (row.clone(), 1))).collect()
        }
        let keyed = |world: &Self| -> BTreeMap<ServiceKey, (ServiceKey, ServiceTimeline)> {
            let timelines = world.timelines.iter();
            timelines
                .map(|(key, timeline)| (*key, (*key, timeline.clone())))
                .collect()
        };
        Changes {
            usage: differences(&self.usage, &now.usage),
            timelines: differences(&keyed(self), &keyed(now)),
            prices: differences(&self.prices, &now.prices),
            ..nothing()
        }
    }

    fn outcomes(&self, classes: &BTreeMap<ClassKey, UsageClass>) -> Outcomes {
        let outcome = |usage: &Usage| {
            let timeline = self
                .timelines
                .get(&usage.service)
                .ok_or(Reason::ServiceUnknown)?;
            let segments = timeline.segments().iter();
            let segment = segments
                .rev()
                .find(|segment| segment.start <= usage.time)
                .unwrap();
            let guided = segment.guide.as_ref().map_err(|reason| *reason)?;
            let mut missing = Reason::PriceNotFound;
            for list in &guided.price_lists {
                let of_list = self.prices.values().filter(|row| row.list == *list);
                let class = &classes[&usage.class];
                let matching = of_list.filter(|row| row.matches(class, Name(7)));
                let matching: Vec<&PriceRow> = matching.collect();
                if !matching.is_empty() {
                    missing = Reason::PriceNotEffective;
                }
                let in_force = matching.iter().filter(|row| row.valid.contains(usage.time));
                let in_force: Vec<&&PriceRow> = in_force.collect();
                let most = in_force.iter().map(|row| row.conditions.len()).max();
                let best = in_force
                    .iter()
                    .filter(|row| Some(row.conditions.len()) == most);
                match best.collect::<Vec<_>>()[..] {
                    [] => {}
                    [row] => return Ok((guided.account, row.key)),
                    _ => return Err(Reason::PriceAmbiguous),
                }
            }
            Err(missing)
        };
        self.usage
            .values()
            .map(|usage| (usage.record, outcome(usage)))
            .collect()
    }
}

proptest! {
    /// Whatever changes, epoch by epoch: what is told is what a look at everything says.
    #[test]
    fn changes_come_to_what_stands(
        epochs in prop::collection::vec(
            prop::collection::vec(any::<(u8, u64, u64, u64)>(), 1..12),
            1..10,
        ),
    ) {
        let classes: BTreeMap<ClassKey, UsageClass> =
            (0..CLASSES).map(class).map(|class| (class.key(), class)).collect();
        let (mut told, mut world) = (Told::default(), World::default());
        told.apply(Changes {
            classes: classes.values().map(|class| (class.clone(), 1)).collect(),
            ..nothing()
        });
        for epoch in epochs {
            let before = world.clone();
            epoch.into_iter().for_each(|change| world.change(change));
            told.apply(before.until(&world));
            prop_assert_eq!(told.outcomes(), world.outcomes(&classes));
        }
    }
}

const MANY: u64 = 20_000;

fn times() -> impl Iterator<Item = (u64, i64)> + Clone {
    (0..MANY).zip(10_i64..)
}

/// One service with as many classes, each with a price of its own, of which half change at once.
#[test]
fn a_service_may_have_many_classes_with_prices_of_their_own() {
    let always = (0, 1 << 40);
    let mut told = Told::default();
    let classes: Vec<UsageClass> = (0..MANY).map(class).collect();
    told.apply(Changes {
        classes: classes.iter().map(|class| (class.clone(), 1)).collect(),
        timelines: vec![((ServiceKey(1), timeline(&[1], &[1], 1)), 1)],
        prices: (0..MANY)
            .map(|n| (price(n, 1, Some(n), always), 1))
            .collect(),
        ..nothing()
    });
    let records = times().zip(&classes);
    let records = records.map(|((n, time), class)| (usage(n, 1, class, time), 1));
    told.apply(Changes {
        usage: records.clone().collect(),
        ..nothing()
    });
    let outcome = |price: u64| Ok((AccountKey(1), PriceKey(price)));
    let outcomes = told.outcomes();
    assert!((0..MANY).all(|n| outcomes[&RecordId(n)] == outcome(n)));

    let changed = || (0..MANY).step_by(2);
    let gone = changed().map(|n| (price(n, 1, Some(n), always), -1));
    let come = changed().map(|n| (price(n + MANY, 1, Some(n), always), 1));
    told.apply(Changes {
        prices: gone.chain(come).collect(),
        ..nothing()
    });
    assert_eq!(told.rerated, changed().count());
    let outcomes = told.outcomes();
    assert!(changed().all(|n| outcomes[&RecordId(n)] == outcome(n + MANY)));
    assert!(
        (1..MANY)
            .step_by(2)
            .all(|n| outcomes[&RecordId(n)] == outcome(n))
    );

    told.apply(Changes {
        usage: records.map(|(usage, _)| (usage, -1)).collect(),
        ..nothing()
    });
    assert!(told.told.is_empty());
}

/// One price with as many versions, and one service with as many owners, which all take their turns.
#[test]
fn a_price_may_have_many_versions_and_a_service_many_owners() {
    let class = class(1);
    let owners: Vec<u64> = (0..MANY).collect();
    let mut told = Told::default();
    told.apply(Changes {
        classes: vec![(class.clone(), 1)],
        usage: times()
            .map(|(n, time)| (usage(n, 1, &class, time), 1))
            .collect(),
        ..nothing()
    });
    let versions = times().map(|(n, time)| (price(n, 1, None, (time, 1)), 1));
    told.apply(Changes {
        timelines: vec![((ServiceKey(1), timeline(&owners, &[1], 1)), 1)],
        prices: versions.collect(),
        ..nothing()
    });
    let outcomes = told.outcomes();
    assert!((0..MANY).all(|n| outcomes[&RecordId(n)] == Ok((AccountKey(n), PriceKey(n)))));
    let seen: BTreeSet<RecordId> = outcomes.into_keys().collect();
    assert_eq!(seen.len() as u64, MANY);
}
