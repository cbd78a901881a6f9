//! The tests of this module, by promise, and what they share.

mod checks;
mod codecs;
mod properties;
mod retain;
mod walk;

use bytes::{Bytes, BytesMut};

use crate::base::crc::crc32c;

use super::{BatchBuilder, Compression, RecordBatch, UncheckedBatch};

/// Checks bytes as a produce request's.
pub(super) fn check(bytes: Bytes) -> Result<RecordBatch, super::BatchError> {
    UncheckedBatch::from_produce(bytes)?.check()
}

/// A batch of `count` records: key `k<i>`, value `value <i>`, timestamps 1000, 1010, ...
pub(super) fn sample(compression: Compression, count: i64) -> Bytes {
    let mut builder = BatchBuilder::new(compression, 1000);
    for idx in 0..count {
        let (key, value) = (format!("k{idx}"), format!("value {idx} of many that look alike"));
        builder.append(
            1000 + 10 * idx,
            Some(key.as_bytes()),
            Some(value.as_bytes()),
            &[(b"h", Some(b"1")), (b"h", None)],
        );
    }
    builder.build().unwrap()
}

/// The batch with other bytes at `at`, and a CRC that fits them.
pub(super) fn patched(batch: &Bytes, at: usize, with: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(batch.as_ref());
    bytes[at..at + with.len()].copy_from_slice(with);
    resealed(bytes)
}

/// Length and CRC made to fit.
pub(super) fn resealed(mut bytes: BytesMut) -> Bytes {
    let len = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&len.to_be_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

/// The header of `batch` in front of other record bytes, with length and CRC made to fit.
pub(super) fn with_payload(batch: &Bytes, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(&batch[..61]);
    bytes.extend_from_slice(payload);
    resealed(bytes)
}
