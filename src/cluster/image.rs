//! The cluster's metadata at one moment: what all commands so far add up to. Immutable once
//! shared; a change clones the maps (of `Arc`s) and replaces what it touches.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::command::{MetadataCommand, PartitionMove};
use super::encoding::{self, Content, DecodeError};
use super::identity::{DirectoryId, topic_id_text};
use crate::base::ids::{LeaderEpoch, PartitionIndex, ShardId, TopicId, TopicPartition};

/// Where one partition lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionImage {
    shard: u16,
    directory: DirectoryId,
    epoch_base: i32,
}

impl PartitionImage {
    /// A partition on `shard`, in `directory`, whose leader epoch is the start count less
    /// `epoch_base`.
    #[must_use]
    pub fn new(shard: ShardId, directory: DirectoryId, epoch_base: i32) -> PartitionImage {
        PartitionImage { shard: shard.0, directory, epoch_base }
    }

    /// The shard that owns it.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        ShardId(self.shard)
    }

    /// The data directory that holds it.
    #[must_use]
    pub fn directory(&self) -> DirectoryId {
        self.directory
    }

    /// The start count at which its leader epoch would be 0.
    #[must_use]
    pub fn epoch_base(&self) -> i32 {
        self.epoch_base
    }
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    id: TopicId,
    name: Arc<str>,
    partitions: Vec<PartitionImage>,
    configs: BTreeMap<String, String>,
}

impl TopicImage {
    /// Its identity.
    #[must_use]
    pub fn id(&self) -> TopicId {
        self.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its partitions, in the order of their indexes.
    #[must_use]
    pub fn partitions(&self) -> &[PartitionImage] {
        &self.partitions
    }

    /// The partition with this index; `None` also for the negative ones that clients may send.
    #[must_use]
    pub fn partition(&self, index: PartitionIndex) -> Option<&PartitionImage> {
        self.partitions.get(usize::try_from(index.0).ok()?)
    }

    /// What was set for this topic itself, by configuration name.
    #[must_use]
    pub fn configs(&self) -> &BTreeMap<String, String> {
        &self.configs
    }
}

/// The cluster's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataImage {
    last_index: u64,
    last_term: u64,
    start_count: i32,
    shard_count: u16,
    next_producer_id: i64,
    partition_count: usize,
    directories: Vec<DirectoryId>,
    broker_configs: BTreeMap<i32, BTreeMap<String, String>>,
    by_name: BTreeMap<Arc<str>, Arc<TopicImage>>,
    by_id: FxHashMap<TopicId, Arc<TopicImage>>,
}

/// A command that does not fit the image it is applied to: the log is damaged or was written by
/// other rules.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// It names a topic that is not there.
    #[error("topic id {0} does not exist")]
    UnknownTopic(TopicId),
    /// It names a partition that is not there.
    #[error("partition {0} does not exist")]
    UnknownPartition(TopicPartition),
    /// It creates what is there already.
    #[error("topic {0:?} exists already")]
    TopicExists(String),
    /// A number that only rises would fall.
    #[error("{what} would go back from {from} to {to}")]
    GoesBack {
        /// Which number.
        what: &'static str,
        /// Its value now.
        from: i64,
        /// The value in the command.
        to: i64,
    },
}

impl MetadataImage {
    /// Index of the last command in it; 0 before the first.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// Term of the last command in it.
    #[must_use]
    pub fn last_term(&self) -> u64 {
        self.last_term
    }

    /// How often the broker has started, this time included.
    #[must_use]
    pub fn start_count(&self) -> i32 {
        self.start_count
    }

    /// Over how many shards the partitions are spread.
    #[must_use]
    pub fn shard_count(&self) -> u16 {
        self.shard_count
    }

    /// The first producer id that no block contains yet.
    #[must_use]
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// Partitions of all topics.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// The node's data directories, the first one first.
    #[must_use]
    pub fn directories(&self) -> &[DirectoryId] {
        &self.directories
    }

    /// What was set at run time for a broker, or for [`super::command::ALL_BROKERS`].
    #[must_use]
    pub fn broker_config(&self, broker: i32, name: &str) -> Option<&str> {
        self.broker_configs.get(&broker)?.get(name).map(String::as_str)
    }

