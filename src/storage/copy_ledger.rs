//! Counts every user-space copy of record bytes that storage makes.

use std::cell::Cell;

/// How often record bytes were copied: once into a group, once into an extent, never to be read.
/// A test adds both up and compares with what went in.
#[derive(Debug, Default)]
pub struct CopyLedger {
    bytes_staged: Cell<u64>,
    bytes_extents: Cell<u64>,
    bytes_large: Cell<u64>,
}

impl CopyLedger {
    /// Record bytes copied into journal groups.
    #[must_use]
    pub fn bytes_staged(&self) -> u64 {
        self.bytes_staged.get()
    }

    /// Record bytes copied from groups into segment extents.
    #[must_use]
    pub fn bytes_extents(&self) -> u64 {
        self.bytes_extents.get()
    }

    /// Bytes of extents that were written straight into segments: a hint, and no copy.
    #[must_use]
    pub fn bytes_large(&self) -> u64 {
        self.bytes_large.get()
    }

    pub(super) fn count_large(&self, bytes: u64) {
        self.bytes_large.set(self.bytes_large.get() + bytes);
    }

    pub(super) fn count_staged(&self, bytes: usize) {
        self.bytes_staged.set(self.bytes_staged.get() + bytes as u64);
    }

    pub(super) fn count_extent(&self, bytes: usize) {
        self.bytes_extents.set(self.bytes_extents.get() + bytes as u64);
    }
}
