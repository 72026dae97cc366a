//! The name book: the text behind the 64-bit keys that the dataflow carries.
//!
//! One book is shared by all workers of a process. Keys are pure functions of their text, so the
//! order of entries does not matter; entering a second text under a taken key stops the job, which
//! is what keeps two customers from ever sharing a key.

use millrace_operators::domain::{
    AccountKey, ClassKey, GroupKey, Name, PlanKey, PriceKey, ServiceKey, SubscriptionKey,
    UsageClass,
};
use std::collections::HashMap;
use std::sync::{Arc, RwLock};

const SHARDS: usize = 64;

type Shard<V> = RwLock<HashMap<u64, V>>;

/// A sharded map from key to text; reads of different keys seldom meet.
#[derive(Debug)]
struct Texts(Vec<Shard<Arc<str>>>);

impl Default for Texts {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| RwLock::default()).collect())
    }
}

impl Texts {
    fn shard(&self, key: u64) -> &Shard<Arc<str>> {
        &self.0[usize::try_from(key >> 58).unwrap_or(0) % SHARDS]
    }

    fn enter(&self, key: u64, text: &str) {
        let shard = self.shard(key);
        let known = |held: &Arc<str>| {
            assert!(
                **held == *text,
                "the names {held:?} and {text:?} have the same 64-bit key; rename one of them"
            );
        };
        if let Some(held) = shard
            .read()
            .expect("the name book is not poisoned")
            .get(&key)
        {
            return known(held);
        }
        let mut shard = shard.write().expect("the name book is not poisoned");
        known(shard.entry(key).or_insert_with(|| Arc::from(text)));
    }

    fn text(&self, key: u64) -> Option<Arc<str>> {
        self.shard(key)
            .read()
            .expect("the name book is not poisoned")
            .get(&key)
            .map(Arc::clone)
    }
}

/// The texts behind the keys, and the classes behind theirs.
#[derive(Debug, Default)]
pub struct Names {
    names: Texts,
    services: Texts,
    accounts: Texts,
    subscriptions: Texts,
    prices: Texts,
    plans: Texts,
    groups: Texts,
    classes: RwLock<HashMap<ClassKey, Arc<UsageClass>>>,
}

macro_rules! book {
    ($enter:ident, $text:ident, $field:ident, $key:ty, $what:literal) => {
        #[doc = concat!("Enters ", $what, " and returns its key.")]
        ///
        /// # Panics
        /// When another text already has the same key.
        pub fn $enter(&self, text: &str) -> $key {
            let key = <$key>::of(&[text]);
            self.$field.enter(key.0, text);
            key
        }

        #[doc = concat!("The text of ", $what, "; the key in hexadecimal if it was never entered.")]
        #[must_use]
        pub fn $text(&self, key: $key) -> Arc<str> {
            self.$field
                .text(key.0)
                .unwrap_or_else(|| Arc::from(format!("#{:016x}", key.0)))
        }
    };
}

impl Names {
    book!(enter, text, names, Name, "a name");
    book!(enter_account, account, accounts, AccountKey, "an account");
    book!(
        enter_subscription,
        subscription,
        subscriptions,
        SubscriptionKey,
        "a subscription"
    );
    book!(enter_price, price, prices, PriceKey, "a price row");
    book!(enter_plan, plan, plans, PlanKey, "a plan row");

    /// Enters a service and returns its key.
    ///
    /// # Panics
    /// When another service already has the same key.
    pub fn enter_service(&self, service_type: &str, id: &str) -> ServiceKey {
        let key = ServiceKey::of(&[service_type, id]);
        if self
            .services
            .text(key.0)
            .is_none_or(|held| !same_service(&held, service_type, id))
        {
            self.services
                .enter(key.0, &format!("{service_type}\u{1f}{id}"));
        }
        key
    }

    /// The service's type and id; the key in hexadecimal if it was never entered.
    #[must_use]
    pub fn service(&self, key: ServiceKey) -> (Arc<str>, Arc<str>) {
        let text = self.services.text(key.0);
        match text.as_deref().and_then(|text| text.split_once('\u{1f}')) {
            Some((service_type, id)) => (Arc::from(service_type), Arc::from(id)),
            None => (Arc::from(""), Arc::from(format!("#{:016x}", key.0))),
        }
    }

    /// Enters the balance group of a pool in a currency and returns its key.
    ///
    /// # Panics
    /// When another group already has the same key.
    pub fn enter_group(&self, pool: &str, currency: &str) -> GroupKey {
        let key = GroupKey::of_pool(self.enter(pool), self.enter(currency));
        self.groups.enter(key.0, &format!("{pool}\u{1f}{currency}"));
        key
    }

    /// The balance group's pool and currency; the key in hexadecimal if it was never entered.
    #[must_use]
    pub fn group(&self, key: GroupKey) -> (Arc<str>, Arc<str>) {
        let text = self.groups.text(key.0);
        match text.as_deref().and_then(|text| text.split_once('\u{1f}')) {
            Some((pool, currency)) => (Arc::from(pool), Arc::from(currency)),
            None => (Arc::from(format!("#{:016x}", key.0)), Arc::from("")),
        }
    }

    /// Enters a class and returns its key.
    ///
    /// # Panics
    /// When another class already has the same key.
    pub fn enter_class(&self, class: &UsageClass) -> ClassKey {
        let key = class.key();
        let mut classes = self.classes.write().expect("the name book is not poisoned");
        let held = classes
            .entry(key)
            .or_insert_with(|| Arc::new(class.clone()));
        assert!(
            **held == *class,
            "two usage classes have the same 64-bit key: {held:?}, {class:?}"
        );
        key
    }

    /// The class behind a key.
    ///
    /// # Panics
    /// After a panic while the book was written to, which ends the process anyway.
    #[must_use]
    pub fn class(&self, key: ClassKey) -> Option<Arc<UsageClass>> {
        self.classes
            .read()
            .expect("the name book is not poisoned")
            .get(&key)
            .map(Arc::clone)
    }
}

fn same_service(held: &str, service_type: &str, id: &str) -> bool {
    held.strip_prefix(service_type)
        .and_then(|rest| rest.strip_prefix('\u{1f}'))
        .is_some_and(|rest| rest == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back() {
        let names = Names::default();
        let model = names.enter("model");
        assert_eq!(model, Name::new("model"));
        assert_eq!(&*names.text(model), "model");
        let service = names.enter_service("voice", "+420 123");
        let (service_type, id) = names.service(service);
        assert_eq!((&*service_type, &*id), ("voice", "+420 123"));
        let family = names.enter_group("family", "EUR");
        assert_ne!(family, names.enter_group("family", "CZK"));
        let (pool, currency) = names.group(family);
        assert_eq!((&*pool, &*currency), ("family", "EUR"));
        assert!(names.text(Name(7)).starts_with('#'));
    }

    #[test]
    #[should_panic(expected = "same 64-bit key")]
    fn a_taken_key_stops_the_job() {
        let texts = Texts::default();
        texts.enter(1, "acme");
        texts.enter(1, "acne");
    }
}
