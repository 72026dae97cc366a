//! The frame of a file: marks before it, padding and other bytes behind it, quotes, and where it is cut.

use super::*;

const MARK: &[u8] = b"\xEF\xBB\xBF";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn rows(name: &str, format: &Format, bytes: Vec<u8>) -> Vec<String> {
    let wanted = [("a", "bigint"), ("b", "")];
    let lines = shown(open(name, format, bytes, &wanted).unwrap());
    let row = |line: String| line.split_once(' ').unwrap().1.to_owned();
    lines.into_iter().map(row).collect()
}

#[test]
fn marks_inside_of_files_that_were_put_together_are_no_data() {
    let together = [
        MARK,
        b"{\"a\":1,\"b\":\"x\"}\n",
        MARK,
        b"{\"a\":2,\"b\":\"y\"}\n",
    ]
    .concat();
    assert_eq!(
        rows("a.jsonl", &Format::JsonLines(JsonLines {}), together),
        ["1|x", "2|y"]
    );
    for second in ["2,y", "\"2\",\"y\""] {
        let together = [b"a,b\n1,x\n", MARK, second.as_bytes()].concat();
        assert_eq!(rows("a.csv", &CSV, together), ["1|x", "2|y"]);
    }
}

#[test]
fn padding_behind_compressed_data_is_no_fault_and_other_bytes_are_told() {
    let two: &[u8] = b"a,b\n1,x\n2,y\n";
    for (name, pack) in [
        ("a.csv.gz", gzip as fn(&[u8]) -> Vec<u8>),
        ("a.csv.zst", zstandard),
    ] {
        let parts = [pack(b"a,b\n1,x\n"), pack(b"2,y\n")];
        let zeros = vec![0; 100_000];
        let read = |bytes: &[&[u8]]| {
            shown(open(name, &CSV, bytes.concat(), &[("a", ""), ("b", "")]).unwrap())
        };
        let rows = ["0@2 1|x", "1@3 2|y"];
        assert_eq!(read(&[&parts[0], &parts[1]]), rows);
        assert_eq!(read(&[&pack(two), &[0; 512]]), rows);
        assert_eq!(read(&[&pack(two), &zeros]), rows);
        assert_eq!(read(&[&parts[0], &zeros, &parts[1]]), rows);
        let marked = [&pack(two)[..], b"\0\0\0and more"].concat();
        let mut decoder = open(name, &CSV, marked, &[("a", ""), ("b", "")]).unwrap();
        let chunks = std::iter::from_fn(|| decoder.next_chunk());
        assert_eq!(chunks.map(|chunk| chunk.rows.len()).sum::<usize>(), 2);
        let remark = decoder.remark().unwrap_or_default();
        assert!(
            remark.starts_with("the last 11 bytes, behind its"),
            "{remark}"
        );
        let records = b"2026-03-01,call,of,more,than,a,mark\n".repeat(2);
        let told = read(&[&pack(two), &records]);
        assert_eq!(told[..2], rows);
        assert!(told[2].contains("FILE_UNREADABLE"), "{told:?}");
        assert!(
            told[2].contains("the last 72 bytes, behind its"),
            "{told:?}"
        );
        // A part whose beginning is damaged, or cut off, is not taken for padding.
        for byte in 0..4 {
            let mut damaged = parts[1].clone();
            damaged[byte] ^= 0x40;
            let told = read(&[&parts[0], &damaged]);
            assert_eq!(told[0], rows[0]);
            assert!(told[1].contains("FILE_UNREADABLE"), "{byte}: {told:?}");
            let told = read(&[&parts[0], &parts[1][..=byte]]);
            assert!(told[1].contains("FILE_UNREADABLE"), "{byte}: {told:?}");
            let told = read(&[&parts[0], &parts[1][byte + 1..]]);
            assert!(told[1].contains("FILE_UNREADABLE"), "{byte}: {told:?}");
        }
        for cut in 1..pack(two).len() {
            let cut = pack(two)[..cut].to_vec();
            let lines = match open(name, &CSV, cut, &[("a", "")]) {
                Ok(decoder) => shown(decoder),
                Err(error) => vec![error.to_string()],
            };
            let last = lines.last().cloned().unwrap_or_default();
            assert!(
                last.contains("FILE_UNREADABLE") || last.contains("cannot read"),
                "{lines:?}"
            );
        }
    }
    let error = open("a.csv.gz", &CSV, two, &[("a", "")]).unwrap_err();
    assert!(error.to_string().contains("its bytes are none"), "{error}");
}

