//! Amounts as on paper: long multiplication and long division over decimal digits, and a rounding
//! that looks at the digits cut off.

use millrace_operators::domain::Amount;

/// Decimals that an amount keeps.
const KEPT: usize = 24;

/// `left · right / divisor`, the factors given as (digits, decimals), rounded half to even at the
/// 24th decimal; nothing when the result needs more than 127 bits.
///
/// # Panics
/// With more decimals than a machine can count, or a divisor of more than 37 digits.
#[must_use]
pub fn times(left: (i128, u32), right: (i128, u32), divisor: u128) -> Option<Amount> {
    let negative = (left.0 < 0) != (right.0 < 0);
    let mut digits = multiply(&digits(left.0), &digits(right.0));
    let mut decimals = usize::try_from(left.1 + right.1).expect("few decimals");
    // At least one digit more than is kept, so that there always is one to round by.
    while decimals <= KEPT {
        digits.push(0);
        decimals += 1;
    }
    let (quotient, rest) = divide(&digits, divisor);
    let cut = quotient.len().saturating_sub(decimals - KEPT);
    let (kept, dropped) = quotient.split_at(cut);
    let mut value = 0_i128;
    for digit in kept {
        value = value
            .checked_mul(10)?
            .checked_add(i128::from(*digit) * if negative { -1 } else { 1 })?;
    }
    let nothing_behind = rest == 0 && dropped[1..].iter().all(|digit| *digit == 0);
    let up = match dropped[0] {
        0..=4 => false,
        5 if nothing_behind => value % 2 != 0,
        _ => true,
    };
    if up {
        value = value.checked_add(if negative { -1 } else { 1 })?;
    }
    Some(Amount(value))
}

/// The decimal digits, the highest first.
fn digits(number: i128) -> Vec<u8> {
    let text = number.unsigned_abs().to_string();
    text.bytes().map(|byte| byte - b'0').collect()
}

/// Long multiplication; as many digits as both factors have.
fn multiply(left: &[u8], right: &[u8]) -> Vec<u8> {
    let mut columns = vec![0_u32; left.len() + right.len()];
    for (i, a) in left.iter().enumerate() {
        for (j, b) in right.iter().enumerate() {
            columns[i + j + 1] += u32::from(*a) * u32::from(*b);
        }
    }
    let mut carry = 0;
    let mut product = Vec::new();
    for column in columns.iter().rev() {
        carry += column;
        product.push(u8::try_from(carry % 10).expect("a digit"));
        carry /= 10;
    }
    product.reverse();
    product
}

/// Long division; as many digits as the dividend has, and the rest.
fn divide(digits: &[u8], divisor: u128) -> (Vec<u8>, u128) {
    let mut rest = 0;
    let mut quotient = Vec::new();
    for digit in digits {
        rest = rest * 10 + u128::from(*digit);
        quotient.push(u8::try_from(rest / divisor).expect("a digit"));
        rest %= divisor;
    }
    (quotient, rest)
}

#[cfg(test)]
mod tests {
    use super::times;

    fn text(left: (i128, u32), right: (i128, u32), divisor: u128) -> String {
        times(left, right, divisor).map_or("none".to_owned(), |amount| amount.0.to_string())
    }

    #[test]
    fn by_hand() {
        // 71,175 tokens at 3 per million.
        assert_eq!(
            text((3, 0), (71_175, 0), 1_000_000),
            "213525000000000000000000"
        );
        assert_eq!(text((1, 0), (1, 0), 3), "333333333333333333333333");
        assert_eq!(text((2, 0), (1, 0), 3), "666666666666666666666667");
        // Half of the last decimal: to the even neighbour, on both sides of zero.
        assert_eq!(text((5, 25), (1, 0), 1), "0");
        assert_eq!(text((15, 25), (1, 0), 1), "2");
        assert_eq!(text((-15, 25), (1, 0), 1), "-2");
        assert_eq!(text((1, 24), (1, 0), 2), "0");
        assert_eq!(text((3, 24), (1, 0), 2), "2");
        // A hair above half.
        assert_eq!(text((50_001, 29), (1, 0), 1), "1");
        assert_eq!(text((170_141_183_460_469, 0), (1, 0), 1).len(), 39);
        assert_eq!(text((170_141_183_460_470, 0), (1, 0), 1), "none");
    }
}
