//! Suspense: usage that could not be monetised yet, as data. A suspended record is kept, counted,
//! exported with its reason, and taken back by itself when the cause is gone.

use super::key::{ClassKey, Name, ServiceKey};
use super::time::EventTime;
use super::usage::{RecordId, Usage};
use serde::{Deserialize, Serialize};

/// Where in the flow a record was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// Reading the source: bytes to fields.
    Parse,
    /// Mediation rules: fields to usage.
    Mediation,
    /// Exact duplicates.
    Dedup,
    /// What operators take out.
    Discard,
    /// Service to subscription.
    Guide,
    /// Price and amount.
    Rate,
    /// Tiers, allowances and everything else that depends on order.
    Charge,
}

impl Stage {
    /// Lower-case name, as in outputs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Mediation => "mediation",
            Self::Dedup => "dedup",
            Self::Discard => "discard",
            Self::Guide => "guide",
            Self::Rate => "rate",
            Self::Charge => "charge",
        }
    }
}

/// How bad a reason is: a record with several is filed under the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// Expected in ordinary running.
    Info,
    /// Money waits until somebody mends reference data.
    Warning,
    /// The record itself cannot be understood.
    Error,
}

macro_rules! reasons {
    ($($variant:ident = $code:literal, $stage:ident, $severity:ident, $doc:literal, $hint:literal;)*) => {
        /// Why a record is not monetised. The codes are stable; the order is the order in which the
        /// guards ask, so the first that applies is the reason given.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        #[repr(u8)]
        pub enum Reason { $(#[doc = $doc] $variant,)* }

        impl Reason {
            /// Every reason, in guard order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable code, as in outputs and metrics.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// Where it is found.
            #[must_use]
            pub fn stage(self) -> Stage {
                match self { $(Self::$variant => Stage::$stage,)* }
            }

            /// Whether it breaks a file off: told as a fault, but the fate of no record.
            #[must_use]
            pub fn is_of_file(self) -> bool {
                self == Self::FileUnreadable
            }

            /// How bad it is.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }

            /// What the person who must mend it can do.
            #[must_use]
            pub fn hint(self) -> &'static str {
                match self { $(Self::$variant => $hint,)* }
            }
        }
    };
}

reasons! {
    FileUnreadable = "FILE_UNREADABLE", Parse, Error,
        "The file ends early or is not in its declared format.",
        "do what its detail advises: how the rest of the file is read depends on its format and on the rule";
    RowUnreadable = "ROW_UNREADABLE", Parse, Error,
        "The row is not a record of the file's format.",
        "have the source send the row again in the declared format";
    FieldUnparsable = "FIELD_UNPARSABLE", Parse, Error,
        "A field is not of its declared type.",
        "correct the field at the source, or the column's type in the mediation rule";
    Tombstone = "TOMBSTONE", Parse, Info,
        "The message has a key but no content.",
        "nothing, if it was sent by mistake; usage is taken back by a record of its identity of which the rule's `kind` says void, not by a tombstone";
    RuleFailed = "RULE_FAILED", Mediation, Error,
        "A mediation expression failed on this record.",
        "correct the expression in the mediation rule; the record is mediated again by itself";
    LookupMissing = "LOOKUP_MISSING", Mediation, Warning,
        "A reference table has no row, or no value, for the record's key.",
        "add the row or its value to the reference table; the record is mediated again by itself";
    FilterUndecided = "FILTER_UNDECIDED", Mediation, Error,
        "The `where` of the mediation rule hangs on a field that is empty, or on a value that is missing.",
        "say in `where` what an empty field means, with coalesce(field, value) or field IS NULL, or declare the column `may_be: empty`";
    IdentityMissing = "IDENTITY_MISSING", Mediation, Error,
        "An identity field is empty.",
        "have the source fill the identity fields, name others in the mediation rule, or declare the column `may_be: empty`";
    ServiceMissing = "SERVICE_MISSING", Mediation, Error,
        "The service id is empty.",
        "correct the `service` expression of the mediation rule, or the source";
    TimeMissing = "TIME_MISSING", Mediation, Error,
        "The event time is empty.",
        "correct the `time` expression of the mediation rule, or the source";
    TimeAmbiguous = "TIME_AMBIGUOUS", Mediation, Error,
        "A time without an offset falls into the hour that its zone's clocks show twice or never.",
        "have the source write times with their offset, or say in the mediation rule which of the two it means: `columns: { at: { type: timestamp, ambiguous: earlier } }`, or `later`";
    TimeOutOfRange = "TIME_OUT_OF_RANGE", Mediation, Error,
        "The event time is too early or too far ahead to be real.",
        "correct the source's clock, or the unit in the `time` expression of the mediation rule; if the time is real, widen `time: { earliest: <date>, ahead: <days> }` in the job";
    KindUnknown = "KIND_UNKNOWN", Mediation, Error,
        "The kind is none of usage, amend and void.",
        "correct the `kind` expression of the mediation rule, or the source";
    VersionMissing = "VERSION_MISSING", Mediation, Error,
        "A correction has no version.",
        "have the source fill the version, or correct the `version` expression of the mediation rule";
    AttributeUndecided = "ATTRIBUTE_UNDECIDED", Mediation, Error,
        "An attribute is computed from a field that is empty, or from a value that is missing.",
        "say in `attributes` what an empty field means, with coalesce(field, value), or declare the column `may_be: empty`";
    QuantityMissing = "QUANTITY_MISSING", Mediation, Error,
        "The record has no quantity for any item, or one is computed from a field that is empty or a value that is missing.",
        "say in `charges` what an empty field means, with coalesce(field, 0), declare the column `may_be: empty`, or ignore such records with `where`";
    QuantityNegative = "QUANTITY_NEGATIVE", Mediation, Error,
        "A quantity is below zero.",
        "take the usage back by its identity: send that record once more to a source of the stream with `corrections: true`, with its right quantities, or with `kind: \"'void'\"` in the rule to take it out; leave such rows out with `where`";
    QuantityOutOfRange = "QUANTITY_OUT_OF_RANGE", Mediation, Error,
        "A quantity has more than 18 digits, or more than 12 of them behind the point.",
        "check the source; if the digits are real, let `charges` name the rounding: round_half_even(x, decimals)";
    Duplicate = "DUPLICATE", Dedup, Info,
        "A record with the same identity and the same content came before.",
        "nothing; if it is no duplicate, name more identity fields in the mediation rule";
    OriginalMissing = "ORIGINAL_MISSING", Dedup, Warning,
        "The record corrects one that has not come.",
        "send the record that it corrects, or correct its identity fields; it is applied by itself once the original is there";
    Superseded = "SUPERSEDED", Dedup, Info,
        "Another record of its identity holds, as the rule's `keep`, `version` or a correction says.",
        "nothing; `millrace explain` shows all versions of the record";
    Amended = "AMENDED", Dedup, Info,
        "A correction gives the record another content.",
        "nothing; `millrace explain` shows all versions of the record";
    Voided = "VOIDED", Dedup, Info,
        "A correction takes the record out.",
        "nothing; if it was wrong, send the record again as a correction";
    Void = "VOID", Dedup, Info,
        "The record takes another out.",
        "nothing; `millrace explain` shows which";
    Conflict = "CONFLICT", Dedup, Warning,
        "A record with the same identity and another content holds.",
        "look at both (`millrace explain` shows all versions of a record); if they are two uses, name more identity fields in the mediation rule";
    Discarded = "DISCARDED", Discard, Info,
        "Operators have taken the record out of suspense.",
        "nothing; `millrace retry` puts it back";
    ServiceUnknown = "SERVICE_UNKNOWN", Guide, Warning,
        "No subscription has this service.",
        "add the service to a subscription";
    ServiceNotEffective = "SERVICE_NOT_EFFECTIVE", Guide, Warning,
        "The service has a subscription, but not at the time of usage.",
        "extend the subscription's validity to the time of usage, which its fees are charged for then, or add the \
         service to one that is valid there";
    SubscriptionUnknown = "SUBSCRIPTION_UNKNOWN", Guide, Warning,
        "The service names a subscription that does not exist.",
        "add the subscription, or correct the service's row";
    AccountUnknown = "ACCOUNT_UNKNOWN", Guide, Warning,
        "The subscription names an account that does not exist.",
        "add the account, or correct the subscription's row";
    ServiceAmbiguous = "SERVICE_AMBIGUOUS", Guide, Warning,
        "Two subscriptions claim the service at the time of usage.",
        "end one subscription before the other begins";
    SubscriptionNotActive = "SUBSCRIPTION_NOT_ACTIVE", Guide, Warning,
        "The subscription was inactive or closed at the time of usage.",
        "reactivate the subscription for that time, or discard the usage";
    PeriodClosed = "PERIOD_CLOSED", Guide, Info,
        "The bill unit of the usage is closed and archived.",
        "nothing: the next adjustment bills it; if it stays, no price or subscription of that time is for it";
    PriceNotFound = "PRICE_NOT_FOUND", Rate, Warning,
        "No price row of the subscription's lists matches the item and its attributes.",
        "add a price row for the item and these attributes";
    PriceNotEffective = "PRICE_NOT_EFFECTIVE", Rate, Warning,
        "A matching price row exists, but none is in force at the time of usage.",
        "add a price row with the price of that time, or correct the time at the source";
    PriceAmbiguous = "PRICE_AMBIGUOUS", Rate, Warning,
        "Two price rows match equally well.",
        "give one of the rows a priority, or another condition";
    CurrencyMismatch = "CURRENCY_MISMATCH", Rate, Warning,
        "The price is in another currency than the account.",
        "add a price list in the account's currency, and name it first in the subscription's `price_lists`";
    AmountOutOfRange = "AMOUNT_OUT_OF_RANGE", Rate, Error,
        "An amount, or a counter that it adds to, has more than 14 digits before the point.",
        "correct the quantity at the source, or the price; amounts end at 100 trillion";
    TierReferenceMissing = "TIER_REFERENCE_MISSING", Charge, Warning,
        "No bucket of the accumulator that decides the price holds the time of usage.",
        "let the plan that has the accumulator begin no later than the usage (`from`), or give that time a price without `by`";
    BucketMissing = "BUCKET_MISSING", Charge, Warning,
        "The edge of a period names a bucket that its balance group does not have.",
        "a defect of millrace: no plan leads here; report it with the catalog and the accounts of that time";
}

/// A record stopped before it became usage: found by a source or by mediation, with the text that a
/// person needs to find and mend it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fault {
    /// The record.
    pub record: RecordId,
    /// Line in the file, counted from 1; 0 where the format has no lines.
    pub line: u64,
    /// Why.
    pub reason: Reason,
    /// The source field or the rule's field at fault; empty for the whole row.
    pub field: String,
    /// What was found, quoted and cut to a readable length.
    pub detail: String,
}

