//! Parts of plans in words, for whoever reads what a saved catalog changed.
//!
//! - **Law:** everything that a part says is told, so a change always shows.

use crate::names::Names;
use millrace_operators::domain::{
    Accumulator, Allowance, Amount, Anchor, ChargeWhen, Counts, Cycle, DatedCharge, Grant, Measure,
    Name, PlanPart, Proration, Quantity, Term, Tier,
};

/// A part in one line: what and how much, then what is not as usual.
pub(super) fn told(part: &PlanPart, names: &Names) -> String {
    let words = match part {
        PlanPart::Allowance(part) => allowance(part, names),
        PlanPart::Accumulator(part) => accumulator(part, names),
        PlanPart::Cap(part) => vec![
            format!("at most {} {}", part.limit, names.text(part.currency)),
            items(&part.items, names),
            term(part.term),
            percents(&part.thresholds),
        ],
        PlanPart::Commitment(part) => vec![
            format!("at least {} {}", part.amount, names.text(part.currency)),
            counts(part.counts, names),
            items(&part.items, names),
            recurring(&part.recurring, names),
            term(part.term),
            proration(part.proration),
        ],
        PlanPart::Volume(part) => vec![
            match part.tiers.is_empty() {
                true => format!("packages of {}", names.text(part.item)),
                false => format!("{} at", names.text(part.item)),
            },
            tiers(&part.tiers),
            format!(
                "{} by {}",
                names.text(part.currency),
                names.text(part.accumulator)
            ),
        ],
        PlanPart::Charge(part) => {
            let when = match part.when {
                ChargeWhen::Activation => "at activation",
                ChargeWhen::Advance => "in advance",
                ChargeWhen::Arrears => "in arrears",
            };
            vec![
                format!("{} {} {when}", part.amount, names.text(part.currency)),
                format!("for {}", names.text(part.item)),
                term(part.term),
                proration(part.proration),
            ]
        }
    };
    let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
    words.join(", ")
}

fn allowance(part: &Allowance, names: &Names) -> Vec<String> {
    let grant = match part.grant {
        Grant::Recurring => String::new(),
        Grant::Once { lasts: None } => "once".to_owned(),
        Grant::Once { lasts: Some(lasts) } => format!("once for {lasts} cycles"),
    };
    let rollover = part.rollover.map(|rollover| {
        let cap = rollover.cap_per_cycle;
        let cap = cap.map(|cap| format!(" up to {}", size(cap, part.measure, None, names)));
        let cycles = rollover.cycles_max;
        format!("rolls over for {cycles} cycles{}", cap.unwrap_or_default())
    });
    let priority = (part.priority != 0).then(|| format!("priority {}", part.priority));
    vec![
        size(part.size, part.measure, part.currency, names),
        items(&part.items, names),
        grant,
        term(part.term),
        proration(part.proration),
        rollover.unwrap_or_default(),
        priority.unwrap_or_default(),
        percents(&part.thresholds),
    ]
}

fn accumulator(part: &Accumulator, names: &Names) -> Vec<String> {
    let what = match (part.measure, part.currency) {
        (Measure::Money, Some(currency)) => names.text(currency).to_string(),
        (Measure::Money, None) => "money".to_owned(),
        (Measure::Units, _) => "units".to_owned(),
    };
    let share = (part.numerator != part.denominator)
        .then(|| format!("{}/{} of each", part.numerator, part.denominator));
    let plain = |value: i128| size(value, part.measure, None, names);
    let added = |what: &str, value: i128| {
        let told = (value != 0).then(|| format!("{} {what}", plain(value)));
        told.unwrap_or_default()
    };
    let levels: Vec<String> = part.thresholds.iter().map(|level| plain(*level)).collect();
    let levels = (!levels.is_empty()).then(|| format!("notice at {}", levels.join("/")));
    vec![
        format!("counts {what}"),
        items(&part.items, names),
        share.unwrap_or_default(),
        term(part.term),
        added("at activation", part.activation),
        added("in every cycle", part.recurring),
        levels.unwrap_or_default(),
    ]
}

fn size(value: i128, measure: Measure, currency: Option<Name>, names: &Names) -> String {
    match (measure, currency) {
        (Measure::Units, _) => format!("{} units", Quantity(value)),
        (Measure::Money, Some(currency)) => format!("{} {}", Amount(value), names.text(currency)),
        (Measure::Money, None) => Amount(value).to_string(),
    }
}

fn items(items: &[Name], names: &Names) -> String {
    let mut items: Vec<String> = items
        .iter()
        .map(|item| names.text(*item).to_string())
        .collect();
    items.sort_unstable();
    match items.is_empty() {
        true => String::new(),
        false => format!("for {}", items.join(" and ")),
    }
}

fn term(term: Term) -> String {
    let (every, cycle, from) = match term {
        Term::BillUnit => return String::new(),
        Term::Every { every, cycle } => (every, cycle, String::new()),
        Term::Anchored {
            every,
            cycle,
            anchor: Anchor::Subscription,
        } => (
            every,
            cycle,
            " from the subscription's first day".to_owned(),
        ),
        Term::Anchored {
            every,
            cycle,
            anchor: Anchor::Date { year, month, day },
        } => (every, cycle, format!(" from {year:04}-{month:02}-{day:02}")),
    };
    let unit = match cycle {
        Cycle::Day => "day",
        Cycle::Week => "week",
        Cycle::Month => "month",
        Cycle::Quarter => "quarter",
        Cycle::Year => "year",
    };
    match every {
        1 => format!("every {unit}{from}"),
        every => format!("every {every} {unit}s{from}"),
    }
}

fn counts(counts: Counts, names: &Names) -> String {
    match counts {
        Counts::Accumulated(name) => format!("of {}", names.text(name)),
        Counts::Spend => "of what is spent".to_owned(),
        Counts::Money => "of charges before allowances".to_owned(),
        Counts::Nothing => String::new(),
    }
}

fn recurring(charges: &[DatedCharge], names: &Names) -> String {
    let charge = |DatedCharge { valid, charge }: &DatedCharge| {
        let told = told(&PlanPart::Charge(charge.clone()), names);
        format!("{told} {valid}")
    };
    let charges: Vec<String> = charges.iter().map(charge).collect();
    match charges.is_empty() {
        true => String::new(),
        false => format!("counting {}", charges.join(" and ")),
    }
}

fn proration(proration: Proration) -> String {
    match proration {
        Proration::Prorate => String::new(),
        Proration::FullCharge => "a cycle in part in full".to_owned(),
        Proration::NoCharge => "a cycle in part for nothing".to_owned(),
    }
}

fn percents(percents: &[u8]) -> String {
    if percents == [50, 80, 100] {
        return String::new();
    }
    let percents: Vec<String> = percents
        .iter()
        .map(|percent| format!("{percent} %"))
        .collect();
    match percents.is_empty() {
        true => "no notices".to_owned(),
        false => format!("notice at {}", percents.join("/")),
    }
}

/// The prices of tiers from the first to the last, each with where it begins.
fn tiers(tiers: &[Tier]) -> String {
    let tier = |tier: &Tier| {
        let per = (tier.per != 1).then(|| format!(" per {}", tier.per));
        let from = (tier.from != 0).then(|| format!(" from {}", Quantity(tier.from)));
        format!(
            "{}{}{}",
            tier.price,
            per.unwrap_or_default(),
            from.unwrap_or_default()
        )
    };
    let tiers: Vec<String> = tiers.iter().map(tier).collect();
    tiers.join("; ")
}
