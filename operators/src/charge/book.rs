//! What the rows of a group refer to: terms, held once however many records are under them, and
//! edges.

use crate::domain::{BucketKey, Edge, EdgeAction, EdgeKey, EventTime, Terms, TermsKey};
use crate::keymap::KeyMap;
use smallvec::{Array, SmallVec};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Terms, and how many records are under them.
type Counted = Option<(Arc<Terms>, usize)>;

/// See the module. The terms of a group that has one lie in the group itself, and edges, which many
/// groups do not have and no append looks at, lie apart.
#[derive(Debug, Default)]
pub(super) struct Book {
    terms: SmallVec<[Counted; 1]>,
    /// Where terms are, once they are many: a group with an account's hundred thousand services has as
    /// many, and most groups have one.
    places: Option<Box<Places>>,
    /// The terms of the last record: the next has mostly the same.
    last: usize,
    edges: Option<Box<Edges>>,
}

#[derive(Debug, Default)]
struct Places {
    held: KeyMap<TermsKey, usize>,
    /// Those of no terms.
    free: Vec<usize>,
}

#[derive(Debug, Default)]
struct Edges {
    held: SmallVec<[Option<Edge>; 1]>,
    by_time: BTreeMap<(EventTime, EdgeKey), usize>,
    /// Places of no edge.
    free: Vec<usize>,
}

/// Terms that are looked through; of more there is a map. Few in tests, so that they reach both.
const FEW: usize = if cfg!(test) { 1 } else { 8 };