    /// The topic of that name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.by_name.get(name)
    }

    /// The topic with that identity.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.by_id.get(&id)
    }

    /// How many topics there are.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.by_name.len()
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_name.values()
    }

    /// Topics whose names are not below `name`, by name: the way to answer in pages.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Arc<TopicImage>> {
        use std::ops::Bound;
        self.by_name.range::<str, _>((Bound::Included(name), Bound::Unbounded)).map(|(_, t)| t)
    }

    /// Where a partition lives.
    #[must_use]
    pub fn partition(&self, tp: TopicPartition) -> Option<&PartitionImage> {
        self.by_id.get(&tp.topic_id)?.partition(tp.partition)
    }

    /// A partition's leader epoch: it rises at every start.
    #[must_use]
    pub fn leader_epoch(&self, partition: &PartitionImage) -> LeaderEpoch {
        LeaderEpoch(self.start_count.saturating_sub(partition.epoch_base))
    }

    /// All partitions that `shard` owns, with their topics.
    pub fn partitions_of_shard(
        &self,
        shard: ShardId,
    ) -> impl Iterator<Item = (TopicPartition, &Arc<TopicImage>, &PartitionImage)> {
        self.all_partitions().filter(move |(_, _, place)| place.shard() == shard)
    }

    /// All partitions, with their topics.
    pub fn all_partitions(
        &self,
    ) -> impl Iterator<Item = (TopicPartition, &Arc<TopicImage>, &PartitionImage)> {
        self.by_name.values().flat_map(|topic| {
            (0_i32..).zip(&topic.partitions).map(move |(index, place)| {
                let partition = PartitionIndex(index);
                (TopicPartition { topic_id: topic.id, partition }, topic, place)
            })
        })
    }

    /// Makes the command part of the image. The same commands in the same order make the same
    /// image everywhere. On an error the image is unchanged.
    ///
    /// # Errors
    /// The command does not fit the image.
    pub fn apply(&mut self, command: &MetadataCommand) -> Result<(), ApplyError> {
        match command {
            MetadataCommand::RegisterDirectories { directories } => {
                self.directories.clone_from(directories);
            }
            MetadataCommand::StartBroker { start_count } => {
                rises("start count", self.start_count.into(), (*start_count).into())?;
                self.start_count = *start_count;
            }
            MetadataCommand::PlacePartitions { shard_count, moves } => {
                self.place(moves)?;
                self.shard_count = *shard_count;
            }
            MetadataCommand::CreateTopic { name, id, partitions, configs } => {
                self.create_topic(TopicImage {
                    id: *id,
                    name: name.as_str().into(),
                    partitions: partitions.clone(),
                    configs: configs.clone(),
                })?;
            }
            MetadataCommand::DeleteTopic { id } => {
                let topic = self.by_id.remove(id).ok_or(ApplyError::UnknownTopic(*id))?;
                self.by_name.remove(&topic.name);
                self.partition_count -= topic.partitions.len();
            }
            MetadataCommand::CreatePartitions { id, partitions } => {
                self.change_topic(*id, |topic| topic.partitions.extend_from_slice(partitions))?;
                self.partition_count += partitions.len();
            }
            MetadataCommand::AlterTopicConfigs { id, set, delete } => {
                self.change_topic(*id, |topic| alter(&mut topic.configs, set, delete))?;
            }
            MetadataCommand::AlterBrokerConfigs { broker, set, delete } => {
                alter(self.broker_configs.entry(*broker).or_default(), set, delete);
            }
            MetadataCommand::AllocateProducerIds { next } => {
                rises("next producer id", self.next_producer_id, *next)?;
                self.next_producer_id = *next;
            }
        }
        Ok(())
    }

    /// Notes which entry of the log the image ends with.
    pub(super) fn set_last(&mut self, index: u64, term: u64) {
        self.last_index = index;
        self.last_term = term;
    }

    fn create_topic(&mut self, topic: TopicImage) -> Result<(), ApplyError> {
        if self.by_name.contains_key(&topic.name) || self.by_id.contains_key(&topic.id) {
            return Err(ApplyError::TopicExists(topic.name.to_string()));
        }
        self.partition_count += topic.partitions.len();
        self.insert(Arc::new(topic));
        Ok(())
    }

    fn insert(&mut self, topic: Arc<TopicImage>) {
        self.by_id.insert(topic.id, topic.clone());
        self.by_name.insert(topic.name.clone(), topic);
    }

    fn change_topic(
        &mut self,
        id: TopicId,
        change: impl FnOnce(&mut TopicImage),
    ) -> Result<(), ApplyError> {
        let topic = self.by_id.get(&id).ok_or(ApplyError::UnknownTopic(id))?;
        let mut changed = TopicImage::clone(topic);
        change(&mut changed);
        self.insert(Arc::new(changed));
        Ok(())
    }

    fn place(&mut self, moves: &[PartitionMove]) -> Result<(), ApplyError> {
        for step in moves {
            let tp = TopicPartition { topic_id: step.topic_id(), partition: step.partition() };
            self.partition(tp).ok_or(ApplyError::UnknownPartition(tp))?;
        }
        // One copy for each topic, not for each partition: moves come grouped by topic.
        for group in moves.chunk_by(|a, b| a.topic_id() == b.topic_id()) {
            let Some(first) = group.first() else { continue };
            self.change_topic(first.topic_id(), |topic| {
                for step in group {
                    let index = usize::try_from(step.partition().0).unwrap_or(usize::MAX);
                    if let Some(place) = topic.partitions.get_mut(index) {
                        place.shard = step.shard().0;
                    }
                }
            })?;
        }
        Ok(())
    }

    /// The stored form: versioned, with a checksum.
    ///
    /// # Errors
    /// Only if the serializer fails, which it does not for these types.
    pub fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        let topics = self
            .topics()
            .map(|topic| TopicForm {
                id: topic.id,
                name: topic.name.to_string(),
                partitions: topic.partitions.clone(),
                configs: topic.configs.clone(),
            })
            .collect();
        let form = ImageForm {
            last_index: self.last_index,
            last_term: self.last_term,
            start_count: self.start_count,
            shard_count: self.shard_count,
            next_producer_id: self.next_producer_id,
            directories: self.directories.clone(),
            broker_configs: self.broker_configs.clone(),
            topics,
        };
        encoding::encode(Content::Snapshot, &form)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// Corrupt, or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<MetadataImage, DecodeError> {
        let form: ImageForm = encoding::decode(Content::Snapshot, bytes)?;
        let mut image = MetadataImage {
            last_index: form.last_index,
            last_term: form.last_term,
            start_count: form.start_count,
            shard_count: form.shard_count,
            next_producer_id: form.next_producer_id,
            directories: form.directories,
            broker_configs: form.broker_configs,
            ..MetadataImage::default()
        };
        for topic in form.topics {
            image.partition_count += topic.partitions.len();
            image.insert(Arc::new(TopicImage {
                id: topic.id,
                name: topic.name.into(),
                partitions: topic.partitions,
                configs: topic.configs,
            }));
        }
        Ok(image)
    }
}

