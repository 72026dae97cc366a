//! What a job's mediation rules call things, and the names beside them that nothing has.
//!
//! - **An error** is a name that would let other money stand in silence: a row that no usage can ever
//!   meet while another row prices it instead, or a slip of a name that there is.
//! - **A warning** is a name that a plan or a condition has: what it gives or limits would be left out. So is,
//!   for `check`, an item that rules charge and no price is for: every record that has some of it would wait whole.
//! - **Advice** is a name whose usage waits and is told anyway, or that a catalog shared by several jobs
//!   may have for the others. Names of one kind are told together.
//! - Where messages come beside the files, a name may still arrive: no finding is an error.
//! - What a value is, only usage decides: values are never judged, but for how a number is written.

mod told;

use super::rows::{Origin, Placed, Rows};
use crate::decode::ColumnType;
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::mediate::MediationRule;
use crate::names::Names;
use millrace_operators::domain::{
    AccountKey, Commitment, Counts, Name, PlanPart, Price, PriceRow, Severity,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use told::{counted, listed, meant, slip_of, take_slips, told};

/// Names that one finding lists; the others are counted.
const LISTED: usize = 5;
/// Letters that a name, or its part between separators, has at least for a wrong one to be a slip.
const SLIP_LETTERS: usize = 5;

/// The names that one mediation rule defines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RuleWords {
    service_type: String,
    /// The items, and where the rule charges each.
    items: BTreeMap<String, Origin>,
    attributes: BTreeSet<String>,
    /// The attributes that are a column declared to be a number.
    numbers: BTreeSet<String>,
}

/// The names that the mediation rules of a job define.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vocabulary(Vec<RuleWords>);

impl Vocabulary {
    /// The names of these rules, each with the service type of its stream and the file that it stands in.
    pub fn of<'a>(
        rules: impl IntoIterator<Item = (&'a str, (&'a str, &'a MediationRule))>,
    ) -> Self {
        let names = |named: &crate::mediate::NamedSql| {
            let names = named.0.iter().map(|(name, _)| name.clone());
            names.collect::<BTreeSet<String>>()
        };
        let words = |(service_type, (file, rule)): (&str, (&str, &MediationRule))| {
            let file: Arc<str> = Arc::from(file);
            let charges = rule.charges.0.iter().map(|(item, sql)| {
                let (line, column) = (sql.referenced.line(), sql.referenced.column());
                let file = Arc::clone(&file);
                (item.clone(), Origin { file, line, column })
            });
            RuleWords {
                service_type: service_type.to_owned(),
                items: charges.collect(),
                attributes: names(&rule.attributes),
                numbers: numbers(rule),
            }
        };
        Self(rules.into_iter().map(words).collect())
    }

    /// Every attribute that a rule defines.
    #[must_use]
    pub fn attributes(&self) -> BTreeSet<&str> {
        let attributes = self.0.iter().flat_map(|rule| &rule.attributes);
        attributes.map(String::as_str).collect()
    }

    /// Whether every rule that charges an item and defines an attribute makes it of a number.
    fn is_number(&self, item: &str, attribute: &str) -> bool {
        let defining = self
            .0
            .iter()
            .filter(|rule| rule.items.contains_key(item) && rule.attributes.contains(attribute));
        defining.clone().next().is_some()
            && defining
                .into_iter()
                .all(|rule| rule.numbers.contains(attribute))
    }

    fn items(&self) -> BTreeSet<&str> {
        let items = self.0.iter().flat_map(|rule| rule.items.keys());
        items.map(String::as_str).collect()
    }

    fn service_types(&self) -> BTreeSet<&str> {
        self.0
            .iter()
            .map(|rule| rule.service_type.as_str())
            .collect()
    }

    /// The attributes that usage of an item may have; of no item, those of all.
    fn attributes_of(&self, item: &str) -> BTreeSet<&str> {
        let charging = self.0.iter().filter(|rule| rule.items.contains_key(item));
        let attributes = charging.flat_map(|rule| &rule.attributes);
        attributes.map(String::as_str).collect()
    }
}

/// The attributes of a rule that are a column declared to be a number, as it is.
fn numbers(rule: &MediationRule) -> BTreeSet<String> {
    let is_number = |column: &str| {
        let declared = rule.columns.get(column);
        let kind = declared.and_then(|declared| declared.value.kind.as_ref());
        matches!(kind, Some(ColumnType::BigInt | ColumnType::Decimal { .. }))
    };
    let attributes = rule.attributes.0.iter();
    let numbers = attributes.filter(|(_, sql)| is_number(sql.value.trim()));
    numbers.map(|(name, _)| name.clone()).collect()
}

