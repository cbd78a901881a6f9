//! Checkpoints: what is durable in segments, and where the journal must be read from.
//!
//! Two files take turns (`<name>.a`, `<name>.b`), each replaced as a whole. A journal file is
//! released only when both no longer need it, so if the newer copy cannot be read, the older one
//! and the journal still give everything.

use std::path::{Path, PathBuf};

use rkyv::{Archive, Deserialize, Serialize};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::base::crc::{crc32c, crc32c_append};
use crate::io::disk::{Disk, OpenOptions};

use super::error::RecoveryError;
use super::journal::ReplayFrom;
use super::log::LogState;

/// Magic of a checkpoint.
pub(super) const CHECKPOINT_MAGIC: [u8; 4] = *b"TWCP";
/// Magic of a sealed segment's snapshot.
pub(super) const SNAPSHOT_MAGIC: [u8; 4] = *b"TWSS";
/// Version of the frame and of what is in it.
pub(super) const FRAME_VERSION: u16 = 4;

/// Name of the checkpoint that recovery writes, before any shard does.
pub(super) const BASE_NAME: &str = "base";

/// First bytes of a checkpoint or snapshot; an `rkyv` archive follows.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FrameHeader {
    magic: [u8; 4],
    version: U16,
    reserved: U16,
    sequence: U64,
    directory_id: [u8; 16],
    archive_bytes: U64,
    reserved_too: U32,
    crc: U32,
}

/// Bytes before the archive.
pub(super) const FRAME_HEADER_BYTES: usize = size_of::<FrameHeader>();

/// Where one shard's journal begins, in a checkpoint.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(super) struct JournalStart {
    pub(super) shard: u16,
    pub(super) file_seq: u64,
    pub(super) pos: u64,
    pub(super) group: u64,
    /// Whether the file exists: a start that no shard has taken up yet has none.
    pub(super) activated: bool,
}

impl JournalStart {
    pub(super) fn new(shard: u16, from: ReplayFrom, activated: bool) -> JournalStart {
        let ReplayFrom { file_seq, pos, group } = from;
        JournalStart { shard, file_seq, pos, group, activated }
    }

    pub(super) fn from(&self) -> ReplayFrom {
        ReplayFrom { file_seq: self.file_seq, pos: self.pos, group: self.group }
    }
}

/// What a checkpoint says.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Number of the start that it belongs to: recovery raises it.
    pub(super) generation: u64,
    /// Closed in order: the journal holds nothing behind its start.
    pub(super) clean: bool,
    pub(super) journals: Vec<JournalStart>,
    pub(super) logs: Vec<LogState>,
}

/// A checkpoint read back, with its place in the turns.
pub(super) struct Found {
    pub(super) checkpoint: Checkpoint,
    pub(super) sequence: u64,
}

/// Puts magic, version, sequence, length and CRC before an archive.
pub(super) fn frame(
    magic: [u8; 4],
    sequence: u64,
    directory_id: [u8; 16],
    archive: &[u8],
) -> Vec<u8> {
    let mut header = FrameHeader {
        magic,
        version: FRAME_VERSION.into(),
        reserved: 0.into(),
        sequence: sequence.into(),
        directory_id,
        archive_bytes: (archive.len() as u64).into(),
        reserved_too: 0.into(),
        crc: 0.into(),
    };
    header.crc = checksum(&header, archive).into();
    let mut out = Vec::with_capacity(FRAME_HEADER_BYTES + archive.len());
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(archive);
    out
}

fn checksum(header: &FrameHeader, archive: &[u8]) -> u32 {
    crc32c_append(crc32c(&header.as_bytes()[..FRAME_HEADER_BYTES - 4]), archive)
}

/// Whether `bytes` are one whole frame of that magic, of this version.
pub(super) fn frame_checks(magic: [u8; 4], bytes: &[u8]) -> bool {
    let Some(head) = FrameHead::peek(magic, bytes) else { return false };
    let archive = &bytes[FRAME_HEADER_BYTES..];
    head.is_ours
        && head.version == FRAME_VERSION
        && head.archive_bytes == archive.len() as u64
        && head.crc == crc32c_append(head.crc_before_archive, archive)
}

/// What a frame says of itself before its archive is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHead {
    pub(super) is_ours: bool,
    pub(super) version: u16,
    pub(super) sequence: u64,
    pub(super) directory_id: [u8; 16],
    pub(super) archive_bytes: u64,
    pub(super) crc: u32,
    /// What the CRC is before the archive.
    pub(super) crc_before_archive: u32,
}

impl FrameHead {
    /// The head at the front of `bytes`, unchecked but for its magic; `None` if they are too short.
    pub(super) fn peek(magic: [u8; 4], bytes: &[u8]) -> Option<FrameHead> {
        let (header, _) = FrameHeader::ref_from_prefix(bytes).ok()?;
        Some(FrameHead {
            is_ours: header.magic == magic,
            version: header.version.get(),
            sequence: header.sequence.get(),
            directory_id: header.directory_id,
            archive_bytes: header.archive_bytes.get(),
            crc: header.crc.get(),
            crc_before_archive: checksum(header, &[]),
        })
    }
}

