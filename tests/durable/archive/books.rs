//! Usage, an archive of it, and what billing everything from scratch comes to.

use super::world::{ACCOUNTS, CATALOG};
use jiff::tz::TimeZone;
use millrace::adjust::{AdjustError, Adjusted, Adjustment, LateUsage, adjust};
use millrace::archive::{ArchiveSetting, Archiver};
use millrace::graph::{Open, Opening};
use millrace::present::Present;
use millrace::publish::EpochChanges;
use millrace::rerate::{Portion, Rater, lines};
use millrace::worker::Seat;
use millrace_connectors::archive::Archive;
use millrace_connectors::names::Names;
use millrace_connectors::output::{AggregatedLine, Texts};
use millrace_connectors::reference::{Reference, ReferenceFiles};
use millrace_connectors::store::Store;
use millrace_operators::aggregate::Dimension;
use millrace_operators::domain::{
    AggregateId, EventTime, FileId, IdentityBuilder, Item, LineKey, LineSum, Period, RecordId,
    Usage, UsageClass,
};
use millrace_tests::jobs::Desk;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

const DAY: i64 = 86_400_000_000;

/// Adds a line's sum, outside of any dataflow.
pub(crate) fn sum(into: &mut LineSum, other: &LineSum) {
    into.charges += other.charges;
    into.quantity = into.quantity.plus(other.quantity);
    into.amount = into.amount.plus(other.amount);
}

pub(crate) fn at(text: &str) -> EventTime {
    EventTime::from(text.parse::<jiff::Timestamp>().unwrap())
}

/// An archive, and what is needed to bill by it.
pub(crate) struct Books {
    pub(crate) desk: Desk,
    pub(crate) rater: Rater,
    pub(crate) reference: Reference,
    pub(crate) store: Arc<Store>,
    pub(crate) clock: EventTime,
}

fn rows(lines: BTreeMap<LineKey, LineSum>) -> Vec<AggregatedLine> {
    let line = |(key, sum)| AggregatedLine { key, sum };
    lines.into_iter().map(line).collect()
}

pub(crate) type Lines = BTreeMap<AggregateId, LineSum>;

impl Books {
    pub(crate) fn new() -> Self {
        let desk = Desk::new(&[("catalog.yaml", CATALOG), ("accounts.yaml", ACCOUNTS)]);
        let names = Arc::new(Names::default());
        let zone = names.enter("zone");
        let mut books = Self {
            store: Arc::new(Store::open("closed", &desk.at("")).unwrap()),
            rater: Rater {
                names,
                zone: TimeZone::UTC,
                dimensions: vec![Dimension::Attribute(zone), Dimension::Service],
                workers: 1,
            },
            reference: Reference::default(),
            clock: at("2026-04-20T00:00:00Z"),
            desk,
        };
        books.reference = books.load("catalog.yaml");
        books
    }

    pub(crate) fn load(&self, catalog: &str) -> Reference {
        let names = Arc::clone(&self.rater.names);
        let (catalog, accounts) = (self.desk.at(catalog), self.desk.at("accounts.yaml"));
        let mut files = ReferenceFiles::new(vec![catalog], vec![accounts], TimeZone::UTC, names);
        files.load().unwrap().reference
    }

    pub(crate) fn texts(&self) -> Texts {
        Texts {
            names: Arc::clone(&self.rater.names),
            files: Arc::new(RwLock::new(vec!["calls.csv".into(), "late.csv".into()])),
            lines: Arc::default(),
            dimensions: ["zone".to_owned(), "service".to_owned()]
                .into_iter()
                .zip(self.rater.dimensions.iter().copied())
                .collect(),
        }
    }

    pub(crate) fn usage(&self, call: Call) -> Usage {
        let names = &self.rater.names;
        let zone = ["home", "far"][usize::from(call.far)];
        let class = UsageClass {
            service_type: names.enter("voice"),
            attributes: vec![(names.enter("zone"), names.enter(zone))],
            items: std::iter::once(Item {
                name: names.enter("seconds"),
                scale: 0,
            })
            .collect(),
        };
        Usage {
            record: RecordId::new(FileId(u32::from(call.late)), call.n),
            identity: IdentityBuilder::default()
                .field(&call.n.to_le_bytes())
                .finish(),
            service: names.enter_service("voice", &format!("+{}", call.service)),
            class: names.enter_class(&class),
            time: EventTime(at("2026-01-01T00:00:00Z").0 + call.day * DAY + 7),
            quantities: std::iter::once(call.seconds).collect(),
            mark: None,
        }
    }

    /// What all of this usage is billed, from scratch.
    pub(crate) fn bill(&self, usage: &[Usage], reference: &Reference) -> Vec<AggregatedLine> {
        let rated = self
            .rater
            .rate(Period::ALWAYS, self.portion(usage, reference));
        rows(rated.lines)
    }

