//! The state of the rate stage on one worker, and how a change of usage or reference data moves it.

use super::book::{Owner, PriceTimeline};
use super::changes::Changes;
use super::discard::Discarded;
use super::kernel::{Resolved, is_ordered, rate_record, resolve};
use super::matcher::{ChangedPrices, PriceMatcher, PricesAlong};
use super::open_classes::{OpenClass, OpenClasses};
use super::open_usage::OpenRecord;
use super::rating::Rating;
use super::terms::TermsMaker;
use crate::domain::{
    ClassKey, EventTime, Period, PriceRow, Quantities, ServiceKey, Usage, UsagePlace,
};
use crate::epoch::Diff;
use crate::guide::ServiceTimeline;
use crate::keymap::KeyMap;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// One service: where its usage goes, and its open usage by class.
pub(super) struct Service {
    guide: ServiceTimeline,
    open: OpenClasses,
}

impl Service {
    /// A service that nobody serves.
    fn unknown() -> Self {
        Self {
            guide: ServiceTimeline::unknown(),
            open: OpenClasses::default(),
        }
    }
}

/// The state of one worker.
#[derive(Default)]
pub(super) struct RateState {
    services: KeyMap<ServiceKey, Service>,
    discarded: Discarded,
    pub(super) records: usize,
    open_bytes: usize,
    prices: PriceMatcher,
    users: Users,
}

/// What one record comes to.
type Ratings = SmallVec<[Rating; 2]>;

/// Who would notice a change of an owner's prices for a class.
#[derive(Default)]
pub(super) struct Users {
    services: BTreeMap<(Owner, ClassKey), BTreeSet<ServiceKey>>,
    entries: usize,
}

impl Users {
    pub(super) fn add(&mut self, owner: Owner, class: ClassKey, service: ServiceKey) {
        let added = self
            .services
            .entry((owner, class))
            .or_default()
            .insert(service);
        self.entries = self.entries.saturating_add(usize::from(added));
    }

    pub(super) fn remove(&mut self, owner: Owner, class: ClassKey, service: ServiceKey) {
        if let Some(services) = self.services.get_mut(&(owner, class)) {
            self.entries = self
                .entries
                .saturating_sub(usize::from(services.remove(&service)));
            if services.is_empty() {
                self.services.remove(&(owner, class));
            }
        }
    }
}

/// What held for a group before a change of reference data.
pub(super) struct Rerating {
    old_guide: ServiceTimeline,
    old_prices: PricesAlong,
}

impl RateState {
    /// Applies the changes of one epoch; returns how many records reference changes re-rated.
    pub(super) fn apply(
        &mut self,
        mut changes: Changes,
        emit: &mut impl FnMut(Rating, Diff),
    ) -> usize {
        if !self.discarded.is_empty() || !changes.discards.is_empty() {
            self.divert(&mut changes, emit);
        }
        for (class, diff) in changes.classes {
            // Classes are few and cost nothing without records: they are never forgotten.
            if diff > 0 {
                self.prices.classes.entry(class.key(), || Rc::new(class));
            }
        }
        // Service by service, in the order in which they lie in memory: what a service needs is then
        // fetched once per epoch.
        let (mut gone, mut come): (Vec<(u64, usize)>, Vec<_>) = (Vec::new(), Vec::new());
        come.reserve(changes.usage.len());
        for (at, (usage, diff)) in changes.usage.iter().enumerate() {
            let order = if *diff < 0 { &mut gone } else { &mut come };
            order.push((self.services.place(usage.service), at));
        }
        gone.sort_unstable();
        come.sort_unstable();
        for (_, at) in gone {
            self.remove(&changes.usage[at].0, emit);
        }
        let rerated = if changes.prices.is_empty() && changes.timelines.is_empty() {
            0
        } else {
            self.change_reference(&changes.prices, changes.timelines, emit)
        };
        for (_, at) in come {
            self.insert(&changes.usage[at].0, emit);
        }
        rerated
    }

    /// Keeps discarded usage out of what is open.
    fn divert(&mut self, changes: &mut Changes, emit: &mut impl FnMut(Rating, Diff)) {
        let (discarded, services) = (&mut self.discarded, &self.services);
        let open = |record, place: &UsagePlace| {
            let open = services.get(place.service)?.open.get(place.class)?;
            open.usage
                .get(place.time, record)
                .map(Quantities::from_slice)
        };
        discarded.divert(changes, &open, &mut |suspense, diff| {
            emit(Rating::Suspense(suspense), diff);
        });
    }

