//! Room reserved in a segment's file ahead of its large batches.
//!
//! A write behind the end of a file takes the file's lock for itself, and on ext4 a thread of the
//! kernel's; one into reserved room does not, and many files are then written at the same time
//! (docs/decisions/0012). What is reserved reads as zeros, which is no block, and what of it was not
//! needed is given back when the segment is closed.

use std::io;

use crate::base::limits::BLOCK_ALIGN;
use crate::io::disk::is_out_of_room;
use crate::io::file::File;

/// Reserved at least, and at most, in one step. Between them a quarter of what the file holds, so
/// that many small segments do not take much room for nothing.
const STEP_BYTES: (u64, u64) = (2 << 20, 32 << 20);

/// Makes sure that the file has room for a write that ends at `end`, and then for some more. A file
/// system that has none is no error here: the write finds out for itself.
pub(in crate::storage) async fn reserve(file: &File, end: u64) -> io::Result<()> {
    if file.len()? >= end {
        return Ok(());
    }
    let step = (end / 4).clamp(STEP_BYTES.0, STEP_BYTES.1);
    match file.allocate((end + step).next_multiple_of(BLOCK_ALIGN as u64)).await {
        Err(error) if is_out_of_room(&error) => Ok(()),
        reserved => reserved,
    }
}

/// Gives back what is reserved behind the first `file_bytes`.
pub(in crate::storage) async fn give_back(file: &File, file_bytes: u64) -> io::Result<()> {
    if file.len()? > file_bytes { file.truncate(file_bytes).await } else { Ok(()) }
}
