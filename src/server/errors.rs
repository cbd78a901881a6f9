//! The one place where what happened below becomes a Kafka error code.

use crate::partition::CloseReason;
use crate::partition::ack_queue::AckError;
use crate::partition::admission::AdmissionError;
use crate::partition::append::AppendError;
use crate::partition::epochs::AccessError;
use crate::partition::log_start::DeleteRecordsError;
use crate::partition::read_plan::ReadError;
use crate::protocol::ErrorCode;
use crate::record::{BatchError, RecordError};
use crate::shard::log_starts::DeleteRecordsFailure;
use crate::shard::reads::ReadFailure;
use crate::shard::router::AppendFailure;
use crate::storage::producer_table::SequenceError;

/// Code and text for a batch that is not acknowledged.
#[must_use]
pub fn of_append(failure: &AppendFailure) -> (ErrorCode, Option<String>) {
    let code = match failure {
        AppendFailure::NotOwned => return (ErrorCode::NotLeaderOrFollower, None),
        AppendFailure::Shape(problem) => of_batch(*problem),
        AppendFailure::Append(AppendError::Closed(reason))
        | AppendFailure::Ack(AckError::Closed(reason)) => return (of_close(*reason), None),
        AppendFailure::Append(AppendError::Refused(problem)) => of_admission(problem),
        AppendFailure::Append(AppendError::Sequence(problem)) => of_sequence(problem),
        AppendFailure::Append(AppendError::NoTransaction) => ErrorCode::InvalidTxnState,
        AppendFailure::Append(AppendError::DiskFull(_)) => ErrorCode::KafkaStorageError,
    };
    (code, Some(failure.to_string()))
}

/// Index within the batch of the record that is at fault, where one is (KIP-467).
#[must_use]
pub fn record_at_fault(failure: &AppendFailure) -> Option<i32> {
    match failure {
        AppendFailure::Append(AppendError::Refused(AdmissionError::Record(
            RecordError::Record { batch_index, .. } | RecordError::Timestamp { batch_index, .. },
        ))) => Some(*batch_index),
        _ => None,
    }
}

/// Code for a partition that gives no records.
#[must_use]
pub fn of_read(failure: &ReadFailure) -> ErrorCode {
    match failure {
        ReadFailure::NotOwned => ErrorCode::NotLeaderOrFollower,
        ReadFailure::Refused(ReadError::Access(problem)) => of_access(*problem),
        ReadFailure::Refused(ReadError::OutOfRange { .. }) => ErrorCode::OffsetOutOfRange,
        ReadFailure::Storage(_) => ErrorCode::KafkaStorageError,
    }
}

/// Code for records that are not deleted.
#[must_use]
pub fn of_delete_records(failure: &DeleteRecordsFailure) -> ErrorCode {
    match failure {
        DeleteRecordsFailure::NotOwned => ErrorCode::NotLeaderOrFollower,
        DeleteRecordsFailure::Storage(_) => ErrorCode::KafkaStorageError,
        DeleteRecordsFailure::Refused(problem) => match problem {
            DeleteRecordsError::Closed(reason) => of_close(*reason),
            DeleteRecordsError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            DeleteRecordsError::Compacted => ErrorCode::PolicyViolation,
        },
    }
}

/// Code for a reader that is not answered.
#[must_use]
pub fn of_access(problem: AccessError) -> ErrorCode {
    match problem {
        AccessError::FencedEpoch { .. } => ErrorCode::FencedLeaderEpoch,
        AccessError::UnknownEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
        AccessError::Closed(reason) => of_close(reason),
    }
}

fn of_close(reason: CloseReason) -> ErrorCode {
    match reason {
        CloseReason::Moved | CloseReason::Stopping => ErrorCode::NotLeaderOrFollower,
        CloseReason::Deleted => ErrorCode::UnknownTopicOrPartition,
        CloseReason::StorageFailed => ErrorCode::KafkaStorageError,
    }
}

fn of_batch(problem: BatchError) -> ErrorCode {
    match problem {
        BatchError::Corrupt { .. } => ErrorCode::CorruptMessage,
        BatchError::Invalid { .. } => ErrorCode::InvalidRecord,
        BatchError::InvalidProducerEpoch => ErrorCode::InvalidProducerEpoch,
        BatchError::UnsupportedCompression { .. } => ErrorCode::UnsupportedCompressionType,
        BatchError::TooLarge { .. } => ErrorCode::MessageTooLarge,
    }
}

fn of_admission(problem: &AdmissionError) -> ErrorCode {
    match problem {
        AdmissionError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        AdmissionError::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
        AdmissionError::Batch(problem) => of_batch(*problem),
        AdmissionError::Record(problem) => of_record(problem),
        AdmissionError::Timestamp { .. } | AdmissionError::TimestampType => {
            ErrorCode::InvalidTimestamp
        }
    }
}

fn of_record(problem: &RecordError) -> ErrorCode {
    match problem {
        RecordError::Batch(problem) => of_batch(*problem),
        RecordError::Record { .. } => ErrorCode::InvalidRecord,
        RecordError::Timestamp { .. } => ErrorCode::InvalidTimestamp,
    }
}

fn of_sequence(problem: &SequenceError) -> ErrorCode {
    match problem {
        SequenceError::OutOfOrder { .. } => ErrorCode::OutOfOrderSequenceNumber,
        SequenceError::StaleEpoch { .. } => ErrorCode::InvalidProducerEpoch,
    }
}
