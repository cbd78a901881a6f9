//! A batch that a producer sends again and again: built once by the broker library's own builder,
//! with a known place for the stamp. Which batches a run has is [`super::pool`]'s.

use std::fmt;

use bytes::Bytes;
use thalweg::base::crc::crc32c;
use thalweg::record::{BATCH_HEADER_BYTES, BatchBuilder, Compression, decompress};

use super::stamp::{STAMP_BYTES, Stamp};
use crate::load::schedule::Random;

/// What a batch is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchShape {
    /// Records in it.
    pub records: u32,
    /// Bytes of each record's value; there is no key.
    pub record_bytes: usize,
    /// Codec of the batch.
    pub compression: Compression,
    /// Its level, where it has levels and the default is not wanted.
    pub level: Option<i32>,
    /// Part of each value that is random; the rest is one repeated byte. 1.0 does not compress.
    pub entropy: f64,
}

/// What a batch is made of, record by record.
#[derive(Clone, Debug)]
pub struct BatchContent {
    /// Bytes of each value.
    pub values: Vec<usize>,
    /// The key of each record; empty if they have none.
    pub keys: Vec<Vec<u8>>,
    /// Codec of the batch.
    pub compression: Compression,
    /// See [`BatchShape::level`].
    pub level: Option<i32>,
    /// See [`BatchShape::entropy`].
    pub entropy: f64,
    /// Equal seeds give equal bytes.
    pub seed: u64,
}

/// A built batch.
#[derive(Clone)]
pub struct BatchTemplate {
    bytes: Bytes,
    stamp_at: Option<usize>,
    records: u32,
    value_bytes: u64,
    compression: Compression,
}

/// A batch that cannot be built.
#[derive(Debug)]
pub struct UnbuildableBatch(pub String);

impl fmt::Display for UnbuildableBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnbuildableBatch {}

impl BatchTemplate {
    /// Builds a batch of `shape`. The same shape gives the same bytes.
    pub fn build(shape: BatchShape) -> Result<BatchTemplate, UnbuildableBatch> {
        BatchTemplate::of(&BatchContent {
            values: vec![shape.record_bytes; shape.records as usize],
            keys: Vec::new(),
            compression: shape.compression,
            level: shape.level,
            entropy: shape.entropy,
            seed: 0x7468_616c_7765_6721,
        })
    }

    /// Builds a batch of `content`.
    pub fn of(content: &BatchContent) -> Result<BatchTemplate, UnbuildableBatch> {
        let value_bytes: usize = content.values.iter().sum();
        if content.values.is_empty() || value_bytes > 512 << 20 {
            return Err(UnbuildableBatch("a batch holds 1 record to 512 MiB of values".to_owned()));
        }
        let mut random = Random::new(content.seed);
        let mut builder = BatchBuilder::new(content.compression, 0);
        builder.level(content.level);
        let mut value = Vec::new();
        for (idx, &len) in content.values.iter().enumerate() {
            value.clear();
            value.resize(len, b'.');
            fill(&mut value, content.entropy, &mut random);
            if idx == 0 && len >= STAMP_BYTES {
                // Random, so that a codec leaves it as it is and refers to it nowhere else.
                for chunk in value[..STAMP_BYTES].chunks_mut(8) {
                    chunk.copy_from_slice(&random.next_u64().to_le_bytes()[..chunk.len()]);
                }
            }
            builder.append(0, content.keys.get(idx).map(Vec::as_slice), Some(&value), &[]);
        }
        let bytes = builder
            .build()
            .map_err(|error| UnbuildableBatch(format!("the batch cannot be built: {error}")))?;
        let mut template = BatchTemplate {
            bytes,
            stamp_at: None,
            records: content.values.len() as u32,
            value_bytes: value_bytes as u64,
            compression: content.compression,
        };
        if content.values[0] >= STAMP_BYTES {
            let key_bytes: usize = content.keys.iter().map(Vec::len).sum();
            template.stamp_at = template.find_stamp(key_bytes);
        }
        Ok(template)
    }

