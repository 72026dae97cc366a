//! `millrace quote`: what usage would cost, against a catalog, without a job.
//!
//! The very graph of a job is run on one worker over the given rows, so a quote cannot differ from a
//! bill. Usage comes as containers (`item`, `quantity`, attributes), or as raw records of one of a
//! job's sources, which its mediation rule reads first.

mod customer;
mod line;
mod period;
mod rates;

pub use period::LeftOut;

use crate::intake::ReferenceFeeds;
use crate::job::Job;
use customer::{Customer, accounts, is_known, services, subscribed, subscriptions};
pub use line::{QuoteError, QuoteLine};
use millrace_connectors::container::Container;
use millrace_connectors::decode::{DecodeOptions, Decoder, Format};
use millrace_connectors::mediate::Mediated;
use millrace_connectors::names::Names;
use millrace_connectors::reference::{Reference, ReferenceFiles};
use millrace_operators::domain::{
    EventTime, FileId, IdentityBuilder, Item, MoneyTotal, Name, PriceKey, Quantity, Reason,
    RecordId, Usage, UsageClass, parse_decimal,
};
use period::Periods;
use rates::{Rates, evaluate};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

/// What is asked for.
pub struct QuoteRequest {
    /// Catalog files; those of the job unless given.
    pub catalogs: Vec<PathBuf>,
    /// A job whose mediation rule reads the usage.
    pub job: Option<PathBuf>,
    /// Which of its sources; the only one unless given.
    pub source: Option<String>,
    /// The price list of rows that name none; `standard` unless given.
    pub price_list: Option<String>,
    /// The account of rows that name none, for account-specific prices.
    pub account: Option<String>,
    /// The time of rows that have none.
    pub at: EventTime,
    /// The format of the usage.
    pub format: Format,
    /// The name of the usage, for messages and for `.gz`.
    pub name: String,
}

/// A quote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Quote {
    /// Lines, in the order of the input.
    pub lines: Vec<QuoteLine>,
    /// Exact totals by currency.
    pub totals: BTreeMap<String, String>,
    /// What a bill would have beside the usage quoted: shortfalls of commitments, charges without usage.
    pub left_out: Vec<LeftOut>,
    /// What the quote takes for granted.
    pub notes: Vec<String>,
}

impl Quote {
    /// Whether every row was priced.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.lines.iter().all(|line| line.reason.is_none())
    }
}

/// Quotes `usage`.
///
/// # Errors
/// When the configuration does not hold or the usage cannot be read at all; a bad row is a line of
/// the quote.
pub fn quote(request: &QuoteRequest, usage: Box<dyn Read + Send>) -> Result<Quote, QuoteError> {
    let names = Arc::new(Names::default());
    let job = match &request.job {
        Some(path) => Some(Job::load(path).map_err(QuoteError::Configuration)?.0),
        None => None,
    };
    let catalogs = match (&job, request.catalogs.is_empty()) {
        (Some(job), true) => job.catalogs.clone(),
        (None, true) => {
            let message = "name a catalog with --catalog, or a job with --job".to_owned();
            return Err(QuoteError::Request(message));
        }
        (_, false) => request.catalogs.clone(),
    };
    let zone = job
        .as_ref()
        .map_or(jiff::tz::TimeZone::UTC, |job| job.zone.clone());
    let mut files = ReferenceFiles::new(catalogs, Vec::new(), zone.clone(), Arc::clone(&names));
    if let Some(job) = job.as_ref().filter(|_| request.catalogs.is_empty()) {
        let read = ReferenceFeeds::open_catalog(job, &mut files);
        read.map_err(|error| QuoteError::Request(error.to_string()))?;
    }
    let loaded = files.load();
    let reference = loaded.map_err(QuoteError::Configuration)?.reference;
    let mut desk = Desk::new(request, names, reference);
    desk.knows(job.as_ref())?;
    match &job {
        Some(job) => desk.mediate(job, usage)?,
        None => desk.containers(usage)?,
    }
    Ok(desk.quote(&zone))
}

/// Rows on their way to a quote.
struct Desk<'a> {
    request: &'a QuoteRequest,
    names: Arc<Names>,
    reference: Reference,
    usage: Vec<Usage>,
    classes: BTreeSet<UsageClass>,
    /// Who is asked for, each a service of its own.
    customers: BTreeSet<Customer>,
    failed: Vec<QuoteLine>,
}

/// The columns of usage that are no attributes.
const COLUMNS: [&str; 6] = [
    "item",
    "quantity",
    "time",
    "account",
    "price_list",
    "service_type",
];

/// The account of rows that name none.
const NOBODY: &str = "quote";

impl<'a> Desk<'a> {
    fn new(request: &'a QuoteRequest, names: Arc<Names>, reference: Reference) -> Self {
        let (usage, classes, customers, failed) = Default::default();
        Self {
            request,
            names,
            reference,
            usage,
            classes,
            customers,
            failed,
        }
    }