/// A usage record stopped after mediation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Suspense {
    /// The record.
    pub record: RecordId,
    /// Why.
    pub reason: Reason,
    /// Its service.
    pub service: ServiceKey,
    /// Its class.
    pub class: ClassKey,
    /// When the usage happened.
    pub time: EventTime,
    /// The item at fault, for reasons of the rate stage.
    pub item: Option<Name>,
    /// The record that holds instead, for those that share an identity.
    pub original: Option<RecordId>,
}

impl Suspense {
    /// Usage that is set aside whole, because of another record or of none.
    #[must_use]
    pub fn of(usage: &Usage, reason: Reason, original: Option<RecordId>) -> Self {
        Self {
            record: usage.record,
            reason,
            service: usage.service,
            class: usage.class,
            time: usage.time,
            item: None,
            original,
        }
    }
}

/// A record that operators have taken out of suspense: it is not rated, whatever becomes of the cause,
/// until they put it back. It stays the first of its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Discard {
    /// The record.
    pub record: RecordId,
    /// Why it was suspended then.
    pub reason: Reason,
    /// Where its usage is open; nothing if it was stopped before it became usage.
    pub place: Option<UsagePlace>,
}

/// Where a record's usage is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UsagePlace {
    /// Its service.
    pub service: ServiceKey,
    /// Its class.
    pub class: ClassKey,
    /// When the usage happened.
    pub time: EventTime,
}

