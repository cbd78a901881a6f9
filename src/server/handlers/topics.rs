//! What several handlers say about topics and the one broker.

use std::sync::Arc;

use crate::base::ids::LeaderEpoch;
use crate::cluster::image::{MetadataImage, TopicImage};
use crate::cluster::topic_config::{ConfigSource, DescribedConfig};
use crate::cluster::topic_name::is_internal_topic;
use crate::config::definition::Kind;
use crate::protocol::{ErrorCode, TopicRef};
use crate::server::core::BrokerView;

/// What Kafka answers for a topic when no authorizer is set: every operation that topics have
/// (read, write, create, delete, alter, describe, describe and alter configs; KIP-430).
pub const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// The same for the cluster (create, alter, describe, cluster action, configs, idempotent write).
pub const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;
/// Kafka's value for "was not asked".
pub const OPERATIONS_OMITTED: i32 = i32::MIN;

/// One partition as Metadata and DescribeTopicPartitions show it. This node leads it, unless its
/// data directory is offline: then, as in Kafka, nobody does (LEADER_NOT_AVAILABLE).
pub struct ShownPartition {
    /// The partition's index.
    pub index: i32,
    /// The epoch in which it is led.
    pub leader_epoch: LeaderEpoch,
    /// What clients are told beside.
    pub error: ErrorCode,
    /// This node, or Kafka's number for nobody.
    pub leader: i32,
    /// The replicas, all of them: this node.
    pub replicas: Vec<i32>,
    /// Those that are in sync: none if it is offline.
    pub in_sync: Vec<i32>,
    /// Those that are offline.
    pub offline: Vec<i32>,
}

/// Kafka's number for nobody.
const NO_LEADER: i32 = -1;

/// The partitions of a topic in order.
pub fn shown_partitions(
    image: &MetadataImage,
    topic: &TopicImage,
    broker: &BrokerView,
) -> impl Iterator<Item = ShownPartition> {
    let node = broker.id.0;
    (0..).zip(topic.partitions()).map(move |(index, partition)| {
        let is_offline = broker.directory_states.is_offline(partition.directory());
        ShownPartition {
            index,
            leader_epoch: image.leader_epoch(partition),
            error: if is_offline { ErrorCode::LeaderNotAvailable } else { ErrorCode::None },
            leader: if is_offline { NO_LEADER } else { node },
            replicas: vec![node],
            in_sync: if is_offline { Vec::new() } else { vec![node] },
            offline: if is_offline { vec![node] } else { Vec::new() },
        }
    })
}

/// The topic that a Produce or Fetch names, and the error if it is not there.
pub fn find_topic<'a>(
    image: &'a MetadataImage,
    wanted: TopicRef<'_>,
) -> (Option<&'a Arc<TopicImage>>, ErrorCode) {
    match wanted {
        TopicRef::Id(id) => (image.topic_by_id(id), ErrorCode::UnknownTopicId),
        TopicRef::Name(name) => match name.as_str() {
            Some(name) => (image.topic(name), ErrorCode::UnknownTopicOrPartition),
            None => (None, ErrorCode::InvalidTopicException), // not UTF-8
        },
    }
}

/// Whether the topic is one of Kafka's own.
pub fn is_internal(topic: &Arc<TopicImage>) -> bool {
    is_internal_topic(topic.name())
}

/// Kafka's number for where a configuration's value comes from (`ConfigSource`, KIP-226).
pub fn config_source(source: ConfigSource) -> i8 {
    match source {
        ConfigSource::Topic => 1,
        ConfigSource::DynamicBroker => 2,
        ConfigSource::DynamicDefaultBroker => 3,
        ConfigSource::StaticBroker => 4,
        ConfigSource::Default => 5,
    }
}

/// Kafka's number for a configuration's type (`ConfigType`, KIP-569).
pub fn config_type(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::String => 2,
        Kind::Int => 3,
        Kind::Short => 4,
        Kind::Long => 5,
        Kind::Double => 6,
        Kind::List => 7,
        Kind::Class => 8,
        Kind::Password => 9,
    }
}

/// The value that may be shown: secrets are never sent (reliability case 124).
pub fn shown_value(config: &DescribedConfig) -> Option<String> {
    if config.is_sensitive { None } else { config.value.clone() }
}
