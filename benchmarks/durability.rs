//! Scenarios on durable state: what commits cost a replay, how long a restart takes until the first new
//! commit, and what a second worker brings.
//!
//! The job is that of the `replay` scenario. A restart is timed from the call of `run` over state that
//! an earlier run has committed, with one more file of 1,000 records to read, until the commit of that
//! file is published.

use crate::figure::Figure;
use crate::live::to_f64;
use crate::replay::{JOB, Replayed, Silent, in_folder, replayed, write_usage, write_world};
use crate::world::World;
use millrace::listener::Listener;
use millrace::metrics::Metrics;
use millrace::run::{RunOptions, run};
use millrace_connectors::names::Names;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Records of the file that is read after a restart.
const MORE: u64 = 1_000;

/// Commit overhead and restart, over a tenth, three tenths and all of the records.
pub(crate) fn recovery(
    records: u64,
    workers: usize,
    out: &mut Figure,
) -> Result<(), Box<dyn Error>> {
    for records in [records / 10, records * 3 / 10, records] {
        in_folder(|folder| recovered(folder, records, workers, out))?;
    }
    Ok(())
}

fn recovered(
    folder: &Path,
    records: u64,
    workers: usize,
    out: &mut Figure,
) -> Result<(), Box<dyn Error>> {
    let received = write_world(folder, records)?;
    fs::create_dir_all(folder.join("usage"))?;
    fs::rename(folder.join("usage.parquet"), folder.join("usage/a.parquet"))?;
    let plain = JOB.replace("path: usage.parquet", "path: usage");
    fs::write(folder.join("job.yaml"), &plain)?;
    let off = replayed(folder, "job.yaml", workers)?.elapsed;
    fs::write(
        folder.join("job.yaml"),
        format!("{plain}durability: {{ folder: state }}\n"),
    )?;
    let Replayed {
        summary,
        elapsed: on,
        ..
    } = replayed(folder, "job.yaml", workers)?;
    if summary.records.monetised != records {
        return Err(format!("the durable replay lost records: {:?}", summary.records).into());
    }
    let rate = |elapsed: Duration| to_f64(received) / elapsed.as_secs_f64();
    let at = |figure: &str| format!("{figure} at {records}");
    out.plain(
        "recovery",
        &at("without durable state"),
        rate(off),
        "records/s",
    );
    out.plain(
        "recovery",
        &at("commits every second"),
        rate(on),
        "records/s",
    );
    let share = off.as_secs_f64() / on.as_secs_f64();
    out.plain("recovery", &at("throughput kept"), share * 100.0, "%");

    let world = World::new(MORE, &Names::default());
    write_usage(&folder.join("usage/b.parquet"), &world)?;
    let restart = restarted(folder, workers)?;
    out.plain(
        "recovery",
        &at("restart to first new commit"),
        restart.as_secs_f64(),
        "s",
    );
    Ok(())
}

/// The time from the start of a run to its first commit of something new.
fn restarted(folder: &Path, workers: usize) -> Result<Duration, Box<dyn Error>> {
    let options = RunOptions {
        workers: Some(workers),
        ..RunOptions::default()
    };
    let listener: Arc<dyn Listener> = Arc::new(Silent);
    let metrics = Metrics::new();
    let watched = Arc::clone(&metrics);
    let started = Instant::now();
    let watch = std::thread::spawn(move || {
        while watched.read().commit.number == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        started.elapsed()
    });
    run(
        &folder.join("job.yaml"),
        &options,
        &metrics,
        &listener,
        &Default::default(),
    )?;
    watch.join().map_err(|_| "the watch ends well".into())
}

/// The replay with one worker and with two.
pub(crate) fn scale(records: u64, out: &mut Figure) -> Result<(), Box<dyn Error>> {
    in_folder(|folder| {
        let received = write_world(folder, records)?;
        let mut rates = Vec::new();
        for workers in [1, 2] {
            let elapsed = replayed(folder, "job.yaml", workers)?.elapsed;
            let rate = to_f64(received) / elapsed.as_secs_f64();
            out.plain("scale", &format!("{workers} workers"), rate, "records/s");
            rates.push(rate);
        }
        out.plain("scale", "two workers of one", rates[1] / rates[0], "times");
        Ok(())
    })
}
