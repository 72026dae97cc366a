//! What a running job says to the person who started it.
//!
//! While a bar moves on the terminal, everything else is said above it. A saved file is answered
//! with what it changed: rows, records, money before and after, who won and lost, milliseconds. When all
//! that was read stands, the bill is told, and from then on what is new of it.

use crate::board::ReasonCount;
use crate::console::{Console, Talk};
use crate::listener::{AccountMoved, ChangeReport, Listener, Standing};
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::render::render;
use crate::report::grouped;
use crate::shown::{shown, shown_lines};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::redact::redacted;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Prices, parts of plans and accounts named one by one in the answer to a saved file; more are counted.
const NAMED: usize = 5;
/// How many lines about what stands are said within [`WHILE`]; what comes between is in the next.
const LINES_SAID: usize = 5;
/// See [`LINES_SAID`].
const WHILE: Duration = Duration::from_secs(10);

/// See the module.
pub struct Terminal {
    talk: Talk,
    colour: bool,
    quiet: bool,
    progress: Mutex<Option<Progress>>,
    told: Mutex<Told>,
}

/// What a watching job has told of what stands.
#[derive(Default)]
struct Told {
    standing: Option<Standing>,
    at: VecDeque<Instant>,
}

impl Terminal {
    /// A listener that talks on the console, and shows the progress that `metrics` report until the first
    /// results stand.
    #[must_use]
    pub fn on(console: &Console<'_>, metrics: Arc<Metrics>) -> Self {
        let progress = console.shows_progress().then(|| Progress::start(metrics));
        Self {
            talk: console.talk(),
            colour: console.colours_talk(),
            quiet: console.is_quiet(),
            progress: Mutex::new(progress),
            told: Mutex::default(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Option<Progress>> {
        self.progress.lock().expect("whoever talks does not panic")
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("whoever talks does not panic")
    }

    /// Says something that a person must know.
    pub fn say(&self, text: &str) {
        match &*self.progress() {
            Some(progress) => progress.aside(|| self.talk.say(text)),
            None => self.talk.say(text),
        }
    }

    /// Says something that a person may want to know.
    fn mention(&self, text: &str) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// Shows no more progress.
    pub fn end_progress(&self) {
        self.progress().take();
    }
}

impl Listener for Terminal {
    fn message(&self, text: &str) {
        self.mention(&format!("{}\n", shown_lines(&redacted(text))));
    }

    fn warned(&self, findings: &[Diagnostic]) {
        self.say(&render(findings, self.colour));
    }

    fn rejected(&self, findings: &[Diagnostic]) {
        let text = render(findings, self.colour);
        self.say(&format!(
            "{text}not applied: what was in force before stays in force\n"
        ));
    }

    fn changed(&self, change: &ChangeReport) {
        self.mention(&describe(change));
        // The money is told; what else the change did is told with what stands.
        if let Some(standing) = &mut self.told().standing {
            for (_, after) in &change.money {
                let told = standing.totals.iter_mut();
                let mut told = told.filter(|money| money.currency == after.currency);
                match told.next() {
                    Some(money) => *money = after.clone(),
                    None => standing.totals.push(after.clone()),
                }
            }
        }
    }

    fn settled(&self) {
        self.end_progress();
    }

    fn stands(&self, standing: &Standing) {
        let mut told = self.told();
        let text = match &told.standing {
            None => first(standing),
            Some(before) => since(before, standing),
        };
        let now = Instant::now();
        told.at.retain(|at| now.duration_since(*at) < WHILE);
        if text.is_empty() {
            told.standing = Some(standing.clone());
        } else if told.at.len() < LINES_SAID {
            told.at.push_back(now);
            told.standing = Some(standing.clone());
            drop(told);
            self.mention(&text);
        }
    }
}

/// The bill at the start.
fn first(standing: &Standing) -> String {
    let counts = standing.counts;
    let mut text = format!(
        "everything is read: {} records, {} monetised on {} billing lines\n",
        grouped(&counts.received.to_string()),
        grouped(&counts.monetised.to_string()),
        grouped(&standing.lines.to_string()),
    );
    for money in &standing.totals {
        let (rounded, currency) = (grouped(&money.rounded), shown(&money.currency));
        put(
            &mut text,
            &format!("  {rounded} {currency}, exactly {}", money.amount),
        );
    }
    for reason in &standing.reasons {
        put(&mut text, &waiting(reason, reason.records));
    }
    text.push_str("saved files are applied as they change, Ctrl-C ends\n");
    text
}

fn waiting(reason: &ReasonCount, records: u64) -> String {
    let example = reason.example.as_deref().map(|example| {
        let detail = reason.detail.as_deref();
        let detail = detail.map_or_else(String::new, |detail| format!(", {detail}"));
        format!(", {example}{detail}")
    });
    let example = example.unwrap_or_default();
    format!(
        "  {} × {}{}; {}",
        grouped(&records.to_string()),
        reason.reason,
        shown(&example),
        reason.hint
    )
}

/// What came since it was told last; nothing where nothing did.
fn since(before: &Standing, now: &Standing) -> String {
    let mut text = String::new();
    let came = now.counts.received.saturating_sub(before.counts.received);
    if came > 0 {
        let records = grouped(&came.to_string());
        put(&mut text, &format!("{records} more records"));
    }
    for money in &now.totals {
        let mut others = before.totals.iter();
        let other = others.find(|other| other.currency == money.currency);
        let other = other.map_or("0", |other| &*other.amount);
        if other != money.amount {
            let currency = shown(&money.currency);
            put(
                &mut text,
                &format!("  {currency} {other} → {}", money.amount),
            );
        }
    }
    let count = |standing: &Standing, code| {
        let mut reasons = standing.reasons.iter();
        let found = reasons.find(|reason| reason.reason == code);
        found.map_or(0, |reason| reason.records)
    };
    for reason in &now.reasons {
        let held = count(before, reason.reason);
        if reason.records > held {
            put(
                &mut text,
                &format!(
                    "new: {}",
                    waiting(reason, reason.records - held).trim_start()
                ),
            );
        }
    }
    for reason in &before.reasons {
        let left = count(now, reason.reason);
        if left < reason.records {
            let gone = grouped(&(reason.records - left).to_string());
            put(
                &mut text,
                &format!("{gone} records are {} no more", reason.reason),
            );
        }
    }
    text
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}

fn describe(change: &ChangeReport) -> String {
    let mut parts = Vec::new();
    let mut part = |count: u64, what: &str| {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    };
    part(
        u64::try_from(change.rows).unwrap_or(u64::MAX),
        "reference rows changed",
    );
    part(change.mediated, "records mediated again");
    part(change.rerated, "records re-rated");
    part(
        u64::try_from(change.lines).unwrap_or(u64::MAX),
        "billing lines changed",
    );
    if parts.is_empty() {
        parts.push("nothing changed".to_owned());
    }
    let micros = change.elapsed.as_micros();
    let mut text = format!(
        "{}; {}.{:03} ms\n",
        parts.join(", "),
        micros / 1000,
        micros % 1000
    );
    for price in change.prices.iter().take(NAMED) {
        let moved = change.prices_moved.iter();
        let moved: Vec<&str> = moved
            .filter(|moved| moved.id == price.id)
            .map(|moved| moved.difference.as_str())
            .collect();
        let moved = match moved.as_slice() {
            [] => String::new(),
            moved => format!(", moves {}", moved.join(" and ")),
        };
        put(&mut text, &shown(&format!("  price {price}{moved}")));
    }
    more(&mut text, change.prices.len(), "prices");
    for plan in change.plans.iter().take(NAMED) {
        put(&mut text, &shown(&format!("  plan {plan}")));
    }
    more(&mut text, change.plans.len(), "parts of plans");
    for (before, after) in &change.money {
        let moved = if before == after { ", unchanged" } else { "" };
        let (currency, before, after) = (&after.currency, &before.amount, &after.amount);
        put(
            &mut text,
            &shown(&format!("  {currency} {before} → {after}{moved}")),
        );
    }
    for moved in change.accounts.iter().take(NAMED) {
        let AccountMoved {
            account,
            before,
            after,
            difference,
        } = moved;
        let (currency, before, after) = (&after.currency, &before.amount, &after.amount);
        put(
            &mut text,
            &shown(&format!(
                "  {account}: {difference} {currency}, {before} → {after}"
            )),
        );
    }
    more(&mut text, change.accounts.len(), "accounts");
    text
}

fn more(text: &mut String, all: usize, what: &str) {
    if all > NAMED {
        put(text, &format!("  and {} more {what}", all - NAMED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::{Money, RecordCounts};
    use crate::console::Surroundings;
    use crate::listener::PriceMoved;
    use millrace_connectors::reference::PriceChange;

    fn money(amount: &str) -> Money {
        Money {
            currency: "USD".to_owned(),
            amount: amount.to_owned(),
            rounded: "0.00".to_owned(),
        }
    }

    #[test]
    fn a_saved_file_is_answered_with_what_it_changed() {
        let change = ChangeReport {
            rows: 2,
            prices: vec![PriceChange {
                id: "gpt".to_owned(),
                old: Some("1 USD".to_owned()),
                new: Some("2 USD".to_owned()),
            }],
            prices_moved: vec![PriceMoved {
                id: "gpt".to_owned(),
                difference: "+10.5 USD".to_owned(),
            }],
            accounts: vec![AccountMoved {
                account: "ac\u{1b}me".to_owned(),
                before: money("1"),
                after: money("11.5"),
                difference: "+10.5".to_owned(),
            }],
            rerated: 30,
            lines: 4,
            money: vec![(money("10.5"), money("21"))],
            elapsed: Duration::from_micros(2_045),
            ..ChangeReport::default()
        };
        assert_eq!(
            describe(&change),
            "2 reference rows changed, 30 records re-rated, 4 billing lines changed; 2.045 ms\n  \
             price gpt: 1 USD -> 2 USD, moves +10.5 USD\n  USD 10.5 → 21\n  \
             ac\\u{1b}me: +10.5 USD, 1 → 11.5\n"
        );
        assert_eq!(
            describe(&ChangeReport::default()),
            "nothing changed; 0.000 ms\n"
        );
    }

    fn standing(received: u64, suspended: u64, amount: &str) -> Standing {
        let reason = ReasonCount {
            reason: "PRICE_NOT_FOUND",
            stage: "rate",
            records: suspended,
            hint: "add a price row",
            example: Some("usage.csv line 7".to_owned()),
            detail: None,
            subjects: Vec::new(),
        };
        Standing {
            totals: vec![money(amount)],
            counts: RecordCounts {
                received,
                suspended,
                monetised: received - suspended,
                ..RecordCounts::default()
            },
            lines: 2,
            reasons: [reason].into_iter().filter(|_| suspended > 0).collect(),
        }
    }

    #[test]
    fn the_bill_is_told_at_the_start_and_then_what_is_new_of_it() {
        let (talk, kept) = Talk::kept();
        let mut out = Vec::new();
        let console = Console::new(&mut out, talk, Surroundings::default());
        let terminal = Terminal::on(&console, Metrics::new());
        let said = || String::from_utf8(std::mem::take(&mut *kept.lock().unwrap())).unwrap();
        terminal.stands(&standing(10, 1, "5"));
        let begin = said();
        assert_eq!(
            begin,
            "everything is read: 10 records, 9 monetised on 2 billing lines\n  \
             0.00 USD, exactly 5\n  1 × PRICE_NOT_FOUND, usage.csv line 7; add a price row\n\
             saved files are applied as they change, Ctrl-C ends\n"
        );
        terminal.stands(&standing(10, 1, "5"));
        assert_eq!(said(), "");
        terminal.stands(&standing(12, 3, "5"));
        assert_eq!(
            said(),
            "2 more records\nnew: 2 × PRICE_NOT_FOUND, usage.csv line 7; add a price row\n"
        );
        let change = ChangeReport {
            money: vec![(money("5"), money("8"))],
            ..ChangeReport::default()
        };
        terminal.changed(&change);
        said();
        terminal.stands(&standing(12, 0, "8"));
        assert_eq!(said(), "3 records are PRICE_NOT_FOUND no more\n");
        // A job that never rests says a few lines in a while, and loses nothing.
        for n in 0..20 {
            terminal.stands(&standing(13 + n, 0, "8"));
        }
        assert_eq!(said().lines().count(), LINES_SAID - 3);
    }

    #[test]
    fn a_file_that_does_not_hold_leaves_things_as_they_were() {
        let (talk, kept) = Talk::kept();
        let mut out = Vec::new();
        let mut console = Console::new(&mut out, talk, Surroundings::default());
        console.hush(true);
        let terminal = Terminal::on(&console, Metrics::new());
        terminal.rejected(&[Diagnostic::error("catalog.yaml", (0, 0), "no such key")]);
        terminal.message("\"usage.csv\" is refused");
        terminal.settled();
        terminal.stands(&standing(1, 0, "1"));
        let said = String::from_utf8(kept.lock().unwrap().clone()).unwrap();
        assert!(
            said.contains("no such key") && said.contains("not applied"),
            "{said}"
        );
        assert!(
            !said.contains("usage.csv") && !said.contains("Ctrl-C"),
            "{said}"
        );
    }
}
