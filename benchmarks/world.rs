//! The generated world of the scenarios: accounts with services, price lists with prices per model,
//! and usage that is skewed as real customers are: a service uses three of the models, and a tenth of
//! the services make half of the records.

use millrace_connectors::names::Names;
use millrace_operators::domain::{
    Account, Accumulator, Allowance, BillingProfile, ClassKey, Condition, EventTime, Grant,
    IdentityBuilder, Item, Measure, Period, PlanKey, PlanPart, PlanRow, Price, PriceModel,
    PriceRow, Proration, Quantity, RecordId, ServiceUse, Subscription, SubscriptionStatus, Term,
    Tier, TierReference, Usage, UsageClass,
};

/// 2026-01-01T00:00:00Z.
pub(crate) const START: i64 = 1_767_225_600_000_000;
/// Tokens that an account with a plan has free every month.
pub(crate) const FREE_TOKENS: u64 = 1_000_000;
/// Its tiers: from so many tokens of the month on, this percentage of the list price. An account
/// uses 8 million tokens in the mean, and a tenth of them ten times as many as the others.
pub(crate) const TIERS: [(u64, u64); 3] = [(0, 100), (5_000_000, 90), (25_000_000, 80)];

const MODELS: u64 = 500;
const SERVICES_PER_ACCOUNT: u64 = 10;
const RECORDS_PER_SERVICE: u64 = 100;

/// The sizes that follow from the number of records, and the classes, which all workers share.
pub(crate) struct World {
    pub(crate) records: u64,
    pub(crate) services: u64,
    pub(crate) accounts: u64,
    pub(crate) classes: Vec<(ClassKey, UsageClass)>,
    /// Whether the standard list has a plan.
    planned: bool,
}

