//! What an account with a plan takes in a job that has read everything and waits for more: its bytes are counted
//! where they are asked for, so the figure is the same on every machine.
//!
//! The job runs as a process of its own, which is this binary again.

use millrace::cli::main_with;
use millrace::console::{Console, Surroundings, Talk};
use millrace_tests::jobs::Desk;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::{Duration, Instant};

const JOB_VARIABLE: &str = "MILLRACE_RESTING_JOB";
const EXPECTED_VARIABLE: &str = "MILLRACE_RESTING_EXPECTED";

/// The most that an account may take.
const BYTES_MAX: isize = 4_000;

/// One more than fill tables of 2,048 and of 8,192 places, so that tables are as empty as they can be.
const FEW: usize = 1_793;
const MANY: usize = 7_169;
/// Of so many accounts one has usage.
const IDLE: usize = 100;

const JOB: &str = "\
name: resting
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
      charges: { tokens: tokens }
catalog: [catalog.yaml]
accounts: [accounts.yaml]
outputs:
  monetised: { changes: false }
  suspense: { changes: false }
  aggregated: { changes: false }
  raw_status: { changes: false, snapshot: false }
";

const CATALOG: &str = "\
currency: USD
prices:
  - { item: tokens, price: 1 }
plans:
  - from: 2026-01-01
    allowances: [ { id: included, items: [tokens], units: 1 } ]
    charges: [ { item: fee, amount: 5, when: advance } ]
";

const ACCOUNTS: &str = "\
tables:
  - file: subscriptions.csv
    accounts: [ { id: account, currency: \"'USD'\" } ]
    subscriptions:
      - { id: id, account: account, price_list: \"'standard'\", from: \"'2026-01-01'\" }
  - file: services.csv
    services:
      - { service_type: \"'llm'\", service: key, subscription: subscription }
";

/// Counts the bytes that are held, as they were asked for.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static HELD: AtomicIsize = AtomicIsize::new(0);

fn count(come: usize, gone: usize) {
    HELD.fetch_add(come.cast_signed() - gone.cast_signed(), Ordering::Relaxed);
}

// SAFETY: the system's allocator does the work; a number is all that is added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(0, layout.size());
        unsafe { System.dealloc(place, layout) }
    }
}

/// Runs the job that the environment asks for, where it asks for one, and prints what it holds when it waits.
#[test]
fn a_process_of_its_own() {
    let Ok(job) = std::env::var(JOB_VARIABLE) else {
        return;
    };
    let expected = std::env::var(EXPECTED_VARIABLE).unwrap();
    let (talk, said) = Talk::kept();
    std::thread::spawn(move || {
        let words = ["millrace", "run", &job, "--workers", "1", "--watch"].map(OsString::from);
        let surroundings = Surroundings {
            own_process: true,
            ..Surroundings::default()
        };
        let mut out = Vec::new();
        main_with(words, &mut Console::new(&mut out, talk, surroundings))
    });
    let begun = Instant::now();
    let patience = || {
        let late = begun.elapsed() > Duration::from_secs(240);
        assert!(!late, "{}", String::from_utf8_lossy(&said.lock().unwrap()));
        std::thread::sleep(Duration::from_millis(20));
    };
    let tells = || String::from_utf8_lossy(&said.lock().unwrap()).contains(&expected);
    while !tells() {
        patience();
    }
    // Now and then it looks for saved files, which takes a little and gives it back.
    let (mut held, mut quiet) = (0, 0);
    while quiet < 50 {
        patience();
        let now = HELD.load(Ordering::Relaxed);
        quiet = if (now - held).abs() < 10_000 {
            quiet + 1
        } else {
            0
        };
        held = now;
    }
    println!("\nholds {held} bytes");
    std::process::exit(0);
}

/// The bytes that a job over so many accounts holds when it waits.
fn at_rest(accounts: usize) -> isize {
    let (mut subscriptions, mut services) = ("id,account\n".to_owned(), String::new());
    services.push_str("key,subscription\n");
    let mut usage = "key,at,tokens\n".to_owned();
    for n in 0..accounts {
        writeln!(subscriptions, "sub-{n},acct-{n}").unwrap();
        writeln!(services, "key-{n},sub-{n}").unwrap();
    }
    let used = accounts.div_ceil(IDLE);
    for n in 0..used {
        writeln!(usage, "key-{n},2026-01-02T10:00:00Z,2").unwrap();
    }
    let desk = Desk::new(&[
        ("job.yaml", JOB),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("subscriptions.csv", &subscriptions),
        ("services.csv", &services),
        ("usage.csv", &usage),
    ]);
    // One of the two tokens is free.
    let amount = 5 * accounts + used;
    let job = desk.at("job.yaml").display().to_string();
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "resting::a_process_of_its_own", "--nocapture"])
        .env(JOB_VARIABLE, job)
        .env(EXPECTED_VARIABLE, format!("exactly {amount}\n"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    let held = said.split("holds ").nth(1);
    let held = held.and_then(|held| held.split(' ').next()?.parse().ok());
    held.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&ended.stderr)))
}

#[test]
fn an_account_with_a_plan_takes_four_kilobytes_at_most() {
    let more = isize::try_from(MANY - FEW).unwrap();
    let bytes = (at_rest(MANY) - at_rest(FEW)) / more;
    println!("{bytes} bytes of each account");
    assert!(bytes <= BYTES_MAX, "{bytes} bytes of each account");
}
