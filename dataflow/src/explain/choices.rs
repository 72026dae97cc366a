//! Who was chosen, who was not, and why: subscriptions and price rows, in words.

use super::usage::stretch;
use millrace_connectors::output::Texts;
use millrace_connectors::reference::Reference;
use millrace_operators::domain::{
    Amount, Condition, Measure, Name, PlanPart, PriceModel, Quantity, SubscriptionStatus, Tier,
    TierReference, Usage, UsageClass,
};
use millrace_operators::guide::{self, GuideCandidate, GuideRows, GuideVerdict};
use millrace_operators::rate::{self, ItemPrice, PriceCandidate, Verdict};
use serde::Serialize;
use std::collections::BTreeMap;

/// Rows listed of those that were far from being chosen; the others are counted.
const NEAREST: usize = 3;

/// Where a record goes, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GuideTold {
    /// The subscription.
    pub subscription: Option<String>,
    /// The account that pays.
    pub account: Option<String>,
    /// Whether the usage of its balance group is charged in order.
    pub in_order: bool,
    /// Why it goes nowhere.
    pub reason: Option<&'static str>,
    /// Every claim on the service, the best first.
    pub candidates: Vec<SubscriptionTold>,
}

/// A claim on a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubscriptionTold {
    /// The subscription.
    pub subscription: String,
    /// Its account.
    pub account: Option<String>,
    /// Its price lists, the one tried first in front.
    pub price_lists: Vec<String>,
    /// `active`, `inactive` or `closed`.
    pub status: Option<&'static str>,
    /// When the subscription has the service.
    pub service: String,
    /// When the terms hold.
    pub terms: Option<String>,
    /// How it fared.
    pub verdict: String,
}

/// How the price of an item was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ItemPriceTold {
    /// The item.
    pub item: String,
    /// The price row in force.
    pub price: Option<String>,
    /// Why there is none.
    pub reason: Option<&'static str>,
    /// Whether there is no price and none is needed, because the record has nothing of the item.
    pub needs_none: bool,
    /// Rows that name the item, the nearest first.
    pub candidates: Vec<PriceTold>,
    /// More rows of its price lists, whose conditions do not match.
    pub more_with_other_conditions: usize,
    /// More rows of other price lists or accounts.
    pub more_of_other_lists: usize,
}

/// A price row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PriceTold {
    /// Its name in the catalog.
    pub price: String,
    /// Its list.
    pub list: String,
    /// The only account that it is for.
    pub account: Option<String>,
    /// What must hold.
    pub conditions: BTreeMap<String, String>,
    /// When it is in force.
    pub valid: String,
    /// Its priority.
    pub priority: i32,
    /// How an amount is found.
    pub rate: String,
    /// Its currency.
    pub currency: String,
    /// How it fared.
    pub verdict: String,
}

/// See the module.
pub(super) struct Choices<'a> {
    pub(super) texts: &'a Texts,
    pub(super) reference: &'a Reference,
    pub(super) class: &'a UsageClass,
    /// Whether every row is listed.
    pub(super) all: bool,
}

