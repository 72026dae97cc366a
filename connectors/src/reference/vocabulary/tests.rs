//! What is a slip of a name, and what is another name.

use super::told::is_slip;
use super::*;

#[test]
fn a_slip_is_one_letter_or_another_spelling() {
    for (written, known, expected) in [
        ("input_tokns", "input_tokens", true),
        ("input_tokens", "inputTokens", true),
        ("Input-Tokens", "input_tokens", true),
        ("token", "tokens", true),
        ("premuim", "premium", true),
        ("standarb", "standard", true),
        ("input_tokens", "input_tokens", false),
        ("input_tokens", "output_tokens", false),
        ("ingress_bytes", "egress_bytes", false),
        ("get_requests", "put_requests", false),
        ("download_mb", "download_gb", false),
        ("zone_a", "zone_b", false),
        ("tier1", "tier10", false),
        ("gold2025", "gold2026", false),
        ("sms_in", "sms_on", false),
        ("a", "b", false),
    ] {
        assert_eq!(is_slip(written, known), expected, "{written} for {known}");
    }
}

#[test]
fn many_names_are_told_in_one_line() {
    assert_eq!(listed(&["a", "b"]), "\"a\", \"b\"");
    assert_eq!(
        listed(&["a", "b", "c", "d", "e", "f", "g"]),
        "\"a\", \"b\", \"c\", \"d\", \"e\" and 2 more"
    );
}
