//! Why an item has its price: every row of the catalog that names the item, and what came of it.
//!
//! The winner is found by the price book itself, so an explanation cannot disagree with a charge;
//! the verdict on a loser asks, in the order in which the book does, for the first thing that it
//! lacked.

use super::book::{ItemFault, Owner, PriceBook, leaders, rank};
use crate::domain::tier;
use crate::domain::{
    Amount, Condition, EventTime, Item, PriceModel, PriceRow, Quantity, Reason, TierReference,
    UsageClass,
};
use crate::guide::Guided;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::rc::Rc;

/// How a price row fared. The order is that of explanations: the nearest losers first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It prices the item.
    Chosen,
    /// It would price the item, but not in the account's currency.
    OtherCurrency,
    /// No other row beats it, but it is not alone.
    Tied,
    /// It has as many conditions as the winner, and a lower priority.
    LowerPriority,
    /// The winner has more conditions.
    LessSpecific,
    /// A list that is asked before, or the account's own prices, has a row in force.
    LaterList,
    /// It does not hold at the time of usage.
    NotInForce,
    /// The record's attributes are others.
    ConditionsDiffer {
        /// The conditions that do not hold.
        missed: Vec<Condition>,
    },
    /// It is of a list that the subscription does not have, or of another account.
    NotOffered,
}

/// A price row of an item, and how it fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceCandidate {
    /// The row.
    pub row: PriceRow,
    /// How it fared.
    pub verdict: Verdict,
}

/// How the price of an item was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemPrice {
    /// The item.
    pub item: Item,
    /// The row that prices it, or why none does.
    pub outcome: Result<PriceRow, Reason>,
    /// Whether the record has nothing of the item and no price is missed.
    pub needs_none: bool,
    /// All rows that name the item: the best first, of equals the one that misses least.
    pub candidates: Vec<PriceCandidate>,
}

/// How the price of each item of a record was found: usage of `class` at `time`, with `quantities` of
/// its items, that goes to `guided`, under the catalog `rows`.
#[must_use]
pub fn explain(
    rows: &[PriceRow],
    guided: &Guided,
    class: &UsageClass,
    (time, quantities): (EventTime, &[i64]),
) -> Vec<ItemPrice> {
    let mut book = PriceBook::default();
    for row in rows {
        book.change(row, true);
    }
    let owners = book.owners(guided);
    let item_price = |(place, item): (usize, &Item)| {
        let found = leaders(&book.matching(&owners, class, item.name), time);
        let (held, tie) = match found {
            Ok(held) => (held, None),
            Err(reason) => (SmallVec::new(), Some(reason)),
        };
        let outcome = match (held.as_slice(), tie) {
            (_, Some(reason)) => Err(reason),
            ([row], None) => in_currency(guided, row),
            (_, None) => Err(Reason::PriceAmbiguous),
        };
        let judged = |row: &PriceRow| PriceCandidate {
            row: row.clone(),
            verdict: verdict(row, &held, &outcome, (&owners, class, time)),
        };
        let of_item = rows.iter().filter(|row| row.item == item.name);
        let mut candidates: Vec<PriceCandidate> = of_item.map(judged).collect();
        candidates.sort_by_cached_key(|candidate| order(candidate, &owners));
        let fault = outcome.as_ref().err().map(|reason| ItemFault {
            place,
            item: item.name,
            reason: *reason,
        });
        ItemPrice {
            item: *item,
            needs_none: fault.is_some_and(|fault| !fault.stops(quantities)),
            outcome,
            candidates,
        }
    };
    class.items.iter().enumerate().map(item_price).collect()
}

/// The row, unless the account is billed in another currency: the rule of the kernel.
fn in_currency(guided: &Guided, row: &Rc<PriceRow>) -> Result<PriceRow, Reason> {
    match row.currency == guided.currency {
        true => Ok(PriceRow::clone(row)),
        false => Err(Reason::CurrencyMismatch),
    }
}

fn verdict(
    row: &PriceRow,
    leaders: &[&Rc<PriceRow>],
    outcome: &Result<PriceRow, Reason>,
    (owners, class, time): (&[Owner], &UsageClass, EventTime),
) -> Verdict {
    let missed =
        |condition: &&Condition| class.attribute(condition.attribute) != Some(condition.value);
    if leaders.iter().any(|leader| ***leader == *row) {
        return match outcome {
            Ok(_) => Verdict::Chosen,
            Err(Reason::CurrencyMismatch) => Verdict::OtherCurrency,
            Err(_) => Verdict::Tied,
        };
    }
    if !owners.contains(&Owner::of(row)) {
        return Verdict::NotOffered;
    }
    if !row.matches(class, row.item) {
        let missed = row.conditions.iter().filter(missed).copied().collect();
        return Verdict::ConditionsDiffer { missed };
    }
    if !row.valid.contains(time) {
        return Verdict::NotInForce;
    }
    match leaders.first() {
        Some(leader) if Owner::of(leader) != Owner::of(row) => Verdict::LaterList,
        Some(leader) if rank(leader).0 > rank(row).0 => Verdict::LessSpecific,
        _ => Verdict::LowerPriority,
    }
}

