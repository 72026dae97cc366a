//! Few bytes that stand for more memory or depth than there is: they are told, by file, record or
//! expression, and what is beside them goes on. A process that believes them ends at once, which no shield
//! holds.

use crate::files::{CSV, columns, outcome};
use arrow::array::Array;
use flate2::Compression as Gzip;
use flate2::write::GzEncoder;
use millrace_connectors::decode::{
    CHUNK_BYTES_MAX, DecodeOptions, Decoder, Format, Json, JsonLines, RECORD_BYTES_MAX, RawChunk,
};
use millrace_connectors::mediate::MediationRule;
use millrace_connectors::reference::yaml;
use millrace_operators::domain::FileId;
use std::io::{self, Cursor, Read, Write as _};

/// Opens text; its first column is asked for.
fn opened(name: &str, format: &Format, input: Box<dyn Read + Send>) -> Result<Decoder, String> {
    let options = DecodeOptions {
        keep_originals: true,
        ..DecodeOptions::default()
    };
    let columns = columns(&[("id", "")]);
    Decoder::from_reader(input, name, FileId(7), format, &columns, &options)
        .map_err(|error| error.to_string())
}

/// The chunks, none of which is larger than it may be.
fn chunks(mut decoder: Decoder) -> Vec<RawChunk> {
    let chunks: Vec<RawChunk> = std::iter::from_fn(|| decoder.next_chunk()).collect();
    for chunk in &chunks {
        let data = |column: &std::sync::Arc<dyn Array>| column.to_data();
        let bytes = chunk.batch.columns().iter().map(data);
        let bytes: usize = bytes
            .map(|data| data.get_slice_memory_size().unwrap())
            .sum();
        assert!(
            bytes <= CHUNK_BYTES_MAX + RECORD_BYTES_MAX + (1 << 20),
            "{bytes} bytes"
        );
    }
    chunks
}

/// A text and the same one again and again.
fn repeated(text: &str, times: u64) -> Box<dyn Read + Send> {
    struct Repeated(Vec<u8>, usize, u64);
    impl Read for Repeated {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.1 == self.0.len() {
                (self.1, self.2) = (0, self.2.saturating_sub(1));
            }
            let left = if self.2 == 0 {
                &[][..]
            } else {
                &self.0[self.1..]
            };
            let count = left.len().min(buffer.len());
            buffer[..count].copy_from_slice(&left[..count]);
            self.1 += count;
            Ok(count)
        }
    }
    Box::new(Repeated(text.as_bytes().to_vec(), 0, times))
}

#[test]
fn chunks_of_large_records_are_short() {
    let long = "x".repeat(7 << 20);
    for (name, format, record) in [
        (
            "a.jsonl",
            Format::JsonLines(JsonLines {}),
            format!("{{\"id\":\"{long}\"}}\n"),
        ),
        ("a.csv", CSV, format!("{long}\n")),
    ] {
        let header = Box::new(Cursor::new(match format {
            Format::JsonLines(JsonLines {}) => &b""[..],
            _ => b"id\n",
        }));
        let decoder = opened(name, &format, Box::new(header.chain(repeated(&record, 12))));
        let chunks = chunks(decoder.unwrap());
        assert!(chunks.len() > 1);
        let rows: usize = chunks.iter().map(|chunk| chunk.rows.len()).sum();
        assert_eq!(rows, 12, "{name}");
    }
}

/// A line of a gibibyte is one record that is told; memory does not hold it.
#[test]
fn a_line_without_end() {
    let line = repeated(&"x".repeat(1 << 20), 1_024);
    let input = Cursor::new(b"{\"id\":1}\n").chain(line);
    let input = input.chain(Cursor::new(b"\n{\"id\":2}\n"));
    let mut decoder = opened("a.jsonl", &Format::JsonLines(JsonLines {}), Box::new(input)).unwrap();
    let read = outcome(|| decoder.next_chunk());
    assert_eq!(read.rows.len(), 2);
    assert!(
        read.faults[0].4.contains("more than 8388608 bytes"),
        "{read:?}"
    );
}

#[test]
fn text_that_is_packed_well() {
    let mut packed = GzEncoder::new(Vec::new(), Gzip::best());
    packed.write_all(b"id\n1\n").unwrap();
    for _ in 0..100 {
        packed.write_all(&[b'x'; 1 << 20]).unwrap();
    }
    packed.write_all(b"\n2\n").unwrap();
    let input = Box::new(Cursor::new(packed.finish().unwrap()));
    let mut decoder = opened("a.csv.gz", &CSV, input).unwrap();
    let read = outcome(|| decoder.next_chunk());
    assert_eq!((read.rows.len(), read.faults.len()), (2, 1));
}

#[test]
fn json_of_a_million_levels() {
    let deep = |open: &str, close: &str| {
        let (open, close) = (open.repeat(1_000_000), close.repeat(1_000_000));
        format!("{{\"id\":{open}1{close}}}")
    };
    for deep in [deep("[", "]"), deep("{\"a\":", "}"), deep("[", "")] {
        let lines = format!("{deep}\n{{\"id\":2}}\n");
        let mut decoder = opened(
            "a.jsonl",
            &Format::JsonLines(JsonLines {}),
            Box::new(Cursor::new(lines)),
        )
        .unwrap();
        let read = outcome(|| decoder.next_chunk());
        assert_eq!(read.rows.len() + read.faults.len(), 2);
        assert!(read.rows.iter().any(|(row, ..)| *row == 1));
        let list = format!("[{deep}, {{\"id\":2}}]");
        let mut decoder = opened(
            "a.json",
            &Format::Json(Json {}),
            Box::new(Cursor::new(list)),
        )
        .unwrap();
        let read = outcome(|| decoder.next_chunk());
        assert!(read.rows.len() == 2 || read.broken.is_some());
    }
}

#[test]
fn a_csv_file_of_a_million_columns() {
    let header = format!("id{}\n1\n", ",a".repeat(1_000_000));
    let error = opened("a.csv", &CSV, Box::new(Cursor::new(header))).unwrap_err();
    assert!(
        error.contains("1000001 columns, and 16384 are the most"),
        "{error}"
    );
}

#[test]
fn yaml_that_stands_for_more() {
    let read = |text: &str| {
        let read = yaml::read::<MediationRule>("mediation.yaml", text);
        assert!(read.value.is_none());
        read.findings
            .iter()
            .map(|finding| finding.message.clone())
            .collect::<Vec<_>>()
            .join("; ")
    };
    let mut laughs = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, before) in ('b'..='z').zip('a'..) {
        let aliases = vec![format!("*{before}"); 10].join(", ");
        laughs.push_str(&format!("{name}: &{name} [{aliases}]\n"));
    }
    let long = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(1 << 20),
        "*a, ".repeat(100_000)
    );
    for text in [laughs, long] {
        let said = read(&text);
        assert!(
            said.contains("aliases for more than 1000000 values"),
            "{said}"
        );
    }
    for deep in [
        "[".repeat(1_000_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(100_000),
    ] {
        assert!(!read(&deep).is_empty());
    }
}