impl Choices<'_> {
    /// Where the usage goes, and the prices of its items.
    pub(super) fn told(&self, usage: &Usage) -> (GuideTold, Vec<ItemPriceTold>) {
        let rows = GuideRows {
            services: &self.reference.services,
            subscriptions: &self.reference.subscriptions,
            accounts: &self.reference.accounts,
            plans: &self.reference.plans,
        };
        let found = guide::explain(usage.service, usage.time, &rows);
        let guided = found.outcome.as_ref().ok();
        let prices = guided.map(|guided| {
            let prices = &self.reference.prices;
            rate::explain(prices, guided, self.class, (usage.time, &usage.quantities))
        });
        let prices = prices.unwrap_or_default();
        let names = &self.texts.names;
        let guide = GuideTold {
            subscription: guided.map(|g| names.subscription(g.subscription).to_string()),
            account: guided.map(|g| names.account(g.account).to_string()),
            in_order: guided.is_some_and(|guided| guided.ordered) || prices.iter().any(is_ordered),
            reason: found.outcome.as_ref().err().map(|reason| reason.code()),
            candidates: found.candidates.iter().map(|c| self.claim(c)).collect(),
        };
        (
            guide,
            prices.iter().map(|price| self.price(price)).collect(),
        )
    }

    fn name(&self, name: Name) -> String {
        self.texts.names.text(name).to_string()
    }

    fn claim(&self, candidate: &GuideCandidate) -> SubscriptionTold {
        let names = &self.texts.names;
        let terms = candidate.subscription.as_ref();
        let verdict = match candidate.verdict {
            GuideVerdict::Chosen => "chosen: in force and active".to_owned(),
            GuideVerdict::Tied => "could serve, as another could".to_owned(),
            GuideVerdict::Cannot(reason) => reason.code().to_owned(),
            GuideVerdict::TermsNotInForce => "terms not in force at the time".to_owned(),
            GuideVerdict::ServiceNotInForce => "service not its own at the time".to_owned(),
        };
        let lists = terms.iter().flat_map(|terms| &terms.price_lists);
        SubscriptionTold {
            subscription: names
                .subscription(candidate.service.subscription)
                .to_string(),
            account: terms.map(|terms| names.account(terms.account).to_string()),
            price_lists: lists.map(|list| self.name(*list)).collect(),
            status: terms.map(|terms| match terms.status {
                SubscriptionStatus::Active => "active",
                SubscriptionStatus::Inactive => "inactive",
                SubscriptionStatus::Closed => "closed",
            }),
            service: stretch(candidate.service.valid),
            terms: terms.map(|terms| stretch(terms.valid)),
            verdict,
        }
    }

    fn price(&self, found: &ItemPrice) -> ItemPriceTold {
        let mut told = ItemPriceTold {
            item: self.name(found.item.name),
            price: None,
            reason: None,
            needs_none: false,
            candidates: Vec::new(),
            more_with_other_conditions: 0,
            more_of_other_lists: 0,
        };
        match &found.outcome {
            Ok(row) => told.price = Some(self.texts.names.price(row.key).to_string()),
            Err(_) if found.needs_none => told.needs_none = true,
            Err(reason) => told.reason = Some(reason.code()),
        }
        let (mut other_conditions, mut other_lists) = (0, 0);
        let candidates = self.nearest_first(&found.candidates);
        for (at, candidate) in candidates.iter().enumerate() {
            let (listed, more) = match &candidate.verdict {
                Verdict::ConditionsDiffer { .. } => {
                    (&mut other_conditions, &mut told.more_with_other_conditions)
                }
                Verdict::NotOffered => (&mut other_lists, &mut told.more_of_other_lists),
                _ => (&mut 0, &mut 0),
            };
            if self.all || *listed < NEAREST {
                *listed += 1;
                let next = candidates.get(at + 1);
                let row = self.row(candidate, next.map(|next| &next.verdict));
                told.candidates.push(row);
            } else {
                *more += 1;
            }
        }
        told
    }

    /// Among rows that miss as many conditions, those whose values look most like the record's come
    /// first: a model that the catalog calls otherwise is what a person looks for.
    fn nearest_first<'c>(&self, candidates: &'c [PriceCandidate]) -> Vec<&'c PriceCandidate> {
        let mut sorted: Vec<&PriceCandidate> = candidates.iter().collect();
        let differs = |candidate: &&PriceCandidate| {
            matches!(candidate.verdict, Verdict::ConditionsDiffer { .. })
        };
        let start = sorted.iter().position(differs).unwrap_or(sorted.len());
        let count = sorted[start..]
            .iter()
            .copied()
            .filter(|c| differs(c))
            .count();
        sorted[start..start + count].sort_by_cached_key(|candidate| {
            let Verdict::ConditionsDiffer { missed } = &candidate.verdict else {
                return (0, 0, 0, String::new());
            };
            let held = candidate.row.conditions.len() - missed.len();
            let distance = |condition: &Condition| {
                let has = self.class.attribute(condition.attribute);
                let has = has.map(|value| self.name(value)).unwrap_or_default();
                strsim::damerau_levenshtein(&has, &self.name(condition.value))
            };
            let name = self.texts.names.price(candidate.row.key).to_string();
            let distances = missed.iter().map(distance).sum::<usize>();
            (missed.len(), usize::MAX - held, distances, name)
        });
        sorted
    }

    fn row(&self, candidate: &PriceCandidate, next: Option<&Verdict>) -> PriceTold {
        let PriceCandidate { row, verdict } = candidate;
        let names = &self.texts.names;
        let condition = |c: &Condition| (self.name(c.attribute), self.name(c.value));
        PriceTold {
            price: names.price(row.key).to_string(),
            list: self.name(row.list),
            account: row
                .account
                .map(|account| names.account(account).to_string()),
            conditions: row.conditions.iter().map(condition).collect(),
            valid: stretch(row.valid),
            priority: row.priority,
            rate: model_text(&row.model, self.texts, self.reference),
            currency: self.name(row.currency),
            verdict: match verdict {
                Verdict::Chosen => why_chosen(row.account.is_some(), next).to_owned(),
                Verdict::OtherCurrency => "not in the account's currency".to_owned(),
                Verdict::Tied => "ties with another row".to_owned(),
                Verdict::LowerPriority => "lower priority".to_owned(),
                Verdict::LessSpecific => "fewer conditions".to_owned(),
                Verdict::LaterList => "another list comes first".to_owned(),
                Verdict::NotInForce => "not in force at the time".to_owned(),
                Verdict::ConditionsDiffer { missed } => self.missed(missed),
                Verdict::NotOffered if row.account.is_some() => "of another account".to_owned(),
                Verdict::NotOffered => "list not of the subscription".to_owned(),
            },
        }
    }

    /// What the record has in place of what the row asks for.
    fn missed(&self, missed: &[Condition]) -> String {
        let has = |condition: &Condition| {
            let value = self.class.attribute(condition.attribute);
            let name = self.name(condition.attribute);
            match value {
                Some(value) => format!("{name} = {}", self.name(value)),
                None => format!("no {name}"),
            }
        };
        let has: Vec<String> = missed.iter().map(has).collect();
        format!("the record has {}", has.join(", "))
    }
}