    pub(crate) fn portion(&self, usage: &[Usage], reference: &Reference) -> Portion {
        Portion {
            usage: usage.to_vec(),
            reference: reference.clone(),
            clock: self.clock,
            ..Portion::default()
        }
    }

    /// Archives what is closed of this usage.
    pub(crate) fn archive(&self, usage: &[Usage]) {
        let archiver = Archiver::new(ArchiveSetting {
            store: Arc::clone(&self.store),
            job: "calls".to_owned(),
            generation: None,
            zone: TimeZone::UTC,
            after: jiff::Span::new(),
            present: Present {
                at: self.clock,
                closes: true,
            },
            texts: self.texts(),
            closed: Arc::default(),
            state: None,
        });
        let archiver = Arc::new(archiver.unwrap());
        let (worker, reference) = (Arc::clone(&archiver), self.reference.clone());
        let portion = self.portion(usage, &self.reference);
        let harvest = move |open: &Open, seat: Seat, changes: &[EpochChanges]| {
            worker.work(open, seat, &rows(lines(changes)), &reference);
        };
        self.rater.run(portion, &Arc::<Opening>::default(), harvest);
        let archiver = Arc::into_inner(archiver).unwrap();
        archiver.commit(&self.reference).unwrap();
    }

    pub(crate) fn opened(&self) -> Archive {
        Archive::of(Arc::clone(&self.store)).unwrap()
    }

    pub(crate) fn adjust(
        &self,
        late: &[Usage],
        reference: &Reference,
    ) -> Result<Adjusted, AdjustError> {
        self.adjust_behind(late, reference, BTreeMap::new())
    }

    /// The same, where adjustments behind these numbers may have been cut off.
    pub(crate) fn adjust_behind(
        &self,
        late: &[Usage],
        reference: &Reference,
        ahead: BTreeMap<Period, u32>,
    ) -> Result<Adjusted, AdjustError> {
        // What was archived and given back is still of the file that it was read from.
        let was_archived = |record: RecordId| record.file() == FileId(0) && record.row() < 1_000;
        let late = late.iter().map(|usage| LateUsage {
            usage: usage.clone(),
            file: match was_archived(usage.record) {
                true => "calls.csv".into(),
                false => "late.csv".into(),
            },
        });
        adjust(Adjustment {
            archive: &self.opened(),
            names: Arc::clone(&self.rater.names),
            late: late.collect(),
            ahead,
            withdrawn: &[],
            taken_back: Vec::new(),
            is_billed_here: &|_| true,
            reference,
            clock: self.clock,
            workers: 1,
            generation: 0,
            state: None,
        })
    }

    /// Takes an adjustment back as if its run had ended before it was there.
    pub(crate) fn unwrite(&self, period: Period, sequence: u32) {
        let shown = |time: EventTime| time.timestamp().unwrap().strftime("%Y%m%dT%H%M%SZ");
        let (start, end) = (shown(period.start()), shown(period.end()));
        let manifest = format!("closed/periods/{start}-{end}/manifest-{sequence:04}.json");
        std::fs::remove_file(self.desk.at(&manifest)).unwrap();
    }

    /// What the archive says was billed, adjustments added.
    pub(crate) fn archived(&self) -> Lines {
        let archive = self.opened();
        let mut lines = Lines::new();
        for period in archive.periods() {
            let period = archive.period(period).unwrap();
            for shard in period.shards() {
                for line in period.lines(shard).unwrap() {
                    sum(lines.entry(line.id).or_default(), &line.sum);
                }
            }
        }
        lines.retain(|_, sum| *sum != LineSum::default());
        lines
    }

    /// What is billed of archived bill units, from scratch.
    pub(crate) fn expected(&self, usage: &[Usage], reference: &Reference) -> Lines {
        let archived: BTreeSet<Period> = self.opened().periods().collect();
        let closed = |line: &AggregatedLine| {
            let unit = Period::new(line.key.unit_start, line.key.unit_end).unwrap();
            archived.contains(&unit)
        };
        let lines = self.bill(usage, reference).into_iter().filter(closed);
        lines
            .map(|line| (line.key.aggregate_id(), line.sum))
            .collect()
    }

    /// Whether the bill unit of usage is archived: that of bulk is a quarter.
    pub(crate) fn is_archived(&self, usage: &Usage) -> bool {
        let bulk = self.rater.names.enter_service("voice", "+5");
        let is_quarter = |period: Period| period.end().0 - period.start().0 > 40 * DAY;
        let archive = self.opened();
        let mut periods = archive
            .periods()
            .filter(|period| period.contains(usage.time));
        periods.any(|period| is_quarter(period) == (usage.service == bulk))
    }
}

/// A call, for a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) n: u64,
    pub(crate) service: u8,
    pub(crate) day: i64,
    pub(crate) far: bool,
    pub(crate) seconds: i64,
    pub(crate) late: bool,
}
