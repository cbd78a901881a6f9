//! From a frame to the answer of its API.
//!
//! Produce is answered later, once its batches are acknowledged, and the next request may be read
//! meanwhile. Every other API is a barrier: its answer is complete before the next frame is looked
//! at, as Kafka's muted channels have it, so that what a client pipelines takes effect in order.

use std::rc::Rc;

use bytes::Bytes;

use super::connection::Connection;
use super::core::Core;
use super::handlers::{
    api_versions, create_partitions, create_topics, delete_records, delete_topics,
    describe_cluster, describe_configs, describe_topic_partitions, fetch, find_coordinator,
    incremental_alter_configs, init_producer_id, list_offsets, metadata, offset_for_leader_epoch,
    produce,
};
use super::reply::{Answer, Pending};
use crate::protocol::{ApiKey, RequestHeader};

/// A request as its handler gets it.
pub struct Request<'a> {
    /// API, version, correlation id, client id.
    pub header: RequestHeader,
    /// What stands after the header, a slice of the frame.
    pub body: Bytes,
    /// Bytes of the whole frame.
    pub frame_bytes: usize,
    /// Where it came from.
    pub connection: &'a Connection,
}

/// Answers `frame`, or says that the connection must close.
pub async fn dispatch(core: &Rc<Core>, connection: &Connection, frame: Bytes) -> Pending {
    let (header, body) = match RequestHeader::parse(&frame) {
        Ok(parsed) => parsed,
        Err(problem) => return Pending::Now(Answer::Close(problem.to_string())),
    };
    let frame_bytes = frame.len();
    drop(frame);
    let api = header.api();
    let request = Request { header, body, frame_bytes, connection };
    let answer = match api {
        ApiKey::Produce => return produce::handle(core, request),
        ApiKey::Fetch => fetch::handle(core, request).await,
        ApiKey::ListOffsets => list_offsets::handle(core, request).await,
        ApiKey::Metadata => metadata::handle(core, request).await,
        ApiKey::FindCoordinator => find_coordinator::handle(request),
        ApiKey::ApiVersions => api_versions::handle(core, request),
        ApiKey::CreateTopics => create_topics::handle(core, request).await,
        ApiKey::DeleteTopics => delete_topics::handle(core, request).await,
        ApiKey::DeleteRecords => delete_records::handle(core, request).await,
        ApiKey::InitProducerId => init_producer_id::handle(core, request).await,
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch::handle(core, request).await,
        ApiKey::DescribeConfigs => describe_configs::handle(core, request).await,
        ApiKey::CreatePartitions => create_partitions::handle(core, request).await,
        ApiKey::IncrementalAlterConfigs => incremental_alter_configs::handle(core, request).await,
        ApiKey::DescribeCluster => describe_cluster::handle(core, request),
        ApiKey::DescribeTopicPartitions => describe_topic_partitions::handle(core, request),
    };
    Pending::Now(answer.unwrap_or_else(|refusal| Answer::Close(format!("{api}: {refusal}"))))
}
