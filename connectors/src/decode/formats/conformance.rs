//! What every format does. Each brings samples of its files, and all of this is tried on each of them.

mod bytes;

use super::{Format, Reading, fields_of, told};
use crate::decode::tests::{columns, shown};
use crate::decode::{Content, DecodeError, DecodeOptions, Decoder, RawChunk, is_cut_of};
use crate::raw::tests::round_trip;
use crate::store::{FileMeta, Store};
use millrace_operators::domain::FileId;
use std::io;
use tempfile::TempDir;

/// A number `a`, a text `b`, and a note that nobody reads.
pub(super) type Record = [&'static [u8]; 3];

/// What a text is called: a name as few files have it.
pub(super) const TEXT: &str = "the \"b\", 2";

/// Files of a format.
pub(super) struct Sample {
    /// What its files are called.
    pub(super) name: &'static str,
    pub(super) format: Format,
    /// A file of records.
    pub(super) write: fn(&[Record]) -> Vec<u8>,
    /// The line of its first record, where records have lines, and how many lines each has.
    pub(super) lines: Option<(u64, u64)>,
    /// What in the place of a record is none, where records can be damaged alone.
    pub(super) damage: Option<&'static [u8]>,
    /// Whether a file says where it ends.
    pub(super) has_end: bool,
}

/// A format with samples of its files.
pub(super) trait Conforms {
    fn samples() -> Vec<Sample>;
}

const RECORDS: [Record; 4] = [
    [b"10", b"one", b"x"],
    [b"20", b"two", b"y"],
    [b"30", b"three", b"z"],
    [b"40", b"four", b"x"],
];

const WANTED: [(&str, &str); 2] = [("a", "bigint"), (TEXT, "")];

/// A folder with a file in it.
struct Desk {
    folder: TempDir,
    name: String,
}

impl Desk {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let desk = Self {
            folder: tempfile::tempdir().unwrap(),
            name: name.to_owned(),
        };
        desk.write(name, bytes);
        desk
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join(name), bytes).unwrap();
    }

    fn file(&self, name: &str) -> (Store, FileMeta) {
        let store = Store::open(".", self.folder.path()).unwrap();
        let file = store.find(name).unwrap();
        (store, file)
    }

    fn open(
        &self,
        format: &Format,
        wanted: &[(&str, &str)],
        options: &DecodeOptions,
    ) -> Result<Decoder, DecodeError> {
        let (store, file) = self.file(&self.name);
        Decoder::open(&store, &file, FileId(7), format, &columns(wanted), options)
    }
}

