//! Bytes from a produce request or a damaged log, through everything that opens a record batch.
//!
//! Input: two bytes of limit (in 64-byte steps), then the batch. Its length, magic and CRC are made
//! to fit, since no fuzzer guesses a CRC; the bytes as they came go through first.
//!
//! Run, from the repository's root (the seeds are read, new inputs go to the first folder):
//! ```text
//! mkdir -p tools/fuzz/corpus/record_batch
//! cargo +nightly fuzz run --fuzz-dir tools/fuzz record_batch \
//!   tools/fuzz/corpus/record_batch tools/fuzz/seeds/record_batch \
//!   -- -max_total_time=600 -max_len=65536 -malloc_limit_mb=64
//! ```
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use thalweg::base::crc::crc32c;
use thalweg::base::ids::{LeaderEpoch, Offset};
use thalweg::record::{
    BATCH_HEADER_BYTES, Compression, RecordBatch, Retained, Stamp, StoredBatch, UncheckedBatch,
    ValidateOptions, Verdict, decompress, find_max_timestamp, find_timestamp, records, stored_batches,
};

fuzz_target!(|input: &[u8]| {
    let Some((limit, bytes)) = input.split_first_chunk::<2>() else { return };
    let limit = usize::from(u16::from_le_bytes(*limit)) * 64;
    exercise(Bytes::copy_from_slice(bytes), limit);
    if bytes.len() >= BATCH_HEADER_BYTES {
        exercise(sealed(bytes), limit);
    }
    for codec in Compression::ALL {
        if let Ok(plain) = decompress(codec, bytes, limit) {
            assert!(plain.len() <= limit);
            assert!(plain.capacity() <= (limit + 1).max(4096));
        }
    }
});

/// The bytes with a length, magic and CRC that fit.
fn sealed(bytes: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(bytes);
    let length = u32::try_from(bytes.len() - 12).unwrap_or(0);
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

fn exercise(bytes: Bytes, limit: usize) {
    for batch in stored_batches(&bytes).flatten() {
        read(batch, limit);
    }
    let Ok(unchecked) = UncheckedBatch::from_produce(bytes) else { return };
    let _ = unchecked.clone().check_replica();
    if let Ok(batch) = unchecked.check() {
        take(&batch, limit);
    }
}

fn read(batch: StoredBatch<'_>, limit: usize) {
    let _ = (batch.producer(), batch.crc_matches());
    let _ = find_timestamp(batch, batch.max_timestamp(), limit);
    let _ = find_max_timestamp(batch, limit);
    keep_every_other(batch, limit);
    let Ok(mut records) = records(batch, limit) else { return };
    while let Some(record) = records.next_record() {
        if let Ok(record) = record {
            let _ = record.headers().count();
        }
    }
}

/// What compaction does with a batch: what it gives is sound and has what was to stay.
fn keep_every_other(batch: StoredBatch<'_>, limit: usize) {
    let (mut seen, mut kept) = (0, 0);
    let retained = batch.retain(7, limit, |record| {
        seen += 1;
        match (seen % 2, record.value()) {
            (0, _) => Verdict::Drop,
            (_, None) => {
                kept += 1;
                Verdict::KeepForNow
            }
            _ => {
                kept += 1;
                Verdict::Keep
            }
        }
    });
    let Ok(Retained::Some(changed)) = retained else { return };
    assert!(changed.as_stored().crc_matches());
    let mut walk = records(changed.as_stored(), usize::MAX).expect("it was just written");
    while let Some(record) = walk.next_record() {
        record.expect("it was just written");
        kept -= 1;
    }
    assert_eq!(kept, 0);
}

/// What a leader does with a batch that passed the checks.
fn take(batch: &RecordBatch, limit: usize) {
    let mut log = vec![0; batch.len_bytes()];
    for log_append_time_ms in [None, Some(1)] {
        let stamp =
            Stamp { base_offset: Offset(5), leader_epoch: LeaderEpoch(1), log_append_time_ms };
        batch.copy_front(&mut log, &batch.stamped(&stamp));
        let (stored, rest) =
            StoredBatch::split_first(&log).expect("a stamped batch has its length");
        assert!(rest.is_empty() && stored.crc_matches());
        assert_eq!(stored.last_offset().0, 5 + i64::from(batch.last_offset_delta()));
    }
    let options = ValidateOptions {
        require_keys: false,
        decompressed_bytes_max: limit,
        timestamp_window_ms: Some((0, i64::MAX)),
    };
    let Ok(validated) = batch.validate_records(&options) else { return };
    // What validation accepts, every reader reads to the end, and finds the same newest record.
    let mut count = 0;
    let mut records = records(batch.as_stored(), limit).expect("it was opened before");
    while let Some(record) = records.next_record() {
        record.expect("it was walked before");
        count += 1;
    }
    assert_eq!(count, batch.record_count());
    let newest = find_max_timestamp(batch.as_stored(), limit).expect("it was walked before");
    let newest = newest.expect("it has records");
    assert_eq!(newest.1, validated.max_timestamp_ms);
    for codec in Compression::ALL {
        let Ok(packed) = batch.recompress(codec, limit) else { continue };
        let repacked = UncheckedBatch::from_produce(packed.bytes().clone())
            .and_then(UncheckedBatch::check)
            .expect("a recompressed batch is sound");
        assert_eq!(repacked.record_count(), count);
        let again = repacked
            .validate_records(&ValidateOptions { decompressed_bytes_max: usize::MAX, ..options });
        assert_eq!(again, Ok(validated));
    }
}
