//! `millrace replay` on the command line.

use super::args::{ReplayArgs, SummaryFormat};
use super::ending::{Exit, Refusal, json, style};
use crate::console::Console;
use crate::replay::{Replay, ReplayError, ReplayRequest, TotalDifference, replay};
use crate::table::{Column, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Write as _;

/// Lines that differ shown for one account; more are counted.
const LINES_SHOWN: usize = 20;
/// Accounts that differ shown; more are counted.
const ACCOUNTS_SHOWN: usize = 50;

impl From<ReplayError> for Refusal {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Configuration(findings) => Self::Diagnostics(findings),
            other => Self::Message(other.to_string()),
        }
    }
}

pub(super) fn replay_archive(
    args: &ReplayArgs,
    console: &mut Console<'_>,
) -> Result<Exit, Refusal> {
    let request = ReplayRequest {
        archive: args.archive.clone(),
        catalogs: args.catalog.clone(),
        accounts: args.accounts_file.clone(),
        from: args.from.clone(),
        to: args.to.clone(),
        names: args.accounts.clone(),
        workers: args.workers,
    };
    let bar = console.shows_progress().then(bar);
    let progress = |done: u64, total: u64| {
        if let Some(bar) = &bar {
            bar.set_length(total.max(done));
            bar.set_position(done);
        }
    };
    let replayed = replay(&request, &progress);
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let replayed = replayed?;
    let text = match args.output {
        SummaryFormat::Table => told(&replayed, style(console)),
        SummaryFormat::Json => json(&replayed)?,
    };
    console.result(&text)?;
    Ok(if replayed.is_equal() {
        Exit::Ok
    } else {
        Exit::Findings
    })
}

fn bar() -> ProgressBar {
    let template = "{wide_bar} {human_pos} of {human_len} records, {eta} left";
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}

fn told(replay: &Replay, style: Style) -> String {
    let Replay {
        records,
        bills,
        suspended,
        accounts,
        totals,
        periods,
        ..
    } = replay;
    let mut text = String::new();
    for account in accounts.iter().take(ACCOUNTS_SHOWN) {
        let mut table = style.table([
            Column::text("bill unit"),
            Column::text("item"),
            Column::number("billed").spare(2),
            Column::number("rerated").spare(1),
            Column::number("difference"),
        ]);
        for line in account.lines.iter().take(LINES_SHOWN) {
            let grouped = line.grouped_by.values().map(String::as_str);
            let item: Vec<&str> = grouped.chain([line.item.as_str()]).collect();
            table.add_row([
                format!("{} – {}", line.bill_unit_start, line.bill_unit_end),
                item.join(" / "),
                line.billed.clone(),
                line.rerated.clone(),
                line.difference.clone(),
            ]);
        }
        let more = account.lines.len().saturating_sub(LINES_SHOWN);
        let more = match more {
            0 => String::new(),
            more => format!("and {more} more lines\n"),
        };
        put(
            &mut text,
            &format!(
                "{}: {}\n{table}\n{more}\n",
                account.account,
                sums(&account.total)
            ),
        );
    }
    let more = accounts.len().saturating_sub(ACCOUNTS_SHOWN);
    if more > 0 {
        put(
            &mut text,
            &format!("and {more} more accounts; --output json has all\n\n"),
        );
    }
    for waiting in suspended {
        let (records, reason, hint) = (waiting.records, waiting.reason, waiting.hint);
        put(
            &mut text,
            &format!("{records} records are not billed now, {reason}: {hint}\n"),
        );
    }
    let (first, last) = (periods.first(), periods.last());
    let range = first
        .zip(last)
        .map(|(first, last)| format!("{} – {}", first.0, last.1));
    put(
        &mut text,
        &format!(
            "{records} records of {bills} bills in {} periods, {}\n",
            periods.len(),
            range.unwrap_or_default()
        ),
    );
    for total in totals {
        put(&mut text, &format!("total {}\n", sums(total)));
    }
    let verdict = match accounts.len() {
        0 => "nothing differs from what was billed\n".to_owned(),
        1 => "1 account differs from what was billed\n".to_owned(),
        many => format!("{many} accounts differ from what was billed\n"),
    };
    put(&mut text, &verdict);
    style.fit(&text)
}

fn sums(total: &TotalDifference) -> String {
    let TotalDifference {
        currency,
        billed,
        rerated,
        difference,
    } = total;
    format!("billed {billed}, rerated {rerated}, difference {difference} {currency}")
}

fn put(text: &mut String, part: &str) {
    text.write_str(part)
        .expect("writing to a string does not fail");
}
