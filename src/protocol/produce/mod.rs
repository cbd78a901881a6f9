//! Produce (key 0), versions 3 to 13: requests read in place, responses written by hand, and the
//! client's side of both.
//!
//! Not here: what a record batch holds. Lives on every core, without state.
//! Invariant: a request that parsed iterates without failing. Callers: `server`, load generators.

mod client;
mod request;
mod response;

pub use client::{
    PartitionAnswer, PartitionAnswers, ProduceAnswer, ProduceBatch, ProduceHead, TopicAnswer,
    TopicAnswers, encode_request,
};
pub use request::{
    ProducePartition, ProducePartitions, ProduceRequest, ProduceTopic, ProduceTopics,
};
pub use response::{PartitionResult, RecordErrorAt, ResponseHead, encode_response};

/// First flexible version.
const FLEXIBLE: i16 = 9;

const fn is_flexible(version: i16) -> bool {
    version >= FLEXIBLE
}
