//! The domain: what usage, prices, accounts and charges are. One home for every type that
//! crosses a crate boundary; wire formats live in the connectors and convert to these.
//!
//! Text (names, identifiers) travels as 64-bit keys, fixed-seed hashes that every worker computes
//! alike without asking anyone; the text itself waits in the connectors' name book and is joined
//! back where a person looks.

mod account;
mod activity;
mod amount;
mod bill;
mod catalog;
mod charge;
mod charging;
mod closed;
mod key;
mod mark;
mod plan;
mod suspense;
pub(crate) mod tier;
mod time;
mod total;
mod usage;
mod wide;

pub use account::{Account, ServiceUse, Subscription, SubscriptionStatus};
pub use activity::{Activity, ActivityKey, ActivityKind, Scale};
pub use amount::{Amount, ExactError, Price, Quantity, exact_text, parse_decimal, plain_text};
pub use bill::{BillCalendar, BillUnit, BillingProfile, Cycle};
pub use catalog::{Condition, PriceModel, PriceRow};
pub use charge::{AggregateId, Charge, LineKey, LineSum};
pub use charging::{
    Bucket, BucketKind, Edge, EdgeAction, Impact, ImpactKind, Measure, PricedUsage, Terms,
    TermsItem, Threshold,
};
pub use closed::ClosedUnits;
pub use key::{
    AccountKey, BucketKey, ClassKey, EdgeKey, GroupKey, Identity, IdentityBuilder, Name, PriceKey,
    ServiceKey, SubscriptionKey, TermsKey,
};
pub use mark::{Keep, Kind, Mark, Rank};
pub use plan::{
    Accumulator, Allowance, Anchor, Cap, ChargeWhen, Commitment, Counts, DatedCharge, Grant,
    PlanCharge, PlanKey, PlanPart, PlanRow, Proration, Rollover, Term, Volume,
};
pub use suspense::{Discard, Fate, Fault, Reason, Severity, Stage, Suspense, UsagePlace};
pub use tier::{Tier, TierReference};
pub use time::{EventTime, Period};
pub use total::{MoneyTotal, QuantityTotal, Total};
pub use usage::{FileId, Item, Quantities, RecordId, Usage, UsageClass};
