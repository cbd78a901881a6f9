//! One file for each API: parse, ask the owners or the controller, answer. Each opens with its
//! versions and the KIPs that shaped them.
//!
//! Not here: decisions about logs (`partition`) or metadata (`cluster::controller`).
//! Lives on: the core of the connection.
//! Callers: `server::dispatch`.

pub mod api_versions;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_topic_partitions;
pub mod fetch;
pub mod find_coordinator;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod list_offsets;
pub mod metadata;
pub mod offset_for_leader_epoch;
pub mod produce;
pub(super) mod topics;

use crate::protocol::RequestHeader;
use crate::protocol::codec::{self, messages::KafkaResponse};
use crate::server::reply::Answer;

/// A response of the codec's as an answer. One that cannot be encoded is a defect here: the
/// connection closes rather than stay without an answer.
fn respond<M: KafkaResponse>(header: &RequestHeader, message: &M) -> Answer {
    match codec::encode_response(header.correlation_id(), header.version(), message) {
        Ok(frame) => Answer::Send(vec![frame]),
        Err(problem) => Answer::Close(format!("{}: {problem}", header.api())),
    }
}
