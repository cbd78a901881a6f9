//! Where [`super::buf::IoBuf`]s get their memory: size classes, huge pages, and one bounded pool
//! for each thread.
//!
//! A block may be dropped on any thread: it goes into that thread's pool, or back to the system if
//! that has none. Nothing is shared between threads but the reference count of a chunk.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::base::limits::BLOCK_ALIGN;

/// The size of a huge page on every machine that we know.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Above this, blocks are cut from huge pages: a direct write pins and maps one page instead of
/// dozens.
const CARVE_BYTES_MIN: usize = 32 << 10;

/// Up to this, as many blocks as fit are cut from one huge page; the rest of it is wasted.
const ONE_PAGE_BYTES_MAX: usize = 1 << 20;

/// Above this, a block has huge pages of its own; up to it, blocks are cut from as many huge pages
/// as they fill without a rest.
const CARVE_BYTES_MAX: usize = 4 << 20;

/// Blocks above this are never kept.
const POOLED_BYTES_MAX: usize = 64 << 20;

/// What a reactor's thread may keep, unless it is told otherwise.
pub(super) const REACTOR_POOL_BYTES: usize = 64 << 20;

/// Memory of one size class: aligned, initialised, exclusively owned.
pub(super) struct Block {
    ptr: NonNull<u8>,
    /// A size that [`class_bytes`] returns.
    bytes: usize,
    /// What it was cut from; `None` if the global allocator gave it.
    chunk: Option<Arc<Chunk>>,
}

// SAFETY: a block owns its memory exclusively, like Vec<u8>; chunks only count references.
unsafe impl Send for Block {}
// SAFETY: shared access is read-only through `bytes`.
unsafe impl Sync for Block {}

impl Block {
    fn from_allocator(bytes: usize) -> Block {
        let layout = Self::layout(bytes);
        // SAFETY: the layout has a size above zero.
        let ptr = unsafe { alloc_zeroed(layout) };
        let Some(ptr) = NonNull::new(ptr) else { handle_alloc_error(layout) };
        Block { ptr, bytes, chunk: None }
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, BLOCK_ALIGN).expect("a rounded size fits a layout")
    }

    /// Where `len` of its bytes from `start` on lie: valid, and initialised, while it lives.
    pub(super) fn range(&self, start: usize, len: usize) -> (NonNull<u8>, usize) {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.bytes));
        // SAFETY: inside the block.
        (unsafe { self.ptr.add(start) }, len)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.chunk.is_none() {
            // SAFETY: allocated in `from_allocator` with the same layout.
            unsafe { dealloc(self.ptr.as_ptr(), Self::layout(self.bytes)) }
        }
    }
}

/// Huge pages from the system; unmapped with the last block that was cut from them.
struct Chunk {
    ptr: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a chunk is only an owner; its bytes are reached through disjoint blocks.
unsafe impl Send for Chunk {}
// SAFETY: it has no method that reaches its bytes.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// `bytes` is a multiple of [`HUGE_PAGE_BYTES`]. `None` if the system refuses.
    fn map(bytes: usize) -> Option<Chunk> {
        let padded = bytes + HUGE_PAGE_BYTES;
        // SAFETY: a fresh anonymous mapping; the kernel chooses the place.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                padded,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return None;
        }
        let base = base.cast::<u8>();
        let before = base.align_offset(HUGE_PAGE_BYTES);
        let start = base.wrapping_add(before);
        let after = HUGE_PAGE_BYTES - before;
        // SAFETY: the three parts are within the mapping that was just made; the first and last
        // are unmapped, the middle is kept. The advice is a hint: its failure changes nothing.
        unsafe {
            if before > 0 {
                libc::munmap(base.cast(), before);
            }
            if after > 0 {
                libc::munmap(start.wrapping_add(bytes).cast(), after);
            }
            libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE);
        }
        NonNull::new(start).map(|ptr| Chunk { ptr, bytes })
    }

    /// Cuts the chunk into as many blocks of `bytes` as it holds.
    fn carve(self, bytes: usize) -> impl Iterator<Item = Block> {
        let chunk = Arc::new(self);
        (0..chunk.bytes / bytes).map(move |i| {
            let start = chunk.ptr.as_ptr().wrapping_add(i * bytes);
            let ptr = NonNull::new(start).expect("inside the chunk");
            Block { ptr, bytes, chunk: Some(chunk.clone()) }
        })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: mapped in `map`; no block is left.
        unsafe { libc::munmap(self.ptr.as_ptr().cast(), self.bytes) };
    }
}

