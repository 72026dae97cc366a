//! Sums that cannot leave their range: what billing lines, accounts and currencies add up to.
//!
//! One charge is an [`Amount`]; two that can be held may have a sum that cannot, and one record must
//! not stop the sums of all others. A [`Total`] has 64 bits more, so it holds as many amounts as a
//! count of 64 bits can count. What leaves the engine in columns of 38 digits is asked for by
//! [`Total::fitting`], and told where it does not fit.

use super::amount::{Amount, Quantity, fixed_point, rounded_point};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A sum of integers of 128 bits, in units of `10^-SCALE`, exact.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Total<const SCALE: u8> {
    // Two's complement in three limbs of 64 bits, which align like the count beside them; the order
    // of the fields is the order of the values.
    high: i64,
    middle: u64,
    low: u64,
}

/// What amounts add up to.
pub type MoneyTotal = Total<{ Amount::SCALE }>;

/// What quantities add up to.
pub type QuantityTotal = Total<{ Quantity::SCALE }>;

impl<const SCALE: u8> Total<SCALE> {
    /// Nothing.
    pub const ZERO: Self = Self {
        high: 0,
        middle: 0,
        low: 0,
    };

    const fn of(high: i64, bits: u128) -> Self {
        let bytes = bits.to_be_bytes();
        let (middle, low) = bytes.split_at(8);
        Self {
            high,
            middle: limb(middle),
            low: limb(low),
        }
    }

    /// The lower 128 bits.
    fn bits(self) -> u128 {
        (u128::from(self.middle) << 64) | u128::from(self.low)
    }

    /// The value of 128 bits.
    #[must_use]
    pub const fn from_i128(value: i128) -> Self {
        let high = if value < 0 { -1 } else { 0 };
        Self::of(high, value.cast_unsigned())
    }

    /// The value, as the upper 128 bits of 256 and the lower.
    #[must_use]
    pub fn parts(self) -> (i128, u128) {
        (i128::from(self.high), self.bits())
    }

    /// The value, where 128 bits hold it.
    #[must_use]
    pub fn to_i128(self) -> Option<i128> {
        let value = self.bits().cast_signed();
        (Self::from_i128(value) == self).then_some(value)
    }

    /// The value, where a column of 38 digits holds it.
    #[must_use]
    pub fn fitting(self) -> Option<i128> {
        let fits = |value: &i128| value.unsigned_abs() <= Amount::MAX.0.unsigned_abs();
        self.to_i128().filter(fits)
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let (bits, carried) = self.bits().overflowing_add(other.bits());
        // As many values of 128 bits as a count of 64 bits counts have their sum in 192 bits.
        let high = self.high.wrapping_add(other.high);
        Self::of(high.wrapping_add(i64::from(carried)), bits)
    }

    /// The value below nothing as this is above.
    #[must_use]
    pub fn negated(self) -> Self {
        let (bits, carried) = (!self.bits()).overflowing_add(1);
        let high = !self.high;
        Self::of(high.wrapping_add(i64::from(carried)), bits)
    }

    /// The difference.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(other.negated())
    }

    /// The sum of so many of it; below 0, of so many taken away.
    #[must_use]
    pub fn times(self, count: i64) -> Self {
        let mut product = Self::ZERO;
        let mut doubled = if count < 0 { self.negated() } else { self };
        let mut left = count.unsigned_abs();
        while left != 0 {
            if left & 1 == 1 {
                product = product.plus(doubled);
            }
            left >>= 1;
            if left != 0 {
                doubled = doubled.plus(doubled);
            }
        }
        product
    }

    /// The digits, without sign or point.
    fn digits(self) -> String {
        let magnitude = if self.high < 0 { self.negated() } else { self };
        let Some(bits) = magnitude.to_i128() else {
            return magnitude.long_digits();
        };
        bits.unsigned_abs().to_string()
    }

    /// The digits of a value of more than 128 bits, above 0.
    fn long_digits(self) -> String {
        const GROUP: u128 = 1_000_000_000_000_000_000;
        let mut limbs = [self.high.cast_unsigned(), self.middle, self.low];
        let mut groups: Vec<u128> = Vec::new();
        while limbs != [0; 3] {
            let mut rest = 0_u128;
            for held in &mut limbs {
                let value = (rest << 64) | u128::from(*held);
                let quotient = value.checked_div(GROUP).unwrap_or(0);
                // The rest is below the divisor, so the quotient has 64 bits.
                *held = u64::try_from(quotient).unwrap_or(u64::MAX);
                rest = value.checked_rem(GROUP).unwrap_or(0);
            }
            groups.push(rest);
        }
        let mut groups = groups.into_iter().rev();
        let mut digits = groups.next().unwrap_or(0).to_string();
        groups.for_each(|group| digits.push_str(&format!("{group:018}")));
        digits
    }

    /// Rounded half away from zero to `decimals`, as [`Amount::rounded`] does: for display.
    #[must_use]
    pub fn rounded(self, decimals: u8) -> String {
        rounded_point(self.high < 0, &self.digits(), SCALE, decimals)
    }
}

