//! Reads a journal back, group by group, and tells a torn tail from corruption.
//!
//! A crash may tear the group that was being written, and after a power cut any group since the
//! last sync may be missing, in any order. So the chain of groups ends at the first that is not
//! whole, and that is a torn tail, unless something shows that the missing group had been durable:
//! a later group whose `durable_through` reaches it, or a whole group behind a damaged file header
//! (headers are durable before the first group is written). Then the directory is refused.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::base::limits::BLOCK_ALIGN;
#[cfg(feature = "planted-bugs")]
use crate::base::planted::{Bug, is_planted};
use crate::io::disk::{Disk, OpenOptions};
use crate::io::file::File;
use crate::record::StoredBatch;

use super::super::error::RecoveryError;
use super::format::{
    EntryHeader, EntryKind, FILE_PREWRITTEN, FIRST_GROUP_POS, FileHeader, GROUP_HEADER_BYTES,
    GroupHeader, HeaderFound,
};
use super::{ReplayFrom, SpareFile, file_number};

/// Journals are read in pieces of this size: groups may be as small as 4 KiB.
const READ_BYTES: usize = 4 << 20;

/// A journal file as found.
struct FoundFile {
    number: u32,
    path: PathBuf,
    file: File,
    len: u64,
    /// Sequence and first group; `None` if the header is not valid.
    header: Option<(u64, u64)>,
    /// What the file is, and what it was when its header was written, if it is shorter.
    cut: Option<(u64, u64)>,
    prewritten: bool,
}

/// Where batches are found that were written straight into segments.
pub(in crate::storage) trait LargeBatches {
    /// The batch of this entry of group `seq`, as it lies in its segment.
    async fn find(
        &self,
        seq: u64,
        number: u32,
        entry: &EntryHeader,
    ) -> Result<LargeFound, RecoveryError>;
}

/// What [`LargeBatches::find`] found.
pub(in crate::storage) enum LargeFound {
    /// Nobody needs it: the log is gone, or a checkpoint has the batch.
    NotNeeded,
    Missing,
    Batch(Bytes),
}

/// A whole group.
pub(in crate::storage) struct ReplayedGroup {
    pub(in crate::storage) seq: u64,
    /// From its header to its padding.
    pub(in crate::storage) bytes: Bytes,
    pub(in crate::storage) file: PathBuf,
    /// The batches that lie in segments, by the numbers of their entries.
    pub(in crate::storage) large: Vec<(u32, Bytes)>,
}

impl ReplayedGroup {
    /// The entries, which were checked.
    pub(in crate::storage) fn entries(&self) -> &[EntryHeader] {
        GroupHeader::peek(&self.bytes)
            .and_then(|header| header.entries(&self.bytes))
            .expect("checked when it was read")
    }

    /// The batch of entry `number`, which lies in a segment.
    pub(in crate::storage) fn large_batch(&self, number: u32) -> Bytes {
        let found = self.large.iter().find(|(other, _)| *other == number);
        found.expect("found when the group was read").1.clone()
    }
}

/// A journal's files, read in order.
pub(in crate::storage) struct JournalReader {
    files: Vec<FoundFile>,
    current: Option<usize>,
    pos: u64,
    expected: u64,
    last_group_seen: u64,
    window: Option<(usize, u64, Bytes)>,
    clean: bool,
    from: ReplayFrom,
}

impl JournalReader {
    /// Finds the files in `dir`. `from` is where the last checkpoint says to begin; `activated`
    /// whether that file must exist; `clean` whether the journal was closed there, so that there
    /// is nothing to read and nothing to judge.
    pub(in crate::storage) async fn open(
        disk: &Disk,
        dir: &Path,
        directory_id: [u8; 16],
        from: ReplayFrom,
        activated: bool,
        clean: bool,
    ) -> Result<JournalReader, RecoveryError> {
        let mut files = Vec::new();
        let names = disk.list(dir).await.map_err(|error| io_error(dir, error))?;
        for entry in names.iter().filter(|entry| !entry.is_dir) {
            let Some(number) = file_number(&entry.name) else { continue };
            let path = dir.join(&entry.name);
            files.push(find_file(disk, path, number, directory_id).await?);
        }
        if !clean {
            files.iter().try_for_each(|file| file.refuse_if_cut(from.file_seq))?;
        }
        let current =
            files.iter().position(|file| file.header.is_some_and(|h| h.0 == from.file_seq));
        let reader = JournalReader {
            files,
            current,
            pos: from.pos,
            expected: from.group,
            last_group_seen: from.group.saturating_sub(1),
            window: None,
            clean,
            from,
        };
        if reader.current.is_none() && activated && !clean {
            let reason = format!(
                "no journal file has sequence {}, where the checkpoint says that replay begins",
                from.file_seq
            );
            return Err(RecoveryError::Corrupt { path: dir.to_owned(), reason });
        }
        Ok(reader)
    }

