//! A data directory: its checkpoints, and the files that these speak of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::ids::{PartitionIndex, TopicId, TopicPartition};

use super::super::checkpoint::{BASE_NAME, Checkpoint, JournalStart};
use super::super::journal::format::{EntryHeader, FIRST_GROUP_POS};
use super::super::journal::{ReplayFrom, file_number};
use super::super::log::LogState;
use super::super::segment::SegmentName;
use super::frames::{self, CheckpointCopy, Meanings};
use super::journal::{JournalFile, JournalFiles, Large, Start};
use super::report::{FileKind, FileReport, Verdict};
use super::segments;
use super::source::{FileSource, Source};

/// What the checkpoints of a directory say, and where its files are. Reads only, and only the
/// checkpoints when it is opened.
pub struct DataDir {
    root: PathBuf,
    directory_id: Option<[u8; 16]>,
    pub(super) live: Option<BTreeSet<TopicPartition>>,
    reports: Vec<FileReport>,
    checkpoints: Vec<CheckpointInfo>,
    pub(super) starts: BTreeMap<u16, Start>,
    pub(super) states: BTreeMap<TopicPartition, LogState>,
}

/// One whole copy of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Which file.
    pub path: PathBuf,
    /// The shard's number, or `base`.
    pub name: String,
    /// One more with each copy.
    pub sequence: u64,
    /// Number of the start that it belongs to.
    pub generation: u64,
    /// Whether its shard was closed in order.
    pub clean: bool,
    /// Where each journal is read from.
    pub journals: Vec<JournalFrom>,
    /// How many logs it knows.
    pub log_count: usize,
    /// Whether a start would believe it: the newest whole copy, and of the start of the base.
    pub is_used: bool,
}

/// Where a journal is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalFrom {
    /// Whose journal.
    pub shard: u16,
    /// Which use of which file.
    pub file_seq: u64,
    /// Byte of it.
    pub pos: u64,
    /// Group that is expected there.
    pub group: u64,
}

/// The copies of one checkpoint.
#[derive(Default)]
struct Copies {
    found: Vec<(PathBuf, CheckpointCopy)>,
    /// Files that are there and not whole.
    broken: Vec<usize>,
}

impl DataDir {
    /// Reads the checkpoints in `root`. `directory_id`: the directory's identity, if that could be
    /// read. `live`: the partitions that exist, if that is known.
    ///
    /// # Errors
    /// `root` is no directory, or may not be read.
    pub fn open(
        root: &Path,
        directory_id: Option<[u8; 16]>,
        live: Option<BTreeSet<TopicPartition>>,
    ) -> io::Result<DataDir> {
        fs::read_dir(root)?;
        let mut dir = DataDir {
            root: root.to_owned(),
            directory_id,
            live,
            reports: Vec::new(),
            checkpoints: Vec::new(),
            starts: BTreeMap::new(),
            states: BTreeMap::new(),
        };
        dir.load();
        dir.note_unreadable_dirs();
        Ok(dir)
    }

    /// What cannot be listed must not pass for empty.
    fn note_unreadable_dirs(&mut self) {
        let topics = self.root.join("topics");
        let mut dirs = vec![self.root.join("journal"), self.root.join("checkpoint")];
        dirs.extend(names_in(&topics).unwrap_or_default().iter().map(|name| topics.join(name)));
        dirs.push(topics);
        for dir in dirs {
            if let Err(error) = names_in(&dir) {
                self.reports.push(FileReport::unreadable(dir, FileKind::Directory, &error));
            }
        }
    }

    /// What was found of the checkpoints, and of directories that cannot be listed.
    #[must_use]
    pub fn checkpoint_reports(&self) -> &[FileReport] {
        &self.reports
    }

    /// The whole copies.
    #[must_use]
    pub fn checkpoints(&self) -> &[CheckpointInfo] {
        &self.checkpoints
    }

    /// What the newest checkpoints say of a log.
    #[must_use]
    pub fn log(&self, tp: TopicPartition) -> Option<&LogState> {
        self.states.get(&tp)
    }

    /// Shards that have a journal.
    #[must_use]
    pub fn shards(&self) -> Vec<u16> {
        self.starts.keys().copied().collect()
    }

    /// Whether the partition exists, as far as is known.
    #[must_use]
    pub fn is_live(&self, tp: TopicPartition) -> bool {
        self.live.as_ref().is_none_or(|live| live.contains(&tp))
    }

