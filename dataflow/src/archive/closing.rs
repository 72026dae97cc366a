//! Which period usage belongs to, and whether it is closed.
//!
//! A period is the bill unit of an account. Where accounts with different billing cycles share balance
//! groups it is the shortest stretch that none of their bill units sticks out of: a month and a
//! quarter make the quarter. Cycles that never begin on one day make no period; such usage stays
//! open.
//!
//! What was closed stays closed: a period that is archived, and the bill units of an account that the
//! state has forgotten, whatever clock and grace say now.

use jiff::Span;
use jiff::tz::TimeZone;
use millrace_connectors::reference::Reference;
use millrace_operators::domain::{
    AccountKey, BillCalendar, BillingProfile, ClosedUnits, EventTime, GroupKey, LineKey, Period,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Steps in which a stretch may grow: cycles that do not meet within so many never do.
const STEPS_MAX: usize = 100;

/// See the module.
#[derive(Clone, Debug)]
pub struct Closing {
    zone: TimeZone,
    after: Span,
    now: EventTime,
    calendar: BillCalendar,
    profiles: BTreeMap<AccountKey, BillingProfile>,
    /// The cycles of accounts that share balance groups with accounts of other cycles.
    mixed: BTreeMap<AccountKey, Arc<BTreeSet<BillingProfile>>>,
    stretches: BTreeMap<(Arc<BTreeSet<BillingProfile>>, Period), Option<Period>>,
    closed: BTreeMap<Period, bool>,
    /// Whether more closes than was closed.
    closes: bool,
    /// Until when accounts were closed before.
    units: ClosedUnits,
    /// Periods that are archived.
    archived: BTreeSet<Period>,
    /// Until when each account is closed, as far as it was asked.
    until: BTreeMap<AccountKey, Option<EventTime>>,
    /// The same of accounts that share with no other cycle, by clock and archive alone.
    same: BTreeMap<BillingProfile, Option<EventTime>>,
}

/// What a closing is made of besides zone and grace, for another process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ClosingParts {
    now: EventTime,
    closes: bool,
    profiles: BTreeMap<AccountKey, BillingProfile>,
    /// Accounts that share balance groups, with the cycles of each such set.
    mixed: Vec<(BTreeSet<AccountKey>, BTreeSet<BillingProfile>)>,
    units: ClosedUnits,
    archived: BTreeSet<Period>,
}

impl Closing {
    /// What is closed at `now`, `after` the end of bill units.
    #[must_use]
    pub fn new(reference: &Reference, zone: TimeZone, after: Span, now: EventTime) -> Self {
        let accounts = reference.accounts.iter();
        let profiles: BTreeMap<_, _> = accounts.map(|row| (row.key, row.profile)).collect();
        Self {
            calendar: BillCalendar::new(zone.clone()),
            mixed: mixed(reference, &profiles),
            zone,
            after,
            now,
            profiles,
            stretches: BTreeMap::new(),
            closed: BTreeMap::new(),
            closes: true,
            units: ClosedUnits::default(),
            archived: BTreeSet::new(),
            until: BTreeMap::new(),
            same: BTreeMap::new(),
        }
    }

    /// The same where this was closed before: bill units of accounts, and periods that are archived.
    #[must_use]
    pub(crate) fn behind(
        self,
        units: &ClosedUnits,
        archived: impl IntoIterator<Item = Period>,
    ) -> Self {
        Self {
            units: units.clone(),
            archived: archived.into_iter().collect(),
            ..self
        }
    }

    /// The same, and whether more closes than was closed before.
    #[must_use]
    pub(crate) fn that_closes(self, closes: bool) -> Self {
        Self { closes, ..self }
    }

    /// What it is made of.
    pub(super) fn parts(&self) -> ClosingParts {
        let mut sets: BTreeMap<&BTreeSet<BillingProfile>, BTreeSet<AccountKey>> = BTreeMap::new();
        for (account, cycles) in &self.mixed {
            sets.entry(cycles).or_default().insert(*account);
        }
        let sets = sets.into_iter();
        ClosingParts {
            now: self.now,
            closes: self.closes,
            profiles: self.profiles.clone(),
            mixed: sets.map(|(cycles, set)| (set, cycles.clone())).collect(),
            units: self.units.clone(),
            archived: self.archived.clone(),
        }
    }

