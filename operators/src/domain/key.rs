//! Keys: fixed-seed hashes of text, `Copy`, evenly spread, equal on every machine.
//!
//! Two texts of one kind that share a 64-bit key are detected by the name book when the second is
//! entered, and stop the job with both texts; they can never share an account or a price.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

macro_rules! key {
    ($(#[$doc:meta])* $name:ident, $seed:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub u64);

        impl $name {
            /// The key of a text of this kind. The parts are hashed in order, so `["ab", "c"]` and
            /// `["a", "bc"]` differ.
            #[must_use]
            pub fn of(parts: &[&str]) -> Self {
                Self(parts.iter().fold($seed, |seed, part| xxh3_64_with_seed(part.as_bytes(), seed)))
            }
        }
    };
}

key!(
    /// Any name: an item, an attribute or its value, a price list, a currency.
    Name, 1
);
key!(
    /// A service as usage names it: (service type, service id).
    ServiceKey, 2
);
key!(
    /// An account.
    AccountKey, 3
);
key!(
    /// A subscription.
    SubscriptionKey, 4
);
key!(
    /// A usage class: everything about a record that pricing may look at, except time and quantity.
    ClassKey, 5
);
key!(
    /// A price row, by its identifier in the catalog.
    PriceKey, 6
);

key!(
    /// A balance group: the subscriptions that share buckets.
    GroupKey, 7
);
key!(
    /// A bucket of a balance group.
    BucketKey, 8
);
key!(
    /// The edge of a period of a balance group.
    EdgeKey, 9
);

impl PriceKey {
    /// Stands where nothing was used of an item that has no price: the key of no text.
    pub const NONE: Self = Self(0);
}

/// Terms of charging, by the hash of all they say.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TermsKey(pub u128);

impl Name {
    /// The key of one name.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self::of(&[text])
    }
}

/// What makes a raw record itself: a 128-bit hash of its stream and identity fields. Two records
/// with one identity are duplicates, whatever else they say.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Identity(pub [u64; 2]);

/// Builds identities field by field, reusing one buffer.
#[derive(Clone, Debug, Default)]
pub struct IdentityBuilder {
    buffer: Vec<u8>,
}

impl IdentityBuilder {
    /// Adds one identity field; its length is hashed too, so fields cannot run into each other.
    pub fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.buffer.extend_from_slice(&bytes.len().to_le_bytes());
        self.buffer.extend_from_slice(bytes);
        self
    }

    /// The identity of the fields added since the last call.
    pub fn finish(&mut self) -> Identity {
        let hash = xxh3_128(&self.buffer).to_le_bytes();
        self.buffer.clear();
        let [a, b, c, d, e, f, g, h, rest @ ..] = hash;
        Identity([
            u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            u64::from_le_bytes(rest),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fixed_for_ever() {
        // State and archives hold these values: a change here orphans both.
        assert_eq!(Name::new("input_tokens").0, 15_606_210_539_782_769_119);
        assert_ne!(ServiceKey::of(&["ab", "c"]), ServiceKey::of(&["a", "bc"]));
        assert_ne!(Name::of(&["x"]).0, AccountKey::of(&["x"]).0);
    }

    #[test]
    fn identity_fields_do_not_run_together() {
        let mut builder = IdentityBuilder::default();
        let left = builder.field(b"ab").field(b"c").finish();
        let right = builder.field(b"a").field(b"bc").finish();
        assert_ne!(left, right);
        assert_eq!(left, builder.field(b"ab").field(b"c").finish());
    }
}
