//! The `breadth` scenario: what there may be many of, and more of it than anybody has today. A job has
//! one thing in every number: classes of one service, prices and billing lines, versions of one price,
//! changes of who owns a service, subscriptions below each other, accounts with a plan. It is run over an
//! eighth, a quarter, a half and all of them, each with one record, so that the curve can be seen: what
//! one costs, and what twice as many cost. Each run is a process of its own, and its bill is checked.
//! At last it is asked what an account with a plan takes in a job that waits.

use crate::figure::Figure;
use crate::live::to_f64;
use crate::process::{Memory, Process};
use crate::replay::in_folder;
use crate::world::START;
use millrace_operators::domain::EventTime;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const JOB: &str = "\
name: breadth
time_zone: UTC
clock: 2026-01-31
sources:
  - name: gateway
    platform: gateway
    service_type: llm
    path: usage.csv
    mediation:
      columns: { at: timestamp, tokens: bigint }
      identity: position
      service: key
      time: at
      attributes: { model: model }
      charges: { tokens: tokens }
catalog: [catalog.yaml]
accounts: [accounts.yaml]
outputs:
  monetised: { changes: false }
  suspense: { changes: false }
  aggregated: { changes: false }
  raw_status: { changes: false, snapshot: false }
";

const BY_MODEL: &str = "billing: { aggregate_by: [model] }\n";

