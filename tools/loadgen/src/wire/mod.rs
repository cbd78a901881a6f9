//! The bytes of the hot path: prebuilt requests, answers read in place.
//!
//! Not here: sockets, time, and every request that is not Produce or Fetch (those go through
//! `thalweg::protocol`'s codec). Lives on any load core; plain data.
//! Invariant: a patched frame is byte for byte what an encoder would have written.
//! Callers: `load`.

pub mod aborted;
pub mod batch;
pub mod crc_tail;
pub mod cursor;
pub mod fetch;
pub mod mark;
pub mod pool;
pub mod produce;
pub mod stamp;

#[cfg(test)]
mod tests;
