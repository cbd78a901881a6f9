//! Look-ups by time (ListOffsets): over segments, index entries, batches, records.

use bytes::Bytes;

use crate::base::ids::Offset;
use crate::record::{StoredBatch, find_max_timestamp, find_timestamp_from, stored_batches};

use super::super::error::StorageError;
use super::super::segment::{SegmentReader, latest_batch};
use super::Log;
use super::tail::Run;

/// Batches in memory that are looked into. The first has it, unless the log's start cuts it or its
/// producer claimed a max timestamp that no record has.
const CANDIDATES: usize = 4;

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampFound {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp_ms: i64,
}

/// A look-up by time. Owns its sources, so the log may go on meanwhile.
pub struct TimestampPlan {
    wanted: Wanted,
    /// The segments that may hold it, in the order in which to look.
    segments: Vec<(SegmentReader, Offset)>,
    /// The batches in memory that may, if no segment has it.
    tail_batches: Vec<Bytes>,
    from: Offset,
    limit: usize,
}

enum Wanted {
    FirstAtLeast(i64),
    Largest,
}

impl Log {
    /// Plans the search for the first record, before `upto`, with a timestamp of at least
    /// `target_ms`.
    #[must_use]
    pub fn plan_timestamp(&self, target_ms: i64, upto: Offset) -> TimestampPlan {
        let upto = upto.min(self.written_end);
        let mut segments = self.segment_readers(upto);
        segments.retain(|(reader, _)| reader.max_timestamp() >= target_ms);
        let runs = self.unsettled_before(upto).filter(|run| run.max_timestamp >= target_ms);
        let batches = runs.filter_map(Run::bytes).flat_map(|bytes| {
            let late = |batch: &StoredBatch<'_>| {
                batch.max_timestamp() >= target_ms
                    && batch.last_offset() >= self.log_start
                    && batch.last_offset() < upto
            };
            let whole = stored_batches(&bytes).map_while(Result::ok).filter(late);
            whole.map(|batch| slice_of(&bytes, &batch)).take(CANDIDATES).collect::<Vec<_>>()
        });
        let tail_batches = batches.take(CANDIDATES).collect();
        self.timestamp_plan(Wanted::FirstAtLeast(target_ms), segments, tail_batches)
    }

    /// Plans the search for the record, before `upto`, with the largest timestamp; the first, if
    /// there are several (KIP-734).
    #[must_use]
    pub fn plan_max_timestamp(&self, upto: Offset) -> TimestampPlan {
        let upto = upto.min(self.written_end);
        let mut segments = self.segment_readers(upto);
        // Stable: of equals the first stays first.
        segments.sort_by_key(|(reader, _)| std::cmp::Reverse(reader.max_timestamp()));
        // Only the last run may reach beyond `upto`, and may so have to be looked into.
        let whole = self.unsettled_before(upto).filter(|run| run.last_offset < upto);
        let mut best: Option<&Run> = None;
        for run in whole {
            if best.is_none_or(|best| best.max_timestamp < run.max_timestamp) {
                best = Some(run);
            }
        }
        let cut = self.unsettled_before(upto).filter(|run| run.last_offset >= upto);
        let tail_batches = best.into_iter().chain(cut).filter_map(|run| {
            let bytes = run.bytes()?;
            let batch = latest_batch(&bytes, upto).ok()??;
            Some(slice_of(&bytes, &batch))
        });
        let tail_batches = tail_batches.collect();
        self.timestamp_plan(Wanted::Largest, segments, tail_batches)
    }

    fn timestamp_plan(
        &self,
        wanted: Wanted,
        segments: Vec<(SegmentReader, Offset)>,
        tail_batches: Vec<Bytes>,
    ) -> TimestampPlan {
        let limit = self.files.limits().decompressed_bytes_max;
        TimestampPlan { wanted, segments, tail_batches, from: self.log_start, limit }
    }

    fn segment_readers(&self, upto: Offset) -> Vec<(SegmentReader, Offset)> {
        let ends = self.segments.iter().skip(1).map(|next| next.base_offset);
        let ends = ends.chain([self.segment_end]);
        self.segments
            .iter()
            .zip(ends)
            .filter(|(segment, _)| segment.base_offset < upto)
            .map(|(segment, end)| {
                let key = segment.key(self.topic_partition);
                (SegmentReader::new(&self.files, key, segment), upto.min(end))
            })
            .collect()
    }

    fn unsettled_before(&self, upto: Offset) -> impl Iterator<Item = &Run> {
        self.tail.unsettled().take_while(move |run| run.base_offset < upto)
    }
}

impl TimestampPlan {
    /// Looks. `None` if no record is so late (or there is none).
    ///
    /// # Errors
    /// `Corrupt` and `Read`, of what had to be read.
    pub async fn find(self) -> Result<Option<TimestampFound>, StorageError> {
        let found = match self.wanted {
            Wanted::FirstAtLeast(target_ms) => self.find_first(target_ms).await?,
            Wanted::Largest => self.find_largest().await?,
        };
        Ok(found.map(|(offset, timestamp_ms)| TimestampFound { offset, timestamp_ms }))
    }

    async fn find_first(&self, target_ms: i64) -> Result<Option<(Offset, i64)>, StorageError> {
        for (reader, upto) in &self.segments {
            let found = reader.find_timestamp(target_ms, self.from, *upto).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        for bytes in &self.tail_batches {
            let Ok((batch, _)) = StoredBatch::split_first(bytes) else { continue };
            let found = find_timestamp_from(batch, target_ms, self.from, self.limit);
            if let Some(found) = found.map_err(|_| unreadable(batch))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn find_largest(&self) -> Result<Option<(Offset, i64)>, StorageError> {
        let mut best: Option<(Offset, i64)> = None;
        for (reader, upto) in &self.segments {
            if best.is_some_and(|(_, found)| found > reader.max_timestamp()) {
                break; // they come in falling order
            }
            let found = reader.find_max_timestamp(*upto).await?;
            best = later(best, found);
        }
        for bytes in &self.tail_batches {
            let Ok((batch, _)) = StoredBatch::split_first(bytes) else { continue };
            let found = find_max_timestamp(batch, self.limit).map_err(|_| unreadable(batch))?;
            best = later(best, found);
        }
        Ok(best)
    }
}

/// The one with the larger timestamp; of equals the smaller offset.
fn later(a: Option<(Offset, i64)>, b: Option<(Offset, i64)>) -> Option<(Offset, i64)> {
    a.into_iter().chain(b).max_by_key(|(offset, time)| (*time, std::cmp::Reverse(*offset)))
}

fn slice_of(bytes: &Bytes, batch: &StoredBatch<'_>) -> Bytes {
    bytes.slice_ref(batch.bytes())
}

fn unreadable(batch: StoredBatch<'_>) -> StorageError {
    StorageError::UnreadableRecords { base_offset: batch.base_offset() }
}
