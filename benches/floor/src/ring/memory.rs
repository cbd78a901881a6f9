//! Memory that the kernel may hold: huge pages, touched before the run, never given back.
#![allow(unsafe_code)]

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

const HUGE_PAGE: usize = 2 << 20;
/// What `O_DIRECT` wants of addresses, offsets and lengths.
pub const BLOCK: usize = 4096;

/// `bytes`, up to the next multiple of [`BLOCK`].
pub const fn blocks(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK)
}

/// A part of the memory of a [`Pool`], owned by who holds it. The memory itself lives as long as the
/// process, so it is there whatever the kernel still does with it.
#[derive(Debug)]
pub struct Piece {
    at: NonNull<u8>,
    bytes: usize,
}

impl Piece {
    /// Its bytes, which nobody changes any more.
    pub fn leak(self) -> &'static [u8] {
        // SAFETY: initialised bytes that are never unmapped; nobody has the piece any more.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.bytes) }
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `bytes` initialised bytes that are never unmapped, and nobody else has them.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.bytes) }
    }
}

/// Pieces of one length in one mapping. The one that was given back last is taken first: it is the
/// one that is in the cache.
#[derive(Debug)]
pub struct Pool {
    free: Vec<Piece>,
    base: NonNull<u8>,
    bytes: usize,
}

impl Pool {
    /// `count` pieces of `piece_bytes`, which are rounded up to whole blocks.
    pub fn new(count: usize, piece_bytes: usize) -> io::Result<Pool> {
        let piece_bytes = blocks(piece_bytes.max(1));
        let bytes = (count.max(1) * piece_bytes).next_multiple_of(HUGE_PAGE);
        let base = map(bytes)?;
        // Lowest addresses are taken first.
        let free = (0..count)
            .rev()
            .map(|index| {
                // SAFETY: `count` pieces fit into the mapping.
                let at = unsafe { base.add(index * piece_bytes) };
                Piece { at, bytes: piece_bytes }
            })
            .collect();
        Ok(Pool { free, base, bytes })
    }

    pub fn take(&mut self) -> Option<Piece> {
        self.free.pop()
    }

    pub fn give(&mut self, piece: Piece) {
        self.free.push(piece);
    }

    /// The whole mapping, for registering it.
    pub(super) fn mapping(&self) -> libc::iovec {
        libc::iovec { iov_base: self.base.as_ptr().cast(), iov_len: self.bytes }
    }
}

/// Bytes of a mapping that begins at a huge page and is all there.
pub(super) fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    let length = bytes + HUGE_PAGE;
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, of which nothing else is known.
    let mapped = unsafe { libc::mmap(ptr::null_mut(), length, access, kind, -1, 0) };
    if mapped == libc::MAP_FAILED {
        return Err(with("mapping memory", &io::Error::last_os_error()));
    }
    let unaligned = mapped.cast::<u8>();
    let base = unaligned.wrapping_add(unaligned.align_offset(HUGE_PAGE));
    // Where huge pages are switched off it works without them, only slower.
    // SAFETY: within the mapping, which nobody uses yet.
    unsafe { libc::madvise(base.cast(), bytes, libc::MADV_HUGEPAGE) };
    // SAFETY: within the mapping, which nobody uses yet.
    let touched = unsafe { libc::madvise(base.cast(), bytes, libc::MADV_POPULATE_WRITE) };
    if touched != 0 {
        return Err(with("touching memory", &io::Error::last_os_error()));
    }
    NonNull::new(base).ok_or_else(|| io::Error::other("memory at address 0"))
}

fn with(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
