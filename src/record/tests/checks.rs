//! What a produced batch must be; numbers are the bad-input cases of the reliability list.

use bytes::{Bytes, BytesMut};

use super::super::*;
use super::{check, patched, resealed, sample};
use crate::base::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

fn plain() -> Bytes {
    sample(Compression::None, 3)
}

fn is_corrupt(result: Result<RecordBatch, BatchError>) -> bool {
    matches!(result, Err(BatchError::Corrupt { .. }))
}

fn is_invalid(result: Result<RecordBatch, BatchError>) -> bool {
    matches!(result, Err(BatchError::Invalid { .. }))
}

#[test]
fn a_built_batch_passes_and_says_what_was_put_in() {
    let mut builder = BatchBuilder::new(Compression::None, 500);
    builder.append(700, None, Some(b"a"), &[]).append(600, Some(b"k"), None, &[]);
    builder.producer(ProducerId(7), ProducerEpoch(2), Sequence(i32::MAX)).transactional();
    let batch = check(builder.build().unwrap()).unwrap();
    assert_eq!((batch.record_count(), batch.last_offset_delta()), (2, 1));
    assert_eq!((batch.base_timestamp(), batch.max_timestamp()), (500, 700));
    assert!(batch.is_transactional() && !batch.is_control());
    let producer = batch.producer().unwrap();
    assert_eq!((producer.id, producer.epoch), (ProducerId(7), ProducerEpoch(2)));
    assert_eq!((producer.base_sequence.0, producer.last_sequence.0), (i32::MAX, 0));
}

#[test]
fn case_59_60_a_partition_has_exactly_one_batch() {
    assert!(is_invalid(check(Bytes::new())));
    let twice = [plain(), plain()].concat();
    assert!(is_invalid(check(Bytes::from(twice))));
    let mut trailing = plain().to_vec();
    trailing.push(0);
    assert!(is_invalid(check(Bytes::from(trailing))));
}

#[test]
fn case_61_only_magic_2_is_accepted() {
    for magic in [0, 1, 3, 0xff] {
        assert!(is_invalid(check(patched(&plain(), 16, &[magic]))));
    }
}

#[test]
fn case_62_63_the_length_must_fit_the_bytes() {
    let batch = plain();
    for length in [48, 0, -1, i32::MIN, i32::MAX, batch.len() as i32 - 11] {
        let mut bytes = BytesMut::from(batch.as_ref());
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        assert!(is_corrupt(check(bytes.freeze())), "{length}");
    }
    for len in 1..batch.len() {
        assert!(is_corrupt(check(batch.slice(..len))), "{len}");
    }
}

#[test]
fn case_64_every_flipped_bit_under_the_crc_is_noticed() {
    let batch = plain();
    for at in 17..batch.len() {
        let mut bytes = BytesMut::from(batch.as_ref());
        bytes[at] ^= 0x10;
        assert!(is_corrupt(check(bytes.freeze())), "{at}");
    }
}

#[test]
fn case_65_66_67_68_the_count_must_be_possible() {
    for (count, last_delta) in
        [(i32::MAX, i32::MAX - 1), (0, -1), (0, 0), (-1, -2), (2, 2), (3, 1), (3, -1), (4, 2)]
    {
        let batch = patched(&plain(), 23, &i32::to_be_bytes(last_delta));
        assert!(is_invalid(check(patched(&batch, 57, &i32::to_be_bytes(count)))));
    }
}

#[test]
fn case_75_unknown_codecs_are_named_as_such() {
    for codec_id in 5..8u8 {
        let error = check(patched(&plain(), 22, &[codec_id])).unwrap_err();
        assert_eq!(error, BatchError::UnsupportedCompression { codec_id });
    }
}

#[test]
fn case_82_bits_of_the_broker_are_refused_from_clients() {
    assert!(is_invalid(check(patched(&plain(), 22, &[0x20]))));
    assert!(is_invalid(check(patched(&plain(), 22, &[0x40]))));
    assert!(is_invalid(check(patched(&plain(), 22, &[0x10]))), "transaction without producer");
}

