//! The operators of millrace, pure: the same input collections give the same output collections for
//! any number of workers, any split into batches, and any arrival order inside an epoch.
//!
//! Reading order: [`domain`].

#![forbid(unsafe_code)]

pub mod domain;
