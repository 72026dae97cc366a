//! One account of a closed period of the archive, rated again: how much of the archive is read, and
//! how long it takes.
//!
//! The answer is checked first: the account comes to what it was billed, and to the sum of its records
//! by the price list, worked out here a second time.

use crate::figure::Figure;
use crate::world::{START, World, account_name, list_price};
use millrace::archive::{ArchiveSetting, Archiver};
use millrace::graph::{Open, Opening};
use millrace::present::Present;
use millrace::publish::EpochChanges;
use millrace::replay::{ReplayRequest, replay_archive};
use millrace::rerate::{Portion, Rater, lines};
use millrace::worker::Seat;
use millrace_connectors::archive::Archive;
use millrace_connectors::names::Names;
use millrace_connectors::output::{AggregatedLine, Texts};
use millrace_connectors::reference::Reference;
use millrace_connectors::store::Store;
use millrace_operators::domain::{Amount, EventTime, IdentityBuilder};
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::Instant;

/// Accounts asked for, each a run of its own; the first have more usage than most.
const ASKED: [u64; 5] = [0, 3, 17, 400, 9_000];
/// 2026-02-10: the month that the usage is of is over.
const CLOCK: EventTime = EventTime(START + 40 * 86_400_000_000);

pub(crate) fn archive(
    records: u64,
    workers: usize,
    out: &mut Figure,
) -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("millrace-archive-{}", std::process::id()));
    let begun = Instant::now();
    let world = write(records, workers, &folder)?;
    out.plain(
        "archive",
        "usage rated and archived",
        begun.elapsed().as_secs_f64(),
        "s",
    );
    let mut slowest: f64 = 0.0;
    let mut most: f64 = 0.0;
    let mut equal = true;
    for account in ASKED
        .into_iter()
        .filter(|account| *account < world.accounts)
    {
        let opened = Instant::now();
        let store = Arc::new(Store::open("closed", &folder)?);
        let archive = Archive::of(Arc::clone(&store))?;
        let request = ReplayRequest {
            names: vec![account_name(account)],
            workers: Some(workers),
            ..ReplayRequest::default()
        };
        let replayed = replay_archive(&archive, &request, &|_, _| {})?;
        let taken = opened.elapsed().as_secs_f64() * 1_000.0;
        let billed = replayed.totals.first().map(|total| total.billed.clone());
        equal &= replayed.is_equal() && replayed.records > 0;
        equal &= billed == Some(worked_out(&world, account).to_string());
        let period = archive.periods().next().ok_or("nothing was archived")?;
        let size = archive.period(period)?.size();
        slowest = slowest.max(taken);
        most = most.max(100.0 * float(store.bytes_read()) / float(size));
        let what = format!("one account of {} records", replayed.records);
        out.plain("archive", &what, taken, "ms");
    }
    std::fs::remove_dir_all(&folder)?;
    if !equal {
        return Err("the archive does not come to what its usage costs".into());
    }
    out.plain("archive", "one account, slowest", slowest, "ms");
    out.plain(
        "archive",
        "one account, most that is read",
        most,
        "% of the bytes",
    );
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "a figure has few digits")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

/// Rates the world's usage and archives the month.
fn write(records: u64, workers: usize, folder: &Path) -> Result<World, Box<dyn std::error::Error>> {
    let names = Arc::new(Names::default());
    let world = World::new(records, &names);
    let mut reference = Reference {
        prices: world.prices(&names),
        accounts: (0..world.accounts)
            .map(|n| world.account(n, &names))
            .collect(),
        subscriptions: (0..world.accounts)
            .map(|n| world.subscription(n, "standard", &names))
            .collect(),
        services: (0..world.services)
            .map(|n| world.service(n, &names))
            .collect(),
        ..Reference::default()
    };
    reference.prices.sort_unstable();
    let mut identity = IdentityBuilder::default();
    let usage = (0..records)
        .map(|n| world.usage(n, &mut identity))
        .collect();
    let files: Vec<Arc<str>> = vec!["usage.parquet".into()];
    let archiver = Arc::new(Archiver::new(ArchiveSetting {
        store: Arc::new(Store::open("closed", folder)?),
        job: "archive".to_owned(),
        generation: None,
        zone: jiff::tz::TimeZone::UTC,
        after: jiff::Span::new(),
        present: Present {
            at: CLOCK,
            closes: true,
        },
        texts: Texts {
            lines: Arc::default(),
            names: Arc::clone(&names),
            files: Arc::new(RwLock::new(files)),
            dimensions: Arc::default(),
        },
        closed: Arc::default(),
        state: None,
    })?);
    let rater = Rater {
        names,
        zone: jiff::tz::TimeZone::UTC,
        dimensions: Vec::new(),
        workers,
    };
    let portion = Portion {
        usage,
        reference: reference.clone(),
        clock: CLOCK,
        ..Portion::default()
    };
    let rows = |changes: &[EpochChanges]| -> Vec<AggregatedLine> {
        let line = |(key, sum)| AggregatedLine { key, sum };
        lines(changes).into_iter().map(line).collect()
    };
    let (worker, known) = (Arc::clone(&archiver), reference.clone());
    let harvest = move |open: &Open, seat: Seat, changes: &[EpochChanges]| {
        worker.work(open, seat, &rows(changes), &known);
    };
    rater.run(portion, &Arc::<Opening>::default(), harvest);
    let archiver = Arc::into_inner(archiver).ok_or("a worker still archives")?;
    archiver.commit(&reference)?;
    Ok(world)
}

/// What an account's usage costs by the price list.
fn worked_out(world: &World, account: u64) -> Amount {
    let own = |service: u64| service / 10 == account;
    let records = (0..world.records)
        .map(|n| world.raw(n))
        .filter(|raw| own(raw.service));
    let cents = records
        .map(|raw| i128::from(raw.tokens) * i128::from(list_price(raw.model)))
        .sum::<i128>();
    // Cents per million tokens are 10⁻⁸ of the currency.
    Amount::from_ratio(cents, 8, 1).unwrap_or_default()
}
