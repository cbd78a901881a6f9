//! Produce, key 0, versions 3-13 (advertised from 0, see `protocol::api_key`).
//!
//! v9 flexible; v12 as v11 for batches outside of transactions; v13 names topics by id (KIP-516).
//! The batches are appended, and so ordered, before [`handle`] returns; the answer follows once
//! they are acknowledged. `acks=0` is silent; what goes wrong there closes the connection, as
//! Kafka does, so that the client notices.

use std::rc::Rc;

use bytes::Bytes;

use crate::base::ids::{ShardId, TopicPartition};
use crate::base::limits::LARGE_BATCH_BYTES;
use crate::base::signal::OneReceiver;
use crate::cluster::image::MetadataImage;
use crate::protocol::ErrorCode;
use crate::protocol::produce::{
    PartitionResult, ProduceRequest, RecordErrorAt, ResponseHead, encode_response,
};
use crate::record::{Compression, UncheckedBatch};
use crate::server::connection::Connection;
use crate::server::core::Core;
use crate::server::dispatch::Request;
use crate::server::errors;
use crate::server::handlers::topics::find_topic;
use crate::server::reply::{Answer, Pending};
use crate::shard::router::{AppendAsk, AppendFailure, AppendOutcome};

/// First version in which a batch may be compressed with zstd (KIP-110).
const ZSTD_FROM: i16 = 7;
/// Kafka's "no time".
const NO_TIME: i64 = -1;

/// What one core was asked, and for which places of the response.
struct Part {
    owner: ShardId,
    slots: Vec<usize>,
    asks: Vec<AppendAsk>,
}

/// Appends what the request holds; the answer follows.
pub fn handle(core: &Rc<Core>, request: Request<'_>) -> Pending {
    let Request { header, body, connection, frame_bytes } = request;
    let correlation_id = header.correlation_id();
    let produce = match ProduceRequest::parse(body, header.version()) {
        Ok(produce) => produce,
        Err(problem) => return Pending::Now(Answer::Close(format!("Produce: {problem}"))),
    };
    let mut results: Vec<Option<PartitionResult>> = Vec::new();
    let parts = match refusal_of_all(&produce) {
        None => {
            let mut parts = route(&core.image(), &produce, &mut results);
            keep_in_place(core, connection, frame_bytes, &mut parts);
            parts
        }
        Some(error) => {
            results.resize_with(produce.partition_count(), || Some(PartitionResult::failed(error)));
            Vec::new()
        }
    };
    let waiting: Vec<(Vec<usize>, OneReceiver<Vec<AppendOutcome>>)> = parts
        .into_iter()
        .map(|part| (part.slots, core.shard().append(part.owner, part.asks)))
        .collect();
    Pending::Later(Box::pin(async move {
        for (slots, receiver) in waiting {
            let outcomes = receiver.await.unwrap_or_default();
            let mut outcomes = outcomes.into_iter();
            for slot in slots {
                let outcome = outcomes.next().unwrap_or(Err(AppendFailure::NotOwned));
                results[slot] = Some(result_of(outcome));
            }
        }
        answer(&produce, correlation_id, results)
    }))
}

/// What is wrong with the request as a whole.
fn refusal_of_all(produce: &ProduceRequest) -> Option<ErrorCode> {
    if !matches!(produce.acks(), -1..=1) {
        return Some(ErrorCode::InvalidRequiredAcks);
    }
    // There is no transaction coordinator: no client can have been given a transactional id.
    produce.transactional_id().map(|_| ErrorCode::TransactionalIdAuthorizationFailed)
}

