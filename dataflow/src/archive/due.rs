//! What of the bill is to be archived: periods that have closed, and what archived periods are billed
//! more or less.

use super::closing::{Closing, members};
use super::groups::with_balances;
use super::keys::LineKeys;
use super::setting::{ArchiveSetting, Slot};
use differential_dataflow::difference::{Abelian, IsZero, Semigroup};
use millrace_connectors::archive::{Archive, ArchiveError, ArchivedLine, ArchivedPeriod};
use millrace_connectors::output::AggregatedLine;
use millrace_connectors::reference::Reference;
use millrace_operators::domain::{AccountKey, AggregateId, GroupKey, LineKey, LineSum, Period};
use millrace_operators::epoch::shard;
use std::collections::{BTreeMap, BTreeSet};

type Groups = BTreeMap<GroupKey, BTreeSet<AccountKey>>;

/// See the module.
pub(super) struct Due {
    pub(super) closing: Closing,
    /// Archived periods that come to other lines and stay as they are, with how many.
    pub(super) differ: Vec<(Period, usize)>,
    /// Periods that are archived for the first time, or adjusted, by the number of the adjustment.
    sequences: BTreeMap<Period, u32>,
    /// The accounts of adjustments.
    touched: BTreeMap<Period, BTreeSet<AccountKey>>,
    slots: BTreeMap<Slot, Vec<AggregatedLine>>,
    periods: BTreeMap<AccountKey, BTreeSet<Period>>,
}

impl Due {
    /// Finds it. Archived periods are adjusted for jobs with durable state alone.
    /// What the graph has forgotten of a period is not its business.
    pub(super) fn find(
        archive: &Archive,
        setting: &ArchiveSetting,
        lines: &[AggregatedLine],
        reference: &Reference,
    ) -> Result<Self, ArchiveError> {
        let closed = &setting.closed;
        let mut due = Self {
            closing: setting.closing(reference, archive),
            differ: Vec::new(),
            sequences: BTreeMap::new(),
            touched: BTreeMap::new(),
            slots: BTreeMap::new(),
            periods: BTreeMap::new(),
        };
        let mut now: BTreeMap<Period, Vec<&AggregatedLine>> = BTreeMap::new();
        let forgotten = |account: AccountKey, period: Period| {
            let until = closed.units.until(account);
            until.is_some_and(|until| period.end() <= until)
        };
        for line in lines {
            if let Some(period) = due.closing.period_of_line(&line.key)
                && !forgotten(line.key.account, period)
            {
                now.entry(period).or_default().push(line);
            }
        }
        let groups = with_balances(reference, members(reference));
        // Groups that may begin the next period elsewhere than it has.
        let mut moved: BTreeSet<GroupKey> = BTreeSet::new();
        for period in archive.periods() {
            let lines = now.remove(&period);
            if lines.is_none() && closed.periods.contains_key(&period) {
                continue;
            }
            let opened = archive.period(period)?;
            let known = |account: &str| !forgotten(AccountKey::of(&[account]), period);
            let lines = lines.unwrap_or_default();
            let differences = differences(&opened, &lines, &[], known, setting)?;
            if setting.generation.is_some() {
                due.adjust(&opened, differences, &groups, &mut moved)?;
            } else if !differences.is_empty() {
                due.differ.push((period, differences.len()));
            }
        }
        for (period, lines) in now {
            due.sequences.insert(period, 0);
            for line in lines {
                due.enter(period, line.clone());
            }
        }
        Ok(due)
    }

    fn enter(&mut self, period: Period, line: AggregatedLine) {
        let account = line.key.account;
        self.periods.entry(account).or_default().insert(period);
        let slot = (period, shard(account.0));
        self.slots.entry(slot).or_default().push(line);
    }

    /// Enters what a period is billed otherwise, with everybody whose balances it moves.
    fn adjust(
        &mut self,
        opened: &ArchivedPeriod,
        differences: Vec<AggregatedLine>,
        groups: &Groups,
        moved: &mut BTreeSet<GroupKey>,
    ) -> Result<(), ArchiveError> {
        let period = opened.period();
        let mut touched: BTreeSet<AccountKey> =
            differences.iter().map(|line| line.key.account).collect();
        // An account may share groups that share others.
        loop {
            let shared = groups
                .iter()
                .filter(|(group, members)| moved.contains(group) || !members.is_disjoint(&touched));
            let (keys, members): (BTreeSet<GroupKey>, Vec<&BTreeSet<AccountKey>>) =
                shared.map(|(group, members)| (*group, members)).unzip();
            let before = (touched.len(), moved.len());
            let members = members.into_iter().flatten().copied();
            let of_period: Vec<AccountKey> = members
                .filter(|account| self.closing.period_at(*account, period.start()) == Some(period))
                .collect();
            touched.extend(of_period);
            moved.extend(keys);
            if before == (touched.len(), moved.len()) {
                break;
            }
        }
        if touched.is_empty() {
            return Ok(());
        }
        for account in &touched {
            self.periods.entry(*account).or_default().insert(period);
            self.slots.entry((period, shard(account.0))).or_default();
        }
        for line in differences {
            self.enter(period, line);
        }
        self.touched.insert(period, touched);
        let sequence = opened.manifest().sequence + 1;
        self.sequences.insert(period, sequence);
        Ok(())
    }

