//! Produce v9 to v12 on the hot path: a whole request frame, encoded once and patched for each
//! send, and the answer, read in place.
//!
//! One frame carries one batch for one partition. What changes between two sends (correlation id,
//! partition, timestamps, sequence, stamp) lies at fixed places near its start; the rest is never
//! touched again, and the CRC is brought up to date without a pass over it ([`CrcTail`]).

use bytes::{BufMut, BytesMut};
use thalweg::base::varint;

use super::batch::BatchTemplate;
use super::crc_tail::CrcTail;
use super::cursor::{Cursor, Malformed};
use super::stamp::{STAMP_BYTES, Stamp};

/// Kafka's key of the Produce API.
pub const PRODUCE_KEY: i16 = 0;
/// Lowest version that [`FrameTemplate`] can write: the first flexible one.
pub const PRODUCE_VERSION_MIN: i16 = 9;
/// Highest: from 13 on topics go by id.
pub const PRODUCE_VERSION_MAX: i16 = 12;

/// The idempotent producer's part of a batch (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// Producer id.
    pub id: i64,
    /// Producer epoch.
    pub epoch: i16,
}

/// What changes from send to send.
#[derive(Clone, Copy, Debug)]
pub struct Send {
    /// Correlation id.
    pub correlation_id: i32,
    /// Partition index.
    pub partition: i32,
    /// Record timestamp, ms since the Unix epoch.
    pub wall_ms: i64,
    /// Producer and base sequence of this batch, if idempotent.
    pub identity: Option<(ProducerIdentity, i32)>,
    /// Stamp for the end-to-end latency.
    pub stamp: Stamp,
}

/// A Produce request, encoded once. Copies of [`FrameTemplate::frame`] are patched and sent.
pub struct FrameTemplate {
    frame: BytesMut,
    /// What stands before the batch's length.
    head: RequestHead,
    at_topic: usize,
    at_partition: usize,
    at_batch: usize,
    head_end: usize,
    stamp_at: Option<usize>,
    crc: CrcTail,
}

const AT_CORRELATION: usize = 8;
/// The second byte of a batch's attributes.
const AT_ATTRIBUTES_LOW: usize = 22;
const TRANSACTIONAL_BIT: u8 = 1 << 4;

/// What a request says besides its batch.
#[derive(Clone)]
struct RequestHead {
    topic: String,
    transactional_id: Option<String>,
    client_id: &'static str,
    acks: i16,
    timeout_ms: i32,
    version: i16,
}

impl FrameTemplate {
    /// Encodes the request around `batch`.
    ///
    /// # Panics
    /// If the topic's name or the client id is longer than Kafka allows, or the batch over 1 GiB;
    /// the arguments are checked before a run.
    #[must_use]
    pub fn new(
        topic: &str,
        client_id: &'static str,
        acks: i16,
        timeout_ms: i32,
        version: i16,
        batch: &BatchTemplate,
    ) -> FrameTemplate {
        assert!((PRODUCE_VERSION_MIN..=PRODUCE_VERSION_MAX).contains(&version));
        let (topic, transactional_id) = (topic.to_owned(), None);
        let head = RequestHead { topic, transactional_id, client_id, acks, timeout_ms, version };
        FrameTemplate::around(head, batch)
    }

    /// The same request around another batch.
    #[must_use]
    pub fn with_batch(&self, batch: &BatchTemplate) -> FrameTemplate {
        FrameTemplate::around(self.head.clone(), batch)
    }

    /// The same request around `batch` as part of the transactions of `transactional_id`.
    #[must_use]
    pub fn with_transactional_id(
        &self,
        transactional_id: &str,
        batch: &BatchTemplate,
    ) -> FrameTemplate {
        let transactional_id = Some(transactional_id.to_owned());
        FrameTemplate::around(RequestHead { transactional_id, ..self.head.clone() }, batch)
    }

