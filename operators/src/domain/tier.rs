//! Where a quantity falls among tiers, and what each part of it costs.

use super::amount::{Amount, Price, Quantity};
use super::key::Name;
use serde::{Deserialize, Serialize};

/// A tier of prices, from `from` units (or money, where the reference is money) to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tier {
    /// Where the tier begins, in the reference's measure; the first begins at 0.
    pub from: i128,
    /// Price of `per` units.
    pub price: Price,
    /// Units that the price buys, at least 1.
    pub per: u64,
}

/// What decides the tier of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TierReference {
    /// The record's own quantity.
    Record,
    /// The value of an accumulator before the record; units move through its tiers one by one.
    Accumulator(Name),
    /// What an accumulator had reached at the end of its bucket before this one: one tier for all
    /// of this period.
    PreviousPeriod(Name),
}

/// The part of a quantity that falls into one tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TierPart {
    /// The tier, counted from 0.
    pub(crate) tier: u16,
    /// Units, in [`Quantity`].
    pub(crate) units: i128,
    /// What they cost; `None` past the range.
    pub(crate) amount: Option<Amount>,
}

/// The tier that holds a position. Bounds are from-inclusive; what lies before the first tier falls
/// into it, and the last is open.
pub(crate) fn index_at(tiers: &[Tier], position: i128) -> usize {
    tiers
        .partition_point(|tier| tier.from <= position)
        .saturating_sub(1)
}

/// The positions of a tier, both ends inside.
pub(crate) fn bounds(tiers: &[Tier], index: usize) -> (i128, i128) {
    let low = match (index, tiers.get(index)) {
        (1.., Some(tier)) => tier.from,
        _ => i128::MIN,
    };
    let next = tiers.get(index.saturating_add(1));
    (
        low,
        next.map_or(i128::MAX, |tier| tier.from.saturating_sub(1)),
    )
}

/// Cuts `units` that begin at `position` at the bounds of the tiers. Nothing, or less, is one part
/// in the tier of the position.
pub(crate) fn split(tiers: &[Tier], position: i128, units: i128) -> impl Iterator<Item = TierPart> {
    let first = index_at(tiers, position);
    let mut left = units;
    let mut at = position;
    (first..tiers.len().max(1)).map_while(move |index| {
        if left == 0 && (units != 0 || index != first) {
            return None;
        }
        let (_, high) = bounds(tiers, index);
        let room = high.saturating_sub(at).saturating_add(1);
        let here = left.min(room);
        left = left.saturating_sub(here);
        at = at.saturating_add(here);
        let tier = tiers.get(index);
        Some(TierPart {
            tier: u16::try_from(index).unwrap_or(u16::MAX),
            units: here,
            amount: tier.and_then(|tier| cost(tier, here)),
        })
    })
}

/// What `units` cost at the price of a tier.
pub(crate) fn cost(tier: &Tier, units: i128) -> Option<Amount> {
    let decimals = tier.price.scale().checked_add(u32::from(Quantity::SCALE))?;
    Amount::from_product(units, tier.price.mantissa(), decimals, i128::from(tier.per))
}
