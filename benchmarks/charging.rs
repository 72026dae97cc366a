//! Scenarios on ordered charging: a late record in a long history, records in order over many
//! groups, and a few groups that take half of the traffic.
//!
//! Every group has three resources: an allowance, an accumulator of units that decides the tier, and
//! an accumulator of money. `late` is timed around [`Group::apply`], which is all that the operator
//! does for one group; beside it a `reduce` of differential dataflow, which charges the group's
//! history again, on the same records, both from input to probe. `append` and `hot` are timed as
//! activations of the operator in a running dataflow, by its own log.

use crate::figure::Figure;
use crate::live::to_f64;
use crate::world::mix;
use differential_dataflow::consolidation::consolidate;
use differential_dataflow::input::Input;
use millrace_operators::charge::{
    ChargeInputs, EdgeCharged, Group, GroupChanges, Notice, Sink, Work, charge,
};
use millrace_operators::domain::*;
use millrace_operators::epoch::{Diff, Epoch, shard};
use millrace_operators::stats::NodeStats;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use timely::dataflow::ProbeHandle;
use timely::logging::{StartStop, TimelyEvent, TimelyEventBuilder};
use timely::worker::Worker;

/// Late records per size; the first half warms up.
const INSERTS: u64 = 2_000;
/// Late records of the comparison, which charges the whole history for each.
const PEER_INSERTS: u64 = 21;
const PEER_RECORDS: u64 = 100_000;
/// Microseconds of event time between two records.
const STEP: u64 = 10;

const GROUPS: u64 = 100_000;
const HOT_GROUPS: u64 = 10;
const APPEND_EPOCH: u64 = 65_536;
const HOT_EPOCH: u64 = 1_000;

/// What charging a group of a known size takes: an allowance, and three tiers of what it used.
#[derive(Clone, Copy)]
struct Offer {
    free: u64,
    tiers: [(u64, u64); 3],
}

impl Offer {
    /// A history of `records`, of 50 units each in the mean, uses all of it.
    fn of(records: u64) -> Self {
        Self {
            free: records * 5,
            tiers: [(0, 10), (records * 15, 8), (records * 35, 5)],
        }
    }

    /// The tiers, which all terms share, as those of one price row do.
    fn price(&self) -> Arc<[Tier]> {
        let tier = |(from, mills): &(u64, u64)| Tier {
            from: units(*from),
            price: Price::parse(&format!("{mills}e-3")).expect("digits are a price"),
            per: 1,
        };
        self.tiers.iter().map(tier).collect()
    }

    fn terms(tiers: &Arc<[Tier]>, group: u64) -> Arc<Terms> {
        let item = TermsItem {
            name: Name::new("call"),
            scale: 0,
            price: PriceKey(1),
            list: Name::new("standard"),
            model: PriceModel::Graduated {
                tiers: Arc::clone(tiers),
                by: TierReference::Accumulator(Name::new("used")),
            },
        };
        Arc::new(Terms {
            key: TermsKey(group.into()),
            group: GroupKey(group),
            service: ServiceKey(1),
            class: ClassKey(1),
            subscription: SubscriptionKey(1),
            account: AccountKey(1),
            profile: BillingProfile::default(),
            currency: Name::new("USD"),
            items: [item].into_iter().collect(),
        })
    }

    fn buckets(&self, group: u64) -> [Bucket; 3] {
        let counts = BucketKind::Accumulator {
            numerator: 1,
            denominator: 1,
        };
        let draws = BucketKind::Allowance { priority: 0 };
        let bucket = |key, resource, kind, measure, opening| Bucket {
            group: GroupKey(group),
            key: BucketKey(mix(group ^ key)),
            resource: Name::new(resource),
            kind,
            measure,
            items: Default::default(),
            valid: Period::ALWAYS,
            opening,
            thresholds: Default::default(),
        };
        [
            bucket(1, "free", draws, Measure::Units, units(self.free)),
            bucket(2, "used", counts, Measure::Units, 0),
            bucket(3, "spent", counts, Measure::Money, 0),
        ]
    }

