//! Scenarios on durable state: what commits cost a replay, how long a restart takes until the first new
//! commit, and what a second worker brings.
//!
//! The job is that of the `replay` scenario. How a restart is timed is said in [`crate::restart`].

use crate::figure::Figure;
use crate::live::to_f64;
use crate::process::Process;
use crate::replay::{Replayed, in_folder, replayed, write_world};
use crate::restart::{self, restart, write_durable_world};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Runs of each kind, of which the median is told.
const RUNS: usize = 5;

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
    let received = write_durable_world(folder, records)?;
    // In turns, as a machine is now faster and now slower.
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        off.push(replayed(folder, "plain.yaml", workers)?.elapsed);
        let state = folder.join("state");
        if state.exists() {
            fs::remove_dir_all(state)?;
        }
        let Replayed {
            summary, elapsed, ..
        } = replayed(folder, "job.yaml", workers)?;
        if summary.records.monetised != records {
            return Err(format!("the durable replay lost records: {:?}", summary.records).into());
        }
        on.push(elapsed);
    }
    let pairs = off.iter().zip(&on);
    let mut shares: Vec<f64> = pairs
        .map(|(off, on)| off.as_secs_f64() / on.as_secs_f64())
        .collect();
    shares.sort_by(f64::total_cmp);
    off.sort();
    on.sort();
    let median = RUNS / 2;
    let (off, on, share) = (off[median], on[median], shares[median]);
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
    out.plain("recovery", &at("throughput kept"), share * 100.0, "%");

    let restart = restart(folder, received, workers)?;
    restart::tell("recovery", records, restart, out);
    Ok(())
}

/// The replay with one worker and with two. Whoever reads and publishes has threads of its own, so one
/// worker alone keeps more than one core busy: that is told, and one worker with all of it on one core is
/// measured beside it.
pub(crate) fn scale(records: u64, out: &mut Figure) -> Result<(), Box<dyn Error>> {
    in_folder(|folder| {
        let received = write_world(folder, records)?;
        let job = folder.join("job.yaml");
        let mut measured = |name: &str, process: Process| -> Result<f64, Box<dyn Error>> {
            let ended = process.end()?;
            let seconds = ended.elapsed.as_secs_f64();
            let rate = to_f64(received) / seconds;
            out.plain("scale", name, rate, "records/s");
            let busy = ended.processor / seconds;
            out.plain("scale", &format!("{name}, busy"), busy, "cores");
            Ok(rate)
        };
        let on_one = measured("1 worker on one core", Process::run_on_one_core(&job, 1)?)?;
        let one = measured("1 worker", Process::run(&job, 1, &[])?)?;
        let two = measured("2 workers", Process::run(&job, 2, &[])?)?;
        out.plain("scale", "two workers of one", two / one, "times");
        let cores = "two workers on two cores of one on one";
        out.plain("scale", cores, two / on_one, "times");
        Ok(())
    })
}
