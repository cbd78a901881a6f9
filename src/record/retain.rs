//! A batch without some of its records, as compaction writes it: offsets, sequences and the codec
//! stay (KIP-98), and the base timestamp may become a delete horizon (KIP-534).

use crate::base::ids::{ProducerEpoch, ProducerId, Sequence};

use super::batch::RecordBatch;
use super::builder::write_record;
use super::codec::compress;
use super::compression::Compression;
use super::cursor::{Record, RecordBase, plain_payload, split_record};
use super::error::BatchError;
use super::header::{
    ATTRIBUTE_CODEC, ATTRIBUTE_DELETE_HORIZON, BatchHeader, HeaderFields, TimestampType,
};
use super::stored::StoredBatch;

/// Timestamp of nothing.
const NO_TIMESTAMP: i64 = -1;

/// What is left of a batch.
#[derive(Clone, Debug)]
pub enum Retained {
    /// Every record, and nothing else to change: the batch as it is.
    All,
    /// Some records, or all under a new delete horizon.
    Some(RecordBatch),
    /// No record.
    Nothing,
}

/// What a walk over a batch's records says of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes.
    Drop,
    /// It stays.
    Keep,
    /// It stays for a time: the batch needs a delete horizon if it has none.
    KeepForNow,
}

impl StoredBatch<'_> {
    /// When the batch's tombstones or marker may go, in milliseconds since the epoch.
    #[must_use]
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        self.header().has_delete_horizon().then(|| self.base_timestamp())
    }

    /// The batch with the records of which `judge` says that they stay; `horizon_ms` is its delete
    /// horizon if one of them stays for a time only and there is none yet. The plain records may
    /// take at most `limit` bytes.
    ///
    /// # Errors
    /// As [`super::records`], and `Invalid` for a broken record.
    pub fn retain(
        &self,
        horizon_ms: i64,
        limit: usize,
        mut judge: impl FnMut(&Record<'_>) -> Verdict,
    ) -> Result<Retained, BatchError> {
        let plain = plain_payload(*self, limit)?;
        let invalid = |reason| BatchError::Invalid { reason };
        let mut kept: Vec<&[u8]> = Vec::new();
        let mut needs_horizon = false;
        let mut rest: &[u8] = &plain;
        let count = self.record_count().max(0);
        let base = RecordBase::of(self);
        for _ in 0..count {
            let (raw, after) = split_record(rest).map_err(invalid)?;
            let bytes = rest.get(..rest.len() - after.len()).unwrap_or_default();
            let verdict = judge(&base.record(raw));
            needs_horizon |= verdict == Verdict::KeepForNow;
            if verdict != Verdict::Drop {
                kept.push(bytes);
            }
            rest = after;
        }
        if !rest.is_empty() {
            return Err(invalid("bytes are left after the last record of the batch"));
        }
        let horizon =
            Some(horizon_ms).filter(|_| needs_horizon && !self.header().has_delete_horizon());
        if kept.is_empty() {
            return Ok(Retained::Nothing);
        }
        if kept.len() == usize::try_from(count).unwrap_or(0) && horizon.is_none() {
            return Ok(Retained::All);
        }
        self.rewritten(&kept, horizon).map(Retained::Some)
    }

    /// The header of the batch without records: what keeps its producer's sequence known.
    ///
    /// # Errors
    /// `TooLarge`, as whatever is sealed; a header alone never is.
    pub fn emptied(&self) -> Result<RecordBatch, BatchError> {
        let mut fields = self.fields();
        fields.attributes &= !(ATTRIBUTE_CODEC | ATTRIBUTE_DELETE_HORIZON);
        fields.base_timestamp_ms = NO_TIMESTAMP;
        fields.record_count = 0;
        RecordBatch::seal(BatchHeader::unsealed(&fields), &[])
    }

    fn fields(&self) -> HeaderFields {
        let (producer_id, producer_epoch, base_sequence) = self.header().raw_producer();
        HeaderFields {
            attributes: self.header().attributes(),
            base_offset: self.base_offset(),
            leader_epoch: self.leader_epoch(),
            base_timestamp_ms: self.base_timestamp(),
            max_timestamp_ms: self.max_timestamp(),
            producer_id: ProducerId(producer_id),
            producer_epoch: ProducerEpoch(producer_epoch),
            base_sequence: Sequence(base_sequence),
            last_offset_delta: self.header().last_offset_delta(),
            record_count: self.record_count(),
        }
    }

    /// The batch with these of its records, whole as they lay in it.
    fn rewritten(
        &self,
        kept: &[&[u8]],
        horizon_ms: Option<i64>,
    ) -> Result<RecordBatch, BatchError> {
        let invalid = |reason| BatchError::Invalid { reason };
        let mut fields = self.fields();
        let old_base_ms = fields.base_timestamp_ms;
        if let Some(horizon_ms) = horizon_ms {
            fields.attributes |= ATTRIBUTE_DELETE_HORIZON;
            fields.base_timestamp_ms = horizon_ms;
        }
        let mut payload = Vec::with_capacity(kept.iter().map(|record| record.len()).sum());
        let mut scratch = Vec::new();
        let mut max_timestamp_ms = i64::MIN;
        for bytes in kept {
            let (raw, _) = split_record(bytes).map_err(invalid)?;
            let timestamp_ms = old_base_ms.wrapping_add(raw.timestamp_delta_ms);
            max_timestamp_ms = max_timestamp_ms.max(timestamp_ms);
            if horizon_ms.is_none() {
                payload.extend_from_slice(bytes);
                continue;
            }
            let delta_ms = timestamp_ms.wrapping_sub(fields.base_timestamp_ms);
            let (deltas, content) = ((delta_ms, raw.offset_delta), (raw.key, raw.value));
            let headers = (raw.headers.count_left(), raw.headers);
            write_record(&mut payload, &mut scratch, deltas, content, headers);
        }
        fields.record_count = i32::try_from(kept.len()).unwrap_or(i32::MAX);
        if self.timestamp_type() == TimestampType::CreateTime {
            fields.max_timestamp_ms = max_timestamp_ms;
        }
        let header = BatchHeader::unsealed(&fields);
        match self.compression() {
            None | Some(Compression::None) => RecordBatch::seal(header, &payload),
            Some(codec) => RecordBatch::seal(header, &compress(codec, &payload)?),
        }
    }
}
