//! How long a durable job that was killed takes until it commits something new.
//!
//! The job of the `replay` scenario runs as a process of its own, and is ended by `kill -9` when all
//! its records are committed. A file of 1,000 records more is there when it is started again; the time
//! is from that start to the commit of that file.

use crate::figure::Figure;
use crate::process::Process;
use crate::replay::{JOB, in_folder, write_usage, write_world};
use crate::world::World;
use millrace::durable::Manifest;
use millrace_connectors::names::Names;
use millrace_connectors::store::Store;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Records of a file that is read beside the archive.
const MORE: u64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(600);

/// A restart over a tenth, three tenths and all of the records.
pub(crate) fn curve(records: u64, workers: usize, out: &mut Figure) -> Result<(), Box<dyn Error>> {
    for records in [records / 10, records * 3 / 10, records] {
        in_folder(|folder| {
            let received = write_durable_world(folder, records)?;
            let restart = restart(folder, received, workers)?;
            tell("restart-curve", records, restart, out);
            Ok(())
        })?;
    }
    Ok(())
}

pub(crate) fn tell(scenario: &str, records: u64, restart: Duration, out: &mut Figure) {
    let figure = format!("kill to first new commit at {records}");
    out.plain(scenario, &figure, restart.as_secs_f64(), "s");
}

/// Writes a durable job and its data, the archive as one file of a folder; returns the records in it,
/// copies included.
pub(crate) fn write_durable_world(folder: &Path, records: u64) -> Result<u64, Box<dyn Error>> {
    let received = write_world(folder, records)?;
    fs::create_dir_all(folder.join("usage"))?;
    fs::rename(folder.join("usage.parquet"), folder.join("usage/a.parquet"))?;
    let plain = JOB.replace("path: usage.parquet", "path: usage");
    fs::write(folder.join("plain.yaml"), &plain)?;
    let durable = format!("{plain}durability: {{ folder: state }}\n");
    fs::write(folder.join("job.yaml"), durable)?;
    Ok(received)
}

/// Kills the job of the folder when it has committed `received` records and another file, and starts
/// it again; returns the time until it has committed one more.
pub(crate) fn restart(
    folder: &Path,
    received: u64,
    workers: usize,
) -> Result<Duration, Box<dyn Error>> {
    let more = |name: &str, records| {
        let world = World::new(records, &Names::default());
        write_usage(&folder.join("usage").join(name), &world)
    };
    let job = folder.join("job.yaml");
    let received = received + more("b.parquet", MORE)?;
    let mut process = Process::run(&job, workers, &["--watch"])?;
    wait(folder, received, &mut process)?;
    process.kill()?;
    // A file with the content of another would be refused.
    let received = received + more("c.parquet", MORE + 1)?;
    let mut process = Process::run(&job, workers, &["--watch"])?;
    wait(folder, received, &mut process)?;
    let elapsed = process.began().elapsed();
    process.kill()?;
    Ok(elapsed)
}

/// Waits until so many records are committed.
fn wait(folder: &Path, received: u64, process: &mut Process) -> Result<(), Box<dyn Error>> {
    let state = Store::open("state", folder)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A manifest is gone when fifteen others have come: then there is a newer one.
        let newest = Manifest::newest(&state).ok().flatten();
        match newest.map_or(0, |manifest| manifest.received) {
            committed if committed == received => return Ok(()),
            committed if committed > received || Instant::now() > deadline => {
                return Err(format!("{committed} records are committed, not {received}").into());
            }
            _ => {}
        }
        process.check()?;
        std::thread::sleep(Duration::from_millis(2));
    }
}
