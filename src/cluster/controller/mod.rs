//! Who decides about metadata. Plain synchronous code: a request and the image in, commands and an
//! answer out; commands become visible only once the store has them.
//!
//! `service` is the shell around it: shards ask through a [`ControllerHandle`].

mod configs;
mod requests;
mod service;
mod topics;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use super::command::MetadataCommand;
use super::directory_states::DirectoryStates;
use super::identity::{DirectoryId, RandomBytes, identity_from_random};
use super::image::MetadataImage;
use super::placement::moves_to_shards;
use super::store::{MetadataStore, StoreError};
use super::topic_config::TopicDefaults;
use crate::base::ids::BrokerId;
use crate::config::exit::Exit;
use crate::io::disk::Disk;

pub use requests::{
    AlterConfigs, AlterConfigsError, ConfigChange, ConfigOperation, ConfigResource,
    CreatePartitionsError, CreateTopicError, CreatedTopic, DeleteTopicError, DeletedTopic,
    ManualAssignment, MorePartitions, NewTopic, ProducerIdBlock, TopicReference,
};
pub use service::{ControllerHandle, ControllerInbox, ControllerUnavailable, controller_channel};

/// Producer ids in one block, as in Kafka (KIP-730).
pub const PRODUCER_IDS_PER_BLOCK: i64 = 1000;

/// Commands behind a snapshot before the next one is made: a start replays no more than about
/// this many.
const COMMANDS_PER_SNAPSHOT: usize = 1000;

/// The term of all commands while one node is alone.
const SINGLE_NODE_TERM: u64 = 1;

/// What the controller is told at the start and keeps.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// This node.
    pub broker: BrokerId,
    /// Partitions of a topic whose creator leaves the number to the broker (`num.partitions`).
    pub default_partition_count: i32,
    /// Whether topics may be deleted (`delete.topic.enable`).
    pub allows_topic_deletion: bool,
    /// What topics fall back to.
    pub topic_defaults: TopicDefaults,
    /// How the data directories are: where new partitions may go.
    pub directory_states: DirectoryStates,
}

/// What is there at the start.
#[derive(Clone, Debug)]
pub struct StartFacts {
    /// How many shards run; at least 1.
    pub shard_count: u16,
    /// The data directories, the first one first; at least one.
    pub directories: Vec<DirectoryId>,
}

/// Why the controller cannot start.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The metadata cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Partitions live in a data directory that was not given.
    #[error(
        "data directory {directory} holds {partition_count} partitions and is not among the \
         directories given; start with all of them"
    )]
    MissingDirectory {
        /// Its identity.
        directory: DirectoryId,
        /// Partitions in it.
        partition_count: usize,
    },
}

impl OpenError {
    /// How the process ends with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            OpenError::Store(error) => error.exit(),
            OpenError::MissingDirectory { .. } => Exit::Directory,
        }
    }
}

/// Decides about metadata and keeps it.
pub struct Controller {
    options: ControllerOptions,
    store: Box<dyn MetadataStore>,
    random: RandomBytes,
    image: Arc<MetadataImage>,
    pending: Vec<MetadataCommand>,
    commands_since_snapshot: usize,
    has_failed: bool,
    room: Option<MetadataRoom>,
}

/// Where metadata is written, and the room that it needs there.
struct MetadataRoom {
    dir: PathBuf,
    bytes_min: u64,
    is_full: bool,
}

impl Controller {
    /// Reads the metadata and records the start: directories, places if the number of shards is
    /// another one, and the leader epochs, which all rise, in one durable step.
    ///
    /// # Errors
    /// Metadata unreadable or unwritable, or a data directory with partitions is missing.
    pub fn open(
        store: Box<dyn MetadataStore>,
        options: ControllerOptions,
        random: RandomBytes,
        facts: StartFacts,
    ) -> Result<Controller, OpenError> {
        let loaded = store.load()?;
        let mut controller = Controller {
            options,
            store,
            random,
            image: Arc::new(loaded.image),
            pending: Vec::new(),
            commands_since_snapshot: loaded.command_count,
            has_failed: false,
            room: None,
        };
        controller.check_directories(&facts.directories)?;
        if controller.image.directories() != facts.directories {
            let directories = facts.directories;
            controller.decide(MetadataCommand::RegisterDirectories { directories });
        }
        if controller.image.shard_count() != facts.shard_count {
            let shard_count = facts.shard_count;
            let moves = moves_to_shards(&controller.image, shard_count);
            controller.decide(MetadataCommand::PlacePartitions { shard_count, moves });
        }
        let start_count = controller.image.start_count().saturating_add(1);
        controller.decide(MetadataCommand::StartBroker { start_count });
        controller.commit()?;
        Ok(controller)
    }

