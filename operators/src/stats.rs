//! What every node reports of itself. Counters are written once per epoch by the worker and read at
//! any moment by whoever asks; they never steer the flow.

use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers of one node on one worker.
#[derive(Debug, Default)]
pub struct NodeStats {
    records_in: AtomicU64,
    records_out: AtomicU64,
    suspended: AtomicU64,
    rerated: AtomicU64,
    state_records: AtomicU64,
    state_bytes: AtomicU64,
    groups: AtomicU64,
    buckets: AtomicU64,
}

/// A reading of [`NodeStats`], or a sum of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeReading {
    /// Changes received.
    pub records_in: u64,
    /// Changes sent.
    pub records_out: u64,
    /// Changes of suspense sent.
    pub suspended: u64,
    /// Records rated again because reference data changed.
    pub rerated: u64,
    /// Records held.
    pub state_records: u64,
    /// Bytes held for them.
    pub state_bytes: u64,
    /// Balance groups held, where the node has any.
    pub groups: u64,
    /// Their buckets.
    pub buckets: u64,
}

impl NodeStats {
    /// Adds to the flow counters.
    pub fn count(&self, records_in: usize, records_out: usize, suspended: usize) {
        let add = |counter: &AtomicU64, n: usize| {
            counter.fetch_add(u64::try_from(n).unwrap_or(u64::MAX), Ordering::Relaxed);
        };
        add(&self.records_in, records_in);
        add(&self.records_out, records_out);
        add(&self.suspended, suspended);
    }

    /// Adds records rated again because reference data changed.
    pub fn count_rerated(&self, records: usize) {
        let records = u64::try_from(records).unwrap_or(u64::MAX);
        self.rerated.fetch_add(records, Ordering::Relaxed);
    }

    /// Sets the size of the state.
    pub fn set_state(&self, records: usize, bytes: usize) {
        self.state_records.store(
            u64::try_from(records).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        self.state_bytes
            .store(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Sets the number of balance groups and of their buckets.
    pub fn set_groups(&self, groups: usize, buckets: usize) {
        let wide = |count| u64::try_from(count).unwrap_or(u64::MAX);
        self.groups.store(wide(groups), Ordering::Relaxed);
        self.buckets.store(wide(buckets), Ordering::Relaxed);
    }

    /// The numbers as they stand.
    #[must_use]
    pub fn read(&self) -> NodeReading {
        NodeReading {
            records_in: self.records_in.load(Ordering::Relaxed),
            records_out: self.records_out.load(Ordering::Relaxed),
            suspended: self.suspended.load(Ordering::Relaxed),
            rerated: self.rerated.load(Ordering::Relaxed),
            state_records: self.state_records.load(Ordering::Relaxed),
            state_bytes: self.state_bytes.load(Ordering::Relaxed),
            groups: self.groups.load(Ordering::Relaxed),
            buckets: self.buckets.load(Ordering::Relaxed),
        }
    }
}

impl NodeReading {
    /// The sum of two workers' readings.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            records_in: self.records_in.saturating_add(other.records_in),
            records_out: self.records_out.saturating_add(other.records_out),
            suspended: self.suspended.saturating_add(other.suspended),
            rerated: self.rerated.saturating_add(other.rerated),
            state_records: self.state_records.saturating_add(other.state_records),
            state_bytes: self.state_bytes.saturating_add(other.state_bytes),
            groups: self.groups.saturating_add(other.groups),
            buckets: self.buckets.saturating_add(other.buckets),
        }
    }
}