    /// The next group, or `None` at the end of what was written.
    ///
    /// # Errors
    /// `Corrupt` if the chain ends before a group that was durable.
    pub(in crate::storage) async fn next(
        &mut self,
        large: &impl LargeBatches,
    ) -> Result<Option<ReplayedGroup>, RecoveryError> {
        if self.clean {
            return Ok(None);
        }
        loop {
            if let Some(index) = self.current {
                if let Some(group) = self.group_at(index, large).await? {
                    return Ok(Some(group));
                }
                let seq = self.files[index].header.map_or(0, |header| header.0);
                let headers = self.files.iter().map(|file| file.header);
                if let Some(next) = next_file(headers, seq, self.expected) {
                    self.current = Some(next);
                    self.pos = FIRST_GROUP_POS;
                    continue;
                }
            }
            self.judge_end().await?;
            return Ok(None);
        }
    }

    /// First file sequence and group that a journal which goes on here may use.
    pub(in crate::storage) fn next_numbers(&self) -> (u64, u64) {
        let seqs = self.files.iter().filter_map(|file| file.header).map(|header| header.0);
        let file_seq = seqs.max().unwrap_or(0).max(self.from.file_seq) + 1;
        (file_seq, self.last_group_seen.max(self.expected) + 1)
    }

    /// The files, all of which are free once everything is in segments.
    pub(in crate::storage) fn spares(&self) -> Vec<SpareFile> {
        let spare = |file: &FoundFile| SpareFile {
            number: file.number,
            len: file.len,
            prewritten: file.prewritten,
        };
        self.files.iter().map(spare).collect()
    }

    async fn group_at(
        &mut self,
        index: usize,
        large: &impl LargeBatches,
    ) -> Result<Option<ReplayedGroup>, RecoveryError> {
        let Some((file_seq, _)) = self.files[index].header else { return Ok(None) };
        let head = self.bytes_at(index, self.pos, BLOCK_ALIGN).await?;
        let Some(header) = GroupHeader::peek(&head) else { return Ok(None) };
        let total = header.total_bytes();
        let right = header.file_seq() == file_seq && header.group() == self.expected;
        #[cfg(feature = "planted-bugs")]
        let right = right || is_planted(Bug::StaleBlockAccepted);
        if !right || self.pos + total > self.files[index].len {
            return Ok(None);
        }
        let Ok(len) = usize::try_from(total) else { return Ok(None) };
        let bytes = self.bytes_at(index, self.pos, len).await?;
        if !is_whole(&bytes, len) {
            return Ok(None);
        }
        let Some(large) = find_large(&bytes, self.expected, large).await? else { return Ok(None) };
        let group = ReplayedGroup {
            large,
            seq: self.expected,
            bytes: bytes.slice(..len),
            file: self.files[index].path.clone(),
        };
        self.pos += total;
        self.expected += 1;
        self.last_group_seen = self.last_group_seen.max(group.seq);
        Ok(Some(group))
    }

    /// At least `len` bytes at `pos`, or all up to the end of the file.
    async fn bytes_at(
        &mut self,
        index: usize,
        pos: u64,
        len: usize,
    ) -> Result<Bytes, RecoveryError> {
        let file = &self.files[index];
        let end = (pos + len as u64).min(file.len);
        if let Some((held, start, bytes)) = &self.window
            && *held == index
            && *start <= pos
            && end <= *start + bytes.len() as u64
        {
            return Ok(bytes.slice(usize::try_from(pos - start).expect("inside the window")..));
        }
        if pos >= file.len {
            return Ok(Bytes::new());
        }
        let wish = (len.max(READ_BYTES) as u64).min(file.len - pos) as usize;
        let bytes =
            file.file.read_at(pos, wish).await.map_err(|error| io_error(&file.path, error))?;
        self.window = Some((index, pos, bytes.clone()));
        Ok(bytes)
    }

