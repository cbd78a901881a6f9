//! Buffers that the kernel picks from by itself for receives that stay armed.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use super::memory::{self, BLOCK};

/// The only group of buffers of a ring.
pub(super) const GROUP: u16 = 0;

/// A ring of buffers that the kernel takes from at its head and [`Provided::put`] fills at its tail.
///
/// Invariant: a buffer is either with the kernel or named by one [`Filled`].
pub(super) struct Provided {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
}

/// A buffer with received bytes, until it is given back.
#[derive(Debug)]
pub struct Filled {
    pub(super) index: u16,
    pub(super) bytes: usize,
}

impl Provided {
    /// `count` (a power of two) buffers of `buffer_bytes`, all with the kernel.
    pub(super) fn register(
        submitter: &Submitter<'_>,
        count: u16,
        buffer_bytes: usize,
    ) -> io::Result<Provided> {
        let ring_bytes = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(BLOCK);
        let entries = memory::map(ring_bytes)?.cast();
        let memory = memory::map(usize::from(count) * buffer_bytes)?;
        let address = entries.as_ptr() as u64;
        // SAFETY: the mapping holds `count` entries, begins at a page and is never unmapped.
        unsafe { submitter.register_buf_ring_with_flags(address, count, GROUP, 0)? };
        let mut provided = Provided { entries, memory, count, buffer_bytes, tail: 0 };
        (0..count).for_each(|index| provided.put(index));
        Ok(provided)
    }

    /// What was received into a buffer.
    pub(super) fn bytes(&self, filled: &Filled) -> &[u8] {
        assert!(filled.bytes <= self.buffer_bytes);
        // SAFETY: the kernel has named the buffer (a `Filled` is made nowhere else) and has left it
        // alone since, so `bytes` of it are initialised and ours.
        unsafe { std::slice::from_raw_parts(self.buffer(filled.index).as_ptr(), filled.bytes) }
    }

    /// Gives a buffer to the kernel.
    pub(super) fn put(&mut self, index: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        let buffer = self.buffer(index);
        // SAFETY: within the entries; the kernel reads an entry only once the tail is past it.
        let entry = unsafe { self.entries.add(slot).as_mut() };
        entry.set_addr(buffer.as_ptr() as u64);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies within the first entry, is aligned, and is written by us alone.
        let tail =
            unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    fn buffer(&self, index: u16) -> NonNull<u8> {
        assert!(index < self.count);
        // SAFETY: `count` buffers fit into the mapping.
        unsafe { self.memory.add(usize::from(index) * self.buffer_bytes) }
    }
}
