//! A shard's journal: its files, the groups in them, and where the chain of groups ends. Judges as
//! recovery does (`journal/reader.rs`), but reads windows instead of groups and changes nothing.

use std::io;
use std::path::{Path, PathBuf};

use zerocopy::FromBytes;

use crate::base::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::base::limits::BLOCK_ALIGN;

use super::super::checkpoint::JournalStart;
use super::super::journal::format::{
    ENTRY_BYTES, EntryHeader, EntryKind, FIRST_GROUP_POS, FileHeader, GROUP_HEADER_BYTES,
    GroupHeader, HeaderFound, JOURNAL_VERSION, entries_begin,
};
use super::super::journal::reader::{next_file, what_was, whole_len};
use super::batches::{BatchAt, batch_at};
use super::report::{FileKind, FileReport, Verdict};
use super::source::{Source, Window};

/// Entries read at a time.
const ENTRIES_AT_ONCE: u32 = 2048;

/// A group whose header and entries check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// The file that it lies in.
    pub path: PathBuf,
    /// Where it begins.
    pub pos: u64,
    /// Its length with padding.
    pub bytes: u64,
    /// `file_seq` of that use of the file.
    pub file_seq: u64,
    /// Its sequence.
    pub group: u64,
    /// Last group known durable when it was sealed.
    pub durable_through: u64,
    /// Bytes of batches in it, with what lies between them.
    pub payload_bytes: u32,
    /// Its entries.
    pub entry_count: u32,
    /// Whether a start would read it: else all of it is in segments, says the checkpoint.
    pub is_replayed: bool,
}

/// What an entry of a group says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryInfo {
    /// Its number in the group.
    pub number: u32,
    /// `append`, `truncate`, `log start`, `epoch start`, `drop`, `segment extent`, or `unknown`.
    pub kind: &'static str,
    /// Whose log.
    pub topic_partition: TopicPartition,
    /// The leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// Base offset of the batch, or the entry's offset.
    pub first: Offset,
    /// Last offset of the batch; -1 if it has none.
    pub last: Offset,
    /// Where its batch lies.
    pub place: EntryPlace,
}

/// Where the batch of an entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryPlace {
    /// It has none.
    None,
    /// In the journal's file.
    Journal {
        /// Byte of the file.
        pos: u64,
        /// Its length.
        bytes: u64,
    },
    /// In a segment: the large lane.
    Segment {
        /// Offset that names the segment.
        segment: Offset,
        /// Byte of the file where its block begins.
        pos: u64,
        /// The batch's length.
        bytes: u64,
    },
}

impl EntryInfo {
    pub(super) fn of(group: &GroupInfo, number: u32, entry: &EntryHeader) -> EntryInfo {
        let bytes = entry.batch_bytes() as u64;
        let (kind, place) = match entry.kind() {
            Some(EntryKind::Append) => {
                let pos = group.pos + entry.range().start as u64;
                ("append", EntryPlace::Journal { pos, bytes })
            }
            Some(EntryKind::SegmentExtent) => {
                let place = entry.segment_place();
                let (segment, pos) = (place.segment, place.pos);
                ("segment extent", EntryPlace::Segment { segment, pos, bytes })
            }
            Some(EntryKind::Truncate) => ("truncate", EntryPlace::None),
            Some(EntryKind::LogStart) => ("log start", EntryPlace::None),
            Some(EntryKind::EpochStart) => ("epoch start", EntryPlace::None),
            Some(EntryKind::Drop) => ("drop", EntryPlace::None),
            None => ("unknown", EntryPlace::None),
        };
        EntryInfo {
            number,
            kind,
            topic_partition: entry.topic_partition(),
            leader_epoch: entry.leader_epoch(),
            first: entry.first(),
            last: entry.last(),
            place,
        }
    }
}

/// What a look at the place of a large batch found.
pub(super) enum Large {
    /// Nobody needs it: its log is gone, or a checkpoint has the batch.
    NotNeeded,
    Whole,
    /// What is wrong.
    Missing(String),
}

/// Looks at the place of a large batch; given the group, the entry's number, and the entry.
pub(super) type LookAtLarge<'a> = &'a mut dyn FnMut(u64, u32, &EntryHeader) -> io::Result<Large>;

