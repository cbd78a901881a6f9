//! Aligned memory for direct I/O that freezes into shareable `Bytes`.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use bytes::Bytes;

use crate::base::limits::BLOCK_ALIGN;

/// Owned memory, aligned to [`BLOCK_ALIGN`], whose length is a multiple of it. Content after
/// [`IoBuf::alloc`] is initialised but unspecified (it may be an earlier buffer's).
pub struct IoBuf {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: IoBuf owns its memory exclusively, like Vec<u8>.
unsafe impl Send for IoBuf {}
// SAFETY: shared access is read-only through Deref.
unsafe impl Sync for IoBuf {}

impl IoBuf {
    /// At least `len_min` bytes, rounded up to [`BLOCK_ALIGN`].
    #[must_use]
    pub fn alloc(len_min: usize) -> IoBuf {
        let len = len_min.max(1).next_multiple_of(BLOCK_ALIGN);
        let layout = Self::layout(len);
        // SAFETY: the layout has a size above zero.
        let ptr = unsafe { alloc_zeroed(layout) };
        let Some(ptr) = NonNull::new(ptr) else { std::alloc::handle_alloc_error(layout) };
        IoBuf { ptr, len }
    }

    /// Turns the first `len` bytes into a shareable slice without copying.
    #[must_use]
    pub fn freeze(self, len: usize) -> Bytes {
        assert!(len <= self.len);
        Bytes::from_owner(self).slice(..len)
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, BLOCK_ALIGN).expect("a rounded length fits a layout")
    }
}

impl Drop for IoBuf {
    fn drop(&mut self) {
        // SAFETY: allocated in `alloc` with the same layout.
        unsafe { dealloc(self.ptr.as_ptr(), Self::layout(self.len)) }
    }
}

impl Deref for IoBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: ptr is valid for len initialised bytes while self lives.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for IoBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and &mut self is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for IoBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
