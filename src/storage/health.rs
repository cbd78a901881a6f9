//! How a data directory is, as all cores see it: whether it is offline, whether it is full, and what
//! of it was found damaged.
//!
//! One for each directory and start, shared between threads. Nothing is decided here; the data path
//! reads what its own store knows.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How one data directory is.
#[derive(Debug, Default)]
pub struct DirectoryHealth {
    offline: OnceLock<String>,
    /// Stores that take no appends for want of room.
    full_stores: AtomicUsize,
    damaged_blocks: AtomicU64,
    scrubbed_bytes: AtomicU64,
}

impl DirectoryHealth {
    /// Whether a write or sync in it has failed: it stays offline until the process ends.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.offline.get().is_some()
    }

    /// What failed, if the directory is offline.
    #[must_use]
    pub fn offline_reason(&self) -> Option<&str> {
        self.offline.get().map(String::as_str)
    }

    /// Whether its file system has less room than its reserve.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full_stores.load(Ordering::Relaxed) > 0
    }

    /// Blocks that readers or scrubs found damaged since the start: each once for all readers, and
    /// again in each scrub.
    #[must_use]
    pub fn damaged_blocks(&self) -> u64 {
        self.damaged_blocks.load(Ordering::Relaxed)
    }

    /// Bytes of segments that were scrubbed since the start.
    #[must_use]
    pub fn scrubbed_bytes(&self) -> u64 {
        self.scrubbed_bytes.load(Ordering::Relaxed)
    }

    /// The directory is offline; the first reason stays.
    pub(super) fn set_offline(&self, reason: &str) {
        self.offline.get_or_init(|| reason.to_owned());
    }

    /// A store takes no appends, or takes them again. Says whether it is the first, or was the last.
    pub(super) fn note_full(&self, is_full: bool) -> bool {
        match is_full {
            true => self.full_stores.fetch_add(1, Ordering::Relaxed) == 0,
            false => self.full_stores.fetch_sub(1, Ordering::Relaxed) == 1,
        }
    }

    pub(super) fn note_scrubbed(&self, bytes: u64, damaged_blocks: u64) {
        self.scrubbed_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.damaged_blocks.fetch_add(damaged_blocks, Ordering::Relaxed);
    }
}
