//! The segment files of one store: names, a bounded set of open ones, and what is not synced yet.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use rustc_hash::FxHashSet;

use crate::base::ids::{Offset, TopicPartition};
use crate::base::limits::BLOCK_ALIGN;
#[cfg(feature = "planted-bugs")]
use crate::base::planted::{Bug, is_planted};
use crate::io::disk::{Disk, OpenOptions};
use crate::io::file::File;

use super::super::copy_ledger::CopyLedger;
use super::super::error::StorageError;
use super::super::latch::FailureLatch;
use super::super::settings::StoreConfig;
use super::block::BlockHeader;
use super::damage::Reported;
use super::index::{self, INDEX_ENTRY_BYTES, IndexEntry, IndexMark};
use super::open_files::{LoadedIndex, OpenFiles, OpenSegment};
use super::read_ahead::ReadAhead;
use super::read_pace::ReadPace;
use super::unsynced::Unsynced;
use super::{SegmentKey, SegmentState};

/// Sizes that readers and writers of segments need.
#[derive(Clone, Copy, Debug)]
pub(in crate::storage) struct SegmentLimits {
    pub(in crate::storage) extent_bytes: usize,
    pub(in crate::storage) block_bytes: usize,
    pub(in crate::storage) open_max: usize,
    pub(in crate::storage) decompressed_bytes_max: usize,
    pub(in crate::storage) read_ahead_bytes: usize,
    pub(in crate::storage) index_entries_max: usize,
    pub(in crate::storage) index_entries_unwritten_max: usize,
    pub(in crate::storage) syncs_max: usize,
}

impl SegmentLimits {
    pub(in crate::storage) fn of(config: &StoreConfig) -> SegmentLimits {
        SegmentLimits {
            extent_bytes: config.extent_bytes,
            block_bytes: config.block_bytes,
            open_max: config.open_segments_max,
            decompressed_bytes_max: config.decompressed_bytes_max,
            read_ahead_bytes: config.read_ahead_bytes,
            index_entries_max: config.index_entries_max,
            index_entries_unwritten_max: config.index_entries_unwritten_max,
            syncs_max: config.syncs_max,
        }
    }
}

/// The segment files of one store. Single-threaded.
pub(in crate::storage) struct SegmentFiles {
    disk: Disk,
    root: PathBuf,
    limits: SegmentLimits,
    latch: Rc<FailureLatch>,
    ledger: Rc<CopyLedger>,
    read_ahead: ReadAhead,
    pace: ReadPace,
    open: OpenFiles,
    pub(super) unsynced: Unsynced,
    known_dirs: RefCell<FxHashSet<TopicPartition>>,
    /// Damage that readers met: where it was said already.
    pub(super) reported: Reported,
}

impl SegmentFiles {
    pub(in crate::storage) fn new(
        disk: Disk,
        dir: &Path,
        limits: SegmentLimits,
        (latch, ledger): (Rc<FailureLatch>, Rc<CopyLedger>),
        pace: ReadPace,
    ) -> Rc<SegmentFiles> {
        Rc::new(SegmentFiles {
            disk,
            root: dir.join("topics"),
            limits,
            latch,
            ledger,
            read_ahead: ReadAhead::new(limits.read_ahead_bytes),
            pace,
            open: OpenFiles::new(limits.open_max, limits.index_entries_max),
            unsynced: Unsynced::default(),
            known_dirs: RefCell::default(),
            reported: Reported::default(),
        })
    }

    pub(in crate::storage) fn limits(&self) -> &SegmentLimits {
        &self.limits
    }

    pub(in crate::storage) fn latch(&self) -> &FailureLatch {
        &self.latch
    }

    pub(in crate::storage) fn ledger(&self) -> &CopyLedger {
        &self.ledger
    }

    pub(in crate::storage) fn read_ahead(&self) -> &ReadAhead {
        &self.read_ahead
    }

    pub(in crate::storage) fn pace(&self) -> &ReadPace {
        &self.pace
    }

    /// Up to `len` bytes at `pos` of a segment, at the pace that the journal leaves.
    pub(super) async fn read(&self, file: &File, pos: u64, len: usize) -> io::Result<Bytes> {
        self.pace.read(&self.disk, file, pos, len).await
    }

