//! Looks for damage in one closed segment, a small piece at a time.
//!
//! Reads with a descriptor of its own and past the page cache, so that neither the set of open
//! segments nor anything that readers keep is disturbed; a segment that leaves its log meanwhile
//! stays readable through that descriptor. Nothing that is read here is given to anybody.

use std::path::PathBuf;

use bytes::Bytes;

use crate::base::crc::crc32c_append;
use crate::base::ids::Offset;
use crate::base::limits::BLOCK_ALIGN;
use crate::io::disk::OpenOptions;
use crate::io::file::File;
use crate::record::{BatchHeader, stored_batches};

use super::super::checkpoint::{self, SNAPSHOT_MAGIC};
use super::SegmentKey;
use super::block::{BLOCK_HEADER_BYTES, BlockHeader, FRONT_BYTES, fronts_crc, fronts_crc_of};
use super::files::SegmentFiles;

/// What is read at once: little enough that a client's read does not wait long behind it.
const PIECE_BYTES: u64 = 256 << 10;

/// A place in a file that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes: the block, or the batch in it.
    pub pos: u64,
    /// The offsets that the block held, as far as its header is to be believed.
    pub offsets: Option<(Offset, Offset)>,
    /// What is wrong.
    pub reason: &'static str,
}

/// A closed segment that is being looked through.
pub(in crate::storage) struct SegmentScrub {
    key: SegmentKey,
    path: PathBuf,
    file: Option<File>,
    file_bytes: u64,
    pos: u64,
    large: Option<LargeBlock>,
    /// The last header did not check: the next good one is looked for.
    is_lost: bool,
    is_over: bool,
}

/// A block of one batch that is larger than a piece, as far as it was read.
struct LargeBlock {
    pos: u64,
    offsets: (Offset, Offset),
    crc: u32,
    expected: u32,
    left: u64,
}

impl SegmentScrub {
    pub(in crate::storage) fn new(
        files: &SegmentFiles,
        key: SegmentKey,
        file_bytes: u64,
    ) -> SegmentScrub {
        let path = files.path(key, "log");
        let (large, is_over) = (None, false);
        SegmentScrub { key, path, file: None, file_bytes, pos: 0, large, is_lost: false, is_over }
    }

    pub(in crate::storage) fn key(&self) -> SegmentKey {
        self.key
    }

    pub(in crate::storage) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Nothing is left to look at.
    pub(in crate::storage) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Looks at the next piece; adds what is wrong with it. Returns the bytes read.
    pub(in crate::storage) async fn next(
        &mut self,
        files: &SegmentFiles,
        found: &mut Vec<Damage>,
    ) -> u64 {
        if self.pos >= self.file_bytes {
            self.is_over = true;
            return self.check_snapshot(files, found).await;
        }
        let len = PIECE_BYTES.min(self.file_bytes - self.pos);
        match self.read(files, self.pos, len).await {
            Ok(bytes) if bytes.len() as u64 == len => self.check_piece(files, &bytes, found).await,
            Ok(_) => {
                found.push(self.damage(self.pos, None, "the file is shorter than it was"));
                self.is_over = true;
                len
            }
            Err(error) => {
                let reason = match error.kind() {
                    std::io::ErrorKind::NotFound => "the file is missing",
                    _ => "the device cannot read it",
                };
                found.push(self.damage(self.pos, None, reason));
                self.is_over = self.file.is_none();
                (self.pos, self.large, self.is_lost) = (self.pos + len, None, true);
                len
            }
        }
    }

    async fn read(&mut self, files: &SegmentFiles, pos: u64, len: u64) -> std::io::Result<Bytes> {
        if self.file.is_none() {
            let options = OpenOptions { direct: true, ..OpenOptions::default() };
            self.file = Some(files.disk().open(&self.path, options).await?);
        }
        let Some(file) = &self.file else { return Ok(Bytes::new()) };
        files.read(file, pos, usize::try_from(len).unwrap_or(usize::MAX)).await
    }

    async fn check_piece(
        &mut self,
        files: &SegmentFiles,
        bytes: &Bytes,
        found: &mut Vec<Damage>,
    ) -> u64 {
        let (mut at, mut read) = (0_usize, bytes.len() as u64);
        if let Some(large) = self.large.take() {
            at = self.go_on(large, bytes, found);
        }
        while self.large.is_none() && at < bytes.len() {
            let (rest, pos) = (&bytes[at..], self.pos + at as u64);
            let Some(header) = BlockHeader::find(rest, self.key.topic_partition) else {
                if !std::mem::replace(&mut self.is_lost, true) {
                    found.push(self.damage(pos, None, "a block header does not check"));
                }
                at += BLOCK_ALIGN;
                continue;
            };
            self.is_lost = false;
            let block_bytes = header.block_bytes();
            if pos + block_bytes > self.file_bytes {
                let offsets = Some((header.base_offset(), header.last_offset()));
                found.push(self.damage(pos, offsets, "a block ends behind its segment"));
                at = bytes.len();
            } else if block_bytes <= rest.len() as u64 {
                self.check_block(header, rest, pos, found);
                at += usize::try_from(block_bytes).unwrap_or(usize::MAX);
            } else if at > 0 {
                break; // whole in the next piece
            } else if is_one_batch(header, rest) {
                at = self.begin_large(header, rest, pos, found);
            } else {
                // Larger than a piece and of many batches: no block of ours is, but a reader of
                // files believes what it can check.
                let whole = self.read(files, pos, block_bytes).await.unwrap_or_default();
                self.check_block(header, &whole, pos, found);
                self.pos += block_bytes;
                read += whole.len() as u64;
                return read;
            }
        }
        self.pos += at as u64;
        read
    }

