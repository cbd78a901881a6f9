//! A Produce response, written by hand along its request.

use std::borrow::Cow;

use bytes::Bytes;
use zerocopy::big_endian::{I16, I32, I64};
use zerocopy::{Immutable, IntoBytes};

use super::ProduceRequest;
use crate::base::ids::{Offset, PartitionIndex};
use crate::protocol::header::write_response_header;
use crate::protocol::shared::{write_node_endpoints, write_topic};
use crate::protocol::writer::Writer;
use crate::protocol::{ApiKey, CurrentLeader, EncodeError, ErrorCode, NodeEndpoint};

/// First version that tells where the log starts.
pub(super) const LOG_START: i16 = 5;
/// First version with errors of single records and a message (KIP-467).
pub(super) const RECORD_ERRORS: i16 = 8;
/// First version that names the leader a client should go to (KIP-951).
pub(super) const CURRENT_LEADER: i16 = 10;

/// What became of one partition of a request. Fields that a version does not have are left out of
/// its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionResult {
    /// [`ErrorCode::None`], or why nothing was appended.
    pub error: ErrorCode,
    /// Offset of the first record; [`Offset::UNKNOWN`] with an error.
    pub base_offset: Offset,
    /// The broker's time of append in milliseconds, where the topic stamps it; else -1.
    pub log_append_time_ms: i64,
    /// First offset of the log; [`Offset::UNKNOWN`] if not known.
    pub log_start: Offset,
    /// Which records are at fault.
    pub record_errors: Vec<RecordErrorAt>,
    /// Says what is wrong with all of them, or with the batch.
    pub error_message: Option<Cow<'static, str>>,
    /// With `NOT_LEADER_OR_FOLLOWER`: who leads.
    pub current_leader: Option<CurrentLeader>,
}

/// A record of a batch that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordErrorAt {
    /// The record's place in its batch, from 0.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: Option<Cow<'static, str>>,
}

impl PartitionResult {
    /// The records were appended.
    #[must_use]
    pub const fn appended(base_offset: Offset, log_append_time_ms: i64, log_start: Offset) -> Self {
        PartitionResult {
            error: ErrorCode::None,
            base_offset,
            log_append_time_ms,
            log_start,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }
    }

    /// Nothing was appended.
    #[must_use]
    pub fn failed(error: ErrorCode) -> Self {
        let nothing = PartitionResult::appended(Offset::UNKNOWN, -1, Offset::UNKNOWN);
        PartitionResult { error, ..nothing }
    }
}

/// What a response says besides its partitions.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// The request's.
    pub correlation_id: i32,
    /// How long the client should wait, in milliseconds (KIP-219).
    pub throttle_time_ms: i32,
    /// The brokers that the results name as leaders.
    pub node_endpoints: &'a [NodeEndpoint],
}

/// The response to `request`, as a frame. `results` gives one result for every partition entry, in
/// the request's order; entries that it has none for are answered with `UNKNOWN_SERVER_ERROR`.
///
/// # Errors
/// [`EncodeError`] if an error message is too long for the version.
pub fn encode_response(
    request: &ProduceRequest,
    head: &ResponseHead<'_>,
    results: impl IntoIterator<Item = PartitionResult>,
) -> Result<Bytes, EncodeError> {
    let version = request.version();
    let bytes_expected = 16 + 32 * request.topic_count() + 40 * request.partition_count();
    let mut writer =
        write_response_header(ApiKey::Produce, version, head.correlation_id, bytes_expected);
    let mut results = results.into_iter();
    writer.array_len(request.topic_count());
    for topic in request.topics() {
        write_topic(&mut writer, version, topic.topic());
        let partitions = topic.partitions();
        writer.array_len(partitions.len());
        for partition in partitions {
            let result = results.next();
            debug_assert!(result.is_some(), "one result for each partition");
            let result =
                result.unwrap_or_else(|| PartitionResult::failed(ErrorCode::UnknownServerError));
            write_result(&mut writer, version, partition.index(), &result);
        }
        writer.no_tagged_fields();
    }
    writer.i32(head.throttle_time_ms);
    if version >= CURRENT_LEADER {
        write_node_endpoints(&mut writer, head.node_endpoints);
    } else {
        writer.no_tagged_fields();
    }
    writer.finish()
}

/// What every version starts a partition's entry with.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct EntryStart {
    index: I32,
    error: I16,
    base_offset: I64,
    log_append_time_ms: I64,
}

fn write_result(
    writer: &mut Writer,
    version: i16,
    index: PartitionIndex,
    result: &PartitionResult,
) {
    writer.fixed(&EntryStart {
        index: index.0.into(),
        error: result.error.code().into(),
        base_offset: result.base_offset.0.into(),
        log_append_time_ms: result.log_append_time_ms.into(),
    });
    if version >= LOG_START {
        writer.i64(result.log_start.0);
    }
    if version >= RECORD_ERRORS {
        writer.array_len(result.record_errors.len());
        for error in &result.record_errors {
            writer.i32(error.batch_index);
            writer.nullable_string(error.message.as_deref().map(str::as_bytes));
            writer.no_tagged_fields();
        }
        writer.nullable_string(result.error_message.as_deref().map(str::as_bytes));
    }
    match result.current_leader {
        Some(leader) if version >= CURRENT_LEADER => {
            writer.tagged_field_count(1);
            writer.tagged_field(0, |field| leader.write(field));
        }
        _ => writer.no_tagged_fields(),
    }
}
