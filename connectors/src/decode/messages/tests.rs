use super::*;
use crate::decode::ColumnType;
use crate::kafka::KeptMessage;
use arrow::array::Array;
use arrow::util::display::array_value_to_string;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

fn columns(requests: &[(&str, &str)]) -> Vec<ColumnRequest> {
    let request =
        |(name, kind): &(&str, &str)| ColumnRequest::new(*name, kind.parse::<ColumnType>().ok());
    requests.iter().map(request).collect()
}

fn message(payload: impl AsRef<[u8]>) -> KeptMessage {
    KeptMessage {
        key: Some(b"k".to_vec()),
        payload: Some(payload.as_ref().to_vec()),
        timestamp: Some(1_785_585_600_123),
        headers: Vec::new(),
    }
}

fn with_headers(payload: Option<&str>, headers: &[(&str, &str)]) -> KeptMessage {
    let header =
        |(name, value): &(&str, &str)| ((*name).to_owned(), Some(value.as_bytes().to_vec()));
    KeptMessage {
        payload: payload.map(|payload| payload.as_bytes().to_vec()),
        headers: headers.iter().map(header).collect(),
        ..KeptMessage::default()
    }
}

fn open(format: &MessageFormat, columns: &[ColumnRequest]) -> MessageDecoder {
    let partition = TopicPartition::new("usage", 3);
    let registry = format.registry().unwrap();
    MessageDecoder::open(FileId(1), &partition, format, registry.as_ref(), columns).unwrap()
}

/// The rows and faults of messages at offsets 10, 12, 14...
fn decoded(decoder: &mut MessageDecoder, messages: &[KeptMessage]) -> Vec<String> {
    let partition = TopicPartition::new("usage", 3);
    for (offset, message) in (10..).step_by(2).zip(messages) {
        let message = Message::of_kept(&partition, offset, message);
        decoder.push(&message).unwrap();
    }
    let Some(chunk) = decoder.finish() else {
        return Vec::new();
    };
    assert_eq!(chunk.received, u64::try_from(messages.len()).unwrap());
    assert_eq!(chunk.rows.len(), chunk.batch.num_rows());
    assert_eq!(chunk.batch.schema(), *decoder.schema());
    let mut lines: Vec<(u64, String)> = Vec::new();
    for (row, offset) in chunk.rows.iter().enumerate() {
        let value = |column: &arrow::array::ArrayRef| match column.is_null(row) {
            true => "-".to_owned(),
            false => array_value_to_string(column, row).unwrap(),
        };
        let values: Vec<String> = chunk.batch.columns().iter().map(value).collect();
        lines.push((*offset, format!("{offset}: {}", values.join(" | "))));
    }
    for fault in &chunk.faults {
        assert_eq!((fault.record.file(), fault.line), (FileId(1), 0));
        let (offset, code) = (fault.record.row(), fault.reason.code());
        lines.push((
            offset,
            format!("{offset}: {code} {}: {}", fault.field, fault.detail),
        ));
    }
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

fn check(found: &[String], expected: &[&str]) {
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            found.starts_with(expected),
            "{found}\ninstead of {expected}"
        );
    }
}