/// What stands where: kind of verdict, conditions missed, order of owners, specificity, key.
fn order(candidate: &PriceCandidate, owners: &[Owner]) -> impl Ord + use<> {
    let PriceCandidate { row, verdict } = candidate;
    let (kind, missed) = match verdict {
        Verdict::Chosen => (0, 0),
        Verdict::OtherCurrency | Verdict::Tied => (1, 0),
        Verdict::LowerPriority => (2, 0),
        Verdict::LessSpecific => (3, 0),
        Verdict::LaterList => (4, 0),
        Verdict::NotInForce => (5, 0),
        Verdict::ConditionsDiffer { missed } => (6, missed.len()),
        Verdict::NotOffered => (7, 0),
    };
    let owner = owners.iter().position(|owner| *owner == Owner::of(row));
    let owner = owner.unwrap_or(usize::MAX);
    // A condition that holds brings a row nearer than one that is not asked for.
    let held = row.conditions.len().saturating_sub(missed);
    (
        kind,
        missed,
        Reverse(held),
        owner,
        Reverse(row.priority),
        row.valid,
        row.key,
    )
}

/// A part of a quantity, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PricedPart {
    /// The tier, counted from 0.
    pub tier: u16,
    /// Units.
    pub units: Quantity,
    /// What they cost.
    pub amount: Amount,
}

