//! Which accounts files a replay can compare with a bill: those that bill the same accounts, and usage
//! of the same services, by the same periods. A period is rated by itself, so usage that went to
//! another would be missed here and not be found there.

use super::request::ReplayError;
use super::scope::Links;
use crate::archive::Closing;
use jiff::Span;
use jiff::tz::TimeZone;
use millrace_connectors::archive::ArchivedPeriod;
use millrace_connectors::names::Names;
use millrace_connectors::reference::Reference;
use millrace_operators::domain::{AccountKey, EventTime};
use std::collections::BTreeSet;

/// Refuses reference data that bills accounts of a period, `asked` or all, by other periods, or that
/// moves a service between accounts of different periods.
pub(super) fn refuse_other_periods(
    period: &ArchivedPeriod,
    given: &Reference,
    asked: Option<&BTreeSet<String>>,
    zone: &TimeZone,
    names: &Names,
) -> Result<(), ReplayError> {
    let bounds = period.period();
    let mut closing = Closing::new(given, zone.clone(), Span::new(), EventTime::LATEST);
    let mut told = Vec::new();
    for shard in period.shards() {
        let accounts = period.accounts(shard)?.into_keys();
        for name in accounts.filter(|name| asked.is_none_or(|asked| asked.contains(name))) {
            let key = AccountKey::of(&[&name]);
            let known = closing.profile(key).is_some();
            if known && closing.period_at(key, bounds.start()) != Some(bounds) {
                told.push(name);
            }
        }
    }
    if let [first, rest @ ..] = told.as_slice() {
        let more = match rest.len() {
            0 => String::new(),
            more => format!(" and {more} more accounts"),
        };
        return Err(ReplayError::Request(format!(
            "the accounts files give \"{first}\"{more} another billing cycle than the archive has, or \
             let them share balances with other cycles; bills of other periods cannot be compared"
        )));
    }
    let archived = period.reference(None, names)?;
    let (was, now) = (Links::of(&archived), Links::of(given));
    let services: BTreeSet<_> = was.services().union(&now.services()).copied().collect();
    for service in services {
        let (was, now) = (was.held(service, bounds), now.held(service, bounds));
        if was == now {
            continue;
        }
        let accounts: BTreeSet<AccountKey> = was
            .into_iter()
            .chain(now)
            .map(|(_, account)| account)
            .collect();
        let mut periods = BTreeSet::new();
        for account in &accounts {
            periods.insert(closing.period_at(*account, bounds.start()));
        }
        if periods.len() > 1 {
            let (_, id) = names.service(service);
            let shown = accounts
                .iter()
                .map(|account| names.account(*account).to_string());
            return Err(ReplayError::Request(format!(
                "the accounts files move \"{id}\" between accounts with different billing cycles, {}; \
                 bills of other periods cannot be compared",
                shown.collect::<Vec<_>>().join(" and ")
            )));
        }
    }
    Ok(())
}
