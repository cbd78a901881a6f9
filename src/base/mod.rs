//! Words that every floor uses: ids, offsets, epochs, limits, CRC, varints, clock, local signals.
//!
//! Not here: anything that does I/O, knows Kafka's wire, or names the runtime.
//! Lives on any core; every type is plain data or single-threaded state.
//! Callers: all floors.

pub mod clock;
pub mod crc;
pub mod ids;
pub mod limits;
pub mod parallel;
#[cfg(feature = "planted-bugs")]
pub mod planted;
pub mod signal;
pub mod varint;
