//! One part of a plan, from the text of its fields.

use super::account::{CYCLES, units_of};
use super::field::{Complaint, Fields};
use super::price_fields::LIST_DEFAULT;
use super::rows::Setting;
use crate::diagnostic::did_you_mean;
use millrace_operators::domain::{
    Accumulator, Allowance, Amount, Anchor, Cap, ChargeWhen, Cycle, Grant, Measure, Name, Period,
    PlanCharge, PlanPart, PlanRow, Proration, Quantity, Rollover, Term, parse_decimal,
};
use smallvec::{SmallVec, smallvec};

pub(super) const MEASURES: &[(&str, Measure)] =
    &[("units", Measure::Units), ("money", Measure::Money)];

pub(super) const GRANTS: &[(&str, bool)] = &[("recurring", false), ("once", true)];

pub(super) const PRORATIONS: &[(&str, Proration)] = &[
    ("prorate", Proration::Prorate),
    ("full_charge", Proration::FullCharge),
    ("no_charge", Proration::NoCharge),
];

pub(super) const WHENS: &[(&str, ChargeWhen)] = &[
    ("activation", ChargeWhen::Activation),
    ("advance", ChargeWhen::Advance),
    ("arrears", ChargeWhen::Arrears),
];

/// What the parts of a plan have in common.
pub(super) struct PlanHead {
    pub(super) list: Name,
    valid: Period,
    /// The list, and the start where it is given: names the rows.
    named: (String, Option<String>),
}

impl PlanHead {
    /// From `list`, `from` and `to`.
    pub(super) fn of<'a>(
        text: impl Fn(&'static str) -> Option<&'a str>,
        setting: Setting<'_>,
    ) -> Result<Self, Vec<Complaint>> {
        let mut fields = Fields::new(setting.zone, text);
        let valid = fields.period();
        if !fields.complaints.is_empty() {
            return Err(fields.complaints);
        }
        let list = fields.optional("list").unwrap_or(LIST_DEFAULT);
        Ok(Self {
            list: setting.names.enter(list),
            valid,
            named: (list.to_owned(), fields.optional("from").map(str::to_owned)),
        })
    }

    pub(super) fn row(&self, what: &str, part: PlanPart, setting: Setting<'_>) -> PlanRow {
        let (list, from) = &self.named;
        let mut id = format!("{list}/{what}");
        if let Some(from) = from {
            id.push_str(&format!(" from {from}"));
        }
        PlanRow {
            key: setting.names.enter_plan(&id),
            list: self.list,
            valid: self.valid,
            part,
        }
    }
}

/// Where the fields of a part are read from.
pub(super) struct Place<'a> {
    pub(super) text: &'a dyn Fn(&'static str) -> Option<&'a str>,
    pub(super) list: &'a dyn Fn(&'static str) -> Option<&'a [String]>,
    pub(super) currency: &'a str,
    pub(super) setting: Setting<'a>,
}

pub(super) type PartFields<'a> = Fields<'a, &'a dyn Fn(&'static str) -> Option<&'a str>>;

impl<'a> Place<'a> {
    pub(super) fn fields(&self) -> PartFields<'a> {
        Fields::new(self.setting.zone, self.text)
    }

    pub(super) fn name(&self, text: &str) -> Name {
        self.setting.names.enter(text)
    }

    pub(super) fn items(&self) -> SmallVec<[Name; 2]> {
        let items = (self.list)("items").unwrap_or_default();
        let mut items: SmallVec<[Name; 2]> = items.iter().map(|item| self.name(item)).collect();
        items.sort_unstable();
        items.dedup();
        items
    }

    fn percents(&self, fields: &mut PartFields<'a>) -> SmallVec<[u8; 3]> {
        let Some(list) = (self.list)("thresholds") else {
            return smallvec![50, 80, 100];
        };
        let mut percents = SmallVec::new();
        for text in list {
            match text
                .trim()
                .parse::<u8>()
                .ok()
                .filter(|p| (1..=100).contains(p))
            {
                Some(percent) => percents.push(percent),
                None => {
                    let message = format!("not a percent from 1 to 100: \"{text}\"");
                    let hint = "\"thresholds\" are whole percents used, like [50, 80, 100]";
                    fields.complain(Complaint::new("thresholds", message).with_hint(hint));
                }
            }
        }
        percents.sort_unstable();
        percents.dedup();
        percents
    }

    pub(super) fn currency(&self, fields: &mut PartFields<'a>) -> Name {
        let currency = fields.currency("currency").unwrap_or(self.currency);
        self.name(currency)
    }
}

