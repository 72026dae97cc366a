//! Whole numbers and decimals of any width as one kind: mantissas of a scale.

use super::refused;
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type};
use datafusion_common::{DataFusionError, Result, exec_datafusion_err, exec_err, internal_err};

/// Checks that a type is a whole number or a decimal.
pub(super) fn check_exact(kind: &DataType, usage: &str) -> Result<()> {
    match kind {
        DataType::Decimal128(_, scale) if *scale >= 0 => Ok(()),
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) if *scale >= 0 => Ok(()),
        DataType::Null => Ok(()),
        kind if kind.is_integer() => Ok(()),
        kind if kind.is_floating() => Err(refused(
            format!("{usage} has a binary float as argument"),
            "convert the column first, with exact(column, scale)",
        )),
        kind => Err(refused(
            format!("{usage} has an argument of type {kind} where a number belongs"),
            "declare the column's type in `columns`, or convert it with decimal(column, scale)",
        )),
    }
}

/// The numbers as mantissas, and their scale.
pub(super) fn mantissas(array: &ArrayRef) -> Result<(Decimal128Array, u32)> {
    let scale = match array.data_type() {
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) => *scale,
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => *scale,
        kind if kind.is_integer() || kind.is_null() => 0,
        // A cast would round it.
        kind => return internal_err!("{kind} is no exact number"),
    };
    let exact = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let target = DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale);
    let same = matches!(array.data_type(), DataType::Decimal128(_, _));
    let wide = if same {
        ArrayRef::clone(array)
    } else {
        cast_with_options(array, &target, &exact)?
    };
    let scale = u32::try_from(scale).map_err(|e| DataFusionError::External(Box::new(e)))?;
    Ok((wide.as_primitive::<Decimal128Type>().clone(), scale))
}

/// A column of mantissas at `scale`, each within 38 digits.
pub(super) fn decimals(
    values: impl Iterator<Item = Result<Option<i128>>>,
    scale: i8,
) -> Result<Decimal128Array> {
    const LIMIT: i128 = 10_i128.pow(38);
    let values = values.map(|value| match value? {
        Some(value) if value >= LIMIT || value <= -LIMIT => {
            exec_err!("a result needs more than 38 digits")
        }
        value => Ok(value),
    });
    let array = values.collect::<Result<Decimal128Array>>()?;
    Ok(array.with_precision_and_scale(DECIMAL128_MAX_PRECISION, scale)?)
}

pub(super) fn power_of_ten(exponent: u32) -> Result<i128> {
    10_i128
        .checked_pow(exponent)
        .ok_or_else(|| exec_datafusion_err!("a number needs more than 38 digits"))
}

/// `numerator / divisor`, half to even; `None` on overflow. The divisor is not zero.
pub(super) fn half_even(numerator: i128, divisor: i128) -> Option<i128> {
    let quotient = numerator.checked_div(divisor)?;
    let rest = numerator.checked_rem(divisor)?;
    if rest == 0 {
        return Some(quotient);
    }
    let left = divisor.unsigned_abs() - rest.unsigned_abs();
    let away = match rest.unsigned_abs().cmp(&left) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => quotient % 2 != 0,
        std::cmp::Ordering::Greater => true,
    };
    let step = if (numerator < 0) == (divisor < 0) {
        1
    } else {
        -1
    };
    if away {
        quotient.checked_add(step)
    } else {
        Some(quotient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ties_go_to_the_even_neighbour() {
        for (numerator, divisor, expected) in [
            (5, 10, 0),
            (15, 10, 2),
            (25, 10, 2),
            (-5, 10, 0),
            (-15, 10, -2),
            (-25, 10, -2),
            (26, 10, 3),
            (24, 10, 2),
            (15, -10, -2),
            (1, 3, 0),
            (2, 3, 1),
        ] {
            assert_eq!(
                half_even(numerator, divisor),
                Some(expected),
                "{numerator}/{divisor}"
            );
        }
        assert_eq!(half_even(i128::MIN, -1), None);
    }

    proptest! {
        #[test]
        fn the_result_is_never_further_than_half(n in any::<i64>(), d in any::<i64>().prop_filter("no zero", |d| *d != 0)) {
            let (n, d) = (i128::from(n), i128::from(d));
            let q = half_even(n, d).unwrap();
            prop_assert!(2 * (n - q * d).abs() <= d.abs());
        }
    }
}
