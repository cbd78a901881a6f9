//! Planning a read: which bytes answer it, without touching them.

use bytes::Bytes;

use crate::base::ids::Offset;
use crate::record::stored_batches;

use super::super::error::StorageError;
use super::super::segment::SegmentReader;
use super::Log;

/// What will answer a read. Owns its sources, so the log may go on meanwhile.
pub struct ReadPlan {
    /// Tried in order until one has something: the next segment answers where the first ends in a
    /// gap of the offsets.
    segments: Vec<(SegmentReader, Offset)>,
    /// What is in memory; where segments come first, one batch in case they have nothing.
    memory: Vec<Bytes>,
    from: Offset,
    bytes_max: usize,
}

impl ReadPlan {
    /// About how many bytes [`ReadPlan::read`] will give: exact for what is in memory, the limit of
    /// the read where a segment has to be looked at.
    #[must_use]
    pub fn bytes_expected(&self) -> usize {
        if self.segments.is_empty() {
            self.memory.iter().map(Bytes::len).sum()
        } else {
            self.bytes_max
        }
    }

    /// How many of them come from a disk.
    #[must_use]
    pub fn bytes_from_disk(&self) -> usize {
        if self.segments.is_empty() { 0 } else { self.bytes_max }
    }

    /// Brings no more than this from a disk, but for a first batch that is larger.
    pub fn limit_disk(&mut self, bytes_max: usize) {
        if !self.segments.is_empty() {
            self.bytes_max = self.bytes_max.min(bytes_max);
        }
    }

    /// The slices, if all are in memory.
    #[must_use]
    pub fn is_ready(&self) -> Option<Vec<Bytes>> {
        self.segments.is_empty().then(|| self.memory.clone())
    }

    /// The stored batches, in order, as slices of what was written or read: never copied, never
    /// decoded. Empty if there is nothing to read.
    ///
    /// # Errors
    /// `Corrupt` and `Read`, of the range that was asked for.
    pub async fn read(self) -> Result<Vec<Bytes>, StorageError> {
        for (reader, upto) in self.segments {
            let slices = reader.read(self.from, upto, self.bytes_max).await?;
            if !slices.is_empty() {
                return Ok(slices);
            }
        }
        Ok(self.memory)
    }
}

impl Log {
    /// Plans a read of whole batches, from the one that holds `from` (or the next, where offsets
    /// have a gap) up to `upto` (exclusive, at most the written end): at least one batch if there
    /// is one, then no more than `bytes_max`. An answer may end earlier, at a segment's end or
    /// where memory begins; the next read goes on there.
    #[must_use]
    pub fn plan_read(&self, from: Offset, upto: Offset, bytes_max: usize) -> ReadPlan {
        let upto = upto.min(self.written_end);
        let mut memory = self.read_memory(from, upto, bytes_max);
        let mut segments = Vec::new();
        if memory.is_empty() && from < upto.min(self.segment_end) {
            segments = self.segment_sources(from, upto);
            memory = self.read_memory(self.segment_end, upto, 1);
        }
        ReadPlan { segments, memory, from, bytes_max }
    }

    /// What is in memory from `from` on; empty if the first batch is not.
    fn read_memory(&self, from: Offset, upto: Offset, bytes_max: usize) -> Vec<Bytes> {
        let mut slices = Vec::new();
        if from >= upto {
            return slices;
        }
        let (mut taken, mut next) = (0, from);
        for run in self.tail.runs_from(from) {
            // What lies between may be in a segment only.
            if run.base_offset > next && next < self.segment_end {
                break;
            }
            let is_whole = run.base_offset >= from || run.is_single();
            let fits = taken + run.len_bytes() <= bytes_max || taken == 0 && run.is_single();
            if is_whole && run.last_offset < upto && fits {
                if !run.add_to(&mut slices) {
                    break;
                }
                taken += run.len_bytes();
                next = run.last_offset.plus(1);
                continue;
            }
            if run.is_single() {
                break;
            }
            let Some(bytes) = run.bytes() else { break };
            let (piece, complete) = pick(&bytes, from, upto, (taken, bytes_max));
            taken += piece.len();
            if !piece.is_empty() {
                slices.push(piece);
            }
            if !complete {
                break;
            }
            next = run.last_offset.plus(1);
        }
        slices
    }

    fn segment_sources(&self, from: Offset, upto: Offset) -> Vec<(SegmentReader, Offset)> {
        let begun = self.segments.partition_point(|segment| segment.base_offset <= from);
        let first = begun.saturating_sub(1);
        let candidates = self.segments.iter().enumerate().skip(first).take(2);
        let mut sources = Vec::with_capacity(2);
        for (index, segment) in candidates {
            let next = self.segments.get(index + 1);
            let end = next.map_or(self.segment_end, |next| next.base_offset);
            if from < end && segment.base_offset < upto {
                let key = segment.key(self.topic_partition);
                let reader = SegmentReader::new(&self.files, key, segment);
                sources.push((reader, upto.min(end)));
            }
        }
        sources
    }
}

/// The wanted batches of a run, as one slice, and whether they reach the run's end.
fn pick(
    bytes: &Bytes,
    from: Offset,
    upto: Offset,
    (taken, bytes_max): (usize, usize),
) -> (Bytes, bool) {
    let (mut pos, mut begin, mut complete) = (0, None, true);
    for batch in stored_batches(bytes).map_while(Result::ok) {
        let wanted = batch.last_offset() >= from;
        let so_far = taken + begin.map_or(0, |begin| pos - begin);
        let full = so_far > 0 && so_far + batch.len_bytes() > bytes_max;
        if batch.last_offset() >= upto || wanted && full {
            complete = false;
            break;
        }
        if wanted {
            begin.get_or_insert(pos);
        }
        pos += batch.len_bytes();
    }
    (bytes.slice(begin.unwrap_or(pos)..pos), complete)
}