    /// Refuses an account and a price list that are asked for and that nobody has.
    fn knows(&self, job: Option<&Job>) -> Result<(), QuoteError> {
        let Reference { prices, plans, .. } = &self.reference;
        if let Some(asked) = &self.request.price_list {
            let lists = prices.iter().map(|price| price.list);
            let lists = lists.chain(plans.iter().map(|plan| plan.list));
            let lists: BTreeSet<Arc<str>> = lists.map(|list| self.names.text(list)).collect();
            let known: Vec<&str> = lists.iter().map(|list| &**list).collect();
            is_known(asked, &known, "the catalog has no price list")?;
        }
        if let Some(asked) = &self.request.account {
            let owners = prices.iter().filter_map(|price| price.account);
            let mut accounts: BTreeSet<Arc<str>> =
                owners.map(|account| self.names.account(account)).collect();
            // Its prices may be those of everybody.
            if let Some(job) = job {
                let names = Arc::clone(&self.names);
                let loaded = job.reference_files(Arc::clone(&names)).load();
                let loaded = loaded.map_err(QuoteError::Configuration)?;
                let rows = loaded.reference.accounts.iter();
                accounts.extend(rows.map(|row| names.account(row.key)));
            }
            let known: Vec<&str> = accounts.iter().map(|account| &**account).collect();
            let nowhere = match job {
                Some(_) => "the job has no account",
                None => "the catalog has no prices of an account",
            };
            is_known(asked, &known, nowhere)?;
        }
        Ok(())
    }

    /// Refuses usage whose columns are most likely meant to be others: what prices would depend on, or whom
    /// they are for, would be passed over.
    fn is_meant(&self, columns: &BTreeSet<String>) -> Result<(), QuoteError> {
        let asked = self.reference.prices.iter();
        let asked = asked.flat_map(|price| price.conditions.iter());
        let asked: BTreeSet<Arc<str>> = asked
            .map(|condition| self.names.text(condition.attribute))
            .collect();
        let known = || COLUMNS.into_iter().chain(asked.iter().map(|name| &**name));
        for column in columns {
            if known().any(|known| known == column) {
                continue;
            }
            let plain = |name: &str| name.to_lowercase().replace(['-', ' ', '.'], "_");
            let same = |known: &&str| plain(known) == plain(column);
            let meant = known().find(same).or(match plain(column).as_str() {
                "list" | "pricelist" => Some("price_list"),
                _ => None,
            });
            if let Some(meant) = meant {
                return Err(QuoteError::Request(format!(
                    "{}: no price depends on the column \"{column}\"; did you mean \"{meant}\"?",
                    self.request.name
                )));
            }
        }
        Ok(())
    }

    /// Who the row with these fields is for; returns the service id.
    fn customer(&mut self, fields: &BTreeMap<String, String>) -> String {
        let given = |key: &str, asked: &Option<String>, default: &str| {
            fields
                .get(key)
                .or(asked.as_ref())
                .map_or(default, String::as_str)
                .to_owned()
        };
        let account = given("account", &self.request.account, NOBODY);
        let list = self
            .names
            .enter(&given("price_list", &self.request.price_list, "standard"));
        let item = fields.get("item").map(|item| self.names.enter(item));
        let customer = self.of_account(&account, list, item);
        let id = customer.id();
        self.customers.insert(customer);
        id
    }

    /// An account with prices of its own is billed in their currency. For any other the account is
    /// made up, one per currency: that of the list's prices of the item, or of the whole list.
    fn of_account(&self, account: &str, list: Name, item: Option<Name>) -> Customer {
        let key = self.names.enter_account(account);
        let prices = &self.reference.prices;
        let own = prices.iter().filter(|price| price.account == Some(key));
        if let Some(currency) = own.map(|price| price.currency).min() {
            return Customer {
                account: key,
                list,
                currency,
            };
        }
        let listed = prices
            .iter()
            .filter(|price| price.account.is_none() && price.list == list);
        let asked = listed
            .clone()
            .filter(|price| item.is_none_or(|item| price.item == item));
        let currency = asked
            .chain(listed)
            .map(|price| price.currency)
            .next()
            .unwrap_or_default();
        let account = format!("{account}\u{1f}{:x}", currency.0);
        Customer {
            account: self.names.enter_account(&account),
            list,
            currency,
        }
    }

