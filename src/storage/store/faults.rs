//! What a store knows of its directory's faults: its file system's room, and whether it is offline.

use super::super::error::StorageError;
use super::super::health::DirectoryHealth;
use super::Store;

impl Store {
    /// Looks at the room of the file system; who met a full one tries again. By time: about every
    /// second, and more often while appends are refused.
    pub fn look_at_room(&self) {
        self.room.look();
    }

    /// Looks at the room of the file system if so much was written since the last look that it may
    /// have come to an end. Cheap: for after each group.
    pub fn look_at_room_after_writes(&self) {
        let ledger = &self.ledger;
        self.room.look_after(ledger.bytes_staged() + ledger.bytes_extents() + ledger.bytes_large());
    }

    /// How the data directory is, as all cores together know it.
    #[must_use]
    pub fn health(&self) -> &DirectoryHealth {
        self.latch.health()
    }

    /// Whether appends are refused for want of room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.room.refuses()
    }

    /// Ends this store if another core's part of the data directory has failed: the directory is
    /// offline as a whole, whatever this store's own writes say.
    pub fn follow_directory(&self) {
        if self.latch.health().is_offline() && self.latch.check().is_ok() {
            self.latch.trip_with_directory();
        }
    }

    /// Waits after a step found no room.
    pub(super) async fn until_room(&self) -> Result<(), StorageError> {
        self.room.until_retry().await
    }
}