    /// A batch of `shape` that was built elsewhere and carries no stamp.
    #[must_use]
    pub fn unstamped(bytes: Bytes, shape: BatchShape) -> BatchTemplate {
        BatchTemplate {
            bytes,
            stamp_at: None,
            records: shape.records,
            value_bytes: u64::from(shape.records) * shape.record_bytes as u64,
            compression: shape.compression,
        }
    }

    /// The batch.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the stamp lies from the batch's start. `None` where the values are too short for it,
    /// or the codec (gzip, mostly zstd) does not leave it readable; then end-to-end latency is
    /// taken from the batch's timestamp, in ms.
    #[must_use]
    pub fn stamp_at(&self) -> Option<usize> {
        self.stamp_at
    }

    /// Records in it.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Bytes of record values in it.
    #[must_use]
    pub fn value_bytes(&self) -> u64 {
        self.value_bytes
    }

    /// Finds the first value's head in the batch and proves, by decoding a patched copy, that
    /// changing it there changes nothing else.
    fn find_stamp(&self, key_bytes: usize) -> Option<usize> {
        let limit = self.value_bytes as usize + key_bytes + self.records as usize * 32;
        let plain = self.plain_records(&self.bytes, limit)?;
        // The first record: length, attributes, two deltas, key length, value length, value.
        let value_at = first_value_at(&plain)?;
        let placeholder: [u8; STAMP_BYTES] =
            plain.get(value_at..value_at + STAMP_BYTES)?.try_into().ok()?;
        let body = &self.bytes[BATCH_HEADER_BYTES..];
        let at = body.windows(STAMP_BYTES).position(|window| window == placeholder)?
            + BATCH_HEADER_BYTES;

        let stamp = Stamp { run: 0xA5, lane: 0x5A5A, sequence: 0x1234, intended_ns: u64::MAX / 3 };
        let mut patched = self.bytes.to_vec();
        patched[at..at + STAMP_BYTES].copy_from_slice(&stamp.encode());
        let decoded = self.plain_records(&patched, limit)?;
        let mut expected = plain;
        expected[value_at..value_at + STAMP_BYTES].copy_from_slice(&stamp.encode());
        (decoded == expected).then_some(at)
    }

    fn plain_records(&self, batch: &[u8], limit: usize) -> Option<Vec<u8>> {
        let body = batch.get(BATCH_HEADER_BYTES..)?;
        if self.compression == Compression::None {
            return Some(body.to_vec());
        }
        decompress(self.compression, body, limit).ok()
    }
}

/// Makes the first part of `value` random. Whole 8-byte words, so that a value of any length works.
pub fn fill(value: &mut [u8], entropy: f64, random: &mut Random) {
    let random_bytes = (value.len() as f64 * entropy.clamp(0.0, 1.0)).round() as usize;
    for chunk in value[..random_bytes].chunks_mut(8) {
        let word = random.next_u64().to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

fn first_value_at(plain: &[u8]) -> Option<usize> {
    use thalweg::base::varint::{read_signed, read_signed_long};
    let mut at = read_signed(plain)?.1 + 1; // record length, attributes
    at += read_signed_long(plain.get(at..)?)?.1; // timestamp delta
    at += read_signed(plain.get(at..)?)?.1; // offset delta
    let (key_len, len) = read_signed(plain.get(at..)?)?;
    at += len + usize::try_from(key_len.max(0)).ok()?;
    at += read_signed(plain.get(at..)?)?.1; // value length
    Some(at)
}

/// Whether a batch's CRC field matches its bytes.
#[must_use]
pub fn crc_matches(batch: &[u8]) -> bool {
    let (Some(stored), Some(covered)) = (batch.get(17..21), batch.get(21..)) else {
        return false;
    };
    stored == crc32c(covered).to_be_bytes()
}