/// The one text that a number has as an attribute, where a text is a number.
fn text_of_number(text: &str) -> Option<String> {
    let number = Price::parse(text).ok()?;
    Some(number.to_string())
}

/// Names of the rows that nothing has, or that are slips of others. `may_come` says that what is missing
/// may arrive in messages.
pub(super) fn unmet(
    rows: &Rows,
    vocabulary: &Vocabulary,
    names: &Names,
    may_come: bool,
) -> Vec<Diagnostic> {
    let reader = Reader {
        rows,
        vocabulary,
        names,
    };
    let mut findings = reader.items();
    findings.extend(reader.attributes());
    findings.extend(reader.numbers());
    findings.extend(reader.lists());
    findings.extend(reader.accounts());
    findings.extend(reader.groups());
    findings.extend(reader.service_types());
    if may_come {
        for finding in &mut findings {
            finding.severity = finding.severity.min(Severity::Warning);
        }
    }
    findings.sort();
    findings
}

/// Items that rules charge and that no price list of a subscription, and no price of an account, is for.
pub(super) fn unpriced(rows: &Rows, vocabulary: &Vocabulary, names: &Names) -> Vec<Diagnostic> {
    let reader = Reader {
        rows,
        vocabulary,
        names,
    };
    reader.unpriced()
}

/// Looks at the rows of a job with its rules' names at hand.
struct Reader<'a> {
    rows: &'a Rows,
    vocabulary: &'a Vocabulary,
    names: &'a Names,
}

/// The rows that say one name: how many, and where the first stands.
struct Said<'a> {
    count: usize,
    first: &'a Origin,
}

/// The places of names, by name.
#[derive(Default)]
struct Places<'a>(BTreeMap<Arc<str>, Said<'a>>);

impl<'a> Places<'a> {
    fn add(&mut self, name: Arc<str>, origin: &'a Origin) {
        let said = self.0.entry(name).or_insert(Said {
            count: 0,
            first: origin,
        });
        said.count += 1;
        said.first = said.first.min(origin);
    }

    /// One finding per file that tells the names together.
    fn together(
        &self,
        severity: Severity,
        tell: impl Fn(&[&str], usize) -> (String, String),
    ) -> Vec<Diagnostic> {
        let mut files: BTreeMap<&Arc<str>, Vec<(&str, &Said<'_>)>> = BTreeMap::new();
        for (name, said) in &self.0 {
            files
                .entry(&said.first.file)
                .or_default()
                .push((name, said));
        }
        let finding = |of_file: &Vec<(&str, &Said<'_>)>| {
            let first = of_file.iter().map(|(_, said)| said.first).min()?;
            let count = of_file.iter().map(|(_, said)| said.count).sum();
            let names: Vec<&str> = of_file.iter().map(|(name, _)| *name).collect();
            let (message, hint) = tell(&names, count);
            let finding = first.warning(message).with_hint(hint);
            Some(Diagnostic {
                severity,
                ..finding
            })
        };
        files.values().filter_map(finding).collect()
    }
}

impl<'a> Reader<'a> {
    /// Items of prices and plans that no rule charges.
    fn items(&self) -> Vec<Diagnostic> {
        let known = self.vocabulary.items();
        let mut charged = known.clone();
        // A plan may count what it charges itself.
        let plans = &self.rows.plans;
        let own: Vec<Arc<str>> = plans
            .iter()
            .filter_map(|placed| match &placed.row.part {
                PlanPart::Charge(charge) => Some(self.names.text(charge.item)),
                _ => None,
            })
            .collect();
        charged.extend(own.iter().map(|item| &**item));
        let mut priced = Places::default();
        for (item, origin) in self.rows.prices.iter().map(|p| (p.row.item, &p.origin)) {
            let item = self.names.text(item);
            if !known.contains(&*item) {
                priced.add(item, origin);
            }
        }
        let mut planned = Places::default();
        for placed in plans {
            let items: &[Name] = match &placed.row.part {
                PlanPart::Allowance(part) => &part.items,
                PlanPart::Accumulator(part) => &part.items,
                PlanPart::Cap(part) => &part.items,
                // Those of its accumulator are told of that.
                PlanPart::Commitment(Commitment {
                    counts: Counts::Accumulated(_),
                    ..
                }) => &[],
                PlanPart::Commitment(part) => &part.items,
                PlanPart::Volume(_) | PlanPart::Charge(_) => &[],
            };
            for item in items.iter().map(|item| self.names.text(*item)) {
                if !charged.contains(&*item) {
                    planned.add(item, &placed.origin);
                }
            }
        }
        let slip = |item: &str, said: &Said<'_>| {
            format!(
                "no mediation rule charges the item \"{item}\"{}",
                told(said)
            )
        };
        let charges = listed(&known.iter().copied().collect::<Vec<_>>());
        let unmet = |what: (&str, &str), items: &[&str], count| {
            let message = format!(
                "no mediation rule of the job charges {}, which {} here {} for",
                listed(items),
                counted(what, count),
                if count == 1 { "is" } else { "are" },
            );
            let hint = format!(
                "{}the rules charge {charges}; in a catalog that several jobs share nothing is to be done",
                meant(items, &known)
            );
            (message, hint)
        };
        let mut findings = take_slips(&mut priced, &known, slip);
        findings.extend(take_slips(&mut planned, &known, slip));
        findings.extend(priced.together(Severity::Info, |items, n| unmet(ROWS, items, n)));
        findings.extend(planned.together(Severity::Warning, |items, n| unmet(PARTS, items, n)));
        findings
    }

