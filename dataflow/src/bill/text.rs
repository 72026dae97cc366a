//! Bills for reading, and as CSV.

use super::{Bill, Bills};
use crate::report::{grouped, shortened};
use crate::shown::shown;
use crate::table::{Column, Style, wrap};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use millrace_connectors::output::spreadsheet_text;
use std::fmt::Write as _;

impl Bills {
    /// As text: one table a bill, and what all come to.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut page = Page {
            style,
            text: String::new(),
        };
        page.line(&format!("{}: from {}", self.job, self.source));
        for bill in &self.bills {
            page.bill(bill, &self.grouped_by);
        }
        if self.bills.is_empty() {
            page.line("");
            page.line(&match self.others.as_slice() {
                [] => "nothing is billed".to_owned(),
                [only] => format!("no bill unit of that period; there is one that begins {only}"),
                [first, .., last] => format!(
                    "no bill unit of that period; there are {} from {first} to {last}",
                    self.others.len()
                ),
            });
        }
        if !self.totals.is_empty() {
            page.line("");
        }
        for total in &self.totals {
            let (exact, of) = (&total.exact, &total.of);
            let bills = self.bills.iter().filter(|bill| bill.currency == *of);
            let bills = match bills.count() {
                1 => "1 bill".to_owned(),
                many => format!("{} bills", grouped(&many.to_string())),
            };
            let (rounding, paid) = (&total.rounding, grouped(&total.total));
            page.line(&format!(
                "{bills} in {of}: exact {exact}, rounding {rounding}, total {paid} {of}"
            ));
        }
        for money in self.summary.iter().flatten() {
            let (amount, currency) = (&money.amount, &money.currency);
            page.line(&format!(
                "the summary of the run says {amount} {currency}: ties out ✓"
            ));
        }
        for waiting in &self.waiting {
            let (records, reason, hint) = (waiting.records, waiting.reason, waiting.hint);
            let records = grouped(&records.to_string());
            page.line(&format!("on no bill: {records} × {reason}; {hint}"));
        }
        for charge in &self.unsettled {
            let (item, account, reason) = (&charge.item, &charge.account, charge.reason);
            let hint = charge.hint;
            page.line(&format!(
                "on no bill: {item} of {account}, {reason}; {hint}"
            ));
        }
        page.text
    }

    /// As CSV: a row for each line, each activity and each rounding, whose amounts add up to what is
    /// paid.
    ///
    /// # Errors
    /// Never: it is written to memory.
    pub fn csv(&self) -> Result<String, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let header = [
            "account",
            "bill_unit_start",
            "bill_unit_end",
            "kind",
            "item",
        ];
        let header = header.into_iter().map(str::to_owned);
        let header = header.chain(self.grouped_by.iter().map(|name| spreadsheet_text(name)));
        let rest = [
            "aggregate_id",
            "charges",
            "quantity",
            "rate",
            "amount",
            "currency",
        ];
        writer.write_record(header.chain(rest.map(str::to_owned)))?;
        for bill in &self.bills {
            let row = |kind: &str, item: &str, groups: &[Option<String>], numbers: [String; 5]| {
                let begins = [
                    spreadsheet_text(&bill.account),
                    with_offset(&bill.bill_unit_start, &self.zone),
                    with_offset(&bill.bill_unit_end, &self.zone),
                    kind.to_owned(),
                    spreadsheet_text(item),
                ];
                let group = |index: usize| groups.get(index).and_then(Option::as_deref);
                let groups = (0..self.grouped_by.len())
                    .map(|index| group(index).map(spreadsheet_text).unwrap_or_default());
                let currency = [spreadsheet_text(&bill.currency)];
                let begins = begins.into_iter().chain(groups);
                begins
                    .chain(numbers)
                    .chain(currency)
                    .collect::<Vec<String>>()
            };
            for line in &bill.lines {
                let numbers = [
                    line.aggregate_id.clone(),
                    line.charges.to_string(),
                    line.quantity.clone(),
                    line.rate.clone().unwrap_or_default(),
                    line.amount.clone(),
                ];
                writer.write_record(row("usage", &line.item, &line.grouped_by, numbers))?;
            }
            let empty = String::new;
            for charge in &bill.activity {
                // Where lines are grouped by subscription, so is what subscriptions are charged.
                let group =
                    |name: &String| (name == "subscription").then(|| charge.subscription.clone());
                let groups: Vec<_> = self.grouped_by.iter().map(group).collect();
                let id = charge.aggregate_id.clone();
                let numbers = [id, empty(), empty(), empty(), charge.amount.clone()];
                writer.write_record(row(charge.kind, &charge.item, &groups, numbers))?;
            }
            let rounding = bill.sum.rounding.clone();
            let numbers = [empty(), empty(), empty(), empty(), rounding];
            writer.write_record(row("rounding", "", &[], numbers))?;
        }
        let bytes = writer.into_inner().map_err(|error| error.into_error())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// An instant with the offset that the zone has then: a bill unit begins at the midnight that people know.
