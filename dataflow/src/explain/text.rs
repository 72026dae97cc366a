//! An explanation for reading: one section per stage, from the file to the billing line.

use super::{
    BalanceTold, ChargeTold, Explanation, Fields, GuideTold, ItemPriceTold, LineTold, PriceTold,
    RawTold, ReasonTold, RuleTold, SubscriptionTold, TableTold, TierTold, UsageTold, VersionTold,
};
use crate::shown::shown;
use crate::table::{Cell, Column, Style, Table, wrap};
use comfy_table::Color;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Rows of a lookup table that are shown; JSON has all of them.
const TABLE_ROWS_MAX: usize = 20;
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
        if let Some(zone) = &self.zone {
            page.note(&format!(
                "instants are in UTC; days, months and bill units begin at midnight in {zone}"
            ));
        }
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
                None if self.archived.is_some() => "what it came to is in the archive",
                None => "left out by the rule's `where`",
            }),
        }
        if let Some(rule) = &self.rule {
            page.section("Rule");
            page.rule(rule);
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
        let width = self
            .style
            .width
            .map_or(usize::MAX, |width| width.saturating_sub(2));
        for line in wrap(&shown(note), width.max(1)) {
            self.line(&format!("  {line}"));
        }
    }

    fn title(&mut self, title: &str) {
        for title in wrap(&shown(title), self.style.width.unwrap_or(usize::MAX)) {
            self.line(&match self.style.colour {
                true => format!("\u{1b}[1m{title}\u{1b}[0m"),
                false => title,
            });
        }
    }

    fn section(&mut self, title: &str) {
        self.text.push('\n');
        self.title(title);
    }

    fn pairs(&mut self, pairs: &[(String, String)]) {
        let width = pairs.iter().map(|(name, _)| name.chars().count()).max();
        let width = width.unwrap_or(0);
        for (name, value) in pairs {
            // A value goes on below where it began.
            let room = self
                .style
                .width
                .map(|all| all.saturating_sub(width + 4).max(1));
            let (name, value) = (shown(name), cut(value));
            let mut lines = wrap(&shown(&value), room.unwrap_or(usize::MAX)).into_iter();
            let first = lines.next().unwrap_or_default();
            self.line(format!("  {name:width$}  {first}").trim_end());
            for line in lines {
                self.line(&format!("  {:width$}  {line}", ""));
            }
        }
    }

    fn table(&mut self, table: &Table) {
        self.line(&table.to_string());
    }

    fn rule(&mut self, rule: &RuleTold) {
        let said = |time: &Option<String>| time.clone().unwrap_or_else(|| "-".to_owned());
        if rule.digest.is_none() {
            return self.note("which rule the record was mediated by is not known");
        }
        if rule.in_force {
            return self.note(&format!("the one in force, since {}", said(&rule.since)));
        }
        self.note(&format!(
            "not the one in force: in force from {} to {}, and the record stays as it made it",
            said(&rule.since),
            said(&rule.until)
        ));
        let lines = rule.content.iter().flat_map(|content| content.lines());
        lines.for_each(|line| self.note(&line));
        if let Some(layout) = &rule.layout {
            self.pairs(&[pair("layout", layout)]);
        }
        for table in &rule.tables {
            self.lookup(table);
        }
    }

    fn lookup(&mut self, table: &TableTold) {
        let rows = table.rows;
        let Some(content) = &table.content else {
            let why = table.problem.clone().unwrap_or_else(|| {
                format!(
                    "they are too large, and the digest alone is kept, {}",
                    table.digest
                )
            });
            return self.note(&format!("table {}: {rows} rows; {why}", table.name));
        };
        self.note(&format!("table {}: {rows} rows", table.name));
        let columns = ["key"].into_iter();
        let columns = columns.chain(table.columns.iter().map(String::as_str));
        let mut shown = self.style.table(columns.map(Column::text));
        for row in content.iter().take(TABLE_ROWS_MAX) {
            shown.add_row(row.iter().map(|value| value.as_deref().unwrap_or("-")));
        }
        self.table(&shown);
    }

    fn versions(&mut self, versions: &[VersionTold]) {
        if versions.is_empty() {
            return;
        }
        let ranked = versions.iter().any(|version| version.rank.is_some());
        let mut columns = vec![
            Column::text("record"),
            Column::text("kind").spare(2),
            Column::text("event time").spare(1),
            Column::text("quantities"),
            Column::text("verdict"),
        ];
        if ranked {
            columns.insert(2, Column::text("ranked by"));
        }
        let mut table = self.style.table(columns);
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
                Cell::from(&version.record),
                Cell::from(version.kind),
                Cell::from(usage.map_or("-", |usage| usage.event_time.as_str())),
                Cell::from(quantities.unwrap_or_else(|| "-".to_owned())),
                self.verdict(&verdict),
            ];
            if ranked {
                row.insert(2, Cell::from(version.rank.as_deref().unwrap_or("-")));
            }
            table.add_row(row);
        }
        self.table(&table);
    }

    fn verdict(&self, verdict: &str) -> Cell {
        let cell = Cell::from(verdict);
        if verdict.starts_with("chosen") {
            cell.colour(Color::Green).bold()
        } else {
            cell
        }
    }

    fn guide(&mut self, guide: &GuideTold) {
        if guide.candidates.is_empty() {
            return self.note("no subscription has the service");
        }
        let mut table = self.style.table([
            Column::text("subscription"),
            Column::text("account"),
            Column::text("price lists").spare(2),
            Column::text("status").spare(4),
            Column::text("has the service").spare(1),
            Column::text("terms").spare(3),
            Column::text("verdict"),
        ]);
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
                Cell::from(subscription),
                Cell::from(account.as_deref().unwrap_or("-")),
                Cell::from(price_lists.join(", ")),
                Cell::from(status.unwrap_or("-")),
                Cell::from(service),
                Cell::from(terms.as_deref().unwrap_or("-")),
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
        let mut table = self.style.table([
            Column::text("price row"),
            Column::text("list").spare(3),
            Column::text("conditions").spare(1),
            Column::text("in force").spare(2),
            Column::number("priority").spare(4),
            Column::text("rate"),
            Column::text("currency"),
            Column::text("verdict"),
        ]);
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
                Cell::from(price),
                Cell::from(list),
                Cell::from(equalities(conditions.iter())),
                Cell::from(valid),
                Cell::from(priority.to_string()),
                Cell::from(rate),
                Cell::from(currency),
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
        let mut table = self.style.table([
            Column::text("bucket"),
            Column::text("kind").spare(1),
            Column::text("for usage").spare(2),
            Column::text("measure").spare(3),
            Column::number("before"),
            Column::number("after"),
        ]);
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
        let mut table = self.style.table([
            Column::text("impact"),
            Column::text("tier"),
            Column::text("bucket").spare(1),
            Column::number("units"),
            Column::number("amount"),
        ]);
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
        Fields::Gone(why) => pairs.push(pair("record", &format!("not kept: {why}"))),
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
