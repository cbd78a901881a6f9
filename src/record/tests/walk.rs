//! Records, their validation, and look-ups by time.

use bytes::Bytes;

use super::super::*;
use super::{check, patched, sample, with_payload};
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::varint::{write_signed, write_signed_long};

const LIMIT: usize = 1 << 20;

const OPTIONS: ValidateOptions = ValidateOptions {
    require_keys: false,
    decompressed_bytes_max: LIMIT,
    timestamp_window_ms: None,
};

/// One record's bytes from its parts; `tail` stands where header count and headers belong.
fn record(offset_delta: i32, timestamp_delta: i64, key: Option<&[u8]>, tail: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    write_signed_long(&mut body, timestamp_delta);
    write_signed(&mut body, offset_delta);
    match key {
        Some(key) => {
            write_signed(&mut body, key.len() as i32);
            body.extend_from_slice(key);
        }
        None => write_signed(&mut body, -1),
    }
    write_signed(&mut body, 1);
    body.push(b'v');
    body.extend_from_slice(tail);
    let mut out = Vec::new();
    write_signed(&mut out, body.len() as i32);
    out.extend_from_slice(&body);
    out
}

/// A batch of three records with these record bytes.
fn three(payload: &[u8]) -> RecordBatch {
    check(with_payload(&sample(Compression::None, 3), payload)).unwrap()
}

fn verdict(payload: &[u8]) -> Result<ValidatedRecords, RecordError> {
    three(payload).validate_records(&OPTIONS)
}

fn good(offset_delta: i32) -> Vec<u8> {
    record(offset_delta, 0, Some(b"k"), &[0])
}

fn refused_at(payload: &[u8], index: i32) -> bool {
    let batch = three(payload);
    // What validation refuses never makes the reader panic, and mostly stops it too.
    let mut records = records(batch.as_stored(), LIMIT).unwrap();
    while records.next_record().is_some() {}
    matches!(verdict(payload), Err(RecordError::Record { batch_index, .. }) if batch_index == index)
}

#[test]
fn records_come_back_as_they_were_appended_with_every_codec() {
    for codec in Compression::ALL {
        let batch = check(sample(codec, 100)).unwrap();
        assert_eq!(batch.compression(), codec);
        let mut records = records(batch.as_stored(), LIMIT).unwrap();
        for idx in 0..100i64 {
            let record = records.next_record().unwrap().unwrap();
            assert_eq!(record.offset(), Offset(idx));
            assert_eq!(record.timestamp(), 1000 + 10 * idx);
            assert_eq!(record.key(), Some(format!("k{idx}").as_bytes()));
            let headers: Vec<_> = record.headers().collect();
            assert_eq!(headers, [(&b"h"[..], Some(&b"1"[..])), (b"h", None)], "duplicates stay");
        }
        assert!(records.next_record().is_none());
        let validated = batch.validate_records(&OPTIONS).unwrap();
        assert_eq!((validated.max_timestamp_ms, validated.max_timestamp_offset_delta), (1990, 99));
    }
}

#[test]
fn recompressing_keeps_the_records_and_changes_only_codec_length_and_crc() {
    let original = check(sample(Compression::Zstd, 100)).unwrap();
    let plain = check(sample(Compression::None, 100)).unwrap();
    for codec in Compression::ALL {
        let other = original.recompress(codec, LIMIT).unwrap();
        assert_eq!(check(other.bytes().clone()).unwrap().compression(), codec);
        let back = other.recompress(Compression::None, LIMIT).unwrap();
        assert_eq!(back.bytes(), plain.bytes());
    }
    let too_small = original.recompress(Compression::None, 100);
    assert_eq!(too_small.unwrap_err(), BatchError::TooLarge { bytes_max: 100 });
}

#[test]
fn case_69_offset_deltas_are_consecutive() {
    let payload = |deltas: [i32; 3]| deltas.map(good).concat();
    assert!(verdict(&payload([0, 1, 2])).is_ok());
    assert!(refused_at(&payload([1, 1, 2]), 0));
    assert!(refused_at(&payload([0, 0, 2]), 1));
    assert!(refused_at(&payload([0, 1, 3]), 2));
    assert!(refused_at(&payload([0, -1, 2]), 1));
}

#[test]
fn case_70_record_lengths_stay_within_the_batch() {
    let filler = [0; 32];
    for len in [-1, i32::MIN, 33, i32::MAX, 0, 5] {
        let mut payload = good(0);
        write_signed(&mut payload, len);
        payload.extend_from_slice(&filler);
        assert!(refused_at(&payload, 1), "{len}");
    }
    assert!(refused_at(&[0xff; 32], 0), "no varint at all");
}