/// What an archive holds, validated; `None` if it is none.
pub(super) fn unarchive(archive: &[u8]) -> Option<Checkpoint> {
    let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(archive.len());
    aligned.extend_from_slice(archive);
    rkyv::from_bytes::<Checkpoint, rkyv::rancor::Error>(&aligned).ok()
}

enum Unframed<'a> {
    Whole { sequence: u64, directory_id: [u8; 16], archive: &'a [u8] },
    UnknownVersion(u16),
    Damaged,
}

fn unframe(magic: [u8; 4], bytes: &[u8]) -> Unframed<'_> {
    let Ok((header, rest)) = FrameHeader::ref_from_prefix(bytes) else { return Unframed::Damaged };
    let archive = usize::try_from(header.archive_bytes.get()).ok().and_then(|len| rest.get(..len));
    let Some(archive) = archive else { return Unframed::Damaged };
    if header.magic != magic || header.crc.get() != checksum(header, archive) {
        return Unframed::Damaged;
    }
    if header.version.get() != FRAME_VERSION {
        return Unframed::UnknownVersion(header.version.get());
    }
    let (sequence, directory_id) = (header.sequence.get(), header.directory_id);
    Unframed::Whole { sequence, directory_id, archive }
}

/// The two files of a checkpoint.
pub(super) struct CheckpointFiles {
    dir: PathBuf,
    name: String,
    directory_id: [u8; 16],
}

impl CheckpointFiles {
    /// `name` is a shard's number or [`BASE_NAME`]; `dir` is the data directory.
    pub(super) fn new(dir: &Path, name: impl Into<String>, directory_id: [u8; 16]) -> Self {
        CheckpointFiles { dir: dir.join("checkpoint"), name: name.into(), directory_id }
    }

    fn path(&self, copy: char) -> PathBuf {
        self.dir.join(format!("{}.{copy}", self.name))
    }

    /// Writes the copy whose turn it is: the older one stays until the new one is durable.
    pub(super) async fn write(
        &self,
        disk: &Disk,
        sequence: u64,
        checkpoint: &Checkpoint,
    ) -> std::io::Result<()> {
        let archive = rkyv::to_bytes::<rkyv::rancor::Error>(checkpoint)
            .expect("plain vectors of numbers serialize");
        let bytes = frame(CHECKPOINT_MAGIC, sequence, self.directory_id, &archive);
        let copy = if sequence.is_multiple_of(2) { 'a' } else { 'b' };
        disk.replace_file(&self.path(copy), &bytes).await
    }

    /// The newest copy that is whole; `None` if there is none at all.
    ///
    /// # Errors
    /// `Corrupt` if there are copies and none is whole; `UnknownVersion`, `ForeignFile`, `Io`.
    pub(super) async fn load(&self, disk: &Disk) -> Result<Option<Found>, RecoveryError> {
        let (mut newest, mut damaged): (Option<Found>, Option<PathBuf>) = (None, None);
        for copy in ['a', 'b'] {
            let path = self.path(copy);
            let Some(bytes) = read_if_there(disk, &path).await? else { continue };
            match self.parse(&bytes, &path)? {
                Some(found) if newest.as_ref().is_none_or(|n| n.sequence < found.sequence) => {
                    newest = Some(found);
                }
                Some(_) => {}
                None => damaged = Some(path),
            }
        }
        match (newest, damaged) {
            (None, Some(path)) => Err(RecoveryError::Corrupt {
                path,
                reason: "no copy of the checkpoint can be read".to_owned(),
            }),
            (newest, Some(path)) => {
                tracing::warn!(path = %path.display(), "a checkpoint copy is damaged: the other is used");
                Ok(newest)
            }
            (newest, None) => Ok(newest),
        }
    }

    fn parse(&self, bytes: &[u8], path: &Path) -> Result<Option<Found>, RecoveryError> {
        match unframe(CHECKPOINT_MAGIC, bytes) {
            Unframed::Damaged => Ok(None),
            Unframed::UnknownVersion(version) => {
                Err(RecoveryError::UnknownVersion { path: path.to_owned(), version })
            }
            Unframed::Whole { directory_id, .. } if directory_id != self.directory_id => {
                Err(RecoveryError::ForeignFile { path: path.to_owned() })
            }
            Unframed::Whole { sequence, archive, .. } => {
                Ok(unarchive(archive).map(|checkpoint| Found { checkpoint, sequence }))
            }
        }
    }
}

async fn read_if_there(disk: &Disk, path: &Path) -> Result<Option<bytes::Bytes>, RecoveryError> {
    let failed = |error| RecoveryError::Io { path: path.to_owned(), error };
    let file = match disk.open(path, OpenOptions::default()).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let len = file.len().map_err(failed)?;
    let len = usize::try_from(len).map_err(|_| failed(std::io::ErrorKind::FileTooLarge.into()))?;
    file.read_at(0, len).await.map(Some).map_err(failed)
}
