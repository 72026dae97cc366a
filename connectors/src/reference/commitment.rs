//! A commitment: the least that the usage of a term comes to, and what counts towards it.
//!
//! What counts is what usage costs (`spend`, unless given): after allowances of units and caps, and
//! whether the account or an allowance of money pays it. `money` counts charges before allowances and
//! caps, and `recurring` the charges of the price list that need no usage.

use super::field::Complaint;
use super::plan::{
    PartFields, Place, anchor, anchored_term, exact, finished, proration, term, unknown_accumulator,
};
use crate::diagnostic::did_you_mean;
use millrace_operators::domain::{
    Accumulator, Amount, ChargeWhen, Commitment, Counts, DatedCharge, Measure, Name, PlanPart, Term,
};

pub(super) const COUNTS: [&str; 4] = ["spend", "usage", "money", "recurring"];

/// What a commitment may refer to in its price list.
pub(super) struct Beside<'a> {
    pub(super) accumulators: &'a [Accumulator],
    pub(super) charges: &'a [DatedCharge],
}

/// What counts, as it is written.
#[derive(Clone, Copy, Default)]
struct Written {
    spend: bool,
    money: bool,
    recurring: bool,
}

/// A commitment of a price list.
pub(super) fn commitment_part(
    place: &Place<'_>,
    beside: &Beside<'_>,
) -> Result<PlanPart, Vec<Complaint>> {
    let mut fields = place.fields();
    let id = fields.required("id");
    let found = accumulator(place, &mut fields, beside.accumulators);
    let written = written(place, &mut fields);
    let currency = place.currency(&mut fields);
    if let Some(counted) = found.and_then(|found| found.currency)
        && counted != currency
    {
        let named = fields.optional("accumulator").unwrap_or_default();
        let counted = place.setting.names.text(counted);
        let message = format!("the accumulator \"{named}\" counts {counted}");
        let hint = "a commitment has the currency of its accumulator";
        fields.complain(Complaint::new("currency", message).with_hint(hint));
    }
    let own_items = place.items();
    if found.is_some() && !own_items.is_empty() {
        let message = "\"items\" does not go with \"accumulator\", which has items of its own";
        let hint = "leave `accumulator` out: the commitment counts these items by itself";
        fields.complain(Complaint::new("items", message).with_hint(hint));
    }
    let term = own_term(&mut fields, found);
    let counts = match (written, found) {
        (Written { money: true, .. }, Some(found)) if term == found.term => {
            Counts::Accumulated(found.resource)
        }
        (Written { money: true, .. }, _) => Counts::Money,
        (Written { spend: true, .. }, _) => Counts::Spend,
        _ => Counts::Nothing,
    };
    if let Some(found) = found.filter(|_| counts.has_a_counter()) {
        left_out(&mut fields, found);
    }
    let part = Commitment {
        resource: place.name(id),
        counts,
        items: found.map_or(own_items, |found| found.items.clone()),
        recurring: match written.recurring {
            true => recurring(&mut fields, beside.charges, currency),
            false => Vec::new(),
        },
        amount: Amount(exact(&mut fields, "amount", Measure::Money)),
        currency,
        term,
        proration: proration(&mut fields),
    };
    finished(fields, PlanPart::Commitment(part))
}

/// The accumulator named, where one is: of money, and of the list.
fn accumulator<'a>(
    place: &Place<'_>,
    fields: &mut PartFields<'_>,
    accumulators: &'a [Accumulator],
) -> Option<&'a Accumulator> {
    let named = fields.optional("accumulator")?;
    let name = place.name(named);
    let found = accumulators
        .iter()
        .find(|accumulator| accumulator.resource == name);
    match found {
        None => {
            let names = accumulators
                .iter()
                .map(|a| place.setting.names.text(a.resource));
            let known: Vec<_> = names.collect();
            fields.complain(unknown_accumulator("accumulator", named, &known));
        }
        Some(found) if found.measure != Measure::Money => {
            let message = format!("the accumulator \"{named}\" counts units, not money");
            let hint = "a commitment is to money: give the accumulator `counts: money`, or leave \
                        `accumulator` out";
            fields.complain(Complaint::new("accumulator", message).with_hint(hint));
        }
        Some(_) => {}
    }
    found
}

