//! Why a batch is not appended.

use crate::storage::DiskFull;
use crate::storage::producer_table::SequenceError;

use super::CloseReason;
use super::admission::AdmissionError;

/// Why a batch was not appended. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The partition takes no more work.
    #[error("the partition is closed: {0}")]
    Closed(CloseReason),
    /// The batch breaks a rule of the format or of the topic.
    #[error(transparent)]
    Refused(#[from] AdmissionError),
    /// The batch does not follow its producer's last one.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// A transactional batch outside of any transaction that this broker knows of
    /// (INVALID_TXN_STATE, 48).
    #[error("the batch is not part of an ongoing transaction")]
    NoTransaction,
    /// The disk is full; a later try may find room (KAFKA_STORAGE_ERROR, 56).
    #[error(transparent)]
    DiskFull(#[from] DiskFull),
}