#[test]
fn case_71_72_header_counts_and_keys_must_be_real() {
    let with_tail = |tail: &[u8]| [good(0), record(1, 0, None, tail), good(2)].concat();
    assert!(verdict(&with_tail(&[2, 2, b'h', 1])).is_ok(), "one header, null value");
    assert!(verdict(&with_tail(&[2, 0, 1])).is_ok(), "an empty header key is one");
    assert!(verdict(&with_tail(&[2, 4, 0xff, 0xfe, 0])).is_ok(), "case 73: key bytes are kept");
    for tail in [&[][..], &[1], &[2], &[2, 1, 1], &[2, 3, 0], &[2, 2, b'h', 3], &[2, 2, b'h', 64]] {
        assert!(refused_at(&with_tail(tail), 1), "{tail:?}");
    }
    let mut huge = Vec::new();
    write_signed(&mut huge, i32::MAX);
    assert!(refused_at(&with_tail(&huge), 1));
}

#[test]
fn case_74_nothing_is_left_behind_a_record_or_the_batch() {
    let payload = [good(0), record(1, 0, None, &[0, 7]), good(2)].concat();
    assert!(refused_at(&payload, 1));
    let payload = [good(0), good(1), good(2), good(3)].concat();
    assert!(matches!(verdict(&payload), Err(RecordError::Batch(BatchError::Invalid { .. }))));
    let payload = [good(0), good(1), vec![0; 16]].concat();
    assert!(refused_at(&payload, 2));
    // Enough bytes for three records by the header's rule, but only two are there.
    let long = [good(0), record(1, 0, Some(&[b'k'; 20]), &[0])].concat();
    assert!(refused_at(&long, 2));
}

#[test]
fn case_81_compressed_inside_compressed_is_no_record() {
    let inner = sample(Compression::Gzip, 3);
    let packed = compress(Compression::Gzip, &inner).unwrap();
    let batch = check(with_payload(&inner, &packed)).unwrap();
    assert!(batch.validate_records(&OPTIONS).is_err());
}

#[test]
fn case_87_timestamps_outside_the_window_are_refused_where_asked() {
    let payload =
        [record(0, 0, None, &[0]), record(1, 500, None, &[0]), record(2, -1001, None, &[0])];
    let batch = three(&payload.concat());
    let asked = |window| {
        batch.validate_records(&ValidateOptions { timestamp_window_ms: Some(window), ..OPTIONS })
    };
    assert!(asked((1000, 1500)).is_ok(), "-1 is no timestamp");
    let error = RecordError::Timestamp { batch_index: 1, timestamp_ms: 1500 };
    assert_eq!(asked((0, 1499)), Err(error));
    let mut stamped = batch.bytes().to_vec();
    let stamp =
        Stamp { base_offset: Offset(0), leader_epoch: LeaderEpoch(0), log_append_time_ms: Some(1) };
    batch.copy_front(&mut stamped, &batch.stamped(&stamp));
    let stamped = check(Bytes::from(stamped)).unwrap();
    let options = ValidateOptions { timestamp_window_ms: Some((5, 6)), ..OPTIONS };
    assert_eq!(stamped.validate_records(&options).unwrap().max_timestamp_ms, 1);
}

#[test]
fn case_88_keys_are_required_where_asked() {
    let payload = [good(0), record(1, 0, None, &[0]), good(2)].concat();
    let options = ValidateOptions { require_keys: true, ..OPTIONS };
    let error = three(&payload).validate_records(&options).unwrap_err();
    assert!(matches!(error, RecordError::Record { batch_index: 1, .. }));
    assert!(verdict(&payload).is_ok());
}

#[test]
fn a_time_is_found_exactly_inside_compressed_batches() {
    for codec in Compression::ALL {
        let bytes = patched(&sample(codec, 100), 0, &500i64.to_be_bytes());
        let batch = check(bytes).unwrap();
        let find = |target| find_timestamp(batch.as_stored(), target, LIMIT).unwrap();
        assert_eq!(find(0), Some((Offset(500), 1000)));
        assert_eq!(find(1001), Some((Offset(501), 1010)));
        assert_eq!(find(1990), Some((Offset(599), 1990)));
        assert_eq!(find(1991), None);
        let from = |from| find_timestamp_from(batch.as_stored(), 0, Offset(from), LIMIT).unwrap();
        assert_eq!(from(550), Some((Offset(550), 1500)));
        assert_eq!(from(600), None);
        let max = find_max_timestamp(batch.as_stored(), LIMIT).unwrap();
        assert_eq!(max, Some((Offset(599), 1990)));
    }
}

#[test]
fn the_first_of_several_largest_timestamps_is_found_whatever_the_header_claims() {
    let payload = [record(0, 5, None, &[0]), record(1, 9, None, &[0]), record(2, 9, None, &[0])];
    let batch = three(&payload.concat());
    assert_ne!(batch.max_timestamp(), 1009);
    assert_eq!(find_max_timestamp(batch.as_stored(), 0), Ok(Some((Offset(1), 1009))));
    let validated = batch.validate_records(&OPTIONS).unwrap();
    assert_eq!((validated.max_timestamp_ms, validated.max_timestamp_offset_delta), (1009, 1));
}
