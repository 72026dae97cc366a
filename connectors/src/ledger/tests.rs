use super::*;

/// A file of text, looked into.
struct Seen<'t> {
    text: &'t str,
}

impl Sight for Seen<'_> {
    fn has_records(&self) -> bool {
        self.text.lines().count() > 1
    }

    fn begins_with(&self, content: &Content) -> bool {
        self.text.starts_with(&content.digest)
    }
}

fn arrival(source: &str, name: &str, text: &str) -> Arrival {
    Arrival {
        name: name.to_owned(),
        source: source.to_owned(),
        stream: StreamId::of_folder("gateway/llm/request/input").unwrap(),
        size: u64::try_from(text.len()).unwrap(),
        checksum: text.to_owned(),
        amends: false,
    }
}

#[test]
fn a_file_that_may_change_is_read_again_under_another_number() {
    let mut ledger = Ledger::default();
    let mut knock = |text: &str, amends| {
        let arrival = Arrival {
            amends,
            ..arrival("calls", "month.csv", text)
        };
        let admitted = ledger.admit(arrival, &Seen { text }).unwrap();
        if let Admission::Admitted(file) = admitted {
            ledger.settle(file, FileState::Loaded, 1, "");
        }
        let replaces = match &admitted {
            Admission::Admitted(file) => ledger.entry(*file).unwrap().replaces,
            _ => None,
        };
        (admitted, replaces)
    };
    let file = |n| Admission::Admitted(FileId(n));
    assert_eq!(knock("one", false), (file(0), None));
    // Refused at first, and read once the source says so.
    assert!(matches!(knock("two", false).0, Admission::Refused(_)));
    assert_eq!(knock("two", true), (file(2), Some(FileId(0))));
    assert_eq!(knock("two", true), (Admission::Known(FileId(2)), None));
    // What it was before, it may be again.
    assert_eq!(knock("one", true), (file(3), Some(FileId(2))));
    assert_eq!(knock("one", true), (Admission::Known(FileId(3)), None));
}

/// A file that was cut, and then is what it was.
#[test]
fn a_file_that_was_cut_and_is_whole_again_is_read_on() {
    let mut ledger = Ledger::default();
    let mut knock = |text: &str| {
        let arrival = Arrival {
            amends: true,
            ..arrival("calls", "month.csv", text)
        };
        let admitted = ledger.admit(arrival, &Seen { text }).unwrap();
        if let Admission::Admitted(file) | Admission::Grown(file) = admitted {
            ledger.settle(file, FileState::Loaded, 1, "");
            let content = Content {
                digest: text.to_owned(),
                ..Content::default()
            };
            ledger.read(file, Some(content));
        }
        admitted
    };
    assert_eq!(knock("head\n1\n2\n"), Admission::Admitted(FileId(0)));
    assert_eq!(knock("head\n1\n"), Admission::Admitted(FileId(1)));
    assert_eq!(knock("head\n1\n2\n"), Admission::Grown(FileId(1)));
    assert_eq!(knock("head\n1\n2\n"), Admission::Known(FileId(1)));
    assert_eq!(knock("head\n1\n"), Admission::Admitted(FileId(2)));
}

fn admit(ledger: &mut Ledger, source: &str, name: &str, text: &str) -> Admission {
    ledger
        .admit(arrival(source, name, text), &Seen { text })
        .unwrap()
}

/// Says that a file was read; its text stands for the digest of its content.
fn read(ledger: &mut Ledger, file: FileId, state: FileState) {
    let entry = ledger.entry_mut(file).unwrap();
    let text = entry.checksum.clone();
    let rows = u64::try_from(text.lines().count().saturating_sub(1)).unwrap();
    entry.content = Some(Content {
        bytes: u64::try_from(text.len()).unwrap(),
        digest: text,
        settled: rows,
        heads: Vec::new(),
    });
    ledger.settle(file, state, rows, "");
}