fn is_ordered(price: &ItemPrice) -> bool {
    price
        .outcome
        .as_ref()
        .is_ok_and(|row| row.model.is_ordered())
}

/// What settled it: what the next best lacks.
fn why_chosen(own: bool, next: Option<&Verdict>) -> &'static str {
    match next {
        Some(Verdict::LowerPriority) => "chosen: highest priority",
        Some(Verdict::LessSpecific) => "chosen: most conditions",
        Some(Verdict::LaterList) if own => "chosen: the account's own",
        Some(Verdict::LaterList) => "chosen: of the first list",
        _ => "chosen: the only match in force",
    }
}

/// A price model in words.
pub(super) fn model_text(model: &PriceModel, texts: &Texts, reference: &Reference) -> String {
    let name = |name: Name| texts.names.text(name).to_string();
    match model {
        PriceModel::PerUnit { price, per: 1 } => format!("{price} per unit"),
        PriceModel::PerUnit { price, per } => format!("{price} per {per}"),
        PriceModel::PerBlock { price, block } => format!("{price} per started {block}"),
        PriceModel::PerRecord { price } => format!("{price} per record"),
        PriceModel::Graduated { tiers, by } => {
            let measure = measure_of(*by, reference);
            let by = match by {
                TierReference::Record => "the record's own quantity".to_owned(),
                TierReference::Accumulator(by) => name(*by),
                TierReference::PreviousPeriod(by) => format!("{} of the last period", name(*by)),
            };
            format!("{}; tiers of {by}", tiers_text(tiers, measure))
        }
        PriceModel::Volume { tiers, accumulator } => {
            let tiers = tiers_text(tiers, Measure::Units);
            format!("{tiers}; for all of {} at its end", name(*accumulator))
        }
        PriceModel::Package {
            price,
            block,
            accumulator,
        } => format!("{price} per started {block} of {}", name(*accumulator)),
    }
}

fn tiers_text(tiers: &[Tier], measure: Measure) -> String {
    let tier = |tier: &Tier| {
        let per = match tier.per {
            1 => String::new(),
            per => format!(" per {per}"),
        };
        format!(
            "{}{per} from {}",
            tier.price,
            value_text(measure, tier.from)
        )
    };
    let tiers: Vec<String> = tiers.iter().map(tier).collect();
    tiers.join(", ")
}

/// What the bounds of tiers count.
pub(super) fn measure_of(by: TierReference, reference: &Reference) -> Measure {
    let (TierReference::Accumulator(name) | TierReference::PreviousPeriod(name)) = by else {
        return Measure::Units;
    };
    let measure = |part: &PlanPart| match part {
        PlanPart::Accumulator(part) if part.resource == name => Some(part.measure),
        _ => None,
    };
    let mut parts = reference.plans.iter().map(|row| &row.part);
    parts.find_map(measure).unwrap_or(Measure::Units)
}

/// A bucket's value, or a bound of a tier.
pub(super) fn value_text(measure: Measure, value: i128) -> String {
    match measure {
        Measure::Units => Quantity(value).to_string(),
        Measure::Money => Amount(value).to_string(),
    }
}
