//! Settings of a store and of one log.

use super::room::Reserve;

/// Settings of one partition's log, from its topic's configs.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is closed before its file would grow beyond this.
    pub segment_bytes: u64,
    /// `segment.ms`: a segment is closed at the first write this long after its first one.
    pub segment_ms: i64,
    /// `flush.messages`: records that may be acknowledged before they are synced. 1: every record
    /// is durable before its acknowledgement.
    pub flush_messages: i64,
    /// `flush.ms`: how long a written record may stay without a sync; `i64::MAX` for ever.
    pub flush_ms: i64,
    /// `retention.ms`, where `cleanup.policy` deletes: how long segments are kept; negative for ever.
    pub retention_ms: i64,
    /// `retention.bytes`, where `cleanup.policy` deletes: bytes that are kept; negative: all.
    pub retention_bytes: i64,
    /// `file.delete.delay.ms`: how long the files of a segment stay that left the log, for readers
    /// that have begun with it.
    pub file_delete_delay_ms: i64,
    /// Where `cleanup.policy` compacts.
    pub compaction: Option<CompactionConfig>,
}

/// How a log is compacted.
#[derive(Clone, Debug, PartialEq)]
pub struct CompactionConfig {
    /// `min.cleanable.dirty.ratio`: the share that was never compacted must be larger than this.
    pub min_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: how long a record stays whatever follows it.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`: how long a record may wait for compaction once its segment is closed.
    pub max_lag_ms: i64,
    /// `delete.retention.ms`: how long a tombstone can be read once compaction has seen it.
    pub delete_retention_ms: i64,
}

impl Default for CompactionConfig {
    fn default() -> CompactionConfig {
        CompactionConfig {
            min_dirty_ratio: 0.5,
            min_lag_ms: 0,
            max_lag_ms: i64::MAX,
            delete_retention_ms: 24 * 3600 * 1000,
        }
    }
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3600 * 1000,
            flush_messages: 1,
            flush_ms: i64::MAX,
            retention_ms: 7 * 24 * 3600 * 1000,
            retention_bytes: -1,
            file_delete_delay_ms: 60_000,
            compaction: None,
        }
    }
}

/// Settings of one store (one shard's part of one data directory).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Length of a journal file in bytes; one that must hold a larger batch is made longer.
    pub journal_file_bytes: u64,
    /// Journal files at most. When none is free, commits wait. At least 3: one being written, and
    /// what two checkpoints need.
    pub journal_files_max: usize,
    /// A group is closed at this many bytes, unless a single batch is larger.
    pub group_bytes_max: usize,
    /// Bytes that may be staged and not yet written before [`crate::storage::Journal::has_room`]
    /// says no.
    pub staged_bytes_max: usize,
    /// A log with this many written bytes outside its segments is written behind at once, in
    /// writes of at most this many bytes.
    pub extent_bytes: usize,
    /// A log with this many bytes of large batches in one group gets them written straight into its
    /// segment, and not into the journal.
    pub large_lane_bytes: usize,
    /// Batches of a log are packed into blocks of about this many bytes: the unit of the index.
    pub block_bytes: usize,
    /// Batches older than this many journal bytes are written behind, however few they are: bounds
    /// what recovery replays and what a trickling partition pins in memory.
    pub write_behind_window_bytes: u64,
    /// The same for each of the logs that have such batches, if that is more: up to half of the
    /// journal.
    pub write_behind_bytes_per_log: u64,
    /// Journal bytes between two checkpoints.
    pub checkpoint_bytes: u64,
    /// Written and already written-behind bytes kept in memory for tailing readers.
    pub read_cache_bytes: usize,
    /// Read of segments before it is asked for, for readers that go through them in order.
    pub read_ahead_bytes: usize,
    /// Segment files held open.
    pub open_segments_max: usize,
    /// Entries (40 bytes each, one a block) of all segment indexes in memory.
    pub index_entries_max: usize,
    /// Entries of a segment's index that a checkpoint holds itself, before it writes them into the
    /// index file.
    pub index_entries_unwritten_max: usize,
    /// Files and directories that a checkpoint syncs one by one; if there are more, it has the file
    /// system sync everything that it holds.
    pub syncs_max: usize,
    /// Bound of decompression in look-ups by time.
    pub decompressed_bytes_max: usize,
    /// Bytes of the file system that appends must leave free.
    pub reserve: Reserve,
    /// Bytes of removed segments that are given back to the file system in one step: a file that is
    /// removed as a whole stalls everybody else's syncs for as long as that takes.
    pub removal_piece_bytes: u64,
    /// Bound on producer ids remembered by one partition.
    pub producer_ids_max: usize,
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig {
            journal_file_bytes: 64 << 20,
            journal_files_max: 8,
            group_bytes_max: 1 << 20,
            staged_bytes_max: 32 << 20,
            extent_bytes: 1 << 20,
            large_lane_bytes: 192 << 10,
            block_bytes: 128 << 10,
            write_behind_window_bytes: 64 << 20,
            write_behind_bytes_per_log: 32 << 10,
            checkpoint_bytes: 64 << 20,
            read_cache_bytes: 32 << 20,
            read_ahead_bytes: 8 << 20,
            open_segments_max: 512,
            index_entries_max: 5 << 18,
            index_entries_unwritten_max: 16,
            syncs_max: 128,
            decompressed_bytes_max: 64 << 20,
            reserve: Reserve::AtMost(1 << 30),
            removal_piece_bytes: 1 << 20,
            producer_ids_max: super::producer_table::PRODUCER_IDS_MAX_DEFAULT,
        }
    }
}
