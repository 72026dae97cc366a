//! Money and quantities, exact.
//!
//! An [`Amount`] is a fixed-scale integer, because incremental sums must be reversible: adding and
//! taking away in any order ends where it began. Its 24 decimals hold the finest list prices seen in
//! public catalogs (23 decimals) times a whole quantity without rounding. It has 38 digits, as the
//! columns of the outputs have: less than 100 trillion units of currency. What would go past that is
//! suspense, never a wrong number; sums of amounts are [`Total`](super::Total)s, which have room.

use super::wide::multiply_divide;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An amount of money in a currency that the context names, in units of 10⁻²⁴.
///
/// Deliberately no `+`: amounts add only under a key that fixes the currency, by
/// [`Amount::checked_add`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Amount(pub i128);

impl Amount {
    /// Decimals held.
    pub const SCALE: u8 = 24;
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The most: 38 digits.
    pub const MAX: Self = Self(10_i128.pow(38) - 1);

    /// The amount of so many units, unless it leaves the range.
    #[must_use]
    pub fn within(units: i128) -> Option<Self> {
        (units.unsigned_abs() <= Self::MAX.0.unsigned_abs()).then_some(Self(units))
    }

    /// The sum, unless it leaves the range.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(Self::within)
    }

    /// The difference, unless it leaves the range.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).and_then(Self::within)
    }

    /// `mantissa · 10^-scale / divisor` rounded half to even at 10⁻²⁴, the one place where a charge
    /// is rounded. Exact whenever the result has no more than 24 decimals.
    #[must_use]
    pub fn from_ratio(mantissa: i128, scale: u32, divisor: i128) -> Option<Self> {
        let target = u32::from(Self::SCALE);
        if scale <= target {
            let scaled = mantissa.checked_mul(power_of_ten(target.checked_sub(scale)?)?)?;
            divide_half_even(scaled, divisor).and_then(Self::within)
        } else {
            let shrink = power_of_ten(scale.checked_sub(target)?)?;
            divide_half_even(mantissa, divisor.checked_mul(shrink)?).and_then(Self::within)
        }
    }

    /// `left · right · 10^-scale / divisor`, rounded as by [`Self::from_ratio`], however many digits
    /// the product has on the way.
    #[must_use]
    pub fn from_product(left: i128, right: i128, scale: u32, divisor: i128) -> Option<Self> {
        let product = left.checked_mul(right);
        let narrow = product.and_then(|product| Self::from_ratio(product, scale, divisor));
        narrow.or_else(|| {
            let up = u32::from(Self::SCALE).saturating_sub(scale);
            let down = scale.saturating_sub(u32::from(Self::SCALE));
            let factor = 10_u128.checked_pow(up)?;
            let divisor = divisor.checked_mul(power_of_ten(down)?)?;
            multiply_divide(left, right, factor, divisor).and_then(Self::within)
        })
    }

    /// Rounded half away from zero to `decimals`, as invoices and people do: for display. First to
    /// twelve decimals, so that three parts of 2/3, each held to 24, are 2.00 and never 1.99.
    #[must_use]
    pub fn rounded(self, decimals: u8) -> String {
        let digits = self.0.unsigned_abs().to_string();
        rounded_point(self.0 < 0, &digits, Self::SCALE, decimals)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&fixed_point(
            self.0 < 0,
            &self.0.unsigned_abs().to_string(),
            Self::SCALE,
            true,
        ))
    }
}

/// A total of quantities of one item, in units of 10⁻¹².
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Quantity(pub i128);

impl Quantity {
    /// Decimals held.
    pub const SCALE: u8 = 12;
    /// One unit.
    pub const ONE: Self = Self(1_000_000_000_000);

    /// A record's quantity, `mantissa · 10^-scale`; `None` when it has more than 12 decimals.
    #[must_use]
    pub fn new(mantissa: i64, scale: u8) -> Option<Self> {
        let shift = Self::SCALE.checked_sub(scale)?;
        i128::from(mantissa)
            .checked_mul(power_of_ten(u32::from(shift))?)
            .map(Self)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&fixed_point(
            self.0 < 0,
            &self.0.unsigned_abs().to_string(),
            Self::SCALE,
            true,
        ))
    }
}

