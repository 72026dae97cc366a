//! The stretch of time that bills are asked for.

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use millrace_operators::domain::EventTime;

/// A year, a month or a day of the job's time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Bill units that begin in it: its first day, and the day behind it.
    Begins(Date, Date),
    /// Bill units that hold the day's first instant.
    Holds(Date),
}

impl Asked {
    /// `2026`, `2026-03` or `2026-03-15`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let number = |part: &str, digits: usize| {
            let is_number = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| part.parse::<i16>().ok()).flatten()
        };
        let parts: Vec<&str> = text.split('-').collect();
        let found = match parts.as_slice() {
            [year] => number(year, 4).and_then(|year| {
                let first = Date::new(year, 1, 1).ok()?;
                let next = Date::new(year.checked_add(1)?, 1, 1).ok()?;
                Some(Self::Begins(first, next))
            }),
            [year, month] => number(year, 4)
                .zip(number(month, 2))
                .and_then(|(year, month)| {
                    let first = Date::new(year, i8::try_from(month).ok()?, 1).ok()?;
                    let next = first.last_of_month().tomorrow().ok()?;
                    Some(Self::Begins(first, next))
                }),
            [_, _, _] => text.parse::<Date>().ok().map(Self::Holds),
            _ => None,
        };
        found.ok_or_else(|| {
            format!(
                "\"{text}\" is no period; write a month, 2026-03, a year, 2026, or a day, 2026-03-15"
            )
        })
    }

    /// Whether a bill unit is asked for.
    pub(super) fn holds(self, start: EventTime, end: EventTime, zone: &TimeZone) -> bool {
        let day = |time: EventTime| {
            let at = time.timestamp().map(|at| at.to_zoned(zone.clone()).date());
            at.unwrap_or(if time < EventTime::EARLIEST {
                date(0, 1, 1)
            } else {
                date(9999, 12, 31)
            })
        };
        match self {
            Self::Begins(first, next) => (first..next).contains(&day(start)),
            Self::Holds(asked) => {
                let begins = asked.to_zoned(zone.clone());
                let begins = begins.map(|at| EventTime::from(at.timestamp()));
                begins.is_ok_and(|at| start <= at && at < end)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_a_year_and_a_day_choose_bill_units() {
        let zone = TimeZone::get("Europe/Prague").unwrap();
        let at = |text: &str| EventTime::from(text.parse::<jiff::Timestamp>().unwrap());
        // The month of March in Prague.
        let (start, end) = (at("2026-02-28T23:00:00Z"), at("2026-03-31T22:00:00Z"));
        let holds = |text: &str| Asked::parse(text).unwrap().holds(start, end, &zone);
        for (text, expected) in [
            ("2026-03", true),
            ("2026-02", false),
            ("2026-04", false),
            ("2026", true),
            ("2025", false),
            ("2026-03-01", true),
            ("2026-03-31", true),
            ("2026-04-01", false),
            ("2026-02-28", false),
        ] {
            assert_eq!(holds(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_period_is_said() {
        for text in [
            "",
            "march",
            "2026-3",
            "2026-13",
            "26",
            "2026-02-30",
            "2026-03-01-02",
        ] {
            let error = Asked::parse(text).unwrap_err();
            assert!(error.contains("is no period"), "{text}: {error}");
        }
    }
}
