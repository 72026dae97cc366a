//! The operators of millrace, pure: the same input collections give the same output collections for
//! any number of workers, any split into batches, and any arrival order inside an epoch.
//!
//! Reading order: [`domain`] (the words), [`epoch`] (time), then along the flow: [`dedup`],
//! [`guide`], [`rate`], [`aggregate`], [`tally`].

#![forbid(unsafe_code)]

pub mod activity;
pub mod aggregate;
pub mod charge;
pub mod dedup;
pub mod discard;
pub mod domain;
pub mod epoch;
pub mod guide;
mod keymap;
pub mod rate;
pub mod stats;
pub mod tally;
