//! The `replay` scenario: an archive of usage, Parquet in, monetised Parquet out, through a whole job;
//! beside it DuckDB computing the same bill from scratch over the same files.
//!
//! One record in a thousand is sent twice. Both sides drop the copies, look up who pays, price at the
//! list in force, write every monetised record with its account, price and amount as Parquet, and add
//! up billing lines. The answers are compared, line by line, before the times are.

use crate::figure::Figure;
use crate::live::{resident_bytes, to_f64};
use crate::world::{World, account_name, list_price, mix, model_name, service_name};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use millrace::listener::{ChangeReport, Listener};
use millrace::metrics::Metrics;
use millrace::report::Summary;
use millrace::run::{RunOptions, run};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::names::Names;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PEER: &str = include_str!("replay.py");

/// The job file.
pub(crate) const JOB: &str = "\
name: replay
time_zone: UTC
sources:
  - name: archive
    platform: gateway
    service_type: llm
    path: usage.parquet
    mediation: mediation.yaml
catalog: [catalog.yaml]
accounts: [accounts.yaml]
billing: { aggregate_by: [model] }
epoch: { rows: 524288 }
outputs:
  monetised: { changes: false }
  suspense: { changes: false }
  aggregated: { changes: false }
  raw_status: { changes: false, snapshot: false }
";

pub(crate) const MEDIATION: &str = "\
identity: [id]
service: key
time: at
attributes: { model: model }
charges: { tokens: tokens }
";

