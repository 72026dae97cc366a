//! What came of archiving.

use crate::graph::Stand;
use millrace_operators::domain::{ClosedUnits, GroupKey, Period};
use roaring::RoaringTreemap;
use std::collections::BTreeMap;

/// What may be forgotten, once it is archived.
#[derive(Debug, Default)]
pub struct Leaving {
    /// Rated records of closed bill units.
    pub records: RoaringTreemap,
    /// Until when bill units are closed.
    pub units: ClosedUnits,
    /// Where balance groups stand then.
    pub stands: BTreeMap<GroupKey, Stand>,
}

/// What was archived of a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The period.
    pub period: Period,
    /// Accounts.
    pub accounts: usize,
    /// Records.
    pub records: u64,
}

/// What [`Archiver::commit`] did.
#[derive(Debug, Default)]
pub struct Committed {
    /// Periods that are archived now.
    pub archived: Vec<Archived>,
    /// Periods that were archived before and are adjusted now, each with the number of its adjustment
    /// and how many lines it has.
    pub adjusted: Vec<(Period, u32, usize)>,
    /// Periods that were archived before and come to other lines now, with how many.
    pub differ: Vec<(Period, usize)>,
    /// What may be forgotten now.
    pub leaving: Leaving,
}

impl Committed {
    /// What a person should hear of it.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        let archived = self.archived.iter().map(|archived| {
            let Archived {
                period,
                accounts,
                records,
            } = archived;
            format!("archived {period}: {records} records of {accounts} accounts")
        });
        let adjusted = self.adjusted.iter();
        let adjusted =
            adjusted.map(|(period, sequence, lines)| adjustment(*period, *sequence, *lines));
        let differ = self.differ.iter().map(|(period, lines)| {
            format!(
                "{period} is archived as it was billed, and {lines} of its lines would be others now; a \
                 job with `durability` would adjust it"
            )
        });
        archived.chain(adjusted).chain(differ).collect()
    }
}

/// What a person should hear of an adjustment.
pub(super) fn adjustment(period: Period, sequence: u32, lines: usize) -> String {
    let lines = match lines {
        0 => "balances stand elsewhere".to_owned(),
        1 => "1 line is billed otherwise".to_owned(),
        more => format!("{more} lines are billed otherwise"),
    };
    format!("adjustment {sequence} of archived {period}: {lines}")
}