    /// The same in ten lines, from the first record to the last: what the peer runs.
    fn charge_all(&self, lines: &[(&Line, Diff)], out: &mut Vec<((u64, i128), Diff)>) {
        let (mut free, mut used) = (self.free, 0);
        for ((_, record, quantity), _) in lines {
            let (mut left, mut mills) = (*quantity, 0);
            while left > 0 {
                let tier = self.tiers.iter().rposition(|(from, _)| *from <= used);
                let tier = tier.unwrap_or(0);
                let end = self.tiers.get(tier + 1).map_or(u64::MAX, |next| next.0);
                let here = left.min(end - used);
                let drawn = here.min(free);
                mills += (here - drawn) * self.tiers[tier].1;
                (free, used, left) = (free - drawn, used + here, left - here);
            }
            let amount = Amount::from_ratio(mills.into(), 3, 1).unwrap_or_default();
            out.push(((*record, amount.0), 1));
        }
    }
}

/// Time, record, quantity: what the peer knows of a record.
type Line = (i64, u64, u64);

fn line(time: u64, record: u64) -> Line {
    let time = i64::try_from(time).unwrap_or(i64::MAX);
    (time, record, mix(record) % 99 + 1)
}

fn usage(terms: &Arc<Terms>, (time, record, quantity): Line) -> PricedUsage {
    PricedUsage {
        time: EventTime(time),
        record: RecordId(record),
        terms: Arc::clone(terms),
        quantities: [i64::try_from(quantity).unwrap_or(0)].into_iter().collect(),
    }
}

fn units(whole: u64) -> i128 {
    let whole = i64::try_from(whole).unwrap_or(i64::MAX);
    Quantity::new(whole, 0).map_or(0, |quantity| quantity.0)
}

/// Counts what is told.
#[derive(Default)]
struct Count(u64);

impl Sink for Count {
    fn item(&mut self, _: &Charge, _: &[Impact], _: Diff) {
        self.0 += 1;
    }

    fn suspense(&mut self, _: &Suspense, _: Diff) {
        self.0 += 1;
    }

    fn edge(&mut self, _: &EdgeCharged, _: Diff) {
        self.0 += 1;
    }

    fn notice(&mut self, _: &Notice, _: Diff) {
        self.0 += 1;
    }
}

/// A group with a history of `records`, and the bytes that it held without.
fn history(records: u64, terms: &Arc<Terms>) -> (Group, usize) {
    let mut group = Group::new(GroupKey(1));
    let buckets = Offer::of(records).buckets(1);
    let changes = GroupChanges {
        buckets: buckets.into_iter().map(|bucket| (bucket, 1)).collect(),
        ..GroupChanges::default()
    };
    group.apply(changes, &mut Count::default());
    let empty = group.bytes();
    for from in (0..records).step_by(100) {
        let numbers = from..records.min(from + 100);
        let usage = numbers.map(|n| (usage(terms, line(n * STEP, n)), 1));
        let changes = GroupChanges {
            usage: usage.collect(),
            ..GroupChanges::default()
        };
        group.apply(changes, &mut Count::default());
    }
    (group, empty)
}

/// Where the late record `n` lies in a history of `records`.
fn late_line(records: u64, n: u64) -> Line {
    line(mix(n ^ 0x1a7e) % (records * STEP), records + n)
}