/// A price: an exact decimal of up to 28 digits, normalised so that 1.0 and 1.00 are one value with
/// one text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(Decimal);

impl Price {
    /// Parses decimal text, plain (`0.000003`) or scientific (`3e-06`), without any rounding.
    ///
    /// # Errors
    /// When the text is not a number or needs more than 28 digits.
    pub fn parse(text: &str) -> Result<Self, ExactError> {
        parse_decimal(text).map(|decimal| Self(decimal.normalize()))
    }

    /// The digits as an integer.
    #[must_use]
    pub fn mantissa(self) -> i128 {
        self.0.mantissa()
    }

    /// How many of them are decimals.
    #[must_use]
    pub fn scale(self) -> u32 {
        self.0.scale()
    }

    /// Whether it is below zero.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.0.is_sign_negative() && !self.0.is_zero()
    }
}

impl From<Decimal> for Price {
    fn from(decimal: Decimal) -> Self {
        Self(decimal.normalize())
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Price {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Why a text is not an exact decimal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExactError {
    /// Not a number.
    #[error("{0:?} is not a decimal number")]
    NotANumber(String),
    /// A number that 28 digits cannot hold.
    #[error("{0:?} needs more than 28 digits")]
    TooLong(String),
}

/// Parses decimal text exactly, plain or scientific; never through a binary float.
///
/// # Errors
/// When the text is not a number or needs more than 28 digits.
pub fn parse_decimal(text: &str) -> Result<Decimal, ExactError> {
    let trimmed = text.trim();
    let not_a_number = || ExactError::NotANumber(text.chars().take(64).collect());
    let too_long = || ExactError::TooLong(text.chars().take(64).collect());
    let (digits, exponent) = match trimmed.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().map_err(|_| not_a_number())?),
        None => (trimmed, 0),
    };
    let unsigned = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return Err(not_a_number());
    }
    let fraction = fraction.trim_end_matches('0');
    let mut mantissa = 0_i128;
    for digit in whole.bytes().chain(fraction.bytes()) {
        let digit = i128::from(digit.saturating_sub(b'0'));
        mantissa = mantissa
            .checked_mul(10)
            .and_then(|m| m.checked_add(digit))
            .ok_or_else(too_long)?;
    }
    if digits.starts_with('-') {
        mantissa = mantissa.saturating_neg();
    }
    let decimals = i32::try_from(fraction.len()).map_err(|_| too_long())?;
    let mut scale = decimals.checked_sub(exponent).ok_or_else(too_long)?;
    while scale < 0 && mantissa != 0 {
        mantissa = mantissa.checked_mul(10).ok_or_else(too_long)?;
        scale = scale.saturating_add(1);
    }
    let scale = if mantissa == 0 {
        0
    } else {
        u32::try_from(scale).map_err(|_| too_long())?
    };
    Decimal::try_from_i128_with_scale(mantissa, scale).map_err(|_| too_long())
}

/// 10 to a power, as far as 127 bits hold it: looked up, because every amount needs one.
fn power_of_ten(exponent: u32) -> Option<i128> {
    const POWERS: [i128; 39] = {
        let mut powers = [1; 39];
        let mut at = 1;
        while at < powers.len() {
            powers[at] = powers[at - 1] * 10;
            at += 1;
        }
        powers
    };
    POWERS.get(usize::try_from(exponent).ok()?).copied()
}

fn divide_half_even(numerator: i128, divisor: i128) -> Option<i128> {
    // Nearly every price is for one unit, and a division of 128 bits is slow.
    if divisor == 1 {
        return Some(numerator);
    }
    let quotient = numerator.checked_div(divisor)?;
    let remainder = numerator.checked_rem(divisor)?.checked_abs()?;
    let rest = divisor.checked_abs()?.checked_sub(remainder)?;
    let up = remainder > rest || (remainder == rest && quotient.checked_rem(2)? != 0);
    if remainder == 0 || !up {
        return Some(quotient);
    }
    let away = if (numerator < 0) == (divisor < 0) {
        1
    } else {
        -1
    };
    quotient.checked_add(away)
}

