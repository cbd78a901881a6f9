//! Kafka's record batch, version 2: one byte form for the wire, the journal and the segments.
//! Views over the 61-byte header, the checks a broker owes before it takes a batch, the one copy
//! that stamps it, and (only where somebody asks) the records inside, through bounded codecs.
//!
//! Not here: offsets' assignment, producer state, time windows, sizes that topics allow (all
//! `partition`); requests and error codes (`protocol`, `server`); files (`storage`).
//! Lives on: any core; everything is plain synchronous data.
//! Invariants: a [`RecordBatch`] was checked once and is never changed; [`RecordBatch::stamped`]
//! is the only way from it to a log; no path panics on outside bytes or allocates more than the
//! given limit plus a fixed amount, whatever the bytes claim.
//! Callers: `storage`, `partition`, and tools, tests and the load generator as builders.
//!
//! Format: KIP-98 (batch v2), KIP-110 (zstd), KIP-74 and the Java `DefaultRecordBatch`.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod batch;
mod builder;
mod codec;
mod compression;
mod cursor;
mod error;
mod header;
mod recompress;
mod retain;
mod stored;
mod time;
mod unchecked;
mod validate;

pub use batch::{RecordBatch, Stamp};
pub use builder::BatchBuilder;
pub use codec::{CodecError, compress, decompress};
pub use compression::Compression;
pub use cursor::{Headers, Record, Records, records};
pub use error::{BatchError, RecordError};
pub use header::{BATCH_HEADER_BYTES, BatchHeader, ProducerStamp, TimestampType};
pub use retain::{Retained, Verdict};
pub use stored::{StoredBatch, StoredBatches, stored_batches};
pub use time::{find_max_timestamp, find_timestamp, find_timestamp_from};
pub use unchecked::UncheckedBatch;
pub use validate::{ValidateOptions, ValidatedRecords};

#[cfg(test)]
mod tests;
