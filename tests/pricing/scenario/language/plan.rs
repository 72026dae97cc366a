//! Statements about plans, tiers and the clock.

use super::{Parsed, Reader, Words, number, time};
use millrace_operators::domain::{
    Accumulator, Allowance, Amount, Anchor, Cap, ChargeWhen, Commitment, Counts, Cycle, Grant,
    Measure, Name, PlanCharge, PlanKey, PlanPart, PlanRow, Price, PriceModel, PriceRow, Proration,
    Quantity, Rollover, Term, Tier, TierReference, Volume, parse_decimal,
};
use smallvec::SmallVec;

/// The parts of a plan.
pub(super) const KINDS: [&str; 5] = ["allowance", "accumulator", "cap", "commitment", "charge"];

/// A decimal in units of a measure.
fn scaled(text: &str, measure: Measure) -> Parsed<i128> {
    let scale = match measure {
        Measure::Units => Quantity::SCALE,
        Measure::Money => Amount::SCALE,
    };
    let decimal = parse_decimal(text).map_err(|error| error.to_string())?;
    let rest = u32::from(scale).checked_sub(decimal.scale());
    let rest = rest.ok_or_else(|| format!("{text:?} has too many decimals"))?;
    Ok(decimal.mantissa() * 10_i128.pow(rest))
}

fn list<T>(text: &str, one: impl Fn(&str) -> Parsed<T>) -> Parsed<Vec<T>> {
    text.split(',').map(one).collect()
}

/// The row that prices a volume at the end of its term, for a price of that kind.
pub(super) fn volume(row: &PriceRow) -> Option<PlanRow> {
    let PriceModel::Volume { tiers, accumulator } = &row.model else {
        return None;
    };
    Some(PlanRow {
        key: PlanKey(row.key.0),
        list: row.list,
        valid: row.valid,
        part: PlanPart::Volume(Volume {
            item: row.item,
            accumulator: *accumulator,
            tiers: std::sync::Arc::clone(tiers),
            currency: row.currency,
        }),
    })
}

impl Reader {
    pub(super) fn clock(&mut self, mut words: Words<'_>) -> Parsed<()> {
        let now = words.next("the instant")?;
        let now = match now.contains('T') {
            true => time(now)?,
            false => time(&format!("{now}T00:00"))?,
        };
        self.stated.clock = [("clock".to_owned(), [now].into())].into();
        words.end()
    }

    /// `0:1,40:0.5` and what decides the tier.
    pub(super) fn tiered(&mut self, tiers: &str, words: &mut Words<'_>) -> Parsed<PriceModel> {
        let per = words.option("per")?.map(number).transpose()?.unwrap_or(1);
        let tiers = list(tiers, |tier| {
            let (from, price) = tier.split_once(':').ok_or("a tier is from:price")?;
            Ok(Tier {
                from: scaled(from, Measure::Units)?,
                price: Price::parse(price).map_err(|error| error.to_string())?,
                per,
            })
        })?;
        let tiers = tiers.into();
        let by = words.option("by")?.map(|name| self.names.name(name));
        let previous = words.option("previous")?.map(|name| self.names.name(name));
        let volume = words.option("volume")?.map(|name| self.names.name(name));
        let by = match (by, previous, volume) {
            (None, None, None) => TierReference::Record,
            (Some(name), None, None) => TierReference::Accumulator(name),
            (None, Some(name), None) => TierReference::PreviousPeriod(name),
            (None, None, Some(accumulator)) => {
                return Ok(PriceModel::Volume { tiers, accumulator });
            }
            _ => return Err("one of by, previous and volume".to_owned()),
        };
        Ok(PriceModel::Graduated { tiers, by })
    }

    pub(super) fn plan(&mut self, kind: &str, mut words: Words<'_>) -> Parsed<()> {
        let name = words.next("its name")?;
        let resource = self.names.name(name);
        let list = words.keyword("list")?;
        let list = self.names.name(list);
        let part = match kind {
            "allowance" => PlanPart::Allowance(self.allowance(resource, &mut words)?),
            "accumulator" => PlanPart::Accumulator(self.accumulator(resource, &mut words)?),
            "cap" => PlanPart::Cap(self.cap(resource, &mut words)?),
            "commitment" => PlanPart::Commitment(self.commitment(resource, &mut words)?),
            _ => PlanPart::Charge(self.charge(resource, &mut words)?),
        };
        let stated = format!("{kind} {name}");
        let valid = words.period()?;
        let held = self.stated.plans.entry(stated).or_default();
        let versions = held.len().to_string();
        held.insert(PlanRow {
            key: PlanKey::of(&[kind, name, &versions]),
            list,
            valid,
            part,
        });
        words.end()
    }

    fn currency(&mut self) -> Name {
        self.names.name("USD")
    }

    fn items(&mut self, words: &mut Words<'_>) -> Parsed<SmallVec<[Name; 2]>> {
        let given = words.option("of")?.unwrap_or_default();
        let given = given.split(',').filter(|item| !item.is_empty());
        let mut items: SmallVec<[Name; 2]> = given.map(|item| self.names.name(item)).collect();
        items.sort_unstable();
        Ok(items)
    }