/// The text of a decimal with all its decimals: of an integer, however many digits it has, in units of
/// `10^-scale`. With [`plain_text`] the one writer of decimals: those of others know a most of digits, and
/// cut the last one off a number that has more.
#[must_use]
pub fn exact_text(units: impl fmt::Display, scale: u8) -> String {
    signed(&units.to_string(), scale, false)
}

/// As [`exact_text`], without the zeros behind the last other digit.
#[must_use]
pub fn plain_text(units: impl fmt::Display, scale: u8) -> String {
    signed(&units.to_string(), scale, true)
}

fn signed(units: &str, scale: u8, trim: bool) -> String {
    match units.strip_prefix('-') {
        Some(digits) => fixed_point(true, digits, scale, trim),
        None => fixed_point(false, units, scale, trim),
    }
}

/// A number of these digits, `scale` of them decimals, as text, with or without its trailing zeros.
pub(super) fn fixed_point(negative: bool, digits: &str, scale: u8, trim: bool) -> String {
    let width = usize::from(scale);
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(width));
    let before = width.saturating_sub(fraction.len());
    let fraction = if trim {
        fraction.trim_end_matches('0')
    } else {
        fraction
    };
    let mut text = String::with_capacity(digits.len().saturating_add(width).saturating_add(3));
    if negative {
        text.push('-');
    }
    text.push_str(if whole.is_empty() { "0" } else { whole });
    if !fraction.is_empty() || (!trim && width > 0) {
        text.push('.');
        text.extend(std::iter::repeat_n('0', before));
        text.push_str(fraction);
    }
    text
}

/// As [`fixed_point`], rounded half away from zero to `decimals`: by its digits, so that no number is
/// too large for it.
pub(super) fn rounded_point(negative: bool, digits: &str, scale: u8, decimals: u8) -> String {
    // What quotients have lost at the last decimal must not tip a half.
    const FIRST: u8 = 12;
    if scale > FIRST && decimals < FIRST {
        let first = rounded_digits(digits, scale, FIRST);
        let kept = rounded_digits(&first, FIRST, decimals);
        return rounded_text(negative, &kept, decimals);
    }
    let decimals = decimals.min(scale);
    rounded_text(negative, &rounded_digits(digits, scale, decimals), decimals)
}

fn rounded_text(negative: bool, digits: &str, decimals: u8) -> String {
    let nothing = digits.bytes().all(|digit| digit == b'0');
    fixed_point(negative && !nothing, digits, decimals, false)
}

