//! All records of an identity: which of them holds, and what became of the others.

use super::usage::{UsageTold, shown, usage_told};
use millrace_connectors::output::Texts;
use millrace_operators::dedup::KnownVersion;
use millrace_operators::domain::{Kind, Rank, Reason, RecordId, Usage};
use serde::Serialize;

/// A record of an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionTold {
    /// File name and row.
    pub record: String,
    /// `usage`, `amend`, `void`, `row sent again`, or `passed over` by the rule's `where`.
    pub kind: &'static str,
    /// Its version, or what else it is ranked by.
    pub rank: Option<String>,
    /// `HOLDS`, `IGNORED`, or the code of the reason why it does not hold.
    pub code: &'static str,
    /// The record that decides: the one that holds, or the one that it takes out.
    pub because: Option<String>,
    /// What it says; nothing for a record that takes another out, or that cannot be read any more.
    pub usage: Option<UsageTold>,
}

/// The records of an identity, in the order of their positions; none where there is only one.
pub(super) fn told(
    mut versions: Vec<KnownVersion>,
    explained: &Usage,
    read_again: impl Fn(RecordId) -> Option<Usage>,
    texts: &Texts,
) -> Vec<VersionTold> {
    if versions.len() < 2 {
        return Vec::new();
    }
    versions.sort_by_key(|version| version.record);
    let shown = |record: RecordId| shown(record, texts);
    let whole = |record: RecordId| match record == explained.record {
        true => Some(explained.clone()),
        false => read_again(record),
    };
    // Of what an identity that keeps the first has equal copies of, only the places are held.
    let is_equal = |version: &&KnownVersion| {
        let reason = version.outvoted.map(|(reason, _)| reason);
        version.usage.is_none() && reason.is_none_or(|reason| reason == Reason::Duplicate)
    };
    let mut equal = versions
        .iter()
        .filter(is_equal)
        .map(|version| version.record);
    let equal = match equal.clone().any(|record| record == explained.record) {
        true => Some(explained.clone()),
        false => equal.find_map(whole),
    };
    let told = |version: KnownVersion| {
        let mark = version.mark.unwrap_or_default();
        let record = shown(version.record);
        let held = version.usage.as_ref();
        let passed_over = held.is_some_and(|usage| mark.passes_over(&usage.quantities));
        let usage = match mark.kind {
            Kind::Void => None,
            _ if passed_over => None,
            _ => match is_equal(&&version) {
                true => equal.clone(),
                false => version.usage.or_else(|| whole(version.record)),
            },
        };
        let usage = usage.and_then(|usage| {
            let class = texts.names.class(usage.class)?;
            Some(usage_told(&usage, &class, &texts.names))
        });
        let (code, because) = match version.outvoted {
            None if passed_over => ("IGNORED", None),
            None => ("HOLDS", None),
            Some((reason, because)) => (reason.code(), because.map(shown)),
        };
        VersionTold {
            record,
            kind: match mark.kind {
                _ if passed_over => "passed over",
                Kind::Usage => "usage",
                Kind::Restate => "row sent again",
                Kind::Amend => "amend",
                Kind::Void => "void",
            },
            rank: mark.rank.map(rank_text),
            code,
            because,
            usage,
        }
    };
    versions.into_iter().map(told).collect()
}

fn rank_text(rank: Rank) -> String {
    match rank {
        Rank::Number(mantissa) => number_text(mantissa),
        Rank::Time(nanos) => {
            let instant = jiff::Timestamp::from_nanosecond(nanos);
            instant.map_or_else(|_| nanos.to_string(), |instant| instant.to_string())
        }
    }
}

/// A number of 18 decimals, without the zeros behind.
fn number_text(mantissa: i128) -> String {
    const UNIT: u128 = 1_000_000_000_000_000_000;
    let (whole, rest) = (
        mantissa.unsigned_abs() / UNIT,
        mantissa.unsigned_abs() % UNIT,
    );
    let sign = if mantissa < 0 { "-" } else { "" };
    let decimals = format!("{rest:018}");
    match decimals.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        decimals => format!("{sign}{whole}.{decimals}"),
    }
}
