//! Record batches by hand, with every field free to be wrong and a CRC that is right.

use thalweg::base::crc::crc32c;
use thalweg::base::varint::{write_signed, write_signed_long};

/// A batch to be written out. [`RawBatch::of`] makes a legal one.
#[derive(Clone)]
pub struct RawBatch {
    pub base_offset: i64,
    /// `None`: what the bytes make it.
    pub length: Option<i32>,
    pub leader_epoch: i32,
    pub magic: i8,
    /// `None`: what the bytes make it.
    pub crc: Option<u32>,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
    pub payload: Vec<u8>,
}

impl RawBatch {
    /// A legal batch of `count` records with keys and values.
    pub fn of(count: i32) -> RawBatch {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("the clock is past 1970");
        let now = i64::try_from(now.as_millis()).expect("the clock is before the year 292 M");
        let payload = (0..count).flat_map(|delta| record(delta, Some(b"key"), b"value")).collect();
        RawBatch {
            base_offset: 0,
            length: None,
            leader_epoch: 0,
            magic: 2,
            crc: None,
            attributes: 0,
            last_offset_delta: count - 1,
            base_timestamp: now,
            max_timestamp: now,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count,
            payload,
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut covered = Vec::new();
        covered.extend_from_slice(&self.attributes.to_be_bytes());
        covered.extend_from_slice(&self.last_offset_delta.to_be_bytes());
        covered.extend_from_slice(&self.base_timestamp.to_be_bytes());
        covered.extend_from_slice(&self.max_timestamp.to_be_bytes());
        covered.extend_from_slice(&self.producer_id.to_be_bytes());
        covered.extend_from_slice(&self.producer_epoch.to_be_bytes());
        covered.extend_from_slice(&self.base_sequence.to_be_bytes());
        covered.extend_from_slice(&self.count.to_be_bytes());
        covered.extend_from_slice(&self.payload);
        let length = i32::try_from(covered.len() + 9).expect("test batches are small");
        let mut out = Vec::new();
        out.extend_from_slice(&self.base_offset.to_be_bytes());
        out.extend_from_slice(&self.length.unwrap_or(length).to_be_bytes());
        out.extend_from_slice(&self.leader_epoch.to_be_bytes());
        out.extend_from_slice(&self.magic.to_be_bytes());
        out.extend_from_slice(&self.crc.unwrap_or_else(|| crc32c(&covered)).to_be_bytes());
        out.extend_from_slice(&covered);
        out
    }
}

/// One legal record.
pub fn record(offset_delta: i32, key: Option<&[u8]>, value: &[u8]) -> Vec<u8> {
    framed(&record_body(offset_delta, key, value, &[0]))
}

/// A record with a given header section (its count and content).
pub fn record_with_headers(offset_delta: i32, headers: &[u8]) -> Vec<u8> {
    framed(&record_body(offset_delta, Some(b"key"), b"value", headers))
}

fn record_body(offset_delta: i32, key: Option<&[u8]>, value: &[u8], headers: &[u8]) -> Vec<u8> {
    let mut body = vec![0]; // attributes
    write_signed_long(&mut body, 0);
    write_signed(&mut body, offset_delta);
    match key {
        None => write_signed(&mut body, -1),
        Some(key) => {
            write_signed(&mut body, len_of(key));
            body.extend_from_slice(key);
        }
    }
    write_signed(&mut body, len_of(value));
    body.extend_from_slice(value);
    body.extend_from_slice(headers);
    body
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_signed(&mut out, len_of(body));
    out.extend_from_slice(body);
    out
}

fn len_of(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).expect("test records are small")
}

/// A varint, for header sections.
pub fn varint(value: i32) -> Vec<u8> {
    let mut out = Vec::new();
    write_signed(&mut out, value);
    out
}
