//! A Kafka client of the least cost: connections, plain or secured, cut into frames, and the few requests around a
//! run. Produce and Fetch themselves are in `wire` and `load`.
//!
//! Not here: retries, batching, metadata refresh: a load generator measures what a broker answers,
//! it does not smooth it. Lives on a load core, on that core's reactor.
//! Callers: `load`, `run`.

pub mod admin;
pub mod call;
pub mod configs;
pub mod dial;
pub mod features;
pub mod frames;
pub mod group;
pub mod sasl;
pub mod security;
pub mod stream;
pub mod tls;

use thalweg::protocol::ErrorCode;

/// Kafka's name of an error code.
#[must_use]
pub fn error_name(code: i16) -> String {
    ErrorCode::from_code(code).map_or_else(|| format!("error {code}"), |it| it.name().to_owned())
}
