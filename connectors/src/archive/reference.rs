//! The copy of the catalog and the accounts that a period was billed by, with the text behind their
//! keys. Accounts are kept by shard, with all that decides where the usage of their services goes, so
//! that what is asked of one account reads little.

use super::file::{json, parsed, read_entry};
use super::layout::{self, FileEntry, Manifest};
use super::{ArchiveError, file};
use crate::names::Names;
use crate::output::OutputError;
use crate::reference::Reference;
use crate::store::Store;
use millrace_operators::domain::{
    Account, AccountKey, Counts, Name, PlanPart, PlanRow, PriceModel, PriceRow, ServiceKey,
    ServiceUse, Subscription, SubscriptionKey, TierReference,
};
use millrace_operators::epoch::{SHARDS, shard};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Reference data that was in force, and the files that hold it.
#[derive(Clone, Debug)]
pub struct ReferenceCopy {
    pub(super) catalog: FileEntry,
    pub(super) accounts: BTreeMap<u64, FileEntry>,
}

/// The texts behind keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    names: BTreeSet<String>,
    accounts: BTreeSet<String>,
    subscriptions: BTreeSet<String>,
    services: BTreeSet<(String, String)>,
    prices: BTreeSet<String>,
    plans: BTreeSet<String>,
}

/// Prices and plans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalog {
    book: Book,
    prices: Vec<PriceRow>,
    plans: Vec<PlanRow>,
}

/// Accounts of a shard, and whatever shares a service with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accounts {
    book: Book,
    accounts: BTreeSet<Account>,
    subscriptions: BTreeSet<Subscription>,
    services: BTreeSet<ServiceUse>,
}

/// Notes the texts of keys that have one; a key that was made, not written, has none.
struct Noter<'n> {
    names: &'n Names,
    book: Book,
}

impl Noter<'_> {
    fn name(&mut self, key: Name) {
        let text = self.names.known_text(key);
        self.book.names.extend(text.map(|text| text.to_string()));
    }

    fn account(&mut self, key: AccountKey) {
        self.book
            .accounts
            .insert(self.names.account(key).to_string());
    }

    fn subscription(&mut self, key: SubscriptionKey) {
        let text = self.names.known_subscription(key);
        let text = text.map(|text| text.to_string());
        self.book.subscriptions.extend(text);
    }

    fn service(&mut self, key: ServiceKey) {
        let text = self.names.known_service(key);
        let text = text.map(|(kind, id)| (kind.to_string(), id.to_string()));
        self.book.services.extend(text);
    }

    fn price(&mut self, row: &PriceRow) {
        let text = self.names.known_price(row.key);
        self.book.prices.extend(text.map(|text| text.to_string()));
        row.account.into_iter().for_each(|key| self.account(key));
        [row.list, row.item, row.currency]
            .into_iter()
            .for_each(|name| self.name(name));
        for condition in &row.conditions {
            self.name(condition.attribute);
            self.name(condition.value);
        }
        match &row.model {
            PriceModel::Graduated { by, .. } => match by {
                TierReference::Accumulator(name) | TierReference::PreviousPeriod(name) => {
                    self.name(*name);
                }
                TierReference::Record => {}
            },
            PriceModel::Volume { accumulator, .. } | PriceModel::Package { accumulator, .. } => {
                self.name(*accumulator);
            }
            PriceModel::PerUnit { .. }
            | PriceModel::PerBlock { .. }
            | PriceModel::PerRecord { .. } => {}
        }
    }

    fn plan(&mut self, row: &PlanRow) {
        let text = self.names.known_plan(row.key);
        self.book.plans.extend(text.map(|text| text.to_string()));
        self.name(row.list);
        row.part
            .currency()
            .into_iter()
            .for_each(|name| self.name(name));
        let (own, items): (&[Name], &[Name]) = match &row.part {
            PlanPart::Allowance(part) => (&[part.resource], &part.items),
            PlanPart::Accumulator(part) => (&[part.resource], &part.items),
            PlanPart::Cap(part) => (&[part.resource], &part.items),
            PlanPart::Commitment(part) => {
                if let Counts::Accumulated(name) = part.counts {
                    self.name(name);
                }
                let charges = part.recurring.iter().map(|dated| &dated.charge);
                charges.for_each(|charge| {
                    self.name(charge.item);
                    self.name(charge.currency);
                });
                (&[part.resource], &part.items)
            }
            PlanPart::Volume(part) => (&[part.item, part.accumulator], &[]),
            PlanPart::Charge(part) => (&[part.item], &[]),
        };
        own.iter().chain(items).for_each(|name| self.name(*name));
    }
}

