//! Kafka's wire protocol: frames, headers, the table of APIs, messages, error codes.
//!
//! What it is: sans-I/O functions from bytes to messages and back. The hot messages (Produce,
//! Fetch, the headers, ApiVersions) are read in place and written by hand; all others go through
//! [`codec`], the only place that names the codec crate. It serves both ends: the broker, and
//! clients such as the load generator.
//!
//! What it is not: sockets, order of answers, sessions, and what a request means. It does not look
//! into record batches: they pass as slices.
//!
//! Lives on every core, without state.
//!
//! Invariants: no input makes it panic or allocate beyond a stated multiple of the bytes that
//! arrived; a request that parsed once iterates without failing; what a client must see as an
//! error of its own (an invalid name, say) is a value, and [`Malformed`] means: close.
//!
//! Bytes behind a request's body are ignored, as Kafka's broker does: librdkafka 2.12 sends three
//! behind a Metadata request for all topics. Behind an answer they are malformed.
//!
//! Callers: `server`, `tools/loadgen`, tests.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod api_key;
pub mod api_versions;
pub mod codec;
pub mod error_code;
pub mod fetch;
pub mod frame;
pub mod header;
mod malformed;
pub mod produce;
mod reader;
mod shared;
#[cfg(test)]
mod tests;
mod text;
mod writer;

pub use api_key::ApiKey;
pub use error_code::ErrorCode;
pub use frame::{FRAME_PREFIX_BYTES, FrameError, frame_len};
pub use header::{ClientHeader, ClientId, HeaderError, RequestHeader, parse_response_header};
pub use malformed::{EncodeError, Malformed};
pub use shared::{CurrentLeader, NodeEndpoint};
pub use text::{TopicRef, WireStr};
