//! The state of the rate stage on one worker, and how a change of usage or reference data moves it.

use super::Rating;
use super::book::{Owner, PriceTimeline};
use super::discard::Discarded;
use super::kernel::{is_ordered, rate_record, resolve};
use super::matcher::{PriceMatcher, match_key, prices_an_item};
use super::open_usage::{OpenRecord, OpenUsage};
use super::terms::TermsMaker;
use crate::domain::{
    ClassKey, Discard, EventTime, Period, PriceRow, Quantities, ServiceKey, Usage, UsageClass,
    UsagePlace,
};
use crate::epoch::Diff;
use crate::guide::{Guided, ServiceTimeline};
use crate::keymap::KeyMap;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The changes of one epoch.
pub(super) struct Changes {
    pub(super) usage: Vec<(Usage, Diff)>,
    pub(super) timelines: Vec<((ServiceKey, ServiceTimeline), Diff)>,
    pub(super) prices: Vec<(PriceRow, Diff)>,
    pub(super) classes: Vec<(UsageClass, Diff)>,
    pub(super) discards: Vec<(Discard, Diff)>,
}

/// One service: where its usage goes, and its open usage by class.
pub(super) struct Service {
    guide: Rc<ServiceTimeline>,
    open: SmallVec<[OpenClass; 1]>,
}

