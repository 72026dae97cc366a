//! Impacts: one row per change that a charge made to a resource, in the order in which they happened.
//!
//! Usage that is charged in order leaves its prices, draws, offsets and counts here; the edge of a
//! period leaves what it carries from bucket to bucket. What an edge charges is subscription activity
//! and not repeated. So a bucket's value is its opening and its rows of kind `allowance` and
//! `accumulator`; an offset names the allowance that it is for. When a bucket may be used and what it
//! begins with can change without any of these rows: `balances` tells it as it is at the end, and the
//! changes of `buckets` as it was at each epoch.

use super::columns::{Labels, decimals, hexadecimal, label, money, number, quantity, time, times};
use super::{OutputRow, Texts};
use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::Field;
use millrace_operators::charge::{EdgeCharged, ItemImpact};
use millrace_operators::domain::{
    Amount, BucketKey, ClassKey, EdgeKey, EventTime, Impact, ImpactKind, Name, Quantity, UsageClass,
};
use std::collections::HashMap;
use std::sync::Arc;

/// An impact, and what brought it about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceImpact {
    /// What brought it about.
    pub cause: ImpactCause,
    /// The resource of its bucket.
    pub resource: Option<Name>,
}

/// What brings an impact about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImpactCause {
    /// A record.
    Usage(ItemImpact),
    /// The edge of a period.
    Edge {
        /// The edge.
        edge: EdgeKey,
        /// When.
        time: EventTime,
        /// Which impact of it, counted from 0.
        index: u16,
        /// The impact.
        impact: Impact,
    },
}

impl ImpactCause {
    /// What an edge moved between buckets, in order; what it charges names a bucket too, and moves
    /// nothing.
    pub fn of_edge(charged: &EdgeCharged) -> impl Iterator<Item = Self> {
        let impacts = (0_u16..).zip(&charged.impacts);
        let moves = impacts.filter(|(_, impact)| impact.kind != ImpactKind::Price);
        moves.map(|(index, impact)| Self::Edge {
            edge: charged.edge,
            time: charged.time,
            index,
            impact: *impact,
        })
    }

    /// The impact.
    #[must_use]
    pub fn impact(&self) -> &Impact {
        match self {
            Self::Usage(usage) => &usage.impact,
            Self::Edge { impact, .. } => impact,
        }
    }

    fn usage(&self) -> Option<&ItemImpact> {
        match self {
            Self::Usage(usage) => Some(usage),
            Self::Edge { .. } => None,
        }
    }

    fn time(&self) -> EventTime {
        match self {
            Self::Usage(usage) => usage.time,
            Self::Edge { time, .. } => *time,
        }
    }

    fn index(&self) -> u16 {
        match self {
            Self::Usage(usage) => usage.index,
            Self::Edge { index, .. } => *index,
        }
    }
}

impl ResourceImpact {
    /// The row of an impact, `resource` telling the resources of buckets.
    pub fn new(cause: ImpactCause, resource: impl FnOnce(BucketKey) -> Option<Name>) -> Self {
        let resource = cause.impact().bucket.and_then(resource);
        Self { cause, resource }
    }
}

/// The kind of an impact in one word.
#[must_use]
pub fn impact_kind(kind: ImpactKind) -> &'static str {
    match kind {
        ImpactKind::Price => "price",
        ImpactKind::Allowance => "allowance",
        ImpactKind::Offset => "offset",
        ImpactKind::CapOffset => "cap_offset",
        ImpactKind::Accumulator => "accumulator",
    }
}

impl OutputRow for ResourceImpact {
    fn fields(_: &Texts) -> Vec<Field> {
        vec![
            label("file"),
            number("row"),
            label("item"),
            label("edge"),
            number("index"),
            time("event_time"),
            label("kind"),
            number("tier"),
            label("resource"),
            label("bucket"),
            quantity("units"),
            money("amount"),
            label("account"),
            label("subscription"),
            label("currency"),
        ]
    }

    fn encode(rows: &[Self], texts: &Texts) -> Vec<ArrayRef> {
        let names = &texts.names;
        let column = || Labels::with_capacity(rows.len());
        let (mut file, mut item, mut edge, mut kind) = (column(), column(), column(), column());
        let (mut resource, mut bucket) = (column(), column());
        let (mut account, mut subscription, mut currency) = (column(), column(), column());
        let mut classes: HashMap<ClassKey, Arc<UsageClass>> = HashMap::new();
        for ResourceImpact {
            cause,
            resource: named,
        } in rows
        {
            let impact = cause.impact();
            kind.push_word(impact_kind(impact.kind));
            match named {
                Some(name) => resource.push(name.0, || names.text(*name)),
                None => resource.push_null(),
            }
            match impact.bucket {
                Some(key) => bucket.push(key.0, || hexadecimal(key.0)),
                None => bucket.push_null(),
            }
            match cause {
                ImpactCause::Usage(usage) => {
                    let class = classes.entry(usage.class).or_insert_with(|| {
                        names
                            .class(usage.class)
                            .expect("the class of a charge was entered before it")
                    });
                    let charged = class.items[usize::from(usage.item)];
                    let from = usage.record.file();
                    file.push(from.0, || texts.file(from));
                    item.push(charged.name.0, || names.text(charged.name));
                    edge.push_null();
                    account.push(usage.account.0, || names.account(usage.account));
                    subscription.push(usage.subscription.0, || {
                        names.subscription(usage.subscription)
                    });
                    currency.push(usage.currency.0, || names.text(usage.currency));
                }
                ImpactCause::Edge { edge: key, .. } => {
                    edge.push(key.0, || hexadecimal(key.0));
                    let others = [&mut file, &mut item, &mut account, &mut subscription];
                    others.into_iter().for_each(Labels::push_null);
                    currency.push_null();
                }
            }
        }
        let causes = || rows.iter().map(|row| &row.cause);
        let record = causes().map(|cause| cause.usage().map(|usage| usage.record.row()));
        let index = causes().map(|cause| u64::from(cause.index()));
        let tier = causes().map(|cause| u64::from(cause.impact().tier));
        let units = causes().map(|cause| Some(cause.impact().units));
        let amounts = causes().map(|cause| Some(cause.impact().amount.0));
        vec![
            file.finish(),
            Arc::new(record.collect::<UInt64Array>()),
            item.finish(),
            edge.finish(),
            Arc::new(UInt64Array::from_iter_values(index)),
            times(causes().map(|cause| Some(cause.time()))),
            kind.finish(),
            Arc::new(UInt64Array::from_iter_values(tier)),
            resource.finish(),
            bucket.finish(),
            decimals(units, Quantity::SCALE),
            decimals(amounts, Amount::SCALE),
            account.finish(),
            subscription.finish(),
            currency.finish(),
        ]
    }
}
