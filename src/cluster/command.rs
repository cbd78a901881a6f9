//! What can happen to a cluster's metadata. Each command is one entry of the metadata log; the
//! image is the sum of all of them. Commands carry results, not wishes: everything random or
//! chosen (ids, places) is in the command, so that applying it is the same everywhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::encoding::{self, Content, DecodeError};
use super::identity::{DirectoryId, topic_id_text};
use super::image::PartitionImage;
use crate::base::ids::{PartitionIndex, ShardId, TopicId};

/// In place of a broker's id: the configuration that holds for every broker without its own.
pub const ALL_BROKERS: i32 = -1;

/// One entry of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum MetadataCommand {
    /// These data directories belong to this node from now on, in this order.
    RegisterDirectories {
        /// All of the node's directories, the first one first.
        directories: Vec<DirectoryId>,
    },
    /// The broker starts: every partition's leader epoch rises by one, before the first append.
    StartBroker {
        /// How often this broker has started, this time included; from 1.
        start_count: i32,
    },
    /// The number of shards changed: partitions have other owners.
    PlacePartitions {
        /// Shards from now on.
        shard_count: u16,
        /// The partitions that move, with their new owners.
        moves: Vec<PartitionMove>,
    },
    /// A topic begins.
    CreateTopic {
        /// Its name, unique among the living.
        name: String,
        /// Its identity, unique for ever.
        #[serde(with = "topic_id_text")]
        id: TopicId,
        /// Its partitions, from index 0.
        partitions: Vec<PartitionImage>,
        /// What was set for it, by configuration name.
        configs: BTreeMap<String, String>,
    },
    /// A topic ends.
    DeleteTopic {
        /// Its identity.
        #[serde(with = "topic_id_text")]
        id: TopicId,
    },
    /// A topic grows.
    CreatePartitions {
        /// Its identity.
        #[serde(with = "topic_id_text")]
        id: TopicId,
        /// The new partitions, from the index after the last.
        partitions: Vec<PartitionImage>,
    },
    /// A topic's own configuration changes.
    AlterTopicConfigs {
        /// Its identity.
        #[serde(with = "topic_id_text")]
        id: TopicId,
        /// New values, by configuration name.
        set: BTreeMap<String, String>,
        /// Names that fall back to the broker's value.
        delete: Vec<String>,
    },
    /// A broker's dynamic configuration changes, or what all brokers fall back to.
    AlterBrokerConfigs {
        /// The broker, or [`ALL_BROKERS`].
        broker: i32,
        /// New values, by configuration name.
        set: BTreeMap<String, String>,
        /// Names that fall back to the settings' value.
        delete: Vec<String>,
    },
    /// Producer ids below `next` have been handed out in blocks and are never given again.
    AllocateProducerIds {
        /// The first free one.
        next: i64,
    },
}

/// One partition's new owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionMove {
    #[serde(with = "topic_id_text")]
    topic_id: TopicId,
    partition: i32,
    shard: u16,
}

impl PartitionMove {
    /// Gives `partition` of the topic to `shard`.
    #[must_use]
    pub fn new(topic_id: TopicId, partition: PartitionIndex, shard: ShardId) -> PartitionMove {
        PartitionMove { topic_id, partition: partition.0, shard: shard.0 }
    }

    /// The topic.
    #[must_use]
    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> PartitionIndex {
        PartitionIndex(self.partition)
    }

    /// Its owner from now on.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        ShardId(self.shard)
    }
}

impl MetadataCommand {
    /// The stored form: versioned, with a checksum.
    ///
    /// # Errors
    /// Only if the serializer fails, which it does not for these types.
    pub fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        encoding::encode(Content::Command, self)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// Corrupt, or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<MetadataCommand, DecodeError> {
        encoding::decode(Content::Command, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_survives_its_stored_form() {
        let directory = DirectoryId::from_bytes([7; 16]);
        let id = TopicId([3; 16]);
        let partition = PartitionImage::new(ShardId(1), directory, -4);
        let configs = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
        let commands = [
            MetadataCommand::RegisterDirectories { directories: vec![directory] },
            MetadataCommand::StartBroker { start_count: 9 },
            MetadataCommand::PlacePartitions {
                shard_count: 2,
                moves: vec![PartitionMove::new(id, PartitionIndex(4), ShardId(1))],
            },
            MetadataCommand::CreateTopic {
                name: "t".into(),
                id,
                partitions: vec![partition],
                configs: configs.clone(),
            },
            MetadataCommand::DeleteTopic { id },
            MetadataCommand::CreatePartitions { id, partitions: vec![partition; 2] },
            MetadataCommand::AlterTopicConfigs {
                id,
                set: configs.clone(),
                delete: vec!["x".into()],
            },
            MetadataCommand::AlterBrokerConfigs {
                broker: ALL_BROKERS,
                set: configs,
                delete: Vec::new(),
            },
            MetadataCommand::AllocateProducerIds { next: 2000 },
        ];
        for command in commands {
            let bytes = command.encode().unwrap();
            assert_eq!(MetadataCommand::decode(&bytes).unwrap(), command);
        }
    }
}
