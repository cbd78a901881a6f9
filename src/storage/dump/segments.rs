//! Segments and their indexes: block by block, against what the checkpoint says of them.

use std::io;

use crate::base::ids::{Offset, TopicPartition};
use crate::base::limits::BLOCK_ALIGN;

use super::super::journal::format::EntryHeader;
use super::super::segment::{
    BLOCK_HEADER_BYTES, BlockHeader, INDEX_ENTRY_BYTES, IndexEntry, IndexMark, SEGMENT_VERSION,
    block_bytes, decode_index, push_entry,
};
use super::batches::{BatchAt, batch_at};
use super::report::{FileReport, Verdict};
use super::source::{Source, Window};

/// What is known of a segment from elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) topic_partition: TopicPartition,
    /// Offset that names it.
    pub(super) base_offset: Offset,
    /// Bytes that the checkpoint counts; 0 if it does not know the segment.
    pub(super) file_bytes: u64,
    /// Where the next segment begins, or the log's segments end.
    pub(super) end: Offset,
}

/// The blocks of a segment that the checkpoint counts.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// All of them, in the order of the file.
    all: Vec<IndexEntry>,
    /// Without those that later ones supersede: base offsets rise.
    pub(super) live: Vec<IndexEntry>,
    /// Blocks behind what the checkpoint counts.
    pub(super) uncounted: u64,
}

/// Looks at a segment. `deep`: at each batch, too.
pub(super) fn segment(
    source: &dyn Source,
    known: &Known,
    deep: bool,
    report: &mut FileReport,
) -> Blocks {
    let window = if deep { Window::new(source) } else { Window::narrow(source) };
    let mut look = Look { window, known, deep, report, blocks: Blocks::default() };
    if let Err(error) = look.counted().and_then(|()| look.uncounted()) {
        look.report.note_unreadable(&error);
    }
    let Look { blocks, .. } = look;
    let first = blocks.live.first().map_or(known.base_offset, |first| first.base_offset);
    let last = blocks.live.last().map_or(known.base_offset.0 - 1, |last| last.last_offset.0);
    let last = last.min(known.end.0 - 1);
    report.summary = match (known.file_bytes, blocks.uncounted) {
        (0, count) => format!("no checkpoint knows it; {count} blocks"),
        (_, 0) => format!("{} blocks, offsets {first} to {last}", blocks.all.len()),
        (_, more) => format!(
            "{} blocks, offsets {first} to {last}; {more} blocks behind what the checkpoint counts",
            blocks.all.len()
        ),
    };
    blocks
}

struct Look<'a> {
    window: Window<'a>,
    known: &'a Known,
    deep: bool,
    report: &'a mut FileReport,
    blocks: Blocks,
}