    pub(super) fn insert(&mut self, usage: &Usage, emit: &mut impl FnMut(Rating, Diff)) {
        let service = self.services.entry(usage.service, Service::unknown);
        let place = match service.open.place(usage.class) {
            Some(place) => place,
            None => {
                let map_bytes = service.open.map_bytes();
                let place = service.open.add(usage.class, usage.quantities.len());
                self.open_bytes = self
                    .open_bytes
                    .saturating_add(service.open.map_bytes())
                    .saturating_sub(map_bytes);
                for owner in possible_owners(&service.guide) {
                    self.users.add(owner, usage.class, usage.service);
                }
                place
            }
        };
        let open = &mut service.open.at_mut(place).usage;
        let before = open.bytes();
        open.insert(usage.time, usage.record, &usage.quantities);
        self.open_bytes = self
            .open_bytes
            .saturating_add(open.bytes())
            .saturating_sub(before);
        self.records = self.records.saturating_add(1);
        self.emit_one(usage, 1, emit);
    }

    pub(super) fn remove(&mut self, usage: &Usage, emit: &mut impl FnMut(Rating, Diff)) {
        self.emit_one(usage, -1, emit);
        let service = self
            .services
            .get_mut(usage.service)
            .expect("retracted usage was inserted");
        let open = service.open.get_mut(usage.class);
        let open = &mut open.expect("retracted usage was inserted").usage;
        let before = open.bytes();
        assert!(
            open.remove(usage.time, usage.record),
            "retracted usage was inserted: {usage:?}"
        );
        self.open_bytes = self
            .open_bytes
            .saturating_add(open.bytes())
            .saturating_sub(before);
        self.records = self.records.saturating_sub(1);
        if open.len() == 0 {
            let map_bytes = service.open.map_bytes();
            service.open.remove(usage.class);
            self.open_bytes = self
                .open_bytes
                .saturating_add(service.open.map_bytes())
                .saturating_sub(map_bytes);
            for owner in possible_owners(&service.guide) {
                self.users.remove(owner, usage.class, usage.service);
            }
        }
    }

    /// Rates one record as reference data stands.
    pub(super) fn emit_one(
        &mut self,
        usage: &Usage,
        diff: Diff,
        emit: &mut impl FnMut(Rating, Diff),
    ) {
        let Self {
            services, prices, ..
        } = self;
        let service = services.get_mut(usage.service);
        let Service { guide, open } = service.expect("the service was entered");
        let open = open.get_mut(usage.class);
        let terms = &mut open.expect("the class was entered").terms;
        let class = prices.class(usage.class);
        let segment = guide.at(usage.time);
        let timeline = segment
            .guide
            .as_ref()
            .ok()
            .map(|guided| prices.timeline(guided, usage.class));
        let found = timeline
            .as_ref()
            .map(|timeline| &timeline.at(usage.time).prices);
        let resolved = resolve(&segment.guide, found);
        let record = OpenRecord {
            time: usage.time,
            record: usage.record,
            quantities: &usage.quantities,
        };
        let emit = &mut |rating| emit(rating, diff);
        let class = (usage.class, &*class);
        rate_record(usage.service, class, &record, &resolved, terms, emit);
    }

