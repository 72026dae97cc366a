//! Where a record goes and what it costs, asked anew for every record.

use super::charging::parts_of_tiers;
use super::{World, money, suspense};
use millrace_operators::domain::{
    Account, Amount, Charge, EventTime, GroupKey, Item, Name, Period, Price, PriceKey, PriceModel,
    PriceRow, Reason, Subscription, SubscriptionStatus, Suspense, TierReference, Usage, UsageClass,
};
use std::sync::LazyLock;

/// The price of nothing.
static FREE: LazyLock<PriceRow> = LazyLock::new(|| PriceRow {
    key: PriceKey::NONE,
    list: Name::default(),
    account: None,
    item: Name::default(),
    conditions: Vec::new(),
    priority: 0,
    valid: Period::ALWAYS,
    model: PriceModel::PerUnit {
        price: Price::parse("0").expect("0 is a price"),
        per: 1,
    },
    currency: Name::default(),
});

/// Who pays.
#[derive(Clone, Copy)]
struct Payer<'a> {
    account: &'a Account,
    terms: &'a Subscription,
}

/// A record that knows who pays and at which prices.
pub(super) struct Priced<'a> {
    pub(super) usage: &'a Usage,
    pub(super) group: GroupKey,
    /// Its items, each with its price.
    pub(super) rows: Vec<(Item, &'a PriceRow)>,
    payer: Payer<'a>,
}

impl Priced<'_> {
    /// The charge of an item.
    pub(super) fn charge(&self, index: usize, amount: Amount) -> Charge {
        let (_, row) = self.rows[index];
        Charge {
            record: self.usage.record,
            item: u8::try_from(index).expect("classes have few items"),
            time: self.usage.time,
            service: self.usage.service,
            class: self.usage.class,
            subscription: self.payer.terms.key,
            account: self.payer.account.key,
            profile: self.payer.account.profile,
            price: row.key,
            currency: self.payer.account.currency,
            quantity: self.usage.quantities[index],
            amount,
        }
    }
}

/// What becomes of a record.
pub(super) enum Rated<'a> {
    /// One charge per item.
    Charged(Vec<Charge>),
    /// What came before decides.
    InOrder(Priced<'a>),
}

/// The charges of a record, one per item, or the first reason against them.
pub(super) fn rate<'a>(world: &'a World, usage: &'a Usage) -> Result<Rated<'a>, Suspense> {
    let fault = |(reason, item)| suspense(usage, reason, item, None);
    let payer = payer(world, usage).map_err(|reason| fault((reason, None)))?;
    let class = &world.classes[&usage.class];
    let mut priced: Vec<(Item, &PriceRow)> = Vec::new();
    for (item, quantity) in class.items.iter().zip(&usage.quantities) {
        match price(world, &payer, class, *item, usage.time) {
            Ok(row) => priced.push((*item, row)),
            // Nothing of an item without a price needs none.
            Err(Reason::PriceNotFound | Reason::PriceNotEffective) if *quantity == 0 => {
                priced.push((*item, &FREE));
            }
            Err(reason) => return Err(fault((reason, Some(*item)))),
        }
    }
    for (item, row) in &priced {
        if row.key != FREE.key && row.currency != payer.account.currency {
            return Err(fault((Reason::CurrencyMismatch, Some(*item))));
        }
    }
    let group = GroupKey::of_pool(payer.terms.group, payer.account.currency);
    let priced = Priced {
        usage,
        group,
        rows: priced,
        payer,
    };
    let looks_back = |(_, row): &(Item, &PriceRow)| match &row.model {
        PriceModel::Graduated { by, .. } => *by != TierReference::Record,
        PriceModel::Volume { .. } | PriceModel::Package { .. } => true,
        PriceModel::PerUnit { .. } | PriceModel::PerBlock { .. } | PriceModel::PerRecord { .. } => {
            false
        }
    };
    if has_a_plan(world, group) || priced.rows.iter().any(looks_back) {
        return Ok(Rated::InOrder(priced));
    }
    let mut charges = Vec::new();
    for (index, (item, row)) in priced.rows.iter().enumerate() {
        let amount = amount(&row.model, usage.quantities[index], item.scale)
            .ok_or_else(|| fault((Reason::AmountOutOfRange, Some(*item))))?;
        charges.push(priced.charge(index, amount));
    }
    Ok(Rated::Charged(charges))
}

/// Whether any subscription of the group, at any time, has a list that gives an allowance, an
/// accumulator or a cap in the group's currency.
fn has_a_plan(world: &World, group: GroupKey) -> bool {
    world.subscriptions.iter().any(|terms| {
        let mut accounts = world.accounts.iter().filter(|a| a.key == terms.account);
        accounts.any(|account| {
            let mut rows = world.plans.iter();
            GroupKey::of_pool(terms.group, account.currency) == group
                && rows.any(|row| {
                    terms.price_lists.contains(&row.list)
                        && row.part.orders_usage()
                        && row.part.currency().is_none_or(|c| c == account.currency)
                })
        })
    })
}

pub(super) fn holds(period: Period, time: EventTime) -> bool {
    period.start() <= time && time < period.end()
}

