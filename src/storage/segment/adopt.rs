//! Recovery: finds again what was written to segments behind what the checkpoint knew of them.
//!
//! Batches of the large lane are nowhere else, so nothing that lies before one of them may be
//! written again at another place: blocks that hold what the journal says are taken as they are.
//! All of them are there if a batch behind them was acknowledged as durable: an extent of the large
//! lane is durable together with everything before it in its file.

use std::cell::RefCell;
use std::rc::Rc;

use crate::base::limits::BLOCK_ALIGN;

use super::super::error::StorageError;
use super::super::log::{Log, Match, WriteStep};
use super::SegmentKey;
use super::block::{BLOCK_HEADER_BYTES, BlockHeader, fronts_crc_of};
use super::files::{SegmentFiles, missing_is_none};
use super::writer::{ExtentPlan, seal};

/// What [`adopt_next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Adopted {
    /// A block with the log's next batches; they are in the segment now.
    Block,
    /// A block with other batches, perhaps with some that were not replayed yet.
    Other,
    /// They are not there, and nothing else is: they have to be written.
    Nothing,
}

/// Looks for the log's next batches behind the known end of its segments.
///
/// # Errors
/// `Read`, or `Failed` if a segment cannot be closed.
pub(in crate::storage) async fn adopt_next(
    files: &Rc<SegmentFiles>,
    log: &Rc<RefCell<Log>>,
    now_ms: i64,
) -> Result<Adopted, StorageError> {
    let places = log.borrow().adoption_places();
    let mut is_taken = false;
    for (key, pos) in places {
        match look(files, log, (key, pos)).await? {
            Match::Nothing => {}
            Match::Other => is_taken = true,
            Match::Runs(count) => {
                let is_new = !log.borrow().has_segment(key);
                let close = log.borrow().close_step().filter(|_| is_new);
                if let Some(WriteStep::Seal(snapshot)) = close {
                    let closed = seal(files, log, *snapshot).await;
                    closed.map_err(|error| files.latch().trip("close of a segment", &error))?;
                }
                let plan = log.borrow().plan_found((key, pos), count, now_ms);
                write_again(files, &plan).await?;
                files.note_found(key);
                // Nothing waits for the groups of a replay.
                let _ = log.borrow_mut().extent_written(&plan);
                return Ok(Adopted::Block);
            }
        }
    }
    Ok(if is_taken { Adopted::Other } else { Adopted::Nothing })
}

async fn look(
    files: &Rc<SegmentFiles>,
    log: &Rc<RefCell<Log>>,
    (key, pos): (SegmentKey, u64),
) -> Result<Match, StorageError> {
    if let Some(place) = log.borrow().next_place() {
        let is_here = place.segment == key.base_offset && place.pos == pos;
        return Ok(if is_here { Match::Runs(1) } else { Match::Nothing });
    }
    let Some(block) = read_block(files, key, pos, BLOCK_ALIGN).await? else {
        return Ok(Match::Nothing);
    };
    let Some(header) = BlockHeader::find(&block, key.topic_partition) else {
        return Ok(Match::Nothing);
    };
    let (len, end) = (header.block_bytes() as usize, BLOCK_HEADER_BYTES + header.payload_bytes());
    let whole = if len > block.len() {
        read_block(files, key, pos, len).await?
    } else {
        Some(block.clone())
    };
    let payload = whole.as_ref().and_then(|whole| whole.get(BLOCK_HEADER_BYTES..end));
    let payload = payload.filter(|it| fronts_crc_of(it) == Some(header.fronts_crc()));
    let Some(payload) = payload else { return Ok(Match::Other) };
    Ok(log.borrow().match_payload(header.base_offset(), payload))
}

/// Writes a block that was found over itself. That it can be read does not say that a sync will
/// put it on the disk: where an earlier one failed, the kernel keeps the bytes and takes them for
/// written, and a block would be gone after all when its journal is.
async fn write_again(files: &SegmentFiles, plan: &ExtentPlan) -> Result<(), StorageError> {
    let failed = |error| files.latch().trip("write of a segment that was found", &error);
    let segment = files.open(plan.key).await.map_err(failed)?;
    let written = segment.file().write_slices_at(plan.assemble(files), plan.pos, false).await;
    written.map_err(failed)
}

/// `len` bytes at `pos` of a segment file; `None` if there are not so many.
async fn read_block(
    files: &SegmentFiles,
    key: SegmentKey,
    pos: u64,
    len: usize,
) -> Result<Option<bytes::Bytes>, StorageError> {
    let failed = |error| StorageError::read("read of a segment", error);
    let Some(segment) = missing_is_none(files.open(key).await).map_err(failed)? else {
        return Ok(None);
    };
    if segment.file().len().map_err(failed)? < pos + len as u64 {
        return Ok(None);
    }
    segment.file().read_at(pos, len).await.map(Some).map_err(failed)
}

/// The batch of `len` bytes that is alone in the block at this place, whole and checked; `None` if
/// there is none.
///
/// # Errors
/// `Read`.
pub(in crate::storage) async fn read_large(
    files: &SegmentFiles,
    (key, pos): (SegmentKey, u64),
    len: usize,
) -> Result<Option<bytes::Bytes>, StorageError> {
    let total = (BLOCK_HEADER_BYTES + len).next_multiple_of(BLOCK_ALIGN);
    let Some(block) = read_block(files, key, pos, total).await? else { return Ok(None) };
    let Some(header) = BlockHeader::find(&block, key.topic_partition) else { return Ok(None) };
    let payload = block.slice(BLOCK_HEADER_BYTES..BLOCK_HEADER_BYTES + len);
    let is_it =
        header.payload_bytes() == len && fronts_crc_of(&payload) == Some(header.fronts_crc());
    Ok(is_it.then_some(payload))
}
