//! A summary as tables on a terminal.

use super::{BillUnitShare, Summary, is_taken};
use crate::board::{
    LineOutOfRange, Money, NoticeCount, Origin, ReasonCount, RecordCounts, Share, SubjectCount,
    Unsettled,
};
use crate::shown::shown;
use crate::table::{Cell, Column, Style, Table, wrap};
use comfy_table::Color;
use millrace_connectors::output::LedgerRow;
use std::fmt::Write as _;

/// Rows of a ranking; the rest is counted.
const TOP: usize = 10;
/// Bill units listed one by one, the newest.
const BILL_UNITS_LISTED: usize = 12;
/// Files listed one by one; more are added up.
const FILES_LISTED: usize = 20;

/// Subjects of a reason that are listed.
const SUBJECTS: usize = 3;

pub(super) fn render(summary: &Summary, style: Style) -> String {
    let mut text = String::new();
    let mut section = |title: &str, table: Option<Table>| {
        if let Some(table) = table {
            writeln!(text, "{title}\n{table}\n").expect("writing to a string does not fail");
        }
    };
    section("Money", totals(&summary.totals, style));
    section("By origin", origins(&summary.origins, style));
    section("Bill units", bill_units(&summary.bill_units, style));
    section("Top accounts", ranking(&summary.accounts, "account", style));
    section("Items", ranking(&summary.items, "item", style));
    let mut grouping = summary.grouped_by.clone();
    grouping.push("item".to_owned());
    section(
        "Top lines",
        ranking(&summary.groups, &grouping.join(" / "), style),
    );
    section("Records", Some(files(summary, style)));
    section("Not monetised", reasons(&summary.reasons, style));
    section("Not charged", unsettled(&summary.unsettled, style));
    section("Out of range", out_of_range(&summary.out_of_range, style));
    section("Not read", messages(&summary.unread, style));
    section("Configuration", messages(&summary.warnings, style));
    section("Reference data held back", messages(&summary.held, style));
    for line in closing(summary).lines() {
        for line in wrap(&shown(line), style.width.unwrap_or(usize::MAX)) {
            writeln!(text, "{line}").expect("writing to a string does not fail");
        }
    }
    text
}

/// Findings about the configuration.
fn messages(findings: &[String], style: Style) -> Option<Table> {
    let mut table = style.table([Column::text("message")]);
    for finding in findings {
        table.add_row([finding]);
    }
    (!findings.is_empty()).then_some(table)
}

fn totals(totals: &[Money], style: Style) -> Option<Table> {
    let mut table = style.table([
        Column::text("currency"),
        Column::number("total"),
        Column::number("exact"),
    ]);
    for money in totals {
        let total = Cell::from(grouped(&money.rounded)).bold();
        table.add_row([
            Cell::from(&money.currency),
            total,
            Cell::from(&money.amount),
        ]);
    }
    if totals.is_empty() {
        table.add_row(["-", "0.00", "0"]);
    }
    Some(table)
}

fn origins(origins: &[Origin], style: Style) -> Option<Table> {
    if origins.is_empty() {
        return None;
    }
    let mut table = style.table([
        Column::text("currency"),
        Column::text("charged for"),
        Column::number("total"),
        Column::number("exact"),
    ]);
    for origin in origins {
        let parts = [
            ("usage", &origin.usage),
            ("subscriptions", &origin.subscriptions),
        ];
        for (what, money) in parts {
            table.add_row([
                origin.currency.clone(),
                what.to_owned(),
                grouped(&money.rounded),
                money.amount.clone(),
            ]);
        }
    }
    Some(table)
}

