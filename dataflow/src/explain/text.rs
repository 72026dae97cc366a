//! An explanation for reading: one section per stage, from the file to the billing line.

use super::{
    BalanceTold, ChargeTold, Explanation, Fields, GuideTold, ItemPriceTold, LineTold, PriceTold,
    RawTold, ReasonTold, SubscriptionTold, TierTold, UsageTold, VersionTold,
};
use crate::report::Style;
use comfy_table::{Attribute, Cell, Color, Table};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A value longer than this is cut on a terminal; JSON has all of it.
const VALUE_CHARS_MAX: usize = 200;

impl Explanation {
    /// As text.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut page = Page {
            style,
            text: String::new(),
        };
        page.title(&format!("{} is {}", self.record, self.code));
        if let Some(reason) = &self.reason {
            page.pairs(&reason_pairs(reason, self.duplicate_of.as_deref()));
        }
        page.section("Raw record");
        page.pairs(&raw_pairs(&self.raw));
        page.section("Mediation");
        match &self.usage {
            Some(usage) => page.pairs(&usage_pairs(usage)),
            None => page.note(match self.reason {
                Some(_) => "stopped here",
                None => "left out by the rule's `where`",
            }),
        }
        if self.usage.is_some() {
            page.section("Dedup");
            page.note(&match (&self.duplicate_of, self.code) {
                (Some(first), "DUPLICATE") => format!("stopped here: a copy of {first}"),
                (Some(other), "VOID") => format!("takes {other} out"),
                (Some(holds), _) => format!("stopped here: {holds} holds"),
                (None, "ORIGINAL_MISSING") => "waits for the record that it corrects".to_owned(),
                (None, _) if self.versions.is_empty() => "the first with its identity".to_owned(),
                (None, _) => "holds, of all with its identity".to_owned(),
            });
            page.versions(&self.versions);
        }
        if let Some(archive) = &self.archived {
            page.section("Archive");
            page.note(&format!(
                "its bill unit is closed; `millrace replay` rates the archive in {archive} again"
            ));
        }
        if let Some(guide) = &self.guide {
            page.section("Subscription");
            page.guide(guide);
        }
        for price in &self.prices {
            page.section(&format!("Price of {}", price.item));
            page.price(price);
        }
        if let Some(balances) = &self.balances {
            page.section("Balances");
            page.balances(balances);
        }
        for charge in &self.charges {
            page.section(&format!("Charge for {}", charge.item));
            page.charge(charge);
        }
        if !self.charges.is_empty() {
            page.section("Billing lines");
            page.lines(self.charges.iter().map(|charge| &charge.line));
        }
        page.text
    }
}

