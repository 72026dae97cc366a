//! What terms come to on the calendars of those who have them: `cycle: month` is the bill unit of an
//! account that is billed monthly, three months are a quarter, and a month holds several weeks.

use super::rows::Rows;
use jiff::tz::TimeZone;
use millrace_operators::domain::{
    AccountKey, Amount, BillingProfile, EventTime, Name, Period, Term,
};
use std::collections::{BTreeMap, BTreeSet};

/// Calendars that are looked at; catalogs have few, however many accounts there are.
const CALENDARS: usize = 64;
/// Cycles of each term that are compared: leap years come and go within them.
const CYCLES: usize = 16;
/// Where they begin, unless the subscription begins later: 2024-01-01.
const FROM: EventTime = EventTime(1_704_067_200_000_000);

/// An account's billing cycle, and when a subscription began.
type Calendar = (BillingProfile, EventTime);

/// The calendars of those who have a price list.
pub(super) struct Calendars<'a> {
    of_list: BTreeMap<Name, BTreeSet<Calendar>>,
    zone: &'a TimeZone,
}

/// How many cycles of one term meet so many whole cycles of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Together {
    pub(super) whole: i128,
    pub(super) meeting: i128,
}

impl<'a> Calendars<'a> {
    pub(super) fn of(rows: &Rows, zone: &'a TimeZone) -> Self {
        let accounts = rows.accounts.iter();
        let profiles: BTreeMap<AccountKey, BillingProfile> =
            accounts.map(|p| (p.row.key, p.row.profile)).collect();
        let mut of_list: BTreeMap<Name, BTreeSet<Calendar>> = BTreeMap::new();
        for row in rows.subscriptions.iter().map(|placed| &placed.row) {
            let profile = profiles.get(&row.account).copied().unwrap_or_default();
            for list in &row.price_lists {
                let known = of_list.entry(*list).or_default();
                if known.len() < CALENDARS {
                    known.insert((profile, row.valid.start()));
                }
            }
        }
        Self { of_list, zone }
    }

    /// Where the least of one term is more than the most of the other lets through, for somebody with
    /// the list: so many of their cycles. Whoever has none has calendar months.
    pub(super) fn beyond(
        &self,
        list: Name,
        (least, of): (Amount, Term),
        (most, under): (Amount, Term),
    ) -> Option<Together> {
        let nobody = BTreeSet::from([(BillingProfile::default(), FROM)]);
        let calendars = self.of_list.get(&list).unwrap_or(&nobody);
        let beyond = |(profile, began): &Calendar| {
            let least_of = of.profile(profile, *began, self.zone);
            let most_of = under.profile(profile, *began, self.zone);
            let from = (*began).max(FROM);
            let windows = [&least_of, &most_of];
            let mut windows = windows
                .into_iter()
                .flat_map(|profile| self.cycles(profile, from).take(CYCLES));
            windows.find_map(|window| {
                let together = Together {
                    whole: self.count(&least_of, window, |cycle| within(cycle, window)),
                    meeting: self.count(&most_of, window, |_| true),
                };
                let (least, most) = (
                    least.0.checked_mul(together.whole)?,
                    most.0.checked_mul(together.meeting)?,
                );
                (least > most).then_some(together)
            })
        };
        calendars.iter().find_map(beyond)
    }

    /// The cycles of a profile from the one that holds an instant.
    fn cycles(&self, profile: &BillingProfile, from: EventTime) -> impl Iterator<Item = Period> {
        let next = move |cycle: &Period| profile.cycle_at(cycle.end(), self.zone);
        std::iter::successors(profile.cycle_at(from, self.zone), next)
    }

    /// How many cycles that meet a window are counted.
    fn count(
        &self,
        profile: &BillingProfile,
        window: Period,
        counts: impl Fn(Period) -> bool,
    ) -> i128 {
        let cycles = self.cycles(profile, window.start());
        let meeting = cycles.take_while(|cycle| cycle.start() < window.end());
        meeting.filter(|cycle| counts(*cycle)).map(|_| 1).sum()
    }
}

fn within(cycle: Period, window: Period) -> bool {
    window.start() <= cycle.start() && cycle.end() <= window.end()
}