    /// The group `expected` is not there: was it ever durable?
    async fn judge_end(&mut self) -> Result<(), RecoveryError> {
        #[cfg(feature = "planted-bugs")]
        if is_planted(Bug::CorruptionAsTornTail) {
            return Ok(());
        }
        let current = self.current;
        let current_seq = current.and_then(|index| self.files[index].header).map(|header| header.0);
        for index in 0..self.files.len() {
            match self.files[index].header {
                Some((seq, _)) if Some(seq) == current_seq => {
                    self.look_for_later(index, self.pos, seq).await?;
                }
                Some((seq, _)) if seq >= self.from.file_seq && Some(seq) > current_seq => {
                    self.look_for_later(index, FIRST_GROUP_POS, seq).await?;
                }
                Some(_) => {}
                None => self.refuse_headless(index, current_seq).await?,
            }
        }
        Ok(())
    }

    /// Looks through the rest of a file for a group that proves the missing one durable.
    async fn look_for_later(
        &mut self,
        index: usize,
        from: u64,
        file_seq: u64,
    ) -> Result<(), RecoveryError> {
        let mut pos = from;
        while pos < self.files[index].len {
            let head = self.bytes_at(index, pos, BLOCK_ALIGN).await?;
            if let Some(header) = GroupHeader::peek(&head) {
                let (group, durable_through) = (header.group(), header.durable_through());
                let later = header.file_seq() == file_seq && group > self.expected;
                let len = usize::try_from(header.total_bytes()).unwrap_or(usize::MAX);
                let fits = pos.saturating_add(len as u64) <= self.files[index].len;
                if later && fits {
                    let bytes = self.bytes_at(index, pos, len).await?;
                    let real = GroupHeader::peek(&bytes).and_then(|h| h.entries(&bytes)).is_some();
                    if real && durable_through >= self.expected {
                        return Err(self.damaged(index, pos, group, durable_through));
                    }
                    if real {
                        self.last_group_seen = self.last_group_seen.max(group);
                    }
                }
            }
            pos += BLOCK_ALIGN as u64;
        }
        Ok(())
    }

    /// A whole new group in a file whose header cannot be read: the header was damaged later.
    async fn refuse_headless(
        &mut self,
        index: usize,
        current_seq: Option<u64>,
    ) -> Result<(), RecoveryError> {
        let head = self.bytes_at(index, FIRST_GROUP_POS, BLOCK_ALIGN).await?;
        let Some(header) = GroupHeader::peek(&head) else { return Ok(()) };
        let newer = Some(header.file_seq()) > current_seq
            && header.file_seq() >= self.from.file_seq
            && header.group() >= self.expected;
        let len = usize::try_from(header.total_bytes()).unwrap_or(usize::MAX);
        if !newer || FIRST_GROUP_POS.saturating_add(len as u64) > self.files[index].len {
            return Ok(());
        }
        let group = header.group();
        let bytes = self.bytes_at(index, FIRST_GROUP_POS, len).await?;
        if GroupHeader::peek(&bytes).and_then(|header| header.entries(&bytes)).is_none() {
            return Ok(());
        }
        Err(RecoveryError::Corrupt {
            path: self.files[index].path.clone(),
            reason: format!("the file header cannot be read, but group {group} lies behind it"),
        })
    }

    fn damaged(&self, index: usize, pos: u64, group: u64, durable_through: u64) -> RecoveryError {
        let (path, at) = match self.current {
            Some(current) => (&self.files[current].path, self.pos),
            None => (&self.files[index].path, pos),
        };
        let reason = format!(
            "group {} at byte {at} is missing or damaged, but group {group} ({} at byte {pos}) \
             says that all through {durable_through} was durable",
            self.expected,
            self.files[index].path.display(),
        );
        RecoveryError::Corrupt { path: path.clone(), reason }
    }
}

impl FoundFile {
    /// Refuses a file in which replay may find groups, if it is not as long as it was.
    fn refuse_if_cut(&self, from_seq: u64) -> Result<(), RecoveryError> {
        let Some((found, was)) = self.cut else { return Ok(()) };
        if self.header.is_some_and(|(seq, _)| seq < from_seq) {
            return Ok(()); // a spare, whose space may have been given back
        }
        let reason = format!("it ends at byte {found}, but {}", what_was(self.header, was));
        Err(RecoveryError::Corrupt { path: self.path.clone(), reason })
    }
}

/// What is known of the length that a file had.
pub(in crate::storage) fn what_was(header: Option<(u64, u64)>, was: u64) -> String {
    match header {
        Some(_) => format!("its header says that it has {was} bytes"),
        None => format!("no journal file is shorter than its header's {was} bytes"),
    }
}

