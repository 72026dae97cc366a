//! The section `plans` of a catalog: what price lists give and charge beside the prices of usage.

use super::commitment::{Beside, commitment_part};
use super::field::{Complaint, empty_values};
use super::plan::{Place, PlanHead, accumulator_part, allowance_part, cap_part, charge_part};
use super::price_fields::TextOrNumber;
use super::rows::{Origin, Placed, Setting};
use super::yaml::{Refused, place_of};
use crate::diagnostic::Diagnostic;
use millrace_operators::domain::{Accumulator, DatedCharge, Name, PlanPart, PlanRow};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// What every subscription with a price list gets.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanEntry {
    /// The price list; `standard` unless given.
    #[schemars(with = "Option<String>")]
    pub list: Option<Spanned<String>>,
    /// First instant in force: a date (its midnight in the tenant's time zone) or RFC 3339.
    #[schemars(with = "Option<String>")]
    pub from: Option<Spanned<String>>,
    /// First instant no longer in force.
    #[schemars(with = "Option<String>")]
    pub to: Option<Spanned<String>>,
    /// Units or money that usage draws before it costs anything.
    #[serde(default)]
    #[schemars(with = "Vec<AllowanceEntry>")]
    pub allowances: Vec<Spanned<AllowanceEntry>>,
    /// Counters of usage.
    #[serde(default)]
    #[schemars(with = "Vec<AccumulatorEntry>")]
    pub accumulators: Vec<Spanned<AccumulatorEntry>>,
    /// The most that is charged in a term.
    #[serde(default)]
    #[schemars(with = "Vec<CapEntry>")]
    pub caps: Vec<Spanned<CapEntry>>,
    /// The least that is charged in a term.
    #[serde(default)]
    #[schemars(with = "Vec<CommitmentEntry>")]
    pub commitments: Vec<Spanned<CommitmentEntry>>,
    /// Charges that need no usage.
    #[serde(default)]
    #[schemars(with = "Vec<ChargeEntry>")]
    pub charges: Vec<Spanned<ChargeEntry>>,
}

macro_rules! entry {
    (
        $(#[$doc:meta])* $name:ident:
        $($(#[$field_doc:meta])* $field:ident,)*
        [$($(#[$list_doc:meta])* $list:ident,)*]
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[$field_doc])*
                #[schemars(with = "Option<TextOrNumber>")]
                pub $field: Option<Spanned<String>>,
            )*
            $(
                $(#[$list_doc])*
                #[serde(default)]
                #[schemars(with = "Option<OneOrMore>")]
                pub $list: Option<Spanned<OneOrMore>>,
            )*
        }

        impl Fielded for $name {
            const FIELDS: &'static [&'static str] = &[$(stringify!($field),)*];

            fn field(&self, name: &str) -> Option<&Spanned<String>> {
                match name {
                    $(stringify!($field) => self.$field.as_ref(),)*
                    _ => None,
                }
            }

            fn list(&self, name: &str) -> Option<&Spanned<OneOrMore>> {
                match name {
                    $(stringify!($list) => self.$list.as_ref(),)*
                    _ => None,
                }
            }
        }
    };
}

/// Texts or numbers in a list, or one of them alone.
#[derive(Clone, Debug)]
pub struct OneOrMore(pub Vec<String>);

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMore;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of texts, or one")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(OneOrMore(vec![text.to_owned()]))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(OneOrMore(vec![number.to_string()]))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(OneOrMore(vec![number.to_string()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = seq.next_element::<String>()? {
                    texts.push(text);
                }
                Ok(OneOrMore(texts))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

impl JsonSchema for OneOrMore {
    fn schema_name() -> Cow<'static, str> {
        "OneOrMore".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<TextOrNumber>();
        let more = generator.subschema_for::<Vec<TextOrNumber>>();
        json_schema!({ "anyOf": [one, more] })
    }
}

/// An entry whose fields are found by their names.
trait Fielded {
    /// The names of [`Self::field`].
    const FIELDS: &'static [&'static str];
    fn field(&self, name: &str) -> Option<&Spanned<String>>;
    fn list(&self, name: &str) -> Option<&Spanned<OneOrMore>>;
}