    /// Puts new reference data in force and re-rates what it touches.
    pub(super) fn change_reference(
        &mut self,
        prices: &[(PriceRow, Diff)],
        timelines: Vec<((ServiceKey, ServiceTimeline), Diff)>,
        emit: &mut impl FnMut(Rating, Diff),
    ) -> usize {
        let changed = ChangedPrices::of(prices);
        // Who is touched, and what held for them until now.
        let mut touched: BTreeMap<ServiceKey, BTreeSet<ClassKey>> = BTreeMap::new();
        for key in self.touched_by(&changed) {
            for service in self.users.services.get(&key).into_iter().flatten() {
                touched.entry(*service).or_default().insert(key.1);
            }
        }
        let mut guides: BTreeMap<ServiceKey, ServiceTimeline> = BTreeMap::new();
        for ((service, timeline), diff) in timelines {
            if diff > 0 {
                guides.insert(service, timeline);
            } else {
                guides
                    .entry(service)
                    .or_insert_with(ServiceTimeline::unknown);
            }
        }
        for service in guides.keys() {
            let open = self.services.get(*service).map(|service| &service.open);
            let classes = open.into_iter().flat_map(OpenClasses::iter);
            let classes = classes.map(|open| open.class);
            touched.entry(*service).or_default().extend(classes);
        }
        let before: BTreeMap<ServiceKey, BTreeMap<ClassKey, Rerating>> = touched
            .into_iter()
            .map(|(service, classes)| {
                let held = classes
                    .into_iter()
                    .map(|class| (class, self.held(service, class)));
                (service, held.collect())
            })
            .collect();

        self.prices.replace(prices, &changed);
        for (service, guide) in guides {
            self.replace_guide(service, guide);
        }

        let mut rerated: usize = 0;
        for (service, classes) in before {
            for (class, held) in classes {
                rerated = rerated.saturating_add(self.rerate(service, class, &held, emit));
            }
        }
        rerated
    }

    /// The users of an owner's prices for a class that one of the changed rows could price.
    fn touched_by(&self, changed: &ChangedPrices) -> Vec<(Owner, ClassKey)> {
        let mut found = Vec::new();
        for owner in changed.owners() {
            let all = (owner, ClassKey(u64::MIN))..=(owner, ClassKey(u64::MAX));
            for (key, _) in self.users.services.range(all) {
                let class = self.prices.classes.get(key.1);
                if class.is_some_and(|class| changed.price_an_item(owner, class)) {
                    found.push(*key);
                }
            }
        }
        found
    }

    /// What holds for a group now.
    pub(super) fn held(&mut self, service: ServiceKey, class: ClassKey) -> Rerating {
        let guide = self
            .services
            .get(service)
            .map(|service| service.guide.clone());
        let old_guide = guide.unwrap_or_else(ServiceTimeline::unknown);
        let old_prices = self.prices.along(&old_guide, class);
        Rerating {
            old_guide,
            old_prices,
        }
    }

    pub(super) fn replace_guide(&mut self, key: ServiceKey, guide: ServiceTimeline) {
        let service = self.services.entry(key, Service::unknown);
        let old = std::mem::replace(&mut service.guide, guide.clone());
        if service.open.is_empty() {
            return;
        }
        let (old, new) = (possible_owners(&old), possible_owners(&guide));
        for class in service.open.iter().map(|open| open.class) {
            for owner in old.difference(&new) {
                self.users.remove(*owner, class, key);
            }
            for owner in new.difference(&old) {
                self.users.add(*owner, class, key);
            }
        }
    }

    /// Takes back and re-emits the records of a group in the stretches where old and new differ.
    pub(super) fn rerate(
        &mut self,
        key: ServiceKey,
        class_key: ClassKey,
        held: &Rerating,
        emit: &mut impl FnMut(Rating, Diff),
    ) -> usize {
        let Self {
            services, prices, ..
        } = self;
        let Some(service) = services.get(key) else {
            return 0;
        };
        let Some(open) = service.open.get(class_key) else {
            return 0;
        };
        let open = &open.usage;
        let class = prices.class(class_key);
        let (mut old_terms, mut new_terms) = (TermsMaker::default(), TermsMaker::default());
        let new_prices = prices.along(&service.guide, class_key);
        let (old_guide, old_prices) = (&held.old_guide, &held.old_prices);

        // Everywhere that the way of usage or a price may change, before or after.
        let guides = [old_guide, &service.guide].into_iter();
        let segments = guides.flat_map(|guide| guide.segments());
        let mut cuts: Vec<EventTime> = segments.map(|segment| segment.start).collect();
        cuts.extend(old_prices.starts());
        cuts.extend(new_prices.starts());
        cuts.sort_unstable();
        cuts.dedup();

        let mut rerated: usize = 0;
        let mut cuts = cuts.into_iter().peekable();
        while let Some(start) = cuts.next() {
            let end = cuts.peek().copied().unwrap_or(EventTime::MAX);
            let Some(stretch) = Period::new(start, end) else {
                continue;
            };
            let old = resolve_at(old_guide, old_prices, start);
            let new = resolve_at(&service.guide, &new_prices, start);
            if old == new {
                continue;
            }
            for record in open.within(stretch) {
                rerated = rerated.saturating_add(1);
                let class = (class_key, &*class);
                let (mut before, mut after) = (Ratings::new(), Ratings::new());
                rate_record(key, class, &record, &old, &mut old_terms, &mut |rating| {
                    before.push(rating)
                });
                rate_record(key, class, &record, &new, &mut new_terms, &mut |rating| {
                    after.push(rating)
                });
                // Not every difference of guides and prices is one of what the record comes to.
                if before != after {
                    before.into_iter().for_each(|rating| emit(rating, -1));
                    after.into_iter().for_each(|rating| emit(rating, 1));
                }
            }
        }
        rerated
    }

