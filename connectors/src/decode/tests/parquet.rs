//! Parquet: typed columns, structs and maps, times of 96 bits, damage.

use super::*;
use arrow::datatypes::{Decimal128Type, Field, Int64Type, TimestampNanosecondType};
use millrace_operators::domain::RecordId;

#[test]
fn parquet_columns_keep_their_types_and_row_groups_stand_alone() {
    use arrow::array::{Float64Array, Int32Array, StringArray};
    let batch = RecordBatch::try_from_iter([
        (
            "n",
            Arc::new(Int32Array::from_iter_values(0..10)) as arrow::array::ArrayRef,
        ),
        (
            "price",
            Arc::new(Float64Array::from_iter_values((0..10).map(f64::from))),
        ),
        (
            "at",
            Arc::new(StringArray::from_iter_values((0..10).map(|i| {
                if i == 6 {
                    "x".to_owned()
                } else {
                    format!("2026-08-0{}", i.max(1))
                }
            }))),
        ),
    ])
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let properties = ::parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(4));
    let file = std::fs::File::create(folder.path().join("a.parquet")).unwrap();
    let mut writer =
        ::parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties.build()))
            .unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();

    let store = Store::open("a.parquet", folder.path()).unwrap();
    let file = &store.list().unwrap()[0];
    let groups = row_groups(&store, file).unwrap();
    assert_eq!(
        groups
            .iter()
            .map(|g| (g.first_row, g.rows))
            .collect::<Vec<_>>(),
        [(0, 4), (4, 4), (8, 2)]
    );
    let open = |wanted: &[(&str, &str)], range| {
        let options = DecodeOptions {
            row_groups: range,
            ..DecodeOptions::default()
        };
        Decoder::open(
            &store,
            file,
            FileId(7),
            &Format::Parquet(Parquet {}),
            &columns(wanted),
            &options,
        )
    };
    let mut decoder = open(&[("at", "timestamp"), ("n", "")], Some(1..2)).unwrap();
    let chunk = decoder.next_chunk().unwrap();
    assert_eq!(chunk.rows, [4, 5, 7]);
    assert_eq!(
        chunk
            .batch
            .column(0)
            .as_primitive::<TimestampNanosecondType>()
            .len(),
        3
    );
    assert_eq!(
        chunk.batch.column(1).data_type(),
        &arrow::datatypes::DataType::Int32
    );
    assert_eq!(chunk.faults[0].record, RecordId::new(FileId(7), 6));
    assert_eq!(shown(open(&[("n", "bigint")], None).unwrap()).len(), 10);
    let mut decoder = open(&[("n", "bigint"), ("n", "decimal(38,2)")], None).unwrap();
    let batch = decoder.next_chunk().unwrap().batch;
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(3), 3);
    assert_eq!(
        batch.column(1).as_primitive::<Decimal128Type>().value(3),
        300
    );

    let error = open(&[("price", "decimal(18,2)")], None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("leave the declaration out and convert with exact"),
        "{error}"
    );
    assert!(
        open(&[("m", "")], None)
            .unwrap_err()
            .to_string()
            .contains("its columns are n, price, at")
    );

    let bytes = std::fs::read(folder.path().join("a.parquet")).unwrap();
    std::fs::write(folder.path().join("a.parquet"), &bytes[..bytes.len() - 20]).unwrap();
    let error = open(&[("n", "")], None).unwrap_err().to_string();
    assert!(error.contains("not a whole Parquet file"), "{error}");
}

/// A Parquet file of one column for each kind of trouble.
fn troubled() -> (tempfile::TempDir, Store) {
    use arrow::array::{ArrayRef, BinaryArray, Decimal128Array, Int64Array, MapBuilder};
    use arrow::array::{StringArray, StringBuilder, StructArray};
    let bytes: Vec<&[u8]> = vec![b"red", b"\xff", b"7", b""];
    let amounts = Decimal128Array::from(vec![
        2_469_135_500_000_000_000_000_000_i128,
        20_833_333_000_000,
        1,
        0,
    ]);
    let amounts = amounts.with_precision_and_scale(38, 18).unwrap();
    let counts: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)]));
    let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c", "d"]));
    let fields = vec![
        Field::new("input", arrow::datatypes::DataType::Int64, true),
        Field::new("name", arrow::datatypes::DataType::Utf8, true),
    ];
    let inner = Some(vec![true, true, false, true].into());
    let usage = StructArray::new(fields.into(), vec![counts, names], inner);
    let mut tags = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in 0..4 {
        if row != 1 {
            tags.keys().append_value("team");
            tags.values().append_value(format!("t{row}"));
            tags.keys().append_value("a.b");
            tags.values().append_value("x");
        }
        tags.append(row != 2).unwrap();
    }
    let columns: [(&str, ArrayRef); 4] = [
        ("bytes", Arc::new(BinaryArray::from(bytes))),
        ("amount", Arc::new(amounts)),
        ("usage", Arc::new(usage)),
        ("tags", Arc::new(tags.finish())),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.map(|(name, column)| (name, column, true)),
    )
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_parquet(folder.path(), &batch);
    let store = Store::open("a.parquet", folder.path()).unwrap();
    (folder, store)
}