/// The open usage of a service, of one class.
struct OpenClass {
    class: ClassKey,
    usage: OpenUsage,
    /// Of the record rated last. Records of a service's classes come in turns, so each keeps its own.
    terms: TermsMaker,
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

/// The stretches of a group's time, each with the prices before and after a change of reference data.
pub(super) struct Rerating {
    old_guide: Rc<ServiceTimeline>,
    old_prices: BTreeMap<u128, Rc<PriceTimeline>>,
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
            let classes = &services.get(place.service)?.open;
            let open = classes.iter().find(|open| open.class == place.class)?;
            open.usage
                .get(place.time, record)
                .map(Quantities::from_slice)
        };
        discarded.divert(changes, &open, &mut |suspense, diff| {
            emit(Rating::Suspense(suspense), diff);
        });
    }

    pub(super) fn insert(&mut self, usage: &Usage, emit: &mut impl FnMut(Rating, Diff)) {
        let nobody = || Service {
            guide: Rc::new(ServiceTimeline::unknown()),
            open: SmallVec::new(),
        };
        let service = self.services.entry(usage.service, nobody);
        let group = match service
            .open
            .iter()
            .position(|open| open.class == usage.class)
        {
            Some(group) => group,
            None => {
                let items = usage.quantities.len();
                service.open.push(OpenClass {
                    class: usage.class,
                    usage: OpenUsage::new(items),
                    terms: TermsMaker::default(),
                });
                for owner in possible_owners(&service.guide) {
                    self.users.add(owner, usage.class, usage.service);
                }
                service.open.len().saturating_sub(1)
            }
        };
        let open = &mut service.open[group].usage;
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
        let group = service
            .open
            .iter()
            .position(|open| open.class == usage.class);
        let group = group.expect("retracted usage was inserted");
        let open = &mut service.open[group].usage;
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
            service.open.swap_remove(group);
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
        let mut open = open.iter_mut();
        let open = open.find(|open| open.class == usage.class);
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
        // Who is touched, and what held for them until now.
        let mut touched: BTreeMap<ServiceKey, BTreeSet<ClassKey>> = BTreeMap::new();
        for key in self.touched_by(prices) {
            for service in self.users.services.get(&key).into_iter().flatten() {
                touched.entry(*service).or_default().insert(key.1);
            }
        }
        let mut guides: BTreeMap<ServiceKey, Rc<ServiceTimeline>> = BTreeMap::new();
        for ((service, timeline), diff) in timelines {
            if diff > 0 {
                guides.insert(service, Rc::new(timeline));
            } else {
                guides
                    .entry(service)
                    .or_insert_with(|| Rc::new(ServiceTimeline::unknown()));
            }
        }
        for service in guides.keys() {
            let open = self
                .services
                .get(*service)
                .map(|service| service.open.as_slice());
            let classes = open.unwrap_or_default().iter().map(|open| open.class);
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

        self.prices.replace(prices);
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
    pub(super) fn touched_by(&self, rows: &[(PriceRow, Diff)]) -> BTreeSet<(Owner, ClassKey)> {
        let mut found = BTreeSet::new();
        for (row, _) in rows {
            let owner = Owner::of(row);
            let all = (owner, ClassKey(u64::MIN))..=(owner, ClassKey(u64::MAX));
            for (key, _) in self.users.services.range(all) {
                let class = self.prices.classes.get(key.1);
                if class.is_some_and(|class| prices_an_item(row, class)) {
                    found.insert(*key);
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
            .map(|service| Rc::clone(&service.guide));
        let old_guide = guide.unwrap_or_else(|| Rc::new(ServiceTimeline::unknown()));
        let mut old_prices = BTreeMap::new();
        for guided in old_guide
            .segments()
            .iter()
            .filter_map(|segment| segment.guide.as_ref().ok())
        {
            let key = match_key(&self.prices.owners(guided), class);
            old_prices
                .entry(key)
                .or_insert_with(|| self.prices.timeline(guided, class));
        }
        Rerating {
            old_guide,
            old_prices,
        }
    }

    pub(super) fn replace_guide(&mut self, key: ServiceKey, guide: Rc<ServiceTimeline>) {
        let nobody = || Service {
            guide: Rc::new(ServiceTimeline::unknown()),
            open: SmallVec::new(),
        };
        let service = self.services.entry(key, nobody);
        let old = std::mem::replace(&mut service.guide, Rc::clone(&guide));
        let classes: SmallVec<[ClassKey; 4]> = service.open.iter().map(|open| open.class).collect();
        for class in classes {
            for owner in possible_owners(&old) {
                self.users.remove(owner, class, key);
            }
            for owner in possible_owners(&guide) {
                self.users.add(owner, class, key);
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
        let Some(open) = service.open.iter().find(|open| open.class == class_key) else {
            return 0;
        };
        let open = &open.usage;
        let class = prices.class(class_key);
        let (mut old_terms, mut new_terms) = (TermsMaker::default(), TermsMaker::default());
        // Old owners are asked as the book stood: their keys were taken before the change.
        let old_match = |guided: &Guided, found: &BTreeMap<u128, Rc<PriceTimeline>>| {
            let lists = guided.price_lists.iter().copied().map(Owner::List);
            let own: SmallVec<[Owner; 3]> = [Owner::Account(guided.account)]
                .into_iter()
                .chain(lists.clone())
                .collect();
            let shared: SmallVec<[Owner; 3]> = lists.collect();
            let timeline = found
                .get(&match_key(&own, class_key))
                .or_else(|| found.get(&match_key(&shared, class_key)));
            Rc::clone(timeline.expect("prices held before the change were taken down"))
        };

        let mut cuts: BTreeSet<EventTime> = BTreeSet::new();
        let mut new_prices: Vec<Option<Rc<PriceTimeline>>> = Vec::new();
        for segment in service.guide.segments() {
            cuts.insert(segment.start);
            let timeline = segment
                .guide
                .as_ref()
                .ok()
                .map(|guided| prices.timeline(guided, class_key));
            cuts.extend(
                timeline
                    .iter()
                    .flat_map(|t| &t.segments)
                    .map(|segment| segment.start),
            );
            new_prices.push(timeline);
        }
        cuts.extend(
            held.old_guide
                .segments()
                .iter()
                .map(|segment| segment.start),
        );
        let old = held
            .old_prices
            .values()
            .flat_map(|timeline| &timeline.segments);
        cuts.extend(old.map(|segment| segment.start));

        let mut rerated: usize = 0;
        let mut cuts = cuts.into_iter().peekable();
        while let Some(start) = cuts.next() {
            let end = cuts.peek().copied().unwrap_or(EventTime::MAX);
            let Some(stretch) = Period::new(start, end) else {
                continue;
            };

            let old_segment = held.old_guide.at(start);
            let old_timeline = old_segment
                .guide
                .as_ref()
                .ok()
                .map(|guided| old_match(guided, &held.old_prices));
            let old_found = old_timeline.as_ref().map(|t| &t.at(start).prices);
            let old = resolve(&old_segment.guide, old_found);

            let after = service
                .guide
                .segments()
                .partition_point(|segment| segment.start <= start);
            let index = after.saturating_sub(1);
            let new_segment = &service.guide.segments()[index];
            let new_found = new_prices[index].as_ref().map(|t| &t.at(start).prices);
            let new = resolve(&new_segment.guide, new_found);

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