const ACCOUNTS: &str = "\
tables:
  - file: subscriptions.csv
    accounts: [ { id: account, currency: \"'USD'\" } ]
    subscriptions:
      - { id: id, account: account, parent: parent, price_list: \"'standard'\", from: \"'2026-01-01'\" }
  - file: services.csv
    services:
      - { service_type: \"'llm'\", service: key, subscription: subscription, from: begins, to: ends }
";

const PRICES: &str = "\
tables:
  - file: prices.csv
    prices: [ { list: \"'standard'\", item: \"'tokens'\", price: price, from: begins, to: ends } ]
";

const PRICES_BY_MODEL: &str = "\
tables:
  - file: prices.csv
    prices: [ { list: \"'standard'\", item: \"'tokens'\", when: { model: model }, price: price } ]
";

const COUNTED: &str = "\
plans:
  - from: 2026-01-01
    accumulators: [ { id: total, items: [tokens] } ]
";

const PLANNED: &str = "\
plans:
  - from: 2026-01-01
    allowances: [ { id: included, items: [tokens], units: 1 } ]
    accumulators: [ { id: total, items: [tokens] } ]
";

const SUBSCRIBED: &str = "\
plans:
  - from: 2026-01-01
    allowances: [ { id: included, items: [tokens], units: 1 } ]
    charges: [ { item: fee, amount: 5, when: advance } ]
";

/// Of so many accounts one has usage, where it is not usage that is looked at.
const IDLE: u64 = 100;

/// Services where their number is not what is looked at.
const SERVICES: u64 = 100;

/// A job over so many things, and what it must come to.
struct World {
    job: String,
    catalog: String,
    usage: String,
    subscriptions: String,
    services: String,
    prices: String,
    lines: u64,
    /// Whole USD.
    amount: u64,
}

/// What there is many of, and how a world of so many is made.
type Axis = (&'static str, fn(u64) -> World);

const AXES: [Axis; 6] = [
    ("classes of one service", classes),
    ("classes, prices and lines", prices),
    ("versions of one price", versions),
    ("owners of one service", owners),
    ("subscriptions in a chain", chain),
    ("accounts with a plan", accounts),
];

/// Every axis, up to so many.
pub(crate) fn breadth(
    largest: u64,
    workers: usize,
    out: &mut Figure,
) -> Result<(), Box<dyn Error>> {
    for (axis, world) in AXES {
        let mut runs: Vec<Run> = Vec::new();
        for parts in [8, 4, 2, 1] {
            let number = (largest / parts).max(1);
            let run = in_folder(|folder| run(folder, number, &world(number), workers))?;
            let each = run.seconds * 1e6 / to_f64(number);
            out.plain("breadth", &format!("{axis}, {number}"), each, "us each");
            if let Some(half) = runs.last() {
                let ratio = run.seconds / half.seconds;
                let figure = format!("{axis}, {number} of half as many");
                out.plain("breadth", &figure, ratio, "times");
            }
            runs.push(run);
        }
        // What more of them take, so that what the process takes by itself is no part of it.
        if let [first, .., last] = &runs[..] {
            let more = last.number.saturating_sub(first.number).max(1);
            let bytes = to_f64(last.peak.saturating_sub(first.peak)) / to_f64(more);
            out.plain(
                "breadth",
                &format!("{axis}, memory at the peak"),
                bytes,
                "B each",
            );
        }
    }
    resting(largest, workers, out)
}

/// What an account with a plan takes in a job that has read everything and waits for more: an account, a
/// subscription and a service, an allowance in two cycles, a fee charged, and its billing line.
fn resting(largest: u64, workers: usize, out: &mut Figure) -> Result<(), Box<dyn Error>> {
    let rest = |number: u64| in_folder(|folder| rest(folder, number, workers));
    let few = (largest / 4).max(1);
    let (small, large) = (rest(few)?, rest(largest)?);
    let more = to_f64(largest.saturating_sub(few).max(1));
    for (name, small, large) in [
        ("at rest", small.resident, large.resident),
        ("at the peak while it starts", small.peak, large.peak),
    ] {
        let figure = format!("accounts with an allowance and a fee, memory {name}");
        let bytes = to_f64(large.saturating_sub(small)) / more;
        out.plain("breadth", &figure, bytes, "B each");
    }
    Ok(())
}

fn rest(folder: &Path, number: u64, workers: usize) -> Result<Memory, Box<dyn Error>> {
    let used = number.div_ceil(IDLE);
    let world = World {
        catalog: format!("currency: USD\n{PRICES}{SUBSCRIBED}"),
        usage: usage(used, |n| n, |_| 0, 2),
        lines: number + used,
        // One of the two tokens is free.
        amount: 5 * number + used,
        ..accounts(number)
    };
    write(folder, &world)?;
    let mut process = Process::watch(&folder.join("job.yaml"), workers)?;
    let memory = process.at_rest()?;
    check(&process.stop()?.summary, used, &world)?;
    Ok(memory)
}

struct Run {
    number: u64,
    seconds: f64,
    /// Bytes.
    peak: u64,
}

fn write(folder: &Path, world: &World) -> Result<(), Box<dyn Error>> {
    for (name, text) in [
        ("job.yaml", world.job.as_str()),
        ("catalog.yaml", world.catalog.as_str()),
        ("accounts.yaml", ACCOUNTS),
        ("usage.csv", world.usage.as_str()),
        ("subscriptions.csv", world.subscriptions.as_str()),
        ("services.csv", world.services.as_str()),
        ("prices.csv", world.prices.as_str()),
    ] {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}

fn run(folder: &Path, number: u64, world: &World, workers: usize) -> Result<Run, Box<dyn Error>> {
    write(folder, world)?;
    let process = Process::run(&folder.join("job.yaml"), workers, &[])?;
    let (ended, peak) = process.end_with_peak()?;
    check(&ended.summary, number, world)?;
    Ok(Run {
        number,
        seconds: ended.elapsed.as_secs_f64(),
        peak,
    })
}

/// Whether a job says what it must.
fn check(summary: &serde_json::Value, records: u64, world: &World) -> Result<(), Box<dyn Error>> {
    let amount = summary["totals"][0]["amount"].as_str().unwrap_or_default();
    let (whole, decimals) = amount.split_once('.').unwrap_or((amount, ""));
    let is_right = summary["records"]["monetised"].as_u64() == Some(records)
        && summary["lines"].as_u64() == Some(world.lines)
        && whole == world.amount.to_string()
        && decimals.bytes().all(|digit| digit == b'0');
    match is_right {
        true => Ok(()),
        false => Err(format!(
            "{records} records, {} lines and {} USD are expected: {summary}",
            world.lines, world.amount
        )
        .into()),
    }
}

/// Second `n` of the month.
fn second(n: u64) -> EventTime {
    let micros = i64::try_from(n).unwrap_or(i64::MAX / 1_000_000);
    EventTime(START + micros * 1_000_000)
}

/// The price of thing `n`, in USD.
fn price(n: u64) -> u64 {
    n % 7 + 1
}

/// A table: its columns, and a row of each thing.
fn table(columns: &str, number: u64, row: impl Fn(u64) -> String) -> String {
    let mut table = format!("{columns}\n");
    for n in 0..number {
        let written = writeln!(table, "{}", row(n));
        written.expect("a text takes any row");
    }
    table
}

/// One record of each thing, at a second of its own: a token of a service and a model.
fn usage(number: u64, key: impl Fn(u64) -> u64, model: impl Fn(u64) -> u64, tokens: u64) -> String {
    table("key,model,at,tokens", number, |n| {
        format!("key-{},model-{},{},{tokens}", key(n), model(n), second(n))
    })
}

impl World {
    /// `number` records of one service, class, price and line, at 1 USD each.
    fn plain(number: u64) -> Self {
        Self {
            job: JOB.to_owned(),
            catalog: format!("currency: USD\n{PRICES}"),
            usage: usage(number, |_| 0, |_| 0, 1),
            subscriptions: "id,account,parent\nsub-0,acct-0,\n".to_owned(),
            services: "key,subscription,begins,ends\nkey-0,sub-0,,\n".to_owned(),
            prices: "price,begins,ends\n1,,\n".to_owned(),
            lines: 1,
            amount: number,
        }
    }
}

fn classes(number: u64) -> World {
    World {
        usage: usage(number, |_| 0, |n| n, 1),
        ..World::plain(number)
    }
}

fn prices(number: u64) -> World {
    World {
        job: format!("{JOB}{BY_MODEL}"),
        catalog: format!("currency: USD\n{PRICES_BY_MODEL}"),
        usage: usage(number, |n| n % SERVICES, |n| n, 1),
        services: table("key,subscription,begins,ends", SERVICES, |n| {
            format!("key-{n},sub-0,,")
        }),
        prices: table("model,price", number, |n| format!("model-{n},{}", price(n))),
        lines: number,
        amount: (0..number).map(price).sum(),
        ..World::plain(number)
    }
}

fn versions(number: u64) -> World {
    World {
        prices: table("price,begins,ends", number, |n| {
            format!("{},{},{}", price(n), second(n), second(n + 1))
        }),
        amount: (0..number).map(price).sum(),
        ..World::plain(number)
    }
}

fn owners(number: u64) -> World {
    World {
        subscriptions: table("id,account,parent", number, |n| {
            format!("sub-{n},acct-{n},")
        }),
        services: table("key,subscription,begins,ends", number, |n| {
            format!("key-0,sub-{n},{},{}", second(n), second(n + 1))
        }),
        lines: number,
        ..World::plain(number)
    }
}

fn chain(number: u64) -> World {
    World {
        catalog: format!("currency: USD\n{PRICES}{COUNTED}"),
        usage: usage(number, |n| n, |_| 0, 1),
        subscriptions: table("id,account,parent", number, |n| match n.checked_sub(1) {
            Some(above) => format!("sub-{n},acct-0,sub-{above}"),
            None => format!("sub-{n},acct-0,"),
        }),
        services: own_services(number),
        ..World::plain(number)
    }
}

fn accounts(number: u64) -> World {
    World {
        catalog: format!("currency: USD\n{PRICES}{PLANNED}"),
        // One of them is free.
        usage: usage(number, |n| n, |_| 0, 2),
        subscriptions: table("id,account,parent", number, |n| {
            format!("sub-{n},acct-{n},")
        }),
        services: own_services(number),
        lines: number,
        ..World::plain(number)
    }
}

fn own_services(number: u64) -> String {
    table("key,subscription,begins,ends", number, |n| {
        format!("key-{n},sub-{n},,")
    })
}
