//! What the controller is asked and what it answers. Errors say what is wrong; `server` gives them
//! Kafka's codes (named beside each) and may send the text.

use std::collections::BTreeMap;

use thiserror::Error;

use super::super::topic_config::{DescribedConfig, InvalidTopicConfig};
use super::super::topic_name::InvalidTopicName;
use crate::base::ids::TopicId;

/// A topic to create.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its number of partitions; -1 leaves it to the broker.
    pub partition_count: i32,
    /// Its replication factor; -1 leaves it to the broker.
    pub replication_factor: i16,
    /// Who shall hold which partition; empty leaves it to the broker.
    pub assignments: Vec<ManualAssignment>,
    /// What is set for it; a null value is refused.
    pub configs: Vec<(String, Option<String>)>,
}

/// Brokers that shall hold a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManualAssignment {
    /// The partition's index.
    pub partition: i32,
    /// Node ids.
    pub brokers: Vec<i32>,
}

/// A topic that was created, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its identity; not yet final where the request only validates.
    pub id: TopicId,
    /// Its number of partitions.
    pub partition_count: i32,
    /// Its replication factor.
    pub replication_factor: i16,
    /// Every configuration that holds for it.
    pub configs: Vec<DescribedConfig>,
}

/// Why a topic is not created.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CreateTopicError {
    /// INVALID_TOPIC_EXCEPTION.
    #[error(transparent)]
    InvalidName(#[from] InvalidTopicName),
    /// TOPIC_ALREADY_EXISTS.
    #[error("Topic '{0}' already exists.")]
    Exists(String),
    /// INVALID_REQUEST: the name is twice in the request; none of them is created.
    #[error("Duplicate topic name.")]
    DuplicateInRequest,
    /// INVALID_REQUEST: Kafka's own metadata topic.
    #[error("Creation of internal topic {0} is prohibited.")]
    MetadataTopic(&'static str),
    /// INVALID_PARTITIONS.
    #[error("Number of partitions was set to an invalid non-positive value.")]
    InvalidPartitionCount,
    /// POLICY_VIOLATION.
    #[error("Excessively large number of partitions per request.")]
    TooManyPartitions,
    /// INVALID_REPLICATION_FACTOR.
    #[error("{0}")]
    InvalidReplicationFactor(String),
    /// INVALID_REQUEST: a manual assignment comes with numbers of its own.
    #[error("A manual partition assignment was specified, but {0} was not set to -1.")]
    AssignmentWithNumbers(&'static str),
    /// INVALID_REPLICA_ASSIGNMENT.
    #[error("{0}")]
    InvalidAssignment(String),
    /// INVALID_CONFIG.
    #[error(transparent)]
    InvalidConfig(#[from] InvalidTopicConfig),
    /// KAFKA_STORAGE_ERROR: every data directory has failed.
    #[error("All data directories are offline.")]
    NoDirectory,
}

/// A topic, by name or by identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicReference {
    /// By name.
    Name(String),
    /// By identity.
    Id(TopicId),
}

/// A topic that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    /// The name that it had.
    pub name: String,
    /// Its identity.
    pub id: TopicId,
}

/// Why a topic is not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DeleteTopicError {
    /// UNKNOWN_TOPIC_OR_PARTITION.
    #[error("This server does not host this topic-partition.")]
    UnknownName,
    /// UNKNOWN_TOPIC_ID.
    #[error("This server does not host this topic ID.")]
    UnknownId,
    /// INVALID_REQUEST: twice in the request; it is not deleted.
    #[error("Duplicate topic name or id.")]
    DuplicateInRequest,
    /// TOPIC_DELETION_DISABLED.
    #[error("Topic deletion is disabled.")]
    DeletionDisabled,
}

/// A topic that shall have more partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MorePartitions {
    /// Its name.
    pub name: String,
    /// Its number of partitions afterwards.
    pub partition_count: i32,
    /// Brokers for each new partition; `None` leaves them to the broker.
    pub assignments: Option<Vec<Vec<i32>>>,
}

/// Why a topic does not grow.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CreatePartitionsError {
    /// UNKNOWN_TOPIC_OR_PARTITION.
    #[error("This server does not host this topic-partition.")]
    UnknownTopic,
    /// INVALID_REQUEST: the name is twice in the request.
    #[error("Duplicate topic name.")]
    DuplicateInRequest,
    /// INVALID_PARTITIONS.
    #[error("{0}")]
    InvalidPartitionCount(String),
    /// POLICY_VIOLATION.
    #[error("Excessively large number of partitions per request.")]
    TooManyPartitions,
    /// INVALID_REPLICA_ASSIGNMENT.
    #[error("{0}")]
    InvalidAssignment(String),
    /// KAFKA_STORAGE_ERROR: every data directory has failed.
    #[error("All data directories are offline.")]
    NoDirectory,
}

/// Whose configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigResource {
    /// A topic's, by name.
    Topic(String),
    /// A broker's, by node id.
    Broker(i32),
    /// What all brokers fall back to.
    AllBrokers,
}

/// What to do with a configuration (KIP-339).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigOperation {
    /// Give it the value.
    Set,
    /// Let it fall back.
    Delete,
    /// Add the value's items to a list.
    Append,
    /// Take the value's items from a list.
    Subtract,
}

/// One change of one configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// The configuration's name.
    pub name: String,
    /// What to do.
    pub operation: ConfigOperation,
    /// With what; ignored by `Delete`.
    pub value: Option<String>,
}

/// All changes of one resource: all of them happen, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterConfigs {
    /// Whose.
    pub resource: ConfigResource,
    /// What.
    pub changes: Vec<ConfigChange>,
}

/// Why a resource's configuration is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AlterConfigsError {
    /// UNKNOWN_TOPIC_OR_PARTITION.
    #[error("The topic '{0}' does not exist.")]
    UnknownTopic(String),
    /// INVALID_TOPIC_EXCEPTION.
    #[error(transparent)]
    InvalidName(#[from] InvalidTopicName),
    /// INVALID_CONFIG.
    #[error(transparent)]
    InvalidConfig(#[from] InvalidTopicConfig),
    /// INVALID_CONFIG: append or subtract on what is no list.
    #[error("Can't {operation} to key {name} because its type is not LIST.")]
    NotAList {
        /// `APPEND` or `SUBTRACT`.
        operation: &'static str,
        /// The configuration.
        name: String,
    },
    /// INVALID_REQUEST.
    #[error("{0}")]
    InvalidRequest(String),
}

/// Producer ids that belong to the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first one.
    pub first: i64,
    /// How many.
    pub count: i64,
}

/// Which values appear more than once.
pub(super) fn repeated<T: Ord + Clone>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts.into_iter().filter(|(_, count)| *count > 1).map(|(value, _)| value).collect()
}