    /// The closing of these parts.
    pub(super) fn of_parts(parts: ClosingParts, zone: TimeZone, after: Span) -> Self {
        let sets = parts.mixed.into_iter();
        let mixed = sets.flat_map(|(accounts, cycles)| {
            let cycles = Arc::new(cycles);
            let each = move |account| (account, Arc::clone(&cycles));
            accounts.into_iter().map(each)
        });
        let mixed = mixed.collect();
        let nobody = Self::new(&Reference::default(), zone, after, parts.now);
        Self {
            profiles: parts.profiles,
            mixed,
            ..nobody
        }
        .behind(&parts.units, parts.archived)
        .that_closes(parts.closes)
    }

    /// The closed period of usage of an account; nothing if it is open.
    pub fn period(
        &mut self,
        account: AccountKey,
        profile: &BillingProfile,
        time: EventTime,
    ) -> Option<Period> {
        let unit = self.calendar.unit(profile, time);
        self.closed_stretch(account, unit)
    }

    /// The closed period of a billing line; nothing if it is open.
    pub fn period_of_line(&mut self, key: &LineKey) -> Option<Period> {
        let unit = Period::new(key.unit_start, key.unit_end)?;
        self.closed_stretch(key.account, unit)
    }

    fn closed_stretch(&mut self, account: AccountKey, unit: Period) -> Option<Period> {
        let period = self.stretch(account, unit)?;
        let until = self.until(account);
        // A line may be of an account that is gone.
        let closed = until.is_some_and(|until| period.end() <= until) || self.is_closed(period);
        closed.then_some(period)
    }

    /// The period of an account that holds an instant, closed or not.
    pub(crate) fn period_at(&mut self, account: AccountKey, time: EventTime) -> Option<Period> {
        let profile = *self.profiles.get(&account)?;
        let unit = self.calendar.unit(&profile, time);
        self.stretch(account, unit)
    }

    /// The end of the last closed period of each account that has one; of accounts that are gone, as it was.
    pub(crate) fn units(&mut self) -> ClosedUnits {
        let accounts: Vec<AccountKey> = self.profiles.keys().copied().collect();
        let mut units = self.units.clone();
        for account in accounts {
            let until = self.until(account);
            units.0.extend(until.map(|until| (account, until)));
        }
        units
    }

    /// The end of the last closed period of an account, if it has one.
    fn until(&mut self, account: AccountKey) -> Option<EventTime> {
        if let Some(known) = self.until.get(&account) {
            return *known;
        }
        let alone = self
            .profile(account)
            .filter(|_| !self.mixed.contains_key(&account));
        let until = match alone {
            Some(profile) => match self.same.get(&profile) {
                Some(known) => *known,
                None => {
                    let until = self.closed_until(account);
                    self.same.insert(profile, until);
                    until
                }
            },
            None => self.closed_until(account),
        };
        let until = until.max(self.units.until(account));
        self.until.insert(account, until);
        until
    }

    /// When the next period is closed.
    pub(crate) fn next(&mut self) -> Option<EventTime> {
        let units = self.units();
        let accounts: Vec<AccountKey> = self.profiles.keys().copied().collect();
        let mut seen: BTreeSet<Period> = BTreeSet::new();
        for account in accounts {
            let first = units.until(account).unwrap_or(EventTime::EARLIEST);
            seen.extend(self.period_at(account, first));
        }
        seen.into_iter()
            .filter_map(|period| self.closes(period))
            .min()
    }

    /// The end of the last period of an account that clock or archive close.
    fn closed_until(&mut self, account: AccountKey) -> Option<EventTime> {
        let archived: Vec<Period> = self.archived.iter().rev().copied().collect();
        let mut archived = archived.into_iter();
        let archived =
            archived.find(|period| self.period_at(account, period.start()) == Some(*period));
        let open = match self.closes {
            true => self.open(account),
            false => None,
        };
        let by_clock = open.map(|first| first.start());
        let by_clock = by_clock.filter(|start| *start > EventTime::EARLIEST);
        archived.map(|period| period.end()).max(by_clock)
    }

    /// The first period of an account that the clock does not close.
    fn open(&mut self, account: AccountKey) -> Option<Period> {
        let mut first = self.period_at(account, self.now)?;
        while first.start() > EventTime::EARLIEST {
            let before = EventTime(first.start().0.saturating_sub(1));
            let period = self.period_at(account, before)?;
            if self.is_closed(period) {
                break;
            }
            first = period;
        }
        Some(first)
    }

    /// The accounts whose bill units never close: they share balance groups, and their cycles never
    /// begin on one day.
    pub(crate) fn never(&mut self) -> Vec<AccountKey> {
        let mixed: Vec<AccountKey> = self.mixed.keys().copied().collect();
        let (from, mut never) = (self.now, Vec::new());
        for account in mixed {
            if self.period_at(account, from).is_none() {
                never.push(account);
            }
        }
        never
    }

