//! Record batches inside a group or a block, looked at through a window.

use std::io;
use std::ops::Range;

use zerocopy::IntoBytes;

use crate::base::crc::crc32c_append;
use crate::record::{BATCH_HEADER_BYTES, BatchHeader};

use super::super::journal::format::EntryHeader;
use super::super::segment::FRONT_BYTES;
use super::source::Window;

/// The only batch format that is stored.
const MAGIC: i8 = 2;

/// A batch, framed and not yet checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchAt {
    pub(super) header: BatchHeader,
    /// Where it begins in the file.
    pub(super) pos: u64,
    pub(super) len: u64,
}

impl BatchAt {
    pub(super) fn end(&self) -> u64 {
        self.pos + self.len
    }

    /// Continues the CRC of a block's fronts over this batch.
    pub(super) fn fronts_crc(&self, crc: u32) -> u32 {
        crc32c_append(crc, &self.header.as_bytes()[..FRONT_BYTES])
    }

    /// Whether its bytes are those that its producer summed.
    pub(super) fn crc_matches(&self, window: &mut Window<'_>) -> io::Result<bool> {
        let covered = self.pos + FRONT_BYTES as u64..self.end();
        Ok(window.crc(0, covered)? == Some(self.header.crc()))
    }

    /// What of the batch is not as `entry` says it; nothing if it is that batch.
    pub(super) fn differs_from(&self, entry: &EntryHeader) -> Option<&'static str> {
        let header = &self.header;
        if self.len != entry.batch_bytes() as u64 {
            Some("it is of another length")
        } else if header.base_offset() != entry.first() || header.last_offset() != entry.last() {
            Some("it has other offsets")
        } else if header.leader_epoch() != entry.leader_epoch() {
            Some("it has another leader epoch")
        } else if header.crc() != entry.batch_crc() {
            Some("it has another CRC")
        } else {
            None
        }
    }
}

/// The batch that begins at `range.start` and ends in `range`; else what is wrong.
pub(super) fn batch_at(
    window: &mut Window<'_>,
    range: Range<u64>,
) -> io::Result<Result<BatchAt, &'static str>> {
    let room = range.end.saturating_sub(range.start);
    if room < BATCH_HEADER_BYTES as u64 {
        return Ok(Err("there is no room for a batch's header"));
    }
    let bytes = window.at(range.start, BATCH_HEADER_BYTES)?;
    let Some(header) = BatchHeader::peek(bytes).copied() else {
        return Ok(Err("the file ends inside a batch's header"));
    };
    if header.magic() != MAGIC {
        return Ok(Err("a batch has another magic than 2"));
    }
    let Some(len) = header.len_bytes().map(|len| len as u64).filter(|len| *len <= room) else {
        return Ok(Err("a batch has a wrong length"));
    };
    Ok(Ok(BatchAt { header, pos: range.start, len }))
}