impl Look<'_> {
    fn counted(&mut self) -> io::Result<()> {
        let limit = self.known.file_bytes;
        let mut pos = 0;
        while pos < limit {
            let next = self.next_offset();
            if pos >= self.window.len() {
                let (len, means) = (self.window.len(), self.lost(next, self.known.end));
                let what =
                    format!("it ends at byte {len}, but the checkpoint counts {limit} bytes");
                self.report.note(Verdict::Damaged, len, what, means);
                return Ok(());
            }
            let Some(header) = self.header_at(pos)? else {
                let Some(found) = self.after_damage(pos, next)? else { return Ok(()) };
                pos = found;
                continue;
            };
            let entry = entry_of(&header, pos);
            let end = pos + entry.block_bytes();
            if end > limit || end > self.window.len() {
                let what = format!("a block ends at byte {end}, behind the segment's {limit}");
                let means = self.lost(entry.base_offset, self.known.end);
                self.report.note(Verdict::Damaged, pos, what, means);
                return Ok(());
            }
            if self.deep {
                self.batches(pos, &header, Verdict::Damaged)?;
            }
            self.take(entry);
            pos = end;
        }
        Ok(())
    }

    /// What lies behind the bytes that the checkpoint counts: nobody relies on it.
    fn uncounted(&mut self) -> io::Result<()> {
        let mut pos = self.known.file_bytes;
        if self.report.verdict() >= Verdict::Unreadable {
            return Ok(());
        }
        while let Some(header) = self.header_at(pos)? {
            let end = pos + header.block_bytes();
            if end > self.window.len() {
                break;
            }
            if self.deep {
                self.batches(pos, &header, Verdict::Torn)?;
            }
            self.blocks.uncounted += 1;
            pos = end;
        }
        let len = self.window.len();
        if pos < len && !self.window.is_zero(pos..len)? {
            let what = format!("{} bytes at the end are no whole block", len - pos);
            self.report.note(Verdict::Torn, pos, what, UNCOUNTED);
        }
        Ok(())
    }

    fn header_at(&mut self, pos: u64) -> io::Result<Option<BlockHeader>> {
        let owner = self.known.topic_partition;
        let bytes = self.window.at(pos, BLOCK_HEADER_BYTES)?;
        Ok(BlockHeader::find(bytes, owner).copied())
    }

    /// Tells of a place where no block begins, and finds the next one, if there is any.
    fn after_damage(&mut self, pos: u64, next: Offset) -> io::Result<Option<u64>> {
        let limit = self.known.file_bytes.min(self.window.len());
        let found = BlockHeader::version_of(self.window.at(pos, BLOCK_HEADER_BYTES)?);
        if let Some(version) = found.filter(|version| *version != SEGMENT_VERSION) {
            self.report.note_version(version, SEGMENT_VERSION);
            return Ok(None);
        }
        let what = match found {
            Some(_) => "a block here belongs to another partition",
            None => "the block header here does not check",
        };
        let mut at = pos + BLOCK_ALIGN as u64;
        while at < limit {
            if let Some(header) = self.header_at(at)? {
                let means = self.lost(next, header.base_offset());
                self.report.note(Verdict::Damaged, pos, what, means);
                return Ok(Some(at));
            }
            at += BLOCK_ALIGN as u64;
        }
        let means = self.lost(next, self.known.end);
        self.report.note(Verdict::Damaged, pos, what, means);
        Ok(None)
    }

    /// Checks what a block says of its batches, and each batch.
    fn batches(&mut self, pos: u64, header: &BlockHeader, verdict: Verdict) -> io::Result<()> {
        let (begin, mut fronts) = (pos + BLOCK_HEADER_BYTES as u64, 0);
        let end = begin + header.payload_bytes() as u64;
        let (mut at, mut last) = (begin, Offset(-1));
        while at < end {
            let batch = match batch_at(&mut self.window, at..end)? {
                Ok(batch) => batch,
                Err(why) => {
                    let offsets = (header.base_offset(), header.last_offset());
                    self.note_batches(verdict, at, why, offsets);
                    return Ok(());
                }
            };
            if !batch.crc_matches(&mut self.window)? {
                let offsets = (batch.header.base_offset(), batch.header.last_offset());
                self.note_batches(verdict, at, "a batch's CRC does not match its bytes", offsets);
            }
            fronts = batch.fronts_crc(fronts);
            last = batch.header.last_offset();
            at = batch.end();
        }
        let offsets = (header.base_offset(), header.last_offset());
        if fronts != header.fronts_crc() {
            let why = "the fronts of this block's batches are not as they were written";
            self.note_batches(verdict, pos, why, offsets);
        } else if last != header.last_offset() {
            let why = "the block's last offset is not that of its last batch";
            self.note_batches(verdict, pos, why, offsets);
        }
        Ok(())
    }

    fn note_batches(&mut self, verdict: Verdict, pos: u64, what: &str, offsets: (Offset, Offset)) {
        let means = match verdict {
            Verdict::Damaged => {
                format!("offsets {} to {} are not delivered any more", offsets.0, offsets.1)
            }
            _ => UNCOUNTED.to_owned(),
        };
        self.report.note(verdict, pos, what, means);
    }

    fn take(&mut self, entry: IndexEntry) {
        let mut live = entry;
        while self.blocks.live.last().is_some_and(|last| last.base_offset >= entry.base_offset) {
            self.blocks.live.pop();
        }
        if let Some(last) = self.blocks.live.last() {
            live.max_timestamp_so_far = live.max_timestamp_so_far.max(last.max_timestamp_so_far);
        }
        self.blocks.all.push(entry);
        push_entry(&mut self.blocks.live, live);
    }

    fn next_offset(&self) -> Offset {
        self.blocks.all.last().map_or(self.known.base_offset, |last| last.last_offset.plus(1))
    }

    fn lost(&self, first: Offset, end: Offset) -> String {
        if first >= end {
            return "no offset is lost by it".to_owned();
        }
        format!("offsets {first} to {} cannot be read", end.0 - 1)
    }
}