/// The rows and faults of a file, by the order of its records.
fn read(sample: &Sample, bytes: &[u8]) -> Result<Vec<String>, String> {
    let desk = Desk::new(sample.name, bytes);
    let options = DecodeOptions::default();
    match desk.open(&sample.format, &WANTED, &options) {
        Ok(decoder) => Ok(shown(decoder)),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether something is told of a file.
fn is_told(read: &Result<Vec<String>, String>) -> bool {
    let told = |line: &String| line.contains("_UNREADABLE") || line.contains("_UNPARSABLE");
    read.as_ref().map_or(true, |lines| lines.iter().any(told))
}

/// What a row is shown as that was read well.
fn row(sample: &Sample, number: u64, text: &str) -> String {
    let line = sample
        .lines
        .map_or(0, |(first, each)| first + number * each);
    format!("{number}@{line} {text}")
}

fn rows(sample: &Sample) -> Vec<String> {
    let texts = ["10|one", "20|two", "30|three", "40|four"];
    let texts = (0..).zip(texts);
    texts
        .map(|(number, text)| row(sample, number, text))
        .collect()
}

fn is_text(sample: &Sample) -> bool {
    !matches!(sample.format.reading(), Reading::Columns(_))
}

#[test]
fn records_have_their_values_and_places() {
    for sample in Format::samples() {
        let read = read(&sample, &(sample.write)(&RECORDS));
        assert_eq!(read, Ok(rows(&sample)), "{:?}", sample.format);
        assert_eq!(sample.lines.is_some(), is_text(&sample));
    }
}

#[test]
fn what_is_empty_has_no_records() {
    for sample in Format::samples() {
        let none = read(&sample, &(sample.write)(&[]));
        assert_eq!(none, Ok(Vec::new()), "{:?}", sample.format);
        let nothing = read(&sample, b"");
        match sample.has_end && !is_text(&sample) {
            true => assert!(is_told(&nothing), "{:?}", sample.format),
            false => assert_eq!(nothing, Ok(Vec::new()), "{:?}", sample.format),
        }
    }
}

#[test]
fn a_bad_value_costs_its_own_record() {
    for sample in Format::samples() {
        let mut records = RECORDS;
        records[1][0] = b"2x";
        let read = read(&sample, &(sample.write)(&records)).unwrap();
        let mut expected = rows(&sample);
        let told = "FIELD_UNPARSABLE a: \"2x\" is not of type bigint";
        expected[1] = row(&sample, 1, told);
        assert_eq!(read, expected, "{:?}", sample.format);
    }
}

#[test]
fn a_damaged_record_costs_itself_alone() {
    for sample in Format::samples() {
        let Some(damage) = sample.damage else {
            continue;
        };
        let whole = (sample.write)(&RECORDS);
        let (before, behind) = ((sample.write)(&RECORDS[..1]), (sample.write)(&RECORDS[..2]));
        let start = common(&before, &whole);
        let end = common(&behind, &whole);
        let bytes = [&whole[..start], damage, &whole[end..]].concat();
        let read = read(&sample, &bytes).unwrap();
        let mut expected = rows(&sample);
        assert!(
            read[1].starts_with(&row(&sample, 1, "ROW_UNREADABLE: ")),
            "{:?}: {read:?}",
            sample.format
        );
        expected[1].clone_from(&read[1]);
        assert_eq!(read, expected, "{:?}", sample.format);
    }
}

/// How many bytes two files begin with.
fn common(one: &[u8], other: &[u8]) -> usize {
    let same = one
        .iter()
        .zip(other)
        .take_while(|(one, other)| one == other);
    same.count()
}

#[test]
fn what_nobody_reads_costs_nothing() {
    for sample in Format::samples() {
        let mut records = RECORDS;
        records[2][2] = b"\xe9";
        let bytes = (sample.write)(&records);
        assert_eq!(
            read(&sample, &bytes),
            Ok(rows(&sample)),
            "{:?}",
            sample.format
        );
        let desk = Desk::new(sample.name, &bytes);
        let wanted = [("a", "bigint"), ("note", "text")];
        let decoder = desk.open(&sample.format, &wanted, &DecodeOptions::default());
        let lines = shown(decoder.unwrap());
        let told = row(&sample, 2, "FIELD_UNPARSABLE note: ");
        assert!(
            lines[2].starts_with(&told),
            "{:?}: {lines:?}",
            sample.format
        );
        assert_eq!(lines[3], row(&sample, 3, "40|x"));
    }
}

#[test]
fn chunks_and_columns_change_no_number() {
    for sample in Format::samples() {
        let desk = Desk::new(sample.name, &(sample.write)(&RECORDS));
        for chunk_rows in 1..=5 {
            let options = DecodeOptions {
                chunk_rows,
                ..DecodeOptions::default()
            };
            let decoder = desk.open(&sample.format, &WANTED, &options).unwrap();
            assert_eq!(shown(decoder), rows(&sample), "{:?}", sample.format);
            let mut decoder = desk.open(&sample.format, &[], &options).unwrap();
            let chunks: Vec<RawChunk> = std::iter::from_fn(|| decoder.next_chunk()).collect();
            let numbers: Vec<u64> = chunks.iter().flat_map(|chunk| chunk.rows.clone()).collect();
            assert_eq!(numbers, [0, 1, 2, 3], "{:?}", sample.format);
        }
    }
}

#[test]
fn a_column_that_no_file_has_is_told() {
    for sample in Format::samples() {
        let desk = Desk::new(sample.name, &(sample.write)(&RECORDS));
        let wanted = [("a", "bigint"), ("nota", "")];
        let options = DecodeOptions::default();
        let told = match desk.open(&sample.format, &wanted, &options) {
            Ok(mut decoder) => {
                while decoder.next_chunk().is_some() {}
                let unmet = decoder.unmet();
                assert_eq!(unmet.len(), 1, "{:?}", sample.format);
                format!("{:?}", unmet[0])
            }
            Err(error) => error.to_string(),
        };
        assert!(told.contains("nota") && told.contains("note"), "{told}");
    }
}

#[test]
fn fields_are_found_and_asked_for_by_their_names() {
    for sample in Format::samples() {
        let desk = Desk::new(sample.name, &(sample.write)(&RECORDS));
        let (store, file) = desk.file(sample.name);
        let found = fields_of(&store, &file, sample.format.clone()).unwrap();
        let mut names = found.names;
        names.sort();
        assert_eq!(names, ["a", "note", TEXT], "{:?}", sample.format);
        assert_eq!(found.format, sample.format);
    }
}

/// Whatever a cut leaves: it is told, or what it leaves is the beginning of the file.
#[test]
fn a_file_that_was_cut_is_told_or_begins_the_whole_one() {
    for sample in Format::samples() {
        let whole = (sample.write)(&RECORDS);
        let ended = whole.trim_ascii_end().len();
        for cut in 0..whole.len() {
            let bytes = &whole[..cut];
            let cut_read = read(&sample, bytes);
            if sample.has_end && cut > 0 && cut < ended {
                assert!(is_told(&cut_read), "{:?} cut at {cut}", sample.format);
            }
            let Ok(lines) = cut_read else { continue };
            let desk = Desk::new(sample.name, bytes);
            let options = DecodeOptions {
                remember: true,
                ..DecodeOptions::default()
            };
            let mut decoder = desk.open(&sample.format, &WANTED, &options).unwrap();
            while decoder.next_chunk().is_some() {}
            let expected = rows(&sample);
            let settled = match decoder.content() {
                Some(content) => usize::try_from(content.settled).unwrap(),
                None => lines
                    .iter()
                    .filter(|line| !line.contains("_UNREADABLE"))
                    .count(),
            };
            assert_eq!(
                lines[..settled],
                expected[..settled],
                "{:?} cut at {cut}",
                sample.format
            );
            assert!(lines.len() <= settled + 2, "{:?}: {lines:?}", sample.format);
        }
    }
}

/// A file that has grown is read on behind what was read of it.
#[test]
fn a_file_is_read_on_behind_what_was_read() {
    for sample in Format::samples().into_iter().filter(is_text) {
        let remember = |bytes| DecodeOptions {
            remember: true,
            bytes,
            ..DecodeOptions::default()
        };
        let whole = (sample.write)(&RECORDS);
        let desk = Desk::new("whole", &whole);
        let (store, file) = desk.file("whole");
        for count in 1..=RECORDS.len() {
            let bytes = (sample.write)(&RECORDS[..count]);
            let begun = &bytes[..common(&bytes, &whole)];
            let part = Desk::new(sample.name, begun);
            let mut decoder = part.open(&sample.format, &WANTED, &remember(None)).unwrap();
            while decoder.next_chunk().is_some() {}
            let content: Content = decoder.content().unwrap();
            assert!(content.settled + 1 >= u64::try_from(count).unwrap());
            assert!(
                content.begins(&store, &file).unwrap(),
                "{:?}",
                sample.format
            );
            // All of it again, of the file as it is now.
            let mut decoder = desk
                .open(&sample.format, &WANTED, &remember(Some(content.bytes)))
                .unwrap();
            while decoder.next_chunk().is_some() {}
            let again = decoder.content().unwrap();
            assert_eq!((again.bytes, again.digest), (content.bytes, content.digest));
            let (part_store, part_file) = part.file(sample.name);
            let part = (&part_store, &part_file);
            assert!(is_cut_of(part, (&store, &file), &sample.format));
        }
    }
}

#[test]
fn a_mark_before_a_text_is_no_data_however_it_is_packed() {
    const MARK: &[u8] = b"\xEF\xBB\xBF";
    for sample in Format::samples().into_iter().filter(is_text) {
        for bytes in [
            (sample.write)(&RECORDS),
            [MARK, &(sample.write)(&RECORDS)[..]].concat(),
        ] {
            assert_eq!(
                read(&sample, &bytes),
                Ok(rows(&sample)),
                "{:?}",
                sample.format
            );
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            io::Write::write_all(&mut gzip, &bytes).unwrap();
            let packed = [
                ("gz", gzip.finish().unwrap()),
                ("zst", zstd::encode_all(&bytes[..], 1).unwrap()),
            ];
            for (ending, bytes) in packed {
                let desk = Desk::new(&format!("{}.{ending}", sample.name), &bytes);
                let decoder = desk.open(&sample.format, &WANTED, &DecodeOptions::default());
                assert_eq!(
                    shown(decoder.unwrap()),
                    rows(&sample),
                    "{:?}",
                    sample.format
                );
            }
        }
    }
}

#[test]
fn other_encodings_are_told_with_what_to_do() {
    for sample in Format::samples().into_iter().filter(is_text) {
        let text = String::from_utf8((sample.write)(&RECORDS)).unwrap();
        for mark in ["", "\u{feff}"] {
            let marked = format!("{mark}{text}");
            let little = marked.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let big = marked.encode_utf16().flat_map(u16::to_be_bytes).collect();
            for bytes in [little, big] as [Vec<u8>; 2] {
                let told = read(&sample, &bytes).unwrap_err();
                assert!(
                    told.contains("is UTF-16 text") && told.contains("iconv"),
                    "{told}"
                );
            }
        }
    }
}

/// What is kept of records is what they were, whichever columns are asked for later.
#[test]
fn kept_records_are_read_again_as_they_stood() {
    for sample in Format::samples().into_iter().filter(is_text) {
        let mut records = RECORDS.to_vec();
        records[1][0] = b"2x";
        records[2][2] = b"\xe9";
        let mut bytes = (sample.write)(&records);
        let wanted = columns(&WANTED);
        round_trip(sample.name, &sample.format, &bytes, &wanted);
        bytes.truncate(bytes.len() - 4);
        round_trip(sample.name, &sample.format, &bytes, &wanted);
    }
}

/// Archives hold formats, and jobs name them.
#[test]
fn a_format_is_known_by_what_it_is_written_as() {
    for sample in Format::samples() {
        let text = serde_json::to_string(&sample.format).unwrap();
        assert_eq!(
            serde_json::from_str::<Format>(&text).unwrap(),
            sample.format
        );
    }
    for about in Format::all() {
        for ending in about.endings {
            let named = Format::of_name(&format!("a.{ending}.gz")).unwrap();
            let same = std::mem::discriminant(&named) == std::mem::discriminant(&about.example);
            assert!(same, "{ending} is of {}", about.name);
        }
        let text = serde_json::to_value(&about.example).unwrap();
        let options = text.as_object().unwrap().keys();
        let options: Vec<&String> = options.filter(|option| *option != "type").collect();
        for option in options {
            assert!(told::options_of(about.name).contains(option), "{option}");
        }
    }
    let beginning = |bytes: &[u8]| serde_json::to_value(Format::of_beginning(bytes)).unwrap();
    for sample in Format::samples()
        .into_iter()
        .filter(|sample| is_text(sample) && sample.name != "a.dat")
    {
        let kind = serde_json::to_value(&sample.format).unwrap()["type"].clone();
        assert_eq!(beginning(&(sample.write)(&RECORDS))["type"], kind);
    }
}
