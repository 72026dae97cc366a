//! From a real Kafka to a real Kafka, with runs that are stopped: one goes on when a younger has ended, or
//! while it is at work, and the younger neither ends for that nor publishes other messages.
//!
//! `MILLRACE_STOPS` asks for more than the few stops of the short form, `MILLRACE_SEED` for others.

use crate::exactly_once::{calls, is_the_bill, job, progress_rises};
use millrace::cli::Exit;
use millrace_tests::broker::{Broker, Sent};
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, millrace};
use millrace_tests::kills::{CATALOG, MEDIATION, accounts, start, variable};
use millrace_tests::stops::{Moment, PATIENCE, Signals, Told, wanted, within};
use std::collections::BTreeSet;
use std::process::Child;
use std::time::{Duration, Instant};

/// Stops of the short form.
const STOPS: u32 = 4;
const MOMENTS: [Moment; 3] = [Moment::Manifest, Moment::Journal, Moment::Any];
const TOPICS: [&str; 5] = ["charges", "lines", "suspense", "balances", "notices"];

struct World<'b> {
    broker: &'b Broker,
    desk: Desk,
    /// What the names of its topics begin with.
    prefix: &'static str,
    /// All calls, a line each.
    sent: String,
    batch: u64,
}

impl<'b> World<'b> {
    fn new(broker: &'b Broker, prefix: &'static str) -> Self {
        broker.create(&format!("{prefix}usage"), 3);
        for topic in TOPICS {
            broker.create(&format!("{prefix}{topic}"), 2);
        }
        let address = broker.address();
        let outputs = format!(
            "durability: {{ folder: state, interval: 20ms }}\noutputs:\n  kafka:\n    brokers: '{address}'\n    \
             topics: {{ monetised: {prefix}charges, aggregated: {prefix}lines, suspense: {prefix}suspense, \
             balances: {prefix}balances, notices: {prefix}notices }}\n"
        );
        let source = format!("kafka: {{ brokers: '{address}', topics: [{prefix}usage] }}");
        let job = job(&source, &outputs).replace("name: calls\n", &format!("name: {prefix}job\n"));
        let desk = Desk::new(&[
            ("mediation.yaml", MEDIATION),
            ("catalog.yaml", CATALOG),
            ("accounts.yaml", &accounts()),
            ("job.yaml", &job),
        ]);
        Self {
            broker,
            desk,
            prefix,
            sent: String::new(),
            batch: 0,
        }
    }

    fn send(&mut self, dice: &mut Dice) {
        let calls = calls(self.batch, dice);
        let partitions: Vec<i32> = calls
            .iter()
            .map(|_| i32::try_from(dice.roll(3)).unwrap())
            .collect();
        let messages = calls.iter().zip(&partitions);
        let messages: Vec<Sent<'_>> = messages
            .map(|((key, call), partition)| Sent {
                partition: Some(*partition),
                key,
                payload: Some(call.as_bytes()),
                ..Sent::default()
            })
            .collect();
        self.broker
            .send(&format!("{}usage", self.prefix), &messages);
        for (_, call) in &calls {
            self.sent.push_str(call);
            self.sent.push('\n');
        }
        self.batch += 1;
    }

    fn start(&self, more: &[&str]) -> Child {
        let job = self.desk.at("job.yaml").display().to_string();
        start(&[&["run", &job, "--workers", "2"], more].concat())
    }

    fn seen(&self, moment: Moment) -> BTreeSet<String> {
        let (folder, ending) = match moment {
            Moment::Journal => ("state/journal", ".journal"),
            _ => ("state/manifest", ".json"),
        };
        let mut names = within(&self.desk.at(folder));
        names.retain(|name| name.ends_with(ending));
        names
    }

    fn newest(&self) -> Option<String> {
        self.seen(Moment::Manifest).pop_last()
    }

    /// Waits until a run has committed so often behind this manifest, or has ended.
    fn commits(&self, times: usize, before: Option<&String>, run: &mut Child) {
        let begun = Instant::now();
        let is_new = |name: &String| Some(name) > before;
        while self
            .seen(Moment::Manifest)
            .iter()
            .filter(|name| is_new(name))
            .count()
            < times
            && run.try_wait().unwrap().is_none()
        {
            assert!(begun.elapsed() < PATIENCE, "nothing is committed");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn said(ended: &std::process::Output) -> String {
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

#[test]
fn a_run_that_stood_still_harms_no_younger_one() {
    let seed = u64::from(variable("MILLRACE_SEED", 1));
    let (mut dice, mut signals) = (Dice(seed), Signals::default());
    let mut world = World::new(Broker::shared(), "stops-");
    let (mut told, mut beside) = (Told::new(), 0);
    for number in 0..wanted(STOPS) {
        let moment = MOMENTS[usize::try_from(number).unwrap() % MOMENTS.len()];
        let what = format!("seed {seed}, stop {number} at {moment:?}");
        world.send(&mut dice);
        let before = world.newest();
        let mut older = world.start(&[]);
        let stopped = signals.stop_at(moment, &mut dice, &mut older, || world.seen(moment));
        // One that has not taken over yet is the younger when it goes on.
        let is_older = stopped && world.newest() != before;
        world.send(&mut dice);
        let (older, younger) = if is_older && number % 2 == 0 {
            // The younger goes on with what is sent when the older has ended, whatever that one did.
            let before = world.newest();
            let mut younger = world.start(&["--watch"]);
            world.commits(2, before.as_ref(), &mut younger);
            signals.tell("CONT", &older);
            let older = older.wait_with_output().unwrap();
            let before = world.newest();
            world.send(&mut dice);
            world.commits(1, before.as_ref(), &mut younger);
            signals.tell("TERM", &younger);
            beside += 1;
            (older, younger.wait_with_output().unwrap())
        } else {
            let younger = world.start(&[]).wait_with_output().unwrap();
            if stopped {
                signals.tell("CONT", &older);
            }
            (older.wait_with_output().unwrap(), younger)
        };
        assert!(
            younger.status.success(),
            "{what}: the younger run: {}",
            said(&younger)
        );
        let is_told = said(&older).contains("another run of this job has taken over");
        assert!(
            older.status.success() || is_told,
            "{what}: the older run: {}",
            said(&older)
        );
        let (stops, tells) = told.entry(moment).or_default();
        *stops += u32::from(stopped);
        *tells += u32::from(is_told);
    }
    let job = world.desk.at("job.yaml").display().to_string();
    let last = millrace(&["run", &job, "--workers", "2"]);
    assert_eq!(last.exit, Exit::Findings, "{}", last.err);
    progress_rises(
        world.broker,
        &format!("millrace-progress-{}job", world.prefix),
    );
    let (sent, history) = (&world.sent, format!("seed {seed}"));
    is_the_bill(world.broker, &world.desk, sent, world.prefix, &history);
    println!(
        "stops, and how many of them were told: {told:?}; {beside} went on beside a younger run"
    );
    assert!(told.values().any(|(_, told)| *told > 0), "{told:?}");
    assert!(beside > 0);
}
