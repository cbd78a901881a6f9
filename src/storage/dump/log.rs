//! The batches of one log, in the order of their offsets: those in segments, then those that only
//! the journal has. What a start would make of the directory, without making it.

use std::io;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use crate::base::ids::{Offset, TopicPartition};
use crate::record::BatchHeader;

use super::super::journal::format::{EntryHeader, EntryKind};
use super::super::segment::{BLOCK_HEADER_BYTES, IndexEntry, SegmentName, SegmentState};
use super::batches::{BatchAt, batch_at};
use super::directory::DataDir;
use super::journal::{GroupInfo, batch_of, for_each_entry};
use super::report::{FileKind, FileReport};
use super::segments::{self, Known};
use super::source::{FileSource, Window};

/// Where a batch was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSource {
    /// In a segment, as the checkpoint says.
    Segment,
    /// In the journal: in no segment that a checkpoint counts.
    Journal,
    /// In a segment, as an entry of the journal says: the large lane.
    LargeLane,
}

impl BatchSource {
    /// One or two words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            BatchSource::Segment => "segment",
            BatchSource::Journal => "journal",
            BatchSource::LargeLane => "large lane",
        }
    }
}

/// A batch of a log.
#[derive(Clone, Debug)]
pub struct BatchInfo {
    /// Which file.
    pub path: PathBuf,
    /// Where it begins in it.
    pub pos: u64,
    /// Its length.
    pub bytes: u64,
    /// What it is there as.
    pub source: BatchSource,
    /// Its header, as it lies there.
    pub header: BatchHeader,
    /// Whether its CRC matches its bytes.
    pub is_valid: bool,
}

/// Takes a batch and, if it was asked for and is not too large, its bytes.
pub type TakeBatch<'a> = &'a mut dyn FnMut(&BatchInfo, Option<&[u8]>) -> ControlFlow<()>;

/// Takes an entry of a log: its file, its group, its place (group and number), itself. Says whether
/// it wants more.
type EachChange<'a> =
    &'a mut dyn FnMut(&mut Window<'_>, &GroupInfo, (u64, u32), &EntryHeader) -> io::Result<bool>;

/// Which batches are wanted, and how much of each.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Offsets, of which a batch must hold one.
    pub offsets: Range<i64>,
    /// The bytes of batches up to this length are read; 0: of none.
    pub content_bytes_max: u64,
}

/// What the journal does to a log, found before any batch is given out.
#[derive(Default)]
struct Changes {
    /// Where the log was cut, by group and entry.
    cuts: Vec<((u64, u32), Offset)>,
    log_start: Offset,
}

impl Changes {
    /// Where the log was cut at the lowest after a place.
    fn bound_after(&self, place: (u64, u32)) -> Offset {
        let later = self.cuts.iter().filter(|(at, _)| *at > place);
        later.map(|(_, end)| *end).min().unwrap_or(Offset(i64::MAX))
    }
}

impl DataDir {
    /// Lends the batches of a log that hold one of the wanted offsets and are not deleted.
    /// What cannot be read is left out: [`DataDir::partition`] and [`DataDir::journal`] tell of it.
    ///
    /// # Errors
    /// The device's.
    pub fn batches(
        &self,
        tp: TopicPartition,
        wanted: &Wanted,
        take: TakeBatch<'_>,
    ) -> io::Result<()> {
        let mut changes = Changes::default();
        let known = self.states.get(&tp);
        changes.log_start = Offset(known.map_or(0, |state| state.log_start));
        self.for_each_change(tp, &mut |_, _, place, entry| {
            match entry.kind() {
                Some(EntryKind::Truncate) => changes.cuts.push((place, entry.first())),
                Some(EntryKind::LogStart) => {
                    changes.log_start = changes.log_start.max(entry.first());
                }
                _ => {}
            }
            Ok(true)
        })?;
        let mut wanted = wanted.clone();
        wanted.offsets.start = wanted.offsets.start.max(changes.log_start.0);
        let mut lend = Lend { wanted: &wanted, take };
        let counted = known.map(|state| state.segments.as_slice()).unwrap_or_default();
        let segments_end = Offset(known.map_or(0, |state| state.segment_end));
        let upto = segments_end.min(changes.bound_after((0, 0)));
        for (number, segment) in counted.iter().enumerate() {
            let next = counted.get(number + 1).map_or(upto, |next| Offset(next.base_offset));
            if self.segment_batches(tp, segment, next.min(upto), &mut lend)?.is_break() {
                return Ok(());
            }
        }
        self.for_each_change(tp, &mut |window, group, place, entry| {
            let is_cut = entry.last() >= changes.bound_after(place);
            if is_cut || !lend.wants(entry.first(), entry.last()) {
                return Ok(true);
            }
            let given = match entry.kind() {
                Some(EntryKind::Append) => match batch_of(window, group, entry)? {
                    Ok(batch) => lend.give(window, (&group.path, BatchSource::Journal), &batch)?,
                    Err(_) => return Ok(true),
                },
                Some(EntryKind::SegmentExtent) => self.large_batch(tp, entry, &mut lend)?,
                _ => return Ok(true),
            };
            Ok(given.is_continue())
        })
    }

