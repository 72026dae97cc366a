//! The outputs of a job: changes as they happen, and the state at the end of the run.
//!
//! ```text
//!  <folder>/<output>/changes/<first epoch>.parquet     every change, with its epoch and + or -
//!  <folder>/<output>/snapshot/part-NN.parquet          what stands at the end
//!  <folder>/<output>/snapshot.jsonl                    the same as JSON lines, where asked for
//!  <folder>/<output>/snapshot.csv                      the same as CSV, where asked for
//!  <folder>/_progress/…                                whose they are, and how far they are told
//! ```
//!
//! Changes come from the publisher, one thread, epoch by epoch. Snapshots of charges are written by
//! the workers, shard by shard, in the order of (service, class, event time, record, item), then what
//! is charged in order, by (balance group, event time, record, item): the bytes do not depend on the
//! number of workers. A run writes its outputs anew; files of an earlier
//! run in the same folder are taken away first, so that a reader never adds two runs up.
//!
//! Where epochs are made durable, Parquet files have the generation and the name of their run behind
//! their own (`part-00-7-<run>.parquet`), those of changes a digest of their bytes too, everything is written under a hidden name first, and takes its
//! place behind the commit that names it. A run that stood still meanwhile finds its hidden files gone.

mod changes;
mod folder;
mod messages;
mod parts;
mod pieces;
mod rows;
mod snapshot;

pub use changes::ChangeWriter;
pub(crate) use changes::digest_of;
pub use folder::{DurableRun, OUTPUTS, Outputs, RAW};
pub use messages::MessageWriter;
pub use parts::WorkerSnapshot;
pub(crate) use parts::{all_buckets_of, buckets_of, carry};
pub use pieces::Piece;
pub use snapshot::Standing;