fn refused(admission: Admission) -> String {
    match admission {
        Admission::Refused(refusal) => refusal.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_file_is_taken_twice() {
    let mut ledger = Ledger::default();
    let first = FileId(0);
    let text = "n\n1\n";
    assert_eq!(
        admit(&mut ledger, "a", "a.csv", text),
        Admission::Admitted(first)
    );
    read(&mut ledger, first, FileState::Loaded);
    assert_eq!(
        admit(&mut ledger, "a", "a.csv", text),
        Admission::Known(first)
    );
    let told = refused(admit(&mut ledger, "a", "copy.csv", text));
    assert!(
        told.contains("\"copy.csv\" has the same content as \"a.csv\""),
        "{told}"
    );
    let copy = Admission::Known(FileId(1));
    assert_eq!(admit(&mut ledger, "a", "copy.csv", text), copy);
    let told = refused(admit(&mut ledger, "a", "a.csv", "n\n2\n"));
    assert!(told.contains("with other content"), "{told}");
    let other = admit(&mut ledger, "a", "b.csv", "n\n2\n");
    assert_eq!(other, Admission::Admitted(FileId(3)));
    let mut restored = Ledger::restore(ledger.entries().to_vec(), |_| true);
    assert_eq!(
        admit(&mut restored, "a", "a.csv", text),
        Admission::Known(first)
    );
    refused(admit(&mut restored, "a", "c.csv", "n\n2\n"));
}

#[test]
fn a_file_belongs_to_its_source() {
    let mut ledger = Ledger::default();
    let text = "n\n1\n";
    for (number, source) in [(0, "a"), (1, "b")] {
        let admitted = Admission::Admitted(FileId(number));
        assert_eq!(admit(&mut ledger, source, "a.csv", text), admitted);
        read(&mut ledger, FileId(number), FileState::Loaded);
    }
    // Of a source that is gone, nobody knows whether it was renamed.
    let mut restored = Ledger::restore(ledger.entries().to_vec(), |source| source == "a");
    let told = refused(admit(&mut restored, "c", "a.csv", text));
    assert!(
        told.contains("by the source \"b\", which the job no longer has"),
        "{told}"
    );
    let fresh = admit(&mut restored, "c", "a.csv", "n\n2\n");
    assert_eq!(fresh, Admission::Admitted(FileId(3)));
}

#[test]
fn files_without_records_are_no_copies() {
    let mut ledger = Ledger::default();
    for (number, name, text) in [(0, "a", ""), (1, "b", ""), (2, "c", "n\n"), (3, "d", "n\n")] {
        let admitted = Admission::Admitted(FileId(number));
        assert_eq!(admit(&mut ledger, "s", name, text), admitted);
        read(&mut ledger, FileId(number), FileState::Loaded);
    }
    let mut ledger = Ledger::restore(ledger.entries().to_vec(), |_| true);
    for (number, name, text) in [(0, "a", ""), (1, "b", ""), (2, "c", "n\n"), (3, "d", "n\n")] {
        let known = Admission::Known(FileId(number));
        assert_eq!(admit(&mut ledger, "s", name, text), known, "{name}");
    }
    // Nothing of it counts, so whatever comes under its name is read.
    assert_eq!(
        admit(&mut ledger, "s", "c", "m\n1\n"),
        Admission::Grown(FileId(2))
    );
}

#[test]
fn a_file_that_failed_may_come_again() {
    let mut ledger = Ledger::default();
    admit(&mut ledger, "s", "a.parquet", "n\n1\n");
    ledger.settle(FileId(0), FileState::Failed, 0, "not a whole Parquet file");
    let known = Admission::Known(FileId(0));
    assert_eq!(admit(&mut ledger, "s", "a.parquet", "n\n1\n"), known);
    let mut restored = Ledger::restore(ledger.entries().to_vec(), |_| true);
    assert_eq!(admit(&mut restored, "s", "a.parquet", "n\n1\n"), known);
    assert!(restored.retry(FileId(0)));
    restored.settle(FileId(0), FileState::Loaded, 1, "");
    assert_eq!(admit(&mut restored, "s", "a.parquet", "n\n1\n"), known);
    assert!(!restored.retry(FileId(0)));
    let other = admit(&mut ledger, "s", "a.parquet", "n\n2\n");
    assert_eq!(other, Admission::Admitted(FileId(1)));
    assert_eq!(ledger.entry(FileId(0)).unwrap().state, FileState::Failed);
    assert!(!ledger.retry(FileId(0)), "its name is another's");
}

#[test]
fn a_file_that_grew_is_read_on_and_one_that_was_cut_is_found_by_its_beginning() {
    let mut ledger = Ledger::default();
    let (cut, whole) = ("n\n1\n", "n\n1\n2\n");
    for state in [FileState::Loaded, FileState::Incomplete] {
        let source = state.name();
        let Admission::Admitted(file) = admit(&mut ledger, source, "a.csv", cut) else {
            panic!()
        };
        read(&mut ledger, file, state);
        let grown = admit(&mut ledger.clone(), source, "a.csv", whole);
        assert_eq!(grown, Admission::Grown(file));
        let Admission::Admitted(other) = admit(&mut ledger, source, "b.csv", whole) else {
            panic!()
        };
        let sight = Seen { text: whole };
        let begins = ledger.cut(other, &sight);
        // Of a file that is whole, another that begins with it is another file.
        assert_eq!(begins, (state == FileState::Incomplete).then_some(file));
        if begins.is_some() {
            assert_eq!(ledger.continues(other, file), 1);
            assert_eq!(ledger.entry(other).unwrap().from, 1);
            assert_eq!(ledger.entry(file).unwrap().until, Some(1));
            assert_eq!(ledger.cut(other, &sight), None);
            // Its end is read from another file; more of it may be read behind that.
            let more = admit(&mut ledger, source, "a.csv", "n\n1\n2\n3\n");
            assert!(matches!(more, Admission::Admitted(_)), "{more:?}");
        }
    }
}
