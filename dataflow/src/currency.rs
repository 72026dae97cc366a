//! How many decimals the coins of a currency have (ISO 4217), for amounts that people pay.

/// Decimals of a currency: two where it is not one of those that differ.
#[must_use]
pub fn decimals(currency: &str) -> u8 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX"
        | "UYI" | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::decimals;

    #[test]
    fn a_yen_has_no_decimals_and_a_dinar_three() {
        let of = ["EUR", "JPY", "KWD", "CLF", "credits"].map(decimals);
        assert_eq!(of, [2, 0, 3, 4, 2]);
    }
}
