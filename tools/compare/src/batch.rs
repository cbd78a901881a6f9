//! Record batches of magic 2, right or wrong in any field.

use bytes::Bytes;

/// A batch to be encoded; `length` and `crc` are computed unless they are given.
#[derive(Clone, Debug)]
pub struct Batch {
    pub base_offset: i64,
    pub length: Option<i32>,
    pub leader_epoch: i32,
    pub magic: i8,
    pub crc: Option<u32>,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
    /// Records as they stand in the batch (compressed, if the attributes say so).
    pub payload: Vec<u8>,
}

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

impl Batch {
    /// Uncompressed records without keys, headers and producer, all at `timestamp`.
    pub fn of(timestamp: i64, values: &[&[u8]]) -> Batch {
        let records: Vec<Record> = values
            .iter()
            .map(|value| Record { value: Some(value.to_vec()), ..Record::default() })
            .collect();
        Batch::of_records(timestamp, &records)
    }

    /// Uncompressed records; each record's timestamp is `timestamp` plus its delta.
    pub fn of_records(timestamp: i64, records: &[Record]) -> Batch {
        let mut payload = Vec::new();
        for (delta, record) in records.iter().enumerate() {
            record.encode(delta as i64, &mut payload);
        }
        let latest = records.iter().map(|record| record.timestamp_delta).max().unwrap_or(0);
        Batch {
            base_offset: 0,
            length: None,
            leader_epoch: -1,
            magic: 2,
            crc: None,
            attributes: 0,
            last_offset_delta: records.len() as i32 - 1,
            base_timestamp: timestamp,
            max_timestamp: timestamp + latest,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: records.len() as i32,
            payload,
        }
    }

    /// The same, as an idempotent producer sends it.
    pub fn by(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Batch {
        self.producer_id = producer_id;
        self.producer_epoch = producer_epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// The same with its records in a gzip member of stored blocks.
    pub fn gzip(mut self) -> Batch {
        self.payload = gzip_stored(&self.payload);
        self.attributes |= 1;
        self
    }

    pub fn encode(&self) -> Bytes {
        let mut checked = Vec::new();
        checked.extend(self.attributes.to_be_bytes());
        checked.extend(self.last_offset_delta.to_be_bytes());
        checked.extend(self.base_timestamp.to_be_bytes());
        checked.extend(self.max_timestamp.to_be_bytes());
        checked.extend(self.producer_id.to_be_bytes());
        checked.extend(self.producer_epoch.to_be_bytes());
        checked.extend(self.base_sequence.to_be_bytes());
        checked.extend(self.record_count.to_be_bytes());
        checked.extend(&self.payload);
        let length = self.length.unwrap_or(9 + checked.len() as i32);
        let mut batch = Vec::with_capacity(21 + checked.len());
        batch.extend(self.base_offset.to_be_bytes());
        batch.extend(length.to_be_bytes());
        batch.extend(self.leader_epoch.to_be_bytes());
        batch.extend(self.magic.to_be_bytes());
        batch.extend(self.crc.unwrap_or_else(|| crc32c::crc32c(&checked)).to_be_bytes());
        batch.extend(checked);
        Bytes::from(batch)
    }
}

/// A record to be encoded; `offset_delta` is its place unless given.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub offset_delta: Option<i64>,
    pub timestamp_delta: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Instead of the real number of headers.
    pub header_count: Option<i64>,
    /// Added to the record's real length.
    pub length_error: i64,
}

impl Record {
    fn encode(&self, place: i64, payload: &mut Vec<u8>) {
        let mut record = vec![0];
        varint(self.timestamp_delta, &mut record);
        varint(self.offset_delta.unwrap_or(place), &mut record);
        nullable(self.key.as_deref(), &mut record);
        nullable(self.value.as_deref(), &mut record);
        varint(self.header_count.unwrap_or(self.headers.len() as i64), &mut record);
        for (key, value) in &self.headers {
            nullable(Some(key), &mut record);
            nullable(value.as_deref(), &mut record);
        }
        varint(record.len() as i64 + self.length_error, payload);
        payload.extend(record);
    }
}

fn nullable(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    varint(bytes.map_or(-1, |bytes| bytes.len() as i64), out);
    out.extend(bytes.unwrap_or_default());
}

fn varint(value: i64, out: &mut Vec<u8>) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// A gzip member (RFC 1952) of stored blocks (RFC 1951, 3.2.4): valid, and needs no compressor.
fn gzip_stored(bytes: &[u8]) -> Vec<u8> {
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks = bytes.chunks(65_535).count();
    for (index, block) in bytes.chunks(65_535).enumerate() {
        let len = block.len() as u16;
        member.push(u8::from(index + 1 == blocks));
        member.extend(len.to_le_bytes());
        member.extend((!len).to_le_bytes());
        member.extend(block);
    }
    member.extend(crc32(bytes).to_le_bytes());
    member.extend((bytes.len() as u32).to_le_bytes());
    member
}

/// CRC-32 of RFC 1952, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_has_its_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_batch_has_the_length_that_it_says() {
        let batch = Batch::of(1, &[b"a", b"b"]).gzip().encode();
        let length = i32::from_be_bytes(batch[8..12].try_into().expect("four bytes"));
        assert_eq!(length as usize + 12, batch.len());
    }
}
