//! Text that says by itself whether it is whole: a line, and in a second one its digest.

/// A line with its digest behind it.
#[must_use]
pub fn sealed(line: &str) -> String {
    format!("{line}\n{}\n", blake3::hash(line.as_bytes()).to_hex())
}

/// The line, if every byte is what was written.
#[must_use]
pub fn unsealed(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let line = text.lines().next()?;
    (sealed(line) == text).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_may_change() {
        let whole = sealed("{\"a\":1}").into_bytes();
        assert_eq!(unsealed(&whole), Some("{\"a\":1}"));
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut torn = whole.clone();
                torn[at] ^= 1 << bit;
                assert_eq!(unsealed(&torn), None, "bit {bit} of byte {at}");
            }
            assert_eq!(unsealed(&whole[..at]), None, "{at} bytes");
        }
    }
}
