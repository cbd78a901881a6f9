//! Whether a batch may enter a log at all, as far as the batch alone and the topic's configuration
//! can tell: everything but the producer's sequence.

use crate::record::{
    BatchError, RecordBatch, RecordError, TimestampType, UncheckedBatch, ValidateOptions,
};

use super::config::PartitionConfig;

/// Why a batch may not enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// Larger than `max.message.bytes` (MESSAGE_TOO_LARGE, 10; Java splits the batch).
    #[error("the batch has {bytes} bytes, more than max.message.bytes={bytes_max}")]
    TooLarge {
        /// The whole batch.
        bytes: usize,
        /// The topic's limit.
        bytes_max: usize,
    },
    /// Larger than a segment (RECORD_LIST_TOO_LARGE, 18).
    #[error("the batch has {bytes} bytes, more than segment.bytes={bytes_max}")]
    LargerThanSegment {
        /// The whole batch.
        bytes: usize,
        /// The topic's segment size.
        bytes_max: u64,
    },
    /// The batch is broken or says what a client may not say.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// One of its records is, or has no key where one is needed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A timestamp outside the topic's window (INVALID_TIMESTAMP, 32).
    #[error("timestamp {timestamp_ms} is not within {earliest_ms} to {latest_ms}")]
    Timestamp {
        /// The batch's first or largest timestamp.
        timestamp_ms: i64,
        /// What was allowed at this moment.
        earliest_ms: i64,
        /// Likewise.
        latest_ms: i64,
    },
    /// The producer claims that a broker gave the timestamps (INVALID_TIMESTAMP, 32).
    #[error("producers may not set the timestamp type to LogAppendTime")]
    TimestampType,
}

/// Checks one batch in Kafka's order (`UnifiedLog.append`, `LogValidator`): size, CRC and header,
/// then the records or, where nothing asks for their walk, the header's timestamps; then packs it
/// anew if the topic wants another codec. Returns the batch that goes into the log.
///
/// Departs from Kafka where the records are not walked: their keys, offset deltas and single
/// timestamps are then the producer's word (the design's D6).
///
/// # Errors
/// [`AdmissionError`], the first rule that is broken.
pub fn admit(
    config: &PartitionConfig,
    batch: UncheckedBatch,
    now_ms: i64,
) -> Result<RecordBatch, AdmissionError> {
    check_size(config, batch.len_bytes())?;
    let batch = batch.check()?;
    if batch.timestamp_type() == TimestampType::LogAppendTime {
        return Err(AdmissionError::TimestampType);
    }
    let repacks = config.compression.filter(|codec| *codec != batch.compression());
    let batch = if config.validate_records || config.compacted || repacks.is_some() {
        walk(config, batch, now_ms)?
    } else {
        check_timestamps(config, &batch, now_ms)?;
        batch
    };
    let batch = match repacks {
        None => batch,
        Some(codec) => {
            let packed = batch.recompress(codec, config.decompressed_bytes_max())?;
            check_size(config, packed.len_bytes())?;
            packed
        }
    };
    if u64::try_from(batch.len_bytes()).is_ok_and(|bytes| bytes > config.log.segment_bytes) {
        let (bytes, bytes_max) = (batch.len_bytes(), config.log.segment_bytes);
        return Err(AdmissionError::LargerThanSegment { bytes, bytes_max });
    }
    Ok(batch)
}

fn check_size(config: &PartitionConfig, bytes: usize) -> Result<(), AdmissionError> {
    let bytes_max = config.max_message_bytes;
    if bytes > bytes_max {
        return Err(AdmissionError::TooLarge { bytes, bytes_max });
    }
    Ok(())
}

/// Looks at every record, and corrects a header that claims another largest timestamp than the
/// records have: the index would answer look-ups by time with it.
fn walk(
    config: &PartitionConfig,
    batch: RecordBatch,
    now_ms: i64,
) -> Result<RecordBatch, AdmissionError> {
    let walked = batch.validate_records(&ValidateOptions {
        require_keys: config.compacted,
        decompressed_bytes_max: config.decompressed_bytes_max(),
        timestamp_window_ms: config.timestamp_window_ms(now_ms),
    })?;
    if walked.max_timestamp_ms == batch.max_timestamp() {
        return Ok(batch);
    }
    Ok(batch.with_max_timestamp(walked.max_timestamp_ms))
}

