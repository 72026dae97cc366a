//! The forms in which times are written.

use super::DAY_SECONDS;

/// A time as its text says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// What the clock shows, in seconds since 1970-01-01 00:00 as if it were UTC's.
    pub(crate) clock: i64,
    /// Nanoseconds of the second.
    pub(crate) nanos: u32,
    /// Seconds that the clock is before UTC, if the text names them.
    pub(crate) offset: Option<i32>,
    /// Whether there is a date alone.
    pub(crate) is_date: bool,
}

const A_NUMBER: &str = "a number does not say its unit; declare the column as bigint or decimal, and \
                        write to_timestamp_seconds(column), or _millis, _micros, _nanos";
const SHORT: &str = "write months, days and hours with two digits, like 2026-03-01T08:00:00Z";
const DIGITS: &str = "it has digits below the nanosecond; declare the column as text and cut them";
const DAY_END: &str = "24:00 is the end of a day, and nothing of the day comes behind it";
const LEAP: &str = "second 60 is the last instant of its minute, which has no fraction";

impl Written {
    /// Reads a text; what is wrong with it otherwise, as far as that can be told.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let bytes = text.trim_ascii().as_bytes();
        let (days, rest) = date_prefix(bytes).ok_or_else(|| misread(bytes))?;
        let midnight = days * DAY_SECONDS;
        let rest = match rest {
            [] => {
                return Ok(Self {
                    clock: midnight,
                    nanos: 0,
                    offset: None,
                    is_date: true,
                });
            }
            [b'T' | b't' | b' ', rest @ ..] => rest,
            _ => return Err(""),
        };
        let [h1, h2, b':', m1, m2, rest @ ..] = rest else {
            return Err(misread(bytes));
        };
        let (hour, minute) = (two(*h1, *h2)?, two(*m1, *m2)?);
        let (second, rest) = match rest {
            [b':', s1, s2, rest @ ..] => (two(*s1, *s2)?, rest),
            rest => (0, rest),
        };
        let (nanos, rest) = match rest {
            [b'.' | b',', rest @ ..] => fraction(rest)?,
            rest => (0, rest),
        };
        let offset = offset(rest)?;
        if hour > 24 || minute > 59 || second > 60 {
            return Err("");
        }
        if hour == 24 && (minute, second, nanos) != (0, 0, 0) {
            return Err(DAY_END);
        }
        if second == 60 && nanos != 0 {
            return Err(LEAP);
        }
        let (second, nanos) = if second == 60 {
            (59, 999_999_999)
        } else {
            (second, nanos)
        };
        Ok(Self {
            clock: midnight + (hour * 60 + minute) * 60 + second,
            nanos,
            offset,
            is_date: false,
        })
    }
}

/// Days since 1970-01-01 of `YYYY-MM-DD`.
pub(crate) fn date(text: &str) -> Option<i32> {
    let (days, rest) = date_prefix(text.trim_ascii().as_bytes())?;
    let days = rest.is_empty().then_some(days)?;
    i32::try_from(days).ok()
}

/// What to say of a text that does not begin like a time.
fn misread(bytes: &[u8]) -> &'static str {
    let is_number = |bytes: &[u8]| {
        let of_number =
            |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+');
        bytes.first().is_some_and(u8::is_ascii_digit) && bytes.iter().all(of_number)
    };
    let unsigned = bytes.strip_prefix(b"-").unwrap_or(bytes);
    match bytes {
        _ if is_number(unsigned) => A_NUMBER,
        _ if is_short(bytes) => SHORT,
        _ => "",
    }
}

/// Whether a month, a day or an hour has one digit.
fn is_short(bytes: &[u8]) -> bool {
    let part = |bytes: &[u8]| {
        bytes
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let Some((year, rest)) = bytes.split_at_checked(4) else {
        return false;
    };
    let mut rest = rest;
    let mut short = false;
    for between in [b'-', b'-', b'T'] {
        let follows =
            rest.first() == Some(&between) || (between == b'T' && rest.first() == Some(&b' '));
        let digits = part(rest.get(1..).unwrap_or_default());
        if !follows || digits == 0 {
            break;
        }
        short |= digits == 1;
        rest = rest.get(1 + digits..).unwrap_or_default();
    }
    part(year) == 4 && short
}

fn offset(rest: &[u8]) -> Result<Option<i32>, &'static str> {
    let rest = match rest {
        [b' ', rest @ ..] => rest,
        rest => rest,
    };
    let (sign, rest) = match rest {
        [] => return Ok(None),
        [b'Z' | b'z'] | [b'U' | b'u', b'T' | b't', b'C' | b'c'] => return Ok(Some(0)),
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => return Err(""),
    };
    let (hours, minutes) = match rest {
        [a, b] => (two(*a, *b)?, 0),
        [a, b, b':', c, d] | [a, b, c, d] => (two(*a, *b)?, two(*c, *d)?),
        _ => return Err(""),
    };
    if hours > 23 || minutes > 59 {
        return Err("");
    }
    let seconds = i32::try_from((hours * 60 + minutes) * 60).unwrap_or(0);
    Ok(Some(sign * seconds))
}

/// Nanoseconds, and what is behind the digits.
fn fraction(bytes: &[u8]) -> Result<(u32, &[u8]), &'static str> {
    let digits = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (digits, rest) = bytes.split_at(digits);
    if digits.is_empty() {
        return Err("");
    }
    let (held, below) = digits.split_at(digits.len().min(9));
    if below.iter().any(|digit| *digit != b'0') {
        return Err(DIGITS);
    }
    let nanos = (0..9).fold(0_u32, |value, place| {
        value * 10 + held.get(place).map_or(0, |digit| u32::from(digit - b'0'))
    });
    Ok((nanos, rest))
}

fn two(a: u8, b: u8) -> Result<i64, &'static str> {
    if a.is_ascii_digit() && b.is_ascii_digit() {
        Ok(i64::from(a - b'0') * 10 + i64::from(b - b'0'))
    } else {
        Err(SHORT)
    }
}

fn date_prefix(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, rest @ ..] = bytes else {
        return None;
    };
    let two = |a: u8, b: u8| two(a, b).ok();
    let year = two(*y1, *y2)? * 100 + two(*y3, *y4)?;
    let (month, day) = (two(*m1, *m2)?, two(*d1, *d2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if day < 1 || day > month_days {
        return None;
    }
    // Days from the civil calendar, with March as the first month of a shifted year.
    let shifted_year = year - i64::from(month <= 2);
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era - 719_468, rest))
}
