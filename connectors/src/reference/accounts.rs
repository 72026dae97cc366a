//! The accounts file: accounts, subscriptions and services written out, and tables whose rows SQL
//! maps to them.

use super::account::{account_row, service_row, subscription_row};
use super::field::{Complaint, empty_values};
use super::rows::{Origin, Placed, Rows, Setting};
use super::yaml::{Refused, place_of};
use crate::decode::{ColumnType, CsvLayout, FormatEntry};
use crate::diagnostic::Diagnostic;
use millrace_operators::domain::{Period, SubscriptionKey};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Who pays for which service.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "millrace accounts")]
pub struct AccountsFile {
    /// Accounts.
    #[serde(default)]
    #[schemars(with = "Vec<AccountEntry>")]
    pub accounts: Vec<Spanned<AccountEntry>>,
    /// Subscriptions; several rows of one id are its history.
    #[serde(default)]
    #[schemars(with = "Vec<SubscriptionEntry>")]
    pub subscriptions: Vec<Spanned<SubscriptionEntry>>,
    /// Tables of accounts, subscriptions and services.
    #[serde(default)]
    pub tables: Vec<AccountTable>,
}

/// An account.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountEntry {
    /// Identifier.
    #[schemars(with = "String")]
    pub id: Spanned<String>,
    /// The one currency that it is billed in.
    #[schemars(with = "String")]
    pub currency: Spanned<String>,
    /// Its billing cycle; calendar months unless given.
    #[serde(default)]
    pub billing: BillingEntry,
}

/// A billing cycle.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BillingEntry {
    /// A date that a cycle begins on; the first of a month unless given.
    #[schemars(with = "Option<String>")]
    pub anniversary: Option<Spanned<String>>,
    /// Units in a cycle; 1 unless given.
    #[schemars(with = "Option<u16>")]
    pub every: Option<Spanned<String>>,
    /// The unit: `day`, `week`, `month`, `quarter` or `year`; `month` unless given.
    #[schemars(with = "Option<String>")]
    pub cycle: Option<Spanned<String>>,
}

impl AccountEntry {
    fn field(&self, name: &str) -> Option<&Spanned<String>> {
        match name {
            "id" => Some(&self.id),
            "currency" => Some(&self.currency),
            "anniversary" => self.billing.anniversary.as_ref(),
            "every" => self.billing.every.as_ref(),
            "cycle" => self.billing.cycle.as_ref(),
            _ => None,
        }
    }
}

/// A subscription, for a stretch of time.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionEntry {
    /// Identifier.
    #[schemars(with = "String")]
    pub id: Spanned<String>,
    /// The account that pays.
    #[schemars(with = "String")]
    pub account: Spanned<String>,
    /// The subscription whose balance group this one belongs to, with all below it.
    #[schemars(with = "Option<String>")]
    pub parent: Option<Spanned<String>>,
    /// The balance group, shared by all subscriptions that name it; the subscription's own unless
    /// given.
    #[schemars(with = "Option<String>")]
    pub group: Option<Spanned<String>>,
    /// Price lists, the one to be tried first in front; `standard` unless given.
    #[serde(default)]
    pub price_lists: Vec<String>,
    /// First instant of these terms: a date (its midnight in the tenant's time zone) or RFC 3339.
    #[schemars(with = "Option<String>")]
    pub from: Option<Spanned<String>>,
    /// First instant after them.
    #[schemars(with = "Option<String>")]
    pub to: Option<Spanned<String>>,
    /// `active`, `inactive` or `closed`; `active` unless given.
    #[schemars(with = "Option<String>")]
    pub status: Option<Spanned<String>>,
    /// The type of services that are given by their id alone.
    #[schemars(with = "Option<String>")]
    pub service_type: Option<Spanned<String>>,
    /// The services it serves, for as long as the subscription lasts unless given.
    #[serde(default)]
    #[schemars(with = "Vec<ServiceEntry>")]
    pub services: Vec<Spanned<ServiceEntry>>,
}

impl SubscriptionEntry {
    fn field(&self, name: &str) -> Option<&Spanned<String>> {
        match name {
            "id" => Some(&self.id),
            "account" => Some(&self.account),
            "parent" => self.parent.as_ref(),
            "group" => self.group.as_ref(),
            "from" => self.from.as_ref(),
            "to" => self.to.as_ref(),
            "status" => self.status.as_ref(),
            _ => None,
        }
    }
}

/// A service: its id alone, or with its type and time.
#[derive(Clone, Debug, JsonSchema)]
#[serde(untagged)]
pub enum ServiceEntry {
    /// The id; the type is the subscription's `service_type`.
    Id(String),
    /// Type, id and time.
    Full(Box<ServiceFields>),
}

