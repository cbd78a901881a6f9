//! What can go wrong with a store, a recovery, a follower's append.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use crate::base::ids::{Offset, TopicPartition};

/// Why an operation of a [`super::Store`] did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// A write or sync failed earlier: the store is failed for good in this process, nothing more
    /// is acknowledged.
    #[error("the store has failed: {0}")]
    Failed(Rc<str>),
    /// The store is being closed: a background step has nothing more to do.
    #[error("the store is closing")]
    Closing,
    /// A read failed.
    #[error("{what}: {error}")]
    Read {
        /// What was being done.
        what: &'static str,
        /// The system's error.
        error: Rc<io::Error>,
    },
    /// Bytes on disk are not what was written. That range is lost here; others are served.
    #[error("{topic_partition} is damaged on disk near offset {offset}: {reason}")]
    Corrupt {
        /// Where.
        topic_partition: TopicPartition,
        /// The byte of the segment's file at which the damaged block begins.
        pos: u64,
        /// The first offset that was wanted.
        offset: Offset,
        /// What is wrong.
        reason: &'static str,
    },
    /// The records of a stored batch cannot be read (a broken or oversized compressed payload that
    /// its producer sent so; only header and CRC are checked by default).
    #[error("the records of the batch at {base_offset} cannot be read")]
    UnreadableRecords {
        /// The batch.
        base_offset: Offset,
    },
    /// A write found no room, and the store closes: it is not tried again in this process. What is
    /// acknowledged is in the journal.
    #[error("the file system has no room")]
    NoRoom,
    /// The log exists already, or does not.
    #[error("{0} is not a log that can be opened so")]
    NoSuchLog(TopicPartition),
}

impl StorageError {
    pub(super) fn read(what: &'static str, error: io::Error) -> StorageError {
        StorageError::Read { what, error: Rc::new(error) }
    }
}

/// Appends are refused before they are staged: the file system has less room than the reserve. A
/// later try may find room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file system of the log directory has less room than its reserve")]
pub struct DiskFull;

/// Why a directory cannot be recovered. Nothing is deleted or changed then.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The device failed.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Something that was durable is damaged: a torn tail it cannot be.
    #[error("{} is damaged: {reason}; nothing was changed", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with places.
        reason: String,
    },
    /// Written by a newer version.
    #[error("{} has format version {version}, which this broker does not know", path.display())]
    UnknownVersion {
        /// Which file.
        path: PathBuf,
        /// The version found.
        version: u16,
    },
    /// The file belongs to another data directory.
    #[error("{} belongs to another data directory", path.display())]
    ForeignFile {
        /// Which file.
        path: PathBuf,
    },
    /// A write or sync failed while the journals were drained.
    #[error("draining the journals failed: {0}")]
    Drain(String),
}

/// Why a batch that keeps its offsets cannot be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowerAppendError {
    /// It begins before the log's end.
    #[error("a batch at {found} does not follow the log's end {log_end}")]
    OutOfOrder {
        /// The log's end.
        log_end: Offset,
        /// The batch's base offset.
        found: Offset,
    },
}
