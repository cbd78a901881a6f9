//! Fetch v12 on the hot path: a request that is encoded once and patched with offsets, and the
//! answer, walked in place from batch header to batch header. No record is decoded.

use bytes::BufMut;
use thalweg::base::varint;

use super::aborted::{AbortedList, BatchKind};
use super::cursor::{Cursor, Malformed};
use super::produce::put_compact_string;
use super::stamp::{Stamp, StampPlaces};

/// Kafka's key of the Fetch API.
pub const FETCH_KEY: i16 = 1;
/// The version spoken: the first flexible one, the last with topic names.
pub const FETCH_VERSION: i16 = 12;

const BATCH_HEADER_BYTES: usize = 61;
const TRANSACTIONAL_BIT: u16 = 1 << 4;
const CONTROL_BIT: u16 = 1 << 5;

/// How much a fetch may bring and how long it may wait.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// Longest wait for `bytes_min`.
    pub wait_ms: i32,
    /// Answer as soon as this much is there.
    pub bytes_min: i32,
    /// At most this much in one answer (one batch always comes whole).
    pub bytes_max: i32,
    /// At most this much of one partition.
    pub partition_bytes_max: i32,
    /// Only what is committed.
    pub read_committed: bool,
}

/// A Fetch request for a fixed set of partitions; only correlation id and offsets change.
pub struct FetchRequest {
    frame: Vec<u8>,
    at_offsets: Vec<usize>,
}

impl FetchRequest {
    /// Encodes a full fetch (no session) of partitions, topic by topic.
    ///
    /// # Panics
    /// If names or counts are beyond Kafka's limits; arguments are checked before a run.
    #[must_use]
    pub fn new(client_id: &str, topics: &[(&str, Vec<i32>)], limits: &FetchLimits) -> FetchRequest {
        let mut out: Vec<u8> = Vec::with_capacity(4096);
        out.put_i32(0);
        out.put_i16(FETCH_KEY);
        out.put_i16(FETCH_VERSION);
        out.put_i32(0); // correlation id
        out.put_i16(i16::try_from(client_id.len()).expect("client id is short"));
        out.extend_from_slice(client_id.as_bytes());
        out.push(0); // header tags
        out.put_i32(-1); // replica id: a consumer
        out.put_i32(limits.wait_ms);
        out.put_i32(limits.bytes_min);
        out.put_i32(limits.bytes_max);
        out.push(u8::from(limits.read_committed));
        out.put_i32(0); // no session
        out.put_i32(-1); // and none wanted
        let count = |len: usize| u32::try_from(len).expect("counts fit") + 1;
        varint::write_unsigned(&mut out, count(topics.len()));
        let mut at_offsets = Vec::new();
        for (topic, partitions) in topics {
            put_compact_string(&mut out, topic);
            varint::write_unsigned(&mut out, count(partitions.len()));
            for &partition in partitions {
                out.put_i32(partition);
                out.put_i32(-1); // current leader epoch unknown
                at_offsets.push(out.len());
                out.put_i64(0);
                out.put_i32(-1); // last fetched epoch
                out.put_i64(-1); // log start offset
                out.put_i32(limits.partition_bytes_max);
                out.push(0);
            }
            out.push(0); // topic tags
        }
        out.push(1); // no forgotten topics
        out.push(1); // no rack
        out.push(0); // request tags
        let frame_len = i32::try_from(out.len() - 4).expect("frame is under 2 GiB");
        out[..4].copy_from_slice(&frame_len.to_be_bytes());
        FetchRequest { frame: out, at_offsets }
    }

    /// The request as it leaves, with `offsets` in the order of the partitions.
    pub fn patch(&mut self, correlation_id: i32, offsets: impl Iterator<Item = i64>) -> &[u8] {
        self.frame[8..12].copy_from_slice(&correlation_id.to_be_bytes());
        for (&at, offset) in self.at_offsets.iter().zip(offsets) {
            self.frame[at..at + 8].copy_from_slice(&offset.to_be_bytes());
        }
        &self.frame
    }
}

