use super::*;
use crate::names::Names;
use crate::output::{AggregatedLine, Texts};
use crate::reference::Reference;
use crate::store::Store;
use millrace_operators::domain::{
    AccountKey, Amount, BucketKey, EventTime, FileId, IdentityBuilder, Item, LineKey, LineSum,
    Period, Quantity, RecordId, Usage, UsageClass,
};
use millrace_operators::epoch::shard;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

const DAY: i64 = 86_400_000_000;

fn january() -> Period {
    Period::new(
        EventTime(1_767_225_600_000_000),
        EventTime(1_769_904_000_000_000),
    )
    .unwrap()
}

struct World {
    folder: tempfile::TempDir,
    texts: Texts,
    store: Arc<Store>,
}

fn texts() -> Texts {
    let files: Vec<Arc<str>> = vec!["a.csv".into(), "b.csv".into()];
    Texts {
        lines: Arc::default(),
        names: Arc::new(Names::default()),
        files: Arc::new(RwLock::new(files)),
        dimensions: Arc::new([]),
    }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open("closed", folder.path()).unwrap());
        Self {
            folder,
            texts: texts(),
            store,
        }
    }

    fn row(&self, account: &str, n: u64) -> BilledUsage {
        let names = &self.texts.names;
        let class = UsageClass {
            service_type: names.enter("voice"),
            attributes: vec![(
                names.enter("zone"),
                names.enter(["home", "far"][usize::from(n.is_multiple_of(2))]),
            )],
            items: [
                Item {
                    name: names.enter("seconds"),
                    scale: 2,
                },
                Item {
                    name: names.enter("calls"),
                    scale: 0,
                },
            ]
            .into_iter()
            .take(usize::try_from(1 + n % 2).unwrap())
            .collect(),
        };
        let items = class.items.len();
        BilledUsage {
            usage: Usage {
                record: RecordId::new(FileId(u32::from(n.is_multiple_of(3))), n),
                identity: IdentityBuilder::default()
                    .field(account.as_bytes())
                    .field(&n.to_le_bytes())
                    .finish(),
                service: names.enter_service("voice", &format!("+{account}-{}", n % 5)),
                class: names.enter_class(&class),
                time: EventTime(january().start().0 + i64::try_from(n % 31).unwrap() * DAY),
                quantities: (0..items)
                    .map(|item| i64::try_from(n).unwrap() + i64::try_from(item).unwrap())
                    .collect(),
                mark: None,
            },
            account: names.enter_account(account),
            subscription: names.enter_subscription(&format!("{account}-voice")),
        }
    }

    fn line(&self, account: &str, amount: i128) -> AggregatedLine {
        let names = &self.texts.names;
        AggregatedLine {
            key: LineKey {
                account: names.enter_account(account),
                unit_start: january().start(),
                unit_end: january().end(),
                item: names.enter("seconds"),
                currency: names.enter("EUR"),
                dimensions: Default::default(),
            },
            sum: LineSum::of(Quantity(7), Amount(amount), 1),
        }
    }

    /// Writes accounts, all into their shards.
    fn write(&self, sequence: u32, rows: &[BilledUsage], lines: &[AggregatedLine]) {
        self.write_by(1, sequence, rows, lines).unwrap();
    }

    /// As the run of a generation does.
    fn write_by(
        &self,
        generation: u64,
        sequence: u32,
        rows: &[BilledUsage],
        lines: &[AggregatedLine],
    ) -> Result<(), ArchiveError> {
        let names = &self.texts.names;
        let price = names.enter_price("standard/home");
        let mut shards: BTreeMap<u64, ShardContent> = BTreeMap::new();
        for row in rows {
            let content = shards.entry(shard(row.account.0)).or_default();
            content.accounts.insert(row.account);
            content.prices.insert((price, row.account));
            content.usage.push(row.clone());
        }
        for line in lines {
            let content = shards.entry(shard(line.key.account.0)).or_default();
            content.accounts.insert(line.key.account);
            content.lines.push(line.clone());
        }
        for content in shards.values_mut() {
            let pool = names.enter_group("family", "EUR");
            let moved = Moved {
                bucket: BucketKey(9),
                resource: names.enter("minutes"),
                by: -5,
            };
            content.groups = vec![GroupStanding {
                group: pool,
                accounts: content.accounts.clone(),
                opening: None,
                closing: vec![moved],
            }];
        }
        let reference = write_reference(&self.store, &Reference::default(), names).unwrap();
        let written = shards.into_iter().map(|(shard, content)| {
            let place = Place {
                period: january(),
                sequence,
                generation,
                shard,
            };
            (
                shard,
                write_shard(&self.store, place, content, &self.texts).unwrap(),
            )
        });
        let terms = Terms {
            job: "calls".to_owned(),
            period: january(),
            sequence,
            clock: january().end(),
            state: None,
            time_zone: "UTC".to_owned(),
            aggregate_by: Vec::new(),
        };
        write_manifest(&self.store, terms, &reference, written.collect())
    }

    fn open(&self) -> ArchivedPeriod {
        let archive = Archive::open("closed", self.folder.path()).unwrap();
        assert_eq!(archive.periods().collect::<Vec<_>>(), [january()]);
        archive.period(january()).unwrap()
    }

    fn rows(&self, account: &str, count: u64) -> Vec<BilledUsage> {
        (0..count).map(|n| self.row(account, n)).collect()
    }
}

