use super::*;
use crate::decode::{
    ColumnRequest, Csv, DecodeOptions, Decoder, Format, Json, JsonLines, RawChunk,
};
use crate::store::Store;
use millrace_operators::domain::{
    ClassKey, EventTime, FileId, Identity, RecordId, ServiceKey, Usage,
};

fn request(name: &str, kind: &str) -> ColumnRequest {
    ColumnRequest::new(name, kind.parse().ok())
}

fn chunks(mut decoder: Decoder) -> Vec<RawChunk> {
    std::iter::from_fn(|| decoder.next_chunk()).collect()
}

/// Archives a file, reads it back with other columns, and demands what the file itself would give; returns how
/// many columns the archive has.
pub(crate) fn round_trip(
    name: &str,
    format: &Format,
    bytes: &[u8],
    columns: &[ColumnRequest],
) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let open = |columns: &[ColumnRequest], keep_originals| {
        let input = Box::new(std::io::Cursor::new(bytes.to_vec()));
        let options = DecodeOptions {
            keep_originals,
            chunk_rows: 2,
            ..DecodeOptions::default()
        };
        Decoder::from_reader(input, name, FileId(3), format, columns, &options).unwrap()
    };
    let source = RawSource {
        file: FileId(3),
        name: name.to_owned(),
        checksum: "blake3:0".to_owned(),
        format: format.clone(),
    };
    let sink = std::fs::File::create(folder.path().join("a.parquet")).unwrap();
    let mut writer = RawWriter::new(source.clone(), sink);
    for chunk in chunks(open(&columns[..1], true)) {
        writer.write(&chunk, &[]).unwrap();
    }
    writer.finish().unwrap();

    let store = Store::open(".", folder.path()).unwrap();
    let archive = &store.list().unwrap()[0];
    let options = DecodeOptions {
        chunk_rows: 2,
        ..DecodeOptions::default()
    };
    let (found, decoder) = open_archive(&store, archive, columns, &options).unwrap();
    assert_eq!(found, source);
    let (again, direct) = (chunks(decoder), chunks(open(columns, false)));
    let all = |chunks: &[RawChunk]| {
        let rows: Vec<_> = chunks.iter().flat_map(|chunk| chunk.rows.clone()).collect();
        let lines: Vec<_> = chunks
            .iter()
            .flat_map(|chunk| chunk.lines.clone())
            .collect();
        let faults: Vec<_> = chunks
            .iter()
            .flat_map(|chunk| chunk.faults.clone())
            .collect();
        let batches: Vec<_> = chunks.iter().map(|chunk| chunk.batch.clone()).collect();
        let batch = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
        (rows, lines, faults, batch)
    };
    assert_eq!(all(&again), all(&direct));
    let access = store.random(archive).unwrap();
    let archived = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(access);
    archived.unwrap().schema().fields().len()
}

/// What is kept of large records is read back in chunks as small as those of their source.
#[test]
fn large_records_are_read_back_few_at_a_time() {
    use crate::decode::{CHUNK_BYTES_MAX, RECORD_BYTES_MAX};
    use std::io::Read as _;
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(RECORD_BYTES_MAX - (1 << 20));
    let line = bytes::Bytes::from(format!("{{\"b\":\"{long}\"}}\n"));
    let nothing: Box<dyn std::io::Read + Send> = Box::new(std::io::empty());
    let input = (0..42).fold(nothing, |input, _| {
        Box::new(input.chain(std::io::Cursor::new(line.clone())))
    });
    let options = DecodeOptions {
        keep_originals: true,
        ..DecodeOptions::default()
    };
    let (format, columns) = (Format::JsonLines(JsonLines {}), [request("b", "text")]);
    let mut decoder =
        Decoder::from_reader(input, "a.jsonl", FileId(3), &format, &columns, &options).unwrap();
    let source = RawSource {
        file: FileId(3),
        name: "a.jsonl".to_owned(),
        checksum: "blake3:0".to_owned(),
        format,
    };
    let sink = std::fs::File::create(folder.path().join("a.parquet")).unwrap();
    let mut writer = RawWriter::new(source, sink);
    while let Some(chunk) = decoder.next_chunk() {
        writer.write(&chunk, &[]).unwrap();
    }
    writer.finish().unwrap();
    let store = Store::open(".", folder.path()).unwrap();
    let archive = &store.list().unwrap()[0];
    let groups = crate::decode::row_groups(&store, archive).unwrap();
    assert!(groups.len() > 1, "a writer holds no more than it must");
    let (_, mut decoder) = open_archive(&store, archive, &columns, &options).unwrap();
    let mut rows = 0;
    while let Some(chunk) = decoder.next_chunk() {
        let bytes = chunk.batch.column(0).to_data().get_slice_memory_size();
        assert!(bytes.unwrap() <= CHUNK_BYTES_MAX + RECORD_BYTES_MAX);
        rows += chunk.rows.len();
    }
    assert_eq!(rows, 42);
}