/// The window, held against what the header says. Kafka's "no timestamp" (-1) passes.
fn check_timestamps(
    config: &PartitionConfig,
    batch: &RecordBatch,
    now_ms: i64,
) -> Result<(), AdmissionError> {
    const NO_TIMESTAMP: i64 = -1;
    let Some((earliest_ms, latest_ms)) = config.timestamp_window_ms(now_ms) else {
        return Ok(());
    };
    for timestamp_ms in [batch.base_timestamp(), batch.max_timestamp()] {
        if timestamp_ms != NO_TIMESTAMP && !(earliest_ms..=latest_ms).contains(&timestamp_ms) {
            return Err(AdmissionError::Timestamp { timestamp_ms, earliest_ms, latest_ms });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::config::TimestampRule;
    use crate::record::{BatchBuilder, Compression};
    use bytes::Bytes;

    const NOW_MS: i64 = 1_700_000_000_000;

    /// Timestamp, key, value.
    type Kv<'a> = (i64, Option<&'a [u8]>, &'a [u8]);

    fn batch_of(compression: Compression, records: &[Kv<'_>]) -> Bytes {
        let mut builder = BatchBuilder::new(compression, records[0].0);
        for (timestamp_ms, key, value) in records {
            builder.append(*timestamp_ms, *key, Some(value), &[]);
        }
        builder.build().expect("builds")
    }

    fn plain(timestamp_ms: i64) -> Bytes {
        batch_of(Compression::None, &[(timestamp_ms, None, b"value")])
    }

    fn ask(config: &PartitionConfig, bytes: Bytes) -> Result<RecordBatch, AdmissionError> {
        let unchecked = UncheckedBatch::from_produce(bytes).expect("one batch");
        admit(config, unchecked, NOW_MS)
    }

    fn window(before_ms_max: i64, after_ms_max: i64) -> PartitionConfig {
        let timestamps = TimestampRule::CreateTime { before_ms_max, after_ms_max };
        PartitionConfig { timestamps, ..PartitionConfig::default() }
    }

    #[test]
    fn an_ordinary_batch_enters_as_it_came() {
        let bytes = plain(NOW_MS);
        let batch = ask(&PartitionConfig::default(), bytes.clone()).expect("enters");
        assert_eq!(batch.bytes(), &bytes);
        assert_eq!(batch.bytes().as_ptr(), bytes.as_ptr(), "not copied");
    }

    #[test]
    fn a_batch_over_max_message_bytes_is_refused_before_it_is_read() {
        // Reliability case 89. One byte of the payload is wrong: the size comes first.
        let mut bytes = Vec::from(plain(NOW_MS).as_ref());
        *bytes.last_mut().expect("not empty") ^= 1;
        let len = bytes.len();
        let at = |max_message_bytes| {
            let config = PartitionConfig { max_message_bytes, ..PartitionConfig::default() };
            ask(&config, Bytes::from(bytes.clone())).expect_err("refused")
        };
        assert_eq!(at(len - 1), AdmissionError::TooLarge { bytes: len, bytes_max: len - 1 });
        assert!(matches!(at(len), AdmissionError::Batch(BatchError::Corrupt { .. })));
    }

    #[test]
    fn a_batch_larger_than_a_segment_is_refused() {
        let mut config = PartitionConfig::default();
        config.log.segment_bytes = 20;
        let refused = ask(&config, plain(NOW_MS)).expect_err("refused");
        assert!(matches!(refused, AdmissionError::LargerThanSegment { bytes_max: 20, .. }));
    }

    #[test]
    fn timestamps_must_lie_within_the_window() {
        // Reliability case 87.
        let config = window(100, 50);
        for inside in [NOW_MS - 100, NOW_MS, NOW_MS + 50, -1] {
            assert!(ask(&config, plain(inside)).is_ok(), "{inside}");
        }
        for outside in [NOW_MS - 101, NOW_MS + 51, -2, i64::MIN, i64::MAX] {
            let refused = ask(&config, plain(outside)).expect_err("refused");
            assert!(matches!(refused, AdmissionError::Timestamp { .. }), "{outside}");
        }
        let default = PartitionConfig::default();
        assert!(ask(&default, plain(0)).is_ok());
        assert!(ask(&default, plain(NOW_MS + 3_600_001)).is_err());
    }

    #[test]
    fn the_brokers_own_timestamps_need_no_window() {
        let config = PartitionConfig {
            timestamps: TimestampRule::LogAppendTime,
            ..PartitionConfig::default()
        };
        assert!(ask(&config, plain(i64::MAX)).is_ok());
    }

    #[test]
    fn a_producer_may_not_claim_log_append_time() {
        // Reliability case 87. Stamping is the one way to set the bit.
        let batch = UncheckedBatch::from_produce(plain(NOW_MS)).expect("one").check().expect("ok");
        let mut bytes = vec![0; batch.len_bytes()];
        let stamp = crate::record::Stamp {
            base_offset: crate::base::ids::Offset(0),
            leader_epoch: crate::base::ids::LeaderEpoch(0),
            log_append_time_ms: Some(NOW_MS),
        };
        batch.copy_front(&mut bytes, &batch.stamped(&stamp));
        for timestamps in [PartitionConfig::default().timestamps, TimestampRule::LogAppendTime] {
            let config = PartitionConfig { timestamps, ..PartitionConfig::default() };
            let refused = ask(&config, Bytes::from(bytes.clone())).expect_err("refused");
            assert_eq!(refused, AdmissionError::TimestampType);
        }
    }

    #[test]
    fn compacted_topics_need_keys() {
        // Reliability case 88.
        let config = PartitionConfig { compacted: true, ..PartitionConfig::default() };
        for codec in [Compression::None, Compression::Lz4] {
            let keyed = batch_of(codec, &[(NOW_MS, Some(b"k"), b"v"), (NOW_MS, Some(b"l"), b"w")]);
            assert!(ask(&config, keyed).is_ok());
            let keyless = batch_of(codec, &[(NOW_MS, Some(b"k"), b"v"), (NOW_MS, None, b"w")]);
            let refused = ask(&config, keyless).expect_err("refused");
            let is_second = matches!(
                refused,
                AdmissionError::Record(RecordError::Record { batch_index: 1, .. })
            );
            assert!(is_second, "{refused:?}");
        }
    }

    #[test]
    fn full_validation_holds_every_record_against_the_window() {
        let bytes = batch_of(
            Compression::Zstd,
            &[(NOW_MS, None, b"a"), (NOW_MS - 500, None, b"b"), (NOW_MS, None, b"c")],
        );
        // The header shows only the first and the largest timestamp.
        assert!(ask(&window(100, 50), bytes.clone()).is_ok());
        let full = PartitionConfig { validate_records: true, ..window(100, 50) };
        let refused = ask(&full, bytes).expect_err("refused");
        let is_second = matches!(
            refused,
            AdmissionError::Record(RecordError::Timestamp { batch_index: 1, .. })
        );
        assert!(is_second, "{refused:?}");
    }

    #[test]
    fn full_validation_corrects_a_false_largest_timestamp() {
        let honest = UncheckedBatch::from_produce(plain(NOW_MS)).expect("one").check().expect("ok");
        let lying = honest.with_max_timestamp(NOW_MS + 1000).bytes().clone();
        let default = PartitionConfig::default();
        let kept = ask(&default, lying.clone()).expect("enters");
        assert_eq!(kept.max_timestamp(), NOW_MS + 1000);
        let full = PartitionConfig { validate_records: true, ..default };
        assert_eq!(ask(&full, lying).expect("enters").bytes(), honest.bytes());
    }

    #[test]
    fn a_topic_with_its_own_codec_packs_batches_anew() {
        let value = vec![b'x'; 4000];
        let records = [(NOW_MS, None, &value[..]), (NOW_MS, None, b"b".as_slice())];
        let bytes = batch_of(Compression::Gzip, &records);
        for codec in [Compression::None, Compression::Snappy, Compression::Zstd] {
            let config = PartitionConfig { compression: Some(codec), ..PartitionConfig::default() };
            let packed = ask(&config, bytes.clone()).expect("enters");
            assert_eq!((packed.compression(), packed.record_count()), (codec, 2));
            assert!(
                UncheckedBatch::from_produce(packed.bytes().clone()).expect("one").check().is_ok()
            );
        }
        let same =
            PartitionConfig { compression: Some(Compression::Gzip), ..PartitionConfig::default() };
        assert_eq!(ask(&same, bytes.clone()).expect("enters").bytes(), &bytes);
        // What unpacking makes too large is refused, as Kafka does.
        let unpacked = PartitionConfig {
            compression: Some(Compression::None),
            max_message_bytes: 1000,
            ..PartitionConfig::default()
        };
        assert!(matches!(ask(&unpacked, bytes), Err(AdmissionError::TooLarge { .. })));
    }

    #[test]
    fn a_decompression_bomb_meets_the_budget() {
        // Reliability case 77.
        let value = vec![0u8; 20 << 20];
        let bytes = batch_of(Compression::Gzip, &[(NOW_MS, Some(b"k"), &value)]);
        assert!(bytes.len() < 100_000);
        let config = PartitionConfig { compacted: true, ..PartitionConfig::default() };
        let refused = ask(&config, bytes).expect_err("refused");
        let is_too_large = matches!(
            refused,
            AdmissionError::Record(RecordError::Batch(BatchError::TooLarge { .. }))
        );
        assert!(is_too_large, "{refused:?}");
    }
}
