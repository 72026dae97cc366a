//! Simulation: the graph, its journal and its commits in one process. The workers take turns in an
//! order that a seed decides, over objects in memory; writes fail, or are carried out when nobody waits for
//! them any more, and the process ends, where the seed says so. A process may stand still, and go on when
//! others have done its work. What is published in the end is the bill of the oracle, each epoch once, and the
//! parts of the snapshot that lie where all runs write theirs are of one run.
//!
//! The same seed takes the same turns. `MILLRACE_SEED` begins with another, `MILLRACE_TURNS` asks for
//! more turns than the 20,000 of the short form.

mod objects;
mod team;

use crate::history::{History, histories, rules};
use millrace::board::MovedLine;
use millrace::bundle::{Bundle, EpochHead};
use millrace::durable::{Committer, DurableError, Facts, Flushed, Generation, Journal};
use millrace::durable::{Plan, Point, Position, Staged};
use millrace::publish::EpochChanges;
use millrace_connectors::names::Names;
use millrace_connectors::output::AggregatedLine;
use millrace_connectors::reference::ReferenceChanges;
use millrace_connectors::store::Store;
use millrace_operators::domain::FileId;
use millrace_operators::epoch::Epoch;
use millrace_tests::dice::Dice;
use millrace_tests::engine::accumulate;
use millrace_tests::kills::variable;
use millrace_tests::oracle::{Bill, BillRules, Changes, World};
use objects::{Crash, Objects};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender};
use team::Team;

const TURNS: u32 = 20_000;
/// Objects that are merged into one: few, for histories are short.
const MERGED: usize = 3;
/// The one source: its position is the next epoch of the script.
const SOURCE: FileId = FileId(0);
const PLACE: &str = "changes";
/// Where every run that ends writes its snapshot.
const SNAPSHOT: [&str; 3] = ["a/snapshot.csv", "b/snapshot.csv", "c/snapshot.csv"];

/// A job over one history.
struct Simulation {
    dice: Dice,
    rules: BillRules,
    script: Arc<Vec<Changes>>,
    objects: Objects,
    /// What the contents of outputs mean, by number: what they are as bytes is not looked at here.
    contents: Vec<Vec<EpochChanges>>,
    turns: u32,
    lives: u32,
    /// A life that stands still, and goes on when others have lived.
    older: Option<Life>,
    /// How often one did, and how often with a snapshot in hand.
    late: [u32; 2],
}

/// What one life has in hand.
struct Life {
    team: Team,
    committer: Committer,
    flushed: Sender<Flushed>,
    points: SyncSender<Point>,
    store: Store,
    workers: usize,
    /// Which life it is.
    number: u32,
    /// The snapshot, once it is staged.
    snapshot: Vec<Staged>,
    /// The next epoch of the script.
    next: usize,
    /// The next epoch of the graph.
    epoch: Epoch,
    journal: Journal,
    /// A commit that waits for its outputs.
    point: Option<Point>,
    /// Epochs published and not committed.
    published: Vec<EpochChanges>,
    sealed: Epoch,
}