    /// Reads raw records by the job's rule; whose they are does not matter.
    fn mediate(&mut self, job: &Job, usage: Box<dyn Read + Send>) -> Result<(), QuoteError> {
        let rules = job.rules(&self.names).map_err(QuoteError::Configuration)?;
        let wanted = |name: &str| {
            self.request
                .source
                .as_deref()
                .is_none_or(|asked| asked == name)
        };
        let mut matching = job
            .sources
            .iter()
            .zip(&rules)
            .filter(|(source, _)| wanted(&source.name));
        let (Some((source, rule)), None) = (matching.next(), matching.next()) else {
            let known: Vec<&str> = job
                .sources
                .iter()
                .map(|source| source.name.as_str())
                .collect();
            let message = format!("name one source with --source: {}", known.join(", "));
            return Err(QuoteError::Request(message));
        };
        let failed = |error: &dyn std::fmt::Display| QuoteError::Request(error.to_string());
        let (name, format) = (&self.request.name, &self.request.format);
        let options = DecodeOptions::default();
        let columns = rule.columns();
        let decoder = Decoder::from_reader(usage, name, FileId(0), format, columns, &options);
        let mut decoder = decoder.map_err(|error| failed(&error))?;
        let mut mediator = rule
            .mediator(decoder.schema())
            .map_err(QuoteError::Configuration)?;
        let service_id = self.customer(&BTreeMap::new());
        let service = self
            .names
            .enter_service(&source.stream.service_type, &service_id);
        let mut mediated = Mediated::default();
        while let Some(chunk) = decoder.next_chunk() {
            mediator.mediate(&chunk, FileId(0), &mut mediated);
        }
        let faults = mediated.faults.into_iter().chain(mediated.file_fault);
        for fault in faults {
            let detail = format!("{} {}", fault.field, fault.detail);
            self.failed
                .push(refused(fault.record.row() + 1, fault.reason, detail.trim()));
        }
        self.classes
            .extend(mediated.classes.into_iter().map(|(_, class)| class));
        self.usage.extend(
            mediated
                .usage
                .into_iter()
                .map(|usage| Usage { service, ..usage }),
        );
        Ok(())
    }

    fn containers(&mut self, usage: Box<dyn Read + Send>) -> Result<(), QuoteError> {
        let rows = self
            .request
            .format
            .containers(usage)
            .map_err(|error| QuoteError::Request(format!("{}: {error}", self.request.name)))?;
        let columns = rows.iter().flatten();
        let columns = columns.flat_map(|container| container.fields.keys().cloned());
        self.is_meant(&columns.collect())?;
        for row in rows {
            let (row, outcome) = match row {
                Ok(container) => (container.row, self.container(container)),
                Err(error) => (error.row, Err((Reason::RowUnreadable, error.message))),
            };
            if let Err((reason, detail)) = outcome {
                self.failed.push(refused(row, reason, &detail));
            }
        }
        Ok(())
    }

    fn container(&mut self, container: Container) -> Result<(), (Reason, String)> {
        let Container { row, mut fields } = container;
        let service_id = self.customer(&fields);
        let mut take = |key: &str| fields.remove(key);
        let missing = |key: &str| (Reason::QuantityMissing, format!("the row has no `{key}`"));
        let item = take("item").ok_or_else(|| missing("item"))?;
        let quantity = take("quantity").ok_or_else(|| missing("quantity"))?;
        let time = take("time").map_or(Ok(self.request.at), |text| time_of(&text))?;
        let service_type = take("service_type").unwrap_or_else(|| "usage".to_owned());
        drop((take("account"), take("price_list")));
        let (mantissa, scale) = quantity_of(&quantity)?;
        let names = &self.names;
        let mut attributes: Vec<(Name, Name)> = fields
            .iter()
            .map(|(name, value)| (names.enter(name), names.enter(value)))
            .collect();
        attributes.sort_unstable();
        let items = [Item {
            name: names.enter(&item),
            scale,
        }]
        .into_iter()
        .collect();
        let class = UsageClass {
            service_type: names.enter(&service_type),
            attributes,
            items,
        };
        let record = RecordId::new(FileId(0), row.saturating_sub(1));
        self.usage.push(Usage {
            record,
            identity: IdentityBuilder::default()
                .field(&record.0.to_le_bytes())
                .finish(),
            service: names.enter_service(&service_type, &service_id),
            class: names.enter_class(&class),
            time,
            quantities: [mantissa].into_iter().collect(),
            mark: None,
        });
        self.classes.insert(class);
        Ok(())
    }

