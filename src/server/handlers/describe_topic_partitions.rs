//! DescribeTopicPartitions, key 75, version 0 (KIP-966): topics in pages of partitions.

use std::rc::Rc;

use super::respond;
use super::topics::{TOPIC_OPERATIONS, is_internal, shown_partitions};
use crate::cluster::image::MetadataImage;
use crate::cluster::topic_name::check_topic_name;
use crate::protocol::codec::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use crate::protocol::codec::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
};
use crate::protocol::codec::{self, StrBytes};
use crate::protocol::{ErrorCode, Malformed};
use crate::server::core::Core;
use crate::server::dispatch::Request;
use crate::server::reply::Answer;

/// Partitions in one page at most (Kafka's `max.request.partition.size.limit`).
const PAGE_PARTITIONS_MAX: usize = 2000;

/// Describes topics in the order of their names, from the cursor on, until a page is full.
///
/// # Errors
/// [`Malformed`]: the connection closes.
pub fn handle(core: &Rc<Core>, request: Request<'_>) -> Result<Answer, Malformed> {
    let asked: DescribeTopicPartitionsRequest =
        codec::decode(request.body, request.header.version())?;
    let image = core.image();
    let mut names: Vec<String> = if asked.topics.is_empty() {
        image.topics().map(|topic| topic.name().to_string()).collect()
    } else {
        asked.topics.iter().map(|topic| topic.name.as_str().to_owned()).collect()
    };
    names.sort_unstable();
    names.dedup();
    let (first_name, first_partition) = match &asked.cursor {
        Some(cursor) => (cursor.topic_name.as_str().to_owned(), cursor.partition_index.max(0)),
        None => (String::new(), 0),
    };
    names.retain(|name| *name >= first_name);
    let limit = usize::try_from(asked.response_partition_limit).unwrap_or(1);
    let mut left = limit.clamp(1, PAGE_PARTITIONS_MAX);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names {
        let skip = if name == first_name { first_partition } else { 0 };
        if left == 0 {
            response.next_cursor = Some(cursor(&name, skip));
            break;
        }
        let (topic, next) = describe(core, &image, &name, skip, &mut left);
        response.topics.push(topic);
        if let Some(partition) = next {
            response.next_cursor = Some(cursor(&name, partition));
            break;
        }
    }
    Ok(respond(&request.header, &response))
}

fn cursor(name: &str, partition: i32) -> Cursor {
    let mut cursor = Cursor::default();
    cursor.topic_name = StrBytes::from(name);
    cursor.partition_index = partition;
    cursor
}

/// One topic from partition `skip` on; also the partition at which the next page starts, if the page
/// is full before the topic's end.
fn describe(
    core: &Core,
    image: &MetadataImage,
    name: &str,
    skip: i32,
    left: &mut usize,
) -> (DescribeTopicPartitionsResponseTopic, Option<i32>) {
    let mut answer = DescribeTopicPartitionsResponseTopic::default();
    answer.name = Some(StrBytes::from(name));
    let Some(topic) = image.topic(name) else {
        let error = match check_topic_name(name) {
            Ok(()) => ErrorCode::UnknownTopicOrPartition,
            Err(_) => ErrorCode::InvalidTopicException,
        };
        answer.error_code = error.code();
        return (answer, None);
    };
    answer.topic_id = topic.id().into();
    answer.is_internal = is_internal(topic);
    answer.topic_authorized_operations = TOPIC_OPERATIONS;
    let shown = shown_partitions(image, topic, core.broker());
    for shown in shown.filter(|shown| shown.index >= skip) {
        if *left == 0 {
            return (answer, Some(shown.index));
        }
        *left -= 1;
        let mut partition = DescribeTopicPartitionsResponsePartition::default();
        partition.partition_index = shown.index;
        partition.error_code = shown.error.code();
        partition.leader_id = shown.leader;
        partition.leader_epoch = shown.leader_epoch.0;
        partition.replica_nodes = shown.replicas;
        partition.isr_nodes = shown.in_sync;
        partition.offline_replicas = shown.offline;
        partition.eligible_leader_replicas = Some(Vec::new());
        partition.last_known_elr = Some(Vec::new());
        answer.partitions.push(partition);
    }
    (answer, None)
}
