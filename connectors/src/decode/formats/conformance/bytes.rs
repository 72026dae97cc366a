//! Any bytes, as files of every format of text.

use super::super::Format;
use super::{RECORDS, Sample, common, is_text};
use crate::decode::tests::columns;
use crate::decode::{DecodeError, DecodeOptions, Decoder, RawChunk};
use millrace_operators::domain::{FileId, Reason};
use proptest::prelude::*;
use std::io;

/// A stream that gives its bytes in pieces of these lengths, again and again.
struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    lengths: Vec<usize>,
    turn: usize,
}

impl io::Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.lengths[self.turn % self.lengths.len()];
        self.turn += 1;
        let rest = &self.bytes[self.at..];
        let count = length.min(rest.len()).min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

fn text_bytes() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"1,x\n",
        b"2,\"y\"\n",
        b"\"3",
        b"\n",
        b"\r\n",
        b"\"",
        b",",
        b"\"\"",
        b"{\"a\":1}",
        b"\n{",
        b"]",
        b"[",
        b"\"a\":",
        b"\xEF\xBB\xBF",
        b"\xEF",
        b"\0",
        b"\xff",
        b"{\"a\":{\"b\":2}},",
        b"\r",
        b"0000000040four    x",
        b" ",
    ];
    let pieces = proptest::collection::vec(proptest::sample::select(pieces), 0..30);
    let signs = proptest::sample::select(b"ab1,\"\n\r{}[]:\\ e.-\0".to_vec());
    let signs = proptest::collection::vec(prop_oneof![6 => signs, 1 => any::<u8>()], 0..200);
    prop_oneof![pieces.prop_map(|all| all.concat()), signs]
}

/// What text may begin with, so that bytes behind it are read as a file of the sample.
fn beginnings(sample: &Sample) -> Vec<Vec<u8>> {
    let records = (sample.write)(&RECORDS);
    let begun = common(&(sample.write)(&RECORDS[..1]), &records);
    let header = common(&(sample.write)(&[]), &records);
    let marked = [&b"\xEF\xBB\xBF"[..], &records[..header]].concat();
    vec![
        Vec::new(),
        records[..header].to_vec(),
        records[..begun].to_vec(),
        marked,
        b"{\"k\":".to_vec(),
    ]
}

fn decoder(
    sample: &Sample,
    input: Box<dyn io::Read + Send>,
    chunk_rows: usize,
) -> Result<Decoder, DecodeError> {
    let options = DecodeOptions {
        remember: true,
        chunk_rows,
        ..DecodeOptions::default()
    };
    let (format, wanted) = (&sample.format, columns(&[("a", "decimal(9,2)")]));
    Decoder::from_reader(input, sample.name, FileId(7), format, &wanted, &options)
}

/// What is read of records, by their numbers.
fn by_number(decoder: &mut Decoder) -> Vec<(u64, String)> {
    let mut rows = Vec::new();
    while let Some(chunk) = decoder.next_chunk() {
        let faults = chunk.faults.iter();
        let faults = faults.filter(|fault| fault.reason != Reason::FileUnreadable);
        rows.extend(faults.map(|fault| (fault.record.row(), format!("{fault:?}"))));
        for (index, row) in chunk.rows.iter().enumerate() {
            rows.push((*row, format!("{:?}", chunk.batch.slice(index, 1))));
        }
    }
    rows.sort();
    rows
}

proptest! {
    /// Whatever the bytes are and however they arrive: decoding ends, numbers every record once, and gives the
    /// same rows, faults and content.
    #[test]
    fn pieces_make_no_difference(
        bytes in text_bytes(),
        lengths in proptest::collection::vec(1_usize..9, 1..5),
    ) {
        for sample in Format::samples().into_iter().filter(is_text) {
            for start in beginnings(&sample) {
                let bytes = [&start[..], &bytes].concat();
                let read = |input: Box<dyn io::Read + Send>| match decoder(&sample, input, 100) {
                    Ok(mut decoder) => {
                        let chunks: Vec<RawChunk> = std::iter::from_fn(|| decoder.next_chunk()).collect();
                        let lines = chunks.iter().map(|chunk| {
                            format!("{:?} {:?} {:?} {:?}", chunk.rows, chunk.lines, chunk.batch, chunk.faults)
                        });
                        (lines.collect(), decoder.content())
                    }
                    Err(error) => (vec![error.to_string()], None),
                };
                let whole = read(Box::new(io::Cursor::new(bytes.clone())));
                let pieces = Pieces { bytes: bytes.clone(), at: 0, lengths: lengths.clone(), turn: 0 };
                prop_assert_eq!(whole, read(Box::new(pieces)));
                let Ok(mut decoder) = decoder(&sample, Box::new(io::Cursor::new(bytes)), 2) else {
                    continue;
                };
                let numbers = by_number(&mut decoder).into_iter().map(|(number, _)| number);
                let numbers: Vec<u64> = numbers.collect();
                prop_assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{:?}", numbers);
            }
        }
    }

    /// What was read of a file that was cut begins what is read of the whole file: all rows that are
    /// settled, and the bytes that the content names.
    #[test]
    fn a_cut_file_begins_the_whole_one(bytes in text_bytes(), cut in 0_usize..200) {
        for sample in Format::samples().into_iter().filter(is_text) {
            for start in beginnings(&sample) {
                let whole = [&start[..], &bytes].concat();
                let cut = cut.min(whole.len());
                let read = |bytes: &[u8]| {
                    let mut decoder = decoder(&sample, Box::new(io::Cursor::new(bytes.to_vec())), 100).ok()?;
                    Some((by_number(&mut decoder), decoder.content()?))
                };
                let (Some((before, content)), Some((after, _))) = (read(&whole[..cut]), read(&whole)) else {
                    continue;
                };
                // What is told of the whole file once may be told of its beginning record by record.
                if after.is_empty() {
                    continue;
                }
                let settled = usize::try_from(content.settled).unwrap();
                prop_assert!(settled <= before.len());
                prop_assert_eq!(&before[..settled], &after[..settled.min(after.len())]);
                let length = usize::try_from(content.bytes).unwrap();
                prop_assert_eq!(blake3::hash(&whole[..length]).to_hex().to_string(), content.digest);
            }
        }
    }
}