    /// Has the controller know how the data directories are.
    pub fn watch_directories(&mut self, states: DirectoryStates) {
        self.options.directory_states = states;
    }

    /// Has the controller change nothing while the file system of `dir`, where the metadata is, has
    /// less than `bytes_min` free bytes: a commit that fails for want of room would be its end.
    pub fn keep_room(&mut self, dir: PathBuf, bytes_min: u64) {
        self.room = Some(MetadataRoom { dir, bytes_min, is_full: false });
    }

    /// Whether there is room for a change. Unknown room is room: the commit will say.
    fn has_room(&mut self) -> bool {
        let Some(room) = &mut self.room else { return true };
        let found = Disk::Blocking.room(&room.dir);
        let is_full = found.is_ok_and(|found| found.free_bytes < room.bytes_min);
        if std::mem::replace(&mut room.is_full, is_full) != is_full {
            let dir = room.dir.display();
            match is_full {
                true => tracing::warn!(%dir, "no room for metadata: only deletions go on"),
                false => tracing::info!(%dir, "there is room for metadata again"),
            }
        }
        !is_full
    }

    /// The metadata as of the last commit.
    #[must_use]
    pub fn image(&self) -> Arc<MetadataImage> {
        self.image.clone()
    }

    /// The next block of producer ids; none of them was or will be given to anybody else.
    pub fn allocate_producer_ids(&mut self) -> ProducerIdBlock {
        let first = self.image.next_producer_id();
        let next = first.saturating_add(PRODUCER_IDS_PER_BLOCK);
        self.decide(MetadataCommand::AllocateProducerIds { next });
        ProducerIdBlock { first, count: PRODUCER_IDS_PER_BLOCK }
    }

    /// Stores what was decided since the last commit, in one durable step; true if there was
    /// anything. Until then nobody may see an answer or the image.
    ///
    /// # Errors
    /// Not stored. The controller is then of no more use: what was decided is not undone, and
    /// whether it will be there after a restart is not known.
    pub fn commit(&mut self) -> Result<bool, StoreError> {
        assert!(!self.has_failed, "a failed controller decides nothing more");
        if self.pending.is_empty() {
            return Ok(false);
        }
        let result = self.store_pending();
        self.has_failed = result.is_err();
        result.map(|()| true)
    }

    fn store_pending(&mut self) -> Result<(), StoreError> {
        let first = self.image.last_index() + 1;
        self.store.append(first, SINGLE_NODE_TERM, &self.pending)?;
        let count = self.pending.len();
        self.pending.clear();
        let last = self.image.last_index() + u64::try_from(count).unwrap_or(u64::MAX);
        Arc::make_mut(&mut self.image).set_last(last, SINGLE_NODE_TERM);
        self.commands_since_snapshot += count;
        if self.commands_since_snapshot >= COMMANDS_PER_SNAPSHOT {
            self.store.save_snapshot(&self.image)?;
            self.commands_since_snapshot = 0;
        }
        Ok(())
    }

    /// Makes a command part of the working image. It was checked against that image, so that it
    /// fits is an invariant.
    fn decide(&mut self, command: MetadataCommand) {
        Arc::make_mut(&mut self.image)
            .apply(&command)
            .expect("a decision is checked against the image before it is made");
        self.pending.push(command);
    }

    /// Runs `work` and forgets what it decided: for requests that only validate.
    fn dry_run<T>(&mut self, work: impl FnOnce(&mut Controller) -> T) -> T {
        let image = self.image.clone();
        let pending_count = self.pending.len();
        let answer = work(self);
        self.image = image;
        self.pending.truncate(pending_count);
        answer
    }

    fn new_identity(&mut self) -> [u8; 16] {
        identity_from_random((self.random)())
    }

    fn check_directories(&self, given: &[DirectoryId]) -> Result<(), OpenError> {
        let given: BTreeSet<DirectoryId> = given.iter().copied().collect();
        for directory in self.image.directories() {
            if given.contains(directory) {
                continue;
            }
            let partitions = self.image.all_partitions();
            let partition_count =
                partitions.filter(|(_, _, place)| place.directory() == *directory).count();
            if partition_count > 0 {
                return Err(OpenError::MissingDirectory { directory: *directory, partition_count });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