/// The number of eight bytes.
const fn limb(bytes: &[u8]) -> u64 {
    let mut value = 0;
    let mut at = 0;
    while at < bytes.len() {
        value = (value << 8) | bytes[at] as u64;
        at += 1;
    }
    value
}

impl From<Amount> for MoneyTotal {
    fn from(amount: Amount) -> Self {
        Self::from_i128(amount.0)
    }
}

impl From<Quantity> for QuantityTotal {
    fn from(quantity: Quantity) -> Self {
        Self::from_i128(quantity.0)
    }
}

impl<const SCALE: u8> fmt::Display for Total<SCALE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&fixed_point(self.high < 0, &self.digits(), SCALE, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sum_past_128_bits_keeps_its_digits() {
        let most = MoneyTotal::from_i128(i128::MAX);
        assert_eq!(most.to_string(), "170141183460469.231731687303715884105727");
        let twice = most.plus(most);
        assert_eq!(
            twice.to_string(),
            "340282366920938.463463374607431768211454"
        );
        assert_eq!(twice.rounded(2), "340282366920938.46");
        assert_eq!(twice.to_i128(), None);
        assert_eq!(
            twice.negated().to_string(),
            "-340282366920938.463463374607431768211454"
        );
        assert_eq!(twice.minus(most), most);
        let many = most.times(i64::MAX);
        assert_eq!(
            many.to_string(),
            "1569275433846670190788806172341447.372284678185363269746689"
        );
        assert_eq!(many.plus(most.times(-i64::MAX)), MoneyTotal::ZERO);
    }

    #[test]
    fn every_power_of_ten_keeps_its_digits() {
        let ten = |power: u32| {
            let exact = MoneyTotal::from_i128(10_i128.pow(power.min(38)));
            (38..power).fold(exact, |sum, _| sum.times(10))
        };
        for power in 24..57_u32 {
            let zeros = "0".repeat(usize::try_from(power).unwrap() - 24);
            let one_more = ten(power).plus(MoneyTotal::from_i128(1));
            assert_eq!(ten(power).to_string(), format!("1{zeros}"));
            assert_eq!(one_more.to_string(), format!("1{zeros}.{:024}", 1));
            assert_eq!(ten(power).fitting().is_some(), power < 38, "{power}");
        }
    }

    proptest! {
        #[test]
        fn sums_are_those_of_128_bits_and_their_order_is_kept(
            left in i128::MIN / 2..i128::MAX / 2,
            right in i128::MIN / 2..i128::MAX / 2,
            count in -1000_i64..1000,
        ) {
            let total = MoneyTotal::from_i128;
            prop_assert_eq!(total(left).plus(total(right)), total(left + right));
            prop_assert_eq!(total(left).minus(total(right)), total(left - right));
            prop_assert_eq!(total(left).cmp(&total(right)), left.cmp(&right));
            prop_assert_eq!(total(left).to_string(), Amount(left).to_string());
            prop_assert_eq!(total(left).rounded(2), Amount(left).rounded(2));
            let small = left / 2000;
            prop_assert_eq!(total(small).times(count), total(small * i128::from(count)));
        }
    }
}
