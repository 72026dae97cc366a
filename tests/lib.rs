//! What the tests share: a naive rater to compare the graph with, and a way to run a script of
//! changes through the graph on any number of workers.
//!
//! Reading order: [`oracle`] (what must come out), [`engine`] (what does), [`jobs`] (whole jobs, from
//! their files to their outputs), [`broker`] (a real Kafka).

pub mod broker;
pub mod dice;
pub mod engine;
pub mod jobs;
pub mod kills;
pub mod oracle;
pub mod stops;
