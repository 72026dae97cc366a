//! The language: one statement to a line, `#` for comments, the first comment being the question.
//!
//! ```text
//! zone Europe/Prague                      where bill units begin at midnight (default UTC)
//! lines by attribute:model price          what separates billing lines
//! decimals energy_kwh 3                   decimals that records give of an item
//! account acme currency USD billing month [every 2] from 2026-01-15
//! subscription s1 account acme lists gold,std [group pool] [from ..] [to ..] [status inactive]
//! service llm/a subscription s1 [from ..] [to ..]
//! price P1 list std item tokens 0.01 [per 1000 | block 60 [by total] | per_record]
//!       [when model=x region=y] [currency EUR] [account acme] [priority 1] [from ..] [to ..]
//! price P2 list std item tokens tiers 0:1,40:0.5 [by total | previous total | volume total] ...
//! allowance free list std units 100 | money 5 [of tokens,calls] [priority 1] [once [lasts 2]]
//!           [term day|week|month [every 2]] [prorate full|none] [rollover 2 [cap 50]] [notices 50,80]
//!           [from ..] [to ..]
//! accumulator total list std units | money [of ..] [share 3/4] [activation 1] [recurring 1] [term ..]
//!             [notices 100] [from ..] [to ..]
//! cap most list std 20 [of ..] [term ..] [notices 50,80] [from ..] [to ..]
//! commitment least list std accumulator spent 100 [term ..] [prorate full|none] [from ..] [to ..]
//! charge fee list std 10 activation | advance | arrears [term ..] [prorate full|none] [from ..] [to ..]
//! clock 2026-03-01                        the present; before it, nothing begins or ends
//! usage f1:0 id a service llm/a at 2026-01-20T10:00 model=x tokens=500
//! ignored f1:7                            a record that mediation left out
//! error f1:8 FIELD_UNPARSABLE             a record that could not be read
//! discard f1:0                            a record that operators take out of suspense
//! retry f1:0                              one that they put back
//! retract price P1                        takes back all rows of that name
//! amend price P1 ...                      takes them back and states the row anew
//! epoch what happens next                 ends an epoch and names the next
//! ```
//!
//! In `usage`, what is a number is a quantity and anything else an attribute. Times are universal.

mod plan;

use jiff::civil::{Date, DateTime};
use millrace_operators::aggregate::Dimension;
use millrace_operators::domain::{
    Account, AccountKey, BillingProfile, Condition, Cycle, Discard, EventTime, Fate, Fault, FileId,
    IdentityBuilder, Item, Name, Period, PlanRow, Price, PriceKey, PriceModel, PriceRow, Reason,
    RecordId, ServiceKey, ServiceUse, Subscription, SubscriptionKey, SubscriptionStatus, Usage,
    UsageClass, UsagePlace, parse_decimal,
};
use millrace_operators::epoch::Diff;
use millrace_tests::oracle::calendar::Zone;
use millrace_tests::oracle::{BillRules, Changes};
use std::collections::{BTreeMap, BTreeSet};

/// A scenario, ready to run.
pub(crate) struct Scenario {
    pub(crate) question: String,
    pub(crate) rules: BillRules,
    pub(crate) script: Vec<Changes>,
    /// What each epoch is about.
    pub(crate) titles: Vec<String>,
    pub(crate) names: Names,
}

/// The texts behind the keys.
#[derive(Default)]
pub(crate) struct Names {
    texts: BTreeMap<u64, String>,
    files: Vec<String>,
    /// Classes with the decimals of their items.
    pub(crate) classes: BTreeMap<u64, UsageClass>,
}

impl Names {
    fn name(&mut self, text: &str) -> Name {
        let name = Name::new(text);
        self.texts.insert(name.0, text.to_owned());
        name
    }

    fn enter(&mut self, key: u64, text: &str) {
        self.texts.insert(key, text.to_owned());
    }

    /// The text of a key.
    pub(crate) fn text(&self, key: u64) -> &str {
        self.texts.get(&key).map_or("-", String::as_str)
    }

    /// `file:row`.
    pub(crate) fn record(&self, record: RecordId) -> String {
        format!("{}:{}", self.file(record.file()), record.row())
    }

    /// The name of a file.
    pub(crate) fn file(&self, file: FileId) -> &str {
        usize::try_from(file.0)
            .ok()
            .and_then(|index| self.files.get(index))
            .map_or("-", String::as_str)
    }
}