fn with_offset(instant: &str, zone: &TimeZone) -> String {
    let at = instant.parse::<Timestamp>().ok();
    let at = at.map(|at| (at, zone.to_offset(at)));
    match at.filter(|(_, offset)| !offset.is_zero()) {
        Some((at, offset)) => at.display_with_offset(offset).to_string(),
        None => instant.to_owned(),
    }
}

struct Page {
    style: Style,
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        for line in wrap(&shown(line), self.style.width.unwrap_or(usize::MAX)) {
            writeln!(self.text, "{line}").expect("writing to a string does not fail");
        }
    }

    fn bill(&mut self, bill: &Bill, grouped_by: &[String]) {
        let Bill {
            account,
            from,
            to,
            currency,
            lines,
            activity,
            sum,
            ..
        } = bill;
        self.line("");
        self.line(&format!("{account}, {from} – {to}, {currency}"));
        if !lines.is_empty() {
            let groups = grouped_by.iter().map(Column::text);
            let columns = [Column::text("item")].into_iter().chain(groups);
            let numbers = [
                Column::number("charges").spare(3),
                Column::number("quantity").spare(1),
                Column::number("rate").spare(2),
                Column::number("amount"),
                Column::number("rounded").spare(4),
            ];
            let mut table = self.style.table(columns.chain(numbers));
            for line in lines {
                let groups = line.grouped_by.iter();
                let groups = groups.map(|group| group.clone().unwrap_or_else(|| "-".to_owned()));
                let rate = line.rate.as_deref().map(shortened);
                let numbers = [
                    grouped(&line.charges.to_string()),
                    grouped(&line.quantity),
                    rate.unwrap_or_else(|| "-".to_owned()),
                    line.amount.clone(),
                    grouped(&line.rounded),
                ];
                let row = [line.item.clone()].into_iter().chain(groups).chain(numbers);
                table.add_row(row);
            }
            self.table(&table.to_string());
        }
        if !activity.is_empty() {
            let mut table = self.style.table([
                Column::text("item"),
                Column::text("kind").spare(2),
                Column::text("subscription"),
                Column::text("from"),
                Column::text("to").spare(1),
                Column::number("amount"),
                Column::number("rounded").spare(3),
            ]);
            for charge in activity {
                table.add_row([
                    charge.item.clone(),
                    charge.kind.to_owned(),
                    charge.subscription.clone(),
                    charge.from.clone(),
                    charge.to.clone(),
                    charge.amount.clone(),
                    grouped(&charge.rounded),
                ]);
            }
            self.table(&table.to_string());
        }
        let (exact, rounding, total) = (&sum.exact, &sum.rounding, grouped(&sum.total));
        self.line(&format!(
            "exact {exact}, rounding {rounding}, total {total} {currency}"
        ));
    }

    fn table(&mut self, table: &str) {
        self.text.push_str(table);
        self.text.push('\n');
    }
}