    /// See [`unpriced`].
    fn unpriced(&self) -> Vec<Diagnostic> {
        let subscriptions = self.rows.subscriptions.iter();
        let lists = subscriptions.flat_map(|placed| &placed.row.price_lists);
        let lists: BTreeSet<Name> = lists.copied().collect();
        let in_force =
            |row: &PriceRow| row.account.is_some() || lists.is_empty() || lists.contains(&row.list);
        let prices = self.rows.prices.iter().map(|placed| &placed.row);
        let priced: BTreeSet<Name> = prices
            .filter(|row| in_force(row))
            .map(|row| row.item)
            .collect();
        let (mut charged, mut none) = (BTreeSet::new(), BTreeMap::new());
        for (item, place) in self.vocabulary.0.iter().flat_map(|rule| &rule.items) {
            if priced.contains(&Name::new(item)) {
                charged.insert(item);
                continue;
            }
            let first: &mut &Origin = none.entry(item).or_insert(place);
            *first = place.min(first);
        }
        // Without a price for any of them there is no catalog yet.
        if charged.is_empty() {
            return Vec::new();
        }
        let finding = |(item, first): (&String, &Origin)| {
            let message = format!(
                "no price list that a subscription has prices the item \"{item}\", which is charged here"
            );
            let hint = "add a price to such a list, or leave the item out of `charges`: until then every \
                        record that has some of it waits";
            first.warning(message).with_hint(hint)
        };
        none.into_iter().map(finding).collect()
    }

    /// Attributes of conditions that no usage of the item can have.
    fn attributes(&self) -> Vec<Diagnostic> {
        let charged = self.vocabulary.items();
        let mut reachable: BTreeSet<Name> = BTreeSet::new();
        let mut of_item: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
        let mut never: Vec<(&Placed<PriceRow>, Name)> = Vec::new();
        for placed in &self.rows.prices {
            let item = placed.row.item;
            let text = self.names.text(item);
            if !charged.contains(&*text) {
                continue;
            }
            let known = of_item.entry(item).or_insert_with(|| {
                let attributes = self.vocabulary.attributes_of(&text).into_iter();
                attributes.map(Name::new).collect()
            });
            let missing = placed.row.conditions.iter().map(|c| c.attribute);
            match missing
                .into_iter()
                .find(|attribute| !known.contains(attribute))
            {
                Some(attribute) => never.push((placed, attribute)),
                None => drop(reachable.insert(item)),
            }
        }
        let mut places: BTreeMap<(Name, Name), Places<'_>> = BTreeMap::new();
        for (placed, attribute) in never {
            let places = places.entry((placed.row.item, attribute)).or_default();
            places.add(self.names.text(attribute), &placed.origin);
        }
        let mut findings = Vec::new();
        for ((item, _), places) in places {
            let text = self.names.text(item);
            let known = self.vocabulary.attributes_of(&text);
            for (attribute, said) in &places.0 {
                let message = format!(
                    "no mediation rule that charges \"{text}\" defines the attribute \"{attribute}\"{}",
                    told(said)
                );
                let meant = did_you_mean(attribute, known.iter().copied());
                let instead = reachable.contains(&item);
                let (remedy, advice) = match (instead, said.count) {
                    (true, _) => (
                        "leave the row out",
                        "other rows would price the item instead",
                    ),
                    (false, 1) => (
                        "take the condition out",
                        "usage of the item waits for a price",
                    ),
                    // Without their condition they would be in each other's way.
                    (false, _) => (
                        "price the item by one row without the condition",
                        "usage of the item waits for a price",
                    ),
                };
                let hint = match meant {
                    Some(meant) => format!("did you mean \"{meant}\"? Otherwise {advice}"),
                    None => {
                        format!("define it under `attributes` of the rule, or {remedy}: {advice}")
                    }
                };
                let slip = slip_of(attribute, &known).is_some();
                let finding = match instead || slip {
                    true => said.first.error(message),
                    false => said.first.warning(message),
                };
                findings.push(finding.with_hint(hint));
            }
        }
        findings
    }