/// Text in the making.
struct Page {
    style: Style,
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        writeln!(self.text, "{line}").expect("writing to a string does not fail");
    }

    fn note(&mut self, note: &str) {
        self.line(&format!("  {note}"));
    }

    fn title(&mut self, title: &str) {
        let line = if self.style.colour {
            format!("\u{1b}[1m{title}\u{1b}[0m")
        } else {
            title.to_owned()
        };
        self.line(&line);
    }

    fn section(&mut self, title: &str) {
        self.text.push('\n');
        self.title(title);
    }

    fn pairs(&mut self, pairs: &[(String, String)]) {
        let width = pairs.iter().map(|(name, _)| name.chars().count()).max();
        let width = width.unwrap_or(0);
        for (name, value) in pairs {
            self.line(format!("  {name:width$}  {}", cut(value)).trim_end());
        }
    }

    fn table(&mut self, table: &Table) {
        self.line(&table.to_string());
    }

    fn versions(&mut self, versions: &[VersionTold]) {
        if versions.is_empty() {
            return;
        }
        let ranked = versions.iter().any(|version| version.rank.is_some());
        let mut header = vec!["record", "kind", "event time", "quantities", "verdict"];
        if ranked {
            header.insert(2, "ranked by");
        }
        let mut table = self.style.table(&header, 0..0);
        for version in versions {
            let usage = version.usage.as_ref();
            let quantities = usage.map(|usage| {
                let items = usage.items.iter().map(|(name, quantity)| (name, quantity));
                equalities(items)
            });
            let verdict = match (version.code, &version.because) {
                ("HOLDS", _) => "chosen: it holds".to_owned(),
                ("VOID", Some(original)) => format!("VOID: takes {original} out"),
                (code, Some(holds)) => format!("{code}: {holds} decides"),
                (code, None) => code.to_owned(),
            };
            let mut row = vec![
                Cell::new(&version.record),
                Cell::new(version.kind),
                Cell::new(usage.map_or("-", |usage| usage.event_time.as_str())),
                Cell::new(quantities.unwrap_or_else(|| "-".to_owned())),
                self.verdict(&verdict),
            ];
            if ranked {
                row.insert(2, Cell::new(version.rank.as_deref().unwrap_or("-")));
            }
            table.add_row(row);
        }
        self.table(&table);
    }

    fn verdict(&self, verdict: &str) -> Cell {
        let cell = Cell::new(verdict);
        if verdict.starts_with("chosen") {
            cell.fg(Color::Green).add_attribute(Attribute::Bold)
        } else {
            cell
        }
    }

    fn guide(&mut self, guide: &GuideTold) {
        if guide.candidates.is_empty() {
            return self.note("no subscription has the service");
        }
        let header = [
            "subscription",
            "account",
            "price lists",
            "status",
            "has the service",
            "terms",
            "verdict",
        ];
        let mut table = self.style.table(&header, 0..0);
        for SubscriptionTold {
            subscription,
            account,
            price_lists,
            status,
            service,
            terms,
            verdict,
        } in &guide.candidates
        {
            table.add_row([
                Cell::new(subscription),
                Cell::new(account.as_deref().unwrap_or("-")),
                Cell::new(price_lists.join(", ")),
                Cell::new(status.unwrap_or("-")),
                Cell::new(service),
                Cell::new(terms.as_deref().unwrap_or("-")),
                self.verdict(verdict),
            ]);
        }
        self.table(&table);
        if guide.in_order {
            self.note("charged in order, with the usage of its balance group");
        }
    }

    fn price(&mut self, price: &ItemPriceTold) {
        if price.needs_none {
            self.note("no price, and none is needed: there is nothing of the item");
        }
        if price.candidates.is_empty() {
            return self.note("no price row names the item");
        }
        let header = [
            "price row",
            "list",
            "conditions",
            "in force",
            "priority",
            "rate",
            "currency",
            "verdict",
        ];
        let mut table = self.style.table(&header, 4..5);
        for PriceTold {
            price,
            list,
            account,
            conditions,
            valid,
            priority,
            rate,
            currency,
            verdict,
        } in &price.candidates
        {
            let list = match account {
                Some(account) => format!("{list}, for {account}"),
                None => list.clone(),
            };
            table.add_row([
                Cell::new(price),
                Cell::new(list),
                Cell::new(equalities(conditions.iter())),
                Cell::new(valid),
                Cell::new(priority),
                Cell::new(rate),
                Cell::new(currency),
                self.verdict(verdict),
            ]);
        }
        self.table(&table);
        let more = [
            (price.more_with_other_conditions, "with other conditions"),
            (price.more_of_other_lists, "of other lists"),
        ];
        for (count, which) in more.iter().filter(|(count, _)| *count > 0) {
            self.note(&format!("and {count} more {which}; --all lists them"));
        }
    }

    fn balances(&mut self, balances: &[BalanceTold]) {
        if balances.is_empty() {
            return self.note("no bucket holds the time of usage");
        }
        let header = ["bucket", "kind", "for usage", "measure", "before", "after"];
        let mut table = self.style.table(&header, 4..6);
        for balance in balances {
            let kind = match &balance.limit {
                Some(limit) => format!("{} of {limit}", balance.kind),
                None => balance.kind.to_owned(),
            };
            table.add_row([
                &balance.resource,
                &kind,
                &balance.valid,
                balance.measure,
                &balance.before,
                &balance.after,
            ]);
        }
        self.table(&table);
    }

    fn charge(&mut self, charge: &ChargeTold) {
        self.pairs(&[
            pair("quantity", &charge.quantity),
            pair("price row", &charge.price),
        ]);
        let header = ["impact", "tier", "bucket", "units", "amount"];
        let mut table = self.style.table(&header, 3..5);
        for impact in &charge.impacts {
            // A price may be nothing; anything else moves units or money, and says nothing by a zero.
            let moved = |value: &str| match (impact.kind, value) {
                ("price", value) => value.to_owned(),
                (_, "0") => String::new(),
                (_, value) => value.to_owned(),
            };
            table.add_row([
                impact.kind,
                &impact.tier.as_ref().map(tier_text).unwrap_or_default(),
                impact.bucket.as_deref().unwrap_or_default(),
                &moved(&impact.units),
                &moved(&impact.amount),
            ]);
        }
        self.table(&table);
        if let Some(note) = charge.note {
            self.note(note);
        }
        self.pairs(&[
            pair(
                "exact",
                &format!("{} {}", plain(&charge.amount), charge.currency),
            ),
            pair(
                "displayed",
                &format!("{} {}", charge.displayed, charge.currency),
            ),
        ]);
    }

    fn lines<'a>(&mut self, lines: impl Iterator<Item = &'a LineTold>) {
        for line in lines {
            self.pairs(&line_pairs(line));
            self.text.push('\n');
        }
        self.text.pop();
    }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// A decimal without the zeros at its end.