entry! {
    /// An allowance: give either `units` or `money`.
    AllowanceEntry:
    /// What it is called.
    id,
    /// How many units a grant gives: an exact decimal.
    units,
    /// How much money a grant gives: an exact decimal.
    money,
    /// The currency of `money`, if it is not the catalog's.
    currency,
    /// Who is drawn first: the lower; 0 unless given.
    priority,
    /// `recurring` (every term) or `once` (at activation); `recurring` unless given.
    grant,
    /// Cycles that a grant made once lasts, that of the activation counted; to the end of the
    /// subscription unless given.
    lasts,
    /// The unit of the term: `day`, `week`, `month`, `quarter` or `year`; the account's billing
    /// cycle unless given.
    cycle,
    /// Units in the term; 1 unless given.
    every,
    /// Where its cycles are counted from: `account` (its anniversary), `subscription` (its first day;
    /// of what subscriptions of a group share, that of the one active longest) or a date; `account`
    /// unless given. Needs `cycle`.
    anchor,
    /// What a cycle in part is granted: `prorate`, `full_charge` or `no_charge`; `prorate` unless
    /// given.
    proration,
    /// Cycles that the rest lives on for; forfeited unless given.
    rollover_cycles,
    /// The most of a cycle's rest that is carried over; all of it unless given.
    rollover_cap,
    [
        /// The items that draw on it; all unless given.
        items,
        /// Percents used to give notice of; 50, 80 and 100 unless given.
        thresholds,
    ]
}

entry! {
    /// An accumulator.
    AccumulatorEntry:
    /// What it is called.
    id,
    /// What it counts: `units` or `money` (charges before allowances); `units` unless given.
    counts,
    /// The currency of money, if it is not the catalog's.
    currency,
    /// Of each record this share counts, in percent: an exact decimal; 100 unless given.
    percent,
    /// The unit of the term: `day`, `week`, `month`, `quarter` or `year`; the account's billing
    /// cycle unless given.
    cycle,
    /// Units in the term; 1 unless given.
    every,
    /// Where its cycles are counted from: `account` (its anniversary), `subscription` (its first day;
    /// of what subscriptions of a group share, that of the one active longest) or a date; `account`
    /// unless given. Needs `cycle`.
    anchor,
    /// What the activation of a subscription adds; nothing unless given.
    activation,
    /// What each subscription adds in every cycle; nothing unless given.
    recurring,
    [
        /// The items that it counts; all unless given.
        items,
        /// Levels to give notice of.
        thresholds,
    ]
}

entry! {
    /// A spend cap.
    CapEntry:
    /// What it is called.
    id,
    /// The most that is charged in a term: an exact decimal.
    limit,
    /// Its currency, if it is not the catalog's.
    currency,
    /// The unit of the term: `day`, `week`, `month`, `quarter` or `year`; the account's billing
    /// cycle unless given.
    cycle,
    /// Units in the term; 1 unless given.
    every,
    /// Where its cycles are counted from: `account` (its anniversary), `subscription` (its first day;
    /// of what subscriptions of a group share, that of the one active longest) or a date; `account`
    /// unless given. Needs `cycle`.
    anchor,
    [
        /// The items that it limits; all unless given.
        items,
        /// Percents of the limit to give notice of; 50, 80 and 100 unless given.
        thresholds,
    ]
}

entry! {
    /// A minimum commitment: what a term lacks of it is charged at its end.
    CommitmentEntry:
    /// What it is called, and the item that the shortfall is charged as.
    id,
    /// A money accumulator of the same price list, whose items and term it has; all items and the
    /// account's billing cycle unless given.
    accumulator,
    /// What is committed: an exact decimal.
    amount,
    /// Its currency, if it is not the catalog's.
    currency,
    /// The unit of the term: `day`, `week`, `month`, `quarter` or `year`; that of the accumulator or
    /// the account's billing cycle unless given.
    cycle,
    /// Units in the term; 1 unless given.
    every,
    /// Where its cycles are counted from: `account` (its anniversary), `subscription` (its first day;
    /// of a group that of the one active longest) or a date; `account` unless given. Needs `cycle`,
    /// of its own or of the accumulator.
    anchor,
    /// What is committed for a cycle in part: `prorate`, `full_charge` or `no_charge`; `prorate`
    /// unless given.
    proration,
    [
        /// What counts towards it, one or a list: `spend` (also `usage`: what usage costs after
        /// allowances of units and caps, whether the account or an allowance of money pays it),
        /// `money` (charges before allowances and caps), `recurring` (charges of the price list that
        /// fall due in the term); `spend` unless given.
        counts,
        /// The items that count, where no accumulator is named; all unless given.
        items,
    ]
}

