//! Makes the partitions that a shard has open match what the metadata says.

use std::rc::Rc;

use rustc_hash::FxHashSet;
use tracing::error;

use super::identity::DirectoryId;
use super::image::{MetadataImage, PartitionImage, TopicImage};
use super::partition_config::partition_config;
use super::topic_config::TopicDefaults;
use crate::base::ids::TopicPartition;
use crate::partition::{CloseReason, Partition};
use crate::shard::runtime::Shard;
use crate::shard::table::Owned;
use crate::storage::Store;

/// What a shard needs besides the image.
pub struct Reconciler {
    /// The data directories, in the order of the shard's stores.
    pub directories: Vec<DirectoryId>,
    /// What topics fall back to.
    pub topic_defaults: TopicDefaults,
    /// `record.validation=full`.
    pub validate_records: bool,
}

impl Reconciler {
    /// Opens what `image` places on this shard, closes what it does not any more, and puts changed
    /// configurations in force. A partition that cannot be opened is logged and stays closed: its
    /// clients are told to ask again, the others are served.
    pub async fn reconcile(&self, shard: &Rc<Shard>, image: &MetadataImage) {
        let mut wanted = FxHashSet::default();
        for (tp, topic, placed) in image.partitions_of_shard(shard.id()) {
            wanted.insert(tp);
            match shard.table().get(&tp) {
                Some(owned) => self.reconfigure(&owned, image, topic),
                None => self.open(shard, image, tp, topic, placed),
            }
        }
        for store in shard.stores().all() {
            let gone = close_unwanted(shard, &store, &wanted);
            if !gone.is_empty()
                && let Err(problem) = store.delete_logs(&gone).await
            {
                error!(partitions = gone.len(), "files of deleted partitions remain: {problem}");
            }
        }
    }

    fn reconfigure(&self, owned: &Owned, image: &MetadataImage, topic: &TopicImage) {
        let config = self.topic_defaults.resolve(image, topic);
        let config = partition_config(&config, self.validate_records);
        let mut partition = owned.partition().borrow_mut();
        if *partition.config() != config {
            partition.set_config(config);
        }
    }

    fn open(
        &self,
        shard: &Rc<Shard>,
        image: &MetadataImage,
        tp: TopicPartition,
        topic: &TopicImage,
        placed: &PartitionImage,
    ) {
        let dir_idx = self.directories.iter().position(|id| *id == placed.directory());
        let Some(store) = dir_idx.and_then(|idx| shard.stores().get(idx)) else {
            error!(%tp, topic = %topic.name(), "its data directory is not here");
            return;
        };
        let config = self.topic_defaults.resolve(image, topic);
        let config = partition_config(&config, self.validate_records);
        match store.open_log(tp, config.log.clone()) {
            Ok(log) => {
                let mut partition =
                    Partition::open(log, store.journal(), image.leader_epoch(placed), config);
                if store.failed().is_some() {
                    partition.close(CloseReason::StorageFailed);
                }
                shard.table().insert(tp, Owned::new(partition, store));
            }
            Err(problem) => error!(%tp, topic = %topic.name(), "it cannot be opened: {problem}"),
        }
    }
}

/// Closes what is open in the store and not wanted.
fn close_unwanted(
    shard: &Shard,
    store: &Rc<Store>,
    wanted: &FxHashSet<TopicPartition>,
) -> Vec<TopicPartition> {
    let mut gone = Vec::new();
    for (tp, owned) in shard.table().all() {
        if Rc::ptr_eq(owned.store(), store) && !wanted.contains(&tp) {
            shard.table().remove(&tp);
            owned.partition().borrow_mut().close(CloseReason::Deleted);
            gone.push(tp);
        }
    }
    gone
}
