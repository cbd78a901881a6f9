//! A data directory as it lies there, read and judged without touching it: what `thalweg-logdump`
//! prints.
//!
//! Not here: anything that writes, locks, or knows topics' names (`cluster`); how it is printed
//! (`tools/logdump`).
//! Lives on: any thread, of any process: plain reads of files, no reactor.
//! Invariants: no byte of the directory is changed; what is held in memory is bounded by windows of
//! files, the block headers of one segment, and the checkpoints, each of which was summed before
//! it was opened; verdicts are those of recovery (`recovery.rs`, `journal/reader.rs`), which is the
//! referee in this module's tests.
//! Callers: `tools/logdump`, `tools/fuzz`.

mod batches;
mod directory;
mod frames;
mod journal;
mod log;
mod look;
mod report;
mod segments;
mod source;
mod verify;

pub use super::epoch_history::EpochStart;
pub use super::producer_table::{BatchImage, ProducerImage, ProducerTableImage};
pub use super::segment::SegmentState;
pub use directory::{CheckpointInfo, DataDir, JournalFrom};
pub use journal::{EntryInfo, EntryPlace, GroupInfo};
pub use log::{BatchInfo, BatchSource, TakeBatch, Wanted};
pub use look::look_at_bytes;
pub use report::{FileKind, FileReport, Finding, Verdict};
pub use verify::JournalItem;
