//! Aligned memory for direct I/O that freezes into shareable `Bytes`.

use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use super::pool::{self, Block};
use crate::base::limits::BLOCK_ALIGN;

/// Owned memory, aligned to [`BLOCK_ALIGN`], whose length is a multiple of it. Content after
/// [`IoBuf::alloc`] is initialised but unspecified (it may be an earlier buffer's).
///
/// On a thread with a reactor, memory comes from and returns to a pool of that thread, the last
/// returned first: it is still in the cache. Large buffers are made of huge pages, which cuts the
/// cost of a 1 MiB direct write to a third.
pub struct IoBuf {
    /// `None` only while it is being dropped.
    block: Option<Block>,
    len: usize,
}

impl IoBuf {
    /// At least `len_min` bytes, rounded up to [`BLOCK_ALIGN`].
    #[must_use]
    pub fn alloc(len_min: usize) -> IoBuf {
        let len = len_min.max(1).next_multiple_of(BLOCK_ALIGN);
        IoBuf { block: Some(pool::take(len)), len }
    }

    /// Turns the first `len` bytes into a shareable slice without copying.
    ///
    /// # Panics
    /// If `len` is more than the buffer has.
    #[must_use]
    pub fn freeze(self, len: usize) -> Bytes {
        assert!(len <= self.len);
        Bytes::from_owner(self).slice(..len)
    }

    /// How many bytes this thread's pool may keep for the next [`IoBuf::alloc`]; more is given
    /// back to the system. A reactor's thread starts with 64 MiB, any other with none.
    pub fn set_pool_bytes_max(bytes_max: usize) {
        pool::set_bytes_max(bytes_max);
    }
}

impl Drop for IoBuf {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            pool::give(block);
        }
    }
}

impl Deref for IoBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let block = self.block.as_ref().expect("present until dropped");
        &block.bytes()[..self.len]
    }
}

impl DerefMut for IoBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        let block = self.block.as_mut().expect("present until dropped");
        &mut block.bytes_mut()[..self.len]
    }
}

impl AsRef<[u8]> for IoBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
