//! Prices and parts of plans that would leave each other out: what a bill cannot show is refused.
//!
//! - A **volume** is priced at the end of its term, behind allowances, caps and counters of money.
//! - A **package** is paid for when a record starts it, and a **block** or a **record** by each record:
//!   what units that are drawn from them are worth would depend on how usage is cut into records, and
//!   on which of two at one instant comes first.
//! - **Tiers and packages of a total** need an accumulator that counts the item, and all of it.
//!
//! Parts of other price lists count where subscriptions have both lists, or one balance group does.

use super::held::Held;
use super::rows::{Placed, Rows, Setting};
use super::terms::{Calendars, Together};
use crate::diagnostic::Diagnostic;
use crate::names::Names;
use millrace_operators::domain::{
    AccountKey, Accumulator, Cap, Commitment, Counts, Measure, Name, PlanPart, PlanRow, PriceModel,
    PriceRow, TierReference,
};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that cannot be combined.
pub(super) fn refused_combinations(rows: &Rows, setting: Setting<'_>) -> Vec<Diagnostic> {
    let (names, mut findings) = (setting.names, Vec::new());
    if rows.plans.is_empty() {
        return findings;
    }
    let meetings = Meetings::of(rows);
    let others = Others::of(rows);
    // Each volume price has a plan row of its own, and none is in another's way by that.
    let draws_or_counts = |placed: &&Placed<PlanRow>| {
        !matches!(placed.row.part, PlanPart::Volume(_) | PlanPart::Charge(_))
    };
    let parts: Vec<&Placed<PlanRow>> = rows.plans.iter().filter(draws_or_counts).collect();
    let is_no_sum_of_units = |placed: &&Placed<PriceRow>| match &placed.row.model {
        PriceModel::Volume { .. }
        | PriceModel::Package { .. }
        | PriceModel::PerBlock { .. }
        | PriceModel::PerRecord { .. } => true,
        PriceModel::Graduated { by, .. } => matches!(by, TierReference::Accumulator(_)),
        PriceModel::PerUnit { .. } => false,
    };
    for price in rows.prices.iter().filter(is_no_sum_of_units) {
        let beside = parts
            .iter()
            .filter(|part| meetings.meet(&price.row, &part.row));
        for part in beside {
            findings.extend(beside_part(price, part, names));
        }
        findings.extend(other_price(price, &others, names));
    }
    let calendars = Calendars::of(rows, setting.zone);
    let held = Held::of(rows);
    let committed = rows
        .plans
        .iter()
        .filter_map(|placed| match &placed.row.part {
            PlanPart::Commitment(commitment) => Some((placed, commitment)),
            _ => None,
        });
    let committed: Vec<Committed<'_>> = committed.collect();
    for (at, commitment) in committed.iter().enumerate() {
        let mut before = committed[..at].iter();
        findings.extend(before.find_map(|first| counted_twice(*first, *commitment, &held, names)));
        let beside = (rows, &held);
        findings.extend(maximum_under(*commitment, beside, &calendars, names));
    }
    for placed in &rows.plans {
        findings.extend(charge_as_usage(placed, &others, names));
    }
    findings
}

/// A commitment, and where it stands.
type Committed<'a> = (&'a Placed<PlanRow>, &'a Commitment);

/// Two commitments that the same counts towards: what it lacks of both would be charged twice. Those of
/// one name are one.
fn counted_twice(
    (placed, first): Committed<'_>,
    (other, second): Committed<'_>,
    held: &Held,
    names: &Names,
) -> Option<Diagnostic> {
    let counts_usage = |part: &Commitment| part.counts != Counts::Nothing;
    let of_items = first.items.is_empty()
        || second.items.is_empty()
        || first.items.iter().any(|item| second.items.contains(item));
    let usage = counts_usage(first) && counts_usage(second) && of_items;
    let counts = |charge| second.recurring.contains(charge);
    let charges = placed.row.list == other.row.list && first.recurring.iter().any(counts);
    let twice = first.resource != second.resource
        && first.currency == second.currency
        && (usage || charges)
        && held.at_once(&placed.row, &other.row);
    let (one, two) = (names.text(first.resource), names.text(second.resource));
    let message = format!(
        "the commitment \"{two}\" counts what \"{one}\" at {} counts, and what both lack would be \
         charged twice",
        placed.origin
    );
    let hint = "keep one of the two, or give them `items` that have none in common";
    twice.then(|| other.origin.error(message).with_hint(hint))
}