/// Sorts the partitions by owner; those that cannot be routed get their result at once.
fn route(
    image: &MetadataImage,
    produce: &ProduceRequest,
    results: &mut Vec<Option<PartitionResult>>,
) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for topic in produce.topics() {
        let (found, missing) = find_topic(image, topic.topic());
        for partition in topic.partitions() {
            let slot = results.len();
            let Some(topic) = found else {
                results.push(Some(PartitionResult::failed(missing)));
                continue;
            };
            let Some(owner) = topic.partition(partition.index()).map(|p| p.shard()) else {
                results.push(Some(PartitionResult::failed(ErrorCode::UnknownTopicOrPartition)));
                continue;
            };
            let Some(records) = partition.records() else {
                results.push(Some(null_records()));
                continue;
            };
            if produce.version() < ZSTD_FROM && is_zstd(&records) {
                let error = ErrorCode::UnsupportedCompressionType;
                results.push(Some(PartitionResult::failed(error)));
                continue;
            }
            results.push(None);
            let tp = TopicPartition { topic_id: topic.id(), partition: partition.index() };
            let part = match parts.iter().position(|part| part.owner == owner) {
                Some(idx) => &mut parts[idx],
                None => {
                    parts.push(Part { owner, slots: Vec::new(), asks: Vec::new() });
                    let last = parts.len() - 1;
                    &mut parts[last]
                }
            };
            part.slots.push(slot);
            part.asks.push(AppendAsk { tp, records, fills_memory: false });
        }
    }
    parts
}

/// Marks the batch that may stay where it was received: one that is nearly all of its frame, and
/// whose owner is the core whose memory it lies in. The connection's next frame is received so that
/// a batch in the same place of it can be written from there.
fn keep_in_place(core: &Core, from: &Connection, frame_bytes: usize, parts: &mut [Part]) {
    let local = parts.iter_mut().filter(|part| part.owner == core.shard().id());
    let mut asks = local.flat_map(|part| &mut part.asks);
    let least = LARGE_BATCH_BYTES.max(frame_bytes - frame_bytes / 4);
    if let Some(ask) = asks.find(|ask| ask.records.len() >= least) {
        ask.fills_memory = true;
        from.frame_place().learn(&ask.records);
    }
}

/// Whether the batch says that it is compressed with zstd. Bytes that are no batch are refused by
/// their owner.
fn is_zstd(records: &Bytes) -> bool {
    UncheckedBatch::from_produce(records.clone())
        .is_ok_and(|batch| batch.header().compression() == Some(Compression::Zstd))
}

fn null_records() -> PartitionResult {
    PartitionResult {
        error_message: Some("Produce requests have exactly one record batch".into()),
        ..PartitionResult::failed(ErrorCode::InvalidRecord)
    }
}

fn result_of(outcome: AppendOutcome) -> PartitionResult {
    match outcome {
        Ok(appended) => PartitionResult::appended(
            appended.base_offset,
            appended.log_append_time_ms.unwrap_or(NO_TIME),
            appended.log_start,
        ),
        Err(failure) => {
            let (error, message) = errors::of_append(&failure);
            let record_errors = match errors::record_at_fault(&failure) {
                Some(batch_index) => vec![RecordErrorAt { batch_index, message: None }],
                None => Vec::new(),
            };
            PartitionResult {
                record_errors,
                error_message: message.map(Into::into),
                ..PartitionResult::failed(error)
            }
        }
    }
}

fn answer(
    produce: &ProduceRequest,
    correlation_id: i32,
    results: Vec<Option<PartitionResult>>,
) -> Answer {
    let results = results.into_iter().map(|result| {
        result.unwrap_or_else(|| PartitionResult::failed(ErrorCode::UnknownServerError))
    });
    if produce.acks() == 0 {
        let failed = results.map(|result| result.error).find(|error| *error != ErrorCode::None);
        return match failed {
            None => Answer::Silence,
            Some(error) => Answer::Close(format!("acks=0 and {}", error.name())),
        };
    }
    let head = ResponseHead { correlation_id, throttle_time_ms: 0, node_endpoints: &[] };
    match encode_response(produce, &head, results) {
        Ok(frame) => Answer::Send(vec![frame]),
        Err(problem) => Answer::Close(format!("Produce: {problem}")),
    }
}
