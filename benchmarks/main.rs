//! The benchmarks of millrace: one binary, one scenario per run.
//!
//! `cargo run --profile dist -p millrace-benchmarks -- <scenario> [--records N] [--workers N] [--json]`

mod archive;
mod breadth;
mod charging;
mod durability;
mod figure;
mod kafka;
mod live;
mod process;
mod replay;
mod replay_plans;
mod restart;
mod world;

use clap::{Parser, ValueEnum};
use figure::Figure;
use live::Change;
use std::error::Error;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "Measures millrace; every scenario prints its figures, one line each")]
struct Arguments {
    /// What to measure.
    scenario: Scenario,
    /// Records of the largest state; smaller ones are measured too where a curve is asked for. Ten
    /// million unless given, three million of `kafka`, a hundred thousand of `breadth`.
    #[arg(long)]
    records: Option<u64>,
    /// Worker threads.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Print JSON lines.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Scenario {
    /// An archive replayed, Parquet in, monetised Parquet out, beside DuckDB.
    Replay,
    /// The same archive with allowances and tiers, beside the job without.
    ReplayPlans,
    /// Latency of a price change that touches 0.2 % of the records, as the state grows.
    PriceChange,
    /// Latency of an account's change of plan, as the state grows.
    AccountChange,
    /// Bytes per open record.
    Memory,
    /// Bytes per open record, where every record is charged in order.
    MemoryPlans,
    /// Many of one thing: classes, prices, versions, owners, parents, accounts with a plan; what each
    /// costs as there are twice as many, and again.
    Breadth,
    /// Latency of a late record in a balance group charged in order, as its history grows, beside a
    /// `reduce` that charges the history again.
    Late,
    /// Records in order over 100,000 balance groups.
    Append,
    /// One account of a closed period, rated again from its archive.
    Archive,
    /// Half of the records in 10 balance groups, in small epochs.
    Hot,
    /// What commits cost a replay, and how long a restart takes, as the state grows.
    Recovery,
    /// How long a killed job takes to its first new commit, as the state grows.
    RestartCurve,
    /// The replay with one worker and with two.
    Scale,
    /// Messages of 1 KB published to a Kafka broker on this machine, read, and decoded.
    KafkaClient,
    /// A job from topic to topics, exactly once: its speed, and how fresh its messages are.
    Kafka,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    millrace::allocator::settle_memory();
    if let Some(ended) = process::run_if_asked() {
        return Ok(ended);
    }
    measure(&Arguments::parse())?;
    Ok(ExitCode::SUCCESS)
}

fn measure(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut out = Figure {
        json: arguments.json,
    };
    let records = arguments.records.unwrap_or(match arguments.scenario {
        Scenario::Kafka => 3_000_000,
        Scenario::Breadth => 100_000,
        _ => 10_000_000,
    });
    let workers = arguments.workers;
    let sizes = [records / 10, records];
    let (name, change, sizes) = match arguments.scenario {
        Scenario::Replay => return replay::replay(records, workers, &mut out),
        Scenario::ReplayPlans => return replay_plans::replay_plans(records, workers, &mut out),
        Scenario::Recovery => return durability::recovery(records, workers, &mut out),
        Scenario::RestartCurve => return restart::curve(records, workers, &mut out),
        Scenario::Scale => return durability::scale(records, &mut out),
        Scenario::PriceChange => ("price-change", Change::Price, &sizes[..]),
        Scenario::AccountChange => ("account-change", Change::Account, &sizes[..]),
        Scenario::Memory => {
            charging::memory(records, &mut out);
            ("memory", Change::Nothing, &sizes[1..])
        }
        Scenario::MemoryPlans => ("memory-plans", Change::NothingOfPlans, &sizes[1..]),
        Scenario::Breadth => return breadth::breadth(records, workers, &mut out),
        Scenario::Archive => return archive::archive(records, workers, &mut out),
        Scenario::Late => return charging::late(records, &mut out),
        Scenario::Append => {
            charging::append(records, workers, &mut out);
            return Ok(());
        }
        Scenario::KafkaClient => return kafka::client(records, &mut out),
        Scenario::Kafka => return kafka::job(records, workers, &mut out),
        Scenario::Hot => {
            charging::hot(records / 10, workers, &mut out);
            return Ok(());
        }
    };
    for records in sizes {
        live::run(name, change, *records, workers, &mut out);
    }
    Ok(())
}