/// A fixed mixing of bits: the same world on every machine.
pub(crate) fn mix(n: u64) -> u64 {
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One record before it is decoded: what the Parquet file of the replay holds, and what usage is
/// made of where no file is involved.
pub(crate) struct Raw {
    pub(crate) service: u64,
    pub(crate) model: u64,
    pub(crate) tokens: i64,
    pub(crate) time: i64,
}

impl World {
    pub(crate) fn new(records: u64, names: &Names) -> Self {
        let services = (records / RECORDS_PER_SERVICE).max(10);
        let class = |model| {
            let class = UsageClass {
                service_type: names.enter("llm"),
                attributes: vec![(names.enter("model"), names.enter(&model_name(model)))],
                items: [Item {
                    name: names.enter("tokens"),
                    scale: 0,
                }]
                .into_iter()
                .collect(),
            };
            (names.enter_class(&class), class)
        };
        let classes = (0..MODELS).map(class).collect();
        Self {
            records,
            services,
            accounts: services.div_ceil(SERVICES_PER_ACCOUNT),
            classes,
            planned: false,
        }
    }

    /// The same with an allowance and tiers on the standard list.
    pub(crate) fn with_plans(self) -> Self {
        Self {
            planned: true,
            ..self
        }
    }

    /// Before the month is over.
    pub(crate) fn present(&self) -> EventTime {
        EventTime(START + 30 * 86_400_000_000)
    }

    /// What the standard list gives beside its prices.
    pub(crate) fn plan_rows(&self, names: &Names) -> Vec<PlanRow> {
        if !self.planned {
            return Vec::new();
        }
        let items = || [names.enter("tokens")].into_iter().collect();
        let allowance = PlanPart::Allowance(Allowance {
            resource: names.enter("included"),
            items: items(),
            measure: Measure::Units,
            size: units(FREE_TOKENS),
            currency: None,
            priority: 0,
            grant: Grant::Recurring,
            term: Term::BillUnit,
            proration: Proration::Prorate,
            rollover: None,
            thresholds: [50, 80, 100].into_iter().collect(),
        });
        let accumulator = PlanPart::Accumulator(Accumulator {
            resource: names.enter("total"),
            items: items(),
            measure: Measure::Units,
            currency: None,
            numerator: 1,
            denominator: 1,
            term: Term::BillUnit,
            thresholds: Default::default(),
            activation: 0,
            recurring: 0,
        });
        let row = |(id, part)| PlanRow {
            key: PlanKey::of(&[id]),
            list: names.enter("standard"),
            valid: Period::new(EventTime(START), EventTime::MAX).expect("time goes on"),
            part,
        };
        [("included", allowance), ("total", accumulator)]
            .map(row)
            .into()
    }

    /// Record `n`, in order of time.
    pub(crate) fn raw(&self, n: u64) -> Raw {
        let dice = mix(n);
        // Half of the records go to the first tenth of the services.
        let range = if dice & 1 == 0 {
            (self.services / 10).max(1)
        } else {
            self.services
        };
        let service = (dice >> 8) % range;
        let model = mix(service).wrapping_add((dice >> 40) % 3) % MODELS;
        let span = 28 * 86_400_000_000_i64;
        let step = span / i64::try_from(self.records).unwrap_or(i64::MAX).max(1);
        let time = START + i64::try_from(n).unwrap_or(0) * step.max(1);
        let tokens = i64::try_from(dice >> 50).unwrap_or(0) + 1;
        Raw {
            service,
            model,
            tokens,
            time,
        }
    }

    pub(crate) fn usage(&self, n: u64, identity: &mut IdentityBuilder) -> Usage {
        let raw = self.raw(n);
        let (class, _) = self.classes[usize::try_from(raw.model).unwrap_or(0)];
        Usage {
            record: RecordId::new(millrace_operators::domain::FileId(0), n),
            identity: identity.field(&n.to_le_bytes()).finish(),
            service: millrace_operators::domain::ServiceKey::of(&[
                "llm",
                &service_name(raw.service),
            ]),
            class,
            time: EventTime(raw.time),
            quantities: [raw.tokens].into_iter().collect(),
            mark: None,
        }
    }

    pub(crate) fn account(&self, n: u64, names: &Names) -> Account {
        Account {
            key: names.enter_account(&account_name(n)),
            currency: names.enter("USD"),
            profile: BillingProfile::default(),
        }
    }

    pub(crate) fn subscription(&self, account: u64, list: &str, names: &Names) -> Subscription {
        Subscription {
            key: names.enter_subscription(&format!("sub-{account}")),
            account: names.enter_account(&account_name(account)),
            group: names.enter(&format!("sub-{account}")),
            price_lists: [names.enter(list)].into_iter().collect(),
            valid: Period::ALWAYS,
            status: SubscriptionStatus::Active,
        }
    }

    pub(crate) fn service(&self, n: u64, names: &Names) -> ServiceUse {
        ServiceUse {
            service: names.enter_service("llm", &service_name(n)),
            subscription: names.enter_subscription(&format!("sub-{}", n / SERVICES_PER_ACCOUNT)),
            valid: Period::ALWAYS,
        }
    }

    /// The price of a model on a list, in USD per 1,000,000 tokens.
    pub(crate) fn price(&self, list: &str, model: u64, cents: u64, names: &Names) -> PriceRow {
        let name = model_name(model);
        // In the hundredth part of a cent per 1,000,000 tokens.
        let price = |percent: u64| {
            Price::parse(&format!("{}e-4", cents * percent)).expect("digits are a price")
        };
        let tiers = TIERS.iter().map(|(from, percent)| Tier {
            from: units(*from),
            price: price(*percent),
            per: 1_000_000,
        });
        let model = match self.planned && list == "standard" {
            true => PriceModel::Graduated {
                tiers: tiers.collect(),
                by: TierReference::Accumulator(names.enter("total")),
            },
            false => PriceModel::PerUnit {
                price: price(100),
                per: 1_000_000,
            },
        };
        PriceRow {
            key: names.enter_price(&format!("{list}/{name}")),
            list: names.enter(list),
            account: None,
            item: names.enter("tokens"),
            conditions: vec![Condition {
                attribute: names.enter("model"),
                value: names.enter(&name),
            }],
            priority: 0,
            valid: Period::ALWAYS,
            model,
            currency: names.enter("USD"),
        }
    }

    pub(crate) fn prices(&self, names: &Names) -> Vec<PriceRow> {
        let lists = [("standard", 100), ("negotiated", 80)];
        let rows = lists.iter().flat_map(|(list, percent)| {
            (0..MODELS).map(move |model| (*list, model, list_price(model) * percent / 100))
        });
        rows.map(|(list, model, cents)| self.price(list, model, cents, names))
            .collect()
    }
}

fn units(whole: u64) -> i128 {
    let whole = i64::try_from(whole).unwrap_or(i64::MAX);
    Quantity::new(whole, 0).map_or(0, |quantity| quantity.0)
}

/// List price in cents per 1,000,000 tokens.
pub(crate) fn list_price(model: u64) -> u64 {
    100 + mix(model) % 2_000
}

pub(crate) fn model_name(n: u64) -> String {
    format!("model-{n:03}")
}

pub(crate) fn service_name(n: u64) -> String {
    format!("key-{n:07}")
}

pub(crate) fn account_name(n: u64) -> String {
    format!("acct-{n:06}")
}
