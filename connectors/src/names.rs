//! The name book: the text behind the 64-bit keys that the dataflow carries.
//!
//! One book is shared by all workers of a process. Keys are pure functions of their text, so the
//! order of entries does not matter; entering a second text under a taken key stops the job, which
//! is what keeps two customers from ever sharing a key. Asking for a text that nobody has entered is
//! noted, and whoever writes outputs looks: a key is no name, and rows with it would not take back those
//! that were written with the name.

use millrace_operators::domain::{
    AccountKey, ClassKey, GroupKey, Name, PlanKey, PriceKey, ServiceKey, SubscriptionKey,
    UsageClass,
};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::mem::{Discriminant, discriminant};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

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

    /// Enters a text; says whether it is new.
    fn enter(&self, key: u64, text: &str) -> bool {
        self.enter_shared(key, text, || None)
    }

    /// The same of a text that may be held elsewhere, and is then held once.
    fn enter_shared(&self, key: u64, text: &str, held: impl FnOnce() -> Option<Arc<str>>) -> bool {
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
            known(held);
            return false;
        }
        let mut shard = shard.write().expect("the name book is not poisoned");
        let mut new = false;
        known(shard.entry(key).or_insert_with(|| {
            new = true;
            let held = held().filter(|held| **held == *text);
            held.unwrap_or_else(|| Arc::from(text))
        }));
        new
    }

    /// All texts, in no order.
    fn all(&self) -> Vec<Arc<str>> {
        let shards = self.0.iter();
        let texts = shards.map(|shard| shard.read().expect("the name book is not poisoned"));
        texts
            .flat_map(|texts| texts.values().map(Arc::clone).collect::<Vec<_>>())
            .collect()
    }

    fn text(&self, key: u64) -> Option<Arc<str>> {
        self.shard(key)
            .read()
            .expect("the name book is not poisoned")
            .get(&key)
            .map(Arc::clone)
    }
}

/// Balance groups by key, each the keys of its pool and currency: their texts are names.
type Groups = RwLock<HashMap<GroupKey, (Name, Name)>>;

/// A text as it was entered, so that it can be entered again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entered {
    /// A name.
    Name(String),
    /// A service: its type and id.
    Service(String, String),
    /// An account.
    Account(String),
    /// A subscription.
    Subscription(String),
    /// A price row.
    Price(String),
    /// A plan row.
    Plan(String),
    /// A balance group: its pool and currency.
    Group(String, String),
}

impl Entered {
    /// The key of the text, among those of its kind.
    fn key(&self) -> (Discriminant<Self>, u64) {
        let key = match self {
            Self::Name(text) => Name::new(text).0,
            Self::Service(service_type, id) => ServiceKey::of(&[service_type, id]).0,
            Self::Account(text) => AccountKey::of(&[text]).0,
            Self::Subscription(text) => SubscriptionKey::of(&[text]).0,
            Self::Price(text) => PriceKey::of(&[text]).0,
            Self::Plan(text) => PlanKey::of(&[text]).0,
            Self::Group(pool, currency) => {
                GroupKey::of_pool(Name::new(pool), Name::new(currency)).0
            }
        };
        (discriminant(self), key)
    }
}

/// Texts that are durable on their way into a book. What the book has noted before stays noted unless it is
/// among them: whoever made them durable need not have known what this run was told.
#[derive(Debug)]
pub struct Restoring<'n> {
    names: &'n Names,
    noted: Vec<Entered>,
    durable: HashSet<(Discriminant<Entered>, u64)>,
}

