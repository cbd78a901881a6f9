//! Aligned memory for direct I/O that freezes into shareable `Bytes`.
#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

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
    memory: Memory,
    /// Where it begins in its memory.
    start: usize,
    len: usize,
}

/// What a buffer is a part of.
enum Memory {
    /// The buffer is all of it.
    Whole(Pooled),
    /// Others have other parts of it, none of which overlap.
    Part(Arc<Pooled>),
    /// Nothing: only while it is taken apart.
    Taken,
}

/// A block that goes back to the pool.
struct Pooled {
    /// `None` only while it is being dropped.
    block: Option<Block>,
}

impl Pooled {
    fn block(&self) -> &Block {
        self.block.as_ref().expect("present until dropped")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            pool::give(block);
        }
    }
}

impl IoBuf {
    /// At least `len_min` bytes, rounded up to [`BLOCK_ALIGN`].
    #[must_use]
    pub fn alloc(len_min: usize) -> IoBuf {
        let len = len_min.max(1).next_multiple_of(BLOCK_ALIGN);
        let block = Some(pool::take(len));
        IoBuf { memory: Memory::Whole(Pooled { block }), start: 0, len }
    }

    /// Takes off what lies behind the first `len` bytes: a buffer of its own, perhaps empty. The
    /// memory goes back to the pool with the last of them.
    ///
    /// # Panics
    /// If `len` is more than the buffer has, or not a multiple of [`BLOCK_ALIGN`].
    #[must_use]
    pub fn split_off(&mut self, len: usize) -> IoBuf {
        assert!(len <= self.len && len.is_multiple_of(BLOCK_ALIGN));
        let shared = match std::mem::replace(&mut self.memory, Memory::Taken) {
            Memory::Whole(memory) => Arc::new(memory),
            Memory::Part(memory) => memory,
            Memory::Taken => unreachable!("a buffer has memory"),
        };
        self.memory = Memory::Part(shared.clone());
        let rest_bytes = self.len - len;
        self.len = len;
        IoBuf { memory: Memory::Part(shared), start: self.start + len, len: rest_bytes }
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

    fn pooled(&self) -> &Pooled {
        match &self.memory {
            Memory::Whole(memory) => memory,
            Memory::Part(memory) => memory,
            Memory::Taken => unreachable!("a buffer has memory"),
        }
    }
}

impl Deref for IoBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let (ptr, len) = self.pooled().block().range(self.start, self.len);
        // SAFETY: initialised bytes of a block that lives as long as the buffer, and nobody but the
        // buffer reaches this part of it.
        unsafe { std::slice::from_raw_parts(ptr.as_ptr(), len) }
    }
}

impl DerefMut for IoBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        let (ptr, len) = self.pooled().block().range(self.start, self.len);
        // SAFETY: as above, and &mut self is exclusive: parts of a block do not overlap.
        unsafe { std::slice::from_raw_parts_mut(ptr.as_ptr(), len) }
    }
}

impl AsRef<[u8]> for IoBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_buffer_are_aligned_apart_and_outlive_each_other() {
        let mut first = IoBuf::alloc(4 * BLOCK_ALIGN);
        let mut second = first.split_off(BLOCK_ALIGN);
        let mut third = second.split_off(2 * BLOCK_ALIGN);
        assert!(third.split_off(BLOCK_ALIGN).is_empty());
        for (part, fill) in [(&mut first, 1), (&mut second, 2), (&mut third, 3)] {
            assert!(part.as_ptr().addr().is_multiple_of(BLOCK_ALIGN));
            part.fill(fill);
        }
        assert_eq!([first.len(), second.len(), third.len()], [4096, 8192, 4096]);
        let frozen = second.freeze(5000);
        drop(third);
        assert!(first.iter().all(|byte| *byte == 1));
        drop(first);
        assert!(frozen.len() == 5000 && frozen.iter().all(|byte| *byte == 2));
    }
}
