//! Where a large frame begins in its memory, so that the batch in it can be written from there.
//!
//! A batch must lie [`BATCH_PLACE`] bytes behind a page for that. How far it lies behind the begin of
//! its frame depends on names and versions, which a client hardly changes.

use std::cell::Cell;
use std::rc::Rc;

use crate::base::limits::{BATCH_PLACE, BLOCK_ALIGN};

/// Where the large frames of a connection begin in their memory: learned from each for the next.
#[derive(Clone, Default)]
pub struct FramePlace(Rc<Cell<usize>>);

impl FramePlace {
    /// Bytes of its memory before the next large frame.
    #[must_use]
    pub fn begin(&self) -> usize {
        self.0.get()
    }

    /// Notes where a large batch of the last frame came to lie.
    pub fn learn(&self, batch: &[u8]) {
        let too_far = batch.as_ptr().addr() % BLOCK_ALIGN;
        self.0.set((self.0.get() + BLOCK_ALIGN + BATCH_PLACE - too_far) % BLOCK_ALIGN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_stays_in_its_place_is_met_from_the_second_frame_on() {
        let memory = vec![0_u8; 4 * BLOCK_ALIGN];
        let page = memory.as_ptr().align_offset(BLOCK_ALIGN);
        for batch_at in [0, 79, 80, 81, 500, 4095, 4096, 5000] {
            let place = FramePlace::default();
            // What a frame that was not received by this rule taught is wrong at first.
            place.learn(&memory[page + 123..]);
            for frame in 0..3 {
                let batch = &memory[page + place.begin() + batch_at..];
                let lies = batch.as_ptr().addr() % BLOCK_ALIGN;
                assert!(frame == 0 || lies == BATCH_PLACE, "{batch_at}: at {lies}");
                place.learn(batch);
            }
        }
    }
}
