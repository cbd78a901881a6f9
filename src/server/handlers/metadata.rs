//! Metadata, key 3, versions 0-13.
//!
//! v1 null asks for all topics; v4 whether missing ones may be created; v7 leader epochs (KIP-320);
//! v8-10 authorized operations (KIP-430); v10 topic ids (KIP-516); v13 an error for the whole.

use std::rc::Rc;
use std::sync::Arc;

use super::respond;
use super::topics::{
    CLUSTER_OPERATIONS, OPERATIONS_OMITTED, ShownPartition, TOPIC_OPERATIONS, is_internal,
    shown_partitions,
};
use crate::base::ids::TopicId;
use crate::cluster::controller::{CreateTopicError, NewTopic};
use crate::cluster::image::{MetadataImage, TopicImage};
use crate::cluster::topic_name::check_topic_name;
use crate::protocol::codec::messages::MetadataRequest;
use crate::protocol::codec::messages::MetadataResponse;
use crate::protocol::codec::messages::metadata_request::MetadataRequestTopic;
use crate::protocol::codec::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::codec::{self, StrBytes};
use crate::protocol::{ErrorCode, Malformed};
use crate::server::core::{BrokerView, Core};
use crate::server::dispatch::Request;
use crate::server::reply::Answer;

/// Describes topics and the broker, creating topics that are asked for and missing where both the
/// client and `auto.create.topics.enable` allow it.
///
/// # Errors
/// [`Malformed`]: the connection closes.
pub async fn handle(core: &Rc<Core>, request: Request<'_>) -> Result<Answer, Malformed> {
    let version = request.header.version();
    let mut asked: MetadataRequest = codec::decode(request.body, version)?;
    if version == 0 && asked.topics.as_ref().is_some_and(Vec::is_empty) {
        asked.topics = None; // v0 has no null: none named means all
    }
    if let Some(topics) = &asked.topics {
        let may_create = version < 4 || asked.allow_auto_topic_creation;
        if may_create && core.settings().topics.is_auto_created {
            create_missing(core, topics).await;
        }
    }
    let image = core.image();
    let operations = if version >= 8 && asked.include_topic_authorized_operations {
        TOPIC_OPERATIONS
    } else {
        OPERATIONS_OMITTED
    };
    let broker = core.broker();
    let node = broker.id.0;
    let mut response = MetadataResponse::default();
    response.topics = match &asked.topics {
        None => image.topics().map(|topic| shown(&image, topic, broker, operations)).collect(),
        Some(topics) => {
            topics.iter().map(|topic| answer(&image, topic, broker, operations, version)).collect()
        }
    };
    let mut shown_broker = MetadataResponseBroker::default();
    shown_broker.node_id = node;
    shown_broker.host = StrBytes::from(&*broker.host);
    shown_broker.port = i32::from(broker.port);
    response.brokers = vec![shown_broker];
    response.cluster_id = Some(StrBytes::from(&*broker.cluster_id));
    response.controller_id = node;
    if (8..=10).contains(&version) && asked.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    Ok(respond(&request.header, &response))
}

/// Creates what is missing with the broker's defaults. What cannot be created is answered as missing
/// or invalid below.
async fn create_missing(core: &Rc<Core>, topics: &[MetadataRequestTopic]) {
    let image = core.image();
    let mut missing: Vec<NewTopic> = Vec::new();
    let by_name = topics.iter().filter(|topic| TopicId::from(topic.topic_id) == TopicId::ZERO);
    for name in by_name.filter_map(|topic| topic.name.as_ref()) {
        let name = name.as_str();
        let is_new = image.topic(name).is_none() && check_topic_name(name).is_ok();
        if is_new && !missing.iter().any(|topic| topic.name == name) {
            missing.push(NewTopic {
                name: name.to_owned(),
                partition_count: -1,
                replication_factor: -1,
                ..NewTopic::default()
            });
        }
    }
    if missing.is_empty() {
        return;
    }
    if let Ok(answers) = core.controller().create_topics(missing, false).await {
        for problem in answers.into_iter().filter_map(Result::err) {
            if !matches!(problem, CreateTopicError::Exists(_)) {
                tracing::info!("a topic was not created automatically: {problem}");
            }
        }
    }
}

fn answer(
    image: &MetadataImage,
    asked: &MetadataRequestTopic,
    broker: &BrokerView,
    operations: i32,
    version: i16,
) -> MetadataResponseTopic {
    let id = TopicId::from(asked.topic_id);
    // An id comes before a name: the Java client sends an empty name beside it.
    let (found, error) = match &asked.name {
        _ if id != TopicId::ZERO => (image.topic_by_id(id), ErrorCode::UnknownTopicId),
        Some(name) => (image.topic(name.as_str()), missing_by_name(name.as_str())),
        None => (None, ErrorCode::InvalidRequest),
    };
    match found {
        Some(topic) => shown(image, topic, broker, operations),
        None => {
            let mut topic = MetadataResponseTopic::default();
            topic.error_code = error.code();
            // An id that nobody has comes back without a name, where there can be none (v12).
            let nameless = id != TopicId::ZERO && version >= 12;
            let name = || asked.name.clone().unwrap_or_default();
            topic.name = (!nameless).then(name);
            topic.topic_id = asked.topic_id;
            topic.topic_authorized_operations = OPERATIONS_OMITTED;
            topic
        }
    }
}

fn missing_by_name(name: &str) -> ErrorCode {
    match check_topic_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    }
}

fn shown(
    image: &MetadataImage,
    topic: &Arc<TopicImage>,
    broker: &BrokerView,
    operations: i32,
) -> MetadataResponseTopic {
    let partition_of = |shown: ShownPartition| {
        let mut partition = MetadataResponsePartition::default();
        partition.error_code = shown.error.code();
        partition.partition_index = shown.index;
        partition.leader_id = shown.leader;
        partition.leader_epoch = shown.leader_epoch.0;
        partition.replica_nodes = shown.replicas;
        partition.isr_nodes = shown.in_sync;
        partition.offline_replicas = shown.offline;
        partition
    };
    let mut answer = MetadataResponseTopic::default();
    answer.name = Some(StrBytes::from(&**topic.name()));
    answer.topic_id = topic.id().into();
    answer.is_internal = is_internal(topic);
    answer.partitions = shown_partitions(image, topic, broker).map(partition_of).collect();
    answer.topic_authorized_operations = operations;
    answer
}
