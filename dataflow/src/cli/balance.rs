//! `millrace balance` on the command line.

use super::args::{BalanceArgs, SummaryFormat};
use super::{Exit, Refusal, style};
use crate::balance::{
    AccountBalance, BalanceError, BalanceRequest, Balances, GroupBalance, balance,
};
use crate::console::Console;
use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::report::Style;
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
    let (talk, colour) = (console.talk(), console.colours_talk());
    let is_terminal = console.surroundings().err_is_terminal;
    let terminal = Arc::new(Terminal::new(talk, colour, Metrics::new(), is_terminal));
    let listener: Arc<dyn Listener> = Arc::<Terminal>::clone(&terminal);
    let asked = balance(&args.job, &request, &listener);
    terminal.end_progress();
    let balances = asked?;
    let text = match args.output {
        SummaryFormat::Table => tables(&balances, style(console)),
        SummaryFormat::Json => format!("{}\n", serde_json::to_string_pretty(&balances)?),
    };
    console.result(&text)?;
    Ok(Exit::Ok)
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
    match accounts.as_slice() {
        [] => format!("{when}nobody is charged, and nobody has a balance\n"),
        _ => format!("{when}{}", accounts.join("\n")),
    }
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

fn table(group: &GroupBalance, style: Style) -> comfy_table::Table {
    let header = [
        "resource", "kind", "from", "to", "opening", "carried", "used", "value", "limit", "in",
    ];
    let mut table = style.table(&header, 4..9);
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