fn sorted(mut rows: Vec<BilledUsage>) -> Vec<BilledUsage> {
    rows.sort_by_key(|row| (row.usage.time, row.usage.record));
    rows
}

/// The accounts of one shard, so that they share files.
fn neighbours(count: usize) -> Vec<String> {
    let of_shard = |name: &String| shard(AccountKey::of(&[name]).0) == 5;
    (0..)
        .map(|n| format!("acct-{n}"))
        .filter(of_shard)
        .take(count)
        .collect()
}

#[test]
fn an_empty_name_book_is_enough_to_read_an_account() {
    let world = World::new();
    let accounts = neighbours(3);
    let rows: Vec<_> = accounts
        .iter()
        .flat_map(|account| world.rows(account, 20_000))
        .collect();
    let lines: Vec<_> = accounts
        .iter()
        .map(|account| world.line(account, 12))
        .collect();
    world.write(0, &rows, &lines);
    let period = world.open();
    assert_eq!(period.records(), 60_000);
    for account in &accounts {
        let names = Names::default();
        let read = period.usage([account.as_str()], &names).unwrap();
        assert_eq!(read, sorted(world.rows(account, 20_000)));
        let class = names.class(read[1].usage.class).unwrap();
        assert_eq!(Some(class), world.texts.names.class(read[1].usage.class));
        assert_eq!(&*names.service(read[0].usage.service).0, "voice");
        assert_eq!(
            &*names.subscription(read[0].subscription),
            format!("{account}-voice")
        );
    }
    // Two at once, one of them not there.
    let both = [accounts[2].as_str(), accounts[0].as_str(), "nobody"];
    assert_eq!(period.usage(both, &Names::default()).unwrap().len(), 40_000);
    let found = period.find(&accounts[1]).unwrap().unwrap();
    assert_eq!((found.sequence, found.entry.rows), (0, 20_000));
    assert_eq!(found.groups[0].closing[0].moved, "-5");
    assert_eq!(period.files(found.shard).unwrap()[&FileId(1)], "b.csv");
    let priced = period
        .priced_by(&BTreeSet::from(["standard/home".to_owned()]))
        .unwrap();
    assert_eq!(priced, accounts.iter().cloned().collect());
    let billed = period.lines(found.shard).unwrap();
    let first = billed
        .iter()
        .find(|line| line.account == accounts[0])
        .unwrap();
    assert_eq!((first.sum, first.sequence), (lines[0].sum, 0));
    assert_eq!(first.id, lines[0].key.aggregate_id());
}

#[test]
fn one_account_costs_its_pages() {
    let world = World::new();
    let accounts = neighbours(200);
    let rows: Vec<_> = accounts
        .iter()
        .flat_map(|account| world.rows(account, 500))
        .collect();
    world.write(0, &rows, &[]);
    let size = std::fs::read_dir(world.folder.path().join("closed/periods"))
        .unwrap()
        .count();
    assert_eq!(size, 1);
    let archive = Archive::open("closed", world.folder.path()).unwrap();
    let period = archive.period(january()).unwrap();
    period.find(&accounts[100]).unwrap();
    let before = archive.store().bytes_read();
    let read = period
        .usage([accounts[100].as_str()], &Names::default())
        .unwrap();
    assert_eq!(read.len(), 500);
    let cost = archive.store().bytes_read() - before;
    assert!(cost < period.size() / 8, "{cost} of {}", period.size());
}

