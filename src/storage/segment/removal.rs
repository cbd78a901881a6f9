//! Removal of segment files, a piece at a time: giving a large file back to the file system at once
//! takes it hundreds of milliseconds, in which it syncs nobody's writes.
//!
//! Only files that no checkpoint names any more: a crash in the middle leaves one that is too
//! short and that nobody asks for ([`super::super::Store::sweep`] removes the rest of it).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::ids::TopicPartition;
use crate::io::disk::{OpenOptions, is_out_of_room};

use super::files::{SegmentFiles, SegmentName, missing_is_none};
use super::{Removed, SegmentKey};

/// What the smallest file counts for, so that many of them are not one piece.
const FILE_BYTES_MIN: u64 = 256 << 10;

/// Ends the name of a deleted partition's directory, as Kafka's.
const RETIRED: &str = "-delete";

impl SegmentFiles {
    /// Removes a segment's files, or shortens the largest of them by `bytes_max`.
    pub(in crate::storage) async fn remove_segment(
        &self,
        key: SegmentKey,
        bytes_max: u64,
    ) -> io::Result<Removed> {
        self.forget_segment(key);
        let removed = self.shorten(&self.path(key, "log"), bytes_max).await?;
        if removed.is_whole {
            for extension in ["index", "snapshot"] {
                missing_is_none(self.disk().remove_file(&self.path(key, extension)).await)?;
            }
        }
        Ok(removed)
    }

    /// Takes partitions' directories out of the way of whoever may want their names, under ones that
    /// say at every start that they are to go. Returns where they are now.
    pub(in crate::storage) async fn retire_partitions(
        &self,
        gone: &[TopicPartition],
    ) -> io::Result<Vec<PathBuf>> {
        self.forget_partitions(gone);
        let (mut retired, mut topics) = (Vec::new(), BTreeSet::new());
        for tp in gone {
            if let Some(dir) = self.retire_partition(*tp).await? {
                retired.push(dir);
                topics.insert(self.topic_dir(*tp));
            }
        }
        for topic in topics {
            self.disk().sync_dir(&topic).await?;
        }
        Ok(retired)
    }

    async fn retire_partition(&self, tp: TopicPartition) -> io::Result<Option<PathBuf>> {
        let dir = self.partition_dir(tp);
        let mut retired = dir.with_file_name(format!("{}{RETIRED}", tp.partition));
        while self.disk().exists(&retired).await? {
            retired.as_mut_os_string().push(RETIRED); // one of before, not all of which is gone
        }
        match missing_is_none(self.disk().rename(&dir, &retired).await) {
            Ok(found) => Ok(found.map(|()| retired)),
            // Its files go now, before somebody takes the name, and give room.
            Err(error) if is_out_of_room(&error) => {
                match self.remove_directory(&dir, u64::MAX).await {
                    Err(error) if is_out_of_room(&error) => Ok(Some(dir)),
                    removed => removed.map(|_| None),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Directories of partitions that were deleted before the last start and are not gone.
    pub(in crate::storage) async fn retired_partitions(&self) -> io::Result<Vec<PathBuf>> {
        let topics = missing_is_none(self.disk().list(self.topics_dir()).await)?;
        let mut retired = Vec::new();
        for topic in topics.unwrap_or_default() {
            let dir = self.topics_dir().join(topic.name);
            let names = missing_is_none(self.disk().list(&dir).await)?.unwrap_or_default();
            let names = names.into_iter().filter(|it| it.is_dir && it.name.ends_with(RETIRED));
            retired.extend(names.map(|entry| dir.join(entry.name)));
            futures_lite::future::yield_now().await;
        }
        Ok(retired)
    }

    /// Removes files of a partition's directory, up to about `bytes_max`; with the last one, the
    /// directory, and its topic's if that is the last in it.
    pub(in crate::storage) async fn remove_directory(
        &self,
        dir: &Path,
        bytes_max: u64,
    ) -> io::Result<Removed> {
        let files = missing_is_none(self.disk().list(dir).await)?.unwrap_or_default();
        let mut bytes = 0;
        for file in files.iter().filter(|file| !file.is_dir) {
            if bytes >= bytes_max {
                return Ok(Removed { bytes, is_whole: false });
            }
            let removed = self.shorten(&dir.join(&file.name), bytes_max - bytes).await?;
            bytes += removed.bytes;
            if !removed.is_whole {
                return Ok(Removed { bytes, is_whole: false });
            }
        }
        missing_is_none(self.disk().remove_dir_all(dir).await)?;
        let topic_dir = dir.parent().expect("a partition's directory is in its topic's");
        let left = missing_is_none(self.disk().list(topic_dir).await)?;
        if left.is_some_and(|names| names.is_empty()) {
            missing_is_none(self.disk().remove_dir_all(topic_dir).await)?;
        }
        Ok(Removed { bytes, is_whole: true })
    }

    /// The segments of which files lie in the partition's directory.
    pub(in crate::storage) async fn segments_found(
        &self,
        topic_partition: TopicPartition,
    ) -> io::Result<Vec<SegmentKey>> {
        let dir = self.partition_dir(topic_partition);
        let files = missing_is_none(self.disk().list(&dir).await)?.unwrap_or_default();
        let named = files.iter().filter_map(|file| SegmentName::parse(&file.name));
        let mut keys: Vec<SegmentKey> = named.map(|(name, _)| name.key(topic_partition)).collect();
        keys.dedup();
        Ok(keys)
    }

    /// Removes a file that has at most `bytes_max`, shortens a larger one by so many.
    async fn shorten(&self, path: &Path, bytes_max: u64) -> io::Result<Removed> {
        let options = OpenOptions { write: true, create: false, direct: false };
        let Some(file) = missing_is_none(self.disk().open(path, options).await)? else {
            return Ok(Removed { bytes: FILE_BYTES_MIN, is_whole: true });
        };
        let len = file.len()?;
        if len > bytes_max {
            file.truncate(len - bytes_max).await?;
            // The device is told of free room when the file system commits: of this piece now, and
            // not of many pieces later.
            file.datasync().await?;
            return Ok(Removed { bytes: bytes_max, is_whole: false });
        }
        missing_is_none(self.disk().remove_file(path).await)?;
        Ok(Removed { bytes: len.max(FILE_BYTES_MIN), is_whole: true })
    }
}
