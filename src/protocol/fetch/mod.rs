//! Fetch (key 1), versions 4 to 17: requests read in place, responses gathered around the record
//! bytes of the log, and the client's side of both.
//!
//! Not here: sessions (KIP-227) and what a log holds. Lives on every core, without state.
//! Invariant: a request that parsed iterates without failing. Callers: `server`, load generators.

mod client;
mod partition;
mod request;
mod response;

pub use client::{
    AbortedTransactions, FetchAnswer, FetchHead, FetchSpec, PartitionAnswer, PartitionAnswers,
    TopicAnswer, TopicAnswers, encode_request,
};
pub use partition::FetchPartition;
pub use request::{
    FetchPartitions, FetchRequest, FetchTopic, FetchTopics, ForgottenTopic, ForgottenTopics,
    IsolationLevel,
};
pub use response::{AbortedTransaction, EpochEnd, PartitionResult, ResponseHead, encode_response};

/// First version that tells where the log starts, both ways.
const LOG_START: i16 = 5;
/// First version of fetch sessions (KIP-227).
const SESSIONS: i16 = 7;
/// First version with the leader epoch that the client knows (KIP-320).
const LEADER_EPOCH: i16 = 9;
/// First version with racks and preferred replicas (KIP-392).
const RACKS: i16 = 11;
/// First flexible version, also the first with diverging epochs (KIP-595).
const FLEXIBLE: i16 = 12;
/// First version that keeps the replica's id in a tagged field (KIP-903).
const REPLICA_STATE: i16 = 15;
/// First version that tells where the current leader listens (KIP-951).
const NODE_ENDPOINTS: i16 = 16;
/// First version with a replica's directory id (KIP-853).
const DIRECTORY_ID: i16 = 17;

const fn is_flexible(version: i16) -> bool {
    version >= FLEXIBLE
}