#[test]
fn the_last_sequence_of_an_account_is_read_and_lines_add_up() {
    let world = World::new();
    let accounts = neighbours(2);
    let rows: Vec<_> = accounts
        .iter()
        .flat_map(|account| world.rows(account, 10))
        .collect();
    world.write(
        0,
        &rows,
        &[world.line(&accounts[0], 10), world.line(&accounts[1], 20)],
    );
    world.write(
        1,
        &world.rows(&accounts[0], 11),
        &[world.line(&accounts[0], 3)],
    );
    let period = world.open();
    let rows = |account: &str| period.usage([account], &Names::default()).unwrap().len();
    assert_eq!((rows(&accounts[0]), rows(&accounts[1])), (11, 10));
    let lines = period.lines(5).unwrap();
    let amounts = lines.iter().map(|line| {
        (
            line.account.as_str(),
            line.sequence,
            line.sum.amount.to_i128().unwrap(),
        )
    });
    let amounts: Vec<_> = amounts.collect();
    assert_eq!(
        amounts,
        [
            (&*accounts[0], 0, 10),
            (&*accounts[1], 0, 20),
            (&*accounts[0], 1, 3)
        ]
    );
    assert_eq!(period.manifest().sequence, 1);
}

#[test]
fn identities_are_found_where_they_are() {
    let world = World::new();
    let rows: Vec<_> = ["a", "b", "c"]
        .iter()
        .flat_map(|account| world.rows(account, 100))
        .collect();
    world.write(0, &rows, &[]);
    let asked: BTreeSet<_> = [world.row("b", 7), world.row("b", 777)]
        .iter()
        .map(|row| row.usage.identity)
        .collect();
    let known_to = |period: &ArchivedPeriod| -> BTreeMap<_, _> {
        let usage = period.usage_of(&asked, &Names::default()).unwrap();
        let records = usage.into_iter();
        records
            .map(|(identity, row)| (identity, row.usage.record))
            .collect()
    };
    let known = known_to(&world.open());
    let seven = world.row("b", 7).usage;
    assert_eq!(known, BTreeMap::from([(seven.identity, seven.record)]));
    // What an account had before it was written once more is not known any more.
    world.write(1, &world.rows("b", 7), &[]);
    assert!(known_to(&world.open()).is_empty());
    assert_eq!(known_to(&world.open().until(0)), known);
    let again = world.open().accounts_since(0).unwrap();
    assert_eq!(again, BTreeSet::from(["b".to_owned()]));
}

#[test]
fn writing_again_writes_the_same_bytes() {
    let read = |folder: &std::path::Path| -> BTreeMap<String, Vec<u8>> {
        let store = Store::open("closed", folder).unwrap();
        let files = store.list().unwrap();
        files
            .iter()
            .map(|file| (file.name.clone(), std::fs::read(&file.location).unwrap()))
            .collect()
    };
    let (world, other) = (World::new(), World::new());
    let mut rows = world.rows("a", 300);
    world.write(0, &rows, &[world.line("a", 1)]);
    rows.reverse();
    for n in 0..300 {
        other.row("a", n);
    }
    other.write(0, &rows, &[other.line("a", 1)]);
    assert_eq!(read(world.folder.path()), read(other.folder.path()));
}

#[test]
fn a_damaged_file_is_named() {
    let world = World::new();
    let accounts = neighbours(2);
    let rows: Vec<_> = accounts
        .iter()
        .flat_map(|account| world.rows(account, 2_000))
        .collect();
    let write = || world.write(0, &rows, &[world.line(&accounts[0], 1)]);
    write();
    let files = world.store.list().unwrap();
    let attempt = || -> Result<(), ArchiveError> {
        let archive = Archive::open("closed", world.folder.path())?;
        let period = archive.period(january())?;
        period.usage(accounts.iter().map(String::as_str), &Names::default())?;
        period.lines(5)?;
        period.reference(None, &Names::default())?;
        let identities = rows.iter().map(|row| row.usage.identity).collect();
        period.usage_of(&identities, &Names::default())?;
        Ok(())
    };
    attempt().unwrap();
    for file in &files {
        if file.name.contains("/accounts-") {
            continue;
        }
        let bytes = std::fs::read(&file.location).unwrap();
        // Shorter, missing, and one bit in the middle turned.
        std::fs::write(&file.location, &bytes[..bytes.len() - 1]).unwrap();
        let name = file.name.rsplit('/').next().unwrap();
        let told = |what: &str| {
            let error = attempt().expect_err(what).to_string();
            let kind = name.contains("manifest") && error.contains("no archive");
            assert!(error.contains(name) || kind, "{what} {name}: {error}");
        };
        told("shorter");
        std::fs::remove_file(&file.location).unwrap();
        told("missing");
        let mut turned = bytes.clone();
        turned[bytes.len() / 2] ^= 4;
        std::fs::write(&file.location, &turned).unwrap();
        told("turned");
        std::fs::write(&file.location, &bytes).unwrap();
    }
    attempt().unwrap();
}