impl Restoring<'_> {
    /// Enters a text that is durable.
    ///
    /// # Panics
    /// When another text already has the same key.
    pub fn enter(&mut self, entered: &Entered) {
        let key = self.names.enter_again(entered);
        if !self.noted.is_empty() {
            self.durable.insert((discriminant(entered), key));
        }
    }

    /// Everything durable is entered.
    ///
    /// # Panics
    /// After a panic while the book was written to, which ends the process anyway.
    pub fn finish(self) {
        let Self {
            names,
            mut noted,
            durable,
        } = self;
        drop(names.entered());
        noted.retain(|entered| !durable.contains(&entered.key()));
        if let Some(log) = &names.log {
            let mut log = log.lock().expect("the name book is not poisoned");
            log.append(&mut noted);
        }
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
    groups: Groups,
    classes: RwLock<HashMap<ClassKey, Arc<UsageClass>>>,
    /// What was entered since it was last asked for, where somebody asks.
    log: Option<Mutex<Vec<Entered>>>,
    /// The first key that was asked for and has no text.
    unknown: OnceLock<UnknownName>,
}

/// A key whose text nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody knows the text behind {what} {key}, so nothing is written with it")]
pub struct UnknownName {
    what: &'static str,
    key: String,
}

macro_rules! book {
    ($enter:ident, $text:ident, $known:ident, $field:ident, $key:ty, $entered:ident, $what:literal) => {
        book!($enter, $text, $known, $field, $key, $entered, $what, held_nowhere);
    };
    ($enter:ident, $text:ident, $known:ident, $field:ident, $key:ty, $entered:ident, $what:literal, $held:ident) => {
        #[doc = concat!("Enters ", $what, " and returns its key.")]
        ///
        /// # Panics
        /// When another text already has the same key.
        pub fn $enter(&self, text: &str) -> $key {
            let key = <$key>::of(&[text]);
            if self.$field.enter_shared(key.0, text, || self.$held(text)) {
                self.note(|| Entered::$entered(text.to_owned()));
            }
            key
        }

        #[doc = concat!(
            "The text of ", $what, ", and `-` for the key of none. Of one that was never entered it is the ",
            "key in hexadecimal, which [`Self::check`] refuses."
        )]
        #[must_use]
        pub fn $text(&self, key: $key) -> Arc<str> {
            self.$known(key).unwrap_or_else(|| match key.0 {
                0 => Arc::from("-"),
                key => self.miss($what, key),
            })
        }

        #[doc = concat!("The text of ", $what, ", if it was ever entered.")]
        #[must_use]
        pub fn $known(&self, key: $key) -> Option<Arc<str>> {
            self.$field.text(key.0)
        }
    };
}

impl Names {
    book!(
        enter,
        text,
        known_text,
        names,
        Name,
        Name,
        "a name",
        held_of_subscription
    );
    book!(
        enter_account,
        account,
        known_account,
        accounts,
        AccountKey,
        Account,
        "an account"
    );
    book!(
        enter_subscription,
        subscription,
        known_subscription,
        subscriptions,
        SubscriptionKey,
        Subscription,
        "a subscription"
    );
    book!(
        enter_price,
        price,
        known_price,
        prices,
        PriceKey,
        Price,
        "a price row"
    );
    book!(
        enter_plan,
        plan,
        known_plan,
        plans,
        PlanKey,
        Plan,
        "a plan row"
    );

    fn held_nowhere(&self, _: &str) -> Option<Arc<str>> {
        None
    }

    /// Most subscriptions are a pool of their own, named like them.
    fn held_of_subscription(&self, text: &str) -> Option<Arc<str>> {
        self.known_subscription(SubscriptionKey::of(&[text]))
    }

    /// A book that notes what is entered, for [`Self::entered`].
    #[must_use]
    pub fn noting() -> Self {
        Self {
            log: Some(Mutex::default()),
            ..Self::default()
        }
    }

    fn note(&self, entered: impl FnOnce() -> Entered) {
        if let Some(log) = &self.log {
            let mut log = log.lock().expect("the name book is not poisoned");
            log.push(entered());
        }
    }