/// The months, or whatever accounts are billed for: the newest where there are many.
fn bill_units(units: &[BillUnitShare], style: Style) -> Option<Table> {
    let mut table = style.table([
        Column::text("from"),
        Column::text("to").spare(2),
        Column::number("lines").spare(3),
        Column::number("amount"),
        Column::number("exact").spare(1),
        Column::text("currency"),
    ]);
    let earlier = units.len().saturating_sub(BILL_UNITS_LISTED);
    for unit in units.iter().skip(earlier) {
        table.add_row([
            unit.from.clone(),
            unit.to.clone(),
            grouped(&unit.lines.to_string()),
            grouped(&unit.money.rounded),
            unit.money.amount.clone(),
            unit.money.currency.clone(),
        ]);
    }
    if earlier > 0 {
        let earlier = grouped(&earlier.to_string());
        table.note(format!("… and {earlier} earlier; `millrace bill` has all"));
    }
    (!units.is_empty()).then_some(table)
}

/// How many thresholds were crossed, in one line.
fn notices(counts: &[NoticeCount]) -> Option<String> {
    let all = counts.iter().map(|count| count.notices).sum::<u64>();
    let told = |count: &NoticeCount| {
        let notices = grouped(&count.notices.to_string());
        match count.percent {
            Some(percent) => format!("{notices} at {percent} %"),
            None => format!("{notices} at a level"),
        }
    };
    let told: Vec<String> = counts.iter().map(told).collect();
    let all = grouped(&all.to_string());
    (!told.is_empty()).then(|| format!("{all} thresholds crossed: {}", told.join(", ")))
}

fn ranking(shares: &[Share], what: &str, style: Style) -> Option<Table> {
    if shares.is_empty() {
        return None;
    }
    let rated = shares.iter().any(|share| share.rate.is_some());
    let mut columns = vec![Column::text(what), Column::number("charges").spare(3)];
    if rated {
        columns.push(Column::number("quantity").spare(2));
        columns.push(Column::number("blended rate").spare(4));
    }
    columns.extend([
        Column::number("amount"),
        Column::number("exact").spare(1),
        Column::text("currency"),
    ]);
    let mut table = style.table(columns);
    for share in shares.iter().take(TOP) {
        let mut row = vec![share.name.clone(), grouped(&share.charges.to_string())];
        if rated {
            row.push(grouped(&share.quantity));
            row.push(
                share
                    .rate
                    .as_deref()
                    .map_or_else(|| "-".to_owned(), shortened),
            );
        }
        row.extend([
            grouped(&share.money.rounded),
            share.money.amount.clone(),
            share.money.currency.clone(),
        ]);
        table.add_row(row);
    }
    if shares.len() > TOP {
        let more = grouped(&(shares.len() - TOP).to_string());
        table.note(format!("… and {more} more"));
    }
    Some(table)
}

fn files(summary: &Summary, style: Style) -> Table {
    // Fates that no record has say nothing, and go where there is no room. Few jobs discard.
    let counts = summary.records;
    let fate = |name, count: u64| Column::number(name).spare(u8::from(count == 0));
    let discards = counts.discarded > 0;
    let mut columns = vec![
        Column::text("file"),
        Column::number("received"),
        fate("= ignored", counts.ignored),
        fate("+ duplicate", counts.duplicate),
        fate("+ error", counts.error),
        fate("+ suspended", counts.suspended),
        fate("+ monetised", counts.monetised),
        Column::text("ties out").centred(),
        Column::text("state"),
    ];
    if discards {
        columns.insert(6, fate("+ discarded", counts.discarded));
    }
    let conflicts = counts.conflict > 0;
    let superseded = counts.superseded > 0;
    if superseded {
        columns.insert(4, fate("+ superseded", counts.superseded));
    }
    if conflicts {
        columns.insert(4, fate("+ conflict", counts.conflict));
    }
    let mut table = style.table(columns);
    let count_row = |name: &str, counts: RecordCounts, ties_out, state| {
        let mut row = count_row(name, counts, ties_out, state);
        if discards {
            row.insert(6, Cell::from(grouped(&counts.discarded.to_string())));
        }
        if superseded {
            row.insert(4, Cell::from(grouped(&counts.superseded.to_string())));
        }
        if conflicts {
            let conflict = Cell::from(grouped(&counts.conflict.to_string()));
            row.insert(4, conflict.colour(Color::Yellow));
        }
        row
    };
    for file in summary.files.iter().take(FILES_LISTED) {
        let state = match file.message.as_str() {
            "" => file.state.clone(),
            message => format!("{}: {message}", file.state),
        };
        table.add_row(count_row(
            &file.file,
            counts_of(file),
            file.ties_out(),
            state,
        ));
    }
    let rest = summary.files.len().saturating_sub(FILES_LISTED);
    if rest > 0 {
        table.note(format!("… and {rest} more, in the ledger"));
    }
    if summary.files.len() != 1 {
        let odd = summary
            .files
            .iter()
            .filter(|file| !is_taken(&file.state))
            .count();
        let state = match odd {
            0 => "all loaded".to_owned(),
            odd => format!("{odd} not loaded whole"),
        };
        table.add_row(count_row(
            "all files",
            summary.records,
            summary.ties_out,
            state,
        ));
    }
    table
}

