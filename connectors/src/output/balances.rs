//! Balances: one row per bucket of a balance group, with what it began with and what is left or
//! reached. A snapshot only: one late record moves the value of a bucket many times over, and its
//! steps are the impacts.

use super::columns::{
    Labels, decimals, fitting, hexadecimal, label, money, quantity, text, time, times,
};
use super::{OutputRow, Texts};
use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::Field;
use millrace_operators::domain::{AccountKey, Amount, Bucket, BucketKind, Measure, Quantity};
use std::sync::Arc;

/// A bucket and where it stands. Values are in the bucket's measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// The bucket.
    pub bucket: Bucket,
    /// What the edges of periods carried into it; below zero where they took from it.
    pub carried: i128,
    /// Its value.
    pub value: i128,
    /// The accounts whose subscriptions share it, sorted by name.
    pub accounts: Arc<[AccountKey]>,
}

impl Balance {
    /// What usage drew from an allowance, or added to any other bucket.
    #[must_use]
    pub fn used(&self) -> i128 {
        let moved = self.value.saturating_sub(self.bucket.opening);
        let by_usage = moved.saturating_sub(self.carried);
        match self.bucket.kind {
            BucketKind::Allowance { .. } => by_usage.saturating_neg(),
            BucketKind::Accumulator { .. }
            | BucketKind::Spend
            | BucketKind::Elsewhere { .. }
            | BucketKind::Cap { .. } => by_usage,
        }
    }

    /// The most that its value may reach.
    #[must_use]
    pub fn limit(&self) -> Option<Amount> {
        match self.bucket.kind {
            BucketKind::Cap { limit } => Some(limit),
            BucketKind::Allowance { .. }
            | BucketKind::Accumulator { .. }
            | BucketKind::Spend
            | BucketKind::Elsewhere { .. } => None,
        }
    }

    /// What kind of bucket, in one word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        kind_name(self.bucket.kind)
    }
}

/// What kind of bucket, in one word.
#[must_use]
pub fn kind_name(kind: BucketKind) -> &'static str {
    match kind {
        BucketKind::Allowance { .. } => "allowance",
        BucketKind::Accumulator { .. } => "accumulator",
        BucketKind::Spend => "spend",
        BucketKind::Elsewhere { .. } => "elsewhere",
        BucketKind::Cap { .. } => "cap",
    }
}

/// A measure in one word.
#[must_use]
pub fn measure_name(measure: Measure) -> &'static str {
    match measure {
        Measure::Units => "units",
        Measure::Money => "money",
    }
}

impl OutputRow for Balance {
    fn fields(_: &Texts) -> Vec<Field> {
        vec![
            label("balance_group"),
            label("currency"),
            text("accounts"),
            label("bucket"),
            label("resource"),
            label("kind"),
            label("measure"),
            text("items"),
            time("valid_start"),
            time("valid_end"),
            quantity("opening_units"),
            quantity("carried_units"),
            quantity("used_units"),
            quantity("units"),
            money("opening_amount"),
            money("carried_amount"),
            money("used_amount"),
            money("amount"),
            money("limit"),
        ]
    }

    fn encode(rows: &[Self], texts: &Texts) -> Vec<ArrayRef> {
        let names = &texts.names;
        let column = || Labels::with_capacity(rows.len());
        let (mut group, mut currency, mut bucket) = (column(), column(), column());
        let (mut resource, mut kind, mut measure) = (column(), column(), column());
        for row in rows {
            let key = row.bucket.group;
            group.push(key.0, || names.group(key).0);
            currency.push(key.0, || names.group(key).1);
            bucket.push(row.bucket.key.0, || hexadecimal(row.bucket.key.0));
            let name = row.bucket.resource;
            resource.push(name.0, || names.text(name));
            kind.push_word(row.kind());
            measure.push_word(measure_name(row.bucket.measure));
        }
        let joined = |mut words: Vec<Arc<str>>| {
            words.sort();
            let words: Vec<&str> = words.iter().map(|word| &**word).collect();
            (!words.is_empty()).then(|| words.join(", "))
        };
        let accounts = rows.iter().map(|row| {
            let accounts = row.accounts.iter().map(|account| names.account(*account));
            joined(accounts.collect())
        });
        let items = rows.iter().map(|row| {
            let items = row.bucket.items.iter().map(|item| names.text(*item));
            joined(items.collect())
        });
        let values: [fn(&Self) -> i128; 4] = [
            |row| row.bucket.opening,
            |row| row.carried,
            Self::used,
            |row| row.value,
        ];
        let of = |wanted: Measure, scale: u8| {
            values.map(|value| {
                let counted = rows
                    .iter()
                    .map(|row| (row.bucket.measure == wanted).then(|| value(row)));
                decimals(counted.map(|value| value.and_then(fitting)), scale)
            })
        };
        let mut columns = vec![
            group.finish(),
            currency.finish(),
            Arc::new(accounts.collect::<StringArray>()),
            bucket.finish(),
            resource.finish(),
            kind.finish(),
            measure.finish(),
            Arc::new(items.collect::<StringArray>()),
            times(rows.iter().map(|row| Some(row.bucket.valid.start()))),
            times(rows.iter().map(|row| Some(row.bucket.valid.end()))),
        ];
        columns.extend(of(Measure::Units, Quantity::SCALE));
        columns.extend(of(Measure::Money, Amount::SCALE));
        let limits = rows.iter().map(|row| row.limit().map(|limit| limit.0));
        columns.push(decimals(limits, Amount::SCALE));
        columns
    }
}