/// The parts that a price model cuts a record's own quantity into; their amounts add up to
/// [`PriceModel::amount`]. None where the amount is out of range, or what came before decides it.
#[must_use]
pub fn parts(model: &PriceModel, mantissa: i64, scale: u8) -> Vec<PricedPart> {
    let whole = || {
        let (units, amount) = (
            Quantity::new(mantissa, scale)?,
            model.amount(mantissa, scale)?,
        );
        Some(PricedPart {
            tier: 0,
            units,
            amount,
        })
    };
    match (model, Quantity::new(mantissa, scale)) {
        (
            PriceModel::Graduated {
                tiers,
                by: TierReference::Record,
            },
            Some(units),
        ) => {
            let part = |part: tier::TierPart| {
                Some(PricedPart {
                    tier: part.tier,
                    units: Quantity(part.units),
                    amount: part.amount?,
                })
            };
            let parts = tier::split(tiers, 0, units.0).map(part);
            parts.collect::<Option<Vec<_>>>().unwrap_or_default()
        }
        _ => whole().into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        AccountKey, BillingProfile, GroupKey, Name, Period, Price, PriceKey, SubscriptionKey, Tier,
    };
    use smallvec::smallvec;
    use std::sync::Arc;

    const NOW: EventTime = EventTime(1_000);

    fn class(attributes: &[(&str, &str)]) -> UsageClass {
        let named = |(a, v): &(&str, &str)| (Name::new(a), Name::new(v));
        let mut attributes: Vec<_> = attributes.iter().map(named).collect();
        attributes.sort_unstable();
        UsageClass {
            service_type: Name::new("api"),
            attributes,
            items: smallvec![Item {
                name: Name::new("calls"),
                scale: 0,
            }],
        }
    }

    fn row(id: &str, list: &str, conditions: &[(&str, &str)]) -> PriceRow {
        let condition = |(a, v): &(&str, &str)| Condition {
            attribute: Name::new(a),
            value: Name::new(v),
        };
        PriceRow {
            key: PriceKey::of(&[id]),
            list: Name::new(list),
            account: None,
            item: Name::new("calls"),
            conditions: conditions.iter().map(condition).collect(),
            priority: 0,
            valid: Period::ALWAYS,
            model: PriceModel::PerUnit {
                price: Price::parse("1").unwrap(),
                per: 1,
            },
            currency: Name::new("USD"),
        }
    }

    fn guided(lists: &[&str]) -> Guided {
        Guided {
            subscription: SubscriptionKey(1),
            account: AccountKey(1),
            currency: Name::new("USD"),
            profile: BillingProfile::default(),
            group: GroupKey(1),
            ordered: false,
            price_lists: lists.iter().map(|list| Name::new(list)).collect(),
        }
    }

    /// The verdict on each row, by id, in the order of the explanation; and the outcome.
    fn explained(rows: &[(&str, PriceRow)]) -> (Vec<(String, Verdict)>, Result<PriceKey, Reason>) {
        let all: Vec<PriceRow> = rows.iter().map(|(_, row)| row.clone()).collect();
        let class = class(&[("model", "a"), ("zone", "eu")]);
        let found = explain(&all, &guided(&["first", "second"]), &class, (NOW, &[1]));
        let id = |row: &PriceRow| {
            let (id, _) = rows.iter().find(|(_, known)| known == row).unwrap();
            (*id).to_owned()
        };
        let candidates = found[0].candidates.iter();
        let verdicts = candidates
            .map(|c| (id(&c.row), c.verdict.clone()))
            .collect();
        (verdicts, found[0].outcome.clone().map(|row| row.key))
    }

    #[test]
    fn every_loser_has_its_reason() {
        let ended = PriceRow {
            valid: Period::new(EventTime(0), NOW).unwrap(),
            ..row("ended", "first", &[("model", "a")])
        };
        let preferred = PriceRow {
            priority: 5,
            ..row("preferred", "first", &[("model", "a")])
        };
        let foreign = PriceRow {
            account: Some(AccountKey(2)),
            ..row("foreign", "first", &[])
        };
        let (verdicts, outcome) = explained(&[
            (
                "far",
                row("far", "first", &[("model", "b"), ("zone", "us")]),
            ),
            (
                "near",
                row("near", "first", &[("model", "b"), ("zone", "eu")]),
            ),
            ("second", row("second", "second", &[("model", "a")])),
            ("any", row("any", "first", &[])),
            ("plain", row("plain", "first", &[("model", "a")])),
            ("preferred", preferred),
            ("ended", ended),
            ("third", row("third", "third", &[])),
            ("foreign", foreign),
        ]);
        let missed = |names: &[(&str, &str)]| Verdict::ConditionsDiffer {
            missed: row("x", "x", names).conditions,
        };
        let expected = [
            ("preferred", Verdict::Chosen),
            ("plain", Verdict::LowerPriority),
            ("any", Verdict::LessSpecific),
            ("second", Verdict::LaterList),
            ("ended", Verdict::NotInForce),
            ("near", missed(&[("model", "b")])),
            ("far", missed(&[("model", "b"), ("zone", "us")])),
        ];
        let told: Vec<_> = verdicts
            .iter()
            .map(|(id, v)| (id.as_str(), v.clone()))
            .collect();
        assert_eq!(told[..7], expected);
        assert!(
            told[7..]
                .iter()
                .all(|(_, verdict)| *verdict == Verdict::NotOffered)
        );
        assert_eq!(outcome, Ok(PriceKey::of(&["preferred"])));
    }

    #[test]
    fn rows_that_tie_are_told_and_none_is_chosen() {
        let (verdicts, outcome) = explained(&[
            ("model", row("model", "first", &[("model", "a")])),
            ("zone", row("zone", "first", &[("zone", "eu")])),
        ]);
        assert!(
            verdicts
                .iter()
                .all(|(_, verdict)| *verdict == Verdict::Tied)
        );
        assert_eq!(outcome, Err(Reason::PriceAmbiguous));
    }

    #[test]
    fn a_price_in_another_currency_is_not_chosen() {
        let euros = PriceRow {
            currency: Name::new("EUR"),
            ..row("euros", "first", &[])
        };
        let (verdicts, outcome) = explained(&[("euros", euros)]);
        assert_eq!(verdicts, [("euros".to_owned(), Verdict::OtherCurrency)]);
        assert_eq!(outcome, Err(Reason::CurrencyMismatch));
    }

    #[test]
    fn parts_add_up_to_the_amount() {
        let tier = |from: i64, price: &str| Tier {
            from: Quantity::new(from, 0).unwrap().0,
            price: Price::parse(price).unwrap(),
            per: 1,
        };
        let model = PriceModel::Graduated {
            tiers: Arc::new([tier(0, "1"), tier(40, "0.5")]),
            by: TierReference::Record,
        };
        let parts = parts(&model, 100, 0);
        let amounts: Vec<String> = parts.iter().map(|part| part.amount.to_string()).collect();
        assert_eq!(amounts, ["40", "30"]);
        let sum = parts
            .iter()
            .try_fold(Amount::ZERO, |sum, part| sum.checked_add(part.amount));
        assert_eq!(sum, model.amount(100, 0));
    }
}