#[test]
fn no_bit_of_a_manifest_may_change() {
    let world = World::new();
    let rows = world.rows("acme", 5);
    world.write(0, &rows, &[world.line("acme", 1)]);
    world.write(1, &rows, &[world.line("acme", 2)]);
    let place = |sequence: u32| {
        let name = layout::manifest(january(), sequence);
        world.folder.path().join("closed").join(name)
    };
    let read = || {
        let archive = Archive::of(Arc::clone(&world.store))?;
        archive.period(january())
    };
    let digest = read().unwrap().digest(1);
    let [bill, adjustment] = [0, 1].map(|sequence| std::fs::read(place(sequence)).unwrap());
    for at in 0..bill.len() {
        let mut turned = bill.clone();
        turned[at] ^= 1 << (at % 8);
        std::fs::write(place(0), &turned).unwrap();
        let error = read().expect_err("a bit was turned").to_string();
        assert!(error.contains("manifest-0000.json"), "byte {at}: {error}");
    }
    // One in the place of another is no manifest of what its name says.
    std::fs::write(place(0), &adjustment).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("is manifest 1 of"), "{error}");
    std::fs::write(place(0), &bill).unwrap();
    assert_eq!(read().unwrap().digest(1), digest);
    assert_ne!(read().unwrap().digest(0), digest);
    // What was written before manifests had digests says so.
    let line = bill.split(|byte| *byte == b'\n').next().unwrap();
    let first = String::from_utf8(line.to_vec()).unwrap();
    let first = first.replacen("\"version\":2", "\"version\":1", 1);
    std::fs::write(place(0), first).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("is of archive version 1"), "{error}");
}

#[test]
fn no_bit_of_usage_hides_an_identity() {
    let world = World::new();
    let rows = world.rows("acme", 40);
    world.write(0, &rows, &[]);
    let files = world.store.list().unwrap();
    let usage = files.iter().find(|file| file.name.contains("/usage-"));
    let usage = &usage.unwrap().location;
    let whole = std::fs::read(usage).unwrap();
    let asked = BTreeSet::from([world.row("acme", 7).usage.identity]);
    let found = || {
        let usage = world.open().usage_of(&asked, &Names::default())?;
        Ok::<_, ArchiveError>(usage.into_values().map(|row| row.usage).collect::<Vec<_>>())
    };
    let expected = found().unwrap();
    assert_eq!(expected.len(), 1);
    let mut named = 0;
    for at in (0..whole.len()).step_by(31) {
        let mut turned = whole.clone();
        turned[at] ^= 1 << (at % 8);
        std::fs::write(usage, &turned).unwrap();
        match found() {
            // A column that is not asked for.
            Ok(found) => assert_eq!(found, expected, "byte {at}"),
            Err(error) => {
                assert!(error.to_string().contains("usage-"), "{error}");
                named += 1;
            }
        }
    }
    assert!(named > 20, "{named}");
}

#[test]
fn files_that_a_period_lacks_are_named_without_being_read() {
    let world = World::new();
    world.write(0, &world.rows("acme", 40), &[world.line("acme", 1)]);
    let check = || {
        let archive = Archive::of(Arc::clone(&world.store)).unwrap();
        archive.check_files(&world.open())
    };
    check().unwrap();
    for file in world.store.list().unwrap() {
        let name = file.name.rsplit('/').next().unwrap();
        if name.starts_with("manifest-") {
            continue;
        }
        let whole = std::fs::read(&file.location).unwrap();
        std::fs::write(&file.location, &whole[1..]).unwrap();
        let shorter = check().unwrap_err().to_string();
        std::fs::remove_file(&file.location).unwrap();
        let missing = check().unwrap_err().to_string();
        assert!(
            shorter.contains(name) && missing.contains(name),
            "{shorter} {missing}"
        );
        assert!(missing.contains("is missing"), "{missing}");
        std::fs::write(&file.location, &whole).unwrap();
    }
}

#[test]
fn a_copy_of_reference_data_that_is_damaged_is_written_again() {
    let world = World::new();
    world.write(0, &world.rows("acme", 4), &[]);
    let files = world.store.list().unwrap();
    let copy = files.iter().find(|file| file.name.contains("reference/"));
    let copy = &copy.unwrap().location;
    let whole = std::fs::read(copy).unwrap();
    let mut turned = whole.clone();
    turned[whole.len() / 2] ^= 1;
    std::fs::write(copy, turned).unwrap();
    world.write(1, &world.rows("acme", 5), &[]);
    assert_eq!(std::fs::read(copy).unwrap(), whole);
}