    pub(in crate::storage) fn disk(&self) -> &Disk {
        &self.disk
    }

    #[cfg(test)]
    pub(in crate::storage) fn open_count(&self) -> usize {
        self.open.count()
    }

    /// Directory of the topics' directories.
    pub(super) fn topics_dir(&self) -> &Path {
        &self.root
    }

    pub(super) fn topic_dir(&self, topic_partition: TopicPartition) -> PathBuf {
        let hex: String =
            topic_partition.topic_id.0.iter().map(|byte| format!("{byte:02x}")).collect();
        self.root.join(hex)
    }

    /// Directory of a partition's segments.
    pub(in crate::storage) fn partition_dir(&self, topic_partition: TopicPartition) -> PathBuf {
        self.topic_dir(topic_partition).join(topic_partition.partition.to_string())
    }

    pub(in crate::storage) fn path(&self, key: SegmentKey, extension: &str) -> PathBuf {
        let name = SegmentName { base_offset: key.base_offset, revision: key.revision };
        self.partition_dir(key.topic_partition).join(format!("{name}.{extension}"))
    }

    /// The segment's file, opened now if need be. The set of open files is bounded; who holds one
    /// that was closed here keeps it until done.
    pub(in crate::storage) async fn open(&self, key: SegmentKey) -> io::Result<Rc<OpenSegment>> {
        if let Some(held) = self.open.get(key) {
            return Ok(held);
        }
        let options = OpenOptions { write: true, create: false, direct: true };
        let file = self.disk.open(&self.path(key, "log"), options).await?;
        // Meanwhile the segment may have been made anew: this file may be one without a name.
        Ok(self.open.get(key).unwrap_or_else(|| self.open.add(key, file)))
    }

    /// A new, empty segment file. What had this name was never part of the log, or was truncated.
    pub(in crate::storage) async fn create(&self, key: SegmentKey) -> io::Result<Rc<OpenSegment>> {
        self.ensure_dir(key.topic_partition).await?;
        let stale_index = self.path(key, "index");
        if self.disk.exists(&stale_index).await? {
            self.disk.remove_file(&stale_index).await?;
        }
        let options = OpenOptions { write: true, create: true, direct: true };
        let file = self.disk.open(&self.path(key, "log"), options).await?;
        if file.len()? > 0 {
            file.truncate(0).await?;
        }
        self.unsynced.note_dirs([self.partition_dir(key.topic_partition)]);
        self.unsynced.note_name(key);
        self.forget(key);
        Ok(self.open.add(key, file))
    }

    /// Notes a segment that recovery found: neither its name nor what is in it need be durable.
    pub(in crate::storage) fn note_found(&self, key: SegmentKey) {
        let dir = self.partition_dir(key.topic_partition);
        self.unsynced.note_dirs(dir.ancestors().take(4).map(Path::to_owned));
        self.note_written(key);
    }

    /// The open file of a segment that the large lane may write to: one whose name is durable.
    /// Says also whether there are writes to it that no sync has covered.
    pub(in crate::storage) fn for_large(&self, key: SegmentKey) -> Option<(Rc<OpenSegment>, bool)> {
        let is_named = self.unsynced.is_named(key);
        #[cfg(feature = "planted-bugs")]
        let is_named = is_named || is_planted(Bug::LargeBatchBeforeName);
        if !is_named {
            return None;
        }
        Some((self.open.get(key)?, !self.is_synced(key)))
    }

    /// Writes entries to the index file, from entry number `first` on. Not synced: an index that
    /// does not check is rebuilt.
    pub(in crate::storage) async fn write_index(
        &self,
        key: SegmentKey,
        first: u32,
        entries: &[IndexEntry],
    ) -> io::Result<()> {
        let options = OpenOptions { write: true, create: true, direct: false };
        let file = self.disk.open(&self.path(key, "index"), options).await?;
        let bytes = Bytes::from(index::encode(key.base_offset, first, entries));
        file.write_at(bytes, u64::from(first) * INDEX_ENTRY_BYTES as u64, false).await
    }