    /// Numbers in conditions that are not written as attributes that are numbers are. Where that is not
    /// known, those with zeros at the end alone: other texts are numbers by chance more often.
    fn numbers(&self) -> Vec<Diagnostic> {
        let mut findings = Vec::new();
        let mut doubtful = Places::default();
        for placed in &self.rows.prices {
            let item = self.names.text(placed.row.item);
            for condition in &placed.row.conditions {
                let (attribute, value) = (
                    self.names.text(condition.attribute),
                    self.names.text(condition.value),
                );
                let Some(number) = text_of_number(&value).filter(|number| **number != *value)
                else {
                    continue;
                };
                if self.vocabulary.is_number(&item, &attribute) {
                    let message = format!(
                        "no usage has the value \"{value}\" of \"{attribute}\", which is a number: \
                         the row would never be used"
                    );
                    let hint = format!("write \"{number}\": a number has this one text");
                    findings.push(placed.origin.error(message).with_hint(hint));
                } else if value.contains('.') && value.ends_with('0') {
                    doubtful.add(value, &placed.origin);
                }
            }
        }
        findings.extend(doubtful.together(Severity::Info, |values, _| {
            let message = format!(
                "conditions have the values {}, and a number has no zeros at the end as an attribute",
                listed(values)
            );
            let numbers: Vec<String> = values.iter().filter_map(|v| text_of_number(v)).collect();
            let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
            let hint = format!(
                "write {} where the attribute is a number; where it is text nothing is to be done",
                listed(&numbers)
            );
            (message, hint)
        }));
        findings
    }

    /// Price lists that are slips of those that subscriptions name, and lists without a price that
    /// subscriptions name beside others.
    fn lists(&self) -> Vec<Diagnostic> {
        let Rows {
            prices,
            plans,
            subscriptions,
            ..
        } = self.rows;
        let prices = prices.iter().filter(|placed| placed.row.account.is_none());
        let prices = prices.map(|placed| (placed.row.list, &placed.origin));
        let given = prices.chain(plans.iter().map(|placed| (placed.row.list, &placed.origin)));
        let offered: BTreeSet<Name> = given.clone().map(|(list, _)| list).collect();
        let lists = subscriptions
            .iter()
            .flat_map(|placed| &placed.row.price_lists);
        let wanted: BTreeSet<Name> = lists.copied().collect();
        let text = |list: &Name| self.names.text(*list);
        let (wanted_texts, offered_texts): (Vec<_>, Vec<_>) = (
            wanted.iter().map(text).collect(),
            offered.iter().map(text).collect(),
        );
        let offered_texts: BTreeSet<&str> = offered_texts.iter().map(|list| &**list).collect();
        // Of two lists that are slips of each other the subscription's is told.
        let wanted_texts = wanted_texts.iter().map(|list| &**list);
        let wanted_texts = wanted_texts
            .filter(|list| offered_texts.contains(list))
            .collect();
        let mut places = Places::default();
        for (list, origin) in given.filter(|(list, _)| !wanted.contains(list)) {
            places.add(self.names.text(list), origin);
        }
        let mut findings = take_slips(&mut places, &wanted_texts, |list, said| {
            format!(
                "no subscription has the price list \"{list}\"{}",
                told(said)
            )
        });
        if offered.is_empty() {
            return findings;
        }
        let mut unpriced = Places::default();
        let mut beside: BTreeSet<Arc<str>> = BTreeSet::new();
        for placed in subscriptions {
            let missing = placed.row.price_lists.iter();
            for list in missing.filter(|list| !offered.contains(list)) {
                let list = self.names.text(*list);
                if placed.row.price_lists.len() > 1 {
                    beside.insert(Arc::clone(&list));
                }
                unpriced.add(list, &placed.origin);
            }
        }
        for (list, said) in &unpriced.0 {
            if beside.contains(list) || slip_of(list, &offered_texts).is_some() {
                let message = format!(
                    "the price list \"{list}\" has no price and no plan{}",
                    told(said)
                );
                let hint = match did_you_mean(list, offered_texts.iter().copied()) {
                    Some(meant) => {
                        format!("did you mean \"{meant}\"? Otherwise add prices to the list")
                    }
                    None => {
                        "add prices to the list, or leave it out: the other lists price its usage"
                            .to_owned()
                    }
                };
                findings.push(said.first.error(message).with_hint(hint));
            }
        }
        findings
    }