fn median(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let at = times.len() * percent / 100;
    times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

fn bytes_per_record(group: &Group, empty: usize, records: u64) -> f64 {
    let held = u64::try_from(group.bytes().saturating_sub(empty)).unwrap_or(0);
    to_f64(held) / to_f64(records)
}

/// Bytes of a record of one item in a group of three resources.
pub(crate) fn memory(records: u64, out: &mut Figure) {
    let terms = Offer::terms(&Offer::of(records).price(), 1);
    let (group, empty) = history(records, &terms);
    let bytes = bytes_per_record(&group, empty, records);
    out.plain(
        "memory",
        &format!("charge state at {records}"),
        bytes,
        "B/record",
    );
    let group_bytes = to_f64(u64::try_from(empty).unwrap_or(0));
    out.plain("memory", "charge state of a group", group_bytes, "B");
}

/// A late record, as the history grows from 1,000 records to `records`.
pub(crate) fn late(records: u64, out: &mut Figure) -> Result<(), Box<dyn std::error::Error>> {
    let mut n = 1_000;
    while n <= records {
        late_at(n, out);
        if n <= PEER_RECORDS {
            against_reduce(n, out)?;
        }
        n *= 10;
    }
    Ok(())
}

fn late_at(records: u64, out: &mut Figure) {
    let terms = Offer::terms(&Offer::of(records).price(), 1);
    let (mut group, empty) = history(records, &terms);
    let held = bytes_per_record(&group, empty, records);
    let (mut told, mut work) = (Count::default(), Work::default());
    let mut times = Vec::new();
    let inserts = INSERTS.min(records / 2);
    for n in 0..inserts {
        let changes = GroupChanges {
            usage: vec![(usage(&terms, late_line(records, n)), 1)],
            ..GroupChanges::default()
        };
        let started = Instant::now();
        let done = group.apply(changes, &mut told);
        if n >= inserts / 2 {
            times.push(started.elapsed());
        }
        work.replayed += done.replayed;
        work.nodes += done.nodes;
    }
    let mean = |count: u64| to_f64(count) / to_f64(inserts);
    let counted = |count: usize| mean(u64::try_from(count).unwrap_or(0));
    let figures = [
        ("late insert p50", median(&mut times, 50), "us"),
        ("late insert p99", median(&mut times, 99), "us"),
        ("records re-rated", counted(work.replayed), "records"),
        ("nodes looked at", counted(work.nodes), "nodes"),
        ("charges changed", mean(told.0), "differences"),
        ("state", held, "B/record"),
    ];
    for (figure, value, unit) in figures {
        out.plain("late", &format!("{figure} at {records}"), value, unit);
    }
}

/// Charges by record, with their differences.
type Told = Rc<RefCell<Vec<((u64, i128), Diff)>>>;

/// The operator and the peer on one history: times from input to probe, and all answers.
fn against_reduce(records: u64, out: &mut Figure) -> Result<(), Box<dyn std::error::Error>> {
    let (mut ours, mut theirs, equal) = timely::execute_directly(move |worker| {
        let (ours, answers) = (Told::default(), Told::default());
        let times = late_in_order(worker, records, &ours);
        let peer_times = late_in_reduce(worker, records, &answers);
        let (ours, answers) = (&mut *ours.borrow_mut(), &mut *answers.borrow_mut());
        consolidate(ours);
        consolidate(answers);
        let all = u64::try_from(ours.len()) == Ok(records + PEER_INSERTS);
        (times, peer_times, all && ours == answers)
    });
    let (ours, theirs) = (median(&mut ours, 50), median(&mut theirs, 50));
    out.against(
        ("late", &format!("input to probe p50 at {records}")),
        (ours, "us"),
        ("reduce", theirs / ours),
        equal,
    );
    if equal {
        Ok(())
    } else {
        Err("reduce and the operator disagree; see above".into())
    }
}

/// Sends a history and then late records, one by one, each timed until the probe has passed it.
fn timed_inserts(
    worker: &mut Worker,
    records: u64,
    probe: &ProbeHandle<Epoch>,
    mut insert: impl FnMut(Line),
    mut advance: impl FnMut(Epoch),
) -> Vec<Duration> {
    (0..records).for_each(|n| insert(line(n * STEP, n)));
    let mut times = Vec::new();
    for n in 0..=PEER_INSERTS {
        let epoch = n + 1;
        let started = Instant::now();
        advance(epoch);
        while probe.less_than(&epoch) {
            worker.step();
        }
        times.push(started.elapsed());
        if n < PEER_INSERTS {
            insert(late_line(records, n));
        }
    }
    times.remove(0); // the history itself
    times
}

fn late_in_order(worker: &mut Worker, records: u64, told: &Told) -> Vec<Duration> {
    let offer = Offer::of(records);
    let probe = ProbeHandle::new();
    let (mut usage_in, mut buckets_in, edges_in) = worker.dataflow::<Epoch, _, _>(|scope| {
        let (usage_in, usage) = scope.new_collection();
        let (buckets_in, buckets) = scope.new_collection();
        let (edges_in, edges) = scope.new_collection();
        let inputs = ChargeInputs {
            usage,
            buckets,
            edges,
        };
        let told = Rc::clone(told);
        let charged = charge(inputs, false, Arc::default());
        charged
            .charges
            .inspect(move |(charge, _, diff)| {
                let line = (charge.record.0, charge.amount.0);
                told.borrow_mut().push((line, *diff));
            })
            .probe_with(&probe);
        (usage_in, buckets_in, edges_in)
    });
    drop(edges_in);
    let buckets = offer.buckets(1);
    buckets.into_iter().for_each(|row| buckets_in.insert(row));
    drop(buckets_in);
    let terms = Offer::terms(&offer.price(), 1);
    let usage_in = RefCell::new(&mut usage_in);
    timed_inserts(
        worker,
        records,
        &probe,
        |line| usage_in.borrow_mut().insert(usage(&terms, line)),
        |epoch| {
            let mut usage_in = usage_in.borrow_mut();
            usage_in.advance_to(epoch);
            usage_in.flush();
        },
    )
}

fn late_in_reduce(worker: &mut Worker, records: u64, told: &Told) -> Vec<Duration> {
    let offer = Offer::of(records);
    let probe = ProbeHandle::new();
    let mut lines_in = worker.dataflow::<Epoch, _, _>(|scope| {
        let (lines_in, lines) = scope.new_collection::<(u64, Line), Diff>();
        let told = Rc::clone(told);
        lines
            .reduce(move |_, lines, out| offer.charge_all(lines, out))
            .inspect(move |((_, line), _, diff)| told.borrow_mut().push((*line, *diff)))
            .probe_with(&probe);
        lines_in
    });
    let lines_in = RefCell::new(&mut lines_in);
    timed_inserts(
        worker,
        records,
        &probe,
        |line| lines_in.borrow_mut().insert((1, line)),
        |epoch| {
            let mut lines_in = lines_in.borrow_mut();
            lines_in.advance_to(epoch);
            lines_in.flush();
        },
    )
}

/// Records in order, evenly over 100,000 groups: in a process that has just begun, whose memory the
/// system still has to find and clear, and once more in the memory that it then has.
pub(crate) fn append(records: u64, workers: usize, out: &mut Figure) {
    let first = in_order(records, workers, APPEND_EPOCH, false);
    let rates = in_order(records, workers, APPEND_EPOCH, false);
    let figure = format!("records/s per worker, {GROUPS} groups");
    out.plain("append", &figure, rates.records, "records/s");
    let figure = "records/s per worker, in memory never used before";
    out.plain("append", figure, first.records, "records/s");
    let figure = "groups created/s per worker, before the first record";
    out.plain("append", figure, rates.groups, "groups/s");
}

/// Half of the records in 10 of the groups, beside all of them evenly, in epochs of 1,000.
pub(crate) fn hot(records: u64, workers: usize, out: &mut Figure) {
    let even = in_order(records, workers, HOT_EPOCH, false).records;
    let hot = in_order(records, workers, HOT_EPOCH, true).records;
    let figure = format!("records/s per worker, epochs of {HOT_EPOCH}");
    out.plain("hot", &format!("even {figure}"), even, "records/s");
    out.plain("hot", &format!("hot {figure}"), hot, "records/s");
    out.plain("hot", "hot of even", hot / even, "ratio");
}

/// What the operator's activations come to per second, on one worker or in the mean of all.
#[derive(Clone, Copy, Default)]
struct Rates {
    /// Groups with their buckets, before any record.
    groups: f64,
    records: f64,
}

fn in_order(records: u64, workers: usize, epoch_records: u64, hot: bool) -> Rates {
    let config = timely::Config::process(workers);
    let guards = timely::execute(config, move |worker| {
        appended(worker, records, epoch_records, hot)
    })
    .expect("timely starts in one process");
    let share = 1.0 / to_f64(u64::try_from(workers).unwrap_or(1));
    let rates = guards.join().into_iter();
    rates.fold(Rates::default(), |mean, rates| {
        let rates = rates.expect("workers end well");
        Rates {
            groups: mean.groups + rates.groups * share,
            records: mean.records + rates.records * share,
        }
    })
}

fn appended(worker: &mut Worker, records: u64, epoch_records: u64, hot: bool) -> Rates {
    let busy = busy_time(worker, "charge");
    let probe = ProbeHandle::new();
    let stats = Arc::new(NodeStats::default());
    let counted = Arc::clone(&stats);
    let (mut usage_in, mut buckets_in, edges_in) = worker.dataflow::<Epoch, _, _>(|scope| {
        let (usage_in, usage) = scope.new_collection();
        let (buckets_in, buckets) = scope.new_collection();
        let (edges_in, edges) = scope.new_collection();
        let inputs = ChargeInputs {
            usage,
            buckets,
            edges,
        };
        charge(inputs, false, counted).charges.probe_with(&probe);
        (usage_in, buckets_in, edges_in)
    });
    drop(edges_in);
    let offer = Offer::of((records / GROUPS).max(1));
    let (index, peers) = (worker.index(), worker.peers());
    let own = |group: u64| usize::try_from(shard(group)).is_ok_and(|at| at % peers == index);
    let tiers = offer.price();
    let terms = (0..GROUPS).map(|n| Offer::terms(&tiers, mix(n)));
    let terms: Vec<Arc<Terms>> = terms.collect();
    let mut created = 0_u64;
    for terms in terms.iter().filter(|terms| own(terms.group.0)) {
        created += 1;
        let buckets = offer.buckets(terms.group.0);
        buckets.into_iter().for_each(|row| buckets_in.insert(row));
    }
    drop(buckets_in);
    let mut epoch = 1;
    usage_in.advance_to(epoch);
    usage_in.flush();
    while probe.less_than(&epoch) {
        worker.step();
    }
    let read = |worker: &Worker| {
        if let Some(log) = worker.logger_for::<TimelyEventBuilder>("timely") {
            log.flush();
        }
        busy.get()
    };
    let (started, mut sent) = (read(worker), 0_u64);
    for from in (0..records).step_by(usize::try_from(epoch_records).unwrap_or(1)) {
        for n in from..records.min(from + epoch_records) {
            let dice = mix(n ^ 0x5eed);
            let among = if hot && dice & 1 == 0 {
                HOT_GROUPS
            } else {
                GROUPS
            };
            let group = usize::try_from((dice >> 8) % among).unwrap_or(0);
            let terms = &terms[group];
            if own(terms.group.0) {
                usage_in.insert(usage(terms, line(n * STEP, n)));
                sent += 1;
            }
        }
        epoch += 1;
        usage_in.advance_to(epoch);
        usage_in.flush();
        while probe.less_than(&epoch) {
            worker.step();
        }
    }
    let busy = read(worker).saturating_sub(started);
    Rates {
        groups: to_f64(created) / started.as_secs_f64(),
        records: to_f64(sent) / busy.as_secs_f64(),
    }
}

/// The time that the operator of a name has run on this worker, from now on.
fn busy_time(worker: &Worker, name: &'static str) -> Rc<Cell<Duration>> {
    let busy = Rc::new(Cell::new(Duration::ZERO));
    let sum = Rc::clone(&busy);
    let (mut operator, mut since) = (None, Duration::ZERO);
    if let Some(mut log) = worker.log_register() {
        log.insert::<TimelyEventBuilder, _>("timely", move |_, events| {
            for (at, event) in events.iter().flatten() {
                match event {
                    TimelyEvent::Operates(event) if event.name == name => {
                        operator = Some(event.id);
                    }
                    TimelyEvent::Schedule(event) if Some(event.id) == operator => {
                        match event.start_stop {
                            StartStop::Start => since = *at,
                            StartStop::Stop => sum.set(sum.get() + at.saturating_sub(since)),
                        }
                    }
                    _ => {}
                }
            }
        });
    }
    busy
}
