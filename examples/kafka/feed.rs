//! Publishes the model calls of `examples/llm` as JSON messages, one per call, and creates the topics
//! of `examples/kafka/job.yaml` where they are missing.
//!
//! ```sh
//! cargo run --release -p millrace-examples --example feed -- 127.0.0.1:9092
//! ```

#![allow(clippy::print_stdout, reason = "a program says what it did")]

use flate2::read::GzDecoder;
use millrace_connectors::kafka::{
    KafkaSettings, NewTopic, Progress, Publisher, PublisherSlot, Row, create_missing_topics,
};
use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// Messages of one transaction.
const BATCH: usize = 10_000;
/// A broker may still be fetched, or start.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let brokers = arguments.next().unwrap_or("127.0.0.1:9092".to_owned());
    let settings = KafkaSettings::new(brokers);
    let usage = NewTopic::new("llm.usage", 4);
    let billed = ["llm.charges", "llm.lines", "llm.suspense"];
    let billed = billed.map(|topic| NewTopic::compacted(topic, 1));
    let topics = [[usage].as_slice(), &billed].concat();
    let begun = Instant::now();
    while let Err(error) = create_missing_topics(&settings, &topics) {
        if !error.is_temporary() || begun.elapsed() > PATIENCE {
            return Err(error.into());
        }
        println!("waiting for the broker");
    }

    let slot = PublisherSlot {
        transactional_id: "llm-feed".to_owned(),
        progress_topic: "llm.feed-progress".to_owned(),
        number: 0,
        of: 1,
    };
    let (mut publisher, before) = Publisher::open(&settings, slot)?;
    let mut progress = before.unwrap_or_default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("llm/usage/requests.csv.gz");
    let mut calls = csv::Reader::from_reader(GzDecoder::new(File::open(folder)?));
    let columns = calls.headers()?.clone();
    let mut messages: Vec<(String, Vec<u8>)> = Vec::new();
    for call in calls.records() {
        let call = call?;
        let fields = columns.iter().zip(&call);
        let message: serde_json::Map<String, serde_json::Value> = fields
            .map(|(column, value)| (column.to_owned(), value.into()))
            .collect();
        messages.push((call[0].to_owned(), serde_json::to_vec(&message)?));
    }
    for batch in messages.chunks(BATCH) {
        progress = Progress {
            part: progress.part + 1,
            ..progress
        };
        let rows = batch.iter().map(|(key, value)| Row {
            topic: "llm.usage",
            key: key.as_bytes(),
            value: Some(value),
            headers: &[],
        });
        publisher.publish(&progress, rows)?;
    }
    println!("{} messages in llm.usage", messages.len());
    Ok(())
}