const CATALOG: &str = "\
currency: USD
tables:
  - file: prices.csv
    prices:
      - { list: \"'standard'\", item: \"'tokens'\", when: { model: model }, price: price, per: \"1000000\" }
";

const ACCOUNTS: &str = "\
tables:
  - file: services.csv
    services: [ { service_type: \"'llm'\", service: key, subscription: account } ]
  - file: accounts.csv
    accounts: [ { id: account, currency: \"'USD'\" } ]
    subscriptions: [ { id: account, account: account, price_list: \"'standard'\", from: \"'2026-01-01'\" } ]
";

/// Runs the scenario in a folder of its own below the system's temporary folder.
pub(crate) fn replay(records: u64, workers: usize, out: &mut Figure) -> Result<(), Box<dyn Error>> {
    in_folder(|folder| measured(folder, records, workers, out))
}

/// Gives `work` a folder that is gone afterwards.
pub(crate) fn in_folder<T>(
    work: impl FnOnce(&Path) -> Result<T, Box<dyn Error>>,
) -> Result<T, Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("millrace-replay-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let result = work(&folder);
    fs::remove_dir_all(&folder)?;
    result
}

fn measured(
    folder: &Path,
    records: u64,
    workers: usize,
    out: &mut Figure,
) -> Result<(), Box<dyn Error>> {
    let received = write_world(folder, records)?;
    let Replayed {
        summary,
        elapsed,
        peak,
    } = replayed(folder, "job.yaml", workers)?;
    if summary.records.monetised != records || !summary.ties_out {
        return Err(format!("the replay lost records: {:?}", summary.records).into());
    }
    let peer = peer(folder, workers)?;
    let rate = |seconds: f64| to_f64(received) / seconds;
    let ours = elapsed.as_secs_f64();
    out.against(
        (
            "replay",
            &format!("records/s at {records}, {workers} workers"),
        ),
        (rate(ours), "records/s"),
        ("DuckDB", peer.seconds / ours),
        peer.equal,
    );
    out.plain("replay", &format!("wall at {records}"), ours, "s");
    out.plain(
        "replay",
        &format!("DuckDB wall at {records}"),
        peer.seconds,
        "s",
    );
    out.plain(
        "replay",
        &format!("peak resident at {records}"),
        to_f64(peak) / to_f64(records),
        "B/record",
    );
    if peer.equal {
        Ok(())
    } else {
        Err("DuckDB and the job disagree; see above".into())
    }
}

struct Peer {
    seconds: f64,
    equal: bool,
}

fn peer(folder: &Path, workers: usize) -> Result<Peer, Box<dyn Error>> {
    let python = python()?;
    let script = folder.join("replay.py");
    fs::write(&script, PEER)?;
    let answer = Command::new(python)
        .arg(script)
        .arg(folder)
        .arg(workers.to_string())
        .output()?;
    if !answer.status.success() {
        return Err(String::from_utf8_lossy(&answer.stderr).into_owned().into());
    }
    let answer: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
    Ok(Peer {
        seconds: answer["seconds"]
            .as_f64()
            .ok_or("the peer prints its seconds")?,
        equal: answer["equal"]
            .as_bool()
            .ok_or("the peer compares the answers")?,
    })
}

/// A Python with DuckDB, set up once beside the build.
fn python() -> Result<PathBuf, Box<dyn Error>> {
    let beside = std::env::current_exe()?;
    let target = beside
        .ancestors()
        .nth(2)
        .ok_or("the binary lies in a target folder")?;
    let home = target.join("duckdb-venv");
    let python = home.join("bin/python");
    if !python.exists() {
        let made = Command::new("python3")
            .args(["-m", "venv"])
            .arg(&home)
            .status()?;
        let pip = ["-m", "pip", "install", "--quiet", "duckdb"];
        if !made.success() || !Command::new(&python).args(pip).status()?.success() {
            return Err("DuckDB cannot be installed with pip; the replay has no peer".into());
        }
    }
    Ok(python)
}

/// What a job came to, how long it took, and by how many bytes it grew at its peak.
pub(crate) struct Replayed {
    pub(crate) summary: Summary,
    pub(crate) elapsed: Duration,
    pub(crate) peak: u64,
}

/// Runs a job of the folder to its end.
pub(crate) fn replayed(
    folder: &Path,
    job: &str,
    workers: usize,
) -> Result<Replayed, Box<dyn Error>> {
    let options = RunOptions {
        workers: Some(workers),
        ..RunOptions::default()
    };
    let listener: Arc<dyn Listener> = Arc::new(Silent);
    let before = resident_bytes();
    let over = Arc::new(AtomicBool::new(false));
    let peak = Arc::new(AtomicU64::new(0));
    let watch = {
        let (over, peak) = (Arc::clone(&over), Arc::clone(&peak));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                peak.fetch_max(resident_bytes(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
        })
    };
    let started = Instant::now();
    let job = folder.join(job);
    let summary = run(
        &job,
        &options,
        &Metrics::new(),
        &listener,
        &Default::default(),
    );
    let elapsed = started.elapsed();
    over.store(true, Ordering::Relaxed);
    watch.join().map_err(|_| "the memory watch ends well")?;
    Ok(Replayed {
        summary: summary?,
        elapsed,
        peak: peak.load(Ordering::Relaxed).saturating_sub(before),
    })
}

pub(crate) struct Silent;

impl Listener for Silent {
    fn message(&self, _: &str) {}
    fn warned(&self, _: &[Diagnostic]) {}
    fn rejected(&self, _: &[Diagnostic]) {}
    fn changed(&self, _: &ChangeReport) {}
    fn settled(&self) {}
}

/// Writes the job and its data; returns the records in the archive, copies included.
pub(crate) fn write_world(folder: &Path, records: u64) -> Result<u64, Box<dyn Error>> {
    fs::write(folder.join("job.yaml"), JOB)?;
    let world = World::new(records, &Names::default());
    write_reference(folder, &world)?;
    write_usage(&folder.join("usage.parquet"), &world)
}

/// Writes mediation rule, catalog and accounts of the job.
pub(crate) fn write_reference(folder: &Path, world: &World) -> Result<(), Box<dyn Error>> {
    let files = [
        ("mediation.yaml", MEDIATION),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
    ];
    for (name, text) in files {
        fs::write(folder.join(name), text)?;
    }
    let mut prices = String::from("model,price\n");
    for model in 0..500 {
        let cents = list_price(model);
        writeln!(
            prices,
            "{},{}.{:02}",
            model_name(model),
            cents / 100,
            cents % 100
        )?;
    }
    fs::write(folder.join("prices.csv"), prices)?;
    let mut accounts = String::from("account\n");
    for n in 0..world.accounts {
        writeln!(accounts, "{}", account_name(n))?;
    }
    fs::write(folder.join("accounts.csv"), accounts)?;
    let mut services = String::from("key,account\n");
    for n in 0..world.services {
        writeln!(services, "{},{}", service_name(n), account_name(n / 10))?;
    }
    fs::write(folder.join("services.csv"), services)?;
    Ok(())
}

pub(crate) fn write_usage(path: &Path, world: &World) -> Result<u64, Box<dyn Error>> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .build();
    let mut writer: Option<ArrowWriter<File>> = None;
    let mut received = 0;
    let mut from = 0;
    while from < world.records {
        let to = (from + 65_536).min(world.records);
        let copied = |n: &u64| mix(*n ^ 0xd0b1e).is_multiple_of(1_000);
        // Copies are sent a little later, with the next batch of their senders.
        let copies = (from.saturating_sub(65_536)..from).filter(copied);
        let last = (from..to).filter(|n| to == world.records && copied(n));
        let numbers: Vec<u64> = (from..to).chain(copies).chain(last).collect();
        received += u64::try_from(numbers.len())?;
        let raws: Vec<_> = numbers.iter().map(|n| world.raw(*n)).collect();
        let ids: Int64Array = numbers.iter().map(|n| i64::try_from(*n).ok()).collect();
        let at: TimestampMicrosecondArray = raws.iter().map(|raw| Some(raw.time)).collect();
        let keys = raws.iter().map(|raw| service_name(raw.service));
        let models = raws.iter().map(|raw| model_name(raw.model));
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(ids) as ArrayRef),
            ("key", Arc::new(StringArray::from_iter_values(keys))),
            ("model", Arc::new(StringArray::from_iter_values(models))),
            ("at", Arc::new(at.with_timezone("UTC"))),
            (
                "tokens",
                Arc::new(Int64Array::from_iter_values(
                    raws.iter().map(|raw| raw.tokens),
                )),
            ),
        ])?;
        let writer = match &mut writer {
            Some(writer) => writer,
            None => writer.insert(ArrowWriter::try_new(
                File::create(path)?,
                batch.schema(),
                Some(properties.clone()),
            )?),
        };
        writer.write(&batch)?;
        from = to;
    }
    if let Some(writer) = writer {
        writer.close()?;
    }
    Ok(received)
}