/// A service in full.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceFields {
    /// The kind of service (`voice`, `llm`); the subscription's `service_type` unless given.
    #[serde(rename = "type")]
    #[schemars(with = "Option<String>")]
    pub service_type: Option<Spanned<String>>,
    /// The id, as usage names it.
    #[schemars(with = "String")]
    pub id: Spanned<String>,
    /// First instant that the subscription serves it.
    #[schemars(with = "Option<String>")]
    pub from: Option<Spanned<String>>,
    /// First instant after.
    #[schemars(with = "Option<String>")]
    pub to: Option<Spanned<String>>,
}

impl<'de> Deserialize<'de> for ServiceEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;

        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = ServiceEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a service id, or a mapping with type and id")
            }

            fn visit_str<E: de::Error>(self, id: &str) -> Result<ServiceEntry, E> {
                Ok(ServiceEntry::Id(id.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, id: bool) -> Result<ServiceEntry, E> {
                Ok(ServiceEntry::Id(id.to_string()))
            }

            fn visit_i64<E: de::Error>(self, id: i64) -> Result<ServiceEntry, E> {
                Ok(ServiceEntry::Id(id.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ServiceEntry, A::Error> {
                let full = ServiceFields::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ServiceEntry::Full(Box::new(full)))
            }
        }

        deserializer.deserialize_any(EntryVisitor)
    }
}

/// A table whose rows become accounts, subscriptions and services; every field is an SQL expression
/// over the table's columns.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountTable {
    /// The file, relative to this one, or `s3://bucket/file`.
    #[schemars(with = "String")]
    pub file: Spanned<String>,
    /// Its format; as its name suggests unless given.
    pub format: Option<FormatEntry>,
    /// What varies between CSV files.
    #[serde(default)]
    pub csv: CsvLayout,
    /// Types of columns; the others are text.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, ColumnType>")]
    pub columns: BTreeMap<String, Spanned<ColumnType>>,
    /// SQL: the rows to take; all unless given.
    #[serde(rename = "where")]
    #[schemars(with = "Option<String>")]
    pub filter: Option<Spanned<String>>,
    /// Accounts to make of each row; none where the id is NULL.
    #[serde(default)]
    pub accounts: Vec<AccountColumns>,
    /// Subscriptions to make of each row; none where the id is NULL.
    #[serde(default)]
    pub subscriptions: Vec<SubscriptionColumns>,
    /// Services to make of each row; none where the service is NULL.
    #[serde(default)]
    pub services: Vec<ServiceColumns>,
}

macro_rules! columns {
    ($(#[$doc:meta])* $name:ident: $($(#[$field_doc:meta])* $field:ident,)*) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[$field_doc])*
                #[schemars(with = "Option<String>")]
                pub $field: Option<Spanned<String>>,
            )*
        }

        impl $name {
            /// The fields given, by name.
            pub(super) fn given(&self) -> Vec<(&'static str, &Spanned<String>)> {
                let fields = [$((stringify!($field), self.$field.as_ref())),*];
                fields.into_iter().filter_map(|(name, sql)| Some((name, sql?))).collect()
            }
        }
    };
}

columns! {
    /// How a table row becomes an account: SQL.
    AccountColumns:
    /// Identifier.
    id,
    /// Currency.
    currency,
    /// A date that a billing cycle begins on.
    anniversary,
    /// Units in a cycle.
    every,
    /// The unit of the cycle.
    cycle,
}

columns! {
    /// How a table row becomes a subscription: SQL.
    SubscriptionColumns:
    /// Identifier.
    id,
    /// The account that pays.
    account,
    /// The subscription whose balance group it belongs to.
    parent,
    /// The balance group.
    group,
    /// The price list, or several separated by commas, the one to be tried first in front.
    price_list,
    /// First instant of these terms.
    from,
    /// First instant after them.
    to,
    /// `active`, `inactive` or `closed`.
    status,
}

columns! {
    /// How a table row becomes a service: SQL.
    ServiceColumns:
    /// The kind of service.
    service_type,
    /// The id, as usage names it.
    service,
    /// The subscription that serves it.
    subscription,
    /// First instant that it does.
    from,
    /// First instant after.
    to,
}

/// Fields of accounts, subscriptions and services that may be left out.
const OPTIONAL: &[&str] = &[
    "anniversary",
    "every",
    "cycle",
    "parent",
    "group",
    "from",
    "to",
    "status",
];

/// Reads the rows written out in an accounts file.
struct Inline<'a> {
    file: &'a Arc<str>,
    refused: &'a Refused,
    setting: Setting<'a>,
    findings: &'a mut Vec<Diagnostic>,
}

