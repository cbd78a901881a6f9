//! Reads batches back from one segment: aligned, several blocks at once, never decoded.

use std::rc::Rc;

use bytes::Bytes;

use crate::base::ids::Offset;
use crate::record::{StoredBatch, find_max_timestamp, find_timestamp_from, stored_batches};

use super::super::error::StorageError;
use super::block::{BLOCK_HEADER_BYTES, BlockHeader, fronts_crc};
use super::files::{OpenSegment, SegmentFiles};
use super::index::{IndexEntry, IndexMark, IndexView};
use super::{Segment, SegmentKey};

/// One read of a segment at most, unless a single block is larger.
const READ_BYTES_MAX: u64 = 16 << 20;

/// A segment as it was when a plan was made; owns what it needs, so the log may go on.
#[derive(Clone)]
pub(in crate::storage) struct SegmentReader {
    files: Rc<SegmentFiles>,
    key: SegmentKey,
    index: Option<IndexMark>,
    file_bytes: u64,
    pending: Rc<Vec<IndexEntry>>,
    max_timestamp: i64,
}

impl SegmentReader {
    pub(in crate::storage) fn new(
        files: &Rc<SegmentFiles>,
        key: SegmentKey,
        segment: &Segment,
    ) -> SegmentReader {
        SegmentReader {
            files: files.clone(),
            key,
            index: segment.index,
            file_bytes: segment.file_bytes,
            pending: segment.pending.clone(),
            max_timestamp: segment.max_timestamp,
        }
    }

    pub(in crate::storage) fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// The batches from the one that holds `from` up to `upto` (exclusive), whole, as slices of
    /// what was read: at least one if there is one, then no more than `bytes_max`. Every batch's
    /// CRC is checked: what a disk gives back is not believed.
    ///
    /// # Errors
    /// `Corrupt` if the first batch is not what was written (good ones before a bad one are
    /// returned), `Read` if the device fails.
    pub(in crate::storage) async fn read(
        &self,
        from: Offset,
        upto: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Bytes>, StorageError> {
        let segment = self.open().await?;
        match self.read_once(&segment, from, upto, bytes_max).await {
            Err(StorageError::Corrupt { .. }) => {
                // Perhaps the index is wrong and not the segment.
                segment.forget_index();
                let rebuilt = SegmentReader { index: None, pending: Rc::default(), ..self.clone() };
                rebuilt.read_once(&segment, from, upto, bytes_max).await
            }
            other => other,
        }
    }

    async fn read_once(
        &self,
        segment: &OpenSegment,
        from: Offset,
        upto: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Bytes>, StorageError> {
        let index = self.view(segment).await?;
        let first = index.find_offset(from);
        let Some(begin) = index.get(first).filter(|entry| entry.base_offset < upto) else {
            return Ok(Vec::new());
        };
        // Neighbours in the file, as many as the answer may hold.
        let (mut end, mut len, mut payload) = (first, 0, 0);
        while let Some(entry) = index.get(end) {
            let next_to = entry.pos == begin.pos + len;
            let wanted = payload < bytes_max as u64 && entry.base_offset < upto;
            let fits = len + entry.block_bytes() <= READ_BYTES_MAX;
            if end > first && !(next_to && wanted && fits) {
                break;
            }
            len += entry.block_bytes();
            payload += u64::from(entry.payload_bytes);
            end += 1;
        }
        let begin_pos = begin.pos;
        let bytes = self.read_exactly(segment, begin_pos, len, from).await?;
        let mut picked = Picked { slices: Vec::new(), taken: 0, bytes_max, from };
        for number in first..end {
            let Some(entry) = index.get(number) else { break };
            let at = usize::try_from(entry.pos - begin_pos).expect("within the read");
            let block = self.payload(&bytes.slice(at..), entry, from);
            let block = match block {
                Err(_) if picked.taken > 0 => break,
                other => other?,
            };
            let bound = upto.min(index.end_of(number));
            match picked.take(&block, bound) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) if picked.taken > 0 => break,
                Err(reason) => return Err(self.corrupt(from, reason)),
            }
        }
        Ok(picked.slices)
    }

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
                let batch = batch.map_err(|_| self.corrupt(entry.base_offset, BAD_BATCH))?;
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
        let batch = batch.map_err(|reason| self.corrupt(entry.base_offset, reason))?;
        let Some(batch) = batch.filter(|it| it.max_timestamp() > best.batch_timestamp) else {
            return Ok(());
        };
        let found = find_max_timestamp(batch, limit).map_err(|_| unreadable(batch))?;
        *best = Latest { batch_timestamp: batch.max_timestamp(), found: found.or(best.found) };
        Ok(())
    }

    async fn open(&self) -> Result<Rc<OpenSegment>, StorageError> {
        let opened = self.files.open(self.key).await;
        opened.map_err(|error| StorageError::read("open of a segment", error))
    }

    async fn view(&self, segment: &OpenSegment) -> Result<IndexView, StorageError> {
        let stored = self.files.index(self.key, segment, self.index, self.file_bytes).await?;
        Ok(match self.index {
            Some(mark) => IndexView::new(stored, mark.count as usize, self.pending.clone()),
            // A rebuilt index knows the pending blocks too.
            None => IndexView::new(stored.clone(), stored.len(), Rc::default()),
        })
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

    async fn read_exactly(
        &self,
        segment: &OpenSegment,
        pos: u64,
        len: u64,
        offset: Offset,
    ) -> Result<Bytes, StorageError> {
        let len = usize::try_from(len).map_err(|_| self.corrupt(offset, "an absurd length"))?;
        let bytes = segment.file().read_at(pos, len).await;
        let bytes = bytes.map_err(|error| StorageError::read("read of a segment", error))?;
        if bytes.len() < len {
            return Err(self.corrupt(offset, "the segment file is shorter than it was"));
        }
        Ok(bytes)
    }

    /// The batches of the block at the front of `bytes`, if it is the one that the index means.
    fn payload(
        &self,
        bytes: &Bytes,
        entry: &IndexEntry,
        offset: Offset,
    ) -> Result<Bytes, StorageError> {
        let header = BlockHeader::find(bytes, self.key.topic_partition)
            .ok_or_else(|| self.corrupt(offset, "a block header does not check"))?;
        if header.base_offset() != entry.base_offset
            || header.payload_bytes() != entry.payload_bytes as usize
        {
            return Err(self.corrupt(offset, "a block is not the one that its index means"));
        }
        let end = BLOCK_HEADER_BYTES + header.payload_bytes();
        let batches = bytes.get(BLOCK_HEADER_BYTES..end).unwrap_or_default();
        if fronts_crc(0, batches) != Some(header.fronts_crc()) {
            return Err(self.corrupt(offset, "the front of a batch does not check"));
        }
        Ok(bytes.slice(BLOCK_HEADER_BYTES..end))
    }

    fn corrupt(&self, offset: Offset, reason: &'static str) -> StorageError {
        StorageError::Corrupt { topic_partition: self.key.topic_partition, offset, reason }
    }
}