    /// Accounts of prices that are slips of accounts: others would be billed by the list instead.
    fn accounts(&self) -> Vec<Diagnostic> {
        let accounts: BTreeSet<AccountKey> = self.rows.accounts.iter().map(|p| p.row.key).collect();
        let mut places = Places::default();
        for placed in &self.rows.prices {
            if let Some(account) = placed.row.account.filter(|a| !accounts.contains(a)) {
                places.add(self.names.account(account), &placed.origin);
            }
        }
        if places.0.is_empty() {
            return Vec::new();
        }
        let texts: Vec<Arc<str>> = accounts
            .iter()
            .map(|key| self.names.account(*key))
            .collect();
        let known = texts.iter().map(|account| &**account).collect();
        take_slips(&mut places, &known, |account, said| {
            format!(
                "a price is for the account \"{account}\", which is unknown{}",
                told(said)
            )
        })
    }

    /// Balance groups of one subscription that are slips of others: nothing would be shared.
    fn groups(&self) -> Vec<Diagnostic> {
        // A child has its parent's group, and says nothing of how that is spelled.
        let children: BTreeSet<_> = self.rows.parents.iter().map(|p| p.row.0).collect();
        let mut members: BTreeMap<Name, BTreeSet<_>> = BTreeMap::new();
        let written = self.rows.subscriptions.iter();
        for placed in written.filter(|placed| !children.contains(&placed.row.key)) {
            let members = members.entry(placed.row.group).or_default();
            members.insert(placed.row.key);
        }
        let mut places = Places::default();
        for placed in &self.rows.subscriptions {
            let (key, group) = (placed.row.key, self.names.text(placed.row.group));
            let alone = members
                .get(&placed.row.group)
                .is_some_and(|all| all.len() == 1);
            if alone && *group != *self.names.subscription(key) {
                places.add(group, &placed.origin);
            }
        }
        if places.0.is_empty() {
            return Vec::new();
        }
        let shared = members.iter().filter(|(_, all)| all.len() > 1);
        let shared: Vec<Arc<str>> = shared.map(|(group, _)| self.names.text(*group)).collect();
        let known = shared.iter().map(|group| &**group).collect();
        take_slips(&mut places, &known, |group, _| {
            format!("the balance group \"{group}\" has one subscription")
        })
    }

    /// Types of services that no source has; their usage would never come.
    fn service_types(&self) -> Vec<Diagnostic> {
        let known = self.vocabulary.service_types();
        let mut places = Places::default();
        for placed in &self.rows.services {
            let (service_type, _) = self.names.service(placed.row.service);
            if !known.contains(&*service_type) {
                places.add(service_type, &placed.origin);
            }
        }
        places.together(Severity::Info, |types, count| {
            let message = format!(
                "no source of the job has the service type {}, which {} here {}",
                listed(types),
                match count {
                    1 => "a service".to_owned(),
                    count => format!("{count} services"),
                },
                if count == 1 { "has" } else { "have" },
            );
            let hint = format!(
                "{}the sources have {}; for services of other jobs nothing is to be done",
                meant(types, &known),
                listed(&known.iter().copied().collect::<Vec<_>>()),
            );
            (message, hint)
        })
    }
}

/// What stands in a catalog, one and many of it.
const ROWS: (&str, &str) = ("row", "rows");
const PARTS: (&str, &str) = ("part of a plan", "parts of a plan");

#[cfg(test)]
mod tests;
