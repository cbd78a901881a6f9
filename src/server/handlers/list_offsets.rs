//! ListOffsets, key 2, versions 1-10.
//!
//! v2 isolation level; v4 leader epochs; v7 max timestamp (KIP-734); v8 earliest local (KIP-405);
//! v9 latest tiered (KIP-1005); v10 time-out (KIP-1075).

use std::rc::Rc;

use super::respond;
use crate::base::ids::{LeaderEpoch, PartitionIndex, ShardId, TopicPartition};
use crate::base::signal::OneReceiver;
use crate::partition::list_offsets::{ListedOffset, OffsetLookup, OffsetSpec};
use crate::partition::read_plan::Isolation;
use crate::protocol::codec::messages::list_offsets_request::ListOffsetsPartition;
use crate::protocol::codec::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use crate::protocol::codec::messages::{ListOffsetsRequest, ListOffsetsResponse};
use crate::protocol::{ErrorCode, Malformed, codec};
use crate::server::core::Core;
use crate::server::dispatch::Request;
use crate::server::errors;
use crate::server::reply::Answer;
use crate::shard::mesh::Reply;
use crate::shard::runtime::Shard;
use crate::shard::task;

type Listed = Result<ListedOffset, ErrorCode>;

/// What one partition is asked.
struct Ask {
    tp: TopicPartition,
    spec: OffsetSpec,
    isolation: Isolation,
    current_leader_epoch: Option<LeaderEpoch>,
}

/// Looks offsets up on the partitions' owners.
///
/// # Errors
/// [`Malformed`]: the connection closes.
pub async fn handle(core: &Rc<Core>, request: Request<'_>) -> Result<Answer, Malformed> {
    let version = request.header.version();
    let asked: ListOffsetsRequest = codec::decode(request.body, version)?;
    let isolation = match asked.isolation_level {
        1 => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    };
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in &asked.topics {
        let mut waiting = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let repeats =
                |other: &&ListOffsetsPartition| other.partition_index == partition.partition_index;
            let found = if topic.partitions.iter().filter(repeats).count() > 1 {
                Err(ErrorCode::InvalidRequest)
            } else {
                place(core, topic.name.as_str(), partition, version, isolation)
            };
            let answer = found.map(|(owner, ask)| look_up(core.shard(), owner, ask));
            waiting.push((partition.partition_index, answer));
        }
        let mut answer = ListOffsetsTopicResponse::default();
        answer.name = topic.name.clone();
        for (index, listed) in waiting {
            let listed = match listed {
                Ok(receiver) => receiver.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower)),
                Err(error) => Err(error),
            };
            answer.partitions.push(shown(index, listed, version));
        }
        topics.push(answer);
    }
    let mut response = ListOffsetsResponse::default();
    response.topics = topics;
    Ok(respond(&request.header, &response))
}

fn place(
    core: &Core,
    topic: &str,
    asked: &ListOffsetsPartition,
    version: i16,
    isolation: Isolation,
) -> Result<(ShardId, Ask), ErrorCode> {
    let spec = OffsetSpec::from_timestamp(asked.timestamp)
        .filter(|_| asked.timestamp >= oldest_special(version))
        .ok_or(ErrorCode::UnsupportedVersion)?;
    let image = core.image();
    let topic = image.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = PartitionIndex(asked.partition_index);
    let placed = topic.partition(partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let current_leader_epoch =
        (asked.current_leader_epoch >= 0).then_some(LeaderEpoch(asked.current_leader_epoch));
    let tp = TopicPartition { topic_id: topic.id(), partition };
    Ok((placed.shard(), Ask { tp, spec, isolation, current_leader_epoch }))
}

/// The smallest special timestamp that a version knows.
fn oldest_special(version: i16) -> i64 {
    match version {
        ..7 => -2,
        7 => -3,
        8 => -4,
        9.. => -5,
    }
}

fn look_up(shard: &Rc<Shard>, owner: ShardId, ask: Ask) -> OneReceiver<Listed> {
    shard.call(owner, move |shard, reply: Reply<Listed>| {
        let Some(owned) = shard.table().get(&ask.tp) else {
            return reply.send(shard, Err(ErrorCode::NotLeaderOrFollower));
        };
        let lookup = owned.partition().borrow().list_offset(
            ask.spec,
            ask.isolation,
            ask.current_leader_epoch,
        );
        match lookup {
            Err(problem) => reply.send(shard, Err(errors::of_access(problem))),
            Ok(OffsetLookup::Known(listed)) => reply.send(shard, Ok(listed)),
            Ok(OffsetLookup::Search(search)) => {
                let shard = shard.clone();
                task::spawn(async move {
                    let listed = search.find().await.map_err(|_| ErrorCode::KafkaStorageError);
                    reply.send(&shard, listed);
                });
            }
        }
    })
}

fn shown(index: i32, listed: Listed, version: i16) -> ListOffsetsPartitionResponse {
    let mut partition = ListOffsetsPartitionResponse::default();
    partition.partition_index = index;
    let (error, listed) = match listed {
        Ok(listed) => (ErrorCode::None, listed),
        Err(error) => (error, ListedOffset::NONE),
    };
    partition.error_code = error.code();
    partition.offset = listed.offset.0;
    partition.timestamp = listed.timestamp_ms;
    if version >= 4 {
        partition.leader_epoch = listed.leader_epoch.map_or(-1, |epoch| epoch.0);
    }
    partition
}
