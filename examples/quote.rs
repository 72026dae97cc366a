//! Prices usage from Rust, with neither job nor accounts: what would one call of each model cost?
//!
//! ```text
//! cargo run -p millrace-examples --example quote -- [catalog file] [model ...]
//! ```

#![allow(clippy::print_stdout, reason = "a program of the terminal")]

use jiff::Timestamp;
use millrace::quote::{QuoteError, QuoteRequest, quote};
use millrace_connectors::decode::{Csv, Format};
use std::fmt::Write as _;
use std::io::Cursor;
use std::path::PathBuf;
use std::process::ExitCode;

/// A call with a prompt that is partly cached.
const CALL: [(&str, u64); 3] = [
    ("input_tokens", 1_200),
    ("cached_tokens", 90_000),
    ("output_tokens", 450),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let catalog = arguments.next().map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/llm/catalog.yaml")),
        PathBuf::from,
    );
    let mut models: Vec<String> = arguments.collect();
    if models.is_empty() {
        models = ["claude-opus-4-6", "claude-haiku-4-5-20251001"]
            .map(str::to_owned)
            .to_vec();
    }

    // Usage in the form that needs no mediation: item, quantity, and attributes to find a price by.
    let mut usage = "item,quantity,model\n".to_owned();
    for model in &models {
        for (item, quantity) in CALL {
            writeln!(usage, "{item},{quantity},{model}").expect("text takes what is written to it");
        }
    }
    let request = QuoteRequest {
        catalogs: vec![catalog],
        job: None,
        source: None,
        price_list: None,
        account: None,
        at: Timestamp::now().into(),
        format: Format::Csv(Csv {
            delimiter: ',',
            header: None,
        }),
        name: "calls.csv".to_owned(),
    };
    let quote = match quote(&request, Box::new(Cursor::new(usage))) {
        Ok(quote) => quote,
        Err(error) => {
            eprintln!("no quote: {error}");
            if let QuoteError::Configuration(findings) = error {
                findings.iter().for_each(|finding| eprintln!("{finding}"));
            }
            return ExitCode::FAILURE;
        }
    };

    // A row that cannot be priced is a line too, with the reason; the others are priced all the same.
    let called = models.iter().flat_map(|model| CALL.map(|_| model));
    for (model, line) in called.zip(&quote.lines) {
        match (&line.amount, line.reason) {
            (Some(amount), _) => println!("{model:<26} {:<14} {amount}", line.item),
            (None, reason) => println!("{model:<26} {:<14} {}", line.item, reason.unwrap_or("-")),
        }
    }
    for (currency, total) in &quote.totals {
        println!("total {total} {currency}");
    }
    if quote.is_complete() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
