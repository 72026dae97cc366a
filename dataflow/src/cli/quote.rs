//! `millrace quote` on the command line: where the usage comes from, and how the quote is shown.

use super::args::{QueryFormat, QuoteArgs};
use super::ending::{Exit, Refusal, json, style};
use crate::console::Console;
use crate::quote::{LeftOut, Quote, QuoteError, QuoteLine, QuoteRequest, quote};
use crate::shown::shown_lines;
use crate::table::{Column, Style, Table};
use millrace_connectors::decode::{CsvLayout, Format, FormatEntry, format_of};
use millrace_operators::domain::EventTime;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

/// What stands for standard input.
const STANDARD_INPUT: &str = "-";

impl From<QuoteError> for Refusal {
    fn from(error: QuoteError) -> Self {
        match error {
            QuoteError::Configuration(findings) => Self::Diagnostics(findings),
            QuoteError::Request(message) => Self::Message(message),
        }
    }
}

pub(super) fn quote_usage(args: &QuoteArgs, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    let (usage, format) = open(args)?;
    let request = QuoteRequest {
        catalogs: args.catalog.clone(),
        job: args.job.clone(),
        source: args.source.clone(),
        price_list: args.price_list.clone(),
        account: args.account.clone(),
        at: EventTime::from(args.at.unwrap_or_else(jiff::Timestamp::now)),
        format,
        name: args.usage.clone(),
    };
    let quote = quote(&request, usage)?;
    match args.output {
        QueryFormat::Table => {
            let text = table_text(&quote, style(console));
            console.result(&text)?;
        }
        QueryFormat::Json => {
            let text = json(&quote)?;
            console.result(&text)?;
        }
        QueryFormat::Csv => {
            let text = csv_text(&quote).map_err(io::Error::from)?;
            console.result(&shown_lines(&text))?;
            // A table of lines has no room for it.
            console.say(&shown_lines(&beside(&quote)));
        }
    }
    Ok(if quote.is_complete() {
        Exit::Ok
    } else {
        Exit::Findings
    })
}

fn csv_text(quote: &Quote) -> Result<String, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut lines = quote.lines.iter();
    lines.try_for_each(|line| writer.serialize(line))?;
    let written = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8_lossy(&written).into_owned())
}

/// The usage and its format: as told, as the name suggests, or as its first character does.
fn open(args: &QuoteArgs) -> Result<(Box<dyn Read + Send>, Format), Refusal> {
    let name = &args.usage;
    let told = format_of(name, args.format.as_ref(), &CsvLayout::default());
    let failed = |error| Refusal::Message(format!("cannot read {name:?}: {error}"));
    let packed = [".gz", ".zst"].iter().any(|ending| name.ends_with(ending));
    if packed && args.job.is_none() {
        let message = format!("{name:?} is compressed; unpack it and pipe it in");
        return Err(Refusal::Message(message));
    }
    if name != STANDARD_INPUT {
        let file = File::open(name).map_err(failed)?;
        let hint = || {
            let hint = format!("add --format {}", FormatEntry::listed());
            Refusal::Message(format!(
                "the format of {name:?} cannot be told from its name; {hint}"
            ))
        };
        return Ok((Box::new(BufReader::new(file)), told.ok_or_else(hint)?));
    }
    let mut input = BufReader::new(io::stdin());
    let format = match told {
        Some(format) => format,
        None => Format::of_beginning(input.fill_buf().map_err(failed)?),
    };
    Ok((Box::new(input), format))
}

fn table_text(quote: &Quote, style: Style) -> String {
    let mut text = format!("{}\n", table(&quote.lines, style));
    for (currency, total) in &quote.totals {
        text.push_str(&format!("total {total} {currency}\n"));
    }
    text.push_str(&beside(quote));
    let refused = quote
        .lines
        .iter()
        .filter(|line| line.reason.is_some())
        .count();
    if refused > 0 {
        text.push_str(&format!(
            "not priced: {refused} of {} lines\n",
            quote.lines.len()
        ));
    }
    style.fit(&text)
}

/// What the total does not hold, and what it takes for granted.
fn beside(quote: &Quote) -> String {
    let mut text = String::new();
    for part in &quote.left_out {
        let LeftOut {
            kind,
            item,
            amount,
            currency,
            cycle_start,
            cycle_end,
        } = part;
        let what = match *kind {
            "commitment" => "what the commitment lacks if no more is used",
            _ => "charged without usage",
        };
        text.push_str(&format!(
            "not included: {item} {amount} {currency}, {cycle_start} to {cycle_end} ({what})\n"
        ));
    }
    for note in &quote.notes {
        text.push_str(&format!("{note}\n"));
    }
    text
}

fn table(lines: &[QuoteLine], style: Style) -> Table {
    let mut table = style.table([
        Column::number("row"),
        Column::text("item"),
        Column::number("quantity").spare(1),
        Column::text("price row"),
        Column::number("amount"),
        Column::text("currency"),
    ]);
    for line in lines {
        let shown = |text: &Option<String>| text.clone().unwrap_or_default();
        let price = match (line.reason, &line.message) {
            (Some(reason), Some(message)) => format!("{reason}: {message}"),
            (Some(reason), None) => reason.to_owned(),
            (None, _) => shown(&line.price),
        };
        let amount = match (&line.amount, line.reason) {
            (None, None) => "in the volume".to_owned(),
            (amount, _) => shown(amount),
        };
        table.add_row([
            line.row.to_string(),
            line.item.clone(),
            line.quantity.clone(),
            price,
            amount,
            shown(&line.currency),
        ]);
    }
    table
}