    /// Writes a sealed segment's snapshot, durable but for its name.
    pub(in crate::storage) async fn write_snapshot(
        &self,
        key: SegmentKey,
        content: Bytes,
    ) -> io::Result<()> {
        let options = OpenOptions { write: true, create: true, direct: false };
        let file = self.disk.open(&self.path(key, "snapshot"), options).await?;
        file.truncate(0).await?;
        file.write_at(content, 0, false).await?;
        self.unsynced.note_dirs([self.partition_dir(key.topic_partition)]);
        file.datasync().await
    }

    /// A sealed segment's snapshot, if there is one.
    pub(in crate::storage) async fn read_snapshot(
        &self,
        key: SegmentKey,
    ) -> io::Result<Option<Bytes>> {
        let path = self.path(key, "snapshot");
        let opened = self.disk.open(&path, OpenOptions::default()).await;
        let Some(file) = missing_is_none(opened)? else { return Ok(None) };
        let len = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
        file.read_at(0, len).await.map(Some)
    }

    /// The entries of the index file if they are those of the mark; else (or without a mark) those
    /// found by hopping over the blocks in the first `file_bytes`.
    pub(in crate::storage) async fn index(
        &self,
        key: SegmentKey,
        segment: &OpenSegment,
        mark: Option<IndexMark>,
        file_bytes: u64,
    ) -> Result<Rc<Vec<IndexEntry>>, StorageError> {
        let held = segment.index();
        if let Some(mark) = mark {
            let count = mark.count as usize;
            match &held {
                Some(LoadedIndex::Stored(entries)) if entries.len() >= count => {
                    return Ok(entries.clone());
                }
                _ => {}
            }
            if let Some(entries) = self.load_index(key, mark, file_bytes).await? {
                let entries = Rc::new(entries);
                self.open.keep_index(segment, LoadedIndex::Stored(entries.clone()));
                return Ok(entries);
            }
            tracing::warn!(segment = %self.path(key, "log").display(), "the index does not check: it is rebuilt");
            // As many as the file ought to have: what lies behind is the caller's pending part.
            let mut entries = self.rebuild_index(key, segment, Vec::new(), 0, file_bytes).await?;
            entries.truncate(count);
            let entries = Rc::new(entries);
            self.open.keep_index(segment, LoadedIndex::Stored(entries.clone()));
            return Ok(entries);
        }
        let (known, covered) = match held {
            Some(LoadedIndex::Rebuilt(entries, covered)) if covered <= file_bytes => {
                if covered == file_bytes {
                    return Ok(entries);
                }
                (entries.as_ref().clone(), covered)
            }
            _ => (Vec::new(), 0),
        };
        let entries = Rc::new(self.rebuild_index(key, segment, known, covered, file_bytes).await?);
        self.open.keep_index(segment, LoadedIndex::Rebuilt(entries.clone(), file_bytes));
        Ok(entries)
    }

    async fn load_index(
        &self,
        key: SegmentKey,
        mark: IndexMark,
        file_bytes: u64,
    ) -> Result<Option<Vec<IndexEntry>>, StorageError> {
        if mark.count == 0 {
            return Ok(Some(Vec::new()));
        }
        let failed = |error| StorageError::read("read of an index", error);
        let opened = self.disk.open(&self.path(key, "index"), OpenOptions::default()).await;
        let Some(file) = missing_is_none(opened).map_err(failed)? else { return Ok(None) };
        let len = mark.count as usize * INDEX_ENTRY_BYTES;
        if file.len().map_err(failed)? < len as u64 {
            return Ok(None);
        }
        let bytes = file.read_at(0, len).await.map_err(failed)?;
        Ok(index::decode(key.base_offset, &bytes, mark, file_bytes))
    }

