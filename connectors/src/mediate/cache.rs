//! What a mediator has met lately, so that the hot loop asks the shared name book seldom.

use crate::names::Names;
use millrace_operators::domain::{ClassKey, Item, Name, ServiceKey, UsageClass};
use smallvec::SmallVec;
use std::collections::{HashMap, HashSet};

/// Classes remembered with their texts; more are met only where an attribute is no attribute but an
/// id, and then remembering them does not help.
const CLASSES_MAX: usize = 65_536;

const SERVICE_SLOTS: usize = 1 << 18;

/// Services met lately, one per slot.
#[derive(Debug)]
pub(super) struct ServiceCache {
    /// Ids lie in their slots, as far as they are short.
    slots: Vec<Option<(SmallVec<[u8; 24]>, ServiceKey)>>,
}

impl ServiceCache {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![None; SERVICE_SLOTS],
        }
    }

    pub(super) fn key(&mut self, service_type: &str, id: &str, names: &Names) -> ServiceKey {
        let slot = usize::try_from(Name::new(id).0 % SERVICE_SLOTS as u64).unwrap_or(0);
        match &mut self.slots[slot] {
            Some((held, key)) if **held == *id.as_bytes() => *key,
            slot => {
                let key = names.enter_service(service_type, id);
                *slot = Some((SmallVec::from_slice(id.as_bytes()), key));
                key
            }
        }
    }
}

/// Which items of the rule a row has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Items {
    /// Their positions, as a set.
    set: u64,
    /// Items whose quantity is too large for the decimals of the rule, and has these instead.
    scales: SmallVec<[(usize, u8); 1]>,
}

impl Items {
    /// The row has the item at `position`, with other decimals than the rule's if so given.
    pub(super) fn add(&mut self, position: usize, scale: Option<u8>) {
        self.set |= 1 << position;
        self.scales.extend(scale.map(|scale| (position, scale)));
    }
}

/// What a row's class follows from.
pub(super) struct Traits<'r> {
    /// Values of the attributes of the rule, in its order.
    pub(super) attributes: &'r [Option<&'r str>],
    /// The items of the rule that the row has.
    pub(super) items: &'r Items,
}

/// Classes by the texts of their attributes.
#[derive(Debug)]
pub(super) struct ClassCache {
    service_type: Name,
    attributes: Vec<Name>,
    items: Vec<Item>,
    known: HashMap<u64, Known>,
    reported: HashSet<ClassKey>,
}

#[derive(Debug)]
struct Known {
    attributes: Vec<Option<Box<str>>>,
    items: Items,
    key: ClassKey,
}

impl Known {
    fn is(&self, traits: &Traits<'_>) -> bool {
        self.items == *traits.items
            && self
                .attributes
                .iter()
                .map(Option::as_deref)
                .eq(traits.attributes.iter().copied())
    }
}

impl ClassCache {
    pub(super) fn new(service_type: Name, attributes: Vec<Name>, items: Vec<Item>) -> Self {
        let (known, reported) = (HashMap::new(), HashSet::new());
        Self {
            service_type,
            attributes,
            items,
            known,
            reported,
        }
    }

    /// The key of the class; a class that was never met is entered and added to `fresh`.
    pub(super) fn key(
        &mut self,
        traits: &Traits<'_>,
        names: &Names,
        fresh: &mut Vec<(ClassKey, UsageClass)>,
    ) -> ClassKey {
        let mix = |hash: u64, value: u64| {
            (hash.rotate_left(5) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        };
        let scales = traits.items.scales.iter();
        let slot = scales.fold(traits.items.set, |hash, (position, scale)| {
            mix(hash, u64::from(*scale) << 8 | *position as u64)
        });
        let slot = traits.attributes.iter().fold(slot, |hash, value| {
            mix(hash, value.map_or(0, |text| Name::new(text).0))
        });
        match self.known.get(&slot) {
            Some(known) if known.is(traits) => return known.key,
            _ => {}
        }
        let mut attributes: Vec<(Name, Name)> = self
            .attributes
            .iter()
            .zip(traits.attributes)
            .filter_map(|(name, value)| Some((*name, names.enter((*value)?))))
            .collect();
        attributes.sort_unstable();
        let has = |position: usize| traits.items.set >> position & 1 == 1;
        let scale = |wanted: usize| {
            let mut scales = traits.items.scales.iter();
            scales.find(|(position, _)| *position == wanted)
        };
        let items = self
            .items
            .iter()
            .enumerate()
            .filter(|(position, _)| has(*position))
            .map(|(position, item)| match scale(position) {
                Some((_, scale)) => Item {
                    scale: *scale,
                    ..*item
                },
                None => *item,
            });
        let class = UsageClass {
            service_type: self.service_type,
            attributes,
            items: items.collect(),
        };
        let key = names.enter_class(&class);
        if self.reported.insert(key) {
            fresh.push((key, class));
        }
        if self.known.len() >= CLASSES_MAX {
            self.known.clear();
        }
        let attributes = traits
            .attributes
            .iter()
            .map(|value| value.map(Box::from))
            .collect();
        self.known.insert(
            slot,
            Known {
                attributes,
                items: traits.items.clone(),
                key,
            },
        );
        key
    }
}