#[test]
fn case_83_85_a_producer_id_needs_epoch_and_sequence() {
    let stamped = |id: i64, epoch: i16, sequence: i32| {
        let batch = patched(&plain(), 43, &id.to_be_bytes());
        let batch = patched(&batch, 51, &epoch.to_be_bytes());
        check(patched(&batch, 53, &sequence.to_be_bytes()))
    };
    assert!(stamped(0, 0, 0).is_ok());
    assert!(stamped(-1, -1, -1).is_ok());
    assert!(is_invalid(stamped(5, 0, -1)));
    assert!(is_invalid(stamped(-2, 0, 0)));
    assert_eq!(stamped(5, -1, 0).unwrap_err(), BatchError::InvalidProducerEpoch);
}

#[test]
fn case_90_offset_and_epoch_of_the_client_are_overwritten() {
    let batch = check(patched(&plain(), 0, &77i64.to_be_bytes())).unwrap();
    let mut dst = vec![0xee; batch.len_bytes()];
    let stamp = Stamp {
        base_offset: Offset(1_000_000),
        leader_epoch: LeaderEpoch(9),
        log_append_time_ms: None,
    };
    batch.copy_front(&mut dst, &batch.stamped(&stamp));
    let (stored, rest) = StoredBatch::split_first(&dst).unwrap();
    assert!(rest.is_empty() && stored.crc_matches());
    assert_eq!(
        (stored.base_offset(), stored.last_offset()),
        (Offset(1_000_000), Offset(1_000_002))
    );
    assert_eq!(stored.leader_epoch(), LeaderEpoch(9));
    assert_eq!(&dst[16..], &batch.bytes()[16..]);
}

#[test]
fn log_append_time_is_stamped_with_a_crc_that_fits_small_and_large_batches() {
    for count in [1, 3, 2000] {
        let batch = check(sample(Compression::None, count)).unwrap();
        let mut dst = vec![0; batch.len_bytes()];
        let stamp = Stamp {
            base_offset: Offset(5),
            leader_epoch: LeaderEpoch(1),
            log_append_time_ms: Some(123_456),
        };
        batch.copy_front(&mut dst, &batch.stamped(&stamp));
        let (stored, _) = StoredBatch::split_first(&dst).unwrap();
        assert!(stored.crc_matches(), "{count} records");
        assert_eq!(stored.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(stored.max_timestamp(), 123_456);
        let mut records = records(stored, 0).unwrap();
        while let Some(record) = records.next_record() {
            assert_eq!(record.unwrap().timestamp(), 123_456);
        }
        let corrected = batch.with_max_timestamp(99);
        assert!(corrected.as_stored().crc_matches() && corrected.max_timestamp() == 99);
    }
    assert!(check(sample(Compression::None, 2000)).unwrap().len_bytes() > 40_000);
}

#[test]
fn what_compaction_leaves_is_legal_in_a_log_and_not_from_a_client() {
    // An emptied batch: count 0, last offset delta kept, no payload.
    let mut emptied = BytesMut::from(&sample(Compression::Gzip, 3)[..61]);
    emptied[57..61].copy_from_slice(&0i32.to_be_bytes());
    let emptied = resealed(emptied);
    assert!(is_invalid(check(emptied.clone())));
    let unchecked = UncheckedBatch::from_produce(emptied.clone()).unwrap();
    assert_eq!(unchecked.check_replica().unwrap().record_count(), 0);
    let log = [plain(), emptied, plain()].concat();
    let batches: Vec<_> = stored_batches(&log).collect::<Result<_, _>>().unwrap();
    assert_eq!(batches.iter().map(StoredBatch::record_count).collect::<Vec<_>>(), [3, 0, 3]);
    assert_eq!(batches[1].last_offset(), Offset(2));
    assert!(records(batches[1], 0).unwrap().next_record().is_none());
    assert_eq!(find_max_timestamp(batches[1], 0), Ok(None));
}

#[test]
fn a_walk_over_a_log_ends_at_the_first_broken_length() {
    let log = [plain(), plain()].concat();
    for len in 1..log.len() {
        let results: Vec<_> = stored_batches(&log[..len]).collect();
        assert_eq!(results.iter().filter(|one| one.is_ok()).count(), len / plain().len());
        assert_eq!(results.iter().any(Result::is_err), len % plain().len() != 0);
    }
}
