//! The tiers of a price row, and the accumulator that they look at.

use super::plan::{scaled, unknown_accumulator};
use super::plans::PlanRows;
use super::price::exact_price_of;
use super::price_fields::{LIST_DEFAULT, PriceFields, TierEntry};
use super::rows::Setting;
use super::yaml::{Refused, place_of};
use crate::diagnostic::Diagnostic;
use millrace_operators::domain::{
    Accumulator, Amount, Measure, Name, Price, Quantity, Tier, TierReference,
};
use serde_saphyr::Spanned;
use std::sync::Arc;

/// What `by` says of a tier that each record decides alone.
pub(super) const BY_RECORD: &str = "record";

/// What a price row says beside the fields that a table may give, too.
#[derive(Clone, Debug)]
pub(super) struct Tiered {
    /// Empty where none are given.
    pub(super) tiers: Arc<[Tier]>,
    /// What decides the tier or the block, where it is given.
    pub(super) by: Option<TierReference>,
}

/// Reads the tiers of a price row; `None` after a finding.
pub(super) fn tiered(
    file: &Arc<str>,
    fields: &PriceFields,
    plans: &PlanRows,
    refused: &Refused,
    setting: Setting<'_>,
    findings: &mut Vec<Diagnostic>,
) -> Option<Tiered> {
    let before = findings.len();
    let accumulator = accumulator(file, fields, plans, setting, findings)?;
    let name = accumulator.map(|accumulator| accumulator.resource);
    let previous = fields.previous.as_ref().is_some_and(|given| given.value);
    let by = match (name, &fields.by, previous) {
        (Some(name), _, true) => Some(TierReference::PreviousPeriod(name)),
        (Some(name), _, false) => Some(TierReference::Accumulator(name)),
        (None, Some(_), false) => Some(TierReference::Record),
        (None, None, false) => None,
        (None, given, true) => {
            let place = fields.previous.as_ref().map_or((0, 0), place_of);
            if given.as_ref().is_none_or(|by| by.value.trim() == BY_RECORD) {
                let message = "\"previous\" needs `by`, the accumulator of the period before";
                let hint = "name an accumulator of the price list";
                findings.push(Diagnostic::error(file, place, message).with_hint(hint));
            }
            None
        }
    };
    let scale = match accumulator.map(|accumulator| accumulator.measure) {
        Some(Measure::Money) => Amount::SCALE,
        Some(Measure::Units) | None => Quantity::SCALE,
    };
    let mut tiers: Vec<Tier> = Vec::with_capacity(fields.tiers.len());
    let mut last = None;
    let mut at_fault = false;
    for entry in &fields.tiers {
        match tier(&entry.value, scale, last) {
            Ok(tier) => tiers.push(tier),
            // Where it begins was told to be wrong.
            Err((None, ..)) if refused.has(place_of(entry), "from") => at_fault = true,
            Err((field, message, hint)) => {
                let place = field.map_or_else(|| place_of(entry), place_of);
                findings.push(Diagnostic::error(file, place, message).with_hint(hint));
            }
        }
        // A tier at fault has its place in the order all the same.
        let from = entry.value.from.as_ref();
        let from = from.and_then(|from| scaled("from", &from.value, scale).ok());
        last = from.max(last).or(Some(0));
    }
    (findings.len() == before && !at_fault).then(|| Tiered {
        tiers: tiers.into(),
        by,
    })
}

type TierFault<'a> = (Option<&'a Spanned<String>>, String, String);

fn tier(entry: &TierEntry, scale: u8, last: Option<i128>) -> Result<Tier, TierFault<'_>> {
    let from = match &entry.from {
        Some(from) => scaled("from", &from.value, scale)
            .map_err(|complaint| (Some(from), complaint.message, complaint.hint))?,
        None if last.is_none() => 0,
        None => {
            let hint = "only the first tier may leave it out: it begins at 0";
            return Err((None, "the tier has no \"from\"".to_owned(), hint.to_owned()));
        }
    };
    let hint = "write tiers in order, from the first, which begins at 0";
    match last {
        None if from != 0 => {
            let message = "the first tier begins at 0".to_owned();
            return Err((entry.from.as_ref(), message, hint.to_owned()));
        }
        Some(last) if from <= last => {
            let message = "the tier does not begin after the one before".to_owned();
            return Err((entry.from.as_ref(), message, hint.to_owned()));
        }
        _ => {}
    }
    let price: Price = exact_price_of(&entry.price.value)
        .map_err(|complaint| (Some(&entry.price), complaint.message, complaint.hint))?;
    let per = entry.per.as_ref().map_or(Ok(1), |per| {
        let number = per.value.trim().parse::<u64>().ok().filter(|per| *per >= 1);
        number.ok_or_else(|| {
            let found = &per.value;
            let message =
                format!("\"per\" must be a whole number of at least 1, found \"{found}\"");
            (Some(per), message, String::new())
        })
    })?;
    Ok(Tier { from, price, per })
}

/// The accumulator that `by` names, of a plan of the row's list in the same file; `None` when there
/// should be one and is not.
fn accumulator<'a>(
    file: &Arc<str>,
    fields: &PriceFields,
    plans: &'a PlanRows,
    setting: Setting<'_>,
    findings: &mut Vec<Diagnostic>,
) -> Option<Option<&'a Accumulator>> {
    let Some(by) = &fields.by else {
        return Some(None);
    };
    let named = by.value.trim();
    if named == BY_RECORD {
        return Some(None);
    }
    let list = fields
        .list
        .as_ref()
        .map_or(LIST_DEFAULT, |list| list.value.trim());
    let (list, name) = (setting.names.enter(list), setting.names.enter(named));
    // A price for an account goes with whichever list the account's subscriptions have.
    let any_list = fields.account.is_some();
    let of_list = plans.accumulators((!any_list).then_some(list));
    let found = of_list
        .iter()
        .find(|accumulator| accumulator.resource == name);
    if found.is_none() && !plans.is_at_fault(list, name) {
        let text = |name: Name| setting.names.text(name);
        let known: Vec<Arc<str>> = of_list.iter().map(|a| text(a.resource)).collect();
        let mut complaint = unknown_accumulator("by", named, &known);
        // One of the two lists may be misspelled.
        if let Some(elsewhere) = plans.list_with(name) {
            let elsewhere = text(elsewhere);
            complaint.hint = format!(
                "the price list \"{elsewhere}\" has it: correct one of the lists, or add it to \"{}\"",
                text(list)
            );
        }
        let finding = Diagnostic::error(file, place_of(by), complaint.message);
        findings.push(finding.with_hint(complaint.hint));
    }
    found.map(|found| Some(*found))
}

/// What is wrong with pricing a volume by this accumulator: the whole of it is charged, so it must
/// count nothing but the item, and all of it.
pub(super) fn volume_fault(
    accumulator: &Accumulator,
    item: Name,
) -> Option<(&'static str, &'static str)> {
    if accumulator.measure == Measure::Money {
        let hint = "give the accumulator `counts: units`";
        let message = "a volume is counted in units, and the accumulator counts money";
        return Some((message, hint));
    }
    let whole = accumulator.numerator == accumulator.denominator;
    let hint = "give the accumulator `items` with this one item, and no `percent`";
    let message = "a volume is charged whole, and the accumulator does not count just the item";
    (accumulator.items.as_slice() != [item] || !whole).then_some((message, hint))
}