fn counts_of(file: &LedgerRow) -> RecordCounts {
    RecordCounts {
        received: file.received,
        ignored: file.ignored,
        duplicate: file.duplicate,
        conflict: file.conflict,
        superseded: file.superseded,
        error: file.error,
        suspended: file.suspended,
        discarded: file.discarded,
        monetised: file.monetised,
    }
}

fn count_row(name: &str, counts: RecordCounts, ties_out: bool, state: String) -> Vec<Cell> {
    let number = |count: u64| Cell::from(grouped(&count.to_string()));
    let waiting = |count: u64, colour| match count {
        0 => number(0),
        count => number(count).colour(colour),
    };
    let mark = if ties_out {
        Cell::from("✓").colour(Color::Green)
    } else {
        Cell::from("✗").colour(Color::Red)
    };
    vec![
        Cell::from(name),
        number(counts.received),
        number(counts.ignored),
        number(counts.duplicate),
        waiting(counts.error, Color::Red),
        waiting(counts.suspended, Color::Yellow),
        number(counts.monetised),
        mark,
        Cell::from(state),
    ]
}

fn reasons(reasons: &[ReasonCount], style: Style) -> Option<Table> {
    if reasons.is_empty() {
        return None;
    }
    let mut table = style.table([
        Column::number("records"),
        Column::text("reason"),
        Column::text("for example"),
        Column::text("what to do"),
    ]);
    for reason in reasons {
        let example = [&reason.example, &reason.detail]
            .into_iter()
            .flatten()
            .cloned();
        let example: Vec<String> = match reason.subjects.as_slice() {
            [] => example.collect(),
            subjects => subject_lines(subjects),
        };
        table.add_row([
            Cell::from(grouped(&reason.records.to_string())),
            Cell::from(format!("{} ({})", reason.reason, reason.stage)),
            Cell::lines(example.iter().map(String::as_str)),
            Cell::from(reason.hint),
        ]);
    }
    Some(table)
}

/// What records wait for, one line each: what, how often, and where the first of them stands.
fn subject_lines(subjects: &[SubjectCount]) -> Vec<String> {
    let line = |subject: &SubjectCount| {
        let records = match subject.records {
            1 => "1 record".to_owned(),
            records => format!("{} records", grouped(&records.to_string())),
        };
        let example = subject
            .example
            .as_deref()
            .map(|place| format!(", e.g. {place}"));
        format!(
            "{}: {records}{}",
            subject.told(),
            example.unwrap_or_default()
        )
    };
    let mut lines: Vec<String> = subjects.iter().take(SUBJECTS).map(line).collect();
    if subjects.len() > SUBJECTS {
        lines.push("… and others, in the output suspense".to_owned());
    }
    lines
}

fn unsettled(charges: &[Unsettled], style: Style) -> Option<Table> {
    if charges.is_empty() {
        return None;
    }
    let mut table = style.table([
        Column::text("item"),
        Column::text("kind").spare(2),
        Column::text("account"),
        Column::text("from"),
        Column::text("to").spare(1),
        Column::text("reason"),
        Column::text("what to do"),
    ]);
    for charge in charges.iter().take(TOP) {
        table.add_row([
            charge.item.as_str(),
            charge.kind,
            &charge.account,
            &charge.cycle_start,
            &charge.cycle_end,
            charge.reason,
            charge.hint,
        ]);
    }
    let rest = charges.len().saturating_sub(TOP);
    if rest > 0 {
        let rest = grouped(&rest.to_string());
        table.note(format!("… and {rest} more, in the output activity"));
    }
    Some(table)
}

