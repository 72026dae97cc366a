//! Files as exporters write them, and what happens to them on their way.

use crate::Identity;
use crate::parquet_files;
use crate::reader::{COLUMNS, FIELD_BYTES, Texts, Verdict, bill, csv, fixed, json, json_lines};
use flate2::Compression;
use flate2::write::GzEncoder;
use millrace_tests::dice::Dice;
use std::io::Write as _;

/// A file as it arrives.
pub(crate) struct Sent {
    pub(crate) bytes: Vec<u8>,
    /// What was done to it.
    pub(crate) done: String,
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Csv,
    JsonLines,
    Json,
    Parquet,
    Fixed,
}

/// A record before it is written.
pub(crate) fn record(random: &mut Dice, file: u64, number: usize) -> Texts {
    let n = match random.below(4) {
        0 => format!("{}", random.below(1_000)),
        1 => format!("{}.{:04}", random.below(1_000), random.below(10_000)),
        2 => format!("{}.5", random.below(10)),
        _ => format!("{}", random.number() % 10_000_000_000),
    };
    let (day, hour) = (1 + random.below(28), random.below(24));
    let (minute, second) = (random.below(60), random.below(60));
    [
        format!("f{file}-{number}"),
        (*random.pick(&["+4201", "+4202", "+4203"])).to_owned(),
        format!(
            "2026-0{}-{day:02}T{hour:02}:{minute:02}:{second:02}Z",
            1 + random.below(3)
        ),
        (*random.pick(&["home", "far"])).to_owned(),
        n,
        format!("{}", random.below(50)),
    ]
    .map(Some)
}

/// A file with its name, mutated once or twice.
pub(crate) fn send(random: &mut Dice, file: u64, identity: Identity) -> (String, Sent) {
    let layout = *random.pick(&[
        Layout::Csv,
        Layout::Csv,
        Layout::JsonLines,
        Layout::JsonLines,
        Layout::Json,
        Layout::Parquet,
        Layout::Fixed,
    ]);
    let count = 1 + random.below(6);
    let mut records: Vec<Texts> = (0..count)
        .map(|number| record(random, file, number))
        .collect();
    let mut done = Vec::new();
    if random.below(3) > 0 {
        done.push(change_records(random, &mut records));
    }
    if layout == Layout::Parquet {
        let (bytes, verdict) = parquet_files::write(random, &records, identity);
        let done = done.join(", ");
        return (
            format!("{file:02}.parquet"),
            Sent {
                bytes,
                done,
                verdict,
            },
        );
    }
    let mut bytes = match layout {
        Layout::Csv => write_csv(random, &records),
        Layout::JsonLines => write_json(random, &records, ("", "\n", "\n")),
        Layout::Fixed => write_fixed(random, &records),
        _ => write_json(random, &records, ("[", ",\n", "]\n")),
    };
    if random.below(2) > 0 {
        done.push(change_bytes(random, &mut bytes));
    }
    let read = match layout {
        Layout::Csv => csv(&bytes, identity),
        Layout::JsonLines => json_lines(&bytes, identity),
        Layout::Fixed => fixed(&bytes, identity),
        _ => json(&bytes, identity),
    };
    let mut verdict = read.map_or(Verdict::Told, |records| bill(&records, identity));
    let ending = match layout {
        Layout::Csv => "csv",
        Layout::JsonLines => "jsonl",
        Layout::Fixed => "dat",
        _ => "json",
    };
    let mut name = format!("{file:02}.{ending}");
    if random.one_in(5) {
        name.push_str(".gz");
        let mut gz = GzEncoder::new(Vec::new(), Compression::default());
        gz.write_all(&bytes).unwrap();
        bytes = gz.finish().unwrap();
        if random.one_in(3) {
            bytes.truncate(random.below(bytes.len()));
            // Nothing at all is no file of records, and nothing is lost of it.
            verdict = if bytes.is_empty() {
                Verdict::Either
            } else {
                Verdict::Told
            };
            done.push("compressed and cut".to_owned());
        }
    }
    (
        name,
        Sent {
            bytes,
            done: done.join(", "),
            verdict,
        },
    )
}