/// Free blocks of one thread, by class; at most `bytes_max` of them.
#[derive(Default)]
struct Pool {
    /// Indexed by [`class_index`]; within a class the last returned is at the back.
    free: Vec<VecDeque<Block>>,
    bytes: usize,
    bytes_max: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::new(Pool::default());
}

impl Pool {
    fn take(&mut self, bytes: usize) -> Option<Block> {
        let block = self.free.get_mut(class_index(bytes))?.pop_back()?;
        self.bytes -= block.bytes;
        Some(block)
    }

    fn give(&mut self, block: Block) {
        if block.bytes > self.bytes_max.min(POOLED_BYTES_MAX) {
            return;
        }
        self.bytes += block.bytes;
        let index = class_index(block.bytes);
        if self.free.len() <= index {
            self.free.resize_with(index + 1, VecDeque::new);
        }
        self.free[index].push_back(block);
        self.shrink();
    }

    /// Gives back what is too much: the coldest blocks of the class that holds most, so that a
    /// class that nobody uses any more does not stay for ever.
    fn shrink(&mut self) {
        while self.bytes > self.bytes_max {
            let held = |class: &VecDeque<Block>| {
                class.front().map_or(0, |block| block.bytes * class.len())
            };
            let Some(class) = self.free.iter_mut().max_by_key(|class| held(class)) else { return };
            let Some(block) = class.pop_front() else { return };
            self.bytes -= block.bytes;
        }
    }
}

/// A block of at least `len` bytes; `len` is a multiple of [`BLOCK_ALIGN`].
pub(super) fn take(len: usize) -> Block {
    let bytes = class_bytes(len);
    let pooled = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        pool.take(bytes).or_else(|| fill(&mut pool, bytes))
    });
    if let Ok(Some(block)) = pooled {
        return block;
    }
    if bytes > ONE_PAGE_BYTES_MAX
        && let Some(chunk) = Chunk::map(bytes.next_multiple_of(HUGE_PAGE_BYTES))
        && let Some(block) = chunk.carve(bytes).next()
    {
        return block;
    }
    Block::from_allocator(bytes)
}

/// Cuts a huge page for a class that is cut from huge pages, if the pool has room for the rest.
fn fill(pool: &mut Pool, bytes: usize) -> Option<Block> {
    let carved = bytes > CARVE_BYTES_MIN && bytes <= CARVE_BYTES_MAX;
    let chunk_bytes = chunk_bytes(bytes);
    if !carved || pool.bytes + chunk_bytes > pool.bytes_max {
        return None;
    }
    let mut blocks = Chunk::map(chunk_bytes)?.carve(bytes);
    let first = blocks.next();
    blocks.for_each(|block| pool.give(block));
    first
}

/// Bytes of huge pages that blocks of `bytes` are cut from.
fn chunk_bytes(bytes: usize) -> usize {
    if bytes <= ONE_PAGE_BYTES_MAX {
        return HUGE_PAGE_BYTES;
    }
    // Classes are multiples of a power of two: so is what they have in common with a huge page.
    let common = 1 << bytes.trailing_zeros().min(HUGE_PAGE_BYTES.trailing_zeros());
    bytes * (HUGE_PAGE_BYTES / common)
}

/// Takes a block back.
pub(super) fn give(block: Block) {
    // At the end of a thread its pool is gone: the block is freed.
    let _ = POOL.try_with(|pool| pool.borrow_mut().give(block));
}

/// Sets what this thread's pool may keep.
pub(super) fn set_bytes_max(bytes_max: usize) {
    POOL.with_borrow_mut(|pool| {
        pool.bytes_max = bytes_max;
        pool.shrink();
    });
}

/// What this thread's pool may keep.
pub(super) fn bytes_max() -> usize {
    POOL.with_borrow(|pool| pool.bytes_max)
}