    /// The billing cycle of an account.
    pub(crate) fn profile(&self, account: AccountKey) -> Option<BillingProfile> {
        self.profiles.get(&account).copied()
    }

    /// What decides the periods of an account: its cycle, and those of the accounts it shares with.
    pub(super) fn cycles_of(
        &self,
        account: AccountKey,
    ) -> (
        Option<BillingProfile>,
        Option<Arc<BTreeSet<BillingProfile>>>,
    ) {
        (
            self.profile(account),
            self.mixed.get(&account).map(Arc::clone),
        )
    }

    /// The period of a bill unit.
    fn stretch(&mut self, account: AccountKey, unit: Period) -> Option<Period> {
        let Some(cycles) = self.mixed.get(&account).map(Arc::clone) else {
            return Some(unit);
        };
        let key = (cycles, unit);
        if let Some(known) = self.stretches.get(&key) {
            return *known;
        }
        let found = self.grown(&key.0, unit);
        self.stretches.insert(key, found);
        found
    }

    fn grown(&mut self, cycles: &BTreeSet<BillingProfile>, unit: Period) -> Option<Period> {
        let (mut start, mut end) = (unit.start(), unit.end());
        for _ in 0..STEPS_MAX {
            let (before, last) = ((start, end), EventTime(end.0 - 1));
            if start <= EventTime::EARLIEST || last >= EventTime::LATEST {
                return None;
            }
            for cycle in cycles {
                start = start.min(self.calendar.unit(cycle, start).start());
                end = end.max(self.calendar.unit(cycle, last).end());
            }
            if (start, end) == before {
                return Period::new(start, end);
            }
        }
        None
    }

    fn is_closed(&mut self, period: Period) -> bool {
        if let Some(known) = self.closed.get(&period) {
            return *known;
        }
        let by_now = |this: &Self| this.closes(period).is_some_and(|closes| closes <= this.now);
        let closed = self.archived.contains(&period) || (self.closes && by_now(self));
        self.closed.insert(period, closed);
        closed
    }

    /// When a period is closed; a grace past the calendar's end never passes.
    fn closes(&self, period: Period) -> Option<EventTime> {
        let end = period.end().timestamp()?.to_zoned(self.zone.clone());
        let closes = end.checked_add(self.after).ok()?;
        Some(EventTime::from(closes.timestamp()))
    }
}

/// The cycles of accounts that hang together by balance groups, where they are not all one.
fn mixed(
    reference: &Reference,
    profiles: &BTreeMap<AccountKey, BillingProfile>,
) -> BTreeMap<AccountKey, Arc<BTreeSet<BillingProfile>>> {
    let groups = members(reference);
    let mut of_account: BTreeMap<AccountKey, Vec<&BTreeSet<AccountKey>>> = BTreeMap::new();
    for accounts in groups.values().filter(|accounts| accounts.len() > 1) {
        for account in accounts {
            of_account.entry(*account).or_default().push(accounts);
        }
    }
    let mut mixed = BTreeMap::new();
    let mut seen: BTreeSet<AccountKey> = BTreeSet::new();
    for account in of_account.keys() {
        let mut together = BTreeSet::new();
        let mut next = vec![*account];
        while let Some(account) = next.pop() {
            if seen.insert(account) {
                together.insert(account);
                next.extend(
                    of_account
                        .get(&account)
                        .into_iter()
                        .flatten()
                        .copied()
                        .flatten(),
                );
            }
        }
        let cycles = together
            .iter()
            .filter_map(|account| profiles.get(account).copied());
        let cycles: Arc<BTreeSet<BillingProfile>> = Arc::new(cycles.collect());
        if cycles.len() > 1 {
            mixed.extend(
                together
                    .into_iter()
                    .map(|account| (account, Arc::clone(&cycles))),
            );
        }
    }
    mixed
}

/// The accounts of each balance group; none where there are no plans.
pub(crate) fn members(reference: &Reference) -> BTreeMap<GroupKey, BTreeSet<AccountKey>> {
    let mut members: BTreeMap<GroupKey, BTreeSet<AccountKey>> = BTreeMap::new();
    if reference.plans.is_empty() {
        return members;
    }
    for (account, groups) in reference.groups() {
        for group in groups {
            members.entry(group).or_default().insert(account);
        }
    }
    members
}
