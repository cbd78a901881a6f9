//! Everything of a shard's journal and of a partition's files, judged.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use crate::base::ids::{Offset, TopicPartition};

use super::super::journal::format::EntryKind;
use super::super::log::LogState;
use super::super::segment::{IndexMark, SegmentName, SegmentState};
use super::directory::{DataDir, names_in};
use super::frames::{self, Meanings};
use super::journal::{EntryInfo, GroupInfo, JournalFiles, for_each_entry};
use super::report::{FileKind, FileReport, Verdict};
use super::segments::{self, Blocks, Known};
use super::source::{FileSource, Source};

/// Something in a journal, in the order of its groups.
#[derive(Clone, Copy, Debug)]
pub enum JournalItem<'a> {
    /// A group whose header and entries check.
    Group(&'a GroupInfo),
    /// An entry of the group before it.
    Entry(&'a GroupInfo, &'a EntryInfo),
}

/// What was met in one file of a journal.
#[derive(Clone, Copy, Default)]
struct Counts {
    drained: u64,
    replayed: u64,
}

impl DataDir {
    /// Judges a shard's journal. What a start would read is always looked at whole; what it would
    /// not read only if `deep`, or as far as `each` wants to see it.
    pub fn journal(
        &self,
        shard: u16,
        deep: bool,
        each: &mut dyn FnMut(JournalItem<'_>),
    ) -> Vec<FileReport> {
        let mut journal = match self.journal_files(shard) {
            Ok(journal) => journal,
            Err(report) => return vec![report],
        };
        let mut counts: HashMap<PathBuf, Counts> = HashMap::new();
        journal.drained(deep, &mut |group, window| {
            counts.entry(group.path.clone()).or_default().drained += 1;
            each(JournalItem::Group(group));
            for_each_entry(window, group, &mut |_, number, entry| {
                each(JournalItem::Entry(group, &EntryInfo::of(group, number, entry)));
                Ok(true)
            })
        });
        if let Err(error) = self.replayed(&mut journal, &mut counts, each) {
            journal.dir_report.note_unreadable(&error);
        }
        let mut reports = Vec::new();
        if journal.dir_report.verdict() > Verdict::Sound {
            reports.push(journal.dir_report);
        }
        for file in journal.files {
            let mut report = file.report;
            if let Some(Counts { drained, replayed }) = counts.get(&report.path) {
                let more = format!(", {replayed} groups to replay, {drained} in segments already");
                report.summary.push_str(&more);
            }
            reports.push(report);
        }
        reports.sort_by(|a, b| a.path.cmp(&b.path));
        reports
    }

    fn replayed(
        &self,
        journal: &mut JournalFiles,
        counts: &mut HashMap<PathBuf, Counts>,
        each: &mut dyn FnMut(JournalItem<'_>),
    ) -> io::Result<()> {
        let mut ends: HashMap<TopicPartition, Offset> = HashMap::new();
        let mut out_of_order = Vec::new();
        let mut walk = journal.walk();
        let mut large =
            |group: u64, number: u32, entry: &_| self.look_at_large(group, number, entry);
        while let Some((group, window)) = walk.next(&mut large)? {
            counts.entry(group.path.clone()).or_default().replayed += 1;
            each(JournalItem::Group(&group));
            for_each_entry(window, &group, &mut |_, number, entry| {
                let info = EntryInfo::of(&group, number, entry);
                each(JournalItem::Entry(&group, &info));
                let tp = entry.topic_partition();
                if !self.is_live(tp) || !self.is_replayed(tp, (group.group, number)) {
                    return Ok(true);
                }
                let known = self.states.get(&tp).map_or(Offset(0), LogState::log_end);
                let end = ends.entry(tp).or_insert(known);
                match entry.kind() {
                    Some(EntryKind::Append | EntryKind::SegmentExtent) => {
                        if entry.first() < *end {
                            let what = format!(
                                "group {} appends to {tp} at {}, but the log ends at {end}",
                                group.group, info.first
                            );
                            out_of_order.push((group.path.clone(), group.pos, what));
                        }
                        *end = entry.last().plus(1);
                    }
                    Some(EntryKind::Truncate) => *end = entry.first().min(*end),
                    Some(EntryKind::Drop) => {
                        ends.remove(&tp);
                    }
                    Some(EntryKind::LogStart | EntryKind::EpochStart) | None => {}
                }
                Ok(true)
            })?;
        }
        let judged = walk.judge(&journal.start)?;
        for (index, found) in judged {
            let report = &mut journal.files[index].report;
            report.note(found.verdict, found.pos, found.what, found.means);
        }
        for (path, pos, what) in out_of_order {
            let means = "the broker refuses the directory and changes nothing";
            let of_path = journal.files.iter_mut().find(|file| file.report.path == path);
            if let Some(file) = of_path {
                file.report.note(Verdict::Damaged, pos, what, means);
            }
        }
        Ok(())
    }

    /// Judges the files of a partition. `deep`: each batch is looked at, else only block headers.
    #[must_use]
    pub fn partition(&self, tp: TopicPartition, deep: bool) -> Vec<FileReport> {
        let dir = self.partition_dir(tp);
        let names = match names_in(&dir) {
            Ok(names) => names,
            Err(error) => return vec![FileReport::unreadable(dir, FileKind::Directory, &error)],
        };
        let mut segments: Vec<SegmentName> =
            names.iter().filter_map(|name| segment_of(name)).collect();
        let state = self.states.get(&tp);
        let counted = state.map(|state| state.segments.as_slice()).unwrap_or_default();
        segments.extend(counted.iter().map(SegmentName::of));
        segments.sort_unstable();
        segments.dedup();
        let mut reports = Vec::new();
        for name in segments {
            let at = counted.iter().position(|segment| SegmentName::of(segment) == name);
            let segment = at.map(|at| {
                let state = state.filter(|_| at + 1 == counted.len());
                let next = counted.get(at + 1).map(|next| next.base_offset);
                let end = next.or(state.map(|state| state.segment_end)).unwrap_or(i64::MAX);
                let is_sealed = state.is_none_or(|state| state.last_is_sealed);
                Counted { state: &counted[at], end: Offset(end), is_sealed }
            });
            self.segment_files(tp, name, segment, deep, &mut reports);
        }
        let why = match &self.live {
            Some(live) if !live.contains(&tp) => Some("its partition does not exist any more"),
            None if !dir.exists() => Some("its partition was deleted, it seems: no metadata says"),
            _ => None,
        };
        if let Some(why) = why {
            reports.iter_mut().for_each(|report| report.make_unneeded(why));
        }
        reports
    }

    fn segment_files(
        &self,
        tp: TopicPartition,
        name: SegmentName,
        counted: Option<Counted<'_>>,
        deep: bool,
        reports: &mut Vec<FileReport>,
    ) {
        let file_bytes = counted.map_or(0, |counted| counted.state.file_bytes);
        let end = counted.map_or(Offset(i64::MAX), |counted| counted.end);
        let base = name.base_offset;
        let known = Known { topic_partition: tp, base_offset: base, file_bytes, end };
        let path = self.segment_path(tp, name, "log");
        let (blocks, is_sound) = match FileSource::open(&path) {
            Ok(source) => {
                let mut report = FileReport::new(&path, FileKind::Segment, source.len_bytes());
                let blocks = segments::segment(&source, &known, deep, &mut report);
                let is_sound = report.verdict() < Verdict::Unreadable;
                reports.push(report);
                (blocks, is_sound)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if counted.is_some() {
                    let mut report = FileReport::new(&path, FileKind::Segment, 0);
                    let means = format!("offsets {base} to {} cannot be read", end.0 - 1);
                    report.note(Verdict::Damaged, None, "it is not there", means);
                    reports.push(report);
                }
                (Blocks::default(), false)
            }
            Err(error) => {
                reports.push(FileReport::unreadable(&path, FileKind::Segment, &error));
                (Blocks::default(), false)
            }
        };
        let mark = counted.and_then(|counted| {
            let state = counted.state;
            state.index_entries.map(|count| IndexMark { count, crc: state.index_crc })
        });
        let is_needed = mark.is_some_and(|mark| mark.count > 0);
        let open = self.side_file(tp, name, (FileKind::Index, is_needed), reports);
        if let Some((source, mut report)) = open {
            segments::index(&source, (&known, &blocks, is_sound), mark, &mut report);
            reports.push(report);
        }
        let is_sealed = counted.is_some_and(|counted| counted.is_sealed);
        let open = self.side_file(tp, name, (FileKind::Snapshot, is_sealed), reports);
        if let Some((source, mut report)) = open {
            let verdict = if is_sealed { Verdict::Damaged } else { Verdict::Torn };
            let damage = if is_sealed { SNAPSHOT_LOST } else { SNAPSHOT_UNNEEDED };
            let last = blocks.live.last().map(|last| last.last_offset.plus(1).min(end));
            // Compaction may have taken the last batches, and keeps the snapshot.
            let last = last.filter(|_| is_sealed && is_sound && name.revision == 0);
            frames::snapshot(&source, last, &Meanings { damage, verdict }, &mut report);
            reports.push(report);
        }
    }

    /// The index or the snapshot of a segment, if it is there; a report if it is missing.
    fn side_file(
        &self,
        tp: TopicPartition,
        name: SegmentName,
        (kind, is_needed): (FileKind, bool),
        reports: &mut Vec<FileReport>,
    ) -> Option<(FileSource, FileReport)> {
        let path = self.segment_path(tp, name, kind.name());
        match FileSource::open(&path) {
            Ok(source) => {
                let report = FileReport::new(path, kind, source.len_bytes());
                Some((source, report))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if is_needed {
                    let (verdict, means) = match kind {
                        FileKind::Index => (Verdict::Stale, segments::REBUILT),
                        _ => (Verdict::Damaged, SNAPSHOT_LOST),
                    };
                    let mut report = FileReport::new(path, kind, 0);
                    report.note(verdict, None, "it is not there", means);
                    reports.push(report);
                }
                None
            }
            Err(error) => {
                reports.push(FileReport::unreadable(path, kind, &error));
                None
            }
        }
    }
}

const SNAPSHOT_LOST: &str = "no record is lost: it repeats what the checkpoint says";
const SNAPSHOT_UNNEEDED: &str = "nothing: its segment is not closed, and it is written again then";

/// A segment that the checkpoint counts.
#[derive(Clone, Copy)]
struct Counted<'a> {
    state: &'a SegmentState,
    end: Offset,
    is_sealed: bool,
}

/// The segment of a file.
fn segment_of(file: &str) -> Option<SegmentName> {
    let (name, kind) = SegmentName::parse(file)?;
    matches!(kind, "log" | "index" | "snapshot").then_some(name)
}