/// The digits of a number of `scale` decimals, rounded half away from zero to `decimals` of them.
fn rounded_digits(digits: &str, scale: u8, decimals: u8) -> String {
    let cut = usize::from(scale.saturating_sub(decimals));
    let digits = format!("{digits:0>pad$}", pad = cut.saturating_add(1));
    let (kept, gone) = digits.split_at(digits.len().saturating_sub(cut));
    let mut kept: Vec<u8> = kept.bytes().collect();
    if gone.as_bytes().first().is_some_and(|first| *first >= b'5') {
        let nines = kept
            .iter()
            .rev()
            .take_while(|digit| **digit == b'9')
            .count();
        let end = kept.len().saturating_sub(nines);
        kept[end..].fill(b'0');
        match kept[..end].last_mut() {
            Some(digit) => *digit = digit.saturating_add(1),
            None => kept.insert(0, b'1'),
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_keep_every_digit() {
        for (text, shown) in [
            ("3e-07", "0.0000003"),
            ("1.5E-5", "0.000015"),
            ("0.10", "0.1"),
            ("2e3", "2000"),
            ("0e-30", "0"),
            ("2.9999900000000002e-06", "0.0000029999900000000002"),
        ] {
            assert_eq!(Price::parse(text).unwrap().to_string(), shown, "{text}");
        }
        assert_eq!(Price::parse("1.0"), Price::parse("1.00"));
    }

    #[test]
    fn what_cannot_be_exact_is_refused() {
        assert!(matches!(Price::parse("1e-40"), Err(ExactError::TooLong(_))));
        assert!(matches!(
            Price::parse("0.12345678901234567890123456789"),
            Err(ExactError::TooLong(_))
        ));
        for junk in ["", ".", "1,5", "NaN", "0x10", "1e", "--1", "1.2.3", "inf"] {
            assert!(
                matches!(Price::parse(junk), Err(ExactError::NotANumber(_))),
                "{junk:?}"
            );
        }
    }

    #[test]
    fn ratios_round_half_to_even_at_the_last_decimal() {
        let third = Amount::from_ratio(1, 0, 3).unwrap();
        assert_eq!(third.to_string(), "0.333333333333333333333333");
        // 0.5, 1.5 and 2.5 units of the last decimal.
        assert_eq!(Amount::from_ratio(5, 25, 1), Some(Amount(0)));
        assert_eq!(Amount::from_ratio(15, 25, 1), Some(Amount(2)));
        assert_eq!(Amount::from_ratio(25, 25, 1), Some(Amount(2)));
        assert_eq!(Amount::from_ratio(-15, 25, 1), Some(Amount(-2)));
        assert_eq!(Amount::from_ratio(i128::MAX, 0, 1), None);
        // 38 digits, and no more.
        let trillions = |units| Amount::from_ratio(units, 0, 1);
        assert!(trillions(99_999_999_999_999).is_some());
        assert_eq!(trillions(100_000_000_000_000), None);
        assert_eq!(trillions(-100_000_000_000_000), None);
        assert_eq!(Amount::MAX.checked_add(Amount(1)), None);
    }

    #[test]
    fn every_power_of_ten_has_its_text() {
        // By hand: digits in a row, and a point counted from their end.
        let exact = |digits: &str, scale: usize| match digits.len().checked_sub(scale) {
            _ if scale == 0 => digits.to_owned(),
            Some(whole @ 1..) => format!("{}.{}", &digits[..whole], &digits[whole..]),
            _ => format!("0.{digits:0>scale$}"),
        };
        let mut numbers: Vec<i128> = vec![0, i128::MAX];
        for power in 0..=38 {
            let ten = 10_i128.pow(power);
            numbers.extend([ten - 1, ten, ten + 1, ten / 8 * 7]);
        }
        for number in numbers {
            for scale in [0, 1, 2, 12, 23, 24, 30] {
                let text = exact(&number.to_string(), usize::from(scale));
                assert_eq!(exact_text(number, scale), text);
                let plain = match text.contains('.') {
                    true => text.trim_end_matches('0').trim_end_matches('.'),
                    false => &text,
                };
                assert_eq!(plain_text(number, scale), plain);
                if scale == Amount::SCALE {
                    assert_eq!(Amount(number).to_string(), plain);
                }
                if number != 0 {
                    assert_eq!(exact_text(-number, scale), format!("-{text}"));
                    assert_eq!(plain_text(-number, scale), format!("-{plain}"));
                }
            }
        }
    }

    #[test]
    fn text_is_plain_and_trimmed() {
        let amount = Amount::from_ratio(28_970_761_824, 7, 1).unwrap();
        assert_eq!(amount.to_string(), "2897.0761824");
        assert_eq!(amount.rounded(2), "2897.08");
        assert_eq!(Amount::from_ratio(-5, 3, 1).unwrap().rounded(2), "-0.01");
        assert_eq!(Amount::from_ratio(-4, 3, 1).unwrap().rounded(2), "0.00");
        assert_eq!(Amount::from_ratio(9995, 3, 1).unwrap().rounded(2), "10.00");
        assert_eq!(Amount::from_ratio(995, 3, 1).unwrap().rounded(0), "1");
        // Fifteen parts of a thirtieth of a cent: a half, less what the quotients lost.
        let part = Amount::from_ratio(1, 2, 30).unwrap();
        let parts = Amount(part.0 * 15);
        assert_eq!(parts.to_string(), "0.004999999999999999999995");
        assert_eq!(parts.rounded(2), "0.01");
        assert_eq!(Quantity::new(15, 1).unwrap().to_string(), "1.5");
        assert_eq!(Quantity::new(1, 13), None);
    }
}