#[test]
fn an_archive_gives_what_its_source_gave() {
    let columns = [request("a", "bigint"), request("b", "decimal(9,2)")];
    let csv = Format::Csv(Csv {
        delimiter: ',',
        header: None,
    });
    round_trip(
        "a.csv",
        &csv,
        b"a,b,c,c\n1,2.5,x,y\n2\nz,3,,\n4,\xff,,\n5,\"6\",\"q\nr\",\n7,8,\xff,\xef\xbf\xbd\n",
        &columns,
    );
    // So many columns that rows are kept as they stand.
    let more = (0..1_100)
        .map(|column| format!(",c{column}"))
        .collect::<String>();
    let wide = |row: &[u8]| [row, ",x".repeat(1_100).as_bytes(), b"\n"].concat();
    let wide = [
        format!("a,b{more}\n").into_bytes(),
        wide(b"1,2.5"),
        b"2\n".to_vec(),
        wide(b"z,3"),
        wide(b"4,\xff"),
        wide(b"5,\"6\""),
        wide(b"7,\"8\n\""),
        wide(b"9,\0"),
        wide(b",10"),
    ];
    let archived = round_trip("wide.csv", &csv, &wide.concat(), &columns);
    assert_eq!(archived, 5, "a column for each would cost a writer much");
    let latin = b"{\"a\":1,\"b\":2,\"c\":\"\xe9\"}\n{\"a\":1,\"b\":\"\xe9\"}\n";
    round_trip("a.jsonl", &Format::JsonLines(JsonLines {}), latin, &columns);
    let lines = b"{\"a\":1,\"b\":2.5}\n{\"a\"\n{\"a\":\"z\"}\n{\"a\":4,\"b\":1e1}\n";
    round_trip("a.jsonl", &Format::JsonLines(JsonLines {}), lines, &columns);
    let keyed = [request("a", "bigint"), request("key", "text")];
    round_trip(
        "a.json",
        &Format::Json(Json {}),
        b"{\"x\":{\"a\":1},\n\"y\":{\"a\":2},\"z\":3",
        &keyed,
    );
    round_trip(
        "a.json",
        &Format::Json(Json {}),
        b"[{\"a\":1,\"key\":\"k\"},{\"a\":2}]",
        &keyed,
    );
}

#[test]
fn identities_stand_beside_their_records() {
    use arrow::array::{Array, AsArray};
    let input = Box::new(std::io::Cursor::new(b"a\n1\n2\n3\n".to_vec()));
    let format = Format::Csv(Csv {
        delimiter: ',',
        header: None,
    });
    let options = DecodeOptions {
        keep_originals: true,
        ..DecodeOptions::default()
    };
    let columns = [request("a", "text")];
    let mut decoder =
        Decoder::from_reader(input, "a.csv", FileId(1), &format, &columns, &options).unwrap();
    let usage = Usage {
        record: RecordId::new(FileId(1), 1),
        identity: Identity([1, 2]),
        service: ServiceKey(0),
        class: ClassKey(0),
        time: EventTime(0),
        quantities: std::iter::once(1).collect(),
        mark: None,
    };
    let (file, name, checksum) = (FileId(1), "a.csv".to_owned(), String::new());
    let mut writer = RawWriter::new(
        RawSource {
            file,
            name,
            checksum,
            format,
        },
        Vec::new(),
    );
    writer
        .write(&decoder.next_chunk().unwrap(), &[usage])
        .unwrap();
    let bytes = bytes::Bytes::from(writer.finish().unwrap());
    let mut reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 10).unwrap();
    let batch = reader.next().unwrap().unwrap();
    let identities = batch
        .column_by_name("millrace_identity")
        .unwrap()
        .as_string::<i32>();
    assert_eq!(identities.value(1), "00000000000000010000000000000002");
    assert!(identities.is_null(0) && identities.is_null(2));
}

#[test]
fn other_parquet_is_no_archive() {
    let folder = tempfile::tempdir().unwrap();
    let batch = arrow::array::RecordBatch::new_empty(std::sync::Arc::new(
        arrow::datatypes::Schema::empty(),
    ));
    let file = std::fs::File::create(folder.path().join("a.parquet")).unwrap();
    parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None)
        .unwrap()
        .close()
        .unwrap();
    let store = Store::open("a.parquet", folder.path()).unwrap();
    let archive = &store.list().unwrap()[0];
    let error = open_archive(&store, archive, &[], &DecodeOptions::default()).unwrap_err();
    assert!(
        error.to_string().contains("no archive of raw records"),
        "{error}"
    );
}
