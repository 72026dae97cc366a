//! What rating makes of a record.

use crate::domain::{Charge, PricedUsage, Suspense};

/// A rated or suspended piece of usage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rating {
    /// A charge line.
    Charge(Charge),
    /// A record that is charged in order.
    Priced(PricedUsage),
    /// A suspended record.
    Suspense(Suspense),
}