/// Billing lines that the columns of the outputs do not hold.
fn out_of_range(lines: &[LineOutOfRange], style: Style) -> Option<Table> {
    let mut table = style.table([
        Column::text("account"),
        Column::text("from"),
        Column::text("item"),
        Column::number("quantity").spare(1),
        Column::text("amount"),
        Column::text("what to do"),
    ]);
    for line in lines.iter().take(TOP) {
        table.add_row([
            line.account.as_str(),
            &line.bill_unit_start,
            &line.item,
            &line.quantity,
            &format!("{} {}", line.amount, line.currency),
            &format!("{}: {}", line.reason, line.hint),
        ]);
    }
    let rest = lines.len().saturating_sub(TOP);
    if rest > 0 {
        let rest = grouped(&rest.to_string());
        table.note(format!("… and {rest} more, in the summary as JSON"));
    }
    (!lines.is_empty()).then_some(table)
}

fn closing(summary: &Summary) -> String {
    let counts = summary.records;
    let mut text = String::new();
    for money in &summary.totals {
        let (exact, rounded) = (&money.amount, grouped(&money.rounded));
        writeln!(text, "{exact} {} ({rounded} rounded)", money.currency)
            .expect("writing to a string does not fail");
    }
    writeln!(
        text,
        "{} records in {} ms, {} records/s; {} of them monetised on {} billing lines",
        grouped(&counts.received.to_string()),
        grouped(&summary.busy_ms.to_string()),
        grouped(&summary.records_per_second.to_string()),
        grouped(&counts.monetised.to_string()),
        grouped(&summary.lines.to_string()),
    )
    .expect("writing to a string does not fail");
    if let Some(line) = notices(&summary.notices) {
        writeln!(text, "{line}").expect("writing to a string does not fail");
    }
    if let Some(outputs) = &summary.outputs {
        writeln!(text, "outputs in {outputs}").expect("writing to a string does not fail");
    }
    text
}

/// A number with its thousands set apart.
pub(crate) fn grouped(number: &str) -> String {
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let (sign, digits) = match whole.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", whole),
    };
    let mut text = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if let Some(fraction) = fraction {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

/// A rate for reading: up to eight significant digits, `…` where more follow.
pub(crate) fn shortened(rate: &str) -> String {
    let significant = |text: &str| {
        text.trim_start_matches(['-', '0', '.'])
            .chars()
            .filter(char::is_ascii_digit)
            .count()
    };
    if significant(rate) <= 8 || !rate.contains('.') {
        return rate.to_owned();
    }
    let mut kept = rate.to_owned();
    while significant(&kept) > 8 && kept.contains('.') {
        kept.pop();
    }
    format!("{}…", kept.trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart_and_nothing_is_lost() {
        for (number, expected) in [
            ("0", "0"),
            ("999", "999"),
            ("1000", "1,000"),
            ("-1234567.8900", "-1,234,567.8900"),
            ("-100", "-100"),
        ] {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn thresholds_are_counted_by_percent() {
        let count = |percent, notices| NoticeCount { percent, notices };
        assert_eq!(notices(&[]), None);
        let counts = [count(None, 1), count(Some(50), 1200), count(Some(100), 2)];
        assert_eq!(
            notices(&counts).as_deref(),
            Some("1,203 thresholds crossed: 1 at a level, 1,200 at 50 %, 2 at 100 %")
        );
    }

    #[test]
    fn a_long_rate_says_that_it_goes_on() {
        assert_eq!(shortened("0.0000003"), "0.0000003");
        assert_eq!(shortened("0.666666666666666666666667"), "0.66666666…");
        assert_eq!(shortened("123456789.5"), "123456789…");
        assert_eq!(shortened("0.00000123456789"), "0.0000012345678…");
    }
}