    async fn rebuild_index(
        &self,
        key: SegmentKey,
        segment: &OpenSegment,
        mut entries: Vec<IndexEntry>,
        mut pos: u64,
        file_bytes: u64,
    ) -> Result<Vec<IndexEntry>, StorageError> {
        let mut hops = 0_u32;
        while pos < file_bytes {
            let block = segment.file().read_at(pos, BLOCK_ALIGN).await;
            let block = block.map_err(|error| StorageError::read("read of a segment", error))?;
            let Some(header) = BlockHeader::find(&block, key.topic_partition) else {
                return Err(StorageError::Corrupt {
                    topic_partition: key.topic_partition,
                    pos,
                    offset: entries.last().map_or(key.base_offset, |last| last.last_offset.plus(1)),
                    reason: "a block header of the segment does not check",
                });
            };
            let mut entry = IndexEntry {
                base_offset: header.base_offset(),
                last_offset: header.last_offset(),
                pos,
                payload_bytes: u32::try_from(header.payload_bytes()).expect("a field of 32 bits"),
                max_timestamp_so_far: header.max_timestamp(),
            };
            let block_bytes = header.block_bytes();
            while entries.last().is_some_and(|last| last.base_offset >= entry.base_offset) {
                entries.pop();
            }
            if let Some(last) = entries.last() {
                entry.max_timestamp_so_far =
                    entry.max_timestamp_so_far.max(last.max_timestamp_so_far);
            }
            entries.push(entry);
            pos += block_bytes;
            hops += 1;
            if hops.is_multiple_of(64) {
                futures_lite::future::yield_now().await;
            }
        }
        Ok(entries)
    }

    async fn ensure_dir(&self, topic_partition: TopicPartition) -> io::Result<()> {
        if self.known_dirs.borrow().contains(&topic_partition) {
            return Ok(());
        }
        let dir = self.partition_dir(topic_partition);
        self.disk.create_dir_all(&dir).await?;
        // Every directory that may have a new name in it, down from the data directory: also when
        // it was there, since who made it may have been killed before a sync.
        self.unsynced.note_dirs(dir.ancestors().skip(1).take(3).map(Path::to_owned));
        self.known_dirs.borrow_mut().insert(topic_partition);
        Ok(())
    }

    /// Forgets a segment that is about to be removed.
    pub(super) fn forget_segment(&self, key: SegmentKey) {
        self.forget(key);
        self.unsynced.forget(key);
    }

    /// Forgets all of partitions that are about to be removed.
    pub(super) fn forget_partitions(&self, gone: &[TopicPartition]) {
        let gone: FxHashSet<TopicPartition> = gone.iter().copied().collect();
        self.open.forget_all(|key| gone.contains(&key.topic_partition));
        self.read_ahead.forget(|key| gone.contains(&key.topic_partition));
        self.unsynced.forget_all(|key| gone.contains(&key.topic_partition));
        self.known_dirs.borrow_mut().retain(|tp| !gone.contains(tp));
    }

    /// Forgets an open file and what was read of it: the next one of that name is another.
    fn forget(&self, key: SegmentKey) {
        self.open.forget(key);
        self.read_ahead.forget(|read| *read == key);
    }
}

/// The name of a segment's files without their extension: as Kafka's, the base offset in twenty
/// digits; behind a dash the revision, if compaction wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::storage) struct SegmentName {
    pub(in crate::storage) base_offset: Offset,
    pub(in crate::storage) revision: u32,
}

impl SegmentName {
    /// The name of a segment as batches are written, which compaction has not touched.
    pub(in crate::storage) fn written(base_offset: Offset) -> SegmentName {
        SegmentName { base_offset, revision: 0 }
    }

    /// The name of a segment that a checkpoint knows.
    pub(in crate::storage) fn of(segment: &SegmentState) -> SegmentName {
        let base_offset = Offset(segment.base_offset);
        SegmentName { base_offset, revision: segment.revision }
    }

    /// The segment that a file belongs to, and the file's extension; `None` if it is no segment's.
    pub(in crate::storage) fn parse(file: &str) -> Option<(SegmentName, &str)> {
        let (name, extension) = file.split_once('.')?;
        let (base, revision) = name.split_once('-').map_or((name, None), |(b, r)| (b, Some(r)));
        let name = SegmentName {
            base_offset: Offset(base.parse().ok()?),
            revision: revision.map_or(Some(0), |revision| revision.parse().ok())?,
        };
        Some((name, extension))
    }

    pub(in crate::storage) fn key(self, topic_partition: TopicPartition) -> SegmentKey {
        let SegmentName { base_offset, revision } = self;
        SegmentKey { topic_partition, base_offset, revision }
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}", self.base_offset.0)?;
        match self.revision {
            0 => Ok(()),
            revision => write!(f, "-{revision}"),
        }
    }
}

/// What is not there needs no work: its partition was deleted meanwhile.
pub(in crate::storage) fn missing_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