fn digits(measure: Measure) -> u8 {
    match measure {
        Measure::Units => Quantity::SCALE,
        Measure::Money => Amount::SCALE,
    }
}

/// The most that is taken: half of the range is left for what is added to it.
const MOST: i128 = i128::MAX / 2;

/// A decimal of at least 0 in units of `10^-scale`, or what is wrong with it.
pub(super) fn scaled(field: &'static str, text: &str, scale: u8) -> Result<i128, Complaint> {
    let hint = "write digits with a point, like 100 or 0.0025";
    let decimal = parse_decimal(text)
        .map_err(|error| Complaint::new(field, error.to_string()).with_hint(hint))?
        .normalize();
    if decimal.is_sign_negative() && !decimal.is_zero() {
        return Err(Complaint::new(
            field,
            format!("\"{field}\" cannot be negative: {text}"),
        ));
    }
    let shift = u32::from(scale).checked_sub(decimal.scale());
    let factor = shift.and_then(|shift| 10_i128.checked_pow(shift));
    let value = factor.and_then(|factor| decimal.mantissa().checked_mul(factor));
    value.filter(|value| *value <= MOST).ok_or_else(|| {
        let message = format!("\"{field}\" is out of range: {text}");
        let hint = match shift {
            Some(_) => format!("write {} or less", MOST / 10_i128.pow(u32::from(scale))),
            None => format!("at most {scale} decimals are held"),
        };
        Complaint::new(field, message).with_hint(hint)
    })
}

/// An exact decimal of at least 0; a complaint and 0 where there is none.
pub(super) fn exact(fields: &mut PartFields<'_>, field: &'static str, measure: Measure) -> i128 {
    let text = fields.required(field);
    if text.is_empty() {
        return 0;
    }
    match scaled(field, text, digits(measure)) {
        Ok(value) => value,
        Err(complaint) => {
            fields.complain(complaint);
            0
        }
    }
}

fn exact_or_zero(fields: &mut PartFields<'_>, field: &'static str, measure: Measure) -> i128 {
    match fields.optional(field) {
        Some(_) => exact(fields, field, measure),
        None => 0,
    }
}

/// Where cycles are counted from; the account's anniversary unless given.
pub(super) fn anchor(fields: &mut PartFields<'_>) -> Option<Anchor> {
    let text = fields.optional("anchor")?.trim();
    let date = match text {
        "account" => return None,
        "subscription" => return Some(Anchor::Subscription),
        date => date.parse::<jiff::civil::Date>(),
    };
    match date {
        Ok(date) => Some(Anchor::Date {
            year: date.year(),
            month: date.month(),
            day: date.day(),
        }),
        Err(_) => {
            let message = format!("\"anchor\" is not known: \"{text}\"");
            let hint = "write `account`, `subscription`, or a date like 2026-04-01";
            fields.complain(Complaint::new("anchor", message).with_hint(hint));
            None
        }
    }
}

pub(super) fn term(fields: &mut PartFields<'_>) -> Term {
    let anchored = fields.optional("anchor").is_some();
    if anchored && fields.optional("cycle").is_none() {
        let message = "\"anchor\" needs \"cycle\", what is counted from there";
        let hint = "add `cycle: year`, or leave `anchor` out for the account's billing cycle";
        let complaint = Complaint::new("anchor", message).with_hint(hint);
        fields.complain(complaint.for_want_of(&["cycle"]));
        return Term::BillUnit;
    }
    let anchor = anchor(fields);
    let cycle = fields.word("cycle", CYCLES);
    let every = match cycle {
        Some(cycle) => units_of(cycle, fields),
        None => fields.number("every", 1_u16),
    };
    match (cycle, every) {
        (Some(cycle), every) => anchored_term(every.unwrap_or(1), cycle, anchor),
        (None, Some(_)) if fields.optional("cycle").is_none() => {
            let message = "\"every\" needs \"cycle\", the unit that it counts";
            let hint = "add `cycle: month`, or leave out `every` for the account's billing cycle";
            let complaint = Complaint::new("every", message).with_hint(hint);
            fields.complain(complaint.for_want_of(&["cycle"]));
            Term::BillUnit
        }
        (None, _) => Term::BillUnit,
    }
}

