//! Text to typed values, exact or not at all.
//!
//! - **Decimals** come from plain (`0.25`) or scientific (`3e-07`) text and never pass through a
//!   binary float; a digit that the scale cannot hold refuses the text instead of rounding it.
//! - **Instants** come from RFC 3339 or `YYYY-MM-DD HH:MM:SS`, UTC where the text names no offset.
//!   Digits below a microsecond are dropped: they order nothing in billing.

/// The integer that a text spells.
pub(crate) fn bigint(text: &str) -> Option<i64> {
    let text = text.trim();
    match text.parse() {
        Ok(value) => Some(value),
        // `1e3` and `12.0` are whole numbers too.
        Err(_) => decimal(text, 19, 0).and_then(|value| i64::try_from(value).ok()),
    }
}

/// The mantissa at `scale` of the decimal that a text spells, if it fits `precision` digits exactly.
pub(crate) fn decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let bytes = text.trim().as_bytes();
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let mut mantissa = 0_i128;
    let mut held_zeros = 0_u32; // zeros seen since the last other digit: they count only if one follows
    let mut exponent = 0_i64;
    let mut any = false;
    let mut fraction = false;
    let mut rest = digits.iter();
    while let Some(&byte) = rest.next() {
        match byte {
            b'0'..=b'9' => {
                any = true;
                exponent -= i64::from(fraction);
                if byte == b'0' {
                    held_zeros = held_zeros.checked_add(1)?;
                    continue;
                }
                if mantissa != 0 {
                    mantissa =
                        mantissa.checked_mul(10_i128.checked_pow(held_zeros.checked_add(1)?)?)?;
                }
                mantissa = mantissa.checked_add(i128::from(byte - b'0'))?;
                held_zeros = 0;
            }
            b'.' if !fraction => fraction = true,
            b'e' | b'E' if any => {
                let written = std::str::from_utf8(rest.as_slice()).ok()?;
                exponent = exponent.checked_add(written.parse::<i64>().ok()?)?;
                break;
            }
            _ => return None,
        }
    }
    if !any {
        return None;
    }
    if mantissa == 0 {
        return Some(0);
    }
    // The last digit of the mantissa is not zero, so a negative shift would lose digits.
    let shift = exponent
        .checked_add(i64::from(held_zeros))?
        .checked_add(i64::from(scale))?;
    let value = mantissa.checked_mul(10_i128.checked_pow(u32::try_from(shift).ok()?)?)?;
    (value < 10_i128.checked_pow(u32::from(precision))?).then_some(if negative {
        -value
    } else {
        value
    })
}

/// `true`/`false` in the spellings that exports use.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    let text = text.trim();
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("true") || is("t") || is("yes") || is("y") || text == "1" {
        Some(true)
    } else if is("false") || is("f") || is("no") || is("n") || text == "0" {
        Some(false)
    } else {
        None
    }
}

/// Days since 1970-01-01 of `YYYY-MM-DD`.
pub(crate) fn date(text: &str) -> Option<i32> {
    let (days, rest) = date_prefix(text.trim().as_bytes())?;
    rest.is_empty()
        .then_some(days)
        .and_then(|days| i32::try_from(days).ok())
}