/// Items whose usage stands on the bill at 0 until its term is over.
pub(super) fn charged_later(rows: &Rows, names: &Names) -> Vec<Diagnostic> {
    let volumes = rows.prices.iter();
    let volumes = volumes.filter(|p| matches!(p.row.model, PriceModel::Volume { .. }));
    let mut first: BTreeMap<Name, &Placed<PriceRow>> = BTreeMap::new();
    for placed in volumes {
        first.entry(placed.row.item).or_insert(placed);
    }
    let finding = |(item, placed): (Name, &Placed<PriceRow>)| {
        placed.origin.advice(format!(
            "volume prices charge \"{}\" when a term is over: until then its usage is on the bill at 0, and \
             `millrace balance` shows what is counted",
            names.text(item)
        ))
    };
    first.into_iter().map(finding).collect()
}

/// Which price lists can price one usage.
struct Meetings {
    /// The lists of balance groups, all of each.
    groups: BTreeSet<BTreeSet<Name>>,
    /// The lists of the groups that an account has subscriptions in.
    accounts: BTreeMap<AccountKey, BTreeSet<Name>>,
}

impl Meetings {
    fn of(rows: &Rows) -> Self {
        let mut groups: BTreeMap<Name, (BTreeSet<Name>, BTreeSet<AccountKey>)> = BTreeMap::new();
        for Placed { row, .. } in &rows.subscriptions {
            let (lists, accounts) = groups.entry(row.group).or_default();
            lists.extend(row.price_lists.iter().copied());
            accounts.insert(row.account);
        }
        let mut accounts: BTreeMap<AccountKey, BTreeSet<Name>> = BTreeMap::new();
        for (lists, members) in groups.values() {
            for account in members {
                accounts.entry(*account).or_default().extend(lists);
            }
        }
        let groups = groups.into_values().map(|(lists, _)| lists);
        Self {
            groups: groups.filter(|lists| lists.len() > 1).collect(),
            accounts,
        }
    }

    /// Whether usage at this price can meet the part.
    fn meet(&self, price: &PriceRow, part: &PlanRow) -> bool {
        if !price.valid.overlaps(part.valid)
            || part
                .part
                .currency()
                .is_some_and(|currency| currency != price.currency)
        {
            return false;
        }
        match price.account {
            Some(account) => self
                .accounts
                .get(&account)
                .is_some_and(|lists| lists.contains(&part.list)),
            None => self.lists_meet(price.list, part.list),
        }
    }

    fn lists_meet(&self, one: Name, other: Name) -> bool {
        let both = |lists: &BTreeSet<Name>| lists.contains(&one) && lists.contains(&other);
        one == other || self.groups.iter().any(both)
    }
}

fn is_for(items: &[Name], item: Name) -> bool {
    items.is_empty() || items.contains(&item)
}

/// What is wrong with a price beside a part of a plan.
fn beside_part(
    price: &Placed<PriceRow>,
    part: &Placed<PlanRow>,
    names: &Names,
) -> Option<Diagnostic> {
    let item = price.row.item;
    let instead = match &price.row.model {
        PriceModel::PerBlock { .. } => "per unit, with `per` in place of `block`",
        PriceModel::PerRecord { .. } => "per unit, without `model: per_record`",
        _ => "by another model, like `model: graduated` by the same accumulator",
    };
    let refused = |what: &str, resource: Name, why: &str| {
        let (priced, named) = (names.text(item), names.text(resource));
        let message = format!(
            "the {what} \"{named}\" at {} is for \"{priced}\" too, and {why}",
            part.origin
        );
        let hint = format!(
            "give \"{named}\" `items` without \"{priced}\", or price \"{priced}\" {instead}"
        );
        Some(price.origin.error(message).with_hint(hint))
    };
    let late = "a volume price is found at the end of its term, behind allowances, caps and counters \
                of money";
    match (&price.row.model, &part.row.part) {
        (PriceModel::Volume { .. }, PlanPart::Allowance(allowance))
            if is_for(&allowance.items, item) =>
        {
            refused("allowance", allowance.resource, late)
        }
        (PriceModel::Volume { .. }, PlanPart::Cap(cap)) if is_for(&cap.items, item) => {
            refused("cap", cap.resource, late)
        }
        (PriceModel::Volume { .. }, PlanPart::Accumulator(counter))
            if counter.measure == Measure::Money && is_for(&counter.items, item) =>
        {
            refused("accumulator of money", counter.resource, late)
        }
        (PriceModel::Volume { .. }, PlanPart::Commitment(commitment))
            if matches!(commitment.counts, Counts::Spend | Counts::Money)
                && is_for(&commitment.items, item) =>
        {
            refused("commitment", commitment.resource, late)
        }
        (PriceModel::Package { .. }, PlanPart::Allowance(allowance))
            if allowance.measure == Measure::Units && is_for(&allowance.items, item) =>
        {
            let why = "which packages its units come off depends on how usage is cut into records";
            refused("allowance", allowance.resource, why)
        }
        (
            PriceModel::PerBlock { .. } | PriceModel::PerRecord { .. },
            PlanPart::Allowance(allowance),
        ) if allowance.measure == Measure::Units && is_for(&allowance.items, item) => {
            let why = "what its units are worth depends on how usage is cut into records";
            refused("allowance", allowance.resource, why)
        }
        (model, PlanPart::Accumulator(counter)) => {
            let (what, by) = match model {
                PriceModel::Volume { accumulator, .. } => ("volume", *accumulator),
                PriceModel::Package { accumulator, .. } => ("package", *accumulator),
                PriceModel::Graduated {
                    by: TierReference::Accumulator(name),
                    ..
                } => ("graduated", *name),
                _ => return None,
            };
            let (message, hint) = (by == counter.resource)
                .then(|| counter_fault(what, counter, item, names))
                .flatten()?;
            let message = format!("{message}; it is defined at {}", part.origin);
            Some(price.origin.error(message).with_hint(hint))
        }
        _ => None,
    }
}

