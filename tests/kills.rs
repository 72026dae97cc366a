//! What tests of kills share: a world of calls with plans, numbers that a seed decides, and jobs as
//! processes of their own, so that they can be killed.

use crate::jobs::millrace_in;
use millrace::cli::Exit;
use millrace::console::Surroundings;
use millrace::crash::EXIT_LOST;
use millrace::crash::{end_process, end_process_on_panic};
use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};

const ARGUMENTS_VARIABLE: &str = "MILLRACE_TEST_ARGUMENTS";

/// Calls.
pub const MEDIATION: &str = "\
columns: { seconds: bigint, at: timestamp }
where: seconds <> 13
identity: [id]
service: number
time: at
charges: { seconds: seconds }
";

/// A plan with an allowance and tiers, and a plain price.
pub const CATALOG: &str = "\
currency: EUR
plans:
  - list: standard
    accumulators:
      - { id: used, items: [seconds], thresholds: [20000] }
    allowances:
      - { id: free, units: 5000, items: [seconds], rollover_cycles: 1 }
    charges:
      - { item: fee, amount: 3.00, when: advance }
prices:
  - item: seconds
    model: graduated
    by: used
    tiers:
      - { price: 0.03 }
      - { from: 15000, price: 0.02 }
      - { from: 40000, price: 0.01 }
  - { item: seconds, list: flat, price: 0.05 }
";

/// Eight accounts of one number each, every other one with the plan.
///
/// # Panics
/// Never: text is written to memory.
#[must_use]
pub fn accounts() -> String {
    let mut text = "accounts:\n".to_owned();
    for n in 0..8 {
        writeln!(text, "  - {{ id: a{n}, currency: EUR }}").expect("memory takes all text");
    }
    text.push_str("subscriptions:\n");
    for n in 0..8 {
        let list = ["standard", "flat"][n % 2];
        writeln!(
            text,
            "  - {{ id: s{n}, account: a{n}, price_lists: [{list}], from: 2026-01-01, service_type: voice, services: [\"+{n}\"] }}"
        )
        .expect("memory takes all text");
    }
    text
}

/// Starts the program with these arguments as a process of its own.
///
/// # Panics
/// When the system starts no process.
#[must_use]
pub fn start(arguments: &[&str]) -> Child {
    command(arguments).spawn().expect("a process")
}

/// The command of a process that runs the program with these arguments.
///
/// # Panics
/// When the system does not say what runs now.
#[must_use]
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a process"));
    command
        .args(["--exact", "a_process_of_its_own", "--nocapture"])
        .env(ARGUMENTS_VARIABLE, arguments.join("\n"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Runs the job that the environment asks for, where it asks for one: the whole of the test
/// `a_process_of_its_own`, which a binary with kills has.
///
/// # Panics
/// When the job fails.
pub fn run_if_asked() {
    let Ok(arguments) = std::env::var(ARGUMENTS_VARIABLE) else {
        return;
    };
    end_process_on_panic();
    let arguments: Vec<&str> = arguments.split('\n').collect();
    let surroundings = Surroundings {
        own_process: true,
        ..Surroundings::default()
    };
    let ended = millrace_in(surroundings, &arguments);
    if ended.exit == Exit::Lost {
        end_process(&ended.err, EXIT_LOST);
    }
    assert!(
        matches!(ended.exit, Exit::Ok | Exit::Findings),
        "{}",
        ended.err
    );
}

/// A number that the environment may give.
///
/// # Panics
/// When it gives something else.
#[must_use]
pub fn variable(name: &str, default: u32) -> u32 {
    let told = std::env::var(name).ok();
    told.map_or(default, |told| told.parse().expect("a number"))
}
