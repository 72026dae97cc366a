//! Parquet files whose pages and footers claim more than they hold.

use crate::files::columns;
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use millrace_connectors::decode::{
    CHUNK_BYTES_MAX, DecodeOptions, Decoder, Format, Parquet, RECORD_BYTES_MAX,
};
use millrace_connectors::store::{FileMeta, Store};
use millrace_operators::domain::FileId;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs::{self, File};
use std::sync::Arc;
use tempfile::TempDir;

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A file of one column with these bytes for its pages.
    fn pages(&self, schema: &str, compression: Compression, rows: u64, pages: &[u8]) {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let raw = self.folder.path().join("pages");
        fs::write(&raw, pages).unwrap();
        let file = File::create(self.folder.path().join("a.parquet")).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
        let descr = writer.schema_descr().column(0);
        let bytes = i64::try_from(pages.len()).unwrap();
        let metadata = ColumnChunkMetaData::builder(descr)
            .set_compression(compression)
            .set_encodings(vec![Encoding::PLAIN])
            .set_num_values(i64::try_from(rows).unwrap())
            .set_total_compressed_size(bytes)
            .set_total_uncompressed_size(bytes)
            .set_data_page_offset(0)
            .build()
            .unwrap();
        let mut group = writer.next_row_group().unwrap();
        let closed = ColumnCloseResult {
            bytes_written: u64::try_from(bytes).unwrap(),
            rows_written: rows,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        group
            .append_column(&File::open(raw).unwrap(), closed)
            .unwrap();
        group.close().unwrap();
        writer.close().unwrap();
    }

    /// The number of rows, and what broke the file.
    fn read(&self) -> Result<usize, String> {
        let store = Store::open("a.parquet", self.folder.path()).unwrap();
        let meta = FileMeta {
            name: "a.parquet".to_owned(),
            location: self.folder.path().join("a.parquet").display().to_string(),
            size: 0,
            etag: None,
        };
        let (columns, options) = (columns(&[("id", "")]), DecodeOptions::default());
        let decoder = Decoder::open(
            &store,
            &meta,
            FileId(7),
            &Format::Parquet(Parquet {}),
            &columns,
            &options,
        );
        let mut decoder = decoder.map_err(|error| error.to_string())?;
        let mut rows = 0;
        while let Some(chunk) = decoder.next_chunk() {
            if let Some(fault) = chunk.faults.first() {
                return Err(fault.detail.clone());
            }
            let bytes = chunk.batch.column(0).to_data().get_slice_memory_size();
            assert!(bytes.unwrap() <= CHUNK_BYTES_MAX + RECORD_BYTES_MAX + (1 << 20));
            rows += chunk.rows.len();
        }
        Ok(rows)
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A field of a structure in Thrift's compact encoding: a number, in the field behind the one before.
fn number(value: u64) -> Vec<u8> {
    [vec![0x15], varint(value << 1)].concat()
}

/// A page of data (kind 0) or of a dictionary (kind 2) that says that it has so many bytes and values.
fn page(kind: u64, unpacked: u64, values: u64, encoding: u64, content: &[u8]) -> Vec<u8> {
    let packed = u64::try_from(content.len()).unwrap();
    // The header of data is field 5, that of a dictionary field 7.
    let (field, levels) = match kind {
        0 => (0x2c, [number(3), number(3)].concat()),
        _ => (0x4c, Vec::new()),
    };
    let inner = [number(values), number(encoding), levels, vec![0]].concat();
    let sizes = [number(kind), number(unpacked), number(packed)].concat();
    [sizes, vec![field], inner, vec![0], content.to_vec()].concat()
}

/// A page of data with the checksum of its content.
fn page_with_checksum(values: u64, sum: u32, content: &[u8]) -> Vec<u8> {
    let length = number(u64::try_from(content.len()).unwrap());
    let sum = i64::from(i32::from_le_bytes(sum.to_le_bytes()));
    let sum = u64::try_from((sum << 1) ^ (sum >> 63)).unwrap();
    let sum = [vec![0x15], varint(sum)].concat();
    let header = [number(values), number(PLAIN), number(3), number(3), vec![0]].concat();
    let sizes = [number(0), length.clone(), length, sum].concat();
    [sizes, vec![0x1c], header, vec![0], content.to_vec()].concat()
}

const TEXT: &str = "message m { required binary id (STRING); }";
const NUMBER: &str = "message m { required int64 id; }";
const PLAIN: u64 = 0;
const DELTA_LENGTH_BYTE_ARRAY: u64 = 6;
const DELTA_BYTE_ARRAY: u64 = 7;

/// How long texts are: blocks of 128 in four parts, and so many of them, all of length 0.
fn lengths(count: u64) -> Vec<u8> {
    [varint(128), varint(4), varint(count), varint(0), vec![0; 5]].concat()
}

#[test]
fn texts_that_are_counted_by_their_page() {
    let place = Place::new();
    let length = |content: &[u8]| u64::try_from(content.len()).unwrap();
    let read = |encoding, content: &[u8]| {
        place.pages(
            TEXT,
            Compression::UNCOMPRESSED,
            3,
            &page(0, length(content), 3, encoding, content),
        );
        place.read()
    };
    assert_eq!(read(DELTA_LENGTH_BYTE_ARRAY, &lengths(3)), Ok(3));
    assert_eq!(
        read(DELTA_BYTE_ARRAY, &[lengths(3), lengths(3)].concat()),
        Ok(3)
    );
    for count in [4, 1 << 31, 1 << 40, u64::MAX >> 1] {
        for (encoding, content) in [
            (DELTA_LENGTH_BYTE_ARRAY, lengths(count)),
            (DELTA_BYTE_ARRAY, [lengths(count), lengths(3)].concat()),
            (DELTA_BYTE_ARRAY, [lengths(3), lengths(count)].concat()),
        ] {
            let error = read(encoding, &content).unwrap_err();
            assert!(
                error.contains("does not say how long so many texts are"),
                "{error}"
            );
        }
    }
}

/// Whichever bit of a page changes that has a checksum, none of its values is billed.
#[test]
fn one_bit_of_a_page_with_a_checksum() {
    let place = Place::new();
    let values: Vec<u8> = [1_i64, 250, -3].map(i64::to_le_bytes).concat();
    let mut sum = flate2::Crc::new();
    sum.update(&values);
    let read = |content: &[u8]| {
        let page = page_with_checksum(3, sum.sum(), content);
        place.pages(NUMBER, Compression::UNCOMPRESSED, 3, &page);
        place.read()
    };
    assert_eq!(read(&values), Ok(3));
    for bit in 0..values.len() * 8 {
        let mut damaged = values.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = read(&damaged).unwrap_err();
        assert!(error.contains("checksum mismatch"), "bit {bit}: {error}");
    }
}

#[test]
fn pages_that_say_how_large_they_are() {
    let place = Place::new();
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::LZ4_RAW,
        Compression::ZSTD(parquet::basic::ZstdLevel::default()),
    ] {
        let claimed = page(0, (1 << 31) - 1, 3, PLAIN, &[7; 24]);
        place.pages(NUMBER, compression, 3, &claimed);
        let error = place.read().unwrap_err();
        assert!(
            error.contains("a page of 24 bytes says that it has 2147483647"),
            "{error}"
        );
    }
}

#[test]
fn dictionaries_that_say_how_many_they_are() {
    let place = Place::new();
    for (schema, width) in [(NUMBER, 8), (TEXT, 4)] {
        for (count, good) in [(1_u64, true), (2, false), ((1 << 31) - 1, false)] {
            let dictionary = page(
                2,
                width,
                count,
                PLAIN,
                &vec![0; usize::try_from(width).unwrap()],
            );
            // Three values in no bits each.
            let data = page(0, 3, 3, 8, &[0, 6, 0]);
            place.pages(
                schema,
                Compression::UNCOMPRESSED,
                3,
                &[dictionary, data].concat(),
            );
            match place.read() {
                Ok(rows) => assert!(good && rows == 3),
                Err(error) => assert!(!good && error.contains("a dictionary of"), "{error}"),
            }
        }
    }
}

#[test]
fn columns_that_are_wide_or_deep() {
    let place = Place::new();
    let wide = "message m { optional fixed_len_byte_array(2000000000) id; }";
    // A page of 16,384 rows without a value: their levels are one run.
    let empty = [&2_u32.to_le_bytes()[..], &varint(16_384 << 1), &[0]].concat();
    let empty = [&4_u32.to_le_bytes()[..], &empty[4..]].concat();
    place.pages(
        wide,
        Compression::UNCOMPRESSED,
        16_384,
        &page(0, 8, 16_384, PLAIN, &empty),
    );
    let error = place.read().unwrap_err();
    assert!(
        error.contains("values of more than 8388608 bytes for"),
        "{error}"
    );
    let (open, close) = ("required group a { ".repeat(80), "}".repeat(80));
    let deep = format!("message m {{ {open} required int64 id; {close} }}");
    place.pages(
        &deep,
        Compression::UNCOMPRESSED,
        3,
        &page(0, 24, 3, PLAIN, &[0; 24]),
    );
    let error = place.read().unwrap_err();
    assert!(error.contains("more than 64 deep"), "{error}");
}

/// Rows that no reader can hold together are read in parts: one long text for all of them, or a long text
/// each.
#[test]
fn rows_that_are_larger_than_a_batch() {
    let place = Place::new();
    let file = || File::create(place.folder.path().join("a.parquet")).unwrap();
    let long = "x".repeat(RECORD_BYTES_MAX - 1);
    for (rows, dictionary) in [(300, true), (20, false)] {
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(dictionary)
            .set_dictionary_page_size_limit(1 << 30)
            .build();
        let one: ArrayRef = Arc::new(StringArray::from(vec![long.as_str()]));
        let one = RecordBatch::try_from_iter([("id", one)]).unwrap();
        let mut writer = ArrowWriter::try_new(file(), one.schema(), Some(properties)).unwrap();
        for _ in 0..rows {
            writer.write(&one).unwrap();
        }
        writer.close().unwrap();
        assert_eq!(place.read(), Ok(rows));
    }
}
