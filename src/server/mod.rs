//! The Kafka door: accepts connections, cuts frames, dispatches requests, answers in order.
//!
//! Not here: what a log or a topic is. Handlers translate between the wire and the floors below, and
//! this is the only place that gives Kafka error codes.
//! Lives on: every shard; a connection stays on the core that accepted it.
//! Invariants: answers leave a connection in request order; produces of one connection are appended
//! in the order in which they were received; what one connection can make us hold is bounded.
//! Callers: `main` starts [`serve::serve_core`] on each shard.

pub mod broker;
pub mod connection;
pub mod core;
pub mod dispatch;
pub mod errors;
pub mod frame_place;
pub mod frame_reader;
pub mod handlers;
pub mod listener;
pub mod producer_ids;
pub mod reaper;
pub mod refusals;
pub mod reply;
pub mod serve;