    /// The shards that are written.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.slots.keys().copied()
    }

    /// The lines of a shard.
    pub(super) fn lines(&self, slot: Slot) -> &[AggregatedLine] {
        self.slots.get(&slot).map_or(&[], Vec::as_slice)
    }

    /// The lines of a period.
    pub(super) fn count(&self, period: Period) -> usize {
        let own = self.slots.iter().filter(|((of, _), _)| *of == period);
        own.map(|(_, lines)| lines.len()).sum()
    }

    /// The accounts of a shard, as far as they are known without their usage.
    pub(super) fn accounts(&self, slot: Slot) -> BTreeSet<AccountKey> {
        let billed = self.lines(slot).iter().map(|line| line.key.account);
        let touched = self.touched.get(&slot.0).into_iter().flatten().copied();
        let touched = touched.filter(|account| shard(account.0) == slot.1);
        billed.chain(touched).collect()
    }

    /// The periods that are written of each account.
    pub(super) fn periods(&self) -> &BTreeMap<AccountKey, BTreeSet<Period>> {
        &self.periods
    }

    /// Whether usage of an account in a period is written.
    pub(super) fn wants(&self, period: Period, account: AccountKey) -> bool {
        match self.touched.get(&period) {
            Some(touched) => touched.contains(&account),
            None => self.slots.contains_key(&(period, shard(account.0))),
        }
    }

    /// Which writing of a period this is: 0 for the bill.
    pub(super) fn sequence(&self, period: Period) -> u32 {
        self.sequences.get(&period).copied().unwrap_or(0)
    }
}

/// What a period comes to now less what it was billed, adjustments added up; of known accounts. `others`
/// are lines that are of the period only if it has them.
pub(super) fn differences(
    opened: &ArchivedPeriod,
    now: &[&AggregatedLine],
    others: &[&AggregatedLine],
    known: impl Fn(&str) -> bool,
    setting: &ArchiveSetting,
) -> Result<Vec<AggregatedLine>, ArchiveError> {
    let mut gone: BTreeMap<AggregateId, (ArchivedLine, LineSum)> = BTreeMap::new();
    for shard in opened.shards() {
        let lines = opened.lines(shard)?.into_iter();
        for line in lines.filter(|line| known(&line.account)) {
            let sum = line.sum;
            let (_, billed) = gone
                .entry(line.id)
                .or_insert_with(|| (line, LineSum::default()));
            billed.plus_equals(&sum);
        }
    }
    let mut differences = Vec::new();
    let others = others.iter();
    let others = others.filter(|line| gone.contains_key(&line.key.aggregate_id()));
    let others: Vec<&AggregatedLine> = others.copied().collect();
    for line in now.iter().copied().chain(others) {
        let mut sum = line.sum;
        if let Some((_, mut billed)) = gone.remove(&line.key.aggregate_id()) {
            billed.negate();
            sum.plus_equals(&billed);
        }
        let key = line.key.clone();
        differences.push(AggregatedLine { key, sum });
    }
    gone.retain(|_, (_, billed)| !billed.is_zero());
    let accounts: BTreeSet<String> = gone
        .values()
        .map(|(line, _)| line.account.clone())
        .collect();
    let names = &setting.texts.names;
    let used = opened.usage(accounts.iter().map(String::as_str), names)?;
    let dimensions: Vec<_> = setting.texts.dimensions.iter().map(|(_, d)| *d).collect();
    let services = used.iter().map(|row| row.usage.service);
    let keys = LineKeys::of(services, &dimensions, names);
    for (line, mut billed) in gone.into_values() {
        billed.negate();
        let key: LineKey = keys.key(&line)?;
        differences.push(AggregatedLine { key, sum: billed });
    }
    differences.retain(|line| !line.sum.is_zero());
    differences.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(differences)
}
