//! What a plan makes of a cycle.

use crate::domain::{Activity, Bucket, Edge};
use serde::{Deserialize, Serialize};

/// One thing that a part of a plan makes of a cycle.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Outcome {
    Bucket(Bucket),
    Edge(Edge),
    Activity(Activity),
}

/// A key made of what it is for; `kind` keeps kinds of keys apart.
pub(super) fn key(kind: u64, parts: &[u64]) -> u64 {
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
    xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, kind)
}
