//! Counting and timing: what a load core saw, what the broker's process used, and the percentiles
//! of it.
//!
//! Not here: sockets, protocol, printing. A [`tally::Tally`] lives on one load core until it is
//! sent to the collector; the rest lives on the collector.
//! Invariant: histograms are merged, percentiles never averaged.
//! Callers: `load`, `run`, `report`.

pub mod device;
pub mod encoded;
pub mod host;
pub mod ledger;
pub mod percentiles;
pub mod proc;
pub mod tally;