    /// Runs the graph over the rows.
    fn quote(self, zone: &jiff::tz::TimeZone) -> Quote {
        let Self {
            names,
            reference,
            usage,
            classes,
            customers,
            failed,
            ..
        } = self;
        let quantities: BTreeMap<RecordId, Usage> = usage
            .iter()
            .map(|usage| (usage.record, usage.clone()))
            .collect();
        let types: BTreeSet<Arc<str>> = classes
            .iter()
            .map(|class| names.text(class.service_type))
            .collect();
        let volumes = period::volume_prices(&reference.prices);
        let since = subscribed(&usage, zone);
        let last = usage.iter().map(|usage| usage.time).max();
        let lists: BTreeSet<Name> = customers.iter().map(|customer| customer.list).collect();
        let planned = reference.plans.iter().any(|row| lists.contains(&row.list));
        let notes = planned.then(|| {
            format!(
                "quoted as for a subscription that begins on {} and has used nothing before",
                since.timestamp().map_or_else(String::new, |since| {
                    zone.to_datetime(since).date().to_string()
                })
            )
        });
        let rates = Rates {
            accounts: accounts(&customers),
            subscriptions: subscriptions(&customers, since, &names),
            services: services(&customers, &types, &names),
            clock: last.map(|last| period::settled_at(last, since, &reference.plans, zone)),
            prices: reference.prices,
            plans: reference.plans,
            classes: classes.into_iter().collect(),
            usage,
        };
        let changes = evaluate(rates, &names, zone);
        let periods = Periods::of(&changes, &names);
        let mut lines = failed;
        let mut totals: BTreeMap<String, MoneyTotal> = BTreeMap::new();
        for (charge, _) in &changes.charges {
            let class = names.class(charge.class).expect("the class was entered");
            let item = class.items[usize::from(charge.item)];
            let quantity = Quantity::new(charge.quantity, item.scale);
            let currency = names.text(charge.currency).to_string();
            let total = totals.entry(currency.clone()).or_default();
            *total = total.plus(charge.amount.into());
            let in_volume = volumes.contains(&charge.price);
            lines.push(QuoteLine {
                row: charge.record.row() + 1,
                item: names.text(item.name).to_string(),
                quantity: quantity.unwrap_or_default().to_string(),
                price: (charge.price != PriceKey::NONE)
                    .then(|| names.price(charge.price).to_string()),
                amount: (!in_volume).then(|| charge.amount.to_string()),
                currency: Some(currency),
                reason: None,
                message: in_volume.then(|| "priced with the volume of its period".to_owned()),
            });
        }
        for (suspense, _) in &changes.suspense {
            let usage = &quantities[&suspense.record];
            let class = names.class(usage.class).expect("the class was entered");
            let place = class
                .items
                .iter()
                .position(|item| Some(item.name) == suspense.item);
            let place = place.unwrap_or(0);
            let (item, mantissa) = (class.items[place], usage.quantities[place]);
            lines.push(QuoteLine {
                item: names.text(item.name).to_string(),
                quantity: Quantity::new(mantissa, item.scale)
                    .unwrap_or_default()
                    .to_string(),
                ..refused(suspense.record.row() + 1, suspense.reason, "")
            });
        }
        lines.extend(periods.lines);
        Periods::add_up(&changes, &names, &mut totals);
        // Stable: the items of a record keep the order of its rule.
        lines.sort_by_key(|line| line.row);
        let totals = totals
            .into_iter()
            .map(|(c, amount)| (c, amount.to_string()))
            .collect();
        Quote {
            lines,
            totals,
            left_out: periods.left_out.into_iter().collect(),
            notes: notes.into_iter().collect(),
        }
    }
}

fn refused(row: u64, reason: Reason, detail: &str) -> QuoteLine {
    let message = match detail {
        "" => reason.hint().to_owned(),
        detail => format!("{detail}; {}", reason.hint()),
    };
    QuoteLine {
        row,
        item: String::new(),
        quantity: String::new(),
        price: None,
        amount: None,
        currency: None,
        reason: Some(reason.code()),
        message: Some(message),
    }
}

fn quantity_of(text: &str) -> Result<(i64, u8), (Reason, String)> {
    let unparsable = |message: String| (Reason::FieldUnparsable, format!("quantity: {message}"));
    let decimal = parse_decimal(text)
        .map_err(|error| unparsable(error.to_string()))?
        .normalize();
    if decimal.is_sign_negative() && !decimal.is_zero() {
        return Err((Reason::QuantityNegative, format!("quantity {text}")));
    }
    let out_of_range = || (Reason::QuantityOutOfRange, format!("quantity {text}"));
    let scale = u8::try_from(decimal.scale())
        .ok()
        .filter(|scale| *scale <= Quantity::SCALE);
    let mantissa = i64::try_from(decimal.mantissa()).ok();
    mantissa.zip(scale).ok_or_else(out_of_range)
}

fn time_of(text: &str) -> Result<EventTime, (Reason, String)> {
    let instant = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        civil
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
            .map(|zoned| zoned.timestamp())
    });
    let time = instant.map(EventTime::from).ok_or_else(|| {
        (
            Reason::FieldUnparsable,
            format!("time: {text:?} is not a date or a time like 2026-01-31T10:00:00Z"),
        )
    })?;
    if (EventTime::EARLIEST..EventTime::LATEST).contains(&time) {
        Ok(time)
    } else {
        Err((Reason::TimeOutOfRange, format!("time {text}")))
    }
}