entry! {
    /// A charge that needs no usage.
    ChargeEntry:
    /// Tells charges of one item apart; the item unless given.
    id,
    /// What is charged.
    item,
    /// How much, for a whole cycle: an exact decimal.
    amount,
    /// Its currency, if it is not the catalog's.
    currency,
    /// `activation` (once), `advance` (at the beginning of every cycle) or `arrears` (at its end).
    when,
    /// The unit of the term: `day`, `week`, `month`, `quarter` or `year`; the account's billing
    /// cycle unless given.
    cycle,
    /// Units in the term; 1 unless given.
    every,
    /// Where its cycles are counted from: `account` (its anniversary), `subscription` (its first day;
    /// of what subscriptions of a group share, that of the one active longest) or a date; `account`
    /// unless given. Needs `cycle`.
    anchor,
    /// What a cycle in part costs: `prorate`, `full_charge` or `no_charge`; `prorate` unless given.
    proration,
    []
}

/// The plan rows of one catalog.
#[derive(Debug, Default)]
pub(super) struct PlanRows {
    pub(super) rows: Vec<Placed<PlanRow>>,
    /// Accumulators that are there, but at fault: told once, and not missed again.
    at_fault: BTreeSet<(Name, Name)>,
    /// Some accumulators were refused, of whatever name.
    lacks_accumulators: bool,
    /// Some charges were refused.
    lacks_charges: bool,
}

impl PlanRows {
    /// The accumulators of a list, or of all.
    pub(super) fn accumulators(&self, list: Option<Name>) -> Vec<&Accumulator> {
        self.rows
            .iter()
            .filter(|placed| list.is_none_or(|list| placed.row.list == list))
            .filter_map(|placed| match &placed.row.part {
                PlanPart::Accumulator(accumulator) => Some(accumulator),
                _ => None,
            })
            .collect()
    }

    /// A list that has an accumulator of this name.
    pub(super) fn list_with(&self, accumulator: Name) -> Option<Name> {
        let has = |row: &PlanRow| matches!(&row.part, PlanPart::Accumulator(part) if part.resource == accumulator);
        let found = self.rows.iter().find(|placed| has(&placed.row));
        found.map(|placed| placed.row.list)
    }

    /// Whether the accumulator was told to be wrong.
    pub(super) fn is_at_fault(&self, list: Name, accumulator: Name) -> bool {
        self.lacks_accumulators || self.at_fault.contains(&(list, accumulator))
    }
}

/// Reads the plans of one catalog.
struct Reader<'a> {
    file: &'a Arc<str>,
    refused: &'a Refused,
    currency: &'a str,
    setting: Setting<'a>,
    findings: &'a mut Vec<Diagnostic>,
    made: PlanRows,
}

/// The plan rows of a catalog.
pub(super) fn plan_rows(
    file: &Arc<str>,
    plans: &[Spanned<PlanEntry>],
    refused: &Refused,
    currency: &str,
    setting: Setting<'_>,
    findings: &mut Vec<Diagnostic>,
) -> PlanRows {
    let lacks = |key| refused.has_anywhere(key) || refused.has_anywhere("plans");
    let mut reader = Reader {
        file,
        refused,
        currency,
        setting,
        findings,
        made: PlanRows {
            lacks_accumulators: lacks("accumulators"),
            lacks_charges: lacks("charges"),
            ..PlanRows::default()
        },
    };
    let heads: Vec<(PlanHead, &PlanEntry)> = plans
        .iter()
        .filter_map(|plan| Some((reader.head(plan)?, &plan.value)))
        .collect();
    for (head, plan) in &heads {
        reader.plan(head, plan);
    }
    for (head, plan) in &heads {
        reader.commitments(head, plan);
    }
    reader.made
}

/// A list of items without one: it would be for all of them.
fn no_items(file: &str, items: Option<&Spanned<OneOrMore>>) -> Option<Diagnostic> {
    let items = items.filter(|items| items.value.0.is_empty())?;
    let message = "`items` is an empty list";
    let hint = "name the items, or leave the key out: then it is for all";
    Some(Diagnostic::error(file, place_of(items), message).with_hint(hint))
}

