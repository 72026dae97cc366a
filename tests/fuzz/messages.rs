//! Messages, between two that are good: whatever is in one, its neighbours are rows.

use crate::files::columns;
use crate::harness::fuzz;
use millrace_connectors::decode::{ColumnRequest, MessageDecoder, MessageFormat, RegistryUrl};
use millrace_connectors::kafka::{KeptMessage, Message, TopicPartition};
use millrace_operators::domain::FileId;
use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

fn kept(payload: &[u8], headers: &[(&str, &[u8])]) -> KeptMessage {
    let header = |(name, value): &(&str, &[u8])| ((*name).to_owned(), Some(value.to_vec()));
    KeptMessage {
        key: Some(b"k".to_vec()),
        payload: Some(payload.to_vec()),
        timestamp: Some(1_785_585_600_123),
        headers: headers.iter().map(header).collect(),
    }
}

/// Decodes the message between two good ones, twice.
fn check(decoder: &mut MessageDecoder, good: &KeptMessage, message: &KeptMessage) {
    let partition = TopicPartition::new("usage", 3);
    let decoded = [(), ()].map(|()| {
        for (offset, message) in [(10, good), (12, message), (14, good)] {
            decoder
                .push(&Message::of_kept(&partition, offset, message))
                .unwrap();
        }
        let chunk = decoder.finish().unwrap();
        assert_eq!(chunk.received, 3);
        assert_eq!(chunk.rows.len(), chunk.batch.num_rows());
        assert_eq!(
            chunk.rows.len() + chunk.faults.len(),
            3,
            "{:?}",
            chunk.faults
        );
        assert!(
            [10, 14].iter().all(|row| chunk.rows.contains(row)),
            "{:?}",
            chunk.faults
        );
        format!("{:?} {:?} {:?}", chunk.rows, chunk.batch, chunk.faults)
    });
    assert_eq!(decoded[0], decoded[1]);
}

fn wanted() -> Vec<ColumnRequest> {
    columns(&[
        ("id", ""),
        ("n", "decimal(18,4)"),
        ("usage.count", "bigint"),
        ("_header.h", ""),
    ])
}

const WORDS: [&[u8]; 16] = [
    b"\"",
    b"\\u",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"\xEF\xBB\xBF",
    b"1e400",
    b"\"data_base64\":\"",
    b"\"specversion\":\"1.0\"",
    b"\xFF",
    b"\"n\":\"12\"",
];

#[test]
fn json_messages() {
    let partition = TopicPartition::new("usage", 3);
    let decoder =
        MessageDecoder::open(FileId(1), &partition, &MessageFormat::Json, None, &wanted());
    let decoder = RefCell::new(decoder.unwrap());
    let good = kept(br#"{"id":"a","n":1.5,"usage":{"count":7}}"#, &[]);
    fuzz("json-messages", &WORDS, |bytes, random| {
        let middle = bytes.len().min(random.below(40));
        let message = kept(bytes, &[("h", &bytes[..middle])]);
        check(&mut decoder.borrow_mut(), &good, &message);
    });
}

#[test]
fn cloud_events() {
    let partition = TopicPartition::new("usage", 3);
    let format = MessageFormat::CloudEvents;
    let decoder = MessageDecoder::open(FileId(1), &partition, &format, None, &wanted());
    let decoder = RefCell::new(decoder.unwrap());
    let event =
        br#"{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"id":"a","n":1}}"#;
    let good = kept(event, &[]);
    fuzz("cloud-events", &WORDS, |bytes, random| {
        let (name, value) = bytes.split_at(bytes.len().min(random.below(40)));
        let name = String::from_utf8_lossy(name);
        let binary: [(&str, &[u8]); 6] = [
            ("ce_specversion", b"1.0"),
            ("ce_id", value),
            ("ce_source", b"s"),
            ("ce_type", b"t"),
            ("content-type", name.as_bytes()),
            (&name, value),
        ];
        let headers = if random.below(2) == 0 {
            &binary[..]
        } else {
            &[]
        };
        check(&mut decoder.borrow_mut(), &good, &kept(bytes, headers));
    });
}

const OLD: &str = r#"{"type":"record","name":"Usage","fields":[
    {"name":"id","type":"string"},
    {"name":"n","type":{"type":"bytes","logicalType":"decimal","precision":18,"scale":4}},
    {"name":"more","type":{"type":"array","items":{"type":"map","values":"long"}}}]}"#;
const NEW: &str = r#"{"type":"record","name":"Usage","fields":[
    {"name":"id","type":["null","string"],"default":null},
    {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["A","B"]},"default":"A"},
    {"name":"n","type":{"type":"bytes","logicalType":"decimal","precision":18,"scale":4}},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"},"default":0},
    {"name":"usage","type":["null",{"type":"record","name":"Inner","fields":[
        {"name":"count","type":"long"}]}],"default":null}]}"#;

/// A schema registry that knows both.
fn registry() -> RegistryUrl {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = serde_json::json!(format!("http://{}", listener.local_addr().unwrap()));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let schema = |schema: &str| serde_json::json!({"schema": schema, "id": 2, "version": 2, "subject": "s"});
            let known = match path.split('?').next().unwrap_or_default() {
                "/schemas/ids/1" => Some(schema(OLD)),
                "/schemas/ids/2" => Some(schema(NEW)),
                path if path.starts_with("/subjects/") => Some(schema(NEW)),
                _ => None,
            };
            let none = r#"{"error_code":40403,"message":"no such schema"}"#.to_owned();
            let (status, body) = match known {
                Some(known) => ("200 OK", known.to_string()),
                None => ("404 Not Found", none),
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    serde_json::from_value(url).unwrap()
}

#[test]
fn avro_messages() {
    let partition = TopicPartition::new("usage", 3);
    let format = MessageFormat::Avro {
        registry: registry(),
        subject: None,
    };
    let registry = format.registry().unwrap();
    let columns = columns(&[
        ("id", ""),
        ("n", ""),
        ("kind", ""),
        ("at", ""),
        ("usage.count", ""),
    ]);
    let decoder = MessageDecoder::open(FileId(1), &partition, &format, registry.as_ref(), &columns);
    let decoder = RefCell::new(decoder.unwrap());
    // The id "a", the kind B, 1.5 as a decimal of four decimals, an instant, a count of 7.
    let good = kept(
        b"\0\0\0\0\x02\x02\x02a\x02\x04\x3a\x98\x80\x80\x04\x02\x0e",
        &[],
    );
    let words: [&[u8]; 4] = [
        b"\0",
        b"\xff\xff\xff\xff\x0f",
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
        b"\x02a",
    ];
    fuzz("avro", &words, |bytes, _| {
        // Only ids that the registry knows: the others are asked for over the network.
        for id in [1, 2] {
            let payload = [&[0, 0, 0, 0, id], bytes].concat();
            check(&mut decoder.borrow_mut(), &good, &kept(&payload, &[]));
        }
    });
}