#[test]
fn json_messages_are_rows_or_faults() {
    let columns = columns(&[
        ("id", "text"),
        ("usage.tokens", "bigint"),
        ("_key", "text"),
        ("_timestamp", "timestamp"),
        ("_partition", "bigint"),
        ("_offset", "bigint"),
        ("_topic", "text"),
        ("_header.region", "text"),
    ]);
    let mut decoder = open(&MessageFormat::Json, &columns);
    let mut headed = message(r#"{"id":"a","usage":{"tokens":7},"_offset":1}"#);
    headed.headers = vec![("region".to_owned(), Some(b"eu".to_vec()))];
    let mut odd_key = message(r#"{"id":"f"}"#);
    odd_key.key = Some(vec![0xff]);
    let messages = [
        headed,
        message("{"),
        message("[1]"),
        message([0xff, 0xfe]),
        message(b"{\"id\":\"d\",\"note\":\"\xe9\"}"),
        message(b"{\"id\":\"\xe9\"}"),
        message(r#"{"id":"e","usage":{"tokens":"many"}}"#),
        with_headers(None, &[]),
        odd_key,
        message(r#"{"id":7}"#),
        message(""),
    ];
    check(
        &decoded(&mut decoder, &messages),
        &[
            "10: a | 7 | k | 2026-08-01T12:00:00.123Z | 3 | 10 | usage | eu",
            "12: ROW_UNREADABLE : EOF while parsing an object",
            "14: ROW_UNREADABLE : invalid type",
            "16: ROW_UNREADABLE : \"\u{fffd}\u{fffd}\" is not UTF-8 text",
            "18: d | - | k | 2026-08-01T12:00:00.123Z | 3 | 18 | usage | -",
            "20: FIELD_UNPARSABLE id: \"\u{fffd}\" is not UTF-8 text",
            "22: FIELD_UNPARSABLE usage.tokens: \"many\" is not of type bigint",
            "24: TOMBSTONE : it has no key either",
            "26: FIELD_UNPARSABLE _key: \"\u{fffd}\" is not UTF-8 text",
            "28: 7 | - | k | 2026-08-01T12:00:00.123Z | 3 | 28 | usage | -",
            "30: ROW_UNREADABLE : EOF while parsing a value",
        ],
    );
    assert!(decoder.finish().is_none());
}

#[test]
fn events_are_the_same_in_both_modes() {
    let columns = columns(&[
        ("id", "text"),
        ("source", "text"),
        ("subject", "text"),
        ("time", "timestamp"),
        ("tokens", "bigint"),
        ("data.id", "text"),
        ("ce_region", "text"),
        ("model.name", "text"),
    ]);
    let mut decoder = open(&MessageFormat::CloudEvents, &columns);
    let data = r#"{"id":"inner","tokens":7,"model":{"name":"m"}}"#;
    let structured = format!(
        r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"c","time":"2026-08-01T12:00:00Z","region":"eu","datacontenttype":"application/json","data":{data}}}"#
    );
    let required = [
        ("ce_specversion", "1.0"),
        ("ce_id", "1"),
        ("ce_source", "s"),
        ("ce_type", "t"),
    ];
    let mut headers = required.to_vec();
    headers.extend([
        ("ce_subject", "c"),
        ("ce_time", "2026-08-01T12:00:00Z"),
        ("ce_region", "eu"),
    ]);
    let binary = |kind: &str| {
        let mut headers = headers.clone();
        headers.push(("content-type", kind));
        with_headers(Some(data), &headers)
    };
    let encoded = |kind: Option<&str>| {
        let mut event: serde_json::Value = serde_json::from_str(&structured).unwrap();
        let fields = event.as_object_mut().unwrap();
        fields.remove("data");
        fields.remove("datacontenttype");
        if let Some(kind) = kind {
            fields.insert("datacontenttype".to_owned(), kind.into());
        }
        fields.insert("data_base64".to_owned(), STANDARD.encode(data).into());
        event.to_string()
    };
    let kind = [(
        "content-type",
        "application/cloudevents+json; charset=utf-8",
    )];
    let messages = [
        with_headers(Some(&structured), &kind),
        message(&structured),
        binary("application/json; charset=utf-8"),
        with_headers(Some(data), &headers),
        binary("text/plain"),
        with_headers(None, &required),
        with_headers(Some("[]"), &required),
        with_headers(Some(data), &required[..3]),
        with_headers(Some(data), &[("ce_specversion", "0.3")]),
        message(data),
        with_headers(None, &kind),
        message(structured.replace("\"data\"", "\"data_base64\"")),
        message(encoded(Some("Application/Vnd.Usage+JSON"))),
        message(encoded(None)),
        message(encoded(Some("application/protobuf"))),
        message(structured.replace("\"data\":", "\"data_base64\":\"e30=\",\"data\":")),
        binary("Application/JSON; charset=utf-8"),
        with_headers(
            Some(&structured),
            &[("content-type", "Application/CloudEvents+JSON")],
        ),
        with_headers(
            Some(&structured),
            &[("content-type", "Application/CloudEvents-Batch+JSON")],
        ),
        with_headers(
            Some(&structured),
            &[("content-type", "application/cloudevents-batch+json")],
        ),
        with_headers(
            Some(&structured),
            &[("content-type", "application/cloudevents+avro")],
        ),
    ];
    let row = "1 | s | c | 2026-08-01T12:00:00Z | 7 | inner | eu | m";
    let rows: Vec<String> = (10..18)
        .step_by(2)
        .map(|offset| format!("{offset}: {row}"))
        .collect();
    let later = [34, 36, 42, 44].map(|offset| format!("{offset}: {row}"));
    let mut expected: Vec<&str> = rows.iter().map(String::as_str).collect();
    expected.extend([
        "18: ROW_UNREADABLE : its data is \"text/plain\"",
        "20: 1 | s | - | - | - | - | - | -",
        "22: ROW_UNREADABLE : invalid type: sequence, expected an object",
        "24: ROW_UNREADABLE : it is no CloudEvent: it has no attribute \"type\"",
        "26: ROW_UNREADABLE : its CloudEvents version is \"0.3\"",
        "28: ROW_UNREADABLE : it is no CloudEvent: it has no attribute \"specversion\"",
        "30: TOMBSTONE",
        "32: ROW_UNREADABLE : its data_base64 is no base64",
        &later[0],
        &later[1],
        "38: ROW_UNREADABLE : its data is in data_base64; only JSON",
        "40: ROW_UNREADABLE : it has both data and data_base64",
        &later[2],
        &later[3],
        "46: ROW_UNREADABLE : it is a batch",
        "48: ROW_UNREADABLE : it is a batch",
        "50: ROW_UNREADABLE : its events are \"+avro\"",
    ]);
    check(&decoded(&mut decoder, &messages), &expected);
}

/// A schema registry on loopback; drops the first `deaf` connections. Gives its URL and how often
/// it was asked.
fn registry(deaf: usize, answers: &[(&str, String)]) -> (RegistryUrl, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = RegistryUrl(format!("http://{}", listener.local_addr().unwrap()));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let answers: Vec<(String, String)> = answers
        .iter()
        .map(|(path, body)| ((*path).to_owned(), body.clone()))
        .collect();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if count.fetch_add(1, Ordering::SeqCst) < deaf {
                continue;
            }
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let found = answers.iter().find(|(known, _)| known == path);
            let none = match path.split('/').nth(1) {
                Some("schemas") => r#"{"error_code":40403,"message":"no such schema"}"#,
                Some("subjects") => r#"{"error_code":40401,"message":"no such subject"}"#,
                _ => "no such page",
            };
            let (status, body) =
                found.map_or(("404 Not Found", none), |(_, body)| ("200 OK", body));
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, asked)
}

const OLD: &str = r#"{"type":"record","name":"Usage","fields":[
    {"name":"id","type":"string"},
    {"name":"tokens","type":"int"}]}"#;
