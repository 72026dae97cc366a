//! Products that 128 bits cannot hold on their way to an amount that can: a price of 28 digits times
//! a large quantity, for a divisor that brings it back into range.

/// `left · right · factor / divisor` rounded half to even; `None` when it leaves 127 bits. The
/// divisor has at most 127 bits.
pub(super) fn multiply_divide(
    left: i128,
    right: i128,
    factor: u128,
    divisor: i128,
) -> Option<i128> {
    let negative = ((left < 0) != (right < 0)) != (divisor < 0);
    let divisor = u128::try_from(divisor.checked_abs()?).ok()?;
    let (low, high) = left.unsigned_abs().carrying_mul(right.unsigned_abs(), 0);
    let (low, carried) = low.carrying_mul(factor, 0);
    let high = high.checked_mul(factor)?.checked_add(carried)?;
    // With as much above as the divisor, the quotient needs more than 128 bits.
    if high >= divisor {
        return None;
    }
    let (mut quotient, mut rest) = (0_u128, high);
    for bit in (0..128).rev() {
        // The rest is below the divisor, which leaves its top bit free.
        rest = (rest << 1) | ((low >> bit) & 1);
        quotient <<= 1;
        if rest >= divisor {
            rest = rest.checked_sub(divisor)?;
            quotient |= 1;
        }
    }
    let missing = divisor.checked_sub(rest)?;
    if rest > missing || (rest == missing && quotient & 1 == 1) {
        quotient = quotient.checked_add(1)?;
    }
    let quotient = i128::try_from(quotient).ok()?;
    Some(if negative {
        quotient.saturating_neg()
    } else {
        quotient
    })
}

#[cfg(test)]
mod tests {
    use super::multiply_divide;

    #[test]
    fn the_middle_may_be_wider_than_the_end() {
        let big = 10_i128.pow(36);
        assert_eq!(
            multiply_divide(big, 6, 10_u128.pow(20), big),
            Some(6 * 10_i128.pow(20))
        );
        assert_eq!(multiply_divide(-big, big, 1, big), Some(-big));
        assert_eq!(multiply_divide(big, big, 1, 7), None);
        assert_eq!(multiply_divide(i128::MAX, i128::MAX, u128::MAX, 1), None);
    }

    #[test]
    fn halves_go_to_the_even_neighbour() {
        for (number, half) in [(1, 0), (3, 2), (5, 2), (7, 4), (-3, -2), (-1, 0)] {
            assert_eq!(multiply_divide(number, 1, 1, 2), Some(half), "{number}");
        }
        assert_eq!(multiply_divide(2, 1, 1, 3), Some(1));
    }
}