    /// Lends what the journals say of a log that no checkpoint knows, in order.
    fn for_each_change(&self, tp: TopicPartition, each: EachChange<'_>) -> io::Result<()> {
        for shard in self.shards() {
            let Ok(journal) = self.journal_files(shard) else { continue };
            let mut walk = journal.walk();
            let mut large =
                |group: u64, number: u32, entry: &_| self.look_at_large(group, number, entry);
            let mut goes_on = true;
            while let Some((group, window)) = walk.next(&mut large)?.filter(|_| goes_on) {
                for_each_entry(window, &group, &mut |window, number, entry| {
                    let place = (group.group, number);
                    if entry.topic_partition() == tp && self.is_replayed(tp, place) {
                        goes_on = each(window, &group, place, entry)?;
                    }
                    Ok(goes_on)
                })?;
            }
        }
        Ok(())
    }

    fn segment_batches(
        &self,
        tp: TopicPartition,
        segment: &SegmentState,
        upto: Offset,
        lend: &mut Lend<'_>,
    ) -> io::Result<ControlFlow<()>> {
        let base_offset = Offset(segment.base_offset);
        let name = SegmentName { base_offset, revision: segment.revision };
        let path = self.segment_path(tp, name, "log");
        if !lend.wants(base_offset, Offset(upto.0 - 1)) {
            return Ok(ControlFlow::Continue(()));
        }
        let Ok(source) = FileSource::open(&path) else { return Ok(ControlFlow::Continue(())) };
        let known =
            Known { topic_partition: tp, base_offset, file_bytes: segment.file_bytes, end: upto };
        let mut report = FileReport::new(&path, FileKind::Segment, 0);
        let blocks = segments::segment(&source, &known, false, &mut report).live;
        let mut window = Window::new(&source);
        for (number, block) in blocks.iter().enumerate() {
            let bound = blocks.get(number + 1).map_or(upto, |next| next.base_offset.min(upto));
            if lend.wants(block.base_offset, block.last_offset)
                && block_batches(&mut window, (&path, block, bound), lend)?.is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn large_batch(
        &self,
        tp: TopicPartition,
        entry: &EntryHeader,
        lend: &mut Lend<'_>,
    ) -> io::Result<ControlFlow<()>> {
        let path =
            self.segment_path(tp, SegmentName::written(entry.segment_place().segment), "log");
        let Ok(source) = FileSource::open(&path) else { return Ok(ControlFlow::Continue(())) };
        match segments::large_batch(&source, tp, entry)? {
            Ok(batch) => {
                let place = (path.as_path(), BatchSource::LargeLane);
                lend.give(&mut Window::new(&source), place, &batch)
            }
            Err(_) => Ok(ControlFlow::Continue(())),
        }
    }
}

/// The batches of one block that end before `bound`.
fn block_batches(
    window: &mut Window<'_>,
    (path, block, bound): (&Path, &IndexEntry, Offset),
    lend: &mut Lend<'_>,
) -> io::Result<ControlFlow<()>> {
    let mut at = block.pos + BLOCK_HEADER_BYTES as u64;
    let end = at + u64::from(block.payload_bytes);
    while at < end {
        let Ok(batch) = batch_at(window, at..end)? else { break };
        let (first, last) = (batch.header.base_offset(), batch.header.last_offset());
        if last >= bound {
            break;
        }
        let place = (path, BatchSource::Segment);
        if lend.wants(first, last) && lend.give(window, place, &batch)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        at = batch.end();
    }
    Ok(ControlFlow::Continue(()))
}

/// Who takes the batches.
struct Lend<'a> {
    wanted: &'a Wanted,
    take: TakeBatch<'a>,
}

impl Lend<'_> {
    fn wants(&self, first: Offset, last: Offset) -> bool {
        first.0 < self.wanted.offsets.end && last.0 >= self.wanted.offsets.start
    }

    fn give(
        &mut self,
        window: &mut Window<'_>,
        (path, source): (&Path, BatchSource),
        batch: &BatchAt,
    ) -> io::Result<ControlFlow<()>> {
        let info = BatchInfo {
            path: path.to_owned(),
            pos: batch.pos,
            bytes: batch.len,
            source,
            header: batch.header,
            is_valid: batch.crc_matches(window)?,
        };
        let is_wanted = batch.len <= self.wanted.content_bytes_max;
        let content = match usize::try_from(batch.len) {
            Ok(len) if is_wanted => Some(window.at(batch.pos, len)?),
            _ => None,
        };
        Ok((self.take)(&info, content))
    }
}
