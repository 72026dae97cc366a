//! The `replay-plans` scenario: the archive of `replay` once more, with plans. Every account has a
//! monthly allowance and three tiers that it climbs by what it has used this month, so that each
//! record's price depends on all before it. Beside it the same archive without plans, in the same run.
//!
//! The bill is compared, line by line, with a fold over the records of each account in order of time,
//! which shares no code with the engine, before the times are. Each job is run twice, in turns, and
//! the better time counts: the first run of a process pays for its memory.

use crate::figure::Figure;
use crate::live::to_f64;
use crate::replay::{JOB, Replayed, in_folder, replayed, write_world};
use crate::world::{FREE_TOKENS, TIERS, World, account_name, list_price, model_name};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use millrace_connectors::names::Names;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

const ROUNDS: u32 = 2;

/// What the job writes beside the outputs of `replay`: balances and notices, but no row per impact.
const OUTPUTS: &str = "  impacts: { changes: false, snapshot: false }
  activity: { changes: false }
  notices: { changes: false }
";

const PLANS: &str = "\
currency: USD
plans:
  - from: 2026-01-01
    accumulators: [{ id: total, items: [tokens] }]
";

/// Runs the scenario in a folder of its own below the system's temporary folder.
pub(crate) fn replay_plans(
    records: u64,
    workers: usize,
    out: &mut Figure,
) -> Result<(), Box<dyn Error>> {
    in_folder(|folder| measured(folder, records, workers, out))
}

fn measured(
    folder: &Path,
    records: u64,
    workers: usize,
    out: &mut Figure,
) -> Result<(), Box<dyn Error>> {
    let received = write_world(folder, records)?;
    write_plans(folder)?;
    let whole = |run: &Replayed| match run.summary.records.monetised == records {
        true if run.summary.ties_out => Ok(()),
        _ => Err(format!(
            "the replay lost records: {:?}",
            run.summary.records
        )),
    };
    let (mut plans, mut plain) = (Duration::MAX, Duration::MAX);
    let (mut equal, mut peak) = (true, 0);
    for _ in 0..ROUNDS {
        let run = replayed(folder, "plans-job.yaml", workers)?;
        whole(&run)?;
        plans = plans.min(run.elapsed);
        peak = peak.max(run.peak);
        equal &= bill_is(folder, expected(&World::new(records, &Names::default())))?;
        let run = replayed(folder, "job.yaml", workers)?;
        whole(&run)?;
        plain = plain.min(run.elapsed);
    }
    let rate = |elapsed: Duration| to_f64(received) / elapsed.as_secs_f64();
    out.against(
        (
            "replay-plans",
            &format!("records/s at {records}, {workers} workers"),
        ),
        (rate(plans), "records/s"),
        (
            "the rate without plans",
            plain.as_secs_f64() / plans.as_secs_f64(),
        ),
        equal,
    );
    let figures = [
        ("without plans", rate(plain), "records/s"),
        ("wall", plans.as_secs_f64(), "s"),
        ("wall without plans", plain.as_secs_f64(), "s"),
        ("peak resident", to_f64(peak) / to_f64(records), "B/record"),
    ];
    for (figure, value, unit) in figures {
        out.plain(
            "replay-plans",
            &format!("{figure} at {records}"),
            value,
            unit,
        );
    }
    match equal {
        true => Ok(()),
        false => Err("the job and the fold disagree".into()),
    }
}

/// The job of `replay` with plans: an allowance and an accumulator, and tiers of each model's price.
fn write_plans(folder: &Path) -> Result<(), Box<dyn Error>> {
    let job = JOB
        .replace(
            "catalog: [catalog.yaml]",
            "clock: 2026-01-31\ncatalog: [plans.yaml]",
        )
        .replace("outputs:\n", &format!("outputs:\n{OUTPUTS}"));
    fs::write(folder.join("plans-job.yaml"), job)?;
    let mut catalog = String::from(PLANS);
    writeln!(
        catalog,
        "    allowances: [{{ id: included, items: [tokens], units: {FREE_TOKENS} }}]\nprices:"
    )?;
    for model in 0..500 {
        write!(
            catalog,
            "  - {{ item: tokens, when: {{ model: {} }}, model: graduated, by: total, tiers: [",
            model_name(model)
        )?;
        for (from, percent) in TIERS {
            // In 10⁻⁴ USD per 1,000,000 tokens.
            let price = list_price(model) * percent;
            write!(
                catalog,
                "{{ from: {from}, price: {}.{:04}, per: 1000000 }}, ",
                price / 10_000,
                price % 10_000
            )?;
        }
        writeln!(catalog, "] }}")?;
    }
    fs::write(folder.join("plans.yaml"), catalog)?;
    Ok(())
}