pub(super) fn anchored_term(every: u16, cycle: Cycle, anchor: Option<Anchor>) -> Term {
    match anchor {
        None => Term::Every { every, cycle },
        Some(anchor) => Term::Anchored {
            every,
            cycle,
            anchor,
        },
    }
}

pub(super) fn proration(fields: &mut PartFields<'_>) -> Proration {
    fields
        .word("proration", PRORATIONS)
        .unwrap_or(Proration::Prorate)
}

/// Complains about fields that do not go with the value of another.
pub(super) fn misplaced(fields: &mut PartFields<'_>, names: &[&'static str], with: &str) {
    for field in names {
        if fields.optional(field).is_some() {
            let message = format!("\"{field}\" does not go with {with}");
            fields.complain(Complaint::new(field, message).with_hint("leave it out"));
        }
    }
}

pub(super) fn finished(fields: PartFields<'_>, part: PlanPart) -> Result<PlanPart, Vec<Complaint>> {
    if fields.complaints.is_empty() {
        Ok(part)
    } else {
        Err(fields.complaints)
    }
}

pub(super) fn allowance_part(place: &Place<'_>) -> Result<PlanPart, Vec<Complaint>> {
    let mut fields = place.fields();
    let id = fields.required("id");
    let given = (fields.optional("units"), fields.optional("money"));
    let (field, measure) = match given {
        (Some(_), None) => ("units", Measure::Units),
        (None, Some(_)) => ("money", Measure::Money),
        (given, _) => {
            let (field, message) = match given {
                Some(_) => ("money", "an allowance is of units or of money, not of both"),
                None => ("id", "the allowance has no size"),
            };
            let hint = "write either `units: 100` or `money: 100`";
            let complaint = Complaint::new(field, message).with_hint(hint);
            fields.complain(complaint.for_want_of(&["units", "money"]));
            return Err(fields.complaints);
        }
    };
    let size = exact(&mut fields, field, measure);
    let currency = place.currency(&mut fields);
    if measure == Measure::Units {
        misplaced(&mut fields, &["currency"], "an allowance of units");
    }
    let priority = fields.number("priority", i32::MIN).unwrap_or(0);
    let once = fields.word("grant", GRANTS).unwrap_or(false);
    let lasts = fields.number("lasts", 1_u16);
    let cycles = fields.number("rollover_cycles", 1_u8);
    let cap = fields.optional("rollover_cap").is_some();
    let cap = cap.then(|| exact(&mut fields, "rollover_cap", measure));
    if once {
        let recurring = ["rollover_cycles", "rollover_cap", "proration"];
        misplaced(&mut fields, &recurring, "an allowance granted once");
    } else {
        misplaced(&mut fields, &["lasts"], "a recurring allowance");
    }
    if cycles.is_some_and(|cycles| cycles > Rollover::CYCLES_MAX) {
        let message = format!("\"rollover_cycles\" is at most {}", Rollover::CYCLES_MAX);
        fields.complain(Complaint::new("rollover_cycles", message));
    }
    if cap.is_some() && fields.optional("rollover_cycles").is_none() && !once {
        let message = "\"rollover_cap\" needs \"rollover_cycles\"";
        let hint = "write how many cycles the rest lives on for, like `rollover_cycles: 1`";
        let complaint = Complaint::new("rollover_cap", message).with_hint(hint);
        fields.complain(complaint.for_want_of(&["rollover_cycles"]));
    }
    let part = Allowance {
        resource: place.name(id),
        items: place.items(),
        measure,
        size,
        currency: (measure == Measure::Money).then_some(currency),
        priority,
        grant: if once {
            Grant::Once { lasts }
        } else {
            Grant::Recurring
        },
        term: term(&mut fields),
        proration: proration(&mut fields),
        rollover: cycles.map(|cycles_max| Rollover {
            cap_per_cycle: cap,
            cycles_max,
        }),
        thresholds: place.percents(&mut fields),
    };
    finished(fields, PlanPart::Allowance(part))
}

