//! Prints what stands in a topic that a job publishes to: the newest committed message of each key.
//!
//! ```sh
//! cargo run --release -p millrace-examples --example read -- llm.lines 127.0.0.1:9092
//! ```

use millrace_connectors::kafka::{Consumer, KafkaSettings, Start};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Write as _, stdout};
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let topic = arguments.next().unwrap_or("llm.lines".to_owned());
    let brokers = arguments.next().unwrap_or("127.0.0.1:9092".to_owned());
    let mut consumer = Consumer::open(&KafkaSettings::new(brokers), &[topic])?;
    let marks = consumer.watermarks()?;
    let ends: Vec<_> = marks
        .iter()
        .map(|(at, marks)| (at.clone(), marks.high))
        .collect();
    let starts: Vec<_> = marks.into_keys().map(|at| (at, Start::Earliest)).collect();
    consumer.assign(&starts)?;
    let mut standing: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    while !consumer.reached(&ends)? {
        consumer.poll(10_000, Duration::from_millis(100), &mut |message| {
            let key = message.key().unwrap_or_default().to_vec();
            match message.payload() {
                Some(row) => standing.insert(key, row.to_vec()),
                // A key without content: its row is gone.
                None => standing.remove(&key),
            };
        })?;
    }
    let mut out = stdout().lock();
    for row in standing.values() {
        // Who reads only the first rows has seen enough.
        if out
            .write_all(row)
            .and_then(|()| out.write_all(b"\n"))
            .is_err()
        {
            break;
        }
    }
    Ok(())
}