#[test]
fn a_folder_without_periods_is_no_archive() {
    let folder = tempfile::tempdir().unwrap();
    let message = |location: &str| {
        let opened = Archive::open(location, folder.path());
        opened
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    assert!(message(".").contains("there is no archive at \".\""));
    assert!(message("nowhere").contains("there is no archive at \"nowhere\""));
}

#[test]
fn of_two_runs_one_archives() {
    let world = World::new();
    let (rows, more) = (world.rows("acme", 5), world.rows("acme", 9));
    let lines = [world.line("acme", 12)];
    world.write_by(1, 0, &rows, &lines).unwrap();
    // Done again, as after an answer that was lost.
    world.write_by(1, 0, &rows, &lines).unwrap();
    let late = world.write_by(2, 0, &more, &lines);
    assert!(matches!(late, Err(ArchiveError::Taken { .. })), "{late:?}");
    let read = || world.open().usage(["acme"], &Names::default()).unwrap();
    assert_eq!(read().len(), 5);
    // What the late run left goes with the first manifest of its sequence, or is never looked at.
    let folder = "periods/20260101T000000Z-20260201T000000Z";
    let files = |sequence: &str| {
        let names = world.store.names(folder).unwrap().into_iter();
        let of_sequence =
            names.filter(|name| !name.starts_with("manifest-") && name.contains(sequence));
        of_sequence.count()
    };
    let cut = world.texts.names.enter_account("acme");
    let place = Place {
        period: january(),
        sequence: 1,
        generation: 3,
        shard: shard(cut.0),
    };
    let content = ShardContent {
        accounts: [cut].into(),
        ..ShardContent::default()
    };
    write_shard(&world.store, place, content, &world.texts).unwrap();
    assert_eq!(files("-0001-"), 1);
    world.write_by(4, 1, &more, &[]).unwrap();
    assert_eq!((files("-0001-"), read().len()), (2, 9));
}

/// The periods of a bucket are opened beside one another, and are those that are opened one by one.
#[cfg(feature = "s3")]
#[test]
fn all_periods_of_a_bucket_are_opened_at_once() {
    use object_store::memory::InMemory;
    use object_store::throttle::{ThrottleConfig, ThrottledStore};
    use std::time::{Duration, Instant};
    const PERIODS: u32 = 40;
    const WAIT: Duration = Duration::from_millis(50);
    let throttled = ThrottledStore::new(InMemory::new(), ThrottleConfig::default());
    let slow = Arc::new(throttled);
    let store = Arc::new(Store::over("memory", Arc::clone(&slow) as _));
    let reference = write_reference(&store, &Reference::default(), &Names::default()).unwrap();
    let day = |n: u32| EventTime(january().start().0 + i64::from(n) * DAY);
    for n in 0..PERIODS {
        let terms = Terms {
            job: "calls".to_owned(),
            period: Period::new(day(n), day(n + 1)).unwrap(),
            sequence: 0,
            clock: day(PERIODS),
            state: None,
            time_zone: "UTC".to_owned(),
            aggregate_by: Vec::new(),
        };
        write_manifest(&store, terms, &reference, BTreeMap::new()).unwrap();
    }
    let archive = || Archive::of(Arc::clone(&store)).unwrap();
    let digests = |opened: Vec<ArchivedPeriod>| {
        let told = opened
            .iter()
            .map(|period| (period.period(), period.digest(0)));
        told.collect::<Vec<_>>()
    };
    let each = archive();
    let one_by_one = each.periods().map(|period| each.period(period).unwrap());
    let one_by_one = digests(one_by_one.collect());
    assert_eq!(one_by_one.len(), 40);
    let listed = archive();
    slow.config_mut(|config| config.wait_get_per_call = WAIT);
    let begun = Instant::now();
    assert_eq!(digests(listed.open_all().unwrap()), one_by_one);
    let elapsed = begun.elapsed();
    assert!(elapsed < WAIT * PERIODS / 2, "{elapsed:?}");
    // One that is gone, or another, is named: the first of them.
    let last = layout::manifest(Period::new(day(39), day(40)).unwrap(), 0);
    let seventh = layout::manifest(Period::new(day(6), day(7)).unwrap(), 0);
    store.put(&last, b"{}").unwrap();
    store.remove(&seventh).unwrap();
    let refused = listed.open_all().unwrap_err().to_string();
    let named = refused.contains("20260107T000000Z") && refused.contains("is missing");
    assert!(named, "{refused}");
    let refused = archive().open_all().unwrap_err().to_string();
    assert!(refused.contains("20260209T000000Z"), "{refused}");
}
