//! What of a file was refused: it was told, and what follows from its absence is not told, too.

use super::tree::{Kind, Node};
use std::collections::{BTreeMap, BTreeSet};

/// A place in a file: line and column, counted from 1; 0 in JSON, where all mappings are one then.
type Place = (u64, u64);

/// The entries that a value lacks because they were told to be wrong.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    /// Where the file's own mapping begins.
    root: Place,
    /// The mapping and the key of each. A key that nobody knows stands for the one that was meant.
    entries: BTreeSet<(Place, String)>,
    /// The same by the mapping's node.
    of_nodes: BTreeSet<(usize, String)>,
    /// Mappings that lack something, or hold something that does.
    within: BTreeSet<Place>,
}

impl Refused {
    /// What was left out of a tree: the nodes and entries at fault, and the keys that were meant.
    pub(super) fn of(
        root: &Node,
        at_fault: &BTreeSet<usize>,
        meant: &BTreeMap<usize, &'static str>,
    ) -> Self {
        let mut refused = Self {
            root: (root.line, root.column),
            ..Self::default()
        };
        refused.look(root, at_fault, meant);
        refused
    }

    /// Whether the mapping at this place lacks the key, or a part of what stands behind it.
    #[must_use]
    pub fn has(&self, mapping: Place, key: &str) -> bool {
        self.entries.contains(&(mapping, key.to_owned()))
    }

    /// As [`Self::has`], of a node.
    pub(super) fn has_of_node(&self, mapping: usize, key: &str) -> bool {
        self.of_nodes.contains(&(mapping, key.to_owned()))
    }

    /// Whether the file lacks the key, outside of all that it holds.
    #[must_use]
    pub fn has_in_file(&self, key: &str) -> bool {
        self.has(self.root, key)
    }

    /// Whether any mapping of the file lacks the key.
    #[must_use]
    pub fn has_anywhere(&self, key: &str) -> bool {
        self.entries.iter().any(|(_, refused)| refused == key)
    }

    /// All keys that some mapping lacks.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(_, key)| key.as_str())
    }

    /// Whether the mapping at this place is not whole.
    #[must_use]
    pub fn is_within(&self, mapping: Place) -> bool {
        self.within.contains(&mapping)
    }

    /// Looks at a node; whether it holds something at fault.
    fn look(
        &mut self,
        node: &Node,
        at_fault: &BTreeSet<usize>,
        meant: &BTreeMap<usize, &'static str>,
    ) -> bool {
        let mut any = false;
        match &node.kind {
            Kind::Null(_) | Kind::Scalar { .. } => {}
            Kind::List(items) => {
                for item in items {
                    any |= self.look(item, at_fault, meant) || at_fault.contains(&item.id);
                }
            }
            Kind::Map(entries) => {
                let place = (node.line, node.column);
                for entry in entries {
                    let value = &entry.value;
                    any |= self.look(value, at_fault, meant);
                    let lost = at_fault.contains(&entry.id) || at_fault.contains(&value.id);
                    let lacks_items = match &value.kind {
                        Kind::List(items) => items.iter().any(|item| at_fault.contains(&item.id)),
                        Kind::Null(_) | Kind::Scalar { .. } | Kind::Map(_) => false,
                    };
                    if lost || lacks_items {
                        any = true;
                        let is_there = |key: &&str| entries.iter().any(|e| e.key == *key);
                        let key = meant.get(&entry.id).copied();
                        let key = key.filter(|key| !is_there(key));
                        let key = key.unwrap_or(entry.key.as_str());
                        self.entries.insert((place, key.to_owned()));
                        self.of_nodes.insert((node.id, key.to_owned()));
                    }
                }
                if any {
                    self.within.insert(place);
                }
            }
        }
        any
    }
}
