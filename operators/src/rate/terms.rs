//! The terms that usage takes along to ordered charging.

use super::book::Prices;
use crate::domain::{ClassKey, PriceRow, ServiceKey, Terms, TermsItem, TermsKey, UsageClass};
use crate::guide::Guided;
use smallvec::SmallVec;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Makes terms, and keeps those made last: the next record of the service and class has the same, but
/// where a guide or a price changes.
#[derive(Default)]
pub(super) struct TermsMaker {
    last: Option<Arc<Terms>>,
}

impl TermsMaker {
    /// The terms of a class of usage of a service, under a guide and prices.
    pub(super) fn terms(
        &mut self,
        service: ServiceKey,
        (class_key, class): (ClassKey, &UsageClass),
        guided: &Guided,
        prices: &Prices,
    ) -> Arc<Terms> {
        if let Some(last) = &self.last
            && (last.service, last.class) == (service, class_key)
            && are_under(last, guided)
            && are_at(last, prices)
        {
            return Arc::clone(last);
        }
        let items = class.items.iter().zip(prices).map(|(item, row)| TermsItem {
            name: item.name,
            scale: item.scale,
            price: row.key,
            list: row.list,
            model: row.model.clone(),
        });
        let items: SmallVec<[TermsItem; 3]> = items.collect();
        let made = Arc::new(Terms {
            key: key(service, class_key, guided, &items),
            group: guided.group,
            service,
            class: class_key,
            subscription: guided.subscription,
            account: guided.account,
            profile: guided.profile,
            currency: guided.currency,
            items,
        });
        self.last = Some(Arc::clone(&made));
        made
    }
}

fn are_under(terms: &Terms, guided: &Guided) -> bool {
    terms.subscription == guided.subscription
        && terms.group == guided.group
        && terms.account == guided.account
        && terms.currency == guided.currency
        && terms.profile == guided.profile
}

fn are_at(terms: &Terms, prices: &Prices) -> bool {
    let same = |(item, row): (&TermsItem, &Rc<PriceRow>)| {
        (item.price, item.list) == (row.key, row.list) && item.model == row.model
    };
    terms.items.len() == prices.len() && terms.items.iter().zip(prices).all(same)
}

/// The hash of all that terms say.
fn key(service: ServiceKey, class: ClassKey, guided: &Guided, items: &[TermsItem]) -> TermsKey {
    let mut hash = Xxh3::new();
    (service, class, guided.subscription, guided.group).hash(&mut hash);
    (guided.account, guided.currency, guided.profile).hash(&mut hash);
    items.hash(&mut hash);
    TermsKey(hash.digest128())
}