/// What is wrong with an accumulator as the total of an item at this kind of price.
fn counter_fault(
    what: &str,
    counter: &Accumulator,
    item: Name,
    names: &Names,
) -> Option<(String, String)> {
    let (named, priced) = (names.text(counter.resource), names.text(item));
    if counter.measure == Measure::Money {
        // Tiers may be bounds of money: the one that is reached prices a record whole.
        return (what == "package").then(|| {
            let message =
                format!("a package is of units, and the accumulator \"{named}\" counts money");
            let hint = "give the accumulator `counts: units`";
            (message, hint.to_owned())
        });
    }
    if !is_for(&counter.items, item) {
        let message = format!(
            "the accumulator \"{named}\" does not count \"{priced}\", so the bill would depend on how \
             usage is cut into records"
        );
        let hint = format!("add \"{priced}\" to the `items` of the accumulator");
        return Some((message, hint));
    }
    if counter.numerator != counter.denominator {
        let message = format!(
            "the accumulator \"{named}\" counts a share of each record, so the bill would depend on \
             how usage is cut into records"
        );
        let hint = "take `percent` out of the accumulator, or name another in `by`";
        return Some((message, hint.to_owned()));
    }
    let adds = counter.activation != 0 || counter.recurring != 0;
    (adds && what != "graduated").then(|| {
        let message = format!(
            "the accumulator \"{named}\" adds units that nobody used, and a price {what} would charge \
             for its whole total"
        );
        let hint = "take `activation` and `recurring` out of the accumulator, or name another in `by`";
        (message, hint.to_owned())
    })
}

/// An item, in a currency and on a list.
type Priced = (Name, Name, Option<Name>);

/// What else items are charged by, each with the first row that says so.
struct Others<'a> {
    /// Prices by another model than volume, by item, currency and list; those of accounts by no list.
    prices: BTreeMap<Priced, (usize, &'a Placed<PriceRow>)>,
    /// Items with a price.
    priced: BTreeSet<Name>,
    /// Items that plans charge without usage.
    charges: BTreeMap<Name, &'a Placed<PlanRow>>,
}

impl<'a> Others<'a> {
    fn of(rows: &'a Rows) -> Self {
        let mut prices = BTreeMap::new();
        for (at, placed) in rows.prices.iter().enumerate() {
            let row = &placed.row;
            if !matches!(row.model, PriceModel::Volume { .. }) {
                let list = row.account.is_none().then_some(row.list);
                let key = (row.item, row.currency, list);
                prices.entry(key).or_insert((at, placed));
            }
        }
        let mut charges = BTreeMap::new();
        for placed in &rows.plans {
            if let PlanPart::Charge(charge) = &placed.row.part {
                charges.entry(charge.item).or_insert(placed);
            }
        }
        Self {
            prices,
            priced: rows.prices.iter().map(|placed| placed.row.item).collect(),
            charges,
        }
    }