/// `len` rounded up to its class: four steps for each doubling, so at most a quarter is wasted;
/// above [`CARVE_BYTES_MAX`] whole huge pages.
fn class_bytes(len: usize) -> usize {
    let stepped = len.next_multiple_of(BLOCK_ALIGN << step_shift(len));
    if stepped > CARVE_BYTES_MAX { stepped.next_multiple_of(HUGE_PAGE_BYTES) } else { stepped }
}

/// Position of a class; `bytes` is a size that [`class_bytes`] returns.
fn class_index(bytes: usize) -> usize {
    let shift = step_shift(bytes);
    4 * shift + (bytes / (BLOCK_ALIGN << shift)) - 1
}

/// log2 of the step between classes, in units of [`BLOCK_ALIGN`]: zero up to 8 units, then such
/// that a size is 5 to 8 steps.
fn step_shift(len: usize) -> usize {
    let units = len.div_ceil(BLOCK_ALIGN).max(1);
    let bits = usize::BITS - (units - 1).leading_zeros();
    bits.saturating_sub(3) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(block: &mut Block) -> &mut [u8] {
        let (ptr, len) = block.range(0, block.bytes);
        // SAFETY: all of a block that nobody else reaches.
        unsafe { std::slice::from_raw_parts_mut(ptr.as_ptr(), len) }
    }

    #[test]
    fn classes_waste_at_most_a_quarter_and_are_told_apart() {
        let mut last = (0, None);
        for units in 1..=4096usize {
            let len = units * BLOCK_ALIGN;
            let bytes = class_bytes(len);
            assert!(bytes >= len && bytes.is_multiple_of(BLOCK_ALIGN));
            assert_eq!(class_bytes(bytes), bytes, "a class is its own class");
            if bytes <= CARVE_BYTES_MAX {
                assert!(bytes - len <= len / 4, "{len} -> {bytes}");
            }
            let index = class_index(bytes);
            if bytes != last.0 {
                assert!(last.1 < Some(index), "{bytes} follows {}", last.0);
                last = (bytes, Some(index));
            }
            assert_eq!(last.1, Some(index));
        }
    }

    #[test]
    fn the_last_block_given_is_the_first_taken_and_the_pool_is_bounded() {
        set_bytes_max(64 * 1024);
        let (first, second) = (take(16 * 1024), take(16 * 1024));
        let place = second.ptr;
        give(first);
        give(second);
        assert_eq!(take(16 * 1024).ptr, place);
        for _ in 0..10 {
            let blocks: Vec<Block> = (0..10).map(|_| take(12 * 1024)).collect();
            blocks.into_iter().for_each(give);
            POOL.with_borrow(|pool| assert!(pool.bytes <= pool.bytes_max));
        }
    }

    #[test]
    fn a_thread_without_a_reactor_keeps_nothing() {
        give(take(1 << 20));
        POOL.with_borrow(|pool| assert_eq!(pool.bytes, 0));
    }

    #[test]
    fn carved_blocks_are_disjoint_aligned_and_outlive_the_pool() {
        let blocks = std::thread::spawn(|| {
            set_bytes_max(REACTOR_POOL_BYTES);
            let sizes =
                [512 << 10, 512 << 10, 1200 << 10, 512 << 10, 1200 << 10, 3 << 20, 512 << 10];
            let mut blocks: Vec<Block> = sizes.into_iter().map(take).collect();
            for (i, block) in blocks.iter_mut().enumerate() {
                assert!(block.chunk.is_some());
                assert!(block.ptr.addr().get().is_multiple_of(BLOCK_ALIGN));
                bytes(block).fill(u8::try_from(i).expect("small"));
            }
            blocks
        });
        let mut blocks = blocks.join().expect("the thread ends");
        for (i, block) in blocks.iter_mut().enumerate() {
            assert!(bytes(block).iter().all(|byte| usize::from(*byte) == i));
        }
    }

    #[test]
    fn large_blocks_start_on_a_huge_page_and_are_zeroed() {
        let mut block = take(5 << 20);
        assert!(block.ptr.addr().get().is_multiple_of(HUGE_PAGE_BYTES));
        assert_eq!(bytes(&mut block).len(), 6 << 20);
        assert!(bytes(&mut block).iter().all(|byte| *byte == 0));
    }
}