    /// The partitions in checkpoints and those that have a directory.
    #[must_use]
    pub fn partitions(&self) -> Vec<TopicPartition> {
        let mut found: BTreeSet<TopicPartition> = self.states.keys().copied().collect();
        let topics = self.root.join("topics");
        for topic in names_in(&topics).unwrap_or_default() {
            let Some(topic_id) = topic_id_of(&topic) else { continue };
            for partition in names_in(&topics.join(&topic)).unwrap_or_default() {
                let Ok(partition) = partition.parse().map(PartitionIndex) else { continue };
                found.insert(TopicPartition { topic_id, partition });
            }
        }
        found.into_iter().collect()
    }

    /// The directory of a partition's segments.
    #[must_use]
    pub fn partition_dir(&self, tp: TopicPartition) -> PathBuf {
        let hex: String = tp.topic_id.0.iter().map(|byte| format!("{byte:02x}")).collect();
        self.root.join("topics").join(hex).join(tp.partition.to_string())
    }

    /// A file of a segment.
    pub(super) fn segment_path(
        &self,
        tp: TopicPartition,
        name: SegmentName,
        kind: &str,
    ) -> PathBuf {
        self.partition_dir(tp).join(format!("{name}.{kind}"))
    }

    fn load(&mut self) {
        let base = self.load_copies(BASE_NAME);
        let generation = base.as_ref().map_or(0, |base| base.generation);
        let (base_journals, base_logs) =
            base.map_or_else(Default::default, |base| (base.journals, base.logs));
        for shard in self.shard_names() {
            let known = base_journals.iter().find(|journal| journal.shard == shard).cloned();
            let fresh = ReplayFrom { file_seq: 1, pos: FIRST_GROUP_POS, group: 1 };
            let journal = known.unwrap_or_else(|| JournalStart::new(shard, fresh, false));
            self.starts.insert(shard, Start { journal, clean: false });
        }
        self.states.extend(base_logs.into_iter().map(|log| (log.topic_partition(), log)));
        for shard in self.shards() {
            let Some(newest) = self.load_copies(&shard.to_string()) else { continue };
            if newest.generation > generation {
                let path = self.root.join("checkpoint");
                let what = format!(
                    "the checkpoint of shard {shard} is of start {}, the base of start {generation}",
                    newest.generation
                );
                let mut report = FileReport::new(path, FileKind::Directory, 0);
                report.note(Verdict::Damaged, None, what, REFUSED);
                self.reports.push(report);
            }
            if newest.generation != generation {
                self.set_unused(&shard.to_string());
                continue;
            }
            let clean = newest.clean;
            if let Some(journal) = newest.journals.into_iter().next() {
                self.starts.insert(shard, Start { journal, clean });
            }
            self.states.extend(newest.logs.into_iter().map(|log| (log.topic_partition(), log)));
        }
    }

    /// Reads both copies of a checkpoint; gives the newest that is whole.
    fn load_copies(&mut self, name: &str) -> Option<Checkpoint> {
        let dir = self.root.join("checkpoint");
        let mut copies = Copies::default();
        for letter in ['a', 'b'] {
            self.load_copy(&mut copies, dir.join(format!("{name}.{letter}")));
        }
        let other = "the broker uses the other copy, and no record is lost";
        let none = "no copy of this checkpoint is whole: the broker refuses the directory";
        let means = if copies.found.is_empty() { none } else { other };
        for index in &copies.broken {
            let report = &mut self.reports[*index];
            report.findings.iter_mut().for_each(|finding| {
                if finding.verdict == Verdict::Damaged {
                    finding.means = means.to_owned();
                }
            });
        }
        copies.found.sort_by_key(|(_, copy)| copy.sequence);
        let newest = copies.found.last().map(|(_, copy)| copy.sequence);
        for (path, copy) in &copies.found {
            let from = copy.checkpoint.journals.iter().map(|journal| JournalFrom {
                shard: journal.shard,
                file_seq: journal.file_seq,
                pos: journal.pos,
                group: journal.group,
            });
            self.checkpoints.push(CheckpointInfo {
                path: path.clone(),
                name: name.to_owned(),
                sequence: copy.sequence,
                generation: copy.checkpoint.generation,
                clean: copy.checkpoint.clean,
                journals: from.collect(),
                log_count: copy.checkpoint.logs.len(),
                is_used: Some(copy.sequence) == newest,
            });
        }
        copies.found.pop().map(|(_, copy)| copy.checkpoint)
    }