/// One partition of an answer.
#[derive(Clone, Copy, Debug)]
pub struct FetchedPartition<'a> {
    /// The topic's name.
    pub topic: &'a [u8],
    /// Partition index.
    pub partition: i32,
    /// Kafka's error code; 0 is success.
    pub error: i16,
    /// End of what may be read.
    pub high_watermark: i64,
    /// First offset of the log.
    pub log_start: i64,
    /// Transactions that were aborted, where only committed records are wanted.
    pub aborted: AbortedList<'a>,
    /// Whole batches, perhaps a cut one at the end.
    pub records: &'a [u8],
}

/// Reads a Fetch response v12 (frame without its length prefix). Returns the error of the whole
/// answer; calls `each` for every partition.
pub fn parse_response<'a>(
    frame: &'a [u8],
    mut each: impl FnMut(FetchedPartition<'a>),
) -> Result<i16, Malformed> {
    let mut cursor = Cursor::new(frame);
    cursor.i32()?; // correlation id
    cursor.skip_tags()?;
    cursor.i32()?; // throttle time
    let error = cursor.i16()?;
    cursor.i32()?; // session
    for _ in 0..cursor.compact_count()? {
        let topic = cursor.compact_bytes()?;
        for _ in 0..cursor.compact_count()? {
            let partition = cursor.i32()?;
            let error = cursor.i16()?;
            let high_watermark = cursor.i64()?;
            cursor.i64()?; // last stable offset
            let log_start = cursor.i64()?;
            let aborted = AbortedList::take(&mut cursor)?;
            cursor.i32()?; // preferred read replica
            let records = cursor.compact_bytes()?;
            cursor.skip_tags()?;
            each(FetchedPartition {
                topic,
                partition,
                error,
                high_watermark,
                log_start,
                aborted,
                records,
            });
        }
        cursor.skip_tags()?;
    }
    cursor.skip_tags()?;
    Ok(error)
}

/// What one batch header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchedBatch {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Offset after the last.
    pub next_offset: i64,
    /// Records in the batch; 0 for a control batch.
    pub record_count: u32,
    /// Who sent it; -1 if not idempotent.
    pub producer_id: i64,
    /// What it is to transactions.
    pub kind: BatchKind,
    /// Bytes of the whole batch.
    pub batch_bytes: usize,
    /// Its timestamp, ms since the Unix epoch.
    pub base_timestamp_ms: i64,
    /// The generator's stamp, where the batch carries one.
    pub stamp: Option<Stamp>,
}

/// Walks the whole batches of `records`; a cut one at the end is left out, anything else that is
/// not a magic 2 batch is an error. `stamps` says where this run's stamps may be, if anywhere.
pub fn walk_batches(
    mut records: &[u8],
    stamps: Option<&StampPlaces>,
    mut each: impl FnMut(FetchedBatch),
) -> Result<(), Malformed> {
    while records.len() >= BATCH_HEADER_BYTES {
        let mut cursor = Cursor::new(records);
        let base_offset = cursor.i64()?;
        let length = usize::try_from(cursor.i32()?).map_err(|_| Malformed)?;
        cursor.i32()?; // leader epoch
        let magic = cursor.take(1)?;
        cursor.i32()?; // crc
        let attributes = cursor.i16()? as u16;
        let last_delta = cursor.i32()?;
        let base_timestamp_ms = cursor.i64()?;
        let batch_bytes = length + 12;
        if magic != [2] || batch_bytes < BATCH_HEADER_BYTES || last_delta < 0 {
            return Err(Malformed);
        }
        if batch_bytes > records.len() {
            return Ok(());
        }
        cursor.take(8)?; // max timestamp
        let producer_id = cursor.i64()?;
        cursor.take(2 + 4)?; // epoch, sequence
        let record_count = u32::try_from(cursor.i32()?).map_err(|_| Malformed)?;
        let (batch, rest) = records.split_at(batch_bytes);
        let kind =
            BatchKind::of(attributes & CONTROL_BIT != 0, attributes & TRANSACTIONAL_BIT != 0);
        each(FetchedBatch {
            base_offset,
            next_offset: base_offset.saturating_add(i64::from(last_delta)).saturating_add(1),
            record_count: if kind == BatchKind::Control { 0 } else { record_count },
            producer_id,
            kind,
            batch_bytes,
            base_timestamp_ms,
            stamp: stamps.and_then(|stamps| stamps.find(batch)),
        });
        records = rest;
    }
    Ok(())
}