/// Does to records what an exporter may do.
fn change_records(random: &mut Dice, records: &mut Vec<Texts>) -> String {
    let at = random.below(records.len());
    let column = random.below(COLUMNS.len());
    match random.below(8) {
        0 => {
            records[at][column] = None;
            format!("no {} in record {at}", COLUMNS[column])
        }
        1 => {
            records[at][column] = Some(String::new());
            format!("an empty {} in record {at}", COLUMNS[column])
        }
        2 | 3 => {
            let texts = [
                "12.0",
                "1.2e1",
                " 12 ",
                "twelve",
                "1,5",
                "0x1F",
                "-5",
                "-0",
                "1e400",
                "NaN",
                "true",
                "1e-5",
                "0.00001",
                "99999999999999999999",
                "+7",
                ".5",
                "5.",
                "2026-01-05",
                "2026-01-05 10:00:00",
                "1767607200",
                "2026-02-30T00:00:00Z",
                "1970-01-01T00:00:00Z",
                "null",
                "\u{661}",
                "home ",
                "HOME",
                "\"",
                "a,b",
                "line\nbreak",
                "[1]",
                "{}",
            ];
            let text = *random.pick(&texts);
            records[at][column] = Some(text.to_owned());
            format!("{} of record {at} is {text:?}", COLUMNS[column])
        }
        4 => {
            let again = records[at].clone();
            let place = random.below(records.len() + 1);
            records.insert(place, again);
            format!("record {at} again")
        }
        5 => {
            let mut again = records[at].clone();
            let column = 1 + random.below(5);
            again[column] = record(random, 0, 0)[column].clone();
            records.push(again);
            format!("record {at} again with another {}", COLUMNS[column])
        }
        6 => {
            records.reverse();
            "in another order".to_owned()
        }
        _ => {
            records.remove(at);
            format!("without record {at}")
        }
    }
}

fn write_csv(random: &mut Dice, records: &[Texts]) -> Vec<u8> {
    let mut order: Vec<usize> = (0..COLUMNS.len()).collect();
    if random.one_in(2) {
        order.reverse();
    }
    let (quotes, end) = (random.one_in(3), *random.pick(&["\n", "\n", "\r\n"]));
    let field = |text: &str| match quotes || text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    };
    // A text behind all others, so that a cut inside of the last field costs no money.
    let mut lines = vec![
        order
            .iter()
            .map(|column| field(COLUMNS[*column]))
            .collect::<Vec<_>>()
            .join(",")
            + ",note",
    ];
    lines.extend(records.iter().map(|record| {
        let fields = order
            .iter()
            .map(|column| field(record[*column].as_deref().unwrap_or("")));
        fields.collect::<Vec<_>>().join(",") + ",of a call"
    }));
    let mut text = lines.join(end);
    if !random.one_in(4) {
        text.push_str(end);
    }
    text.into_bytes()
}

fn write_json(random: &mut Dice, records: &[Texts], frame: (&str, &str, &str)) -> Vec<u8> {
    let numbers = random.one_in(2);
    let shown: Vec<String> = records
        .iter()
        .map(|record| {
            let fields = COLUMNS.iter().zip(record).filter_map(|(name, text)| {
                let text = text.as_deref()?;
                let number = text.parse::<f64>().is_ok() && !text.starts_with(['+', '.', ' ']);
                let number = number && !text.ends_with(['.', ' ']) && text != "NaN";
                let bare = matches!(text, "null" | "true" | "[1]" | "{}");
                let plain = bare || (numbers && number && ["n", "m"].contains(name));
                let escaped = text
                    .replace('\\', "\\\\")
                    .replace('"', "\\\"")
                    .replace('\n', "\\n");
                let value = if plain {
                    text.to_owned()
                } else {
                    format!("\"{escaped}\"")
                };
                Some(format!("\"{name}\":{value}"))
            });
            format!(
                "{{{},\"note\":\"of a call\"}}",
                fields.collect::<Vec<_>>().join(",")
            )
        })
        .collect();
    format!("{}{}{}", frame.0, shown.join(frame.1), frame.2).into_bytes()
}

