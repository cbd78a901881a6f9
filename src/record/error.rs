//! What can be wrong with a batch, in words that the server turns into Kafka's codes.

use super::codec::CodecError;

/// Why a batch was refused. `reason` is fit for a response's error message: fixed text, nothing of
/// the client's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes are not what their writer meant: length, CRC, broken compressed data
    /// (CORRUPT_MESSAGE, 2; clients retry).
    #[error("corrupt batch: {reason}")]
    Corrupt {
        /// What does not fit.
        reason: &'static str,
    },
    /// The bytes are intact and say something that is not allowed (INVALID_RECORD, 87; final).
    #[error("invalid batch: {reason}")]
    Invalid {
        /// The broken rule.
        reason: &'static str,
    },
    /// A producer id without a possible epoch (INVALID_PRODUCER_EPOCH, 47).
    #[error("invalid producer epoch: a batch with a producer id has a negative epoch")]
    InvalidProducerEpoch,
    /// The attributes name a codec that does not exist (UNSUPPORTED_COMPRESSION_TYPE, 76).
    #[error("unsupported compression: codec id {codec_id}")]
    UnsupportedCompression {
        /// Bits 0-2 of the attributes.
        codec_id: u8,
    },
    /// The records want more bytes than the caller allowed (MESSAGE_TOO_LARGE, 10).
    #[error("the decompressed records exceed {bytes_max} bytes")]
    TooLarge {
        /// The caller's limit.
        bytes_max: usize,
    },
}

impl BatchError {
    /// Fixed text for a response's error message.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            BatchError::Corrupt { reason } | BatchError::Invalid { reason } => reason,
            BatchError::InvalidProducerEpoch => {
                "a batch with a producer id has a negative producer epoch"
            }
            BatchError::UnsupportedCompression { .. } => "the compression codec is not known",
            BatchError::TooLarge { .. } => "the decompressed records exceed the broker's limit",
        }
    }
}

impl From<CodecError> for BatchError {
    fn from(error: CodecError) -> BatchError {
        match error {
            CodecError::Corrupt { reason, .. } => BatchError::Corrupt { reason },
            CodecError::TooLarge { bytes_max } => BatchError::TooLarge { bytes_max },
        }
    }
}

/// Why the walk over a batch's records refused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The batch as a whole.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// One record (INVALID_RECORD, 87; `record_errors` of Produce v8 and later, KIP-467).
    #[error("record {batch_index}: {reason}")]
    Record {
        /// The record's place in the batch, from 0.
        batch_index: i32,
        /// The broken rule.
        reason: &'static str,
    },
    /// One record's timestamp lies outside the window (INVALID_TIMESTAMP, 32).
    #[error("record {batch_index}: timestamp {timestamp_ms} is outside the allowed window")]
    Timestamp {
        /// The record's place in the batch, from 0.
        batch_index: i32,
        /// The record's timestamp.
        timestamp_ms: i64,
    },
}