fn bundle(changes: &Changes) -> Bundle {
    let mut bundle = Bundle::default();
    bundle.take_usage(changes.usage.clone());
    bundle.take_head(EpochHead {
        classes: changes
            .classes
            .iter()
            .map(|(class, _)| class.clone())
            .collect(),
        faults: changes.faults.clone(),
        fates: changes
            .fates
            .iter()
            .map(|(file, fate, diff)| ((*file, *fate), *diff))
            .collect(),
        reference: ReferenceChanges {
            prices: changes.prices.clone(),
            plans: changes.plans.clone(),
            accounts: changes.accounts.clone(),
            subscriptions: changes.subscriptions.clone(),
            services: changes.services.clone(),
        },
        clock: changes.clock.clone(),
        discards: changes.discards.clone(),
        replaced: changes.replaced.clone(),
        ..EpochHead::default()
    });
    bundle
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let tree = histories().new_tree(&mut runner).expect("a history");
        let history: History = tree.current();
        Self {
            dice: Dice(seed),
            rules: rules(&history),
            script: Arc::new(history.script()),
            objects: Objects::new(seed ^ 0x0b1e),
            contents: Vec::new(),
            turns: 0,
            lives: 0,
            older: None,
            late: [0; 2],
        }
    }

    fn store(&self) -> Store {
        Store::over("memory", Arc::new(self.objects.clone()))
    }

    /// Lives until everything is committed.
    fn run(&mut self) {
        loop {
            self.lives += 1;
            let ended = catch_unwind(AssertUnwindSafe(|| self.live()));
            match ended {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                // A job that its store fails ends, and is started again.
                Ok(Err(DurableError::Store(_))) => {}
                Ok(Err(error)) => panic!("{error}"),
                Err(crash) if crash.is::<Crash>() => {}
                Err(other) => resume_unwind(other),
            }
        }
    }

    /// One life of the process; says whether everything is committed.
    fn live(&mut self) -> Result<bool, DurableError> {
        let (store, outputs) = (Arc::new(self.store()), Arc::new(self.store()));
        let (generation, _) = Generation::begin(&store, &Plan::default())?;
        let told = Box::new(|_: &_| ());
        let (committer, ends) = Committer::new(store, outputs, generation, None, told);
        let mut committer = committer.merging_at_once(MERGED);
        committer.recover()?;
        self.snapshot();
        let restored = committer.restored();
        let workers = 1 + usize::try_from(self.dice.roll(3)).expect("a few");
        let mut team = Team::start(
            workers,
            &self.rules,
            &self.script,
            (restored.live(), restored.manifest.from),
        );
        let known = restored.load(
            &Names::default(),
            workers,
            &BTreeSet::new(),
            |_| (),
            |parts| {
                team.feed(parts);
                Ok::<(), DurableError>(())
            },
        )?;
        let next = known.positions.get(&SOURCE).copied().unwrap_or(0);
        let mut life = Life {
            team,
            committer,
            flushed: ends.flushed,
            points: ends.points,
            store: self.store(),
            workers,
            number: self.lives,
            snapshot: Vec::new(),
            next: usize::try_from(next).expect("few epochs"),
            epoch: restored.live(),
            journal: Journal::default(),
            point: None,
            published: Vec::new(),
            sealed: 0,
        };
        let live = restored.live();
        loop {
            self.turns += 1;
            match self.dice.roll(100) {
                0..8 if life.next < self.script.len() => self.bind(&mut life),
                8..12 if life.point.is_none() && !life.journal.is_empty() => life.begin_commit(),
                12 if self.dice.roll(60) == 0 => resume_unwind(Box::new(Crash)),
                13 if self.dice.roll(8) == 0 => {
                    self.older = Some(life);
                    return Ok(false);
                }
                14 if self.dice.roll(20) == 0 => self.go_on(),
                roll => {
                    let worker = usize::try_from(roll).expect("a few") % life.workers;
                    life.team.step(worker);
                }
            }
            let (published, sealed) = (&mut life.published, &mut life.sealed);
            life.team.publish(|changes, before| {
                published.extend(changes.filter(|changes| changes.epoch >= live));
                *sealed = before;
            });
            if let Some(point) = life.point.take_if(|point| point.epoch < life.sealed) {
                self.commit(&mut life, point)?;
            }
            let all_bound = life.next == self.script.len() && life.journal.is_empty();
            if all_bound && life.point.is_none() {
                if life.snapshot.is_empty() {
                    life.stage_snapshot()?;
                    continue;
                }
                life.conclude()?;
                self.go_on();
                return Ok(true);
            }
        }
    }

    /// A life that stood still goes on, as if it had just taken over: what it takes away and writes is
    /// nobody's, and it commits nothing.
    fn go_on(&mut self) {
        let Some(mut older) = self.older.take() else {
            return;
        };
        self.late[0] += 1;
        self.late[1] += u32::from(!older.snapshot.is_empty());
        let ended = catch_unwind(AssertUnwindSafe(|| {
            older.committer.recover()?;
            // One that was about to end ends, whatever it has in hand.
            if older.point.is_none() && older.journal.is_empty() {
                if older.snapshot.is_empty() {
                    older.stage_snapshot()?;
                }
                let concluded = older.conclude();
                return concluded.map(|()| panic!("an older life has concluded"));
            }
            if older.point.is_none() {
                older.begin_commit();
            }
            let point = older.point.take();
            point.map_or(Ok(()), |point| {
                let committed = self.commit(&mut older, point);
                committed.map(|()| panic!("an older life has committed"))
            })
        }));
        match ended {
            Ok(Ok(()) | Err(DurableError::Store(_) | DurableError::Superseded { .. })) => {}
            // What it would merge is merged, and gone.
            Ok(Err(DurableError::Damaged { .. })) => {}
            Ok(Err(error)) => panic!("{error}"),
            Err(crash) if crash.is::<Crash>() => {}
            Err(other) => resume_unwind(other),
        }
    }

    fn bind(&mut self, life: &mut Life) {
        let bundle = bundle(&self.script[life.next]);
        life.journal.enter(life.epoch, &bundle);
        life.team
            .feed(bundle.split(life.epoch, life.workers).collect());
        (life.next, life.epoch) = (life.next + 1, life.epoch + 1);
    }

    fn commit(&mut self, life: &mut Life, point: Point) -> Result<(), DurableError> {
        let after = life.published.iter().position(|e| e.epoch > point.epoch);
        let rest = life
            .published
            .split_off(after.unwrap_or(life.published.len()));
        let epochs: Vec<EpochChanges> = std::mem::replace(&mut life.published, rest)
            .into_iter()
            .map(EpochChanges::settled)
            .collect();
        let lines = moved(&epochs);
        let content = u64::try_from(self.contents.len())
            .expect("a count")
            .to_le_bytes();
        self.contents.push(epochs);
        let staged = Staged {
            staged: format!(
                "{}/{}-{:020}",
                millrace::durable::STAGE,
                life.committer.tag(),
                point.epoch
            ),
            place: format!("{PLACE}/{:020}", point.epoch),
            waiting: None,
        };
        life.store.put(&staged.staged, &content)?;
        let flushed = Flushed {
            epoch: point.epoch,
            outputs: vec![staged],
            lines,
            ..Flushed::default()
        };
        life.flushed.send(flushed).expect("the committer is here");
        life.committer.commit(point)
    }

    /// The life whose snapshot there is: of one alone, once what it has committed is completed.
    fn snapshot(&self) -> Option<u32> {
        let store = Store::over("memory", self.objects.sound());
        let parts = SNAPSHOT.map(|place| store.get(place).expect("memory answers"));
        assert!(
            parts.iter().all(|part| *part == parts[0]),
            "a snapshot of several runs: {parts:?}"
        );
        let part = parts[0].as_deref()?;
        Some(u32::from_le_bytes(part.try_into().expect("a whole part")))
    }

    /// What readers of the outputs add up.
    fn bill(&self) -> Bill {
        let store = Store::over("memory", self.objects.sound());
        let (mut bill, mut last) = (Bill::default(), None);
        for name in store.names(PLACE).expect("a folder") {
            let content = store.get(&format!("{PLACE}/{name}")).expect("an object");
            let content = content.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
            let number = u64::from_le_bytes(content.expect("a whole output"));
            for changes in &self.contents[usize::try_from(number).expect("a count")] {
                assert!(
                    last < Some(changes.epoch),
                    "epoch {} is published twice",
                    changes.epoch
                );
                last = Some(changes.epoch);
                accumulate(&mut bill, changes);
            }
        }
        bill
    }
}