/// Microseconds since 1970-01-01T00:00:00Z.
pub(crate) fn timestamp(text: &str) -> Option<i64> {
    let (days, rest) = date_prefix(text.trim().as_bytes())?;
    let midnight = days.checked_mul(86_400_000_000)?;
    let rest = match rest {
        [] => return Some(midnight),
        [b'T' | b't' | b' ', rest @ ..] => rest,
        _ => return None,
    };
    let [h1, h2, b':', m1, m2, rest @ ..] = rest else {
        return None;
    };
    let (hour, minute) = (two_digits(*h1, *h2)?, two_digits(*m1, *m2)?);
    let (second, rest) = match rest {
        [b':', s1, s2, rest @ ..] => (two_digits(*s1, *s2)?, rest),
        rest => (0, rest),
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (micros, rest) = match rest {
        [b'.' | b',', rest @ ..] => fraction(rest)?,
        rest => (0, rest),
    };
    let offset_minutes = match rest {
        [] | [b'Z' | b'z'] => 0,
        [b' ', b'U', b'T', b'C'] => 0,
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let (hours, minutes) = match rest {
                [a, b] => (two_digits(*a, *b)?, 0),
                [a, b, b':', c, d] | [a, b, c, d] => (two_digits(*a, *b)?, two_digits(*c, *d)?),
                _ => return None,
            };
            if hours > 23 || minutes > 59 {
                return None;
            }
            let minutes = hours * 60 + minutes;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let seconds = (hour * 60 + minute - offset_minutes) * 60 + second;
    midnight.checked_add(seconds * 1_000_000 + micros)
}

fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let micros = (0..6).fold(0_i64, |value, place| {
        let digit = if place < digits {
            bytes.get(place).map_or(0, |b| b - b'0')
        } else {
            0
        };
        value * 10 + i64::from(digit)
    });
    bytes.get(digits..).map(|rest| (micros, rest))
}

fn two_digits(a: u8, b: u8) -> Option<i64> {
    (a.is_ascii_digit() && b.is_ascii_digit())
        .then(|| i64::from(a - b'0') * 10 + i64::from(b - b'0'))
}

fn date_prefix(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, rest @ ..] = bytes else {
        return None;
    };
    let year = two_digits(*y1, *y2)? * 100 + two_digits(*y3, *y4)?;
    let (month, day) = (two_digits(*m1, *m2)?, two_digits(*d1, *d2)?);
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
    // Days from civil: years start in March, so that the leap day is the last of its year.
    let shifted_year = year - i64::from(month <= 2);
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era - 719_468, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_are_exact_or_refused() {
        assert_eq!(decimal("0.25", 18, 6), Some(250_000));
        assert_eq!(decimal("3e-07", 18, 7), Some(3));
        assert_eq!(decimal("3e-07", 18, 6), None);
        assert_eq!(decimal("-1.5E2", 5, 0), Some(-150));
        assert_eq!(
            decimal("1.000000000000000000000000000000000000000000000", 3, 2),
            Some(100)
        );
        assert_eq!(
            decimal("000000000000000000000000000000000000000000000012", 2, 0),
            Some(12)
        );
        assert_eq!(decimal("100", 2, 0), None);
        assert_eq!(decimal("0e99999999999", 2, 0), Some(0));
        for junk in [
            "", ".", "-", "1,5", "NaN", "inf", "0x1", "1e", "e5", "1.2.3", "١",
        ] {
            assert_eq!(decimal(junk, 38, 10), None, "{junk:?}");
        }
    }

    #[test]
    fn whole_numbers_may_be_written_as_decimals() {
        assert_eq!(bigint("9223372036854775807"), Some(i64::MAX));
        assert_eq!(bigint("9223372036854775808"), None);
        assert_eq!(bigint("1e3"), Some(1000));
        assert_eq!(bigint("12.0"), Some(12));
        assert_eq!(bigint("12.5"), None);
    }

    #[test]
    fn instants_name_their_offset_or_are_utc() {
        let noon = Some(1_785_585_600_000_000);
        for text in [
            "2026-08-01T12:00:00Z",
            "2026-08-01 12:00:00",
            "2026-08-01T12:00",
            "2026-08-01T14:00:00.000+02:00",
            "2026-08-01 12:00:00 UTC",
            "2026-08-01T05:00:00-0700",
        ] {
            assert_eq!(timestamp(text), noon, "{text}");
        }
        assert_eq!(timestamp("1970-01-01T00:00:00.1234567Z"), Some(123_456));
        for junk in [
            "2026-02-29",
            "2026-13-01",
            "2026-08-01T24:00:00Z",
            "2026-08-01T1:00",
            "x",
            "",
        ] {
            assert_eq!(timestamp(junk), None, "{junk:?}");
        }
    }

    proptest! {
        #[test]
        fn decimal_text_comes_back(mantissa in -999_999_999_999_999_999_i128..=999_999_999_999_999_999, scale in 0_u8..12) {
            let digits = format!("{:0>20}", mantissa.unsigned_abs());
            let (whole, fraction) = digits.split_at(20 - usize::from(scale));
            let sign = if mantissa < 0 { "-" } else { "" };
            prop_assert_eq!(decimal(&format!("{sign}{whole}.{fraction}"), 38, scale), Some(mantissa));
            prop_assert_eq!(decimal(&format!("{mantissa}e-{scale}"), 38, scale), Some(mantissa));
        }

        #[test]
        fn instants_agree_with_the_calendar(seconds in 0_i64..7_258_118_400) {
            let instant = jiff::Timestamp::from_second(seconds).unwrap();
            prop_assert_eq!(timestamp(&instant.to_string()), Some(seconds * 1_000_000));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = (decimal(&text, 38, 10), timestamp(&text), bigint(&text), boolean(&text));
        }
    }
}
