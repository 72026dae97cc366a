//! The rating kernel: what one record comes to, given where it goes and at which prices. Usage whose
//! price may depend on the usage before goes on, with its terms, to be charged in order.

use super::book::{Found, Prices, RateFault};
use super::open_usage::OpenRecord;
use super::rating::Rating;
use super::terms::TermsMaker;
use crate::domain::{
    Amount, Charge, ClassKey, Name, PriceKey, PriceRow, PricedUsage, Reason, ServiceKey, Suspense,
    UsageClass,
};
use crate::guide::Guided;
use smallvec::SmallVec;
use std::rc::Rc;

/// Where usage goes and at which prices, or why it cannot go anywhere.
pub(super) type Resolved<'a> = Result<Terms<'a>, RateFault>;

/// Where usage goes and at which prices; what is wrong with them may not concern every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms<'a> {
    guided: &'a Guided,
    prices: &'a Found,
    /// The first item whose price is in another currency than the account's.
    foreign: Option<Name>,
}

impl<'a> Terms<'a> {
    /// The prices of a record with these quantities, or why it waits.
    fn of(&self, quantities: &[i64]) -> Result<(&'a Guided, &'a Prices), RateFault> {
        let mut faults = self.prices.faults.iter();
        if let Some(fault) = faults.find(|fault| fault.stops(quantities)) {
            return Err(RateFault {
                reason: fault.reason,
                item: Some(fault.item),
            });
        }
        match self.foreign {
            Some(item) => Err(RateFault {
                reason: Reason::CurrencyMismatch,
                item: Some(item),
            }),
            None => Ok((self.guided, &self.prices.rows)),
        }
    }
}

/// Joins a guide segment and a price segment; there are prices wherever there is a guide.
pub(super) fn resolve<'a>(
    guide: &'a Result<Guided, Reason>,
    prices: Option<&'a Found>,
) -> Resolved<'a> {
    let fault = |reason| RateFault { reason, item: None };
    let guided = guide.as_ref().map_err(|reason| fault(*reason))?;
    let prices = prices.ok_or_else(|| fault(Reason::PriceNotFound))?;
    let is_foreign =
        |price: &&Rc<PriceRow>| price.currency != guided.currency && price.key != PriceKey::NONE;
    let foreign = prices.rows.iter().find(is_foreign).map(|price| price.item);
    Ok(Terms {
        guided,
        prices,
        foreign,
    })
}

/// Whether a record with these quantities is charged in order by what is found.
pub(super) fn is_ordered(resolved: &Resolved<'_>, quantities: &[i64]) -> bool {
    let terms = resolved.as_ref().ok();
    let found = terms.and_then(|terms| terms.of(quantities).ok());
    found.is_some_and(|(guided, prices)| are_ordered(guided, prices))
}

fn are_ordered(guided: &Guided, prices: &Prices) -> bool {
    guided.ordered || prices.iter().any(|price| price.model.is_ordered())
}

/// The kernel: what one record comes to.
pub(super) fn rate_record(
    service: ServiceKey,
    (class_key, class): (ClassKey, &UsageClass),
    record: &OpenRecord<'_>,
    resolved: &Resolved<'_>,
    maker: &mut TermsMaker,
    emit: &mut impl FnMut(Rating),
) {
    let suspend = |fault: RateFault| {
        Rating::Suspense(Suspense {
            record: record.record,
            reason: fault.reason,
            service,
            class: class_key,
            time: record.time,
            item: fault.item,
            original: None,
        })
    };
    let terms = resolved.as_ref().map_err(|fault| *fault);
    let (guided, prices) = match terms.and_then(|terms| terms.of(record.quantities)) {
        Ok(found) => found,
        Err(fault) => return emit(suspend(fault)),
    };
    if are_ordered(guided, prices) {
        return emit(Rating::Priced(PricedUsage {
            time: record.time,
            record: record.record,
            terms: maker.terms(service, (class_key, class), guided, prices),
            quantities: record.quantities.into(),
        }));
    }
    let mut amounts = SmallVec::<[Amount; 4]>::new();
    for ((item, price), quantity) in class.items.iter().zip(prices.iter()).zip(record.quantities) {
        match price.model.amount(*quantity, item.scale) {
            Some(amount) => amounts.push(amount),
            None => {
                let item = Some(item.name);
                return emit(suspend(RateFault {
                    reason: Reason::AmountOutOfRange,
                    item,
                }));
            }
        }
    }
    for (index, ((price, quantity), amount)) in prices
        .iter()
        .zip(record.quantities)
        .zip(amounts)
        .enumerate()
    {
        emit(Rating::Charge(Charge {
            record: record.record,
            item: u8::try_from(index).expect("mediation refuses rules with more than 255 items"),
            time: record.time,
            service,
            class: class_key,
            subscription: guided.subscription,
            account: guided.account,
            profile: guided.profile,
            price: price.key,
            currency: guided.currency,
            quantity: *quantity,
            amount,
        }));
    }
}