/// Everything stated and not taken back, each row under the statement that it came from.
#[derive(Clone, Default)]
struct Stated {
    usage: BTreeMap<String, BTreeSet<Usage>>,
    fates: BTreeMap<String, BTreeSet<(RecordId, Fate)>>,
    prices: BTreeMap<String, BTreeSet<PriceRow>>,
    plans: BTreeMap<String, BTreeSet<PlanRow>>,
    clock: BTreeMap<String, BTreeSet<EventTime>>,
    accounts: BTreeMap<String, BTreeSet<Account>>,
    subscriptions: BTreeMap<String, BTreeSet<Subscription>>,
    services: BTreeMap<String, BTreeSet<ServiceUse>>,
    discards: BTreeMap<String, BTreeSet<Discard>>,
}

type Parsed<T> = Result<T, String>;

/// The words of a statement, taken from the front.
struct Words<'a>(std::iter::Peekable<std::str::SplitWhitespace<'a>>);

impl<'a> Words<'a> {
    fn next(&mut self, what: &str) -> Parsed<&'a str> {
        self.0.next().ok_or_else(|| format!("{what} is missing"))
    }

    fn keyword(&mut self, word: &str) -> Parsed<&'a str> {
        match self.next(word)? {
            found if found == word => self.next(word),
            found => Err(format!("{word:?} expected, not {found:?}")),
        }
    }

    fn option(&mut self, word: &str) -> Parsed<Option<&'a str>> {
        match self.0.next_if(|next| *next == word) {
            Some(_) => self.next(word).map(Some),
            None => Ok(None),
        }
    }

    fn flag(&mut self, word: &str) -> bool {
        self.0.next_if(|next| *next == word).is_some()
    }

    fn period(&mut self) -> Parsed<Period> {
        let start = self.option("from")?.map(time).transpose()?;
        let end = self.option("to")?.map(time).transpose()?;
        let (start, end) = (
            start.unwrap_or(EventTime::MIN),
            end.unwrap_or(EventTime::MAX),
        );
        Period::new(start, end).ok_or_else(|| "the period is empty".to_owned())
    }

    fn end(mut self) -> Parsed<()> {
        match self.0.next() {
            Some(word) => Err(format!("{word:?} is not understood here")),
            None => Ok(()),
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Parsed<T> {
    text.parse()
        .map_err(|_| format!("{text:?} is not a number"))
}

fn time(text: &str) -> Parsed<EventTime> {
    let civil = match text.parse::<DateTime>() {
        Ok(civil) => civil,
        Err(error) => return Err(format!("{text:?} is not a time: {error}")),
    };
    let zoned = civil.in_tz("UTC").map_err(|error| error.to_string())?;
    Ok(EventTime::from(zoned.timestamp()))
}

fn fault(record: RecordId, reason: Reason) -> Fault {
    Fault {
        record,
        line: 0,
        reason,
        field: String::new(),
        detail: String::new(),
    }
}

/// Reads a scenario.
pub(crate) fn parse(text: &str) -> Parsed<Scenario> {
    let mut reader = Reader::default();
    let mut question = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix('#') {
            if number == 1 {
                comment.trim().clone_into(&mut question);
            }
            continue;
        }
        reader
            .statement(line)
            .map_err(|error| format!("line {number}: {error}"))?;
    }
    if question.is_empty() {
        return Err("line 1: a scenario begins with its question".to_owned());
    }
    reader.end_epoch();
    Ok(Scenario {
        question,
        rules: BillRules {
            zone: reader.zone.unwrap_or(Zone::Utc),
            dimensions: reader.dimensions,
        },
        script: reader.script,
        titles: reader.titles,
        names: reader.names,
    })
}

#[derive(Default)]
struct Reader {
    zone: Option<Zone>,
    dimensions: Vec<Dimension>,
    decimals: BTreeMap<String, u8>,
    stated: Stated,
    before: Stated,
    known: BTreeSet<u64>,
    script: Vec<Changes>,
    title: Option<String>,
    titles: Vec<String>,
    names: Names,
}

impl Reader {
    fn statement(&mut self, line: &str) -> Parsed<()> {
        let mut words = Words(line.split_whitespace().peekable());
        let Some(verb) = words.0.next() else {
            return Ok(());
        };
        match verb {
            "epoch" => {
                if self.title.is_some() || !self.is_unchanged() {
                    self.end_epoch();
                }
                self.title = Some(words.0.collect::<Vec<_>>().join(" "));
                Ok(())
            }
            "zone" => {
                let zone = words.next("the zone")?;
                let known = [Zone::Utc, Zone::Prague];
                self.zone = known.into_iter().find(|known| known.name() == zone);
                self.zone
                    .map(drop)
                    .ok_or(format!("zone {zone:?} is not known"))
            }
            "lines" => self.lines(words),
            "decimals" => {
                let item = words.next("the item")?.to_owned();
                self.decimals
                    .insert(item, number(words.next("the decimals")?)?);
                words.end()
            }
            "retract" => {
                let kind = words.next("what to retract")?;
                let name = words.next("its name")?;
                self.retract(kind, name)?;
                words.end()
            }
            "amend" => {
                let kind = words.next("what to amend")?;
                let name = words.0.peek().copied().ok_or("its name is missing")?;
                self.retract(kind, name)?;
                self.row(kind, words)
            }
            kind => self.row(kind, words),
        }
    }

    fn lines(&mut self, mut words: Words<'_>) -> Parsed<()> {
        if !words.flag("by") {
            return Err("\"by\" expected".to_owned());
        }
        for word in words.0 {
            self.dimensions.push(match word {
                "service" => Dimension::Service,
                "subscription" => Dimension::Subscription,
                "price" => Dimension::Price,
                _ => match word.strip_prefix("attribute:") {
                    Some(attribute) => Dimension::Attribute(self.names.name(attribute)),
                    None => return Err(format!("lines cannot differ by {word:?}")),
                },
            });
        }
        Ok(())
    }

    fn row(&mut self, kind: &str, mut words: Words<'_>) -> Parsed<()> {
        match kind {
            "account" => self.account(words),
            "subscription" => self.subscription(words),
            "service" => self.service(words),
            "price" => self.price(words),
            "clock" => self.clock(words),
            part if plan::KINDS.contains(&part) => self.plan(part, words),
            "usage" => self.usage(words),
            "ignored" | "error" => self.fate(kind == "error", words),
            "discard" => self.discard(words),
            "retry" => {
                let name = words.next("the record")?;
                let gone = self.stated.discards.remove(name);
                gone.map(drop).ok_or(format!("{name} is not discarded"))?;
                words.end()
            }
            _ => Err(format!("{kind:?} is not a statement")),
        }
    }

    fn retract(&mut self, kind: &str, name: &str) -> Parsed<()> {
        let stated = &mut self.stated;
        let gone = match kind {
            "account" => stated.accounts.remove(name).is_some(),
            "subscription" => stated.subscriptions.remove(name).is_some(),
            "service" => stated.services.remove(name).is_some(),
            "price" => {
                let volume = stated.plans.remove(&format!("volume {name}"));
                stated.prices.remove(name).is_some() || volume.is_some()
            }
            part if plan::KINDS.contains(&part) => {
                stated.plans.remove(&format!("{part} {name}")).is_some()
            }
            "usage" => stated.usage.remove(name).is_some(),
            "ignored" | "error" => stated.fates.remove(name).is_some(),
            _ => return Err(format!("{kind:?} cannot be retracted")),
        };
        gone.then_some(())
            .ok_or(format!("there is no {kind} {name}"))
    }

    fn account(&mut self, mut words: Words<'_>) -> Parsed<()> {
        let name = words.next("the account")?;
        let key = AccountKey::of(&[name]);
        self.names.enter(key.0, name);
        let currency = words.keyword("currency")?;
        let currency = self.names.name(currency);
        let cycle = match words.keyword("billing")? {
            "day" => Cycle::Day,
            "week" => Cycle::Week,
            "month" => Cycle::Month,
            "quarter" => Cycle::Quarter,
            "year" => Cycle::Year,
            other => return Err(format!("{other:?} is no billing cycle")),
        };
        let every = words.option("every")?.map(number).transpose()?.unwrap_or(1);
        let from = words.keyword("from")?;
        let from: Date = from
            .parse()
            .map_err(|_| format!("{from:?} is not a date"))?;
        let account = Account {
            key,
            currency,
            profile: BillingProfile::new(from, every, cycle),
        };
        self.stated
            .accounts
            .entry(name.to_owned())
            .or_default()
            .insert(account);
        words.end()
    }

    fn subscription(&mut self, mut words: Words<'_>) -> Parsed<()> {
        let name = words.next("the subscription")?;
        let key = SubscriptionKey::of(&[name]);
        self.names.enter(key.0, name);
        let account = AccountKey::of(&[words.keyword("account")?]);
        let lists = words.keyword("lists")?.split(',');
        let price_lists = lists.map(|list| self.names.name(list)).collect();
        let group = words.option("group")?.unwrap_or(name);
        let group = self.names.name(group);
        let valid = words.period()?;
        let status = match words.option("status")? {
            None | Some("active") => SubscriptionStatus::Active,
            Some("inactive") => SubscriptionStatus::Inactive,
            Some("closed") => SubscriptionStatus::Closed,
            Some(other) => return Err(format!("{other:?} is no status")),
        };
        let row = Subscription {
            key,
            account,
            group,
            price_lists,
            valid,
            status,
        };
        self.stated
            .subscriptions
            .entry(name.to_owned())
            .or_default()
            .insert(row);
        words.end()
    }

    fn service(&mut self, mut words: Words<'_>) -> Parsed<()> {
        let name = words.next("the service")?;
        let service = self.service_key(name)?;
        let row = ServiceUse {
            service,
            subscription: SubscriptionKey::of(&[words.keyword("subscription")?]),
            valid: words.period()?,
        };
        self.stated
            .services
            .entry(name.to_owned())
            .or_default()
            .insert(row);
        words.end()
    }

    fn service_key(&mut self, name: &str) -> Parsed<ServiceKey> {
        let (kind, id) = name.split_once('/').ok_or("a service is type/id")?;
        let key = ServiceKey::of(&[kind, id]);
        self.names.enter(key.0, name);
        Ok(key)
    }

    fn price(&mut self, mut words: Words<'_>) -> Parsed<()> {
        let name = words.next("the price")?;
        let key = PriceKey::of(&[name]);
        self.names.enter(key.0, name);
        let list = words.keyword("list")?;
        let item = words.keyword("item")?;
        let model = match words.option("tiers")? {
            Some(tiers) => self.tiered(tiers, &mut words)?,
            None => self.untiered(&mut words)?,
        };
        let mut conditions = Vec::new();
        if words.flag("when") {
            while let Some(word) = words.0.next_if(|word| word.contains('=')) {
                let (attribute, value) = word.split_once('=').unwrap_or_default();
                conditions.push(Condition {
                    attribute: self.names.name(attribute),
                    value: self.names.name(value),
                });
            }
        }
        let currency = words.option("currency")?.unwrap_or("USD");
        let account = words.option("account")?.map(|name| AccountKey::of(&[name]));
        let row = PriceRow {
            key,
            list: self.names.name(list),
            account,
            item: self.names.name(item),
            conditions,
            priority: words
                .option("priority")?
                .map(number)
                .transpose()?
                .unwrap_or(0),
            valid: words.period()?,
            model,
            currency: self.names.name(currency),
        };
        if let Some(volume) = plan::volume(&row) {
            self.names.enter(volume.key.0, name);
            let rows = self.stated.plans.entry(format!("volume {name}"));
            rows.or_default().insert(volume);
        }
        self.stated
            .prices
            .entry(name.to_owned())
            .or_default()
            .insert(row);
        words.end()
    }

    /// `0.01`, and what it buys.
    fn untiered(&mut self, words: &mut Words<'_>) -> Parsed<PriceModel> {
        let price = words.next("the amount")?;
        let price = Price::parse(price).map_err(|error| error.to_string())?;
        let per = words.option("per")?.map(number).transpose()?;
        let block = words.option("block")?.map(number).transpose()?;
        let by = words.option("by")?.map(|by| self.names.name(by));
        match (per, block, words.flag("per_record"), by) {
            (_, None, false, None) => Ok(PriceModel::PerUnit {
                price,
                per: per.unwrap_or(1),
            }),
            (None, Some(block), false, None) => Ok(PriceModel::PerBlock { price, block }),
            (None, Some(block), false, Some(accumulator)) => Ok(PriceModel::Package {
                price,
                block,
                accumulator,
            }),
            (None, None, true, None) => Ok(PriceModel::PerRecord { price }),
            _ => Err("one of per, block and per_record".to_owned()),
        }
    }

    fn position(&mut self, text: &str) -> Parsed<RecordId> {
        let (file, row) = text.split_once(':').ok_or("a record is file:row")?;
        let known = self.names.files.iter().position(|known| known == file);
        let index = known.unwrap_or_else(|| {
            self.names.files.push(file.to_owned());
            self.names.files.len() - 1
        });
        let file = u32::try_from(index).map_err(|error| error.to_string())?;
        Ok(RecordId::new(FileId(file), number(row)?))
    }

    fn fate(&mut self, error: bool, mut words: Words<'_>) -> Parsed<()> {
        let name = words.next("the record")?;
        let record = self.position(name)?;
        let fate = if error {
            let code = words.next("the reason")?;
            let reason = Reason::ALL.iter().find(|reason| reason.code() == code);
            Fate::Error(*reason.ok_or(format!("{code:?} is no reason"))?)
        } else {
            Fate::Ignored
        };
        self.stated
            .fates
            .entry(name.to_owned())
            .or_default()
            .insert((record, fate));
        words.end()
    }

    fn discard(&mut self, mut words: Words<'_>) -> Parsed<()> {
        let name = words.next("the record")?;
        let usage = self.stated.usage.get(name).and_then(BTreeSet::first);
        let place = usage.map(|usage| UsagePlace {
            service: usage.service,
            class: usage.class,
            time: usage.time,
        });
        let discard = Discard {
            record: self.position(name)?,
            reason: Reason::ServiceUnknown,
            place,
        };
        let discards = &mut self.stated.discards;
        discards.entry(name.to_owned()).or_default().insert(discard);
        words.end()
    }

    fn usage(&mut self, mut words: Words<'_>) -> Parsed<()> {
        let name = words.next("the record")?;
        let record = self.position(name)?;
        let identity = words.option("id")?.unwrap_or(name);
        let identity = IdentityBuilder::default()
            .field(identity.as_bytes())
            .finish();
        let service_name = words.keyword("service")?;
        let service = self.service_key(service_name)?;
        let kind = service_name.split_once('/').map_or("", |(kind, _)| kind);
        let time = time(words.keyword("at")?)?;
        let mut class = UsageClass {
            service_type: self.names.name(kind),
            attributes: Vec::new(),
            items: Default::default(),
        };
        let mut quantities = millrace_operators::domain::Quantities::new();
        for word in words.0 {
            let (left, right) = word
                .split_once('=')
                .ok_or(format!("{word:?} is not name=value"))?;
            let text = self.names.name(left);
            let Ok(mut quantity) = parse_decimal(right) else {
                class.attributes.push((text, self.names.name(right)));
                continue;
            };
            let scale = self.decimals.get(left).copied().unwrap_or(0);
            quantity.rescale(u32::from(scale));
            class.items.push(Item { name: text, scale });
            let mantissa = i64::try_from(quantity.mantissa());
            quantities.push(mantissa.map_err(|_| format!("{right:?} is too large"))?);
        }
        class.attributes.sort_unstable();
        let key = class.key();
        self.names.classes.insert(key.0, class);
        let row = Usage {
            record,
            identity,
            service,
            class: key,
            time,
            quantities,
            mark: None,
        };
        self.stated
            .usage
            .entry(name.to_owned())
            .or_default()
            .insert(row);
        Ok(())
    }

    fn changes(&self) -> Changes {
        fn difference<D: Ord + Clone>(
            old: &BTreeMap<String, BTreeSet<D>>,
            new: &BTreeMap<String, BTreeSet<D>>,
        ) -> Vec<(D, Diff)> {
            let (old, new): (BTreeSet<&D>, BTreeSet<&D>) = (
                old.values().flatten().collect(),
                new.values().flatten().collect(),
            );
            let removed = old.difference(&new).map(|row| ((*row).clone(), -1));
            removed
                .chain(new.difference(&old).map(|row| ((*row).clone(), 1)))
                .collect()
        }
        let (old, new) = (&self.before, &self.stated);
        let fates = difference(&old.fates, &new.fates).into_iter();
        let fault = |((record, fate), diff): &((RecordId, Fate), Diff)| match fate {
            Fate::Error(reason) => Some((fault(*record, *reason), *diff)),
            _ => None,
        };
        Changes {
            faults: fates.as_slice().iter().filter_map(fault).collect(),
            usage: difference(&old.usage, &new.usage),
            fates: fates
                .map(|((record, fate), diff)| (record.file(), fate, diff))
                .collect(),
            prices: difference(&old.prices, &new.prices),
            plans: difference(&old.plans, &new.plans),
            clock: difference(&old.clock, &new.clock),
            accounts: difference(&old.accounts, &new.accounts),
            subscriptions: difference(&old.subscriptions, &new.subscriptions),
            services: difference(&old.services, &new.services),
            discards: difference(&old.discards, &new.discards),
            ..Changes::default()
        }
    }

    fn is_unchanged(&self) -> bool {
        let changes = self.changes();
        changes.usage.is_empty()
            && changes.fates.is_empty()
            && changes.prices.is_empty()
            && changes.plans.is_empty()
            && changes.clock.is_empty()
            && changes.accounts.is_empty()
            && changes.subscriptions.is_empty()
            && changes.services.is_empty()
            && changes.discards.is_empty()
    }

    fn end_epoch(&mut self) {
        let mut changes = self.changes();
        for (usage, _) in &changes.usage {
            if self.known.insert(usage.class.0) {
                changes
                    .classes
                    .push((self.names.classes[&usage.class.0].clone(), 1));
            }
        }
        self.script.push(changes);
        self.titles.push(self.title.take().unwrap_or_default());
        self.before = self.stated.clone();
    }
}
