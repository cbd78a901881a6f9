//! One load core's frames: the pool's batches, each wrapped in its request once, and the buffers
//! that they are sent from.

use std::cell::RefCell;

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

struct Entry {
    template: FrameTemplate,
    load: Load,
    free: RefCell<Vec<BytesMut>>,
}

/// The frames of one load core, by the number of their batch in the run's pool.
pub struct FramePool {
    entries: Vec<Option<Entry>>,
}

impl FramePool {
    /// Wraps those batches of `pool` that `partitions` (of any topic) may be sent, each like
    /// `first`, the request around the pool's first batch.
    #[must_use]
    pub fn new(
        pool: &BatchPool,
        first: &FrameTemplate,
        partitions: impl Iterator<Item = i32>,
    ) -> FramePool {
        let mut entries: Vec<Option<Entry>> = pool.batches().iter().map(|_| None).collect();
        for idx in partitions.flat_map(|partition| pool.of_partition(partition)) {
            if entries[idx].is_none() {
                let batch = &pool.batches()[idx];
                let template = first.with_batch(batch);
                let load = Load {
                    records: batch.records(),
                    value_bytes: batch.value_bytes(),
                    wire_bytes: template.frame().len() as u64,
                };
                entries[idx] = Some(Entry { template, load, free: RefCell::default() });
            }
        }
        FramePool { entries }
    }

    /// What frame `idx` carries.
    ///
    /// # Panics
    /// If no partition of this core may be sent it.
    #[must_use]
    pub fn load(&self, idx: usize) -> Load {
        self.entry(idx).load
    }

    /// The template of frame `idx`.
    ///
    /// # Panics
    /// As [`FramePool::load`].
    #[must_use]
    pub fn template(&self, idx: usize) -> &FrameTemplate {
        &self.entry(idx).template
    }

    /// A buffer with a (perhaps patched) copy of frame `idx`. The one that came back last goes out
    /// first: it is still in the cache (cold memory is the largest cost of sending that can be
    /// avoided).
    ///
    /// # Panics
    /// As [`FramePool::load`].
    #[must_use]
    pub fn take(&self, idx: usize) -> BytesMut {
        let entry = self.entry(idx);
        let free = entry.free.borrow_mut().pop();
        free.unwrap_or_else(|| BytesMut::from(entry.template.frame()))
    }

    /// Takes a buffer of frame `idx` back; one that is still in use elsewhere is let go.
    pub fn give_back(&self, idx: usize, sent: Bytes) {
        if let Ok(buffer) = sent.try_into_mut() {
            self.entry(idx).free.borrow_mut().push(buffer);
        }
    }

    fn entry(&self, idx: usize) -> &Entry {
        self.entries[idx].as_ref().expect("lanes choose among the frames of their partitions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::file::parse;

    fn pool(text: &str) -> (BatchPool, FrameTemplate) {
        let workload = parse(text).expect("a workload").remove(0);
        let pool = BatchPool::build(&workload).expect("a pool");
        let first = FrameTemplate::new("topic", "client", -1, 1000, 9, &pool.batches()[0]);
        (pool, first)
    }

    #[test]
    fn a_buffer_is_used_again_and_the_last_one_first() {
        let (pool, first) = pool("record_bytes = 100\nbatch_records = 1");
        let frames = FramePool::new(&pool, &first, std::iter::once(0));
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
    fn a_core_holds_the_frames_of_its_own_partitions_only() {
        let (pool, first) = pool("keys = \"uniform\"\npartitions = 4\nbatch_records = 2");
        let frames = FramePool::new(&pool, &first, std::iter::once(2));
        let held = frames.entries.iter().enumerate().filter(|(_, it)| it.is_some());
        assert!(held.map(|(idx, _)| idx).eq(pool.of_partition(2)));
    }
}