const NEW: &str = r#"{"type":"record","name":"Usage","fields":[
    {"name":"note","type":["null","string"],"default":null},
    {"name":"id","type":{"type":"string","logicalType":"uuid"}},
    {"name":"tokens","type":"long"},
    {"name":"price","type":["null",{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}],"default":null},
    {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["IN","OUT"]},"default":"IN"},
    {"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},
    {"name":"model","type":["null",{"type":"record","name":"Model","fields":[{"name":"name","type":"string"}]}],"default":null}]}"#;

fn answer(schema: &str) -> String {
    serde_json::json!({ "id": 2, "schema": schema }).to_string()
}

fn long(value: i64) -> Vec<u8> {
    let mut rest = (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned();
    let mut bytes = Vec::new();
    while rest > 0x7f {
        bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

fn text(value: &str) -> Vec<u8> {
    [
        long(i64::try_from(value.len()).unwrap()),
        value.as_bytes().to_vec(),
    ]
    .concat()
}

fn framed(schema: u32, fields: &[Vec<u8>]) -> KeptMessage {
    message([vec![0], schema.to_be_bytes().to_vec(), fields.concat()].concat())
}

fn avro(deaf: usize) -> (MessageFormat, Arc<AtomicUsize>) {
    let (registry, asked) = registry(
        deaf,
        &[
            ("/subjects/usage-value/versions/latest", answer(NEW)),
            ("/schemas/ids/1", answer(OLD)),
            ("/schemas/ids/2", answer(NEW)),
            (
                "/schemas/ids/3",
                serde_json::json!({"schema":"{}","schemaType":"JSON"}).to_string(),
            ),
            (
                "/schemas/ids/4",
                answer(r#"{"type":"record","name":"Usage","fields":[]}"#),
            ),
        ],
    );
    let subject = None;
    (MessageFormat::Avro { registry, subject }, asked)
}

#[test]
fn avro_messages_of_several_schemas_are_rows_of_one() {
    let (format, asked) = avro(2);
    let columns = columns(&[
        ("id", "text"),
        ("tokens", "bigint"),
        ("price", "decimal(20,4)"),
        ("kind", "text"),
        ("at", "timestamp"),
        ("model.name", "text"),
        ("_offset", "bigint"),
    ]);
    let mut decoder = open(&format, &columns);
    let new = |id: &str, note: bool, price: Option<u8>| {
        let note = if note {
            [long(1), text("n")].concat()
        } else {
            long(0)
        };
        let price = price.map_or(long(0), |cents| [long(1), long(1), vec![cents]].concat());
        let model = [long(1), text("m")].concat();
        framed(
            2,
            &[
                note,
                text(id),
                long(9),
                price,
                long(1),
                long(1),
                long(1_785_585_600_000),
                model,
            ],
        )
    };
    let mut cut = new("cut", false, None);
    cut.payload.as_mut().unwrap().pop();
    let mut longer = new("longer", false, None);
    longer.payload.as_mut().unwrap().push(0);
    let messages = [
        framed(1, &[text("a"), long(5)]),
        new("b", true, Some(99)),
        framed(1, &[text("c"), long(-6)]),
        framed(77, &[text("d")]),
        cut,
        new("e", false, None),
        longer,
        message(r#"{"id":"f"}"#),
        with_headers(None, &[]),
        framed(3, &[]),
        framed(4, &[]),
        framed(1, &[text("g"), long(7)]),
        new("h", false, Some(1)),
        message([0, 0, 0]),
    ];
    let expected = [
        "10: a | 5 | - | IN | - | - | 10",
        "12: b | 9 | 0.9900 | OUT | 2026-08-01T12:00:00Z | m | 12",
        "14: c | -6 | - | IN | - | - | 14",
        "16: ROW_UNREADABLE : the registry knows no schema 77",
        "18: ROW_UNREADABLE : ",
        "20: e | 9 | - | OUT | 2026-08-01T12:00:00Z | m | 20",
        "22: ROW_UNREADABLE : ",
        "24: ROW_UNREADABLE : it does not begin with a zero",
        "26: TOMBSTONE",
        "28: ROW_UNREADABLE : schema 3 is of type JSON",
        "30: ROW_UNREADABLE : what schema 4 writes does not fit",
        "32: g | 7 | - | IN | - | - | 32",
        "34: h | 9 | 0.0100 | OUT | 2026-08-01T12:00:00Z | m | 34",
        "36: ROW_UNREADABLE : it does not begin",
    ];
    check(&decoded(&mut decoder, &messages), &expected);
    let before = asked.load(Ordering::SeqCst);
    check(&decoded(&mut decoder, &messages), &expected);
    let after = asked.load(Ordering::SeqCst);
    assert_eq!(
        after, before,
        "what is known to be unknown is not asked for"
    );
    check(
        &decoded(&mut decoder, &messages[3..5]),
        &["10: ROW_UNREADABLE", "12: ROW_UNREADABLE"],
    );
    assert!(decoder.finish().is_none());
}

#[test]
fn a_registry_or_schema_that_does_not_serve_is_said_at_once() {
    let (format, _) = avro(0);
    let partition = TopicPartition::new("usage", 0);
    let failed = |format: &MessageFormat, columns: &[ColumnRequest]| {
        let registry = format.registry().unwrap();
        let opened =
            MessageDecoder::open(FileId(0), &partition, format, registry.as_ref(), columns);
        opened.unwrap_err().to_string()
    };
    let told = failed(&format, &columns(&[("tokns", "")]));
    assert!(
        told.contains("no column \"tokns\", did you mean \"tokens\""),
        "{told}"
    );
    let told = failed(&format, &columns(&[("tokens", "date")]));
    assert!(told.contains("does not convert exactly"), "{told}");
    let MessageFormat::Avro { registry: url, .. } = &format else {
        panic!("an Avro format")
    };
    let other = MessageFormat::Avro {
        registry: url.clone(),
        subject: Some("other".to_owned()),
    };
    let told = failed(&other, &[]);
    assert!(told.contains("no subject \"other\""), "{told}");
    let gone = RegistryUrl("http://user:hunter2@127.0.0.1:1".to_owned());
    assert!(!format!("{gone:?}").contains("hunter2"));
    let gone = MessageFormat::Avro {
        registry: gone,
        subject: None,
    };
    let told = failed(&gone, &[]);
    assert!(
        told.contains("http://***@127.0.0.1:1") && told.contains("check that it runs"),
        "{told}"
    );
    assert!(!told.contains("hunter2"), "{told}");
}

/// A registry on loopback that answers the nth request, counted from 0, as told.
fn registry_saying(say: impl Fn(usize, &str) -> (u16, String) + Send + 'static) -> RegistryUrl {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            let (status, body) = say(n, &String::from_utf8_lossy(&request[..read]));
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            // Whoever has heard enough hangs up.
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    RegistryUrl(format!("http://{address}"))
}

const NO_SCHEMA: &str = r#"{"error_code":40403,"message":"Schema 7 not found"}"#;

#[test]
fn a_schema_that_comes_a_little_late_is_known() {
    let url = registry_saying(|n, _| match n {
        0 => (404, NO_SCHEMA.to_owned()),
        _ => (200, answer(OLD)),
    });
    let registry = Registry::new(&url).unwrap();
    assert!(registry.schema(7).unwrap().is_some());
}

#[test]
fn an_unknown_schema_is_asked_for_once_in_a_while() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let url = registry_saying(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        (404, NO_SCHEMA.to_owned())
    });
    let registry = Registry::new(&url).unwrap();
    assert!(registry.schema(7).unwrap().is_none());
    let first = asked.load(Ordering::SeqCst);
    assert!(first > 1, "asked {first} times");
    for _ in 0..100 {
        assert!(registry.schema(7).unwrap().is_none());
    }
    assert_eq!(asked.load(Ordering::SeqCst), first);
}

#[test]
fn a_404_that_is_not_the_registrys_word_is_no_answer() {
    for body in [
        "",
        "<html>",
        r#"{"error_code":404}"#,
        r#"{"error_code":40401}"#,
    ] {
        let url = registry_saying(move |_, _| (404, body.to_owned()));
        let told = Registry::new(&url)
            .unwrap()
            .schema(7)
            .unwrap_err()
            .to_string();
        assert!(told.contains("it answers 404"), "{told}");
    }
    // The wrong path, then the right one.
    let url = registry_saying(|n, _| match n {
        0 => (404, "starting".to_owned()),
        _ => (200, answer(OLD)),
    });
    let registry = Registry::new(&url).unwrap();
    assert!(registry.schema(7).unwrap().is_some());
}

#[test]
fn an_answer_without_end_is_told() {
    let url = registry_saying(|_, _| (200, "x".repeat(17 << 20)));
    let asked = Registry::new(&url).unwrap().schema(7);
    let told = asked.unwrap_err().to_string();
    assert!(
        told.contains("it answers with more than 16777216 bytes"),
        "{told}"
    );
}

#[test]
fn the_login_may_come_from_the_environment() {
    let variable = |name: &str| match name {
        "USER" => Ok("ann".to_owned()),
        "PASSWORD" => Ok("p@ss/w:rd%41".to_owned()),
        "URL" => Ok("http://bob:b@host:1/v1".to_owned()),
        _ => Err(std::env::VarError::NotPresent),
    };
    let resolved = |url: &str| RegistryUrl(url.to_owned()).resolved(variable);
    let found = |url: &str| resolved(url).unwrap().0;
    assert_eq!(
        found("http://${USER}:${PASSWORD}@host/x${USER}@"),
        "http://ann:p%40ss%2Fw%3Ard%2541@host/xann@"
    );
    assert_eq!(found("${URL}"), "http://bob:b@host:1/v1");
    assert_eq!(found("http://a:b@host"), "http://a:b@host");
    let told = resolved("http://${NOBODY}@host").unwrap_err();
    assert!(told.contains("the environment has no NOBODY"), "{told}");
    assert!(resolved("http://${USER@host").is_err());
    // What is sent is what the variable holds.
    let header = Arc::new(std::sync::Mutex::new(String::new()));
    let seen = Arc::clone(&header);
    let url = registry_saying(move |_, request| {
        *seen.lock().unwrap() = request.to_owned();
        (200, answer(OLD))
    });
    let login = url.0.replace("http://", "http://${PATH}:x@");
    let registry = Registry::new(&RegistryUrl(login)).unwrap();
    assert!(registry.schema(1).unwrap().is_some());
    let path = std::env::var("PATH").unwrap();
    let expected = STANDARD.encode(format!("{path}:x"));
    assert!(header.lock().unwrap().contains(&expected));
    let told = Registry::new(&RegistryUrl("http://${MILLRACE_NO_SUCH}:x@host".to_owned()));
    let told = told.unwrap_err().to_string();
    assert!(
        told.contains("http://***@host") && told.contains("MILLRACE_NO_SUCH"),
        "{told}"
    );
}

#[test]
fn an_offset_that_no_record_can_have_is_an_error() {
    let mut decoder = open(&MessageFormat::Json, &columns(&[("id", "text")]));
    let partition = TopicPartition::new("usage", 0);
    let kept = message("{}");
    for offset in [-1, 1 << 40] {
        let pushed = decoder.push(&Message::of_kept(&partition, offset, &kept));
        assert!(
            matches!(pushed, Err(DecodeError::Offset { .. })),
            "{pushed:?}"
        );
    }
    assert!(decoder.finish().is_none());
}

proptest! {
    #[test]
    fn no_bytes_are_lost_or_panic(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8)) {
        static AVRO: OnceLock<MessageFormat> = OnceLock::new();
        let columns = columns(&[("id", "text"), ("tokens", "bigint")]);
        let avro = AVRO.get_or_init(|| avro(0).0);
        for format in [&MessageFormat::Json, &MessageFormat::CloudEvents, avro] {
            let decoder = &mut open(format, &columns);
            let messages: Vec<KeptMessage> = payloads
                .iter()
                .map(|payload| framed(2, std::slice::from_ref(payload)))
                .collect();
            prop_assert_eq!(decoded(decoder, &messages).len(), messages.len());
            let messages: Vec<KeptMessage> = payloads.iter().map(message).collect();
            prop_assert_eq!(decoded(decoder, &messages).len(), messages.len());
        }
    }
}