/// The billing lines that epochs moved.
fn moved(epochs: &[EpochChanges]) -> Vec<MovedLine> {
    let mut moved = BTreeMap::new();
    for epoch in epochs {
        // What an epoch makes of a line comes behind what it was.
        let mut changes: Vec<_> = epoch.lines.iter().collect();
        changes.sort_by_key(|(_, diff)| *diff);
        for ((key, sum), diff) in changes {
            let (id, gone) = (key.aggregate_id(), *diff < 0);
            let (key, sum) = (key.clone(), *sum);
            let line = AggregatedLine { key, sum };
            moved.insert(id, MovedLine { id, line, gone });
        }
    }
    moved.into_values().collect()
}

impl Life {
    fn stage_snapshot(&mut self) -> Result<(), DurableError> {
        let tag = self.committer.tag();
        self.snapshot = SNAPSHOT
            .map(|place| Staged {
                staged: format!(
                    "{}/{tag}-{}",
                    millrace::durable::STAGE,
                    place.replace('/', "-")
                ),
                place: place.to_owned(),
                waiting: None,
            })
            .into();
        for part in &self.snapshot {
            self.store.put(&part.staged, &self.number.to_le_bytes())?;
        }
        Ok(())
    }

    /// Commits the snapshot, and puts it where all runs write theirs.
    fn conclude(self) -> Result<(), DurableError> {
        drop(self.points);
        let mut generation = self.committer.run()?;
        generation.conclude(&self.store, &self.store, self.snapshot)
    }