impl Book {
    fn enter(&self, names: &Names) {
        for text in &self.names {
            names.enter(text);
        }
        for text in &self.accounts {
            names.enter_account(text);
        }
        for text in &self.subscriptions {
            names.enter_subscription(text);
        }
        for (kind, id) in &self.services {
            names.enter_service(kind, id);
        }
        for text in &self.prices {
            names.enter_price(text);
        }
        for text in &self.plans {
            names.enter_plan(text);
        }
    }
}

fn catalog(reference: &Reference, names: &Names) -> Catalog {
    let mut noter = Noter {
        names,
        book: Book::default(),
    };
    reference.prices.iter().for_each(|row| noter.price(row));
    reference.plans.iter().for_each(|row| noter.plan(row));
    Catalog {
        book: noter.book,
        prices: reference.prices.clone(),
        plans: reference.plans.clone(),
    }
}

/// What the reference data says, found from accounts.
struct Links<'r> {
    accounts: BTreeMap<AccountKey, &'r Account>,
    subscriptions: BTreeMap<SubscriptionKey, Vec<&'r Subscription>>,
    of_account: BTreeMap<AccountKey, BTreeSet<SubscriptionKey>>,
    services: BTreeMap<ServiceKey, Vec<&'r ServiceUse>>,
    of_subscription: BTreeMap<SubscriptionKey, BTreeSet<ServiceKey>>,
}

impl<'r> Links<'r> {
    fn of(reference: &'r Reference) -> Self {
        let mut links = Self {
            accounts: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            of_account: BTreeMap::new(),
            services: BTreeMap::new(),
            of_subscription: BTreeMap::new(),
        };
        for account in &reference.accounts {
            links.accounts.insert(account.key, account);
        }
        for row in &reference.subscriptions {
            links.subscriptions.entry(row.key).or_default().push(row);
            links
                .of_account
                .entry(row.account)
                .or_default()
                .insert(row.key);
        }
        for row in &reference.services {
            links.services.entry(row.service).or_default().push(row);
            let services = links.of_subscription.entry(row.subscription).or_default();
            services.insert(row.service);
        }
        links
    }

    /// The account, and what shares a service with it.
    fn around(&self, account: AccountKey, into: &mut Accounts) {
        into.accounts
            .extend(self.accounts.get(&account).copied().cloned());
        for subscription in self.of_account.get(&account).into_iter().flatten() {
            self.subscription(*subscription, into);
            for service in self.of_subscription.get(subscription).into_iter().flatten() {
                for row in self.services.get(service).into_iter().flatten() {
                    into.services.insert(**row);
                    self.subscription(row.subscription, into);
                }
            }
        }
    }

    fn subscription(&self, key: SubscriptionKey, into: &mut Accounts) {
        for row in self.subscriptions.get(&key).into_iter().flatten() {
            into.subscriptions.insert((*row).clone());
            let account = self.accounts.get(&row.account);
            into.accounts.extend(account.copied().cloned());
        }
    }
}

/// The content of a copy: the catalog, and the accounts of each shard.
type Contents = (Vec<u8>, BTreeMap<u64, Vec<u8>>);