/// The rows written out in the accounts file.
pub(super) fn account_rows(
    file: &Arc<str>,
    accounts: &AccountsFile,
    refused: &Refused,
    setting: Setting<'_>,
    findings: &mut Vec<Diagnostic>,
) -> Rows {
    let mut rows = Rows::default();
    let mut inline = Inline {
        file,
        refused,
        setting,
        findings,
    };
    for entry in &accounts.accounts {
        let text = |name: &'static str| entry.value.field(name).map(|field| field.value.as_str());
        let row = account_row(text, setting);
        rows.accounts
            .extend(inline.place(entry, row, |field| entry.value.field(field)));
    }
    for entry in &accounts.subscriptions {
        let fields = &entry.value;
        let text = |name: &'static str| fields.field(name).map(|field| field.value.as_str());
        let lists: Vec<&str> = fields.price_lists.iter().map(String::as_str).collect();
        let row = subscription_row(text, &lists, setting);
        if let Some(placed) = inline.place(entry, row, |field| fields.field(field)) {
            rows.subscribe(placed);
        }
    }
    let lifetimes = lifetimes(&rows);
    for entry in &accounts.subscriptions {
        let key = setting.names.enter_subscription(&entry.value.id.value);
        let lifetime = lifetimes.get(&key).copied().unwrap_or(Period::ALWAYS);
        for service in &entry.value.services {
            rows.services
                .extend(inline.service(entry, service, lifetime));
        }
    }
    rows
}

/// From the first to the last instant of each subscription's rows: as long as it may serve.
fn lifetimes(rows: &Rows) -> BTreeMap<SubscriptionKey, Period> {
    let mut lifetimes: BTreeMap<SubscriptionKey, Period> = BTreeMap::new();
    for Placed { row, .. } in &rows.subscriptions {
        let lifetime = lifetimes.entry(row.key).or_insert(row.valid);
        let start = lifetime.start().min(row.valid.start());
        let end = lifetime.end().max(row.valid.end());
        *lifetime = Period::new(start, end).unwrap_or(*lifetime);
    }
    lifetimes
}

impl Inline<'_> {
    fn place<'f, T, R>(
        &mut self,
        entry: &Spanned<T>,
        row: Result<R, Vec<Complaint>>,
        field: impl Fn(&str) -> Option<&'f Spanned<String>>,
    ) -> Option<Placed<R>> {
        let (line, column) = place_of(entry);
        match row {
            Ok(row) => {
                let given = OPTIONAL
                    .iter()
                    .filter_map(|name| Some((*name, field(name)?)));
                self.findings.extend(empty_values(self.file, given));
                let origin = Origin {
                    file: Arc::clone(self.file),
                    line,
                    column,
                };
                Some(Placed { row, origin })
            }
            Err(mut complaints) => {
                complaints.retain(|complaint| !complaint.follows(self.refused, (line, column)));
                self.findings
                    .extend(complaints.into_iter().map(|complaint| {
                        let place = field(complaint.field).map_or((line, column), place_of);
                        let finding = Diagnostic::error(self.file, place, complaint.message);
                        finding.with_hint(complaint.hint)
                    }));
                None
            }
        }
    }

    fn service(
        &mut self,
        subscription: &Spanned<SubscriptionEntry>,
        entry: &Spanned<ServiceEntry>,
        lifetime: Period,
    ) -> Option<Placed<millrace_operators::domain::ServiceUse>> {
        let places = [place_of(subscription), place_of(entry)];
        let subscription = &subscription.value;
        let full = match &entry.value {
            ServiceEntry::Full(fields) => Some(fields),
            ServiceEntry::Id(_) => None,
        };
        let field = |name: &str| match name {
            "service_type" => full
                .and_then(|full| full.service_type.as_ref())
                .or(subscription.service_type.as_ref()),
            "service" => full.map(|full| &full.id),
            "subscription" => Some(&subscription.id),
            "from" => full.and_then(|full| full.from.as_ref()),
            "to" => full.and_then(|full| full.to.as_ref()),
            _ => None,
        };
        if field("service_type").is_none() {
            let refused = |key: &str| places.iter().any(|place| self.refused.has(*place, key));
            if refused("service_type") || refused("type") {
                return None;
            }
            let message = "the service has no type";
            let hint = "write `service_type` beside `services`, or {type: …, id: …}";
            let finding = Diagnostic::error(self.file, place_of(entry), message);
            self.findings.push(finding.with_hint(hint));
            return None;
        }
        let text = |name: &'static str| match (&entry.value, name) {
            (ServiceEntry::Id(id), "service") => Some(id.as_str()),
            _ => field(name).map(|field| field.value.as_str()),
        };
        let row = service_row(text, lifetime, self.setting);
        self.place(entry, row, field)
    }
}