    fn begin_commit(&mut self) {
        let position = Position {
            source: "script".to_owned(),
            name: "script".to_owned(),
            next: u64::try_from(self.next).expect("few epochs"),
        };
        self.point = Some(Point {
            epoch: self.epoch - 1,
            journal: std::mem::take(&mut self.journal),
            facts: Facts {
                positions: BTreeMap::from([(SOURCE, position)]),
                ..Facts::default()
            },
            raw: Vec::new(),
            inputs: None,
        });
    }
}

#[test]
fn crashes_and_faults_anywhere_leave_the_bill_of_the_oracle() {
    let first = u64::from(variable("MILLRACE_SEED", 1));
    let wanted = variable("MILLRACE_TURNS", TURNS);
    let (mut turns, mut lives, mut seeds, mut late) = (0, 0, 0, [0; 2]);
    let mut faults = [0; 6];
    for seed in first.. {
        let mut simulation = Simulation::new(seed);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            simulation.run();
            simulation.objects.settle();
            let mut world = World::default();
            for (epoch, changes) in (0..).zip(simulation.script.iter()) {
                world.apply(epoch, changes);
            }
            let (found, expected) = (simulation.bill(), world.bill(&simulation.rules));
            assert!(
                found == expected,
                "found {found:#?}\nexpected {expected:#?}"
            );
            assert_eq!(simulation.snapshot(), Some(simulation.lives));
        }));
        if let Err(failed) = ended {
            eprintln!("MILLRACE_SEED={seed} repeats this");
            resume_unwind(failed);
        }
        (turns, lives, seeds) = (
            turns + simulation.turns,
            lives + simulation.lives,
            seeds + 1,
        );
        late[0] += simulation.late[0];
        late[1] += simulation.late[1];
        let met = simulation.objects.faults();
        let met = [
            met.hidden,
            met.lost,
            met.crashed_after,
            met.crashed_before,
            met.torn,
            met.late,
        ];
        faults
            .iter_mut()
            .zip(met)
            .for_each(|(sum, met)| *sum += met);
        if turns >= wanted {
            break;
        }
    }
    println!(
        "{turns} turns, {lives} lives, {} of them late ({} with a snapshot in hand), {seeds} histories from seed {first}; \
         writes hidden, lost, kept at a crash, lost at a crash, torn, late: {faults:?}",
        late[0], late[1]
    );
    assert!(
        late[0] > 0 && faults.iter().all(|met| *met > 0),
        "a fault was never met: {faults:?}"
    );
}

#[test]
fn a_seed_takes_the_same_turns_again() {
    let run = || {
        let mut simulation = Simulation::new(7);
        simulation.run();
        (simulation.turns, simulation.lives)
    };
    assert_eq!(run(), run());
}
