//! Text to typed values, exact or not at all.
//!
//! - **Decimals** come from plain (`0.25`) or scientific (`3e-07`) text and never pass through a
//!   binary float; a digit that the scale cannot hold refuses the text instead of rounding it.
//! - **Instants** are read in [`crate::times`].

const QUOTED_CHARS_MAX: usize = 80;

/// A value as messages show it: quoted, and cut to a readable length.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((cut, _)) => format!("{:?}... ({} bytes)", &text[..cut], text.len()),
        None => format!("{text:?}"),
    }
}

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
        fn no_text_panics(text in ".{0,40}") {
            let _ = (decimal(&text, 38, 10), bigint(&text), boolean(&text));
        }
    }
}
