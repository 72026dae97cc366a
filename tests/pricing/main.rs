//! Prices of histories: the graph against the oracle, epoch by epoch, without files.

mod history;
mod incremental;
mod scenario;
mod scenarios;
mod simulation;