/// The length of a whole file of `len` bytes, if this one is shorter. `said`: by a valid header.
pub(in crate::storage) fn whole_len(len: u64, said: Option<u64>) -> Option<u64> {
    let whole = said.unwrap_or(FIRST_GROUP_POS).max(FIRST_GROUP_POS);
    (len < whole).then_some(whole)
}

/// The file that goes on with `group` behind file `file_seq`. An attempt to begin one may have used
/// a number up.
pub(in crate::storage) fn next_file(
    headers: impl Iterator<Item = Option<(u64, u64)>>,
    file_seq: u64,
    group: u64,
) -> Option<usize> {
    let named = headers.enumerate().filter_map(|(index, header)| Some((index, header?)));
    let following = named.filter(|(_, header)| header.0 > file_seq && header.1 == group);
    following.min_by_key(|(_, header)| header.0).map(|(index, _)| index)
}

async fn find_file(
    disk: &Disk,
    path: PathBuf,
    number: u32,
    directory_id: [u8; 16],
) -> Result<FoundFile, RecoveryError> {
    let options = OpenOptions { direct: true, ..OpenOptions::default() };
    let opened = disk.open(&path, options).await.map_err(|error| io_error(&path, error))?;
    let len = opened.len().map_err(|error| io_error(&path, error))?;
    let block = opened.read_at(0, BLOCK_ALIGN).await.map_err(|error| io_error(&path, error))?;
    let (header, said, flags) = match FileHeader::find(&block, directory_id) {
        HeaderFound::Valid { file_seq, first_group, file_bytes, flags } => {
            (Some((file_seq, first_group)), Some(file_bytes), flags)
        }
        HeaderFound::Invalid => (None, None, 0),
        HeaderFound::Foreign => return Err(RecoveryError::ForeignFile { path }),
        HeaderFound::UnknownVersion(version) => {
            return Err(RecoveryError::UnknownVersion { path, version });
        }
    };
    let cut = whole_len(len, said).map(|was| (len, was));
    // A length that no header says need not be durable.
    let prewritten = flags & FILE_PREWRITTEN != 0 && said == Some(len);
    // Whole blocks only: what lies behind a cut cannot hold a group.
    let len = len - len % BLOCK_ALIGN as u64;
    Ok(FoundFile { number, path, file: opened, len, header, cut, prewritten })
}

/// Whether a group is complete and every byte of it is what was written.
fn is_whole(bytes: &Bytes, len: usize) -> bool {
    let Some(bytes) = bytes.get(..len) else { return false };
    let entries = GroupHeader::peek(bytes).and_then(|header| header.entries(bytes));
    let Some(entries) = entries else { return false };
    #[cfg(feature = "planted-bugs")]
    if is_planted(Bug::HalfGroupAccepted) {
        return true;
    }
    entries.iter().all(|entry| match entry.kind() {
        Some(EntryKind::Append) => {
            let range = entry.range();
            range.start >= GROUP_HEADER_BYTES
                && bytes.get(range).is_some_and(|batch| batch_is_whole(entry, batch))
        }
        // Without payload, or in a segment and looked at there.
        Some(_) => true,
        None => false,
    })
}

/// The batches of a group that lie in segments; `None` if one is not there.
async fn find_large(
    group: &Bytes,
    seq: u64,
    large: &impl LargeBatches,
) -> Result<Option<Vec<(u32, Bytes)>>, RecoveryError> {
    let entries = GroupHeader::peek(group).and_then(|header| header.entries(group));
    let entries = entries.unwrap_or_default().iter().zip(0..);
    let mut found = Vec::new();
    for (entry, number) in
        entries.filter(|(entry, _)| entry.kind() == Some(EntryKind::SegmentExtent))
    {
        match large.find(seq, number, entry).await? {
            LargeFound::Batch(batch) if batch_is_whole(entry, &batch) => {
                found.push((number, batch))
            }
            LargeFound::NotNeeded => {}
            LargeFound::Batch(_) | LargeFound::Missing => return Ok(None),
        }
    }
    Ok(Some(found))
}

fn batch_is_whole(entry: &EntryHeader, bytes: &[u8]) -> bool {
    let Ok((batch, rest)) = StoredBatch::split_first(bytes) else { return false };
    rest.is_empty()
        && batch.base_offset() == entry.first()
        && batch.last_offset() == entry.last()
        && batch.leader_epoch() == entry.leader_epoch()
        && batch.header().crc() == entry.batch_crc()
        && batch.crc_matches()
}

fn io_error(path: &Path, error: std::io::Error) -> RecoveryError {
    RecoveryError::Io { path: path.to_owned(), error }
}
