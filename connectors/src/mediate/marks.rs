//! What decides between the records of one identity, as the rule says it: `keep`, `kind` and `version`.
//!
//! ```yaml
//! keep: greatest(output_tokens)      # or: first, last
//! kind: case when cancelled then 'void' else 'usage' end
//! version: revision
//! ```

use super::plan::Planned;
use super::text::canonical;
use super::{Failure, Rows};
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, TimeUnit, TimestampNanosecondType};
use millrace_operators::domain::{Keep, Kind, Mark, Rank, Reason};
use std::sync::Arc;

/// Decimals that ranks are compared with.
const RANK_SCALE: u32 = 18;

/// The fields of a rule that are about identity: what they find wrong counts for a record that only takes
/// another out, too.
const OF_IDENTITY: [&str; 4] = ["identity", "kind", "version", "keep"];

/// How records are marked; a stream that keeps the first and knows no corrections marks none.
#[derive(Clone, Debug)]
pub(super) struct Marking {
    /// Which record of an identity holds.
    pub(super) keep: Keep,
    /// What a record does, if the rule tells.
    pub(super) kind: Option<Planned>,
    /// What it is ranked by.
    pub(super) rank: Option<Planned>,
    /// What a record does that does not say so.
    pub(super) unless_told: Kind,
}

/// Whether records can be ranked by values of this type.
pub(super) fn ranks(kind: &DataType) -> bool {
    match kind {
        DataType::Decimal128(_, scale) => (0..=18).contains(scale),
        DataType::Timestamp(_, _) | DataType::Date32 => true,
        kind => kind.is_integer(),
    }
}

/// The values that the marks of a chunk follow from.
pub(super) struct Marks {
    /// Which record holds, and what a record does that does not say so; nothing in streams that mark none.
    marking: Option<(Keep, Kind)>,
    kinds: Option<StringArray>,
    ranks: Option<Ranks>,
}

enum Ranks {
    /// Numbers with so many decimals.
    Numbers(ArrayRef, u32),
    /// Instants in nanoseconds, and as they were.
    Times(ArrayRef, ArrayRef),
}

impl Ranks {
    fn of(values: &ArrayRef) -> Self {
        let wide = |target: &DataType| {
            cast(values, target).expect("numbers and times widen, see the plan's check")
        };
        match values.data_type() {
            DataType::Decimal128(_, scale) => {
                let scale = u32::from(scale.unsigned_abs());
                Self::Numbers(Arc::clone(values), scale)
            }
            DataType::Timestamp(_, zone) => {
                let nanos = DataType::Timestamp(TimeUnit::Nanosecond, zone.clone());
                Self::Times(wide(&nanos), Arc::clone(values))
            }
            DataType::Date32 => {
                let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
                Self::Times(wide(&nanos), Arc::clone(values))
            }
            DataType::UInt64 => Self::Numbers(wide(&DataType::Decimal128(20, 0)), 0),
            _ => Self::Numbers(wide(&DataType::Int64), 0),
        }
    }

    /// The rank of a row, if it has one; nothing at all if it has more digits than can be compared.
    fn get(&self, row: usize) -> Option<Option<Rank>> {
        let (values, scale) = match self {
            Self::Times(_, values) if values.is_null(row) => return Some(None),
            Self::Times(nanos, _) => {
                let nanos = nanos.as_primitive::<TimestampNanosecondType>();
                // An instant outside of what nanoseconds can tell is none.
                let time = nanos.is_valid(row).then(|| nanos.value(row))?;
                return Some(Some(Rank::Time(time.into())));
            }
            Self::Numbers(values, scale) => (values, scale),
        };
        if values.is_null(row) {
            return Some(None);
        }
        let mantissa = match values.data_type() {
            DataType::Int64 => values.as_primitive::<Int64Type>().value(row).into(),
            _ => values.as_primitive::<Decimal128Type>().value(row),
        };
        let unit = 10_i128.pow(RANK_SCALE.checked_sub(*scale)?);
        Some(Some(Rank::Number(mantissa.checked_mul(unit)?)))
    }
}

impl Marks {
    /// Evaluates what the marks of these records follow from.
    pub(super) fn of(marking: Option<&Marking>, rows: &mut Rows) -> Self {
        let kind = marking.and_then(|marking| marking.kind.as_ref());
        let rank = marking.and_then(|marking| marking.rank.as_ref());
        Self {
            marking: marking.map(|marking| (marking.keep, marking.unless_told)),
            kinds: kind
                .map(|planned| canonical(&rows.decided_or_absent(planned, Reason::KindUnknown))),
            ranks: rank.map(|planned| {
                let reason = match marking.map(|marking| marking.keep) {
                    Some(Keep::Version) => Reason::VersionMissing,
                    _ => Reason::RuleFailed,
                };
                Ranks::of(&rows.decided_or_absent(planned, reason))
            }),
        }
    }

    /// The mark of a record; nothing in streams that mark none.
    pub(super) fn get(&self, row: usize) -> Result<Option<Box<Mark>>, Failure> {
        let Some((keep, unless_told)) = self.marking else {
            return Ok(None);
        };
        let kind = self.kind(row, unless_told)?;
        let rank = match &self.ranks {
            None => None,
            Some(ranks) => ranks.get(row).ok_or_else(|| Failure {
                reason: Reason::RuleFailed,
                field: rank_field(keep).to_owned(),
                detail: "the value is too large to be compared".to_owned(),
            })?,
        };
        let corrects = matches!(kind, Kind::Amend | Kind::Void);
        if rank.is_none() && corrects && keep == Keep::Version {
            return Err(Failure {
                reason: Reason::VersionMissing,
                field: "version".to_owned(),
                detail: "a correction needs a version, because the rule has `version`".to_owned(),
            });
        }
        Ok(Some(Box::new(Mark { keep, kind, rank })))
    }

    fn kind(&self, row: usize, unless_told: Kind) -> Result<Kind, Failure> {
        let told = self.kinds.as_ref().filter(|kinds| kinds.is_valid(row));
        Ok(match told.map(|kinds| kinds.value(row)) {
            None | Some("" | "usage") => unless_told,
            Some("amend") => Kind::Amend,
            Some("void") => Kind::Void,
            Some(other) => {
                return Err(Failure {
                    reason: Reason::KindUnknown,
                    field: "kind".to_owned(),
                    detail: format!("{:?} is none of usage, amend and void", shortened(other)),
                });
            }
        })
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

fn rank_field(keep: Keep) -> &'static str {
    match keep {
        Keep::Version => "version",
        _ => "keep",
    }
}

/// Whether a record that takes another out is stopped by this, too: nothing but its identity matters.
pub(super) fn stops_void(failure: &Failure) -> bool {
    OF_IDENTITY.contains(&failure.field.as_str())
}
