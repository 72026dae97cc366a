//! The rating kernel: what one record comes to, given where it goes and at which prices. Usage whose
//! price may depend on the usage before goes on, with its terms, to be charged in order.

use super::Rating;
use super::book::{Prices, RateFault};
use super::open_usage::OpenRecord;
use super::terms::TermsMaker;
use crate::domain::{
    Amount, Charge, ClassKey, PricedUsage, Reason, ServiceKey, Suspense, UsageClass,
};
use crate::guide::Guided;
use smallvec::SmallVec;

/// Where a record goes and at which prices, or why it cannot.
pub(super) type Resolved<'a> = Result<(&'a Guided, &'a Prices), RateFault>;

/// Joins a guide segment and a price segment.
pub(super) fn resolve<'a>(
    guide: &'a Result<Guided, Reason>,
    prices: &'a Result<Prices, RateFault>,
) -> Resolved<'a> {
    let guided = guide.as_ref().map_err(|reason| RateFault {
        reason: *reason,
        item: None,
    })?;
    let prices = prices.as_ref().map_err(|fault| *fault)?;
    match prices
        .iter()
        .find(|price| price.currency != guided.currency)
    {
        Some(price) => Err(RateFault {
            reason: Reason::CurrencyMismatch,
            item: Some(price.item),
        }),
        None => Ok((guided, prices)),
    }
}

/// Whether what is found charges records in order.
pub(super) fn is_ordered(resolved: &Resolved<'_>) -> bool {
    let ordered = |(guided, prices): &(&Guided, &Prices)| {
        guided.ordered || prices.iter().any(|price| price.model.is_ordered())
    };
    resolved.as_ref().is_ok_and(ordered)
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
    let (guided, prices) = match resolved {
        Ok(found) => found,
        Err(fault) => return emit(suspend(*fault)),
    };
    if is_ordered(resolved) {
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
            currency: price.currency,
            quantity: *quantity,
            amount,
        }));
    }
}