/// The words of `counts`; `spend` unless given.
fn written(place: &Place<'_>, fields: &mut PartFields<'_>) -> Written {
    let mut written = Written::default();
    let Some(words) = (place.list)("counts") else {
        written.spend = true;
        return written;
    };
    for word in words {
        match word.trim() {
            "spend" | "usage" => written.spend = true,
            "money" => written.money = true,
            "recurring" => written.recurring = true,
            other => {
                let message = format!("what counts is not known: \"{other}\"");
                let hint = match did_you_mean(other, COUNTS) {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => {
                        "write `spend`, `money`, `recurring`, or a list like [usage, recurring]"
                            .to_owned()
                    }
                };
                fields.complain(Complaint::new("counts", message).with_hint(hint));
            }
        }
    }
    if written.spend && written.money {
        let message = "usage counts either as `spend` or as `money`";
        let hint = "write `spend` for what usage costs after allowances, `money` for before";
        fields.complain(Complaint::new("counts", message).with_hint(hint));
    }
    if words.is_empty() {
        let message = "nothing counts towards the commitment";
        let hint = "write `counts: spend`, or leave it out";
        let complaint = Complaint::new("counts", message).with_hint(hint);
        fields.complain(complaint.for_want_of(&["counts"]));
    }
    written
}

/// The term: its own, or that of the accumulator.
fn own_term(fields: &mut PartFields<'_>, found: Option<&Accumulator>) -> Term {
    let given = |fields: &PartFields<'_>, field| fields.optional(field).is_some();
    let of_accumulator = found.map(|found| found.term);
    if given(fields, "cycle") || given(fields, "every") {
        return term(fields);
    }
    match (given(fields, "anchor"), of_accumulator) {
        (true, Some(Term::Every { every, cycle } | Term::Anchored { every, cycle, .. })) => {
            let anchor = anchor(fields);
            anchored_term(every, cycle, anchor)
        }
        (true, _) => term(fields),
        (false, of_accumulator) => of_accumulator.unwrap_or(Term::BillUnit),
    }
}

/// What an accumulator does that a counter of the commitment's own does not.
fn left_out(fields: &mut PartFields<'_>, found: &Accumulator) {
    let whole = found.numerator == found.denominator;
    let what = match (whole, found.activation != 0 || found.recurring != 0) {
        (true, false) => return,
        (false, _) => "counts a share, by \"percent\"",
        (true, true) => "adds \"activation\" or \"recurring\" to what is used",
    };
    let message = format!("the accumulator {what}, which does not count towards the commitment");
    let hint = "write `counts: money` for what the accumulator has counted, without a `cycle` or \
                `anchor` of the commitment's own; or leave `accumulator` out";
    fields.complain(Complaint::new("accumulator", message).with_hint(hint));
}

/// The charges of every cycle.
fn recurring(
    fields: &mut PartFields<'_>,
    charges: &[DatedCharge],
    currency: Name,
) -> Vec<DatedCharge> {
    let counts = |dated: &&DatedCharge| {
        dated.charge.when != ChargeWhen::Activation && dated.charge.currency == currency
    };
    let charges: Vec<DatedCharge> = charges.iter().filter(counts).cloned().collect();
    if charges.is_empty() {
        let message = "the price list has no recurring charge to count";
        let hint = "add one to `charges` of the list in this file, with `when: advance` or \
                    `when: arrears`, or take `recurring` out of `counts`";
        fields.complain(Complaint::new("counts", message).with_hint(hint));
    }
    charges
}
