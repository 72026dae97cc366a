//! Charging against the oracle, the worked examples of the field, and the law of guards.

mod examples;
mod history;
mod oracle;
mod workers;

use super::{EdgeCharged, Notice, Sink};
use crate::domain::*;
use crate::epoch::Diff;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One thing told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Out {
    Item(Charge, Vec<Impact>),
    Suspense(Suspense),
    Edge(EdgeCharged),
    Notice(Notice),
}

/// All that was told and not taken back.
#[derive(Default)]
struct Told {
    held: BTreeMap<Out, isize>,
    differences: usize,
}

impl Told {
    fn add(&mut self, out: Out, diff: Diff) {
        self.differences += 1;
        let count = self.held.entry(out.clone()).or_insert(0);
        *count += diff;
        if *count == 0 {
            self.held.remove(&out);
        }
    }

    fn charged(&self) -> Amount {
        let amounts = self.held.keys().map(|out| match out {
            Out::Item(charge, _) => charge.amount.0,
            _ => 0,
        });
        Amount(amounts.sum())
    }
}

impl Sink for Told {
    fn item(&mut self, charge: &Charge, impacts: &[Impact], diff: Diff) {
        self.add(Out::Item(*charge, impacts.to_vec()), diff);
    }

    fn suspense(&mut self, suspense: &Suspense, diff: Diff) {
        self.add(Out::Suspense(*suspense), diff);
    }

    fn edge(&mut self, edge: &EdgeCharged, diff: Diff) {
        self.add(Out::Edge(edge.clone()), diff);
    }

    fn notice(&mut self, notice: &Notice, diff: Diff) {
        self.add(Out::Notice(*notice), diff);
    }
}

const GROUP: GroupKey = GroupKey(7);

fn units(whole: i64) -> i128 {
    Quantity::new(whole, 0).unwrap().0
}

fn money(text: &str) -> i128 {
    let price = Price::parse(text).unwrap();
    Amount::from_ratio(price.mantissa(), price.scale(), 1)
        .unwrap()
        .0
}

fn tiers(steps: &[(i128, &str)]) -> Arc<[Tier]> {
    let tier = |(from, price): &(i128, &str)| Tier {
        from: *from,
        price: Price::parse(price).unwrap(),
        per: 1,
    };
    steps.iter().map(tier).collect()
}

fn terms(key: u64, items: &[(&str, u8, PriceModel)]) -> Arc<Terms> {
    let item = |(name, scale, model): &(&str, u8, PriceModel)| TermsItem {
        name: Name::new(name),
        scale: *scale,
        price: PriceKey::of(&[name]),
        list: Name::new(["standard", "own"][usize::from(key.is_multiple_of(2))]),
        model: model.clone(),
    };
    let anniversary = jiff::civil::date(2025, 1, 1);
    Arc::new(Terms {
        key: TermsKey(key.into()),
        group: GROUP,
        service: ServiceKey(key),
        class: ClassKey(key),
        subscription: SubscriptionKey(1),
        account: AccountKey(1),
        profile: BillingProfile::new(anniversary, 1, Cycle::Month),
        currency: Name::new("USD"),
        items: items.iter().map(item).collect(),
    })
}

fn usage(time: i64, record: u64, terms: &Arc<Terms>, quantities: &[i64]) -> PricedUsage {
    PricedUsage {
        time: EventTime(time),
        record: RecordId(record),
        terms: Arc::clone(terms),
        quantities: quantities.into(),
    }
}

fn bucket(key: u64, resource: &str, kind: BucketKind, measure: Measure, opening: i128) -> Bucket {
    Bucket {
        group: GROUP,
        key: BucketKey(key),
        resource: Name::new(resource),
        kind,
        measure,
        items: [].into_iter().collect(),
        valid: Period::new(EventTime(0), EventTime(1000)).unwrap(),
        opening,
        thresholds: [].into_iter().collect(),
    }
}

const ALLOWANCE: BucketKind = BucketKind::Allowance { priority: 0 };
const ACCUMULATOR: BucketKind = BucketKind::Accumulator {
    numerator: 1,
    denominator: 1,
};
