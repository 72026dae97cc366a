//! Which of the records of an identity holds, stated a second time: by who beats whom.

use millrace_operators::domain::{FileId, Keep, Kind, Mark, Reason, RecordId, Usage};
use millrace_operators::epoch::Epoch;

/// A record with its epoch of arrival.
pub(super) type Arrived<'w> = (Epoch, &'w Usage);

fn mark(usage: &Usage) -> Mark {
    usage.mark.as_deref().copied().unwrap_or_default()
}

/// Whether a record is a version without usage, because a rule's `where` excludes it.
pub(super) fn is_excluded(usage: &Usage) -> bool {
    let mark = usage.mark.as_deref();
    usage.quantities.is_empty() && mark.is_some_and(|mark| mark.kind != Kind::Void)
}

fn same(a: &Usage, b: &Usage) -> bool {
    if is_excluded(a) || is_excluded(b) {
        return is_excluded(a) == is_excluded(b);
    }
    let voids = [a, b].map(|usage| mark(usage).kind == Kind::Void);
    match voids {
        [true, true] => true,
        [false, false] => {
            let content = |usage: &Usage| {
                let quantities = usage.quantities.clone();
                (usage.time, usage.service, usage.class, quantities)
            };
            content(a) == content(b)
        }
        _ => false,
    }
}

/// The records of one identity, all of them.
struct Dispute<'w> {
    records: Vec<Arrived<'w>>,
    keep: Keep,
    /// Where there is no usage, the file whose rows stand for it.
    first_file: Option<FileId>,
}

impl<'w> Dispute<'w> {
    fn reports(&self, usage: &Usage) -> bool {
        let of_first = self.first_file == Some(usage.record.file());
        match mark(usage).kind {
            Kind::Usage => true,
            Kind::Restate => of_first,
            Kind::Amend | Kind::Void => false,
        }
    }

    fn beats(&self, a: &Usage, b: &Usage) -> bool {
        let by_rule = match self.keep {
            Keep::First => false,
            Keep::Last => a.record > b.record,
            Keep::Greatest | Keep::Version => mark(a).rank > mark(b).rank,
        };
        if self.keep == Keep::Version {
            return by_rule;
        }
        match (self.reports(a), self.reports(b)) {
            (true, true) => by_rule,
            (true, false) => false,
            (false, true) => true,
            (false, false) if a.record.file() != b.record.file() => {
                a.record.file() > b.record.file()
            }
            (false, false) => match [a, b].map(|usage| mark(usage).kind == Kind::Restate) {
                [true, true] => by_rule,
                [true, false] => false,
                [false, true] => true,
                [false, false] => a.record > b.record,
            },
        }
    }

    /// Those that none of them beats, the first of them in front.
    fn best(&self, of: &[Arrived<'w>]) -> Vec<Arrived<'w>> {
        let unbeaten = |(_, a): &&Arrived<'w>| !of.iter().any(|(_, b)| self.beats(b, a));
        let mut best: Vec<_> = of.iter().filter(unbeaten).copied().collect();
        best.sort_by_key(|(arrival, usage)| {
            let arrives = self.keep == Keep::First && mark(usage).kind == Kind::Usage;
            (if arrives { *arrival } else { 0 }, usage.record)
        });
        // An excluded one steps behind, unless something newer than what it is equal to says so.
        let newest = best.iter().map(|(_, usage)| *usage);
        let newest = newest.max_by_key(|usage| usage.record);
        let newest = newest.filter(|newest| is_excluded(newest) && self.keep != Keep::First);
        let (mut front, behind): (Vec<_>, Vec<_>) = match newest {
            Some(newest) => best
                .into_iter()
                .partition(|(_, u)| u.record == newest.record),
            None => best.into_iter().partition(|(_, u)| !is_excluded(u)),
        };
        front.extend(behind);
        front
    }
}

/// Why `usage`, which no rule excludes, is not what its identity is charged for, and because of which record;
/// nothing if it is.
pub(super) fn outvoted(
    records: Vec<Arrived<'_>>,
    usage: &Usage,
    replaced: &[(FileId, FileId)],
) -> Option<(Reason, Option<RecordId>)> {
    let files: Vec<FileId> = records.iter().map(|(_, u)| u.record.file()).collect();
    // What the newest file in the place of its own has no more is gone.
    let is_gone = |usage: &Usage| {
        let mut newest = usage.record.file();
        while let Some((_, newer)) = replaced.iter().find(|(old, _)| *old == newest) {
            newest = *newer;
        }
        let marked = usage.mark.is_some();
        marked && !files.contains(&newest)
    };
    if is_gone(usage) {
        return Some((Reason::Voided, None));
    }
    let records: Vec<Arrived<'_>> = records.into_iter().filter(|(_, u)| !is_gone(u)).collect();
    let reported = records.iter().any(|(_, u)| mark(u).kind == Kind::Usage);
    let restated = records
        .iter()
        .filter(|(_, u)| mark(u).kind == Kind::Restate);
    let first_file = restated.map(|(_, u)| u.record.file()).min();
    if !reported && first_file.is_none() {
        return Some((Reason::OriginalMissing, None));
    }
    let keep = records
        .iter()
        .map(|(_, u)| mark(u).keep)
        .max()
        .unwrap_or_default();
    let dispute = Dispute {
        keep,
        first_file: first_file.filter(|_| !reported),
        records,
    };
    let top = dispute.best(&dispute.records);
    let (mut holds, mut below) = (top[0].1, dispute.records.clone());
    let mut layers = vec![top.clone()];
    loop {
        let layer = dispute.best(&below);
        below.retain(|(_, u)| !layer.iter().any(|(_, of)| of.record == u.record));
        if below.is_empty() {
            break;
        }
        layers.push(dispute.best(&below));
    }
    for layer in &layers[1..] {
        match same(layer[0].1, holds) {
            true => holds = layer[0].1,
            false => break,
        }
    }
    let original = layers
        .iter()
        .map(|layer| layer[0].1)
        .find(|u| dispute.reports(u));
    let original = original.unwrap_or(holds);
    let because = Some(holds.record);
    if usage.record == holds.record {
        let takes_out = mark(usage).kind == Kind::Void;
        return takes_out.then_some((Reason::Void, Some(original.record)));
    }
    let corrected = dispute.reports(usage) && !dispute.reports(holds);
    let in_top = top.iter().any(|(_, u)| u.record == usage.record);
    Some(if same(usage, holds) {
        (Reason::Duplicate, because)
    } else if in_top && !is_excluded(holds) {
        (Reason::Conflict, because)
    } else if corrected && usage.record == original.record {
        match mark(holds).kind {
            Kind::Void => (Reason::Voided, because),
            _ => (Reason::Amended, because),
        }
    } else if corrected && same(usage, original) {
        (Reason::Duplicate, because)
    } else if keep == Keep::First && dispute.reports(usage) && usage.record > holds.record {
        (Reason::Conflict, because)
    } else {
        (Reason::Superseded, because)
    })
}