#[test]
fn a_value_that_does_not_fit_its_declaration_fails_its_row_only() {
    let (_folder, store) = troubled();
    let open = |wanted: &[(&str, &str)]| {
        let file = store.list().unwrap().remove(0);
        let options = DecodeOptions::default();
        Decoder::open(
            &store,
            &file,
            FileId(7),
            &Format::Parquet(Parquet {}),
            &columns(wanted),
            &options,
        )
    };
    let faulty = |wanted: &[(&str, &str)]| -> Vec<String> {
        let lines = shown(open(wanted).unwrap());
        lines
            .into_iter()
            .filter(|line| line.contains("FIELD_"))
            .collect()
    };
    assert_eq!(faulty(&[("bytes", "text")]).len(), 1);
    assert!(faulty(&[("bytes", "text")])[0].starts_with("1@0 FIELD_UNPARSABLE bytes"));
    assert_eq!(
        faulty(&[("bytes", "bigint")]).len(),
        2,
        "an empty one is an empty number"
    );
    // A column that nobody names is not touched.
    assert_eq!(faulty(&[("amount", "")]).len(), 0);
    let fine = faulty(&[("amount", "decimal(38,12)")]);
    assert_eq!(fine.len(), 1, "{fine:?}");
    assert!(
        fine[0].contains("\"0.000000000000000001\" is not of type decimal(38,12)"),
        "{fine:?}"
    );
    let whole = faulty(&[("amount", "bigint")]);
    assert_eq!(whole.len(), 3, "{whole:?}");
}

