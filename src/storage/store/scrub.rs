//! The scrub: reads what is in closed segments before anybody asks for it, to find what a disk has
//! let rot while there may still be a copy elsewhere.
//!
//! A pass goes through all logs of the store in pieces; the pace is the caller's. What is found is
//! reported and counted, nothing is changed: the rest keeps being served.

use crate::base::ids::TopicPartition;

use super::super::error::StorageError;
use super::super::segment::{Damage, SegmentScrub};
use super::Store;

/// Lines about one segment in the log of the process.
const REPORTS_MAX: usize = 8;

/// A pass over the logs that were there when it began.
pub struct ScrubPass {
    logs: Vec<TopicPartition>,
    segments: Vec<SegmentScrub>,
    reported: usize,
}

/// What one piece of a pass showed.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// Bytes read.
    pub bytes: u64,
    /// What is not as it was written.
    pub damage: Vec<Damage>,
}

impl Store {
    /// Begins a pass over all closed segments.
    #[must_use]
    pub fn begin_scrub(&self) -> ScrubPass {
        let mut logs: Vec<TopicPartition> =
            self.open_logs().iter().map(|log| log.borrow().topic_partition()).collect();
        logs.sort_unstable_by(|a, b| b.cmp(a));
        ScrubPass { logs, segments: Vec::new(), reported: 0 }
    }

    /// Reads the next piece; `None` when the pass is over.
    ///
    /// # Errors
    /// `Failed`, or `Closing`. A file that cannot be read is damage, and no error.
    pub async fn scrub_piece(
        &self,
        pass: &mut ScrubPass,
    ) -> Result<Option<Scrubbed>, StorageError> {
        self.latch.check_open()?;
        while pass.segments.is_empty() {
            let Some(tp) = pass.logs.pop() else { return Ok(None) };
            pass.segments = self.closed_segments(tp);
        }
        let Some(segment) = pass.segments.last_mut() else { return Ok(None) };
        let mut scrubbed = Scrubbed::default();
        scrubbed.bytes = segment.next(&self.files, &mut scrubbed.damage).await;
        // It may have left its log meanwhile, and its files gone or been made anew.
        let key = segment.key();
        let is_here = self.log(key.topic_partition).is_some_and(|log| {
            let segments = log.borrow().closed_segments();
            segments.contains(&(key, segment.file_bytes()))
        });
        if !is_here {
            scrubbed.damage.clear();
        }
        if !is_here || segment.is_over() {
            pass.segments.pop();
            pass.reported = 0;
        }
        for damage in &scrubbed.damage {
            pass.reported += 1;
            if pass.reported <= REPORTS_MAX {
                report(damage, pass.reported == REPORTS_MAX);
            }
        }
        self.latch.health().note_scrubbed(scrubbed.bytes, scrubbed.damage.len() as u64);
        Ok(Some(scrubbed))
    }

    fn closed_segments(&self, tp: TopicPartition) -> Vec<SegmentScrub> {
        let Some(log) = self.log(tp) else { return Vec::new() };
        let log = log.borrow();
        let closed = log.closed_segments().into_iter().rev();
        let scrub = |(key, bytes)| SegmentScrub::new(&self.files, key, bytes);
        closed.map(scrub).collect()
    }
}

fn report(damage: &Damage, is_last: bool) {
    let Damage { path, pos, offsets, reason } = damage;
    let (first, last) = offsets.map_or((-1, -1), |(first, last)| (first.0, last.0));
    let further = if is_last { "; further damage to this file is only counted" } else { "" };
    tracing::error!(
        file = %path.display(), pos, first_offset = first, last_offset = last,
        "the scrub found damage: {reason}{further}"
    );
}
