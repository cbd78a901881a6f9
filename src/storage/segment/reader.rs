//! Reads batches back from one segment: aligned, several blocks at once, never decoded.

use std::rc::Rc;

use bytes::Bytes;

use crate::base::ids::Offset;
use crate::record::{StoredBatch, stored_batches};

use super::super::error::StorageError;
use super::block::{BLOCK_HEADER_BYTES, BlockHeader, fronts_crc_of};
use super::damage::BAD_BATCH;
use super::files::SegmentFiles;
use super::index::{IndexEntry, IndexMark, IndexView};
use super::read_ahead::Window;
use super::{OpenSegment, Segment, SegmentKey};

/// One read of a segment at most, unless a single block is larger.
const READ_BYTES_MAX: u64 = 16 << 20;

/// What is read ahead at a time, in bytes of batches: as much as the reader asks for, but not less
/// than makes a read of the disk worth its request, nor more than two of the largest answers.
const AHEAD_BYTES_MIN: usize = 256 << 10;
const AHEAD_BYTES_MAX: usize = 2 << 20;

/// A segment as it was when a plan was made; owns what it needs, so the log may go on.
#[derive(Clone)]
pub(in crate::storage) struct SegmentReader {
    pub(super) files: Rc<SegmentFiles>,
    pub(super) key: SegmentKey,
    pub(super) index: Option<IndexMark>,
    pub(super) file_bytes: u64,
    pub(super) pending: Rc<Vec<IndexEntry>>,
    pub(super) max_timestamp: i64,
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
                self.read_without_index(&segment, from, upto, bytes_max).await
            }
            other => other,
        }
    }

    pub(super) async fn read_once(
        &self,
        segment: &OpenSegment,
        from: Offset,
        upto: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Bytes>, StorageError> {
        let index = self.view(segment).await?;
        let wanted = |number: usize| index.get(number).filter(|entry| entry.base_offset < upto);
        let mut number = index.find_offset(from);
        let Some(first) = wanted(number) else { return Ok(Vec::new()) };
        let in_order = self.files.read_ahead().begin(self.key, first.pos);
        let mut picked = Picked { slices: Vec::new(), taken: 0, bytes_max, from };
        let mut window: Option<Window> = None;
        while let Some(entry) = wanted(number).filter(|_| picked.has_room()) {
            let bound = upto.min(index.end_of(number));
            let held = window.as_ref().and_then(|it| it.bytes_at(entry.pos, entry.block_bytes()));
            if held.is_none() && picked.taken > 0 && entry.payload_bytes as usize > picked.room() {
                break; // no wait for the disk that the answer may gain nothing from
            }
            let taken = async {
                let bytes = match held {
                    Some(bytes) => bytes,
                    None => {
                        let loaded = self.load(segment, &index, number, picked.room()).await?;
                        let bytes = loaded.bytes_at(entry.pos, entry.block_bytes());
                        window = Some(loaded);
                        bytes.ok_or_else(|| {
                            self.corrupt(entry.pos, from, "a block ends behind its window")
                        })?
                    }
                };
                let block = self.payload(&bytes, entry, from)?;
                picked.take(&block, bound).map_err(|reason| self.corrupt(entry.pos, from, reason))
            };
            match taken.await {
                Ok(true) => number += 1,
                Ok(false) => break,
                // Good batches before a bad one are an answer; the next read meets the bad one.
                Err(_) if picked.taken > 0 => return Ok(picked.slices),
                Err(error) => return Err(error),
            }
        }
        self.look_ahead(segment, &index, number, window.as_ref(), (in_order, bytes_max));
        Ok(picked.slices)
    }

    /// The window that begins with, or holds, block `number`: one that was read ahead, or as many
    /// neighbours as hold `payload_max` bytes, read now.
    async fn load(
        &self,
        segment: &OpenSegment,
        index: &IndexView,
        number: usize,
        payload_max: usize,
    ) -> Result<Window, StorageError> {
        let (pos, len, block_bytes) = run(index, number, payload_max);
        if let Some(window) = self.files.read_ahead().take(self.key, pos) {
            let window = window.ready().await;
            if let Some(window) = window.filter(|it| it.bytes_at(pos, block_bytes).is_some()) {
                return Ok(window);
            }
        }
        let offset = index.get(number).map_or(self.key.base_offset, |entry| entry.base_offset);
        let bytes = self.read_exactly(segment, pos, len, offset).await?;
        Ok(Window::new(self.key, pos, bytes))
    }

    /// After a read that ended before or inside of block `number`: keeps what is left of its
    /// window, and if it went on where another had ended, begins to read what will be asked next.
    fn look_ahead(
        &self,
        segment: &OpenSegment,
        index: &IndexView,
        number: usize,
        window: Option<&Window>,
        (in_order, bytes_max): (bool, usize),
    ) {
        let ahead = self.files.read_ahead();
        let last = number.checked_sub(1).and_then(|last| index.get(last));
        let end = last.map(|last| last.pos + last.block_bytes());
        let Some(next_pos) = index.get(number).map(|entry| entry.pos).or(end) else { return };
        ahead.expect(self.key, next_pos);
        if let Some(window) = window {
            ahead.put_back(window, next_pos);
        }
        if !in_order || self.files.pace().is_busy() {
            return;
        }
        // Over what is there already, as far as one more answer may want.
        let bytes_max = bytes_max.clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX);
        let (mut first, mut held) = (number, 0);
        while let Some(entry) = index.get(first).filter(|it| ahead.holds(self.key, it.pos)) {
            held += entry.payload_bytes as usize;
            first += 1;
        }
        if held < bytes_max && first < index.len() {
            let (pos, len, _) = run(index, first, bytes_max);
            ahead.start(self.key, segment.file(), pos, len);
        }
    }

    pub(super) async fn open(&self) -> Result<Rc<OpenSegment>, StorageError> {
        let opened = self.files.open(self.key).await;
        opened.map_err(|error| StorageError::read("open of a segment", error))
    }

    pub(super) async fn view(&self, segment: &OpenSegment) -> Result<IndexView, StorageError> {
        let stored = self.files.index(self.key, segment, self.index, self.file_bytes).await?;
        Ok(match self.index {
            Some(mark) => IndexView::new(stored, mark.count as usize, self.pending.clone()),
            // A rebuilt index knows the pending blocks too.
            None => IndexView::new(stored.clone(), stored.len(), Rc::default()),
        })
    }

    pub(super) async fn read_exactly(
        &self,
        segment: &OpenSegment,
        pos: u64,
        len: u64,
        offset: Offset,
    ) -> Result<Bytes, StorageError> {
        let len =
            usize::try_from(len).map_err(|_| self.corrupt(pos, offset, "an absurd length"))?;
        let bytes = self.files.read(segment.file(), pos, len).await;
        let bytes = bytes.map_err(|error| StorageError::read("read of a segment", error))?;
        if bytes.len() < len {
            return Err(self.corrupt(pos, offset, "the segment file is shorter than it was"));
        }
        Ok(bytes)
    }

    /// The batches of the block at the front of `bytes`, if it is the one that the index means.
    pub(super) fn payload(
        &self,
        bytes: &Bytes,
        entry: &IndexEntry,
        offset: Offset,
    ) -> Result<Bytes, StorageError> {
        let header = BlockHeader::find(bytes, self.key.topic_partition)
            .ok_or_else(|| self.corrupt(entry.pos, offset, "a block header does not check"))?;
        if header.base_offset() != entry.base_offset
            || header.payload_bytes() != entry.payload_bytes as usize
        {
            return Err(self.corrupt(
                entry.pos,
                offset,
                "a block is not the one that its index means",
            ));
        }
        let end = BLOCK_HEADER_BYTES + header.payload_bytes();
        let batches = bytes.get(BLOCK_HEADER_BYTES..end).unwrap_or_default();
        if fronts_crc_of(batches) != Some(header.fronts_crc()) {
            return Err(self.corrupt(entry.pos, offset, "the front of a batch does not check"));
        }
        Ok(bytes.slice(BLOCK_HEADER_BYTES..end))
    }
}

