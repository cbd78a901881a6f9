//! A topic's configuration as its partitions need it.

use super::topic_config::{TimestampType, TopicCompression, TopicConfig};
use crate::partition::config::{PartitionConfig, TimestampRule};
use crate::record::Compression;
use crate::storage::{CompactionConfig, LogConfig};

/// Translates. Sizes that Kafka keeps in signed numbers are not negative once checked.
#[must_use]
pub fn partition_config(topic: &TopicConfig, validate_records: bool) -> PartitionConfig {
    PartitionConfig {
        max_message_bytes: usize::try_from(topic.max_message_bytes()).unwrap_or(0),
        timestamps: match topic.timestamp_type() {
            TimestampType::CreateTime => TimestampRule::CreateTime {
                before_ms_max: topic.timestamp_before_max_ms(),
                after_ms_max: topic.timestamp_after_max_ms(),
            },
            TimestampType::LogAppendTime => TimestampRule::LogAppendTime,
        },
        compression: match topic.compression() {
            TopicCompression::Producer => None,
            TopicCompression::Uncompressed => Some(Compression::None),
            TopicCompression::Gzip => Some(Compression::Gzip),
            TopicCompression::Snappy => Some(Compression::Snappy),
            TopicCompression::Lz4 => Some(Compression::Lz4),
            TopicCompression::Zstd => Some(Compression::Zstd),
        },
        compacted: topic.is_compacted(),
        deletable: topic.is_deleted() || !topic.is_compacted(),
        validate_records,
        log: LogConfig {
            segment_bytes: u64::try_from(topic.segment_bytes()).unwrap_or(0),
            segment_ms: if topic.is_compacted() {
                topic.segment_ms().min(topic.max_compaction_lag_ms())
            } else {
                topic.segment_ms()
            },
            flush_messages: topic.flush_messages(),
            flush_ms: topic.flush_ms(),
            retention_ms: if topic.is_deleted() { topic.retention_ms() } else { -1 },
            retention_bytes: if topic.is_deleted() { topic.retention_bytes() } else { -1 },
            file_delete_delay_ms: topic.file_delete_delay_ms(),
            compaction: topic.is_compacted().then(|| CompactionConfig {
                min_dirty_ratio: topic.min_cleanable_dirty_ratio(),
                min_lag_ms: topic.min_compaction_lag_ms(),
                max_lag_ms: topic.max_compaction_lag_ms(),
                delete_retention_ms: topic.delete_retention_ms(),
            }),
        },
    }
}
