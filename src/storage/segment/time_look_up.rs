//! Look-ups by time in one segment: the index finds the block, the records of one batch decide.

use bytes::Bytes;

use crate::base::ids::Offset;
use crate::record::{StoredBatch, find_max_timestamp, find_timestamp_from, stored_batches};

use super::super::error::StorageError;
use super::damage::BAD_BATCH;
use super::index::{IndexEntry, IndexView};
use super::open_files::OpenSegment;
use super::reader::SegmentReader;

impl SegmentReader {
    /// The first record at or after `from` and before `upto` with a timestamp of at least
    /// `target_ms`.
    pub(in crate::storage) async fn find_timestamp(
        &self,
        target_ms: i64,
        from: Offset,
        upto: Offset,
    ) -> Result<Option<(Offset, i64)>, StorageError> {
        let segment = self.open().await?;
        let index = self.view(&segment).await?;
        let limit = self.files.limits().decompressed_bytes_max;
        let begin = index.find_timestamp(target_ms).max(index.find_offset(from));
        for number in begin..index.len() {
            let Some(entry) = index.get(number).filter(|entry| entry.base_offset < upto) else {
                break;
            };
            let block = self.read_block(&segment, entry).await?;
            let bound = upto.min(index.end_of(number));
            for batch in stored_batches(&block) {
                let batch =
                    batch.map_err(|_| self.corrupt(entry.pos, entry.base_offset, BAD_BATCH))?;
                if batch.last_offset() >= bound {
                    break;
                }
                let found = find_timestamp_from(batch, target_ms, from, limit);
                let found = found.map_err(|_| unreadable(batch))?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp before `upto`, the first if there are several.
    pub(in crate::storage) async fn find_max_timestamp(
        &self,
        upto: Offset,
    ) -> Result<Option<(Offset, i64)>, StorageError> {
        let segment = self.open().await?;
        let index = self.view(&segment).await?;
        let limit = self.files.limits().decompressed_bytes_max;
        // Blocks that lie wholly before `upto`, then the one that it cuts.
        let ends_before = |number: usize| {
            let last = index.get(number).map(|entry| entry.last_offset.plus(1));
            last.is_some_and(|end| end.min(index.end_of(number)) <= upto)
        };
        let whole = (0..index.len()).take_while(|number| ends_before(*number)).count();
        let claimed = whole.checked_sub(1).and_then(|last| index.get(last));
        let claimed = claimed.map_or(i64::MIN, |last| last.max_timestamp_so_far);
        let mut best = Latest { batch_timestamp: i64::MIN, found: None };
        for number in [index.find_timestamp(claimed).min(whole), whole] {
            self.look_for_latest(&segment, &index, (number, upto), limit, &mut best).await?;
        }
        if best.batch_timestamp < claimed {
            // The batch with that timestamp was truncated: rare enough to look at all others.
            for number in 0..whole {
                self.look_for_latest(&segment, &index, (number, upto), limit, &mut best).await?;
            }
        }
        Ok(best.found)
    }

    async fn look_for_latest(
        &self,
        segment: &OpenSegment,
        index: &IndexView,
        (number, upto): (usize, Offset),
        limit: usize,
        best: &mut Latest,
    ) -> Result<(), StorageError> {
        let entry = index.get(number).filter(|entry| entry.base_offset < upto);
        let Some(entry) = entry else { return Ok(()) };
        let block = self.read_block(segment, entry).await?;
        let batch = latest_batch(&block, upto.min(index.end_of(number)));
        let batch = batch.map_err(|reason| self.corrupt(entry.pos, entry.base_offset, reason))?;
        let Some(batch) = batch.filter(|it| it.max_timestamp() > best.batch_timestamp) else {
            return Ok(());
        };
        let found = find_max_timestamp(batch, limit).map_err(|_| unreadable(batch))?;
        *best = Latest { batch_timestamp: batch.max_timestamp(), found: found.or(best.found) };
        Ok(())
    }

    async fn read_block(
        &self,
        segment: &OpenSegment,
        entry: &IndexEntry,
    ) -> Result<Bytes, StorageError> {
        let bytes =
            self.read_exactly(segment, entry.pos, entry.block_bytes(), entry.base_offset).await?;
        self.payload(&bytes, entry, entry.base_offset)
    }
}

fn unreadable(batch: StoredBatch<'_>) -> StorageError {
    StorageError::UnreadableRecords { base_offset: batch.base_offset() }
}

/// The latest record so far, and what its batch claims.
struct Latest {
    batch_timestamp: i64,
    found: Option<(Offset, i64)>,
}

/// The batch with the largest timestamp among those that end before `bound`.
pub(in crate::storage) fn latest_batch(
    block: &[u8],
    bound: Offset,
) -> Result<Option<StoredBatch<'_>>, &'static str> {
    let mut best: Option<StoredBatch<'_>> = None;
    for batch in stored_batches(block) {
        let batch = batch.map_err(|_| BAD_BATCH)?;
        if batch.last_offset() >= bound {
            break;
        }
        if best.is_none_or(|best| best.max_timestamp() < batch.max_timestamp()) {
            best = Some(batch);
        }
    }
    Ok(best)
}