/// Position and length of block `number` and of the neighbours behind it in the file that together
/// hold `payload_max` bytes of batches; and the length of the block alone. The block exists.
fn run(index: &IndexView, number: usize, payload_max: usize) -> (u64, u64, u64) {
    let Some(first) = index.get(number) else { return (0, 0, 0) };
    let mut len = first.block_bytes();
    let mut payload = u64::from(first.payload_bytes);
    for entry in (number + 1..).map_while(|number| index.get(number)) {
        let is_next = entry.pos == first.pos + len;
        let fits = len + entry.block_bytes() <= READ_BYTES_MAX;
        if payload >= payload_max as u64 || !is_next || !fits {
            break;
        }
        len += entry.block_bytes();
        payload += u64::from(entry.payload_bytes);
    }
    (first.pos, len, first.block_bytes())
}

/// The answer of a read as it grows.
struct Picked {
    slices: Vec<Bytes>,
    taken: usize,
    bytes_max: usize,
    from: Offset,
}

impl Picked {
    fn has_room(&self) -> bool {
        self.taken == 0 || self.taken < self.bytes_max
    }

    fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.taken)
    }

    /// Takes the batches of `block` that are wanted and end before `bound`, as one slice. Says
    /// whether the next block may be asked.
    fn take(&mut self, block: &Bytes, bound: Offset) -> Result<bool, &'static str> {
        let (mut pos, mut begin, mut goes_on) = (0, None, true);
        let mut failure = None;
        for batch in stored_batches(block) {
            // Before its bytes are looked at: its length is covered by the block's own check.
            let len = batch.as_ref().map_or(0, StoredBatch::len_bytes);
            if self.taken > 0 && self.taken + len > self.bytes_max {
                goes_on = false;
                break;
            }
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
