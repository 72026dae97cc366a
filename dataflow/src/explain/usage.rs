//! A record as usage, and what the job's dataflow holds of it.

use millrace_connectors::names::Names;
use millrace_connectors::output::Texts;
use millrace_operators::charge::Explained;
use millrace_operators::dedup::KnownVersion;
use millrace_operators::domain::{
    Bucket, Charge, EventTime, Item, Period, PricedUsage, Quantity, RecordId, Suspense, Usage,
    UsageClass,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// A mediated record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsageTold {
    /// The kind of service.
    pub service_type: String,
    /// The service.
    pub service: String,
    /// When it happened.
    pub event_time: String,
    /// What prices may depend on.
    pub attributes: BTreeMap<String, String>,
    /// Items and quantities, in the order of the rule.
    pub items: Vec<(String, String)>,
    /// What makes a record its duplicate.
    pub identity: String,
}

pub(super) fn usage_told(usage: &Usage, class: &UsageClass, names: &Names) -> UsageTold {
    let text = |name| names.text(name).to_string();
    let (service_type, service) = names.service(usage.service);
    let attributes = class.attributes.iter();
    let items = class.items.iter().zip(&usage.quantities);
    let item = |(item, mantissa): (&Item, &i64)| {
        let quantity = Quantity::new(*mantissa, item.scale).unwrap_or_default();
        (text(item.name), quantity.to_string())
    };
    let [high, low] = usage.identity.0;
    UsageTold {
        service_type: service_type.to_string(),
        service: service.to_string(),
        event_time: usage.time.to_string(),
        attributes: attributes.map(|(a, v)| (text(*a), text(*v))).collect(),
        items: items.map(item).collect(),
        identity: format!("{high:016x}{low:016x}"),
    }
}

/// A record as people name it.
pub(super) fn shown(record: RecordId, texts: &Texts) -> String {
    texts.record(record)
}

/// A stretch of time as people read it.
pub(super) fn stretch(period: Period) -> String {
    match (period.start(), period.end()) {
        (EventTime::MIN, EventTime::MAX) => "always".to_owned(),
        (EventTime::MIN, end) => format!("until {end}"),
        (start, EventTime::MAX) => format!("from {start}"),
        (start, end) => format!("{start} to {end}"),
    }
}

/// What the graph has of the record. Rating and charging may be two workers' work.
#[derive(Default)]
pub(super) struct Found {
    pub(super) charges: Vec<Charge>,
    pub(super) suspense: Option<Suspense>,
    /// On its way to be charged in order.
    pub(super) priced: Option<PricedUsage>,
    /// Charged in order, with the buckets of the balance group.
    pub(super) in_order: Option<(Explained, Vec<Bucket>)>,
    /// All records with its identity.
    pub(super) versions: Vec<KnownVersion>,
}
