//! Numbers in as few bytes as they need: seven bits each, the last with its top bit clear.

/// Adds a number.
pub(super) fn put(bytes: &mut Vec<u8>, mut number: u128) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

/// Takes the next number off; nothing behind the last.
pub(super) fn take(bytes: &mut &[u8]) -> Option<u128> {
    let (mut number, mut shift) = (0_u128, 0_u32);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u128::from(byte & 0x7f) << shift;
        shift = shift.saturating_add(7);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
}

/// A number of either sign, small where it is near zero.
pub(super) fn zigzag(number: i128) -> u128 {
    (number.cast_unsigned() << 1) ^ (number >> 127).cast_unsigned()
}

/// The number that [`zigzag`] was given.
pub(super) fn unzigzag(number: u128) -> i128 {
    (number >> 1).cast_signed() ^ (number & 1).cast_signed().wrapping_neg()
}

/// How far it is from one position to another.
pub(super) fn step(from: u64, to: u64) -> i128 {
    i128::from(to).saturating_sub(i128::from(from))
}

/// The position that lies so far from another.
pub(super) fn stepped(from: u64, step: i128) -> u64 {
    u64::try_from(i128::from(from).saturating_add(step)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_had_again(numbers: Vec<i128>, from: u64, to: u64) {
            let mut bytes = Vec::new();
            numbers.iter().for_each(|number| put(&mut bytes, zigzag(*number)));
            let mut rest = bytes.as_slice();
            for number in numbers {
                prop_assert_eq!(take(&mut rest).map(unzigzag), Some(number));
            }
            prop_assert_eq!(take(&mut rest), None);
            prop_assert_eq!(stepped(from, step(from, to)), to);
        }
    }
}