    fn around(head: RequestHead, batch: &BatchTemplate) -> FrameTemplate {
        let RequestHead { ref topic, ref transactional_id, client_id, .. } = head;
        let RequestHead { acks, timeout_ms, version, .. } = head;
        let mut out: Vec<u8> = Vec::with_capacity(batch.bytes().len() + 512);
        out.put_i32(0);
        out.put_i16(PRODUCE_KEY);
        out.put_i16(version);
        out.put_i32(0); // correlation id
        out.put_i16(i16::try_from(client_id.len()).expect("client id is short"));
        out.extend_from_slice(client_id.as_bytes());
        out.push(0); // header tags
        match transactional_id {
            None => out.push(0),
            Some(id) => put_compact_string(&mut out, id),
        }
        out.put_i16(acks);
        out.put_i32(timeout_ms);
        out.push(2); // one topic
        put_compact_string(&mut out, topic);
        let at_topic = out.len() - topic.len();
        out.push(2); // one partition
        let at_partition = out.len();
        out.put_i32(0);
        let batch_len = u32::try_from(batch.bytes().len()).expect("batch is under 1 GiB");
        varint::write_unsigned(&mut out, batch_len + 1);
        let at_batch = out.len();
        out.extend_from_slice(batch.bytes());
        if transactional_id.is_some() {
            out[at_batch + AT_ATTRIBUTES_LOW] |= TRANSACTIONAL_BIT; // the CRC comes with each send
        }
        out.extend_from_slice(&[0, 0, 0]); // tags of partition, topic, request
        let frame_len = i32::try_from(out.len() - 4).expect("frame is under 2 GiB");
        out[..4].copy_from_slice(&frame_len.to_be_bytes());

        let stamp_at = batch.stamp_at().map(|at| at_batch + at);
        let head_end = stamp_at.map_or(at_batch + 61, |at| at + STAMP_BYTES);
        let crc = CrcTail::new(&out[head_end..at_batch + batch.bytes().len()]);
        let frame = BytesMut::from(&out[..]);
        FrameTemplate { frame, head, at_topic, at_partition, at_batch, head_end, stamp_at, crc }
    }

    /// The frame; every buffer in use is a copy of it.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Makes `frame`, a copy of the template, ready for one send.
    #[inline]
    pub fn patch(&self, frame: &mut [u8], send: &Send) {
        debug_assert_eq!(frame.len(), self.frame.len());
        put(frame, AT_CORRELATION, &send.correlation_id.to_be_bytes());
        put(frame, self.at_partition, &send.partition.to_be_bytes());
        let batch = self.at_batch;
        put(frame, batch + 27, &send.wall_ms.to_be_bytes()); // base timestamp
        put(frame, batch + 35, &send.wall_ms.to_be_bytes()); // max timestamp: all deltas are 0
        if let Some((identity, sequence)) = send.identity {
            put(frame, batch + 43, &identity.id.to_be_bytes());
            put(frame, batch + 51, &identity.epoch.to_be_bytes());
            put(frame, batch + 53, &sequence.to_be_bytes());
        }
        if let Some(at) = self.stamp_at {
            put(frame, at, &send.stamp.encode());
        }
        let crc = self.crc.crc_after(&frame[batch + 21..self.head_end]);
        put(frame, batch + 17, &crc.to_be_bytes());
    }

    /// Addresses `frame` to another topic, whose name must be as long as the template's.
    #[inline]
    pub fn patch_topic(&self, frame: &mut [u8], topic: Option<&str>) {
        if let Some(topic) = topic {
            debug_assert_eq!(topic.len(), self.head.topic.len());
            put(frame, self.at_topic, topic.as_bytes());
        }
    }
}

#[inline]
fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
}

pub(crate) fn put_compact_string(out: &mut Vec<u8>, text: &str) {
    let len = u32::try_from(text.len()).expect("names are short");
    varint::write_unsigned(out, len + 1);
    out.extend_from_slice(text.as_bytes());
}

/// The answer to one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// Partition index.
    pub partition: i32,
    /// Kafka's error code; 0 is success.
    pub error: i16,
    /// Offset of the batch's first record.
    pub base_offset: i64,
}

/// Correlation id of a response frame (without its length prefix).
pub fn correlation_id(frame: &[u8]) -> Result<i32, Malformed> {
    Cursor::new(frame).i32()
}

/// Reads a Produce response v9 to v12 (frame without its length prefix) that answers one batch.
pub fn parse_response(frame: &[u8]) -> Result<Acked, Malformed> {
    let mut cursor = Cursor::new(frame);
    cursor.i32()?; // correlation id
    cursor.skip_tags()?;
    if cursor.compact_count()? != 1 {
        return Err(Malformed);
    }
    cursor.compact_bytes()?;
    if cursor.compact_count()? != 1 {
        return Err(Malformed);
    }
    Ok(Acked { partition: cursor.i32()?, error: cursor.i16()?, base_offset: cursor.i64()? })
}
