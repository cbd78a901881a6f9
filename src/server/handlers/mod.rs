//! One file for each API: parse, ask the owners, answer. Each opens with its versions and the KIPs
//! that shaped them.
//!
//! Not here: decisions about logs (`partition`) or metadata (`cluster::controller`).
//! Lives on: the core of the connection.
//! Callers: `server::dispatch`.

pub mod fetch;
pub mod produce;
