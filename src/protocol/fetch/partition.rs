//! One partition entry of a Fetch request: a structure of fixed size, but of five shapes.

use zerocopy::big_endian::{I32, I64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{DIRECTORY_ID, FLEXIBLE, LEADER_EPOCH, LOG_START, is_flexible};
use crate::base::ids::{LeaderEpoch, Offset, PartitionIndex};
use crate::protocol::Malformed;
use crate::protocol::reader::Reader;
use crate::protocol::writer::Writer;

/// Version 4.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct V4 {
    index: I32,
    fetch_offset: I64,
    bytes_max: I32,
}

/// Versions 5 to 8.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct V5 {
    index: I32,
    fetch_offset: I64,
    log_start: I64,
    bytes_max: I32,
}

/// Versions 9 to 11.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct V9 {
    index: I32,
    current_epoch: I32,
    fetch_offset: I64,
    log_start: I64,
    bytes_max: I32,
}

/// Versions 12 and later, before the tagged fields.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct V12 {
    index: I32,
    current_epoch: I32,
    fetch_offset: I64,
    last_fetched_epoch: I32,
    log_start: I64,
    bytes_max: I32,
}

/// A partition that a client wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    pub(super) index: PartitionIndex,
    pub(super) fetch_offset: Offset,
    pub(super) bytes_max: i32,
    pub(super) current_epoch: Option<LeaderEpoch>,
    pub(super) last_fetched_epoch: Option<LeaderEpoch>,
    pub(super) log_start: Offset,
}

impl FetchPartition {
    /// Bytes that an entry takes at least.
    pub(super) const fn bytes_min(version: i16) -> usize {
        match version {
            ..LOG_START => size_of::<V4>(),
            LOG_START..LEADER_EPOCH => size_of::<V5>(),
            LEADER_EPOCH..FLEXIBLE => size_of::<V9>(),
            FLEXIBLE.. => size_of::<V12>() + 1,
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>, version: i16) -> Result<FetchPartition, Malformed> {
        let partition = FetchPartition::read_fixed(reader, version)?;
        reader.tagged_fields(|tag, field| {
            // Only replicas send it; checked so that no one can hide bytes there.
            let directory_id = tag == 0 && version >= DIRECTORY_ID;
            if directory_id {
                field.take(16, "directory id")?;
            }
            Ok(directory_id)
        })?;
        Ok(partition)
    }

    #[inline]
    fn read_fixed(reader: &mut Reader<'_>, version: i16) -> Result<FetchPartition, Malformed> {
        const WHAT: &str = "fetch partition";
        let entry = |index: I32, fetch_offset: I64, bytes_max: I32| FetchPartition {
            index: PartitionIndex(index.get()),
            fetch_offset: Offset(fetch_offset.get()),
            bytes_max: bytes_max.get(),
            current_epoch: None,
            last_fetched_epoch: None,
            log_start: Offset::UNKNOWN,
        };
        Ok(match version {
            ..LOG_START => {
                let raw: &V4 = reader.fixed(WHAT)?;
                entry(raw.index, raw.fetch_offset, raw.bytes_max)
            }
            LOG_START..LEADER_EPOCH => {
                let raw: &V5 = reader.fixed(WHAT)?;
                FetchPartition {
                    log_start: Offset(raw.log_start.get()),
                    ..entry(raw.index, raw.fetch_offset, raw.bytes_max)
                }
            }
            LEADER_EPOCH..FLEXIBLE => {
                let raw: &V9 = reader.fixed(WHAT)?;
                FetchPartition {
                    log_start: Offset(raw.log_start.get()),
                    current_epoch: known_epoch(raw.current_epoch),
                    ..entry(raw.index, raw.fetch_offset, raw.bytes_max)
                }
            }
            FLEXIBLE.. => {
                let raw: &V12 = reader.fixed(WHAT)?;
                FetchPartition {
                    log_start: Offset(raw.log_start.get()),
                    current_epoch: known_epoch(raw.current_epoch),
                    last_fetched_epoch: known_epoch(raw.last_fetched_epoch),
                    ..entry(raw.index, raw.fetch_offset, raw.bytes_max)
                }
            }
        })
    }

    pub(super) fn write(&self, writer: &mut Writer, version: i16) {
        let epoch = |epoch: Option<LeaderEpoch>| epoch.map_or(-1, |epoch| epoch.0);
        writer.i32(self.index.0);
        if version >= LEADER_EPOCH {
            writer.i32(epoch(self.current_epoch));
        }
        writer.i64(self.fetch_offset.0);
        if is_flexible(version) {
            writer.i32(epoch(self.last_fetched_epoch));
        }
        if version >= LOG_START {
            writer.i64(self.log_start.0);
        }
        writer.i32(self.bytes_max);
        writer.no_tagged_fields();
    }

    /// A partition to read from `fetch_offset` on, at most about `bytes_max` bytes; what a client
    /// sends. Epochs are not known and not checked.
    #[must_use]
    pub const fn new(index: PartitionIndex, fetch_offset: Offset, bytes_max: i32) -> Self {
        FetchPartition {
            index,
            fetch_offset,
            bytes_max,
            current_epoch: None,
            last_fetched_epoch: None,
            log_start: Offset::UNKNOWN,
        }
    }

    /// With the epochs that the client knows: of the leader, and of the last record that it has.
    #[must_use]
    pub const fn with_epochs(
        self,
        current: Option<LeaderEpoch>,
        last_fetched: Option<LeaderEpoch>,
    ) -> Self {
        FetchPartition { current_epoch: current, last_fetched_epoch: last_fetched, ..self }
    }

    /// The partition's index; any value.
    #[must_use]
    pub const fn index(&self) -> PartitionIndex {
        self.index
    }

    /// Offset of the first record wanted; any value.
    #[must_use]
    pub const fn fetch_offset(&self) -> Offset {
        self.fetch_offset
    }

    /// Bytes wanted of this partition; any value. A first batch that is longer comes whole
    /// (KIP-74).
    #[must_use]
    pub const fn bytes_max(&self) -> i32 {
        self.bytes_max
    }

    /// The leader epoch that the client knows; an older or newer one than ours is fenced
    /// (KIP-320). `None`: it does not say.
    #[must_use]
    pub const fn current_epoch(&self) -> Option<LeaderEpoch> {
        self.current_epoch
    }

    /// The epoch of the last record that the client has, to find where logs diverge (KIP-595).
    #[must_use]
    pub const fn last_fetched_epoch(&self) -> Option<LeaderEpoch> {
        self.last_fetched_epoch
    }

    /// A replica's log start; [`Offset::UNKNOWN`] from clients.
    #[must_use]
    pub const fn log_start(&self) -> Offset {
        self.log_start
    }
}

fn known_epoch(epoch: I32) -> Option<LeaderEpoch> {
    Some(LeaderEpoch(epoch.get())).filter(|epoch| epoch.0 >= 0)
}
