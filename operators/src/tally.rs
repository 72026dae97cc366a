//! Counts what became of the records of each file, so that conservation can be checked.
//!
//! - **In:** `fates: (FileId, Fate)`, one per record and stage that settled it
//! - **Out:** `counts: ((FileId, Fate), count)`
//! - **Cost per change:** O(1), added up before the exchange
//! - **State:** one count per file and fate
//! - **Invariants:** received = ignored + error + duplicate + conflict + superseded + suspended + discarded + monetised, per
//!   file, at every epoch; checked by whoever reads the counts

use crate::domain::{Fate, FileId};
use crate::epoch::{Collection, Diff};
use differential_dataflow::AsCollection;
use differential_dataflow::operators::CountTotal;
use std::collections::BTreeMap;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

/// Counts fates per file; see the module.
pub fn tally(fates: Collection<'_, (FileId, Fate)>) -> Collection<'_, ((FileId, Fate), Diff)> {
    fates
        .inner
        .unary(Pipeline, "tally", |_, _| {
            move |input, output| {
                input.for_each_time(|capability, batches| {
                    let mut counts = BTreeMap::new();
                    for (key, epoch, diff) in batches.flat_map(|batch| batch.drain(..)) {
                        *counts.entry((epoch, key)).or_insert(0) += diff;
                    }
                    let counts = counts.into_iter().filter(|(_, count)| *count != 0);
                    let updates = counts.map(|((epoch, key), count)| (key, epoch, count));
                    output.session(&capability).give_iterator(updates);
                });
            }
        })
        .as_collection()
        .count_total()
}