    fn allowance(&mut self, resource: Name, words: &mut Words<'_>) -> Parsed<Allowance> {
        let units = words.option("units")?;
        let (measure, size) = match units {
            Some(units) => (Measure::Units, units),
            None => (Measure::Money, words.keyword("money")?),
        };
        let size = scaled(size, measure)?;
        let items = self.items(words)?;
        let priority = words.option("priority")?.map(number).transpose()?;
        let grant = if words.flag("once") {
            let lasts = words.option("lasts")?.map(number).transpose()?;
            Grant::Once { lasts }
        } else {
            Grant::Recurring
        };
        let (term, proration) = (term(words)?, proration(words)?);
        let rollover = match words.option("rollover")? {
            Some(cycles) => Some(Rollover {
                cycles_max: number(cycles)?,
                cap_per_cycle: match words.option("cap")? {
                    Some(cap) => Some(scaled(cap, measure)?),
                    None => None,
                },
            }),
            None => None,
        };
        Ok(Allowance {
            resource,
            items,
            measure,
            size,
            currency: (measure == Measure::Money).then(|| self.currency()),
            priority: priority.unwrap_or(0),
            grant,
            term,
            proration,
            rollover,
            thresholds: percents(words)?,
        })
    }

    fn accumulator(&mut self, resource: Name, words: &mut Words<'_>) -> Parsed<Accumulator> {
        let measure = match words.next("units or money")? {
            "units" => Measure::Units,
            "money" => Measure::Money,
            other => return Err(format!("units or money expected, not {other:?}")),
        };
        let items = self.items(words)?;
        let (numerator, denominator) = match words.option("share")? {
            Some(share) => {
                let (part, whole) = share.split_once('/').ok_or("a share is part/whole")?;
                (number(part)?, number(whole)?)
            }
            None => (1, 1),
        };
        let mut given = |word| match words.option(word)? {
            Some(text) => scaled(text, measure),
            None => Ok(0),
        };
        let (activation, recurring) = (given("activation")?, given("recurring")?);
        let term = term(words)?;
        let levels = match words.option("notices")? {
            Some(levels) => list(levels, |level| scaled(level, measure))?,
            None => Vec::new(),
        };
        Ok(Accumulator {
            resource,
            items,
            measure,
            currency: (measure == Measure::Money).then(|| self.currency()),
            numerator,
            denominator,
            term,
            thresholds: levels.into_iter().collect(),
            activation,
            recurring,
        })
    }

    fn cap(&mut self, resource: Name, words: &mut Words<'_>) -> Parsed<Cap> {
        Ok(Cap {
            resource,
            limit: Amount(scaled(words.next("the limit")?, Measure::Money)?),
            currency: self.currency(),
            items: self.items(words)?,
            term: term(words)?,
            thresholds: percents(words)?,
        })
    }

    fn commitment(&mut self, resource: Name, words: &mut Words<'_>) -> Parsed<Commitment> {
        let counts = match words.option("accumulator")? {
            Some(accumulator) => Counts::Accumulated(self.names.name(accumulator)),
            None => match words.option("counts")? {
                None | Some("spend") => Counts::Spend,
                Some("money") => Counts::Money,
                Some("nothing") => Counts::Nothing,
                Some(other) => return Err(format!("{other:?} is nothing to count")),
            },
        };
        Ok(Commitment {
            resource,
            counts,
            items: Default::default(),
            recurring: Vec::new(),
            amount: Amount(scaled(words.next("the amount")?, Measure::Money)?),
            currency: self.currency(),
            term: term(words)?,
            proration: proration(words)?,
        })
    }

    fn charge(&mut self, item: Name, words: &mut Words<'_>) -> Parsed<PlanCharge> {
        Ok(PlanCharge {
            item,
            amount: Amount(scaled(words.next("the amount")?, Measure::Money)?),
            currency: self.currency(),
            when: match words.next("when")? {
                "activation" => ChargeWhen::Activation,
                "advance" => ChargeWhen::Advance,
                "arrears" => ChargeWhen::Arrears,
                other => return Err(format!("{other:?} is no time to charge")),
            },
            term: term(words)?,
            proration: proration(words)?,
        })
    }
}

fn term(words: &mut Words<'_>) -> Parsed<Term> {
    let cycle = match words.option("term")? {
        None => return Ok(Term::BillUnit),
        Some("day") => Cycle::Day,
        Some("week") => Cycle::Week,
        Some("month") => Cycle::Month,
        Some("year") => Cycle::Year,
        Some(other) => return Err(format!("{other:?} is no term")),
    };
    let every = words.option("every")?.map(number).transpose()?.unwrap_or(1);
    Ok(match words.option("anchor")? {
        None => Term::Every { every, cycle },
        Some("subscription") => Term::Anchored {
            every,
            cycle,
            anchor: Anchor::Subscription,
        },
        Some(date) => {
            let date: jiff::civil::Date = date.parse().map_err(|e| format!("{date:?}: {e}"))?;
            Term::Anchored {
                every,
                cycle,
                anchor: Anchor::Date {
                    year: date.year(),
                    month: date.month(),
                    day: date.day(),
                },
            }
        }
    })
}

fn proration(words: &mut Words<'_>) -> Parsed<Proration> {
    match words.option("prorate")? {
        None => Ok(Proration::Prorate),
        Some("full") => Ok(Proration::FullCharge),
        Some("none") => Ok(Proration::NoCharge),
        Some(other) => Err(format!("{other:?} is no proration")),
    }
}

fn percents(words: &mut Words<'_>) -> Parsed<SmallVec<[u8; 3]>> {
    match words.option("notices")? {
        Some(percents) => Ok(list(percents, number)?.into_iter().collect()),
        None => Ok(SmallVec::new()),
    }
}
