//! Bytes as each kind of file of a data directory: a verdict, never a panic, and no more memory than
//! arrived (and a window).
//!
//! Input: one byte that chooses the kind, then the file. What a checksum guards is looked at twice:
//! as it came, and with the checksum of its first header made to fit.
//!
//! Run, from the repository's root (the seeds are read, new inputs go to the first folder):
//! ```text
//! mkdir -p tools/fuzz/corpus/dump
//! cargo +nightly fuzz run --fuzz-dir tools/fuzz dump \
//!   tools/fuzz/corpus/dump tools/fuzz/seeds/dump \
//!   -- -max_total_time=600 -max_len=65536 -malloc_limit_mb=64
//! ```
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use thalweg::base::crc::crc32c;
use thalweg::storage::dump::{FileKind, look_at_bytes};

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else { return };
    let kinds = [
        FileKind::Checkpoint,
        FileKind::Snapshot,
        FileKind::Segment,
        FileKind::Index,
        FileKind::Journal,
    ];
    let kind = kinds[usize::from(*kind) % kinds.len()];
    let _ = look_at_bytes(Path::new("fuzz"), kind, bytes);
    let mut sealed = bytes.to_vec();
    if seal(kind, &mut sealed).is_some() {
        let _ = look_at_bytes(Path::new("fuzz"), kind, &sealed);
    }
});

/// Gives the first header its magic, version and checksum.
fn seal(kind: FileKind, bytes: &mut [u8]) -> Option<()> {
    let (magic, version) = match kind {
        FileKind::Checkpoint => (b"TWCP", 1),
        FileKind::Snapshot => (b"TWSS", 1),
        FileKind::Segment => (b"TWSB", 1),
        FileKind::Journal => (b"TWJF", 4),
        _ => return None,
    };
    bytes.get_mut(..4)?.copy_from_slice(magic);
    bytes.get_mut(4..8)?.copy_from_slice(&[version, 0, 0, 0]);
    let (place, crc) = match kind {
        FileKind::Segment => (76, crc32c(bytes.get(..76)?)),
        FileKind::Journal => (48, crc32c(bytes.get(..48)?)),
        _ => {
            let archive = u64::try_from(bytes.len().checked_sub(48)?).ok()?;
            bytes.get_mut(32..40)?.copy_from_slice(&archive.to_le_bytes());
            (44, crc32c(&[bytes.get(..44)?, bytes.get(48..)?].concat()))
        }
    };
    bytes.get_mut(place..place + 4)?.copy_from_slice(&crc.to_le_bytes());
    Some(())
}
