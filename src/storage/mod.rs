//! One core's journal and the logs of its partitions: what is durable, where it lies, how it is
//! read, and how it comes back after a crash.
//!
//! Not here: who may append, high watermarks, waiting clients (`partition`); the wire
//! (`protocol`); tasks and timers (`shard`). Nothing here spawns: the background steps of a
//! [`Store`] are async functions that its shard calls in loops.
//! Lives on: the shard that owns the store, one [`Store`] for each shard and data directory.
//! [`recover`] is plain code that runs before the shards start, for a whole directory.
//! Invariants:
//! - `log_start <= segment_end <= written_end <= log_end` and `durable_end <= written_end`
//!   (`log_start` may pass the others only up to `written_end`, when old records are deleted).
//! - `written_end` moves only after the write has completed, `durable_end` only after a durable
//!   write or a sync. The first failed write or sync fails the store for good (fsyncgate).
//! - Record bytes are copied twice and never more: into the group that is written to the journal,
//!   and from there into a segment's extent; reads return slices. [`CopyLedger`] counts.
//! - Journal files are released only when *two* checkpoints no longer need them, so that either of
//!   the two checkpoint copies alone is enough to recover.
//! - A damaged group that was known durable is corruption and refuses the directory; only an end
//!   that nobody was told of is a torn tail.
//!
//! Callers: `partition` (through [`Log`] and [`Journal`]), `shard` (the steps), `server` (start),
//! `tools/logdump` (through [`dump`], which reads only).
//! Formats: `docs/FORMAT.md`.

mod checkpoint;
mod compaction;
mod copy_ledger;
pub mod dump;
pub mod epoch_history;
mod error;
mod gate;
mod health;
mod journal;
mod latch;
mod log;
pub mod producer_table;
mod read_cache;
mod recovery;
mod room;
mod segment;
mod settings;
mod store;

pub use compaction::{Compaction, CompactionReport, CompactionStep};
pub use copy_ledger::CopyLedger;
pub use epoch_history::EpochHistory;
pub use error::{DiskFull, FollowerAppendError, RecoveryError, StorageError};
pub use health::DirectoryHealth;
pub use journal::Journal;
pub use log::{Appended, Log, LogState, ReadPlan, StampChoice, TimestampFound, TimestampPlan};
pub use producer_table::ProducerTable;
pub use recovery::{Recovered, RecoveryReport, ShardRecovered, recover};
pub use room::Reserve;
pub use segment::Damage;
pub use settings::{CompactionConfig, LogConfig, StoreConfig};
pub use store::{CommittedGroup, CommittedMember, CompactionProgress, ScrubPass, Scrubbed, Store};

#[cfg(test)]
mod tests;
