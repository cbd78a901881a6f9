//! The walk over every record that Kafka always makes and this broker makes only where a topic
//! asks for it: `record.validation=full`, compacted topics, or a changed `compression.type`.

use super::batch::RecordBatch;
use super::cursor::{plain_payload, split_record};
use super::error::{BatchError, RecordError};
use super::header::TimestampType;

/// What [`RecordBatch::validate_records`] asks of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidateOptions {
    /// Refuse records without a key: compacted topics.
    pub require_keys: bool,
    /// Bytes that the decompressed records may take.
    pub decompressed_bytes_max: usize,
    /// Earliest and latest timestamp (inclusive, milliseconds) that a record of a CreateTime batch
    /// may have; -1, Kafka's "no timestamp", always passes. `None`: any.
    pub timestamp_window_ms: Option<(i64, i64)>,
}

/// What the walk has learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidatedRecords {
    /// The largest timestamp of any record. Where it is not the header's, Kafka corrects the
    /// header ([`RecordBatch::with_max_timestamp`]).
    pub max_timestamp_ms: i64,
    /// The first record that has it, counted from the batch's base offset.
    pub max_timestamp_offset_delta: i32,
}

impl RecordBatch {
    /// Walks every record, decompressing within the limit: inner lengths, header counts and keys,
    /// offset deltas 0, 1, 2 … without gap, exactly as many records as the header says and no byte
    /// behind them; and the options' rules.
    ///
    /// # Errors
    /// `Batch` for what concerns the whole, `Record` and `Timestamp` for the first record that
    /// breaks a rule.
    pub fn validate_records(
        &self,
        options: &ValidateOptions,
    ) -> Result<ValidatedRecords, RecordError> {
        let payload = plain_payload(self.as_stored(), options.decompressed_bytes_max)?;
        let create_time = self.timestamp_type() == TimestampType::CreateTime;
        let window = options.timestamp_window_ms.filter(|_| create_time);
        let mut rest: &[u8] = &payload;
        let mut max: Option<(i64, i32)> = None;
        for batch_index in 0..self.record_count() {
            let broken = |reason| RecordError::Record { batch_index, reason };
            if rest.is_empty() {
                return Err(broken("the batch has fewer records than its header says"));
            }
            let (record, after) = split_record(rest).map_err(broken)?;
            if record.offset_delta != batch_index {
                return Err(broken("the offset deltas are not 0, 1, 2 and so on"));
            }
            if options.require_keys && record.key.is_none() {
                return Err(broken("a compacted topic does not accept a record without key"));
            }
            let timestamp_ms = if create_time {
                self.base_timestamp().wrapping_add(record.timestamp_delta_ms)
            } else {
                self.max_timestamp()
            };
            if let Some((earliest, latest)) = window
                && timestamp_ms != -1
                && !(earliest..=latest).contains(&timestamp_ms)
            {
                return Err(RecordError::Timestamp { batch_index, timestamp_ms });
            }
            if max.is_none_or(|(max_ms, _)| timestamp_ms > max_ms) {
                max = Some((timestamp_ms, batch_index));
            }
            rest = after;
        }
        if !rest.is_empty() {
            let reason = "bytes are left after the last record of the batch";
            return Err(BatchError::Invalid { reason }.into());
        }
        let (max_timestamp_ms, max_timestamp_offset_delta) = max.unwrap_or((-1, 0));
        Ok(ValidatedRecords { max_timestamp_ms, max_timestamp_offset_delta })
    }
}