/// Everything that claims the service at the time of usage, and what comes of it: one active
/// subscription serves, whatever else claims; two that differ cannot be told apart; with none, the
/// reason that is asked first.
fn payer<'a>(world: &'a World, usage: &Usage) -> Result<Payer<'a>, Reason> {
    let rows: Vec<_> = world
        .services
        .iter()
        .filter(|row| row.service == usage.service)
        .collect();
    if rows.is_empty() {
        return Err(Reason::ServiceUnknown);
    }
    let mut serving: Vec<Payer<'a>> = Vec::new();
    let mut reasons: Vec<Reason> = Vec::new();
    for row in rows.iter().filter(|row| holds(row.valid, usage.time)) {
        let mut of_key = world
            .subscriptions
            .iter()
            .filter(|terms| terms.key == row.subscription)
            .peekable();
        if of_key.peek().is_none() {
            reasons.push(Reason::SubscriptionUnknown);
        }
        for terms in of_key.filter(|terms| holds(terms.valid, usage.time)) {
            let accounts: Vec<&Account> = world
                .accounts
                .iter()
                .filter(|account| account.key == terms.account)
                .collect();
            if accounts.is_empty() {
                reasons.push(Reason::AccountUnknown);
            } else if terms.status != SubscriptionStatus::Active {
                reasons.push(Reason::SubscriptionNotActive);
            } else {
                serving.extend(accounts.iter().map(|account| Payer { account, terms }));
            }
        }
    }
    let Some(first) = serving.pop() else {
        // No claim at this time at all: known, but not in effect.
        return Err(reasons
            .into_iter()
            .min()
            .unwrap_or(Reason::ServiceNotEffective));
    };
    let alike = |other: &Payer<'_>| {
        other.account == first.account
            && other.terms.key == first.terms.key
            && other.terms.group == first.terms.group
            && other.terms.price_lists == first.terms.price_lists
    };
    if serving.iter().all(alike) {
        Ok(first)
    } else {
        Err(Reason::ServiceAmbiguous)
    }
}

/// The row that prices an item: the account's own prices are asked before the lists, the lists in
/// the subscription's order, and the first of them with a row in force decides.
fn price<'a>(
    world: &'a World,
    payer: &Payer<'_>,
    class: &UsageClass,
    item: Item,
    time: EventTime,
) -> Result<&'a PriceRow, Reason> {
    let fits = |row: &&PriceRow| {
        let has = |attribute, value| {
            class
                .attributes
                .iter()
                .any(|(name, held)| *name == attribute && *held == value)
        };
        row.item == item.name && row.conditions.iter().all(|c| has(c.attribute, c.value))
    };
    let own = |row: &&PriceRow| row.account == Some(payer.account.key);
    let mut sources: Vec<Vec<&PriceRow>> = Vec::new();
    sources.push(world.prices.iter().filter(fits).filter(own).collect());
    for list in &payer.terms.price_lists {
        let of_list = |row: &&PriceRow| row.account.is_none() && row.list == *list;
        sources.push(world.prices.iter().filter(fits).filter(of_list).collect());
    }
    if sources.iter().all(Vec::is_empty) {
        return Err(Reason::PriceNotFound);
    }
    for rows in sources {
        let in_force: Vec<&PriceRow> = rows
            .into_iter()
            .filter(|row| holds(row.valid, time))
            .collect();
        let better = |a: &PriceRow, b: &PriceRow| {
            a.conditions.len() > b.conditions.len()
                || (a.conditions.len() == b.conditions.len() && a.priority > b.priority)
        };
        let best: Vec<&PriceRow> = in_force
            .iter()
            .copied()
            .filter(|row| !in_force.iter().any(|other| better(other, row)))
            .collect();
        match best[..] {
            [] => {}
            [row] => return Ok(row),
            _ => return Err(Reason::PriceAmbiguous),
        }
    }
    Err(Reason::PriceNotEffective)
}

/// The amount of a quantity under a model; nothing when it is past the range of amounts.
pub(super) fn amount(model: &PriceModel, quantity: i64, decimals: u8) -> Option<Amount> {
    let decimals = u32::from(decimals);
    match *model {
        PriceModel::PerUnit { price, per } => {
            let price = (price.mantissa(), price.scale());
            money::times(price, (i128::from(quantity), decimals), per.into())
        }
        PriceModel::PerBlock { price, block } => {
            let block = i128::from(block) * 10_i128.pow(decimals);
            let mut blocks = i128::from(quantity) / block;
            if blocks * block < i128::from(quantity) {
                blocks += 1;
            }
            money::times((price.mantissa(), price.scale()), (blocks, 0), 1)
        }
        PriceModel::PerRecord { price } => {
            money::times((price.mantissa(), price.scale()), (1, 0), 1)
        }
        PriceModel::Graduated { ref tiers, .. } => {
            let units = i128::from(quantity) * 10_i128.pow(12 - decimals);
            let parts = parts_of_tiers(tiers, 0, units)?;
            parts
                .iter()
                .try_fold(0_i128, |sum, part| sum.checked_add(part.amount))
                .map(Amount)
        }
        PriceModel::Volume { .. } | PriceModel::Package { .. } => None,
    }
}
