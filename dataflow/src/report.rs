//! What a run comes to, for the person who pays for it and for the program behind it.
//!
//! A [`Summary`] holds every amount twice: exact, as decimal text, and rounded to two decimals for
//! reading. Its JSON and its tables are made from the same values.

mod tables;

use crate::board::{
    Board, LineOutOfRange, Money, NoticeCount, Origin, ReasonCount, RecordCounts, Share, Unsettled,
};
use crate::table::Style;
use differential_dataflow::difference::Semigroup as _;
use jiff::tz::TimeZone;
use millrace_connectors::ledger::FileState;
use millrace_connectors::output::{LedgerRow, Texts, blended_rate};
use millrace_operators::domain::{EventTime, LineSum, Name};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a run comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The job.
    pub job: String,
    /// Money per currency.
    pub totals: Vec<Money>,
    /// The totals apart: usage, and subscriptions without it. Empty where there are only charges for
    /// usage.
    pub origins: Vec<Origin>,
    /// Thresholds crossed.
    pub notices: Vec<NoticeCount>,
    /// What became of the records.
    pub records: RecordCounts,
    /// Whether every record received, in every file, is accounted for exactly once.
    pub ties_out: bool,
    /// Billing lines.
    pub lines: usize,
    /// Bill units, by time.
    pub bill_units: Vec<BillUnitShare>,
    /// Accounts, the one with the highest amount first.
    pub accounts: Vec<Share>,
    /// Items, the one with the highest amount first.
    pub items: Vec<Share>,
    /// What the lines are grouped by, as the job names it.
    pub grouped_by: Vec<String>,
    /// Groups and items, the one with the highest amount first; empty when lines are not grouped.
    pub groups: Vec<Share>,
    /// Source files.
    pub files: Vec<LedgerRow>,
    /// What of the sources could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
    /// Why records are not monetised.
    pub reasons: Vec<ReasonCount>,
    /// Charges of subscriptions whose amount cannot be computed.
    pub unsettled: Vec<Unsettled>,
    /// Billing lines that the columns of the outputs do not hold.
    pub out_of_range: Vec<LineOutOfRange>,
    /// Why messages of reference data are not in force.
    pub held: Vec<String>,
    /// What of the configuration money may be wrong for.
    pub warnings: Vec<String>,
    /// Where the outputs are.
    pub outputs: Option<String>,
    /// Time taken, in milliseconds.
    pub elapsed_ms: u64,
    /// Of it, the time in which there was something to do.
    pub busy_ms: u64,
    /// Records received per second of the time in which there was something to do.
    pub records_per_second: u64,
}

/// What all accounts are billed for a bill unit, in a currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BillUnitShare {
    /// Its first day, or first instant, in the job's time zone.
    pub from: String,
    /// The day, or the instant, that it ends before.
    pub to: String,
    /// Its first instant.
    pub bill_unit_start: String,
    /// The first instant behind it.
    pub bill_unit_end: String,
    /// Billing lines.
    pub lines: usize,
    /// Money.
    #[serde(flatten)]
    pub money: Money,
}

/// What the board does not know of a run.
#[derive(Clone, Debug)]
pub struct RunFacts {
    /// The job's name.
    pub job: String,
    /// The file ledger, with its counts.
    pub files: Vec<LedgerRow>,
    /// What of the sources could not be read.
    pub unread: Vec<String>,
    /// Why messages of reference data are not in force.
    pub held: Vec<String>,
    /// What of the configuration money may be wrong for.
    pub warnings: Vec<String>,
    /// Where the outputs are.
    pub outputs: Option<String>,
    /// Time taken.
    pub elapsed: Duration,
    /// Of it, the time in which there was nothing to do.
    pub idle: Duration,
    /// The job's time zone.
    pub zone: TimeZone,
}

impl Default for RunFacts {
    fn default() -> Self {
        Self {
            job: String::new(),
            files: Vec::new(),
            unread: Vec::new(),
            held: Vec::new(),
            warnings: Vec::new(),
            outputs: None,
            elapsed: Duration::ZERO,
            idle: Duration::ZERO,
            zone: TimeZone::UTC,
        }
    }
}

impl Summary {
    /// What stands on `board` at the end of a run.
    #[must_use]
    pub fn of(board: &Board, texts: &Texts, run: RunFacts) -> Self {
        let records = board.counts();
        let busy = run.elapsed.saturating_sub(run.idle);
        Self {
            job: run.job,
            totals: board.totals(),
            origins: board.origins(),
            notices: board.notice_counts(),
            records,
            ties_out: records.ties_out() && run.files.iter().all(LedgerRow::ties_out),
            lines: board.line_count(),
            bill_units: bill_units(board, &run.zone),
            accounts: board.accounts(),
            items: board.items(),
            grouped_by: texts
                .dimensions
                .iter()
                .map(|(name, _)| name.clone())
                .collect(),
            groups: groups(board, texts),
            files: run.files.into_iter().map(told).collect(),
            unread: run.unread,
            reasons: board.reasons(),
            unsettled: board.unsettled(),
            out_of_range: board.out_of_range(),
            held: run.held,
            warnings: run.warnings,
            outputs: run.outputs,
            elapsed_ms: millis(run.elapsed),
            busy_ms: millis(busy),
            records_per_second: per_second(records.received, busy),
        }
    }