/// A billing line: charges, tokens, and money in 10⁻¹⁰ USD.
type Line = (i64, i128, i128);
/// Account and model.
type LineName = (String, String);

/// The bill, from the first record of each account to its last.
fn expected(world: &World) -> HashMap<LineName, Line> {
    let accounts = usize::try_from(world.accounts).unwrap_or(usize::MAX);
    let mut left = vec![FREE_TOKENS; accounts];
    let mut used = vec![0_u64; accounts];
    let mut lines: HashMap<(u64, u64), Line> = HashMap::new();
    for n in 0..world.records {
        let raw = world.raw(n);
        let owner = raw.service / 10;
        let at = usize::try_from(owner).unwrap_or(usize::MAX);
        let tokens = u64::try_from(raw.tokens).unwrap_or(0);
        let (mut rest, mut money) = (tokens, 0);
        while rest > 0 {
            let tier = TIERS.iter().rposition(|(from, _)| *from <= used[at]);
            let tier = tier.unwrap_or(0);
            let end = TIERS.get(tier + 1).map_or(u64::MAX, |(from, _)| *from);
            let here = rest.min(end - used[at]);
            let free = here.min(left[at]);
            money += i128::from(here - free) * i128::from(list_price(raw.model) * TIERS[tier].1);
            left[at] -= free;
            used[at] += here;
            rest -= here;
        }
        let line = lines.entry((owner, raw.model)).or_default();
        line.0 += 1;
        line.1 += i128::from(tokens);
        line.2 += money;
    }
    let named = lines
        .into_iter()
        .map(|((owner, model), line)| ((account_name(owner), model_name(model)), line));
    named.collect()
}

/// Whether the job's billing lines are these.
fn bill_is(folder: &Path, mut lines: HashMap<LineName, Line>) -> Result<bool, Box<dyn Error>> {
    for entry in fs::read_dir(folder.join("out/aggregated/snapshot"))? {
        let file = File::open(entry?.path())?;
        for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
            if !lines_are_in(&batch?, &mut lines)? {
                return Ok(false);
            }
        }
    }
    Ok(lines.is_empty())
}

/// Takes the lines of a batch away; says whether all of them were there.
fn lines_are_in(
    batch: &RecordBatch,
    lines: &mut HashMap<LineName, Line>,
) -> Result<bool, Box<dyn Error>> {
    let column = |name: &str| {
        let column = batch.column_by_name(name);
        column.ok_or_else(|| format!("billing lines have no column {name}"))
    };
    let texts = |name: &str| Ok::<_, Box<dyn Error>>(cast(column(name)?, &DataType::Utf8)?);
    let (accounts, models) = (texts("account")?, texts("model")?);
    let charges = cast(column("charges")?, &DataType::Int64)?;
    let (quantities, amounts) = (column("quantity")?, column("amount")?);
    let decimal = |column: &dyn Array, row: usize, unit: u32| {
        let value = column.as_primitive::<Decimal128Type>().value(row);
        (value % 10_i128.pow(unit) == 0).then_some(value / 10_i128.pow(unit))
    };
    for row in 0..batch.num_rows() {
        let account = accounts.as_string::<i32>().value(row).to_owned();
        let model = models.as_string::<i32>().value(row).to_owned();
        let count = charges.as_primitive::<Int64Type>().value(row);
        // Quantities have 12 decimals, amounts 24.
        let quantity = decimal(quantities, row, 12);
        let amount = decimal(amounts, row, 14);
        let expected = lines.remove(&(account, model));
        if expected.map(|(n, tokens, money)| (n, Some(tokens), Some(money)))
            != Some((count, quantity, amount))
        {
            return Ok(false);
        }
    }
    Ok(true)
}