    /// Begins to enter what is durable.
    #[must_use]
    pub fn restoring(&self) -> Restoring<'_> {
        Restoring {
            names: self,
            noted: self.entered(),
            durable: HashSet::new(),
        }
    }

    /// A key without a text, as it is told until [`Self::check`] refuses it.
    pub(crate) fn miss(&self, what: &'static str, key: u64) -> Arc<str> {
        let key = format!("#{key:016x}");
        let text = Arc::from(key.as_str());
        self.unknown.get_or_init(|| UnknownName { what, key });
        text
    }

    /// Whether every text that was ever asked for is known.
    ///
    /// # Errors
    /// When one is not: what was made of it must not leave the house.
    pub fn check(&self) -> Result<(), UnknownName> {
        self.unknown
            .get()
            .map_or(Ok(()), |unknown| Err(unknown.clone()))
    }

    /// What was entered since the last call, by a book that notes it.
    ///
    /// # Panics
    /// After a panic while the book was written to, which ends the process anyway.
    #[must_use]
    pub fn entered(&self) -> Vec<Entered> {
        let log = self.log.as_ref();
        log.map_or_else(Vec::new, |log| {
            std::mem::take(&mut *log.lock().expect("the name book is not poisoned"))
        })
    }

    /// Everything that was ever entered, in no order, for another book; classes apart.
    ///
    /// # Panics
    /// After a panic while the book was written to, which ends the process anyway.
    #[must_use]
    pub fn all(&self) -> Vec<Entered> {
        let pair = |text: Arc<str>| {
            let (first, second) = text.split_once('\u{1f}').unwrap_or((&text, ""));
            (first.to_owned(), second.to_owned())
        };
        let mut all = Vec::new();
        let mut add = |texts: &Texts, entered: fn(String) -> Entered| {
            all.extend(
                texts
                    .all()
                    .into_iter()
                    .map(|text| entered(text.to_string())),
            );
        };
        add(&self.names, Entered::Name);
        add(&self.accounts, Entered::Account);
        add(&self.subscriptions, Entered::Subscription);
        add(&self.prices, Entered::Price);
        add(&self.plans, Entered::Plan);
        let services = self.services.all().into_iter().map(pair);
        all.extend(services.map(|(first, second)| Entered::Service(first, second)));
        let groups = self.groups.read().expect("the name book is not poisoned");
        let text = |name| self.text(name).to_string();
        let groups = groups.values();
        all.extend(groups.map(|(pool, currency)| Entered::Group(text(*pool), text(*currency))));
        all
    }

    /// Enters what was entered before, and returns its key.
    ///
    /// # Panics
    /// When another text already has the same key.
    pub fn enter_again(&self, entered: &Entered) -> u64 {
        match entered {
            Entered::Name(text) => self.enter(text).0,
            Entered::Service(service_type, id) => self.enter_service(service_type, id).0,
            Entered::Account(text) => self.enter_account(text).0,
            Entered::Subscription(text) => self.enter_subscription(text).0,
            Entered::Price(text) => self.enter_price(text).0,
            Entered::Plan(text) => self.enter_plan(text).0,
            Entered::Group(pool, currency) => self.enter_group(pool, currency).0,
        }
    }

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
            self.note(|| Entered::Service(service_type.to_owned(), id.to_owned()));
        }
        key
    }

    /// The service's type and id; of one that was never entered as [`Self::text`].
    #[must_use]
    pub fn service(&self, key: ServiceKey) -> (Arc<str>, Arc<str>) {
        self.known_service(key)
            .unwrap_or_else(|| (Arc::from(""), self.miss("a service", key.0)))
    }

    /// The service's type and id, if it was ever entered.
    #[must_use]
    pub fn known_service(&self, key: ServiceKey) -> Option<(Arc<str>, Arc<str>)> {
        let text = self.services.text(key.0)?;
        let (service_type, id) = text.split_once('\u{1f}')?;
        Some((Arc::from(service_type), Arc::from(id)))
    }

    /// Enters the balance group of a pool in a currency and returns its key.
    ///
    /// # Panics
    /// When another group already has the same key.
    pub fn enter_group(&self, pool: &str, currency: &str) -> GroupKey {
        let group = (self.enter(pool), self.enter(currency));
        let key = GroupKey::of_pool(group.0, group.1);
        let mut groups = self.groups.write().expect("the name book is not poisoned");
        let held = groups.insert(key, group);
        drop(groups);
        assert!(
            held.is_none_or(|held| held == group),
            "two balance groups have the same 64-bit key, of them {pool:?} in {currency}; rename its pool"
        );
        if held.is_none() {
            self.note(|| Entered::Group(pool.to_owned(), currency.to_owned()));
        }
        key
    }

    /// The balance group's pool and currency; of one that was never entered as [`Self::text`].
    ///
    /// # Panics
    /// After a panic of whoever entered names, which ends the process anyway.
    #[must_use]
    pub fn group(&self, key: GroupKey) -> (Arc<str>, Arc<str>) {
        let groups = self.groups.read().expect("the name book is not poisoned");
        match groups.get(&key) {
            Some((pool, currency)) => (self.text(*pool), self.text(*currency)),
            None => (self.miss("a balance group", key.0), Arc::from("")),
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
        assert_eq!(&*names.text(Name(0)), "-");
        assert_eq!(names.check(), Ok(()));
    }

    #[test]
    fn a_text_that_nobody_knows_is_refused() {
        let asked: [fn(&Names) -> Arc<str>; 7] = [
            |names| names.text(Name(7)),
            |names| names.account(AccountKey(7)),
            |names| names.subscription(SubscriptionKey(7)),
            |names| names.price(PriceKey(7)),
            |names| names.plan(PlanKey(7)),
            |names| names.service(ServiceKey(7)).1,
            |names| names.group(GroupKey(7)).0,
        ];
        for ask in asked {
            let names = Names::default();
            assert_eq!(&*ask(&names), "#0000000000000007");
            let refused = names.check().unwrap_err().to_string();
            assert!(refused.contains("#0000000000000007"), "{refused}");
        }
    }

    #[test]
    fn what_is_not_durable_stays_noted() {
        let names = Names::noting();
        let enter = |names: &Names, of: &str| {
            names.enter_account(of);
            names.enter_subscription(of);
            names.enter_price(of);
            names.enter_plan(of);
            names.enter_service("voice", of);
            names.enter_group(of, "EUR");
        };
        let known = Names::noting();
        enter(&known, "acme");
        enter(&names, "acme");
        enter(&names, "bolt");
        let durable = known.entered();
        let mut restoring = names.restoring();
        durable.iter().for_each(|entered| restoring.enter(entered));
        restoring.enter(&Entered::Account("gone".to_owned()));
        restoring.finish();
        let noted = names.entered();
        assert!(noted.iter().all(|entered| !durable.contains(entered)));
        assert_eq!(noted.len(), 7, "{noted:?}");
        assert_eq!(&*names.account(AccountKey::of(&["gone"])), "gone");
        // What nobody has made durable since is told no second time.
        assert!(names.entered().is_empty());
    }

    #[test]
    fn another_book_learns_all_texts() {
        let names = Names::default();
        names.enter_account("acme");
        names.enter_subscription("line 1");
        names.enter_price("peak");
        names.enter_plan("gold");
        let group = names.enter_group("family", "EUR");
        let service = names.enter_service("voice", "+420 123");
        let other = Names::default();
        for entered in names.all() {
            other.enter_again(&entered);
        }
        assert_eq!(other.group(group), names.group(group));
        assert_eq!(other.service(service), names.service(service));
        let sorted = |names: &Names| {
            let mut all: Vec<String> = names.all().iter().map(|e| format!("{e:?}")).collect();
            all.sort();
            all
        };
        assert_eq!(sorted(&other), sorted(&names));
        assert_eq!(sorted(&other).len(), 8);
    }

    #[test]
    #[should_panic(expected = "same 64-bit key")]
    fn a_taken_key_stops_the_job() {
        let texts = Texts::default();
        texts.enter(1, "acme");
        texts.enter(1, "acne");
    }
}