#[test]
fn quotes_that_do_not_pair_cost_their_own_line_only() {
    // Each with the lines that are unreadable; every other row is read as it stands.
    for (file, unreadable) in [
        // A row that was cut inside quotes, before one with quotes in the same column.
        ("1,\"x\"\n2,\"ha\n3,\"y\"\n4,\"z\"\n", &[3][..]),
        ("1,\"x\"\n\"2,ha\n\"3\",\"y\"\n\"4\",z\n", &[3]),
        ("1,x\n2,\"ha\n3,\"\"\n4,\"\"\n", &[3]),
        ("1,x\n2,ha\"\n3,y\n4,z\n", &[3]),
        ("1,x\n2,\"ha\"ha\n3,\"y\"\n4,z\n", &[3]),
        ("1,x\n2, \"ha\"\n3,y\n4,z\n", &[3]),
        ("1,x\n2,5\" pipe\n3,6\" pipe\n4,z\n", &[3, 4]),
        ("1,x\n2,y\n3,y\n4,\"z\n", &[5]),
        ("1,x\n2,y\n3,y\n4,\"z", &[5]),
        ("1,x\n2,y\n3,y\n\"4", &[5]),
        ("1,x\n2,\"a\"\"\n3,y\n4,z\n", &[3]),
        ("1,x\r\n2,\"ha\r\n3,\"y\"\r\n4,\"z\"\r\n", &[3]),
        ("1,x\r2,\"ha\r3,\"y\"\r4,\"z\"\r", &[3]),
    ] {
        let bytes = format!("a,b\n{file}");
        let lines = shown(open("a.csv", &CSV, bytes, &[("a", ""), ("b", "")]).unwrap());
        assert_eq!(lines.len(), 4, "{file:?}: {lines:?}");
        for (line, number) in lines.iter().zip(2_u64..) {
            assert!(
                line.starts_with(&format!("{}@{number} ", number - 2)),
                "{file:?}: {line}"
            );
            let told = line.contains("ROW_UNREADABLE");
            assert_eq!(told, unreadable.contains(&number), "{file:?}: {line}");
        }
    }
    let legal = "a,b\n1,\"two\nlines, and a \"\"quote\"\"\"\n2,\"\"\n\"3\",\"z\"";
    assert_eq!(
        shown(open("a.csv", &CSV, legal, &[("a", ""), ("b", "")]).unwrap()),
        ["0@2 1|two\nlines, and a \"quote\"", "1@4 2|NULL", "2@5 3|z"]
    );
    let error = open("a.csv", &CSV, "\"a,b\n1,2\n", &[("a", "")]).unwrap_err();
    assert!(
        error.to_string().contains("a quote is never closed"),
        "{error}"
    );
}

#[test]
fn lines_are_counted_from_one_whatever_ends_them() {
    for end in ["\n", "\r\n", "\r"] {
        let file = ["a,b", "1,x", "", "2,\"y", "y\"", "3", "4,z"].join(end);
        let lines = shown(open("a.csv", &CSV, file, &[("a", "")]).unwrap());
        let places: Vec<&str> = lines.iter().map(|line| &line[..3]).collect();
        // Inside of quotes, a carriage return alone is no line's end.
        let expected = match end {
            "\r" => ["0@2", "1@4", "2@5", "3@6"],
            _ => ["0@2", "1@4", "2@6", "3@7"],
        };
        assert_eq!(places, expected, "{end:?}: {lines:?}");
    }
}

#[test]
fn a_file_that_holds_no_records_where_they_are_looked_for_is_told_once() {
    let page = "{\"object\": \"page\", \"data\": [{\"start\": 1, \"results\": [{\"a\": 1}]}], \"more\": false}";
    for (format, file, said) in [
        (
            Format::Json(Json {}),
            page,
            "\"data\", with \"results\" as a list in each",
        ),
        (
            Format::Json(Json {}),
            "{\"meta\":{\"n\":1},\"items\":[{\"a\":1}]}",
            "lists inside of it: \"items\"",
        ),
        (
            Format::Json(Json {}),
            "{\n \"a\": 1,\n \"b\": \"x\"\n}\n",
            "its entries are no records, like \"a\"",
        ),
        (
            Format::Json(Json {}),
            "{\"a\":1}\n{\"a\":2}\n",
            "`format: jsonl`",
        ),
        (
            Format::JsonLines(JsonLines {}),
            "{\n \"a\": 1,\n \"b\": \"x\"\n}\n",
            "its first record goes over lines 1 to 4",
        ),
        (
            Format::JsonLines(JsonLines {}),
            "\n{\n \"a\": 1\n}\n{\n \"a\": 2\n}\n",
            "its first record goes over",
        ),
        (
            Format::JsonLines(JsonLines {}),
            "[\n {\"a\": 1},\n {\"a\": 2}\n]\n",
            "`format: json`",
        ),
        (
            Format::JsonLines(JsonLines {}),
            "{\n\"data\": [\n{\"a\": 1}\n]\n}\n",
            "lists inside of it: \"data\"",
        ),
    ] {
        let lines = shown(open("a", &format, file, &[("a", "")]).unwrap());
        let [told] = lines.as_slice() else {
            panic!("{file}: {lines:?}")
        };
        assert!(
            told.contains("FILE_UNREADABLE") && told.contains(said),
            "{told}"
        );
    }
    for (format, file, count) in [
        (Format::Json(Json {}), "{}", 0),
        (
            Format::Json(Json {}),
            "{\"k\": {\"a\":1}, \"l\": 5, \"m\": {\"a\":[1]}}",
            3,
        ),
        (
            Format::JsonLines(JsonLines {}),
            "{\"a\":1,\"b\n{\"a\":2}\n",
            2,
        ),
        (Format::JsonLines(JsonLines {}), "{\"a\":1", 1),
    ] {
        let lines = shown(open("a", &format, file, &[("a", "")]).unwrap());
        assert_eq!(lines.len(), count, "{file}: {lines:?}");
        assert!(!lines.iter().any(|line| line.contains("FILE_UNREADABLE")));
    }
}
