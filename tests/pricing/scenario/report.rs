//! The report: what each epoch changed, and the bill that it left.

mod plan;

use super::language::{Names, Scenario};
use millrace_operators::aggregate::Dimension;
use millrace_operators::domain::{
    Bucket, Charge, EventTime, Fate, FileId, LineKey, LineSum, MoneyTotal, Quantity, Suspense,
};
use millrace_tests::oracle::Bill;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A bill, and the buckets that it left.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) bill: Bill,
    pub(crate) buckets: Vec<(Bucket, i128)>,
}

/// The report of a scenario that went through `states`, the first being empty.
pub(crate) fn report(scenario: &Scenario, states: &[State]) -> String {
    let mut text = String::new();
    for (epoch, (title, states)) in scenario.titles.iter().zip(states.windows(2)).enumerate() {
        let [was, is] = states else { continue };
        let (before, after) = (&was.bill, &is.bill);
        let heading = format!("epoch {epoch}: {title}");
        let heading = heading.trim_end_matches([':', ' ']);
        let lines = [
            charges(scenario, before, after),
            plan::impacts(&scenario.names, was, is),
            suspense(&scenario.names, before, after),
            plan::activity(&scenario.names, before, after),
            plan::notices(&scenario.names, before, after),
        ];
        let changes = lines.concat();
        let changes = if changes.is_empty() {
            "  nothing changes\n".to_owned()
        } else {
            changes
        };
        let bill = bill(scenario, after);
        let files = files(&scenario.names, after);
        let buckets = plan::buckets(&scenario.names, &is.buckets);
        writeln!(text, "{heading}\n{changes}{bill}{buckets}{files}").expect("strings take all");
    }
    text
}

/// Rows that came and went, in the order of the records.
fn charges(scenario: &Scenario, before: &Bill, after: &Bill) -> String {
    let names = &scenario.names;
    let gone = before.charges.difference(&after.charges).map(|c| (c, '-'));
    let come = after.charges.difference(&before.charges).map(|c| (c, '+'));
    let mut rows: Vec<(&Charge, char)> = gone.chain(come).collect();
    rows.sort_by_key(|(charge, sign)| (charge.record, charge.item, *sign == '+'));
    let row = |(charge, sign): &(&Charge, char)| {
        let item = names.classes[&charge.class.0].items[usize::from(charge.item)];
        let quantity = Quantity::new(charge.quantity, item.scale).expect("few decimals");
        format!(
            "  {sign} {record:<6} {time}  {account} {item} {quantity} at {price} = {amount} {currency}\n",
            record = names.record(charge.record),
            time = minute(charge.time),
            account = names.text(charge.account.0),
            item = names.text(item.name.0),
            price = names.text(charge.price.0),
            amount = charge.amount,
            currency = names.text(charge.currency.0),
        )
    };
    rows.iter().map(row).collect()
}

fn suspense(names: &Names, before: &Bill, after: &Bill) -> String {
    let gone = before
        .suspense
        .difference(&after.suspense)
        .map(|s| (s, '-'));
    let come = after
        .suspense
        .difference(&before.suspense)
        .map(|s| (s, '+'));
    let mut rows: Vec<(&Suspense, char)> = gone.chain(come).collect();
    rows.sort_by_key(|(suspense, sign)| (suspense.record, *sign == '+'));
    let row = |(suspense, sign): &(&Suspense, char)| {
        let about = match (suspense.item, suspense.original) {
            (Some(item), _) => format!(" {}", names.text(item.0)),
            (_, Some(original)) => format!(" of {}", names.record(original)),
            _ => String::new(),
        };
        format!(
            "  {sign} {record:<6} {time}  {service} {reason}{about}\n",
            record = names.record(suspense.record),
            time = minute(suspense.time),
            service = names.text(suspense.service.0),
            reason = suspense.reason.code(),
        )
    };
    rows.iter().map(row).collect()
}

/// `2026-01-15 10:00`, in universal time.
fn minute(time: EventTime) -> String {
    let text = time.to_string().replace('T', " ");
    let text = text.trim_end_matches('Z');
    text.strip_suffix(":00").unwrap_or(text).to_owned()
}

/// The bill, account by account and unit by unit.
fn bill(scenario: &Scenario, bill: &Bill) -> String {
    let names = &scenario.names;
    type Lines<'a> = Vec<(&'a LineKey, &'a LineSum)>;
    let mut groups: BTreeMap<(String, EventTime, EventTime), Lines<'_>> = BTreeMap::new();
    for (line, sum) in &bill.lines {
        let account = names.text(line.account.0).to_owned();
        let group = (account, line.unit_start, line.unit_end);
        groups.entry(group).or_default().push((line, sum));
    }
    let mut text = String::new();
    for ((account, start, end), lines) in groups {
        let (start, end) = (minute(start), minute(end));
        writeln!(text, "  bill of {account} for {start} to {end}").expect("strings take all");
        let mut rows: Vec<String> = Vec::new();
        let mut totals: BTreeMap<&str, MoneyTotal> = BTreeMap::new();
        for (line, sum) in &lines {
            let dimensions = scenario.rules.dimensions.iter().zip(&line.dimensions);
            let what: String = dimensions
                .map(|(dimension, key)| match dimension {
                    Dimension::Attribute(name) => {
                        format!(" {}={}", names.text(name.0), names.text(*key))
                    }
                    _ => format!(" {}", names.text(*key)),
                })
                .collect();
            let item = format!("{}{what}", names.text(line.item.0));
            let currency = names.text(line.currency.0);
            rows.push(format!(
                "    {item:<30} {quantity:>12} in {charges} {amount:>16} {currency}\n",
                quantity = sum.quantity.to_string(),
                charges = sum.charges,
                amount = sum.amount.to_string(),
            ));
            let total = totals.entry(currency).or_default();
            *total = total.plus(sum.amount);
        }
        rows.sort();
        text.extend(rows);
        for (currency, total) in totals {
            let label = "total, rounded";
            writeln!(text, "    {label:<30} {:>30} {currency}", total.rounded(2))
                .expect("strings take all");
        }
    }
    text
}

/// What became of the records of each file.
fn files(names: &Names, bill: &Bill) -> String {
    let mut files: BTreeMap<FileId, Vec<(Fate, isize)>> = BTreeMap::new();
    for ((file, fate), count) in &bill.counts {
        files.entry(*file).or_default().push((*fate, *count));
    }
    let row = |(file, fates): (&FileId, &Vec<(Fate, isize)>)| {
        let received: isize = fates.iter().map(|(_, count)| count).sum();
        let parts: Vec<String> = fates
            .iter()
            .map(|(fate, count)| match fate {
                Fate::Ignored => format!("{count} ignored"),
                Fate::Error(reason) => format!("{count} error {}", reason.code()),
                Fate::Duplicate => format!("{count} duplicate"),
                Fate::Conflict => format!("{count} conflict"),
                Fate::Superseded(reason) => format!("{count} {}", reason.code().to_lowercase()),
                Fate::Suspended(reason) => format!("{count} suspended {}", reason.code()),
                Fate::Discarded => format!("{count} discarded"),
                Fate::Monetised => format!("{count} monetised"),
            })
            .collect();
        format!(
            "  {}: {received} received = {}\n",
            names.file(*file),
            parts.join(" + ")
        )
    };
    files.iter().map(row).collect()
}