    /// Checks a block of which everything is there.
    fn check_block(&self, header: &BlockHeader, block: &[u8], pos: u64, found: &mut Vec<Damage>) {
        let offsets = Some((header.base_offset(), header.last_offset()));
        let end = BLOCK_HEADER_BYTES + header.payload_bytes();
        let Some(batches) = block.get(BLOCK_HEADER_BYTES..end) else {
            return found.push(self.damage(pos, offsets, "a block cannot be read"));
        };
        if fronts_crc_of(batches) != Some(header.fronts_crc()) {
            return found.push(self.damage(pos, offsets, "the front of a batch does not check"));
        }
        let mut at = pos + BLOCK_HEADER_BYTES as u64;
        for batch in stored_batches(batches).map_while(Result::ok) {
            if !batch.crc_matches() {
                let offsets = Some((batch.base_offset(), batch.last_offset()));
                found.push(self.damage(at, offsets, "a batch does not check"));
            }
            at += batch.len_bytes() as u64;
        }
    }

    /// Begins a block of one batch that goes on behind this piece. Returns how much was looked at.
    fn begin_large(
        &mut self,
        header: &BlockHeader,
        piece: &[u8],
        pos: u64,
        found: &mut Vec<Damage>,
    ) -> usize {
        let offsets = (header.base_offset(), header.last_offset());
        let payload = &piece[BLOCK_HEADER_BYTES..];
        let front = BatchHeader::peek(payload);
        let checks = front.is_some_and(|it| fronts_crc(std::iter::once(it)) == header.fronts_crc());
        if !checks {
            found.push(self.damage(pos, Some(offsets), "the front of a batch does not check"));
        }
        let expected = front.map_or(0, BatchHeader::crc);
        let left = header.payload_bytes() as u64 - payload.len() as u64;
        let crc = crc32c_append(0, &payload[FRONT_BYTES..]);
        self.large = checks.then_some(LargeBlock { pos, offsets, crc, expected, left });
        if checks {
            return piece.len();
        }
        // Past it as a whole, in the next piece.
        self.pos += header.block_bytes() - piece.len() as u64;
        piece.len()
    }

    /// Goes on with a large block. Returns where it ends in this piece.
    fn go_on(&mut self, mut large: LargeBlock, piece: &[u8], found: &mut Vec<Damage>) -> usize {
        let here = usize::try_from(large.left).unwrap_or(usize::MAX).min(piece.len());
        large.crc = crc32c_append(large.crc, &piece[..here]);
        large.left -= here as u64;
        if large.left > 0 {
            self.large = Some(large);
            return piece.len();
        }
        if large.crc != large.expected {
            found.push(self.damage(large.pos, Some(large.offsets), "a batch does not check"));
        }
        here.next_multiple_of(BLOCK_ALIGN)
    }

    /// The snapshot beside the segment: small, and read only when a segment is shipped as a whole.
    async fn check_snapshot(&self, files: &SegmentFiles, found: &mut Vec<Damage>) -> u64 {
        let path = files.path(self.key, "snapshot");
        let damage = |reason| Damage { path: path.clone(), pos: 0, offsets: None, reason };
        let file = match files.disk().open(&path, OpenOptions::default()).await {
            Ok(file) => file,
            // It is made anew from the batches where it is needed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return 0,
            Err(_) => {
                found.push(damage("the snapshot cannot be opened"));
                return 0;
            }
        };
        let len = file.len().ok().and_then(|len| usize::try_from(len).ok()).unwrap_or(0);
        let bytes = file.read_at(0, len).await.unwrap_or_default();
        if !checkpoint::frame_checks(SNAPSHOT_MAGIC, &bytes) {
            found.push(damage("the snapshot does not check"));
        }
        len as u64
    }

    fn damage(&self, pos: u64, offsets: Option<(Offset, Offset)>, reason: &'static str) -> Damage {
        Damage { path: self.path.clone(), pos, offsets, reason }
    }
}

/// Whether a block is one batch, as far as its first piece says.
fn is_one_batch(header: &BlockHeader, piece: &[u8]) -> bool {
    let front = BatchHeader::peek(&piece[BLOCK_HEADER_BYTES..]);
    front.is_some_and(|front| front.len_bytes() == Some(header.payload_bytes()))
}