pub(super) fn accumulator_part(place: &Place<'_>) -> Result<PlanPart, Vec<Complaint>> {
    let mut fields = place.fields();
    let id = fields.required("id");
    let measure = fields.word("counts", MEASURES).unwrap_or(Measure::Units);
    let currency = place.currency(&mut fields);
    if measure == Measure::Units {
        misplaced(&mut fields, &["currency"], "an accumulator of units");
    }
    let (numerator, denominator) = ratio(&mut fields);
    let mut thresholds = SmallVec::new();
    for text in (place.list)("thresholds").unwrap_or_default() {
        match scaled("thresholds", text, digits(measure)) {
            Ok(level) => thresholds.push(level),
            Err(complaint) => fields.complain(complaint),
        }
    }
    thresholds.sort_unstable();
    thresholds.dedup();
    let part = Accumulator {
        resource: place.name(id),
        items: place.items(),
        measure,
        currency: (measure == Measure::Money).then_some(currency),
        numerator,
        denominator,
        term: term(&mut fields),
        thresholds,
        activation: exact_or_zero(&mut fields, "activation", measure),
        recurring: exact_or_zero(&mut fields, "recurring", measure),
    };
    finished(fields, PlanPart::Accumulator(part))
}

/// `percent` as a ratio in lowest terms.
fn ratio(fields: &mut PartFields<'_>) -> (u32, u32) {
    let Some(text) = fields.optional("percent") else {
        return (1, 1);
    };
    // Six decimals of a percent: the ratio fits into 32 bits.
    let parts = scaled("percent", text, 6).map(|parts| u32::try_from(parts).ok());
    match parts {
        Ok(Some(parts)) if parts <= 100_000_000 => {
            let (mut divisor, mut rest) = (100_000_000_u32, parts);
            while rest != 0 {
                (divisor, rest) = (rest, divisor % rest);
            }
            (parts / divisor, 100_000_000 / divisor)
        }
        Ok(_) => {
            let message = format!("\"percent\" is at most 100: {text}");
            fields.complain(Complaint::new("percent", message));
            (1, 1)
        }
        Err(complaint) => {
            fields.complain(complaint);
            (1, 1)
        }
    }
}

pub(super) fn cap_part(place: &Place<'_>) -> Result<PlanPart, Vec<Complaint>> {
    let mut fields = place.fields();
    let id = fields.required("id");
    let part = Cap {
        resource: place.name(id),
        items: place.items(),
        limit: Amount(exact(&mut fields, "limit", Measure::Money)),
        currency: place.currency(&mut fields),
        term: term(&mut fields),
        thresholds: place.percents(&mut fields),
    };
    finished(fields, PlanPart::Cap(part))
}

/// What is said of an accumulator that no plan of the price list defines.
pub(super) fn unknown_accumulator(
    field: &'static str,
    named: &str,
    known: &[std::sync::Arc<str>],
) -> Complaint {
    let message = format!("no plan of the price list has the accumulator \"{named}\"");
    let hint = match did_you_mean(named, known.iter().map(|name| &**name)) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => "add it under `plans` of this file, to `accumulators` of the list".to_owned(),
    };
    Complaint::new(field, message).with_hint(hint)
}

pub(super) fn charge_part(place: &Place<'_>) -> Result<PlanPart, Vec<Complaint>> {
    let mut fields = place.fields();
    let item = fields.required("item");
    fields.required("when");
    let when = fields.word("when", WHENS).unwrap_or(ChargeWhen::Advance);
    if when == ChargeWhen::Activation {
        misplaced(
            &mut fields,
            &["proration", "cycle", "every", "anchor"],
            "a charge at activation",
        );
    }
    let part = PlanCharge {
        item: place.name(item),
        amount: Amount(exact(&mut fields, "amount", Measure::Money)),
        currency: place.currency(&mut fields),
        when,
        term: term(&mut fields),
        proration: proration(&mut fields),
    };
    finished(fields, PlanPart::Charge(part))
}
