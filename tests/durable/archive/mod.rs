//! Closed bill units: archived at the end of a run, rated again by `millrace replay`, adjusted by late
//! records and changed prices.

mod adjust;
mod books;
mod clock;
mod corrections;
mod empty;
pub(crate) mod forget;
mod kept;
mod processes;
mod refused;
mod remote;
mod replay;
pub(crate) mod world;
