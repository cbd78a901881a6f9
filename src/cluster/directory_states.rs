//! The data directories as they are now: which of them are offline or full. Shared between threads;
//! the facts come from `storage` ([`DirectoryHealth`]), this says what they mean for metadata.

use std::sync::Arc;

use super::identity::DirectoryId;
use crate::storage::DirectoryHealth;

/// All data directories of the process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct DirectoryStates(Arc<[(DirectoryId, Arc<DirectoryHealth>)]>);

impl DirectoryStates {
    /// The directories in the order in which they were given.
    #[must_use]
    pub fn new(directories: Vec<(DirectoryId, Arc<DirectoryHealth>)>) -> DirectoryStates {
        DirectoryStates(directories.into())
    }

    /// Whether a write or sync in the directory has failed: its partitions have no leader until the
    /// next start.
    #[must_use]
    pub fn is_offline(&self, directory: DirectoryId) -> bool {
        self.find(directory).is_some_and(DirectoryHealth::is_offline)
    }

    /// Of `directories`, those that may get new partitions: the ones that are online and have room;
    /// if all of these are full, the ones that are online, where producers then wait for room. None
    /// if all are offline.
    #[must_use]
    pub fn for_new_partitions(&self, directories: &[DirectoryId]) -> Vec<DirectoryId> {
        let online = directories.iter().copied().filter(|id| !self.is_offline(*id));
        let online: Vec<DirectoryId> = online.collect();
        let is_full = |id: DirectoryId| self.find(id).is_some_and(DirectoryHealth::is_full);
        let with_room: Vec<DirectoryId> =
            online.iter().copied().filter(|id| !is_full(*id)).collect();
        if with_room.is_empty() { online } else { with_room }
    }

    fn find(&self, directory: DirectoryId) -> Option<&DirectoryHealth> {
        self.0.iter().find(|(id, _)| *id == directory).map(|(_, health)| &**health)
    }
}
