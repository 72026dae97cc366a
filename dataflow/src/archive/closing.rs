//! Which period usage belongs to, and whether it is closed.
//!
//! A period is the bill unit of an account. Where accounts with different billing cycles share balance
//! groups it is the shortest stretch that none of their bill units sticks out of: a month and a
//! quarter make the quarter. Cycles that never begin on one day make no period; such usage stays
//! open.

use crate::archive::members;
use jiff::Span;
use jiff::tz::TimeZone;
use millrace_connectors::reference::Reference;
use millrace_operators::domain::{
    AccountKey, BillCalendar, BillingProfile, ClosedUnits, EventTime, LineKey, Period,
};
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
        }
    }

    /// The closed period of usage of an account; nothing if it is open.
    pub fn period(
        &mut self,
        account: AccountKey,
        profile: &BillingProfile,
        time: EventTime,
    ) -> Option<Period> {
        let unit = self.calendar.unit(profile, time);
        self.stretch(account, unit)
            .filter(|period| self.is_closed(*period))
    }

    /// The closed period of a billing line; nothing if it is open.
    pub fn period_of_line(&mut self, key: &LineKey) -> Option<Period> {
        let unit = Period::new(key.unit_start, key.unit_end)?;
        self.stretch(key.account, unit)
            .filter(|period| self.is_closed(*period))
    }

    /// The period of an account that holds an instant, closed or not.
    pub(crate) fn period_at(&mut self, account: AccountKey, time: EventTime) -> Option<Period> {
        let profile = *self.profiles.get(&account)?;
        let unit = self.calendar.unit(&profile, time);
        self.stretch(account, unit)
    }

    /// The end of the last closed period of each account that has one.
    pub(crate) fn units(&mut self) -> ClosedUnits {
        let accounts: Vec<AccountKey> = self.profiles.keys().copied().collect();
        let mut same: BTreeMap<BillingProfile, Option<EventTime>> = BTreeMap::new();
        let mut units = BTreeMap::new();
        for account in accounts {
            let alone = self
                .profile(account)
                .filter(|_| !self.mixed.contains_key(&account));
            let until = match alone {
                Some(profile) => match same.get(&profile) {
                    Some(known) => *known,
                    None => {
                        let until = self.closed_until(account);
                        same.insert(profile, until);
                        until
                    }
                },
                None => self.closed_until(account),
            };
            units.extend(until.map(|until| (account, until)));
        }
        ClosedUnits(units)
    }

    /// When the next period is closed.
    pub(crate) fn next(&mut self) -> Option<EventTime> {
        let accounts: Vec<AccountKey> = self.profiles.keys().copied().collect();
        let mut seen: BTreeSet<Period> = BTreeSet::new();
        for account in accounts {
            seen.extend(self.open(account));
        }
        seen.into_iter()
            .filter_map(|period| self.closes(period))
            .min()
    }

    fn closed_until(&mut self, account: AccountKey) -> Option<EventTime> {
        self.open(account)
            .map(|first| first.start())
            .filter(|start| *start > EventTime::EARLIEST)
    }

    /// The first period of an account that is not closed.
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
        let closed = self.closes(period).is_some_and(|closes| closes <= self.now);
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