impl Reader<'_> {
    fn head(&mut self, plan: &Spanned<PlanEntry>) -> Option<PlanHead> {
        let entry = &plan.value;
        let text = |name: &'static str| {
            let field = match name {
                "list" => entry.list.as_ref(),
                "from" => entry.from.as_ref(),
                "to" => entry.to.as_ref(),
                _ => None,
            };
            field.map(|field| field.value.as_str())
        };
        match PlanHead::of(text, self.setting) {
            Ok(head) => {
                let (list, from, to) = (&entry.list, &entry.from, &entry.to);
                let given = [("list", list), ("from", from), ("to", to)].into_iter();
                let given = given.filter_map(|(name, field)| Some((name, field.as_ref()?)));
                self.findings.extend(empty_values(self.file, given));
                Some(head)
            }
            Err(complaints) => {
                let place = |field: &str| match field {
                    "from" => entry.from.as_ref().map(place_of),
                    _ => entry.to.as_ref().map(place_of),
                };
                self.complain(complaints, place_of(plan), place);
                None
            }
        }
    }

    fn plan(&mut self, head: &PlanHead, entry: &PlanEntry) {
        for part in &entry.allowances {
            self.part(head, "allowance", part, allowance_part);
        }
        for part in &entry.accumulators {
            if !self.part(head, "accumulator", part, accumulator_part)
                && let Some(id) = &part.value.id
            {
                let id = self.setting.names.enter(id.value.trim());
                self.made.at_fault.insert((head.list, id));
            }
        }
        for part in &entry.caps {
            self.part(head, "cap", part, cap_part);
        }
        for part in &entry.charges {
            if !self.part(head, "charge", part, charge_part) {
                self.made.lacks_charges = true;
            }
        }
    }

    /// A commitment has the term of its accumulator, so it is read after all of those.
    fn commitments(&mut self, head: &PlanHead, entry: &PlanEntry) {
        let of_list = self.made.accumulators(Some(head.list));
        let accumulators: Vec<Accumulator> = of_list.into_iter().cloned().collect();
        let rows = self.made.rows.iter().map(|placed| &placed.row);
        let charges: Vec<DatedCharge> = rows
            .filter(|row| row.list == head.list)
            .filter_map(|row| match &row.part {
                PlanPart::Charge(charge) => Some(DatedCharge {
                    valid: row.valid,
                    charge: charge.clone(),
                }),
                _ => None,
            })
            .collect();
        let beside = Beside {
            accumulators: &accumulators,
            charges: &charges,
        };
        for part in &entry.commitments {
            let named = part.value.accumulator.as_ref();
            let named = named.map(|named| self.setting.names.enter(named.value.trim()));
            if named.is_some_and(|named| self.made.is_at_fault(head.list, named)) {
                continue;
            }
            // What is recurring was refused.
            let counts = part.value.counts.iter().flat_map(|counts| &counts.value.0);
            let mut counts = counts.map(|word| word.trim());
            if self.made.lacks_charges && counts.any(|word| word == "recurring") {
                continue;
            }
            self.part(head, "commitment", part, |place| {
                commitment_part(place, &beside)
            });
        }
    }

    /// Reads a part; whether it is one, and whole.
    fn part<T: Fielded>(
        &mut self,
        head: &PlanHead,
        kind: &str,
        entry: &Spanned<T>,
        read: impl FnOnce(&Place<'_>) -> Result<PlanPart, Vec<Complaint>>,
    ) -> bool {
        let fields = &entry.value;
        let text = |name: &'static str| fields.field(name).map(|field| field.value.as_str());
        let list = |name: &'static str| fields.list(name).map(|list| list.value.0.as_slice());
        let place = Place {
            text: &text,
            list: &list,
            currency: self.currency,
            setting: self.setting,
        };
        let (line, column) = place_of(entry);
        match read(&place) {
            Ok(part) => {
                let given = T::FIELDS.iter();
                let given = given.filter_map(|name| Some((*name, fields.field(name)?)));
                self.findings.extend(empty_values(self.file, given));
                let items = fields.list("items");
                let items = items.filter(|_| !self.refused.has((line, column), "items"));
                self.findings.extend(no_items(self.file, items));
                let id = text("id").or_else(|| text("item")).unwrap_or_default();
                let origin = Origin {
                    file: Arc::clone(self.file),
                    line,
                    column,
                };
                if self.refused.is_within((line, column)) {
                    return false;
                }
                let row = head.row(&format!("{kind} {}", id.trim()), part, self.setting);
                self.made.rows.push(Placed { row, origin });
                true
            }
            Err(complaints) => {
                let place = |name: &str| {
                    let list = || fields.list(name).map(place_of);
                    fields.field(name).map(place_of).or_else(list)
                };
                self.complain(complaints, (line, column), place);
                false
            }
        }
    }

    fn complain(
        &mut self,
        mut complaints: Vec<Complaint>,
        entry: (u64, u64),
        place: impl Fn(&str) -> Option<(u64, u64)>,
    ) {
        let (file, refused) = (self.file, self.refused);
        complaints.retain(|complaint| !complaint.follows(refused, entry));
        self.findings
            .extend(complaints.into_iter().map(|complaint| {
                let place = place(complaint.field).unwrap_or(entry);
                Diagnostic::error(file, place, complaint.message).with_hint(complaint.hint)
            }));
    }
}