const UNCOUNTED: &str = "no checkpoint counts it: a start writes it again from the journal, unless the \
                         journal names a batch here (then it is told there)";

fn entry_of(header: &BlockHeader, pos: u64) -> IndexEntry {
    IndexEntry {
        base_offset: header.base_offset(),
        last_offset: header.last_offset(),
        pos,
        payload_bytes: u32::try_from(header.payload_bytes()).unwrap_or(u32::MAX),
        max_timestamp_so_far: header.max_timestamp(),
    }
}

/// What is in the index file matters to nobody if it is not what the checkpoint says.
pub(super) const REBUILT: &str =
    "no record is lost: the broker rebuilds the index from the block headers";

/// Looks at the index of a segment, which a checkpoint marks so, against the segment's blocks.
/// `is_sound`: whether the segment's own blocks all were.
pub(super) fn index(
    source: &dyn Source,
    (known, blocks, is_sound): (&Known, &Blocks, bool),
    mark: Option<IndexMark>,
    report: &mut FileReport,
) {
    let Some(mark) = mark else {
        report.summary = "not used: the broker rebuilds it".to_owned();
        return;
    };
    report.summary = format!("{} entries", mark.count);
    let wanted = u64::from(mark.count) * INDEX_ENTRY_BYTES as u64;
    if wanted > source.len_bytes() {
        let what = format!("it is shorter than its {} entries", mark.count);
        return report.note(Verdict::Stale, source.len_bytes(), what, REBUILT);
    }
    let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(0)];
    if let Err(error) = source.read_at(0, &mut bytes) {
        return report.note_unreadable(&error);
    }
    let Some(entries) = decode_index(known.base_offset, &bytes, mark, known.file_bytes) else {
        let what = "its entries are not those that the checkpoint counts";
        return report.note(Verdict::Stale, None, what, REBUILT);
    };
    for (entry, number) in entries.iter().zip(0_u64..).filter(|_| is_sound) {
        let block = blocks.all.binary_search_by_key(&entry.pos, |block| block.pos);
        let same = block.is_ok_and(|at| {
            let block = &blocks.all[at];
            block.base_offset == entry.base_offset
                && block.last_offset == entry.last_offset
                && block.payload_bytes == entry.payload_bytes
                && block.max_timestamp_so_far <= entry.max_timestamp_so_far
        });
        if !same {
            let what = format!(
                "entry {number} names a block with offsets {} to {} at byte {}, where none lies",
                entry.base_offset, entry.last_offset, entry.pos
            );
            report.note(Verdict::Damaged, number * INDEX_ENTRY_BYTES as u64, what, REBUILT);
        }
    }
}

/// Whether the batch that an entry of the journal places here lies here, alone in its block, whole.
///
/// # Errors
/// The device's.
pub(super) fn large_batch(
    source: &dyn Source,
    owner: TopicPartition,
    entry: &EntryHeader,
) -> io::Result<Result<BatchAt, String>> {
    let (pos, len) = (entry.segment_place().pos, entry.batch_bytes());
    let mut window = Window::new(source);
    let at = |why: &str| {
        let segment = entry.segment_place().segment;
        Ok(Err(format!("it is not in segment {segment} at byte {pos}: {why}")))
    };
    if pos.saturating_add(block_bytes(len) as u64) > window.len() {
        return at("the file is shorter");
    }
    let bytes = window.at(pos, BLOCK_HEADER_BYTES)?;
    let Some(header) = BlockHeader::find(bytes, owner).copied() else {
        return at("no block header is there");
    };
    if header.payload_bytes() != len {
        return at("the block there is of another length");
    }
    let begin = pos + BLOCK_HEADER_BYTES as u64;
    let batch = match batch_at(&mut window, begin..begin + len as u64)? {
        Ok(batch) => batch,
        Err(why) => return at(why),
    };
    if let Some(why) = batch.differs_from(entry) {
        return at(why);
    }
    if batch.fronts_crc(0) != header.fronts_crc() {
        return at("its front is not as it was written");
    }
    if !batch.crc_matches(&mut window)? {
        return at("its CRC does not match its bytes");
    }
    Ok(Ok(batch))
}
