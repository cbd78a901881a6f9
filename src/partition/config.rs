//! What a topic's configuration means for one of its partitions.

use crate::record::Compression;
use crate::storage::LogConfig;

/// The settings that decide over appends, as Kafka's topic configs say them. Plain data: whoever
/// reads configs fills it in and hands it to the partition, at any time.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionConfig {
    /// `max.message.bytes`: the largest batch, whole and as compressed.
    pub max_message_bytes: usize,
    /// `message.timestamp.type` and its window.
    pub timestamps: TimestampRule,
    /// `compression.type`; `None` is `producer`: batches keep their codec.
    pub compression: Option<Compression>,
    /// Whether `cleanup.policy` has `compact`: every record needs a key.
    pub compacted: bool,
    /// Whether records may be deleted on request: not where `cleanup.policy` is `compact` alone.
    pub deletable: bool,
    /// `record.validation=full`: walk every record of every batch, as Kafka always does.
    pub validate_records: bool,
    /// What concerns the log below: segments (a batch must fit into one) and flushes
    /// (`flush.messages=1`: what is acknowledged is durable first; above, it is written first).
    pub log: LogConfig,
}

/// `message.timestamp.type`, with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampRule {
    /// The producer's timestamps stand, within a window around the broker's clock.
    CreateTime {
        /// `message.timestamp.before.max.ms`: how far back a timestamp may lie.
        before_ms_max: i64,
        /// `message.timestamp.after.max.ms`: how far ahead.
        after_ms_max: i64,
    },
    /// The broker's clock at the append replaces them.
    LogAppendTime,
}

impl Default for PartitionConfig {
    /// Kafka's defaults, but for [`LogConfig`]'s `flush.messages`, which is 1.
    fn default() -> PartitionConfig {
        PartitionConfig {
            max_message_bytes: 1024 * 1024 + 12,
            timestamps: TimestampRule::CreateTime {
                before_ms_max: i64::MAX,
                after_ms_max: 60 * 60 * 1000,
            },
            compression: None,
            compacted: false,
            deletable: true,
            validate_records: false,
            log: LogConfig::default(),
        }
    }
}

/// How much larger than `max.message.bytes` a batch may become when it is decompressed to be
/// walked or packed anew. Text packs 3 to 10 times; what packs better is most likely a bomb
/// (reliability case 77).
const DECOMPRESSION_FACTOR_MAX: usize = 16;

/// Room that even a topic with tiny batches grants a decompressed one.
const DECOMPRESSED_BYTES_FLOOR: usize = 16 * 1024 * 1024;

/// What no batch may take decompressed, unless the topic allows larger ones compressed.
const DECOMPRESSED_BYTES_CEILING: usize = 256 * 1024 * 1024;

impl PartitionConfig {
    /// Bytes that the records of one batch may take while they are decompressed.
    #[must_use]
    pub fn decompressed_bytes_max(&self) -> usize {
        self.max_message_bytes
            .saturating_mul(DECOMPRESSION_FACTOR_MAX)
            .clamp(DECOMPRESSED_BYTES_FLOOR, DECOMPRESSED_BYTES_CEILING)
            .max(self.max_message_bytes)
    }

    /// Whether an acknowledgement waits for the disk's sync rather than for the write alone.
    #[must_use]
    pub fn syncs_before_ack(&self) -> bool {
        self.log.flush_messages <= 1
    }

    /// The earliest and the latest timestamp that a producer may give at `now_ms`; `None` where
    /// the broker gives them.
    #[must_use]
    pub fn timestamp_window_ms(&self, now_ms: i64) -> Option<(i64, i64)> {
        match self.timestamps {
            TimestampRule::CreateTime { before_ms_max, after_ms_max } => {
                Some((now_ms.saturating_sub(before_ms_max), now_ms.saturating_add(after_ms_max)))
            }
            TimestampRule::LogAppendTime => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decompression_budget_follows_the_topic_within_bounds() {
        let budget = |max_message_bytes| {
            PartitionConfig { max_message_bytes, ..PartitionConfig::default() }
                .decompressed_bytes_max()
        };
        assert_eq!(budget(1000), 16 << 20);
        assert_eq!(budget(2 << 20), 32 << 20);
        assert_eq!(budget(100 << 20), 256 << 20);
        assert_eq!(budget(300 << 20), 300 << 20);
        assert_eq!(budget(usize::MAX), usize::MAX);
    }

    #[test]
    fn only_flush_messages_of_one_waits_for_the_sync() {
        let syncs = |flush_messages| {
            let log = LogConfig { flush_messages, ..LogConfig::default() };
            PartitionConfig { log, ..PartitionConfig::default() }.syncs_before_ack()
        };
        assert!(syncs(1));
        assert!(!syncs(2));
        assert!(!syncs(i64::MAX));
    }

    #[test]
    fn the_widest_window_overflows_nowhere() {
        let config = PartitionConfig {
            timestamps: TimestampRule::CreateTime {
                before_ms_max: i64::MAX,
                after_ms_max: i64::MAX,
            },
            ..PartitionConfig::default()
        };
        let (earliest, latest) = config.timestamp_window_ms(5).expect("a window");
        assert!(earliest <= -1 && latest == i64::MAX);
    }
}
