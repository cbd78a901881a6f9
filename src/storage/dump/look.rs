//! One file by itself, whatever its bytes are: for who has no directory around it.

use std::path::Path;

use crate::base::ids::{Offset, PartitionIndex, TopicId, TopicPartition};
use crate::base::limits::BLOCK_ALIGN;

use super::super::checkpoint::JournalStart;
use super::super::journal::ReplayFrom;
use super::super::journal::format::{FIRST_GROUP_POS, FileHeader, HeaderFound};
use super::super::segment::IndexMark;
use super::frames::{self, Meanings};
use super::journal::{JournalFile, JournalFiles, Large, Start};
use super::report::{FileKind, FileReport, Verdict};
use super::segments::{self, Blocks, Known};
use super::source::Source;

/// Looks at bytes as at a file of that kind: a journal from its first group on, as the only file of
/// its shard; a segment as if a checkpoint counted all of its whole blocks, of the partition that
/// its first block names; an index with the mark that its bytes would have. Kinds that are not of
/// the storage are not looked at.
#[must_use]
pub fn look_at_bytes(path: &Path, kind: FileKind, bytes: &[u8]) -> FileReport {
    let mut report = FileReport::new(path, kind, bytes.len_bytes());
    let meanings = Meanings { damage: "it cannot be used", verdict: Verdict::Damaged };
    match kind {
        FileKind::Checkpoint => {
            let _ = frames::checkpoint(&bytes, &meanings, &mut report);
        }
        FileKind::Snapshot => frames::snapshot(&bytes, None, &meanings, &mut report),
        FileKind::Segment => {
            let known = known_of(bytes);
            segments::segment(&bytes, &known, true, &mut report);
        }
        FileKind::Index => {
            let mark = IndexMark::of_bytes(bytes);
            let known = known_of(&[]);
            let known = Known { file_bytes: u64::MAX, ..known };
            let blocks = Blocks::default();
            segments::index(&bytes, (&known, &blocks, false), Some(mark), &mut report);
        }
        FileKind::Journal => return journal(path, bytes),
        FileKind::Identity | FileKind::Metadata | FileKind::Directory => {}
    }
    report
}

fn known_of(bytes: &[u8]) -> Known {
    let id = bytes.get(8..24).and_then(|id| <[u8; 16]>::try_from(id).ok()).unwrap_or_default();
    let word = |at: usize| bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    let partition = word(24).map_or(0, i32::from_le_bytes);
    let topic_partition =
        TopicPartition { topic_id: TopicId(id), partition: PartitionIndex(partition) };
    let whole = bytes.len() - bytes.len() % BLOCK_ALIGN;
    Known {
        topic_partition,
        base_offset: Offset(0),
        file_bytes: whole as u64,
        end: Offset(i64::MAX),
    }
}

fn journal(path: &Path, bytes: &[u8]) -> FileReport {
    let id = bytes.get(8..24).and_then(|id| <[u8; 16]>::try_from(id).ok()).unwrap_or_default();
    let (file_seq, group) = match FileHeader::find(bytes, id) {
        HeaderFound::Valid { file_seq, first_group, .. } => (file_seq, first_group),
        _ => (1, 1),
    };
    let from = ReplayFrom { file_seq, pos: FIRST_GROUP_POS, group };
    let start = Start { journal: JournalStart::new(0, from, false), clean: false };
    let file = JournalFile::open(path, Box::new(bytes.to_vec()), None);
    let mut journal = JournalFiles::new(path, vec![file], start);
    let mut missing =
        |_: u64, _: u32, _: &_| Ok(Large::Missing("no segment is looked at".to_owned()));
    let mut walk = journal.walk();
    let mut count = 0_u64;
    let walked = loop {
        match walk.next(&mut missing) {
            Ok(Some(_)) => count += 1,
            Ok(None) => break walk.judge(&journal.start),
            Err(error) => break Err(error),
        }
    };
    let mut report = journal.files.remove(0).report;
    report.summary.push_str(&format!(", {count} whole groups"));
    match walked {
        Ok(judged) => judged
            .into_iter()
            .for_each(|(_, found)| report.note(found.verdict, found.pos, found.what, found.means)),
        Err(error) => report.note_unreadable(&error),
    }
    report
}