    pub(super) fn visit<E>(
        &mut self,
        wanted: impl Fn(ServiceKey) -> bool,
        in_order: bool,
        visit: &mut impl FnMut(&Rating) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self {
            services,
            prices,
            discarded,
            ..
        } = self;
        for key in services.sorted_keys() {
            let Some(service) = services.get(key).filter(|_| wanted(key)) else {
                continue;
            };
            let mut groups: Vec<&OpenClass> = service.open.iter().collect();
            groups.sort_by_key(|open| open.class);
            for open in groups {
                visit_class(service, key, open, prices, in_order, visit)?;
            }
        }
        let discarded = discarded.suspense();
        let mut discarded = discarded.filter(|suspense| wanted(suspense.service));
        discarded.try_for_each(|suspense| visit(&Rating::Suspense(suspense)))
    }

    /// Bytes held, as far as they grow with usage.
    pub(super) fn bytes(&self) -> usize {
        let set_entry = 12; // a B-tree set of 8-byte keys is about two thirds full
        self.services
            .bytes()
            .saturating_add(self.open_bytes)
            .saturating_add(self.discarded.bytes())
            .saturating_add(self.users.entries.saturating_mul(set_entry))
            .saturating_add(self.prices.book.len().saturating_mul(size_of::<PriceRow>()))
    }
}

/// Visits the usage of one class; that which is charged in order only if asked to.
fn visit_class<E>(
    service: &Service,
    key: ServiceKey,
    open: &OpenClass,
    prices: &mut PriceMatcher,
    in_order: bool,
    visit: &mut impl FnMut(&Rating) -> Result<(), E>,
) -> Result<(), E> {
    let class_key = open.class;
    let class = prices.class(class_key);
    let mut terms = TermsMaker::default();
    let mut result = Ok(());
    let mut last: Option<(EventTime, Option<Rc<PriceTimeline>>)> = None;
    for record in open.usage.iter() {
        let segment = service.guide.at(record.time);
        let timeline = match &last {
            Some((start, timeline)) if *start == segment.start => timeline.clone(),
            _ => {
                let found = segment
                    .guide
                    .as_ref()
                    .ok()
                    .map(|g| prices.timeline(g, class_key));
                last = Some((segment.start, found.clone()));
                found
            }
        };
        let found = timeline.as_ref().map(|t| &t.at(record.time).prices);
        let resolved = resolve(&segment.guide, found);
        if !in_order && is_ordered(&resolved, record.quantities) {
            continue;
        }
        let class = (class_key, &*class);
        rate_record(key, class, &record, &resolved, &mut terms, &mut |rating| {
            if result.is_ok() {
                result = visit(&rating);
            }
        });
        if result.is_err() {
            break;
        }
    }
    result
}

/// Where usage goes at an instant, and at which prices.
fn resolve_at<'a>(
    guide: &'a ServiceTimeline,
    prices: &'a PricesAlong,
    time: EventTime,
) -> Resolved<'a> {
    resolve(&guide.at(time).guide, prices.at(time))
}

/// Everyone whose prices the usage of a service could take, now or once they have any.
pub(super) fn possible_owners(guide: &ServiceTimeline) -> BTreeSet<Owner> {
    let guided = guide
        .segments()
        .iter()
        .filter_map(|segment| segment.guide.as_ref().ok());
    guided
        .flat_map(|guided| {
            let own = Owner::Account(guided.account);
            [own]
                .into_iter()
                .chain(guided.price_lists.iter().copied().map(Owner::List))
        })
        .collect()
}
