//! Parts of plans in other currencies than those who have the list are billed in: they give and charge
//! nothing.

use super::rows::{Placed, Rows};
use crate::diagnostic::Diagnostic;
use crate::names::Names;
use millrace_operators::domain::{AccountKey, Name, PlanPart, PlanRow};
use std::collections::{BTreeMap, BTreeSet};

/// What a part of a plan is in one currency and another.
type Kind<'a> = (&'static str, &'a [Name]);

/// Parts that some of those with the list do not get, for want of one in their currency.
pub(super) fn unbilled_parts(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    let mut given: BTreeMap<(Name, Kind<'_>), BTreeSet<Name>> = BTreeMap::new();
    let mut parts: Vec<(&Placed<PlanRow>, Kind<'_>, Name)> = Vec::new();
    for placed in &rows.plans {
        if let (Some(kind), Some(currency)) = (kind(&placed.row.part), placed.row.part.currency()) {
            let currencies = given.entry((placed.row.list, kind)).or_default();
            currencies.insert(currency);
            parts.push((placed, kind, currency));
        }
    }
    if parts.is_empty() {
        return Vec::new();
    }
    let billed = billed(rows);
    let mut findings = Vec::new();
    for (placed, kind, currency) in parts {
        let list = placed.row.list;
        let given = &given[&(list, kind)];
        let mut without = billed.get(&list).into_iter().flatten();
        let Some((missing, account)) = without.find(|(other, _)| !given.contains(other)) else {
            continue;
        };
        let (list, own, missing) = (names.text(list), names.text(currency), names.text(*missing));
        let message = format!(
            "the {} of \"{list}\" is in {own}, and the account \"{}\" with that list is billed in {missing}: \
             it does not get it",
            kind.0,
            names.account(*account)
        );
        let hint = format!(
            "add one with `currency: {missing}` and an id of its own, or give accounts of {missing} a \
             price list of their own"
        );
        findings.push(placed.origin.warning(message).with_hint(hint));
    }
    findings
}

/// The currencies that those with a list are billed in, with an account of each.
fn billed(rows: &Rows) -> BTreeMap<Name, BTreeMap<Name, AccountKey>> {
    let accounts = rows.accounts.iter();
    let currencies: BTreeMap<AccountKey, Name> =
        accounts.map(|p| (p.row.key, p.row.currency)).collect();
    let mut billed: BTreeMap<Name, BTreeMap<Name, AccountKey>> = BTreeMap::new();
    for row in rows.subscriptions.iter().map(|placed| &placed.row) {
        if let Some(currency) = currencies.get(&row.account) {
            for list in &row.price_lists {
                let of_list = billed.entry(*list).or_default();
                of_list.entry(*currency).or_insert(row.account);
            }
        }
    }
    billed
}

/// What a part is; a volume has the currency of its price, which is told with its usage.
fn kind(part: &PlanPart) -> Option<Kind<'_>> {
    match part {
        PlanPart::Allowance(part) => Some(("allowance", &part.items)),
        PlanPart::Accumulator(part) => Some(("accumulator", &part.items)),
        PlanPart::Cap(part) => Some(("cap", &part.items)),
        PlanPart::Commitment(part) => Some(("commitment", &part.items)),
        PlanPart::Charge(part) => Some(("charge", std::slice::from_ref(&part.item))),
        PlanPart::Volume(_) => None,
    }
}