/// Where a start begins to read.
#[derive(Clone, Debug)]
pub(super) struct Start {
    pub(super) journal: JournalStart,
    pub(super) clean: bool,
}

/// One file.
pub(super) struct JournalFile {
    path: PathBuf,
    source: Box<dyn Source>,
    /// Whole blocks only.
    len: u64,
    header: Option<(u64, u64)>,
    /// The length that it had, if it is shorter now.
    was: Option<u64>,
    pub(super) report: FileReport,
}

impl JournalFile {
    /// Reads the header of a file. `directory_id`: `None` if it is not known.
    pub(super) fn open(
        path: &Path,
        source: Box<dyn Source>,
        directory_id: Option<[u8; 16]>,
    ) -> JournalFile {
        let whole = source.len_bytes();
        let mut report = FileReport::new(path, FileKind::Journal, whole);
        let (header, was) = match Window::narrow(&*source).at(0, BLOCK_ALIGN) {
            Ok(block) => {
                let found = read_header(block, directory_id, &mut report);
                let was = whole_len(whole, found.map(|(_, file_bytes)| file_bytes));
                (found.map(|(header, _)| header), was)
            }
            Err(error) => {
                report.note_unreadable(&error);
                (None, None)
            }
        };
        let len = whole - whole % BLOCK_ALIGN as u64;
        JournalFile { path: path.to_owned(), source, len, header, was, report }
    }

    /// Says that it was cut, if it was.
    fn judge_length(&mut self, start: &Start) {
        let Some(was) = self.was else { return };
        let is_spare = self.header.is_some_and(|it| it.0 < start.journal.file_seq);
        let (verdict, means) = if !start.clean && !is_spare {
            let means = "acknowledged records may have lain behind it: the broker refuses the \
                         directory and changes nothing";
            (Verdict::Damaged, means)
        } else if self.len == FIRST_GROUP_POS {
            return; // its space was given back
        } else {
            (Verdict::Stale, "nothing: no start reads it, and the broker writes it anew")
        };
        let end = self.report.bytes;
        let what = format!("the file ends at byte {end}, but {}", what_was(self.header, was));
        self.report.note(verdict, end, what, means);
    }
}

/// What a valid header says: sequence and first group, and the file's length.
fn read_header(
    block: &[u8],
    directory_id: Option<[u8; 16]>,
    report: &mut FileReport,
) -> Option<((u64, u64), u64)> {
    let named = block.get(8..24).and_then(|id| <[u8; 16]>::try_from(id).ok());
    match FileHeader::find(block, directory_id.or(named).unwrap_or_default()) {
        HeaderFound::Valid { file_seq: 0, file_bytes, .. } => {
            report.summary = "a spare that was never used".to_owned();
            Some(((0, 0), file_bytes))
        }
        HeaderFound::Valid { file_seq, first_group, file_bytes, .. } => {
            report.summary = format!("file {file_seq} from group {first_group}");
            Some(((file_seq, first_group), file_bytes))
        }
        HeaderFound::Foreign => {
            let means = "the broker refuses the directory";
            report.note(Verdict::Damaged, 8, "it belongs to another data directory", means);
            None
        }
        HeaderFound::UnknownVersion(version) => {
            report.note_version(version, JOURNAL_VERSION);
            None
        }
        HeaderFound::Invalid => {
            report.summary = "no header".to_owned();
            None
        }
    }
}

/// All files of one shard's journal.
pub(super) struct JournalFiles {
    pub(super) files: Vec<JournalFile>,
    pub(super) start: Start,
    /// Whether findings were made that refuse the directory whatever else there is.
    pub(super) dir_report: FileReport,
}

/// What lies at a place where a group may begin.
enum GroupFound {
    Nothing,
    /// One that is not whole, as it seems.
    Broken(String),
    Framed(GroupInfo),
}

