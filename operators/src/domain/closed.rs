//! Which bill units are closed: usage in them is not rated where open usage is.

use super::key::AccountKey;
use super::time::EventTime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Until when the bill units of each account are closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedUnits(pub BTreeMap<AccountKey, EventTime>);

impl ClosedUnits {
    /// The first instant of an account that is not closed, if any is.
    #[must_use]
    pub fn until(&self, account: AccountKey) -> Option<EventTime> {
        self.0.get(&account).copied()
    }

    /// Closes more. What was closed stays so.
    pub fn extend(&mut self, more: Self) {
        for (account, until) in more.0 {
            let held = self.0.entry(account).or_insert(until);
            *held = (*held).max(until);
        }
    }

    /// Whether an instant of an account is closed.
    #[must_use]
    pub fn holds(&self, account: AccountKey, time: EventTime) -> bool {
        self.until(account).is_some_and(|until| time < until)
    }
}