/// What a row is.
pub(super) enum Entry<'a> {
    Usage(&'a Terms),
    Edge(&'a Edge),
}

fn tag(at: usize) -> i64 {
    i64::try_from(at).expect("a group has fewer terms and edges than 2⁶³")
}

/// Puts a value into a free place of a list, or behind it.
fn put<T, A: Array<Item = Option<T>>>(
    list: &mut SmallVec<A>,
    free: Option<usize>,
    value: T,
) -> usize {
    match free {
        Some(at) => {
            list[at] = Some(value);
            at
        }
        None => {
            list.push(Some(value));
            list.len().saturating_sub(1)
        }
    }
}

impl Book {
    /// The tag of terms, counted once more.
    pub(super) fn enter(&mut self, terms: &Arc<Terms>) -> i64 {
        if let Some(Some((held, count))) = self.terms.get_mut(self.last)
            && (Arc::ptr_eq(held, terms) || held.key == terms.key)
        {
            *count = count.saturating_add(1);
            return tag(self.last);
        }
        let at = self.place(terms.key).unwrap_or_else(|| self.add(terms));
        if let Some(Some((_, count))) = self.terms.get_mut(at) {
            *count = count.saturating_add(1);
        }
        self.last = at;
        tag(at)
    }

    fn place(&self, key: TermsKey) -> Option<usize> {
        let is_it = |held: &Counted| held.as_ref().is_some_and(|(terms, _)| terms.key == key);
        match &self.places {
            Some(places) => places.held.get(key).copied(),
            None => self.terms.iter().position(is_it),
        }
    }

    /// Takes up terms that are not held.
    fn add(&mut self, terms: &Arc<Terms>) -> usize {
        let free = match &mut self.places {
            Some(places) => places.free.pop(),
            None => self.terms.iter().position(Option::is_none),
        };
        let at = put(&mut self.terms, free, (Arc::clone(terms), 0));
        if let Some(places) = &mut self.places {
            places.held.insert(terms.key, at);
        } else if self.terms.len() > FEW {
            // The list is only made longer where no place in it is free.
            let mut places = Places::default();
            for (at, (terms, _)) in self.terms.iter().flatten().enumerate() {
                places.held.insert(terms.key, at);
            }
            self.places = Some(Box::new(places));
        }
        at
    }

    /// Counts terms once less, and forgets them with their last record.
    pub(super) fn leave(&mut self, key: TermsKey) {
        let Some(at) = self.place(key) else {
            return;
        };
        if let Some((_, count)) = &mut self.terms[at] {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.terms[at] = None;
                if let Some(places) = &mut self.places {
                    places.held.remove(key);
                    places.free.push(at);
                }
            }
        }
    }

    /// The tag of a new edge.
    pub(super) fn enter_edge(&mut self, edge: Edge) -> i64 {
        let edges = self.edges.get_or_insert_default();
        let key = (edge.time, edge.key);
        let free = edges.free.pop();
        let at = put(&mut edges.held, free, edge);
        edges.by_time.insert(key, at);
        tag(at).saturating_neg().saturating_sub(1)
    }

    /// The place of an edge, for [`Self::leave_edge`].
    pub(super) fn edge_place(&self, edge: &Edge) -> Option<usize> {
        let edges = self.edges.as_ref()?;
        edges.by_time.get(&(edge.time, edge.key)).copied()
    }

    /// Forgets an edge.
    pub(super) fn leave_edge(&mut self, at: usize) {
        let Some(edges) = &mut self.edges else {
            return;
        };
        if let Some(edge) = edges.held[at].take() {
            edges.free.push(at);
            let key = (edge.time, edge.key);
            // One that took its place at the same instant stays known.
            if edges.by_time.get(&key) == Some(&at) {
                edges.by_time.remove(&key);
            }
        }
    }

    /// The edges that name one of these buckets.
    pub(super) fn edges_of(&self, buckets: &BTreeSet<BucketKey>) -> impl Iterator<Item = &Edge> {
        let edges = self.edges.iter().flat_map(|edges| &edges.held).flatten();
        edges.filter(move |edge| match &edge.action {
            EdgeAction::Rollover { from, to, .. } => buckets.contains(from) || buckets.contains(to),
            EdgeAction::Volume {
                accumulator,
                elsewhere,
                ..
            } => buckets.contains(accumulator) || buckets.contains(elsewhere),
            EdgeAction::TrueUp { accumulator, .. } => buckets.contains(accumulator),
        })
    }

    /// What a row refers to.
    pub(super) fn entry(&self, tag: i64) -> Entry<'_> {
        let usage = usize::try_from(tag).ok();
        match usage {
            Some(at) => {
                let held = self.terms.get(at).and_then(Option::as_ref);
                Entry::Usage(&held.expect("a row's terms are held").0)
            }
            None => {
                let at = usize::try_from(tag.saturating_add(1).saturating_neg());
                let edges = self.edges.as_ref();
                let held = edges.and_then(|edges| edges.held.get(at.ok()?)?.as_ref());
                Entry::Edge(held.expect("a row's edge is held"))
            }
        }
    }

    /// Reads a little of what an append needs.
    pub(super) fn touch(&self) -> i64 {
        let last = self.terms.get(self.last);
        i64::from(last.is_some_and(Option::is_some))
    }

    pub(super) fn is_empty(&self) -> bool {
        let edges = self.edges.as_ref();
        let no_terms = match &self.places {
            Some(places) => places.held.len() == 0,
            None => self.terms.iter().all(Option::is_none),
        };
        no_terms && edges.is_none_or(|edges| edges.by_time.is_empty())
    }

    /// Bytes outside of the value itself; terms themselves are shared with the price book.
    pub(super) fn bytes(&self) -> usize {
        let edges = self.edges.as_ref().map_or(0, |edges| {
            let times = edges
                .by_time
                .len()
                .saturating_mul(size_of::<(EventTime, EdgeKey, usize)>());
            let free = edges.free.capacity().saturating_mul(size_of::<usize>());
            size_of::<Edges>()
                .saturating_add(spilled(&edges.held))
                .saturating_add(times)
                .saturating_add(free)
        });
        let places = self.places.as_ref().map_or(0, |places| {
            let free = places.free.capacity().saturating_mul(size_of::<usize>());
            size_of::<Places>()
                .saturating_add(places.held.bytes())
                .saturating_add(free)
        });
        spilled(&self.terms)
            .saturating_add(places)
            .saturating_add(edges)
    }
}

/// Bytes of a list outside of the list itself.
fn spilled<A: Array>(list: &SmallVec<A>) -> usize {
    let capacity = if list.spilled() { list.capacity() } else { 0 };
    capacity.saturating_mul(size_of::<A::Item>())
}
