//! Files in text formats, plain and compressed.

use crate::harness::fuzz;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millrace_connectors::decode::{
    ColumnRequest, Csv, DecodeError, DecodeOptions, Decoder, Format, JsonLines, RawChunk,
};
use millrace_operators::domain::{FileId, Reason};
use millrace_tests::dice::Dice;
use std::collections::BTreeSet;
use std::io::{self, Read};

/// What a file came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Row, line and values.
    pub(crate) rows: Vec<(u64, u64, String)>,
    /// Row, line, reason, field and detail of records that are no rows.
    pub(crate) faults: Vec<(u64, u64, Reason, String, String)>,
    /// Row and detail of what broke the file.
    pub(crate) broken: Option<(u64, String)>,
}

/// Reads a file to its end and checks that every record is accounted for once.
pub(crate) fn outcome(mut next: impl FnMut() -> Option<RawChunk>) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut received, mut chunks) = (0, 0);
    while let Some(chunk) = next() {
        assert!(
            outcome.broken.is_none(),
            "a chunk follows the end of a broken file"
        );
        chunks += 1;
        assert!(chunks < 100_000, "chunks without end");
        received += chunk.received;
        assert_eq!(chunk.rows.len(), chunk.batch.num_rows());
        assert!(chunk.lines.is_empty() || chunk.lines.len() == chunk.rows.len());
        let options = FormatOptions::default().with_null("NULL");
        let columns = chunk.batch.columns().iter();
        let columns: Vec<_> = columns
            .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
            .collect();
        for (index, row) in chunk.rows.iter().enumerate() {
            let line = chunk.lines.get(index).copied().unwrap_or(0);
            // A time that no calendar has cannot be shown.
            let values = columns.iter().map(|column| {
                let value = column.value(index).try_to_string();
                value.unwrap_or_else(|_| "?".to_owned())
            });
            outcome
                .rows
                .push((*row, line, values.collect::<Vec<_>>().join("|")));
        }
        for fault in chunk.faults {
            let (row, detail) = (fault.record.row(), fault.detail);
            if fault.reason == Reason::FileUnreadable {
                assert!(outcome.broken.is_none(), "a file breaks once");
                outcome.broken = Some((row, detail));
            } else {
                assert!(!detail.is_empty() && detail.len() < 2_000, "{detail}");
                outcome
                    .faults
                    .push((row, fault.line, fault.reason, fault.field, detail));
            }
        }
        if let Some(originals) = chunk.originals {
            assert_eq!(u64::try_from(originals.rows.len()).unwrap(), chunk.received);
        }
    }
    let numbers = outcome.rows.iter().map(|(row, ..)| *row);
    let numbers: BTreeSet<u64> = numbers
        .chain(outcome.faults.iter().map(|(row, ..)| *row))
        .collect();
    assert_eq!(
        numbers,
        (0..received).collect(),
        "every record is a row or told, once"
    );
    outcome
}

/// Hands out few bytes at a time.
struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    random: Dice,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = 1 + self.random.below(7);
        let end = (self.at + count)
            .min(self.bytes.len())
            .min(self.at + buffer.len());
        let piece = &self.bytes[self.at..end];
        buffer[..piece.len()].copy_from_slice(piece);
        self.at = end;
        Ok(piece.len())
    }
}

pub(crate) fn columns(wanted: &[(&str, &str)]) -> Vec<ColumnRequest> {
    let column = |(name, kind): &(&str, &str)| {
        ColumnRequest::new(*name, (!kind.is_empty()).then(|| kind.parse().unwrap()))
    };
    wanted.iter().map(column).collect()
}

fn check(name: &str, format: &Format, bytes: &[u8], random: &mut Dice) {
    let columns = columns(&[
        ("id", ""),
        ("n", "decimal(18,4)"),
        ("at", "timestamp"),
        ("usage.count", "bigint"),
    ]);
    let read = |input: Box<dyn Read + Send>, chunk_rows: usize, keep_originals: bool| {
        let options = DecodeOptions {
            chunk_rows,
            keep_originals,
            ..DecodeOptions::default()
        };
        let decoder = Decoder::from_reader(input, name, FileId(7), format, &columns, &options);
        match decoder {
            Ok(mut decoder) => Ok(outcome(|| decoder.next_chunk())),
            Err(DecodeError::Panicked { detail, .. }) => panic!("{detail}"),
            Err(error) => Err(error.to_string()),
        }
    };
    let whole = read(Box::new(io::Cursor::new(bytes.to_vec())), 1_000, false);
    let pieces = Pieces {
        bytes: bytes.to_vec(),
        at: 0,
        random: Dice(random.number()),
    };
    let pieces = read(Box::new(pieces), 1 + random.below(4), true);
    assert_eq!(whole, pieces, "the same bytes are the same rows");
    if let Ok(Outcome {
        broken: Some((_, detail)),
        ..
    }) = &whole
    {
        assert!(!detail.contains("gave up"), "{detail}");
    }
}