    /// Whether somebody should look: a file was not taken whole or came before, or money waits.
    #[must_use]
    pub fn has_findings(&self) -> bool {
        let RecordCounts {
            conflict,
            error,
            suspended,
            ..
        } = self.records;
        conflict > 0
            || error > 0
            || suspended > 0
            || !self.unsettled.is_empty()
            || !self.out_of_range.is_empty()
            || !self.unread.is_empty()
            || !self.held.is_empty()
            || !self.warnings.is_empty()
            || !self.ties_out
            || self
                .files
                .iter()
                .any(|file| !is_taken(&file.state) || is_mostly_duplicate(file))
    }

    /// As JSON, money as exact decimal text.
    ///
    /// # Errors
    /// Never for a summary, whose keys are all text; a serialiser's contract.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|mut text| {
            text.push('\n');
            text
        })
    }

    /// As tables, no wider than the style says.
    #[must_use]
    pub fn tables(&self, style: Style) -> String {
        tables::render(self, style)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn bill_units(board: &Board, zone: &TimeZone) -> Vec<BillUnitShare> {
    let unit = |(start, end, lines, money)| BillUnitShare {
        from: day(start, zone),
        to: day(end, zone),
        bill_unit_start: start.to_string(),
        bill_unit_end: end.to_string(),
        lines,
        money,
    };
    board.bill_units().into_iter().map(unit).collect()
}

/// A day where the time is a midnight of the zone, or the instant.
#[must_use]
pub fn day(time: EventTime, zone: &TimeZone) -> String {
    let at = time.timestamp().map(|at| at.to_zoned(zone.clone()));
    match at {
        Some(at) if at.start_of_day().is_ok_and(|start| start == at) => at.date().to_string(),
        _ => time.to_string(),
    }
}

fn per_second(records: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(records) * 1_000_000 / elapsed.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// The lines added up over accounts and bill units: what was used, at which rate.
fn groups(board: &Board, texts: &Texts) -> Vec<Share> {
    if texts.dimensions.is_empty() {
        return Vec::new();
    }
    let mut sums: BTreeMap<(Vec<u64>, Name, Name), (String, LineSum)> = BTreeMap::new();
    for line in board.lines() {
        let key = (
            line.key.dimensions.to_vec(),
            line.key.item,
            line.key.currency,
        );
        let (_, sum) = sums.entry(key).or_insert_with(|| {
            let group = (0..texts.dimensions.len()).map(|index| line.dimension(index, texts));
            let mut name: Vec<String> = group
                .map(|part| part.map_or_else(|| "-".to_owned(), |part| part.to_string()))
                .collect();
            name.push(texts.names.text(line.key.item).to_string());
            (name.join(" / "), LineSum::default())
        });
        sum.plus_equals(&line.sum);
    }
    let mut groups: Vec<_> = sums
        .into_iter()
        .map(|((_, _, c), (name, sum))| (name, c, sum))
        .collect();
    groups.sort_by(|a, b| (b.2.amount, &a.0).cmp(&(a.2.amount, &b.0)));
    let share = |(name, currency, sum): (String, Name, LineSum)| Share {
        name,
        charges: sum.charges,
        quantity: sum.quantity.to_string(),
        rate: blended_rate(&sum).map(|rate| rate.to_string()),
        money: board.money(currency, sum.amount),
    };
    groups.into_iter().map(share).collect()
}

/// Whether most of a file came before. Of a partition that is no news, since messages are sent again, nor of a
/// file in place of another: what did not change in it is sent once more.
fn is_mostly_duplicate(file: &LedgerRow) -> bool {
    let repeats = file.replaces || file.state == FileState::Followed.name();
    !repeats && file.duplicate > file.received / 2
}

/// A file as it stands in the summary: with what is to be told of its records as a whole.
fn told(mut file: LedgerRow) -> LedgerRow {
    if is_mostly_duplicate(&file) && file.message.is_empty() {
        "more than half of its records came before; was it sent twice, or does the identity lack a field?"
            .clone_into(&mut file.message);
    }
    file
}
pub(crate) use tables::{grouped, shortened};

/// Whether a file is read whole, or a partition as far as it goes.
pub(crate) fn is_taken(state: &str) -> bool {
    ["loaded", "followed"].contains(&state)
}

#[cfg(test)]
mod tests;
