//! `millrace balance` on the command line.

use super::args::{BalanceArgs, SummaryFormat};
use super::ending::{Exit, Refusal, json, style};
use crate::balance::{
    AccountBalance, BalanceError, BalanceRequest, Balances, GroupBalance, balance,
};
use crate::console::Console;
use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::table::{Column, Style, Table};
use crate::terminal::Terminal;
use std::fmt::Write as _;
use std::sync::Arc;

impl From<BalanceError> for Refusal {
    fn from(error: BalanceError) -> Self {
        match error {
            BalanceError::Run(error) => error.into(),
            error @ (BalanceError::Request(_) | BalanceError::Outputs(_)) => {
                Self::Message(error.to_string())
            }
        }
    }
}

pub(super) fn show_balance(args: &BalanceArgs, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    let request = BalanceRequest {
        account: args.account.clone(),
        at: args.at.clone(),
        epoch: args.epoch,
        workers: args.workers,
    };
    let terminal = Arc::new(Terminal::on(console, Metrics::new()));
    let listener: Arc<dyn Listener> = Arc::<Terminal>::clone(&terminal);
    let asked = balance(&args.job, &request, &listener);
    terminal.end_progress();
    let balances = asked?;
    let text = match args.output {
        SummaryFormat::Table => tables(&balances, style(console)),
        SummaryFormat::Json => json(&balances)?,
    };
    console.result(&text)?;
    Ok(match balances.waiting.is_empty() {
        true => Exit::Ok,
        false => Exit::Findings,
    })
}

fn tables(balances: &Balances, style: Style) -> String {
    let accounts = balances.accounts.iter().map(|account| told(account, style));
    let accounts: Vec<String> = accounts.collect();
    let as_of = balances.at.as_ref().map(|at| format!("as of {at}"));
    let known = balances.epoch.map(|n| format!("as known at epoch {n}"));
    let when: Vec<String> = as_of.into_iter().chain(known).collect();
    let when = match when.as_slice() {
        [] => String::new(),
        when => format!("{}\n\n", when.join(", ")),
    };
    let mut text = match accounts.as_slice() {
        [] => format!("{when}nobody is charged, and nobody has a balance\n"),
        _ => format!("{when}{}", accounts.join("\n")),
    };
    for waiting in &balances.waiting {
        let (records, reason, hint) = (waiting.records, waiting.reason, waiting.hint);
        writeln!(
            text,
            "\nnot in these balances: {records} × {reason}; {hint}"
        )
        .expect("writing to a string does not fail");
    }
    style.fit(&text)
}

fn told(account: &AccountBalance, style: Style) -> String {
    let AccountBalance {
        account: name,
        currency,
        charged,
        usage,
        subscriptions,
        groups,
    } = account;
    let mut text = format!(
        "{name} is charged {charged} {currency}: {usage} for usage, {subscriptions} to subscriptions\n"
    );
    for group in groups {
        let others = group.accounts.iter().filter(|other| *other != name);
        let others: Vec<&str> = others.map(String::as_str).collect();
        let shared = match others.as_slice() {
            [] => String::new(),
            others => format!(", shared with {}", others.join(", ")),
        };
        writeln!(
            text,
            "\nbalance group {}{shared}\n{}",
            group.balance_group,
            table(group, style)
        )
        .expect("writing to a string does not fail");
    }
    text
}

fn table(group: &GroupBalance, style: Style) -> Table {
    let mut table = style.table([
        Column::text("resource"),
        Column::text("kind").spare(3),
        Column::text("from").spare(1),
        Column::text("to"),
        Column::number("opening").spare(4),
        Column::number("carried").spare(5),
        Column::number("used").spare(2),
        Column::number("value"),
        Column::number("limit"),
        Column::text("in"),
    ]);
    for bucket in &group.buckets {
        let counted_in = match bucket.measure {
            "money" => &group.currency,
            _ => bucket.measure,
        };
        table.add_row([
            bucket.resource.as_str(),
            bucket.kind,
            &bucket.valid_start,
            bucket.valid_end.as_deref().unwrap_or("-"),
            &bucket.opening,
            &bucket.carried,
            &bucket.used,
            &bucket.value,
            bucket.limit.as_deref().unwrap_or("-"),
            counted_in,
        ]);
    }
    table
}
