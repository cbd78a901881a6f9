//! Checkpoints and snapshots: frames around an archive.

use std::io;

use crate::base::ids::Offset;

use super::super::checkpoint::{
    CHECKPOINT_MAGIC, Checkpoint, FRAME_HEADER_BYTES, FRAME_VERSION, FrameHead, SNAPSHOT_MAGIC,
    unarchive,
};
use super::super::epoch_history::EpochHistory;
use super::super::log::SealedState;
use super::super::producer_table::{PRODUCER_IDS_MAX_DEFAULT, ProducerTable};
use super::report::{FileReport, Verdict};
use super::source::{Source, Window};

/// No archive is larger: a checkpoint of 100,000 partitions takes some 100 MB.
const ARCHIVE_BYTES_MAX: u64 = 1 << 30;

/// What a damaged checkpoint or snapshot means is said by who knows what else is there.
pub(super) struct Meanings {
    pub(super) damage: &'static str,
    /// Of an end that is missing: damage, unless it may be that of a write that a crash cut short.
    pub(super) verdict: Verdict,
}

/// A frame's head and its archive; `None` and a finding if it is not whole.
fn read_frame(
    source: &dyn Source,
    magic: [u8; 4],
    meanings: &Meanings,
    report: &mut FileReport,
) -> io::Result<Option<(FrameHead, Vec<u8>)>> {
    let mut window = Window::new(source);
    let len = window.len();
    let damaged = |report: &mut FileReport, pos: u64, what: String| {
        report.note(meanings.verdict, pos, what, meanings.damage);
    };
    let Some(head) = FrameHead::peek(magic, window.at(0, FRAME_HEADER_BYTES)?) else {
        damaged(report, 0, format!("it is too short for a frame: {len} bytes"));
        return Ok(None);
    };
    if !head.is_ours {
        damaged(report, 0, "it does not begin with the magic".to_owned());
        return Ok(None);
    }
    let room = len - FRAME_HEADER_BYTES as u64;
    if head.archive_bytes > room {
        let what =
            format!("its archive has {} bytes, but only {room} are there", head.archive_bytes);
        damaged(report, 32, what);
        return Ok(None);
    }
    let archive = FRAME_HEADER_BYTES as u64..FRAME_HEADER_BYTES as u64 + head.archive_bytes;
    if window.crc(head.crc_before_archive, archive.clone())? != Some(head.crc) {
        damaged(report, 44, "its checksum does not match".to_owned());
        return Ok(None);
    }
    if head.version != FRAME_VERSION {
        report.note_version(head.version, FRAME_VERSION);
        return Ok(None);
    }
    if head.archive_bytes > ARCHIVE_BYTES_MAX {
        let what =
            format!("its archive of {} bytes is too large to be looked at", head.archive_bytes);
        report.note(Verdict::Unreadable, 32, what, "its checksum matches");
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(head.archive_bytes).unwrap_or(0)];
    source.read_at(archive.start, &mut bytes)?;
    Ok(Some((head, bytes)))
}

/// One copy of a checkpoint.
pub(super) struct CheckpointCopy {
    pub(super) sequence: u64,
    pub(super) directory_id: [u8; 16],
    pub(super) checkpoint: Checkpoint,
}

/// Looks at a copy of a checkpoint. `meanings` says what its loss would mean.
pub(super) fn checkpoint(
    source: &dyn Source,
    meanings: &Meanings,
    report: &mut FileReport,
) -> Option<CheckpointCopy> {
    let read = read_frame(source, CHECKPOINT_MAGIC, meanings, report);
    let (head, archive) = match read {
        Ok(found) => found?,
        Err(error) => {
            report.note_unreadable(&error);
            return None;
        }
    };
    let Some(checkpoint) = unarchive(&archive) else {
        let what = "its checksum matches, but its archive cannot be opened";
        report.note(Verdict::Damaged, FRAME_HEADER_BYTES as u64, what, meanings.damage);
        return None;
    };
    report.summary = format!(
        "copy {} of start {}, {} logs{}",
        head.sequence,
        checkpoint.generation,
        checkpoint.logs.len(),
        if checkpoint.clean { ", closed in order" } else { "" }
    );
    for log in &checkpoint.logs {
        let is_sane = log.is_sane()
            && EpochHistory::from_entries(log.epochs.clone()).is_some()
            && ProducerTable::from_image(&log.producers, PRODUCER_IDS_MAX_DEFAULT).is_some();
        if !is_sane {
            let what = format!("its state of {} makes no sense", log.topic_partition());
            let means = "the broker refuses the directory, if this copy is the newer one";
            report.note(Verdict::Damaged, FRAME_HEADER_BYTES as u64, what, means);
        }
    }
    Some(CheckpointCopy { sequence: head.sequence, directory_id: head.directory_id, checkpoint })
}

/// Looks at what is kept beside a sealed segment. `end`: where the segment ends, if that is known.
pub(super) fn snapshot(
    source: &dyn Source,
    end: Option<Offset>,
    meanings: &Meanings,
    report: &mut FileReport,
) {
    let (_, archive) = match read_frame(source, SNAPSHOT_MAGIC, meanings, report) {
        Ok(Some(found)) => found,
        Ok(None) => return,
        Err(error) => return report.note_unreadable(&error),
    };
    let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(archive.len());
    aligned.extend_from_slice(&archive);
    drop(archive);
    let pos = FRAME_HEADER_BYTES as u64;
    let Ok(state) = rkyv::from_bytes::<SealedState, rkyv::rancor::Error>(&aligned) else {
        let what = "its checksum matches, but its archive cannot be opened";
        return report.note(Verdict::Damaged, pos, what, meanings.damage);
    };
    report.summary = format!(
        "segment end {}, {} producers, {} epochs",
        state.end_offset,
        state.producers.producers.len(),
        state.epochs.len()
    );
    let is_sane = EpochHistory::from_entries(state.epochs).is_some()
        && ProducerTable::from_image(&state.producers, PRODUCER_IDS_MAX_DEFAULT).is_some();
    if !is_sane {
        let what = "its producers or epochs make no sense";
        report.note(Verdict::Damaged, pos, what, meanings.damage);
    }
    if let Some(end) = end.filter(|end| end.0 > state.end_offset) {
        let what = format!("it ends its segment at {}, which ends at {end}", state.end_offset);
        report.note(Verdict::Damaged, pos, what, meanings.damage);
    }
}