    fn load_copy(&mut self, copies: &mut Copies, path: PathBuf) {
        let source = match FileSource::open(&path) {
            Ok(source) => source,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                self.reports.push(FileReport::unreadable(path, FileKind::Checkpoint, &error));
                return;
            }
        };
        let mut report = FileReport::new(&path, FileKind::Checkpoint, source.len_bytes());
        let meanings = Meanings { damage: "", verdict: Verdict::Damaged };
        match frames::checkpoint(&source, &meanings, &mut report) {
            Some(copy) if self.directory_id.is_none_or(|id| id == copy.directory_id) => {
                copies.found.push((path, copy));
            }
            Some(_) => {
                let what = "it belongs to another data directory";
                report.note(Verdict::Damaged, 16, what, REFUSED);
            }
            None => copies.broken.push(self.reports.len()),
        }
        self.reports.push(report);
    }

    fn set_unused(&mut self, name: &str) {
        let of_name = self.checkpoints.iter_mut().filter(|info| info.name == name);
        of_name.for_each(|info| info.is_used = false);
    }

    fn shard_names(&self) -> Vec<u16> {
        let names = names_in(&self.root.join("journal")).unwrap_or_default();
        names.iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// The files of a shard's journal, with what their headers say.
    pub(super) fn journal_files(&self, shard: u16) -> Result<JournalFiles, FileReport> {
        let dir = self.root.join("journal").join(shard.to_string());
        let unreadable = |error| FileReport::unreadable(&dir, FileKind::Directory, &error);
        let start = self.starts.get(&shard).cloned();
        let start = start.ok_or_else(|| unreadable(io::ErrorKind::NotFound.into()))?;
        let (mut files, mut unread) = (Vec::new(), Vec::new());
        for name in names_in(&dir).map_err(unreadable)? {
            let path = dir.join(&name);
            if file_number(&name).is_none() {
                continue;
            }
            match FileSource::open(&path) {
                Ok(source) => {
                    files.push(JournalFile::open(&path, Box::new(source), self.directory_id))
                }
                Err(error) => unread.push((path, error)),
            }
        }
        let mut found = JournalFiles::new(&dir, files, start);
        for (path, error) in unread {
            let what = format!("{} cannot be read: {error}", path.display());
            let means = "the journal cannot be judged without it";
            found.dir_report.note(Verdict::Unreadable, None, what, means);
        }
        Ok(found)
    }

    /// Looks at the place of a batch of the large lane.
    pub(super) fn look_at_large(
        &self,
        group: u64,
        number: u32,
        entry: &EntryHeader,
    ) -> io::Result<Large> {
        let tp = entry.topic_partition();
        if !self.is_live(tp) || !self.is_replayed(tp, (group, number)) {
            return Ok(Large::NotNeeded);
        }
        let segment = entry.segment_place().segment;
        let source =
            match FileSource::open(&self.segment_path(tp, SegmentName::written(segment), "log")) {
                Ok(source) => source,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // Without metadata it is not known whether the partition was deleted.
                    let is_gone = self.live.is_none() && !self.partition_dir(tp).exists();
                    let why = format!("its segment {segment} is not there");
                    return Ok(if is_gone { Large::NotNeeded } else { Large::Missing(why) });
                }
                Err(error) => return Err(error),
            };
        let found = segments::large_batch(&source, tp, entry)?;
        Ok(found.map_or_else(Large::Missing, |_| Large::Whole))
    }

    /// Whether the entry says something of its log that the checkpoint does not know.
    pub(super) fn is_replayed(&self, tp: TopicPartition, entry: (u64, u32)) -> bool {
        let state = self.states.get(&tp);
        state.is_none_or(|state| entry >= (state.replay_group, state.replay_entry))
    }
}

const REFUSED: &str = "the broker refuses the directory and changes nothing";

/// The names in a directory, sorted; none if it is not there.
pub(super) fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// The id that the name of a topic's directory is.
fn topic_id_of(hex: &str) -> Option<TopicId> {
    let number = u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32)?;
    Some(TopicId(number.to_be_bytes()))
}
