//! Damage that a reader meets: said once, with the file and the place in it, and counted.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use rustc_hash::FxHashSet;

use crate::base::ids::Offset;

use super::super::error::StorageError;
use super::SegmentKey;
use super::open_files::OpenSegment;
use super::reader::SegmentReader;

pub(super) const BAD_BATCH: &str = "a batch does not check";

/// Places that are remembered: who reads the same one again and again is answered, and no line more
/// is written.
const REPORTED_MAX: usize = 4096;

/// Damaged places that were reported.
#[derive(Default)]
pub(super) struct Reported(RefCell<FxHashSet<(SegmentKey, u64)>>);

impl Reported {
    /// Whether the place is a new one.
    fn is_new(&self, key: SegmentKey, pos: u64) -> bool {
        let mut places = self.0.borrow_mut();
        places.len() < REPORTED_MAX && places.insert((key, pos))
    }
}

impl SegmentReader {
    pub(super) fn corrupt(&self, pos: u64, offset: Offset, reason: &'static str) -> StorageError {
        let topic_partition = self.key.topic_partition;
        StorageError::Corrupt { topic_partition, pos, offset, reason }
    }

    /// A read that met damage, again: perhaps the index is wrong and not the segment.
    pub(super) async fn read_without_index(
        &self,
        segment: &OpenSegment,
        from: Offset,
        upto: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Bytes>, StorageError> {
        segment.forget_index();
        let rebuilt = SegmentReader { index: None, pending: Rc::default(), ..self.clone() };
        let read = rebuilt.read_once(segment, from, upto, bytes_max).await;
        read.inspect_err(|problem| self.report(problem))
    }

    /// Says that a reader met damage, the first time that it is met there.
    fn report(&self, problem: &StorageError) {
        let StorageError::Corrupt { pos, offset, reason, .. } = problem else { return };
        if self.files.reported.is_new(self.key, *pos) {
            self.files.latch().health().note_scrubbed(0, 1);
            tracing::error!(
                file = %self.files.path(self.key, "log").display(), pos, %offset,
                "a reader met damage, which is not sent: {reason}"
            );
        }
    }
}