    /// The first price of the item of a row, on its list or of an account, that is by no volume.
    fn beside(&self, row: &PriceRow) -> Option<&'a Placed<PriceRow>> {
        let of = |list| self.prices.get(&(row.item, row.currency, list));
        let found = [of(Some(row.list)), of(None)].into_iter().flatten();
        found.min_by_key(|(at, _)| *at).map(|(_, placed)| *placed)
    }
}

/// A price of the same item beside a volume in one list: what is a volume's own total is unclear then.
fn other_price(price: &Placed<PriceRow>, others: &Others<'_>, names: &Names) -> Option<Diagnostic> {
    if !matches!(price.row.model, PriceModel::Volume { .. }) {
        return None;
    }
    let other = others.beside(&price.row)?;
    let item = names.text(price.row.item);
    let message = format!(
        "\"{item}\" has another price at {}, whose usage would count in the total of the volume and not \
         be charged by it",
        other.origin
    );
    let hint = "give what is priced otherwise an item of its own; prices that follow each other in time are \
         volume prices both, or on price lists of their own";
    Some(price.origin.error(message).with_hint(hint))
}

/// A cap of less than is committed to, of the same items, however their terms are written.
fn maximum_under(
    (placed, commitment): Committed<'_>,
    (rows, held): (&Rows, &Held),
    calendars: &Calendars<'_>,
    names: &Names,
) -> Option<Diagnostic> {
    let items = match commitment.counts {
        Counts::Nothing => return None,
        Counts::Spend | Counts::Money | Counts::Accumulated(_) => &commitment.items,
    };
    let list = placed.row.list;
    let under = |other: &Placed<PlanRow>| {
        let PlanPart::Cap(cap) = &other.row.part else {
            return None;
        };
        let beside = cap.currency == commitment.currency
            && (cap.items.is_empty()
                || (!items.is_empty() && items.iter().all(|item| cap.items.contains(item))))
            && held.at_once(&other.row, &placed.row);
        let least = (commitment.amount, commitment.term);
        beside.then(|| calendars.beyond(list, least, (cap.limit, cap.term)))?
    };
    let (cap, together) = rows
        .plans
        .iter()
        .find_map(|other| Some((other, under(other)?)))?;
    let PlanPart::Cap(Cap { limit, .. }) = &cap.row.part else {
        return None;
    };
    let (least, currency) = (commitment.amount, names.text(commitment.currency));
    let named = names.text(commitment.resource);
    let Together { whole, meeting } = together;
    let one_to_one = whole == meeting;
    let message = match one_to_one {
        true => format!(
            "the commitment \"{named}\" of {least} {currency} is more than the cap of {limit} \
             {currency} at {} lets anybody spend",
            cap.origin
        ),
        false => format!(
            "the commitment \"{named}\", {whole} times {least} {currency}, is more than {meeting} \
             times the cap of {limit} {currency} at {} let anybody spend meanwhile",
            cap.origin
        ),
    };
    let hint = match one_to_one {
        true => format!("commit to {limit} at most, or raise the cap to {least} at least"),
        false => format!(
            "commit to less, or raise the cap: {meeting} times the cap is to be {whole} times the \
             commitment at least"
        ),
    };
    Some(placed.origin.error(message).with_hint(hint))
}

/// A part that names what is charged without usage: it would never meet it.
fn charge_as_usage(
    placed: &Placed<PlanRow>,
    others: &Others<'_>,
    names: &Names,
) -> Option<Diagnostic> {
    let (what, items) = match &placed.row.part {
        PlanPart::Allowance(part) => ("allowance", &part.items),
        PlanPart::Accumulator(part) => ("accumulator", &part.items),
        PlanPart::Cap(part) => ("cap", &part.items),
        PlanPart::Commitment(part) if part.counts.has_a_counter() => ("commitment", &part.items),
        PlanPart::Commitment(_) | PlanPart::Volume(_) | PlanPart::Charge(_) => return None,
    };
    let (item, charge) = items
        .iter()
        .filter(|item| !others.priced.contains(item))
        .find_map(|item| Some((names.text(*item), others.charges.get(item)?)))?;
    let message = format!(
        "the {what} names \"{item}\", which is charged without usage at {}: it would never meet it",
        charge.origin
    );
    // Without any item it would be for all of them.
    let hint = match items.len() {
        1 => format!("leave the {what} out; what counts is the usage of items"),
        _ => format!("take \"{item}\" out of its `items`; what counts is the usage of items"),
    };
    Some(placed.origin.error(message).with_hint(hint))
}
