//! Frames: the pool's batches, each wrapped in its request once, and the buffers that a load core
//! sends them from.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::wire::pool::BatchPool;
use crate::wire::produce::FrameTemplate;

/// What one frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Records.
    pub records: u32,
    /// Bytes of their values.
    pub value_bytes: u64,
    /// Bytes of the whole frame.
    pub wire_bytes: u64,
}

/// The pool's batches, each wrapped in its request: made once, before the run, read by all cores.
pub struct FrameSet {
    frames: Vec<(FrameTemplate, Load)>,
}

impl FrameSet {
    /// Wraps all batches of `pool` like `first`, the request around one of them.
    #[must_use]
    pub fn new(pool: &BatchPool, first: &FrameTemplate) -> FrameSet {
        let wrapped = pool.batches().iter().map(|batch| {
            let template = first.with_batch(batch);
            let wire_bytes = template.frame().len() as u64;
            let (records, value_bytes) = (batch.records(), batch.value_bytes());
            (template, Load { records, value_bytes, wire_bytes })
        });
        FrameSet { frames: wrapped.collect() }
    }

    /// The same frames as part of the transactions of `transactional_id`.
    #[must_use]
    pub fn of_transactions(&self, pool: &BatchPool, transactional_id: &str) -> FrameSet {
        let (first, batch) = (&self.frames[0].0, &pool.batches()[0]);
        FrameSet::new(pool, &first.with_transactional_id(transactional_id, batch))
    }

    /// Bytes of all frames: what a load core that sends all of them copies before the run.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.frames.iter().map(|(_, load)| load.wire_bytes).sum()
    }
}

/// The frames of one load core, by the number of their batch in the run's pool.
pub struct FramePool {
    set: Arc<FrameSet>,
    free: Vec<RefCell<Vec<BytesMut>>>,
}

impl FramePool {
    /// A pool that holds a buffer of each frame of `used` already, so that none is made when the
    /// first is sent.
    #[must_use]
    pub fn new(set: Arc<FrameSet>, used: impl Iterator<Item = Range<usize>>) -> FramePool {
        let free: Vec<RefCell<Vec<BytesMut>>> =
            set.frames.iter().map(|_| RefCell::default()).collect();
        let pool = FramePool { set, free };
        for idx in used.flatten() {
            if pool.free[idx].borrow().is_empty() {
                pool.free[idx].borrow_mut().push(BytesMut::from(pool.template(idx).frame()));
            }
        }
        pool
    }

    /// What frame `idx` carries.
    #[must_use]
    pub fn load(&self, idx: usize) -> Load {
        self.set.frames[idx].1
    }

    /// The template of frame `idx`.
    #[must_use]
    pub fn template(&self, idx: usize) -> &FrameTemplate {
        &self.set.frames[idx].0
    }

    /// A buffer with a (perhaps patched) copy of frame `idx`. The one that came back last goes out
    /// first: it is still in the cache (cold memory is the largest cost of sending that can be
    /// avoided).
    #[must_use]
    pub fn take(&self, idx: usize) -> BytesMut {
        let free = self.free[idx].borrow_mut().pop();
        free.unwrap_or_else(|| BytesMut::from(self.template(idx).frame()))
    }

    /// Takes a buffer of frame `idx` back; one that is still in use elsewhere is let go.
    pub fn give_back(&self, idx: usize, sent: Bytes) {
        if let Ok(buffer) = sent.try_into_mut() {
            self.free[idx].borrow_mut().push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::file::parse;

    fn set(text: &str) -> (BatchPool, Arc<FrameSet>) {
        let workload = parse(text).expect("a workload").remove(0);
        let pool = BatchPool::build(&workload).expect("a pool");
        let first = FrameTemplate::new("topic", "client", -1, 1000, 9, &pool.batches()[0]);
        let set = FrameSet::new(&pool, &first);
        (pool, Arc::new(set))
    }

    #[test]
    fn a_buffer_is_used_again_and_the_last_one_first() {
        let (_, set) = set("record_bytes = 100\nbatch_records = 1");
        let frames = FramePool::new(set, std::iter::once(0..1));
        let (one, two) = (frames.take(0), frames.take(0));
        let warm = two.as_ptr();
        frames.give_back(0, one.freeze());
        frames.give_back(0, two.freeze());
        assert_eq!(frames.take(0).as_ptr(), warm);
        let shared = frames.take(0).freeze();
        frames.give_back(0, shared.clone());
        assert_ne!(frames.take(0).as_ptr(), shared.as_ptr());
    }

    #[test]
    fn a_core_holds_buffers_of_the_frames_that_it_sends_and_no_others() {
        let (pool, set) = set("keys = \"uniform\"\npartitions = 4\nbatch_records = 2");
        let frames = FramePool::new(set, [2, 2].into_iter().map(|it| pool.of_partition(it)));
        let held = frames.free.iter().enumerate().filter(|(_, it)| it.borrow().len() == 1);
        assert!(held.map(|(idx, _)| idx).eq(pool.of_partition(2)));
    }
}