/// Times of 96 bits keep their nanoseconds; those that no instant of 64 bits is suspend their rows, wherever
/// and however their pages hold them.
#[test]
fn times_of_96_bits_are_exact_or_told() {
    use ::parquet::data_type::{Int96, Int96Type};
    use ::parquet::file::properties::{WriterProperties, WriterVersion};
    use ::parquet::file::writer::SerializedFileWriter;
    let time = |day: i64, nanos: u64| {
        let mut time = Int96::new();
        let day = u32::try_from(2_440_588 + day).unwrap();
        let low = u32::try_from(nanos & u64::from(u32::MAX)).unwrap();
        time.set_data(low, u32::try_from(nanos >> 32).unwrap(), day);
        time
    };
    let times = [
        time(20_513, 3_600_000_000_005),
        time(-135_140, 0),
        time(376_200, 0),
        time(0, 1),
        time(2_000_000_000, 0),
        time(106_751, 85_636_854_775_807),
        time(106_751, 85_636_854_775_808),
        time(-106_752, 763_145_224_193),
    ];
    let levels = [1, 0, 1, 1, 1, 1, 1, 1, 1];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    for (dictionary, version) in [
        (true, WriterVersion::PARQUET_1_0),
        (true, WriterVersion::PARQUET_2_0),
        (false, WriterVersion::PARQUET_1_0),
        (false, WriterVersion::PARQUET_2_0),
    ] {
        let schema = "message m { optional int96 at; }";
        let schema = ::parquet::schema::parser::parse_message_type(schema).unwrap();
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(dictionary)
            .set_writer_version(version);
        let file = std::fs::File::create(&path).unwrap();
        let properties = Arc::new(properties.build());
        let mut writer = SerializedFileWriter::new(file, Arc::new(schema), properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<Int96Type>()
            .write_batch(&times, Some(&levels[..]), None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        let store = Store::open("a.parquet", folder.path()).unwrap();
        let file = store.list().unwrap().remove(0);
        for kind in ["", "timestamp"] {
            let wanted = columns(&[("at", kind)]);
            let options = DecodeOptions::default();
            let format = &Format::Parquet(Parquet {});
            let opened = Decoder::open(&store, &file, FileId(7), format, &wanted, &options);
            let lines = shown(opened.unwrap());
            let told = |row: usize| {
                format!(
                    "{row}@0 TIME_OUT_OF_RANGE at: a time of 96 bits is outside of the years that \
                     instants have, 1677 to 2262"
                )
            };
            assert_eq!(
                lines,
                [
                    "0@0 2026-03-01T01:00:00.000000005Z".to_owned(),
                    "1@0 NULL".to_owned(),
                    told(2),
                    told(3),
                    "4@0 1970-01-01T00:00:00.000000001Z".to_owned(),
                    told(5),
                    "6@0 2262-04-11T23:47:16.854775807Z".to_owned(),
                    told(7),
                    "8@0 1677-09-21T00:12:43.145224193Z".to_owned(),
                ]
            );
        }
    }
}

#[test]
fn a_path_leads_into_structs_and_maps() {
    let (_folder, store) = troubled();
    let open = |wanted: &[(&str, &str)]| {
        let file = store.list().unwrap().remove(0);
        let options = DecodeOptions::default();
        Decoder::open(
            &store,
            &file,
            FileId(7),
            &Format::Parquet(Parquet {}),
            &columns(wanted),
            &options,
        )
    };
    let wanted = [
        ("tags.team", ""),
        ("usage.input", "bigint"),
        ("tags.a.b", "text"),
        ("usage.name", ""),
        ("tags.owner", ""),
    ];
    assert_eq!(
        shown(open(&wanted).unwrap()),
        [
            "0@0 t0|1|x|a|NULL",
            "1@0 NULL|NULL|NULL|b|NULL",
            "2@0 NULL|NULL|NULL|NULL|NULL",
            "3@0 t3|4|x|d|NULL",
        ]
    );
    let told = open(&[("usage.inputs", "")]).unwrap_err().to_string();
    assert!(told.contains("did you mean \"usage.input\""), "{told}");
    assert!(
        told.contains("usage.input, usage.name, tags.<key>"),
        "{told}"
    );
    let told = open(&[("usage", "bigint")]).unwrap_err().to_string();
    assert!(
        told.contains("name one of its fields: usage.input, usage.name"),
        "{told}"
    );
}

#[test]
fn a_key_that_no_map_has_is_unmet() {
    let (_folder, store) = troubled();
    let wanted = [("tags.team", ""), ("tags.teams", ""), ("usage.name", "")];
    let there = ["tags.team", "tags.a.b"].map(str::to_owned).to_vec();
    let teams = Unmet {
        field: "tags.teams".to_owned(),
        there,
    };
    for chunk_rows in [1, 3, 100] {
        let found = unmet(&store, &Format::Parquet(Parquet {}), &wanted, chunk_rows);
        assert_eq!(found, std::slice::from_ref(&teams), "{chunk_rows}");
    }
}

#[test]
fn a_name_that_a_typed_file_has_twice_is_told() {
    use arrow::array::{ArrayRef, Int64Array, MapBuilder, StringBuilder, StructArray};
    use arrow::datatypes::DataType;
    let number = |n: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![n, n])) };
    let mut tags = MapBuilder::new(None, StringBuilder::new(), Int64Array::builder(2));
    for keys in [vec!["a", "b"], vec!["a", "a"]] {
        for (value, key) in (1..).zip(keys) {
            tags.keys().append_value(key);
            tags.values().append_value(value);
        }
        tags.append(true).unwrap();
    }
    let inner = vec![Field::new("n", DataType::Int64, true)];
    let usage: ArrayRef = Arc::new(StructArray::new(inner.into(), vec![number(1)], None));
    let fields = [
        ("n", number(7)),
        ("n", number(5)),
        ("u", usage),
        ("u.n", number(2)),
        ("tags", Arc::new(tags.finish())),
        ("tags.c", number(3)),
    ];
    let batch = RecordBatch::try_from_iter(fields).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_parquet(folder.path(), &batch);
    let store = Store::open("a.parquet", folder.path()).unwrap();
    let file = store.list().unwrap().remove(0);
    let open = |name: &str| {
        let wanted = columns(&[(name, "bigint")]);
        let options = DecodeOptions::default();
        Decoder::open(
            &store,
            &file,
            FileId(7),
            &Format::Parquet(Parquet {}),
            &wanted,
            &options,
        )
    };
    for name in ["n", "u.n", "tags.c"] {
        let told = open(name).unwrap_err().to_string();
        assert!(
            told.contains(&format!("names the column \"{name}\" twice")),
            "{told}"
        );
    }
    assert_eq!(
        shown(open("tags.a").unwrap()),
        [
            "0@0 1",
            "1@0 ROW_UNREADABLE tags.a: its map has the key \"a\" twice"
        ]
    );
    assert_eq!(shown(open("tags.b").unwrap()), ["0@0 2", "1@0 NULL"]);
}

#[test]
fn damaged_parquet_is_a_fault_wherever_the_damage_lies() {
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    let batch = RecordBatch::try_from_iter([
        (
            "n",
            Arc::new(Int64Array::from_iter_values(0..500)) as ArrayRef,
        ),
        (
            "s",
            Arc::new(StringArray::from_iter_values(
                (0..500).map(|i| format!("text {i}")),
            )),
        ),
    ])
    .unwrap();
    let mut writer =
        ::parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let bytes = writer.into_inner().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let store = Store::open("a.parquet", folder.path()).unwrap();
    for place in (0..bytes.len()).step_by(61) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x5a;
        std::fs::write(&path, damaged).unwrap();
        let file = &store.list().unwrap()[0];
        let wanted = columns(&[("n", ""), ("s", "")]);
        let options = DecodeOptions::default();
        let opened = Decoder::open(
            &store,
            file,
            FileId(1),
            &Format::Parquet(Parquet {}),
            &wanted,
            &options,
        );
        if let Ok(mut decoder) = opened {
            while decoder.next_chunk().is_some() {}
        }
    }
}