const BAD_BATCH: &str = "a batch does not check";

fn unreadable(batch: StoredBatch<'_>) -> StorageError {
    StorageError::UnreadableRecords { base_offset: batch.base_offset() }
}

/// The answer of a read as it grows.
struct Picked {
    slices: Vec<Bytes>,
    taken: usize,
    bytes_max: usize,
    from: Offset,
}

impl Picked {
    /// Takes the batches of `block` that are wanted and end before `bound`, as one slice. Says
    /// whether the next block may be asked.
    fn take(&mut self, block: &Bytes, bound: Offset) -> Result<bool, &'static str> {
        let (mut pos, mut begin, mut goes_on) = (0, None, true);
        let mut failure = None;
        for batch in stored_batches(block) {
            let batch = match batch {
                Ok(batch) if batch.crc_matches() => batch,
                _ => {
                    failure = Some(BAD_BATCH);
                    break;
                }
            };
            if batch.last_offset() >= bound {
                break; // the next block, if one is wanted, begins there
            }
            if batch.last_offset() < self.from {
                pos += batch.len_bytes();
                continue;
            }
            if self.taken > 0 && self.taken + batch.len_bytes() > self.bytes_max {
                goes_on = false;
                break;
            }
            begin.get_or_insert(pos);
            pos += batch.len_bytes();
            self.taken += batch.len_bytes();
        }
        if let Some(begin) = begin {
            self.slices.push(block.slice(begin..pos));
        }
        failure.map_or(Ok(goes_on), Err)
    }
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