impl JournalFiles {
    pub(super) fn new(dir: &Path, mut files: Vec<JournalFile>, start: Start) -> JournalFiles {
        files.sort_by_key(|file| (file.header, file.path.clone()));
        files.iter_mut().for_each(|file| file.judge_length(&start));
        let mut dir_report = FileReport::new(dir, FileKind::Directory, 0);
        let wanted = start.journal.file_seq;
        let is_there = files.iter().any(|file| file.header.is_some_and(|it| it.0 == wanted));
        if start.journal.activated && !start.clean && !is_there {
            let what = format!(
                "no journal file has sequence {wanted}, where the checkpoint says that replay begins"
            );
            let means = "the broker refuses the directory: what was acknowledged may be missing";
            dir_report.note(Verdict::Damaged, None, what, means);
        }
        JournalFiles { files, start, dir_report }
    }

    /// The groups that a start would read.
    pub(super) fn walk(&self) -> Walk<'_> {
        let start = &self.start.journal;
        let seq_is = |file: &JournalFile| file.header.is_some_and(|it| it.0 == start.file_seq);
        Walk {
            files: &self.files,
            current: self.files.iter().position(seq_is),
            pos: start.pos,
            expected: start.group,
            window: None,
            clean: self.start.clean,
            stop: None,
        }
    }

    /// The groups that a start would not read, because all of them are in segments: as far as the
    /// chain in each file goes. `deep`: their batches are looked at, too.
    pub(super) fn drained(
        &mut self,
        deep: bool,
        each: &mut dyn FnMut(&GroupInfo, &mut Window<'_>) -> io::Result<()>,
    ) {
        let start = self.start.clone();
        for file in &mut self.files {
            let Some((file_seq, first_group)) = file.header.filter(|it| it.0 > 0) else { continue };
            let end = match file_seq.cmp(&start.journal.file_seq) {
                std::cmp::Ordering::Less => file.len,
                std::cmp::Ordering::Equal if start.clean => file.len,
                std::cmp::Ordering::Equal => start.journal.pos,
                std::cmp::Ordering::Greater => continue,
            };
            let mut findings = FileReport::new(&file.path, FileKind::Journal, 0);
            let walked = drained_of(file, (file_seq, first_group, end), deep, each, &mut findings);
            if let Err(error) = walked {
                findings.note_unreadable(&error);
            }
            for finding in findings.findings {
                let means = finding.means;
                file.report.note(finding.verdict, finding.pos, finding.what, means);
            }
        }
    }
}

