//! What a running job says to the person who started it.
//!
//! While a bar moves on the terminal, everything else is said above it. A saved file is answered
//! with what it changed: rows, records, money before and after, milliseconds.

use crate::console::Talk;
use crate::listener::{ChangeReport, Listener};
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::render::render;
use millrace_connectors::diagnostic::Diagnostic;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};

/// Prices named one by one in the answer to a saved file; more are counted.
const PRICES_NAMED: usize = 5;

/// See the module.
pub struct Terminal {
    talk: Talk,
    colour: bool,
    progress: Mutex<Option<Progress>>,
}

impl Terminal {
    /// A listener that talks, and shows the progress that `metrics` report until the first results
    /// stand.
    #[must_use]
    pub fn new(talk: Talk, colour: bool, metrics: Arc<Metrics>, is_terminal: bool) -> Self {
        let progress = Progress::start(talk.clone(), metrics, is_terminal);
        Self {
            talk,
            colour,
            progress: Mutex::new(Some(progress)),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Option<Progress>> {
        self.progress.lock().expect("whoever talks does not panic")
    }

    fn say(&self, text: &str) {
        match &*self.progress() {
            Some(progress) => progress.aside(|| self.talk.say(text)),
            None => self.talk.say(text),
        }
    }

    /// Shows no more progress; whether it still did.
    pub fn end_progress(&self) -> bool {
        self.progress().take().is_some()
    }
}

impl Listener for Terminal {
    fn message(&self, text: &str) {
        self.say(&format!("{text}\n"));
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
        self.say(&describe(change));
    }

    fn settled(&self) {
        if self.end_progress() {
            self.talk
                .say("everything is read; saved files are applied as they change, Ctrl-C ends\n");
        }
    }
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
    for price in change.prices.iter().take(PRICES_NAMED) {
        writeln!(text, "  price {price}").expect("writing to a string does not fail");
    }
    if change.prices.len() > PRICES_NAMED {
        let more = change.prices.len() - PRICES_NAMED;
        writeln!(text, "  and {more} more prices").expect("writing to a string does not fail");
    }
    for (before, after) in &change.money {
        let moved = if before == after { ", unchanged" } else { "" };
        writeln!(
            text,
            "  {} {} → {}{moved}",
            after.currency, before.amount, after.amount
        )
        .expect("writing to a string does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Money;
    use millrace_connectors::reference::PriceChange;
    use std::time::Duration;

    fn money(amount: &str) -> Money {
        Money {
            currency: "USD".to_owned(),
            amount: amount.to_owned(),
            rounded: String::new(),
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
            rerated: 30,
            lines: 4,
            money: vec![(money("10.5"), money("21"))],
            elapsed: Duration::from_micros(2_045),
            ..ChangeReport::default()
        };
        assert_eq!(
            describe(&change),
            "2 reference rows changed, 30 records re-rated, 4 billing lines changed; 2.045 ms\n  \
             price gpt: 1 USD -> 2 USD\n  USD 10.5 → 21\n"
        );
        assert_eq!(
            describe(&ChangeReport::default()),
            "nothing changed; 0.000 ms\n"
        );
    }

    #[test]
    fn a_file_that_does_not_hold_leaves_things_as_they_were() {
        let (talk, kept) = Talk::kept();
        let terminal = Terminal::new(talk, false, Metrics::new(), false);
        terminal.rejected(&[Diagnostic::error("catalog.yaml", (0, 0), "no such key")]);
        terminal.settled();
        terminal.settled();
        drop(terminal);
        let said = String::from_utf8(kept.lock().unwrap().clone()).unwrap();
        assert!(
            said.contains("no such key") && said.contains("not applied"),
            "{said}"
        );
        assert_eq!(said.matches("Ctrl-C ends").count(), 1, "{said}");
    }
}