fn plain(amount: &str) -> &str {
    match amount.contains('.') {
        true => amount.trim_end_matches('0').trim_end_matches('.'),
        false => amount,
    }
}

fn cut(value: &str) -> String {
    let line = value.replace(['\n', '\r'], " ");
    match line.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn equalities<'a>(pairs: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    if pairs.is_empty() {
        "any".to_owned()
    } else {
        pairs.join(", ")
    }
}

fn tier_text(tier: &TierTold) -> String {
    let per = match tier.per {
        1 => String::new(),
        per => format!(" per {per}"),
    };
    let range = match &tier.to {
        Some(to) => format!("{} to {to}", tier.from),
        None => format!("from {}", tier.from),
    };
    format!("{}: {range} at {}{per}", tier.tier, tier.price)
}

fn reason_pairs(reason: &ReasonTold, original: Option<&str>) -> Vec<(String, String)> {
    let given = [
        ("stage", Some(reason.stage)),
        ("item", reason.item.as_deref()),
        ("field", reason.field.as_deref()),
        ("found", reason.detail.as_deref()),
        ("first", original),
        ("to do", Some(reason.hint)),
    ];
    let given = given
        .iter()
        .filter_map(|(name, value)| Some(pair(name, (*value)?)));
    given.collect()
}

fn raw_pairs(raw: &RawTold) -> Vec<(String, String)> {
    let line = raw.line.map(|line| format!(" (line {line})"));
    let mut pairs = vec![
        pair("source", &raw.source),
        pair(
            "file",
            &format!("{} (number {})", raw.file, raw.file_number),
        ),
        pair("row", &format!("{}{}", raw.row, line.unwrap_or_default())),
    ];
    match &raw.fields {
        Fields::Columns(columns) => {
            let column = |(name, text): &(String, Option<String>)| {
                pair(name, text.as_deref().unwrap_or("-"))
            };
            pairs.extend(columns.iter().map(column));
        }
        Fields::Json(record) => pairs.push(pair("record", record.get())),
        Fields::Text(text) => pairs.push(pair("bytes", text)),
    }
    pairs
}

fn usage_pairs(usage: &UsageTold) -> Vec<(String, String)> {
    let attributes: BTreeMap<&String, &String> = usage.attributes.iter().collect();
    let mut pairs = vec![
        pair(
            "service",
            &format!("{} {}", usage.service_type, usage.service),
        ),
        pair("event time", &usage.event_time),
        pair("identity", &usage.identity),
        pair("attributes", &equalities(attributes.into_iter())),
    ];
    if usage.attributes.is_empty() {
        pairs.pop();
    }
    pairs.extend(usage.items.iter().cloned());
    pairs
}

fn line_pairs(line: &LineTold) -> Vec<(String, String)> {
    let unit = format!("{} to {}", line.bill_unit_start, line.bill_unit_end);
    let mut pairs = vec![
        pair("aggregate id", &line.aggregate_id),
        pair("account", &line.account),
        pair("bill unit", &unit),
        pair("item", &line.item),
    ];
    let dimension =
        |(name, value): (&String, &Option<String>)| pair(name, value.as_deref().unwrap_or("-"));
    pairs.extend(line.grouped_by.iter().map(dimension));
    pairs.push(pair("charges", &line.charges.to_string()));
    pairs.push(pair("quantity", &line.quantity));
    pairs.push(pair("exact", &format!("{} {}", line.amount, line.currency)));
    pairs.push(pair(
        "displayed",
        &format!("{} {}", line.displayed, line.currency),
    ));
    pairs
}
