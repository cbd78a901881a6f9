//! OffsetForLeaderEpoch, key 23, versions 2-4 (KIP-101, KIP-320): where an epoch ended.

use std::rc::Rc;

use super::respond;
use crate::base::ids::{LeaderEpoch, Offset, PartitionIndex, TopicPartition};
use crate::protocol::codec::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use crate::protocol::codec::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use crate::protocol::codec::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use crate::protocol::{ErrorCode, Malformed, codec};
use crate::server::core::Core;
use crate::server::dispatch::Request;
use crate::server::errors;
use crate::server::reply::Answer;
use crate::shard::mesh::Reply;

type EpochEnd = Result<Option<(LeaderEpoch, Offset)>, ErrorCode>;

/// Asks the partitions' owners for the ends of epochs.
///
/// # Errors
/// [`Malformed`]: the connection closes.
pub async fn handle(core: &Rc<Core>, request: Request<'_>) -> Result<Answer, Malformed> {
    let asked: OffsetForLeaderEpochRequest = codec::decode(request.body, request.header.version())?;
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in &asked.topics {
        let mut answer = OffsetForLeaderTopicResult::default();
        answer.topic = topic.topic.clone();
        for partition in &topic.partitions {
            let end = epoch_end(core, topic.topic.as_str(), partition).await;
            answer.partitions.push(shown(partition.partition, end));
        }
        response.topics.push(answer);
    }
    Ok(respond(&request.header, &response))
}

async fn epoch_end(core: &Core, topic: &str, asked: &OffsetForLeaderPartition) -> EpochEnd {
    let partition = PartitionIndex(asked.partition);
    let image = core.image();
    let topic = image.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let placed = topic.partition(partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let tp = TopicPartition { topic_id: topic.id(), partition };
    let current =
        (asked.current_leader_epoch >= 0).then_some(LeaderEpoch(asked.current_leader_epoch));
    let epoch = LeaderEpoch(asked.leader_epoch);
    let answer = core.shard().call(placed.shard(), move |shard, reply: Reply<EpochEnd>| {
        let end = match shard.table().get(&tp) {
            None => Err(ErrorCode::NotLeaderOrFollower),
            Some(owned) => owned
                .partition()
                .borrow()
                .offset_for_epoch(current, epoch)
                .map_err(errors::of_access),
        };
        reply.send(shard, end);
    });
    answer.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower))
}

fn shown(index: i32, end: EpochEnd) -> EpochEndOffset {
    let mut answer = EpochEndOffset::default();
    answer.partition = index;
    answer.leader_epoch = -1;
    answer.end_offset = -1;
    match end {
        Err(error) => answer.error_code = error.code(),
        Ok(None) => {}
        Ok(Some((epoch, end))) => {
            answer.leader_epoch = epoch.0;
            answer.end_offset = end.0;
        }
    }
    answer
}
