//! DeleteRecords, key 21, versions 0-2 (KIP-107): where partitions begin from now on.
//!
//! Answered when the new starts are durable. The request's time-out is for replicas to follow, and
//! there are none.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::respond;
use super::topics::is_internal;
use crate::base::ids::{Offset, PartitionIndex, ShardId, TopicPartition};
use crate::protocol::codec::messages::delete_records_request::DeleteRecordsPartition;
use crate::protocol::codec::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use crate::protocol::codec::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use crate::protocol::{ErrorCode, Malformed, codec};
use crate::server::core::Core;
use crate::server::dispatch::Request;
use crate::server::errors;
use crate::server::reply::Answer;

type Place = Result<(ShardId, TopicPartition), ErrorCode>;

/// Has the partitions' owners move their starts, all at the same time.
///
/// # Errors
/// [`Malformed`]: the connection closes.
pub async fn handle(core: &Rc<Core>, request: Request<'_>) -> Result<Answer, Malformed> {
    let asked: DeleteRecordsRequest = codec::decode(request.body, request.header.version())?;
    let mut waiting = Vec::with_capacity(asked.topics.len());
    // As in Kafka: a topic without partitions is left out.
    for topic in asked.topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        let begin = |partition: &DeleteRecordsPartition| {
            let (owner, tp) = place(core, topic.name.as_str(), partition.partition_index)?;
            Ok(core.shard().delete_records(owner, tp, Offset(partition.offset)))
        };
        let begun: Vec<_> =
            last_of_each(&topic.partitions).map(|it| (it.partition_index, begin(it))).collect();
        waiting.push((topic.name.clone(), begun));
    }
    let mut response = DeleteRecordsResponse::default();
    for (name, partitions) in waiting {
        let mut answer = DeleteRecordsTopicResult::default();
        answer.name = name;
        for (index, outcome) in partitions {
            let low_watermark = match outcome {
                Err(error) => Err(error),
                Ok(receiver) => match receiver.await {
                    None => Err(ErrorCode::NotLeaderOrFollower),
                    Some(outcome) => outcome.map_err(|it| errors::of_delete_records(&it)),
                },
            };
            answer.partitions.push(shown(index, low_watermark));
        }
        response.topics.push(answer);
    }
    Ok(respond(&request.header, &response))
}

/// Of a partition that is there twice, the last one counts, as in Kafka.
fn last_of_each(
    partitions: &[DeleteRecordsPartition],
) -> impl Iterator<Item = &DeleteRecordsPartition> {
    let last: FxHashMap<i32, usize> =
        partitions.iter().zip(0..).map(|(it, place)| (it.partition_index, place)).collect();
    let is_last = move |place, it: &DeleteRecordsPartition| last[&it.partition_index] == place;
    partitions.iter().zip(0..).filter(move |(it, place)| is_last(*place, it)).map(|(it, _)| it)
}

fn place(core: &Core, topic: &str, index: i32) -> Place {
    let image = core.image();
    let topic = image.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = PartitionIndex(index);
    let placed = topic.partition(partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    Ok((placed.shard(), TopicPartition { topic_id: topic.id(), partition }))
}

fn shown(index: i32, low_watermark: Result<Offset, ErrorCode>) -> DeleteRecordsPartitionResult {
    let mut answer = DeleteRecordsPartitionResult::default();
    answer.partition_index = index;
    answer.error_code = low_watermark.err().unwrap_or(ErrorCode::None).code();
    answer.low_watermark = low_watermark.unwrap_or(Offset::UNKNOWN).0;
    answer
}