fn rises(what: &'static str, from: i64, to: i64) -> Result<(), ApplyError> {
    if to > from { Ok(()) } else { Err(ApplyError::GoesBack { what, from, to }) }
}

fn alter(
    configs: &mut BTreeMap<String, String>,
    set: &BTreeMap<String, String>,
    delete: &[String],
) {
    for name in delete {
        configs.remove(name);
    }
    configs.extend(set.iter().map(|(name, value)| (name.clone(), value.clone())));
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageForm {
    last_index: u64,
    last_term: u64,
    start_count: i32,
    shard_count: u16,
    next_producer_id: i64,
    directories: Vec<DirectoryId>,
    broker_configs: BTreeMap<i32, BTreeMap<String, String>>,
    topics: Vec<TopicForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicForm {
    #[serde(with = "topic_id_text")]
    id: TopicId,
    name: String,
    partitions: Vec<PartitionImage>,
    configs: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: DirectoryId = DirectoryId::from_bytes([9; 16]);

    fn create(name: &str, id: u8, partitions: usize, epoch_base: i32) -> MetadataCommand {
        MetadataCommand::CreateTopic {
            name: name.into(),
            id: TopicId([id; 16]),
            partitions: vec![PartitionImage::new(ShardId(0), DIRECTORY, epoch_base); partitions],
            configs: BTreeMap::new(),
        }
    }

    fn image_of(commands: &[MetadataCommand]) -> MetadataImage {
        let mut image = MetadataImage::default();
        for command in commands {
            image.apply(command).unwrap();
        }
        image
    }

    #[test]
    fn a_topic_is_found_by_name_and_by_id_until_it_is_deleted() {
        let id = TopicId([1; 16]);
        let mut image = image_of(&[create("a", 1, 2, 0), create("b", 2, 1, 0)]);
        assert_eq!(image.topic("a").unwrap().id(), id);
        assert_eq!(&**image.topic_by_id(id).unwrap().name(), "a");
        assert_eq!(image.partition_count(), 3);
        image.apply(&MetadataCommand::DeleteTopic { id }).unwrap();
        assert!(image.topic("a").is_none() && image.topic_by_id(id).is_none());
        assert_eq!((image.topic_count(), image.partition_count()), (1, 1));
        image.apply(&create("a", 3, 1, 0)).unwrap();
        assert_eq!(image.topic("a").unwrap().id(), TopicId([3; 16]));
    }

    #[test]
    fn leader_epochs_start_at_zero_and_rise_with_every_start() {
        let mut image = image_of(&[MetadataCommand::StartBroker { start_count: 3 }]);
        image.apply(&create("a", 1, 1, 3)).unwrap();
        let place = image.topic("a").unwrap().partitions()[0];
        assert_eq!(image.leader_epoch(&place), LeaderEpoch(0));
        image.apply(&MetadataCommand::StartBroker { start_count: 4 }).unwrap();
        assert_eq!(image.leader_epoch(&place), LeaderEpoch(1));
        let again = image.apply(&MetadataCommand::StartBroker { start_count: 4 });
        assert!(matches!(again, Err(ApplyError::GoesBack { .. })));
    }

    #[test]
    fn a_shared_image_does_not_change_under_its_readers() {
        let before = Arc::new(image_of(&[create("a", 1, 1, 0), create("b", 2, 1, 0)]));
        let mut after = MetadataImage::clone(&before);
        let places = vec![PartitionImage::new(ShardId(1), DIRECTORY, 0)];
        after
            .apply(&MetadataCommand::CreatePartitions { id: TopicId([1; 16]), partitions: places })
            .unwrap();
        assert_eq!(before.topic("a").unwrap().partitions().len(), 1);
        assert_eq!(after.topic("a").unwrap().partitions().len(), 2);
        assert!(Arc::ptr_eq(before.topic("b").unwrap(), after.topic("b").unwrap()));
        assert_eq!(after.partitions_of_shard(ShardId(1)).count(), 1);
    }

    #[test]
    fn a_command_that_does_not_fit_leaves_the_image_alone() {
        let mut image = image_of(&[create("a", 1, 1, 0)]);
        let before = image.clone();
        let missing = TopicId([8; 16]);
        let bad_move = PartitionMove::new(TopicId([1; 16]), PartitionIndex(5), ShardId(1));
        for command in [
            create("a", 2, 1, 0),
            create("z", 1, 1, 0),
            MetadataCommand::DeleteTopic { id: missing },
            MetadataCommand::CreatePartitions { id: missing, partitions: Vec::new() },
            MetadataCommand::PlacePartitions { shard_count: 2, moves: vec![bad_move] },
            MetadataCommand::AllocateProducerIds { next: 0 },
        ] {
            assert!(image.apply(&command).is_err(), "{command:?}");
            assert_eq!(image, before);
        }
    }

    #[test]
    fn an_image_survives_its_stored_form() {
        let mut image = image_of(&[
            MetadataCommand::RegisterDirectories { directories: vec![DIRECTORY] },
            MetadataCommand::StartBroker { start_count: 1 },
            create("a", 1, 3, 1),
            MetadataCommand::AlterTopicConfigs {
                id: TopicId([1; 16]),
                set: BTreeMap::from([("retention.ms".into(), "7".into())]),
                delete: Vec::new(),
            },
            MetadataCommand::AllocateProducerIds { next: 1000 },
        ]);
        image.set_last(5, 1);
        let bytes = image.encode().unwrap();
        assert_eq!(MetadataImage::decode(&bytes).unwrap(), image);
    }
}
