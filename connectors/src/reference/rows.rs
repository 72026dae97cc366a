//! Rows of reference data on their way in: each with the place it came from, so that a finding about
//! two rows can name both.

use crate::diagnostic::Diagnostic;
use crate::names::Names;
use jiff::tz::TimeZone;
use millrace_operators::domain::{
    Account, PlanRow, PriceRow, ServiceUse, Subscription, SubscriptionKey,
};
use std::fmt;
use std::sync::Arc;

/// Where a row stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) file: Arc<str>,
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Origin {
    pub(super) fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(&self.file, (self.line, self.column), message)
    }

    pub(super) fn warning(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(&self.file, (self.line, self.column), message)
    }

    pub(super) fn advice(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::advice(&self.file, (self.line, self.column), message)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// A row and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Placed<T, O = Origin> {
    pub(super) row: T,
    pub(super) origin: O,
}

/// The rows of one file, or of all.
#[derive(Clone, Debug)]
pub(super) struct Rows<O = Origin> {
    pub(super) prices: Vec<Placed<PriceRow, O>>,
    pub(super) plans: Vec<Placed<PlanRow, O>>,
    pub(super) accounts: Vec<Placed<Account, O>>,
    pub(super) subscriptions: Vec<Placed<Subscription, O>>,
    pub(super) services: Vec<Placed<ServiceUse, O>>,
    /// Subscriptions and their parents.
    pub(super) parents: Vec<Placed<(SubscriptionKey, SubscriptionKey), O>>,
}

impl<O> Default for Rows<O> {
    fn default() -> Self {
        Self {
            prices: Vec::new(),
            plans: Vec::new(),
            accounts: Vec::new(),
            subscriptions: Vec::new(),
            services: Vec::new(),
            parents: Vec::new(),
        }
    }
}

impl<O: Clone> Rows<O> {
    /// The same rows, each with what `place` makes of where it stands.
    pub(super) fn placed<P>(&self, place: impl Fn(&O) -> P) -> Rows<P> {
        Rows {
            prices: each_placed(&self.prices, &place),
            plans: each_placed(&self.plans, &place),
            accounts: each_placed(&self.accounts, &place),
            subscriptions: each_placed(&self.subscriptions, &place),
            services: each_placed(&self.services, &place),
            parents: each_placed(&self.parents, &place),
        }
    }

    /// Adds a subscription, and what it says of its parent.
    pub(super) fn subscribe(&mut self, placed: Placed<(Subscription, Option<SubscriptionKey>), O>) {
        let Placed { row, origin } = placed;
        let (row, parent) = row;
        if let Some(parent) = parent {
            let row = (row.key, parent);
            let origin = origin.clone();
            self.parents.push(Placed { row, origin });
        }
        self.subscriptions.push(Placed { row, origin });
    }

    /// Gives back what is held for more rows.
    pub(super) fn trim(&mut self) {
        self.prices.shrink_to_fit();
        self.plans.shrink_to_fit();
        self.accounts.shrink_to_fit();
        self.subscriptions.shrink_to_fit();
        self.services.shrink_to_fit();
        self.parents.shrink_to_fit();
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.prices.append(&mut other.prices);
        self.plans.append(&mut other.plans);
        self.accounts.append(&mut other.accounts);
        self.subscriptions.append(&mut other.subscriptions);
        self.services.append(&mut other.services);
        self.parents.append(&mut other.parents);
    }
}

fn each_placed<T: Clone, O, P>(
    rows: &[Placed<T, O>],
    place: &impl Fn(&O) -> P,
) -> Vec<Placed<T, P>> {
    let rows = rows.iter().map(|placed| Placed {
        row: placed.row.clone(),
        origin: place(&placed.origin),
    });
    rows.collect()
}

/// What every row is read with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting<'a> {
    /// The tenant's time zone.
    pub(super) zone: &'a TimeZone,
    /// Where texts become keys.
    pub(super) names: &'a Names,
}
