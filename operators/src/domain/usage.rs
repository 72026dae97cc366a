//! Usage: what is left of a raw record once mediation has read it.

use super::key::{ClassKey, Identity, Name, ServiceKey};
use super::mark::Mark;
use super::time::EventTime;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::fmt;

/// A source file (or, later, a partition), numbered in the order of its discovery.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct FileId(pub u32);

/// Where a raw record came from: file number above, row number below. Its order is the order of
/// arrival, and it names the record for as long as the record exists.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RecordId(pub u64);

impl RecordId {
    const ROW_BITS: u32 = 40;
    /// Rows that one file can hold: about 10¹².
    pub const ROWS_MAX: u64 = 1 << Self::ROW_BITS;
    /// Files that one job can number: about 16 million.
    pub const FILES_MAX: u32 = 1 << 24;

    /// Row `row`, counted from 0, of file `file`.
    ///
    /// # Panics
    /// Past [`Self::FILES_MAX`] or [`Self::ROWS_MAX`]; sources refuse such files before.
    #[must_use]
    pub fn new(file: FileId, row: u64) -> Self {
        assert!(
            file.0 < Self::FILES_MAX && row < Self::ROWS_MAX,
            "record position out of range"
        );
        Self((u64::from(file.0) << Self::ROW_BITS) | row)
    }

    /// The file.
    #[must_use]
    pub fn file(self) -> FileId {
        FileId(u32::try_from(self.0 >> Self::ROW_BITS).unwrap_or(u32::MAX))
    }

    /// The row in the file, counted from 0.
    #[must_use]
    pub fn row(self) -> u64 {
        self.0 & (Self::ROWS_MAX - 1)
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file().0, self.row())
    }
}

/// One charge line that every record of a class has: what is counted, and with how many decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Item {
    /// The item's name, as prices call it (`input_tokens`, `energy_kwh`).
    pub name: Name,
    /// Decimals of the record's mantissa.
    pub scale: u8,
}

/// The quantities of a record, one mantissa per [`Item`] of its class.
pub type Quantities = SmallVec<[i64; 3]>;

/// Everything about a record that pricing may look at, except its time and quantities. Records
/// share few classes, so prices are matched once per class instead of once per record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UsageClass {
    /// The kind of service (`voice`, `llm`).
    pub service_type: Name,
    /// Attribute and value, sorted by attribute; an attribute without a value is absent.
    pub attributes: Vec<(Name, Name)>,
    /// The charge lines, in the order of the mediation rule.
    pub items: SmallVec<[Item; 3]>,
}

impl UsageClass {
    /// The key of this class, the same wherever and whenever it is met.
    #[must_use]
    pub fn key(&self) -> ClassKey {
        let mut hash = ClassKey::of(&[]).0 ^ self.service_type.0;
        let mut mix = |value: u64| {
            hash = xxhash_rust::xxh3::xxh3_64_with_seed(&value.to_le_bytes(), hash);
        };
        for (attribute, value) in &self.attributes {
            mix(attribute.0);
            mix(value.0);
        }
        mix(u64::MAX); // attributes end, items begin
        for item in &self.items {
            mix(item.name.0);
            mix(u64::from(item.scale));
        }
        ClassKey(hash)
    }

    /// The value of an attribute.
    #[must_use]
    pub fn attribute(&self, name: Name) -> Option<Name> {
        self.attributes
            .iter()
            .find(|(attribute, _)| *attribute == name)
            .map(|(_, value)| *value)
    }
}

/// A mediated usage record, carrying only what rating reads. The whole record lies unmodified in
/// the raw store under its [`RecordId`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Usage {
    /// Position in the source.
    pub record: RecordId,
    /// What makes it a duplicate of another.
    pub identity: Identity,
    /// Whose usage it is, as the source names it.
    pub service: ServiceKey,
    /// What pricing may look at.
    pub class: ClassKey,
    /// When it happened.
    pub time: EventTime,
    /// How much, per item of the class.
    pub quantities: Quantities,
    /// What decides between it and others of its identity, where that is more than who came first.
    /// Nothing behind dedup, nor of streams that keep the first and know no corrections.
    pub mark: Option<Box<Mark>>,
}

impl Usage {
    /// Whether its rule's `where` passes it over: it has no fate here, and only keeps others of its identity
    /// from being usage where it holds against them. No other record but a void is without quantities.
    #[must_use]
    pub fn is_passed_over(&self) -> bool {
        let mark = self.mark.as_deref();
        mark.is_some_and(|mark| mark.passes_over(&self.quantities))
    }

    /// What tells two records of one identity apart: time, service, class and quantities, in 64 bits.
    #[must_use]
    pub fn content(&self) -> u64 {
        let head = [
            self.time.0,
            self.service.0.cast_signed(),
            self.class.0.cast_signed(),
        ];
        let parts = head.iter().chain(&self.quantities);
        let bytes: SmallVec<[[u8; 8]; 8]> = parts.map(|part| part.to_le_bytes()).collect();
        xxhash_rust::xxh3::xxh3_64(bytes.as_flattened())
    }
}
