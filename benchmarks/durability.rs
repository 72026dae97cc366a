//! Scenarios on durable state: what commits cost a replay, how long a restart takes until the first new
//! commit, and what a second worker brings.
//!
//! The job is that of the `replay` scenario. How a restart is timed is said in [`crate::restart`].

use crate::figure::Figure;
use crate::live::to_f64;
use crate::replay::{Replayed, in_folder, replayed, write_world};
use crate::restart::{self, restart, write_durable_world};
use std::error::Error;
use std::path::Path;
use std::time::Duration;

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
    let off = replayed(folder, "plain.yaml", workers)?.elapsed;
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

    let restart = restart(folder, received, workers)?;
    restart::tell("recovery", records, restart, out);
    Ok(())
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