/// What became of a raw record: every record has exactly one fate at every epoch, which is what
/// conservation counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Fate {
    /// Excluded by the mediation rule's `where`.
    Ignored,
    /// Stopped by a source or by mediation.
    Error(Reason),
    /// Another record with its identity and its content came before.
    Duplicate,
    /// Another record with its identity holds, and has another content.
    Conflict,
    /// Another record with its identity holds, as a rule or a correction says; or it is a correction
    /// that takes another out.
    Superseded(Reason),
    /// Waits for reference data.
    Suspended(Reason),
    /// Charged.
    Monetised,
    /// Taken out of suspense by operators.
    Discarded,
}

impl Fate {
    /// The fate of a record with this reason.
    #[must_use]
    pub fn of(reason: Reason) -> Self {
        match reason.stage() {
            Stage::Parse | Stage::Mediation => Self::Error(reason),
            Stage::Dedup => match reason {
                Reason::Duplicate => Self::Duplicate,
                Reason::Conflict => Self::Conflict,
                Reason::OriginalMissing => Self::Suspended(reason),
                _ => Self::Superseded(reason),
            },
            Stage::Discard => Self::Discarded,
            Stage::Guide | Stage::Rate | Stage::Charge => Self::Suspended(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_in_stage_order() {
        let stages: Vec<Stage> = Reason::ALL.iter().map(|r| r.stage()).collect();
        assert!(stages.is_sorted());
    }

    #[test]
    fn codes_and_serde_agree() {
        for reason in Reason::ALL {
            let rebuilt: String = format!("{reason:?}")
                .char_indices()
                .flat_map(|(i, c)| {
                    let gap = (i > 0 && c.is_uppercase()).then_some('_');
                    gap.into_iter().chain(c.to_uppercase())
                })
                .collect();
            assert_eq!(rebuilt, reason.code());
        }
    }
}
