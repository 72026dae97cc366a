//! Parquet files, whose readers belong to others.

use crate::files::{Outcome, columns, outcome};
use crate::harness::{corpus, count, folder, fuzz, quiet};
use millrace_connectors::decode::{DecodeOptions, Decoder, Format, Parquet};
use millrace_connectors::store::{FileMeta, Store};
use millrace_operators::domain::FileId;
use millrace_tests::dice::Dice;
use std::fs;
use tempfile::TempDir;

/// A place for one file after the other.
struct Place {
    _folder: TempDir,
    store: Store,
    meta: FileMeta,
}

impl Place {
    fn new() -> Self {
        let folder = folder();
        let path = folder.path().join("a.parquet");
        fs::write(&path, "").unwrap();
        Self {
            store: Store::open("a.parquet", folder.path()).unwrap(),
            meta: FileMeta {
                name: "a.parquet".to_owned(),
                location: path.display().to_string(),
                size: 0,
                etag: None,
            },
            _folder: folder,
        }
    }

    fn read(&self, chunk_rows: usize) -> Result<Outcome, String> {
        let columns = columns(&[
            ("id", ""),
            ("n", "decimal(18,4)"),
            ("at", "timestamp"),
            ("k", ""),
        ]);
        let options = DecodeOptions {
            chunk_rows,
            ..DecodeOptions::default()
        };
        let (file, format) = (FileId(7), Format::Parquet(Parquet {}));
        match Decoder::open(&self.store, &self.meta, file, &format, &columns, &options) {
            Ok(mut decoder) => Ok(outcome(|| decoder.next_chunk())),
            Err(error) => Err(error.to_string()),
        }
    }

    fn check(&self, bytes: &[u8], random: &mut Dice) {
        let told = |read: Result<Outcome, String>| {
            // What a reader says of damage may depend on how much it was asked for.
            let read = read.map_err(drop);
            read.map(|outcome| {
                let broken = outcome.broken.map(|(row, _)| row);
                let faults = outcome.faults.into_iter().map(|(row, ..)| row);
                (outcome.rows, faults.collect::<Vec<_>>(), broken)
            })
        };
        fs::write(&self.meta.location, bytes).unwrap();
        let whole = told(self.read(1_000));
        let pieces = told(self.read(1 + random.below(5)));
        assert_eq!(whole, pieces, "the same bytes are the same rows");
    }
}

#[test]
fn parquet() {
    let place = Place::new();
    let words: [&[u8]; 5] = [
        b"PAR1",
        b"\0",
        b"\xff\xff\xff\xff\x0f",
        b"\x1c",
        b"ARROW:schema",
    ];
    fuzz("parquet", &words, |bytes, random| {
        place.check(bytes, random)
    });
}

/// Each byte of the frame of a file, its page headers and its footer, with another value: it is told or
/// changes no row that is billed but in ways that no reader can tell.
#[test]
fn one_byte_of_a_file() {
    quiet();
    let place = Place::new();
    for entry in fs::read_dir(corpus("parquet")).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let mut random = Dice(1);
        // All of them when there is time, and otherwise a few of each file.
        let step = if count().is_some() { 1 } else { 61 };
        for at in (0..bytes.len()).step_by(step) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << random.below(8);
            place.check(&damaged, &mut random);
        }
    }
}