/// A format, on files of the corpus of `target`, whose names end like `name`.
fn text(target: &str, name: &str, format: &Format, words: &[&[u8]]) {
    fuzz(target, words, |bytes, random| {
        check(name, format, bytes, random);
        if !name.contains(".gz") && !name.contains(".zst") {
            // What containers of usage say of a row is for people; here they only must not panic.
            drop(format.containers(bytes));
        }
    });
}

pub(crate) const CSV: Format = Format::Csv(Csv {
    delimiter: ',',
    header: None,
});

const CSV_WORDS: [&[u8]; 18] = [
    b"\xEF\xBB\xBF",
    b"\xFF\xFE",
    b"\"",
    b"\"\"",
    b"\n",
    b"\r\n",
    b"\r",
    b",",
    b"\0",
    b"\n\n",
    b"\"a\nb\"",
    b"id",
    b"n",
    b"-1e-999999999999",
    b"99999999999999999999",
    b"2026-02-30",
    b"\xC3",
    b"id,n,at,usage.count\n",
];

const JSON_WORDS: [&[u8]; 22] = [
    b"\"",
    b"\\",
    b"\\u",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\r\n",
    b"null",
    b"\xEF\xBB\xBF",
    b"1e400",
    b"-0",
    b"\"id\":",
    b"{}",
    b"[[[[[[[[",
    b"\xFF",
    b"\"usage\":{",
    b"\"n\":\"12\"",
];

/// Each has files in the corpus under its name.
#[test]
fn every_format_of_text() {
    let words = [&CSV_WORDS[..], &JSON_WORDS[..]].concat();
    for about in Format::all() {
        let nothing = Box::new(io::empty());
        let (format, options) = (&about.example, DecodeOptions::default());
        let opened = Decoder::from_reader(nothing, "a", FileId(7), format, &[], &options);
        if !matches!(opened, Err(DecodeError::NotAStream { .. })) {
            text(about.name, "a", format, &words);
        }
    }
}

#[test]
fn csv_whose_header_is_given() {
    let names = ["id", "n", "at", "usage.count"].map(str::to_owned).to_vec();
    let format = Format::Csv(Csv {
        delimiter: ';',
        header: Some(names),
    });
    text(
        "csv-without-header",
        "a.txt",
        &format,
        &[&CSV_WORDS[..], &[b";"]].concat(),
    );
}

#[test]
fn gzip() {
    text(
        "gzip",
        "a.csv.gz",
        &CSV,
        &[b"\0", b"\x1f\x8b", b"\x1f\x8b\x08\0", b"\0\0\0\0\0\0\0\0"],
    );
}

#[test]
fn zstd() {
    let words: [&[u8]; 3] = [b"\0", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"];
    text(
        "zstd",
        "a.jsonl.zst",
        &Format::JsonLines(JsonLines {}),
        &words,
    );
}

/// A few bytes that stand for more than any usage are told, and soon.
#[test]
fn content_that_is_made_to_fill_memory() {
    // A block of Zstandard that repeats one byte 128 KiB long, as often as it takes.
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    let length: u32 = 128 << 10;
    let header = (length << 3) | 0b010;
    for _ in 0..1_000 {
        bomb.extend_from_slice(&header.to_le_bytes()[..3]);
        bomb.push(b'x');
    }
    let options = DecodeOptions::default();
    let input = Box::new(io::Cursor::new(bomb));
    let columns = columns(&[("id", "")]);
    let name = "a.jsonl.zst";
    let decoder = Decoder::from_reader(
        input,
        name,
        FileId(7),
        &Format::JsonLines(JsonLines {}),
        &columns,
        &options,
    );
    let mut decoder = decoder.unwrap();
    let (_, detail) = outcome(|| decoder.next_chunk()).broken.unwrap();
    assert!(detail.contains("2000 times as much"), "{detail}");
}
