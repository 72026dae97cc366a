//! What plans did: impacts of charges, charges without usage, thresholds crossed, and what the
//! buckets hold.

use super::{Names, State, minute};
use millrace_operators::charge::{ItemImpact, Notice};
use millrace_operators::domain::{
    Activity, ActivityKind, Amount, Bucket, BucketKey, BucketKind, ImpactKind, Measure, Quantity,
};
use millrace_tests::oracle::Bill;
use std::collections::{BTreeMap, BTreeSet};

/// What came and went, sorted, with its sign.
fn changes<'a, T: Ord>(before: &'a BTreeSet<T>, after: &'a BTreeSet<T>) -> Vec<(&'a T, char)> {
    let gone = before.difference(after).map(|row| (row, '-'));
    let come = after.difference(before).map(|row| (row, '+'));
    let mut rows: Vec<(&T, char)> = gone.chain(come).collect();
    rows.sort_by_key(|(row, sign)| (*row, *sign == '+'));
    rows
}

/// What a bucket's value is, or a change of it.
fn value(measure: Measure, value: i128) -> String {
    match measure {
        Measure::Units => Quantity(value).to_string(),
        Measure::Money => format!("{} USD", Amount(value)),
    }
}

/// Impacts of charges, but for the prices of those that have no others.
pub(super) fn impacts(names: &Names, before: &State, after: &State) -> String {
    let buckets = before.buckets.iter().chain(&after.buckets);
    let buckets: BTreeMap<BucketKey, &Bucket> = buckets.map(|(b, _)| (b.key, b)).collect();
    let place = |bucket: BucketKey| {
        buckets.get(&bucket).map_or("-".to_owned(), |bucket| {
            let resource = names.text(bucket.resource.0);
            let start = minute(bucket.valid.start());
            format!("{resource} of {}", start.trim_end_matches(" 00:00"))
        })
    };
    let mut rows = changes(&before.bill.impacts, &after.bill.impacts);
    rows.sort_by_key(|(one, sign)| (one.record, one.item, *sign == '+', one.index));
    let row = |(one, sign): &(&ItemImpact, char)| {
        let impact = one.impact;
        let what = match (impact.kind, impact.bucket) {
            (ImpactKind::Price, _) => {
                let units = Quantity(impact.units);
                format!("tier {}: {units} for {} USD", impact.tier, impact.amount)
            }
            (ImpactKind::Allowance, Some(bucket)) => {
                let drawn = match impact.units {
                    0 => value(Measure::Money, impact.amount.0),
                    units => value(Measure::Units, units),
                };
                format!("{}: {drawn}", place(bucket))
            }
            (ImpactKind::Offset | ImpactKind::CapOffset, Some(bucket)) => {
                format!("{}: given back {} USD", place(bucket), impact.amount)
            }
            (_, Some(bucket)) => {
                let added = match impact.units {
                    0 => value(Measure::Money, impact.amount.0),
                    units => value(Measure::Units, units),
                };
                format!("{}: +{added}", place(bucket))
            }
            (kind, None) => format!("{kind:?} of nothing"),
        };
        format!("      {sign} {:<6} {}\n", names.record(one.record), what)
    };
    rows.iter().map(row).collect()
}

/// Charges without usage.
pub(super) fn activity(names: &Names, before: &Bill, after: &Bill) -> String {
    let row = |(one, sign): &(&Activity, char)| {
        let when = match one.kind {
            ActivityKind::OneTime => "activation".to_owned(),
            ActivityKind::ForwardRecurring => "in advance".to_owned(),
            ActivityKind::ArrearsRecurring => "in arrears".to_owned(),
            ActivityKind::TrueUp { commitment } => format!("true-up to {commitment} USD"),
            ActivityKind::Volume => "volume".to_owned(),
        };
        let amount = match one.reason {
            Some(reason) => reason.code().to_owned(),
            None => format!("{} USD", one.amount),
        };
        format!(
            "  {sign} {subscription}: {item} {when}, {start} to {end}, {numerator}/{denominator} = {amount}\n",
            subscription = names.text(one.subscription.0),
            item = names.text(one.item.0),
            start = minute(one.applied_start),
            end = minute(one.applied_end),
            numerator = one.scale.numerator(),
            denominator = one.scale.denominator(),
        )
    };
    let mut rows = changes(&before.activity, &after.activity);
    rows.sort_by_key(|(one, sign)| (one.applied_start, one.item, one.subscription, *sign == '+'));
    rows.iter().map(row).collect()
}

/// Thresholds crossed.
pub(super) fn notices(names: &Names, before: &Bill, after: &Bill) -> String {
    let row = |(one, sign): &(&Notice, char)| {
        let level = match one.threshold.percent {
            Some(percent) => format!("{percent} %"),
            None => value(one.measure, one.threshold.level),
        };
        let by = one
            .record
            .map_or("the edge".to_owned(), |record| names.record(record));
        format!(
            "  {sign} notice: {} from {} at {level}, by {by} of {}\n",
            names.text(one.resource.0),
            minute(one.valid.start()),
            minute(one.time),
        )
    };
    let mut rows = changes(&before.notices, &after.notices);
    rows.sort_by_key(|(one, sign)| (one.valid, one.resource, one.threshold, *sign == '+'));
    rows.iter().map(row).collect()
}

/// What buckets hold.
pub(super) fn buckets(names: &Names, buckets: &[(Bucket, i128)]) -> String {
    let row = |(bucket, held): &(Bucket, i128)| {
        let of = match bucket.kind {
            BucketKind::Allowance { .. } => {
                format!(" left of {}", value(bucket.measure, bucket.opening))
            }
            BucketKind::Cap { limit } => format!(" of at most {limit} USD"),
            BucketKind::Accumulator { .. } | BucketKind::Spend | BucketKind::Elsewhere { .. } => {
                String::new()
            }
        };
        format!(
            "    {:<30} {}{of}, {} to {}\n",
            names.text(bucket.resource.0),
            value(bucket.measure, *held),
            minute(bucket.valid.start()),
            minute(bucket.valid.end()),
        )
    };
    let shown = buckets.iter().filter(|(bucket, _)| !bucket.kind.is_inner());
    let mut rows: Vec<String> = shown.map(row).collect();
    rows.sort();
    match rows.is_empty() {
        true => String::new(),
        false => format!("  buckets\n{}", rows.concat()),
    }
}