fn drained_of(
    file: &JournalFile,
    (file_seq, first_group, end): (u64, u64, u64),
    deep: bool,
    each: &mut dyn FnMut(&GroupInfo, &mut Window<'_>) -> io::Result<()>,
    findings: &mut FileReport,
) -> io::Result<()> {
    let mut window = Window::new(&*file.source);
    let (mut pos, mut expected) = (FIRST_GROUP_POS, first_group);
    let means = "nothing: all of it is in segments, and no start reads it";
    while pos < end {
        let place = (file.path.as_path(), file.len.min(end), pos);
        let mut group = match find_group(&mut window, place, (file_seq, expected))? {
            GroupFound::Framed(group) => group,
            GroupFound::Broken(why) => {
                findings.note(Verdict::Stale, pos, format!("group {expected}: {why}"), means);
                return Ok(());
            }
            GroupFound::Nothing => return Ok(()),
        };
        group.is_replayed = false;
        each(&group, &mut window)?;
        let mut unneeded = |_: u64, _: u32, _: &EntryHeader| Ok(Large::NotNeeded);
        if deep && let Some(why) = what_is_broken(&mut window, &group, &mut unneeded)? {
            findings.note(Verdict::Stale, pos, format!("group {expected}: {why}"), means);
        }
        pos += group.bytes;
        expected += 1;
    }
    Ok(())
}

/// Looks for group `expected` of `file_seq` at a place of a file that has `len` bytes.
fn find_group(
    window: &mut Window<'_>,
    (path, len, pos): (&Path, u64, u64),
    (file_seq, expected): (u64, u64),
) -> io::Result<GroupFound> {
    if pos >= len {
        return Ok(GroupFound::Nothing);
    }
    let Some((header, magic)) = GroupHeader::suspect(window.at(pos, GROUP_HEADER_BYTES)?) else {
        return Ok(GroupFound::Nothing);
    };
    let header = *header;
    let signs = [magic, header.file_seq() == file_seq, header.group() == expected];
    match signs.iter().filter(|sign| **sign).count() {
        3 => {}
        // One field of three is wrong: what is left of an earlier use has two wrong ones.
        2 => return Ok(GroupFound::Broken("its header is not as it was written".to_owned())),
        _ => return Ok(GroupFound::Nothing),
    }
    if pos.saturating_add(header.total_bytes()) > len {
        return Ok(GroupFound::Broken("it ends behind the file".to_owned()));
    }
    let begin = pos + entries_begin(header.payload_bytes() as usize) as u64;
    let table = begin..begin + u64::from(header.entry_count()) * ENTRY_BYTES as u64;
    let crc = window.crc(header.crc_before_entries(), table)?;
    if crc != Some(header.crc()) {
        return Ok(GroupFound::Broken("its header and entries do not check".to_owned()));
    }
    Ok(GroupFound::Framed(GroupInfo {
        path: path.to_owned(),
        pos,
        bytes: header.total_bytes(),
        file_seq,
        group: expected,
        durable_through: header.durable_through(),
        payload_bytes: header.payload_bytes(),
        entry_count: header.entry_count(),
        is_replayed: true,
    }))
}

/// Lends the entries of a framed group, with their numbers, until one says stop.
pub(super) fn for_each_entry(
    window: &mut Window<'_>,
    group: &GroupInfo,
    each: &mut dyn FnMut(&mut Window<'_>, u32, &EntryHeader) -> io::Result<bool>,
) -> io::Result<()> {
    let begin = group.pos + entries_begin(group.payload_bytes as usize) as u64;
    let mut number = 0;
    while number < group.entry_count {
        let count = ENTRIES_AT_ONCE.min(group.entry_count - number);
        let pos = begin + u64::from(number) * ENTRY_BYTES as u64;
        let bytes = window.at(pos, count as usize * ENTRY_BYTES)?;
        let entries: Vec<EntryHeader> = <[EntryHeader]>::ref_from_bytes(bytes)
            .map_err(|_| io::ErrorKind::UnexpectedEof)?
            .to_vec();
        for (entry, number) in entries.iter().zip(number..) {
            if !each(window, number, entry)? {
                return Ok(());
            }
        }
        number += count;
    }
    Ok(())
}

/// The batch of an entry of a framed group that is in the group itself; else what is wrong.
pub(super) fn batch_of(
    window: &mut Window<'_>,
    group: &GroupInfo,
    entry: &EntryHeader,
) -> io::Result<Result<BatchAt, &'static str>> {
    let range = entry.range();
    if range.start < GROUP_HEADER_BYTES || range.end as u64 > group.bytes {
        return Ok(Err("it lies outside the group"));
    }
    let places = group.pos + range.start as u64..group.pos + range.end as u64;
    let batch = match batch_at(window, places)? {
        Ok(batch) => batch,
        Err(why) => return Ok(Err(why)),
    };
    if let Some(why) = batch.differs_from(entry) {
        return Ok(Err(why));
    }
    if !batch.crc_matches(window)? {
        return Ok(Err("its CRC does not match its bytes"));
    }
    Ok(Ok(batch))
}

/// What of a framed group is not as it was written; nothing if it is whole.
fn what_is_broken(
    window: &mut Window<'_>,
    group: &GroupInfo,
    large: LookAtLarge<'_>,
) -> io::Result<Option<String>> {
    let mut broken = None;
    for_each_entry(window, group, &mut |window, number, entry| {
        let why = match entry.kind() {
            Some(EntryKind::Append) => batch_of(window, group, entry)?.err().map(str::to_owned),
            Some(EntryKind::SegmentExtent) => match large(group.group, number, entry)? {
                Large::Missing(why) => Some(why),
                Large::NotNeeded | Large::Whole => None,
            },
            Some(_) => None,
            None => Some("an entry of an unknown kind".to_owned()),
        };
        broken = why.map(|why| describe(number, entry, &why));
        Ok(broken.is_none())
    })?;
    Ok(broken)
}

fn describe(number: u32, entry: &EntryHeader, why: &str) -> String {
    let (tp, first, last) = (entry.topic_partition(), entry.first(), entry.last());
    format!("the batch of entry {number} ({tp}, offsets {first} to {last}): {why}")
}

/// The chain of groups that a start would read.
pub(super) struct Walk<'a> {
    files: &'a [JournalFile],
    current: Option<usize>,
    pos: u64,
    expected: u64,
    window: Option<(usize, Window<'a>)>,
    clean: bool,
    /// Why the chain ends, if a group seems to lie at its end.
    stop: Option<String>,
}

impl<'a> Walk<'a> {
    fn window(&mut self, index: usize) -> &mut Window<'a> {
        let (_, window) = match self.window.take() {
            Some(held) if held.0 == index => self.window.insert(held),
            _ => self.window.insert((index, Window::new(&*self.files[index].source))),
        };
        window
    }

    /// The next whole group and a window on its file; `None` where the chain ends.
    pub(super) fn next(
        &mut self,
        large: LookAtLarge<'_>,
    ) -> io::Result<Option<(GroupInfo, &mut Window<'a>)>> {
        while let Some(index) = self.current.filter(|_| !self.clean) {
            let files = self.files;
            let file = &files[index];
            let file_seq = file.header.map_or(0, |header| header.0);
            let (pos, expected) = (self.pos, self.expected);
            let window = self.window(index);
            let place = (file.path.as_path(), file.len, pos);
            self.stop = match find_group(window, place, (file_seq, expected))? {
                GroupFound::Nothing => None,
                GroupFound::Broken(why) => Some(why),
                GroupFound::Framed(group) => match what_is_broken(window, &group, large)? {
                    Some(why) => Some(why),
                    None => {
                        self.pos += group.bytes;
                        self.expected += 1;
                        return Ok(Some((group, self.window(index))));
                    }
                },
            };
            let headers = files.iter().map(|file| file.header);
            let Some(next) = next_file(headers, file_seq, expected) else { return Ok(None) };
            self.current = Some(next);
            self.pos = FIRST_GROUP_POS;
        }
        Ok(None)
    }

    /// Judges the end of the chain: findings by file, of a journal that began at `start`.
    pub(super) fn judge(mut self, start: &Start) -> io::Result<Vec<(usize, Judged)>> {
        if self.clean {
            return self.headless_after_close(start);
        }
        let current = self.current;
        let current_seq = current.and_then(|it| self.files[it].header).map(|header| header.0);
        let (mut judged, mut later_groups) = (Vec::new(), 0);
        for index in 0..self.files.len() {
            let from = match self.files[index].header {
                Some((seq, _)) if Some(seq) == current_seq => self.pos,
                Some((seq, _)) if seq >= start.journal.file_seq && Some(seq) > current_seq => {
                    FIRST_GROUP_POS
                }
                Some(_) => continue,
                None => {
                    judged.extend(self.judge_headless(index, (current_seq, start))?);
                    continue;
                }
            };
            let Later { count, proof } = self.look_for_later(index, from)?;
            later_groups += count;
            if let Some((pos, group, durable_through)) = proof {
                judged.push(self.damaged(index, (pos, group, durable_through)));
            }
        }
        let is_damaged = judged.iter().any(|(_, found)| found.verdict == Verdict::Damaged);
        if let Some(index) = current.filter(|_| !is_damaged)
            && (self.stop.is_some() || later_groups > 0)
        {
            let why = self.stop.take().unwrap_or_else(|| "it is missing".to_owned());
            let behind = match later_groups {
                0 => String::new(),
                count => format!("; so are {count} whole groups behind it"),
            };
            let means = format!(
                "a torn tail, as a crash leaves it: nobody was told that it was durable; the next \
                 start forgets it{behind}"
            );
            let what = format!("group {}: {why}", self.expected);
            judged.push((index, Judged { verdict: Verdict::Torn, pos: self.pos, what, means }));
        }
        Ok(judged)
    }

    /// Files without a header in a journal that was closed in order: no start looks at them.
    fn headless_after_close(&mut self, start: &Start) -> io::Result<Vec<(usize, Judged)>> {
        let mut judged = Vec::new();
        for index in 0..self.files.len() {
            if self.files[index].header.is_none() {
                judged.extend(self.judge_headless(index, (None, start))?);
            }
        }
        Ok(judged)
    }

    fn damaged(&self, index: usize, (pos, group, durable): (u64, u64, u64)) -> (usize, Judged) {
        let (at, byte) = self.current.map_or((index, pos), |current| (current, self.pos));
        let why = self.stop.as_deref().unwrap_or("it is missing");
        let what = format!(
            "group {}: {why}; but group {group} (byte {pos} of {}) says that all through {durable} \
             was durable",
            self.expected,
            self.files[index].path.display(),
        );
        let means = "acknowledged records of this group are damaged: the broker refuses the \
                     directory and changes nothing";
        let means = means.to_owned();
        (at, Judged { verdict: Verdict::Damaged, pos: byte, what, means })
    }

    /// Whole later groups in the rest of a file, up to the first that proves the missing one durable.
    fn look_for_later(&mut self, index: usize, from: u64) -> io::Result<Later> {
        let files = self.files;
        let file = &files[index];
        let file_seq = file.header.map_or(0, |header| header.0);
        let expected = self.expected;
        let window = self.window(index);
        let (mut pos, mut count) = (from, 0);
        while pos < file.len {
            let header = GroupHeader::peek(window.at(pos, GROUP_HEADER_BYTES)?).copied();
            let header = header.filter(|it| it.file_seq() == file_seq && it.group() > expected);
            if let Some(header) = header {
                let place = (file.path.as_path(), file.len, pos);
                let found = find_group(window, place, (file_seq, header.group()))?;
                if matches!(found, GroupFound::Framed(_)) {
                    if header.durable_through() >= expected {
                        let proof = (pos, header.group(), header.durable_through());
                        return Ok(Later { count, proof: Some(proof) });
                    }
                    count += 1;
                }
            }
            pos += BLOCK_ALIGN as u64;
        }
        Ok(Later { count, proof: None })
    }

    /// A file without a header: nothing, or one whose header was damaged after it was used.
    fn judge_headless(
        &mut self,
        index: usize,
        (current_seq, start): (Option<u64>, &Start),
    ) -> io::Result<Option<(usize, Judged)>> {
        let files = self.files;
        let file = &files[index];
        if file.report.verdict() > Verdict::Torn {
            return Ok(None); // something worse is said of it
        }
        let expected = self.expected;
        let window = self.window(index);
        let header = GroupHeader::peek(window.at(FIRST_GROUP_POS, GROUP_HEADER_BYTES)?).copied();
        let newer = header.filter(|it| {
            Some(it.file_seq()) > current_seq
                && !start.clean
                && it.file_seq() >= start.journal.file_seq
                && it.group() >= expected
        });
        if let Some(header) = newer {
            let place = (file.path.as_path(), file.len, FIRST_GROUP_POS);
            let found = find_group(window, place, (header.file_seq(), header.group()))?;
            if matches!(found, GroupFound::Framed(_)) {
                let group = header.group();
                let what =
                    format!("the file header cannot be read, but group {group} lies behind it");
                let means = "acknowledged records may lie in it: the broker refuses the directory";
                let means = means.to_owned();
                let judged = Judged { verdict: Verdict::Damaged, pos: 0, what, means };
                return Ok(Some((index, judged)));
            }
        }
        if window.is_zero(0..BLOCK_ALIGN as u64)? {
            return Ok(None);
        }
        let what = "the file header cannot be read".to_owned();
        let is_missed = start.journal.activated && !start.clean && current_seq.is_none();
        let (verdict, means) = if is_missed {
            (Verdict::Damaged, "it may be the file that replay begins in, which is not there")
        } else {
            (Verdict::Stale, "no group that is needed lies behind it; the broker writes it anew")
        };
        Ok(Some((index, Judged { verdict, pos: 0, what, means: means.to_owned() })))
    }
}

/// Whole groups behind the end of a chain.
struct Later {
    count: u64,
    /// One that proves the missing group durable: where it lies, its sequence, what it knew durable.
    proof: Option<(u64, u64, u64)>,
}

/// What is said of the end of a chain.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) pos: u64,
    pub(super) what: String,
    pub(super) means: String,
}