fn contents(reference: &Reference, names: &Names) -> Result<Contents, ArchiveError> {
    let links = Links::of(reference);
    let mut shards: BTreeMap<u64, Accounts> = BTreeMap::new();
    for account in &reference.accounts {
        links.around(account.key, shards.entry(shard(account.key.0)).or_default());
    }
    let accounts = shards.into_iter().map(|(shard, mut copy)| {
        let mut noter = Noter {
            names,
            book: Book::default(),
        };
        for account in &copy.accounts {
            noter.account(account.key);
            noter.name(account.currency);
        }
        for row in &copy.subscriptions {
            noter.subscription(row.key);
            noter.account(row.account);
            noter.name(row.group);
            row.price_lists.iter().for_each(|list| noter.name(*list));
        }
        copy.services
            .iter()
            .for_each(|row| noter.service(row.service));
        copy.book = noter.book;
        Ok((shard, json(&copy)?))
    });
    let accounts = accounts.collect::<Result<BTreeMap<_, _>, ArchiveError>>()?;
    Ok((json(&catalog(reference, names))?, accounts))
}

/// Writes the copy; files that are there already are the same.
pub(super) fn write(
    store: &Store,
    reference: &Reference,
    names: &Names,
) -> Result<ReferenceCopy, ArchiveError> {
    let (catalog, accounts) = contents(reference, names)?;
    names.check().map_err(OutputError::from)?;
    let accounts = accounts
        .into_iter()
        .map(|(shard, bytes)| Ok((shard, put(store, "accounts", &bytes)?)));
    Ok(ReferenceCopy {
        catalog: put(store, "catalog", &catalog)?,
        accounts: accounts.collect::<Result<_, ArchiveError>>()?,
    })
}

/// Whether a period was billed by the very same reference data.
pub(super) fn is_same(
    manifest: &Manifest,
    reference: &Reference,
    names: &Names,
) -> Result<bool, ArchiveError> {
    let (catalog, accounts) = contents(reference, names)?;
    let same =
        |entry: &FileEntry, bytes: &[u8]| blake3::hash(bytes).to_hex().as_str() == entry.digest;
    Ok(same(&manifest.catalog, &catalog)
        && manifest.accounts.len() == accounts.len()
        && accounts.iter().all(|(shard, bytes)| {
            let entry = manifest.accounts.get(shard);
            entry.is_some_and(|entry| same(entry, bytes))
        }))
}

/// Writes a file under the digest of its content.
fn put(store: &Store, kind: &str, bytes: &[u8]) -> Result<FileEntry, ArchiveError> {
    let digest = blake3::hash(bytes).to_hex().to_string();
    let short: String = digest.chars().take(32).collect();
    let name = layout::reference(kind, &short);
    let size = u64::try_from(bytes.len()).unwrap_or(0);
    // What is there and is not that would be found when the period is read.
    if store.get(&name)?.is_some_and(|held| held == bytes) {
        return Ok(FileEntry { name, size, digest });
    }
    file::write_bytes(store, name, bytes)
}

/// What was in force for the accounts of `shards`; all of it for all shards.
pub(super) fn read(
    store: &Store,
    manifest: &Manifest,
    shards: Option<&BTreeSet<u64>>,
    names: &Names,
) -> Result<Reference, ArchiveError> {
    let (meta, bytes) = read_entry(store, &manifest.catalog)?;
    let catalog: Catalog = parsed(&bytes, &meta.location)?;
    catalog.book.enter(names);
    let mut all = Accounts::default();
    for shard in 0..SHARDS {
        let wanted = shards.is_none_or(|shards| shards.contains(&shard));
        let Some(entry) = manifest.accounts.get(&shard).filter(|_| wanted) else {
            continue;
        };
        let (meta, bytes) = read_entry(store, entry)?;
        let mut copy: Accounts = parsed(&bytes, &meta.location)?;
        copy.book.enter(names);
        all.accounts.append(&mut copy.accounts);
        all.subscriptions.append(&mut copy.subscriptions);
        all.services.append(&mut copy.services);
    }
    let reference = Reference {
        prices: catalog.prices,
        plans: catalog.plans,
        accounts: all.accounts.into_iter().collect(),
        subscriptions: all.subscriptions.into_iter().collect(),
        services: all.services.into_iter().collect(),
    };
    reference.name_groups(names);
    Ok(reference)
}
