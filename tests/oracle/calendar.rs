//! A calendar of its own: days counted since 1970 by walking years and months, and two time zones.

use millrace_operators::domain::{BillingProfile, Cycle, EventTime};

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// A time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// Universal time.
    Utc,
    /// Central Europe by the rule in force since 1996: summer time from the last Sunday of March to
    /// the last Sunday of October, both at 01:00 universal time.
    Prague,
}

impl Zone {
    /// The name in the zone database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Utc => "UTC",
            Self::Prague => "Europe/Prague",
        }
    }

    fn offset(self, utc: i64) -> i64 {
        match self {
            Self::Utc => 0,
            Self::Prague => {
                let year = date(utc.div_euclid(DAY)).0;
                let summer = last_sunday(year, 3) * DAY + HOUR..last_sunday(year, 10) * DAY + HOUR;
                if summer.contains(&utc) {
                    2 * HOUR
                } else {
                    HOUR
                }
            }
        }
    }

    /// What clocks on walls show at an instant, as microseconds since 1970.
    #[must_use]
    pub fn shown(self, time: EventTime) -> i64 {
        time.0 + self.offset(time.0)
    }

    /// The day of an instant here: year, month, day.
    pub(super) fn day(self, time: EventTime) -> (i16, i8, i8) {
        let (year, month, day) = date(self.shown(time).div_euclid(DAY));
        let small = |number: i64| i8::try_from(number).expect("a calendar's number");
        (
            i16::try_from(year).expect("a year"),
            small(month),
            small(day),
        )
    }

    /// The instant at which a day begins here.
    fn midnight(self, day: i64) -> i64 {
        // Neither zone changes its offset within three hours before a midnight.
        let local = day * DAY;
        local - self.offset(local - 3 * HOUR)
    }
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date.
#[must_use]
pub fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let year_length = |year| if leap(year) { 366 } else { 365 };
    let years: i64 = (1970..year).map(year_length).sum();
    let before: i64 = (year..1970).map(year_length).sum();
    let months: i64 = (1..month).map(|month| month_length(year, month)).sum();
    years - before + months + day - 1
}

/// The date of a day.
fn date(mut day: i64) -> (i64, i64, i64) {
    let mut year = 1970;
    while day < 0 {
        year -= 1;
        day += if leap(year) { 366 } else { 365 };
    }
    let (mut month, mut length) = (1, 31);
    while day >= length {
        day -= length;
        month += 1;
        if month > 12 {
            (year, month) = (year + 1, 1);
        }
        length = month_length(year, month);
    }
    (year, month, day + 1)
}

fn last_sunday(year: i64, month: i64) -> i64 {
    let last = day_number(year, month, month_length(year, month));
    // 1970-01-04 was a Sunday.
    last - (last - 3).rem_euclid(7)
}

/// The `n`-th boundary of a billing cycle, as a day.
fn boundary(profile: &BillingProfile, n: i64) -> i64 {
    let (year, month) = (i64::from(profile.year), i64::from(profile.month));
    let day = i64::from(profile.day);
    let units = n * i64::from(profile.every);
    let months = match profile.cycle {
        Cycle::Day => return day_number(year, month, day) + units,
        Cycle::Week => return day_number(year, month, day) + 7 * units,
        Cycle::Month => units,
        Cycle::Quarter => 3 * units,
        Cycle::Year => 12 * units,
    };
    let count = year * 12 + month - 1 + months;
    let (year, month) = (count.div_euclid(12), count.rem_euclid(12) + 1);
    day_number(year, month, day.min(month_length(year, month)))
}

/// The bill unit that holds an instant: boundary after boundary, from one that cannot be far.
#[must_use]
pub fn bill_unit(zone: Zone, profile: &BillingProfile, time: EventTime) -> (EventTime, EventTime) {
    let instant = |n| zone.midnight(boundary(profile, n));
    let days = match profile.cycle {
        Cycle::Day => 1,
        Cycle::Week => 7,
        Cycle::Month => 31,
        Cycle::Quarter => 92,
        Cycle::Year => 366,
    };
    let mut n = (time.0 - instant(0)).div_euclid(days * i64::from(profile.every) * DAY);
    while instant(n) > time.0 {
        n -= 1;
    }
    while instant(n + 1) <= time.0 {
        n += 1;
    }
    (EventTime(instant(n)), EventTime(instant(n + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_both_ways() {
        for (text, number) in [
            ((1970, 1, 1), 0),
            ((1969, 12, 31), -1),
            ((2000, 3, 1), 11_017),
            ((2026, 3, 29), 20_541),
        ] {
            assert_eq!(day_number(text.0, text.1, text.2), number);
            assert_eq!(date(number), text);
        }
        assert_eq!(last_sunday(2026, 3), day_number(2026, 3, 29));
        assert_eq!(last_sunday(2026, 10), day_number(2026, 10, 25));
    }

    #[test]
    fn prague_has_short_and_long_days() {
        let length = |day| (Zone::Prague.midnight(day + 1) - Zone::Prague.midnight(day)) / HOUR;
        assert_eq!(length(day_number(2026, 3, 28)), 24);
        assert_eq!(length(day_number(2026, 3, 29)), 23);
        assert_eq!(length(day_number(2026, 10, 25)), 25);
    }
}
