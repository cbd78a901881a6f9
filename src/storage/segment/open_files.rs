//! The open segment files of one store: a bounded set, and within it a bounded memory for indexes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::io::file::File;

use super::super::gate::Gate;
use super::super::latch::FailureLatch;
use super::SegmentKey;
use super::index::IndexEntry;

/// An index in memory.
#[derive(Clone)]
pub(super) enum LoadedIndex {
    /// As the index file has it.
    Stored(Rc<Vec<IndexEntry>>),
    /// From the block headers up to a position.
    Rebuilt(Rc<Vec<IndexEntry>>, u64),
}

/// An open segment file and what is known of its index.
pub(in crate::storage) struct OpenSegment {
    file: File,
    index: RefCell<Option<LoadedIndex>>,
    last_used: Cell<u64>,
    syncs: Gate,
}

impl OpenSegment {
    fn new(file: File) -> OpenSegment {
        let (index, last_used) = (RefCell::new(None), Cell::new(0));
        OpenSegment { file, index, last_used, syncs: Gate::default() }
    }

    pub(in crate::storage) fn file(&self) -> &File {
        &self.file
    }

    /// Makes all completed writes to the file durable. One sync of a file at a time, and a failed one
    /// closes the latch before another begins: the kernel tells one of those who sync at the same
    /// time that pages are lost, and the others that all is well.
    pub(in crate::storage) async fn sync(&self, latch: &FailureLatch) -> io::Result<()> {
        let _turn = self.syncs.enter().await;
        latch.check().map_err(|problem| io::Error::other(problem.to_string()))?;
        let synced = self.file.datasync().await;
        synced.inspect_err(|error| drop(latch.trip("sync of a segment", error)))
    }

    pub(super) fn index(&self) -> Option<LoadedIndex> {
        self.index.borrow().clone()
    }

    fn index_entries(&self) -> usize {
        match &*self.index.borrow() {
            Some(LoadedIndex::Stored(entries) | LoadedIndex::Rebuilt(entries, _)) => entries.len(),
            None => 0,
        }
    }

    /// Forgets the index: a block was not where it said.
    pub(in crate::storage) fn forget_index(&self) {
        *self.index.borrow_mut() = None;
    }
}

/// Open files, the one that was not used for longest closed for a new one. Who holds one that was
/// closed here keeps it until done.
pub(super) struct OpenFiles {
    files_max: usize,
    index_entries_max: usize,
    held: RefCell<Held>,
}

#[derive(Default)]
struct Held {
    by_key: FxHashMap<SegmentKey, Rc<OpenSegment>>,
    /// The same, the one that was not used for longest first.
    by_use: BTreeMap<u64, SegmentKey>,
    uses: u64,
}

impl OpenFiles {
    pub(super) fn new(files_max: usize, index_entries_max: usize) -> OpenFiles {
        OpenFiles { files_max: files_max.max(1), index_entries_max, held: RefCell::default() }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.held.borrow().by_key.len()
    }

    pub(super) fn get(&self, key: SegmentKey) -> Option<Rc<OpenSegment>> {
        let mut held = self.held.borrow_mut();
        let found = held.by_key.get(&key)?.clone();
        held.by_use.remove(&found.last_used.get());
        held.use_now(key, &found);
        Some(found)
    }

    pub(super) fn add(&self, key: SegmentKey, file: File) -> Rc<OpenSegment> {
        let segment = Rc::new(OpenSegment::new(file));
        let mut held = self.held.borrow_mut();
        held.remove(key);
        while held.by_key.len() >= self.files_max {
            let Some((_, oldest)) = held.by_use.pop_first() else { break };
            if let Some(closed) = held.by_key.remove(&oldest) {
                closed.forget_index(); // who still wants the file does not want that
            }
        }
        held.by_key.insert(key, segment.clone());
        held.use_now(key, &segment);
        segment
    }

    pub(super) fn forget(&self, key: SegmentKey) {
        self.held.borrow_mut().remove(key);
    }

    pub(super) fn forget_all(&self, is_gone: impl Fn(SegmentKey) -> bool) {
        let mut held = self.held.borrow_mut();
        held.by_key.retain(|key, _| !is_gone(*key));
        held.by_use.retain(|_, key| !is_gone(*key));
    }

    /// Keeps an index in memory, and forgets those of segments that were used long ago where all
    /// together are too large.
    pub(super) fn keep_index(&self, segment: &OpenSegment, loaded: LoadedIndex) {
        *segment.index.borrow_mut() = Some(loaded);
        let held = self.held.borrow();
        let mut entries: usize = held.by_key.values().map(|open| open.index_entries()).sum();
        let others = held.by_use.values().filter_map(|key| held.by_key.get(key));
        for other in others.filter(|other| !std::ptr::eq(Rc::as_ptr(other), segment)) {
            if entries <= self.index_entries_max {
                return;
            }
            entries -= other.index_entries();
            other.forget_index();
        }
    }
}

impl Held {
    fn use_now(&mut self, key: SegmentKey, segment: &OpenSegment) {
        self.uses += 1;
        segment.last_used.set(self.uses);
        self.by_use.insert(self.uses, key);
    }

    fn remove(&mut self, key: SegmentKey) {
        if let Some(closed) = self.by_key.remove(&key) {
            self.by_use.remove(&closed.last_used.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures_lite::future::block_on;

    use super::*;
    use crate::base::ids::{Offset, PartitionIndex, TopicId, TopicPartition};
    use crate::io::disk::{Disk, OpenOptions};
    use crate::io::sim_disk::SimDisk;

    fn key(base: i64) -> SegmentKey {
        let topic_partition =
            TopicPartition { topic_id: TopicId([1; 16]), partition: PartitionIndex(0) };
        SegmentKey { topic_partition, base_offset: Offset(base), revision: 0 }
    }

    fn file() -> File {
        let options = OpenOptions { write: true, create: true, direct: true };
        block_on(Disk::Sim(SimDisk::new()).open(Path::new("/segment"), options)).expect("made")
    }

    #[test]
    fn open_files_are_bounded_and_the_one_used_longest_ago_goes() {
        let files = OpenFiles::new(3, 10);
        for base in 0..3 {
            files.add(key(base), file());
        }
        assert!(files.get(key(0)).is_some());
        files.forget(key(2));
        files.add(key(2), file());
        files.add(key(3), file());
        let held: Vec<bool> = (0..4).map(|base| files.get(key(base)).is_some()).collect();
        assert_eq!((files.count(), held), (3, vec![true, false, true, true]));
    }

    #[test]
    fn indexes_in_memory_are_bounded_and_the_one_used_longest_ago_goes() {
        let files = OpenFiles::new(100, 10);
        let entry = IndexEntry {
            base_offset: Offset(0),
            last_offset: Offset(0),
            pos: 0,
            payload_bytes: 1,
            max_timestamp_so_far: 0,
        };
        let opened: Vec<_> = (0..4)
            .map(|base| {
                let segment = files.add(key(base), file());
                files.keep_index(&segment, LoadedIndex::Stored(Rc::new(vec![entry; 4])));
                segment
            })
            .collect();
        let held: Vec<usize> = opened.iter().map(|segment| segment.index_entries()).collect();
        assert_eq!(held, [0, 0, 4, 4]);
    }
}
