//! A job with everything that makes one record's charge depend on another's, over three months.
//!
//! ```text
//!  carl, dana   a pool of 300 seconds a month, of which 60 live on; tiers by the month's total
//!  acme         no plan: 0.02 a second, 0.05 from far
//!  bulk         tiers by a quarter's total, a commitment, a fee; billed by the quarter
//! ```

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, millrace};
use serde_json::Value;

pub(crate) const MEDIATION: &str = "\
columns: { seconds: bigint, at: timestamp }
identity: [id]
service: number
time: at
attributes: { zone: zone }
charges: { seconds: seconds }
";

pub(crate) const CATALOG: &str = "\
currency: EUR
plans:
  - list: pool
    from: 2026-01-01
    allowances:
      - { id: minutes, items: [seconds], units: 300, rollover_cycles: 1, rollover_cap: 60 }
    accumulators:
      - { id: total, items: [seconds] }
  - list: bulk
    from: 2026-01-01
    accumulators:
      - { id: volume, items: [seconds] }
      - { id: spent, counts: money }
    commitments:
      - { id: least, accumulator: spent, counts: money, amount: 40 }
    charges:
      - { item: fee, amount: 3, when: advance }
prices:
  - { id: home, item: seconds, when: { zone: home }, price: 0.02 }
  - { id: far, item: seconds, when: { zone: far }, price: 0.05 }
  - { id: pooled, list: pool, item: seconds, model: graduated, by: total,
      tiers: [{ price: 0.10 }, { from: 500, price: 0.07 }] }
  - { id: bulked, list: bulk, item: seconds, model: graduated, by: volume,
      tiers: [{ price: 0.03 }, { from: 1000, price: 0.01 }] }
";

pub(crate) const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: EUR }
  - { id: carl, currency: EUR }
  - { id: dana, currency: EUR }
  - { id: bulk, currency: EUR, billing: { anniversary: 2026-01-01, cycle: quarter } }
subscriptions:
  - { id: acme-voice, account: acme, price_lists: [standard], service_type: voice, services: [\"+1\", \"+2\"] }
  - { id: carl-voice, account: carl, group: family, price_lists: [pool], from: 2026-01-01, service_type: voice, services: [\"+3\"] }
  - { id: dana-voice, account: dana, group: family, price_lists: [pool], from: 2026-01-01, service_type: voice, services: [\"+4\"] }
  - { id: bulk-voice, account: bulk, price_lists: [bulk], from: 2026-01-01, service_type: voice, services: [\"+5\"] }
";

/// Record `n`: its number, time, zone and seconds.
pub(crate) fn call(n: u64) -> String {
    let (service, day, hour) = (n % 5 + 1, n * 7 % 90, n * 5 % 24);
    let date = jiff::civil::date(2026, 1, 1) + jiff::Span::new().days(i64::try_from(day).unwrap());
    let zone = ["home", "far"][usize::from(n.is_multiple_of(3))];
    format!(
        "{n},+{service},{date}T{hour:02}:00:00Z,{zone},{}\n",
        n * 13 % 97 + 1
    )
}

pub(crate) fn calls(range: impl Iterator<Item = u64>) -> String {
    range
        .map(call)
        .fold("id,number,at,zone,seconds\n".to_owned(), |all, call| {
            all + &call
        })
}

/// The job, with its present.
pub(crate) fn job(clock: &str, archive: &str, out: &str) -> String {
    format!(
        "name: calls\ntime_zone: UTC\nclock: {clock}\nepoch: {{ rows: 100 }}\n\
         sources:\n  - {{ name: switch, platform: switch, service_type: voice, path: calls, mediation: mediation.yaml }}\n\
         catalog: [catalog.yaml]\naccounts: [accounts.yaml]\nbilling: {{ aggregate_by: [zone] }}\n\
         archive: {{ folder: '{archive}', after: 10d }}\noutputs: {{ folder: '{out}' }}\n"
    )
}

/// The job on a desk of its own, as of 20 April: the first quarter is closed.
pub(crate) fn desk() -> Desk {
    let desk = Desk::new(&[
        ("mediation.yaml", MEDIATION),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("job.yaml", &job("2026-04-20", "closed", "out")),
    ]);
    desk.write("calls/a.csv", calls(0..400));
    desk.write("calls/b.csv", calls(400..600));
    desk
}

/// Runs `millrace replay` on the desk's archive.
pub(crate) fn replay(desk: &Desk, more: &[&str]) -> Ended {
    let archive = desk.at("closed").display().to_string();
    let mut arguments = vec!["replay", &archive, "--output", "json"];
    arguments.extend(more);
    millrace(&arguments)
}

/// A replay that was possible, as JSON.
pub(crate) fn replayed(ended: &Ended, exit: Exit) -> Value {
    assert_eq!((ended.exit, ended.err.as_str()), (exit, ""), "{ended:?}");
    ended.summary()
}
