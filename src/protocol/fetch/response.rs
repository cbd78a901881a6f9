//! A Fetch response: fresh memory for what stands between the records, and the records as the
//! slices that the log gave.

use bytes::Bytes;
use zerocopy::big_endian::{I16, I32, I64};
use zerocopy::{Immutable, IntoBytes};

use super::{LOG_START, NODE_ENDPOINTS, RACKS, SESSIONS, is_flexible};
use crate::base::ids::{BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerId};
use crate::protocol::header::write_response_header;
use crate::protocol::shared::{write_node_endpoints, write_topic};
use crate::protocol::writer::Writer;
use crate::protocol::{ApiKey, CurrentLeader, EncodeError, ErrorCode, NodeEndpoint, TopicRef};

/// What every version starts a partition's entry with.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct PartitionStart {
    index: I32,
    error: I16,
    high_watermark: I64,
    last_stable: I64,
}

/// What a response says besides its partitions.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// The request's.
    pub correlation_id: i32,
    /// How long the client should wait, in milliseconds (KIP-219).
    pub throttle_time_ms: i32,
    /// What is wrong with the request as a whole, mostly with its session (version 7 and later).
    pub error: ErrorCode,
    /// The fetch session (KIP-227); 0 refuses one.
    pub session_id: i32,
    /// The brokers that the results name as leaders (version 16 and later).
    pub node_endpoints: &'a [NodeEndpoint],
}

/// What one partition answers. Fields that a version does not have are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionResult<'a> {
    /// The topic, as the request named it.
    pub topic: TopicRef<'a>,
    /// The partition's index.
    pub index: PartitionIndex,
    /// [`ErrorCode::None`], or why there are no records.
    pub error: ErrorCode,
    /// End of what is committed; [`Offset::UNKNOWN`] with an error.
    pub high_watermark: Offset,
    /// End of what is decided; [`Offset::UNKNOWN`] if not known.
    pub last_stable: Offset,
    /// First offset of the log; [`Offset::UNKNOWN`] if not known.
    pub log_start: Offset,
    /// Where the client's log and ours part (KIP-595; version 12 and later).
    pub diverging: Option<EpochEnd>,
    /// With `NOT_LEADER_OR_FOLLOWER` or a fenced epoch: who leads (version 12 and later).
    pub current_leader: Option<CurrentLeader>,
    /// For readers of committed records: the aborted transactions among the records. `None` where
    /// the reader did not ask.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// The replica that the client should read from instead (version 11 and later).
    pub preferred_replica: Option<BrokerId>,
    /// Record batches as they lie in the log, in order. None at all is an empty answer, not null:
    /// clients take null badly.
    pub records: Vec<Bytes>,
}

/// An epoch and the offset after its last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Its end, exclusive.
    pub end: Offset,
}

/// A transaction whose records a reader must skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Who wrote it.
    pub producer: ProducerId,
    /// Its first offset.
    pub first_offset: Offset,
}

impl<'a> PartitionResult<'a> {
    /// No records, because of `error`.
    #[must_use]
    pub const fn failed(topic: TopicRef<'a>, index: PartitionIndex, error: ErrorCode) -> Self {
        PartitionResult {
            topic,
            index,
            error,
            high_watermark: Offset::UNKNOWN,
            last_stable: Offset::UNKNOWN,
            log_start: Offset::UNKNOWN,
            diverging: None,
            current_leader: None,
            aborted: None,
            preferred_replica: None,
            records: Vec::new(),
        }
    }
}

/// A Fetch response in `version`, as the slices of its frame: `results` in order, where neighbours
/// with the same topic share a topic entry. Record bytes are sent from where they lie.
///
/// # Errors
/// [`EncodeError`] if a topic is named in the wrong way for the version, or the frame is too long.
pub fn encode_response(
    version: i16,
    head: &ResponseHead<'_>,
    mut results: Vec<PartitionResult<'_>>,
) -> Result<Vec<Bytes>, EncodeError> {
    let bytes_expected = 32 + 72 * results.len();
    let mut writer =
        write_response_header(ApiKey::Fetch, version, head.correlation_id, bytes_expected);
    writer.expect_slices(results.iter().map(|result| result.records.len()).sum());
    writer.i32(head.throttle_time_ms);
    if version >= SESSIONS {
        writer.i16(head.error.code());
        writer.i32(head.session_id);
    }
    writer.array_len(results.chunk_by(|a, b| a.topic == b.topic).count());
    for run in results.chunk_by_mut(|a, b| a.topic == b.topic) {
        let Some(first) = run.first() else { continue };
        write_topic(&mut writer, version, first.topic);
        writer.array_len(run.len());
        for result in run {
            write_partition(&mut writer, version, result);
        }
        writer.no_tagged_fields();
    }
    if version >= NODE_ENDPOINTS {
        write_node_endpoints(&mut writer, head.node_endpoints);
    } else {
        writer.no_tagged_fields();
    }
    writer.finish_gathered()
}

/// Writes one partition's entry and takes its records.
fn write_partition(writer: &mut Writer, version: i16, result: &mut PartitionResult<'_>) {
    writer.fixed(&PartitionStart {
        index: result.index.0.into(),
        error: result.error.code().into(),
        high_watermark: result.high_watermark.0.into(),
        last_stable: result.last_stable.0.into(),
    });
    if version >= LOG_START {
        writer.i64(result.log_start.0);
    }
    match &result.aborted {
        None => writer.null_array(),
        Some(aborted) => {
            writer.array_len(aborted.len());
            for transaction in aborted {
                writer.i64(transaction.producer.0);
                writer.i64(transaction.first_offset.0);
                writer.no_tagged_fields();
            }
        }
    }
    if version >= RACKS {
        writer.i32(result.preferred_replica.map_or(-1, |replica| replica.0));
    }
    writer.gathered_bytes(Some(std::mem::take(&mut result.records)));
    if is_flexible(version) {
        let count = [result.diverging.is_some(), result.current_leader.is_some()];
        writer.tagged_field_count(count.iter().map(|present| u32::from(*present)).sum());
        if let Some(diverging) = result.diverging {
            writer.tagged_field(0, |field| {
                field.i32(diverging.epoch.0);
                field.i64(diverging.end.0);
                field.no_tagged_fields();
            });
        }
        if let Some(leader) = result.current_leader {
            writer.tagged_field(1, |field| leader.write(field));
        }
    }
}
