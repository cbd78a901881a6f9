//! What of the segments is not durable yet, and how it becomes so.

use std::cell::{Cell, RefCell};
use std::hash::Hash;
use std::io;
use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;

use crate::base::parallel::run_parallel;
#[cfg(feature = "planted-bugs")]
use crate::base::planted::{Bug, is_planted};

use super::SegmentKey;
use super::files::{SegmentFiles, missing_is_none};

/// Files that are synced at the same time: the file system then commits its journal, and the device
/// flushes its cache, for many of them at once.
const SYNCS_AT_ONCE: usize = 16;

/// What no sync has covered.
#[derive(Default)]
pub(super) struct Unsynced {
    /// Segments with such writes, each with the number of the last.
    written: Noted<SegmentKey>,
    /// Segments whose names may not be durable, each with a number of its own.
    names: Noted<SegmentKey>,
    /// Directories with such names, each with the number of the last.
    dirs: Noted<PathBuf>,
    notes: Cell<u64>,
}

impl Unsynced {
    pub(super) fn note_dirs(&self, dirs: impl IntoIterator<Item = PathBuf>) {
        self.dirs.borrow_mut().extend(dirs.into_iter().map(|dir| (dir, self.next_note())));
    }

    pub(super) fn note_name(&self, key: SegmentKey) {
        self.names.borrow_mut().insert(key, self.next_note());
    }

    fn next_note(&self) -> u64 {
        self.notes.set(self.notes.get() + 1);
        self.notes.get()
    }

    pub(super) fn is_named(&self, key: SegmentKey) -> bool {
        !self.names.borrow().contains_key(&key)
    }

    /// Forgets segments that are about to be removed.
    pub(super) fn forget_all(&self, is_gone: impl Fn(SegmentKey) -> bool) {
        for noted in [&self.written, &self.names] {
            noted.borrow_mut().retain(|key, _| !is_gone(*key));
        }
    }

    pub(super) fn forget(&self, key: SegmentKey) {
        for noted in [&self.written, &self.names] {
            noted.borrow_mut().remove(&key);
        }
    }
}

impl SegmentFiles {
    /// Whether every write to the segment that was completed was also synced.
    pub(in crate::storage) fn is_synced(&self, key: SegmentKey) -> bool {
        !self.unsynced.written.borrow().contains_key(&key)
    }

    /// Notes a completed write that no sync has covered.
    pub(in crate::storage) fn note_written(&self, key: SegmentKey) {
        let number = self.unsynced.next_note();
        self.unsynced.written.borrow_mut().insert(key, number);
    }

    /// Makes a segment's name durable.
    pub(in crate::storage) async fn sync_names(&self, key: SegmentKey) -> io::Result<()> {
        let number = self.unsynced.names.borrow().get(&key).copied();
        // All of them, whatever is noted: a sync of somebody else's may be under way.
        let dir = self.partition_dir(key.topic_partition);
        let dirs: Vec<&Path> = dir.ancestors().take(4).collect();
        #[cfg(feature = "planted-bugs")]
        let dirs = if is_planted(Bug::MissingDirectorySync) { Vec::new() } else { dirs };
        for dir in dirs.into_iter().rev() {
            self.disk().sync_dir(dir).await?;
        }
        are_durable(&self.unsynced.names, number.map(|number| (key, number)));
        Ok(())
    }

    /// Makes one segment durable.
    pub(in crate::storage) async fn sync_segment(&self, key: SegmentKey) -> io::Result<()> {
        self.open(key).await?.sync(self.latch()).await?;
        // Only now: a checkpoint that runs meanwhile must still see it as not synced.
        self.unsynced.written.borrow_mut().remove(&key);
        Ok(())
    }

    /// Makes every segment write, and every new name, that was completed before this call durable.
    pub(in crate::storage) async fn sync_written(&self) -> io::Result<()> {
        let names = numbered(&self.unsynced.names);
        let written = numbered(&self.unsynced.written);
        let dirs = numbered(&self.unsynced.dirs);
        if written.len() + dirs.len() <= self.limits().syncs_max
            || !self.sync_with_all(&written).await?
        {
            self.sync_each(&written, &dirs).await?;
        }
        // Only now: without room it is tried again, and must do all of it then.
        are_durable(&self.unsynced.dirs, dirs);
        are_durable(&self.unsynced.written, written);
        are_durable(&self.unsynced.names, names);
        Ok(())
    }

    /// Many at once, with all of the file system: says whether it can be relied on.
    async fn sync_with_all(&self, written: &[(SegmentKey, u64)]) -> io::Result<bool> {
        // Of any that is still there: it has the device empty its cache in any case.
        for (key, _) in written {
            let Some(segment) = missing_is_none(self.open(*key).await)? else { continue };
            // A page of the cache that could not be written is told of by its own file only.
            if !segment.file().is_direct() {
                return Ok(false);
            }
            self.disk().sync_all(self.topics_dir()).await?;
            segment.sync(self.latch()).await?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn sync_each(
        &self,
        written: &[(SegmentKey, u64)],
        dirs: &[(PathBuf, u64)],
    ) -> io::Result<()> {
        let syncs = written.iter().map(|(key, _)| async move {
            // It may be gone: its partition was deleted meanwhile.
            match missing_is_none(self.open(*key).await)? {
                Some(segment) => segment.sync(self.latch()).await,
                None => Ok(()),
            }
        });
        for synced in run_parallel(SYNCS_AT_ONCE, syncs).await {
            synced?;
        }
        // Parents first: a name below one that is lost would be lost with it.
        let mut dirs: Vec<&PathBuf> = dirs.iter().map(|(dir, _)| dir).collect();
        dirs.sort_unstable();
        #[cfg(feature = "planted-bugs")]
        dirs.retain(|_| !is_planted(Bug::MissingDirectorySync));
        for dir in dirs {
            missing_is_none(self.disk().sync_dir(dir).await)?;
        }
        Ok(())
    }
}

/// What needs a sync, each with the number under which it was noted.
type Noted<K> = RefCell<FxHashMap<K, u64>>;

fn numbered<K: Clone>(noted: &Noted<K>) -> Vec<(K, u64)> {
    noted.borrow().iter().map(|(key, number)| (key.clone(), *number)).collect()
}

/// These were synced; what was noted again meanwhile stays.
fn are_durable<K: Eq + Hash>(noted: &Noted<K>, synced: impl IntoIterator<Item = (K, u64)>) {
    let mut noted = noted.borrow_mut();
    for (key, number) in synced {
        if noted.get(&key) == Some(&number) {
            noted.remove(&key);
        }
    }
}