fn write_fixed(random: &mut Dice, records: &[Texts]) -> Vec<u8> {
    let (right, end) = (random.one_in(3), *random.pick(&["\n", "\n", "\r\n"]));
    let mut text = String::new();
    for record in records {
        for field in record {
            let field = field.as_deref().unwrap_or("");
            let fill = " ".repeat(FIELD_BYTES.saturating_sub(field.len()));
            match right {
                true => text.extend([fill.as_str(), field]),
                false => text.extend([field, fill.as_str()]),
            }
        }
        text.push_str("of a call");
        text.push_str(end);
    }
    if random.one_in(4) {
        text.truncate(text.trim_end().len());
    }
    text.into_bytes()
}

/// Does to bytes what happens to them on their way.
fn change_bytes(random: &mut Dice, bytes: &mut Vec<u8>) -> String {
    if bytes.is_empty() {
        return "nothing".to_owned();
    }
    let at = random.below(bytes.len());
    let end = (at + 1 + random.below(60)).min(bytes.len());
    let mut lines: Vec<Vec<u8>> = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let line = random.below(lines.len());
    let other = random.below(lines.len());
    match random.below(12) {
        0 | 1 => {
            bytes.truncate(at);
            format!("cut at byte {at}")
        }
        2 => {
            bytes.drain(at..end);
            format!("bytes {at} to {end} lost")
        }
        3 => {
            let word = *random.pick(&[
                &b"\""[..],
                b",",
                b"\n",
                b"\r\n",
                b"\0",
                b"\xff",
                b"{",
                b"}",
                b"[",
                b"]",
                b"null",
                b":",
                b" ",
                b"1",
                b"-",
                b".",
                b"e9",
                b"\\",
                b"//",
                b"\xEF\xBB\xBF",
                b"\xC3\xA9",
            ]);
            bytes.splice(at..at, word.iter().copied());
            format!("{:?} at byte {at}", String::from_utf8_lossy(word))
        }
        4 => {
            bytes[at] ^= 1 << random.below(7);
            format!("a bit of byte {at}")
        }
        5 => {
            lines.swap(line, other);
            *bytes = lines.concat();
            format!("lines {line} and {other} swapped")
        }
        6 => {
            let again = lines[line].clone();
            lines.insert(other, again);
            *bytes = lines.concat();
            format!("line {line} again before line {other}")
        }
        7 => {
            let copy = bytes.clone();
            bytes.extend_from_slice(&copy);
            "written twice into one file".to_owned()
        }
        8 => {
            bytes.splice(0..0, b"\xEF\xBB\xBF".iter().copied());
            "a byte order mark".to_owned()
        }
        9 => {
            let padding =
                *random.pick(&[&b"\n\n"[..], b"  ", b"\0\0\0\0", b"\r\n", b"\x1a", b"\t\n"]);
            bytes.extend_from_slice(padding);
            format!("{padding:?} at the end")
        }
        10 => {
            *bytes = String::from_utf8_lossy(bytes)
                .replace('\n', "\r\n")
                .into_bytes();
            "other line ends".to_owned()
        }
        _ => {
            // A field of one line in the place of another's.
            let text = String::from_utf8_lossy(bytes).into_owned();
            let name = *random.pick(&COLUMNS);
            let more = format!("\"{name}\":\"12\",");
            let place = text.find("{\"").map_or(0, |at| at + 1);
            *bytes = [&text[..place], &more, &text[place..]]
                .concat()
                .into_bytes();
            format!("{more} in front")
        }
    }
}
